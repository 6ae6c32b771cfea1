"""GET /v1/audit and GET /v1/usage: what was asked, by whom, and how often."""

import datetime
import os
import signal
import time

import pytest

from client import Api, check_problem, items, wait_until


class People:
    """An account with an owner and a member, each with a key."""

    def __init__(self, system):
        stamp = str(time.time_ns())
        account = "audit-" + stamp
        system.ctl("account", "create", account, "--plan", "unlimited")
        self.apis, self.keys = {}, {}
        for role in ("owner", "member"):
            email = f"{role}-{stamp}@{system.domain}"
            system.ctl("user", "create", email, "--account", account, "--role", role)
            made = system.ctl("key", "create", "--name", f"of the {role}", "--user", email, "--domain", system.domain)
            self.keys[role] = made["key"]
            self.apis[role] = Api(system.info["http"].removeprefix("http://"), made["key"])
        self.owner, self.member = self.apis["owner"], self.apis["member"]


def audit(api, query=""):
    return items(api.get("/v1/audit" + query))


@pytest.mark.contract("8 audit", "8 audit filters", "8 audit own")
def test_what_was_asked(system):
    people = People(system)
    owner, member = people.owner, people.member
    box = owner.mailbox()
    owner.get(f"/v1/mailboxes/{box['id']}", headers={"X-Request-Id": "one-of-mine"})
    owner.get("/v1/mailboxes?limit=0")
    member.get("/api/mailboxes")
    member.get("/nowhere")
    seen = wait_until(lambda: [e for e in [audit(owner)] if sum(x["route"] != "/audit" for x in e) >= 5], 20)[0]
    seen = [e for e in seen if e["route"] != "/audit"]
    # Two workers: by time, but for requests of the same moment.
    assert sorted((e["method"], str(e["route"]), e["status"], e["keyName"]) for e in seen) == sorted([
        ("GET", "None", 404, "of the member"), ("GET", "/mailboxes", 200, "of the member"), ("GET", "/mailboxes", 400, "of the owner"),
        ("GET", "/mailboxes/{}", 200, "of the owner"), ("POST", "/mailboxes", 201, "of the owner")])
    assert [e["id"] for e in seen] == sorted((e["id"] for e in seen), reverse=True)
    mine = next(e for e in seen if e["route"] == "/mailboxes/{}")
    assert mine["requestId"] == "one-of-mine" and mine["actor"] == "key" and mine["last8"] == people.keys["owner"][-8:]
    at = datetime.datetime.fromisoformat(mine["time"].replace("Z", "+00:00"))
    assert abs((at - datetime.datetime.now(datetime.timezone.utc)).total_seconds()) < 60

    # A member sees his own; nobody sees another account's.
    assert {e["keyName"] for e in audit(member)} == {"of the member"}
    assert not {e["id"] for e in audit(system.api, "?limit=1000")} & {e["id"] for e in seen}

    # Filters.
    assert [e["id"] for e in audit(owner, "?key=" + mine["keyId"] + "&status=200") if e["route"] == "/mailboxes/{}"] == [mine["id"]]
    assert {e["status"] for e in audit(owner, "?status=404")} == {404}
    assert audit(owner, "?until=2020-01-01T00:00:00Z") == []
    assert mine["id"] in {e["id"] for e in audit(owner, "?since=" + mine["time"])}
    assert mine["id"] not in {e["id"] for e in audit(owner, "?until=" + mine["time"])}
    for query in ("?status=2000", "?status=x", "?key=x", "?since=yesterday", "?until=2020-01-01", "?cursor=x", "?limit=0"):
        check_problem(owner.get("/v1/audit" + query), 400, "bad_request")


@pytest.mark.contract("8 audit filters")
def test_pages(system):
    member = People(system).member
    for _ in range(7):
        member.get("/v1/mailboxes")
    wait_until(lambda: len(audit(member, "?status=200")) >= 7, 20)
    until = "&until=" + audit(member)[0]["time"]
    everything = [e["id"] for e in audit(member, "?limit=1000" + until)]
    found, cursor = [], ""
    while cursor is not None:
        page = member.get(f"/v1/audit?limit=2{until}{cursor}")
        found += [e["id"] for e in items(page)]
        cursor = "&cursor=" + page.json["nextCursor"] if "nextCursor" in page.json else None
    assert found == everything and len(found) >= 6


@pytest.mark.contract("8 usage")
def test_usage(system):
    people = People(system)
    for _ in range(4):
        people.owner.get("/v1/mailboxes")
    for _ in range(2):
        people.member.get("/v1/mailboxes")

    def written():
        usage = people.owner.get("/v1/usage").json
        calls = {key["name"]: key["today"] for key in usage["keys"]}
        return usage if calls.get("of the owner", 0) >= 4 and calls.get("of the member", 0) == 2 else None

    usage = wait_until(written, 20)
    today = usage["today"]
    assert today["limit"] is None and today["limitPerMinute"] is None and today["reset"].endswith("T00:00:00.000Z")
    assert len(usage["days"]) == 30 and usage["days"][-1]["date"] == today["date"]
    assert sum(key["days"][-1]["calls"] for key in usage["keys"]) == usage["days"][-1]["calls"] >= 6
    assert {key["name"] for key in people.member.get("/v1/usage").json["keys"]} == {"of the member"}


def test_nothing_is_lost_when_a_worker_ends(system):
    people = People(system)
    with system.another_apid(workers=1) as apid:
        api = Api(apid.address(), people.keys["owner"])
        for _ in range(20):
            assert api.get("/v1/mailboxes").status == 200
        os.kill(apid.process.pid, signal.SIGTERM)
        apid.process.wait(60)
    assert len(audit(people.owner, "?limit=1000")) >= 20
