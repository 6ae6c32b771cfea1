"""Nobody reaches what is another's. Generated from openapi.json, so a new route is asked too: each is called with every kind of foreign
object by everybody whose object it isn't, must answer the status that FOREIGN says and nothing of the object, and must leave the object as
it was. A route whose objects nobody here can make fails until a maker is added."""

import re
import time

import pytest

import contract
from client import Api, Console, items
from people import PASSWORD, address, make_account, make_person

NOBODY = "01890000-0000-7000-8000-000000000000"
METHODS = ("get", "post", "patch", "put", "delete")
# First segment of a path -> who asks for the object of another (World.who) -> the status. `teammate` and `owner` are users of the same
# account, `narrow` is a key of the object's own user without its domain.
FOREIGN = {
    "mailboxes": {"stranger": 403, "stranger_console": 403, "teammate": 403, "owner": 403, "owner_console": 403, "narrow": 403},
    "archived-mailboxes": {"stranger": 403, "stranger_console": 403, "teammate": 403, "owner": 403, "owner_console": 403, "narrow": 403},
    "members": {"stranger": 404, "stranger_console": 404},
    "invitations": {"stranger": 404, "stranger_console": 404},
    "domains": {"stranger": 404, "stranger_console": 404},
    "keys": {"stranger_console": 404, "teammate_console": 403, "stranger": 403},
}
NO_OBJECTS = {"createMailbox", "claimDomain", "invite"}  # they make something new, and take no id


def operations():
    for path, item in contract.document()["paths"].items():
        for method in METHODS:
            if method in item:
                yield pytest.param(path, method, item[method], id=item[method]["operationId"])


ALL = list(operations())
KEYED = [row for row in ALL if "security" not in row.values[2]]
ONE = [row for row in ALL if row.values[2].get("security") != [] and "{" in row.values[0]]
LISTS = [row for row in KEYED if "{" not in row.values[0] and row.values[1] == "get"]
BULK = [row for row in KEYED if row.values[2].get("requestBody") == {"$ref": "#/components/requestBodies/Ids"}]


def example(schema):
    """The least that a body must be, so that it is not what is refused."""
    schema = contract.resolved(schema)
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "object":
        return {name: example(schema["properties"][name]) for name in schema.get("required", [])}
    if schema.get("type") == "array":
        return [NOBODY]
    return "eA==" if "contentEncoding" in schema else "x@example.org"


def body_of(operation):
    if "requestBody" not in operation:
        return None
    return example(contract.resolved(operation["requestBody"])["content"]["application/json"]["schema"])


class Chain(list):
    """A mailbox, a mail, an attachment; `domain` is where."""


class World:
    """A team of three and a stranger, everybody with a key of all scopes and domains; `objects` are `mine`'s."""

    def __init__(self, system):
        self.system, self.stamp = system, str(time.time_ns())
        self.canary = "canary" + self.stamp
        team, other = make_account(system), make_account(system)
        self.team = team
        self.people = people = {"owner": make_person(system, account=team), "mine": make_person(system, account=team, role="member"),
                  "teammate": make_person(system, account=team, role="member"), "stranger": make_person(system, account=other)}
        both = "minutemail.cc,second.example"
        self.who = {name: self.key(email, both, "--scopes", "domains,team", name=self.canary if name == "mine" else "isolation")
                    for name, email in people.items()}
        self.who["narrow"] = self.key(people["mine"], "second.example", "--scopes", "domains,team")
        self.who["plain"] = self.key(people["owner"], both)
        for name in ("stranger", "teammate", "owner"):
            self.who[name + "_console"] = Console(address(system)).sign_in(people[name], PASSWORD)
        self.mine = self.make_chain(self.who["mine"], self.canary)
        self.chains, self.over, self.were = {}, {}, {}
        self.archived = self.make_archived(self.who["mine"])
        me = next(one for one in items(self.who["owner"].get("/v1/members")) if one["email"] == people["mine"])
        self.objects = {"mailboxes": self.mine, "archived-mailboxes": [self.archived], "members": [me["id"]],
                        "invitations": [self.made("/v1/invitations", {"email": f"{self.canary}@example.com"})],
                        "keys": [self.who["mine"].id],
                        "domains": [self.made("/v1/domains", {"name": f"{self.canary}.example"})]}

    def key(self, email, domains, *words, name="isolation"):
        made = self.system.ctl("key", "create", "--name", name, "--user", email, "--domain", domains, *words)
        client = Api(address(self.system), made["key"])
        client.id = made["id"]
        return client

    def made(self, path, body):
        answer = self.who["owner"].post(path, body)
        assert answer.status == 201, answer
        return answer.json["id"]

    def make_chain(self, api, word, domain="minutemail.cc", **members):
        """A mailbox, a mail in it and a file attached to that: the parameters of the longest path."""
        box = api.mailbox(domain=domain, tag=word, **members)
        path = f"/v1/mailboxes/{box['id']}/mails"
        mail = api.post(path, {"sender": f"{word}@example.org", "subject": word, "body": word}).json
        file = api.post(f"{path}/{mail['id']}/attachments", {"filename": word + ".txt", "data": "Y2FuYXJ5" if word == self.canary else "b3du"})
        assert file.status == 201, file
        return [box["id"], mail["id"], file.json["id"]]

    def make_archived(self, api, word=None, domain="minutemail.cc"):
        box = api.mailbox(domain=domain, recoverable=True, tag=word or self.canary)
        assert api.delete(f"/v1/mailboxes/{box['id']}").status == 204
        return box["id"]

    def former(self):
        """Who could once: expired, revoked, deleted and replaced keys of `mine`'s; key and session of a suspended and of a removed member,
        and of somebody whose account is suspended; an ended session."""
        if not self.were:
            mine = self.people["mine"]
            keys = {name: self.key(mine, "minutemail.cc", "--scopes", "domains,team") for name in ("expired", "revoked", "deleted", "replaced")}
            self.system.sql("update api_keys set expires_at = now() - interval '1 second' where id = %s", keys["expired"].id)
            for name, how in {"revoked": "revoke", "deleted": "delete", "replaced": "regenerate"}.items():
                self.system.ctl("key", how, keys[name].id)
            other = make_account(self.system)
            leavers = {"suspended": make_person(self.system, account=self.team, role="member"),
                       "removed": make_person(self.system, account=self.team, role="owner"),
                       "account": make_person(self.system, account=other), "signed out": mine}
            for name, email in leavers.items():
                keys[name + " session"] = Console(address(self.system)).sign_in(email, PASSWORD)
                if name != "signed out":
                    keys[name] = self.key(email, "minutemail.cc", "--scopes", "domains,team")
                    assert keys[name].get("/v1/mailboxes").status == 200
            user = {name: keys[name + " session"].user["id"] for name in leavers}
            assert self.who["owner"].patch("/v1/members/" + user["suspended"], {"state": "suspended"}).status == 200
            assert self.who["owner"].delete("/v1/members/" + user["removed"]).status == 204
            self.system.ctl("account", "edit", other, "--state", "suspended")
            assert keys["signed out session"].post("/v1/auth/logout").status == 204
            self.were = keys
        return self.were

    def own(self, name):
        """What the asker has of the same kind, to hide another's ids behind."""
        if name not in self.chains:
            domain = "second.example" if name == "narrow" else "minutemail.cc"
            self.chains[name] = Chain(self.make_chain(self.who[name], "own", domain))
            self.chains[name].domain = domain
        return self.chains[name]

    def state(self):
        """All that an asker might have changed."""
        box, mail, file = self.mine
        base, mine, owner = f"/v1/mailboxes/{box}", self.who["mine"], self.who["owner"]
        paths = [(mine, base), (mine, f"{base}/mails/{mail}"), (mine, f"{base}/mails/{mail}/attachments/{file}"),
                 (mine, f"{base}/mails"), (mine, f"/v1/archived-mailboxes/{self.archived}"), (owner, "/v1/members"),
                 (owner, "/v1/invitations"), (owner, "/v1/domains")]
        answers = [api.get(path) for api, path in paths]
        assert all(answer.status == 200 for answer in answers), answers
        return [answer.body for answer in answers]


@pytest.fixture(scope="module")
def world(system):
    return World(system)


def fill(path, ids):
    ids = iter(ids)
    return re.sub(r"\{.*?\}", lambda _: next(ids), path)


def check_nothing_told(world, answer):
    told = answer.body + repr(answer.headers.items()).encode()
    assert world.canary.encode() not in told and b"Y2FuYXJ5" not in told, (answer, answer.headers.items())
    if answer.status >= 400:  # no tag to compare contents by, and the length is of the error
        assert answer.headers["ETag"] is None and answer.headers["Last-Modified"] is None, answer.headers.items()
        assert answer.headers["Content-Type"] == "application/problem+json", answer.headers.items()


def ask(world, api, path, method, operation, ids, status, body=...):
    """Under every prefix; nothing of the object may be in the answer, whatever it is."""
    body = body_of(operation) if body is ... else body
    target = fill(path, ids)
    for prefix in ("/v1", "/api", ""):
        answer = api.request(method.upper(), prefix + target, body=body)
        assert answer.status == status, (operation["operationId"], target, answer)
        check_nothing_told(world, answer)
    if method == "get":
        head = api.request("HEAD", "/v1" + target)
        assert head.status == status
        check_nothing_told(world, head)


def kind(path):
    name = path.split("/")[1]
    if name not in FOREIGN:
        pytest.fail(f"nobody here knows how to make another's {name}: add it to FOREIGN and to World.objects")
    return name


# ---- another's, in a path ----

@pytest.mark.contract("2 403 another user's")
@pytest.mark.parametrize("path, method, operation", ONE)
def test_another_s_object(world, path, method, operation):
    what, count = kind(path), path.count("{")
    before = world.state()
    for name, status in FOREIGN[what].items():
        ask(world, world.who[name], path, method, operation, world.objects[what][:count], status)
    assert world.state() == before


@pytest.mark.parametrize("path, method, operation", [row for row in ONE if row.values[0].count("{") > 1])
def test_another_s_object_behind_one_s_own(world, path, method, operation):
    count, before = path.count("{"), world.state()
    for name in FOREIGN[kind(path)]:
        own = world.own(name)
        for n in range(1, count):
            ask(world, world.who[name], path, method, operation, own[:n] + world.mine[n:count], 404)
    assert world.state() == before


@pytest.mark.parametrize("path, method, operation", BULK)
def test_another_s_ids_in_a_body(world, path, method, operation):
    """Where the path has nothing that is another's, ids in the body are refused as in a path; of attachments they are skipped."""
    count, what, before = path.count("{"), kind(path), world.state()
    status = {0: FOREIGN[what]["stranger"], 1: 404, 2: 204}[count]
    for name in FOREIGN[what]:
        own = world.own(name)
        kept = world.make_archived(world.who[name], "own", own.domain) if what == "archived-mailboxes" else own[count]
        foreign = world.objects[what][count]
        ask(world, world.who[name], path, method, operation, own[:count], status, {"ids": [foreign]})
        if status != 204:
            ask(world, world.who[name], path, method, operation, own[:count], status, {"ids": [kept, foreign]})
        if what == "archived-mailboxes":
            assert world.who[name].get(f"/v1/archived-mailboxes/{kept}").status == 200
        assert world.who[name].get(f"/v1/mailboxes/{own[0]}/mails/{own[1]}/attachments/{own[2]}").status == 200
    assert world.state() == before


# ---- what is over ----

ASKERS = ("mine", "narrow", "teammate", "owner", "owner_console", "stranger", "stranger_console")
GONE = dict.fromkeys(ASKERS, 404)
NOT_MINE = {**dict.fromkeys(ASKERS, 403), "mine": 404}
# What it is -> the first segment of its paths; the parameter that is over, from which on paths are asked; who asks -> the status.
OVER = {
    "expired mailbox": ("mailboxes", 1, GONE),
    "archived mailbox": ("mailboxes", 1, GONE),
    "deleted mailbox": ("mailboxes", 1, GONE),
    "mailbox of a removed member": ("mailboxes", 1, GONE),
    "mailbox of a domain given up": ("mailboxes", 1, GONE),
    "mailbox of a suspended member": ("mailboxes", 1, dict.fromkeys(ASKERS, 403)),
    "deleted mail": ("mailboxes", 2, NOT_MINE),
    "deleted attachment": ("mailboxes", 3, NOT_MINE),
    "deleted archived mailbox": ("archived-mailboxes", 1, GONE),
    "archived mailbox of a removed member": ("archived-mailboxes", 1, GONE),
    "archived mailbox of a suspended member": ("archived-mailboxes", 1, dict.fromkeys(ASKERS, 403)),
    "revoked key": ("keys", 1, {"teammate_console": 403, "stranger_console": 404}),
    "expired key": ("keys", 1, {"teammate_console": 403, "stranger_console": 404}),
    "deleted key": ("keys", 1, {"owner_console": 404, "teammate_console": 404, "stranger_console": 404}),
    "domain given up": ("domains", 1, {"owner": 404, "owner_console": 404, "stranger": 404, "stranger_console": 404}),
    "removed member": ("members", 1, {"owner": 404, "owner_console": 404, "stranger": 404, "stranger_console": 404}),
    "accepted invitation": ("invitations", 1, {"owner": 404, "owner_console": 404, "stranger": 404}),
    "withdrawn invitation": ("invitations", 1, {"owner": 404, "owner_console": 404, "stranger": 404}),
}


def make_over(world, what):
    """The ids of one that was there, with the canary in it, and is over."""
    mine, owner, system = world.who["mine"], world.who["owner"], world.system

    def chain(of=mine, **members):
        return world.make_chain(of, world.canary, **members)

    def mail_of(ids):
        return f"/v1/mailboxes/{ids[0]}/mails/{ids[1]}"

    def member():
        email = make_person(system, account=world.team, role="member")
        made = world.key(email, "minutemail.cc,second.example", name=world.canary)
        made.user = next(one["id"] for one in items(owner.get("/v1/members")) if one["email"] == email)
        return made

    def end_member(made, how):
        answer = owner.delete("/v1/members/" + made.user) if how == "removed" else owner.patch("/v1/members/" + made.user, {"state": how})
        assert answer.status in (200, 204), answer

    if what == "expired mailbox":
        ids = chain()
        system.expire({"id": ids[0]}, -1)
    elif what in ("archived mailbox", "deleted mailbox"):
        ids = chain(recoverable=what.startswith("archived"))
        assert mine.delete("/v1/mailboxes/" + ids[0]).status == 204
    elif what.endswith("removed member") and what != "removed member" or what.endswith("suspended member"):
        leaver = member()
        ids = [world.make_archived(leaver)] if what.startswith("archived") else chain(leaver)
        end_member(leaver, what.split()[-2])
    elif what == "removed member":
        leaver = member()
        ids = [leaver.user]
        end_member(leaver, "removed")
    elif what in ("mailbox of a domain given up", "domain given up"):
        name = f"over{time.time_ns()}.example"
        made = system.ctl("domain", "create", name, "--account", world.team)
        ids = chain(world.key(world.people["mine"], name), domain=name) if what.startswith("mailbox") else [made["id"]]
        assert world.who["owner_console"].delete("/v1/domains/" + made["id"]).status == 204
    elif what == "deleted mail":
        ids = chain()
        assert mine.delete(mail_of(ids)).status == 204
    elif what == "deleted attachment":
        ids = chain()
        assert mine.delete(f"{mail_of(ids)}/attachments/{ids[2]}").status == 204
    elif what == "deleted archived mailbox":
        ids = [world.make_archived(mine)]
        assert mine.delete("/v1/archived-mailboxes/" + ids[0]).status == 204
    elif what in ("revoked key", "expired key", "deleted key"):
        ids = [world.key(world.people["mine"], "minutemail.cc", name=world.canary).id]
        if what == "expired key":
            system.sql("update api_keys set expires_at = now() - interval '1 second' where id = %s", ids[0])
        else:
            system.ctl("key", {"revoked key": "revoke", "deleted key": "delete"}[what], ids[0])
    elif what in ("accepted invitation", "withdrawn invitation"):
        made = owner.post("/v1/invitations", {"email": f"{world.canary}-{what.split()[0]}@example.com"}).json
        ids = [made["id"]]
        if what == "accepted invitation":
            taken = Api(address(system), None).post("/v1/auth/accept-invitation", {"token": made["token"], "password": PASSWORD})
            assert taken.status == 201, taken
            end = Console(address(system)).take(taken).user["id"]
            assert owner.delete("/v1/members/" + end).status == 204
        else:
            assert owner.delete("/v1/invitations/" + ids[0]).status == 204
    return ids


def over_rows():
    for what, (segment, parameter, who) in OVER.items():
        for row in ONE:
            path, method, operation = row.values
            if path.split("/")[1] == segment and path.count("{") >= parameter:
                yield pytest.param(what, path, method, operation, who, id=f"{what}, {operation['operationId']}")


@pytest.mark.parametrize("what, path, method, operation, who", over_rows())
def test_what_is_over(world, what, path, method, operation, who):
    """For whom it was as for everybody: there is nothing any more."""
    if what not in world.over:
        world.over[what] = make_over(world, what)
    for name, status in who.items():
        ask(world, world.who[name], path, method, operation, world.over[what][:path.count("{")], status)


@pytest.mark.parametrize("path, method, operation", [row for row in ALL if row.values[2].get("security") != []])
def test_who_is_nobody_any_more(world, path, method, operation):
    """Keys and sessions that were good, for what is their own."""
    ids = world.objects[path.split("/")[1]] if "{" in path else []
    for asker in world.former().values():
        ask(world, asker, path, method, operation, ids[:path.count("{")], 401)


@pytest.mark.parametrize("path, method, operation", [row for row in ONE if row.values[0].startswith("/archived-mailboxes/")])
def test_archive_has_no_live_and_no_deleted_ones(world, path, method, operation):
    for name in ("mine", "stranger"):
        for gone in (world.mine[0], NOBODY):
            ask(world, world.who[name], path, method, operation, [gone], 404)


# ---- lists, and who may ask at all ----

@pytest.mark.contract("8 members' own", "4 acts as its owner")
@pytest.mark.parametrize("path, method, operation", LISTS)
def test_lists_have_nothing_of_another_s(world, path, method, operation):
    mine = world.who["mine"].get("/v1" + path)
    team = world.who["owner"].get("/v1" + path)
    assert world.canary.encode() in mine.body + team.body or path == "/members", "there is nothing to be seen: the test could not fail"
    for name in ("stranger", "stranger_console"):
        ask(world, world.who[name], path, method, operation, [], 200)
    if path == "/audit":
        ask(world, world.who["teammate"], path, method, operation, [], 200)
    if path in ("/mailboxes", "/archived-mailboxes"):
        for name in ("teammate", "owner", "owner_console", "narrow"):
            ask(world, world.who[name], path, method, operation, [], 200)


def test_another_s_mailbox_by_its_address(world):
    box = world.who["mine"].get(f"/v1/mailboxes/{world.mine[0]}").json
    for name, status in {"stranger": 200, "teammate": 200, "owner": 200, "narrow": 403}.items():
        answer = world.who[name].get(f"/v1/mailboxes?address={box['address']}")
        assert answer.status == status and world.canary.encode() not in answer.body
        assert status != 200 or answer.json == {"items": []}


@pytest.mark.parametrize("path, method, operation", KEYED)
def test_every_route_is_covered(path, method, operation):
    rows = [row.values for row in ONE + LISTS + BULK]
    assert (path, method, operation) in [tuple(row) for row in rows] or operation["operationId"] in NO_OBJECTS, \
        f"{method.upper()} {path}: no test here calls it with another's object; if it takes none, add it to NO_OBJECTS"


@pytest.mark.contract("2 401 no key")
@pytest.mark.parametrize("path, method, operation", [row for row in ALL if row.values[2].get("security") != []])
def test_without_a_key(world, path, method, operation):
    nobody = Api(address(world.system), None)
    ask(world, nobody, path, method, operation, [NOBODY] * 3, 401)


@pytest.mark.contract("4 console only")
@pytest.mark.parametrize("path, method, operation", [row for row in ALL if row.values[2].get("security") == [{"session": []}]])
def test_console_only(world, path, method, operation):
    ask(world, world.who["owner"], path, method, operation, [NOBODY] * 3, 403)


@pytest.mark.contract("2 403 scope")
@pytest.mark.parametrize("path, method, operation", [row for row in KEYED if "x-scope" in row.values[2]])
def test_without_the_scope(world, path, method, operation):
    before = world.state()
    ids = world.objects[kind(path)]
    ask(world, world.who["plain"], path, method, operation, ids, 403)
    assert world.state() == before


@pytest.mark.parametrize("path, method, operation", [row for row in KEYED if row.values[2].get("x-owners-only")])
def test_not_an_owner(world, path, method, operation):
    before = world.state()
    ask(world, world.who["teammate"], path, method, operation, world.objects[kind(path)], 403)
    assert world.state() == before
