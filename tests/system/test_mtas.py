"""Mail from the programs that send it elsewhere: three mail servers and five clients, all over STARTTLS with our certificate checked.
What they were given comes back byte for byte, after what they are known to add."""

import base64
import json
import os
import re
import shutil
import smtplib
import ssl
import subprocess

import pytest

import mtas
import packages
from client import dot_stuffed, wait_until
from messages import plain, with_attachments

HELO = "client.example.org"
SENDER = "sender@example.org"
UTF8_SENDER = "отправитель@example.org"


def head(subject, extra=b""):
    return plain(subject, b"", extra)


def mime(subject, entity):
    """A message of this entity: its fields, all MIME's, go among the others."""
    fields, _, body = entity.partition(b"\r\n\r\n")
    return plain(subject, body, b"MIME-Version: 1.0\r\n" + fields + b"\r\n")


UTF8_FIELDS = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
NESTED = (b"Content-Type: multipart/mixed; boundary=a\r\n\r\nPreamble.\r\n"
          b"--a\r\nContent-Type: message/rfc822\r\n\r\nFrom: inner@example.org\r\nSubject: inner\r\nMIME-Version: 1.0\r\n"
          b"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>html\r\n--b--\r\n"
          b"\r\n--a\r\nContent-Type: multipart/digest; boundary=c\r\n\r\n--c\r\n\r\nSubject: first\r\n\r\n1\r\n--c--\r\n--a--\r\nEpilogue.\r\n")
FILE = with_attachments(("report.bin", "application/octet-stream", bytes(range(256)) * 4096)).partition(b"MIME-Version: 1.0\r\n")[2]
ODD_FIELDS = (b"Subject: two\r\nx-lower:no blank\r\nX-Empty:\r\nX-Blank:  \t \r\nX-Folded: a\r\n\tb\r\n  c\r\nX-Long: " + b"word " * 180 +
              b"\r\nX_{|}~!#$%&'*+: odd name\r\nReceived: by nobody; Tue, 24 Nov 2026 11:00:00 +0000\r\n"
              b"DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s=x; h=from; bh=AAAA; b=AAAA\r\n")

# All have a Date and a Message-ID, or some senders would add them.
SOURCES = {
    "plain": plain(),
    "long lines": plain("long lines", b"".join(bytes([65 + i]) * 998 + b"\r\n" for i in range(5))),
    "8-bit body": head("8-bit body", UTF8_FIELDS) + "Здравствуйте, это тело письма: ✓ 日本語 😀\r\n".encode() * 20,
    "octets of no charset": plain("octets", bytes(range(160, 256)) + b"\r\n"),
    "UTF-8 header": head("Тема письма как она есть ✓", UTF8_FIELDS) + "Тело\r\n".encode(),
    "dots": plain("dots", b".\r\n..\r\n.x\r\n\r\n.\r\n...\r\n x.\r\n.\r\n"),
    "empty body": plain("empty body", b""),
    "no end of line": plain("no end of line", b"first\r\nlast"),
    "blank lines": plain("blank lines", b"\r\n\r\n \r\n\t\r\ntext  \r\n\t text\t\r\n\r\n\r\n"),
    "attachment": mime("attachment", FILE),
    "nested": mime("nested", NESTED),
    "two recipients": plain("two recipients"),
    "null sender": plain("Undelivered mail", extra=b"Auto-Submitted: auto-replied\r\n"),
    "odd fields": plain("one", b"x\r\n", ODD_FIELDS),
}


class Message:
    """One to send: its octets, its envelope, and the mailboxes made for it. `utf8`: whether its sender's address may need SMTPUTF8."""

    def __init__(self, api, name, utf8):
        self.name, self.source = name, SOURCES[name]
        self.boxes = [api.mailbox() for _ in range(2 if name == "two recipients" else 1)]
        self.to = [box["address"] for box in self.boxes]
        self.utf8 = utf8 and name == "UTF-8 header"
        self.sender = UTF8_SENDER if self.utf8 else "" if name == "null sender" else SENDER
        self.ended = self.source if self.source.endswith(b"\r\n") else self.source + b"\r\n"  # DATA cannot say otherwise


class Server:
    """An smtpd with the certificate that it made for itself, which is fetched to be believed by name."""

    def __init__(self, system, smtpd, directory):
        self.smtpd = smtpd
        self.host, self.port = system.domain, smtpd.ports[0]
        self.ca = os.path.join(directory, "ca.pem")
        with smtplib.SMTP("127.0.0.1", self.port, timeout=60) as s:
            s.starttls(context=ssl._create_unverified_context())
            with open(self.ca, "w") as file:
                file.write(ssl.DER_cert_to_PEM_cert(s.sock.getpeercert(True)))


@pytest.fixture(scope="module")
def server(system, tmp_path_factory):
    with system.another_smtpd("127.0.0.1:0") as smtpd:
        yield Server(system, smtpd, tmp_path_factory.mktemp("server"))


def messages(api, utf8):
    return [Message(api, name, utf8) for name in SOURCES]


def run(words, octets=b"", **environment):
    done = subprocess.run(words, input=octets, env=dict(os.environ, **environment), capture_output=True, timeout=60)
    assert done.returncode == 0, (words, done.stdout[-2000:], done.stderr[-2000:])
    return done


def by_smtplib(server, given, directory):
    context = ssl.create_default_context(cafile=server.ca)
    with smtplib.SMTP("127.0.0.1", server.port, local_hostname=HELO, timeout=60) as s:
        s._host = server.host  # what the certificate is checked for
        s.starttls(context=context)
        for message in given:
            options = ["BODY=8BITMIME"] + ["SMTPUTF8"] * message.utf8
            s.sendmail(message.sender, message.to, message.source, options)


def by_curl(server, given, directory):
    for message in given:
        words = ["curl", "-sS", f"smtp://{server.host}:{server.port}/{HELO}", "--resolve", f"{server.host}:{server.port}:127.0.0.1",
                 "--ssl-reqd", "--cacert", server.ca, "--mail-from", message.sender or "<>", "-T", "-"]
        for address in message.to:
            words += ["--mail-rcpt", address]
        run(words, message.source, LC_ALL="C.UTF-8")


def by_swaks(server, given, directory):
    with open(shutil.which("swaks")) as program:  # before 20240103 it checked no name
        named = ["--tls-verify-target", server.host] if "tls-verify-target" in program.read() else []
    for message in given:
        file = os.path.join(directory, "data")
        with open(file, "wb") as f:
            f.write(dot_stuffed(message.ended) + b".\r\n")
        run(["swaks", "--server", f"127.0.0.1:{server.port}", "--helo", HELO, "--from", message.sender or "<>", "--to", ",".join(message.to),
             "--tls", "--tls-verify", "--tls-ca-path", server.ca, "--tls-sni", server.host, *named, "--data", "@" + file,
             "--no-data-fixup"])


def by_msmtp(server, given, directory):
    configuration = os.path.join(directory, "msmtprc")
    with open(configuration, "w") as f:
        f.write(f"account default\nhost 127.0.0.1\nport {server.port}\ndomain {HELO}\ntls on\ntls_starttls on\ntls_trust_file {server.ca}\n"
                f"tls_host_override {server.host}\nset_from_header off\nset_date_header off\nset_msgid_header off\nremove_bcc_headers off\n")
    for message in given:
        run(["msmtp", "-C", configuration, "-f", message.sender, "--", *message.to], message.source)


def by_nodemailer(server, given, directory):
    with open(server.ca) as f:
        task = {"host": server.host, "port": server.port, "name": HELO, "ca": f.read(), "messages": [
            {"from": message.sender, "to": message.to, "source": base64.b64encode(message.source).decode()} for message in given]}
    done = run(["node", str(packages.ROOT / "tests/support/nodemailer.js")], json.dumps(task).encode(), NODE_PATH="/usr/share/nodejs")
    assert int(done.stdout) == len(given)


def first_difference(a, b):
    at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    return a[max(0, at - 40):at + 40], b[max(0, at - 40):at + 40]


def check(api, message, helo, added=lambda front: not front, free=False):
    """Every mailbox has it, whole, and its envelope; added() judges what stands before its octets. `free`: to ask for SMTPUTF8 unneeded."""
    for box in message.boxes:
        mail, = wait_until(lambda: [mail for mail in api.mails(box) if mail["authentication"]], 60)  # told a moment after
        source = api.source(mail)
        at = len(source) - len(message.ended)
        assert source.endswith(message.ended), (message.name, first_difference(source[at:], message.ended))
        assert added(source[:at]), (message.name, source[:at])
        envelope = mail["envelope"]
        assert (envelope["mailFrom"], envelope["helo"], mail["from"]) == (message.sender, helo, SENDER), (message.name, mail)
        assert re.match(r"TLSv1\.[23] \S+", envelope["tls"]), envelope
        trace = re.sub(r"\r\n[ \t]+", " ", api.raw(mail)[:3000].decode(errors="replace"))
        return_path, results, received = trace.split("\r\n")[:3]
        assert return_path == f"Return-Path: <{message.sender}>" and results.startswith("Authentication-Results: ")
        word = "UTF8SMTPS" if message.utf8 else "ESMTPS"
        assert re.match(f"Received: from {re.escape(helo)} .* with {'(UTF8SMTPS|ESMTPS)' if free else word} ", received), received


@pytest.mark.parametrize("send, utf8", [(by_smtplib, True), (by_curl, True), (by_nodemailer, True), (by_swaks, False), (by_msmtp, False)],
                         ids=["smtplib", "curl", "nodemailer", "swaks", "msmtp"])
def test_client(api, server, tmp_path, send, utf8):
    given = messages(api, utf8)
    send(server, given, tmp_path)
    for message in given:
        check(api, message, HELO, free=send is by_msmtp)  # it asks for SMTPUTF8 wherever that is offered, from 1.8.28 on


def replies_354(server):
    return server.smtpd.metrics()['minutemail_smtpd_replies_total{code="354"}']


@pytest.mark.slow
@pytest.mark.parametrize("kind", [mtas.Postfix, mtas.Exim, mtas.OpenSMTPD])
def test_mail_server(api, server, kind):
    before = replies_354(server)
    try:
        with kind(server.host, server.port, server.ca) as relay:
            with smtplib.SMTP("127.0.0.1", relay.port, local_hostname=HELO, timeout=60) as s:
                s.ehlo()
                given = messages(api, s.has_extn("smtputf8"))
                for message in given:
                    s.sendmail(message.sender, message.to, message.source, ["BODY=8BITMIME"] + ["SMTPUTF8"] * message.utf8)
            for message in given:
                check(api, message, relay.name, relay.added)
            assert re.search(relay.verified, relay.log()), relay.log()
    except mtas.Missing as why:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"{kind.__name__}: {why}")
    assert replies_354(server) - before == (0 if kind.chunks else len(given))
