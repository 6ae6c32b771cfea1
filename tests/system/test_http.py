"""HTTP itself: errors, methods, framing. What no client library would send goes over a bare socket. Each malformed request is
followed by a second one that must not run: a server that answers it has lost count of where requests end."""

import json
import re
import socket
import time

import pytest

import messages
from client import Wire, check_problem, deliver

FOLLOWING = b"GET /health HTTP/1.1\r\nHost: x\r\nX-Request-Id: following\r\n\r\n"


@pytest.fixture
def wire(system):
    with Wire(system.info["http"].removeprefix("http://")) as opened:
        yield opened


def head(system, line, *fields, key=True):
    auth = [f"Authorization: Bearer {system.info['key']}"] if key else []
    return ("\r\n".join([line, "Host: localhost", *auth, *fields]) + "\r\n\r\n").encode()


def status_lines(answer):
    return len(re.findall(rb"^HTTP/1\.1 \d{3} ", answer, re.M))


@pytest.mark.contract("1 health")
@pytest.mark.parametrize("path", ["/health", "/healthz", "/livez"])
def test_health(system, api, path):
    answer = api.get(path, key=None)
    assert answer.status == 200 and answer.json == {"ok": True}


@pytest.mark.contract("1 ready")
@pytest.mark.parametrize("path", ["/ready", "/readyz"])
def test_ready(api, path):
    assert api.get(path, key=None).status == 200


@pytest.mark.contract("1 unknown route")
@pytest.mark.parametrize("path", ["/nowhere", "/v1", "/v1/", "/v1/mailbox", "/v1/mailboxes/", "/v1//mailboxes", "/v2/mailboxes",
                                  "/v1/mailboxes/x/y/z", "/"])
def test_unknown_route(api, path):
    check_problem(api.get(path), 404, "not_found")


@pytest.mark.parametrize("path", ["/v1/./mailboxes", "/v1/../v1/mailboxes", "/v1/mailboxes%2f", "/v1/mailboxes%00", "/v1%5cmailboxes",
                                  "/v1/mailboxes/%2e%2e", "/v1/mailboxes/%zz"])
def test_path_that_could_be_read_in_two_ways(api, path):
    check_problem(api.get(path), 400, "bad_request")


@pytest.mark.contract("1 wrong method")
@pytest.mark.parametrize("method, path, allow", [
    ("PUT", "/v1/mailboxes", {"GET", "HEAD", "POST", "DELETE"}),
    ("POST", "/health", {"GET", "HEAD"}),
    ("PATCH", "/v1/archived-mailboxes", {"GET", "HEAD", "DELETE"}),
])
def test_wrong_method(api, method, path, allow):
    answer = api.request(method, path)
    check_problem(answer, 405, "method_not_allowed")
    assert allow <= {one.strip() for one in answer.headers["Allow"].split(",")}


@pytest.mark.contract("1 request id")
def test_request_id(api):
    assert api.get("/health", headers={"X-Request-Id": "abc-123.x"}).headers["X-Request-Id"] == "abc-123.x"
    for bad in ("a b", "x" * 500, "a\"b", "é"):
        given = api.get("/health", headers={"X-Request-Id": bad.encode("latin-1")}).headers["X-Request-Id"]
        assert given and given != bad
    assert api.get("/health").headers["X-Request-Id"] != api.get("/health").headers["X-Request-Id"]


def test_a_key_where_none_belongs_is_not_repeated(system, api, stranger):
    """That it is not in the log is looked at where the system ends (launched.py); nor is it in an answer or in the audit log."""
    key = stranger.key
    for method, path in (("GET", f"/v1/mailboxes/{key}"), ("DELETE", f"/v1/{key}"), ("GET", f"/{key}/mails"), ("GET", f"/health?x={key}")):
        for asker in (api.key, None):
            assert key.encode() not in api.request(method, path, key=asker).body
    answer = api.get("/v1/mailboxes", headers={"X-Request-Id": key})
    assert answer.status == 200 and answer.headers["X-Request-Id"] != key
    with Wire(system.info["http"].removeprefix("http://")) as wire:
        wire.send(f"GET /v1/mailboxes HTTP/1.1\r\nHost: x\r\nX-Request-Id: {key}\r\n\r\n".encode())
        assert wire.http_response().headers["X-Request-Id"] != key
    assert not [line for line in system.log("apid").splitlines() if key in line]


def test_answers_carry_safe_headers(api, box):
    answer = api.get(f"/v1/mailboxes/{box['id']}")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "no-store" in answer.headers["Cache-Control"]
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.headers.get("Access-Control-Allow-Origin") is None


def test_keep_alive(api):
    connection = api.connect()
    for _ in range(50):
        assert api.get("/v1/mailboxes?limit=1", connection=connection).status == 200
    connection.close()


def test_connection_close_is_obeyed(system, wire):
    wire.send(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = wire.http_response()
    assert answer.status == 200 and answer.headers["Connection"].lower() == "close"
    assert wire.rest() == b""


def test_http_10(wire):
    wire.send(b"GET /health HTTP/1.0\r\n\r\n")
    assert wire.rest().startswith(b"HTTP/1.")


def test_pipelining_keeps_order(system, wire, box):
    paths = [f"/v1/mailboxes/{box['id']}", "/health", "/nowhere", "/v1/mailboxes?limit=1"] * 10
    wire.send(b"".join(head(system, f"GET {path} HTTP/1.1", f"X-Request-Id: number-{i}") for i, path in enumerate(paths)))
    for i, path in enumerate(paths):
        answer = wire.http_response()
        assert answer.headers["X-Request-Id"] == f"number-{i}"
        assert answer.status == (404 if path == "/nowhere" else 200)


def test_one_octet_at_a_time(system, wire, box):
    wire.send_slowly(head(system, f"PATCH /v1/mailboxes/{box['id']} HTTP/1.1", "Content-Type: application/json",
                          "Content-Length: 14") + b'{"tag":"slow"}')
    answer = wire.http_response()
    assert answer.status == 200 and answer.json["tag"] == "slow"


def test_chunked_body(system, wire, box):
    wire.send(head(system, f"PATCH /v1/mailboxes/{box['id']} HTTP/1.1", "Content-Type: application/json",
                   "Transfer-Encoding: chunked") + b'5\r\n{"tag\r\n1;ext=1\r\n"\r\nB\r\n:"in parts"\r\n1\r\n}\r\n0\r\nTrailer: x\r\n\r\n'
              + FOLLOWING)
    answer = wire.http_response()
    assert answer.status == 200 and answer.json["tag"] == "in parts", answer
    assert wire.http_response().headers["X-Request-Id"] == "following"


def test_expect_100_continue(system, wire, box):
    wire.send(head(system, f"PATCH /v1/mailboxes/{box['id']} HTTP/1.1", "Content-Type: application/json",
                   "Content-Length: 14", "Expect: 100-continue"))
    assert wire.line().startswith(b"HTTP/1.1 100")
    assert wire.line() == b"\r\n"
    wire.send(b'{"tag":"went"}')
    assert wire.http_response().json["tag"] == "went"


def test_expect_with_too_large_a_body_is_refused_before_it_comes(system, wire):
    wire.send(head(system, "POST /v1/mailboxes HTTP/1.1", "Content-Type: application/json", "Content-Length: 50000000",
                   "Expect: 100-continue"))
    assert wire.http_response().status == 413


@pytest.mark.contract("2 413")
def test_body_over_the_limit(system, api, wire):
    check_problem(api.post("/v1/mailboxes", b'{"tag":"' + b"x" * (1 << 20) + b'"}', headers={"Content-Type": "application/json"}),
                  413, "payload_too_large")
    wire.send(head(system, "POST /v1/mailboxes HTTP/1.1", "Content-Type: application/json", "Transfer-Encoding: chunked"))
    try:
        for _ in range(40):
            wire.send(b"10000\r\n" + b" " * 65536 + b"\r\n")
    except (BrokenPipeError, ConnectionResetError):
        pass
    try:
        answer = wire.http_response()
    except ConnectionResetError:
        answer = None
    assert answer is None or answer.status == 413


@pytest.mark.contract("1 wrong type", "1 malformed body", "1 duplicate member", "1 JSON")
@pytest.mark.parametrize("body, names", [
    (b"", None), (b"{", None), (b"[]", None), (b'"x"', None), (b"{} {}", None), (b'{"tag":1}', "tag"), (b'{"recoverable":"yes"}', "recoverable"),
    (b'{"alias":"a","alias":"b"}', "alias"), (b'{"tag":"\xff"}', None), (b'{"tag":"\\ud800"}', None), (b'{"tag":"a\\u0000b"}', None),
    (b'{"expiresIn":NaN}', None), (b"{'a':1}", None), (b"[" * 5000, None), (b'{"a":' * 3000 + b"1" + b"}" * 3000, None),
    (b"\xef\xbb\xbf{}", None),
])
def test_malformed_json(api, body, names):
    answer = api.post("/v1/mailboxes", body, headers={"Content-Type": "application/json"})
    if body == b"":
        assert answer.status == 201  # an absent body is an empty object
        return
    problem = check_problem(answer, 400, "bad_request")
    assert names is None or names in problem["detail"] + problem["message"]


@pytest.mark.contract("1 unknown members")
def test_unknown_members_are_ignored(api):
    assert api.post("/v1/mailboxes", {"expiresIn": 5, "later": {"x": [1, None]}}).status == 201


@pytest.mark.contract("2 415")
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", "json"])
def test_wrong_media_type(api, kind):
    check_problem(api.post("/v1/mailboxes", b"{}", headers={"Content-Type": kind}), 415, "unsupported_media_type")


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON", "application/json ;charset=UTF-8"])
def test_json_media_types(api, kind):
    assert api.post("/v1/mailboxes", b"{}", headers={"Content-Type": kind}).status == 201


BAD_REQUESTS = {
    "two lengths that differ": b"POST /v1/mailboxes HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    "the same length twice": b"POST /v1/mailboxes HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "a list of lengths": b"POST /v1/mailboxes HTTP/1.1\r\nHost: x\r\nContent-Length: 2, 2\r\n\r\n{}",
    "length and chunked": b"POST /v1/mailboxes HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "blank before the colon": b"POST /v1/mailboxes HTTP/1.1\r\nHost: x\r\nContent-Length : 2\r\n\r\n{}",
    "signed length": b"POST /v1/mailboxes HTTP/1.1\r\nHost: x\r\nContent-Length: +2\r\n\r\n{}",
    "negative length": b"POST /v1/mailboxes HTTP/1.1\r\nHost: x\r\nContent-Length: -2\r\n\r\n{}",
    "hexadecimal length": b"POST /v1/mailboxes HTTP/1.1\r\nHost: x\r\nContent-Length: 0x2\r\n\r\n{}",
    "huge length": b"POST /v1/mailboxes HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
    "unknown coding": b"POST /v1/mailboxes HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked is not last": b"POST /v1/mailboxes HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "a TAB in the length": b"POST /v1/mailboxes HTTP/1.1\r\nHost: x\r\nContent-Length: 2\t2\r\n\r\n{}",
    "coding and length": b"POST /v1/mailboxes HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "coding twice": b"POST /v1/mailboxes HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "coding on two lines": b"POST /v1/mailboxes HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "chunk size line in LF": b"POST /v1/mailboxes HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\n{}\r\n0\r\n\r\n",
    "empty host": b"GET /health HTTP/1.1\r\nHost:\r\n\r\n",
    "%00 in the path": b"GET /health%00 HTTP/1.1\r\nHost: x\r\n\r\n",
    "%2f in the path": b"GET /v1%2fmailboxes HTTP/1.1\r\nHost: x\r\n\r\n",
    "%5c in the path": b"GET /v1%5cmailboxes HTTP/1.1\r\nHost: x\r\n\r\n",
    "dot segments": b"GET /v1/../health HTTP/1.1\r\nHost: x\r\n\r\n",
    "TRACE": b"TRACE /health HTTP/1.1\r\nHost: x\r\n\r\n",
    "101 fields": b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 100 + b"\r\n",
    "vertical tab in coding": b"POST /v1/mailboxes HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunked in 1.0": b"POST /v1/mailboxes HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunk size 0x2": b"POST /v1/mailboxes HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
    "chunk size +2": b"POST /v1/mailboxes HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n",
    "chunk without its CRLF": b"POST /v1/mailboxes HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}XX0\r\n\r\n",
    "bare LF lines": b"GET /health HTTP/1.1\nHost: x\n\n",
    "bare CR": b"GET /health HTTP/1.1\r\nHost: x\rX: y\r\n\r\n",
    "folded field": b"GET /health HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "NUL in a field": b"GET /health HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
    "empty field name": b"GET /health HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n",
    "field name not a token": b"GET /health HTTP/1.1\r\nHost: x\r\nX(y): z\r\n\r\n",
    "unknown version": b"GET /health HTTP/9.9\r\nHost: x\r\n\r\n",
    "no version": b"GET /health\r\n\r\n",
    "two blanks": b"GET  /health HTTP/1.1\r\nHost: x\r\n\r\n",
    "blank in the target": b"GET /hea lth HTTP/1.1\r\nHost: x\r\n\r\n",
    "NUL in the target": b"GET /hea\0lth HTTP/1.1\r\nHost: x\r\n\r\n",
    "absolute target": b"GET http://x/health HTTP/1.1\r\nHost: x\r\n\r\n",
    "authority target": b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    "unknown method": b"BREW /health HTTP/1.1\r\nHost: x\r\n\r\n",
    "lower-case method": b"get /health HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100) + b"\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "SMTP": b"EHLO x\r\nMAIL FROM:<a@b>\r\n\r\n",
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_malformed_request_is_refused_and_nothing_after_it_runs(system, wire, name):
    request = BAD_REQUESTS[name]
    if name.startswith("chunk "):  # only a request that is let in has its body read
        request = request.replace(b"Host: x\r\n", f"Host: x\r\nAuthorization: Bearer {system.info['key']}\r\n".encode())
    try:
        wire.send(request + FOLLOWING)
    except (BrokenPipeError, ConnectionResetError):
        pass
    answer = wire.rest()
    status = int(answer.split()[1])
    assert status in (400, 404, 405, 431, 501, 505), answer
    assert status_lines(answer) == 1 and b"following" not in answer, answer
    head_part, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head_part.lower()
    assert json.loads(body)["message"]


def test_two_authorizations(system, wire):
    key = system.info["key"]
    wire.send(f"GET /v1/mailboxes HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
    assert wire.http_response().status == 400


def test_head_with_a_body_does_not_become_a_request(wire):
    smuggled = b"GET /v1/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    wire.send(b"HEAD /health HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(smuggled) + smuggled)
    wire.socket.shutdown(socket.SHUT_WR)
    answer = wire.rest()
    assert status_lines(answer) == 1, answer


def test_long_target_and_long_head(system, wire):
    wire.send(b"GET /" + b"x" * 20000 + b" HTTP/1.1\r\nHost: x\r\n\r\n" + FOLLOWING)
    answer = wire.rest()
    assert int(answer.split()[1]) in (414, 431) and status_lines(answer) == 1
    with Wire(system.info["http"].removeprefix("http://")) as other:
        try:
            other.send(b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(5000)) + b"\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert int(other.rest().split()[1]) == 431


def test_half_close_still_gets_its_answer(system, wire):
    wire.send(head(system, "GET /v1/mailboxes?limit=1 HTTP/1.1"))
    wire.socket.shutdown(socket.SHUT_WR)
    assert wire.http_response().status == 200
    assert wire.rest() == b""


def test_client_that_goes_away_harms_nobody(system, api, box):
    source = messages.with_attachments(("big.bin", "application/octet-stream", bytes(3_000_000)))
    assert deliver(system.smtp, source, box["address"])[0] == 250
    mail = api.only_mail(box)
    for _ in range(20):
        with Wire(system.info["http"].removeprefix("http://")) as wire:
            wire.send(head(system, f"GET /v1/mailboxes/{box['id']}/mails/{mail['id']}/raw HTTP/1.1"))
            wire.socket.recv(1000)
    assert api.get("/health").status == 200
    assert api.source(mail) == source


def test_slow_reader_gets_everything(system, api, box):
    """Back-pressure: the answer is larger than every socket buffer, and the reader starts late."""
    source = messages.with_attachments(("big.bin", "application/octet-stream", bytes(range(256)) * 40000))
    assert deliver(system.smtp, source, box["address"])[0] == 250
    mail = api.only_mail(box)
    with Wire(system.info["http"].removeprefix("http://")) as wire:
        wire.send(head(system, f"GET /v1/mailboxes/{box['id']}/mails/{mail['id']}/raw HTTP/1.1"))
        time.sleep(1)
        answer = wire.http_response()
    assert answer.status == 200 and answer.body.endswith(source)


def test_many_idle_connections(system, api):
    wires = [Wire(system.info["http"].removeprefix("http://")) for _ in range(300)]
    try:
        assert api.get("/v1/mailboxes?limit=1").status == 200
        wires[150].send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert wires[150].http_response().status == 200
    finally:
        for wire in wires:
            wire.close()


@pytest.mark.slow
def test_slow_head_meets_its_deadline(wire):
    """An absolute deadline: octets that keep coming do not extend it (ten seconds are allowed for a head)."""
    begin = time.monotonic()
    wire.socket.settimeout(0.5)
    wire.send(b"GET /health HTTP/1.1\r\nHost: x\r\n")
    while time.monotonic() - begin < 60:
        try:
            wire.send(b"X: y\r\n")
            time.sleep(0.3)
            if wire.socket.recv(1000) == b"":
                break
        except socket.timeout:
            continue
        except OSError:
            break
    assert time.monotonic() - begin < 45
