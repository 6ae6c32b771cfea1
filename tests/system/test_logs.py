"""What the log says of a message and of a session, and what it must not say. That no key, password or token of any test is in a log is
looked at where the systems end (conftest.py, launched.py)."""

import hashlib
import os
import re

import pytest

import messages
from client import Console, Smtp, deliver, secrets_in, wait_until
from people import PASSWORD, make_person
from test_tls import NAME, starttls

SENDER = "Some.Body@Example.ORG"


def pairs(line):
    """{key: value} of a logfmt line."""
    found = {}
    for key, quoted, plain in re.findall(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|(\S*))', line):
        assert key not in found, line
        found[key] = quoted or plain
    return found


def lines(smtpd, event):
    return [pairs(line) for line in smtpd.log().splitlines() if f'event="{event}"' in line]


def one_more(smtpd, event, act):
    """The line that comes of it, the only one."""
    before = len(lines(smtpd, event))
    act()
    wait_until(lambda: len(lines(smtpd, event)) > before)
    assert len(lines(smtpd, event)) == before + 1
    return lines(smtpd, event)[-1]


@pytest.fixture(scope="module")
def smtpd(system):
    with system.another_smtpd("127.0.0.1:0", hostname=NAME, log_level="debug", client_exempt="127.0.0.0/8") as running:
        yield running


def test_a_message_in_clear(system, smtpd, box):
    source = messages.plain("in clear")
    line = one_more(smtpd, "message stored", lambda: deliver(smtpd.address(), source, box["address"], mail_from=SENDER))
    assert line["from"] == hashlib.sha256(SENDER.lower().encode()).hexdigest()[:16]
    assert line["id"] == system.api.only_mail(box)["id"]
    assert (line["client"], line["helo"], line["recipients"], line["code"]) == ("127.0.0.1", "client.example.org", "1", "250")
    assert int(line["size"]) == len(source) and int(line["us"]) >= int(line["parse_us"]) >= 0
    assert "tls" not in line
    for address in (SENDER, box["address"], "in clear"):
        assert address.lower() not in smtpd.log().lower()


@pytest.mark.parametrize("sni", [NAME, None])
def test_a_message_over_tls(smtpd, box, sni):
    def send():
        with starttls(smtpd.address(), sni) as wire:
            agreed.append((wire.version(), wire.cipher()[0]))
            file = wire.makefile("rb")
            for words in (b"EHLO x", b"MAIL FROM:<>", b"RCPT TO:<" + box["address"].encode() + b">", b"DATA", messages.plain() + b".", b"QUIT"):
                wire.sendall(words + b"\r\n")
                while (line := file.readline())[3:4] == b"-":
                    pass
                assert line[:1] in b"23", line

    agreed = []
    line = one_more(smtpd, "message stored", send)
    version, cipher = agreed[0]
    assert line["tls"] == f"{version} {cipher}" + (f" sni={sni}" if sni else "")
    assert line["from"] == "<>"
    ended = wait_until(lambda: [one for one in lines(smtpd, "session ended") if one.get("tls") == line["tls"]])[-1]
    assert ended["messages"] == "1" and ended["helo"] == "x" and ended["code"] == "221"


def test_a_message_refused_at_its_end(system, box):
    spool = os.path.join(system.directory, "gone")
    os.mkdir(spool)
    with system.another_smtpd("127.0.0.1:0;message_size_max=2000", "127.0.0.1:0;bare_newline=reject", "127.0.0.1:0",
                              spool_dir=spool) as smtpd:
        os.rmdir(spool)
        for i, body, code in (0, b"x" * 900 + b"\r\n", 552), (1, b"x\ny\r\n", 550), (2, b"x" * 900 + b"\r\n", 451):
            source = messages.plain() + body * (1 if code == 550 else 3 if code == 552 else 1000)
            line = one_more(smtpd, "message not stored", lambda: deliver(smtpd.address(i), source, box["address"], mail_from=SENDER))
            assert line["from"] == hashlib.sha256(SENDER.lower().encode()).hexdigest()[:16]
            assert (line["code"], line["size"], line["recipients"]) == (str(code), str(len(source)), "1") and "id" not in line
        [line] = lines(smtpd, "no room for messages")
        assert (line["setting"], line["spool_dir"], line["error"]) == ("spool_dir", spool, "No such file or directory")
        counts = smtpd.metrics()
        assert [counts[f'minutemail_smtpd_messages_total{{outcome="{outcome}"}}'] for outcome in ("stored", "deferred", "refused")] == [0, 1, 2]


def test_a_session_without_a_message(smtpd):
    def talk():
        with Smtp(smtpd.address()) as wire:
            wire.greet()
            assert wire.say(b"AUTH PLAIN AGEAbm90LWZvci10aGUtbG9n")[0] == 502
            wire.say(b"QUIT")

    line = one_more(smtpd, "session ended", talk)
    assert (line["reason"], line["messages"], line["errors"], line["helo"]) == ("done", "0", "1", "client.example.org")
    assert "bm90LWZvci10aGUtbG9n" not in smtpd.log()


def test_why_a_mail_did_not_come(smtpd, box):
    """The last refusal's code, and nobody's name."""
    def talk():
        with Smtp(smtpd.address()) as wire:
            wire.greet()
            wire.say(b"MAIL FROM:<a@example.org>")
            for recipient in recipients:
                wire.say(b"RCPT TO:<" + recipient.encode() + b">")
            wire.say(b"QUIT")

    nobody = "no-such-mailbox@" + box["domain"]
    for recipients, refused, refusal in (([nobody, "x@foreign.example"], "2", "550 5.7.1"), ([nobody, box["address"]], "1", "550 5.1.1"),
                                         ([box["address"]], "0", None)):
        line = one_more(smtpd, "session ended", talk)
        assert (line["refused"], line.get("refusal"), line["code"]) == (refused, refusal, "221")
    assert "no-such-mailbox" not in smtpd.log() and "foreign.example" not in smtpd.log()


def test_what_the_operator_chose(system, box):
    """No address of a client, also where it is its HELO; the sender as it is."""
    with system.another_smtpd("127.0.0.1:0", log_client="no", log_sender="yes", log_level="debug") as smtpd:
        for helo in (b"[127.0.0.77]", b"127.0.0.77"):
            with Smtp(smtpd.address(), source="127.0.0.77") as wire:
                assert wire.reply()[0] == 220
                assert wire.say(b"EHLO " + helo)[0] == 250
                wire.start_data(box["address"], mail_from=SENDER)
                assert wire.say(messages.plain() + b".")[0] == 250
                wire.say(b"QUIT")
        wait_until(lambda: len(lines(smtpd, "session ended")) == 2)
        stored = lines(smtpd, "message stored")
        assert [line["from"] for line in stored] == [f"<{SENDER}>"] * 2
        assert all("helo" not in line and "client" not in line for line in stored)
        assert "127.0.0.77" not in smtpd.log()


def test_secrets_are_noticed(system):
    """The look at the end would find them: here they are in a text on purpose."""
    email = make_person(system)
    console = Console(system.api.address).sign_in(email, PASSWORD + "")
    text = f"key={system.api.key} cookie={console.cookie} csrf={console.csrf} password={PASSWORD!r}"
    found = secrets_in(text)
    assert {system.api.key, console.cookie.split("=", 1)[1], console.csrf, PASSWORD} <= set(found)
    assert not secrets_in("event=request status=200 key=" + system.api.key[-8:])
