"""What the README says of the configuration is what the daemons say of themselves."""

import os
import pathlib
import re
import subprocess

import pytest

from launched import ROOT

BUILD = pathlib.Path(os.environ.get("MINUTEMAIL_RUN_BUILD", ROOT / "build-release"))
KEY = re.compile(r"^  (\w+)( \*)?  [A-Z]+\n      (.*)\n      default: (.*); environment: (\w+)$", re.M)


@pytest.mark.parametrize("daemon", ["smtpd", "apid"])
def test_configuration_table(daemon):
    said = subprocess.run([str(BUILD / daemon / daemon), "--help"], capture_output=True, text=True, check=True).stdout
    table = {}
    for row in re.findall(r"^\| `(\w+)`( \*)? \| (.*?) \| (.*) \|$", (ROOT / "README.md").read_text(), re.M):
        table[row[0]] = row
    keys = KEY.findall(said)
    assert len(keys) > 10
    for name, star, what, fallback, variable in keys:
        assert name in table, f"{name} is not in the README"
        assert table[name][1].strip() == star.strip(), name
        assert fallback == "none" or fallback in table[name][2], f"{name}: {fallback} or {table[name][2]}"
        assert variable == "MINUTEMAIL_" + name.upper()
        if name not in ("drain", "hostname"):  # said in one row for both daemons
            assert table[name][3] == what, name


@pytest.mark.parametrize("daemon", ["smtpd", "apid"])
def test_unknown_key_is_refused_by_name(daemon):
    done = subprocess.run([str(BUILD / daemon / daemon), "--no-such-key=1"], capture_output=True, text=True)
    assert done.returncode == 2 and "no-such-key" in done.stderr.replace("_", "-")


def test_every_warning_is_explained():
    """As the sources have them, and bad_… that one function puts together."""
    sources = "".join((ROOT / "smtpd" / name).read_text() for name in ("mime.c", "mime_header.c", "mime_body.c", "parser.c"))
    words = set(re.findall(r'(?:message_warn|finish_with)\([^;]*?"(\w+)"', sources)) | set(re.findall(r'"(bad_\w+)"', sources))
    words |= set(re.findall(r'"\\"(\w+)\\"\]"', (ROOT / "apid" / "mail_json.c").read_text()))  # what comes later
    table = (ROOT / "apid" / "README.md").read_text().split("| warning |")[1]
    explained = set(re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in table.splitlines()[2:] if row.startswith("|"))))
    assert words == explained


@pytest.mark.parametrize("place", ["", "common", "smtpd", "apid", "sql", "deploy", "tests"])
def test_each_place_tells_what_lives_there(place):
    text = (ROOT / place / "README.md").read_text()
    named = set(re.findall(r"`((?:common|smtpd|apid|sql|deploy|tests)/[\w./-]+)`", text))
    assert len(text) > 400
    for path in named:
        there = [(ROOT / path).exists(), *((ROOT / path).with_suffix(suffix).exists() for suffix in (".c", ".h"))]
        assert any(there), f"{place}/README.md names {path}, which is not there"
