"""openapi.json itself, and that the check of every other test's answers against it finds what it must find."""

import base64
import email.message
import hashlib
import json
import re
import subprocess
import sys

import jsonschema
import pytest

import contract
from client import Response
from launched import ROOT

ID = "01890000-0000-7000-8000-000000000000"
TIME = "2026-01-01T00:00:00.000Z"
MAILBOX = {"id": ID, "alias": "a", "domain": "example.org", "address": "a@example.org", "displayDomain": "example.org",
           "displayAddress": "a@example.org", "recoverable": False, "tag": None,
           "owner": "o@example.org", "messageCount": 0, "permanent": False, "expiresAt": TIME, "createdAt": TIME}
PROBLEM = {"type": "about:blank", "title": "Not found", "status": 404, "detail": "x", "error": "not_found", "code": "not_found",
           "message": "x", "requestId": "abc"}


def answer(status, body, kind="application/json", **headers):
    message = email.message.Message()
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    for name, value in {"X-Request-Id": "abc", "ETag": '"x"', "Content-Type": kind, **given}.items():
        if value is not None:
            message[name] = value
    return Response(status, message, body if isinstance(body, bytes) else json.dumps(body).encode())


def problem(status=404, **members):
    return answer(status, {**PROBLEM, "status": status, **members}, "application/problem+json")


@pytest.mark.contract("1 openapi.json")
def test_served_as_built(api):
    served = api.get("/openapi.json", key=None)
    assert served.status == 200 and served.headers["Content-Type"] == "application/json"
    assert served.body == contract.PATH.read_bytes()
    again = api.get("/openapi.json", key=None, headers={"If-None-Match": served.headers["ETag"]})
    assert again.status == 304 and again.body == b""
    head = api.request("HEAD", "/openapi.json", key=None)
    assert int(head.headers["Content-Length"]) == len(served.body)
    assert api.get("/v1/openapi.json", key=None).status == 404


def test_page_for_people(api):
    """Whole, without a script, and with a policy under which its style sheet is all that may run."""
    served = api.get("/docs", key=None)
    assert served.status == 200 and served.headers["Content-Type"] == "text/html; charset=utf-8"
    again = api.get("/docs", key=None, headers={"If-None-Match": served.headers["ETag"]})
    # A browser puts a 304's headers in the place of those that it has stored: the default policy would take the style sheet away.
    assert again.status == 304 and "Content-Security-Policy" not in again.headers and "Cache-Control" not in again.headers
    page = served.body.decode()
    style = re.search("<style>(.*?)</style>", page, re.S).group(1)
    policy = served.headers.get_all("Content-Security-Policy")
    assert len(policy) == 1 and policy[0].startswith("default-src 'none'; ") and "unsafe" not in policy[0]
    assert f"style-src 'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'" in policy[0]
    assert not re.search(r"<(script|link|img|iframe|base)|\son\w+=|\sstyle=|https?://", page)
    anchors = re.findall(r'id="?([\w-]+)', page)
    assert len(anchors) == len(set(anchors))
    assert set(re.findall('href="#(.*?)"', page)) <= set(anchors)
    for item in contract.document()["paths"].values():
        for operation in item.values():
            assert not isinstance(operation, dict) or operation["operationId"] in anchors
    assert {"schema-" + name for name, schema in contract.document()["components"]["schemas"].items() if "properties" in schema} <= set(anchors)


def test_schemas_are_schemas():
    for name, schema in contract.document()["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
        contract.validator(json.dumps({"$ref": f"#/components/schemas/{name}"}), True)


@pytest.mark.parametrize("method, target, response", [
    ("GET", f"/v1/mailboxes/{ID}", answer(200, MAILBOX)),
    ("GET", f"/mailboxes/{ID}?x=1", answer(200, {**MAILBOX, "expiresAt": None})),
    ("HEAD", f"/api/mailboxes/{ID}", answer(200, b"")),
    ("GET", "/v1/mailboxes", answer(200, {"items": [MAILBOX], "nextCursor": "x"})),
    ("GET", f"/v1/mailboxes/{ID}/mails/{ID}?fields=subject", answer(200, {"subject": "x"})),
    ("GET", f"/v1/mailboxes/{ID}/mails/{ID}/attachments/{ID}?download=1", answer(200, b"\0", "image/png")),
    ("DELETE", f"/v1/mailboxes/{ID}", answer(204, b"", None)),
    ("GET", f"/v1/mailboxes/{ID}", problem()),
    ("GET", f"/v1/mailboxes/{ID}", problem(431, error="header_too_large")),
    ("GET", "/nowhere", problem()),
    ("PUT", "/v1/mailboxes", problem(405, error="method_not_allowed")),
])
def test_answers_that_are_right(method, target, response):
    contract.check(method, target, response)


@pytest.mark.parametrize("method, target, response, why", [
    ("GET", f"/v1/mailboxes/{ID}", answer(200, {k: v for k, v in MAILBOX.items() if k != "tag"}), "'tag' is a required"),
    ("GET", f"/v1/mailboxes/{ID}", answer(200, {**MAILBOX, "secret": 1}), "'secret' was unexpected"),
    ("GET", f"/v1/mailboxes/{ID}", answer(200, {**MAILBOX, "createdAt": "yesterday"}), "createdAt"),
    ("GET", f"/v1/mailboxes/{ID}", answer(200, {**MAILBOX, "messageCount": "1"}), "messageCount"),
    ("GET", "/v1/mailboxes", answer(200, {"items": [{**MAILBOX, "id": "x"}]}), "items/0/id"),
    ("GET", "/v1/mailboxes", answer(200, [MAILBOX]), "not of type 'object'"),
    ("GET", "/v1/mailboxes", answer(200, b"{"), "not JSON"),
    ("GET", "/v1/mailboxes", answer(200, {"items": []}, "text/html"), "Content-Type"),
    ("GET", "/v1/mailboxes", answer(200, {"items": []}, ETag=None), "header ETag"),
    ("GET", "/v1/mailboxes", answer(200, {"items": []}, X_Request_Id=None), "header X-Request-Id"),
    ("GET", f"/v1/mailboxes/{ID}/mails/{ID}", answer(200, {"subject": "x"}), "is a required"),
    ("POST", "/v1/mailboxes", answer(200, MAILBOX), "no such status"),
    ("DELETE", f"/v1/mailboxes/{ID}", answer(204, b"x", None), "there is a body"),
    ("GET", f"/v1/mailboxes/{ID}", problem(409, error="conflict"), "no such status"),
    ("GET", f"/v1/mailboxes/{ID}", problem(418), "no such status"),
    ("GET", f"/v1/mailboxes/{ID}", problem(error="lost"), "'lost' is not one of"),
    ("GET", f"/v1/mailboxes/{ID}", answer(404, {"error": "x"}, "application/json"), "Content-Type"),
    ("GET", f"/v1/mailboxes/{ID}", problem(401, error="unauthorized"), "header WWW-Authenticate"),
    ("GET", f"/v1/mailboxes/{ID}", problem(503, error="unavailable"), "header Retry-After"),
    ("GET", "/nowhere", answer(200, {}), "no such path"),
    ("GET", "/v1/health", answer(200, {"ok": True}), "no such path"),
    ("PUT", "/v1/mailboxes", answer(200, {}), "no such method"),
])
def test_answers_that_are_wrong(method, target, response, why):
    with pytest.raises(contract.Breach, match=why):
        contract.check(method, target, response)


def change(document, path, value):
    *names, last = path
    for name in names:
        document = document[name]
    document[last] = value


@pytest.mark.parametrize("path, value, said", [
    (["paths", "/mailboxes", "get", "operationId"], "health", "operationId health is another operation's"),
    (["paths", "/mailboxes", "get", "summary"], "", 'GET /mailboxes: its operation needs "summary"'),
    (["paths", "/mailboxes", "get", "tags"], ["Boxes"], 'tag "Boxes" is not among'),
    (["paths", "/mailboxes", "get", "x-problems"], [410], 'status 410 has no text in "x-problems"'),
    (["paths", "/mailboxes", "get", "responses"], {"404": {"description": "x"}}, 'errors go into "x-problems": [404]'),
    (["paths", "/mailboxes", "get", "responses"], {"200": {"description": "x"}}, "is for what has a body"),
    (["paths", "/mailboxes", "get", "security"], [{}], '"security" must be absent'),
    (["paths", "/mailboxes/{boxId}"], {}, "components/parameters has no boxId"),
    (["components", "schemas", "Ids", "required"], ["id"], 'schema Ids: "required" names id'),
    (["components", "schemas", "Mailbox", "properties", "id", "$ref"], "#/components/schemas/Ident", "Ident is not in the document"),
])
def test_a_mistake_in_the_source_fails_the_build(tmp_path, path, value, said):
    document = json.loads((ROOT / "apid" / "openapi.json").read_text())
    change(document, path, value)
    (tmp_path / "in.json").write_text(json.dumps(document))
    done = subprocess.run([sys.executable, str(ROOT / "apid" / "openapi.py"), tmp_path / "in.json", tmp_path / "out.json", tmp_path / "out.c"],
                          capture_output=True, text=True)
    assert done.returncode != 0 and done.stderr.startswith("error: apid/openapi.json: ") and said in done.stderr, done.stderr
