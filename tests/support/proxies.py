"""The reverse proxies of deploy/proxies, running: the sample as it is but for its name, ports, and files, in front of an apid of a
test. Each is unpacked from its Debian package, a child of the test, on loopback, and writes nowhere but in its directory."""

import functools
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile

from client import wait_until
from launched import free_ports
from packages import ROOT, unpack

NAME = "api.example.org"
PACKAGES = ("nginx", "caddy", "haproxy")


@functools.cache
def programs():
    directory = tempfile.TemporaryDirectory(prefix="minutemail-proxies-")  # kept by the cache, gone with the process
    for package in PACKAGES:
        unpack(package, directory.name)
    return directory


def sample(file, *changes):
    """Its text with each of the old words, which must be there, replaced."""
    text = (ROOT / "deploy/proxies" / file).read_text()
    for old, new in changes:
        assert old in text, (file, old)
        text = text.replace(old, new)
    return text


class Proxy:
    """`ports`: where it listens; `apid`: the port of what it stands before; `pair`: certificate and key. A context manager."""

    count = 1

    def __init__(self, pair, *behind):
        self.certificate, self.key = pair.split(":")
        self.behind = behind
        self.ports = free_ports(self.count)
        self.directory = tempfile.mkdtemp(prefix="minutemail-proxy-")
        self.process = None

    def __enter__(self):
        try:
            root = programs().name
            os.chmod(self.directory, 0o755)  # nginx's workers pass through it
            command = self.prepare()
            libraries = ":".join(str(path) for path in pathlib.Path(root, "usr/lib").glob("*-linux-gnu*"))
            environment = {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": libraries, "HOME": self.directory}
            with open(self.path("log"), "wb") as log:
                self.process = subprocess.Popen([os.path.join(root, "usr", command[0]), *command[1:]], stdin=subprocess.DEVNULL, stdout=log,
                                                stderr=log, cwd=self.directory, env=environment)
            wait_until(self.up, 30)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_):
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.directory, name)

    def write(self, name, text):
        pathlib.Path(self.path(name)).write_text(text)
        return self.path(name)

    def up(self):
        assert self.process.poll() is None, self.log()
        try:
            for port in self.ports:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except ConnectionRefusedError:
            return False
        return True

    def log(self):
        return pathlib.Path(self.path("log")).read_text(errors="replace")


class Nginx(Proxy):
    temporary = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")

    def prepare(self):
        site = sample("nginx.conf", ("listen 443 ssl http2;", f"listen 127.0.0.1:{self.ports[0]} ssl http2;"),
                      ("\tlisten [::]:443 ssl http2;\n", ""), ("127.0.0.1:8025;\n", f"127.0.0.1:{self.behind[0]};\n"),
                      ("/etc/ssl/api.example.org.pem", self.certificate), ("/etc/ssl/private/api.example.org.key", self.key))
        paths = "".join(f"{kind}_temp_path {self.path(kind)};\n" for kind in self.temporary)
        main = (f"daemon off;\npid {self.path('pid')};\nerror_log stderr warn;\nevents {{ worker_connections 1000; }}\n"
                f"http {{\naccess_log off;\n{paths}include {self.write('site.conf', site)};\n}}\n")
        return "sbin/nginx", "-p", self.directory, "-c", self.write("nginx.conf", main)

    def forbid_files(self):
        """What it would write to a file fails from here on."""
        for kind in self.temporary:
            shutil.rmtree(self.path(kind), ignore_errors=True)


class Caddy(Proxy):
    def prepare(self):
        unused, = free_ports(1)
        text = sample("Caddyfile", ("{\n\tservers {", f"{{\n\tadmin off\n\thttp_port {unused}\n\tservers {{"),
                      ("api.example.org {", f"https://{NAME}:{self.ports[0]} {{\n\tbind 127.0.0.1"), ("127.0.0.1:8025 {", f"127.0.0.1:{self.behind[0]} {{"),
                      ("# tls /etc/ssl/api.example.org.pem /etc/ssl/private/api.example.org.key", f"tls {self.certificate} {self.key}"))
        return "bin/caddy", "run", "--adapter", "caddyfile", "--config", self.write("Caddyfile", text)

    def forbid_files(self):
        """It has no directory for bodies."""


class Haproxy(Proxy):
    def prepare(self):
        both = self.write("both.pem", pathlib.Path(self.certificate).read_text() + pathlib.Path(self.key).read_text())
        text = sample("haproxy.cfg", ("bind :443 ", f"bind 127.0.0.1:{self.ports[0]} "), ("/etc/haproxy/api.example.org.pem", both),
                      ("apid1 127.0.0.1:8025", f"apid1 127.0.0.1:{self.behind[0]}"))
        return "sbin/haproxy", "-db", "-f", self.write("haproxy.cfg", text)

    def forbid_files(self):
        """It has no directory for bodies."""


class Passthrough(Proxy):
    """Behind it: an apid with TLS, and an smtpd. Ports: 0 the API, 1 SMTP."""

    count = 2

    def prepare(self):
        text = sample("haproxy-passthrough.cfg", ("bind :443", f"bind 127.0.0.1:{self.ports[0]}"), ("bind :25", f"bind 127.0.0.1:{self.ports[1]}"),
                      ("apid1 127.0.0.1:8443", f"apid1 127.0.0.1:{self.behind[0]}"), ("smtpd1 127.0.0.1:2525", f"smtpd1 127.0.0.1:{self.behind[1]}"))
        return "sbin/haproxy", "-db", "-f", self.write("haproxy.cfg", text)


PROXIES = {"nginx": Nginx, "caddy": Caddy, "haproxy": Haproxy}
