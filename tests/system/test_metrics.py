"""What GET /metrics says, read as strictly as Prometheus does (exposition format 0.0.4) and by its naming rules; and that what
happens is counted. promtool judges too where it is installed."""

import http.client
import os
import re
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import time

import pytest

import messages
from client import Smtp, deliver, wait_until
from launched import ROOT, children, process_name
from test_tls import certificate

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABELS = r'\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",?)+)\}'
SAMPLE = re.compile(rf"^({NAME})(?:{LABELS})? (-?[0-9]+(?:\.[0-9]+)?)$")


def scrape(system, daemon):
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(f"{system.sockets}/{daemon}-metrics")
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    assert answer.status == 200 and answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return answer.read().decode()


def parse(text):
    """{(name, labels): value}; every rule that does not hold is an assertion."""
    types, helps, samples, current = {}, set(), {}, None
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# "):
            _, what, name, rest = line.split(" ", 3)
            assert re.fullmatch(NAME, name) and rest, line
            if what == "HELP":
                assert name not in helps, f"{name} stands in two places"
                helps.add(name)
            else:
                assert what == "TYPE" and name in helps and name not in types and rest in ("counter", "gauge", "histogram"), line
                types[name] = rest
                current = name
            continue
        match = SAMPLE.match(line)
        assert match, line
        name, labels, value = match.groups()
        base = re.sub("_(bucket|sum|count)$", "", name) if types[current] == "histogram" else name
        assert base == current, f"{name} is not under its TYPE"
        assert (name, labels) not in samples, line
        samples[name, labels] = float(value)
    for name, kind in types.items():
        assert name.startswith("minutemail_"), name
        assert name.endswith("_total") == (kind == "counter"), f"{name} is a {kind}"
        assert not re.search(r"_(ms|us|octets|milliseconds|minutes)(_|$)", name), f"{name}: not a base unit"
        if kind == "histogram":
            check_histogram(name, samples)
    return samples


def check_histogram(name, samples):
    series = {}
    for (sample, labels), value in samples.items():
        if sample == name + "_bucket":
            rest, bound = re.fullmatch(r'(.*?),?le="([^"]+)"', labels).groups()
            series.setdefault(rest, []).append((float(bound), value))
    assert series
    for rest, buckets in series.items():
        assert buckets == sorted(buckets) and buckets[-1][0] == float("inf"), name
        assert [value for _, value in buckets] == sorted(value for _, value in buckets), name
        assert samples[name + "_count", rest or None] == buckets[-1][1], name
        assert (name + "_sum", rest or None) in samples, name


@pytest.mark.contract("1 metrics")
@pytest.mark.parametrize("daemon", ["smtpd", "apid"])
def test_format(system, daemon):
    text = scrape(system, daemon)
    samples = parse(text)
    assert samples["minutemail_workers", f'daemon="{daemon}"'] >= 1
    assert any(name == "minutemail_build_info" for name, _ in samples)
    if shutil.which("promtool"):
        done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def of_process(smtpd, name, process):
    return smtpd.metrics().get(f'minutemail_process_{name}{{daemon="smtpd",process="{process}"}}', 0)


def test_processes_are_measured(system):
    """Each by its name; and what is said of descriptors is what /proc lists."""
    with system.another_smtpd("127.0.0.1:0", workers=2, hang_limit="4s") as smtpd:
        box = system.api.mailbox()
        for _ in range(6):  # so that both workers have a parser, most likely; one has
            deliver(smtpd.address(), messages.plain("measured"), box["address"])
        for process in ("master", "metrics", "keeper", "keys", "0", "1", "zygote 0", "zygote 1"):
            wait_until(lambda: of_process(smtpd, "resident_bytes", process) > 1 << 18, 30)
            wait_until(lambda: of_process(smtpd, "open_fds", process) >= 1, 30)
            assert of_process(smtpd, "max_fds", process) >= of_process(smtpd, "open_fds", process), process
        wait_until(lambda: any(of_process(smtpd, "open_fds", f"parser {i}") for i in (0, 1)), 30)
        assert any(of_process(smtpd, "max_fds", f"parser {i}") == 16 for i in (0, 1))
        if os.geteuid() != 0:
            return  # what the kernel lists of a process that cannot be dumped is for root to see
        listed = lambda pid: len(os.listdir(f"/proc/{pid}/fd"))
        keeper, = [pid for pid in children(smtpd.pid) if process_name(pid) == "keys keeper"]
        for process, pid in (("master", smtpd.pid), ("keeper", keeper), ("keys", children(keeper)[0])):
            wait_until(lambda: of_process(smtpd, "open_fds", process) == listed(pid), 30)

        def of_workers():
            return sum(of_process(smtpd, "open_fds", i) for i in (0, 1))

        wait_until(lambda: of_workers() == sum(map(listed, smtpd.workers())), 30)
        before = of_workers()
        sessions = [Smtp(smtpd.address()) for _ in range(10)]
        assert all(session.reply()[0] == 220 for session in sessions)
        wait_until(lambda: of_workers() == before + 10, 30)
        for session in sessions:
            session.close()
        wait_until(lambda: of_workers() == before, 30)


@pytest.fixture(scope="module")
def quiet(system):
    """One worker, with nobody else's traffic: what is counted is ours."""
    with system.another_smtpd("127.0.0.1:0", workers=1, store_connections=1) as smtpd:
        yield smtpd


def settled(smtpd, name):
    """Everything whose name begins so, once it does not change any more."""
    def look():
        return {key.removeprefix("minutemail_smtpd_"): value for key, value in smtpd.metrics().items()
                if key.startswith("minutemail_smtpd_" + name)}

    last = look()
    time.sleep(0.2)
    while (now := look()) != last:
        last = now
        time.sleep(0.2)
    return now


def grown(before, after):
    return {key: after[key] - before[key] for key in after if after[key] != before[key]}


def test_replies_by_both_codes(system, quiet):
    before = settled(quiet, "replies_total")
    box = system.api.mailbox()
    with Smtp(quiet.address()) as wire:
        wire.greet()
        wire.say(b"NONSENSE")
        wire.say(b"MAIL FROM:<a@example.org>")
        wire.say(b"RCPT TO:<nobody-at-all@" + system.domain.encode() + b">")
        wire.say(b"RCPT TO:<a@elsewhere.example>")
        wire.say(b"RCPT TO:<" + box["address"].encode() + b">")
        wire.say(b"DATA")
        assert wire.say(messages.plain("counted") + b".")[0] == 250
        wire.say(b"QUIT")
    codes = ('220"', '250"', '500",enhanced="5.5.2"', '250",enhanced="2.1.0"', '550",enhanced="5.1.1"', '550",enhanced="5.7.1"',
             '250",enhanced="2.1.5"', '354"', '250",enhanced="2.0.0"', '221",enhanced="2.0.0"')
    assert grown(before, settled(quiet, "replies_total")) == {f'replies_total{{code="{code}}}': 1 for code in codes}


def test_every_reply_of_the_catalogue_has_its_counter(quiet):
    catalogue = re.findall(r'= \{(\d{3}), (NULL|"[\d.]+"),', (ROOT / "smtpd" / "reply.c").read_text())
    assert len(catalogue) > 50
    wanted = {f'replies_total{{code="{code}"' + ("" if more == "NULL" else f",enhanced={more}") + "}" for code, more in catalogue}
    assert set(settled(quiet, "replies_total")) == wanted


def test_stages_of_a_message(system, quiet):
    """One message to two mailboxes, half a second on its way: one of everything, and a batch of two rows."""
    boxes = [system.api.mailbox() for _ in range(2)]
    before = settled(quiet, "")
    with Smtp(quiet.address()) as wire:
        wire.greet()
        assert wire.say(b"MAIL FROM:<a@example.org>")[0] == 250
        for box in boxes:
            assert wire.say(f"RCPT TO:<{box['address']}>".encode())[0] == 250
        assert wire.say(b"DATA")[0] == 354
        wire.send(b"Subject: slow\r\n\r\n")
        time.sleep(0.5)
        assert wire.say(b"x\r\n.")[0] == 250
    after = settled(quiet, "")
    more = grown(before, after)
    for name in ("receive", "parse", "store", "store_wait", "commit", "message"):
        assert more[f"{name}_seconds_count"] == 1, name
    assert more["receive_seconds_sum"] >= 0.45
    assert more["store_seconds_sum"] < 10 and more["receive_seconds_sum"] < 10
    # Microseconds that come between: the verdict is told on a later turn.
    assert more["store_wait_seconds_sum"] + more["commit_seconds_sum"] <= more["store_seconds_sum"] + 0.002
    assert (more["batch_rows_count"], more["batch_rows_sum"]) == (1, 2)
    assert 'batch_rows_bucket{le="1"}' not in more and more['batch_rows_bucket{le="2"}'] == 1
    assert after["store_queue"] == 0


class Locked:
    """The table of messages, so that nobody can insert until the end."""

    def __init__(self, system):
        self.connection = system.connect_as("postgres")
        self.connection.autocommit = False

    def __enter__(self):
        self.connection.cursor().execute("lock table messages in exclusive mode")
        return self

    def __exit__(self, *_):
        self.connection.close()


def hand_over(smtpd, box):
    """A session whose message waits for its commit."""
    wire = Smtp(smtpd.address())
    wire.greet()
    wire.start_data(box["address"])
    wire.send(messages.plain("waits") + b".\r\n")
    return wire


def test_the_queue_of_the_store(system, quiet):
    """One transaction at a time: behind one that hangs the others wait, and are then one batch."""
    box = system.api.mailbox()
    before = settled(quiet, "")
    with Locked(system):
        wires = [hand_over(quiet, box)]
        wait_until(lambda: quiet.metrics()["minutemail_smtpd_store_wait_seconds_count"] == before["store_wait_seconds_count"] + 1)
        wires += [hand_over(quiet, box) for _ in range(3)]
        wait_until(lambda: quiet.metrics()["minutemail_smtpd_store_queue"] == 3)
        time.sleep(0.3)
    assert [wire.reply()[0] for wire in wires] == [250] * 4
    for wire in wires:
        wire.close()
    more = grown(before, settled(quiet, ""))
    assert (more["batch_rows_count"], more["batch_rows_sum"]) == (2, 4)
    assert more["store_wait_seconds_count"] == 4 and more["store_wait_seconds_sum"] >= 3 * 0.25
    assert more["commit_seconds_count"] == 2 and more["commit_seconds_sum"] >= 0.25
    assert quiet.metrics()["minutemail_smtpd_store_queue"] == 0


def test_a_slow_database_is_stress_for_all_workers(system):
    """Only one of them has a message, and the other as many sessions to hurry."""
    with system.another_smtpd("127.0.0.1:0", workers=3, stress_commit="100ms") as smtpd:
        box = system.api.mailbox()
        with Locked(system):
            wire = hand_over(smtpd, box)
            time.sleep(2)
        assert wire.reply()[0] == 250
        wait_until(lambda: smtpd.metrics()["minutemail_smtpd_stress"] == 3)
        wire.close()


def test_a_parser_that_dies_is_counted(system, quiet):
    box = system.api.mailbox()
    deliver(quiet.address(), messages.plain("before"), box["address"])
    before = quiet.metrics()["minutemail_smtpd_parser_restarts_total"]
    zygote, = [pid for pid in children(quiet.workers()[0]) if process_name(pid) == "mime-zygote"]
    parser, = children(zygote)
    os.kill(parser, signal.SIGKILL)
    wait_until(lambda: quiet.metrics()["minutemail_smtpd_parser_restarts_total"] == before + 1)
    deliver(quiet.address(), messages.plain("after"), box["address"])
    assert quiet.metrics()["minutemail_smtpd_parser_restarts_total"] == before + 1


def test_a_session_is_counted(system, box):
    def counts():
        samples = parse(scrape(system, "smtpd"))
        return [sum(value for (name, labels), value in samples.items()
                    if name == "minutemail_smtpd_replies_total" and labels.startswith(f'code="{code}"')) for code in (250, 354, 550)] + [
            samples["minutemail_smtpd_sessions_ended_total", 'reason="done"'], samples["minutemail_smtpd_lookup_seconds_count", None],
            samples["minutemail_smtpd_messages_total", 'outcome="stored"']]

    before = counts()
    host, port = system.smtp.rsplit(":", 1)
    with smtplib.SMTP(host, int(port)) as session:
        session.ehlo("client.example.org")
        session.mail("a@example.org")
        assert session.rcpt("nobody-at-all@" + system.domain)[0] == 550
        assert session.rcpt(box["address"])[0] == 250
        assert session.data(b"Subject: counted\r\n\r\nx\r\n")[0] == 250
    wait_until(lambda: [after >= b + n for after, b, n in zip(counts(), before, (4, 1, 1, 1, 2, 1))] == [True] * 6)
    assert wait_until(lambda: parse(scrape(system, "smtpd"))["minutemail_smtpd_database_connections", None]) >= 2


def test_a_request_is_counted(system, box):
    labels = 'method="GET",route="/mailboxes/{}"'

    def counts():
        samples = parse(scrape(system, "apid"))
        return (samples["minutemail_apid_route_requests_total", labels + ',class="2xx"'],
                samples["minutemail_apid_route_seconds_count", labels])

    before = counts()
    assert system.api.get(f"/v1/mailboxes/{box['id']}").status == 200
    after = wait_until(lambda: counts() if counts() != before else None)
    assert after[0] > before[0] and after[1] > before[1]


def test_connections_to_the_database_are_counted(system):
    """Both daemons: those there are, and each that had to be made again."""
    with system.another_apid(workers=1, apid_database_connections=2) as apid, system.another_smtpd("127.0.0.1:0", workers=1) as smtpd:
        for daemon, name, n in ((apid, "apid", 2), (smtpd, "smtpd", 3)):
            connections, connects = (f"minutemail_{name}_database_{what}" for what in ("connections", "connects_total"))
            wait_until(lambda: daemon.metrics()[connections] == n and daemon.metrics()[connects] >= n)
            before = daemon.metrics()[connects]
            system.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s", "minutemail-" + name)
            wait_until(lambda: daemon.metrics()[connects] == before + n, 30)
            wait_until(lambda: daemon.metrics()[connections] == n, 30)
            assert daemon.metrics()[f"minutemail_{name}_database_waiting"] == 0


@pytest.mark.parametrize("version, name", [(ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")])
def test_handshakes_of_https_are_counted(system, version, name, tmp_path):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    pair = certificate(str(tmp_path), "metrics", "x.example")
    with system.another_apid("127.0.0.1:0;tls", workers=1, tls_certificates=pair) as apid:
        before = apid.metrics()

        def ask(session):
            plain = socket.create_connection(("127.0.0.1", apid.ports[0]), timeout=30)
            with context.wrap_socket(plain, server_hostname="x.example", session=session) as wire:
                wire.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert b"".join(iter(lambda: wire.recv(65536), b"")).startswith(b"HTTP/1.1 200")
                return wire.session, wire.session_reused

        session, reused = ask(None)
        assert not reused
        assert ask(session)[1]

        def counted():
            return {key: value - before[key] for key, value in apid.metrics().items() if "_tls_" in key and "expiry" not in key}

        other = {"TLSv1.2": "TLSv1.3", "TLSv1.3": "TLSv1.2"}[name]
        wait_until(lambda: counted() == {f'minutemail_apid_tls_handshakes_total{{version="{name}"}}': 2,
                                         f'minutemail_apid_tls_handshakes_total{{version="{other}"}}': 0,
                                         "minutemail_apid_tls_resumed_total": 1, "minutemail_apid_tls_failed_total": 0})


def families(text):
    return set(re.findall(r"^# TYPE (\S+) ", text, re.M))


def listed_in_readme():
    """The names in the first cells of the README's table; `_more` behind a name has that one's prefix."""
    section = (ROOT / "README.md").read_text().split("## Metrics and alarms")[1].split("| alarm when |")[0]
    names = set()
    for cell in re.findall(r"^\| (`minutemail_.*?) \|", section, re.M):
        prefix = re.match("`(minutemail_(?:smtpd|apid|process)|minutemail)_", cell).group(1)
        for name in re.findall(r"`([a-z_]+)", cell):
            names.add(name if name.startswith("minutemail_") else prefix + name)
    return names


def test_the_readme_lists_them_all(system):
    def shown():
        return families(scrape(system, "smtpd")) | families(scrape(system, "apid"))

    wait_until(lambda: "minutemail_process_resident_bytes" in shown(), 60)
    seen = shown()
    assert not seen - listed_in_readme(), "not in the README"
    assert not listed_in_readme() - seen - {"minutemail_process_open_fds"}, "in the README only"
