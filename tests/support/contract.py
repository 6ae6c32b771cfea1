"""Holds every answer that client.py receives to openapi.json as the build made it: path, method, status, headers, body. Stricter than
the document where it leaves room for later: a member that is not described fails, so none can be forgotten."""

import functools
import json
import os
import pathlib
import re
import urllib.parse

import jsonschema

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATH = pathlib.Path(os.environ.get("MINUTEMAIL_RUN_BUILD", ROOT / "build-release")) / "apid" / "openapi.json"
HTTP_REFUSALS = {408, 414, 417, 431, 501, 505}  # "default" stands for these and no others


class Breach(AssertionError):
    """An answer that the document does not allow."""


@functools.cache
def document():
    return json.loads(PATH.read_text(encoding="utf-8"))


def resolved(value):
    while "$ref" in value:
        found = document()
        for name in value["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        value = found
    return value


# ---- Which operation it is ----

@functools.cache
def templates():
    """(pattern, item, bare), literal segments before parameters as the router's rows have them."""
    found = []
    for path, item in document()["paths"].items():
        pattern = re.compile("".join("[^/]+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{.*?\})", path)))
        found.append((path.count("{"), pattern, item, item.get("servers") == [{"url": "/"}]))
    return [row[1:] for row in sorted(found, key=lambda row: row[0])]


def path_item(path):
    prefixed = re.sub(r"^/(v1|api)(?=/)", "", path)
    for pattern, item, bare in templates():
        if pattern.fullmatch(path if bare else prefixed):
            return item
    return None


# ---- What its schema says ----

def strict(schema, whole):
    """A copy that allows no member beside those described; without `whole` mails may lack members, because ?fields= chose them."""
    if isinstance(schema, list):
        return [strict(member, whole) for member in schema]
    if not isinstance(schema, dict):
        return schema
    copy = {name: strict(member, whole) for name, member in schema.items()}
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
        copy["additionalProperties"] = False
    return copy


@functools.cache
def components(whole):
    found = strict(document()["components"], whole)
    if not whole:
        del found["schemas"]["Mail"]["required"]
    return found


@functools.cache
def validator(schema, whole):
    return jsonschema.Draft202012Validator({"components": components(whole), **strict(json.loads(schema), whole)})


def check_schema(where, schema, value, whole=True):
    error = jsonschema.exceptions.best_match(validator(json.dumps(schema), whole).iter_errors(value))
    if error:
        raise Breach(f"{where}: {'/'.join(map(str, error.absolute_path)) or 'the body'}: {error.message[:500]}")


def check_headers(where, described, headers):
    for name, header in described.items():
        header = resolved(header)
        value = headers.get(name)
        if value is None:
            if header.get("required"):
                raise Breach(f"{where}: header {name} is missing")
            continue
        if resolved(header["schema"]).get("type") == "integer" and re.fullmatch("-?[0-9]+", value):
            value = int(value)
        check_schema(f"{where}: header {name}", header["schema"], value)


def check_body(where, content, response, whole):
    kind = (response.headers.get("Content-Type") or "").split(";")[0]
    media = content.get(kind, content.get("*/*"))
    if media is None:
        raise Breach(f"{where}: Content-Type {kind!r} is not one of {', '.join(content)}")
    if "schema" not in media or not kind.endswith("json"):
        return
    try:
        value = json.loads(response.body.decode("utf-8"))
    except ValueError as e:
        raise Breach(f"{where}: the body is not JSON: {e}") from e
    check_schema(where, media["schema"], value, whole)


# ---- Answers ----

def check_any(response, method=None):
    """What is true of every answer, whatever was asked."""
    where = f"{response.status}"
    check_headers(where, {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}, response.headers)
    if response.status >= 400 and method != "HEAD":
        check_body(where, resolved({"$ref": "#/components/responses/ErrorDefault"})["content"], response, True)
        if response.json["status"] != response.status:
            raise Breach(f"{where}: the problem says {response.json['status']}")


def check(method, target, response):
    path, _, query = target.partition("?")
    where = f"{method} {path}: {response.status}"
    item = path_item(path)
    operation = item and item.get("get" if method == "HEAD" else method.lower())
    check_any(response, method)
    if method == "OPTIONS" and response.status == 204:  # a browser's preflight, where CORS is on
        check_headers(where, {"Access-Control-Allow-Methods": {"required": True, "schema": {"type": "string"}}}, response.headers)
        return
    if operation is None:
        allowed = {400, 401, 404, 405, 429, 503, *HTTP_REFUSALS} if item is None else {400, 401, 405, 429, 503, *HTTP_REFUSALS}
        if response.status not in allowed:
            raise Breach(f"{where}: openapi.json has no such path" if item is None else f"{where}: openapi.json has no such method")
        return
    answer = operation["responses"].get(str(response.status))
    if answer is None and response.status in HTTP_REFUSALS:
        answer = operation["responses"]["default"]
    if answer is None:
        raise Breach(f"{where}: {operation['operationId']} has no such status in openapi.json, only {', '.join(operation['responses'])}")
    answer = resolved(answer)
    check_headers(where, answer.get("headers", {}), response.headers)
    if "content" not in answer or method == "HEAD":
        if response.body:
            raise Breach(f"{where}: there is a body, and openapi.json has none")
        return
    check_body(where, answer["content"], response, "fields" not in urllib.parse.parse_qs(query, keep_blank_values=True))
