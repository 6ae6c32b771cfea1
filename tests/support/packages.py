"""Debian packages that tests use without installing them: downloaded once, unpacked where they are wanted."""

import fcntl
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = ROOT / "build-packages"


class Missing(Exception):
    """Why a program cannot run on this machine."""


def unpack(package, into):
    """The version that apt offers, from the cache if it is there; with the archive out of reach, what the cache has."""
    CACHE.mkdir(exist_ok=True)
    with open(CACHE / "lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another pytest's unpack()
        done = subprocess.run(["apt-get", "-q", "download", package], cwd=CACHE, capture_output=True, text=True, timeout=300)
        found = sorted(CACHE.glob(package + "_*.deb"), key=os.path.getmtime)
        if not found:
            raise Missing(f"apt-get download {package}: {done.stderr.strip()[-300:]}")
        subprocess.run(["dpkg", "-x", found[-1], into], check=True, capture_output=True, timeout=60)
