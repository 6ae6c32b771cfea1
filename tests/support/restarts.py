"""Clients that never pause, while what serves them is replaced again and again. Every connection's fate is counted: the suite's
test_restart.py and the long form, tests/bench/restart, both want the same zeros."""

import http.client
import os
import pathlib
import signal
import socket
import threading
import time
import uuid

from client import wait_until

PATIENCE = 60


class Lost(Exception):
    """The server went away in the middle."""


class Session:
    """SMTP as plainly as possible, so that each fault has a name."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def close(self):
        self.file.close()
        self.socket.close()

    def reply(self):
        while True:
            line = self.file.readline()
            if not line.endswith(b"\n"):
                raise Lost
            if line[3:4] != b"-":
                return int(line[:3])

    def say(self, octets):
        self.socket.sendall(octets)
        return self.reply()

    def deliver(self, address, token):
        """The last reply's code; 250 means stored."""
        for line, good in ((f"MAIL FROM:<a@example.org>\r\n", 250), (f"RCPT TO:<{address}>\r\n", 250), ("DATA\r\n", 354)):
            code = self.say(line.encode())
            if code != good:
                return code
        self.socket.sendall(f"Subject: {token}\r\n\r\n".encode())
        time.sleep(0.002)  # so that many are cut off right here
        return self.say(b"Some text.\r\n.\r\n")


class Fates:
    def __init__(self):
        self.lock = threading.Lock()
        self.counts = dict.fromkeys(("sessions", "stored", "told to come again", "refused", "lost before the banner",
                                     "lost in a session", "other replies", "requests", "requests failed", "announced closes"), 0)
        self.tokens = set()
        self.odd = []
        self.slowest = 0.0

    def count(self, name, detail=None):
        with self.lock:
            self.counts[name] += 1
            if detail is not None and len(self.odd) < 20:
                self.odd.append(f"{name}: {detail!r}")

    def stored(self, token):
        with self.lock:
            self.counts["stored"] += 1
            self.tokens.add(token)


class Load:
    """Threads that deliver and threads that ask, until stop()."""

    def __init__(self, system, smtp_clients=4, http_clients=2):
        self.system = system
        self.box = system.api.mailbox(noExpiration=True)
        self.fates = Fates()
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=self.deliver) for _ in range(smtp_clients)]
        self.threads += [threading.Thread(target=self.ask) for _ in range(http_clients)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.ending.set()
        for thread in self.threads:
            thread.join()

    def deliver(self):
        while not self.ending.is_set():
            self.session()

    def session(self):
        began = time.monotonic()
        try:
            session = Session(self.system.smtp)
        except OSError as fault:
            self.fates.count("refused", fault)
            return
        self.fates.count("sessions")
        banner = False
        try:
            code = session.reply()
            banner = True
            with self.fates.lock:
                self.fates.slowest = max(self.fates.slowest, time.monotonic() - began)
            if code == 220:
                code = session.say(b"EHLO client.example.org\r\n")
            for _ in range(3):
                if code != 250:
                    break
                token = uuid.uuid4().hex
                code = session.deliver(self.box["address"], token)
                if code == 250:
                    self.fates.stored(token)
            if code == 421:
                self.fates.count("told to come again")
            elif code == 250:
                session.say(b"QUIT\r\n")
            else:
                self.fates.count("other replies", code)
        except (OSError, Lost, ValueError) as fault:
            self.fates.count("lost in a session" if banner else "lost before the banner", fault)
        finally:
            session.close()

    def ask(self):
        connection = None
        while not self.ending.is_set():
            connection = connection or self.system.api.connect()
            try:
                answer = self.system.api.get("/v1/mailboxes?limit=1", connection=connection)
                self.fates.count("requests")
                if answer.status != 200:
                    self.fates.count("requests failed", answer)
                if (answer.headers["Connection"] or "").lower() == "close":
                    self.fates.count("announced closes")
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as fault:
                self.fates.count("requests failed", fault)
                connection.close()
                connection = None
        if connection:
            connection.close()

    def missing(self):
        """How many messages got their 250 and are not there."""
        stored = {row[0] for row in self.system.sql("select subject from messages where mailbox_id = %s", self.box["id"])}
        return len(self.fates.tokens - stored)


def pid_of(system, name):
    """The master's pid, by its pid file; 0: none runs."""
    try:
        return int(pathlib.Path(system.info["data"], "run", name + ".pid").read_text())
    except FileNotFoundError:
        return 0


def upgrade(system, name, seconds=PATIENCE):
    """SIGUSR2; returns when the new master is the daemon."""
    before = pid_of(system, name)
    os.kill(before, signal.SIGUSR2)
    wait_until(lambda: pid_of(system, name) != before, seconds)
    system.info["pids"][name] = pid_of(system, name)


def turn(system, seconds, names=("smtpd", "apid")):
    """Upgrades and reloads in turn; how many of each."""
    until = time.monotonic() + seconds
    upgrades = reloads = 0
    while time.monotonic() < until:
        for name in names:
            upgrade(system, name)
            upgrades += 1
            os.kill(pid_of(system, name), signal.SIGHUP)
            reloads += 1
    return upgrades, reloads
