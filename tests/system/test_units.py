"""The service files, as far as they can be judged without a systemd that runs: their syntax, what they leave open, and whether the
daemons work under their filter of system calls. What the daemons do with its protocols is in tests/unit/test_process.c and in
test_restart.py."""

import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys

import pytest

from client import Api, deliver, wait_until
from launched import ROOT, Another

BUILD = pathlib.Path(os.environ.get("MINUTEMAIL_RUN_BUILD", ROOT / "build-release"))
UNITS = ROOT / "deploy" / "units"
EXPOSURE_MAX = 20  # tenths; systemd calls up to 2.0 "OK", and a service without any of this has 9.6

pytestmark = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")


@pytest.fixture
def units(tmp_path):
    for daemon in ("smtpd", "apid"):
        text = (UNITS / f"{daemon}.service.in").read_text().replace("@SBINDIR@", str(BUILD / daemon))
        (tmp_path / f"{daemon}.service").write_text(text)
        shutil.copy(UNITS / f"{daemon}.socket", tmp_path)
    return tmp_path


def analyze(*words):
    done = subprocess.run(["systemd-analyze", *map(str, words)], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


can_analyze = pytest.mark.skipif(os.getuid() != 0 and not os.path.isdir("/run/systemd"), reason="systemd-analyze would make /run/systemd")


@can_analyze
@pytest.mark.parametrize("unit", ["smtpd.service", "apid.service", "smtpd.socket", "apid.socket"])
def test_verify(units, unit):
    status, said = analyze("verify", units / unit)
    assert status == 0 and unit not in said, said


@can_analyze
@pytest.mark.parametrize("daemon", ["smtpd", "apid"])
def test_exposure(units, daemon):
    status, said = analyze("security", "--offline=true", f"--threshold={EXPOSURE_MAX}", units / f"{daemon}.service")
    assert status == 0, said


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv")
def test_a_low_port_without_root(system):
    """What the unit gives apid for port 443 is enough for it, and its workers have nothing of it. As root no port would be refused."""
    wanted = {line for line in (UNITS / "apid.service.in").read_text().splitlines() if line.startswith(("Ambient", "CapabilityBound"))}
    assert wanted == {"AmbientCapabilities=CAP_NET_BIND_SERVICE", "CapabilityBoundingSet=CAP_NET_BIND_SERVICE"}
    owner = os.stat(os.path.join(system.info["data"], "postgres"))
    port = next(port for port in range(1023, 600, -1) if free(port))
    via = ["setpriv", f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--clear-groups", "--no-new-privs"]
    caps = [f"--{kind}=-all,+net_bind_service" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
    with system.another_apid(f"127.0.0.1:{port};tls", workers=1, via=via + caps, user="") as apid:
        masters, workers = capabilities(apid.pid), capabilities(apid.workers()[0])
        assert masters["CapEff"] == masters["CapBnd"] == 1 << 10  # CAP_NET_BIND_SERVICE
        assert all(workers[name] == 0 for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"))
        assert os.stat(f"/proc/{apid.pid}/statm").st_uid in (owner.st_uid, 0)
        wait_until(lambda: apid.metrics().get('minutemail_process_open_fds{daemon="apid",process="0"}'), 30)
    if int(pathlib.Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) > port:
        with pytest.raises(AssertionError, match="cannot listen"):
            with system.another_apid(f"127.0.0.1:{port};tls", workers=1, via=via, user=""):
                pass


def as_owner(system):
    """What runs a program as the one whom the data belong to, without rights."""
    if os.getuid() != 0:
        return []
    owner = os.stat(os.path.join(system.info["data"], "postgres"))
    return ["setpriv", f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--clear-groups", "--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all"]


@pytest.mark.plain_only  # sanitizers need what the filter forbids
@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv")
@pytest.mark.parametrize("daemon", ["smtpd", "apid"])
def test_filter_of_calls(system, units, daemon):
    """The unit's SystemCallFilter= leaves what each process does: giving up its rights, TLS, spool, DNS, Argon2, a reload, an upgrade."""
    os.chmod(units, 0o755)
    for place in units.parents:
        if place.stat().st_uid == os.getuid():
            place.chmod(place.stat().st_mode | 0o011)
    via = as_owner(system) + [sys.executable, str(ROOT / "tests" / "support" / "unit_filter.py"), str(units / f"{daemon}.service")]
    use = use_smtpd if daemon == "smtpd" else use_apid
    with Another(system, daemon, ["127.0.0.1:0", "127.0.0.1:0;tls"], {daemon + "_workers": 1, "user": ""}, via) as running:
        use(system, running)
        os.kill(running.pid, signal.SIGHUP)
        wait_until(lambda: "generation=2" in running.log(), 30)
        use(system, running)
        running.upgrade()
        use(system, running)
        assert "level=error" not in running.log()


@pytest.mark.parametrize("daemon", ["smtpd", "apid"])
def test_stop_waits_for_what_is_in_hand(system, daemon):
    """systemd waits for no main process that is not its child, and the one after an upgrade is none: ExecStop has to."""
    words, = re.findall(r"^ExecStop=(.*)$", (UNITS / f"{daemon}.service.in").read_text(), re.M)
    words = [word.replace("$$", "$") for word in shlex.split(words)]
    with Another(system, daemon, ["127.0.0.1:0"], {daemon + "_workers": 1}) as running:
        with socket.create_connection(("127.0.0.1", running.ports[0]), timeout=30) as busy:
            hold(busy, daemon)
            stop = subprocess.Popen(words, env=dict(os.environ, MAINPID=str(running.pid)))
            wait_until(lambda: "event=draining" in running.log(), 30)
            assert stop.poll() is None and running.process.poll() is None
        assert running.process.wait(60) == 0
        assert stop.wait(30) == 0
    assert subprocess.run(words, env=dict(os.environ, MAINPID=""), timeout=30).returncode == 0  # there is none any more


def hold(s, daemon):
    """Begins what a daemon that ends waits for."""
    if daemon == "apid":
        s.sendall(b"POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        return
    with s.makefile("rwb") as wire:
        for line in (b"EHLO x", b"MAIL FROM:<a@example.org>", b"RCPT TO:<postmaster@minutemail.cc>", b"DATA"):
            answer = wire.readline()
            while answer[3:4] == b"-":
                answer = wire.readline()
            assert answer[:1] == b"2", answer
            wire.write(line + b"\r\n")
            wire.flush()
        while wire.readline()[:1] != b"3":
            pass


def use_smtpd(system, smtpd):
    greeting = tls_says(smtpd.ports[1])
    assert greeting.startswith(b"220 ")
    box = system.api.mailbox()
    large = b"From: a@second.example\r\nSubject: large\r\n\r\n" + b"0123456789012345678901234567890123456789\r\n" * 50000
    assert deliver(smtpd.address(), large, box["address"])[0] == 250
    system.api.only_mail(box)
    wait_until(lambda: "message authenticated" in smtpd.log(), 30)


def use_apid(system, apid):
    assert b" 401 " in tls_says(apid.ports[1], b"GET /v1/mailboxes HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    api = Api(apid.address(), system.info["key"])
    assert api.mailbox()["address"]
    assert api.post("/v1/auth/login", {"email": "nobody@example.org", "password": "a password of nobody"}, key=None).status == 401


def tls_says(port, question=b""):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as plain:
        with ssl._create_unverified_context().wrap_socket(plain) as s:
            s.sendall(question)
            return s.recv(4096)


@pytest.mark.parametrize("daemon", ["smtpd", "apid"])
def test_started_again_for_ever(daemon):
    """A port that is taken for a while, a disk that is full: nobody should have to look afterwards."""
    text = (UNITS / f"{daemon}.service.in").read_text()
    assert "Restart=always" in text and "StartLimitIntervalSec=0" in text.split("[Service]")[0]


def free(port):
    with socket.socket() as s:
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def capabilities(pid):
    return {name: int(mask, 16) for name, mask in re.findall(r"^(Cap\w+):\t(\w+)$", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M)}


@pytest.mark.parametrize("daemon", ["smtpd", "apid"])
def test_a_hanging_worker_is_not_the_managers_matter(daemon):
    """systemd hears from the master, which is to find a worker that hangs by itself; and stopping has time to drain."""
    text = (UNITS / f"{daemon}.service.in").read_text()
    assert "Type=notify" in text and "KillMode=mixed" in text
    seconds = {name: int(value) for name, value in re.findall(r"^(WatchdogSec|TimeoutStopSec)=(\d+)$", text, re.M)}
    assert seconds["WatchdogSec"] >= 10
    said = subprocess.run([str(BUILD / daemon / daemon), "--check-config"], capture_output=True, text=True,
                          env=dict(os.environ, MINUTEMAIL_KEY_SECRET="0" * 64, MINUTEMAIL_CONFIG="/dev/null")).stdout
    drain = int(re.search(r"^drain = (\d+)s$", said, re.M).group(1))
    assert seconds["TimeoutStopSec"] > drain + 5
