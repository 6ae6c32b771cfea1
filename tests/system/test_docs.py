"""What the README says of the configuration is what the daemons say of themselves, and its examples work as pasted."""

import fnmatch
import os
import pathlib
import re
import subprocess

import pytest

from client import deliver
from launched import ROOT, RUN, System

BUILD = pathlib.Path(os.environ.get("MINUTEMAIL_RUN_BUILD", ROOT / "build-release"))
KEY = re.compile(r"^  (\w+)( \*)?  (?:[A-Z]+|yes\|no)\n      (.*)\n      default: (.*); environment: (\w+)$", re.M)


def said_by(daemon):
    """Its settings as --help tells them: name -> star, what it is, default."""
    said = subprocess.run([str(BUILD / daemon / daemon), "--help"], capture_output=True, text=True, check=True).stdout
    keys = KEY.findall(said)
    assert len(keys) > 10
    assert all(variable == "MINUTEMAIL_" + name.upper() for name, _, _, _, variable in keys)
    return {name: (star, what, "" if fallback == "none" else fallback) for name, star, what, fallback, _ in keys}


def test_configuration_tables():
    section = (ROOT / "README.md").read_text().split("\n## Configuration\n")[1].split("\n## ")[0]
    tables = section.split("\n| key | default | what |\n")[1:]
    both, smtpd, apid = ({name: (star, what, default.strip("`")) for name, star, default, what in
                          re.findall(r"^\| `(\w+)`( \*)? \| (.*?) \| (.*) \|$", table.split("\n\n")[0], re.M)} for table in tables)
    for daemon, its_own in (("smtpd", smtpd), ("apid", apid)):
        said = said_by(daemon)
        assert said.keys() - both.keys() == its_own.keys()
        for name in said.keys() - {"drain", "hostname"}:  # said in one row for both daemons, which differ
            assert (both | its_own)[name] == said[name], name


def examples(section, language=""):
    text = (ROOT / "README.md").read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def of_this_system(text, system):
    """The README's are those of ./deploy/run without options."""
    places = {"127.0.0.1:8025": f"127.0.0.1:{system.http_port}", "127.0.0.1:1025": f"127.0.0.1:{system.smtp_port}", "var/": system.data + "/",
              "./deploy/run ": f"{RUN} --data {system.data} "}
    for ours, its in places.items():
        text = text.replace(ours, its)
    return text


def test_commands_as_pasted():
    one = System()
    try:
        one.start()
        said = {}
        for block in examples("Run it"):
            if "curl" in block:
                done = subprocess.run(["bash", "-e"], input=of_this_system(block, one), capture_output=True, text=True, timeout=60,
                                      env=one.sanitizer_environment())
                assert done.returncode == 0 and not done.stderr, (block, done.stdout, done.stderr)
                said["--ctl" in block] = done.stdout
        assert "It works." in said[False].splitlines()[-1]
        assert '"owner":"operator@minutemail.cc"' in said[True].splitlines()[-1] and "mail.example.org" in said[True]
    finally:
        one.remove()


def test_test_as_pasted(system):
    program, = examples("Use it in tests", "python")
    ran = {"sign_up": lambda address: deliver(system.smtp, b"Subject: Welcome\r\n\r\nYour code is 271828.\r\n", address)}
    exec(of_this_system(program, system), ran)
    assert ran["code"] == "271828"


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


@pytest.mark.parametrize("place", ["common", "smtpd", "apid", "deploy"])
def test_each_file_has_its_row(place):
    """Rows name files without .c and .h, each once, or many by a pattern; what no name fits is not there any more."""
    table = (ROOT / place / "README.md").read_text().split("| files | what |\n|---|---|\n")[1].split("\n\n")[0]
    names = [name.rstrip("/") for row in table.splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[1])]
    files = {path.stem if path.suffix in (".c", ".h") else path.name for path in (ROOT / place).iterdir()}
    files -= {"README.md", "meson.build", "__pycache__"}
    assert sorted(names) == sorted(set(names))
    assert not [name for name in names if not fnmatch.filter(files, name)], "in the README only"
    assert not [file for file in files if not any(fnmatch.fnmatch(file, name) for name in names)], "not in the README"
