"""The rows of the contract (support/contract_rows.py): each has a test that says so, and here are those that have no better place."""

import ast
import datetime
import hashlib
import hmac
import pathlib
import time

import pytest

from client import Api, Console, check_problem, items, wait_until
from contract_rows import ROWS
from people import PASSWORD, address, make_account, make_person

HERE = pathlib.Path(__file__).parent


def rows_with_tests():
    """Every pytest.mark.contract("row", …) of this directory, wherever it stands."""
    for path in sorted(HERE.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "contract":
                for argument in node.args:
                    yield ast.literal_eval(argument), f"{path.name}:{node.lineno}"


def test_every_row_has_a_test_and_every_test_names_rows():
    named = dict(rows_with_tests())
    assert not set(ROWS) - set(named), "rows without a test"
    assert not {row: where for row, where in named.items() if row not in ROWS}, "no such row"


class Limited:
    """An account of a plan of its own, with an owner who is signed in."""

    def __init__(self, system, apid, **limits):
        self.system, self.apid = system, apid
        self.plan = f"plan-{time.time_ns()}"
        system.sql(f"insert into plans ({', '.join(['name', *limits])}) values ({', '.join(['%s'] * (len(limits) + 1))})", self.plan,
                   *limits.values())
        self.account = make_account(system, self.plan)
        self.email = make_person(system, account=self.account)
        self.console = Console(apid).sign_in(self.email, PASSWORD)

    def key(self, email=None, *words):
        return Api(self.apid, self.system.ctl("key", "create", "--name", "limited", "--user", email or self.email, *words)["key"])


@pytest.fixture
def limited(system):
    return lambda **limits: Limited(system, address(system), **limits)


# ---- 1 ----

@pytest.mark.contract("1 CORS off")
def test_no_cors_unless_configured(system, api):
    origin = {"Origin": "https://app.example.org"}
    for answer in (api.get("/v1/mailboxes", headers=origin), api.get("/health", headers=origin),
                   api.request("OPTIONS", "/v1/mailboxes", headers={**origin, "Access-Control-Request-Method": "POST"})):
        assert not [name for name in answer.headers if name.lower().startswith("access-control-")], answer.headers.items()


@pytest.mark.contract("1 metrics")
def test_metrics_are_not_beside_the_api(api):
    for path in ("/metrics", "/v1/metrics"):
        check_problem(api.get(path), 404, "not_found")


@pytest.fixture
def readable(system):
    """A client, and paths of everything that can be read: single resources and lists."""
    console = Console(address(system)).sign_in(make_person(system), PASSWORD)
    box, archived = console.mailbox(), console.mailbox(recoverable=True, tag="t")
    assert console.delete("/v1/mailboxes/" + archived["id"]).status == 204
    archived = items(console.get("/v1/archived-mailboxes"))[0]
    mails = f"/v1/mailboxes/{box['id']}/mails"
    mail = console.post(mails, {"sender": "a@example.org", "subject": "s", "body": "b"}).json
    file = console.post(f"{mails}/{mail['id']}/attachments", {"filename": "a.txt", "data": "eA=="}).json
    key = console.post("/v1/keys", {"name": "k"}).json
    domain = console.post("/v1/domains", {"name": f"d{time.time_ns()}.example"}).json
    paths = ["/v1/mailboxes", "/v1/mailboxes/" + box["id"], "/v1/archived-mailboxes", "/v1/archived-mailboxes/" + archived["id"], mails,
             f"{mails}/{mail['id']}", f"{mails}/{mail['id']}/raw", f"{mails}/{mail['id']}/headers", f"{mails}/{mail['id']}/attachments",
             f"{mails}/{mail['id']}/attachments/{file['id']}", f"{mails}/{mail['id']}/attachments/{file['id']}?download=1",
             "/v1/domains", "/v1/domains/" + domain["id"], "/v1/members", "/v1/members/" + console.user["id"], "/v1/invitations",
             "/v1/keys", "/v1/keys/" + key["id"], f"/v1/keys/{key['id']}/domains"]
    return console, paths


@pytest.mark.contract("1 ETag", "1 HEAD")
def test_everything_that_can_be_read_has_an_etag_and_a_head(readable):
    console, paths = readable
    for path in paths:
        first = console.get(path)
        assert first.status == 200 and first.headers["ETag"], (path, first)
        again = console.get(path, headers={"If-None-Match": first.headers["ETag"]})
        assert again.status == 304 and again.body == b"", (path, again)
        head = console.request("HEAD", path)
        assert head.status == 200 and head.body == b"" and head.headers["ETag"] == first.headers["ETag"], path
        assert head.headers["Content-Length"] == str(len(first.body)), path


# ---- 2 ----

@pytest.mark.contract("2 problem")
@pytest.mark.parametrize("status, error, method, path, options", [
    (400, "bad_request", "GET", "/v1/mailboxes?limit=0", {}), (401, "unauthorized", "GET", "/v1/mailboxes", {"key": None}),
    (403, "forbidden", "POST", "/v1/mailboxes", {"body": {"domain": "not-ours.example"}}),
    (404, "not_found", "GET", "/v1/mailboxes/01890000-0000-7000-8000-000000000000", {}), (404, "not_found", "GET", "/nowhere", {}),
    (405, "method_not_allowed", "PUT", "/v1/mailboxes", {}),
    (409, "conflict", "POST", "/v1/mailboxes", {"body": {"alias": "contract-taken"}}),
    (413, "payload_too_large", "POST", "/v1/mailboxes", {"body": "x" * 2_000_000, "headers": {"Content-Type": "application/json"}}),
    (415, "unsupported_media_type", "POST", "/v1/mailboxes", {"body": "x", "headers": {"Content-Type": "text/plain"}})])
def test_members_of_a_problem(api, status, error, method, path, options):
    if status == 409:
        assert api.post("/v1/mailboxes", {"alias": "contract-taken"}).status in (201, 409)
    answer = api.request(method, path, **options)
    problem = check_problem(answer, status, error)
    assert set(problem) == {"type", "title", "status", "detail", "error", "code", "message", "requestId"}
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.contract("2 500", "3 5xx free")
def test_a_fault_of_ours_is_told_without_detail_and_costs_nothing(system, limited):
    key = limited(calls_per_day=50).key().key
    with system.another_apid(workers=1) as apid:  # what a second one has leased would count as used
        api = Api(apid.address(), key)
        left = int(api.get("/v1/archived-mailboxes").headers["X-RateLimit-Remaining"])
        system.sql("revoke select on account_mailboxes from minutemail_apid")
        try:
            for _ in range(3):
                answer = api.get("/v1/archived-mailboxes")
                problem = check_problem(answer, 500, "internal_error")
                assert "permission" not in answer.body.decode() and "account_mailboxes" not in answer.body.decode()
        finally:
            system.sql("grant select on account_mailboxes to minutemail_apid")
        wait_until(lambda: any(problem["requestId"] in line and "permission denied" in line for line in apid.log().splitlines()))
        assert int(api.get("/v1/archived-mailboxes").headers["X-RateLimit-Remaining"]) == left - 1


# ---- 3 ----

@pytest.mark.contract("3 shared")
def test_a_team_shares_its_calls(limited, system):
    account = limited(calls_per_day=7)
    keys = [account.key(), account.key(make_person(system, account=account.account, role="member"))]
    assert [keys[n % 2].get("/v1/mailboxes").status for n in range(8)] == [200] * 7 + [429]
    for key in keys:
        check_problem(key.get("/v1/mailboxes"), 429, "quota_exceeded")


@pytest.mark.contract("3 plans")
def test_the_five_plans(system):
    columns = "calls_per_day, requests_per_minute, active_mailboxes, archived_mailboxes, custom_domains, members"
    found = {row[0]: row[1:] for row in system.sql(f"select name, {columns} from plans where name not like 'plan-%%'")}
    assert found == {"free": (100, 60, 3, 3, 0, 1), "hobbyist": (1000, 120, 10, 25, 1, 1), "pro": (10000, 600, 50, 250, 5, 1),
                     "team": (50000, 1200, 200, 1000, None, 5), "unlimited": (None,) * 6}


@pytest.mark.contract("3 lifetime raised")
def test_the_operator_raises_the_longest_life(system):
    with system.another_apid(workers=1, mailbox_lifetime_max="3h") as apid:
        api = Api(apid.address(), system.info["key"])
        box = api.mailbox(expiresIn="3h")
        ends, made = (datetime.datetime.fromisoformat(box[name][:-1]) for name in ("expiresAt", "createdAt"))
        assert abs((ends - made).total_seconds() - 3 * 3600) < 1
        check_problem(api.post("/v1/mailboxes", {"expiresIn": "4h"}), 400, "bad_request")


@pytest.mark.contract("3 postmaster")
def test_a_domains_postmaster_takes_no_place(limited, system):
    account = limited(active_mailboxes=2, custom_domains=5)
    name = f"d{time.time_ns()}.example"
    system.ctl("domain", "create", name, "--account", account.account)
    api = account.key(None, "--domain", name)
    assert [box["alias"] for box in items(api.get("/v1/mailboxes"))] == ["postmaster"]
    assert [api.post("/v1/mailboxes", {}).status for _ in range(3)] == [201, 201, 429]


# ---- 4 ----

@pytest.mark.contract("4 hashed")
def test_a_key_is_kept_as_a_keyed_hash(system, api):
    console = Console(address(system)).sign_in(make_person(system), PASSWORD)
    made = console.post("/v1/keys", {"name": "hashed"}).json
    secret = made["key"]
    (row, kept), = system.sql("select k::text, hash from api_keys k where id = %s", made["id"])
    assert secret not in row and secret[11:40] not in row and secret[-8:] == made["last8"]
    kept = bytes(kept)
    assert len(kept) == 32
    for plain in (hashlib.sha256, hashlib.blake2b, hashlib.sha512, hashlib.sha3_256):
        assert plain(secret.encode()).digest()[:32] != kept
    assert hmac.new(b"", secret.encode(), hashlib.sha256).digest() != kept
    assert hashlib.blake2b(secret.encode(), digest_size=32).digest() != kept


@pytest.mark.contract("4 status")
def test_states_of_a_key(system):
    console = Console(address(system)).sign_in(make_person(system), PASSWORD)
    made = [console.post("/v1/keys", {"name": state}).json["id"] for state in ("active", "expired", "revoked")]
    system.sql("update api_keys set expires_at = now() - interval '1 second' where id = %s", made[1])
    assert console.post(f"/v1/keys/{made[2]}/revoke").status == 200
    assert {key["name"]: key["status"] for key in items(console.get("/v1/keys"))} == {state: state for state in ("active", "expired", "revoked")}


@pytest.mark.contract("4 unverified domain")
def test_a_domain_that_is_only_claimed_cannot_be_on_a_key(system):
    console = Console(address(system)).sign_in(make_person(system), PASSWORD)
    claimed = console.post("/v1/domains", {"name": f"d{time.time_ns()}.example"}).json
    assert claimed["status"] == "pending"
    for domain in (claimed["name"], claimed["id"]):
        check_problem(console.post("/v1/keys", {"name": "k", "domains": [domain]}), 403, "forbidden")


@pytest.mark.contract("4 test environment")
def test_a_server_of_the_test_environment_issues_test_keys(system):
    email = make_person(system)
    with system.another_apid(workers=1, environment="test", password_memory="19M") as apid:
        made = Console(apid.address()).sign_in(email, PASSWORD).post("/v1/keys", {"name": "k"}).json
        assert made["key"].startswith("mm_sk_test_") and len(made["key"]) == 64
        assert Api(apid.address(), made["key"]).get("/v1/mailboxes").status == 200
    problem = check_problem(Api(address(system), made["key"]).get("/v1/mailboxes"), 401, "unauthorized")
    assert "environment" in problem["message"]


# ---- 5, 6, 7 ----

@pytest.mark.contract("5 alias one's own archived")
def test_an_address_that_one_has_archived_is_taken_again(api):
    box = api.mailbox(recoverable=True, tag="t")
    assert api.delete("/v1/mailboxes/" + box["id"]).status == 204
    again = api.mailbox(alias=box["alias"])
    assert again["address"] == box["address"] and again["id"] != box["id"]
    assert box["address"] not in [one["address"] for one in items(api.get("/v1/archived-mailboxes"))]


@pytest.fixture
def injected(api, box):
    def inject(**members):
        return api.post(f"/v1/mailboxes/{box['id']}/mails", {"sender": "a@example.org", "subject": "s", "body": "b", **members})
    return inject


@pytest.mark.contract("6 list default")
def test_a_page_of_mails(api, box, injected):
    for _ in range(101):
        assert injected().status == 201
    path = f"/v1/mailboxes/{box['id']}/mails"
    page = api.get(path).json
    assert len(page["items"]) == 100 and len(items(api.get(f"{path}?cursor={page['nextCursor']}"))) == 1
    assert len(items(api.get(path + "?limit=1000"))) == 101
    check_problem(api.get(path + "?limit=1001"), 400, "bad_request")


@pytest.mark.contract("6 inject expiresIn")
def test_an_injected_mail_lives_as_its_mailbox(box, injected):
    assert injected(expiresIn="2m").json["expiresAt"] == box["expiresAt"]
    for bad in ("soon", 0, True):
        check_problem(injected(expiresIn=bad), 400, "bad_request")


@pytest.mark.contract("7 download by Accept")
def test_an_attachment_by_its_accept_field(api, box, injected):
    path = f"/v1/mailboxes/{box['id']}/mails/{injected().json['id']}/attachments"
    one = f"{path}/{api.post(path, {'filename': 'a.bin', 'data': 'AAECAw=='}).json['id']}"
    for accept in ("application/octet-stream", "application/octet-stream, */*;q=0.1"):
        answer = api.get(one, headers={"Accept": accept})
        assert answer.body == b"\0\1\2\3" and answer.headers["Content-Disposition"] == 'attachment; filename="a.bin"'
    for accept in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
        assert api.get(one, headers=accept).json["data"] == "AAECAw=="
