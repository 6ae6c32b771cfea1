"""Quotas over many processes: four apids with two workers each, 64 clients, one account. A clock of our own, so that a midnight
comes when the test wants it."""

import asyncio
import concurrent.futures
import os
import pathlib
import random
import signal
import time

import pytest

from client import Api, check_problem, items, wait_until

CLIENTS = 64
QUOTA = 10_000
DAY = 86400


class Account:
    """An account of a plan of its own, and a key for environment test."""

    def __init__(self, system, **limits):
        stamp = str(time.time_ns())
        self.plan, email = "plan-" + stamp, f"quota-{stamp}@{system.domain}"
        columns = ["name", *limits]
        system.sql(f"insert into plans ({', '.join(columns)}) values ({', '.join(['%s'] * len(columns))})", self.plan, *limits.values())
        self.id = system.ctl("account", "create", "quota-" + stamp, "--plan", self.plan)["id"]
        system.ctl("user", "create", email, "--account", "quota-" + stamp, "--role", "owner")
        self.key = system.ctl("key", "create", "--name", "quota", "--user", email, "--domain", system.domain, "--environment", "test")["key"]


class Apids:
    """Several apids whose clock can be set, on one database."""

    def __init__(self, system, count, workers=2):
        self.system, self.offset = system, 0
        self.file = os.path.join(system.directory, f"clock-{time.time_ns()}.conf")
        self.write()
        self.all = [system.another_apid(workers=workers, environment="test", config=self.file) for _ in range(count)]

    def write(self):
        pathlib.Path(self.file).write_text(f"test_clock_offset = {self.offset}s\n")
        os.chmod(self.file, 0o644)

    def __enter__(self):
        self.running = []
        try:
            for apid in self.all:
                self.running.append(apid.__enter__())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        while self.running:
            self.running.pop().__exit__()

    @property
    def now(self):
        return time.time() + self.offset

    def set_clock(self, days, seconds):
        """To so many seconds after the midnight that begins the `days`th day from now."""
        self.offset = int((time.time() // DAY + days) * DAY + seconds - time.time()) + 1
        self.write()
        for apid in self.running:
            os.kill(apid.process.pid, signal.SIGHUP)
        for apid in self.running:
            wait_until(lambda a=apid: abs(self.date(a) - self.now) < 30, 20)

    @staticmethod
    def date(apid):
        date = Api(apid.address(), None).get("/health").headers["Date"]
        return time.mktime(time.strptime(date, "%a, %d %b %Y %H:%M:%S GMT")) - time.timezone

    def addresses(self):
        return [("127.0.0.1", apid.ports[0]) for apid in self.running]


async def client(address, key, statuses):
    """Asks until it is refused, on one connection as long as that lasts."""
    request = f"GET /v1/mailboxes HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
    writer = None
    while True:
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection(*address)
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:] if line)
            await reader.readexactly(int(fields["Content-Length"]))
        except (OSError, asyncio.IncompleteReadError):
            statuses.append(0)
            if writer:
                writer.close()
            writer = None
            await asyncio.sleep(0.01)
            continue
        statuses.append(int(head[9:12]))
        if statuses[-1] != 200:
            writer.close()
            return


def load(apids, key, meanwhile=None):
    """What the clients were answered, until each of them had been refused."""
    statuses = []

    async def run():
        addresses = apids.addresses()
        tasks = [asyncio.ensure_future(client(addresses[i % len(addresses)], key, statuses)) for i in range(CLIENTS)]
        if meanwhile:
            tasks.append(asyncio.ensure_future(meanwhile(statuses)))
        await asyncio.wait_for(asyncio.gather(*tasks), 120)

    asyncio.run(run())
    return statuses


@pytest.mark.contract("2 429 quota", "3 X-RateLimit", "3 Retry-After", "3 exact", "3 crash", "3 midnight")
@pytest.mark.slow
def test_exactly_the_quota(system):
    account = Account(system, calls_per_day=QUOTA)
    with Apids(system, 4) as apids:
        apids.set_clock(1, 3600)
        statuses = load(apids, account.key)
        assert statuses.count(200) == QUOTA
        assert statuses.count(429) == CLIENTS == len(statuses) - QUOTA

        refused = Api(apids.running[0].address(), account.key).get("/v1/mailboxes")
        check_problem(refused, 429, "quota_exceeded")
        assert refused.headers["X-RateLimit-Limit"] == str(QUOTA)
        assert refused.headers["X-RateLimit-Remaining"] == "0"
        midnight = int(refused.headers["X-RateLimit-Reset"])
        assert midnight % DAY == 0 and abs(midnight - apids.now - 23 * 3600) < 120
        assert abs(int(refused.headers["Retry-After"]) - (midnight - apids.now)) < 30

        # Across a midnight that comes by itself.
        apids.set_clock(1, DAY - 4)
        api = Api(apids.running[1].address(), account.key)
        check_problem(api.get("/v1/mailboxes"), 429, "quota_exceeded")
        opened = wait_until(lambda: [r for r in [api.get("/v1/mailboxes")] if r.status == 200], 30)[0]
        assert apids.now >= midnight
        assert opened.headers["X-RateLimit-Remaining"] == str(QUOTA - 1)
        assert int(opened.headers["X-RateLimit-Reset"]) == midnight + DAY

        # A worker is killed on the way, then all the others end and give back what they hold.
        async def kill(so_far):
            while len(so_far) < QUOTA // 2:
                await asyncio.sleep(0.005)
            os.kill(random.choice(random.choice(apids.running).workers()), signal.SIGKILL)

        statuses = load(apids, account.key, kill)
        assert QUOTA * 0.99 <= 1 + statuses.count(200) <= QUOTA
    charged = dict(system.sql("select day, calls from api_usage where account_id = %s", account.id))
    assert charged == {midnight // DAY - 1: QUOTA, midnight // DAY: QUOTA}


@pytest.mark.contract("3 counts once", "3 RateLimit")
def test_what_counts(system):
    account = Account(system, calls_per_day=100)
    left = 100
    with Apids(system, 1, workers=1) as apids:
        api = Api(apids.running[0].address(), account.key)

        def costs(calls, response, status):
            nonlocal left
            assert response.status == status
            left -= calls
            assert response.headers["X-RateLimit-Remaining"] == str(left)
            assert f'"day";r={left};t=' in response.headers["RateLimit"]
            assert response.headers["RateLimit-Policy"] == '"day";q=100;w=86400'

        costs(1, api.get("/v1/mailboxes"), 200)
        costs(1, api.post("/v1/mailboxes", {"expiresIn": "soon"}), 400)
        costs(1, api.post("/v1/mailboxes", {"domain": "not.on.the.key"}), 403)
        costs(1, api.get("/v1/mailboxes/00000000-0000-7000-8000-000000000000"), 404)
        costs(1, api.get("/v1/nowhere"), 404)
        costs(1, api.request("PUT", "/v1/mailboxes"), 405)
        costs(1, api.post("/v1/mailboxes", "x" * 2_000_000, headers={"Content-Type": "application/json"}), 413)
        for key in (None, account.key[:-1] + ("A" if account.key[-1] != "A" else "B")):
            refused = api.get("/v1/mailboxes", key=key)
            assert refused.status == 401 and refused.headers["X-RateLimit-Remaining"] is None
            assert api.get("/v1/nowhere", key=key).status == 404
        assert api.get("/health").headers["X-RateLimit-Remaining"] is None
        costs(1, api.get("/v1/mailboxes"), 200)


@pytest.mark.contract("3 plans edited")
def test_a_changed_plan_counts_at_once(system):
    account = Account(system, calls_per_day=3)
    with Apids(system, 2, workers=1) as apids:
        first, second = (Api(apid.address(), account.key) for apid in apids.running)
        assert [first.get("/v1/mailboxes").status for _ in range(4)] == [200, 200, 200, 429]
        check_problem(second.get("/v1/mailboxes"), 429, "quota_exceeded")
        system.ctl("plan", "edit", account.plan, "--calls-per-day", "5")
        assert [api.get("/v1/mailboxes").status for api in (second, first, second)] == [200, 200, 429]


@pytest.mark.contract("2 429 rate", "3 minute", "3 Retry-After", "3 RateLimit")
def test_so_many_a_minute(system):
    account = Account(system, requests_per_minute=60)
    with Apids(system, 2, workers=1) as apids:
        apids.set_clock(1, 3600)
        statuses = load(apids, account.key)
        assert statuses.count(200) <= 60 and statuses.count(429) == CLIENTS
        api = Api(apids.running[0].address(), account.key)
        refused = api.get("/v1/mailboxes")
        check_problem(refused, 429, "rate_limit_exceeded")
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert refused.headers["RateLimit-Policy"] == '"minute";q=60;w=60'
        apids.set_clock(1, 7200)
        assert api.get("/v1/mailboxes").status == 200


@pytest.mark.contract("3 minute", "3 Retry-After")
def test_the_next_minute_opens_by_itself(system):
    """The window is the clock's minute, and Retry-After says when it ends."""
    account = Account(system, requests_per_minute=5)
    with Apids(system, 1, workers=1) as apids:
        api = Api(apids.running[0].address(), account.key)
        apids.set_clock(1, 3600 + 50)
        answers = [api.get("/v1/mailboxes") for _ in range(12)]  # even over the end of a minute one of them is too many
        refused = next(answer for answer in answers if answer.status == 429)
        check_problem(refused, 429, "rate_limit_exceeded")
        time.sleep(int(refused.headers["Retry-After"]) + 0.1)
        assert api.get("/v1/mailboxes").status == 200


@pytest.mark.contract("2 429 mailboxes", "3 active mailboxes", "3 archived mailboxes")
def test_so_many_active_mailboxes(system):
    account = Account(system, active_mailboxes=3, archived_mailboxes=2, calls_per_day=1000)
    with Apids(system, 2) as apids:
        apis = [Api(apid.address(), account.key) for apid in apids.running]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda i: apis[i % 2].post("/v1/mailboxes", {"recoverable": True, "tag": "t"}), range(8)))
        assert sorted(r.status for r in made) == [201] * 3 + [429] * 5
        refused = next(r for r in made if r.status == 429)
        check_problem(refused, 429, "quota_exceeded")
        assert "3 active mailboxes" in refused.json["message"] and int(refused.headers["Retry-After"]) > 0
        first, second, third = (r.json["id"] for r in made if r.status == 201)
        api = apis[0]

        # Two go into the archive, the third finds it full and stays as it was; so it does among others.
        assert [api.delete("/v1/mailboxes/" + box).status for box in (first, second)] == [204, 204]
        check_problem(api.delete("/v1/mailboxes/" + third), 429, "quota_exceeded")
        plain = api.post("/v1/mailboxes", {}).json["id"]
        check_problem(api.delete("/v1/mailboxes", {"ids": [plain, third]}), 429, "quota_exceeded")
        assert [api.get("/v1/mailboxes/" + box).status for box in (plain, third)] == [200, 200]
        check_problem(api.delete("/v1/mailboxes/00000000-0000-7000-8000-000000000000"), 404, "not_found")

        # An archived one comes back only if there is a place.
        another = api.post("/v1/mailboxes", {}).json["id"]
        check_problem(api.post(f"/v1/archived-mailboxes/{first}/reactivate"), 429, "quota_exceeded")
        assert len(items(api.get("/v1/archived-mailboxes"))) == 2
        assert [api.delete("/v1/mailboxes/" + box).status for box in (plain, another)] == [204, 204]
        assert api.post(f"/v1/archived-mailboxes/{first}/reactivate").status == 201
        assert api.delete("/v1/mailboxes/" + third).status == 204
