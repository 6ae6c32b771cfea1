"""Makes what apid serves of apid/openapi.json: the whole document, the page for people (openapi_html.py), and its rows for the comparison with ROUTES.

The source is OpenAPI 3.1 without what every operation repeats. Added here:
  - the path's parameters, from {names} in it: each is one of components/parameters;
  - the errors that any operation may give, and those of its "x-problems", with the texts of the document's "x-problems";
  - the headers of "x-headers": "every" on every answer, "keyed" on those to a key or session, "get" on what GET answers
    with 200 or 206, which may then be 304.
Of an operation: "security" [] is open to all, [{"session": []}] is for the console only, absent is for keys and sessions.
"x-scope" names what a key needs for it, "x-owners-only" is true if members of an account get 403.

usage: openapi.py INPUT.json OUTPUT.json OUTPUT.c
"""
import hashlib
import json
import re
import sys

sys.dont_write_bytecode = True  # the source tree is not the build's to write to
from openapi_html import METHODS, page, policy  # noqa: E402

PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
BY_STATUS = {"401": {"WWW-Authenticate": "Challenge"}, "416": {"Content-Range": "ContentRange"},
             "429": {"Retry-After": "RetryAfter"}, "503": {"Retry-After": "RetryAfter"}}
UNCOUNTED = ("401", "500", "503", "default")  # answers without the headers of "keyed"


def fail(where, text):
    sys.exit(f"error: apid/openapi.json: {where}: {text}")


def no_twins(pairs):
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        fail(next(name for name in names if names.count(name) > 1), "this member is there twice in one object")
    return members


def read(path):
    with open(path, encoding="utf-8") as f:
        try:
            return json.load(f, object_pairs_hook=no_twins)
        except ValueError as e:
            fail("syntax", str(e))


def operations(document):
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


def resolve(document, where, reference):
    found = document
    for name in reference.removeprefix("#/").split("/"):
        if not isinstance(found, dict) or name not in found:
            fail(where, f"{reference} is not in the document")
        found = found[name]
    return found


# ---- What is wrong with it ----

def check_references(document, value, where):
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            resolve(document, where, value["$ref"])
        for name, member in value.items():
            check_references(document, member, name if where == "paths" or where.startswith("/") and name in METHODS else where)
    elif isinstance(value, list):
        for member in value:
            check_references(document, member, where)


def check_operation(document, where, operation, seen):
    for member in ("operationId", "summary", "tags", "responses"):
        if not operation.get(member):
            fail(where, f'its operation needs "{member}"')
    if operation["operationId"] in seen:
        fail(where, f"operationId {operation['operationId']} is another operation's")
    seen.add(operation["operationId"])
    known = [tag["name"] for tag in document["tags"]]
    for tag in operation["tags"]:
        if tag not in known:
            fail(where, f'tag "{tag}" is not among "tags" of the document')
    for status in operation.get("x-problems", []):
        if str(status) not in document["x-problems"]:
            fail(where, f'status {status} has no text in "x-problems" of the document')
    for status, response in operation["responses"].items():
        if not re.fullmatch("[23][0-9][0-9]", status) or "description" not in response:
            fail(where, f'response {status}: only 2xx and 3xx with a "description"; errors go into "x-problems": [{status}]')
        if (status == "204") == ("content" in response):
            fail(where, f'response {status}: "content" is for what has a body, which 204 has not')


def check_objects(schema, where):
    """Each required member is described, so that the tests can hold answers to it."""
    if isinstance(schema, dict):
        missing = set(schema.get("required", [])) - set(schema["properties"]) if "properties" in schema else None
        if missing:
            fail(where, f'"required" names {", ".join(sorted(missing))}, which "properties" has not')
        for member in schema.values():
            check_objects(member, where)
    elif isinstance(schema, list):
        for member in schema:
            check_objects(member, where)


def check(document):
    seen = set()
    for path, method, operation in operations(document):
        check_operation(document, f"{method.upper()} {path}", operation, seen)
    for name, schema in document["components"]["schemas"].items():
        check_objects(schema, f"schema {name}")
    check_references(document, document, "paths")


# ---- What is added ----

def references(headers):
    return {name: {"$ref": f"#/components/headers/{header}"} for name, header in headers.items()}


def add_parameters(document, path, item):
    names = re.findall(r"\{(.*?)\}", path)
    for name in names:
        if name not in document["components"]["parameters"]:
            fail(path, f"components/parameters has no {name}: add it, or use a name that is there")
    if names:
        item["parameters"] = [{"$ref": f"#/components/parameters/{name}"} for name in names]


def problem(document, status, keyed, problems, headers):
    """The answer for an error, as a reference to what is made once."""
    name = ("Error" if keyed else "OpenError") + status.title()
    added = {**headers["every"], **(headers["keyed"] if keyed and status not in UNCOUNTED else {})}
    document["components"].setdefault("responses", {})[name] = {
        "description": problems[status], "headers": {**added, **references(BY_STATUS.get(status, {}))}, "content": PROBLEM}
    return {"$ref": f"#/components/responses/{name}"}


def add_responses(document, method, operation, problems, headers):
    answers = operation["responses"]
    keyed = operation.get("security") != []
    if method == "get":
        for status in ("200", "206"):
            if status in answers:
                answers[status]["headers"] = {**headers["get"], **answers[status].get("headers", {})}
        answers["304"] = {"description": "Nothing has changed since the ETag of If-None-Match.", "headers": dict(headers["get"])}
    for answer in answers.values():
        answer["headers"] = {**headers["every"], **(headers["keyed"] if keyed else {}), **answer.get("headers", {})}
    for status in {400, 413, 500, 503, "default", *operation.pop("x-problems", []), *([401, 403, 429] if keyed else [])}:
        answers[str(status)] = problem(document, str(status), keyed, problems, headers)
    operation["responses"] = dict(sorted(answers.items()))


def expand(document):
    problems, headers = document.pop("x-problems"), document.pop("x-headers")
    for _, method, operation in operations(document):
        add_responses(document, method, operation, problems, headers)
    for path, item in document["paths"].items():
        add_parameters(document, path, item)


# ---- What comes out ----

def c_string(octets):
    """Lines of a C literal. Octets above 126 in octal, which no digit after them can lengthen."""
    lines, line = [], ""
    for octet in octets:
        c = chr(octet)
        line += "\\n" if c == "\n" else "\\" + c if c in '"\\?' else c if 32 <= octet < 127 else f"\\{octet:03o}"
        if len(line) > 110:
            lines.append(line)
            line = ""
    return "\n\t".join(f'"{line}"' for line in [*lines, line])


def write_file(f, name, kind, policy, octets):
    etag = hashlib.sha256(octets).hexdigest()[:32]
    f.write(f"\nconst struct openapi_file {name} = {{\n\t.type = \"{kind}\",\n\t.etag = \"\\\"{etag}\\\"\",\n\t.policy = {policy},\n")
    f.write(f"\t.size = {len(octets)},\n\t.data = {c_string(octets)},\n}};\n")


def access(where, operation):
    security = operation.get("security")
    if security is None:
        return "ROUTE_KEY"
    if security == []:
        return "ROUTE_OPEN"
    if security == [{"session": []}]:
        return "ROUTE_CONSOLE"
    fail(where, '"security" must be absent (keys and sessions), [] (open) or [{"session": []}] (console only)')


def c_row(document, path, method, operation):
    where = f"{method.upper()} {path}"
    scope = operation.get("x-scope")
    bare = document["paths"][path].get("servers") == [{"url": "/"}]
    pattern = re.sub(r"\{.*?\}", "{}", path)
    return (f'\t{{.method = METHOD_{method.upper()}, .pattern = "{pattern}", .access = {access(where, operation)}, '
            f'.bare = {str(bare).lower()}, .scope = {json.dumps(scope) if scope else "NULL"}, '
            f'.owners_only = {str(operation.get("x-owners-only", False)).lower()}}},\n')


def write_c(f, document, octets):
    f.write('/* Made by apid/openapi.py. Do not edit. */\n#include "apid/openapi.h"\n')
    write_file(f, "OPENAPI_JSON", "application/json", "NULL", octets)
    write_file(f, "OPENAPI_HTML", "text/html; charset=utf-8", f'"{policy()}"', page(document))
    f.write("\nconst struct route OPENAPI_ROWS[] = {\n")
    for row in operations(document):
        f.write(c_row(document, *row))
    f.write("\t{0},\n};\n")


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    source, out_json, out_c = sys.argv[1:]
    document = read(source)
    check(document)
    expand(document)
    octets = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    with open(out_json, "wb") as f:
        f.write(octets)
    with open(out_c, "w", encoding="utf-8") as f:
        write_c(f, document, octets)


if __name__ == "__main__":
    main()
