"""Domains of accounts: claimed, proved by the DNS, used, given up. A name server on loopback stands in for the world's, and four apid
workers ask it."""

import hashlib
import json
import subprocess
import time

import pytest

import messages
from client import Api, Console, Smtp, check_problem, deliver, items, wait_until
from launched import System
from nameserver import NameServer

PASSWORD = "a long enough password"
OURS = ["mx.platform.example", "mx2.platform.example"]


@pytest.fixture(scope="module")
def dns():
    server = NameServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def many(dns):
    running = System(domains=["minutemail.cc"], environment={
        "MINUTEMAIL_APID_WORKERS": "4", "MINUTEMAIL_DNS_SERVERS": dns.address, "MINUTEMAIL_DNS_ZONE_FILE": "",
        "MINUTEMAIL_AUTHENTICATION": "no", "MINUTEMAIL_MX_HOSTS": " ".join(OURS), "MINUTEMAIL_PASSWORD_MEMORY": "19M",
        "MINUTEMAIL_DOMAIN_CHECK": "1h"})
    try:
        yield running.start()
    finally:
        running.remove()


class Owner:
    """An account with an owner, who has a key with the scope and without, and is signed in to the console."""

    def __init__(self, running, plan="unlimited"):
        self.system, self.stamp = running, str(time.time_ns())
        self.account = "owner-" + self.stamp
        running.ctl("account", "create", self.account, "--plan", plan)
        self.email = self.person("owner")
        self.key = self.make_key("--scopes", "domains")
        self.plain = self.make_key()

    @property
    def address(self):
        return self.system.info["http"].removeprefix("http://")

    def person(self, role):
        email = f"{role}-{self.stamp}@example.com"
        self.system.ctl("user", "create", email, "--account", self.account, "--role", role)
        self.system.ctl("user", "password", email, text=PASSWORD + "\n")
        return email

    def make_key(self, *words, email=None):
        made = self.system.ctl("key", "create", "--name", "k", "--user", email or self.email, *words)
        client = Api(self.address, made["key"])
        client.id = made["id"]
        return client

    def console(self, email=None):
        return Console(self.address).sign_in(email or self.email, PASSWORD)

    def name(self, word="shop"):
        return f"{word}-{time.time_ns()}.example.net"

    def claim(self, name, client=None):
        answer = (client or self.key).post("/v1/domains", {"name": name})
        assert answer.status == 201, answer
        return answer.json

    def verified(self, dns, name=None):
        claimed = self.claim(name or self.name())
        dns.set(claimed["name"], mx=[claimed["mxTarget"]], txt=[claimed["txtToken"]])
        answer = self.key.post(f"/v1/domains/{claimed['id']}/verify")
        assert answer.status == 200 and answer.json["status"] == "verified", answer
        return answer.json


@pytest.fixture(scope="module")
def owner(many):
    return Owner(many)


def rcpt(running, address):
    with Smtp(running.smtp) as wire:
        wire.greet()
        assert wire.say(b"MAIL FROM:<sender@example.org>")[0] == 250
        return wire.say(f"RCPT TO:<{address}>".encode())[0]


# ---- claiming ----

@pytest.mark.contract("8 domain claim", "8 domain object", "8 domain TXT")
def test_claim(owner):
    name = owner.name()
    claimed = owner.claim(name.upper() + ".")
    assert claimed["name"] == name and claimed["status"] == "pending" and claimed["platform"] is False
    assert claimed["txtToken"].startswith("minutemail-") and len(claimed["txtToken"]) == 27
    assert claimed["mxTarget"] == OURS[0]
    assert (claimed["txtValid"], claimed["mxValid"], claimed["mxLostSince"]) == (False, False, None)
    assert claimed in items(owner.key.get("/v1/domains")) and owner.plain.get(f"/v1/domains/{claimed['id']}").json == claimed


@pytest.mark.contract("8 domain list")
def test_list_has_the_platforms_first_and_nobody_elses(many, owner):
    stranger = Owner(many)
    mine, theirs = owner.claim(owner.name()), stranger.claim(owner.name())
    listed = items(owner.key.get("/v1/domains"))
    assert listed[0]["name"] == "minutemail.cc" and listed[0]["platform"] is True and listed[0]["txtToken"] is None
    ids = [domain["id"] for domain in listed]
    assert mine["id"] in ids and theirs["id"] not in ids
    check_problem(owner.key.get(f"/v1/domains/{theirs['id']}"), 404, "not_found")
    check_problem(owner.key.post(f"/v1/domains/{theirs['id']}/verify"), 404, "not_found")
    check_problem(owner.key.delete(f"/v1/domains/{theirs['id']}"), 404, "not_found")
    assert stranger.key.get(f"/v1/domains/{theirs['id']}").status == 200


def test_international_name(owner):
    stamp = str(time.time_ns())
    assert owner.claim(f"Bücher-{stamp}.example.net")["name"].startswith("xn--bcher-")
    check_problem(owner.key.post("/v1/domains", {"name": f"bücher-{stamp}.example.net"}), 409, "conflict")


@pytest.mark.parametrize("name, why", [
    ("192.0.2.1", "not a domain name"), ("[192.0.2.1]", "not a domain name"), ("[IPv6:2001:db8::1]", "not a domain name"),
    ("a b.example.net", "not a domain name"), ("", "not a domain name"), ("xn--99999999.example.net", "not a domain name"),
    ("x" * 64 + ".example.net", "not a domain name"), ("localhost", "without a dot"), ("com", "without a dot"),
    ("co.uk", "public suffix"), ("github.io", "public suffix"), ("minutemail.cc", "this platform's own"),
    ("sub.of.minutemail.cc", "this platform's own"), ("mx2.platform.example", "own hosts"), ("corp.internal", "public DNS"),
    ("printer.LOCAL.", "public DNS"), ("1.0.0.10.in-addr.arpa", "public DNS"), ("a.localhost", "public DNS"), (None, "missing"), (7, "must be a string")])
def test_names_that_are_refused(owner, name, why):
    assert why in check_problem(owner.key.post("/v1/domains", {"name": name}), 400, "bad_request")["message"]


@pytest.mark.contract("8 domain claimed")
def test_twice_by_one_account_once_each_by_two(many, owner):
    name = owner.name()
    first, second = owner.claim(name), Owner(many).claim(name)
    assert first["txtToken"] != second["txtToken"]
    check_problem(owner.key.post("/v1/domains", {"name": name}), 409, "conflict")


@pytest.mark.contract("3 custom domains")
@pytest.mark.parametrize("plan, most", [("free", 0), ("hobbyist", 1), ("pro", 5)])
def test_plan_limits_domains(many, plan, most):
    owner = Owner(many, plan)
    claimed = [owner.claim(owner.name()) for _ in range(most)]
    check_problem(owner.key.post("/v1/domains", {"name": owner.name()}), 429, "quota_exceeded")
    if claimed:
        assert owner.key.delete(f"/v1/domains/{claimed[0]['id']}").status == 204
        owner.claim(owner.name())


@pytest.mark.contract("2 403 scope", "4 no domains", "8 domain claim")
def test_scope_and_roles(owner):
    claimed = owner.claim(owner.name())
    for method, path in (("POST", ""), ("POST", f"/{claimed['id']}/verify"), ("DELETE", f"/{claimed['id']}")):
        problem = check_problem(owner.plain.request(method, "/v1/domains" + path, {"name": "x.example.net"}), 403, "forbidden")
        assert "scope domains" in problem["message"]
    member = owner.console(owner.person("member"))
    assert member.get("/v1/domains").status == 200
    check_problem(member.delete(f"/v1/domains/{claimed['id']}"), 403, "forbidden")
    by_member = owner.claim(owner.name(), member)
    assert owner.console().delete(f"/v1/domains/{by_member['id']}").status == 204


# ---- proving ----

@pytest.mark.contract("8 domain verify")
def test_verify_says_what_is_missing(owner, dns):
    claimed = owner.claim(owner.name())
    dns.set(claimed["name"], mx=[OURS[1], "mail.elsewhere.example"], txt=["v=spf1 -all", claimed["txtToken"]])
    seen = owner.key.post(f"/v1/domains/{claimed['id']}/verify").json
    assert (seen["status"], seen["txtValid"], seen["mxValid"]) == ("pending", True, False)
    assert "mail.elsewhere.example" in seen["problem"] and OURS[0] in seen["problem"]
    dns.set(claimed["name"], mx=OURS, txt=["v=spf1 -all", claimed["txtToken"]])
    seen = owner.key.post(f"/v1/domains/{claimed['id']}/verify").json
    assert (seen["status"], seen["txtValid"], seen["mxValid"], seen["problem"]) == ("verified", True, True, None)


def test_verify_without_any_record_and_with_a_broken_dns(owner, dns):
    claimed = owner.claim(owner.name())
    seen = owner.key.post(f"/v1/domains/{claimed['id']}/verify").json
    assert (seen["status"], seen["txtValid"], seen["mxValid"]) == ("pending", False, False)
    assert claimed["txtToken"] in seen["problem"] and OURS[0] in seen["problem"]
    other = owner.claim(owner.name())
    dns.set(other["name"], mx=OURS, txt=[other["txtToken"]])
    dns.broken.add(other["name"])
    seen = owner.key.post(f"/v1/domains/{other['id']}/verify").json
    assert seen["status"] == "pending" and "could not be asked" in seen["problem"]
    dns.broken.remove(other["name"])
    assert owner.key.post(f"/v1/domains/{other['id']}/verify").json["status"] == "verified"
    dns.broken.add(other["name"])
    seen = owner.key.post(f"/v1/domains/{other['id']}/verify").json  # what was known stays
    assert (seen["status"], seen["txtValid"], seen["mxValid"]) == ("verified", True, True)


def test_verified_takes_mail_within_a_second_and_has_a_postmaster(many, owner, dns):
    claimed = owner.claim(owner.name())
    address = "postmaster@" + claimed["name"]
    dns.set(claimed["name"], mx=OURS, txt=[claimed["txtToken"]])
    with many.another_smtpd("127.0.0.1:0", workers=2) as second:
        places = [many.smtp] * 4 + [second.address()] * 4
        assert {deliver_code(place, address) for place in places} == {550}
        assert owner.key.post(f"/v1/domains/{claimed['id']}/verify").json["status"] == "verified"
        assert {deliver_code(place, address) for place in places} == {250}
        box = items(owner.console().get(f"/v1/mailboxes?address={address}"))[0]
        assert box["owner"] == owner.email and box["permanent"] and box["messageCount"] == len(places)
        assert owner.key.delete(f"/v1/domains/{claimed['id']}").status == 204
        assert {deliver_code(place, address) for place in places} == {550}


def deliver_code(place, address):
    with Smtp(place) as wire:
        wire.greet()
        assert wire.say(b"MAIL FROM:<sender@example.org>")[0] == 250
        code = wire.say(f"RCPT TO:<{address}>".encode())[0]
        if code == 250:
            assert wire.say(b"DATA")[0] == 354
            wire.send(messages.plain() + b".\r\n")
            code = wire.reply()[0]
        return code


@pytest.mark.contract("8 domain claimed")
def test_one_account_has_it_until_it_gives_it_up(many, owner, dns):
    other, name = Owner(many), owner.name()
    mine, theirs = owner.claim(name), other.claim(name)
    dns.set(name, mx=OURS, txt=[mine["txtToken"], theirs["txtToken"]])
    assert owner.key.post(f"/v1/domains/{mine['id']}/verify").json["status"] == "verified"
    problem = check_problem(other.key.post(f"/v1/domains/{theirs['id']}/verify"), 409, "conflict")
    assert "another account" in problem["message"]
    assert other.key.get(f"/v1/domains/{theirs['id']}").json["status"] == "pending"
    console = owner.console()
    old = console.mailbox(domain=name, alias="info", noExpiration=True)
    assert deliver(many.smtp, messages.plain(), old["address"])[0] == 250
    assert owner.key.delete(f"/v1/domains/{mine['id']}").status == 204
    assert other.key.post(f"/v1/domains/{theirs['id']}/verify").json["status"] == "verified"
    new = other.console().mailbox(domain=name, alias="info")  # the address is free, and nothing of the old one is in it
    assert new["messageCount"] == 0 and new["id"] != old["id"]
    assert items(other.console().get(f"/v1/mailboxes?address=postmaster@{name}"))[0]["owner"] == other.email


def test_what_the_former_owner_left_behind_is_in_nobodys_way(many, owner, dns):
    """Given up, proved by another account, and its mailboxes not yet taken away: as if apid had ended in between."""
    other, domain = Owner(many), owner.verified(dns)
    name = domain["name"]
    old = owner.console().mailbox(domain=name, alias="info", noExpiration=True)
    postmaster = items(owner.console().get(f"/v1/mailboxes?address=postmaster@{name}"))[0]
    many.sql("with gone as (delete from domains where id = %s returning id, account_id) "
             "insert into domain_leftovers select id, account_id, now() from gone", domain["id"])
    time.sleep(1.2)  # the lease of what workers know of the domain
    theirs = other.claim(name)
    dns.set(name, mx=OURS, txt=[theirs["txtToken"]])
    assert other.key.post(f"/v1/domains/{theirs['id']}/verify").json["status"] == "verified"
    console = other.console()
    own = items(console.get(f"/v1/mailboxes?address=postmaster@{name}"))[0]
    assert own["owner"] == other.email and own["id"] != postmaster["id"]
    assert rcpt(many, old["address"]) == 550  # taken, it would be lost with the mailbox
    new = console.mailbox(domain=name, alias="info")
    wait_until(lambda: rcpt(many, new["address"]) == 250)
    assert deliver(many.smtp, messages.plain(), [new["address"], own["address"]])[0] == 250
    assert [len(console.mails(box)) for box in (new, own)] == [1, 1]
    assert owner.console().get(f"/v1/mailboxes/{old['id']}/mails").status == 404


# ---- using and giving up ----

def test_session_covers_it_at_once_and_a_key_when_it_is_given(owner, dns):
    consoles = [owner.console() for _ in range(3)]
    for console in consoles:  # in every worker's cache
        for _ in range(12):
            assert console.get("/v1/mailboxes?limit=1").status == 200
    domain = owner.verified(dns)
    for console in consoles:
        for _ in range(8):
            assert console.mailbox(domain=domain["name"])["domain"] == domain["name"]
    check_problem(owner.plain.post("/v1/mailboxes", {"domain": domain["name"]}), 403, "forbidden")
    owner.system.ctl("key", "domains", owner.plain.id, "--add", domain["name"])
    assert owner.plain.mailbox(domain=domain["name"])


@pytest.mark.contract("8 domain delete")
def test_given_up_is_gone_for_everybody_at_once(many, owner, dns):
    for _ in range(5):
        domain = owner.verified(dns)
        key = owner.make_key("--domain", "minutemail.cc", "--domain", domain["name"])
        boxes = [key.mailbox(domain=domain["name"], noExpiration=i % 2 == 0) for i in range(4)]
        kept = key.mailbox(domain="minutemail.cc")
        assert deliver(many.smtp, messages.plain(), [box["address"] for box in boxes])[0] == 250
        assert key.request("DELETE", f"/v1/mailboxes/{boxes[3]['id']}").status == 204
        console = owner.console()
        for client in (key, console):
            assert {client.get(f"/v1/mailboxes/{boxes[0]['id']}").status for _ in range(24)} == {200}
        assert console.delete(f"/v1/domains/{domain['id']}").status == 204
        for client in (key, console):
            assert {client.get(f"/v1/mailboxes/{boxes[0]['id']}").status for _ in range(24)} <= {404}
            check_problem(client.post("/v1/mailboxes", {"domain": domain["name"]}), 403, "forbidden")
        assert rcpt(many, boxes[0]["address"]) == 550
        assert key.get(f"/v1/mailboxes/{kept['id']}").status == 200
        for table in ("mailboxes", "account_mailboxes"):
            assert many.sql(f"select count(*) from {table} where domain_id = %s", domain["id"]) == [(0,)]
        ids = [box["id"] for box in boxes]
        assert many.sql("select count(*) from messages where mailbox_id = any(%s::uuid[])", ids) == [(0,)]
        assert domain["id"] not in [d["id"] for d in items(key.get("/v1/domains"))]


def test_platform_domain_cannot_be_given_up_or_proved(many, owner):
    domain = next(d for d in items(owner.key.get("/v1/domains")) if d["platform"])
    check_problem(owner.key.delete(f"/v1/domains/{domain['id']}"), 404, "not_found")
    check_problem(owner.key.post(f"/v1/domains/{domain['id']}/verify"), 403, "forbidden")
    assert rcpt(many, "postmaster@minutemail.cc") == 250


# ---- the operator ----

def test_operator_verifies_by_the_dns_and_by_word(many, owner, dns):
    claimed = owner.claim(owner.name())
    refused = many.ctl("domain", "verify", claimed["name"], check=False)
    assert refused.returncode == 1 and claimed["txtToken"] in refused.stderr and OURS[0] in refused.stderr
    seen = json.loads(refused.stdout)
    assert (seen["status"], seen["txtValid"], seen["mxValid"]) == ("pending", False, False) and seen["problem"]
    assert rcpt(many, "postmaster@" + claimed["name"]) == 550
    dns.set(claimed["name"], mx=OURS, txt=[claimed["txtToken"]])
    seen = many.ctl("domain", "verify", claimed["name"])
    assert (seen["status"], seen["txtValid"], seen["mxValid"], seen["problem"]) == ("verified", True, True, None)
    assert owner.key.get(f"/v1/domains/{claimed['id']}").json["status"] == "verified"
    assert rcpt(many, "postmaster@" + claimed["name"]) == 250

    other = owner.claim(owner.name())
    console = owner.console()
    assert console.post("/v1/mailboxes", {"domain": other["name"]}).status == 403
    assert many.ctl("domain", "verify", other["id"], "--by-word")["status"] == "verified"
    assert {console.post("/v1/mailboxes", {"domain": other["name"]}).status for _ in range(12)} == {201}
    log = [e for e in items(owner.console().get("/v1/audit?limit=1000")) if e["actor"] == "operator"]
    assert [(e["method"], e["route"], e["keyId"]) for e in log[:2]] == [
        ("CTL", "domain verify --by-word", None), ("CTL", "domain verify", None)]


def test_operator_sees_what_to_publish(many, owner, dns, tmp_path):
    """What each record is worth is in the unit test; here the DNS is asked for it, and DANE's digest is what openssl says."""
    claimed = owner.claim(owner.name())
    name, certificate, key = claimed["name"], str(tmp_path / "chain.pem"), str(tmp_path / "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=" + OURS[0],
                    "-keyout", key, "-out", certificate], check=True, stderr=subprocess.DEVNULL)
    public = subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-outform", "der"], check=True, stdout=subprocess.PIPE).stdout
    before = many.ctl("domain", "dns", name, check=False)
    assert before.returncode == 1 and "mail needs" in before.stderr
    dns.set(name, mx=OURS, txt=[claimed["txtToken"]])
    dns.set("_mta-sts." + name, txt=["v=STSv1; id=20260101000000;"])
    dns.broken.add("_smtp._tls." + name)
    seen = json.loads(many.ctl("domain", "dns", name, "--certificate", certificate, check=False).stdout)["items"]
    states = {(row["name"], row["type"]): row["state"] for row in seen}
    assert states[name, "MX"] == states[name, "TXT"] == states["_mta-sts." + name, "TXT"] == "found"
    assert states["_smtp._tls." + name, "TXT"] == "unknown"
    for host in OURS:
        assert [row["value"] for row in seen if (row["name"], row["type"]) == ("_25._tcp." + host, "TLSA")] == [
            "3 1 1 " + hashlib.sha256(public).hexdigest()]
    dns.broken.discard("_smtp._tls." + name)


def test_operator_table_says_what_is_proved(many, owner):
    claimed = owner.claim(owner.name())
    listed = next(d for d in many.ctl("domain", "list", "--account", owner.account)["items"] if d["id"] == claimed["id"])
    assert (listed["status"], listed["txtValid"], listed["mxValid"]) == ("pending", False, False)
    platform = many.ctl("domain", "list")["items"][0]
    assert platform["name"] == "minutemail.cc" and platform["txtValid"] is None


def test_operator_deletes_as_the_api_does(many, owner, dns):
    domain = owner.verified(dns)
    key = owner.make_key("--domain", "minutemail.cc", "--domain", domain["name"])
    boxes = [key.mailbox(domain=domain["name"], noExpiration=True) for _ in range(3)]
    kept = key.mailbox(domain="minutemail.cc")
    assert deliver(many.smtp, messages.plain(), [box["address"] for box in boxes])[0] == 250
    assert {key.get(f"/v1/mailboxes/{boxes[0]['id']}").status for _ in range(24)} == {200}
    assert many.ctl("domain", "delete", domain["name"])["deleted"] is True
    assert {key.get(f"/v1/mailboxes/{boxes[0]['id']}").status for _ in range(24)} <= {403, 404}
    assert rcpt(many, boxes[0]["address"]) == 550
    assert key.get(f"/v1/mailboxes/{kept['id']}").status == 200
    for table in ("mailboxes", "account_mailboxes", "api_key_domains"):
        assert many.sql(f"select count(*) from {table} where domain_id = %s", domain["id"]) == [(0,)]
    ids = [box["id"] for box in boxes]
    assert many.sql("select count(*) from messages where mailbox_id = any(%s::uuid[])", ids) == [(0,)]
    gone = many.ctl("domain", "delete", domain["name"], check=False)
    assert gone.returncode == 1 and f'no domain "{domain["name"]}"' in gone.stderr


# ---- looking again ----

@pytest.mark.contract("8 domain MX lost")
def test_lost_mx_is_flagged_after_days_and_the_domain_stays(many, owner, dns):
    domain = owner.verified(dns)
    dns.set(domain["name"], mx=["mail.elsewhere.example"], txt=[domain["txtToken"]])
    seen = owner.key.post(f"/v1/domains/{domain['id']}/verify").json
    assert (seen["status"], seen["mxValid"], seen["mxLostSince"]) == ("verified", False, None)
    many.sql("update domains set mx_lost_since = now() - interval '3 days' where id = %s", domain["id"])
    seen = owner.key.post(f"/v1/domains/{domain['id']}/verify").json
    assert seen["status"] == "verified" and seen["mxLostSince"] is not None
    assert rcpt(many, "postmaster@" + domain["name"]) == 250
    dns.set(domain["name"], mx=OURS, txt=[])
    seen = owner.key.post(f"/v1/domains/{domain['id']}/verify").json
    assert (seen["status"], seen["txtValid"], seen["mxValid"], seen["mxLostSince"]) == ("verified", False, True, None)


def test_looks_again_by_itself(many, owner, dns):
    domain = owner.verified(dns)
    dns.set(domain["name"], mx=["mail.elsewhere.example"], txt=[domain["txtToken"]])
    many.sql("update domains set check_at = now() where id = %s", domain["id"])
    wait_until(lambda: owner.key.get(f"/v1/domains/{domain['id']}").json["mxValid"] is False, 120, 1)
    assert rcpt(many, "postmaster@" + domain["name"]) == 250
