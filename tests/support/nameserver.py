"""A name server on loopback for the daemons under test: MX and TXT records that a test puts in and takes out while it runs."""

import socket
import struct
import threading

TYPES = {"MX": 15, "TXT": 16}


def wire_name(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split(".") if label) + b"\0"


def wire_data(kind, value):
    if kind == "TXT":
        text = value.encode()
        return b"".join(bytes([len(text[i:i + 255])]) + text[i:i + 255] for i in range(0, len(text), 255)) or b"\0"
    return struct.pack("!H", 10) + wire_name(value)


class NameServer:
    """records: {(name, "MX" or "TXT"): [values]}. A name in `broken` gets SERVFAIL."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.socket.getsockname()[1]
        self.records = {}
        self.broken = set()
        self.asked = 0
        self.closing = False
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def close(self):
        """Not before the thread has let go of the socket: it would read from whatever gets its number next."""
        self.closing = True
        self.socket.sendto(b"", self.socket.getsockname())
        self.thread.join()
        self.socket.close()

    def set(self, name, mx=(), txt=()):
        self.records[name, "MX"], self.records[name, "TXT"] = list(mx), list(txt)

    def serve(self):
        while True:
            query, peer = self.socket.recvfrom(4096)
            if self.closing:
                return
            self.socket.sendto(self.answer(query), peer)

    def answer(self, query):
        self.asked += 1
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode().lower())
            at += 1 + query[at]
        end = at + 5  # type and class
        asked, name = struct.unpack("!H", query[at + 1:at + 3])[0], ".".join(labels)
        kind = next((k for k, number in TYPES.items() if number == asked), None)
        values = self.records.get((name, kind), [])
        known = any(n == name for n, _ in self.records)
        code = 2 if name in self.broken else 0 if known else 3
        head = query[:2] + struct.pack("!HHHHH", 0x8580 | code, 1, 0 if code else len(values), 0, 0)
        rows = b""
        for value in values if not code else ():
            data = wire_data(kind, value)
            rows += b"\xc0\x0c" + struct.pack("!HHIH", asked, 1, 0, len(data)) + data
        return head + query[12:end] + rows
