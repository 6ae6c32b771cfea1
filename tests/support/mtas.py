"""Postfix, Exim and OpenSMTPD as relays to an smtpd of ours, and what they may add to a message. Their Debian packages exclude one
another, so none is installed: each is unpacked, and run in mount and process namespaces where it lies over the machine's /usr and
/etc as if it were installed, with the users it wants, a /var of its own, no DNS, and one certificate that it trusts. It ends with the
process that made it and leaves nothing behind."""

import functools
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile

from client import Smtp, wait_until
from launched import children, free_ports
from packages import Missing, unpack

CA_FILE = "/etc/ssl/certs/ca-certificates.crt"

LAY_OVER = """set -e
mount -t overlay overlay -o lowerdir="$1/etc:$1/root/etc:/etc" /etc
mount -t overlay overlay -o lowerdir="$1/root/usr:/usr" /usr
mount --bind "$1/var" /var
mount -t tmpfs -o mode=755 tmpfs /run
ln -s /run /var/run
shift
"""


def namespaces():
    """The words that make them: for root as they are, for others with the user numbers that /etc/subuid lends them."""
    words = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
    return words if os.getuid() == 0 else words + ["--user", "--map-root-user", "--map-auto"]


@functools.cache
def check_namespaces():
    probe = "mount -t overlay overlay -o lowerdir=/etc:/usr /usr"
    done = subprocess.run([*namespaces(), "sh", "-c", probe], capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise Missing("no leave to make namespaces and mounts (root has it, others by uidmap and /etc/subuid): " + done.stderr.strip())


def with_users(file, names, ending):
    """The machine's /etc/passwd or /etc/group and those that the package's scripts would have added."""
    text = pathlib.Path(file).read_text()
    for number, name in enumerate(names, 61001):
        if not re.search(f"^{name}:", text, re.M):
            text += f"{name}:x:{number}:{ending.format(number=number)}\n"
    return text


class Relay:
    """Of a kind: `package`; `users` that the package would make; directories in its /var; the `command` that runs it in front;
    `verified`, a pattern of what its log says of each certificate checked; whether it sends in chunks (RFC 3030).

    A running mail server on 127.0.0.1:`port` that relays everything to `host`:`to_port` over STARTTLS, having checked that the
    certificate is the one in the file `ca` and names the host. `name` is what it greets with. A context manager."""

    def __init__(self, host, to_port, ca):
        self.host, self.to_port, self.ca = host, to_port, ca
        self.name = f"{type(self).__name__.lower()}.example.net"
        self.port, = free_ports(1)
        self.directory = tempfile.mkdtemp(prefix="minutemail-mta-")
        self.process = None

    def __enter__(self):
        try:
            check_namespaces()
            self.prepare()
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_):
        if self.process:
            for first in children(self.process.pid):  # of its namespace: all others end with it
                os.kill(first, signal.SIGKILL)
            self.process.wait(30)
        if not os.environ.get("MINUTEMAIL_TEST_KEEP"):
            subprocess.run(["rm", "-rf", self.directory] if os.getuid() == 0 else
                           [*namespaces(), "rm", "-rf", self.directory], check=True, timeout=60)

    def prepare(self):
        os.chmod(self.directory, 0o755)  # its users pass through it
        root, etc, var = (pathlib.Path(self.directory, name) for name in ("root", "etc", "var"))
        for directory in (root / "etc", root / "usr", etc / "ssl/certs", *(var / name for name in self.var)):
            directory.mkdir(parents=True)
        unpack(self.package, root)
        (etc / "passwd").write_text(with_users("/etc/passwd", self.users, "{number}::/nonexistent:/usr/sbin/nologin"))
        (etc / "group").write_text(with_users("/etc/group", self.users, ""))
        (etc / "hosts").write_text(f"127.0.0.1 {self.host} localhost\n")
        (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files\n")
        (etc / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        shutil.copyfile(self.ca, str(etc) + CA_FILE.removeprefix("/etc"))
        for file, text in self.configuration().items():
            (etc / file).parent.mkdir(exist_ok=True)
            (etc / file).write_text(text)

    def start(self):
        with open(os.path.join(self.directory, "log"), "wb") as log:
            self.process = subprocess.Popen([*namespaces(), "sh", "-c", LAY_OVER + self.command, "sh", self.directory], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, cwd="/", start_new_session=True)
        wait_until(self.up, 30)

    def up(self):
        assert self.process.poll() is None, self.log()
        try:
            with Smtp(f"127.0.0.1:{self.port}") as wire:
                return wire.reply() is not None
        except ConnectionRefusedError:
            return False

    def added(self, front):
        """Whether these octets are the one field that it puts before a message."""
        return re.fullmatch(rb"Received: from (?:[^\r\n]|\r\n\t)+\r\n", front) and b"by " + self.name.encode() + b" " in front

    def log(self):
        text = pathlib.Path(self.directory, "log").read_text(errors="replace")
        for more in pathlib.Path(self.directory, "var/log").glob("*log"):
            if os.access(more, os.R_OK):  # not Exim's other logs, for those who are not root
                text += more.read_text(errors="replace")
        return text


class Postfix(Relay):
    package = "postfix"
    users = ["postfix", "postdrop"]
    var = ["spool/postfix", "lib/postfix", "log"]
    command = "chown postfix /var/lib/postfix; touch /var/log/log; chmod 644 /var/log/log; exec postfix start-fg"
    verified = "Verified TLS connection established to"
    chunks = False

    def configuration(self):
        services = f"127.0.0.1:{self.port} inet n - n - - smtpd\n" + "".join(
            f"{name} unix {mode} - n {wakeup} {limit} {program}\n" for name, mode, wakeup, limit, program in [
                ("qmgr", "n", "1", "1", "qmgr"), ("tlsmgr", "-", "1000?", "1", "tlsmgr"), ("cleanup", "n", "-", "0", "cleanup"),
                ("rewrite", "-", "-", "-", "trivial-rewrite"), ("smtp", "-", "-", "-", "smtp"), ("relay", "-", "-", "-", "smtp"),
                ("bounce", "-", "-", "0", "bounce"), ("defer", "-", "-", "0", "bounce"), ("trace", "-", "-", "0", "bounce"),
                ("error", "-", "-", "-", "error"), ("retry", "-", "-", "-", "error"), ("anvil", "-", "-", "1", "anvil"),
                ("scache", "-", "-", "1", "scache")])
        services += "postlog unix-dgram n - n - 1 postlogd\n"
        return {"postfix/master.cf": services, "postfix/main.cf": f"""compatibility_level = 3.6
maillog_file = /var/log/log
myhostname = {self.name}
mydestination =
local_recipient_maps =
alias_maps =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtpd_peername_lookup = no
message_size_limit = 40000000
relayhost = [{self.host}]:{self.to_port}
smtp_host_lookup = native
smtp_tls_security_level = secure
smtp_tls_CAfile = {CA_FILE}
smtp_tls_loglevel = 1
minimal_backoff_time = 1s
maximal_backoff_time = 2s
queue_run_delay = 1s
"""}


class Exim(Relay):
    package = "exim4-daemon-light"
    users = ["Debian-exim"]
    var = ["spool/exim4", "lib/exim4", "log", "mail"]
    command = "touch /var/log/mainlog; chmod 644 /var/log/mainlog; chown -R Debian-exim: /var/spool/exim4 /var/log; exec /usr/sbin/exim4 -bdf -q2s"
    verified = " CV=yes "
    chunks = True

    def configuration(self):
        return {"exim4/exim4.conf": f"""primary_hostname = {self.name}
local_interfaces = 127.0.0.1
daemon_smtp_ports = {self.port}
log_file_path = /var/log/%slog
log_selector = +tls_certificate_verified
host_lookup =
smtputf8_advertise_hosts = *
tls_advertise_hosts =
acl_smtp_rcpt = accept

begin routers
ours:
  driver = manualroute
  route_list = * "{self.host}::{self.to_port}" byname
  self = send
  transport = ours

begin transports
ours:
  driver = smtp
  allow_localhost
  hosts_require_tls = *
  tls_sni = {self.host}
  tls_verify_certificates = {CA_FILE}
  tls_verify_hosts = *
  tls_verify_cert_hostnames = *

begin retry
* * F,1h,1s
"""}


class OpenSMTPD(Relay):
    package = "opensmtpd"
    users = ["opensmtpd", "opensmtpq"]
    var = ["spool", "lib/opensmtpd/empty", "log", "mail"]
    command = "exec smtpd -d"
    verified = 'cert-check result="(success|valid)"'
    chunks = False

    def configuration(self):
        return {"smtpd.conf": f"""smtp max-message-size "40M"
listen on 127.0.0.1 port {self.port} hostname {self.name}
action "relay" relay host "smtp+tls://{self.host}:{self.to_port}" helo {self.name}
match from any for any action "relay"
"""}
