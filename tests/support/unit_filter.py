"""Runs a program under the filter of system calls that a unit gives its service, where no systemd is there to do it:
python3 unit_filter.py FILE.service PROGRAM WORDS... What the sets contain is asked of systemd-analyze."""

import ctypes
import functools
import os
import pathlib
import re
import struct
import subprocess
import sys

LOAD_NR, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # of the kernel's packet filter machine
ALLOW, REFUSE_EPERM = 0x7FFF0000, 0x00050001
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2


@functools.lru_cache(maxsize=None)
def members(word):
    if not word.startswith("@"):
        return frozenset([word])
    said = subprocess.run(["systemd-analyze", "syscall-filter", word], capture_output=True, text=True, check=True).stdout
    words = [line.strip() for line in said.splitlines()[1:] if line.strip() and not line.strip().startswith("#")]
    return frozenset().union(*map(members, words))


def allowed(unit):
    """The lines of a list that begins with what is allowed, in their order; systemd adds @default."""
    names = members("@default")
    for line in re.findall(r"^SystemCallFilter=(.*)$", unit, re.M):
        named = frozenset().union(*map(members, line.lstrip("~").split()))
        names = names - named if line.startswith("~") else names | named
    return names


def numbers():
    said = subprocess.run(["cc", "-E", "-dM", "-include", "sys/syscall.h", "-x", "c", "/dev/null"], capture_output=True, text=True, check=True).stdout
    return {name: int(number) for name, number in re.findall(r"^#define __NR_(\w+) (\d+)$", said, re.M)}


def program(calls):
    steps = [(LOAD_NR, 0, 0, 0)]
    for number in calls:
        steps += [(JUMP_IF_EQUAL, 0, 1, number), (RETURN, 0, 0, ALLOW)]
    steps.append((RETURN, 0, 0, REFUSE_EPERM))
    return b"".join(struct.pack("=HBBI", *step) for step in steps), len(steps)


def main(unit, *words):
    known = numbers()
    code, length = program(known[name] for name in allowed(pathlib.Path(unit).read_text()) if name in known)
    room = ctypes.create_string_buffer(code, len(code))
    described = struct.pack("@HP", length, ctypes.addressof(room))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, described, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "no filter")
    os.execvp(words[0], words)


if __name__ == "__main__":
    main(*sys.argv[1:])
