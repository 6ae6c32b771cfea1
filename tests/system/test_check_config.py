"""--check-config: every setting whose value has a form of its own is judged, all faults are told, and a fault names its key and its
part. What is checked is what would be run."""

import os
import pathlib
import re
import subprocess

import pytest

BUILD = pathlib.Path(os.environ.get("MINUTEMAIL_RUN_BUILD", pathlib.Path(__file__).resolve().parents[2] / "build-release"))

LISTEN = {"smtpd": "smtpd_listen", "apid": "apid_listen"}


def check(daemon, *settings):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MINUTEMAIL_")}
    environment.update(MINUTEMAIL_KEY_SECRET="0" * 64, MINUTEMAIL_CONFIG="/dev/null")
    flags = ["--" + setting.replace("_", "-", setting.split("=")[0].count("_")) for setting in settings]
    done = subprocess.run([str(BUILD / daemon / daemon), "--check-config", *flags], capture_output=True, text=True, timeout=60,
                          env=environment)
    return done.returncode, done.stdout, done.stderr.splitlines()


@pytest.mark.parametrize("daemon", LISTEN)
def test_defaults_are_right(daemon):
    status, printed, faults = check(daemon)
    assert (status, faults) == (0, [])
    assert f"{LISTEN[daemon]} = 127.0.0.1:" in printed


@pytest.mark.parametrize("daemon, setting, fault", [
    ("smtpd", "smtpd_listen=*:25;message_size_max=5X", "*:25;message_size_max=5X: option message_size_max: want a size"),
    ("smtpd", "smtpd_listen=127.0.0.1:25 *:25;require_tls=maybe", "*:25;require_tls=maybe: option require_tls: want yes or no"),
    ("smtpd", "smtpd_listen=*:25;tsl", "*:25;tsl: unknown option 'tsl'"),
    ("smtpd", "smtpd_listen=*:25;proxy=10.0.0.0/8+lb.example", "*:25;proxy=10.0.0.0/8+lb.example: option proxy: 'lb.example' is not a network"),
    ("smtpd", "smtpd_listen=*:smtp", "'*:smtp' is not an address to listen on"),
    ("smtpd", "smtpd_listen=mx.example.org:25", "'mx.example.org:25' is not an address to listen on"),
    ("smtpd", "smtpd_listen=", "is empty"),
    ("apid", "apid_listen=*:443;tls;forwarded=10.1.2.3/8", "*:443;tls;forwarded=10.1.2.3/8: option forwarded: '10.1.2.3/8' has bits set behind its prefix"),
    ("apid", "apid_listen=[::1:80", "'[::1:80' is not an address to listen on"),
    ("smtpd", "client_exempt=127.0.0.0/8, localhost", "'localhost' is not a network"),
    ("smtpd", "client_bare_newline=192.0.2.1/24", "'192.0.2.1/24' has bits set behind its prefix"),
    ("apid", "client_exempt=127.0.0.1/8", "'127.0.0.1/8' has bits set behind its prefix"),
    ("smtpd", "smtpd_database=dbname", "not a connection string: missing"),
    ("apid", "apid_database=host=x nonsense=y", "not a connection string: invalid connection option"),
    ("smtpd", "user=nobody-of-that-name", "there is no user 'nobody-of-that-name'"),
    ("smtpd", "hostname=mx example org", "'mx example org' is not a host name"),
    ("apid", "mx_hosts=mx.example.org, mx..org", "'mx..org' is not a host name"),
    ("smtpd", "smtpd_metrics_listen=9090", "'9090' is not an address to listen on"),
    ("apid", "apid_metrics_listen=unix:", "'unix:' is not an address to listen on"),
    ("smtpd", "spool_dir=/nonexistent", "/nonexistent: No such file or directory"),
    ("smtpd", "spool_dir=/dev/null", "/dev/null: not a directory"),
    ("smtpd", "dnsbl_zones=zen.example, bad.example=127.0.0.2-10.0.0.1", "bad.example=127.0.0.2-10.0.0.1"),
    ("smtpd", "dnsbl_action=drop", "'drop' is not annotate or reject"),
    ("smtpd", "log_level=loud", "'loud' is not debug, info, warning or error"),
    ("smtpd", "dns_servers=127.0.0.1, resolver.example", "'resolver.example' is not a DNS server's address"),
    ("apid", "dns_servers=[::1]:99999", "'[::1]:99999' is not a DNS server's address"),
    ("smtpd", "dns_zone_file=/nonexistent", "cannot read /nonexistent: No such file or directory"),
    ("smtpd", "tls_certificates=/nonexistent/chain.pem:/nonexistent/key.pem", "/nonexistent/chain.pem"),
    ("apid", "tls_certificates=/dev/null", "/dev/null"),
    ("apid", "cors_origins=https://app.example.org/path", "'https://app.example.org/path' is no origin"),
    ("apid", "environment=staging", "'staging' is not live or test"),
    ("apid", "signup=maybe", "'maybe' is not closed, invitation or open"),
    ("apid", "mailbox_lifetime_default=2d", "is not between mailbox_lifetime_min and mailbox_lifetime_max"),
])
def test_a_fault_names_its_part(daemon, setting, fault):
    status, printed, faults = check(daemon, setting)
    key = setting.split("=")[0]
    assert status == 2 and not printed
    assert len(faults) == 1 and faults[0].startswith(f"{daemon}: {key}: ") and fault in faults[0], faults


def test_all_faults_are_told():
    status, _, faults = check("smtpd", "smtpd_listen=*:25;what *:26;proxy=x", "client_exempt=a b", "spf_reject=yes", "authentication=no")
    assert status == 2
    assert [re.match(r"smtpd: (\w+): ", line)[1] for line in faults] == ["smtpd_listen"] * 2 + ["client_exempt"] * 2 + ["authentication"]


def test_what_is_run_is_checked_too():
    done = subprocess.run([str(BUILD / "smtpd" / "smtpd"), "--smtpd-listen=*:0;what"], capture_output=True, text=True, timeout=60,
                          env=dict(os.environ, MINUTEMAIL_CONFIG="/dev/null"))
    assert done.returncode == 2 and "smtpd: smtpd_listen: *:0;what: unknown option 'what'" in done.stderr


def test_a_limit_that_is_announced_has_six_digits():
    """RFC 9422: MAILMAX could not say more."""
    status, _, faults = check("smtpd", "messages_max=1000000")
    assert status != 0 and len(faults) == 1 and faults[0].endswith("want 0 to 999999"), faults
    assert check("smtpd", "messages_max=999999")[0] == 0
