"""Keys: who gets in, with what, and that a change is in force everywhere at once."""

import datetime
import time
import zlib

import pytest

from client import Api, check_problem

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def make_key(system):
    """Makes a key of the operator's; returns its record and a client that uses it."""
    def make(*words, name="test key"):
        made = system.ctl("key", "create", "--name", name, "--user", f"operator@{system.domain}", *words)
        return made, Api(system.info["http"].removeprefix("http://"), made["key"])
    return make


def refused(response, words=""):
    problem = check_problem(response, 401, "unauthorized")
    assert problem["message"].startswith("Invalid API key") or "no " in problem["message"].lower() or not words, problem
    assert words in problem["message"].lower() + problem["detail"].lower(), problem
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.contract("4 form")
def test_form_of_a_key(make_key):
    made, _ = make_key("--domain", "minutemail.cc")
    key = made["key"]
    assert len(key) == 64 and key.startswith("mm_sk_live_") and set(key[11:]) <= set(BASE62)
    assert made["last8"] == key[-8:]


@pytest.mark.contract("2 401 no key", "2 401 malformed")
@pytest.mark.parametrize("auth", [None, "", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Bearer short", "Bearer mm_sk_live_" + "x" * 53,
                                  "Bearer " + "a" * 10000])
def test_no_or_malformed_key(api, auth):
    answer = api.get("/v1/mailboxes", key=None, headers={} if auth is None else {"Authorization": auth})
    if auth and len(auth) > 9000:
        assert answer.status in (401, 431)
    else:
        refused(answer)


@pytest.mark.contract("1 bearer")
def test_scheme_in_any_case_and_blanks(system, api):
    key = system.info["key"]
    for auth in (f"bearer {key}", f"BEARER {key}", f"Bearer    {key}", f"Bearer {key}   "):
        assert api.get("/v1/mailboxes?limit=1", key=None, headers={"Authorization": auth}).status == 200, auth


@pytest.mark.contract("1 no key in the query")
def test_key_in_the_query_string_is_not_taken(system, api):
    answer = api.get(f"/v1/mailboxes?key={system.info['key']}&api_key={system.info['key']}", key=None)
    assert answer.status in (400, 401)


@pytest.mark.contract("4 checksum")
def test_mistyped_key(system, api):
    key = system.info["key"]
    for at in (11, 30, 57, 58, 63):
        wrong = key[:at] + BASE62[(BASE62.index(key[at]) + 1) % 62] + key[at + 1:]
        refused(api.get("/v1/mailboxes", key=wrong))


@pytest.mark.contract("2 401 unknown", "4 test environment")
def test_well_formed_but_unknown_key_and_key_of_the_other_environment(api):
    def with_checksum(text):
        value, digits = zlib.crc32(text.encode()), ""
        for _ in range(6):
            value, rest = divmod(value, 62)
            digits = BASE62[rest] + digits
        return text + digits
    refused(api.get("/v1/mailboxes", key=with_checksum("mm_sk_live_" + "A" * 47)))
    refused(api.get("/v1/mailboxes", key=with_checksum("mm_sk_test_" + "A" * 47)), "test")


@pytest.mark.contract("4 nowhere")
def test_key_is_nowhere_in_logs_or_errors(system, api):
    api.get("/v1/mailboxes", key=system.info["key"])
    wrong = system.info["key"][:-1] + "!"
    assert wrong not in api.get("/v1/mailboxes", key=wrong).body.decode()
    for name in ("apid", "smtpd", "postgres"):
        log = system.log(name)
        assert system.info["key"] not in log and system.info["key"][11:40] not in log


@pytest.mark.contract("2 403 domain", "2 404 or 403", "4 acts as its owner", "4 other domain")
def test_domain_restriction(make_key, api):
    _, narrow = make_key("--domain", "second.example")
    assert narrow.mailbox()["domain"] == "second.example"  # the default is the key's first, not the platform's
    check_problem(narrow.post("/v1/mailboxes", {"domain": "minutemail.cc"}), 403, "forbidden")
    other = api.mailbox(domain="minutemail.cc")
    for path in ("", "/mails"):
        check_problem(narrow.get(f"/v1/mailboxes/{other['id']}{path}"), 403, "forbidden")
    assert other["id"] not in [box["id"] for box in narrow.get("/v1/mailboxes?limit=1000").json["items"]]


def all_workers_refuse(client, seconds=0.0):
    """Connections land on workers by hash: enough of them ask every one."""
    until = time.monotonic() + seconds
    while True:
        answers = [client.get("/v1/mailboxes?limit=1").status for _ in range(60)]
        if set(answers) == {401} or time.monotonic() > until:
            return answers


def warm(client):
    """The key is in the cache of every worker."""
    assert {client.get("/v1/mailboxes?limit=1").status for _ in range(60)} == {200}


@pytest.mark.contract("2 401 revoked")
def test_revoked_key_is_refused_on_the_very_next_request(system, make_key):
    for _ in range(5):
        made, client = make_key()
        warm(client)
        connections = [client.connect() for _ in range(20)]
        for connection in connections:
            assert client.get("/v1/mailboxes?limit=1", connection=connection).status == 200
        system.ctl("key", "revoke", made["id"])
        answers = [client.get("/v1/mailboxes?limit=1", connection=connection).status for connection in connections]
        answers += [client.get("/v1/mailboxes?limit=1").status for _ in range(60)]
        for connection in connections:
            connection.close()
        assert set(answers) == {401}, answers
        refused(client.get("/v1/mailboxes"), "revoked")


@pytest.mark.contract("2 401 deleted")
def test_deleted_key(system, make_key):
    made, client = make_key()
    warm(client)
    system.ctl("key", "delete", made["id"])
    assert set(all_workers_refuse(client)) == {401}


def test_regenerated_key(system, make_key):
    made, client = make_key()
    warm(client)
    again = system.ctl("key", "regenerate", made["id"])
    assert again["key"] != made["key"]
    assert set(all_workers_refuse(client)) == {401}
    warm(Api(client.address, again["key"]))


@pytest.mark.contract("2 401 expired")
def test_expired_key_at_its_instant(system, make_key):
    ends = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=5)
    made, client = make_key()
    system.sql("update api_keys set expires_at = %s where id = %s", ends, made["id"])
    warm(client)
    time.sleep(max(0, (ends - datetime.datetime.now(datetime.timezone.utc)).total_seconds()) + 0.001)
    assert set(all_workers_refuse(client)) == {401}
    refused(client.get("/v1/mailboxes"), "expired")


def test_edited_domains_are_in_force_at_once(system, make_key):
    made, client = make_key("--domain", "minutemail.cc", "--domain", "second.example")
    warm(client)
    assert client.mailbox(domain="second.example")
    system.ctl("key", "edit", made["id"], "--domain", "minutemail.cc")
    for _ in range(30):
        check_problem(client.post("/v1/mailboxes", {"domain": "second.example"}), 403, "forbidden")


def test_key_list_never_shows_secrets(system, make_key):
    made, _ = make_key()
    listed = system.ctl("key", "list")
    text = str(listed)
    assert made["id"] in text and made["last8"] in text and made["key"] not in text


def test_ctl_says_no_clearly(system):
    done = system.ctl("key", "revoke", "00000000-0000-7000-8000-000000000000", check=False)
    assert done.returncode != 0 and done.stderr.strip()
    done = system.ctl("nonsense", check=False)
    assert done.returncode != 0 and done.stderr.strip()
