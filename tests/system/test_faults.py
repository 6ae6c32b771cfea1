"""What happens when parts die: the database, a worker, a parser, a master. These run on a system of their own."""

import os
import signal
import socket
import threading
import time

import pytest

import messages
from client import Smtp, check_problem, deliver, quote, smtplib_session, wait_until
from launched import children, command_line, process_state


@pytest.fixture(autouse=True)
def up_before_and_after(victim):
    wait_until(victim.ready, 30)
    yield
    wait_until(victim.ready, 30)


@pytest.fixture
def box(victim):
    return victim.api.mailbox()


def everybody_serves(victim):
    """Each worker has a connection of its own to get back; requests are spread over them."""
    return {victim.api.get("/v1/mailboxes?limit=1").status for _ in range(40)} == {200}


def all_subjects(api, box):
    subjects, cursor = [], ""
    while True:
        page = api.get(f"/v1/mailboxes/{box['id']}/mails?limit=1000&fields=id,subject{cursor}").json
        subjects += [mail["subject"] for mail in page["items"]]
        if not page.get("nextCursor"):
            return subjects
        cursor = "&cursor=" + quote(page["nextCursor"])


def accepts(victim, box):
    try:
        return deliver(victim.smtp, messages.plain("again"), box["address"])[0] == 250
    except (AssertionError, OSError, TypeError):
        return False


def refuses(address):
    """At once: who waited in a queue that nobody serves could have tried elsewhere."""
    host, port = address.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=2) as s:
            s.recv(10)
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # it came just before
        pass
    return False


@pytest.mark.contract("2 503", "3 Retry-After", "1 ready")
def test_database_stopped_and_started(victim, box):
    """Every answer is temporary while it is away, and nothing needs a restart."""
    keeper = Smtp(victim.smtp)
    keeper.greet()
    started = Smtp(victim.smtp)
    started.greet()
    started.start_data(box["address"])
    keys = victim.api.connect()
    assert victim.api.get("/v1/mailboxes", connection=keys).status == 200
    workers = victim.workers("smtpd"), victim.workers("apid")
    victim.postgres_stop()
    try:
        begin = time.monotonic()
        check_problem(victim.api.get(f"/v1/mailboxes/{box['id']}"), 503, "unavailable")
        answer = victim.api.get("/v1/mailboxes")
        assert answer.status == 503 and int(answer.headers["Retry-After"]) >= 0
        assert victim.api.get("/ready", key=None).status == 503
        assert victim.api.get("/health", key=None).status == 200
        assert time.monotonic() - begin < 12

        code, text = keeper.say(b"MAIL FROM:<a@b.example>")
        if code == 250:
            code, text = keeper.say(b"RCPT TO:<" + box["address"].encode() + b">")
        assert (code, text[:5]) == (451, "4.3.0"), (code, text)

        started.send(messages.plain("in doubt") + b".\r\n")
        started.socket.settimeout(60)
        code, text = started.reply()
        assert (code, text[:5]) == (451, "4.3.0"), (code, text)
    finally:
        victim.postgres_start()
    wait_until(lambda: everybody_serves(victim), 20)
    wait_until(lambda: accepts(victim, box), 20)
    assert {mail["subject"] for mail in victim.api.mails(box)} <= {"again", "in doubt"}
    assert (victim.workers("smtpd"), victim.workers("apid")) == workers
    assert keeper.say(b"RSET")[0] == 250 and keeper.say(b"QUIT")[0] == 221  # the session lived through it
    keeper.close()
    started.close()


def test_database_killed_under_load(victim, box):
    """kill -9 of the postmaster's children makes it restart itself; what got 250 is there afterwards."""
    accepted, stop = [], threading.Event()

    def load(name):
        n = 0
        while not stop.is_set():
            try:
                with smtplib_session(victim.smtp) as smtp:
                    while not stop.is_set():
                        subject = f"{name}-{n}"
                        n += 1
                        if smtp.sendmail("me@example.org", [box["address"]], messages.plain(subject)) == {}:
                            accepted.append(subject)
            except Exception:  # any refusal or broken session: nothing was promised
                time.sleep(0.02)

    threads = [threading.Thread(target=load, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(accepted) > 10, 60)
        for _ in range(2):
            backends = [pid for pid in children(victim.pid("postgres")) if "minutemail_smtpd" in command_line(pid)]
            if backends:
                os.kill(backends[0], signal.SIGKILL)
            time.sleep(1.5)
        wait_until(lambda: everybody_serves(victim), 30)
        before = len(accepted)
        wait_until(lambda: len(accepted) > before + 10, 60)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    found = all_subjects(victim.api, box)
    assert set(accepted) <= set(found)
    assert len(found) == len(set(found)), "a message is there twice"


@pytest.mark.parametrize("name", ["smtpd", "apid"])
def test_worker_killed(victim, box, name):
    before = victim.workers(name)
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: len(victim.workers(name)) == len(before) and before[0] not in victim.workers(name), 10)
    for _ in range(10):
        wait_until(lambda: accepts(victim, box), 10)
        assert victim.api.get("/v1/mailboxes?limit=1").status == 200


def parsers(victim):
    return [pid for worker in victim.workers("smtpd") for zygote in children(worker) for pid in children(zygote)]


def test_parser_killed(victim, box):
    before = parsers(victim)
    assert len(before) == len(victim.workers("smtpd"))
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    for i in range(10):
        code, text = deliver(victim.smtp, messages.plain(f"parsed {i}"), box["address"])
        assert code == 250, text
    found = victim.api.mails(box)
    assert len(found) == 10
    wait_until(lambda: len(parsers(victim)) == len(before), 10)
    assert deliver(victim.smtp, messages.plain("last"), box["address"])[0] == 250
    assert victim.api.mails(box)[0]["subject"] == "last"


def test_zygote_killed(victim, box):
    """Without the process that makes its parsers a worker ends, and the master starts another; mail is parsed again."""
    before = victim.workers("smtpd")
    for worker in before:
        for zygote in children(worker):
            os.kill(zygote, signal.SIGKILL)
    wait_until(lambda: len(parsers(victim)) == len(before) and not set(before) & set(victim.workers("smtpd")), 15)
    for i in range(4):
        assert deliver(victim.smtp, messages.plain(f"again {i}"), box["address"])[0] == 250
    assert all(mail["warnings"] == [] for mail in victim.api.mails(box))


def test_parser_stopped_dead(victim, box):
    """A parser that hangs is killed at its deadline; the message is stored with its source and says so."""
    for pid in parsers(victim):
        os.kill(pid, signal.SIGSTOP)
    source = messages.plain("hangs")
    begin = time.monotonic()
    code, text = deliver(victim.smtp, source, box["address"])
    assert code == 250, text
    assert time.monotonic() - begin < 15
    mail = victim.api.only_mail(box)
    assert "parse_failed" in mail["warnings"]
    assert victim.api.source(mail) == source


def test_master_killed_takes_its_workers_along(victim, box):
    """PR_SET_PDEATHSIG: no orphan goes on serving. A new start of everything is the operator's (here the test's) business."""
    everything = victim.workers("smtpd")
    everything += [pid for worker in everything for pid in children(worker)]
    os.kill(victim.pid("smtpd"), signal.SIGKILL)
    wait_until(lambda: all(process_state(pid) is None for pid in everything), 15)
    victim.stop()
    victim.start()
    assert accepts(victim, box)


def test_master_killed_gives_the_address_back(victim, box):
    """What its workers still have in hand keeps nobody from starting anew."""
    with victim.another_smtpd("127.0.0.1:0", workers=1) as killed, Smtp(killed.address()) as busy:
        busy.greet()
        busy.start_data(box["address"])
        busy.send(messages.plain("in hand"))
        [worker] = killed.workers()
        os.kill(killed.pid, signal.SIGKILL)
        killed.process.wait()
        wait_until(lambda: refuses(killed.address()), 10)
        with victim.another_smtpd(killed.listen[0], workers=1) as next_one:
            assert process_state(worker) is not None
            assert deliver(next_one.address(), messages.plain("new"), box["address"])[0] == 250
            assert busy.say(b"\r\n.")[0] == 250
    assert {mail["subject"] for mail in victim.api.mails(box)} == {"in hand", "new"}


def test_drain(victim, box):
    """SIGTERM: no new sessions, idle ones are told to go, a message in hand gets its true answer."""
    idle, busy = Smtp(victim.smtp), Smtp(victim.smtp)
    idle.greet()
    busy.greet()
    busy.start_data(box["address"])
    busy.send(messages.plain("in hand"))
    http = victim.api.connect()
    assert victim.api.get("/health", connection=http).status == 200
    pid = victim.pid("smtpd")
    os.kill(pid, signal.SIGTERM)
    os.kill(victim.pid("apid"), signal.SIGTERM)
    wait_until(lambda: refuses(victim.smtp), 5)
    busy.send(b".\r\n")
    code, text = busy.reply()
    assert code == 250, text
    answer = idle.reply() or idle.say(b"NOOP")
    assert answer is None or (answer[0] == 421 and answer[1].startswith("4.3.2")), answer
    idle.close()
    busy.close()
    wait_until(lambda: process_state(pid) is None, 15)
    wait_until(lambda: process_state(victim.pid("apid")) is None, 15)
    victim.stop()
    victim.start()
    assert victim.api.only_mail(box)["subject"] == "in hand"


def test_stop_and_second_start_keep_everything(victim, box):
    source = messages.plain("kept")
    assert deliver(victim.smtp, source, box["address"])[0] == 250
    before = victim.info
    victim.stop()
    for pid in before["pids"].values():
        assert process_state(pid) is None
    victim.start()
    assert victim.info["key"] == before["key"] and victim.info["domain"] == before["domain"]
    assert victim.api.source(victim.api.only_mail(box)) == source


@pytest.mark.slow
def test_database_suspended_is_no_hang(victim, box):
    """SIGSTOP of the server's processes: TCP lives, nothing answers. The daemons' own deadlines must."""
    postmaster = victim.pid("postgres")
    stopped = [postmaster, *children(postmaster)]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        begin = time.monotonic()
        answer = victim.api.get(f"/v1/mailboxes/{box['id']}")
        assert answer.status == 503
        assert time.monotonic() - begin < 29
    finally:
        for pid in reversed(stopped):
            os.kill(pid, signal.SIGCONT)
    wait_until(lambda: accepts(victim, box), 30)
