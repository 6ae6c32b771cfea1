"""Makes varied, valid MIME messages, the same ones for the same seed: nested multiparts, charsets, transfer encodings, file names in
every form that mailers use. Written octet by octet here, not by a library whose parser they will test."""

import base64
import quopri
import random
import uuid

WORDS = {
    "us-ascii": "Hello from the other side of a very plain test message with numbers 12345 and signs !#%&".split(),
    "utf-8": "Grüße Привет 你好 שלום нет ✓ 😀 Ärger naïve e\u0301t\u00e9 ﬁn plain words too".split(),
    "iso-8859-1": "Grüße à côté de l'été señor Ångström naïve ½ plain words".split(),
    "iso-8859-15": "prix 5 € œuvre Žižek plain".split(),
    "windows-1251": "Привет из Москвы счёт № 42 «итог» plain".split(),
    "koi8-r": "Привет мир ещё немного слов plain".split(),
    "windows-1255": "שלום עולם plain".split(),
    "iso-2022-jp": "こんにちは 世界 テスト plain".split(),
    "shift_jis": "こんにちは 世界 表示 plain".split(),
    "euc-jp": "日本語 の 手紙 plain".split(),
    "gb2312": "你好 世界 测试 plain".split(),
    "gb18030": "你好 世界 測試 plain".split(),
    "big5": "你好 世界 測試 許功蓋 plain".split(),
    "euc-kr": "안녕하세요 세계 plain".split(),
}
TYPES = ["application/octet-stream", "image/png", "application/pdf", "audio/ogg", "text/csv", "application/x-unknown"]
STEMS = ["report", "Отчёт за ноябрь", "naïve «file»", "日本語", "a b c", "semi;colon", "quote's", "comma, dot.", "x" * 90, "per%cent",
         "star*"]


class Generator:
    def __init__(self, seed):
        self.r = random.Random(seed)

    def chance(self, p):
        return self.r.random() < p

    def text(self, charset, words):
        return " ".join(self.r.choice(WORDS[charset]) for _ in range(words))

    # ---- header values ----

    def encoded_words(self, text, charset=None):
        """RFC 2047 words that split no character, folded at random between them."""
        charset = charset or self.r.choice([c for c in WORDS if c != "us-ascii" and can(text, c)] or ["utf-8"])
        words, piece = [], ""
        limit = self.r.randrange(6, 30)
        for character in text:
            if len((piece + character).encode(charset)) > limit:
                words.append(piece)
                piece = ""
            piece += character
        words.append(piece)
        label = self.r.choice([charset, charset.upper()])
        form = self.r.choice("BQ")
        made = [self.encoded_word(word.encode(charset), label, form) for word in words]
        return self.r.choice([b" ", b"\r\n ", b"\r\n\t"]).join(made)

    @staticmethod
    def encoded_word(octets, label, form):
        if form == "B":
            payload = base64.b64encode(octets)
        else:
            payload = b"".join(bytes([o]) if chr(o).isalnum() and o < 128 else b"_" if o == 32 else b"=%02X" % o for o in octets)
        return b"=?" + label.encode() + b"?" + form.encode() + b"?" + payload + b"?="

    def unstructured(self):
        charset = self.r.choice(list(WORDS))
        text = self.text(charset, self.r.randrange(1, 12))
        if charset == "us-ascii":
            return text.replace(" ", "\r\n ", 1).encode() if self.chance(0.3) else text.encode()
        return self.encoded_words(text, charset)

    def mailbox(self):
        address = self.r.choice([b"ann@example.org", b"b.c+d@sub.example.net", b'"odd local"@example.org', b"x@[192.0.2.1]",
                                 b"very.long.local-part_with=signs@xn--e1afmkfd.example"])
        form = self.r.randrange(6)
        if form == 0:
            return address
        if form == 1:
            return b"<" + address + b">"
        if form == 2:
            return b"Ann B. Smith <" + address + b">"
        if form == 3:
            return b'"Smith, Ann \\"AB\\"" <' + address + b">"
        if form == 4:
            return self.encoded_words(self.text("utf-8", 2), "utf-8") + b" <" + address + b">"
        return b"Ann (a comment (inside)) <" + address + b">"

    def address_list(self):
        boxes = [self.mailbox() for _ in range(self.r.randrange(1, 5))]
        if self.chance(0.2):
            group = b"A Group: " + b", ".join(boxes[:2]) + b";"
            boxes = [group] + boxes[2:]
        return self.r.choice([b", ", b",\r\n\t"]).join(boxes)

    # ---- parameters ----

    def parameter(self, name, value):
        """In one of the forms that can carry the value."""
        forms = ["2231", "pieces", "words"]
        if value.isascii() and "%" not in value:
            forms += ["quoted"] * 3 + ["quoted pieces"]
            if value.isalnum():
                forms.append("token")
        form = self.r.choice(forms)
        if form == "token":
            return b"; " + name + b"=" + value.encode()
        if form == "quoted":
            return b"; " + name + b'="' + value.encode() + b'"'
        if form == "quoted pieces":
            pieces = [value[i:i + 20] for i in range(0, len(value), 20)]
            return b"".join(b';\r\n\t%s*%d="%s"' % (name, i, p.encode()) for i, p in enumerate(pieces))
        if form == "words":
            return b"; " + name + b'="' + self.encoded_words(value, "utf-8").replace(b"\r\n", b"\r\n") + b'"'
        charset = self.r.choice([c for c in ("utf-8", "windows-1251", "iso-8859-1", "shift_jis") if can(value, c)])
        octets = value.encode(charset)
        percent = [b"%c" % o if chr(o).isalnum() and o < 128 else b"%%%02X" % o for o in octets]
        head = charset.encode() + b"'" + self.r.choice([b"", b"en"]) + b"'"
        if form == "2231":
            return b"; " + name + b"*=" + head + b"".join(percent)
        size = self.r.randrange(8, 25)
        pieces = [b"".join(percent[i:i + size]) for i in range(0, len(percent), size)]
        made = [b"%s*%d*=%s%s" % (name, i, head if i == 0 else b"", p) for i, p in enumerate(pieces)]
        if self.chance(0.2):
            self.r.shuffle(made)
        return b"".join(b";\r\n " + m for m in made)

    # ---- parts ----

    def encode(self, octets, text):
        """Returns the name of the encoding and the octets in it."""
        choices = ["base64", "quoted-printable"]
        if text and octets.isascii() and all(len(line) < 900 for line in octets.split(b"\n")):
            choices.append("7bit")
        if text:
            choices.append("8bit")
        encoding = self.r.choice(choices)
        if encoding == "base64":
            width = self.r.choice([76, 60, 72])
            coded = base64.b64encode(octets)
            return encoding, b"".join(coded[i:i + width] + b"\r\n" for i in range(0, len(coded), width))
        if encoding == "quoted-printable":
            if text:
                return encoding, quopri.encodestring(octets.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
            return encoding, b"".join(b"=%02X" % o + (b"=\r\n" if i % 20 == 19 else b"") for i, o in enumerate(octets))
        return encoding, octets

    def text_leaf(self):
        charset = self.r.choice(list(WORDS))
        kind = self.r.choice(["plain", "plain", "html"])
        lines = [self.text(charset, self.r.randrange(0, 9)) for _ in range(self.r.randrange(1, 7))]
        text = "\r\n".join(lines) + "\r\n"
        if kind == "html":
            text = "<html><body><p>" + text + "</p></body></html>\r\n"
        encoding, octets = self.encode(text.encode(charset), True)
        extra = self.r.choice([b"", b"; format=flowed", b";\r\n\tx-other=1"])
        label = self.r.choice([charset.encode(), b'"' + charset.upper().encode() + b'"'])
        fields = [b"Content-Type: text/" + kind.encode() + b"; charset=" + label + extra]
        fields.append(b"Content-Transfer-Encoding: " + encoding.encode())
        if self.chance(0.2):
            fields.append(b"Content-Disposition: inline")
        return fields, octets

    def file_leaf(self):
        kind = self.r.choice(TYPES)
        octets = self.r.randbytes(self.r.choice([0, 1, 2, 3, 100, 1000, 20000]))
        if kind.startswith("text/"):
            octets = self.text("us-ascii", 20).encode() + b"\r\n"
        encoding, coded = self.encode(octets, False)
        name = self.r.choice(STEMS) + self.r.choice([".bin", ".pdf", "", ".tar.gz"])
        where = self.r.randrange(4)
        fields = [b"Content-Type: " + kind.encode() + (self.parameter(b"name", name) if where in (0, 1) else b"")]
        if where in (1, 2):
            fields.append(b"Content-Disposition: " + self.r.choice([b"attachment", b"inline"]) + self.parameter(b"filename", name))
        if self.chance(0.3):
            fields.append(b"Content-ID: <" + str(uuid.UUID(int=self.r.getrandbits(128))).encode() + b"@example.org>")
        fields.append(b"Content-Transfer-Encoding: " + encoding.encode())
        self.r.shuffle(fields)
        return fields, coded

    def message_leaf(self, depth):
        return [b"Content-Type: message/rfc822"], self.message(depth + 1)

    def multipart(self, depth):
        kind = self.r.choice(["mixed", "mixed", "alternative", "related", "report"])
        boundary = self.r.choice(["b%d" % self.r.getrandbits(40), "=_%x'()+,-./:=?" % self.r.getrandbits(30),
                                  "a" * 60 + "%d" % self.r.randrange(1000)]).encode()
        body = self.r.choice([b"", b"This is a multi-part message.\r\n", b"--not a boundary\r\n"])
        for _ in range(self.r.randrange(1, 5)):
            fields, octets = self.entity(depth + 1)
            body += b"--" + boundary + self.r.choice([b"", b"", b" \t"]) + b"\r\n" + b"".join(f + b"\r\n" for f in fields)
            body += b"\r\n" + octets + b"\r\n"
        body += b"--" + boundary + b"--\r\n" + self.r.choice([b"", b"Epilogue\r\n"])
        return [b"Content-Type: multipart/" + kind.encode() + b';\r\n boundary="' + boundary + b'"'], body

    def entity(self, depth):
        x = self.r.random()
        if depth < 4 and x < (0.75 if depth == 0 else 0.25):
            return self.multipart(depth)
        if depth < 3 and x < 0.30:
            return self.message_leaf(depth)
        return self.text_leaf() if self.chance(0.5) else self.file_leaf()

    def message(self, depth=0):
        fields = [b"From: " + self.mailbox(), b"To: " + self.address_list(), b"Subject: " + self.unstructured(),
                  b"Date: Tue, 24 Nov 2026 12:00:00 +0000", b"MIME-Version: 1.0"]
        if self.chance(0.4):
            fields.append(b"Cc: " + self.address_list())
        if self.chance(0.2):
            fields.append(b"Reply-To: " + self.mailbox())
        more, body = self.entity(depth)
        made = b"".join(f + b"\r\n" for f in fields + more) + b"\r\n" + body
        return made.replace(b"\r\n", b"\n") if depth == 0 and self.chance(0.15) else made


def can(text, charset):
    try:
        return text.encode(charset).decode(charset) == text
    except UnicodeError:
        return False
