"""Replacing what runs: nobody is refused, nobody is cut off, nothing is lost."""

import os
import pathlib
import signal
import socket
import subprocess
import sys

import pytest

from client import wait_until
from launched import System, children, free_ports, process_name, process_state
from restarts import Load, Session, pid_of, turn, upgrade

SECONDS = 10


@pytest.fixture(scope="module")
def fleeting():
    """A system of our own: its masters do not stay the ones that were started."""
    running = System(environment={"MINUTEMAIL_DRAIN": "20s"})
    try:
        yield running.start()
    finally:
        running.remove()


def check_fates(load):
    counts = load.fates.counts
    bad = ("refused", "lost before the banner", "lost in a session", "other replies", "requests failed")
    assert not any(counts[name] for name in bad), (counts, load.fates.odd)
    assert load.missing() == 0
    assert counts["stored"] > 0 and counts["requests"] > 0
    return counts


def test_restart_under_load(fleeting):
    with Load(fleeting) as load:
        upgrades, _ = turn(fleeting, SECONDS)
    counts = check_fates(load)
    assert upgrades >= 2
    assert counts["announced closes"] > 0, "no client was connected when its server was replaced"


def test_data_in_hand(fleeting):
    box = fleeting.api.mailbox()
    old = pid_of(fleeting, "smtpd")
    session = Session(fleeting.smtp)
    assert session.reply() == 220
    assert session.say(b"EHLO client.example.org\r\n") == 250
    for line, code in ((b"MAIL FROM:<a@example.org>\r\n", 250), (b"RCPT TO:<%s>\r\n" % box["address"].encode(), 250), (b"DATA\r\n", 354)):
        assert session.say(line) == code
    session.socket.sendall(b"Subject: in hand\r\n\r\nfirst half,")
    upgrade(fleeting, "smtpd")
    assert process_state(old) is not None, "the old master did not wait for what it had in hand"
    assert Session(fleeting.smtp).reply() == 220
    assert session.say(b" second half\r\n.\r\n") == 250
    assert fleeting.api.only_mail(box)["subject"] == "in hand"
    assert session.say(b"NOOP\r\n") == 421
    session.close()
    wait_until(lambda: process_state(old) is None, 30)


def test_drain_deadline(fleeting):
    """SIGTERM waits for a message that does not come on, to the deadline; a second one does not."""
    how = fleeting.remember("smtpd")
    old = fleeting.pid("smtpd")
    session = Session(fleeting.smtp)
    assert session.reply() == 220
    assert session.say(b"EHLO client.example.org\r\n") == 250
    box = fleeting.api.mailbox()
    for line in (b"MAIL FROM:<a@example.org>\r\n", b"RCPT TO:<%s>\r\n" % box["address"].encode(), b"DATA\r\n"):
        session.say(line)
    os.kill(old, signal.SIGTERM)
    wait_until(lambda: "event=draining signal=15" in fleeting.log("smtpd"), 10)
    assert process_state(old) is not None
    os.kill(old, signal.SIGTERM)
    wait_until(lambda: process_state(old) is None, 10)
    session.close()
    fleeting.start_again("smtpd", how)
    wait_until(lambda: pid_of(fleeting, "smtpd") == fleeting.pid("smtpd"), 30)
    assert fleeting.api.mails(box) == []


def test_upgrade_that_cannot_start(fleeting):
    """Another schema: the program that works stays."""
    old = pid_of(fleeting, "smtpd")
    fleeting.sql("insert into schema_migrations values (9999, 'later.sql', now())")
    try:
        os.kill(old, signal.SIGUSR2)
        wait_until(lambda: 'event="upgrade failed"' in fleeting.log("smtpd"), 60)
        assert "this program wants" in fleeting.log("smtpd")
    finally:
        fleeting.sql("delete from schema_migrations where version = 9999")
    assert pid_of(fleeting, "smtpd") == old and process_state(old) is not None
    session = Session(fleeting.smtp)
    assert session.reply() == 220
    session.close()
    upgrade(fleeting, "smtpd")


def test_a_worker_that_hangs(fleeting):
    """The default limit is long; this daemon has a short one."""
    words, environment, _ = fleeting.remember("smtpd")
    address = "127.0.0.1:%d" % free_ports(1)[0]
    words = [word for word in words if not word.startswith(("--smtpd-listen", "--smtpd-metrics", "--smtpd-pid"))]
    pid_file = pathlib.Path(fleeting.directory, "hang.pid")
    process = subprocess.Popen(words + ["--smtpd-listen=" + address, "--hang-limit=4s", "--smtpd-workers=1"],
                               env=dict(environment, MINUTEMAIL_SMTPD_PID_FILE=str(pid_file)), cwd="/", stderr=subprocess.PIPE, text=True)
    try:
        line = ""
        while "event=ready" not in line:
            line = process.stderr.readline()
            assert line
        worker, = [pid for pid in children(process.pid) if process_name(pid) == "smtpd"]
        os.kill(worker, signal.SIGSTOP)
        while 'event="worker hangs"' not in line:
            line = process.stderr.readline()
            assert line
        wait_until(lambda: process_state(worker) is None, 30)
        session = Session(address)
        assert session.reply() == 220
        session.close()
    finally:
        process.terminate()
        process.communicate(timeout=60)


HOLDER = """
import os, sys
# What a socket unit does: holds the sockets and starts the daemon with them, again and again.
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_FDS"] = "1"
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_plain_restart_with_held_sockets(fleeting):
    """Stop, wait, start: the socket unit's queue keeps those that come meanwhile."""
    words, environment, _ = fleeting.remember("smtpd")
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    held.listen(64)
    address = "127.0.0.1:%d" % held.getsockname()[1]
    words = [word for word in words if not word.startswith(("--smtpd-listen", "--smtpd-metrics", "--smtpd-pid"))]
    words += ["--smtpd-listen=" + address]

    def start():
        process = subprocess.Popen([sys.executable, "-c", HOLDER, str(held.fileno()), *words], env=environment, cwd="/",
                                   stderr=subprocess.PIPE, text=True, pass_fds=(held.fileno(), ))
        line, seen = "", ""
        while "event=ready" not in line:
            line = process.stderr.readline()
            assert line, seen
            seen += line
        assert "inherited=1" in seen
        return process

    process = start()
    try:
        for _ in range(3):
            process.terminate()
            process.communicate(timeout=60)
            waiting = [Session(address) for _ in range(8)]  # nobody is there to accept
            process = start()
            for session in waiting:
                assert session.reply() == 220
                assert session.say(b"QUIT\r\n") == 221
                session.close()
    finally:
        process.terminate()
        process.communicate(timeout=60)
        held.close()


def test_launcher_finds_the_new_master(fleeting):
    upgrade(fleeting, "smtpd")
    upgrade(fleeting, "apid")
    masters = [pid_of(fleeting, name) for name in ("smtpd", "apid")]
    fleeting.stop()
    assert all(process_state(pid) is None for pid in masters)
