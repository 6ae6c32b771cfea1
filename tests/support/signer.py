"""Keys and signed messages, by Debian's openssl and python3-dkim: an implementation of DKIM that is not ours."""

import base64
import subprocess

import dkim
import nacl.signing


def rsa_key(bits=2048):
    """The private key as PEM, the TXT record of the public one."""
    made = subprocess.run(["openssl", "genrsa", "-traditional", str(bits)], capture_output=True, check=True).stdout
    public = subprocess.run(["openssl", "rsa", "-pubout", "-outform", "DER"], input=made, capture_output=True, check=True).stdout
    return made, "v=DKIM1; k=rsa; p=" + base64.b64encode(public).decode()


def ed25519_key():
    key = nacl.signing.SigningKey.generate()
    return (base64.b64encode(bytes(key)), "v=DKIM1; k=ed25519; p=" + base64.b64encode(bytes(key.verify_key)).decode())


def sign(message, key, domain, selector, algorithm=b"rsa-sha256", **options):
    """The message with the signature in front."""
    return dkim.sign(message, selector.encode(), domain.encode(), key, signature_algorithm=algorithm, **options) + message


def zone_line(name, text):
    """A TXT record of a zone file, its text in strings of at most 200 octets."""
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return name + " TXT " + " ".join(f'"{quoted[i:i + 200]}"' for i in range(0, len(quoted), 200)) + "\n"
