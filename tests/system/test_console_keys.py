"""Keys as the console makes, changes and ends them, on four workers."""

import time

import pytest

from client import Api, Console, check_problem, items
from launched import System

PASSWORD = "a long enough password"
SOON = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86400))


@pytest.fixture(scope="module")
def many():
    running = System(domains=["minutemail.cc", "second.example"], environment={
        "MINUTEMAIL_APID_WORKERS": "4", "MINUTEMAIL_PASSWORD_MEMORY": "19M"})
    try:
        yield running.start()
    finally:
        running.remove()


class Team:
    def __init__(self, running):
        self.system, self.stamp = running, str(time.time_ns())
        self.address = running.info["http"].removeprefix("http://")
        running.ctl("account", "create", "team-" + self.stamp, "--plan", "unlimited")
        self.owner, self.member = self.person("owner"), self.person("member")

    def person(self, role):
        email = f"{role}-{self.stamp}@example.com"
        self.system.ctl("user", "create", email, "--account", "team-" + self.stamp, "--role", role)
        self.system.ctl("user", "password", email, text=PASSWORD + "\n")
        return Console(self.address).sign_in(email, PASSWORD)

    def client(self, made):
        return Api(self.address, made["key"])


@pytest.fixture(scope="module")
def team(many):
    return Team(many)


def make(console, **members):
    answer = console.post("/v1/keys", {"name": "ci", **members})
    assert answer.status == 201, answer
    return answer.json


def statuses(client, n=24):
    """New connections: by their hashes they reach every worker."""
    return {client.get("/v1/mailboxes?limit=1").status for _ in range(n)}


@pytest.mark.contract("4 shown once", "4 record", "4 domains", "4 scopes")
def test_made_and_shown_once(team):
    made = make(team.owner)
    assert made["key"].startswith("mm_sk_live_") and len(made["key"]) == 64 and made["key"].endswith(made["last8"])
    assert made["domains"] == ["minutemail.cc"] and made["scopes"] == [] and made["expiresAt"] is None
    assert (made["status"], made["lastUsedAt"], made["owner"], made["own"]) == ("active", None, team.owner.user["email"], True)
    assert statuses(team.client(made)) == {200}
    again = team.owner.get(f"/v1/keys/{made['id']}")
    assert made["key"] not in again.body.decode() + team.owner.get("/v1/keys").body.decode()
    assert again.json["name"] == "ci" and "key" not in again.json
    assert made["id"] in [key["id"] for key in items(team.owner.get("/v1/keys"))]


@pytest.mark.contract("4 domains")
def test_all_that_can_be_said(team):
    made = make(team.owner, domains=["SECOND.example", "minutemail.cc", "second.example"], scopes=["team", "domains"], expiresAt=SOON)
    assert made["domains"] == ["minutemail.cc", "second.example"] and made["scopes"] == ["domains", "team"]
    assert made["expiresAt"][:19] == SOON[:19]
    listed = items(team.owner.get(f"/v1/keys/{made['id']}/domains"))
    assert [domain["name"] for domain in listed] == made["domains"] and all(domain["platform"] for domain in listed)
    by_id = make(team.owner, domains=[listed[1]["id"]])
    assert by_id["domains"] == ["second.example"]
    assert team.client(by_id).mailbox()["domain"] == "second.example"


@pytest.mark.contract("4 name required")
@pytest.mark.parametrize("members, status, word", [
    ({"name": None}, 400, "name"), ({"name": ""}, 400, "name"), ({"name": "x" * 201}, 400, "name"), ({"name": 7}, 400, "name"),
    ({"domains": []}, 400, "domains"), ({"domains": "minutemail.cc"}, 400, "domains"), ({"domains": ["elsewhere.example"]}, 403, "domains"),
    ({"scopes": ["root"]}, 400, "scopes"), ({"expiresAt": "tomorrow"}, 400, "expiresAt"), ({"expiresAt": "2001-01-01T00:00:00Z"}, 400, "past"),
    ({"expiresAt": "2030-02-30T00:00:00Z"}, 400, "expiresAt"), ({"expiresAt": 5}, 400, "expiresAt")])
def test_refused(team, members, status, word):
    problem = check_problem(team.owner.post("/v1/keys", {"name": "ci", **members}), status, "bad_request" if status == 400 else "forbidden")
    assert word in problem["message"]
    made = make(team.owner)
    if members != {"name": None}:
        assert team.owner.patch(f"/v1/keys/{made['id']}", members).status == status


@pytest.mark.contract("4 console only")
def test_no_key_may_do_it(team):
    made = make(team.owner, scopes=["domains", "team", "identities"])
    key = team.client(made)
    for method, path in (("GET", ""), ("POST", ""), ("GET", f"/{made['id']}"), ("PATCH", f"/{made['id']}"), ("DELETE", f"/{made['id']}"),
                         ("POST", f"/{made['id']}/regenerate"), ("POST", f"/{made['id']}/revoke"), ("GET", f"/{made['id']}/domains")):
        assert "console" in check_problem(key.request(method, "/v1/keys" + path, {}), 403, "forbidden")["message"]
    assert statuses(key) == {200}


@pytest.mark.contract("4 edit")
def test_edit(team):
    made = make(team.owner, domains=["minutemail.cc", "second.example"])
    key, path = team.client(made), f"/v1/keys/{made['id']}"
    assert statuses(key) == {200} and key.mailbox(domain="second.example")
    edited = team.owner.patch(path, {"name": "new name", "domains": ["minutemail.cc"], "expiresAt": SOON}).json
    assert (edited["name"], edited["domains"], edited["expiresAt"][:19]) == ("new name", ["minutemail.cc"], SOON[:19])
    for _ in range(24):
        check_problem(key.post("/v1/mailboxes", {"domain": "second.example"}), 403, "forbidden")
    same = team.owner.patch(path, {}).json
    assert {**same, "lastUsedAt": None} == {**edited, "lastUsedAt": None}
    assert team.owner.patch(path, {"expiresAt": None, "scopes": ["team"]}).json["expiresAt"] is None
    assert team.owner.get(path).json["scopes"] == ["team"]


@pytest.mark.parametrize("how", ["regenerate", "revoke", "delete"])
def test_the_old_secret_is_dead_in_every_worker(team, how):
    for _ in range(10):
        made = make(team.owner)
        key, path = team.client(made), f"/v1/keys/{made['id']}"
        connections = [key.connect() for _ in range(8)]
        assert statuses(key) == {200}
        assert {key.get("/v1/mailboxes?limit=1", connection=c).status for c in connections} == {200}
        answer = team.owner.delete(path) if how == "delete" else team.owner.post(f"{path}/{how}")
        seen = {key.get("/v1/mailboxes?limit=1", connection=c).status for c in connections} | statuses(key)
        for connection in connections:
            connection.close()
        assert answer.status == (204 if how == "delete" else 200) and seen == {401}, (answer, seen)
        if how == "regenerate":
            assert answer.json["key"] != made["key"] and answer.json["id"] == made["id"]
            assert statuses(team.client(answer.json)) == {200}
    if how == "revoke":
        assert answer.json["status"] == "revoked"
        check_problem(team.owner.post(f"{path}/regenerate"), 409, "conflict")
        assert team.owner.post(f"{path}/revoke").status == 200 and team.owner.patch(path, {"name": "kept"}).json["status"] == "revoked"
    if how == "delete":
        check_problem(team.owner.get(path), 404, "not_found")


@pytest.mark.contract("2 403 another user's")
def test_members_see_their_own_and_owners_all(many, team):
    members, owners = make(team.member), make(team.owner)
    mine, path = [key["id"] for key in items(team.member.get("/v1/keys"))], f"/v1/keys/{members['id']}"
    assert members["id"] in mine and owners["id"] not in mine
    seen = next(key for key in items(team.owner.get("/v1/keys")) if key["id"] == members["id"])
    assert seen["owner"] == team.member.user["email"] and seen["own"] is False
    for method, more in (("PATCH", ""), ("DELETE", ""), ("POST", "/regenerate")):
        assert "only revoke" in check_problem(team.owner.request(method, path + more, {}), 403, "forbidden")["message"]
        check_problem(team.member.request(method, f"/v1/keys/{owners['id']}{more}", {}), 403, "forbidden")
    for more in ("", "/domains"):
        check_problem(team.member.get(f"/v1/keys/{owners['id']}{more}"), 403, "forbidden")
    check_problem(team.member.post(f"/v1/keys/{owners['id']}/revoke"), 403, "forbidden")
    assert statuses(team.client(members)) == {200}
    assert team.owner.post(path + "/revoke").json["status"] == "revoked"
    assert statuses(team.client(members)) == {401}
    check_problem(Team(many).owner.get(path), 404, "not_found")


@pytest.mark.contract("4 nowhere")
def test_secrets_are_in_no_log(many, team):
    made = make(team.owner)
    again = team.owner.post(f"/v1/keys/{made['id']}/regenerate").json
    for name in ("apid", "postgres"):
        assert made["key"][11:40] not in many.log(name) and again["key"][11:40] not in many.log(name)
