"""What GET /metrics says, read as strictly as Prometheus does (exposition format 0.0.4) and by its naming rules; and that what
happens is counted. promtool judges too where it is installed."""

import http.client
import re
import shutil
import smtplib
import socket
import subprocess

import pytest

from client import wait_until

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


def test_processes_are_measured(system):
    wait_until(lambda: parse(scrape(system, "smtpd")).get(("minutemail_process_resident_bytes", 'daemon="smtpd",process="0"'), 0) > 1 << 20, 30)


def test_a_session_is_counted(system, box):
    def counts():
        samples = parse(scrape(system, "smtpd"))
        return [samples["minutemail_smtpd_replies_total", f'code="{code}"'] for code in (250, 354, 550)] + [
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
