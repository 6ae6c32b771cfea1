"""What the processes of a running system may do, as the kernel sees it. That each rule holds when it is tried is
tests/unit/test_sandbox; here it is whether the daemons have entered what that tests."""

import ctypes
import os
import pathlib
import pwd
import stat
import subprocess

import pytest

import messages
from client import deliver
from launched import Another, build_is_sanitized, children, process_name

ROOT = os.getuid() == 0
plain = pytest.mark.plain_only  # sanitizers need what a sandbox forbids
root_only = pytest.mark.skipif(not ROOT, reason="nothing to drop unless root starts the daemons")

# KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, DAC_READ_SEARCH
MASTER_CAPABILITIES = 0x5e4


def status(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def limit(pid, name):
    for line in pathlib.Path(f"/proc/{pid}/limits").read_text().splitlines():
        if line.startswith(name):
            return line[len(name):].split()[:2]
    raise AssertionError(name)


def descriptors(pid):
    """Number -> what it leads to."""
    where = pathlib.Path(f"/proc/{pid}/fd")
    return {int(entry.name): os.readlink(entry) for entry in where.iterdir()}


def listening():
    """Inodes of listening TCP sockets."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                found.add(f"socket:[{fields[9]}]")
    return found


def landlock_here():
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.syscall(444, None, 0, 1) > 0


@pytest.fixture(scope="module")
def processes(system):
    """Kind -> pids. The parser is there once a mail has come."""
    box = system.api.mailbox()
    assert deliver(system.smtp, messages.plain(), box["address"])[0] == 250
    system.api.only_mail(box)
    found = {"smtpd master": [system.pid("smtpd")], "apid master": [system.pid("apid")],
             "smtpd worker": system.workers("smtpd"), "apid worker": system.workers("apid"),
             "metrics": [pid for name in ("smtpd", "apid") for pid in children(system.pid(name))
                         if process_name(pid) == name + " metrics"]}
    found["zygote"] = [pid for worker in found["smtpd worker"] for pid in children(worker)]
    found["parser"] = [pid for zygote in found["zygote"] for pid in children(zygote)]
    assert all(found.values()), found
    return found


MASTERS = ("smtpd master", "apid master")
OTHERS = ("smtpd worker", "apid worker", "metrics", "zygote", "parser")


@pytest.mark.parametrize("kind", MASTERS + OTHERS)
def test_no_new_privileges(processes, kind):
    for pid in processes[kind]:
        assert status(pid)["NoNewPrivs"] == "1"


@pytest.mark.parametrize("kind", OTHERS)
def test_no_capabilities(processes, kind):
    for pid in processes[kind]:
        seen = status(pid)
        for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert int(seen[name], 16) == 0, (name, seen[name])
        if ROOT:
            assert int(seen["CapBnd"], 16) == 0


@root_only
@pytest.mark.parametrize("kind", MASTERS)
def test_master_keeps_few(processes, kind):
    for pid in processes[kind]:
        seen = status(pid)
        assert seen["Uid"].split() == ["0"] * 4
        for name in ("CapPrm", "CapEff", "CapBnd"):
            assert int(seen[name], 16) == MASTER_CAPABILITIES, (name, seen[name])


@root_only
@pytest.mark.parametrize("kind", OTHERS)
def test_unprivileged_user(processes, kind):
    user = pwd.getpwnam("minutemail")
    for pid in processes[kind]:
        seen = status(pid)
        assert seen["Uid"].split() == [str(user.pw_uid)] * 4
        assert seen["Gid"].split() == [str(user.pw_gid)] * 4
        assert set(seen["Groups"].split()) <= {str(g) for g in os.getgrouplist(user.pw_name, user.pw_gid)}


@plain
@pytest.mark.parametrize("kind", MASTERS + OTHERS)
def test_calls_are_filtered(processes, kind):
    for pid in processes[kind]:
        assert status(pid)["Seccomp"] == "2"
    # A worker has its master's filter and its own, a parser also its zygote's.
    outer = int(status(processes["smtpd master"][0])["Seccomp_filters"])
    if kind == "parser":
        assert all(int(status(pid)["Seccomp_filters"]) >= 2 for pid in processes[kind])
    assert outer >= 1


@plain
@pytest.mark.parametrize("kind", OTHERS)
def test_no_core_and_no_debugger(processes, kind):
    for pid in processes[kind]:
        assert limit(pid, "Max core file size") == ["0", "0"]
        # What cannot be dumped belongs to root in /proc: its own user cannot read its memory or environment.
        assert os.stat(f"/proc/{pid}/environ").st_uid == 0
        if ROOT:
            look = subprocess.run(["setpriv", "--reuid=minutemail", "--regid=minutemail", "--init-groups", "--", "cat",
                                   f"/proc/{pid}/environ"], capture_output=True, text=True)
            assert look.returncode != 0 and "Permission denied" in look.stderr


@plain
def test_parser_limits(processes):
    for pid in processes["parser"]:
        assert limit(pid, "Max open files") == ["16", "16"]
        assert limit(pid, "Max file size") == ["0", "0"]
        assert limit(pid, "Max address space")[0] != "unlimited"


@pytest.mark.skipif(not ROOT, reason="another process's descriptors are root's to see")
def test_descriptors(processes):
    listeners = listening()
    for pid in processes["zygote"] + processes["parser"]:
        held = descriptors(pid)
        assert set(held) <= {0, 1, 2, 3}, held
        assert build_is_sanitized() or all(held[i] == "/dev/null" for i in (0, 1, 2))
        assert held[3].startswith("socket:")
    for pid in processes["metrics"]:
        assert not set(descriptors(pid).values()) & listeners
    sockets = [set(descriptors(pid).values()) & listeners for pid in processes["smtpd worker"]]
    assert all(len(own) == 1 for own in sockets)
    for i, own in enumerate(sockets):  # SO_REUSEPORT: each has its own
        assert not any(own & other for other in sockets[:i])
    for kind in ("smtpd worker", "apid worker"):
        for pid in processes[kind]:
            kinds = [target for target in descriptors(pid).values() if "signalfd" in target]
            assert len(kinds) == 1, "the master's signals are not a worker's"
            files = [target for target in descriptors(pid).values() if target.startswith("/")]
            files.remove("/memfd:minutemail-clients (deleted)")  # the table that an upgrade hands over
            assert all(target == "/dev/null" or target.endswith(".log") for target in files), files


@pytest.mark.skipif(not ROOT, reason="root reads what the kernel hides from others")
@pytest.mark.parametrize("kind", ("smtpd worker", "apid worker", "zygote", "parser", "metrics"))
def test_environment_is_forgotten(processes, kind):
    assert b"MINUTEMAIL_KEY_SECRET_FILE=/" in pathlib.Path(f"/proc/{processes['apid master'][0]}/environ").read_bytes()
    for pid in processes[kind]:
        text = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
        assert b"key_secret" not in text and b"MINUTEMAIL_KEY_SECRET_FILE=/" not in text


def memory_has(pid, secrets):
    """Which of them are in the memory of a process."""
    found = set()
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights = line.split()[:2]
            start, end = (int(number, 16) for number in span.split("-"))
            if "r" in rights and not line.endswith(("[vvar]", "[vvar_vclock]", "[vsyscall]")):
                memory.seek(start)
                octets = memory.read(end - start)
                found |= {secret for secret in secrets if secret in octets}
    return found


def descendants(pid):
    return [below for child in children(pid) for below in (child, *descendants(child))]


@plain
@pytest.mark.skipif(not ROOT, reason="root reads what the kernel hides from others")
@pytest.mark.parametrize("daemon", ("smtpd", "apid"))
def test_secrets_are_where_they_are_needed(system, daemon):
    """The database's password and the secret of the keys: workers need them, and the master for the next ones."""
    key_secret = (pathlib.Path(system.info["data"]) / "key_secret").read_bytes().strip()
    secrets = {b"a-password-of-the-database", key_secret, bytes.fromhex(key_secret.decode())}
    via = ["env", "PGPASSWORD=a-password-of-the-database"]
    with Another(system, daemon, ["127.0.0.1:0;tls"], {daemon + "_workers": 1}, via) as running:
        [worker] = running.workers()
        assert memory_has(worker, secrets) == (secrets if daemon == "apid" else {b"a-password-of-the-database"})
        others = [pid for pid in descendants(running.pid) if pid != worker]
        assert {process_name(pid) for pid in others} >= {"keys keeper", "keys", daemon + " metrics"}
        for pid in others:
            assert memory_has(pid, secrets) == set(), process_name(pid)


@root_only
def test_secrets_are_not_for_all(system):
    """What other users of the machine see of the data directory."""
    data = pathlib.Path(system.info["data"])
    for name in ("key", "key_secret"):
        assert stat.S_IMODE(os.stat(data / name).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(data).st_mode) == 0o700


@root_only
def test_root_must_name_a_user():
    build = pathlib.Path(os.environ["MINUTEMAIL_RUN_BUILD"]) if "MINUTEMAIL_RUN_BUILD" in os.environ else \
        pathlib.Path(__file__).resolve().parents[2] / "build-release"
    done = subprocess.run([build / "smtpd" / "smtpd", "--smtpd-listen=127.0.0.1:0", "--smtpd-database=host=/nonexistent"],
                          capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "user=NAME" in done.stderr + done.stdout


@plain
def test_kernel_has_it(system):
    """So that a machine on which half of this is empty says so."""
    incomplete = "sandbox incomplete" in system.log("smtpd")
    assert incomplete == (not landlock_here())
