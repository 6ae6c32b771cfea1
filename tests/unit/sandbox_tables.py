"""The tables of common/sandbox_calls.c hold on ARM64 what they hold on x86-64, where they are written and tested.

ARM64 has the kernel's generic list of calls: not open, stat, poll or epoll_wait, but openat, newfstatat, ppoll, epoll_pwait, and
its libc uses those. So each call of an #ifdef must have such a successor in the same filter with the same verdict, and a call
outside must be on the generic list.

Usage: sandbox_tables.py SOURCE COMPILER-WORD..."""

import re
import subprocess
import sys

SUCCESSORS = {
    "access": "faccessat", "dup2": "dup3", "epoll_wait": "epoll_pwait", "eventfd": "eventfd2", "getdents": "getdents64",
    "lstat": "newfstatat", "mknod": "mknodat", "open": "openat", "pipe": "pipe2", "poll": "ppoll", "readlink": "readlinkat",
    "select": "pselect6", "stat": "newfstatat", "time": "clock_gettime", "unlink": "unlinkat",
}
X86_ONLY = {"ioperm", "iopl"}
SHARED_BY_ALL_BUT = {"COMMON": {"MASTER"}}  # a table of other filters too, and of which not


def generic_calls(compiler):
    """As asm/unistd.h of ARM64 asks for it."""
    wants = ["RENAMEAT", "NEW_STAT", "SET_GET_RLIMIT", "SYS_CLONE3"]
    command = [*compiler, "-E", "-dM", *("-D__ARCH_WANT_" + want for want in wants), "-x", "c", "-"]
    done = subprocess.run(command, input="#include <asm-generic/unistd.h>\n", capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        print("skipped: no asm-generic/unistd.h")
        sys.exit(77)
    return set(re.findall(r"^#define __NR_(\w+) ", done.stdout, re.M))


def tables(source):
    """Of each table its calls: (name, verdict, the name that its #ifdef asks for or None)."""
    for name, body in re.findall(r"^static const struct call (\w+)\[\] = \{(.*?)END\};", source, re.M | re.S):
        condition, calls = None, []
        for line in re.sub(r"/\*.*?\*/", "", body, flags=re.S).splitlines():
            if line.startswith("#"):
                ifdef = re.fullmatch(r"#ifdef __NR_(\w+)|#endif", line)
                assert ifdef, f"{name}: what is {line}?"
                condition = ifdef[1]
            for kind, call in re.findall(r"\b(IF|MAY|NOT|DEADLY|MISSING)\((\w+)", line):
                calls.append((call, "MAY" if kind == "IF" else kind, condition))
        yield name, calls


def complaints(all_tables, generic):
    everywhere = {table: {(call, verdict) for call, verdict, condition in calls if not condition} for table, calls in all_tables.items()}
    for table, calls in all_tables.items():
        there = set(everywhere[table])
        for shared, but in SHARED_BY_ALL_BUT.items():
            there |= set() if table in but else everywhere[shared]
        for call, verdict, condition in calls:
            if not condition:
                if call not in generic:
                    yield f"{table}: ARM64 has no {call}: it belongs into an #ifdef"
            elif call in generic or condition in generic:
                yield f"{table}: ARM64 has {call} or {condition}, too: no #ifdef may keep it from there"
            elif call not in X86_ONLY and (SUCCESSORS.get(call), verdict) not in there:
                yield f"{table}: {verdict}({call}), but not {verdict}({SUCCESSORS.get(call, '?')}), which ARM64 has instead"


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        all_tables = dict(tables(f.read()))
    assert {"COMMON", "TRIED", "WORKER", "ZYGOTE", "KEYS", "MASTER"} <= all_tables.keys(), all_tables.keys()
    found = list(complaints(all_tables, generic_calls(sys.argv[2:])))
    print(*found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
