"""What one client may do, over all workers: connections, messages, errors, time. The clients are 127.0.0.x, which this smtpd does not
exempt as the launcher's does."""

import contextlib
import os
import signal
import socket
import ssl
import statistics
import time

import pytest

import messages
from client import Smtp, deliver, wait_until
from launched import process_state

STRICT = dict(client_exempt="192.0.2.0/24", client_network_factor=0)


class Clients:
    """Sessions kept open until the end of the test."""

    def __init__(self, smtpd):
        self.smtpd, self.opened = smtpd, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for wire in self.opened:
            wire.close()

    def open(self, source):
        """The reply to connecting."""
        wire = Smtp(self.smtpd.address(), source=source)
        self.opened.append(wire)
        return wire.reply()


def test_connections_at_once_over_two_workers(system):
    with system.another_smtpd("127.0.0.1:0", "127.0.0.1:0;limits=no", client_connections_max=4, **STRICT) as smtpd, Clients(smtpd) as clients:
        answers = [clients.open("127.0.0.2") for _ in range(16)]
        assert [code for code, _ in answers] == [220] * 4 + [421] * 12
        assert all(text.startswith("4.7.0 ") for _, text in answers[4:])
        assert clients.open("127.0.0.3")[0] == 220
        for wire in clients.opened[4:16]:
            assert wire.rest() == b""

        clients.opened[0].close()
        wait_until(lambda: clients.open("127.0.0.2")[0] == 220)
        assert clients.open("127.0.0.2")[0] == 421

        for _ in range(10):
            with Smtp(smtpd.address(1), source="127.0.0.2") as wire:
                assert wire.reply()[0] == 220
        assert smtpd.metrics()['minutemail_smtpd_refused_total{reason="client_limit"}'] >= 13


def test_a_killed_worker_leaves_no_counts(system):
    with system.another_smtpd("127.0.0.1:0", client_connections_max=6, **STRICT) as smtpd, Clients(smtpd) as clients:
        assert [clients.open("127.0.0.2")[0] for _ in range(7)] == [220] * 6 + [421]
        victims = smtpd.workers()
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(set(smtpd.workers()) - set(victims)) == len(victims), 30)

        def all_again():
            with Clients(smtpd) as again:
                return [again.open("127.0.0.2")[0] for _ in range(6)] == [220] * 6

        wait_until(all_again, 30, 0.5)


@pytest.mark.parametrize("killed", [False, True])
def test_limits_hold_across_an_upgrade(system, killed):
    """Sessions of the old workers count for the new ones, until they end, by themselves or by SIGKILL."""
    with system.another_smtpd("127.0.0.1:0", client_connections_max=4, drain="60s", **STRICT) as smtpd, Clients(smtpd) as clients:
        assert [clients.open("127.0.0.2")[0] for _ in range(5)] == [220] * 4 + [421]
        box = system.api.mailbox()
        for wire in clients.opened[:4]:  # so that the old workers have something in hand
            assert wire.say(b"EHLO client.example.org")[0] == 250
            wire.start_data(box["address"])
        old, workers = smtpd.pid, smtpd.workers()
        smtpd.upgrade()
        assert not set(smtpd.workers()) & set(workers)
        assert [clients.open("127.0.0.2")[0] for _ in range(8)] == [421] * 8
        assert clients.open("127.0.0.3")[0] == 220
        assert process_state(old) is not None

        if killed:
            for pid in workers:
                with contextlib.suppress(ProcessLookupError):  # one that was given no session has ended by itself
                    os.kill(pid, signal.SIGKILL)
        else:
            for wire in clients.opened[:4]:
                wire.send(b"Subject: in hand\r\n\r\nx\r\n.\r\n")
                assert wire.reply()[0] == 250
                wire.close()
        wait_until(lambda: process_state(old) is None or smtpd.process.poll() is not None, 30)

        def all_again():
            with Clients(smtpd) as again:
                return [again.open("127.0.0.2")[0] for _ in range(5)]

        assert wait_until(lambda: all_again() == [220] * 4 + [421] or None, 30, 0.5)


def test_an_upgrade_that_fails_leaves_no_counts(system):
    """The next master's workers never had a client, but they had rows in the table."""
    with system.another_smtpd("127.0.0.1:0", client_connections_max=2, **STRICT) as smtpd, Clients(smtpd) as clients:
        assert [clients.open("127.0.0.2")[0] for _ in range(2)] == [220] * 2
        system.sql("insert into schema_migrations values (9999, 'later.sql', now())")
        try:
            os.kill(smtpd.pid, signal.SIGUSR2)
            wait_until(lambda: 'event="upgrade failed"' in smtpd.log(), 60)
        finally:
            system.sql("delete from schema_migrations where version = 9999")
        assert clients.open("127.0.0.2")[0] == 421
        clients.opened[0].close()
        wait_until(lambda: clients.open("127.0.0.2")[0] == 220)


def test_network(system):
    settings = dict(STRICT, client_network_factor=2)
    with system.another_smtpd("127.0.0.1:0", client_connections_max=2, **settings) as smtpd, Clients(smtpd) as clients:
        assert [clients.open(f"127.0.0.{i}")[0] for i in (2, 3, 4, 5, 6)] == [220] * 4 + [421]
        assert clients.open("127.0.1.2")[0] == 220


def test_new_connections_a_minute(system):
    with system.another_smtpd("127.0.0.1:0", client_connections_rate=5, **STRICT) as smtpd, Clients(smtpd) as clients:
        codes = [clients.open("127.0.0.2")[0] for _ in range(7)]
        assert codes[:5] == [220] * 5 and 421 in codes[5:]
        assert clients.open("127.0.0.3")[0] == 220


@pytest.mark.parametrize("setting, answer", [(dict(client_messages_rate=2), 250), (dict(client_octets_rate="1000"), 250),
                                             (dict(client_messages_rate=2, message_size_max=1024), 552),
                                             (dict(client_octets_rate="4000", message_size_max=1024), 552)])
def test_messages_a_minute(system, box, setting, answer):
    """Those that are refused at their end cost as much."""
    with system.another_smtpd("127.0.0.1:0", **setting, **STRICT) as smtpd:
        def send():
            with Smtp(smtpd.address(), source="127.0.0.2") as wire:
                wire.greet()
                wire.say(b"MAIL FROM:<a@b.example>")
                code, text = wire.say(b"RCPT TO:<" + box["address"].encode() + b">")
                if code == 250:
                    assert wire.say(b"DATA")[0] == 354
                    wire.send(messages.plain() + b"x" * (400 if answer == 250 else 2000) + b"\r\n.\r\n")
                    assert wire.reply()[0] == answer
                return code, text[:5]

        sent = [send() for _ in range(6)]
        assert sent[:2] == [(250, "2.1.5")] * 2 and sent[-1] == (421, "4.7.0"), sent
        with Smtp(smtpd.address(), source="127.0.0.2") as wire:
            wire.greet()
            wire.say(b"MAIL FROM:<a@b.example>")
            assert wire.say(b"RCPT TO:<postmaster@" + box["domain"].encode() + b">")[0] != 421
        assert deliver(smtpd.address(), messages.plain(), box["address"])[0] == 250  # 127.0.0.1 has sent nothing yet


def test_bad_recipients_a_minute(system, box):
    with system.another_smtpd("127.0.0.1:0", client_bad_recipients_rate=6, **STRICT) as smtpd:
        codes = []
        for _ in range(4):
            with Smtp(smtpd.address(), source="127.0.0.2") as wire:
                wire.greet()
                wire.say(b"MAIL FROM:<a@b.example>")
                for i in range(3):
                    answer = wire.say(b"RCPT TO:<nobody-%d@%s>" % (i, box["domain"].encode()))
                    codes.append(answer[0])
                    if answer[0] == 421:
                        break
        assert codes[:6] == [550] * 6 and codes[-1] == 421


def test_handshakes_a_minute(system, api, box):
    """Over it STARTTLS is not available now, and mail goes on in clear; implicit TLS, where nothing can be said, is closed."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def handshake(wire):
        wire.greet()
        answer = wire.say(b"STARTTLS")
        if answer[0] == 220:
            context.wrap_socket(wire.socket).close()
        return answer

    with system.another_smtpd("127.0.0.1:0", "127.0.0.1:0;tls", client_handshakes_rate=3, **STRICT) as smtpd:
        for _ in range(3):
            with Smtp(smtpd.address(), source="127.0.0.2") as wire:
                assert handshake(wire)[0] == 220
        with Smtp(smtpd.address(), source="127.0.0.2") as wire:
            assert handshake(wire) == (454, "4.7.0 TLS not available now")
            wire.start_data(box["address"])
            wire.send(messages.plain("in clear") + b".\r\n")
            assert wire.reply()[0] == 250
        assert api.only_mail(box)["envelope"]["tls"] is None
        with Smtp(smtpd.address(1), source="127.0.0.2") as wire, pytest.raises(OSError):
            context.wrap_socket(wire.socket)
        with Smtp(smtpd.address(), source="127.0.0.3") as wire:
            assert handshake(wire)[0] == 220


def quickest_noop(wire):
    """Of five: the machine may have been slow at one."""
    took = []
    for _ in range(5):
        begin = time.monotonic()
        assert wire.say(b"NOOP")[0] == 250
        took.append(time.monotonic() - begin)
    return min(took)


def test_errors_cost_time(system):
    with system.another_smtpd("127.0.0.1:0", errors_slow=3) as smtpd, Smtp(smtpd.address()) as wire, Smtp(smtpd.address()) as other:
        wire.greet()
        other.greet()
        for _ in range(2):
            assert wire.say(b"WHAT")[0] == 500
        assert quickest_noop(wire) < 0.9
        assert wire.say(b"WHAT")[0] == 500
        begin = time.monotonic()
        wire.send(b"NOOP\r\n")
        assert quickest_noop(other) < 0.9  # only the one who erred waits
        assert wire.reply()[0] == 250
        assert time.monotonic() - begin > 0.9


def drip(wire, octet, pause, seconds):
    """Sends an octet at a time until the server has enough; the seconds that took, and what it said."""
    begin = time.monotonic()
    wire.socket.settimeout(pause)
    said = b""
    while time.monotonic() - begin < seconds:
        try:
            wire.socket.sendall(octet)
            got = wire.socket.recv(4096)
            said += got
            if not got:
                break
            time.sleep(pause)  # an answer is no reason to be faster
        except TimeoutError:
            pass
        except OSError:
            break
    return time.monotonic() - begin, said


def test_a_dripped_command_has_a_deadline(system):
    with system.another_smtpd("127.0.0.1:0", command_deadline="2s") as smtpd, Smtp(smtpd.address()) as wire:
        wire.greet()
        took, said = drip(wire, b"N", 0.2, 30)
        assert 1.5 < took < 15 and said.startswith(b"421 4.4.2 ")


def test_a_dripped_message_has_a_minimum_rate(system, box, api):
    with system.another_smtpd("127.0.0.1:0", data_deadline="2s", data_rate_min=500) as smtpd:
        with Smtp(smtpd.address()) as wire:
            wire.greet()
            wire.start_data(box["address"])
            took, said = drip(wire, b"x", 0.2, 30)
            assert 1.5 < took < 15 and said.startswith(b"421 4.4.2 ")
        with Smtp(smtpd.address()) as wire:
            wire.greet()
            wire.start_data(box["address"])
            wire.send(b"Subject: slow\r\n\r\n")
            for _ in range(20):
                wire.send(b"x" * 498 + b"\r\n")
                time.sleep(0.25)
            wire.send(b".\r\n")
            assert wire.reply()[0] == 250
    assert api.only_mail(box)["subject"] == "slow"


@pytest.mark.parametrize("opening, piece", [(b"BDAT 100000 LAST\r\n", b"x"), (b"BDAT 100000\r\n", b"x"), (b"BDAT 1\r\nx", b"BDAT 1\r\nx")],
                         ids=["the last chunk", "a chunk", "many chunks"])
def test_dripped_chunks_have_a_minimum_rate(system, box, opening, piece):
    """As with DATA: neither one long chunk nor many short ones hold a session beyond what their octets buy."""
    with system.another_smtpd("127.0.0.1:0", data_deadline="2s", data_rate_min=500) as smtpd, Smtp(smtpd.address()) as wire:
        wire.greet()
        assert wire.say(b"MAIL FROM:<a@b.example>")[0] == 250
        assert wire.say(b"RCPT TO:<" + box["address"].encode() + b">")[0] == 250
        wire.send(opening)
        took, said = drip(wire, piece, 0.2, 30)
        assert 1.5 < took < 15 and said.splitlines()[-1].startswith(b"421 4.4.2 ")


def test_silence_between_chunks_has_an_end(system, box):
    with system.another_smtpd("127.0.0.1:0", data_deadline="2s") as smtpd, Smtp(smtpd.address()) as wire:
        wire.greet()
        assert wire.say(b"MAIL FROM:<a@b.example>")[0] == 250
        assert wire.say(b"RCPT TO:<" + box["address"].encode() + b">")[0] == 250
        wire.send(b"BDAT 1000\r\n" + b"x" * 1000)
        assert wire.reply()[0] == 250
        begin = time.monotonic()
        code, text = wire.reply()
        assert (code, text[:5]) == (421, "4.4.2") and time.monotonic() - begin < 20


def test_chunks_at_the_minimum_rate_are_taken(system, box, api):
    with system.another_smtpd("127.0.0.1:0", data_deadline="2s", data_rate_min=500) as smtpd, Smtp(smtpd.address()) as wire:
        wire.greet()
        assert wire.say(b"MAIL FROM:<a@b.example>")[0] == 250
        assert wire.say(b"RCPT TO:<" + box["address"].encode() + b">")[0] == 250
        head = b"Subject: slow chunks\r\n\r\n"
        wire.send(b"BDAT %d\r\n" % len(head) + head)
        assert wire.reply()[0] == 250
        for _ in range(20):
            wire.send(b"BDAT 500\r\n" + b"x" * 498 + b"\r\n")
            assert wire.reply()[0] == 250
            time.sleep(0.25)
        assert wire.say(b"BDAT 0 LAST")[0] == 250
    assert api.only_mail(box)["subject"] == "slow chunks"


def test_a_session_has_an_end(system):
    with system.another_smtpd("127.0.0.1:0", session_deadline="2s") as smtpd, Smtp(smtpd.address()) as wire:
        wire.greet()
        begin = time.monotonic()
        while (answer := wire.say(b"NOOP")) and answer[0] == 250:
            assert time.monotonic() - begin < 15
            time.sleep(0.2)
        assert answer[0] == 421 and answer[1].startswith("4.4.2 ")


def test_a_client_that_never_reads(system):
    with system.another_smtpd("127.0.0.1:0", command_deadline="2s", junk_max=0, workers=1) as smtpd:
        with Smtp(smtpd.address()) as wire:
            wire.greet()
            wire.socket.settimeout(1)
            try:
                for _ in range(2000):
                    wire.send(b"VRFY someone\r\n" * 500)
            except (TimeoutError, OSError):
                pass
            wait_until(lambda: smtpd.metrics()["minutemail_smtpd_sessions"] == 0, 20)


@pytest.mark.slow
def test_stress(system, box):
    with system.another_smtpd("127.0.0.1:0", workers=1, connections_max=10, stress_sessions=50) as smtpd:
        with Clients(smtpd) as clients:
            for _ in range(6):
                assert clients.open("127.0.0.1")[0] == 220
            wait_until(lambda: smtpd.metrics()["minutemail_smtpd_stress"] == 1)
            wire = clients.opened[0]
            assert f"SIZE {25 * 1024 * 1024}" in wire.say(b"EHLO client.example.org")[1]
            wire.say(b"MAIL FROM:<a@b.example>")
            assert wire.say(b"RCPT TO:<postmaster@" + box["domain"].encode() + b">")[0] != 421
            assert wire.say(b"RCPT TO:<" + box["address"].encode() + b">")[0] == 250
            assert wire.say(b"WHAT")[0] == 500
            assert wire.reply()[0] == 421
            wire = clients.opened[1]
            begin = time.monotonic()
            assert wire.reply()[0] == 421  # 10 s instead of 5 minutes, for those already there too
            assert time.monotonic() - begin < 40
        wait_until(lambda: smtpd.metrics()["minutemail_smtpd_stress"] == 0, 40)
        assert "stress begins" in smtpd.log() and "stress is over" in smtpd.log()
        with Smtp(smtpd.address()) as wire:
            wire.greet()
            assert wire.say(b"WHAT")[0] == 500
            assert wire.say(b"NOOP")[0] == 250


def test_memory_of_messages_under_way_is_bounded(system, api, box):
    """Each is small enough to wait in memory, all of them are not: nobody is put off, and nothing is lost."""
    source = b"Subject: one of many\r\n\r\n" + (b"x" * 78 + b"\r\n") * 2500
    with system.another_smtpd("127.0.0.1:0", workers=1, spool_memory_max="1M") as smtpd, contextlib.ExitStack() as all_of_them:
        wires = [all_of_them.enter_context(Smtp(smtpd.address())) for _ in range(12)]
        for wire in wires:
            wire.greet()
            wire.start_data(box["address"])
            wire.send(source)
        wait_until(lambda: smtpd.metrics()["minutemail_smtpd_spool_bytes"] == len(wires) * len(source))
        assert 500000 < smtpd.metrics()["minutemail_smtpd_spool_memory_bytes"] <= 1 << 20
        for wire in wires:
            wire.send(b".\r\n")
            assert wire.reply()[0] == 250
    assert [api.source(mail) == source for mail in api.mails(box)] == [True] * len(wires)


def test_octets_under_way_are_bounded_over_workers(system, box):
    with system.another_smtpd("127.0.0.1:0", spool_max="1M") as smtpd:
        with Smtp(smtpd.address()) as holder, Smtp(smtpd.address()) as wire, Smtp(smtpd.address()) as third:
            holder.greet()
            holder.start_data(box["address"])
            holder.send(b"x" * 78 + b"\r\n")
            holder.send((b"y" * 78 + b"\r\n") * 10000)
            wait_until(lambda: smtpd.metrics()["minutemail_smtpd_spool_bytes"] > 700000)
            wire.greet()
            wire.say(b"MAIL FROM:<a@b.example> SIZE=400000")
            wire.say(b"RCPT TO:<" + box["address"].encode() + b">")
            code, text = wire.say(b"DATA")
            assert (code, text[:5]) == (452, "4.3.1")
            third.greet()
            third.start_data(box["address"])
            third.send((b"z" * 78 + b"\r\n") * 5000 + b".\r\n")
            code, text = third.reply()
            assert (code, text[:5]) == (452, "4.3.1")
            holder.send(b".\r\n")
            assert holder.reply()[0] == 250
        wait_until(lambda: smtpd.metrics()["minutemail_smtpd_spool_bytes"] == 0)
        assert deliver(smtpd.address(), messages.plain(), box["address"])[0] == 250


@pytest.mark.plain_only
def test_a_thousand_drippers(system, box):
    """Each sends an octet a second of a message; others notice nothing."""
    with system.another_smtpd("127.0.0.1:0") as smtpd:
        host, port = smtpd.address().split(":")
        drippers = []
        opening = (b"EHLO x.example.org\r\n", b"MAIL FROM:<a@b.example>\r\nRCPT TO:<" + box["address"].encode() + b">\r\nDATA\r\n")
        try:
            for _ in range(1000):
                s = socket.create_connection((host, int(port)), timeout=30)
                drippers.append(s)
                assert s.recv(512).startswith(b"220 ")
                for part in opening:
                    s.sendall(part)
                    s.recv(4096)
            alone = []
            until = time.monotonic() + 8
            while time.monotonic() < until:
                for s in drippers:
                    s.sendall(b"x")
                begin = time.monotonic()
                assert deliver(smtpd.address(), messages.plain(), box["address"])[0] == 250
                alone.append(time.monotonic() - begin)
                time.sleep(max(0, 1 - (time.monotonic() - begin)))
            assert statistics.median(alone) < 2, alone
            assert smtpd.metrics()["minutemail_smtpd_sessions"] >= 1000
        finally:
            for s in drippers:
                s.close()


@pytest.mark.plain_only
def test_a_thousand_idle_sessions(system, box):
    with system.another_smtpd("127.0.0.1:0") as smtpd, Clients(smtpd) as clients:
        for _ in range(1000):
            assert clients.open("127.0.0.1")[0] == 220
        begin = time.monotonic()
        assert deliver(smtpd.address(), messages.plain(), box["address"])[0] == 250
        assert time.monotonic() - begin < 5


def test_client_addresses_can_be_kept_out_of_the_log(system):
    with system.another_smtpd("127.0.0.1:0", log_client="no") as smtpd:
        with Smtp(smtpd.address(), source="127.0.0.7") as wire:
            wire.greet()
            wire.say(b"QUIT")
        wait_until(lambda: "session ended" in smtpd.log())
        assert "127.0.0.7" not in smtpd.log()


@pytest.mark.slow
def test_database_away(victim):
    """Within ten seconds a command may still find it again; after that connecting is told to come back later."""
    with victim.another_smtpd("127.0.0.1:0") as smtpd:
        victim.postgres_stop()
        try:
            def turned_away():
                with Smtp(smtpd.address()) as wire:
                    code, text = wire.reply()
                    assert code == 220 or text.startswith("4.3.2 ")
                    return code == 421
            wait_until(turned_away, 40, 0.5)
        finally:
            victim.postgres_start()
        wait_until(lambda: not turned_away(), 40, 0.5)
