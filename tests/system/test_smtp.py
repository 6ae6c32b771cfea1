"""SMTP as it is spoken: replies, order, pipelining, and the end of data, by hand over a socket."""

import socket
import time

import pytest

import messages
from client import Smtp, deliver


@pytest.fixture
def wire(system):
    with Smtp(system.smtp) as opened:
        yield opened


def test_banner_and_extensions(system, wire):
    code, text = wire.reply()
    assert code == 220 and text.split()[0] == system.domain and "ESMTP" in text
    code, text = wire.say(b"EHLO client.example.org")
    words = {line.split()[0].upper() for line in text.split("\n")[1:]}
    assert {"PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"} <= words
    assert not words & {"AUTH", "DSN", "ETRN", "EXPN", "XCLIENT"} and "STARTTLS" in words


@pytest.mark.parametrize("command, code, enhanced", [
    (b"NOOP", 250, "2.0.0"), (b"NOOP with words", 250, "2.0.0"), (b"RSET", 250, "2.0.0"), (b"RSET x", 501, "5.5.4"),
    (b"VRFY someone", 252, "2.0.0"), (b"VRFY", 501, "5.5.4"), (b"HELP", 214, "2.0.0"), (b"EXPN list", 502, "5.5.1"),
    (b"AUTH PLAIN", 502, "5.5.1"), (b"TURN", 502, "5.5.1"), (b"WHAT", 500, "5.5.2"), (b"RCPT TO:<a@b.example>", 503, "5.5.1"),
    (b"DATA", 503, "5.5.1"), (b"MAIL FROM:<a@b.example> WHAT=1", 555, "5.5.4"), (b"MAIL FROM:<a@b.example> SIZE=x", 501, "5.5.4"),
    (b"MAIL FROM:<a@b.example> RET=FULL", 555, "5.5.4"), (b"MAIL FROM:<a@b.example> SIZE=18446744073709551616", 552, "5.3.4"),
    (b"MAIL FROM:<a b@c.example>", 501, "5.1.7"), (b"MAIL a@b.example", 501, "5.5.4"), (b"MAIL FROM:<>", 250, "2.1.0"),
    (b"MAIL FROM:<u@[192.0.2.1]>", 250, "2.1.0"), (b"MAIL FROM:<u@[X-foo:1]>", 501, "5.1.7"), (b"mail from:<a@b.example>", 250, "2.1.0"),
    (b"MAIL FROM:<\xd0\xb0@b.example>", 500, ""), (b"EHLO", 501, "5.5.4"), (b"HELO", 501, "5.5.4"),
])
def test_replies(wire, command, code, enhanced):
    wire.greet()
    got, text = wire.say(command)
    assert (got, text[:5]) == (code, enhanced) or (not enhanced and got in (500, 501, 553)), (got, text)


def test_mail_before_ehlo(wire):
    wire.reply()
    assert wire.say(b"MAIL FROM:<a@b.example>")[0] == 503
    assert wire.say(b"HELO client.example.org")[0] == 250
    assert wire.say(b"MAIL FROM:<a@b.example>")[0] == 250


def test_order_of_commands(wire, box):
    wire.greet()
    assert wire.say(b"MAIL FROM:<a@b.example>")[0] == 250
    assert wire.say(b"MAIL FROM:<a@b.example>")[0] == 503
    code, text = wire.say(b"DATA")
    assert (code, text[:5]) == (554, "5.5.1")
    assert wire.say(b"RCPT TO:<" + box["address"].encode() + b">")[0] == 250
    assert wire.say(b"DATA now")[0] == 501
    assert wire.say(b"EHLO again.example.org")[0] == 250  # resets the transaction
    assert wire.say(b"DATA")[0] == 503
    assert wire.say(b"QUIT")[0] == 221
    assert wire.rest() == b""


def test_helo_session_says_smtp(system, api, wire, box):
    wire.reply()
    assert wire.say(b"HELO old.example.org")[0] == 250
    wire.start_data(box["address"])
    wire.send(messages.plain() + b".\r\n")
    assert wire.reply()[0] == 250
    assert b" with SMTP " in api.raw(api.only_mail(box))


def test_whole_session_in_one_segment(api, wire, box):
    """RFC 2920: replies in order, and what follows the final dot is a command again."""
    rcpt = box["address"].encode()
    wire.reply()
    wire.say(b"EHLO client.example.org")
    first = messages.plain("first")
    wire.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<" + rcpt + b">\r\nRCPT TO:<nobody@" + box["domain"].encode() + b">\r\nDATA\r\n")
    assert [wire.reply()[0] for _ in range(4)] == [250, 250, 550, 354]
    wire.send(first + b".\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<" + rcpt + b">\r\nNOOP\r\nRSET\r\nQUIT\r\n")
    assert [wire.reply()[0] for _ in range(6)] == [250, 250, 250, 250, 250, 221]
    assert api.source(api.only_mail(box)) == first


def test_one_octet_at_a_time(api, wire, box):
    source = messages.plain("trickle", b".dots\r\n..\r\nend\r\n")
    wire.reply()
    stuffed = source.replace(b"\r\n.", b"\r\n..")
    for step in (b"EHLO client.example.org\r\n", b"MAIL FROM:<a@b.example>\r\n", b"RCPT TO:<" + box["address"].encode() + b">\r\n",
                 b"DATA\r\n", stuffed + b".\r\n"):
        wire.send_slowly(step)
        code, text = wire.reply()
        assert code in (250, 354), text
    assert api.source(api.only_mail(box)) == source


@pytest.mark.parametrize("source", [b"", b".\r\n", b"..\r\n", b"\r\n", b"Subject: no end of line\r\n", b"no header at all\r\n",
                                    b"From x\r\nSubject: mbox line\r\n\r\nx\r\n", b"X: " + b"y" * 100000 + b"\r\n\r\n" + b"z" * 100000 + b"\r\n",
                                    bytes(range(256)).replace(b"\r", b"").replace(b"\n", b"") + b"\r\n"],
                         ids=["empty", "lone dot", "two dots", "blank line", "header only", "no header", "From line", "long lines", "all octets"])
def test_odd_messages_come_back_exact(system, api, box, source):
    assert deliver(system.smtp, source, box["address"])[0] == 250
    mail = api.only_mail(box)
    assert api.source(mail) == source
    assert mail["sizeBytes"] == len(source)


def test_command_length(wire):
    """RFC 5321 4.5.3.1.4: 512 octets must be taken; we take 2,048, then close: the tail is no command."""
    wire.greet()
    assert wire.say(b"NOOP " + b"x" * 505)[0] == 250
    assert wire.say(b"NOOP " + b"x" * (2046 - 5))[0] == 250
    wire.send(b"NOOP " + b"x" * 5000 + b"\r\nRSET\r\n")
    code, text = wire.reply()
    assert (code, text[:5]) == (500, "5.5.2")
    assert wire.reply() is None


def test_bare_lf_command(wire):
    wire.greet()
    wire.send(b"NOOP\n")
    code, text = wire.reply()
    assert (code, text[:5]) == (500, "5.5.2")


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x10" + bytes(16) + b"\r\n",
                                   b"CONNECT x:25 HTTP/1.1\r\n\r\n"])
def test_other_protocols_are_cut(wire, first):
    wire.reply()
    wire.send(first + b"EHLO x\r\nMAIL FROM:<a@b.example>\r\n")
    code, _ = wire.reply()
    assert code in (221, 421, 500, 554)
    assert wire.reply() is None


def test_too_many_errors(wire):
    wire.greet()
    codes = []
    begin = time.monotonic()
    for _ in range(60):
        answer = wire.say(b"WHAT")
        if answer is None:
            break
        codes.append(answer[0])
        if answer[0] == 421:
            break
        if len(codes) == 10:
            assert time.monotonic() - begin < 5  # a mistake or two costs nothing
    assert codes[-1] == 421 and len(codes) <= 30
    assert time.monotonic() - begin > 5  # from the tenth on it waits


def test_many_recipients(api, wire, box):
    """RFC 5321 4.5.3.1.8: at least 100; over the limit 452, and those accepted stay."""
    wire.greet()
    assert wire.say(b"MAIL FROM:<a@b.example>")[0] == 250
    alias, domain = box["alias"], box["domain"]
    codes = [wire.say(f"RCPT TO:<{alias}+{i}@{domain}>".encode())[0] for i in range(100)]
    assert codes == [250] * 100
    others = [api.mailbox() for _ in range(101)]
    assert wire.say(b"RSET")[0] == 250
    assert wire.say(b"MAIL FROM:<a@b.example>")[0] == 250
    for other in others[:100]:
        assert wire.say(b"RCPT TO:<" + other["address"].encode() + b">")[0] == 250
    code, text = wire.say(b"RCPT TO:<" + others[100]["address"].encode() + b">")
    assert (code, text[:5]) == (452, "4.5.3")
    assert wire.say(b"DATA")[0] == 354
    wire.send(messages.plain("to a hundred") + b".\r\n")
    assert wire.reply()[0] == 250
    for other in (others[0], others[57], others[99]):
        assert api.only_mail(other)["subject"] == "to a hundred"
    assert api.mails(others[100]) == []


@pytest.mark.parametrize("rcpt", [b"Postmaster", b"postmaster@minutemail.cc", b"POSTMASTER@MINUTEMAIL.CC", b"abuse@minutemail.cc"])
def test_postmaster_is_answered(wire, rcpt):
    """RFC 5321 4.5.1, RFC 2142: every served domain takes mail for them."""
    wire.greet()
    wire.say(b"MAIL FROM:<a@b.example>")
    code, text = wire.say(b"RCPT TO:<" + rcpt + b">")
    assert (code, text[:5]) == (250, "2.1.5"), (code, text)


@pytest.mark.parametrize("rcpt, code, enhanced", [
    (b"u@not-ours.example", 550, "5.7.1"), (b"u%x@minutemail.cc", 550, "5.1.1"), (b"@", 501, "5.1.3"), (b"a@b@c", 501, "5.1.3"),
    (b"a..b@minutemail.cc", 501, "5.1.3"), (b"x" * 65 + b"@minutemail.cc", 501, "5.1.3"), (b"u@[127.0.0.1]", 550, "5.1.1"),
    (b"u@" + b"x" * 300 + b".example", 501, "5.1.3"),
])
def test_bad_recipients(wire, rcpt, code, enhanced):
    wire.greet()
    wire.say(b"MAIL FROM:<a@b.example>")
    got, text = wire.say(b"RCPT TO:<" + rcpt + b">")
    assert got == code and (not enhanced or text[:5] == enhanced), (got, text)


def test_loop_is_cut(system, box):
    source = b"Received: from x by y; Tue, 24 Nov 2026 12:00:00 +0000\r\n" * 101 + messages.plain()
    code, text = deliver(system.smtp, source, box["address"])
    assert (code, text[:5]) == (554, "5.4.6")


def test_disconnect_in_every_state_leaves_nothing(system, api, box):
    steps = [b"EHLO x.example\r\n", b"MAIL FROM:<a@b.example>\r\n", b"RCPT TO:<" + box["address"].encode() + b">\r\n", b"DATA\r\n",
             messages.plain(), b"."]
    for n in range(len(steps) + 1):
        for abrupt in (False, True):
            with Smtp(system.smtp) as wire:
                wire.reply()
                for step in steps[:n]:
                    wire.send(step)
                    if step not in steps[4:]:
                        wire.reply()
                if abrupt:
                    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    time.sleep(0.2)
    assert api.mails(box) == []
    assert deliver(system.smtp, messages.plain(), box["address"])[0] == 250


def test_rset_forgets_the_message_before(system, api, wire, box):
    wire.greet()
    assert wire.say(b"MAIL FROM:<first@b.example>")[0] == 250
    assert wire.say(b"RCPT TO:<" + box["address"].encode() + b">")[0] == 250
    assert wire.say(b"RSET")[0] == 250
    wire.start_data(box["address"], "second@b.example")
    wire.send(messages.plain() + b".\r\n")
    assert wire.reply()[0] == 250
    assert api.only_mail(box)["envelope"]["mailFrom"] == "second@b.example"


# End of data is CRLF.CRLF and nothing else. Each of these must be data: one message, and the command behind it text.

SMUGGLES = {"LF.LF": b"\n.\n", "LF.CRLF": b"\n.\r\n", "CRLF.LF": b"\r\n.\n", "CR.CR": b"\r.\r", "CR.CRLF": b"\r.\r\n",
            "CRLF.CR": b"\r\n.\r", "CRLF.CRCRLF": b"\r\n.\r\r\n", "CRLF NUL .CRLF": b"\r\n\0.\r\n", "LF.CRCRLF": b"\n.\r\r\n",
            "CRCRLF.CRCRLF": b"\r\r\n.\r\r\n", "LFLF.LF": b"\n\n.\n", "CRLF.": b"\r\n. \r\n"}
SECOND = b"MAIL FROM:<evil@b.example>\r\nRCPT TO:<%s>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n"


@pytest.mark.parametrize("name", SMUGGLES)
@pytest.mark.parametrize("way", ["whole", "by octet"])
def test_smuggling(system, api, box, name, way):
    sent = b"Subject: one\r\n\r\nbody" + SMUGGLES[name] + SECOND % box["address"].encode()
    with Smtp(system.smtp) as wire:
        wire.greet()
        wire.start_data(box["address"])
        if way == "whole":
            wire.send(sent + b".\r\n")
        else:
            wire.send_slowly(sent + b".\r\n")
        code, text = wire.reply()
        assert code == 250, text
        assert wire.say(b"NOOP")[0] == 250
    mail = api.only_mail(box)
    assert mail["subject"] == "one"
    # RFC 5321 4.5.2: only a line that CRLF began loses its leading dot.
    assert api.source(mail) == sent.replace(b"\r\n.", b"\r\n")


@pytest.mark.parametrize("at", range(1, 5))
def test_end_of_data_split_anywhere(system, api, box, at):
    end = b"\r\n.\r\n"
    with Smtp(system.smtp) as wire:
        wire.greet()
        wire.start_data(box["address"])
        wire.send(b"Subject: split\r\n\r\nbody" + end[:at])
        time.sleep(0.05)
        wire.send(end[at:])
        assert wire.reply()[0] == 250
    assert api.source(api.only_mail(box)) == b"Subject: split\r\n\r\nbody\r\n"


def test_early_talker(system):
    """What is said before the banner is a protocol error, or at least never a way around the greeting."""
    with Smtp(system.smtp) as wire:
        wire.send(b"EHLO early.example\r\nMAIL FROM:<a@b.example>\r\n")
        code, _ = wire.reply()
        assert code in (220, 554)
        if code == 220:
            assert wire.reply()[0] in (250, 554)


def test_commands_behind_data_are_not_commands(system, api, box):
    """RFC 2920 3.1: DATA ends a group. What came with it may be refused, but never run as a command and as data."""
    with Smtp(system.smtp) as wire:
        wire.greet()
        wire.say(b"MAIL FROM:<a@b.example>")
        wire.say(b"RCPT TO:<" + box["address"].encode() + b">")
        wire.send(b"DATA\r\nSubject: in a hurry\r\n\r\nx\r\n.\r\nQUIT\r\n")
        code, _ = wire.reply()
        if code == 354:
            assert wire.reply()[0] == 250
            assert api.only_mail(box)["subject"] == "in a hurry"
        else:
            assert code == 554 and api.mails(box) == []
