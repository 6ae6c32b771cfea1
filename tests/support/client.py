"""What the tests speak with: the API over http.client, SMTP over smtplib or a bare socket. No test lives here."""

import http.client
import json
import smtplib
import socket
import time
import urllib.parse

TIMEOUT = 30

on_answer = None  # (method, target, Response): the suite's check of answers (contract.py); benches have none
on_bare_answer = None  # (Response): the same for what came over a bare socket


def end_of_field(octets, at):
    at = octets.index(b"\r\n", at) + 2
    while octets[at:at + 1] in (b" ", b"\t"):
        at = octets.index(b"\r\n", at) + 2
    return at


secrets = set()  # keys, passwords and tokens that were used or given: no log may hold one
SECRET_MEMBERS = ("password", "current", "new", "token", "key", "csrfToken", "link")


def note_secrets(members):
    """Of a JSON object sent or received."""
    if isinstance(members, dict):
        for name in SECRET_MEMBERS:
            value = members.get(name)
            if isinstance(value, str):
                note_secret(value.rpartition("#")[2])


def note_secret(text):
    if text and len(text) >= 12:  # shorter ones are refused, and may be anybody's words
        secrets.add(text)


def secrets_in(text):
    return [secret for secret in secrets if secret in text]


class Response:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self):
        return json.loads(self.body.decode("utf-8"))

    def __repr__(self):
        return f"<{self.status} {self.body[:300]!r}>"


def items(response):
    """The members of a list that must have succeeded."""
    assert response.status == 200, response
    return response.json["items"]


class Api:
    """A client with one key. Every request on a connection of its own unless the caller keeps one."""

    def __init__(self, address, key):
        self.address = address
        self.key = key

    def request(self, method, path, body=None, headers=None, connection=None, key=...):
        send = {}
        key = self.key if key is ... else key
        if key is not None:
            note_secret(key)
            send["Authorization"] = "Bearer " + key
        note_secrets(body)
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
            send["Content-Type"] = "application/json"
        send.update(headers or {})
        own = connection is None
        if own:
            connection = self.connect()
        try:
            connection.request(method, path, body=body.encode() if isinstance(body, str) else body, headers=send)
            answer = connection.getresponse()
            response = Response(answer.status, answer.headers, answer.read())
        finally:
            if own:
                connection.close()
        if "json" in response.headers.get("Content-Type", "") and 0 < len(response.body) < 10000:
            note_secrets(response.json)
        note_secret(response.headers.get("Set-Cookie", "").split(";")[0].partition("=")[2])
        if on_answer:
            on_answer(method, path, response)
        return response

    def connect(self):
        return http.client.HTTPConnection(self.address, timeout=TIMEOUT)

    def get(self, path, **options):
        return self.request("GET", path, **options)

    def post(self, path, body=None, **options):
        return self.request("POST", path, body=body, **options)

    def patch(self, path, body=None, **options):
        return self.request("PATCH", path, body=body, **options)

    def delete(self, path, body=None, **options):
        return self.request("DELETE", path, body=body, **options)

    def mailbox(self, **members):
        members.setdefault("expiresIn", "1h")
        if members.get("noExpiration"):
            members.pop("expiresIn")
        answer = self.post("/v1/mailboxes", members)
        assert answer.status == 201, answer
        return answer.json

    def mails(self, mailbox, query=""):
        return items(self.get(f"/v1/mailboxes/{mailbox['id']}/mails{query}"))

    def only_mail(self, mailbox):
        found = self.mails(mailbox)
        assert len(found) == 1, found
        return found[0]

    def settled_mail(self, mailbox):
        """The one mail, received over SMTP, once who sent it is known: until then what shows it still changes, and so its ETag."""
        return wait_until(lambda: next((mail for mail in [self.only_mail(mailbox)] if mail["authentication"]), None))

    def raw(self, mail):
        answer = self.get(f"/v1/mailboxes/{mail['mailboxId']}/mails/{mail['id']}/raw")
        assert answer.status == 200, answer
        return answer.body

    def source(self, mail):
        """The octets after our own trace fields, which are checked to be there and to be ours."""
        raw = self.raw(mail)
        assert raw.startswith(b"Return-Path: <"), raw[:100]
        at = raw.index(b"\r\n") + 2
        if raw[at:].startswith(b"Authentication-Results: "):  # once they are known
            at = end_of_field(raw, at)
        assert raw[at:].startswith(b"Received: from "), raw[:300]
        return raw[end_of_field(raw, at):]


class Console(Api):
    """Somebody signed in: a cookie and a CSRF token instead of a key."""

    def __init__(self, address):
        super().__init__(address, None)
        self.cookie = self.csrf = self.user = None

    def request(self, method, path, body=None, headers=None, connection=None, key=None):
        send = {}
        if self.cookie:
            send["Cookie"] = self.cookie
        if self.csrf and method not in ("GET", "HEAD"):
            send["X-CSRF-Token"] = self.csrf
        send.update({name: value for name, value in (headers or {}).items() if value is not None})
        for name, value in (headers or {}).items():
            if value is None:
                send.pop(name, None)
        return super().request(method, path, body=body, headers=send, connection=connection, key=key)

    def take(self, response):
        """Remembers the session that an answer opens."""
        if "Set-Cookie" in response.headers:
            self.cookie = response.headers["Set-Cookie"].split(";")[0]
        self.csrf, self.user = response.json["csrfToken"], response.json["user"]
        return self

    def sign_in(self, email, password):
        answer = self.post("/v1/auth/login", {"email": email, "password": password}, headers={"Cookie": None, "X-CSRF-Token": None})
        assert answer.status == 200, answer
        return self.take(answer)


def check_problem(response, status, error):
    """An error as every operation answers it: RFC 9457, and its name in `error` and `code`."""
    assert response.status == status, response
    assert response.headers["Content-Type"].startswith("application/problem+json"), response.headers.items()
    problem = response.json
    assert problem["status"] == status
    assert problem["error"] == error, problem
    assert problem["code"] == error
    for member in ("type", "title", "detail", "message", "requestId"):
        assert isinstance(problem[member], str), (member, problem)
    assert response.headers["X-Request-Id"] == problem["requestId"]
    return problem


def multipart(fields, files=()):
    """fields: (name, value); files: (field, filename, type, octets). Returns body and headers."""
    boundary = "form-boundary-8f3a"
    body = b""
    for name, value in fields:
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + value.encode() + b"\r\n"
    for field, filename, kind, octets in files:
        body += (f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{filename}"\r\n'
                 f"Content-Type: {kind}\r\n\r\n").encode() + octets + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


class Wire:
    """A bare socket, for what no polite client sends."""

    def __init__(self, address, timeout=TIMEOUT, source="127.0.0.1"):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=timeout, source_address=(source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.file.close()
        self.socket.close()

    def send(self, octets):
        self.socket.sendall(octets)

    def send_slowly(self, octets, pause=0.0):
        for i in range(len(octets)):
            self.socket.sendall(octets[i:i + 1])
            if pause:
                time.sleep(pause)

    def line(self):
        return self.file.readline()

    def rest(self):
        """Everything until the peer closes; a reset counts as closing."""
        octets = b""
        try:
            while chunk := self.file.read(65536):
                octets += chunk
        except ConnectionResetError:
            pass
        return octets

    def http_response(self):
        """One answer with Content-Length, or None if the peer closed instead."""
        status = self.line()
        if not status:
            return None
        headers = http.client.parse_headers(self.file)
        length = int(headers.get("Content-Length", 0))
        response = Response(int(status.split()[1]), headers, self.file.read(length))
        if on_bare_answer:
            on_bare_answer(response)
        return response


class Smtp(Wire):
    """An SMTP session by hand: reply() gives (code, text) and checks the form of every line."""

    def reply(self):
        lines = []
        while True:
            line = self.line()
            if not line:
                return None
            assert line.endswith(b"\r\n") and len(line) <= 512, line
            text = line[:-2].decode("ascii")
            lines.append(text[4:])
            code = int(text[:3])
            if text[3:4] != "-":
                return code, "\n".join(lines)

    def say(self, command):
        self.send(command + b"\r\n")
        return self.reply()

    def greet(self):
        code, text = self.reply()
        assert code == 220, text
        code, text = self.say(b"EHLO client.example.org")
        assert code == 250, text
        return text

    def start_data(self, rcpt, mail_from="sender@example.org", parameters=""):
        assert self.say(f"MAIL FROM:<{mail_from}>{parameters}".encode())[0] == 250
        code, text = self.say(f"RCPT TO:<{rcpt}>".encode())
        assert code == 250, text
        assert self.say(b"DATA")[0] == 354


def dot_stuffed(octets):
    stuffed = octets.replace(b"\r\n.", b"\r\n..")
    return b"." + stuffed if stuffed.startswith(b".") else stuffed


def deliver(address, octets, recipients, mail_from="sender@example.org"):
    """Sends exactly these octets by hand, so that no library repairs them. Returns the final reply."""
    recipients = [recipients] if isinstance(recipients, str) else recipients
    with Smtp(address) as wire:
        wire.greet()
        assert wire.say(f"MAIL FROM:<{mail_from}>".encode())[0] == 250
        for rcpt in recipients:
            code, text = wire.say(f"RCPT TO:<{rcpt}>".encode())
            assert code == 250, text
        assert wire.say(b"DATA")[0] == 354
        wire.send(dot_stuffed(octets) + b".\r\n")
        answer = wire.reply()
        wire.say(b"QUIT")
        return answer


def smtplib_session(address):
    host, port = address.rsplit(":", 1)
    return smtplib.SMTP(host, int(port), local_hostname="client.example.org", timeout=TIMEOUT)


def quote(text):
    return urllib.parse.quote(text, safe="")


def wait_until(check, seconds=20, pause=0.05):
    """Polls until check() is true; the last value is returned, so a test can show it."""
    until = time.monotonic() + seconds
    while not (value := check()):
        if time.monotonic() > until:
            raise AssertionError(f"still {value!r} after {seconds} s")
        time.sleep(pause)
    return value
