"""SPF, DKIM, DMARC and block lists as the API shows them, on an smtpd whose DNS is a zone file. Messages are signed by python3-dkim."""

import contextlib
import socket

import pytest

from client import Smtp, deliver, end_of_field, wait_until
from nameserver import NameServer
from signer import ed25519_key, rsa_key, sign, zone_line

RSA_KEY, RSA_RECORD = rsa_key()
SHORT_KEY, SHORT_RECORD = rsa_key(1024)
ED_KEY, ED_RECORD = ed25519_key()

ZONE = (
    zone_line("good.example", "v=spf1 ip4:127.0.0.0/8 -all exp=why.good.example")
    + zone_line("bad.example", "v=spf1 -all")
    + zone_line("soft.example", "v=spf1 ~all")
    + zone_line("broken.example", "v=spf1 nonsense")
    + "silent.example TIMEOUT\n"
    + "failing.example SERVFAIL\n"
    + zone_line("_dmarc.good.example", "v=DMARC1; p=reject")
    + zone_line("_dmarc.bad.example", "v=DMARC1; p=reject; sp=quarantine")
    + zone_line("_dmarc.soft.example", "v=DMARC1; p=none")
    + zone_line("rsa._domainkey.good.example", RSA_RECORD)
    + zone_line("short._domainkey.good.example", SHORT_RECORD)
    + zone_line("ed._domainkey.good.example", ED_RECORD)
    + "nomail.example MX 0 .\n"
    + "1.0.0.127.in-addr.arpa PTR client.good.example\n"
    + "client.good.example A 127.0.0.1\n"
    + "2.0.0.127.bl.example A 127.0.0.2\n"
    + "1.0.0.127.bl.example A 127.0.0.4\n"
    + "1.0.0.127.errors.example A 127.255.255.254\n"
)


def message(sender="a@good.example", extra="", body="Hello.\r\n"):
    return (f"{extra}From: A <{sender}>\r\nTo: b@example.org\r\nSubject: one two\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n"
            f"Message-ID: <1@{sender}>\r\n\r\n{body}").encode()


@pytest.fixture(scope="module")
def zone_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("zone") / "zone"
    path.write_text(ZONE)
    for directory in (path, *path.parents[:3]):
        directory.chmod(0o755)
    return str(path)


@pytest.fixture(scope="module")
def checked(system, zone_file):
    with system.another_smtpd("127.0.0.1:0", dns_zone_file=zone_file, authserv_id="mx.test.example",
                              dnsbl_zones="bl.example errors.example") as smtpd:
        yield smtpd


def authenticated(api, box):
    """The one mail of the box, once its authentication is known."""
    return wait_until(lambda: next((mail for mail in api.mails(box) if mail["authentication"]), None))


def take(checked, api, octets, mail_from="a@good.example"):
    box = api.mailbox()
    assert deliver(checked.address(), octets, box["address"], mail_from=mail_from)[0] == 250
    return authenticated(api, box)


@pytest.mark.parametrize("mail_from, result", [
    ("a@good.example", "pass"), ("a@bad.example", "fail"), ("a@soft.example", "softfail"), ("a@broken.example", "permerror"),
    ("a@failing.example", "temperror"), ("a@unknown.example", "none"),
])
def test_spf(checked, api, mail_from, result):
    spf = take(checked, api, message(), mail_from)["authentication"]["spf"]
    assert (spf["result"], spf["domain"], spf["identity"]) == (result, mail_from.partition("@")[2], "mailfrom")


def test_null_sender_is_checked_by_helo(checked, api):
    spf = take(checked, api, message(), "")["authentication"]["spf"]
    assert (spf["identity"], spf["domain"], spf["result"]) == ("helo", "client.example.org", "none")


@pytest.mark.parametrize("key, selector, algorithm, bits", [
    (RSA_KEY, "rsa", b"rsa-sha256", 2048), (SHORT_KEY, "short", b"rsa-sha256", 1024), (ED_KEY, "ed", b"ed25519-sha256", 256),
])
def test_signed_mail_passes_everything(checked, api, key, selector, algorithm, bits):
    mail = take(checked, api, sign(message(), key, "good.example", selector, algorithm), "bounce@unknown.example")
    found = mail["authentication"]
    signature = found["dkim"][0]
    assert len(found["dkim"]) == 1
    assert (signature["result"], signature["domain"], signature["selector"]) == ("pass", "good.example", selector)
    assert (signature["algorithm"], signature["keyBits"], signature["reason"]) == (algorithm.decode(), bits, None)
    assert (found["dmarc"]["result"], found["dmarc"]["policy"], found["dmarc"]["domain"]) == ("pass", "reject", "good.example")
    assert found["dmarc"]["dkimAligned"] and not found["dmarc"]["spfAligned"]
    assert found["iprev"] == {"result": "pass"}
    assert mail["warnings"] == []


def test_large_message_is_hashed_from_its_file(checked, api):
    body = "".join(f"line {i}\r\n" for i in range(60000))
    found = take(checked, api, sign(message(body=body), RSA_KEY, "good.example", "rsa"))["authentication"]
    assert found["dkim"][0]["result"] == "pass"


@pytest.mark.parametrize("change, reason", [
    ((b"Hello.", b"Hallo."), "body was changed"), ((b"one two", b"one three"), "signature does not verify"),
    ((b"s=rsa", b"s=nobody"), "no key"), ((b"d=good.example", b"d=bad.example"), "i= is not in d="),
    ((b"\r\nTo: ", b"\r\nno field\r\nTo: "), "header holds lines that are no fields"),
])
def test_tampered_mail_fails(checked, api, change, reason):
    signed = sign(message(), RSA_KEY, "good.example", "rsa")
    found = take(checked, api, signed.replace(*change), "a@unknown.example")["authentication"]
    assert found["dkim"][0]["result"] in ("fail", "permerror") and found["dkim"][0]["reason"] == reason
    assert (found["dmarc"]["result"], found["dmarc"]["policy"]) == ("fail", "reject")


@pytest.mark.parametrize("sender, mail_from, result, policy", [
    ("a@good.example", "b@good.example", "pass", "reject"), ("a@bad.example", "a@bad.example", "fail", "reject"),
    ("a@sub.bad.example", "a@good.example", "fail", "quarantine"), ("a@nowhere.example", "a@good.example", "none", None),
])
def test_dmarc(checked, api, sender, mail_from, result, policy):
    dmarc = take(checked, api, message(sender), mail_from)["authentication"]["dmarc"]
    assert (dmarc["result"], dmarc["policy"]) == (result, policy)


def test_no_author_and_two(checked, api):
    found = take(checked, api, message(extra="From: x@good.example\r\n"))["authentication"]["dmarc"]
    assert (found["result"], found["reason"], found["domain"]) == ("fail", "several author domains", None)
    found = take(checked, api, b"Subject: x\r\n\r\nbody\r\n")["authentication"]["dmarc"]
    assert (found["result"], found["reason"]) == ("fail", "no author domain")


@pytest.mark.parametrize("author, charset, shown, result", [
    (b"A <a@good.example>", "utf-8", "a@good.example", "pass"),
    (b"\"A\" <a@good.example>:<v@victim.example>", "utf-8", "v@victim.example", "none"),
    (b"a@good.example \xff+ADw-v+AEA-victim.example+AD4-", "utf-7", "a@good.example", "pass"),
    (b"\"\x83\\\" <v@victim.example>, \" <a@good.example>", "shift_jis", "v@victim.example", "fail"),
    (b"\"\x83\\\" <v@victim.example>, \" <a@good.example>", "windows-1252", "a@good.example", "pass"),
])
def test_the_author_that_is_shown_is_the_one_that_was_checked(checked, api, author, charset, shown, result):
    source = b"From: " + author + b"\r\nContent-Type: text/plain; charset=" + charset.encode() + b"\r\n\r\nbody\r\n"
    mail = take(checked, api, source)
    dmarc = mail["authentication"]["dmarc"]
    assert (mail["from"], dmarc["result"]) == (shown, result), mail
    assert dmarc["domain"] in (None, shown.partition("@")[2])


def test_silent_dns_is_a_temporary_error_after_the_250(checked, api):
    box = api.mailbox()
    with Smtp(checked.address()) as wire:  # two mails: neither waits for the first one's check
        wire.greet()
        for _ in range(2):
            wire.start_data(box["address"], "a@silent.example")
            wire.send(message("a@silent.example") + b".\r\n")
            assert wire.reply()[0] == 250
    assert [mail["authentication"] for mail in api.mails(box)] == [None, None]
    wait_until(lambda: all(mail["authentication"] for mail in api.mails(box)), 60)
    for mail in api.mails(box):
        assert mail["authentication"]["spf"]["result"] == "temperror"


def test_raw_and_headers_show_the_results(system, checked, api):
    signed = sign(message(), RSA_KEY, "good.example", "rsa")
    mail = take(checked, api, signed)
    raw = api.raw(mail)
    at = raw.index(b"\r\n") + 2
    field = raw[at:end_of_field(raw, at)].decode()
    assert field.startswith(f"Authentication-Results: {system.domain};\r\n\t")  # apid's name: its authserv_id or hostname
    assert "spf=pass smtp.mailfrom=good.example" in field and "dkim=pass header.d=good.example header.s=rsa" in field
    assert "dmarc=pass header.from=good.example" in field and "127.0.0.1" not in field
    assert api.source(mail) == signed
    path = f"/v1/mailboxes/{mail['mailboxId']}/mails/{mail['id']}/headers"
    assert [item["name"] for item in api.get(path).json["items"]][:3] == ["Return-Path", "Authentication-Results", "Received"]


# Where the DNS has the answers at once, results are stored with the message; else, and for long ones, in a row of their own.
@pytest.mark.parametrize("mail_from", ["a@good.example", "a@failing.example"])
@pytest.mark.parametrize("claim, forged", [
    ("mx.test.example; spf=pass", True), ("(c) \"MX.test.example\" 1; spf=pass", True), ("other.example; spf=pass", False),
    ("mx.test.example.org; spf=pass", False),
])
def test_forged_results_are_told(checked, api, claim, forged, mail_from):
    octets = message(extra=f"Authentication-Results: {claim}\r\n")
    mail = take(checked, api, octets, mail_from)
    assert ("forged_authentication_results" in mail["warnings"]) == forged
    assert api.source(mail) == octets


def test_listed_client_is_annotated(checked, api):
    found = take(checked, api, message())["authentication"]["dnsbl"]
    assert found == [{"zone": "bl.example", "result": "listed", "codes": ["127.0.0.4"]},
                     {"zone": "errors.example", "result": "error", "codes": []}]
    assert "block list does not work" in checked.log() and "it lists 127.0.0.1" in checked.log()


@pytest.mark.parametrize("mail_from, body, rows", [
    ("a@good.example", "Hello.\r\n", 0), ("a@failing.example", "Hello.\r\n", 1), ("a@good.example", "Hello.\r\n" * 10000, 1)])
def test_results_go_with_the_mail(system, checked, api, mail_from, body, rows):
    mail = take(checked, api, message(body=body), mail_from)
    count = "select count(*) from message_authentication where id = %s"
    assert mail["authentication"]["spf"]["result"] == ("temperror" if "failing" in mail_from else "pass")
    assert system.sql("select authentication is null from messages where id = %s", mail["id"]) == [(rows == 1,)]
    assert system.sql(count, mail["id"]) == [(rows,)]
    assert api.delete(f"/v1/mailboxes/{mail['mailboxId']}/mails/{mail['id']}").status == 204
    assert system.sql(count, mail["id"]) == [(0,)]


@pytest.mark.contract("6 envelope")
def test_no_address_is_stored(system, checked, api):
    mail = take(checked, api, message(), "a@bad.example")
    (results,), = system.sql("select authentication from messages where id = %s", mail["id"])
    assert "127.0.0.1" not in results


def test_fields_of_a_list(checked, api):
    mail = take(checked, api, message())
    found = api.mails({"id": mail["mailboxId"]}, "?fields=id,authentication")
    assert found == [{"id": mail["id"], "authentication": mail["authentication"]}]


@pytest.mark.parametrize("setting, mail_from, sender, reply", [
    ("spf_reject", "a@bad.example", "a@x.example", (550, "5.7.23")), ("spf_reject", "a@broken.example", "a@x.example", (550, "5.7.24")),
    ("spf_reject", "a@failing.example", "a@x.example", (451, "4.7.24")), ("spf_reject", "a@soft.example", "a@x.example", (250, "2.0.0")),
    ("spf_reject", "a@good.example", "a@x.example", (250, "2.0.0")),
    ("dmarc_reject", "a@x.example", "a@bad.example", (550, "5.7.1")), ("dmarc_reject", "a@x.example", "a@sub.bad.example", (250, "2.0.0")),
    ("dmarc_reject", "a@good.example", "a@good.example", (250, "2.0.0")),
    ("null_mx_reject", "a@nomail.example", "a@x.example", (550, "5.7.27")), ("null_mx_reject", "a@x.example", "a@x.example", (250, "2.0.0")),
])
def test_refusing(system, api, zone_file, setting, mail_from, sender, reply):
    box = api.mailbox()
    with system.another_smtpd("127.0.0.1:0", workers=1, dns_zone_file=zone_file, **{setting: "yes"}) as smtpd:
        code, text = deliver(smtpd.address(), message(sender), box["address"], mail_from=mail_from)
        assert (code, text.split()[0]) == reply
        if code == 250:
            assert authenticated(api, box)
        else:
            assert api.mails(box) == []


def test_block_list_refuses_recipients(system, api, zone_file):
    box = api.mailbox()
    with system.another_smtpd("127.0.0.1:0", workers=1, dns_zone_file=zone_file, dnsbl_zones="bl.example",
                              dnsbl_action="reject") as smtpd:
        with Smtp(smtpd.address()) as wire:
            wire.greet()
            assert wire.say(b"MAIL FROM:<a@good.example>")[0] == 250
            code, text = wire.say(f"RCPT TO:<{box['address']}>".encode())
            assert (code, text.split()[0]) == (554, "5.7.1")
            assert wire.say(f"RCPT TO:<postmaster@{system.domain}>".encode())[0] != 554
    with system.another_smtpd("127.0.0.1:0", workers=1, dns_zone_file=zone_file, dnsbl_zones="bl.example=127.0.0.2-127.0.0.3",
                              dnsbl_action="reject") as smtpd:
        assert deliver(smtpd.address(), message(), box["address"])[0] == 250


def test_overload_stores_unchecked(system, api, zone_file):
    with system.another_smtpd("127.0.0.1:0", workers=1, dns_zone_file=zone_file, authentication_max="1") as smtpd:
        first, second = api.mailbox(), api.mailbox()
        assert deliver(smtpd.address(), message(), first["address"], mail_from="a@silent.example")[0] == 250
        assert deliver(smtpd.address(), message(), second["address"])[0] == 250
        assert authenticated(api, first)["authentication"]["spf"]["result"] == "temperror"
        assert api.only_mail(second)["authentication"] is None
        assert smtpd.metrics()['minutemail_smtpd_authentications_total{result="overload"}'] == 1


def test_a_server_that_never_answers(system, api):
    """A real resolver this time, on a port where nobody answers."""
    box = api.mailbox()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        with system.another_smtpd("127.0.0.1:0", workers=1, dns_zone_file="", dns_servers=f"127.0.0.1:{deaf.getsockname()[1]}",
                                  authentication_deadline="1s") as smtpd:
            assert deliver(smtpd.address(), message(), box["address"], mail_from="a@good.example")[0] == 250
            found = authenticated(api, box)["authentication"]
            assert (found["spf"]["result"], found["dmarc"]["result"]) == ("temperror", "temperror")


def test_a_real_resolver(system, api):
    """c-ares in the worker's sandbox."""
    box = api.mailbox()
    with contextlib.closing(NameServer()) as resolver:
        resolver.set("good.example", txt=["v=spf1 ip4:127.0.0.1 -all"])
        with system.another_smtpd("127.0.0.1:0", workers=1, dns_zone_file="", dns_servers=resolver.address) as smtpd:
            assert deliver(smtpd.address(), message(), box["address"], mail_from="a@good.example")[0] == 250
            found = authenticated(api, box)["authentication"]
            assert (found["spf"]["result"], found["dmarc"]["result"], found["iprev"]["result"]) == ("pass", "none", "fail")


def test_authentication_off(system, api):
    box = api.mailbox()
    with system.another_smtpd("127.0.0.1:0", workers=1, authentication="no") as smtpd:
        assert deliver(smtpd.address(), message(), box["address"])[0] == 250
    assert api.only_mail(box)["authentication"] is None
