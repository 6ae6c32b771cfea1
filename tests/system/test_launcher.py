"""deploy/run itself: what it prints, what it refuses, and that the three commands it shows work as pasted."""

import ctypes
import fcntl
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile

import pytest

import launched
from client import Api, wait_until
from launched import RUN, System, children, command_line, free_ports, process_name, process_state, release_ports


def run(*words, **options):
    return subprocess.run([str(RUN), *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300, **options)


def test_json(system):
    info = system.info
    assert set(info) == {"smtp", "http", "key", "domain", "data", "pids"}
    assert info["smtp"] == f"127.0.0.1:{system.smtp_port}" and info["http"] == f"http://127.0.0.1:{system.http_port}"
    assert info["domain"] == "minutemail.cc"
    assert set(info["pids"]) == {"smtpd", "apid", "postgres"}
    assert all(process_state(pid) for pid in info["pids"].values())


def test_operators_tool(system):
    """--ctl on what runs, and not a word when nothing does."""
    done = system.run("--ctl", "user", "list", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["items"][0]["email"] == "operator@minutemail.cc", done.stderr
    wrong = system.run("--ctl", "usr", "list")
    assert wrong.returncode == 2 and "no such command: usr list" in wrong.stderr and "--help" in wrong.stderr
    with tempfile.TemporaryDirectory() as empty:
        nothing = run("--data", empty, "--ctl", "user", "list")
    assert nothing.returncode == 1 and "nothing runs on" in nothing.stderr
    assert "needs the words of a command" in run("--ctl").stderr


def test_files_are_private(system):
    for name in ("key", "key_secret"):
        path = pathlib.Path(system.info["data"], name)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(pathlib.Path(system.info["data"]).stat().st_mode) == 0o700
    assert pathlib.Path(system.info["data"], "key").read_text().strip() == system.info["key"]


def test_configuration_of_this_machines_services_is_not_read(system):
    """What is in /etc/minutemail may name ports, certificates and limits that are not meant for what the launcher starts."""
    for name in ("smtpd", "apid"):
        path = pathlib.Path(system.info["data"], "config", name + ".conf")
        assert f"--config={path}" in command_line(system.pid(name))
        assert path.read_text() == ""


def test_nothing_runs_as_root_but_masters(system):
    """A master started by root stays it, with few capabilities (test_privilege.py); all that strangers talk to does not."""
    for name in ("smtpd", "apid", "postgres"):
        masters = () if name == "postgres" else (system.pid(name),)
        for pid in {system.pid(name), *system.workers(name)} - {*masters}:
            uids = re.search(r"^Uid:\s+(\d+)\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M).groups()
            assert uids != ("0", "0"), f"{name} {pid} runs as root"


def test_only_loopback_is_listened_on(system):
    """Of our processes only the two daemons listen on TCP, on 127.0.0.1."""
    listening = set()
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/{system.pid('smtpd')}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                address, port = fields[1].split(":")
                listening.add((address, int(port, 16)))
    ours = {entry for entry in listening if entry[1] in (system.smtp_port, system.http_port)}
    assert {address for address, _ in ours} == {"0100007F"}


def test_second_start_on_the_same_data_is_refused(system):
    done = run("--data", system.data, "--smtp", str(free_ports(1)[0]), "--http", str(free_ports(1)[0]))
    assert done.returncode == 1 and "already running" in done.stderr and "--stop" in done.stderr and done.stdout == ""


def test_claimed_ports_are_nobody_elses():
    """The suite's own ports (support/launched.py): another process gets them only when they were given back."""
    ports = free_ports(3)
    words = [sys.executable, "-c", "import launched, sys; print(*[launched.claim(int(port)) for port in sys.argv[1:]])", *map(str, ports)]

    def other():
        return subprocess.run(words, cwd=pathlib.Path(launched.__file__).parent, capture_output=True, text=True, check=True, timeout=60).stdout.split()

    assert other() == ["False"] * 3
    release_ports(ports)
    assert other() == ["True"] * 3


@pytest.fixture
def place():
    """A directory that the service user can pass through."""
    with tempfile.TemporaryDirectory(prefix="minutemail-test-") as name:
        os.chmod(name, 0o755)
        yield pathlib.Path(name)


def test_port_taken(place):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run("--data", str(place / "data"), "--smtp", port)
        assert done.returncode == 1 and port in done.stderr and "--smtp" in done.stderr
        done = run("--data", str(place / "data"), "--smtp", str(free_ports(1)[0]), "--http", port)
        assert done.returncode == 1 and port in done.stderr and "--http" in done.stderr
    assert not (place / "data").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a small disk")
def test_disk_full(place):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", str(place)], capture_output=True).returncode != 0:
        pytest.skip("no mounts here")
    try:
        smtp, http = free_ports(2)
        done = run("--data", str(place / "data"), "--smtp", str(smtp), "--http", str(http))
        assert done.returncode == 1 and "not enough disk space" in done.stderr and "1024 MB" in done.stderr
        assert not (place / "data").exists()
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("words, says", [
    (["--what"], "--what"), (["--smtp"], "value"), (["--smtp", "0"], "port"), (["--http", "65536"], "port"), (["--http", "x"], "port"),
    (["--smtp", "2000", "--http", "2000"], "same"), (["--domain", "no spaces"], "domain"), (["--domain", "-"], "domain"),
])
def test_bad_options(words, says):
    done = run(*words)
    assert done.returncode == 1 and says in done.stderr and done.stdout == ""


def test_foreign_directory_is_left_alone(place):
    (place / "precious").write_text("x")
    for words in ([], ["--reset"], ["--reset", "--stop"]):
        done = run("--data", str(place), *words)
        assert done.returncode == 1 and "was not made by this program" in done.stderr
    assert (place / "precious").read_text() == "x"


def test_stop_without_anything_running(place):
    done = run("--data", str(place / "none"), "--stop")
    assert done.returncode == 1 and "no such directory" in done.stderr


def test_build_starts_nothing(place):
    done = run("--build", "--data", str(place / "data"))
    assert done.returncode == 0 and done.stdout == "", done.stderr
    assert not (place / "data").exists()


def test_help():
    done = run("--help")
    assert done.returncode == 0
    for option in ("--data", "--smtp", "--http", "--domain", "--detach", "--no-starttls", "--build", "--json", "--stop", "--reset"):
        assert option in done.stdout


def pasted(output):
    lines = output.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("BOX="))
    return lines[first:first + 3]


def test_foreground_three_commands_and_interrupt():
    """Without --detach: shows three commands, which work as pasted into one shell (bash or dash), and ends at Ctrl-C."""
    one = System()
    log = open(one.directory + "/stderr", "w+", encoding="utf-8")
    process = subprocess.Popen(one.arguments(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
                               env=one.sanitizer_environment(), start_new_session=True)
    try:
        shown = []
        while not shown or "Ctrl-C" not in shown[-1]:
            line = process.stdout.readline()
            assert line, log.seek(0) or log.read()
            shown.append(line)
        commands = pasted("".join(shown))
        assert f"http://127.0.0.1:{one.http_port}/docs" in "".join(shown)
        for shell in ("bash", "sh"):
            done = subprocess.run([shell, "-e"], input="\n".join(commands) + "\n", capture_output=True, text=True, timeout=60)
            assert done.returncode == 0 and not done.stderr, done
            created, listed = done.stdout.splitlines()
            mail, = json.loads(listed)["items"]
            assert mail["mailboxId"] == json.loads(created)["id"]
            assert mail["subject"] == "Hello" and "It works." in mail["bodyText"]
        pids = [int(line.split()[1]) for line in pathlib.Path(one.data, "pids").read_text().splitlines()]
        assert len(pids) == 3
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 0
        assert all(process_state(pid) is None for pid in pids)
    finally:
        process.kill()
        process.stdout.close()
        log.close()
        one.remove()


def writes_to(pid, descriptor):
    try:
        return os.readlink(f"/proc/{pid}/fd/1") == os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:  # it has ended
        return False


def test_interrupted_before_it_has_said_how():
    """Its words wait in a full pipe, everything is up already: a Ctrl-C leaves nothing running."""
    one = System()
    reader, writer = os.pipe()
    os.write(writer, bytes(fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)))
    process = subprocess.Popen(one.arguments(), stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.DEVNULL,
                               env=one.sanitizer_environment(), start_new_session=True)
    try:
        wait_until(lambda: process.poll() is not None or any(writes_to(pid, writer) for pid in children(process.pid) if process_name(pid) == "cat"), 120)
        pids = [int(line.split()[1]) for line in pathlib.Path(one.data, "pids").read_text().splitlines()]
        assert len(pids) == 3 and all(process_state(pid) for pid in pids)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) != 0
        assert not [pid for pid in pids if process_state(pid)]
    finally:
        process.kill()
        process.wait()
        os.close(reader)
        os.close(writer)
        one.remove()


def test_foreground_ends_when_a_child_dies():
    one = System()
    process = subprocess.Popen(one.arguments("--json"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, env=one.sanitizer_environment(), start_new_session=True)
    try:
        pids = json.loads(process.stdout.readline())["pids"]
        os.kill(pids["apid"], signal.SIGKILL)
        assert process.wait(60) == 1
        assert "apid has ended" in process.stderr.read()
        assert all(process_state(pid) is None for pid in pids.values())
    finally:
        process.kill()
        process.communicate()
        one.remove()


def test_reset_and_changed_key():
    one = System()
    try:
        first = one.start().info
        one.ctl("key", "revoke", *[key["id"] for key in listed_keys(one)])
        one.stop()
        second = one.start().info
        assert second["key"] != first["key"]  # the kept one was dead: a new one, and it works
        assert one.api.get("/v1/mailboxes").status == 200
        box = one.api.mailbox()
        one.stop()
        done = one.run("--reset", "--detach", "--json")
        assert done.returncode == 0, done.stderr
        one.info = json.loads(done.stdout.splitlines()[-1])
        fresh = Api(one.info["http"].removeprefix("http://"), one.info["key"])
        assert fresh.get(f"/v1/mailboxes/{box['id']}").status == 404
        one.stop()
        assert run("--data", one.data, "--stop", "--reset").returncode == 0
        assert not os.path.exists(one.data)
    finally:
        one.remove()


NODEMAILER = """require("nodemailer").createTransport({host: "127.0.0.1", port: +process.argv[1]})
	.sendMail({from: "a@example.org", to: process.argv[2], text: "x"}).then(() => console.log("sent"), e => console.log(e.message))"""


def test_clients_that_refuse_our_certificate():
    """Many use STARTTLS where it is offered, and check the certificate: nodemailer as it is, PHPMailer, Go's net/smtp, Rails."""
    def send():
        done = subprocess.run(["node", "-e", NODEMAILER, str(one.smtp_port), one.api.mailbox()["address"]], capture_output=True, text=True,
                              timeout=60, env=dict(os.environ, NODE_PATH="/usr/share/nodejs"))
        return done.stdout.strip() or done.stderr

    one = System()
    try:
        one.start()
        assert "self-signed certificate" in send()
        one.stop()
        started = one.run("--no-starttls", "--detach", "--json")
        assert started.returncode == 0, started.stderr
        assert send() == "sent"
    finally:
        one.remove()


def listed_keys(one):
    listed = one.ctl("key", "list")
    return listed["items"] if isinstance(listed, dict) else listed


def adopt_orphans(yes):
    """Whether processes below this one that lose their parent become children of this one, which reaps nobody by itself."""
    PR_SET_CHILD_SUBREAPER = 36
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(yes), 0, 0, 0) == 0


def reap(*names):
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and process_name(entry.name) in names:
            try:
                os.waitpid(int(entry.name), os.WNOHANG)
            except (ChildProcessError, FileNotFoundError):
                pass


def test_start_after_everything_was_killed():
    """Even where nobody reaps the dead, as in a container without an init."""
    adopt_orphans(True)
    one = System()
    try:
        box = one.start().api.mailbox()
        for pid in one.info["pids"].values():
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: process_state(one.pid("postgres")) is None, 30)
        assert os.path.exists(f"/proc/{one.pid('postgres')}")  # a zombie
        assert one.start().api.get(f"/v1/mailboxes/{box['id']}").status == 200
    finally:
        one.remove()
        adopt_orphans(False)
        reap("postgres", "smtpd", "apid")


def test_failed_start_shows_its_own_log():
    """What stands in a log file from before would only mislead."""
    one = System()
    try:
        one.start().stop()
        with open(os.path.join(one.data, "postgres", "postgresql.conf"), "a", encoding="ascii") as conf:
            conf.write("no_such_setting = 1\n")
        failed = one.run("--detach")
        assert failed.returncode == 1 and "postgres did not start" in failed.stderr and "no_such_setting" in failed.stderr
        assert "ready to accept connections" not in failed.stderr
    finally:
        one.remove()


@pytest.mark.parametrize("version, kept", [("1.0.1", True), ("1.0.10", False), ("1.7.0", False)])
def test_build_of_the_last_release(tmp_path, version, kept):
    """Another release of Debian has another meson, and not the libraries that the build directory names."""
    info = tmp_path / "built" / "meson-info"
    info.mkdir(parents=True)
    (info / "meson-info.json").write_text('{"meson_version": {"full": "1.0.1", "major": 1}, "introspection": {"version": {"full": "1.7.0"}}}')
    (tmp_path / "built/build.ninja").touch()
    script = (f"root=$1; . {RUN.parent}/lib.sh; meson() {{ if [ $1 = --version ]; then echo {version}; else mkdir $2; fi; }}; ninja() {{ :; }}; "
              "build_dir built")
    subprocess.run(["bash", "-euc", script, "bash", tmp_path], check=True, capture_output=True, timeout=60)
    assert (tmp_path / "built").is_dir() and info.is_dir() == kept


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be two users")
def test_data_of_another_user(place):
    """Refused at once, saying whose it is: PostgreSQL or a shell would say no more than Permission denied."""
    data = place / "data"
    (data / "postgres").mkdir(parents=True)
    (data / ".minutemail-run").touch()
    shutil.chown(data / "postgres", "nobody")
    done = run("--data", str(data), "--detach")
    assert done.returncode == 1 and "belongs to the user 'nobody'" in done.stderr and "without sudo" in done.stderr
    data.chmod(0o700)
    if subprocess.run(["test", "-x", str(RUN)], user="nobody").returncode == 0:
        for words in ([], ["--stop"], ["--ctl", "status"]):
            done = run("--data", str(data), *words, user="nobody", group="nogroup", extra_groups=[])
            assert done.returncode == 1 and "belongs to the user 'root'" in done.stderr and "sudo" in done.stderr, done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root hands its work to another user")
def test_new_directories_under_a_strict_umask():
    """The service user passes through what root makes on the way to the data."""
    one = System()
    one.data = os.path.join(one.directory, "a", "b", "data")
    before = os.umask(0o077)
    try:
        assert one.start().info["data"] == one.data
        assert stat.S_IMODE(os.stat(one.data).st_mode) == 0o700
    finally:
        os.umask(before)
        one.remove()


def test_long_and_odd_data_paths():
    """A Unix socket's path has 107 octets; a connection string quotes badly."""
    one = System()
    one.data = os.path.join(one.directory, "a directory, with 'quotes' and blanks " + "x" * 100, "data")
    try:
        one.start()
        assert one.api.get("/v1/mailboxes").status == 200
        assert len(one.sockets) < 90
    finally:
        one.remove()


@pytest.mark.skipif(os.getuid() != 0, reason="only root hands its work to another user")
def test_directory_out_of_reach_of_the_service_user(tmp_path):
    """As in a clone under /root: the data goes elsewhere, always to the same place, that is said, and a link leads there."""
    one = System()
    os.chmod(one.directory, 0o700)
    try:
        one.start()
        assert one.info["data"].startswith("/var/lib/minutemail-run-")
        assert pathlib.Path(one.data, "key").read_text().strip() == one.info["key"]
        one.stop()
        first = one.info
        again = one.run("--detach", "--json")
        assert again.returncode == 0 and "cannot reach" not in again.stderr, again.stderr
        assert json.loads(again.stdout)["key"] == first["key"]
        assert one.api.get("/v1/mailboxes").status == 200
        assert one.run("--stop", "--reset").returncode == 0
        assert not os.path.exists(one.info["data"])
    finally:
        one.remove()
