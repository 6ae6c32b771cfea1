"""Turns the "-- name: x" blocks of queries/NAME.sql into NAME_stmts.c and NAME_stmts.h (struct pg_stmt, common/pg.h).

A block runs from its "-- name:" line to the next one or the end of the file; other comment lines are left out of the text sent
to the server, and the closing semicolon with them. "reads" behind the name says that the statement changes and locks nothing: it may then
share a round trip with others (pg_query()). Lines before the first block may only be blank or comments.

usage: queries.py NAME INPUT.sql OUTPUT.c OUTPUT.h
"""
import re
import sys

NAME_LINE = re.compile(r"^--\s*name:\s*(\S+)(\s+reads)?\s*$")
READS = re.compile(r"select\b(?!.*\bfor\s+(update|no\s+key|share|key\s+share)\b)", re.S)
NAME = re.compile(r"^[a-z][a-z0-9_]{0,59}$")


def fail(path, line, text):
    sys.exit(f"{path}:{line}: {text}")


def read_blocks(path):
    blocks = []
    seen = set()
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            line = line.rstrip()
            match = NAME_LINE.match(line)
            if match:
                name = match.group(1)
                if not NAME.match(name):
                    fail(path, number, f"bad statement name {name!r}")
                if name in seen:
                    fail(path, number, f"statement {name} is there twice")
                seen.add(name)
                blocks.append((name, number, bool(match.group(2)), []))
            elif line.lstrip().startswith("--") or not line.strip():
                continue
            elif not blocks:
                fail(path, number, "text before the first '-- name:' line")
            else:
                blocks[-1][3].append(line)
    statements = []
    for name, number, reads, lines in blocks:
        text = "\n".join(lines).strip()
        if text.endswith(";"):
            text = text[:-1].rstrip()
        if not text:
            fail(path, number, f"statement {name} is empty")
        # Only one statement can be prepared at a time. None of ours has a semicolon inside a literal.
        if ";" in text:
            fail(path, number, f"statement {name} has a semicolon inside")
        if reads and not READS.match(text):
            fail(path, number, f"statement {name} does more than read")
        statements.append((name, text, reads))
    return statements


def c_string(text):
    lines = text.split("\n")
    out = []
    for i, line in enumerate(lines):
        end = "\\n" if i + 1 < len(lines) else ""
        body = line.expandtabs(4).replace("\\", "\\\\").replace('"', '\\"')
        # A trigraph cannot appear in C17 without -trigraphs, but a warning about one can.
        out.append('"' + body.replace("??", '?""?') + end + '"')
    return ("\n\t       ").join(out)


def write_c(f, table, header, statements):
    f.write(f'/* Made by sql/queries.py. Do not edit. */\n#include "{header}"\n')
    for i, (name, text, reads) in enumerate(statements):
        f.write(f"\nconst struct pg_stmt STMT_{name.upper()} = {{\n")
        f.write(f'\t.name = "{name}",\n\t.sql = {c_string(text)},\n\t.index = {i},\n\t.reads = {str(reads).lower()},\n}};\n')
    f.write(f"\nconst struct pg_stmt *const {table}[] = {{\n")
    for name, _, _ in statements:
        f.write(f"\t&STMT_{name.upper()},\n")
    f.write("\tNULL,\n};\n")


def write_h(f, table, guard, statements):
    f.write(f"/* Made by sql/queries.py. Do not edit. */\n#ifndef {guard}\n#define {guard}\n\n")
    f.write('#include "common/pg.h"\n\n')
    for name, _, _ in statements:
        f.write(f"extern const struct pg_stmt STMT_{name.upper()};\n")
    f.write(f"\nextern const struct pg_stmt *const {table}[]; /* all of the above, NULL-terminated */\n\n#endif\n")


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    name, source, out_c, out_h = sys.argv[1:]
    statements = read_blocks(source)
    table = f"{name.upper()}_STMTS"
    with open(out_c, "w", encoding="utf-8") as f:
        write_c(f, table, f"{name}_stmts.h", statements)
    with open(out_h, "w", encoding="utf-8") as f:
        write_h(f, table, f"MINUTEMAIL_{name.upper()}_STMTS_H", statements)


if __name__ == "__main__":
    main()
