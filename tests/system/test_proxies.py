"""nginx, Caddy and HAProxy with the samples of deploy/proxies before an apid, and HAProxy passing TLS through to both daemons."""

import hashlib
import http.client
import json
import os
import random
import re
import socket
import subprocess
import time

import pytest

import messages
from client import Response, Smtp, deliver, wait_until
from packages import Missing
from proxies import NAME, PROXIES, Passthrough
from test_edge import ask, bearer
from test_http import BAD_REQUESTS
from test_tls import certificate, context

CLIENT = "127.0.0.5"  # what the proxy must tell of; it is not among those that apid believes
HOST = b"Host: " + NAME.encode() + b"\r\n"
FILE = random.Random(5).randbytes(15_000_000)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return certificate(str(tmp_path_factory.mktemp("proxies")), "api", NAME)


@pytest.fixture(scope="module")
def apid(system, pair):
    """Ports: 0 behind a reverse proxy at 127.0.0.1, 1 TLS behind a PROXY header."""
    with system.another_apid("127.0.0.1:0;forwarded=127.0.0.1", "127.0.0.1:0;tls;proxy=127.0.0.1", tls_certificates=pair,
                             hostname=NAME) as running:
        yield running


def running(kind, *arguments):
    try:
        return kind(*arguments).__enter__()
    except Missing as why:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"{kind.__name__}: {why}")


@pytest.fixture(scope="module", params=PROXIES)
def proxy(request, apid, pair):
    it = running(PROXIES[request.param], pair, apid.ports[0])
    yield it
    it.__exit__(None, None, None)


@pytest.fixture(scope="module")
def big(system):
    """A mailbox with a mail that has FILE attached."""
    box = system.api.mailbox()
    source = messages.with_attachments(("big.bin", "application/octet-stream", FILE[:10_000_000]), ("b.bin", "application/octet-stream", b"b"))
    assert deliver(system.smtp, source, box["address"])[0] == 250
    mail = system.api.only_mail(box)
    return f"/v1/mailboxes/{box['id']}/mails/{mail['id']}/attachments/{mail['attachments'][0]['id']}?download=1"


def tls(proxy, port=0, first=b""):
    s = socket.create_connection(("127.0.0.1", proxy.ports[port]), timeout=60, source_address=(CLIENT, 0))
    s.sendall(first)
    c = context()
    c.set_alpn_protocols(["http/1.1"])
    return c.wrap_socket(s, server_hostname=NAME)


def ask_here(s, more=b"", path=b"/v1/mailboxes"):
    """As ask(), with the name that the proxies know, and the answer's body."""
    s.sendall(b"GET %s HTTP/1.1\r\n%s%s\r\n" % (path, HOST, more))
    return read_answer(s)


def read_answer(s):
    answer = http.client.HTTPResponse(s)
    answer.begin()
    while answer.status == 100:
        answer.begin()
    return Response(answer.status, answer.headers, answer.read())


def line_of(apid, mark):
    return wait_until(lambda: next((line for line in apid.log().splitlines() if f" id={mark} " in line + " "), None))


def curl(proxy, api, path, *words):
    """The body, and curl's summary of how it went."""
    done = subprocess.run(["curl", "-sSk", "--resolve", f"{NAME}:{proxy.ports[0]}:127.0.0.1", "-H", "Authorization: Bearer " + api.key,
                           "-w", "%{stderr}%{http_code} %{http_version} %{content_type}\\n", *words, f"https://{NAME}:{proxy.ports[0]}{path}"],
                          capture_output=True, timeout=120)
    return done.stdout, done.stderr.decode().strip().splitlines()[-1]


# ---- who is told of ----

def test_the_clients_address(proxy, apid, api):
    mark = f"through-{type(proxy).__name__}"
    with tls(proxy) as s:
        answer = ask_here(s, bearer(api) + b"X-Request-Id: %s\r\n" % mark.encode())
    assert answer.status == 200 and answer.headers["X-Request-Id"] == mark
    assert answer.headers["Strict-Transport-Security"] and answer.headers["X-RateLimit-Limit"] is None  # it came by TLS, apid believes
    assert f" client={CLIENT} " in line_of(apid, mark) + " "


@pytest.mark.parametrize("forged", [b"X-Forwarded-For: 192.0.2.66\r\n", b"X-Forwarded-For: 127.0.0.1\r\n",
                                    b"X-Forwarded-For: 192.0.2.66\r\nX-Forwarded-For: 192.0.2.67, 127.0.0.1\r\n",
                                    b"X-Forwarded-For: \"nonsense\r\nX-Forwarded-Proto: http\r\n", b"x-forwarded-for: 192.0.2.66,\r\n",
                                    b"X_Forwarded_For: 192.0.2.66\r\n", b"Connection: X-Forwarded-For, close\r\n"])
def test_a_forged_address_is_not_believed(proxy, apid, api, forged):
    mark = f"forged-{time.time_ns()}"
    with tls(proxy) as s:
        answer = ask_here(s, bearer(api) + forged + b"X-Request-Id: %s\r\n" % mark.encode())
    assert answer.status == 200 and answer.headers["Strict-Transport-Security"]
    assert f" client={CLIENT} " in line_of(apid, mark) + " "


def test_who_goes_round_the_proxy_is_not_believed(apid, api):
    mark = f"direct-{time.time_ns()}"
    with socket.create_connection(("127.0.0.1", apid.ports[0]), timeout=60, source_address=(CLIENT, 0)) as s:
        assert ask(s, bearer(api) + b"X-Forwarded-For: 192.0.2.66\r\nX-Request-Id: %s\r\n" % mark.encode())[0] == 200
    assert f" client={CLIENT} " in line_of(apid, mark) + " "


# ---- HTTP through them ----

def test_keep_alive_and_pipelined(proxy, api):
    with tls(proxy) as s:
        for _ in range(20):
            assert ask_here(s, bearer(api), b"/v1/mailboxes?limit=1").status == 200


def test_http_2_at_the_front(proxy, api):
    body, summary = curl(proxy, api, "/v1/mailboxes?limit=1", "--http2")
    assert summary.startswith("200 2 application/json") and json.loads(body)["items"] is not None


def test_ranges(proxy, api, big):
    path = big.encode()
    with tls(proxy) as s:
        part = ask_here(s, bearer(api) + b"Range: bytes=1000-1999\r\n", path)
        assert part.status == 206 and part.body == FILE[1000:2000] and part.headers["Content-Range"] == "bytes 1000-1999/10000000"
        assert ask_here(s, bearer(api) + b"Range: bytes=-5\r\n", path).body == FILE[9_999_995:10_000_000]
        tag = part.headers["ETag"].encode()
        assert ask_here(s, bearer(api) + b"Range: bytes=0-9\r\nIf-Range: " + tag + b"\r\n", path).body == FILE[:10]
        assert ask_here(s, bearer(api) + b"If-None-Match: " + tag + b"\r\n", path).status == 304
        assert ask_here(s, bearer(api) + b"Range: bytes=10000000-\r\n", path).status == 416


def test_100_continue(proxy, api):
    body = json.dumps({"expiresIn": "5m"}).encode()
    with tls(proxy) as s:
        s.sendall(b"POST /v1/mailboxes HTTP/1.1\r\n%s%sContent-Type: application/json\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n" %
                  (HOST, bearer(api), len(body)))
        first = s.recv(4096)
        assert first.startswith(b"HTTP/1.1 100 ") and first.endswith(b"\r\n\r\n"), first
        s.sendall(body)
        assert read_answer(s).status == 201


@pytest.mark.plain_only
@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_large_bodies_stream_both_ways(proxy, api, box, tmp_path, version):
    proxy.forbid_files()
    file = tmp_path / "large.bin"
    file.write_bytes(FILE)
    mails = f"/v1/mailboxes/{box['id']}/mails"
    body, summary = curl(proxy, api, mails, version, "-F", "sender=a@example.org", "-F", "subject=large", "-F", "body=see the file", "-F", f"files=@{file}")
    assert summary.startswith("201 "), (summary, body[:300], proxy.log())
    mail = json.loads(body)
    attachment = f"{mails}/{mail['id']}/attachments/{mail['attachments'][0]['id']}?download=1"
    body, summary = curl(proxy, api, attachment, version)
    assert summary.startswith("200 ") and hashlib.sha256(body).digest() == hashlib.sha256(FILE).digest()
    for _ in range(20):  # a proxy that hangs up while curl is still sending may take its own answer along (Go waits half a second)
        body, summary = curl(proxy, api, mails, version, "-F", "body=x", "-F", f"files=@{file}", "-F", f"files=@{file}", "-F",
                             f"files=@{file}")
        if summary.startswith("413 ") and body:
            break
    assert summary.startswith("413 ") and "problem+json" in summary and json.loads(body)["error"] == "payload_too_large", (summary, body[:300])


# ---- what must not get through ----

INNER = b"GET /v1/smuggled HTTP/1.1\r\n" + HOST + b"\r\n"
CHUNKED_INNER = b"%x\r\n" % len(INNER) + INNER + b"\r\n0\r\n\r\n"
POST = b"POST /v1/mailboxes HTTP/1.1\r\n" + HOST
SMUGGLING = {
    **{name: request.replace(b"Host: x", HOST.strip()) for name, request in BAD_REQUESTS.items()},
    "CL.TE": POST + b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % (5 + len(INNER)) + INNER,
    "TE.CL": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED_INNER,
    "CL.0 on a GET": b"GET /v1/mailboxes HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(INNER) + INNER,
    "TE in capitals": POST + b"Content-Length: 4\r\nTransfer-Encoding: CHUNKED\r\n\r\n" + CHUNKED_INNER,
    "TE twice": POST + b"Content-Length: 4\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED_INNER,
    "TE list": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked, identity\r\n\r\n" + CHUNKED_INNER,
    "TE quoted": POST + b"Content-Length: 4\r\nTransfer-Encoding: \"chunked\"\r\n\r\n" + CHUNKED_INNER,
    "TE with a blank before its colon": POST + b"Content-Length: 4\r\nTransfer-Encoding : chunked\r\n\r\n" + CHUNKED_INNER,
    "TE after a TAB": POST + b"Content-Length: 4\r\nTransfer-Encoding:\tchunked\r\n\r\n" + CHUNKED_INNER,
    "TE folded": POST + b"Content-Length: 4\r\nX: y\r\n Transfer-Encoding: chunked\r\n\r\n" + CHUNKED_INNER,
    "TE behind a bare LF": POST + b"Content-Length: 4\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED_INNER,
    "TE behind a bare CR": POST + b"Content-Length: 4\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n" + CHUNKED_INNER,
    "TE_": POST + b"Content-Length: 4\r\nTransfer_Encoding: chunked\r\n\r\n" + CHUNKED_INNER,
    "chunk extension with a bare LF": POST + b"Transfer-Encoding: chunked\r\n\r\n2;x\nxx\r\n%x\r\n0\r\n\r\n" % len(INNER) + INNER,
    "trailer that is a length": POST + b"Transfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n2\r\n{}\r\n0\r\nContent-Length: 50\r\n\r\n",
    "length hidden by Connection": POST + b"Connection: Content-Length\r\nContent-Length: %d\r\n\r\n" % len(INNER) + INNER,
    "coding hidden by Connection": POST + b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED_INNER,
    "h2c upgrade": b"GET /health HTTP/1.1\r\n" + HOST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    "WebSocket upgrade": b"GET /health HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
}


HIDING = ("CL.0 on a GET", "length hidden by Connection", "coding hidden by Connection", "TE in capitals")  # there is one reading only


class Asked:
    """A connection of its own on which these octets were sent; `text`: what came back so far."""

    def __init__(self, proxy, octets):
        self.socket, self.text = tls(proxy), b""
        try:
            self.socket.sendall(octets)
        except OSError:
            pass
        self.read(0.5)

    def read(self, quiet):
        """Until the end, or until nothing has come for so long."""
        self.socket.settimeout(quiet)
        try:
            while piece := self.socket.recv(65536):
                self.text += piece
        except OSError:
            pass

    def answers(self):
        """How many. An answer to HTTP/0.9 is only a body."""
        found = len(re.findall(rb"HTTP/1\.[01] [2-5]\d\d ", self.text))
        return found if found or not self.text else 1


def requests_in(log):
    """All but HAProxy's own, which looks whether apid is ready."""
    return [found for found in re.findall(r"event=request .* path=(\S+) .* id=(\S+)", log) if found[0] != "/ready"]


@pytest.mark.parametrize("name", SMUGGLING)
def test_nothing_is_smuggled(proxy, apid, api, name):
    """What apid takes for requests is what the proxy takes for requests: it sees no more of them than are answered, and whoever comes
    next gets an answer of his own. With a key, so that bodies are read."""
    at = len(apid.log())
    asked = Asked(proxy, SMUGGLING[name].replace(HOST, HOST + bearer(api), 1))
    marks = [f"victim-{time.time_ns()}" for _ in range(2)]
    for mark in marks:
        with tls(proxy) as s:
            answer = ask_here(s, bearer(api) + b"X-Request-Id: %s\r\nConnection: close\r\n" % mark.encode(), b"/v1/mailboxes?limit=1")
            assert answer.status == 200 and answer.headers["X-Request-Id"] == mark, (asked.text, answer)
        line_of(apid, mark)
    seen = [request for request in requests_in(apid.log()[at:]) if request[1] not in marks]
    if len(seen) > asked.answers():
        asked.read(10)  # it was slow
    asked.socket.close()
    assert len(seen) <= asked.answers(), (seen, asked.text)
    if name in HIDING:
        assert not [path for path, _ in seen if path.startswith("/v1/smuggled")], (seen, asked.text)


# ---- passed through ----

@pytest.fixture(scope="module")
def passing(system, apid, pair):
    with system.another_smtpd("127.0.0.1:0;proxy=127.0.0.1", tls_certificates=pair) as smtpd:
        it = running(Passthrough, pair, apid.ports[1], smtpd.ports[0])
        it.smtpd = smtpd
        yield it
        it.__exit__(None, None, None)


def test_passed_through_with_the_clients_address(passing, apid, api):
    mark = f"passed-{time.time_ns()}"
    with tls(passing) as s:
        assert s.getpeercert(binary_form=True) and ask_here(s, bearer(api) + b"X-Request-Id: %s\r\n" % mark.encode()).status == 200
    assert f" client={CLIENT} " in line_of(apid, mark) + " "


def test_passed_through_mail(passing, api, box):
    with Smtp(f"127.0.0.1:{passing.ports[1]}", source=CLIENT) as wire:
        wire.greet()
        for line in (b"MAIL FROM:<a@example.org>", b"RCPT TO:<%s>" % box["address"].encode()):
            assert wire.say(line)[0] == 250
        assert wire.say(b"DATA")[0] == 354
        wire.send(messages.plain() + b".\r\n")
        assert wire.reply()[0] == 250
        wire.say(b"QUIT")
    assert api.source(api.settled_mail(box)) == messages.plain()
    wait_until(lambda: f"client={CLIENT}" in passing.smtpd.log())


def test_a_client_cannot_say_whom_it_speaks_for(passing):
    with pytest.raises(OSError):
        tls(passing, first=b"PROXY TCP4 192.0.2.66 192.0.2.1 1 443\r\n")
