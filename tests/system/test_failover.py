"""A primary with a synchronous standby, which takes its place while it stands still; then it goes on, as if nothing had happened."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess

import psycopg2
import pytest

from client import Api, deliver, wait_until
from launched import System, children

PROCESSES = 2


class Standby:
    """Of a system's PostgreSQL, beside it."""

    def __init__(self, system):
        words, self.environment, (uid, gid) = system.remember("postgres")
        self.system = system
        self.programs = pathlib.Path(words[0]).parent
        self.data = pathlib.Path(system.info["data"], "run", "standby")
        self.sockets = system.sockets
        self.switch = dict(user=uid, group=gid, extra_groups=[]) if os.getuid() == 0 else {}
        self.command("pg_basebackup", "-h", system.sockets, "-p", "5432", "-U", "postgres", "-D", str(self.data), "-R", "-c", "fast")
        with open(os.path.join(system.directory, "standby.log"), "wb") as log:
            self.process = subprocess.Popen(
                [str(self.programs / "postgres"), "-D", str(self.data), "-p", "5433", "-c", f"unix_socket_directories={self.sockets}"],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True, **self.switch)

    def command(self, name, *words):
        subprocess.run([str(self.programs / name), *words], env=self.environment, cwd="/", check=True, timeout=120, stdout=subprocess.DEVNULL,
                       **self.switch)

    def sql(self, query):
        with contextlib.closing(psycopg2.connect(host=self.sockets, port=5433, dbname="minutemail", user="postgres")) as db:
            db.autocommit = True
            cursor = db.cursor()
            cursor.execute(query)
            return cursor.fetchall() if cursor.description else None

    def promote(self):
        self.command("pg_ctl", "promote", "-D", str(self.data))

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(60)
        shutil.rmtree(self.data, ignore_errors=True)


def signal_primary(system, number):
    postmaster = system.pid("postgres")
    os.kill(postmaster, signal.SIGSTOP)  # so that it makes no more of them meanwhile
    for pid in [*children(postmaster), postmaster]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@pytest.fixture(scope="module")
def pair():
    system = System()
    standby = None
    try:
        system.start()
        standby = Standby(system)
        system.sql("alter system set synchronous_standby_names = '*'")
        system.sql("select pg_reload_conf()")
        wait_until(lambda: system.sql("select 1 from pg_stat_replication where sync_state = 'sync'"), 60)
        yield system, standby
    finally:
        if standby:
            signal_primary(system, signal.SIGCONT)
            system.sql("alter system reset synchronous_standby_names")  # nobody waits for it: a command of its own
            system.sql("select pg_reload_conf()")
            standby.end()
        system.remove()


def accepted(smtpd, box, subjects):
    """Whether a message was; its subject is noted then."""
    subject = f"number {len(subjects)}"
    try:
        code = deliver(smtpd.address(), f"Subject: {subject}\r\n\r\nx\r\n".encode(), box["address"])[0]
    except (AssertionError, OSError, TypeError):
        return False
    if code == 250:
        subjects.append(subject)
    return code == 250


@pytest.mark.slow
def test_standby_takes_over(pair):
    """The primary is the first host of the daemons' strings, and takes connections all the time. What got 250 is with the standby once, the
    daemons find it, and they do not go back: to where mail would get lost and a revoked key is valid."""
    system, standby = pair
    hosts = f"host={standby.sockets},{standby.sockets} port=5432,5433 dbname=minutemail target_session_attrs=read-write"
    subjects, key = [], system.ctl("key", "create", "--name", "failover", "--user", f"operator@{system.domain}", "--domain", system.domain)
    with system.another_smtpd("127.0.0.1:0", workers=PROCESSES, smtpd_database=f"{hosts} user=minutemail_smtpd") as smtpd, \
            system.another_apid(workers=PROCESSES, apid_database=f"{hosts} user=minutemail_apid") as apid:
        api = Api(apid.address(), key["key"])
        statuses = lambda: {api.get(f"/v1/mailboxes/{box['id']}").status for _ in range(8 * PROCESSES)}  # noqa: E731
        box = api.mailbox()
        for _ in range(10):
            assert accepted(smtpd, box, subjects)
        assert statuses() == {200}
        signal_primary(system, signal.SIGSTOP)
        standby.promote()
        standby.sql("alter system reset synchronous_standby_names")
        standby.sql("select pg_reload_conf()")
        wait_until(lambda: accepted(smtpd, box, subjects), 60)
        wait_until(lambda: statuses() == {200}, 60)
        signal_primary(system, signal.SIGCONT)
        wait_until(system.postgres_up, 30)
        wait_until(lambda: all(accepted(smtpd, box, subjects) for _ in range(5 * PROCESSES)), 60)
        assert statuses() == {200}
        command, environment = system.ctl_command("key", "revoke", key["id"])
        environment["MINUTEMAIL_CTL_DATABASE"] = f"host={standby.sockets} port=5433 dbname=minutemail user=postgres"
        subprocess.run(command, env=environment, check=True, timeout=60, stdout=subprocess.DEVNULL)
        assert statuses() == {401}
        there = [subject for subject, in standby.sql(f"select subject from messages where mailbox_id = '{box['id']}'")]
        assert sorted(subject for subject in there if subject in subjects) == sorted(subjects)
