"""GET /v1/audit and GET /v1/usage: what was asked, by whom, and how often."""

import datetime
import http.client
import os
import re
import signal
import threading
import time

import pytest

from client import Api, check_problem, items, wait_until
from launched import process_state


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
    for query in ("?status=2000", "?status=x", "?key=x", "?since=yesterday", "?until=2020-01-01", "?since=2026-02-30T00:00:00Z", "?cursor=x", "?limit=0"):
        check_problem(owner.get("/v1/audit" + query), 400, "bad_request")


@pytest.mark.contract("8 audit filters")
def test_pages(system):
    member = People(system).member
    for _ in range(9):
        member.get("/v1/mailboxes")

    def asked():
        return [e for e in audit(member, "?limit=1000") if e["route"] == "/mailboxes"]

    wait_until(lambda: len(asked()) == 9, 20)
    until = "&until=" + asked()[0]["time"]  # the asking itself is still being written, by one worker and another
    everything = [e["id"] for e in audit(member, "?limit=1000" + until)]
    found, cursor = [], ""
    while cursor is not None:
        page = member.get(f"/v1/audit?limit=2{until}{cursor}")
        found += [e["id"] for e in items(page)]
        cursor = "&cursor=" + page.json["nextCursor"] if "nextCursor" in page.json else None
    assert found == everything and len(found) > 4  # of one millisecond may be several


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


class Hammers:
    """Clients that ask with one key until they are told to stop, or their worker is gone; `answered`: whole answers that they got."""

    def __init__(self, address, key, clients):
        self.address, self.key, self.answered, self.going = address, key, 0, True
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(clients)]
        for thread in self.threads:
            thread.start()

    def run(self):
        while self.going:
            connection = http.client.HTTPConnection(self.address, timeout=30)
            try:
                while self.going:
                    connection.request("GET", "/v1/mailboxes?limit=1", headers={"Authorization": "Bearer " + self.key})
                    connection.getresponse().read()
                    with self.lock:
                        self.answered += 1
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
            finally:
                connection.close()

    def stop(self):
        self.going = False
        for thread in self.threads:
            thread.join(60)


def written(system, key):
    return system.sql("select count(*) from api_audit where key_id = %s", key)[0][0]


def new_key(system):
    return system.ctl("key", "create", "--name", "hammer", "--user", system.sql("select email from users order by id limit 1")[0][0])


def test_what_a_killed_worker_had_is_counted(system):
    """Every request that was answered is in the log or among those that the master says are lost."""
    made, clients, rounds = new_key(system), 8, 4
    lost_at = "minutemail_apid_audit_lost_total"
    with system.another_apid(workers=2) as apid:
        hammers = Hammers(apid.address(), made["key"], clients)
        for i in range(rounds):
            wait_until(lambda n=hammers.answered: hammers.answered > n + 100)
            time.sleep(0.1 * i)
            victim = apid.workers()[0]
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: len(apid.workers()) == 2 and victim not in apid.workers(), 60)
        hammers.stop()
        lost = apid.metrics()[lost_at]
        wait_until(lambda: apid.metrics()["minutemail_apid_audit_waiting"] == 0)
        said = sum(int(n) for n in re.findall(r'event="audit entries lost" .*at_most=(\d+)', apid.log()))
    there = written(system, made["id"])
    assert hammers.answered <= there + lost, (hammers.answered, there, lost)
    assert lost == said > 0
    # What was lost is no more than a batch under way that was written all the same, and requests whose answer did not arrive.
    assert there + lost <= hammers.answered + rounds * (500 + clients), (hammers.answered, there, lost)


def test_a_killed_master_loses_nothing(system, tmp_path):
    """Its workers write what they have before they end. The next one says that it found the other one's pid file."""
    made = new_key(system)
    os.chmod(tmp_path, 0o777)
    pid_file = str(tmp_path / "apid.pid")
    with system.another_apid(workers=2, apid_pid_file=pid_file) as apid:
        hammers = Hammers(apid.address(), made["key"], 8)
        wait_until(lambda: hammers.answered > 300)
        workers, killed = apid.workers(), apid.process.pid
        apid.process.kill()
        apid.process.wait(60)
        wait_until(lambda: all(process_state(pid) is None for pid in workers), 60)
        hammers.stop()
        there = written(system, made["id"])
        assert hammers.answered <= there <= hammers.answered + 8, (hammers.answered, there)
        with system.another_apid(workers=1, apid_pid_file=pid_file) as next_one:
            assert f'event="the master before us did not end by itself" pid={killed}' in next_one.log()
    with system.another_apid(workers=1, apid_pid_file=pid_file) as third:
        assert "did not end by itself" not in third.log()


def test_last_use_is_known_to_the_end(system):
    """Written at most once a minute, and at a clean stop whatever is newer, by all workers at once."""
    made = new_key(system)
    with system.another_apid(workers=4) as apid:
        api = Api(apid.address(), made["key"])

        def use():
            assert api.get("/v1/mailboxes?limit=1").status == 200

        def known():
            return system.sql("select last_used_at from api_keys where id = %s", made["id"])[0][0]

        for _ in range(16):
            use()
        wait_until(known)
        time.sleep(2)
        newer = datetime.datetime.now(datetime.timezone.utc)
        for _ in range(16):
            use()
        apid.process.terminate()
        apid.process.wait(60)
    assert known() >= newer - datetime.timedelta(milliseconds=100), (known(), newer)  # the loop's clock is read once a turn
