"""The reference for people, /docs: one page without scripts, made of the document that openapi.py has put together. Its Content-
Security-Policy names the hash of its one style sheet and allows nothing else."""
import base64
import hashlib
import html
import re

METHODS = ("get", "post", "put", "patch", "delete")

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --text: #1b1f24; --weak: #59636e; --line: #d5dae0; --soft: #f3f5f7; --link: #0a58a8;
 --get: #0a5e9c; --post: #1a6b35; --patch: #855600; --delete: #a4262c; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171b; --text: #dfe3e8; --weak: #9aa4af; --line: #333a42; --soft: #1f242a; --link: #7cb7f5;
 --get: #79bdf2; --post: #7fd197; --patch: #e5b567; --delete: #f2949a; } }
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; }
body { margin: 0; background: var(--ground); color: var(--text); font: 16px/1.55 system-ui, sans-serif; }
a { color: var(--link); text-underline-offset: .15em; } a:focus-visible { outline: 2px solid; outline-offset: 2px; }
main { padding: 1rem 1.25rem 4rem; min-width: 0; } main > * { max-width: 56rem; }
h1 { margin: .5rem 0; font-size: 1.8rem; line-height: 1.25; }
h2 { margin: 3.5rem 0 1rem; padding-bottom: .3rem; border-bottom: 2px solid var(--line); font-size: 1.4rem; }
h3 { margin: 2.75rem 0 .5rem; font-size: 1.05rem; font-weight: 600; }
h2 a, h3 a { color: inherit; text-decoration: none; } h2 a:hover, h3 a:hover { text-decoration: underline; }
:target > a { background: var(--soft); box-shadow: 0 0 0 .4rem var(--soft); }
code, .path { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .9em; }
code { background: var(--soft); padding: .1em .3em; border-radius: .25em; overflow-wrap: anywhere; }
.path { overflow-wrap: anywhere; } .weak { color: var(--weak); }
.method { font: 700 .8em/1 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; text-transform: uppercase; letter-spacing: .02em; }
.get { color: var(--get); } .post, .put { color: var(--post); } .patch { color: var(--patch); } .delete { color: var(--delete); }
h3 .method { display: inline-block; margin-right: .4rem; padding: .3em .5em; border: 1px solid; border-radius: .25em; }
nav { padding: 1rem 1.25rem 0; font-size: .9rem; } nav ul { list-style: none; margin: 0; padding: 0; }
nav > ul { display: flex; flex-wrap: wrap; gap: .4rem; } nav > ul > li > a { display: block; padding: .4rem .7rem; border: 1px solid var(--line); border-radius: .4rem;
 text-decoration: none; }
nav ul ul { display: none; }
.operations { list-style: none; padding: 0; margin: 1rem 0; } .operations a, nav ul ul a { display: grid; grid-template-columns: 4.2em 1fr; align-items: baseline;
 padding: .3rem 0; text-decoration: none; } .operations .path, nav .path { color: var(--text); } .operations a:hover .path, nav a:hover .path { text-decoration: underline; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1.25rem; font-size: .95rem; } caption { text-align: left; font-weight: 600; padding: .35rem 0; }
th, td { text-align: left; vertical-align: top; padding: .4rem .9rem .4rem 0; border-top: 1px solid var(--line); overflow-wrap: anywhere; }
th { font-weight: 400; width: 14rem; } .answers th { width: 6rem; }
details { margin: -.75rem 0 1.25rem; font-size: .95rem; } summary { cursor: pointer; padding: .4rem 0; color: var(--weak); } summary code { color: var(--text); }
summary:focus-visible { outline: 2px solid; outline-offset: 2px; }
@media (max-width: 40rem) {
 body { font-size: 17px; } table, tbody, tr, th, td, caption { display: block; width: auto; } td { border: 0; padding: 0 0 .5rem; } th { padding-bottom: .1rem; }
 .answers tr { display: grid; grid-template-columns: 5rem minmax(0, 1fr); border-top: 1px solid var(--line); } .answers th { border: 0; width: auto; }
 .answers td { padding-top: .4rem; }
}
@media (min-width: 64rem) {
 body { display: grid; grid-template-columns: 21rem minmax(0, 1fr); } .operations { display: none; } main { grid-column: 2; grid-row: 1; padding: 1rem 3rem 6rem; }
 nav { position: sticky; top: 0; height: 100vh; overflow-y: auto; padding: 1.25rem; border-right: 1px solid var(--line); background: var(--soft); }
 nav > ul { display: block; } nav > ul > li { margin-bottom: 1rem; } nav > ul > li > a { padding: .2rem 0; border: 0; font-weight: 600; } nav ul ul { display: block; }
 nav ul ul a { padding: .12rem 0; font-size: .92em; }
}
@media print { nav { display: none; } body { display: block; } }
"""


def text(markdown):
    """Escaped, with `code` as code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(markdown or "", quote=False))


class Page:
    def __init__(self, document):
        self.document = document
        self.out = []

    def put(self, line):
        self.out.append(line)

    def resolved(self, value):
        while "$ref" in value:
            found = self.document
            for name in value["$ref"].removeprefix("#/").split("/"):
                found = found[name]
            value = found
        return value

    # ---- Schemas ----

    def kind(self, schema):
        """What a value is, in a few words."""
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            if "properties" not in self.resolved(schema):
                return html.escape(name.lower())
            return f'<a href="#schema-{html.escape(name)}">{html.escape(name)}</a>'
        if "oneOf" in schema:
            return " or ".join(self.kind(one) for one in schema["oneOf"])
        if "enum" in schema:
            return " or ".join(f"<code>{html.escape(str(one))}</code>" for one in schema["enum"])
        if "const" in schema:
            return f"<code>{html.escape(str(schema['const']).lower())}</code>"
        kind = schema.get("type", "anything")
        if kind == "array":
            return "list of " + self.kind(schema.get("items", {}))
        return html.escape(" or ".join(kind) if isinstance(kind, list) else kind) + self.bounds(schema)

    @staticmethod
    def bounds(schema):
        said = ""
        if "minimum" in schema and "maximum" in schema:
            said += f", {schema['minimum']} to {schema['maximum']}"
        if "maxLength" in schema:
            said += f", up to {schema['maxLength']} characters"
        if "default" in schema:
            said += f"; {str(schema['default']).lower()} if absent"
        return html.escape(said)

    def members(self, schema, prefix=""):
        """Rows of an object's members, those of objects inside it too."""
        required = schema.get("required", [])
        for name, member in schema.get("properties", {}).items():
            inner = member.get("items", member)
            said = text(member.get("description", self.resolved(member).get("description", "") if "$ref" in member else ""))
            absent = "" if name in required else ' <span class="weak">optional</span>'
            self.put(f"<tr><th scope=row><code>{html.escape(prefix + name)}</code>{absent}<td>{self.kind(member)}"
                     f"{'<br>' if said else ''}{said}")
            if "properties" in inner:
                self.members(inner, f"{prefix}{name}{'[]' if 'items' in member else ''}.")

    def table(self, caption, rows, kind=""):
        if rows:
            self.put(f"<table{kind}>{f'<caption>{caption}</caption>' if caption else ''}<tbody>")
            for name, value in rows:
                self.put(f"<tr><th scope=row>{name}<td>{value}")
            self.put("</table>")

    # ---- Operations ----

    def content(self, content):
        said = []
        for kind, media in content.items():
            shown = html.escape("octets" if kind == "*/*" else kind)
            said.append(f"{self.kind(media['schema'])} <span class=weak>{shown}</span>" if "schema" in media else shown)
        return ", or ".join(said)

    def who(self, operation):
        security = operation.get("security")
        if security == []:
            said = "Open to all."
        elif security:
            said = "Console session only."
        else:
            said = "API key or console session."
        if operation.get("x-scope"):
            said += f" A key needs the scope <code>{html.escape(operation['x-scope'])}</code>."
        if operation.get("x-owners-only"):
            said += " Owners of the account only."
        return said

    def parameters(self, item, operation):
        found = [self.resolved(p) for p in item.get("parameters", []) + operation.get("parameters", [])]
        return [(f"<code>{html.escape(p['name'])}</code> <span class=weak>{p['in']}</span>",
                 self.kind(p["schema"]) + (f"<br>{text(p['description'])}" if "description" in p else "")) for p in found]

    def responses(self, operation):
        """What it answers, and what it refuses with: the latter is much alike everywhere."""
        rows, refusals = [], []
        for status, response in operation["responses"].items():
            response = self.resolved(response)
            problem = "application/problem+json" in response.get("content", {})
            body = "" if problem or "content" not in response else f"<br>{self.content(response['content'])}"
            shown = f"<code>{html.escape('other' if status == 'default' else status)}</code>"
            (rows if status < "4" else refusals).append((shown, text(response["description"]) + body))
        self.table("Answers", rows, " class=answers")
        if refusals:
            self.put(f"<details><summary>Errors {' '.join(shown for shown, _ in refusals)}</summary>")
            self.table("", refusals, " class=answers")
            self.put("</details>")

    @staticmethod
    def link(path, item, method, operation):
        prefix = "" if item.get("servers") else "/v1"
        shown = html.escape(prefix + path).replace("/", "/<wbr>").replace("<wbr>", "", 1)
        return (f'<a href="#{html.escape(operation["operationId"])}"><span class="method {method}">{method}</span> '
                f"<span class=path>{shown}</span></a>")

    def operation(self, path, item, method, operation):
        self.put(f'<h3 id="{html.escape(operation["operationId"])}">{self.link(path, item, method, operation)}</h3>')
        more = f" {text(operation['description'])}" if "description" in operation else ""
        self.put(f"<p>{text(operation['summary'])}.{more} <span class=weak>{self.who(operation)}</span></p>".replace("?.", "?"))
        self.table("Parameters", self.parameters(item, operation))
        if "requestBody" in operation:
            body = self.resolved(operation["requestBody"])
            need = "" if body.get("required") else "; may be absent"
            self.put(f"<p>Body: {self.content(body['content'])}{need}</p>")
        self.responses(operation)

    def tagged(self, tag):
        return [(path, item, method, item[method]) for path, item in self.document["paths"].items()
                for method in METHODS if method in item and tag in item[method]["tags"]]

    # ---- The page ----

    @staticmethod
    def anchor(tag):
        return "tag-" + re.sub(r"\W+", "-", tag.lower())

    def navigation(self):
        """Of a wide page the operations too; on a narrow one each part begins with its own."""
        self.put("<nav aria-label=Contents><ul>")
        for tag in self.document["tags"]:
            self.put(f'<li><a href="#{self.anchor(tag["name"])}">{html.escape(tag["name"])}</a><ul>')
            for row in self.tagged(tag["name"]):
                self.put(f"<li>{self.link(*row)}")
            self.put("</ul>")
        self.put('<li><a href="#schemas">Objects</a></ul></nav>')

    def part(self, tag):
        anchor = self.anchor(tag["name"])
        self.put(f'<h2 id="{anchor}"><a href="#{anchor}">{html.escape(tag["name"])}</a></h2>')
        if "description" in tag:
            self.put(f"<p>{text(tag['description'])}</p>")
        rows = self.tagged(tag["name"])
        self.put("<ul class=operations>")
        for row in rows:
            self.put(f"<li>{self.link(*row)}")
        self.put("</ul>")
        for row in rows:
            self.operation(*row)

    def schemas(self):
        self.put('<h2 id=schemas><a href="#schemas">Objects</a></h2>')
        for name, schema in self.document["components"]["schemas"].items():
            if "properties" not in schema:
                continue
            shown = html.escape(name)
            self.put(f'<h3 id="schema-{shown}"><a href="#schema-{shown}">{shown}</a></h3>')
            if "description" in schema:
                self.put(f"<p>{text(schema['description'])}</p>")
            self.put(f"<table><caption class=weak>Members</caption><tbody>")
            self.members(schema)
            self.put("</table>")

    def make(self):
        info = self.document["info"]
        title = html.escape(info["title"])
        self.put(f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'><title>{title}: API</title>")
        self.put(f"<style>{STYLE}</style>")
        self.navigation()
        self.put(f"<main><h1>{title}: API</h1><p>{text(info['summary'])}</p><p>{text(info['description'])}</p>")
        self.put('<p>For programs: <a href="/openapi.json">openapi.json</a> (OpenAPI 3.1).</p>')
        for scheme in self.document["components"]["securitySchemes"].values():
            self.put(f"<p>{text(scheme['description'])}</p>")
        for tag in self.document["tags"]:
            self.part(tag)
        self.schemas()
        self.put("</main></html>")
        return "\n".join(self.out).encode()


def page(document):
    return Page(document).make()


def policy():
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
