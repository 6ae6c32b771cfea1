"""The PROXY protocol in front of SMTP: who may send it, who must, and whose address counts afterwards."""

import ipaddress
import socket
import ssl
import struct
import time

import pytest

import messages
from client import Smtp, Wire, wait_until

V2 = b"\r\n\r\n\0\r\nQUIT\n"


def v1(client="192.0.2.9"):
    return f"PROXY TCP4 {client} 198.51.100.2 5000 25\r\n".encode()


def v2(client="2001:db8::9", command=0x21):
    addresses = ipaddress.ip_address(client).packed + ipaddress.ip_address("2001:db8::1").packed + struct.pack(">HH", 5000, 25)
    return V2 + bytes([command, 0x21]) + struct.pack(">H", len(addresses)) + addresses


@pytest.fixture(scope="module")
def smtpd(system):
    with system.another_smtpd("127.0.0.1:0;proxy=127.0.0.1", "127.0.0.1:0;proxy=10.0.0.0/8",
                              client_exempt="127.0.0.0/8", client_connections_max=2) as running:
        yield running


@pytest.mark.parametrize("header, client", [(v1(), "192.0.2.9"), (v2(), "2001:db8::9"), (v2("::ffff:192.0.2.7"), "192.0.2.7")])
def test_delivery(smtpd, api, header, client):
    box = api.mailbox()
    with Smtp(smtpd.address()) as wire:
        wire.send_slowly(header, 0.002)
        wire.greet()
        wire.start_data(box["address"])
        wire.send(messages.plain("proxied") + b".\r\n")
        assert wire.reply()[0] == 250
        wire.say(b"QUIT")
    assert api.only_mail(box)["subject"] == "proxied"
    line = wait_until(lambda: next((line for line in smtpd.log().splitlines()
                                    if "session ended" in line and f"client={client} " in line), None))
    assert " proxy=127.0.0.1 " in line


def postmaster(wire, literal):
    return wire.say(b"RCPT TO:<postmaster@" + literal + b">")[1][:5]


@pytest.mark.parametrize("header, ours", [(v1(), b"[198.51.100.2]"), (v2(), b"[IPv6:2001:db8::1]"), (v2("::ffff:192.0.2.7"), b"[IPv6:2001:db8::1]")])
def test_our_address_is_the_one_the_client_connected_to(smtpd, header, ours):
    with Smtp(smtpd.address()) as wire:
        wire.send(header)
        wire.greet()
        wire.say(b"MAIL FROM:<>")
        assert postmaster(wire, ours) == "2.1.5"
        assert postmaster(wire, b"[127.0.0.1]") == "5.7.1"


def test_local_is_the_proxy_itself(smtpd):
    with Smtp(smtpd.address()) as wire:
        wire.send(v2(command=0x20))
        wire.greet()
        wire.say(b"MAIL FROM:<>")
        assert postmaster(wire, b"[127.0.0.1]") == "2.1.5"
        assert postmaster(wire, b"[IPv6:2001:db8::1]") == "5.7.1"


@pytest.mark.parametrize("octets", [b"EHLO client.example.org\r\n", b"PROXY UNKNOWN\r\n", b"\x16\x03\x01\x02\x00",
                                    b"PROXY TCP4 192.0.2.9 198.51.100.2 5000 025\r\n", V2 + b"\x21\x11\xff\xff"])
def test_no_header_no_service(smtpd, octets):
    with Wire(smtpd.address()) as wire:
        wire.send(octets)
        assert wire.rest() == b""


def test_only_listed_proxies_are_believed(smtpd):
    with Wire(smtpd.address(1)) as wire:
        try:
            wire.send(v1("10.0.0.1"))
        except OSError:
            pass  # it may be closed already
        assert wire.rest() == b""


def test_silence_has_an_end(smtpd):
    begin = time.monotonic()
    with Wire(smtpd.address()) as wire:
        wire.send(v1()[:20])
        assert wire.rest() == b""
    assert 3 < time.monotonic() - begin < 20


def test_talk_behind_the_header_is_early(smtpd):
    with Smtp(smtpd.address()) as wire:
        wire.send(v1() + b"EHLO client.example.org\r\n")
        assert wire.reply()[0] == 554
        assert wire.rest() == b""


def test_the_client_behind_it_is_limited(smtpd):
    opened = []

    def answer(client):
        wire = Smtp(smtpd.address())
        opened.append(wire)
        wire.send(v1(client))
        return wire.reply()[0]

    try:
        assert [answer("192.0.2.50") for _ in range(4)] == [220, 220, 421, 421]
        assert answer("192.0.2.51") == 220
    finally:
        for wire in opened:
            wire.close()


def test_implicit_tls_behind_it(system, api):
    """The header is in clear in front of the handshake, as proxies send it."""
    box = api.mailbox()
    with system.another_smtpd("127.0.0.1:0;tls;proxy=127.0.0.1") as smtpd:
        host, port = smtpd.address().split(":")
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection((host, int(port)), timeout=30) as plain:
            plain.sendall(v1())
            with context.wrap_socket(plain) as s, s.makefile("rb") as replies:
                def say(octets):
                    s.sendall(octets)
                    while (line := replies.readline())[3:4] == b"-":
                        pass
                    return line[:3]

                assert say(b"") == b"220"
                assert say(b"EHLO client.example.org\r\n") == b"250"
                assert say(b"MAIL FROM:<a@b.example>\r\n") == b"250"
                assert say(b"RCPT TO:<" + box["address"].encode() + b">\r\n") == b"250"
                assert say(b"DATA\r\n") == b"354"
                assert say(messages.plain("inside") + b".\r\n") == b"250"
                assert say(b"QUIT\r\n") == b"221"
        assert api.only_mail(box)["subject"] == "inside"
        wait_until(lambda: any("client=192.0.2.9 " in line and "tls=\"TLS" in line for line in smtpd.log().splitlines()
                               if "session ended" in line))
