"""Clients that send or read slowly, in clear and over TLS: cut by deadlines that no trickle moves, and no burden to the worker meanwhile."""

import os
import pathlib
import random
import re
import socket
import threading
import time

import pytest

import messages
from client import deliver, wait_until
from test_http import head
from test_tls import certificate, context

READERS = 50
FILE = random.Random(3).randbytes(20_000_000)
# What an answer may have in the worker's memory: up to 320 KiB that are to go out, a chunk of 256 KiB of the source, what was decoded of
# it, the decompressor's and TLS's own.
OF_A_READER = 1 << 20

pytestmark = [pytest.mark.slow, pytest.mark.plain_only]


@pytest.fixture(scope="module")
def apid(system, tmp_path_factory):
    """One worker. Ports: 0 clear, 1 TLS."""
    pair = certificate(str(tmp_path_factory.mktemp("slow")), "slow", "api.example.org")
    with system.another_apid("127.0.0.1:0", "127.0.0.1:0;tls", workers=1, tls_certificates=pair) as running:
        yield running


@pytest.fixture(scope="module")
def large(system):
    """The path of a mail whose attachment is FILE."""
    box = system.api.mailbox()
    with system.another_smtpd("127.0.0.1:0", message_size_max="40M") as smtpd:
        source = messages.with_attachments(("large.bin", "application/octet-stream", FILE))
        assert deliver(smtpd.address(), source, box["address"])[0] == 250
    mail = system.api.settled_mail(box)
    return f"/v1/mailboxes/{box['id']}/mails/{mail['id']}", mail["attachments"][0]["id"]


def pss(pid):
    """0 to others than root, from whom the kernel hides it."""
    if os.geteuid() != 0:
        return 0
    return int(re.search(r"^Pss:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M).group(1)) * 1024


def connect(apid, port):
    """With a small window, so that what is not read stays with the worker."""
    s = socket.socket()
    s.settimeout(60)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    s.connect(("127.0.0.1", apid.ports[port]))
    return s if port == 0 else context().wrap_socket(s, server_hostname="api.example.org")


class Reader(threading.Thread):
    """Reads an answer, `rate` octets a second, until it is whole or cut."""

    def __init__(self, apid, port, request, rate):
        super().__init__(daemon=True)
        self.socket, self.rate, self.octets, self.ended, self.going = connect(apid, port), rate, 0, None, True
        self.socket.settimeout(150)
        self.socket.sendall(request)

    def run(self):
        begun = time.monotonic()
        try:
            while self.going and (piece := self.socket.recv(self.rate)):
                self.octets += len(piece)
                time.sleep(1)
        except OSError:
            pass
        self.ended = time.monotonic() - begun
        self.socket.close()


def test_slow_readers(system, apid, large):
    """Fifty at 1 KB/s on 20 MB, in clear, and fifty over TLS. The worker holds little for each, serves others meanwhile, and has cut
    them all off before they have read as much as its deadlines ask of them."""
    mail, attachment = large
    request = head(system, f"GET {mail}/attachments/{attachment}?download=1 HTTP/1.1")
    worker, = apid.workers()
    timed_out = apid.metrics()["minutemail_apid_connections_timed_out_total"]
    readers = []
    try:
        for port in (0, 1):
            with connect(apid, port) as s:
                s.sendall(head(system, "GET /v1/mailboxes?limit=1 HTTP/1.1"))
                assert s.recv(4096).startswith(b"HTTP/1.1 200 ")
            before, most = pss(worker), 0
            readers += [Reader(apid, port, request, 1000) for _ in range(READERS)]
            for reader in readers[-READERS:]:
                reader.start()
            for _ in range(16):
                time.sleep(0.5)
                most = max(most, pss(worker) - before)
            print(f"port {port}: {most >> 10} KiB for {READERS} readers, {most // READERS >> 10} KiB each")
            assert most < READERS * OF_A_READER, f"{most >> 10} KiB"
        with connect(apid, 0) as s:
            s.sendall(head(system, "GET /v1/mailboxes?limit=1 HTTP/1.1"))
            assert s.recv(4096).startswith(b"HTTP/1.1 200 ")
        # What the kernel has taken already it goes on delivering: the worker's own view counts.
        wait_until(lambda: apid.metrics()["minutemail_apid_connections"] == 0, 240, 1)
        assert apid.metrics()["minutemail_apid_connections_timed_out_total"] >= timed_out + 2 * READERS
        assert all(0 < reader.octets < len(FILE) for reader in readers)
    finally:
        for reader in readers:
            reader.going = False
            reader.socket.close()


def drip(apid, port, first, octet, ended):
    """Sends an octet each second until the connection is cut; ended[port] has how long that took and the answer."""
    begun, answer = time.monotonic(), b""
    with connect(apid, port) as s:
        s.sendall(first)
        s.settimeout(1)
        while time.monotonic() - begun < 120:
            try:
                if not (piece := s.recv(4096)):
                    break
                answer += piece
            except TimeoutError:
                try:
                    s.sendall(octet)
                except OSError:
                    break
            except OSError:
                break
    ended[port] = time.monotonic() - begun, answer


def test_slow_senders(system, apid):
    """A head has 10 s, a body 30 s and what its length takes at 16 KB/s: however steadily it comes."""
    json_head = head(system, "POST /v1/mailboxes HTTP/1.1")[:-2] + b"Content-Type: application/json\r\n"
    slow = {"head": (8, 60, b"GET /health HTTP/1.1\r\nHost: a\r\nX-Slow: ", b"x"),
            "body": (25, 100, json_head + b"Content-Length: 1000\r\n\r\n{", b" "),
            "chunked body": (25, 100, json_head + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", b"1\r\n \r\n")}
    ended = {}
    threads = [threading.Thread(target=drip, args=(apid, port, first, octet, ended.setdefault(what, {})))
               for what, (_, _, first, octet) in slow.items() for port in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for what, (least, most, _, _) in slow.items():
        assert len(ended[what]) == 2, what
        for took, answer in ended[what].values():
            assert least < took < most, (what, took, answer)
            assert answer.startswith(b"HTTP/1.1 408 ") and b"connection: close" in answer.lower(), (what, answer)
