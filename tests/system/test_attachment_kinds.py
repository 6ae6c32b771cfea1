"""Attachments that are not simply a MIME part: messages, files uuencoded into the text, files in a winmail.dat. Each is listed and
downloads exactly, whole, as JSON and by ranges."""

import base64
import binascii
import random

import pytest

import messages
from client import deliver

OCTETS = random.Random(9).randbytes(300_000)
HEAD = b"From: a@example.org\r\nSubject: kinds\r\nMIME-Version: 1.0\r\n"


def uuencode(name, octets):
    rows = b"".join(binascii.b2a_uu(octets[i:i + 45], backtick=True).replace(b"\n", b"\r\n") for i in range(0, len(octets), 45))
    return b"begin 644 " + name + b"\r\n" + rows + b"`\r\nend\r\n"


def received(system, api, box, source):
    assert deliver(system.smtp, source, box["address"])[0] == 250
    mail = api.only_mail(box)
    assert api.source(mail) == source
    return mail


def check_download(api, mail, one, octets):
    path = f"/v1/mailboxes/{mail['mailboxId']}/mails/{mail['id']}/attachments/{one['id']}"
    assert one["sizeBytes"] == len(octets)
    assert base64.b64decode(api.get(path).json["data"], validate=True) == octets
    assert api.get(path + "?download=1").body == octets
    for start, end in ((0, 1), (1, 4), (len(octets) // 2, len(octets) // 2 + 1000), (len(octets) - 5, len(octets))):
        answer = api.get(path + "?download=1", headers={"Range": f"bytes={start}-{end - 1}"})
        assert answer.status == 206 and answer.body == octets[start:end]


def test_uuencoded_in_the_text(system, api, box):
    source = HEAD + b"\r\nSee below.\r\n" + uuencode("Отчёт.bin".encode(), OCTETS) + b"That was it.\r\n"
    mail = received(system, api, box, source)
    assert mail["bodyText"] == "See below.\r\nThat was it.\r\n" and mail["warnings"] == ["uuencoded_attachment"]
    (one,) = mail["attachments"]
    assert (one["name"], one["contentType"]) == ("Отчёт.bin", "application/octet-stream")
    check_download(api, mail, one, OCTETS)


def test_uuencode_as_transfer_encoding(system, api, box):
    source = HEAD + (b"Content-Type: image/png; name=a.png\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\n" +
                     uuencode(b"ignored.exe", messages.IMAGE * 20))
    mail = received(system, api, box, source)
    (one,) = mail["attachments"]
    assert (one["name"], one["contentType"]) == ("a.png", "image/png")
    check_download(api, mail, one, messages.IMAGE * 20)


def test_winmail_dat_and_what_is_in_it(system, api, box):
    inner = [("Счёт.txt", b"1 000 000 in words\r\n" * 60), ("photo.bin", OCTETS)]
    winmail = messages.tnef(*inner)
    source = HEAD + (b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n--b\r\n"
                     b"Content-Type: application/ms-tnef; name=\"winmail.dat\"\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
                     messages.lines(winmail) + b"--b--\r\n")
    mail = received(system, api, box, source)
    assert [one["name"] for one in mail["attachments"]] == ["winmail.dat", "Счёт.txt", "photo.bin"]
    for one, octets in zip(mail["attachments"], [winmail] + [octets for _, octets in inner]):
        check_download(api, mail, one, octets)
    assert mail["bodyText"] == "text" and mail["warnings"] == []


@pytest.mark.contract("6 attachments")
def test_message_inside_in_base64_comes_as_eml(system, api, box):
    inside = messages.plain("inside") * 30
    source = HEAD + (b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + messages.lines(inside))
    mail = received(system, api, box, source)
    (one,) = mail["attachments"]
    assert one["name"] == "attachment-1.eml" and one["contentType"] == "message/rfc822"
    check_download(api, mail, one, inside)
