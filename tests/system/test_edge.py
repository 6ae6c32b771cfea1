"""HTTP in the open: TLS in apid, proxies in front of it, and what either of them changes in an answer."""

import http.client
import json
import signal
import socket
import ssl
import time

import pytest

from client import Wire, wait_until
from test_http import BAD_REQUESTS, FOLLOWING, status_lines
from test_proxy import v1, v2
from test_tls import certificate, common_name, context

NAME = "api.example.org"
GET = b"GET /v1/mailboxes HTTP/1.1\r\nHost: a\r\n"
HSTS = "strict-transport-security"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return str(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def apid(system, directory):
    """Ports: 0 TLS, 1 behind a PROXY header, 2 behind a reverse proxy, 3 clear, 4 a PROXY header and then TLS, 5 proxies that we are not."""
    pairs = [certificate(directory, "one", NAME), certificate(directory, "other", "other.example.org", "rsa")]
    with system.another_apid("127.0.0.1:0;tls", "127.0.0.1:0;proxy=127.0.0.1", "127.0.0.1:0;forwarded=127.0.0.0/8", "127.0.0.1:0",
                             "127.0.0.1:0;proxy=127.0.0.1;tls", "127.0.0.1:0;proxy=10.0.0.0/8",
                             tls_certificates=",".join(pairs), hostname=NAME) as running:
        yield running


def https(apid, port=0, sni=NAME, c=None, first=b""):
    s = socket.create_connection(("127.0.0.1", apid.ports[port]), timeout=60)
    s.sendall(first)
    return (c or context()).wrap_socket(s, server_hostname=sni)


def ask(s, more=b"", path=b"/v1/mailboxes"):
    """One request on a socket; status and headers."""
    s.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\n%s\r\n" % (path, more))
    answer = http.client.HTTPResponse(s)
    answer.begin()
    answer.read()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}


def clear(apid, port, more=b"", first=b""):
    with socket.create_connection(("127.0.0.1", apid.ports[port]), timeout=60) as s:
        s.sendall(first)
        return ask(s, more)


def bearer(api):
    return b"Authorization: Bearer %s\r\n" % api.key.encode()


def test_https_serves_and_keeps_the_connection(apid, api):
    with https(apid) as s:
        for _ in range(3):
            status, headers = ask(s, bearer(api))
            assert status == 200
            assert headers[HSTS] == "max-age=63072000; includeSubDomains"
        assert s.version() == "TLSv1.3"


def test_large_bodies_both_ways_over_tls(apid, api, box):
    text = "0123456789abcdef" * 16384 * 16
    body = json.dumps({"sender": "a@example.org", "subject": "large", "body": text}).encode()
    path = "/v1/mailboxes/" + box["id"] + "/mails"
    connection = http.client.HTTPSConnection(apid.address(0), timeout=60, context=context())
    connection.request("POST", path, body, {"Authorization": "Bearer " + api.key, "Content-Type": "application/json"})
    answer = connection.getresponse()
    made = json.loads(answer.read())
    assert answer.status == 201, made
    connection.request("GET", f"{path}/{made['id']}/raw", headers={"Authorization": "Bearer " + api.key})
    answer = connection.getresponse()
    raw = answer.read()
    assert answer.status == 200 and len(raw) > len(text)
    connection.close()


@pytest.mark.parametrize("sni, name", [(NAME, NAME), ("other.example.org", "other.example.org"), ("unknown.example.org", NAME)])
def test_certificate_by_name(apid, sni, name):
    with https(apid, sni=sni) as s:
        assert common_name(s.getpeercert(binary_form=True)) == name


def test_http_1_1_and_nothing_else(apid):
    both, h2 = context(), context()
    both.set_alpn_protocols(["h2", "http/1.1"])
    h2.set_alpn_protocols(["h2"])
    with https(apid, c=both) as s:
        assert s.selected_alpn_protocol() == "http/1.1"
        assert ask(s)[0] == 401
    with pytest.raises(ssl.SSLError):
        https(apid, c=h2)


def test_reload(system, directory):
    pair = certificate(directory, "renewed", NAME)
    with system.another_apid("127.0.0.1:0;tls", tls_certificates=pair, hostname=NAME) as apid:
        with https(apid) as kept:
            old = kept.getpeercert(binary_form=True)
            certificate(directory, "renewed", NAME)
            apid.process.send_signal(signal.SIGHUP)

            def renewed():
                with https(apid) as s:
                    return s.getpeercert(binary_form=True) != old and ask(s)[0] == 401

            wait_until(renewed)
            assert ask(kept)[0] == 401


def test_self_signed_and_refused_without(system, tmp_path):
    with system.another_apid("127.0.0.1:0;tls", tls_certificates="", tls_dir=str(tmp_path / "tls"), hostname=NAME) as apid:
        with https(apid) as s:
            assert common_name(s.getpeercert(binary_form=True)) == NAME
    with pytest.raises(AssertionError, match="there is no certificate"):
        with system.another_apid("127.0.0.1:0;tls", tls_certificates="", tls_dir=""):
            pass


def test_clear_text_on_the_tls_port(apid):
    before = apid.metrics()["minutemail_apid_tls_failed_total"]
    with Wire(apid.address(0)) as wire:
        wire.send(GET + b"\r\n")
        assert not wire.rest().startswith(b"HTTP/")
    wait_until(lambda: apid.metrics()["minutemail_apid_tls_failed_total"] > before)
    assert 'event="TLS handshake failed"' in apid.log()


def test_a_slow_handshake_and_a_slow_head_are_cut(apid):
    """10 s each, by the clock and not by the last octet."""
    begun = time.monotonic()
    with Wire(apid.address(0)) as shaking, https(apid) as head:
        shaking.send(b"\x16\x03\x01\x02\x00\x01")
        head.sendall(GET)
        while time.monotonic() - begun < 8:
            head.sendall(b"X-Slow: a\r\n")
            time.sleep(1)
        assert shaking.rest() in (b"", b"\x15\x03\x01\x00\x02\x02\x46", b"\x15\x03\x03\x00\x02\x02\x46")
        answer = b"".join(iter(lambda: head.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 408 ") and HSTS.encode() in answer.lower()
    assert 8 < time.monotonic() - begun < 60


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_malformed_request_over_tls(apid, api, name):
    """As test_http's, inside TLS: one refusal, and what follows does not run."""
    request = BAD_REQUESTS[name]
    if name.startswith("chunk "):
        request = request.replace(b"Host: x\r\n", b"Host: x\r\n" + bearer(api))
    with https(apid) as s:
        s.sendall(request + FOLLOWING)
        answer = b"".join(iter(lambda: s.recv(65536), b""))
    assert status_lines(answer) == 1 and b"following" not in answer, answer
    assert 400 <= int(answer.split()[1]) < 600 and b"connection: close" in answer.lower()
    assert HSTS.encode() in answer.lower()


def test_an_upgrade_is_not_taken(apid):
    """Answered as what it is, HTTP/1.1; and so is the request behind it."""
    for fields in (b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
                   b"Connection: Upgrade\r\nUpgrade: websocket\r\n"):
        with Wire(apid.address(3)) as wire:
            wire.send(b"GET /health HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n" + GET + b"\r\n")
            assert [wire.http_response().status for _ in range(2)] == [200, 401]


@pytest.mark.contract("1 CORS on")
def test_pages_of_other_origins(system, api):
    with system.another_apid("127.0.0.1:0", cors_origins="https://app.example.org") as apid:
        origin = b"Origin: https://app.example.org\r\n"
        status, headers = clear(apid, 0, origin + bearer(api))
        assert status == 200 and headers["access-control-allow-origin"] == "https://app.example.org"
        assert "access-control-allow-origin" not in clear(apid, 0, b"Origin: https://evil.example.org\r\n" + bearer(api))[1]
        with Wire(apid.address(0)) as wire:
            wire.send(b"OPTIONS /v1/mailboxes HTTP/1.1\r\nHost: a\r\nAccess-Control-Request-Method: POST\r\n" + origin + b"\r\n")
            answer = wire.http_response()
            assert answer.status == 204 and "Authorization" in answer.headers["Access-Control-Allow-Headers"]
    with pytest.raises(AssertionError, match="'https://app.example.org/' is no origin"):
        with system.another_apid("127.0.0.1:0", cors_origins="https://app.example.org/"):
            pass


@pytest.mark.parametrize("header, client", [(v1(), "192.0.2.9"), (v2(), "2001:db8::9"), (v2("::ffff:192.0.2.7"), "192.0.2.7")])
@pytest.mark.parametrize("port", [1, 4])
def test_proxy_header(apid, header, client, port):
    mark = f"proxied-{port}-{client}".replace(":", "_")
    more = b"X-Request-Id: %s\r\n" % mark.encode()
    if port == 4:
        with https(apid, port, first=header) as s:
            assert ask(s, more)[0] == 401
    else:
        assert clear(apid, port, more, first=header)[0] == 401
    line = wait_until(lambda: next((line for line in apid.log().splitlines() if f"id={mark} " in line + " "), None))
    assert f" client={client}" in line


@pytest.mark.parametrize("port, octets", [(1, GET + b"\r\n"), (1, b"PROXY UNKNOWN\r\n"), (4, b"\x16\x03\x01\x02\x00"), (5, v1())])
def test_no_proxy_header_no_service(apid, port, octets):
    before = apid.metrics()['minutemail_apid_connections_refused_total{reason="proxy_header"}']
    with Wire(apid.address(port)) as wire:
        wire.send(octets)
        try:
            assert wire.rest() == b""
        except ConnectionResetError:
            pass
    wait_until(lambda: apid.metrics()['minutemail_apid_connections_refused_total{reason="proxy_header"}'] > before)


FORWARDED = b"X-Forwarded-For: 198.51.100.1, 192.0.2.44, 127.0.0.9\r\nX-Forwarded-Proto: https\r\n"


@pytest.mark.parametrize("port, client, secure", [(2, "192.0.2.44", True), (3, "127.0.0.1", False)])
def test_forwarded_is_believed_from_listed_proxies_only(apid, port, client, secure):
    status, headers = clear(apid, port, FORWARDED + b"X-Request-Id: forwarded-%d\r\n" % port)
    assert status == 401 and (HSTS in headers) == secure
    line = wait_until(lambda: next((line for line in apid.log().splitlines() if f"id=forwarded-{port} " in line + " "), None))
    assert f" client={client}" in line


def test_addresses_are_not_logged_where_that_is_unwanted(system):
    with system.another_apid("127.0.0.1:0;forwarded=127.0.0.0/8", log_client="no") as apid:
        assert clear(apid, 0, FORWARDED + b"X-Request-Id: unseen\r\n")[0] == 401
        wait_until(lambda: "id=unseen" in apid.log())
        assert "192.0.2.44" not in apid.log() and "client=" not in apid.log()


def test_a_bad_option_is_named(system):
    with pytest.raises(AssertionError, match="unknown option 'starttls'"):
        with system.another_apid("127.0.0.1:0;starttls"):
            pass


def test_connections_of_a_client(system):
    """127.0.0.0/8 is not exempt here. 0: limited, 1: limits=no, 2: a proxy's."""
    with system.another_apid("127.0.0.1:0", "127.0.0.1:0;limits=no", "127.0.0.1:0;forwarded=127.0.0.0/8",
                             client_exempt="10.0.0.0/8", apid_client_connections_max=3) as apid:
        def status(wire):
            wire.send(GET + b"\r\n")
            return wire.http_response().status

        held = [Wire(apid.address(0)) for _ in range(3)]
        assert [status(wire) for wire in held] == [401] * 3
        with Wire(apid.address(0)) as fourth:
            answer = fourth.http_response()  # said without being asked
            assert answer.status == 429 and answer.headers["Retry-After"]
        with Wire(apid.address(0), source="127.1.0.1") as other:
            assert status(other) == 401
        free = [Wire(apid.address(port)) for port in (1, 2) for _ in range(4)]
        assert [status(wire) for wire in free] == [401] * 8
        held[0].close()

        def let_in():
            with Wire(apid.address(0)) as wire:
                try:
                    return status(wire) == 401
                except OSError:
                    return False

        wait_until(let_in)
        assert apid.metrics()['minutemail_apid_connections_refused_total{reason="client_limit"}'] >= 1
        for wire in held[1:] + free:
            wire.close()


def test_who_guesses_keys_is_slowed_and_nobody_else(system, api):
    good = bearer(api)
    wrong = b"Authorization: Bearer mm_sk_live_%s\r\n" % (b"x" * 53)
    with system.another_apid("127.0.0.1:0", "127.0.0.1:0;forwarded=127.0.0.0/8", workers=1, client_exempt="10.0.0.0/8",
                             apid_client_bad_keys_rate=5) as apid:
        cached = 'minutemail_apid_auth_total{how="cached"}'

        def known():
            before = apid.metrics()[cached]
            return clear(apid, 0, good)[0] == 200 and apid.metrics()[cached] > before

        wait_until(known)
        answers = [clear(apid, 0, wrong) for _ in range(8)]
        assert [status for status, _ in answers[:5]] == [401] * 5
        assert answers[7][0] == 429 and int(answers[7][1]["retry-after"]) > 0
        assert clear(apid, 0, good)[0] == 200  # known already
        assert clear(apid, 0)[0] == 401  # guesses nothing
        # a proxy's clients, one by one
        assert [clear(apid, 1, wrong + b"X-Forwarded-For: 192.0.2.9\r\n")[0] for _ in range(8)][7] == 429
        assert clear(apid, 1, wrong + b"X-Forwarded-For: 198.51.100.9\r\n")[0] == 401
        assert apid.metrics()["minutemail_apid_auth_limited_total"] >= 2
