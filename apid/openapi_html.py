"""The reference for people, /docs: one page without scripts, made of the document that openapi.py has put together. Its Content-
Security-Policy names the hash of its one style sheet and allows nothing else."""
import base64
import hashlib
import html
import re

METHODS = ("get", "post", "put", "patch", "delete")

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --weak: #667; }
@media (prefers-color-scheme: dark) { :root { --weak: #aab; } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 62rem; padding: 1rem 1.25rem 4rem; }
h1 { margin: .5rem 0; } h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); } h3 { margin: 2.5rem 0 .25rem; font-size: 1.05rem; }
code, .path { font-family: ui-monospace, monospace; font-size: .92em; } code { background: var(--soft); padding: .1em .3em; border-radius: .25em; }
.method { display: inline-block; min-width: 4.5em; font-weight: 700; text-transform: uppercase; }
.path { overflow-wrap: anywhere; } .weak { color: var(--weak); } nav ul { list-style: none; padding: 0; columns: 2 22rem; } nav li { break-inside: avoid; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem; } caption { text-align: left; font-weight: 600; padding: .25rem 0; }
th, td { text-align: left; vertical-align: top; padding: .3rem .75rem .3rem 0; border-top: 1px solid var(--line); overflow-wrap: anywhere; }
th { font-weight: 400; width: 13rem; } a { text-underline-offset: .15em; } h3 a { color: inherit; text-decoration: none; }
a:focus-visible { outline: 2px solid; outline-offset: 2px; }
@media (max-width: 40rem) { th { width: 8rem; } }
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

    def table(self, caption, rows):
        if rows:
            self.put(f"<table><caption>{caption}</caption><tbody>")
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
        rows = []
        for status, response in operation["responses"].items():
            response = self.resolved(response)
            problem = "application/problem+json" in response.get("content", {})
            body = "" if problem or "content" not in response else f"<br>{self.content(response['content'])}"
            rows.append((f"<code>{html.escape(status)}</code>", text(response["description"]) + body))
        return rows

    def operation(self, path, item, method, operation):
        name = html.escape(operation["operationId"])
        prefix = "" if item.get("servers") else "/v1"
        self.put(f'<h3 id="{name}"><a href="#{name}"><span class=method>{method}</span> <span class=path>{html.escape(prefix + path)}</span></a></h3>')
        more = f" {text(operation['description'])}" if "description" in operation else ""
        self.put(f"<p>{text(operation['summary'])}.{more} <span class=weak>{self.who(operation)}</span></p>".replace("?.", "?"))
        self.table("Parameters", self.parameters(item, operation))
        if "requestBody" in operation:
            body = self.resolved(operation["requestBody"])
            need = "" if body.get("required") else "; may be absent"
            self.put(f"<p>Body: {self.content(body['content'])}{need}</p>")
        self.table("Answers", self.responses(operation))

    def tagged(self, tag):
        return [(path, item, method, item[method]) for path, item in self.document["paths"].items()
                for method in METHODS if method in item and tag in item[method]["tags"]]

    # ---- The page ----

    def navigation(self):
        self.put("<nav aria-label=Contents><ul>")
        for tag in self.document["tags"]:
            for path, item, method, operation in self.tagged(tag["name"]):
                name = html.escape(operation["operationId"])
                prefix = "" if item.get("servers") else "/v1"
                self.put(f'<li><a href="#{name}"><span class=method>{method}</span> <span class=path>{html.escape(prefix + path)}</span></a>')
        self.put("</ul></nav>")

    def schemas(self):
        self.put("<h2 id=schemas>Objects</h2>")
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
        self.put(f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><title>{title}: API</title>")
        self.put(f"<style>{STYLE}</style><main><h1>{title}: API</h1><p>{text(info['summary'])}</p><p>{text(info['description'])}</p>")
        self.put('<p>For programs: <a href="/openapi.json">openapi.json</a> (OpenAPI 3.1).</p>')
        for scheme in self.document["components"]["securitySchemes"].values():
            self.put(f"<p>{text(scheme['description'])}</p>")
        self.navigation()
        for tag in self.document["tags"]:
            self.put(f"<h2>{html.escape(tag['name'])}</h2>")
            if "description" in tag:
                self.put(f"<p>{text(tag['description'])}</p>")
            for row in self.tagged(tag["name"]):
                self.operation(*row)
        self.schemas()
        self.put("</main></html>")
        return "\n".join(self.out).encode()


def page(document):
    return Page(document).make()


def policy():
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
