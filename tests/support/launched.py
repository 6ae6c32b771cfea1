"""Both daemons and a PostgreSQL of their own, started the way users do: ./deploy/run on free ports and a temporary directory. System
tests, the crash bench and the other benches all measure what this starts."""

import itertools
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile

import psycopg2

from client import Api, secrets_in, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
RUN = ROOT / "deploy" / "run"


claims = {}  # port -> the mark that it is ours


def claim(port):
    """Whether it is ours now. The mark is an abstract socket: each network has it once, as it has the port, for whatever user, and it is
    gone with the process that holds it, however that ends."""
    mark = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        mark.bind(f"\0minutemail-test-port-{port}")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
    except OSError:
        mark.close()
        return False
    claims[port] = mark
    return True


def unasked_ports():
    """Those that the kernel gives to nobody who asks for any port, be it for a connection or to listen on."""
    low, high = map(int, pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    return [port for port in range(10000, 65536) if not low <= port <= high] or list(range(10000, 65536))


def free_ports(n):
    """Nobody listens on them, and no other process of the tests gets them before release_ports() or our end: not even while what
    listened there is stopped and started again."""
    ports = unasked_ports()
    start = random.randrange(len(ports))
    return list(itertools.islice(filter(claim, ports[start:] + ports[:start]), n))


def release_ports(ports):
    for port in ports:
        claims.pop(port).close()


def build_is_sanitized():
    return os.environ.get("MINUTEMAIL_RUN_BUILD", "").rstrip("/").endswith("asan")


def process_state(pid):
    """The state letter of a process, or None if it has ended."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state = stat.rpartition(")")[2].split()[0]
    return None if state == "Z" else state


def process_name(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return None


def command_line(pid):
    """Its words, each with a NUL behind it; empty if the process has ended."""
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def children(pid):
    """The direct children of a process."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(entry.name))
    return sorted(found)


class System:
    def __init__(self, domains=(), environment=None):
        self.directory = tempfile.mkdtemp(prefix="minutemail-test-")
        os.chmod(self.directory, 0o755)  # the service user passes through it
        self.data = os.path.join(self.directory, "data")
        self.reports = tempfile.mkdtemp(prefix="minutemail-sanitizer-")  # apart: a test may choose an odd data directory
        os.chmod(self.reports, 0o777)
        self.smtp_port, self.http_port = free_ports(2)
        self.domains = list(domains)
        # No test asks the world's DNS: in an empty zone no name exists.
        self.environment = dict(os.environ, **{"MINUTEMAIL_DNS_ZONE_FILE": "/dev/null", **(environment or {})})
        self.info = None
        self.started = []

    def arguments(self, *more):
        words = [str(RUN), "--data", self.data, "--smtp", str(self.smtp_port), "--http", str(self.http_port)]
        for domain in self.domains:
            words += ["--domain", domain]
        return words + list(more)

    def run(self, *more, timeout=600):
        return subprocess.run(self.arguments(*more), env=self.sanitizer_environment(), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout)

    def sanitizer_environment(self):
        environment = dict(self.environment)
        if build_is_sanitized():
            log = os.path.join(self.reports, "report")
            environment["ASAN_OPTIONS"] = f"log_path={log}:halt_on_error=1:abort_on_error=1:allocator_may_return_null=1"
            environment["UBSAN_OPTIONS"] = f"log_path={log}:halt_on_error=1:print_stacktrace=1"
        return environment

    def start(self):
        done = self.run("--detach", "--json")
        assert done.returncode == 0, done.stderr + self.logs()
        self.info = json.loads(done.stdout.splitlines()[-1])
        self.api = Api(self.info["http"].removeprefix("http://"), self.info["key"])
        return self

    def stop(self):
        done = self.run("--stop")
        assert done.returncode == 0, done.stderr
        return done

    def remove(self):
        """Ends everything, deletes it, and says what the sanitizers found."""
        keep = os.environ.get("MINUTEMAIL_TEST_KEEP")
        told = secrets_in(self.logs(lines=1 << 30))
        try:
            data = self.info["data"] if self.info else self.data
            if os.path.exists(data):
                done = self.run("--stop") if keep else self.run("--stop", "--reset")
                assert done.returncode == 0, done.stderr
            reports = sorted(pathlib.Path(self.reports).iterdir())
            assert not told, f"in a log: {told}"
            assert not reports, "\n".join(report.read_text()[:6000] for report in reports)
        finally:
            if not keep:
                shutil.rmtree(self.directory, ignore_errors=True)
                shutil.rmtree(self.reports, ignore_errors=True)

    def logs(self, lines=30):
        text = ""
        for log in sorted(pathlib.Path(self.data, "log").glob("*")):
            text += f"\n--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
        return text

    def log(self, name):
        return pathlib.Path(self.info["data"], "log", name + ".log").read_text(errors="replace")

    @property
    def smtp(self):
        return self.info["smtp"]

    @property
    def domain(self):
        return self.info["domain"]

    def pid(self, name):
        return self.info["pids"][name]

    def workers(self, name):
        """Its workers: they keep the daemon's name, its other children have names of their own."""
        return [pid for pid in children(self.pid(name)) if process_name(pid) == name]

    @property
    def sockets(self):
        """Where the Unix sockets are: PostgreSQL's and those of the metrics."""
        return pathlib.Path(self.info["data"], "socket_dir").read_text().strip()

    def connect_as(self, role):
        connection = psycopg2.connect(host=self.sockets, port=5432, dbname="minutemail", user=role)
        connection.autocommit = True
        return connection

    def sql(self, query, *values, role="postgres"):
        connection = self.connect_as(role)
        try:
            with connection.cursor() as cursor:
                cursor.execute(query, values)
                return cursor.fetchall() if cursor.description else None
        finally:
            connection.close()

    def ctl_command(self, *words):
        """minutemailctl on this system's database: its command line and its environment."""
        build = os.environ.get("MINUTEMAIL_RUN_BUILD", str(ROOT / "build-release"))
        environment = dict(self.sanitizer_environment(),
                           MINUTEMAIL_CTL_DATABASE=f"host={self.sockets} port=5432 dbname=minutemail user=postgres",
                           MINUTEMAIL_KEY_SECRET_FILE=os.path.join(self.info["data"], "key_secret"),
                           MINUTEMAIL_MIGRATIONS=str(ROOT / "sql" / "migrations"))
        return [os.path.join(build, "deploy", "minutemailctl"), *words, "--json"], environment

    def ctl(self, *words, check=True, text=None):
        """Runs it, with `text` on its standard input; JSON if it printed some."""
        command, environment = self.ctl_command(*words)
        done = subprocess.run(command, env=environment, input=text or "", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=60)
        if check:
            assert done.returncode == 0, (words, done.stdout, done.stderr)
            return json.loads(done.stdout) if done.stdout.strip() else None
        return done

    def expire(self, mailbox, seconds):
        """Lets a mailbox end `seconds` from the database's now; the API's shortest life is a minute."""
        self.sql("update mailboxes set expires_at = now() + %s * interval '1 second' where id = %s", seconds, mailbox["id"])
        self.sql("update account_mailboxes set expires_at = now() + %s * interval '1 second' where mailbox_id = %s", seconds,
                 mailbox["id"])

    def remember(self, name):
        """How to start this process again: its words, its user and its environment."""
        process = pathlib.Path(f"/proc/{self.pid(name)}")
        environment = dict(word.split("=", 1) for word in process.joinpath("environ").read_text().split("\0") if "=" in word)
        data = os.stat(os.path.join(self.info["data"], "postgres"))
        return process.joinpath("cmdline").read_text().split("\0")[:-1], environment, (data.st_uid, data.st_gid)

    def start_again(self, name, how):
        """Starts one of the three as the launcher did, and tells the launcher's list of processes."""
        for ended in self.started:
            ended.poll()  # a zombie still has its number, which PostgreSQL's lock file would believe
        words, environment, (uid, gid) = how
        switch = dict(user=uid, group=gid, extra_groups=[]) if os.getuid() == 0 and name == "postgres" else {}
        with open(os.path.join(self.info["data"], "log", name + ".log"), "ab") as log:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=environment,
                                       start_new_session=True, **switch)
        self.started.append(process)
        old, new = self.info["pids"][name], process.pid
        self.info["pids"][name] = new
        start = pathlib.Path(f"/proc/{new}/stat").read_text().rpartition(")")[2].split()[19]
        pids = pathlib.Path(self.info["data"], "pids")
        pids.write_text("".join(f"{name} {new} {start}\n" if line.split()[1] == str(old) else line + "\n"
                                for line in pids.read_text().splitlines()))

    def another_smtpd(self, *listen, workers=2, **settings):
        """A second smtpd on the same database: its entries of smtpd_listen (with port 0 for a free one), its settings."""
        return Another(self, "smtpd", listen, dict(settings, smtpd_workers=workers))

    def another_apid(self, *listen, workers=2, via=(), **settings):
        """A further apid on the same database, on a port of its own unless its entries of apid_listen are said."""
        return Another(self, "apid", listen or ["127.0.0.1:0"], dict(settings, apid_workers=workers), via)

    def postgres_stop(self):
        """A fast shutdown, as an operator's restart would do; remembers how to start it again."""
        self.postgres_how = self.remember("postgres")
        os.kill(self.pid("postgres"), signal.SIGINT)
        wait_until(lambda: process_state(self.pid("postgres")) is None, 60)

    def postgres_start(self):
        self.start_again("postgres", self.postgres_how)
        wait_until(self.postgres_up, 60)

    def postgres_up(self):
        try:
            return self.sql("select 1")
        except psycopg2.OperationalError:
            return None

    def ready(self):
        try:
            return self.api.get("/ready", key=None).status == 200
        except OSError:
            return False


class Another:
    """A daemon beside the launcher's, with listeners and settings of its own; a context manager. `ports` are those of `listen`."""

    def __init__(self, system, name, listen, settings, via=()):
        self.system = system
        self.name = name
        self.via = list(via)  # a program that starts it, in its own place
        self.directory = tempfile.mkdtemp(prefix=f"minutemail-{name}-")
        os.chmod(self.directory, 0o777)
        self.claimed = free_ports(sum(":0;" in entry + ";" for entry in listen))
        free = iter(self.claimed)
        self.listen = [entry.replace(":0", f":{next(free)}", 1) if ":0;" in entry + ";" else entry for entry in listen]
        self.ports = [int(entry.split(";")[0].rpartition(":")[2]) for entry in self.listen if not entry.startswith("unix:")]
        self.metrics_path = os.path.join(self.directory, "metrics")
        if name == "apid":  # the launcher's speaks no TLS, and so was told of no place for a certificate
            settings = {"tls_dir": os.path.join(self.directory, "tls"), **settings}
        self.settings = {name + "_pid_file": "", **settings, name + "_listen": " ".join(self.listen),
                         name + "_metrics_listen": "unix:" + self.metrics_path}

    def __enter__(self):
        words, environment, _ = self.system.remember(self.name)
        kept = [word for word in words if not word.startswith(tuple("--" + name.replace("_", "-") + "=" for name in self.settings))]
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in self.settings.items()]
        self.log_path = os.path.join(self.directory, "log")
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.via + kept + flags, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=environment,
                                            start_new_session=True)
        self.pid = self.process.pid
        try:
            wait_until(self.up, 30)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def upgrade(self):
        """SIGUSR2, and the new master's process id once it is ready. The old one may go on draining."""
        masters = self.masters()
        os.kill(self.pid, signal.SIGUSR2)
        wait_until(lambda: len(self.masters()) > len(masters), 60)
        self.pid = self.masters()[-1]
        return self.pid

    def masters(self):
        return [int(pid) for pid in re.findall(r"event=ready .*\bpid=(\d+)", self.log())]

    def __exit__(self, *_):
        if self.pid != self.process.pid and process_state(self.pid):
            os.kill(self.pid, signal.SIGTERM)
            wait_until(lambda: process_state(self.pid) is None, 60)
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        release_ports(self.claimed)
        told = secrets_in(self.log())
        shutil.rmtree(self.directory, ignore_errors=True)
        assert not told, f"in the log: {told}"

    def up(self):
        assert self.process.poll() is None, self.log()
        return "event=ready" in self.log()

    def log(self):
        return pathlib.Path(self.log_path).read_text(errors="replace")

    def workers(self):
        return [pid for pid in children(self.pid) if process_name(pid) == self.name]

    def address(self, i=0):
        return f"127.0.0.1:{self.ports[i]}"

    def metrics(self):
        """Every sample by its name with labels."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(30)
            s.connect(self.metrics_path)
            s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            text = b"".join(iter(lambda: s.recv(65536), b"")).decode()
        return {name: float(value) for name, _, value in
                (line.rpartition(" ") for line in text.split("\r\n\r\n", 1)[1].splitlines() if line and line[0] != "#")}
