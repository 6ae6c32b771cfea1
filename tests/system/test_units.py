"""The service files, as far as they can be judged without a systemd that runs: their syntax, and what they leave open. What the
daemons do with its protocols is in tests/unit/test_process.c and in test_restart.py."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

from launched import ROOT

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


@pytest.mark.parametrize("unit", ["smtpd.service", "apid.service", "smtpd.socket", "apid.socket"])
def test_verify(units, unit):
    status, said = analyze("verify", units / unit)
    assert status == 0 and unit not in said, said


@pytest.mark.parametrize("daemon", ["smtpd", "apid"])
def test_exposure(units, daemon):
    status, said = analyze("security", "--offline=true", f"--threshold={EXPOSURE_MAX}", units / f"{daemon}.service")
    assert status == 0, said


@pytest.mark.parametrize("daemon", ["smtpd", "apid"])
def test_a_hanging_worker_is_not_the_managers_matter(daemon):
    """systemd hears from the master, which is to find a worker that hangs by itself; and stopping has time to drain."""
    text = (UNITS / f"{daemon}.service.in").read_text()
    assert "Type=notify" in text and "KillMode=mixed" in text
    seconds = {name: int(value) for name, value in re.findall(r"^(WatchdogSec|TimeoutStopSec)=(\d+)$", text, re.M)}
    assert seconds["WatchdogSec"] >= 10
    said = subprocess.run([str(BUILD / daemon / daemon), "--check-config"], capture_output=True, text=True,
                          env=dict(os.environ, MINUTEMAIL_KEY_SECRET="0" * 64)).stdout
    drain = int(re.search(r"^drain = (\d+)s$", said, re.M).group(1))
    assert seconds["TimeoutStopSec"] > drain + 5
