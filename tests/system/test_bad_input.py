"""Messages made to hurt the parser. Each must be taken (250), kept exactly, listed, and said in `warnings`; and while it is parsed,
somebody else's session must not notice."""

import base64
import threading
import time

import pytest

import messages
from client import check_problem, deliver, items, smtplib_session

CAPS = {"too_many_headers", "header_too_long", "header_block_too_long", "too_deep", "too_many_parts", "too_many_parameters",
        "too_many_groups", "too_many_addresses", "boundary_too_long", "text_cut", "parse_failed", "not_parsed"}


def nested(depth):
    head, tail = [], []
    for i in range(depth):
        head.append(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (i, i))
        tail.append(b"--b%d--\r\n" % i)
    return b"Subject: nested\r\nMIME-Version: 1.0\r\n" + b"".join(head) + b"Content-Type: text/plain\r\n\r\ndeep\r\n" + b"".join(reversed(tail))


def nested_rfc822(depth):
    return b"Subject: outer\r\nMIME-Version: 1.0\r\n" + b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n" * depth + b"\r\nx\r\n"


def typed(value, body=b"--b\r\n\r\nx\r\n--b--\r\n"):
    return b"Subject: typed\r\nMIME-Version: 1.0\r\nContent-Type: " + value + b"\r\n\r\n" + body


MONSTERS = {
    "groups in To": (b"To: " + b"a:" * 50000 + b"\r\nSubject: groups\r\n\r\nx\r\n", {"too_many_groups", "header_too_long", "parse_failed"}),
    "groups in To, short": (b"To: " + b"a:" * 2000 + b"\r\nSubject: groups\r\n\r\nx\r\n", {"too_many_groups", "parse_failed"}),
    "groups in a nested From": (b"Subject: outer\r\nContent-Type: message/rfc822\r\n\r\nFrom: " + b"a:" * 30000 + b"\r\n\r\nx\r\n", None),
    "200,000 empty parts": (typed(b"multipart/mixed; boundary=b", b"--b\r\n\r\n" * 200000), {"too_many_parts", "parse_failed"}),
    "40,000 parameters": (typed(b"multipart/mixed; boundary=b" + b"".join(b";\r\n p%d=v" % i for i in range(40000))), CAPS),
    "40,000 continuations": (typed(b"text/plain" + b"".join(b";\r\n name*%d=v" % i for i in range(40000))), CAPS),
    "500,000 headers": (b"Subject: many\r\n" + b"a:\r\n" * 500000 + b"\r\nx\r\n", CAPS),
    "1,024 deep": (nested(1024), {"too_deep", "parse_failed"}),
    "1,024 deep with dashes": (nested(1024) + b"--\r\n" * 200000, {"too_deep", "too_many_parts", "parse_failed"}),
    "200 rfc822 deep": (nested_rfc822(200), None),  # an attached message is one attachment, not looked into
    "2 MB field": (b"Subject: " + b"x" * 2_000_000 + b"\r\n\r\nx\r\n", CAPS),
    "100,000 addresses": (b"Subject: many\r\nTo: " + b"a@b.example,\r\n " * 100000 + b"z@b.example\r\n\r\nx\r\n", CAPS),
    "long boundary": (typed(b"multipart/mixed; boundary=\"" + b"b" * 5000 + b"\"", b"--" + b"b" * 5000 + b"\r\n\r\nx\r\n"), CAPS),
    "3 MB of text": (b"Subject: long\r\n\r\n" + b"All work and no play.\r\n" * 150000, {"text_cut"}),
    "30 MB line is over the limit, 20 MB is not": (b"Subject: line\r\n\r\n" + b"x" * 20_000_000 + b"\r\n", None),
    "comments": (b"Subject: c\r\nTo: " + b"(" * 100000 + b"\r\nDate: " + b"(" * 100000 + b"\r\n\r\nx\r\n", None),
    "encoded words": (b"Subject: " + b"=?utf-8?q?=41?=\r\n " * 50000 + b"\r\n\r\nx\r\n", None),
    "bad everything": (b"Content-Type: multipart/mixed; boundary\r\nContent-Type: /;;;=\r\nContent-Transfer-Encoding: =?\r\nFrom: <<>>@@,;:\r\n"
                       b"Subject: =?x?y?z?= =?utf-8?b?!!!?= =?utf-8//TRANSLIT?q?=ff?=\r\n\r\n--\r\n--=?\r\n", None),
}


@pytest.mark.parametrize("name", MONSTERS)
def test_monster_is_kept_and_said(system, api, box, name):
    source, warnings = MONSTERS[name]
    others = api.mailbox()
    slowest, stop = [0.0], threading.Event()

    def neighbour():
        with smtplib_session(system.smtp) as smtp:
            while True:
                begin = time.monotonic()
                smtp.sendmail("me@example.org", [others["address"]], messages.plain("neighbour"))
                slowest[0] = max(slowest[0], time.monotonic() - begin)
                if stop.is_set():
                    break

    thread = threading.Thread(target=neighbour)
    thread.start()
    try:
        code, text = deliver(system.smtp, source, box["address"])
    finally:
        stop.set()
        thread.join()
    assert code == 250, text
    mail = api.only_mail(box)
    assert api.source(mail) == source
    assert mail["sizeBytes"] == len(source)
    if warnings:
        assert set(mail["warnings"]) & warnings, mail["warnings"]
    assert slowest[0] < 15, f"another session waited {slowest[0]:.1f} s"
    assert api.get(f"/v1/mailboxes/{box['id']}/mails/{mail['id']}/headers").status == 200
    assert {one["subject"] for one in api.mails(others)} == {"neighbour"}


BROKEN_TEXT = {
    "NUL in a header": (b"Subject: a\0b\r\n\r\nx\r\n", "subject", "a\ufffdb"),
    "NUL in the body": (b"Subject: n\r\n\r\na\0b\r\n", "bodyText", "a\ufffdb"),
    "8-bit header, UTF-8": ("Subject: Тема\r\n\r\nx\r\n".encode(), "subject", "Тема"),
    "8-bit body, undeclared UTF-8": ("Subject: n\r\n\r\nТекст\r\n".encode(), "bodyText", "Текст"),
    "adjacent encoded words": (b"Subject: =?UTF-8?B?SGVsbG8=?= =?UTF-8?B?IHdvcmxk?=\r\n\r\nx\r\n", "subject", "Hello world"),
    "a character split over words": (b"Subject: =?utf-8?q?=D0?= =?utf-8?q?=9F?=\r\n\r\nx\r\n", "subject", "П"),
    "base64 with inner padding": (b"Subject: p\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
                                  base64.b64encode(b"one.") + b"\r\n" + base64.b64encode(b"two.") + b"\r\n", "bodyText", "one.two."),
    "CR LF inside an encoded word": (b"Subject: =?utf-8?q?a=0d=0aBcc:_b?=\r\n\r\nx\r\n", "subject", None),
}


@pytest.mark.parametrize("name", BROKEN_TEXT)
def test_broken_text_is_shown_as_utf8(system, api, box, name):
    source, member, expected = BROKEN_TEXT[name]
    assert deliver(system.smtp, source, box["address"])[0] == 250
    mail = api.only_mail(box)
    assert api.source(mail) == source
    value = mail[member].rstrip("\r\n")
    assert "\0" not in value
    if expected is None:
        assert "\r" not in value and "\n" not in value
    else:
        assert value == expected


INVALID = {
    "invalid UTF-8 in a header": b"Subject: a\xff\xfeb\xc3\r\n\r\nx\r\n",
    "invalid UTF-8 in the body": b"Subject: n\r\nContent-Type: text/plain; charset=utf-8\r\n\r\na\xff\xfe\xed\xa0\x80b\r\n",
    "lone surrogates in UTF-8": b"Subject: =?utf-8?q?a=ED=A0=80b?=\r\n\r\nx\xed\xbf\xbf\r\n",
    "lone surrogates in UTF-16": b"Subject: =?utf-16be?b?" + base64.b64encode(b"\0a\xd8\0\0b") + b"?=\r\n\r\nx\r\n",
    "overlong and out of range": b"Subject: a\xc0\x80\xf4\x90\x80\x80b\r\n\r\nx\r\n",
    "invalid addresses": b"From: \xff\xfe <a\xff@b.example>\r\nTo: \0@\0, <\xd0>\r\nSubject: addresses\r\n\r\nx\r\n",
    "control characters": b"Subject: a\x01\x02\x1b[31mb\x7f\r\nFrom: \"\x07\" <a@b.example>\r\n\r\nx\x0c\r\n",
    "noncharacters": "Subject: a\ufffe\uffff\U0010ffffb\r\n\r\nx\r\n".encode(),
    "invalid attachment name": b"Subject: n\r\nMIME-Version: 1.0\r\nContent-Type: application/x; name=\"a\xff\0\r\n b\"\r\n\r\nx\r\n",
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_text_is_stored_and_is_valid_in_the_answers(system, api, box, name):
    source = INVALID[name]
    assert deliver(system.smtp, source, box["address"])[0] == 250
    mail = api.only_mail(box)  # decodes as UTF-8 and JSON, or fails
    assert api.source(mail) == source

    def every_string(value, raw=False):
        if isinstance(value, str):
            assert raw or "\0" not in value
            value.encode("utf-8")  # a lone surrogate does not encode
        elif isinstance(value, dict):
            for name, one in value.items():
                every_string(one, name == "raw")  # as it came, but for what is no UTF-8
        elif isinstance(value, list):
            for one in value:
                every_string(one)
    every_string(mail)
    every_string(items(api.get(f"/v1/mailboxes/{box['id']}/mails/{mail['id']}/headers")))


def test_invalid_text_in_requests(api, box):
    """The API takes no such text in; it names the fault."""
    path = f"/v1/mailboxes/{box['id']}"
    for body in (b'{"tag":"\\ud800x"}', b'{"tag":"\xed\xa0\x80"}', b'{"tag":"a\\u0000"}', b'{"tag":"\xff"}'):
        check_problem(api.patch(path, body, headers={"Content-Type": "application/json"}), 400, "bad_request")
    assert api.get(path).json["tag"] is None


def test_mailbox_full_of_monsters_still_lists(system, api, box):
    for name in ("groups in To, short", "1,024 deep", "200 rfc822 deep", "bad everything"):
        assert deliver(system.smtp, MONSTERS[name][0], box["address"])[0] == 250
    assert len(api.mails(box)) == 4
