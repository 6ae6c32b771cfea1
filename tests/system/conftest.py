"""`system` is one system for the whole session; tests share it and make mailboxes of their own. `victim` is a second one, for the
tests that stop, kill and restart things. Both are started by ./deploy/run (tests/support/launched.py). Every answer that the API client
receives is held to openapi.json (tests/support/contract.py).

Several pytests may share the suite (--share), each with systems of its own: a file is run by the one that comes to it first."""

import pathlib
import signal
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import client  # noqa: E402
import contract  # noqa: E402
from client import Api  # noqa: E402
from launched import System  # noqa: E402


@pytest.fixture(scope="session")
def system():
    running = System(domains=["minutemail.cc", "second.example"])
    try:
        yield running.start()
    finally:
        running.remove()


@pytest.fixture(scope="session")
def victim():
    running = System(environment={"MINUTEMAIL_DRAIN": "10s", "MINUTEMAIL_STORE_DEADLINE": "6s"})
    try:
        yield running.start()
    finally:
        running.remove()


@pytest.fixture
def api(system):
    return system.api


@pytest.fixture
def box(api):
    return api.mailbox()


@pytest.fixture(scope="session")
def stranger(system):
    """A second account with a user and a key of its own."""
    stamp = str(time.time_ns())
    system.ctl("account", "create", "stranger-" + stamp, "--plan", "unlimited")
    email = f"stranger-{stamp}@{system.domain}"
    system.ctl("user", "create", email, "--account", "stranger-" + stamp, "--role", "owner")
    made = system.ctl("key", "create", "--name", "stranger", "--user", email, "--domain", "minutemail.cc,second.example")
    return Api(system.info["http"].removeprefix("http://"), made["key"])


LONGEST = ("test_slow.py", "test_proxies.py", "test_limits.py", "test_tls.py", "test_revocation.py", "test_launcher.py")
taken = {}  # name of a file -> whether it is ours


def pytest_addoption(parser):
    parser.addoption("--share", metavar="DIRECTORY", help="run those files only that no other pytest with this directory runs")


def pytest_collection_modifyitems(config, items):
    if config.getoption("share"):  # so that all end at about the same time
        items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item):
    directory, name = item.config.getoption("share"), item.path.name
    if directory and name not in taken:
        try:
            pathlib.Path(directory, name).touch(exist_ok=False)
            taken[name] = True
        except FileExistsError:
            taken[name] = False
    return None if taken.get(name, True) else True  # True: nothing is left to do for it


def end(*_):
    raise KeyboardInterrupt


def pytest_configure(config):
    config.addinivalue_line("filterwarnings", "error::pytest.PytestUnhandledThreadExceptionWarning")
    client.on_answer, client.on_bare_answer = contract.check, contract.check_any
    signal.signal(signal.SIGTERM, end)  # so that the fixtures end what they started
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a script in the background has it ignored, and so would what we start
    config.addinivalue_line("markers", "contract: the rows of the published API that this test holds (tests/support/contract_rows.py)")
    config.addinivalue_line("markers", "slow: over a few seconds; left out of --quick and of the sanitized pass")
    config.addinivalue_line("markers", "plain_only: measures or limits that sanitizers distort")
