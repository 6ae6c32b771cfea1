"""The letter of the dialogue where real segments, a real address and the database matter: chunks, smuggling split at every octet,
names in two forms, whose mail our own address takes."""

import ssl
import time

import pytest

import messages
from client import Smtp, deliver, items, wait_until

ALL_OCTETS = bytes(range(256)) * 4 + b"\r\n.\r\n\0\r\n.\r\nQUIT\r\n"

# Each is data in the middle of a message, and what the flag bare_newline is for.
SMUGGLES = {"LF.LF": b"\n.\n", "LF.CRLF": b"\n.\r\n", "CRLF.LF": b"\r\n.\n", "CR.CR": b"\r.\r", "CR.CRLF": b"\r.\r\n", "CRLF.CR": b"\r\n.\r",
            "CRLF.CRCRLF": b"\r\n.\r\r\n", "CRLF NUL .CRLF": b"\r\n\0.\r\n", "LF.CRCRLF": b"\n.\r\r\n"}
SECOND = b"MAIL FROM:<evil@b.example>\r\nRCPT TO:<%s>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n"


@pytest.fixture
def wire(system):
    with Smtp(system.smtp) as opened:
        opened.greet()
        yield opened


def envelope(wire, box, parameters=b""):
    assert wire.say(b"MAIL FROM:<a@b.example>" + parameters)[0] == 250
    assert wire.say(b"RCPT TO:<" + box["address"].encode() + b">")[0] == 250


def chunk(wire, octets, last=False):
    wire.send(b"BDAT %d%s\r\n" % (len(octets), b" LAST" if last else b"") + octets)
    return wire.reply()


def test_extensions(system):
    with Smtp(system.smtp) as wire:
        words = {line.split()[0]: line for line in wire.greet().split("\n")[1:]}
        assert {"PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "CHUNKING", "BINARYMIME", "LIMITS"} <= set(words)
        assert words["LIMITS"] == "LIMITS RCPTMAX=100"


def test_limits_are_those_enforced(system, box):
    """RFC 9422: the numbers are a promise."""
    with system.another_smtpd("127.0.0.1:0", messages_max="2", recipients_max="101") as smtpd, Smtp(smtpd.address(0)) as wire:
        assert "LIMITS RCPTMAX=101 MAILMAX=2" in wire.greet().split("\n")
        rcpt = b"RCPT TO:<" + box["address"].encode() + b">\r\n"
        wire.send(b"MAIL FROM:<a@b.example>\r\n" + rcpt * 101)
        assert [wire.reply()[0] for _ in range(102)] == [250] * 102
        code, text = wire.say(rcpt[:-2])
        assert (code, text[:5]) == (452, "4.5.3")
        assert wire.say(b"RSET")[0] == 250
        assert wire.say(b"MAIL FROM:<a@b.example>")[0] == 250
        assert wire.say(b"RSET")[0] == 250
        code, text = wire.say(b"MAIL FROM:<a@b.example>")
        assert (code, text[:5]) == (421, "4.7.0")
        assert wire.reply() is None


# ---- BDAT (RFC 3030) ----

def test_chunks_are_stored_octet_for_octet(api, box, wire):
    source = b"Subject: chunks\r\nContent-Transfer-Encoding: binary\r\nContent-Type: application/x\r\n\r\n" + ALL_OCTETS
    envelope(wire, box, b" BODY=BINARYMIME")
    for at in range(0, len(source), 100):
        code, text = chunk(wire, source[at:at + 100])
        assert (code, text) == (250, f"2.0.0 {len(source[at:at + 100])} octets received")
    assert chunk(wire, b"", last=True)[0] == 250
    assert api.source(api.only_mail(box)) == source


def test_chunks_by_octet_and_all_in_one_segment(api, box, wire):
    source = messages.plain("in one") + b".\r\nQUIT\r\n"
    wire.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<" + box["address"].encode() + b">\r\n")
    wire.send(b"".join(b"BDAT 1\r\n" + source[i:i + 1] for i in range(len(source))) + b"BDAT 0 LAST\r\nNOOP\r\n")
    answers = [wire.reply() for _ in range(len(source) + 4)]
    assert {code for code, _ in answers} == {250}
    assert answers[2][1] == "2.0.0 1 octets received" and "queued as" in answers[-2][1]
    assert api.source(api.only_mail(box)) == source


def test_a_failed_chunk_and_those_behind_it_are_taken(api, box, wire):
    """RFC 3030 2: the octets of refused chunks are never commands."""
    wire.send(b"MAIL FROM:<a@b.example>\r\nBDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")
    answers = [wire.reply() for _ in range(4)]
    assert [code for code, _ in answers] == [250, 554, 554, 250], answers
    envelope(wire, box)
    assert chunk(wire, messages.plain("after"), last=True)[0] == 250
    assert chunk(wire, b"QUIT\r\n", last=True)[0] == 503
    assert api.only_mail(box)["subject"] == "after"


@pytest.mark.parametrize("line, code, enhanced", [
    (b"BDAT -1", 521, "5.5.4"), (b"BDAT", 521, "5.5.4"), (b"BDAT x", 521, "5.5.4"), (b"BDAT 1 LASTX", 521, "5.5.4"),
    (b"BDAT 1 LAST x", 521, "5.5.4"), (b"BDAT 1LAST", 521, "5.5.4"), (b"BDAT 0x10", 521, "5.5.4"), (b"BDAT +1", 521, "5.5.4"),
    (b"BDAT 100000000000000000000", 521, "5.5.4"), (b"BDAT 2147483648", 552, "5.3.4"), (b"BDAT 4294967296 LAST", 552, "5.3.4"),
    (b"BDAT 9223372036854775808", 552, "5.3.4"), (b"BDAT 18446744073709551615", 552, "5.3.4"), (b"BDAT 18446744073709551616", 552, "5.3.4"),
])
def test_chunks_that_cannot_be_taken_end_the_session(box, wire, line, code, enhanced):
    envelope(wire, box)
    wire.send(line + b"\r\nQUIT\r\nMAIL FROM:<a@b.example>\r\n")
    got, text = wire.reply()
    assert (got, text[:5]) == (code, enhanced)
    assert wire.reply() is None


def test_a_chunk_over_size_is_taken_then_refused(system, api, box):
    with system.another_smtpd("127.0.0.1:0;message_size_max=100K") as smtpd, Smtp(smtpd.address(0)) as wire:
        wire.greet()
        envelope(wire, box)
        assert chunk(wire, b"x" * 100 * 1024)[0] == 250
        code, text = chunk(wire, b"QUIT\r\n" * 20000)
        assert (code, text[:5]) == (552, "5.3.4")
        assert chunk(wire, b"QUIT\r\n", last=True)[0] == 552
        envelope(wire, box)
        assert chunk(wire, messages.plain("smaller"), last=True)[0] == 250
    assert api.only_mail(box)["subject"] == "smaller"


# ---- smuggling ----

@pytest.mark.parametrize("name", SMUGGLES)
def test_smuggling_split_at_every_octet(system, api, box, name):
    tail = SMUGGLES[name] + SECOND % box["address"].encode()
    head = b"Subject: one\r\n\r\nbody"
    places = range(len(SMUGGLES[name]) + 1)
    for place in places:
        with Smtp(system.smtp) as wire:
            wire.greet()
            wire.start_data(box["address"])
            wire.send(head + tail[:place])
            time.sleep(0.02)  # so that the rest is a segment of its own
            wire.send(tail[place:] + b".\r\nNOOP\r\n")
            assert [wire.reply()[0] for _ in range(2)] == [250, 250]
    mails = wait_until(lambda: api.mails(box))
    assert [mail["subject"] for mail in mails] == ["one"] * len(places)
    assert all("bare_newline" in mail["warnings"] for mail in mails)
    # RFC 5321 4.5.2: only a line that CRLF began loses its leading dot.
    assert api.source(mails[0]) == (head + tail).replace(b"\r\n.", b"\r\n")


@pytest.mark.parametrize("name", SMUGGLES)
def test_smuggling_in_chunks(api, box, wire, name):
    source = b"Subject: one\r\n\r\nbody" + SMUGGLES[name] + SECOND % box["address"].encode() + b".\r\n"
    for place in range(len(source) - 1, 18, -17):
        envelope(wire, box)
        wire.send(b"BDAT %d\r\n" % place + source[:place] + b"BDAT %d LAST\r\n" % (len(source) - place) + source[place:])
        assert [wire.reply()[0] for _ in range(2)] == [250, 250]
    mails = api.mails(box)
    assert {mail["subject"] for mail in mails} == {"one"} and len(mails) > 5
    assert all("bare_newline" in mail["warnings"] for mail in mails)
    assert api.source(mails[0]) == source


def test_where_bare_newlines_are_refused(system, api, box):
    with system.another_smtpd("127.0.0.1:0;bare_newline=reject") as smtpd:
        with Smtp(smtpd.address(0)) as wire:
            wire.greet()
            wire.start_data(box["address"])
            wire.send(b"Subject: one\r\n\r\na\n.\nNOOP\r\n.\r\nNOOP\r\n")
            code, text = wire.reply()
            assert (code, text[:5]) == (550, "5.5.2")
            assert wire.reply() is None
        assert deliver(smtpd.address(0), messages.plain("clean"), box["address"])[0] == 250
    assert api.only_mail(box)["subject"] == "clean"


# ---- whose mail ----

def test_our_own_address_is_the_postmasters(wire):
    wire.say(b"MAIL FROM:<>")
    for rcpt, want in ((b"postmaster@[127.0.0.1]", "2.1.5"), (b"PostMaster@[127.0.0.1]", "2.1.5"), (b"u@[127.0.0.1]", "5.1.1"),
                       (b"postmaster@[192.0.2.1]", "5.7.1"), (b"postmaster@[IPv6:::1]", "5.7.1")):
        code, text = wire.say(b"RCPT TO:<" + rcpt + b">")
        assert text[:5] == want and code // 100 == int(want[0]), (rcpt, code, text)


def test_the_operator_reads_what_postmasters_get(system, api):
    """RFC 5321 4.5.1, RFC 2142: made with the domain, permanent, and in the operator's list."""
    found = api.get("/v1/mailboxes?address=postmaster@" + system.domain).json["items"]
    assert len(found) == 1 and found[0]["permanent"]
    before = len(api.mails(found[0]))
    rcpts = ["Postmaster", "postmaster@[127.0.0.1]", "POSTMASTER@" + system.domain, "abuse@" + system.domain]
    for rcpt in rcpts:
        assert deliver(system.smtp, messages.plain(rcpt), rcpt, mail_from="")[0] == 250
    mails = api.mails(found[0])
    assert [mail["subject"] for mail in mails[:len(mails) - before]] == rcpts[::-1]
    assert [mail["envelope"]["rcptTo"] for mail in mails[:2]] == ["abuse@" + system.domain, "POSTMASTER@" + system.domain]


def test_who_is_suspended_gets_no_mail(system, stranger, wire):
    """RFC 3463 X.2.1: for good while the account is, for now while its owner is. Mail that is there stays."""
    box = stranger.mailbox()
    owner, account = box["owner"], "stranger-" + box["owner"].split("-")[1].split("@")[0]
    assert deliver(system.smtp, messages.plain("before"), box["address"])[0] == 250
    wire.say(b"MAIL FROM:<a@b.example>")

    def rcpt():
        code, text = wire.say(b"RCPT TO:<" + box["address"].encode() + b">")
        return code, text[:5]

    system.ctl("user", "edit", owner, "--state", "suspended")
    try:
        assert rcpt() == (450, "4.2.1")
        system.ctl("account", "edit", account, "--state", "suspended")
        assert rcpt() == (550, "5.2.1")
    finally:
        system.ctl("account", "edit", account, "--state", "active")
        system.ctl("user", "edit", owner, "--state", "active")
    assert rcpt() == (250, "2.1.5")
    assert wait_until(lambda: stranger.mails(box))[0]["subject"] == "before"


def test_refused_networks(system):
    """RFC 5321 3.1: 554 instead of the banner, and then QUIT alone; inside TLS too."""
    with system.another_smtpd("127.0.0.1:0", "127.0.0.1:0;tls", client_refuse="127.0.0.9, 2001:db8::/32") as smtpd:
        with Smtp(smtpd.address()) as welcome:
            welcome.greet()
        with Smtp(smtpd.address(), source="127.0.0.9") as refused:
            code, text = refused.reply()
            assert (code, text[:5]) == (554, "5.7.1")
            assert refused.say(b"EHLO client.example.org")[0] == 503
            assert refused.say(b"MAIL FROM:<a@b.example>")[0] == 503
            assert refused.say(b"QUIT")[0] == 221
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with Smtp(smtpd.address(1), source="127.0.0.9") as refused, context.wrap_socket(refused.socket) as inside:
            assert inside.recv(100).startswith(b"554 5.7.1 ")
        assert smtpd.metrics()['minutemail_smtpd_refused_total{reason="client_refuse"}'] == 2


def test_where_bare_newlines_end_commands(system, api, box):
    """For listed clients alone, and in commands alone."""
    with system.another_smtpd("127.0.0.1:0", client_bare_newline="127.0.0.8/30") as smtpd:
        with Smtp(smtpd.address()) as other:
            other.greet()
            other.send(b"NOOP\n")
            assert other.reply()[0] == 500
        with Smtp(smtpd.address(), source="127.0.0.9") as listed:
            listed.greet()
            listed.send(b"NOOP\nMAIL FROM:<a@b.example>\nRCPT TO:<" + box["address"].encode() + b">\nDATA\n")
            assert [listed.reply()[0] for _ in range(4)] == [250, 250, 250, 354]
            listed.send(b"a: b\n\n.\nMAIL FROM:<evil@b.example>\n.\r\n\r\n.\r\nQUIT\n")
            assert [listed.reply()[0] for _ in range(2)] == [250, 221]
    assert api.source(api.only_mail(box)) == b"a: b\n\n.\nMAIL FROM:<evil@b.example>\n.\r\n\r\n"


def test_a_domain_in_two_forms_is_one(system, api, wire):
    """RFC 5890: made by its U-label, on the key by its A-label; the address is found by either."""
    stamp = f"x{time.time_ns()}"
    system.ctl("domain", "create", f"bücher-{stamp}.example")
    a_label = next(name for name in domain_names(system) if stamp in name)
    assert a_label.startswith("xn--")
    made = system.ctl("key", "create", "--name", "idn", "--user", f"operator@{system.domain}", "--domain", f"BÜCHER-{stamp}.example")
    client = type(api)(api.address, made["key"])
    box = client.mailbox(domain=f"bücher-{stamp}.example")
    assert box["domain"] == a_label
    wire.say(b"MAIL FROM:<a@b.example> SMTPUTF8")
    for domain in (a_label, a_label.upper(), f"bücher-{stamp}.example", f"BÜCHER-{stamp}.EXAMPLE", f"bu\u0308cher-{stamp}。example"):
        code, text = wire.say(f"RCPT TO:<{box['alias']}@{domain}>".encode())
        assert (code, text[:5]) == (250, "2.1.5"), (domain, text)
    code, text = wire.say("RCPT TO:<a@xn--0.example>".encode())
    assert (code, text[:5]) == (553, "5.1.3")
    code, text = wire.say("RCPT TO:<a@☃.example>".encode())
    assert (code, text[:5]) == (553, "5.1.3")


def test_a_domain_is_shown_by_its_u_label(system, api):
    """RFC 5890: the A-label is the key; people see the U-label unless it mixes scripts. The same of who sent a mail."""
    stamp = str(time.time_ns())
    system.ctl("domain", "create", f"ёлка-{stamp}.example")
    system.ctl("domain", "create", f"раypal-{stamp}.example")  # its first two letters are Cyrillic
    names = [name for name in domain_names(system) if stamp in name.encode().decode("idna")]
    made = system.ctl("key", "create", "--name", "idn", "--user", f"operator@{system.domain}", "--domain", ",".join(names))
    client = type(api)(api.address, made["key"])
    shown = {domain["name"]: domain["displayName"] for domain in items(client.get("/v1/domains"))}
    for name in names:
        box = client.mailbox(domain=name)
        show = name if "ypal" in name else f"ёлка-{stamp}.example"
        assert name.startswith("xn--") and shown[name] == show
        assert (box["domain"], box["displayDomain"]) == (name, show)
        assert (box["address"], box["displayAddress"]) == (f"{box['alias']}@{name}", f"{box['alias']}@{show}")
        source = b"From: <x@xn--bcher-kva.example>\r\n" + messages.plain("shown").split(b"\r\n", 1)[1]
        assert deliver(system.smtp, source, box["address"])[0] == 250
        mail = client.only_mail(box)
        assert (mail["sender"], mail["displaySender"]) == ("x@xn--bcher-kva.example", "x@bücher.example")
        assert items(client.get(f"/v1/mailboxes/{box['id']}/mails?fields=displaySender")) == [{"displaySender": "x@bücher.example"}]


def domain_names(system):
    return [domain["name"] for domain in system.ctl("domain", "list")["items"]]


# ---- trace ----

@pytest.mark.parametrize("count, code", [(100, 250), (101, 554)])
def test_hops(system, box, count, code):
    """RFC 5321 6.3: a hundred at least are let pass."""
    source = b"Received: from x by y; Tue, 24 Nov 2026 12:00:00 +0000\r\n" * count + messages.plain()
    answer, text = deliver(system.smtp, source, box["address"])
    assert answer == code and (code == 250 or text[:5] == "5.4.6"), text


def test_mail_that_comes_round(system, api, box):
    """RFC 5321 6.3: what a forwarder brings back, with the fields that we gave it, is taken twice more and then refused. Others' is not."""
    source = messages.plain("round")
    for code in (250, 250, 250, 554):
        answer, text = deliver(system.smtp, source, box["address"].replace("@", f"+{code}@"))
        assert answer == code and (code == 250 or text[:5] == "5.4.6"), text
        relayed = b"Received: from x by relay.example; Tue, 24 Nov 2026 12:00:00 +0000\r\n"
        source = relayed + api.raw(api.mails(box)[0])
    assert len(api.mails(box)) == 3
    assert deliver(system.smtp, source, api.mailbox()["address"])[0] == 250


def test_large_mail_that_comes_round(system, api, box):
    """The fields of a message that is in a file by then."""
    head = b"Received: from x by %s for <%s>; Tue, 24 Nov 2026 12:00:00 +0000\r\n" % (system.domain.encode(), box["address"].encode())
    body = (b"x" * 78 + b"\r\n") * 8000
    assert deliver(system.smtp, head * 2 + b"Subject: large\r\n\r\n" + body, box["address"])[0] == 250
    assert deliver(system.smtp, head * 3 + b"Subject: large\r\n\r\n" + body, box["address"])[0] == 554


def test_a_name_cannot_forge_a_trace_field(system, api, box):
    name = b"x;(by)=evil<b>\"c\\d,e f"
    with Smtp(system.smtp) as wire:
        wire.reply()
        assert wire.say(b"EHLO " + name)[0] == 250
        envelope(wire, box)
        assert wire.say(b"DATA")[0] == 354
        wire.send(messages.plain("forged") + b".\r\n")
        code, text = wire.reply()
        assert code == 250
    queue_id = text.split()[-1].encode()
    raw = api.raw(api.only_mail(box))
    fields = raw[:raw.index(b"\r\nFrom: ")].replace(b"\r\n\t", b" ").split(b"\r\n")
    fields = [f for f in fields if not f.startswith(b"Authentication-Results: ")]  # there as soon as they are known
    assert fields[0] == b"Return-Path: <a@b.example>" and len(fields) == 2
    assert fields[1].startswith(b"Received: from x??by??evil?b??c?d?e by " + system.domain.encode() + b" with ESMTP id " + queue_id)
    assert b" for <" + box["address"].encode() + b">;" in fields[1]
