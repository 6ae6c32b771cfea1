"""What a key or a session may no longer do is refused by every worker from the moment on at which the change is answered. Two apids of
four workers each, of one database, are asked without pause while rights are taken away in every way there is; no request sent after the
answer may still succeed. MINUTEMAIL_TEST_ROUNDS says how often (tests/README.md)."""

import datetime
import itertools
import json
import math
import os
import re
import signal
import socket
import threading
import time
from collections import Counter

import pytest

from client import Console
from hammer import Call, Command, Fleet, Line, request, strike, with_key
from people import PASSWORD, make_account, make_person

ROUNDS = int(os.environ.get("MINUTEMAIL_TEST_ROUNDS", 70))
MASTERS, WORKERS = 2, 4
PLATFORM, SECOND = "minutemail.cc", "second.example"
pytestmark = [pytest.mark.slow, pytest.mark.plain_only]


class Session:
    """Somebody signed in, for requests made by hand."""

    def __init__(self, console):
        self.fields = {"Cookie": console.cookie, "X_CSRF_Token": console.csrf}
        self.id = console.user["id"]

    def request(self, method, path, body=None):
        return request(method, path, b"" if body is None else json.dumps(body).encode(), **self.fields)


class World:
    def __init__(self, system, apids):
        self.system, self.apids = system, apids
        self.fleet = Fleet([apid.address() for apid in apids], MASTERS * WORKERS, 3)
        self.line = Line(apids[0].address())
        self.account = make_account(system)
        self.email = make_person(system, account=self.account)
        self.owner = Session(self.sign_in(self.email))
        self.box = self.ask(self.owner.request("POST", "/v1/mailboxes", {"domain": SECOND, "expiresIn": "1h"}))["id"]
        self.early, self.late, self.rounds = Counter(), Counter(), Counter()
        self.number = itertools.count()

    def sign_in(self, email, password=PASSWORD):
        return Console(self.apids[0].address()).sign_in(email, password)

    def ask(self, octets):
        if self.line.sent > 8000:
            self.line.close()
            self.line = Line(self.apids[0].address())
        status, body = self.line.ask(octets)
        assert status in (200, 201), (octets, status, body)
        return json.loads(body)

    def call(self, octets):
        return Call(self.line, octets)

    def key(self, session=None, domains=(PLATFORM, SECOND)):
        return self.ask((session or self.owner).request("POST", "/v1/keys", {"name": "hammered", "domains": domains}))

    def member(self, role="member"):
        email = f"member-{time.time_ns()}@example.com"
        made = self.ask(self.owner.request("POST", "/v1/invitations", {"email": email, "role": role}))
        console = Console(self.apids[0].address())
        return Session(console.take(console.post("/v1/auth/accept-invitation", {"token": made["token"], "password": PASSWORD})))

    def ctl(self, *words):
        return Command(*self.system.ctl_command(*words))

    def warm(self, asks):
        """Every line is let in, and every worker remembers it."""
        for lines in self.fleet.by_worker.values():
            for i, line in enumerate(lines):
                line.send(asks[i % len(asks)])
        for line in self.fleet.lines:
            while not (answers := line.receive()):
                pass
            assert answers[0][0] == 200, answers

    def round(self, kind, **disturbance):
        self.fleet.renew()
        asks, refusals, change = kind(self)
        self.warm(asks)
        try:
            outcome = strike(self.fleet, asks, change, **disturbance)
        except AssertionError as error:
            said = [line for apid in self.apids for line in apid.log().splitlines() if not re.search(r"\blevel=(?:debug|info)\b", line)]
            raise AssertionError(f"{kind.__name__}: {error}; {said[-10:]}") from error
        assert {status for status, _ in outcome.early} <= {200} | refusals, (kind.__name__, Counter(outcome.early))
        let_in = Counter((status, worker) for status, worker in outcome.late if status not in refusals)
        assert not let_in, f"{kind.__name__}: after the change was answered: {let_in}"
        assert {worker for _, worker in outcome.late} == set(self.fleet.by_worker)
        self.rounds[kind.__name__] += 1
        self.early.update(worker for status, worker in outcome.early if status == 200)
        self.late.update(worker for _, worker in outcome.late)

    def listener_backends(self):
        return [pid for pid, in self.system.sql("select pid from pg_stat_activity where application_name = 'apid keys' order by pid")]

    def lose_listeners(self):
        """The server ends every connection on which workers hear of changes."""
        self.system.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'apid keys'")

    def settle(self):
        """All listen, and nobody is waited for who is gone."""
        wanted = self.workers_of_all()
        until = time.monotonic() + 30
        while len(self.listener_backends()) < wanted:
            assert time.monotonic() < until
            time.sleep(0.01)

    def workers_of_all(self):
        return MASTERS * WORKERS + len(self.system.workers("apid"))


@pytest.fixture(scope="module")
def world(system):
    settings = {"password_memory": "19M", "workers": WORKERS}
    with system.another_apid(**settings) as one, system.another_apid(**settings) as two:
        made = World(system, [one, two])
        try:
            yield made
        finally:
            made.fleet.close()
            made.line.close()


# ---- Ways to lose a right: what is asked with it, how it is refused then, and the change ----

def key_deleted(w):
    made = w.key()
    return [with_key(made["key"])], {401}, w.call(w.owner.request("DELETE", "/v1/keys/" + made["id"]))


def key_revoked(w):
    made = w.key()
    return [with_key(made["key"])], {401}, w.call(w.owner.request("POST", f"/v1/keys/{made['id']}/revoke"))


def key_regenerated(w):
    made = w.key()
    return [with_key(made["key"])], {401}, w.call(w.owner.request("POST", f"/v1/keys/{made['id']}/regenerate"))


def key_revoked_by_the_operator(w):
    made = w.key()
    return [with_key(made["key"])], {401}, w.ctl("key", "revoke", made["id"])


def domain_off_the_key(w):
    made = w.key()
    return ([with_key(made["key"], "/v1/mailboxes/" + w.box)], {403},
            w.call(w.owner.request("PATCH", "/v1/keys/" + made["id"], {"domains": [PLATFORM]})))


def domain_given_up(w):
    name = f"given-up-{time.time_ns()}.example"
    made = w.system.ctl("domain", "create", name, "--account", w.account)
    box = w.ask(w.owner.request("POST", "/v1/mailboxes", {"domain": name}))
    key = w.key(domains=[PLATFORM, name])
    return ([with_key(key["key"], "/v1/mailboxes/" + box["id"])], {403, 404},
            w.call(w.owner.request("DELETE", "/v1/domains/" + made["id"])))


def member_removed(w):
    member = w.member()
    return ([with_key(w.key(member)["key"]), member.request("GET", "/v1/mailboxes?limit=1")], {401},
            w.call(w.owner.request("DELETE", "/v1/members/" + member.id)))


def member_suspended(w):
    member = w.member()
    return ([with_key(w.key(member)["key"]), member.request("GET", "/v1/mailboxes?limit=1")], {401},
            w.call(w.owner.request("PATCH", "/v1/members/" + member.id, {"state": "suspended"})))


def role_taken(w):
    member = w.member("owner")
    return ([member.request("GET", "/v1/invitations")], {403},
            w.call(w.owner.request("PATCH", "/v1/members/" + member.id, {"role": "member"})))


def account_suspended(w):
    account = make_account(w.system)
    session = Session(w.sign_in(make_person(w.system, account=account)))
    return ([with_key(w.key(session)["key"]), session.request("GET", "/v1/mailboxes?limit=1")], {401},
            w.ctl("account", "edit", account, "--state", "suspended"))


def signed_out(w):
    session = Session(w.sign_in(w.email))
    return [session.request("GET", "/v1/mailboxes?limit=1")], {401}, w.call(session.request("POST", "/v1/auth/logout"))


def signed_out_everywhere(w):
    email = make_person(w.system)
    one, two = (Session(w.sign_in(email)) for _ in range(2))
    return ([s.request("GET", "/v1/mailboxes?limit=1") for s in (one, two)], {401},
            w.call(one.request("POST", "/v1/auth/logout-everywhere")))


def password_changed(w):
    email = make_person(w.system)
    one, two = (Session(w.sign_in(email)) for _ in range(2))
    return ([two.request("GET", "/v1/mailboxes?limit=1")], {401},
            w.call(one.request("POST", "/v1/auth/password", {"current": PASSWORD, "new": PASSWORD + "!"})))


def session_ended_by_the_operator(w):
    email = make_person(w.system)
    session = Session(w.sign_in(email))
    return [session.request("GET", "/v1/mailboxes?limit=1")], {401}, w.ctl("session", "end", email)


class Expiry(Call):
    """The answer to a change of the expiry counts from the instant that it names."""

    def __init__(self, line, octets, instant):
        super().__init__(line, octets)
        self.instant = instant

    def start(self):
        super().start()
        assert any(iter(super().done, True)) is False
        self.bell, bell = socket.socketpair()
        threading.Timer(self.instant - time.time(), bell.close).start()
        return self.bell

    def done(self):
        self.bell.close()
        return time.time() >= self.instant


def key_expired(w):
    made = w.key()
    instant = math.ceil(time.time()) + 1
    text = datetime.datetime.fromtimestamp(instant, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return ([with_key(made["key"])], {401},
            Expiry(w.line, w.owner.request("PATCH", "/v1/keys/" + made["id"], {"expiresAt": text}), instant))


OFTEN = [key_deleted, key_revoked, key_regenerated, domain_off_the_key, member_removed]
SELDOM = [member_suspended, role_taken, signed_out, key_revoked_by_the_operator, account_suspended, domain_given_up,
          signed_out_everywhere, password_changed, session_ended_by_the_operator, key_expired]


def kinds(rounds):
    """Each of SELDOM in turn, one round in seven, but each once at the least; for the rest those of OFTEN, in turn."""
    seldom, often = itertools.cycle(SELDOM), itertools.cycle(OFTEN)
    few = max(len(SELDOM), rounds // 7)
    for n in range(max(rounds, 2 * few)):
        yield next(seldom) if n * few // max(rounds, 2 * few) != (n + 1) * few // max(rounds, 2 * few) else next(often)


# ---- Tests ----

def cached(world):
    return sum(apid.metrics()['minutemail_apid_auth_total{how="cached"}'] for apid in world.apids)


@pytest.mark.contract("4 regenerate", "4 revoke", "4 delete", "4 domain off", "8 member removed")
def test_nothing_sent_after_the_answer_succeeds(world):
    world.settle()
    before, began = cached(world), time.monotonic()
    done = 0
    for kind in kinds(ROUNDS):
        world.round(kind)
        done += 1
    took = time.monotonic() - began
    print(f"\n{done} rounds in {took:.1f} s: {dict(world.rounds)}; by worker, let in before the answer: {sorted(world.early.values())}, "
          f"refused after it: {sorted(world.late.values())}")
    assert len(world.late) == len(world.early) == MASTERS * WORKERS
    assert min(world.late.values()) >= 3 * done and min(world.early.values()) >= done  # of each worker, in each round
    assert cached(world) - before > sum(world.early.values()) / 2, "the workers remembered nothing: there was nothing to forget"


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_workers_that_lost_their_listening_connection(world, when):
    """Before the change is asked for, or while it is under way."""
    for kind in OFTEN:
        world.settle()
        world.round(kind, **{when: world.lose_listeners})


@pytest.mark.parametrize("path, body", [("/v1/mailboxes", b'{"alias":"too-late"}'), ("/v1/mailboxes", b'{"domain":"second.example"}')])
def test_a_body_that_ends_after_the_answer(world, path, body):
    """The key was good for the head (100 Continue), and is not when the request is all there."""
    made = world.key()
    whole = request("POST", path, body, Authorization="Bearer " + made["key"], Expect="100-continue")
    lines = [lines[0] for lines in world.fleet.by_worker.values()]
    for line in lines:
        line.send(whole[:-len(body)])
        assert line.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    domain_off = b"domain" in body
    if domain_off:
        world.ask(world.owner.request("PATCH", "/v1/keys/" + made["id"], {"domains": [PLATFORM]}))
    else:
        world.ask(world.owner.request("POST", f"/v1/keys/{made['id']}/revoke"))
    for line in lines:
        line.socket.sendall(body)
        while not (answers := line.receive()):
            pass
        assert answers[0][0] == (403 if domain_off else 401), answers
    assert world.system.sql("select count(*) from mailboxes where address like 'too-late@%%'") == [(0,)]


@pytest.mark.parametrize("most", [1, None], ids=["one", "all"])
def test_a_notice_that_does_not_come(world, most):
    """The server's processes that would tell of the change stand still; the workers go on, and may not go on with what they remember."""
    for i, kind in enumerate(OFTEN):
        world.settle()
        backends = world.listener_backends()
        backends = backends[i % len(backends):][:most] if most else backends

        def signal_all(number, backends=tuple(backends)):
            for pid in backends:
                os.kill(pid, number)

        try:
            world.round(kind, before=lambda: signal_all(signal.SIGSTOP), reported=lambda: signal_all(signal.SIGCONT))
        finally:
            signal_all(signal.SIGCONT)


@pytest.mark.parametrize("lost", [False, True], ids=["listening", "not listening"])
def test_a_worker_that_stands_still(world, lost):
    """Stopped before the change is asked for, it goes on after the change was answered, with requests that came meanwhile."""
    for kind, pid in zip(OFTEN, itertools.cycle(world.apids[1].workers())):
        world.settle()

        def stop(pid=pid):
            os.kill(pid, signal.SIGSTOP)
            if lost:
                world.lose_listeners()

        try:
            world.round(kind, before=stop, reported=lambda pid=pid: os.kill(pid, signal.SIGCONT))
        finally:
            os.kill(pid, signal.SIGCONT)


def test_a_look_up_under_way_when_its_worker_is_stopped(world):
    """The worker has asked the database for the key, and reads the answer only when the key is gone."""
    for i, pid in enumerate(world.apids[1].workers() * 2):
        world.settle()

        def stop(pid=pid, i=i):
            world.system.sql("notify minutemail_keys, '00 *'")  # whatever they remember
            time.sleep(0.0001 * i)
            os.kill(pid, signal.SIGSTOP)

        try:
            world.round(OFTEN[i % len(OFTEN)], before=stop, reported=lambda pid=pid: os.kill(pid, signal.SIGCONT))
        finally:
            os.kill(pid, signal.SIGCONT)
