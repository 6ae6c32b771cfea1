"""Settings of single listening addresses, on an smtpd beside the launcher's."""

import subprocess

import pytest

from client import Smtp
from launched import free_ports
from test_docs import BUILD


def test_size_differs_by_listener(system, api, box):
    with system.another_smtpd("127.0.0.1:0;message_size_max=100K", "127.0.0.1:0") as smtpd:
        sizes = []
        for i in range(2):
            with Smtp(smtpd.address(i)) as wire:
                wire.reply()
                _, text = wire.say(b"EHLO client.example.org")
                sizes += [line.split()[1] for line in text.split("\n") if line.startswith("SIZE ")]
                assert wire.say(b"MAIL FROM:<a@b.example> SIZE=200000")[0] == (552, 250)[i]
        assert sizes == [str(100 * 1024), str(25 * 1024 * 1024)]


@pytest.mark.parametrize("entry, what", [
    ("127.0.0.1:%d;what=1", "unknown option 'what'"), ("127.0.0.1:%d;message_size_max=much", "message_size_max: want a size"),
    ("127.0.0.1:%d;proxy=10.0.0.1/8", "'10.0.0.1/8' has bits set behind its prefix"),
])
def test_bad_option_is_named(entry, what):
    entry %= free_ports(1)[0]
    done = subprocess.run([str(BUILD / "smtpd" / "smtpd"), "--smtpd-listen=" + entry], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2 and what in done.stderr and entry in done.stderr
