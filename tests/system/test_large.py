"""A message of 100 MB: through smtpd, and out of apid, in pieces. A system of its own, with limits that let it in."""

import hashlib
import os
import pathlib
import random
import re
import threading

import pytest

import messages
from client import Smtp, deliver
from launched import System

SIZE = 100_000_000
GROWTH_MAX = 8 << 20

pytestmark = [pytest.mark.slow, pytest.mark.plain_only]


@pytest.fixture(scope="module")
def roomy():
    running = System(environment={"MINUTEMAIL_MESSAGE_SIZE_MAX": "200M", "MINUTEMAIL_PARSE_SIZE_MAX": "200M",
                                  "MINUTEMAIL_PARSE_DEADLINE": "60s", "MINUTEMAIL_SMTPD_WORKERS": "1",
                                  "MINUTEMAIL_APID_WORKERS": "1"})
    try:
        yield running.start()
    finally:
        running.remove()


class Large:
    """Head, an attachment in base64, tail: made again whenever it is needed, never whole."""

    def __init__(self):
        self.block = random.Random(7).randbytes(57 * 1000)
        self.coded = messages.lines(self.block)
        self.count = SIZE // len(self.coded)

    def pieces(self):
        yield (b"From: a@example.org\r\nTo: b@example.org\r\nSubject: large\r\nMIME-Version: 1.0\r\n"
               b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nSee the file.\r\n"
               b"--b\r\nContent-Type: application/octet-stream; name=data.bin\r\nContent-Transfer-Encoding: base64\r\n\r\n")
        for _ in range(self.count):
            yield self.coded
        yield b"--b--\r\n"

    def digest(self):
        sha = hashlib.sha256()
        for piece in self.pieces():
            sha.update(piece)
        return sha.hexdigest()


def peak(pid):
    """The most memory it has had, in octets."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1)) * 1024


def forget_peak(pid):
    """What it has now, if root asks: others may not touch a process that cannot be dumped, and get the peak until now."""
    if os.geteuid() == 0:
        pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak(pid)


def send_large(system, large, recipients, counts):
    """The reply to the final dot; counts[0] says how many small messages were stored while we waited for it."""
    with Smtp(system.smtp, timeout=300) as wire:
        wire.greet()
        assert wire.say(b"MAIL FROM:<sender@example.org>")[0] == 250
        for rcpt in recipients:
            assert wire.say(f"RCPT TO:<{rcpt}>".encode())[0] == 250
        assert wire.say(b"DATA")[0] == 354
        for piece in large.pieces():
            wire.send(piece)
        before = counts[0]
        wire.send(b".\r\n")
        reply = wire.reply()
        counts[0] -= before
        return reply


class Neighbours:
    """Small messages, one after the other, while the large one is on its way."""

    def __init__(self, system, address):
        self.system, self.address = system, address
        self.counts, self.failures = [0], []
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.stop.is_set():
            code, text = deliver(self.system.smtp, messages.plain("small"), self.address)
            if code != 250:
                self.failures.append(text)
            self.counts[0] += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def read_streamed(system, path, skip_trace=False):
    """Digest and length of an answer that is never whole in our memory either."""
    connection = system.api.connect()
    connection.request("GET", path, headers={"Authorization": "Bearer " + system.api.key})
    answer = connection.getresponse()
    assert answer.status == 200
    sha, length = hashlib.sha256(), 0
    first = skip_trace
    while piece := answer.read(1 << 20):
        if first:
            piece = re.sub(rb"\AReturn-Path: [^\r]*\r\n(?:Authentication-Results: (?:[^\r]|\r\n[ \t])*\r\n)?Received: (?:[^\r]|\r\n[ \t])*\r\n", b"", piece, count=1)
            first = False
        sha.update(piece)
        length += len(piece)
    connection.close()
    return sha.hexdigest(), length


def test_100_mb(roomy):
    large, (worker,), (server,) = Large(), roomy.workers("smtpd"), roomy.workers("apid")
    boxes = [roomy.api.mailbox() for _ in range(3)]
    small = roomy.api.mailbox()
    assert deliver(roomy.smtp, messages.plain("warm"), small["address"])[0] == 250
    before = forget_peak(worker)
    with Neighbours(roomy, small["address"]) as others:
        code, text = send_large(roomy, large, [box["address"] for box in boxes], others.counts)
    assert code == 250, text
    assert others.failures == [] and others.counts[0] > 0, "no other session was served meanwhile"
    grown = peak(worker) - before
    print(f"smtpd's worker grew by {grown >> 10} KiB; {others.counts[0]} messages of others meanwhile")
    assert grown < GROWTH_MAX

    digest = large.digest()
    before = forget_peak(server)
    for box in boxes:
        mail = roomy.api.only_mail(box)
        assert mail["subject"] == "large" and mail["warnings"] == []
        path = f"/v1/mailboxes/{box['id']}/mails/{mail['id']}"
        assert read_streamed(roomy, path + "/raw", skip_trace=True)[0] == digest
    attachment, = roomy.api.get(path + "/attachments").json["items"]
    found = read_streamed(roomy, f"{path}/attachments/{attachment['id']}?download=1")
    assert found == (hashlib.sha256(large.block * large.count).hexdigest(), len(large.block) * large.count)
    grown = peak(server) - before
    print(f"apid's worker grew by {grown >> 10} KiB")
    assert grown < GROWTH_MAX
