"""Requests without pause on many keep-alive connections to many workers, from one thread. Because one thread sends them all and reads the
answer to a change, what was sent before that answer came and what after it is known without a clock."""

import selectors
import socket
import subprocess
import time

PATIENCE = 30


def request(method, path, body=b"", **headers):
    fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    if body:
        fields += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{method} {path} HTTP/1.1\r\nHost: hammer\r\n{fields}\r\n".encode() + body


def with_key(key, path="/v1/mailboxes?limit=1"):
    return request("GET", path, Authorization="Bearer " + key)


class Line:
    """A keep-alive connection. No X-Request-Id is sent, so the answers' begin with what is the worker's own."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.address = address
        self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input = b""
        self.waiting = 0  # requests without an answer yet
        self.sent = 0
        self.worker = None

    def fileno(self):
        return self.socket.fileno()

    def send(self, octets):
        self.socket.sendall(octets)
        self.waiting += 1
        self.sent += 1

    def receive(self):
        """What is there; whole answers as (status, body)."""
        octets = self.socket.recv(262144)
        assert octets, f"the server closed a connection to {self.worker} after {self.sent} requests, {self.waiting} of them not answered"
        self.input += octets
        answers = []
        while (end := self.input.find(b"\r\n\r\n")) >= 0:
            head = self.input[:end].lower() + b"\r\n"
            length = int(field(head, b"content-length") or 0)
            if len(self.input) < end + 4 + length:
                break
            answers.append((int(head[9:12]), self.input[end + 4:end + 4 + length]))
            self.worker = field(head, b"x-request-id").split(b"-")[0]
            self.input = self.input[end + 4 + length:]
            self.waiting -= 1
        return answers

    def ask(self, octets):
        """One answer to one request, waited for."""
        self.send(octets)
        while True:
            if answers := self.receive():
                return answers[0]

    def close(self):
        self.socket.close()


def field(head, name):
    at = head.find(b"\r\n" + name + b": ")
    if at < 0:
        return None
    return head[at + len(name) + 4:head.index(b"\r\n", at + 2)]


class Call:
    """A change by an API request: done when its answer has been read."""

    def __init__(self, line, octets):
        self.line, self.octets = line, octets

    def start(self):
        self.line.send(self.octets)
        return self.line

    def done(self):
        answers = self.line.receive()
        if not answers:
            return False
        self.status, self.body = answers[0]
        assert self.status in (200, 204), (self.octets, self.status, self.body)
        return True


class Command:
    """A change by a program: done when that has ended."""

    def __init__(self, words, environment):
        self.words, self.environment = words, environment

    def start(self):
        self.process = subprocess.Popen(self.words, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT)
        self.said = b""
        return self.process.stdout

    def done(self):
        octets = self.process.stdout.read1(65536)
        self.said += octets
        if octets:
            return False
        assert self.process.wait() == 0, self.said
        return True


class Fleet:
    """`lines` connections to each of `workers` workers behind some addresses."""

    def __init__(self, addresses, workers, lines):
        self.addresses, self.each = addresses, lines
        self.lines, self.by_worker = [], {}
        self.fill(workers)

    def fill(self, workers):
        """The kernel chooses the worker: connections are opened until each has its share."""
        until = time.monotonic() + PATIENCE
        at = 0
        while len(self.by_worker) < workers or any(len(lines) < self.each for lines in self.by_worker.values()):
            assert time.monotonic() < until, {worker: len(lines) for worker, lines in self.by_worker.items()}
            line = Line(self.addresses[at % len(self.addresses)])
            at += 1
            line.ask(request("GET", "/health"))
            mine = self.by_worker.setdefault(line.worker, [])
            assert len(self.by_worker) <= workers, "more workers than there are"
            if len(mine) == self.each:
                line.close()
                continue
            mine.append(line)
            self.lines.append(line)

    def renew(self, requests=8000):
        """The server ends a connection after 10,000 requests."""
        workers = len(self.by_worker)
        for line in [line for line in self.lines if line.sent > requests]:
            self.by_worker[line.worker].remove(line)
            self.lines.remove(line)
            line.close()
        self.fill(workers)

    def close(self):
        for line in self.lines:
            line.close()


class Outcome:
    def __init__(self):
        self.early, self.late = [], []  # (status, worker)


def nothing():
    pass


def strike(fleet, octets, change, resting=1, rounds=2, before=nothing, meanwhile=nothing, reported=nothing):
    """All lines of the fleet ask, each its element of `octets` in turn, while the change is made; `resting` of each worker's wait and ask
    the very moment it is answered. Ends when each line has had `rounds` answers to what it sent after that. before() and meanwhile() run
    right before and after the change is asked for, reported() when the late requests of the resting lines have left."""
    outcome = Outcome()
    asks = {line: octets[i % len(octets)] for lines in fleet.by_worker.values() for i, line in enumerate(lines)}
    rest = [line for lines in fleet.by_worker.values() for line in lines[:resting]]
    sent_late = dict.fromkeys(fleet.lines, False)  # what is on its way was sent after the answer
    left = dict.fromkeys(fleet.lines, rounds)
    over = False

    def send(line):
        sent_late[line] = over
        line.send(asks[line])

    with selectors.DefaultSelector() as selector:
        before()
        source = change.start()
        selector.register(source, selectors.EVENT_READ)
        for line in fleet.lines:
            selector.register(line, selectors.EVENT_READ)
            if line not in rest:
                send(line)
        meanwhile()
        until = time.monotonic() + PATIENCE
        while any(left.values()):
            assert time.monotonic() < until, "no end"
            for key, _ in selector.select(1):
                line = key.fileobj
                if line is source:
                    if change.done():
                        over = True
                        selector.unregister(source)
                        for resting_line in rest:
                            send(resting_line)
                        reported()
                    continue
                for status, _ in line.receive():
                    (outcome.late if sent_late[line] else outcome.early).append((status, line.worker))
                    left[line] -= sent_late[line]
                    if left[line]:
                        send(line)
        return outcome
