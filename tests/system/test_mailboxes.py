"""Mailboxes and archived mailboxes: made, listed, changed, deleted, archived and taken out again."""

import datetime
import uuid

import pytest

import messages
from client import check_problem, deliver, items, quote

MEMBERS = {"id", "alias", "domain", "address", "displayDomain", "displayAddress", "recoverable", "tag", "owner", "messageCount", "permanent", "expiresAt", "createdAt"}
ARCHIVED_MEMBERS = {"id", "alias", "domain", "address", "displayDomain", "displayAddress", "tag", "owner", "createdAt", "archivedAt"}


def moment(text):
    assert text.endswith("Z"), text
    return datetime.datetime.fromisoformat(text[:-1] + "+00:00")


def lifetime(box):
    return (moment(box["expiresAt"]) - moment(box["createdAt"])).total_seconds()


@pytest.mark.contract("1 ids", "1 create", "1 times", "5 object", "5 create", "5 create defaults", "3 lifetime")
def test_create_with_nothing_said(system, api):
    answer = api.post("/v1/mailboxes")
    assert answer.status == 201
    box = answer.json
    assert set(box) >= MEMBERS
    assert len(box["alias"]) == 12 and set(box["alias"]) <= set("abcdefghijklmnopqrstuvwxyz234567")
    assert box["domain"] == system.domain and box["address"] == f"{box['alias']}@{box['domain']}"
    assert (box["recoverable"], box["tag"], box["messageCount"], box["permanent"]) == (False, None, 0, False)
    assert box["owner"] == f"operator@{system.domain}"
    assert uuid.UUID(box["id"]).version == 7
    assert abs(lifetime(box) - 15 * 60) < 1


@pytest.mark.contract("5 expiresIn")
@pytest.mark.parametrize("given, seconds", [(1, 60), (60, 3600), (61, 61), (3600, 3600), ("900s", 900), ("20m", 1200), ("1h", 3600)])
def test_expires_in(api, given, seconds):
    assert abs(lifetime(api.mailbox(expiresIn=given)) - seconds) < 1


@pytest.mark.contract("5 expiresIn refused", "2 400")
@pytest.mark.parametrize("given", [0, -1, 3601, 1.5, "20", "x", "", "1s", "61m", "2h", True, [], {}, "1h1m", " 20m", "99999999999999h"])
def test_expires_in_refused(api, given):
    problem = check_problem(api.post("/v1/mailboxes", {"expiresIn": given}), 400, "bad_request")
    assert "expiresIn" in problem["detail"] + problem["message"]


@pytest.mark.contract("3 lifetime")
def test_no_expiration(api):
    box = api.mailbox(noExpiration=True)
    assert box["permanent"] is True and box["expiresAt"] is None


@pytest.mark.contract("2 contradiction")
@pytest.mark.parametrize("body", [{"expiresIn": "20m", "noExpiration": True}, {"recoverable": True}])
def test_contradictions_are_400(api, body):
    check_problem(api.post("/v1/mailboxes", body), 400, "bad_request")


@pytest.mark.contract("5 alias", "5 list address")
def test_alias_is_stored_in_lower_case(api):
    alias = "CamelCase." + uuid.uuid4().hex[:8]
    box = api.mailbox(alias=alias)
    assert box["alias"] == alias.lower()
    found = items(api.get("/v1/mailboxes?address=" + quote(f"{alias.upper()}@{box['domain'].upper()}")))
    assert [one["id"] for one in found] == [box["id"]]


@pytest.mark.contract("5 alias")
@pytest.mark.parametrize("alias", ["", ".a", "a.", "a..b", "a b", "a@b", "x" * 65, "имя", "a,b", 'q"q', 7, ["a"]])
def test_alias_refused(api, alias):
    problem = check_problem(api.post("/v1/mailboxes", {"alias": alias}), 400, "bad_request")
    assert "alias" in problem["detail"] + problem["message"]


@pytest.mark.contract("5 alias reserved")
@pytest.mark.parametrize("alias", ["postmaster", "abuse", "hostmaster", "webmaster", "mailer-daemon", "noreply", "PostMaster"])
def test_alias_reserved(api, alias):
    check_problem(api.post("/v1/mailboxes", {"alias": alias}), 400, "bad_request")


def test_a_postmaster_stays(system, api, box):
    """RFC 5321 4.5.1: it can be read and emptied, but mail to it must always be taken."""
    made = items(api.get("/v1/mailboxes?address=postmaster@" + system.domain))[0]
    path = "/v1/mailboxes/" + made["id"]
    for answer in (api.delete(path), api.delete("/v1/mailboxes", {"ids": [box["id"], made["id"]]}), api.patch(path, {"expiresIn": "5m"})):
        problem = check_problem(answer, 403, "forbidden")
        assert "postmaster@" + system.domain in problem["detail"]
    assert api.get("/v1/mailboxes/" + box["id"]).status == 200
    assert api.patch(path, {"noExpiration": True, "tag": "ours"}).json["permanent"]
    assert deliver(system.smtp, messages.plain(), "postmaster@" + system.domain)[0] == 250
    assert api.delete(path + "/mails", {"ids": [api.mails(made)[0]["id"]]}).status == 204


@pytest.mark.contract("2 409", "5 alias taken")
def test_alias_taken_is_409_for_everybody(api, stranger, box):
    check_problem(api.post("/v1/mailboxes", {"alias": box["alias"]}), 409, "conflict")
    check_problem(stranger.post("/v1/mailboxes", {"alias": box["alias"].upper()}), 409, "conflict")


@pytest.mark.contract("4 other domain")
def test_domain_named(system, api):
    assert api.mailbox(domain="second.example")["domain"] == "second.example"
    assert api.mailbox(domain="Second.Example")["domain"] == "second.example"
    check_problem(api.post("/v1/mailboxes", {"domain": "not-ours.example"}), 403, "forbidden")


@pytest.mark.parametrize("method, path, body, says", [
    ("POST", "", {"domain": "gmail.com"}, "which covers minutemail.cc and 1 more"),
    ("GET", "?address=x@gmail.com", None, "which covers minutemail.cc and 1 more"),
    ("POST", "", {"alias": "x@minutemail.cc"}, 'the domain goes into "domain"'),
    ("GET", "/", None, "none of ours ends with a slash"),
    ("GET", "/x@minutemail.cc", None, "?address="),
])
def test_mistakes_of_a_newcomer_say_what_to_do(api, method, path, body, says):
    assert says in api.request(method, "/v1/mailboxes" + path, body=body).json["detail"]


def test_same_alias_on_two_domains(api, box):
    other = api.mailbox(alias=box["alias"], domain="second.example")
    assert other["id"] != box["id"]


@pytest.mark.contract("1 list", "5 get", "5 list")
def test_get_and_list(api, box):
    assert api.get(f"/v1/mailboxes/{box['id']}").json == box
    assert box["id"] in [one["id"] for one in items(api.get("/v1/mailboxes?limit=1000"))]


@pytest.mark.contract("5 list")
def test_list_by_created_at_with_cursor(stranger):
    made = [stranger.mailbox()["id"] for _ in range(7)]
    whole = [box["id"] for box in items(stranger.get("/v1/mailboxes"))]
    assert [one for one in whole if one in made] in (made, made[::-1])
    seen, cursor = [], ""
    while True:
        page = stranger.get("/v1/mailboxes?limit=3" + cursor)
        assert page.status == 200 and len(page.json["items"]) <= 3
        seen += [box["id"] for box in page.json["items"]]
        if not page.json.get("nextCursor"):
            break
        cursor = "&cursor=" + quote(page.json["nextCursor"])
    assert seen == whole


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=-1", "limit=x", "cursor=nonsense", "cursor=%00"])
def test_list_refuses_bad_pages(api, query):
    check_problem(api.get("/v1/mailboxes?" + query), 400, "bad_request")


@pytest.mark.contract("5 patch")
def test_patch(api, box):
    path = f"/v1/mailboxes/{box['id']}"
    changed = api.patch(path, {"tag": "sign-up", "recoverable": True})
    assert changed.status == 200 and (changed.json["tag"], changed.json["recoverable"]) == ("sign-up", True)
    changed = api.patch(path, {"expiresIn": "2m"}).json
    now = datetime.datetime.now(datetime.timezone.utc)
    assert 100 < (moment(changed["expiresAt"]) - now).total_seconds() <= 121
    assert (changed["tag"], changed["recoverable"]) == ("sign-up", True)
    assert api.get(path).json == changed


def test_patch_longer_keeps_mail_readable(system, api):
    """The expiry hour of what was received before changes with the mailbox."""
    box = api.mailbox(expiresIn="1m")
    source = messages.plain("kept")
    assert deliver(system.smtp, source, box["address"])[0] == 250
    assert api.patch(f"/v1/mailboxes/{box['id']}", {"expiresIn": "1h"}).status == 200
    assert api.source(api.only_mail(box)) == source


@pytest.mark.contract("1 delete", "5 delete destroys")
def test_delete_destroys(system, api, box):
    assert deliver(system.smtp, messages.plain(), box["address"])[0] == 250
    answer = api.delete(f"/v1/mailboxes/{box['id']}")
    assert answer.status == 204 and answer.body == b""
    check_problem(api.get(f"/v1/mailboxes/{box['id']}"), 404, "not_found")
    check_problem(api.get(f"/v1/mailboxes/{box['id']}/mails"), 404, "not_found")
    check_problem(api.delete(f"/v1/mailboxes/{box['id']}"), 404, "not_found")
    with pytest.raises(AssertionError, match="5.1.1"):
        deliver(system.smtp, messages.plain(), box["address"])


@pytest.mark.contract("1 bulk delete")
def test_delete_many(api):
    boxes = [api.mailbox() for _ in range(4)]
    assert api.delete("/v1/mailboxes", {"ids": [box["id"] for box in boxes]}).status == 204
    for box in boxes:
        check_problem(api.get(f"/v1/mailboxes/{box['id']}"), 404, "not_found")


@pytest.mark.contract("5 delete many")
def test_delete_many_is_all_or_none(api, stranger):
    mine, theirs = api.mailbox(), stranger.mailbox()
    check_problem(api.delete("/v1/mailboxes", {"ids": [mine["id"], theirs["id"]]}), 403, "forbidden")
    check_problem(api.delete("/v1/mailboxes", {"ids": [mine["id"], str(uuid.uuid4())]}), 404, "not_found")
    assert api.get(f"/v1/mailboxes/{mine['id']}").status == 200
    assert stranger.get(f"/v1/mailboxes/{theirs['id']}").status == 200


@pytest.mark.contract("1 bulk delete", "2 400")
@pytest.mark.parametrize("body", [{}, {"ids": []}, {"ids": "x"}, {"ids": ["x"]}, {"ids": [1]}, {"ids": None},
                                  {"ids": ["00000000-0000-0000-0000-000000000000"] * 1001}])
def test_delete_many_refuses(api, body):
    check_problem(api.delete("/v1/mailboxes", body), 400, "bad_request")


@pytest.mark.contract("2 403 another user's", "2 404")
def test_strangers_mailbox_is_403_and_no_mailbox_404(api, stranger, box):
    for method, path, body in (("GET", "", None), ("PATCH", "", {"tag": "x"}), ("DELETE", "", None), ("GET", "/mails", None),
                               ("DELETE", "/mails", {"ids": [str(uuid.uuid4())]})):
        check_problem(stranger.request(method, f"/v1/mailboxes/{box['id']}{path}", body=body), 403, "forbidden")
        check_problem(stranger.request(method, f"/v1/mailboxes/{uuid.uuid4()}{path}", body=body), 404, "not_found")
        check_problem(stranger.request(method, f"/v1/mailboxes/not-an-id{path}", body=body), 404, "not_found")
    assert box["id"] not in [one["id"] for one in items(stranger.get("/v1/mailboxes"))]
    assert items(stranger.get("/v1/mailboxes?address=" + quote(box["address"]))) == []


def archived(api, **members):
    box = api.mailbox(recoverable=True, tag="keep", **members)
    assert api.delete(f"/v1/mailboxes/{box['id']}").status == 204
    found = [one for one in items(api.get("/v1/archived-mailboxes?limit=1000")) if one["address"] == box["address"]]
    assert len(found) == 1
    return box, found[0]


@pytest.mark.contract("5 delete archives", "5 archived object", "5 archived list", "5 archived get")
def test_delete_recoverable_archives(system, api):
    box, archive = archived(api)
    assert set(archive) >= ARCHIVED_MEMBERS
    assert (archive["alias"], archive["domain"], archive["tag"]) == (box["alias"], box["domain"], "keep")
    assert api.get(f"/v1/archived-mailboxes/{archive['id']}").json == archive
    check_problem(api.get(f"/v1/mailboxes/{box['id']}"), 404, "not_found")
    assert items(api.get("/v1/mailboxes?address=" + quote(box["address"]))) == []


@pytest.mark.contract("5 expired")
def test_expired_recoverable_is_archived_at_its_instant(system, api):
    box = api.mailbox(recoverable=True, tag="later")
    system.expire(box, -1)
    assert box["address"] in [one["address"] for one in items(api.get("/v1/archived-mailboxes?limit=1000"))]


@pytest.mark.contract("5 alias taken")
def test_archived_address_is_reserved(api, stranger):
    box, _ = archived(api)
    check_problem(stranger.post("/v1/mailboxes", {"alias": box["alias"]}), 409, "conflict")


@pytest.mark.contract("5 reactivate", "5 reactivate body")
def test_reactivate(system, api):
    box = api.mailbox(recoverable=True, tag="again")
    assert deliver(system.smtp, messages.plain("old"), box["address"])[0] == 250
    assert api.delete(f"/v1/mailboxes/{box['id']}").status == 204
    archive, = [one for one in items(api.get("/v1/archived-mailboxes?limit=1000")) if one["address"] == box["address"]]
    answer = api.post(f"/v1/archived-mailboxes/{archive['id']}/reactivate", {"expiresIn": "10m"})
    assert answer.status == 201, answer
    fresh = answer.json
    assert fresh["id"] != box["id"] and fresh["address"] == box["address"]
    assert (fresh["tag"], fresh["recoverable"], fresh["messageCount"]) == ("again", True, 0)
    assert abs(lifetime(fresh) - 600) < 1
    assert api.mails(fresh) == []
    check_problem(api.get(f"/v1/archived-mailboxes/{archive['id']}"), 404, "not_found")
    check_problem(api.post(f"/v1/archived-mailboxes/{archive['id']}/reactivate"), 404, "not_found")
    assert deliver(system.smtp, messages.plain("new"), box["address"])[0] == 250
    assert [mail["subject"] for mail in api.mails(fresh)] == ["new"]


@pytest.mark.contract("5 reactivate body")
@pytest.mark.parametrize("body", [b"", b"null", b" null\n"])
def test_reactivate_without_a_body(api, body):
    _, archive = archived(api)
    answer = api.post(f"/v1/archived-mailboxes/{archive['id']}/reactivate", body, headers={"Content-Type": "application/json"})
    assert answer.status == 201 and abs(lifetime(answer.json) - 900) < 1


@pytest.mark.contract("5 archived delete")
def test_archived_delete_frees_the_address(api, stranger):
    box, archive = archived(api)
    check_problem(stranger.delete(f"/v1/archived-mailboxes/{archive['id']}"), 403, "forbidden")
    assert api.delete(f"/v1/archived-mailboxes/{archive['id']}").status == 204
    assert stranger.mailbox(alias=box["alias"])["address"] == box["address"]


@pytest.mark.contract("5 archived delete many")
def test_archived_delete_many_is_all_or_none(api):
    first, second = archived(api)[1], archived(api)[1]
    path = "/v1/archived-mailboxes"
    check_problem(api.delete(path, {"ids": [first["id"], str(uuid.uuid4())]}), 404, "not_found")
    assert api.get(f"{path}/{first['id']}").status == 200
    assert api.delete(path, {"ids": [first["id"], second["id"]]}).status == 204
    for one in (first, second):
        check_problem(api.get(f"{path}/{one['id']}"), 404, "not_found")


@pytest.mark.contract("1 prefixes")
@pytest.mark.parametrize("prefix", ["/v1", "/api", ""])
def test_prefixes(api, box, prefix):
    assert api.get(f"{prefix}/mailboxes/{box['id']}").json == box


def test_message_count(system, api, box):
    for i in range(3):
        assert deliver(system.smtp, messages.plain(str(i)), box["address"])[0] == 250
    assert api.get(f"/v1/mailboxes/{box['id']}").json["messageCount"] == 3
    assert [one["messageCount"] for one in items(api.get("/v1/mailboxes?address=" + quote(box["address"])))] == [3]
