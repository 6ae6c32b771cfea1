#!/usr/bin/env python3
"""compare.py MIME_DUMP [COUNT [SEED]]: generated messages through our parser (mime_dump) and through Python's email package; what
they make of parts, names, contents, subject and addresses must be the same. Where Python is known to differ, EXPLAINED says how
and why; a difference that no entry covers fails, and so does an entry that covers none."""

import collections
import email
import email.policy
import hashlib
import json
import subprocess
import sys

from generate import Generator

POLICY = email.policy.default.clone(max_line_length=None)


# ---- what Python makes of a message ----

def leaves(part, container=None):
    """Without the inside of messages in messages: to us they are one file."""
    if part.get_content_maintype() == "multipart":
        for child in part.get_payload():
            yield from leaves(child, part.get_content_subtype())
    else:
        yield part, container


def written_again(message):
    return message.as_bytes(policy=email.policy.compat32.clone(linesep="\r\n", max_line_length=0))


def octets(part):
    """Of a message in a message Python keeps no octets: what it writes again stands for them (see of_ours())."""
    return written_again(part.get_payload(0)) if part.get_content_maintype() == "message" else part.get_payload(decode=True)


def is_shown(part, container):
    """The rule of mime_body.c, told again."""
    if part.get_content_disposition() == "attachment" or part.get_filename() or part.get_content_maintype() != "text":
        return False
    return part.get_content_subtype() in ("plain", "html") or container not in ("alternative", "related")


def join(text, more):
    if not text or not more:
        return text + more
    return text + ("\n" if text.endswith("\n") else "\n\n") + more


def addresses(message, name):
    header = message[name]
    return [address.addr_spec for address in header.addresses] if header is not None else []


def of_python(source):
    message = email.message_from_bytes(source, policy=POLICY)
    sender = message["from"].addresses[0]
    made = {"subject": str(message["subject"]), "from": sender.addr_spec, "fromName": sender.display_name,
            "to": addresses(message, "to"), "cc": addresses(message, "cc"), "replyTo": addresses(message, "reply-to")}
    made["parts"], bodies = [], {"plain": None, "html": None}
    for part, container in leaves(message):
        content = octets(part)
        if is_shown(part, container):
            kind = "html" if part.get_content_subtype() == "html" else "plain"
            bodies[kind] = join(bodies[kind] or "", content.decode(part.get_content_charset("utf-8"), "replace"))
            continue
        content_id = part["content-id"]
        made["parts"].append({"name": part.get_filename(), "type": part.get_content_type(), "size": len(content),
                              "sha256": hashlib.sha256(content).hexdigest(),
                              "contentId": str(content_id).strip("<> ") if content_id else None})
    made["text"], made["html"] = bodies["plain"], bodies["html"]
    return made


# ---- what we make of it ----

def of_ours(line, source):
    made = json.loads(line)
    if "text_from_html" in made["warnings"]:
        made["text"] = None
    made["fromName"] = made["fromName"] or ""
    for part in made["parts"]:
        part["name"] = None if part["unnamed"] else part["rawName"] or part["name"]
        if part["type"] == "message/rfc822":
            inner = source[int(part["offset"]):int(part["offset"]) + int(part["length"])]
            assert hashlib.sha256(inner).hexdigest() == part["sha256"]
            again = written_again(email.message_from_bytes(inner, policy=POLICY))
            part["size"], part["sha256"] = len(again), hashlib.sha256(again).hexdigest()
    return made


def ours(program, sources):
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for source in sources:
            process.stdin.write(b"%d\n" % len(source) + source)
            process.stdin.flush()
            yield of_ours(process.stdout.readline(), source)
        process.stdin.close()
    assert process.returncode == 0, process.returncode


# ---- the comparison ----

def differences(a, b):
    """(member, ours, Python's) of each."""
    for member in ("subject", "from", "fromName", "to", "cc", "replyTo", "text", "html"):
        if a[member] != b[member]:
            yield member, a[member], b[member]
    if len(a["parts"]) != len(b["parts"]):
        yield "count", len(a["parts"]), len(b["parts"])
    for x, y in zip(a["parts"], b["parts"]):
        for member in ("name", "type", "size", "sha256", "contentId"):
            if x[member] != y[member]:
                yield member, x[member], y[member]


def loose_phrase(member, mine, theirs, source):
    return member == "fromName" and "".join(mine.split()) == "".join(theirs.split())


def split_character(member, mine, theirs, source):
    if member != "name" or "\ufffd" not in theirs:
        return False
    return mine in [part.get_filename() for part in email.message_from_bytes(source).walk()]


EXPLAINED = [
    ("Python's default policy converts each RFC 2231 section by itself and loses a character that is split between two, which its "
     "compat32 policy reads as we do", split_character),
    ("Python puts blanks between adjacent encoded words of a phrase, which RFC 2047 6.2 forbids", loose_phrase),
]


def explain(member, mine, theirs, source):
    for name, covers in EXPLAINED:
        if covers(member, mine, theirs, source):
            return name
    return None


def main():
    program, count, seed = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 600, int(sys.argv[3]) if len(sys.argv) > 3 else 1
    sources = [Generator(seed * 1000000 + i).message() for i in range(count)]
    used, wrong, compared = collections.Counter(), 0, 0
    for i, (source, mine) in enumerate(zip(sources, ours(program, sources))):
        theirs = of_python(source)
        compared += 8 + 5 * len(theirs["parts"])
        harmless = {"text_from_html"} | ({"bare_newline"} if b"\r\n" not in source else set())
        if set(mine["warnings"]) - harmless:
            print(f"message {i} is valid, but: {mine['warnings']}")
            wrong += 1
        for member, a, b in differences(mine, theirs):
            why = explain(member, a, b, source)
            used[why] += 1
            if not why:
                wrong += 1
                print(f"message {i}: {member}: {str(a)[:300]!r}, Python has {str(b)[:300]!r}")
    for name, _ in EXPLAINED:
        print(f"{used[name]} times: {name}" if used[name] else f"an explanation that nothing needed: {name}")
        wrong += used[name] == 0
    print(f"{count} messages, {compared} members compared, {wrong} unexplained")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
