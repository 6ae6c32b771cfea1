"""Random messages signed by python3-dkim must verify with us, in any canonical form; after a change of one octet that is signed
they must not, unless python3-dkim still verifies them, too. usage: dkim_signed.py DKIM_CHECK COUNT [SEED]"""

import os
import pathlib
import random
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
try:
    import dkim
    from signer import ed25519_key, rsa_key, sign, zone_line
except ImportError as missing:
    print("skipped:", missing)
    sys.exit(77)

CHECK, COUNT = sys.argv[1], int(sys.argv[2])
SEED = int(sys.argv[3]) if len(sys.argv) > 3 else random.SystemRandom().randrange(1 << 32)
r = random.Random(SEED)
KEYS = {"rsa": rsa_key(), "ed": ed25519_key()}
FORMS = (b"simple", b"relaxed")


def blanks():
    return r.choice(["", " ", "  ", "\t", " \t "])


def value():
    words = ["".join(chr(r.randrange(33, 127)) for _ in range(r.randrange(1, 12))) for _ in range(r.randrange(1, 8))]
    return "".join(word + r.choice([" ", "  ", "\r\n ", "\r\n\t ", " \r\n  "]) for word in words[:-1]) + words[-1] + blanks()


def header():
    names = ["To", "Cc", "Subject", "Date", "Message-ID", "X-One", "x-one", "Reply-To", "Received", "MIME-Version"]
    fields = [f"{name}:{blanks()}{value()}\r\n" for name in r.choices(names, k=r.randrange(0, 12))]
    fields.insert(r.randrange(len(fields) + 1), f"From:{blanks()}A <a@good.example>{blanks()}\r\n")
    return "".join(fields)


def body():
    """Never ends in a blank without a line end: then python3-dkim keeps the blank, we drop it as of any line; DATA cannot send that."""
    lines = ["".join(r.choice(["a", "b", " ", "\t", "é", ".", "="]) for _ in range(r.randrange(0, 30))) for _ in range(r.randrange(0, 12))]
    return "".join(line + "\r\n" for line in lines) + r.choice(["", "\r\n\r\n", "no end", "\r\n \t\r\n"])


def signed():
    message = (header() + "\r\n" + body()).encode()
    selector = r.choice(list(KEYS))
    options = {"canonicalize": (r.choice(FORMS), r.choice(FORMS)), "length": r.random() < 0.2}
    return sign(message, KEYS[selector][0], "good.example", selector, b"rsa-sha256" if selector == "rsa" else b"ed25519-sha256", **options)


def changed(message):
    """One octet; no blank before a colon, which python3-dkim takes for no field at all, signed or not."""
    at = r.randrange(len(message))
    choice = b"abcXYZ059=;:" if message[at + 1:at + 2] == b":" else b"abcXYZ059 \t=;:"
    octet = bytes([r.choice([c for c in choice if c != message[at]])])
    return message[:at] + octet + message[at + 1:]


def theirs(message):
    try:
        return dkim.verify(message, dnsfunc=lambda name, timeout=5: KEYS[name.split(b".")[0].decode()][1].encode())
    except Exception:  # whatever it raises, it did not verify
        return False


def main():
    print("seed", SEED)
    with tempfile.NamedTemporaryFile("w", delete=False) as zone:
        zone.write("".join(zone_line(f"{selector}._domainkey.good.example", record) for selector, (_, record) in KEYS.items()))
    faults = changes = refused = 0
    with subprocess.Popen([CHECK, zone.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as check:
        def ours(message):
            check.stdin.write(b"%d\n" % len(message) + message)
            check.stdin.flush()
            return check.stdout.readline().decode().strip()

        for _ in range(COUNT):
            message = signed()
            verdict = ours(message)
            if verdict != "pass":
                faults += 1
                print("signed, but:", verdict, "| theirs:", theirs(message), message)
            for _ in range(3):
                other = changed(message)
                verdict, expected = ours(other), theirs(other)
                changes += 1
                refused += verdict != "pass"
                if verdict == "pass" and not expected:
                    faults += 1
                    print("changed, but passes:", other)
        check.stdin.close()
    os.unlink(zone.name)
    print(f"{COUNT} signed messages, {changes} changes of which {refused} refused, {faults} faults")
    if faults or refused < changes // 2:
        sys.exit(1)


main()
