"""The whole path: a mailbox is made, mail is sent to it by real clients, and it is read back in every form."""

import base64
import email
import email.policy
import hashlib
import re
import socket
import subprocess
import time

import pytest

import messages
from client import check_problem, deliver, items, smtplib_session, wait_until

pytestmark = pytest.mark.usefixtures("system")


def test_smtplib_one_message(system, api, box):
    text = email.message.EmailMessage()
    text["From"], text["To"], text["Subject"] = "Me <me@example.org>", box["address"], "Hello"
    text.set_content("It works.\n")
    with smtplib_session(system.smtp) as smtp:
        assert smtp.send_message(text, "me@example.org", box["address"]) == {}
    mail = api.only_mail(box)
    assert mail["mailboxId"] == box["id"]
    assert (mail["sender"], mail["from"], mail["fromName"], mail["subject"]) == ("me@example.org", "me@example.org", "Me", "Hello")
    assert mail["to"] == [box["address"]]
    assert mail["body"].replace("\r\n", "\n").rstrip("\n") == "It works."
    assert mail["envelope"]["mailFrom"] == "me@example.org"
    assert mail["envelope"]["rcptTo"] == box["address"]
    assert mail["envelope"]["helo"] == "client.example.org"
    assert not mail["hasAttachments"] and mail["attachments"] == []
    assert api.get(f"/v1/mailboxes/{box['id']}").json["messageCount"] == 1


def test_swaks(system, api, box, tmp_path):
    attachment = tmp_path / "data.bin"
    attachment.write_bytes(bytes(range(256)))
    done = subprocess.run(["swaks", "--server", system.smtp, "--from", "me@example.org", "--to", box["address"], "--helo",
                           "swaks.example.org", "--header", "Subject: From swaks", "--body", "Sent by swaks.", "--attach",
                           "@" + str(attachment)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    mail = api.only_mail(box)
    assert mail["subject"] == "From swaks" and "Sent by swaks." in mail["bodyText"]
    found, = mail["attachments"]
    one = api.get(f"/v1/mailboxes/{box['id']}/mails/{mail['id']}/attachments/{found['id']}").json
    assert base64.b64decode(one["data"], validate=True) == bytes(range(256))


def test_curl(system, api, box, tmp_path):
    source = messages.plain("From curl", b"One line\r\n..two dots\r\n.\r\nafter a lonely dot\r\n")
    (tmp_path / "mail.eml").write_bytes(source)
    done = subprocess.run(["curl", "-sS", f"smtp://{system.smtp}", "--mail-from", "me@example.org", "--mail-rcpt", box["address"],
                           "-T", str(tmp_path / "mail.eml")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    mail = api.only_mail(box)
    assert mail["subject"] == "From curl"
    assert api.source(mail) == source


@pytest.fixture(scope="module")
def newsletter(system):
    """Sent once, read by many tests."""
    box = system.api.mailbox()
    source = messages.newsletter()
    code, text = deliver(system.smtp, source, box["address"], "billing@example.org")
    assert code == 250, text
    wait_until(lambda: system.api.only_mail(box)["authentication"])  # then it changes no more
    return box, system.api.only_mail(box), source


@pytest.mark.contract("6 UTF-8", "6 recipients", "6 bodyText")
def test_newsletter_headers_and_bodies(newsletter):
    _, mail, source = newsletter
    assert mail["subject"] == messages.SUBJECT
    assert (mail["from"], mail["fromName"]) == ("billing@example.org", "Служба счетов")
    assert mail["to"] == ["ivan@example.org", "second@example.org"]
    assert mail["cc"] == ["third@example.org"] and mail["replyTo"] == ["answers@example.org"]
    assert mail["bodyText"].replace("\r\n", "\n").rstrip("\n") == messages.TEXT.rstrip("\n")
    assert mail["bodyHtml"].replace("\r\n", "\n").rstrip("\n") == messages.HTML.rstrip("\n")
    assert mail["body"] == mail["bodyText"]
    assert mail["sizeBytes"] == len(source)
    assert mail["hasAttachments"] is True
    assert mail["warnings"] == []


@pytest.mark.contract("6 raw")
def test_newsletter_source_is_exact(system, newsletter):
    _, mail, source = newsletter
    assert hashlib.sha256(system.api.source(mail)).hexdigest() == hashlib.sha256(source).hexdigest()
    answer = system.api.get(f"/v1/mailboxes/{mail['mailboxId']}/mails/{mail['id']}/raw")
    assert answer.headers["Content-Type"].startswith("message/rfc822")
    assert int(answer.headers["Content-Length"]) == len(answer.body)


@pytest.mark.contract("6 attachments", "7 download")
def test_newsletter_attachments_in_every_form(system, newsletter):
    box, mail, _ = newsletter
    by_name = {one["filename"]: one for one in mail["attachments"]}
    assert set(by_name) == {"logo.png", messages.ATTACHMENT_NAME}
    logo, report = by_name["logo.png"], by_name[messages.ATTACHMENT_NAME]
    assert (logo["contentType"], logo["inline"], logo["contentId"]) == ("image/png", True, "logo@example.org")
    assert (report["contentType"], report["inline"], report["contentId"]) == ("application/pdf", False, None)
    for one, octets in ((logo, messages.IMAGE), (report, messages.ATTACHMENT)):
        assert one["sizeBytes"] == len(octets)
        path = f"/v1/mailboxes/{box['id']}/mails/{mail['id']}/attachments/{one['id']}"
        as_json = system.api.get(path)
        assert as_json.status == 200
        assert base64.b64decode(as_json.json["data"], validate=True) == octets
        assert as_json.json["filename"] == one["filename"]
        assert system.api.get(path + "?download=1").body == octets
        download = system.api.get(path, headers={"Accept": "application/octet-stream"})
        assert download.body == octets
        assert int(download.headers["Content-Length"]) == len(octets)


def test_newsletter_agrees_with_an_independent_parser(system, newsletter):
    """Python's own e-mail package must read the same out of what /raw gives."""
    _, mail, _ = newsletter
    parsed = email.message_from_bytes(system.api.raw(mail), policy=email.policy.default)
    assert parsed["Subject"] == mail["subject"]
    names = {part.get_filename(): part.get_payload(decode=True) for part in parsed.walk() if part.get_filename()}
    assert names == {"logo.png": messages.IMAGE, messages.ATTACHMENT_NAME: messages.ATTACHMENT}


@pytest.mark.contract("6 headers")
def test_newsletter_header_list(system, newsletter):
    box, mail, source = newsletter
    fields = items(system.api.get(f"/v1/mailboxes/{box['id']}/mails/{mail['id']}/headers"))
    names = [field["name"] for field in fields]
    assert names[:3] == ["Return-Path", "Authentication-Results", "Received"]
    assert names[3:] == ["From", "To", "Cc", "Reply-To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type"]
    subject = fields[names.index("Subject")]
    assert subject["value"] == messages.SUBJECT
    assert "=?UTF-8?B?" in subject["raw"]


@pytest.mark.contract("6 list")
def test_single_mail_has_the_members_of_the_list(system, newsletter):
    box, mail, _ = newsletter
    assert system.api.get(f"/v1/mailboxes/{box['id']}/mails/{mail['id']}").json == mail


@pytest.mark.contract("6 raw")
def test_trace_fields(system, api, box):
    assert deliver(system.smtp, messages.plain(), box["address"], "who@example.org")[0] == 250
    head = api.raw(api.settled_mail(box)).split(b"\r\n\r\n")[0].decode()
    assert head.startswith("Return-Path: <who@example.org>\r\n")
    received = re.sub(r"\r\n[ \t]+", " ", head).split("\r\n")[2]
    assert re.match(r"Received: from client\.example\.org .*by \S+ with ESMTP id \S+ for <" + re.escape(box["address"]) + ">; ",
                    received), received
    assert "127.0.0.1" not in head  # no client address is stored


@pytest.mark.parametrize("blank", [b" ", b"\t"])
def test_no_message_goes_on_with_our_trace(system, api, box, blank):
    source = blank + b"by forged.example with ESMTPSA id 1\r\nSubject: x\r\n\r\nbody\r\n"
    deliver(system.smtp, source, box["address"])
    mail = api.only_mail(box)
    assert mail["warnings"] == ["no_headers"] and mail["bodyText"] == source.decode()
    raw = api.raw(mail)
    assert raw.endswith(b" +0000\r\n\r\n" + source), raw
    assert email.message_from_bytes(raw).get_payload().startswith(blank.decode() + "by forged")


def test_two_recipients_have_their_own_copies_and_no_for_clause(system, api):
    first, second = api.mailbox(), api.mailbox()
    assert deliver(system.smtp, messages.plain(), [first["address"], second["address"]])[0] == 250
    for box in (first, second):
        mail = api.only_mail(box)
        assert mail["envelope"]["rcptTo"] == box["address"]
        assert b" for <" not in api.raw(mail).split(b"\r\n\r\n")[0]  # RFC 5321 7.2: would tell of the other


def test_same_recipient_twice_is_one_copy(system, api, box):
    assert deliver(system.smtp, messages.plain(), [box["address"], box["address"].upper()])[0] == 250
    api.only_mail(box)


def test_null_sender(system, api, box):
    assert deliver(system.smtp, messages.plain(), box["address"], "")[0] == 250
    mail = api.only_mail(box)
    assert mail["envelope"]["mailFrom"] == ""
    assert api.raw(mail).startswith(b"Return-Path: <>\r\n")


@pytest.mark.contract("5 alias detail", "5 alias")
@pytest.mark.parametrize("form", ["{alias}+news@{domain}", "{ALIAS}@{DOMAIN}", "{Alias}+A+b@{domain}", '"{alias}"@{domain}',
                                  "@relay.example,@other.example:{alias}@{domain}"])
def test_recipient_forms_of_one_mailbox(system, api, box, form):
    """RFC 5321 4.1.2 (quoting), appendix C (source routes); detail and case are ours."""
    alias, domain = box["alias"], box["domain"]
    rcpt = form.format(alias=alias, ALIAS=alias.upper(), Alias=alias.capitalize(), domain=domain, DOMAIN=domain.upper())
    assert deliver(system.smtp, messages.plain(), rcpt)[0] == 250
    api.only_mail(box)


def test_unknown_recipient_and_foreign_domain(system, box):
    with smtplib_session(system.smtp) as smtp:
        smtp.ehlo()
        smtp.mail("me@example.org")
        code, text = smtp.rcpt("nobody-here-at-all@" + box["domain"])
        assert (code, text[:5]) == (550, b"5.1.1")
        code, text = smtp.rcpt("someone@not-ours.example")
        assert (code, text[:5]) == (550, b"5.7.1")
        assert smtp.rcpt(box["address"])[0] == 250


def test_many_messages_on_one_connection(system, api, box):
    with smtplib_session(system.smtp) as smtp:
        for i in range(40):
            smtp.sendmail("me@example.org", [box["address"]], messages.plain(f"Number {i}"))
    subjects = [mail["subject"] for mail in api.mails(box)]
    assert subjects == [f"Number {i}" for i in reversed(range(40))]


@pytest.mark.contract("5 expired")
def test_expiry_at_its_instant(system, api):
    """SMTP and API change their answer at the same moment, with no job in between."""
    box = api.mailbox()
    assert deliver(system.smtp, messages.plain(), box["address"])[0] == 250
    mail = api.only_mail(box)
    path = f"/v1/mailboxes/{box['id']}"
    system.expire(box, 5)
    ends = system.sql("select extract(epoch from expires_at)::float8 from mailboxes where id = %s", box["id"])[0][0]
    assert api.get(path).status == 200
    with smtplib_session(system.smtp) as smtp:
        smtp.ehlo()
        smtp.mail("me@example.org")
        assert smtp.rcpt(box["address"])[0] == 250
        smtp.rset()
        while time.time() < ends:
            time.sleep(max(0, ends - time.time()))
        smtp.mail("me@example.org")
        code, text = smtp.rcpt(box["address"])
        assert (code, text[:5]) == (550, b"5.1.1")
    for gone in (path, path + "/mails", f"{path}/mails/{mail['id']}", f"{path}/mails/{mail['id']}/raw",
                 f"{path}/mails/{mail['id']}/headers", f"{path}/mails/{mail['id']}/attachments"):
        check_problem(api.get(gone), 404, "not_found")
    assert items(api.get("/v1/mailboxes?address=" + box["address"])) == []


@pytest.mark.contract("5 expired mails")
def test_expired_address_can_be_taken_again_without_the_old_mail(system, api):
    box = api.mailbox()
    assert deliver(system.smtp, messages.plain(), box["address"])[0] == 250
    system.expire(box, -1)
    again = api.mailbox(alias=box["alias"])
    assert again["id"] != box["id"] and again["address"] == box["address"]
    assert api.mails(again) == []
    assert deliver(system.smtp, messages.plain("new"), box["address"])[0] == 250
    assert api.only_mail(again)["subject"] == "new"


def test_smtputf8_sender_and_subject(system, api, box):
    with smtplib_session(system.smtp) as smtp:
        smtp.ehlo()
        assert smtp.has_extn("smtputf8") and smtp.has_extn("8bitmime") and smtp.has_extn("pipelining") and smtp.has_extn("size")
        smtp.command_encoding = "utf-8"
        assert smtp.mail("отправитель@пример.example", ["SMTPUTF8"])[0] == 250
        assert smtp.rcpt(box["address"])[0] == 250
        code, text = smtp.data(messages.plain("Тема без кодирования"))
        assert code == 250, text
    mail = api.only_mail(box)
    assert mail["subject"] == "Тема без кодирования"
    assert mail["envelope"]["mailFrom"].startswith("отправитель@")
    assert b" with UTF8SMTP " in api.raw(mail)


def test_message_over_the_limit(system, api, box):
    """RFC 1870: told at MAIL with SIZE, told at the end without."""
    with smtplib_session(system.smtp) as smtp:
        smtp.ehlo()
        limit = int(smtp.esmtp_features["size"])
        code, text = smtp.mail("me@example.org", [f"size={limit + 1}"])
        assert (code, text[:5]) == (552, b"5.3.4")
        smtp.mail("me@example.org")
        smtp.rcpt(box["address"])
        assert smtp.docmd("data")[0] == 354
        smtp.send(messages.plain(body=b"x" * 998 + b"\r\n") + (b"y" * 998 + b"\r\n") * (limit // 1000 + 1) + b".\r\n")
        code, text = smtp.getreply()
        assert (code, text[:5]) == (552, b"5.3.4")
        smtp.sendmail("me@example.org", [box["address"]], messages.plain("small"))
    assert api.only_mail(box)["subject"] == "small"


def test_large_message_spooled_to_disk(system, api, box):
    source = messages.with_attachments(("big.bin", "application/octet-stream", bytes(12_000_000)))
    assert deliver(system.smtp, source, box["address"])[0] == 250
    mail = api.only_mail(box)
    assert hashlib.sha256(api.source(mail)).digest() == hashlib.sha256(source).digest()
    one, = mail["attachments"]
    assert one["sizeBytes"] == 12_000_000


def test_metrics_count_the_mail(system, api, box):
    """The metrics listener is a Unix socket beside the database's."""
    where = system.sockets

    def stored():
        with socket.socket(socket.AF_UNIX) as wire:
            wire.settimeout(10)
            wire.connect(where + "/smtpd-metrics")
            wire.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            text = b""
            while chunk := wire.recv(65536):
                text += chunk
        return int(re.search(rb'^minutemail_smtpd_messages_total\{outcome="stored"\} (\d+)', text, re.M).group(1))

    before = stored()
    assert deliver(system.smtp, messages.plain(), box["address"])[0] == 250
    wait_until(lambda: stored() == before + 1, 5)
