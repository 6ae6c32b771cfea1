"""Loads on HTTP and what stands beside them: wrk, pgbench running a statement of apid's, nginx serving files."""

import os
import pathlib
import re
import subprocess
import time

import bench

QUERIES = bench.ROOT / "sql" / "queries" / "apid.sql"
MILLISECONDS = {"us": 1e-3, "ms": 1, "s": 1e3}


def wrk(url, seconds, connections, *headers, script=None, refused=False):
    """Keep-alive connections that ask again as soon as they were answered, or as the script says. `refused`: other answers than 2xx
    are wanted."""
    words = ["wrk", "-t2", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", "--timeout", "60s"]
    for header in headers:
        words += ["-H", header]
    if script:
        words += ["-s", str(script)]
    out = subprocess.run([*words, url], capture_output=True, text=True, check=True, timeout=seconds + 120).stdout
    assert ("Non-2xx" in out) == refused and "Socket errors" not in out, out

    def percentile(p):
        value, unit = re.search(rf"^\s+{p}%\s+([\d.]+)(us|ms|s)", out, re.M).groups()
        return round(float(value) * MILLISECONDS[unit], 3)
    return {"rate": float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1)), "p50_ms": percentile(50), "p99_ms": percentile(99),
            "units": int(re.search(r"(\d+) requests in", out).group(1))}


def statement(name):
    """The text of a "-- name:" block."""
    block = re.search(rf"^-- name: {name}(?: reads)?\n(.*?)(?=^-- |\Z)", QUERIES.read_text(), re.M | re.S)
    return block.group(1).strip().rstrip(";")


class Pgbench:
    """Statements of apid's, prepared, each in a round trip and a transaction of its own, as apid's role.

    `settings` are the session's: what the policies of row-level security look at, which apid says with its statements."""

    def __init__(self, system, directory, settings):
        self.system, self.directory = system, directory
        self.environment = dict(os.environ, PGOPTIONS=" ".join(f"-c {key}={value}" for key, value in settings.items()))

    def run(self, name, values, connections, seconds):
        script = self.directory / (name + ".sql")
        # pgbench makes parameters of :names; the statement is the one that apid prepares.
        script.write_text(re.sub(r"\$(\d+)", r":p\1", " ".join(statement(name).split())) + ";\n")
        postgres_bin = pathlib.Path(f"/proc/{self.system.pid('postgres')}/exe").resolve().parent
        words = [str(postgres_bin / "pgbench"), "-n", "-M", "prepared", "-f", str(script), "-c", str(connections), "-j", "2", "-T",
                 str(max(1, round(seconds))), "-h", self.system.sockets, "-p", "5432", "-U", "minutemail_apid"]
        for key, value in values.items():
            words += ["-D", f"{key}={value}"]
        done = subprocess.run([*words, "minutemail"], env=self.environment, capture_output=True, text=True, timeout=seconds + 60)
        assert done.returncode == 0, done.stderr
        return {"rate": float(re.search(r"tps = ([\d.]+)", done.stdout).group(1)),
                "units": int(re.search(r"transactions actually processed: (\d+)", done.stdout).group(1))}


class Nginx:
    """Static files by name, in clear and over TLS with the certificate given; a context manager."""

    def __init__(self, directory, bodies, certificate=None):
        from launched import free_ports
        self.directory = directory
        self.port, self.tls_port = free_ports(2)
        root = directory / "static"
        root.mkdir()
        for name, body in bodies.items():
            (root / name).write_bytes(body)
        user = "user nobody nogroup;\n" if os.getuid() == 0 else ""
        paths = "".join(f"{kind}_temp_path {directory}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        listen = f"listen 127.0.0.1:{self.port} reuseport;"
        if certificate:
            listen += f" listen 127.0.0.1:{self.tls_port} ssl reuseport; ssl_certificate {certificate[0]}; ssl_certificate_key {certificate[1]};"
        (directory / "nginx.conf").write_text(f"""{user}daemon off; worker_processes 2; worker_rlimit_nofile 30000;
pid {directory}/nginx.pid; error_log {directory}/nginx.log;
events {{ worker_connections 15000; }}
http {{ {paths} access_log off; keepalive_requests 1000000; keepalive_timeout 300s; sendfile on; tcp_nopush on; open_file_cache max=10;
server {{ {listen} location / {{ root {root}; default_type application/json; }} }} }}
""")

    def __enter__(self):
        self.process = subprocess.Popen(["nginx", "-p", str(self.directory), "-c", str(self.directory / "nginx.conf")])
        time.sleep(0.5)
        assert self.process.poll() is None, (self.directory / "nginx.log").read_text()
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def workers(self):
        from launched import children
        return children(self.process.pid)

    def url(self, name):
        return f"http://127.0.0.1:{self.port}/{name}"
