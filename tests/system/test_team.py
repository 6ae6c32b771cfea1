"""The people of an account: members, invitations, links. What a member loses is lost everywhere at once."""

import concurrent.futures
import smtplib
import threading
import time

import pytest

import messages
from client import Api, Console, check_problem, deliver, items, wait_until
from launched import System
from people import PASSWORD, address, login, make_account, make_person


@pytest.fixture(scope="module")
def many():
    """Four workers; sign-up by invitation."""
    running = System(environment={"MINUTEMAIL_APID_WORKERS": "4", "MINUTEMAIL_PASSWORD_MEMORY": "19M", "MINUTEMAIL_SIGNUP": "invitation"})
    try:
        yield running.start()
    finally:
        running.remove()


class Team:
    """An account with an owner and a member, both signed in."""

    def __init__(self, system, plan="unlimited"):
        self.system, self.account = system, make_account(system, plan)
        self.owner = self.sign_in(make_person(system, account=self.account))
        self.member = self.add("member")

    def sign_in(self, email):
        return Console(address(self.system)).sign_in(email, PASSWORD)

    def add(self, role="member"):
        return self.sign_in(make_person(self.system, account=self.account, role=role))

    def key(self, console, *words):
        made = self.system.ctl("key", "create", "--name", "k", "--user", console.user["email"], *words)
        return Api(address(self.system), made["key"])


@pytest.fixture
def team(many):
    return Team(many)


def accept(system, token, password=PASSWORD):
    return Api(address(system), None).post("/v1/auth/accept-invitation", {"token": token, "password": password})


def invite(console, email=None, **members):
    answer = console.post("/v1/invitations", dict({"email": email or f"guest-{time.time_ns()}@example.com"}, **members))
    assert answer.status == 201, answer
    return answer.json


# ---- members ----

@pytest.mark.contract("8 members")
def test_members_are_listed_to_the_team_only(team, many):
    everybody = {team.owner.user["email"], team.member.user["email"]}
    for asker in (team.owner, team.member, team.key(team.member)):
        assert {member["email"] for member in items(asker.get("/v1/members"))} == everybody
    page = team.owner.get("/v1/members?limit=1").json
    rest = items(team.owner.get(f"/v1/members?limit=1&cursor={page['nextCursor']}"))
    assert {page["items"][0]["email"], rest[0]["email"]} == everybody
    other = Team(many)
    for asker in (other.owner, other.key(other.owner, "--scopes", "team")):
        for request in (asker.get, asker.delete, lambda path, asker=asker: asker.patch(path, {"role": "owner"})):
            check_problem(request("/v1/members/" + team.member.user["id"]), 404, "not_found")


def test_member_object(team):
    found = team.member.get("/v1/members/" + team.owner.user["id"]).json
    assert set(found) == {"id", "email", "role", "state", "createdAt"}
    assert (found["role"], found["state"]) == ("owner", "active")


@pytest.mark.contract("8 invite", "8 roles")
def test_only_owners_change_the_team(team):
    target = "/v1/members/" + team.owner.user["id"]
    for answer in (team.member.patch(target, {"role": "member"}), team.member.delete(target), team.member.get(target + "/mailboxes"),
                   team.member.post("/v1/invitations", {"email": "a@b.example"}), team.member.get("/v1/invitations")):
        check_problem(answer, 403, "forbidden")


@pytest.mark.contract("4 no invitations", "2 403 scope")
def test_a_key_needs_the_scope(team):
    target = "/v1/members/" + team.member.user["id"]
    plain, scoped = team.key(team.owner), team.key(team.owner, "--scopes", "team")
    for answer in (plain.patch(target, {"role": "owner"}), plain.delete(target), plain.post("/v1/invitations", {"email": "a@b.example"})):
        check_problem(answer, 403, "forbidden")
    check_problem(team.key(team.member, "--scopes", "team").delete(target), 403, "forbidden")
    assert scoped.patch(target, {"role": "owner"}).json["role"] == "owner"
    assert plain.get("/v1/members").status == 200


def test_a_new_role_counts_at_once(team):
    target = "/v1/members/" + team.member.user["id"]
    for _ in range(10):
        assert team.owner.patch(target, {"role": "owner"}).status == 200
        assert {team.member.get("/v1/invitations").status for _ in range(12)} == {200}
        assert team.owner.patch(target, {"role": "member"}).status == 200
        assert {team.member.get("/v1/invitations").status for _ in range(12)} == {403}


@pytest.mark.parametrize("body", [{"role": "admin"}, {"state": "gone"}, {"role": 5}])
def test_bad_patch(team, body):
    check_problem(team.owner.patch("/v1/members/" + team.member.user["id"], body), 400, "bad_request")


def test_the_last_owner_stays(team):
    target = "/v1/members/" + team.owner.user["id"]
    attempts = (lambda: team.owner.patch(target, {"role": "member"}), lambda: team.owner.patch(target, {"state": "suspended"}),
                lambda: team.owner.delete(target))
    for attempt in attempts:
        check_problem(attempt(), 409, "conflict")
    second = team.add("owner")
    team.system.ctl("user", "edit", second.user["email"], "--state", "suspended")  # who cannot sign in is no owner to rely on
    for attempt in attempts:
        check_problem(attempt(), 409, "conflict")
    team.system.ctl("user", "edit", second.user["email"], "--state", "active")
    assert team.owner.patch(target, {"role": "member"}).status == 200
    check_problem(team.owner.get("/v1/invitations"), 403, "forbidden")


def test_two_owners_cannot_remove_each_other(team):
    for _ in range(5):
        second = team.add("owner")
        answers = []
        threads = [threading.Thread(target=lambda a=a, b=b: answers.append(a.patch("/v1/members/" + b.user["id"], {"role": "member"}).status))
                   for a, b in ((team.owner, second), (second, team.owner))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        left = [m for m in items(team.member.get("/v1/members")) if m["role"] == "owner"]
        assert left, answers
        if left[0]["email"] != team.owner.user["email"]:
            team.owner = second


def test_suspended_member(team):
    key, box = team.key(team.member), team.member.mailbox()
    target = "/v1/members/" + team.member.user["id"]
    assert team.owner.patch(target, {"state": "suspended"}).json["state"] == "suspended"
    assert {key.get("/v1/mailboxes").status for _ in range(12)} == {401}
    assert {team.member.get("/v1/auth/session").status for _ in range(12)} == {401}
    check_problem(login(team.system, team.member.user["email"], PASSWORD), 401, "unauthorized")
    assert team.owner.patch(target, {"state": "active"}).status == 200
    assert key.get(f"/v1/mailboxes/{box['id']}").status == 200
    check_problem(team.member.get("/v1/auth/session"), 401, "unauthorized")  # the old sessions stay dead
    team.sign_in(team.member.user["email"])


@pytest.mark.contract("8 metadata only")
def test_owner_sees_members_mailboxes_never_mail(team):
    box = team.member.mailbox(tag="t", recoverable=True)
    assert deliver(team.system.smtp, messages.plain(), box["address"])[0] == 250
    target = f"/v1/members/{team.member.user['id']}/mailboxes"
    found = items(team.owner.get(target))
    assert [b["id"] for b in found] == [box["id"]]
    assert found[0]["owner"] == team.member.user["email"] and found[0]["messageCount"] == 1 and found[0]["tag"] == "t"
    for path in ("", "/mails"):
        check_problem(team.owner.get(f"/v1/mailboxes/{box['id']}{path}"), 403, "forbidden")
    assert box["id"] not in [b["id"] for b in items(team.owner.get("/v1/mailboxes"))]


@pytest.mark.contract("8 member removed")
def test_removed_member_leaves_nothing(team):
    live, archived = team.member.mailbox(recoverable=True, tag="a"), team.member.mailbox(recoverable=True, tag="b")
    for box in (live, archived):
        assert deliver(team.system.smtp, messages.plain(), box["address"])[0] == 250
    assert team.member.delete(f"/v1/mailboxes/{archived['id']}").status == 204
    key = team.key(team.member)
    assert {key.get("/v1/mailboxes").status for _ in range(12)} == {200}
    member = team.member.user["id"]
    assert team.owner.delete("/v1/members/" + member).status == 204
    assert {key.get("/v1/mailboxes").status for _ in range(12)} == {401}
    assert {team.member.get("/v1/auth/session").status for _ in range(12)} == {401}
    check_problem(team.owner.get("/v1/members/" + member), 404, "not_found")
    for table, column in (("mailboxes", "user_id"), ("account_mailboxes", "user_id"), ("api_keys", "user_id"), ("sessions", "user_id"),
                          ("users", "id")):
        assert team.system.sql(f"select count(*) from {table} where {column} = %s", member) == [(0,)], table
    for box in (live, archived):
        assert team.system.sql("select count(*) from messages where mailbox_id = %s", box["id"]) == [(0,)]
        with smtplib.SMTP(*team.system.smtp.split(":")) as smtp:
            smtp.ehlo()
            smtp.mail("sender@example.com")
            assert smtp.rcpt(box["address"])[0] == 550
        assert team.owner.mailbox(alias=box["alias"], domain=box["domain"])["address"] == box["address"]  # free


def test_removed_member_with_many_mailboxes(team):
    for _ in range(230):
        team.member.mailbox()
    assert team.owner.delete("/v1/members/" + team.member.user["id"]).status == 204
    assert team.system.sql("select count(*) from mailboxes where user_id = %s", team.member.user["id"]) == [(0,)]


@pytest.mark.parametrize("held, made", [
    ("select from mailboxes where id = %(id)s for update", 401),  # waits before it asks whether its user is there
    ("insert into mailboxes select bucket, gen_random_uuid(), account_id, user_id, domain_id, 'late-' || address, false, null, now(), null "
     "from mailboxes where id = %(id)s", 201)])  # and after
def test_what_a_removed_member_was_making_goes_too(team, held, made):
    """A request that came in before the removal and is held up in the database; the removal is asked for elsewhere, since a worker has
    one transaction at a time."""
    dead = team.owner.mailbox()
    system, alias = team.system, dead["alias"] if made == 401 else "late-" + dead["alias"]
    if made == 201:  # the address that is waited for lies in its own bucket
        probe = team.member.mailbox(alias=alias)
        bucket, = system.sql("select bucket from mailboxes where id = %s", probe["id"])[0]
        assert team.member.delete(f"/v1/mailboxes/{probe['id']}").status == 204
        held = held.replace("select bucket", f"select {bucket}")
    system.expire(dead, -1)
    answers = {}

    def waiting():
        return system.sql("select count(*) from pg_stat_activity where usename = 'minutemail_apid' and wait_event_type = 'Lock'")[0][0]

    holder = system.connect_as("postgres")
    holder.autocommit = False
    with system.another_apid("127.0.0.1:0") as apid, concurrent.futures.ThreadPoolExecutor(2) as pool:
        elsewhere = Console(apid.address())
        elsewhere.cookie, elsewhere.csrf = team.owner.cookie, team.owner.csrf
        try:
            holder.cursor().execute(held, {"id": dead["id"]})
            answers["made"] = pool.submit(team.member.post, "/v1/mailboxes", {"alias": alias, "noExpiration": True})
            wait_until(lambda: waiting() == 1)
            answers["removed"] = pool.submit(elsewhere.delete, "/v1/members/" + team.member.user["id"])
            wait_until(lambda: waiting() == 2 or answers["removed"].done())
        finally:
            holder.rollback()
            holder.close()
        assert answers["removed"].result().status == 204 and answers["made"].result().status == made
    for table in ("mailboxes", "account_mailboxes"):
        assert system.sql(f"select count(*) from {table} where user_id = %s", team.member.user["id"]) == [(0,)], table


def test_a_domains_postmaster_outlives_its_owner(team):
    name = f"d{time.time_ns()}.example"
    team.system.ctl("domain", "create", name, "--account", team.account, "--owner", team.member.user["email"])
    assert team.owner.delete("/v1/members/" + team.member.user["id"]).status == 204
    assert deliver(team.system.smtp, messages.plain(), f"postmaster@{name}")[0] == 250
    owner = team.system.sql("select user_id::text from mailboxes where address = %s", f"postmaster@{name}")
    assert owner == [(team.owner.user["id"],)] == team.system.sql(
        "select user_id::text from account_mailboxes where mailbox_id = (select id from mailboxes where address = %s)", f"postmaster@{name}")


# ---- invitations ----

@pytest.mark.contract("8 invitation link", "8 invite")
def test_invitation_is_accepted_once(team, many):
    made = invite(team.owner)
    assert made["link"].endswith("/invitation#" + made["token"]) and made["role"] == "member"
    listed = items(team.owner.get("/v1/invitations"))
    assert [i["id"] for i in listed] == [made["id"]] and "token" not in listed[0]
    check_problem(accept(many, made["token"], "short"), 400, "bad_request")
    answer = accept(many, made["token"])
    assert answer.status == 201, answer
    new = Console(address(many)).take(answer)
    assert new.user["email"] == made["email"] and new.user["role"] == "member" and new.user["accountId"] == team.owner.user["accountId"]
    assert new.get("/v1/auth/session").status == 200 and items(team.owner.get("/v1/invitations")) == []
    check_problem(accept(many, made["token"]), 404, "not_found")
    assert login(many, made["email"], PASSWORD).status == 200


def test_invitation_accepted_by_two_at_once(team, many):
    made = invite(team.owner)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(accept(many, made["token"]).status)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [201] + [404] * 5


@pytest.mark.contract("8 roles")
def test_invitation_of_an_owner(team, many):
    made = invite(team.owner, role="owner")
    assert Console(address(many)).take(accept(many, made["token"])).get("/v1/invitations").status == 200


@pytest.mark.contract("8 invitation link")
def test_invitation_lasts_seven_days(team, many):
    made = invite(team.owner)
    assert many.sql("select expires_at - created_at = interval '7 days' from invitations where id = %s", made["id"]) == [(True,)]
    many.sql("update invitations set expires_at = now() where id = %s", made["id"])
    check_problem(accept(many, made["token"]), 404, "not_found")


def test_invitation_is_taken_back_or_replaced(team, many):
    first = invite(team.owner)
    second = invite(team.owner, first["email"])
    check_problem(accept(many, first["token"]), 404, "not_found")
    assert team.owner.delete("/v1/invitations/" + second["id"]).status == 204
    check_problem(team.owner.delete("/v1/invitations/" + second["id"]), 404, "not_found")
    check_problem(accept(many, second["token"]), 404, "not_found")


def test_invitation_of_another_account_is_not_there(team, many):
    made = invite(team.owner)
    check_problem(Team(many).owner.delete("/v1/invitations/" + made["id"]), 404, "not_found")


@pytest.mark.parametrize("body", [{}, {"email": "no address"}, {"email": "a@b.example", "role": "king"}])
def test_bad_invitations(team, body):
    check_problem(team.owner.post("/v1/invitations", body), 400, "bad_request")


def test_somebody_who_is_here_already(team):
    check_problem(team.owner.post("/v1/invitations", {"email": team.member.user["email"]}), 409, "conflict")


@pytest.mark.contract("3 members")
def test_plans_limit_of_members(many):
    team = Team(many, plan="team")  # 5 members
    made = [invite(team.owner) for _ in range(3)]
    problem = check_problem(team.owner.post("/v1/invitations", {"email": "one-too-many@example.com"}), 429, "quota_exceeded")
    assert "5" in problem["message"]
    late = invite(team.owner, made[0]["email"])  # the same again is not one more
    many.sql("insert into users select md5(i::text || %s)::uuid, account_id, 'filler-' || i || email, null, 'member', 'active', now() "
             "from users, generate_series(1, 3) i where email = %s", team.account, team.owner.user["email"])
    check_problem(accept(many, late["token"]), 429, "quota_exceeded")


def test_invitation_is_delivered_into_a_mailbox_of_ours(team, many):
    assert invite(team.owner)["delivered"] is False
    box = Team(many).owner.mailbox()  # somebody else's
    answer = team.owner.post("/v1/invitations", {"email": box["address"]}, headers={"Host": "elsewhere.example"})
    made = answer.json
    assert answer.status == 201 and made["delivered"] is True
    holder = many.sql("select rcpt_to, subject, body_text from messages where mailbox_id = %s", box["id"])
    assert len(holder) == 1 and holder[0][0] == box["address"] and "/invitation#" + made["token"] in holder[0][2]
    assert "elsewhere" not in holder[0][2]  # what the asker says of our name is no matter of the guest
    assert many.sql("select count(*) from messages where body_text like %s", f"%{made['token']}%") == [(1,)]


def test_tokens_are_nowhere(team, many):
    made = invite(team.owner)
    for name in ("apid", "postgres"):
        assert made["token"] not in many.log(name)
    check_problem(Api(address(many), None).post("/v1/auth/reset", {"token": made["token"], "password": PASSWORD}), 404, "not_found")


# ---- the operator's tool ----

def test_password_by_link(many):
    email = make_person(many)
    console = Console(address(many)).sign_in(email, PASSWORD)
    made, other = many.ctl("user", "reset", email), many.ctl("user", "reset", email)
    anybody = Api(address(many), None)
    check_problem(anybody.post("/v1/auth/reset", {"token": made["token"], "password": "short"}), 400, "bad_request")
    assert anybody.post("/v1/auth/reset", {"token": made["token"], "password": "set by a link's token"}).status == 204
    assert {console.get("/v1/auth/session").status for _ in range(12)} == {401}
    assert login(many, email, "set by a link's token").status == 200
    check_problem(login(many, email, PASSWORD), 401, "unauthorized")
    for token in (made["token"], other["token"], "A" * 43, "x"):
        check_problem(anybody.post("/v1/auth/reset", {"token": token, "password": PASSWORD}), 404, "not_found")


def test_link_lasts_an_hour(many):
    made = many.ctl("user", "reset", make_person(many))
    many.sql("update password_resets set expires_at = expires_at - interval '1 hour'")
    check_problem(Api(address(many), None).post("/v1/auth/reset", {"token": made["token"], "password": PASSWORD}), 404, "not_found")


def test_operator_ends_sessions(many):
    email = make_person(many)
    one, two = (Console(address(many)).sign_in(email, PASSWORD) for _ in range(2))
    listed = many.ctl("session", "list", "--user", email)["items"]
    assert len(listed) == 2 and "hash" not in str(listed)
    many.ctl("session", "end", listed[0]["id"])
    assert {one.get("/v1/auth/session").status for _ in range(12)} == {401}
    assert two.get("/v1/auth/session").status == 200
    many.ctl("session", "end", email)
    assert {two.get("/v1/auth/session").status for _ in range(12)} == {401}
    assert many.ctl("session", "end", listed[0]["id"], check=False).returncode == 1


def test_operators_invitation_makes_an_account(many):
    email = f"invited-{time.time_ns()}@example.com"
    made = many.ctl("invitation", "create", email)
    assert email in str(many.ctl("invitation", "list"))
    new = Console(address(many)).take(accept(many, made["token"]))
    assert new.user["role"] == "owner" and new.user["plan"] == "free"
    team = Team(many)
    made = many.ctl("invitation", "create", "x" + email, "--account", team.account)
    assert Console(address(many)).take(accept(many, made["token"])).user["accountId"] == team.owner.user["accountId"]
    many.ctl("invitation", "create", "y" + email)
    many.ctl("invitation", "delete", "y" + email)
    assert many.ctl("invitation", "delete", "y" + email, check=False).returncode == 1


def test_closed_server_takes_no_new_accounts(system):
    made = system.ctl("invitation", "create", f"invited-{time.time_ns()}@example.com")
    check_problem(accept(system, made["token"]), 403, "forbidden")
    assert system.api.get("/v1/auth/signup", key=None).json == {"signup": "closed"}
    check_problem(Api(address(system), None).post("/v1/auth/signup", {"email": "new@example.com", "password": PASSWORD}), 403, "forbidden")


# ---- sign-up ----

def test_the_first_user_signs_up_alone_of_many():
    """An empty server: of ten who come at once one is first, and has the operator's plan; the others are refused."""
    fresh = System()
    try:
        fresh.start()
        fresh.sql("delete from accounts")
        assert fresh.api.get("/v1/auth/signup", key=None).json == {"signup": "first"}
        answers = []
        threads = [threading.Thread(target=lambda i=i: answers.append(Api(address(fresh), None).post(
            "/v1/auth/signup", {"email": f"first-{i}@example.com", "password": PASSWORD}))) for i in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(a.status for a in answers) == [201] + [403] * 9, answers
        first = Console(address(fresh)).take(next(a for a in answers if a.status == 201))
        assert first.user["plan"] == "unlimited" and first.user["role"] == "owner"
        assert first.mailbox()
        assert fresh.sql("select count(*) from users") == [(1,)] == fresh.sql("select count(*) from accounts")
    finally:
        fresh.remove()
