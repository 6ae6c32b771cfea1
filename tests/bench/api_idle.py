"""Idle keep-alive connections: memory each, and what a new one waits for its answer."""

import socket
import ssl
import statistics
import subprocess
import time

import bench
import references

AGAIN = 20  # seconds after which all ask once more: apid closes what has been idle for a minute
NEW = 50


class Crowd:
    """Connections that have asked once and were answered."""

    def __init__(self, port, tls, path):
        self.port, self.path = port, path
        self.context = None
        if tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
        self.open = []

    def connect(self, address="127.0.0.1"):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=120, source_address=(address, 0))
        return self.context.wrap_socket(s) if self.context else s

    def send(self, s):
        s.sendall(f"GET {self.path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    @staticmethod
    def take(s):
        got = s.recv(65536)
        assert got.startswith(b"HTTP/1.1 200"), got[:200]

    def ask_again(self):
        for s in self.open:
            self.send(s)
        for s in self.open:
            self.take(s)

    def grow(self, count):
        """Returns how many came a second."""
        begin = asked = time.monotonic()
        for i in range(count):
            s = self.connect(f"127.0.{1 + i // 5000}.1")
            self.send(s)
            self.take(s)
            self.open.append(s)
            if time.monotonic() - asked > AGAIN:
                self.ask_again()
                asked = time.monotonic()
        taken = time.monotonic() - begin
        self.ask_again()
        return round(count / taken)

    def new_one(self):
        """How long from connecting to the answer, ms."""
        taken = []
        for _ in range(NEW):
            begin = time.monotonic()
            with self.connect() as s:
                self.send(s)
                self.take(s)
            taken.append((time.monotonic() - begin) * 1000)
        return {"p50_ms": round(statistics.median(taken), 2), "max_ms": round(max(taken), 2)}

    def close(self):
        for s in self.open:
            s.close()
        self.open = []


def crowd(port, tls, path, workers, count):
    one = Crowd(port, tls, path)
    try:
        one.new_one()
        before, alone = bench.memory(workers), one.new_one()
        rate = one.grow(count)
        after, beside = bench.memory(workers), one.new_one()
        return {"octets_each": round((after - before) / count), "opened_per_second": rate, "new_alone": alone, "new_beside": beside}
    finally:
        one.close()


def certificate(directory):
    files = directory / "idle.pem", directory / "idle.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                    "/CN=localhost", "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
    for file in files:
        file.chmod(0o644)
    return files


def measure(system, directory, count):
    bench.many_descriptors()
    files = certificate(directory)
    results = {}
    for name, tls in (("clear", False), ("TLS", True)):
        with system.another_apid("127.0.0.1:0" + (";tls" if tls else ""), tls_certificates=f"{files[0]}:{files[1]}",
                                 apid_connections_max=count + 1000) as apid:
            results["apid, " + name] = crowd(apid.ports[0], tls, "/health", apid.workers(), count)
            left = int(apid.metrics()["minutemail_apid_connections_timed_out_total"])
            assert left == 0, f"{left} connections were too slow"
        place = directory / f"idle-{name}"
        place.mkdir()
        place.chmod(0o755)
        with references.Nginx(place, {"health": b'{"ok":true}'}, files) as nginx:
            results["nginx, " + name] = crowd(nginx.tls_port if tls else nginx.port, tls, "/health", nginx.workers(), count)
    return {"connections": count, **results}


def show(results):
    print(f"idle: {results['connections']} keep-alive connections that have asked once")
    for name, one in results.items():
        if name != "connections":
            print(f"    {name:12} {one['octets_each']:6} octets each; a new one answered after {one['new_alone']['p50_ms']} ms alone, "
                  f"{one['new_beside']['p50_ms']} ms beside them (at most {one['new_beside']['max_ms']}); {one['opened_per_second']} opened a second")
