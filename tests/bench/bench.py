"""What the benches share: building their C programs, the messages they send, and counting CPU time by process.

Figures of one run may be compared with each other; figures of two runs only if nothing else was running."""

import base64
import json
import os
import pathlib
import random
import re
import resource
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

# Asked to end, a bench ends what it started.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

TICK = os.sysconf("SC_CLK_TCK")
WORDS = ("the of and to in is that for it as was with be by on not he his but at are this have from or had an they which one you were "
         "all her she there would their we him been has when who will no more if out so up said what its about than into them can only "
         "other time new some could these two may first then do any like my now over such our man me even most made after also did many "
         "account password confirm address click link order invoice number delivery welcome please team service mailbox").split()


def tools():
    """The directory with smtp_load, ceiling and digests; built here unless the environment names one."""
    given = os.environ.get("MINUTEMAIL_BENCH_TOOLS")
    if given:
        return pathlib.Path(given)
    names = ["tests/bench/smtp_load", "tests/bench/ceiling", "tests/bench/digests"]
    script = (f'set -euo pipefail; program=tests/bench; root={str(ROOT)!r}; . "$root/deploy/lib.sh"; '
              'install_packages "${BUILD_PACKAGES[@]}" "$(llhttp_package)" "${RUN_PACKAGES[@]}" "${TEST_PACKAGES[@]}"; '
              '[ -f "$root/build-bench/build.ninja" ] || meson setup "$root/build-bench" "$root" --buildtype=release >&2; '
              f'ninja -C "$root/build-bench" {" ".join(names)} >&2')
    subprocess.run(["bash", "-c", script], check=True, stdin=subprocess.DEVNULL)
    return ROOT / "build-bench" / "tests" / "bench"


def install(*lists):
    """Installs package lists of deploy/lib.sh by name."""
    arrays = " ".join(f'"${{{name}[@]}}"' for name in lists)
    subprocess.run(["bash", "-c", f'set -euo pipefail; program=tests/bench; root={str(ROOT)!r}; . "$root/deploy/lib.sh"; '
                    f'install_packages {arrays}'], check=True, stdin=subprocess.DEVNULL)


def prose(generator, octets):
    """Lines of words: as compressible as mail is."""
    lines, line, total = [], "", 0
    while total < octets:
        word = generator.choice(WORDS)
        if len(line) + len(word) > 70:
            lines.append(line)
            total += len(line) + 2
            line = ""
        line += (" " if line else "") + word
    return "\r\n".join(lines) + "\r\n"


def two_parts(size, seed=1):
    """text/plain and text/html, about `size` octets together, with the mark that smtp_load makes each message unique by."""
    generator = random.Random(seed)
    text = prose(generator, size * 4 // 10)
    html = "<html><body>\r\n" + "".join(f"<p>{line}</p>\r\n" for line in prose(generator, size * 4 // 10).split("\r\n")) + "</body></html>\r\n"
    return ("From: Load <load@example.org>\r\nTo: someone@example.org\r\nSubject: Message @SEQUENCE@@@ of the load\r\n"
            "Message-ID: <@SEQUENCE@@@@load.example.org>\r\nDate: Tue, 24 Nov 2026 12:00:00 +0000\r\nMIME-Version: 1.0\r\n"
            "Content-Type: multipart/alternative; boundary=\"parts\"\r\n\r\n--parts\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
            f"{text}\r\n--parts\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{html}\r\n--parts--\r\n").encode()


def with_attachment(size, seed=2):
    """A short text and a base64 attachment that does not compress, about `size` octets together."""
    octets = random.Random(seed).randbytes(size * 57 // 78)
    coded = base64.b64encode(octets)
    body = b"".join(coded[i:i + 76] + b"\r\n" for i in range(0, len(coded), 76))
    return (b"From: Load <load@example.org>\r\nTo: someone@example.org\r\nSubject: Message @SEQUENCE@@@ of the load\r\nMIME-Version: 1.0\r\n"
            b"Content-Type: multipart/mixed; boundary=\"parts\"\r\n\r\n--parts\r\nContent-Type: text/plain\r\n\r\nSee the file.\r\n"
            b"--parts\r\nContent-Type: application/octet-stream; name=\"data.bin\"\r\nContent-Disposition: attachment; filename=\"data.bin\"\r\n"
            b"Content-Transfer-Encoding: base64\r\n\r\n" + body + b"--parts--\r\n")


class Cpu:
    """User and system time of a process tree in microseconds, split by role, as a difference between two looks."""

    def __init__(self, system):
        self.system = system
        self.beside = {}  # further programs: role -> pid, with its children

    def look(self):
        parents, times, ended, names = {}, {}, {}, {}
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                stat = (entry / "stat").read_text()
                names[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            fields = stat.rpartition(")")[2].split()
            parents[int(entry.name)] = int(fields[1])
            times[int(entry.name)] = (int(fields[11]) + int(fields[12])) * 1_000_000 // TICK
            # Of children that have ended and been waited for; of PostgreSQL's, sessions are what comes and goes.
            ended[int(entry.name)] = (int(fields[13]) + int(fields[14])) * 1_000_000 // TICK
        roles = {}
        for pid in times:
            role = self.role(pid, parents, names)
            if role:
                roles[role] = roles.get(role, 0) + times[pid]
                heir = "postgres sessions" if role == "postgres other" else role
                roles[heir] = roles.get(heir, 0) + ended[pid]
        return roles

    def role(self, pid, parents, names):
        """smtpd: master and workers; parser: what the workers fork; postgres: sessions of our roles, and the rest apart."""
        chain = [pid]
        while chain[-1] in parents:
            chain.append(parents[chain[-1]])
        for name, root in {**self.system.info["pids"], **self.beside}.items():
            if root not in chain:
                continue
            depth = chain.index(root)
            if name == "smtpd":
                return "smtpd" if depth <= 1 else "parser"
            if name == "postgres":
                # By the role, which comes first; an autovacuum worker names the database, too.
                ours = depth and names[pid].split("postgres:")[-1].lstrip().startswith("minutemail_")
                return "postgres sessions" if ours else "postgres other"
            return name
        return None

    def measure(self, work):
        """Runs work(); returns its result and microseconds by role. Sessions that are just ending are nobody's for a moment."""
        time.sleep(0.5)
        before = self.look()
        result = work()
        time.sleep(0.5)
        after = self.look()
        return result, {role: after[role] - before.get(role, 0) for role in after}

    def measure_all(self, work):
        """Likewise, with where all cores' time went while work() ran: of its own programs ("client"), of other programs and the kernel's
        own threads ("other"), and of nobody ("idle"). Also the share of each role."""
        machine = {}

        def timed():
            own, idle, begin = own_children_us(), idle_us(), time.monotonic()
            one = work()
            machine["all"] = (time.monotonic() - begin) * os.cpu_count() * 1e6
            machine["idle"] = min(machine["all"], idle_us() - idle)
            machine["client"] = own_children_us() - own
            return one

        result, used = self.measure(timed)
        used["client"] = machine["client"]
        used["other"] = max(0, machine["all"] - machine["idle"] - sum(used.values()))
        used["idle"] = machine["idle"]
        return result, used, {role: round(us / machine["all"], 2) for role, us in used.items()}


def own_children_us():
    """CPU time of what this program has run and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) * 1e6


def idle_us():
    """That cores have been idle, all together."""
    fields = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return (int(fields[4]) + int(fields[5])) * 1e6 / TICK


def memory(pids):
    """Proportional set size, in octets."""
    total = 0
    for pid in pids:
        rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += int(re.search(r"^Pss:\s+(\d+) kB", rollup, re.M).group(1)) * 1024
    return total


def many_descriptors():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def per_unit(cpu, units):
    return {role: round(used / max(units, 1), 1) for role, used in sorted(cpu.items())}


def run_json(*words, **options):
    """A C program of ours; its one line of JSON."""
    done = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, text=True, timeout=900, **options)
    if not done.stdout.strip():
        raise RuntimeError(f"{words[0]} printed nothing (status {done.returncode})")
    return json.loads(done.stdout)
