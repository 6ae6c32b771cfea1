"""The messages that the tests send."""

import base64
import random
import zlib


def pixel_png(width=16):
    """A small real PNG, made here."""
    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
    rows = b"".join(b"\0" + bytes([x * 8 % 256, 80, 160] * width) for x in range(width))
    header = width.to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def lines(octets, width=76):
    text = base64.b64encode(octets)
    return b"".join(text[i:i + width] + b"\r\n" for i in range(0, len(text), width))


def plain(subject="Hello", body=b"It works.\r\n", extra=b"", to=b"someone@example.org"):
    return (b"From: Sender Name <sender@example.org>\r\nTo: " + to + b"\r\nSubject: " + subject.encode() + b"\r\n" + extra +
            b"Date: Tue, 24 Nov 2026 12:00:00 +0000\r\nMessage-ID: <m1@example.org>\r\n\r\n" + body)


SUBJECT = "Привет, мир: счёт № 42 — оплачен ✓ и ещё немного слов, чтобы тема не поместилась в одно кодовое слово"
TEXT = "Здравствуйте!\n\nСумма: 1 000 ₽.\n.точка в начале строки\nКонец.\n"
HTML = '<html><body><p>Здравствуйте!</p><img src="cid:logo@example.org"><p>Сумма: <b>1&nbsp;000 ₽</b></p></body></html>\n'
ATTACHMENT_NAME = "Отчёт за ноябрь – «итог» 日本.pdf"
IMAGE = pixel_png()
ATTACHMENT = random.Random(5).randbytes(5 * 1024 * 1024)


def encoded_words(text):
    """RFC 2047 words of at most 75 octets, split between characters, folded: decoders must join them without the blanks."""
    words, piece = [], ""
    for character in text:
        if len(base64.b64encode((piece + character).encode())) > 60:
            words.append(piece)
            piece = ""
        piece += character
    words.append(piece)
    return b"\r\n ".join(b"=?UTF-8?B?" + base64.b64encode(word.encode()) + b"?=" for word in words)


def rfc2231(name, value, width=50):
    """A parameter in RFC 2231 continuations, percent-encoded UTF-8."""
    encoded = "".join(f"%{octet:02X}" for octet in value.encode())
    pieces = [encoded[i:i + width - width % 3] for i in range(0, len(encoded), width - width % 3)]
    return b"".join(f";\r\n {name}*{i}*=".encode() + (b"utf-8''" if i == 0 else b"") + piece.encode()
                    for i, piece in enumerate(pieces))


def newsletter():
    """The one that must come back exact in every form: Cyrillic subject, text, HTML, inline image, 5 MB attachment with a name
    beyond ASCII."""
    crlf_text = TEXT.replace("\n", "\r\n").encode()
    crlf_html = HTML.replace("\n", "\r\n").encode()
    return b"".join([
        b"From: ", encoded_words("Служба счетов"), b" <billing@example.org>\r\n",
        b"To: ", encoded_words("Иван Петров"), b" <ivan@example.org>, second@example.org\r\n",
        b"Cc: third@example.org\r\nReply-To: answers@example.org\r\n",
        b"Subject: ", encoded_words(SUBJECT), b"\r\n",
        b"Date: Tue, 24 Nov 2026 12:00:00 +0000\r\nMessage-ID: <n1@example.org>\r\nMIME-Version: 1.0\r\n",
        b"Content-Type: multipart/mixed; boundary=\"outer\"\r\n\r\nThis is a message in parts.\r\n",
        b"--outer\r\nContent-Type: multipart/alternative; boundary=\"choice\"\r\n\r\n",
        b"--choice\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n", crlf_text,
        b"--choice\r\nContent-Type: multipart/related; boundary=\"related\"\r\n\r\n",
        b"--related\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n", lines(crlf_html),
        b"--related\r\nContent-Type: image/png; name=\"logo.png\"\r\nContent-Disposition: inline; filename=\"logo.png\"\r\n",
        b"Content-ID: <logo@example.org>\r\nContent-Transfer-Encoding: base64\r\n\r\n", lines(IMAGE),
        b"--related--\r\n--choice--\r\n",
        b"--outer\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment", rfc2231("filename", ATTACHMENT_NAME),
        b"\r\nContent-Transfer-Encoding: base64\r\n\r\n", lines(ATTACHMENT),
        b"--outer--\r\nWhat follows the last boundary.\r\n",
    ])


def tnef(*files):
    """A winmail.dat: files are (name, octets)."""
    def attribute(level, number, data):
        return bytes([level]) + number.to_bytes(4, "little") + len(data).to_bytes(4, "little") + data + (sum(data) % 65536).to_bytes(2, "little")
    made = 0x223e9f78.to_bytes(4, "little") + b"\1\0" + attribute(1, 0x00069007, (1251).to_bytes(4, "little") + bytes(4))
    for name, octets in files:
        made += attribute(2, 0x00069002, bytes(14)) + attribute(2, 0x00018010, name.encode("cp1251") + b"\0")
        made += attribute(2, 0x0006800f, octets)
    return made


def with_attachments(*files, text=b"See the files.\r\n"):
    """files: (name, type, octets)."""
    parts = [b"--mix\r\nContent-Type: text/plain\r\n\r\n" + text]
    for name, kind, octets in files:
        parts.append(b"--mix\r\nContent-Type: " + kind.encode() + b"\r\nContent-Disposition: attachment; filename=\"" +
                     name.encode() + b"\"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + lines(octets))
    return (b"From: sender@example.org\r\nTo: someone@example.org\r\nSubject: Files\r\nMIME-Version: 1.0\r\n"
            b"Content-Type: multipart/mixed; boundary=mix\r\n\r\n" + b"".join(parts) + b"--mix--\r\n")
