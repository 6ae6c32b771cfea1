"""TLS as senders see it: STARTTLS and implicit, by name and key type, resumed, reloaded, injected into, stalled, and without keys."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import time

import pytest

from client import Smtp, wait_until
from launched import build_is_sanitized, children, command_line, process_name
from messages import plain

NAME = "mx.example.org"
MESSAGE = plain()


def context(version=None):
    c = ssl.create_default_context()
    c.check_hostname = False
    c.verify_mode = ssl.CERT_NONE
    if version:
        c.minimum_version = c.maximum_version = version
    return c


def certificate(directory, file, name, key="ec"):
    """A self-signed pair made by the openssl program; returns what tls_certificates takes."""
    paths = [os.path.join(directory, file + end) for end in (".pem", ".key")]
    made = ["-newkey", "rsa:2048"] if key == "rsa" else ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    subprocess.run(["openssl", "req", "-x509", *made, "-nodes", "-days", "30", "-subj", "/CN=" + name, "-addext",
                    "subjectAltName=DNS:" + name, "-out", paths[0], "-keyout", paths[1]], check=True, capture_output=True, timeout=60)
    return ":".join(paths)


def starttls(address, sni=NAME, c=None, session=None):
    """A socket inside TLS, before EHLO."""
    host, port = address.rsplit(":", 1)
    s = socket.create_connection((host, int(port)), timeout=60)
    s.sendall(b"STARTTLS\r\n") if s.recv(4096).startswith(b"220 ") else pytest.fail("no banner")
    answer = s.recv(4096)
    assert answer.startswith(b"220 2.0.0"), answer
    return (c or context()).wrap_socket(s, server_hostname=sni, session=session)


def served(address, sni=NAME):
    with starttls(address, sni) as s:
        return s.getpeercert(binary_form=True)


def common_name(der):
    done = subprocess.run(["openssl", "x509", "-inform", "DER", "-noout", "-subject"], input=der, capture_output=True, check=True,
                          timeout=60)
    return re.search(r"CN\s*=\s*(\S+)", done.stdout.decode())[1]


def s_client(address, *words):
    done = subprocess.run(["openssl", "s_client", "-starttls", "smtp", "-connect", address, "-brief", *words], input=b"QUIT\r\n",
                          capture_output=True, timeout=60)
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return str(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def served_by(system, directory):
    """An smtpd with STARTTLS on its first port and implicit TLS on the second: ECDSA and RSA of one name, a wildcard, another name."""
    pairs = [certificate(directory, "ec", NAME), certificate(directory, "rsa", NAME, "rsa"),
             certificate(directory, "wild", "*.wild.example.org"), certificate(directory, "other", "other.example.org")]
    with system.another_smtpd("127.0.0.1:0", "127.0.0.1:0;tls", tls_certificates=",".join(pairs), hostname=NAME) as smtpd:
        yield smtpd


def check_stored(api, box, beginning):
    mail = api.only_mail(box)
    assert mail["envelope"]["tls"].startswith(beginning), mail["envelope"]
    return mail


def test_starttls_from_the_first_start(system, api, box):
    host, port = system.smtp.rsplit(":", 1)
    with smtplib.SMTP(host, int(port), timeout=60) as s:
        s.ehlo("client.example.org")
        assert s.has_extn("starttls")
        s.starttls(context=context())
        s.ehlo("client.example.org")
        assert not s.has_extn("starttls")
        s.sendmail("sender@example.org", [box["address"]], MESSAGE)
    check_stored(api, box, "TLSv1.3 TLS_")
    assert os.stat(os.path.join(system.info["data"], "tls", "selfsigned.pem")).st_mode & 0o777 == 0o600


def complaints(smtpd):
    """Warnings and errors in its log; what a kernel or a sanitized build takes from the sandbox is no matter here."""
    return [line for line in smtpd.log().splitlines() if re.search("level=(warning|error)", line) and 'event="sandbox' not in line]


def test_self_signed_is_kept(system, directory):
    where = os.path.join(directory, "state", "tls")
    seen = []
    for _ in range(2):
        with system.another_smtpd("127.0.0.1:0", tls_dir=where, tls_certificates="", hostname=NAME) as smtpd:
            seen.append(served(smtpd.address()))
            smtpd.upgrade()
            wait_until(lambda: "event=stopped" in smtpd.log())
            seen.append(served(smtpd.address()))
            assert not complaints(smtpd)
    assert len(set(seen)) == 1 and common_name(seen[0]) == NAME


@pytest.mark.parametrize("version, name", [(ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")])
def test_versions_and_what_is_recorded(served_by, api, box, version, name):
    host, port = served_by.address(1).split(":")
    before = served_by.metrics()
    c = context(version)
    with smtplib.SMTP_SSL(host, int(port), local_hostname="client.example.org", timeout=60, context=c) as s:
        cipher = s.sock.cipher()[0]
        s.sendmail("sender@example.org", [box["address"]], MESSAGE)
    mail = check_stored(api, box, f"{name} {cipher}")
    trace = api.raw(mail)[:1000].decode()
    assert "with ESMTPS" in trace and f"tls {cipher} ({name})" in re.sub(r"\s+", " ", trace)
    sample = f'minutemail_smtpd_tls_handshakes_total{{version="{name}"}}'
    assert served_by.metrics()[sample] == before[sample] + 1
    wait_until(lambda: f'tls="{name} {cipher}' in served_by.log())


def test_name_is_recorded(served_by, api, box):
    with starttls(served_by.address(), "Other.Example.ORG") as s:
        f = s.makefile("rwb")
        for line in (b"EHLO client.example.org", b"MAIL FROM:<a@b.example>", b"RCPT TO:<%s>" % box["address"].encode(), b"DATA"):
            f.write(line + b"\r\n")
            f.flush()
            while f.readline()[3:4] == b"-":
                pass
        f.write(b"Subject: x\r\n\r\nx\r\n.\r\n")
        f.flush()
        assert f.readline().startswith(b"250 ")
    assert check_stored(api, box, "TLSv1.3 TLS_")["envelope"]["tls"].endswith(" sni=other.example.org")


def test_old_version_is_refused(served_by):
    before = served_by.metrics()["minutemail_smtpd_tls_failed_total"]
    status, text = s_client(served_by.address(), "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")
    assert status != 0 and "protocol version" in text
    wait_until(lambda: served_by.metrics()["minutemail_smtpd_tls_failed_total"] > before)
    assert 'tls_error="unsupported protocol"' in served_by.log()


def test_only_what_rfc_9325_lets_pass(served_by):
    """No key exchange without forward secrecy, no compression, no renegotiation; and nobody is asked for a certificate."""
    status, text = s_client(served_by.address(), "-tls1_2", "-cipher", "kRSA:@SECLEVEL=0")
    assert status != 0 and "handshake failure" in text
    done = subprocess.run(["openssl", "s_client", "-starttls", "smtp", "-connect", served_by.address(), "-tls1_2"], input=b"R\nNOOP\r\n",
                          capture_output=True, timeout=60)
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert "No client certificate CA names sent" in said and "Compression: NONE" in said and "Cipher is ECDHE-" in said
    assert "no renegotiation" in said


@pytest.mark.parametrize("words, kind", [
    (["-sigalgs", "ECDSA+SHA256"], "ecdsa"), (["-sigalgs", "RSA-PSS+SHA256"], "rsa-pss"),
    (["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"], "rsa"), (["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"], "ecdsa"),
])
def test_key_types(served_by, words, kind):
    status, text = s_client(served_by.address(), *words)
    assert status == 0 and f"signature type: {kind}" in text.lower().replace("_", "-"), text  # RSA-PSS, or rsa_pss_rsae_sha256


@pytest.mark.parametrize("sni, name", [
    (NAME, NAME), ("a.wild.example.org", "*.wild.example.org"), ("OTHER.example.org", "other.example.org"),
    ("unknown.example", NAME), ("a.b.wild.example.org", NAME), (None, NAME),
])
def test_names(served_by, sni, name):
    assert common_name(served(served_by.address(), sni)) == name


def test_swaks(served_by, api, box):
    done = subprocess.run(["swaks", "--server", served_by.address(), "--tls", "--to", box["address"], "--from", "a@b.example",
                           "--helo", "client.example.org"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    check_stored(api, box, "TLSv1.3 ")


def test_large_message(served_by, api, box):
    line = bytes(range(33, 127)) * 2
    body = b"Subject: large\r\n\r\n" + b"\r\n".join(line[i % 94:] + line[:i % 94] for i in range(60000)) + b"\r\n"
    host, port = served_by.address().split(":")
    with smtplib.SMTP(host, int(port), timeout=120) as s:
        s.starttls(context=context())
        s.sendmail("sender@example.org", [box["address"]], body)
    assert api.source(api.only_mail(box)).endswith(body)


def test_an_end_behind_the_last_command(served_by):
    """Who has nothing more to say may still hear."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with Smtp(served_by.address()) as wire:
        wire.reply()
        assert wire.say(b"STARTTLS")[0] == 220
        tls = context().wrap_bio(incoming, outgoing)

        def until_done(step):
            """None: it cannot be done, since nothing more comes."""
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    wire.send(outgoing.read())
                    octets = wire.socket.recv(65536)
                    if not octets:
                        return None
                    incoming.write(octets)
        until_done(tls.do_handshake)
        tls.write(b"NOOP\r\n")
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.unwrap()  # into the same segment
        assert until_done(tls.read) == b"250 2.0.0 Ok\r\n"


def test_resumed_across_workers(served_by):
    c = context()
    with starttls(served_by.address(), c=c) as s:
        s.sendall(b"NOOP\r\n")
        s.recv(4096)
        session = s.session
    before = served_by.metrics()
    for _ in range(200):
        with starttls(served_by.address(), c=c, session=session) as s:
            assert s.session_reused
            s.sendall(b"NOOP\r\n")
            assert s.recv(4096).startswith(b"250")
            session = s.session
    assert served_by.metrics()["minutemail_smtpd_tls_resumed_total"] == before["minutemail_smtpd_tls_resumed_total"] + 200
    assert len(set(re.findall(r'process="smtpd (\d+)" event="session ended"', served_by.log()))) == 2


def test_injection_in_one_segment(served_by):
    with Smtp(served_by.address()) as wire:
        wire.reply()
        wire.send(b"STARTTLS\r\nRSET\r\nMAIL FROM:<injected@b.example>\r\n")
        assert wire.reply()[0] == 554
        assert wire.rest() == b""


def test_injection_before_the_handshake(served_by):
    with Smtp(served_by.address()) as wire:
        wire.reply()
        assert wire.say(b"STARTTLS")[0] == 220
        wire.send(b"RSET\r\n")
        rest = wire.rest()
        assert rest == b"" or rest[0] == 0x15  # an alert; never a reply in clear


class ByHand:
    """A client whose records wait until they are sent together; the handshake's last ones are the first to wait."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.wire_in, self.wire_out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context(ssl.TLSVersion.TLSv1_3).wrap_bio(self.wire_in, self.wire_out, server_hostname=NAME)
        self.until_done(self.tls.do_handshake)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def until_done(self, act):
        while True:
            try:
                return act()
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLWantReadError:
                self.send()
                octets = self.socket.recv(65536)
                if not octets:
                    return b""
                self.wire_in.write(octets)

    def send(self, *records):
        for record in records:
            self.tls.write(record)
        self.socket.sendall(self.wire_out.read())

    def replies(self, n):
        text = b""
        while text.count(b"\r\n") < n:
            more = self.until_done(lambda: self.tls.read(65536))
            if not more:
                break
            text += more
        return [int(line[:3]) for line in text.split(b"\r\n")[:-1]]


def test_talk_behind_the_handshake_is_early(served_by):
    """RFC 5321 4.3.1: inside TLS too the banner comes first."""
    with ByHand(served_by.address(1)) as early:
        early.send(b"EHLO early.example\r\n")
        assert early.replies(2) == [554]
    with ByHand(served_by.address(1)) as patient:
        assert patient.replies(1) == [220]


def test_a_body_before_the_354_is_early(system, served_by, box):
    """RFC 2920 3.1, where only the kernel has the body when DATA's turn comes: the look-up before it took long."""
    with ByHand(served_by.address(1)) as wire, contextlib.closing(system.connect_as("postgres")) as slow:
        assert wire.replies(1) == [220]
        wire.send(b"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\n")
        assert wire.replies(11)[-2:] == [250, 250]
        slow.autocommit = False
        slow.cursor().execute("lock table mailboxes in access exclusive mode")
        wire.send(b"RCPT TO:<" + box["address"].encode() + b">\r\nDATA\r\n")
        waiting = "select count(*) from pg_stat_activity where usename = 'minutemail_smtpd' and wait_event_type = 'Lock'"
        wait_until(lambda: system.sql(waiting)[0][0])
        wire.send(b"Subject: too early\r\n\r\nQUIT\r\n.\r\n")
        slow.rollback()
        assert wire.replies(3) == [250, 554]


def test_a_reply_is_not_lost_to_an_end(served_by):
    """The end of TLS in one segment with the last command."""
    with ByHand(served_by.address(1)) as wire:
        assert wire.replies(1) == [220]
        wire.tls.write(b"NOOP\r\nVRFY x\r\n")
        with contextlib.suppress(ssl.SSLWantReadError):
            wire.tls.unwrap()
        wire.send()
        assert wire.replies(3) == [250, 252]


@pytest.mark.slow
def test_handshake_that_stalls(served_by):
    with Smtp(served_by.address(1), timeout=120) as wire:  # nothing is said before the handshake
        wire.send(b"\x16\x03\x01")
        began = time.monotonic()
        assert wire.rest() == b""
        assert 20 < time.monotonic() - began < 90
    wait_until(lambda: 'tls_error="deadline passed"' in served_by.log())


def test_plain_words_on_the_tls_port(served_by):
    with Smtp(served_by.address(1)) as wire:
        wire.send(b"EHLO client.example.org\r\n")
        assert not wire.rest().startswith(b"2")


def keeper_of(smtpd):
    return next(pid for pid in children(smtpd.process.pid) if process_name(pid) == "keys keeper")


@contextlib.contextmanager
def reloadable(system, directory, name):
    here = os.path.join(directory, name)
    os.mkdir(here)
    pair = certificate(here, "a", "first.example.org")
    with system.another_smtpd("127.0.0.1:0", tls_certificates=pair, hostname=NAME) as smtpd:
        yield smtpd, here


def test_reload_under_an_open_session(system, directory):
    with reloadable(system, directory, "reload") as (smtpd, here):
        with starttls(smtpd.address()) as held:
            certificate(here, "b", "second.example.org")
            shutil.copy(os.path.join(here, "b.pem"), os.path.join(here, "a.pem"))
            os.kill(smtpd.process.pid, signal.SIGHUP)  # the key is still the old one: nothing changes, and the log says why
            wait_until(lambda: "a.key: not the key of the certificate in" in smtpd.log())
            assert common_name(served(smtpd.address())) == "first.example.org"
            shutil.copy(os.path.join(here, "b.key"), os.path.join(here, "a.key"))
            os.kill(smtpd.process.pid, signal.SIGHUP)
            wait_until(lambda: common_name(served(smtpd.address())) == "second.example.org")
            held.sendall(b"EHLO client.example.org\r\n")
            assert held.recv(4096).startswith(b"250-")
            for _ in range(10):  # no handshake fails for coming at the wrong moment
                os.kill(smtpd.process.pid, signal.SIGHUP)
                for _ in range(3):
                    served(smtpd.address())


def test_an_upgrade_reads_what_only_root_may(system, directory):
    with reloadable(system, directory, "upgrade") as (smtpd, here):
        os.chmod(os.path.join(here, "a.key"), 0o600)
        for n in 1, 2:
            smtpd.upgrade()
            wait_until(lambda: smtpd.log().count("event=stopped") == n)
        certificate(here, "a", "second.example.org")
        os.kill(smtpd.pid, signal.SIGHUP)
        wait_until(lambda: common_name(served(smtpd.address())) == "second.example.org")
        assert not complaints(smtpd)


def test_key_process(system, directory):
    """No worker has the key; the process that has it is replaced when it dies; without it mail comes in clear."""
    with reloadable(system, directory, "keys") as (smtpd, _):
        keeper = keeper_of(smtpd)
        signer = children(keeper)[0]
        rights = re.search(r"^CapEff:\s*(\w+)", pathlib.Path(f"/proc/{keeper}/status").read_text(), re.M).group(1)
        # DAC_READ_SEARCH, KILL, SETGID, SETUID, SETPCAP; none at all for an ordinary user's
        assert int(rights, 16) & ~(1 << 2 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8) == 0
        assert re.search(r"^Seccomp:\s*2$", pathlib.Path(f"/proc/{keeper}/status").read_text(), re.M) or build_is_sanitized()
        status = pathlib.Path(f"/proc/{signer}/status").read_text()
        assert re.search(r"^NoNewPrivs:\s*1$", status, re.M)
        if os.getuid() == 0:
            assert not re.search(r"^Uid:.*\b0\b", status, re.M)
        os.kill(signer, signal.SIGKILL)
        wait_until(lambda: set(children(keeper)) - {signer})
        for _ in range(8):  # each worker finds its way to the new one by itself
            wait_until(lambda: "STARTTLS" in keywords(smtpd) and shakes_hands(smtpd))
        assert common_name(served(smtpd.address())) == "first.example.org"
        os.kill(keeper, signal.SIGKILL)
        wait_until(lambda: 'event="key keeper died" msg="signal 9;' in smtpd.log())
        assert common_name(served(smtpd.address())) == "first.example.org"
        os.kill(next(pid for pid in orphans("keys") if named(pid, smtpd)), signal.SIGKILL)
        wait_until(lambda: "STARTTLS" not in keywords(smtpd))
        with Smtp(smtpd.address()) as wire:
            wire.greet()
            code, text = wire.say(b"STARTTLS")
            assert code == 454 and text.startswith("4.7.0")
            assert wire.say(b"MAIL FROM:<a@b.example>")[0] == 250


def shakes_hands(smtpd):
    try:
        return served(smtpd.address())
    except ssl.SSLError:
        return None


def keywords(smtpd):
    with Smtp(smtpd.address()) as wire:
        wire.reply()
        return wire.say(b"EHLO client.example.org")[1]


def orphans(name):
    return [int(entry.name) for entry in pathlib.Path("/proc").iterdir() if entry.name.isdigit() and process_name(int(entry.name)) == name]


def named(pid, smtpd):
    return smtpd.listen[0] in command_line(pid)


@pytest.mark.parametrize("settings, what", [
    ({"tls_certificates": "/nonexistent/chain.pem:/nonexistent/key.pem"}, "/nonexistent/chain.pem: No such file or directory"),
    ({"tls_certificates": "", "tls_dir": ""}, "there is no certificate; see tls_certificates and tls_dir"),
])
def test_no_certificate(system, settings, what):
    with pytest.raises(AssertionError, match=re.escape(what)):
        with system.another_smtpd("127.0.0.1:0;tls", **settings):
            pass
