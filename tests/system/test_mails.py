"""Mails: lists, single ones, raw and headers, deletion, and injected test mails."""

import base64
import concurrent.futures
import hashlib
import uuid

import pytest

import messages
from client import Api, check_problem, deliver, items, multipart, quote, wait_until

MAIL_MEMBERS = {"id", "mailboxId", "sender", "from", "displaySender", "fromName", "to", "cc", "replyTo", "subject", "body", "bodyText", "bodyTextFromHtml",
                "bodyHtml",
                "hasAttachments", "attachments", "sizeBytes", "receivedAt", "expiresAt", "envelope", "warnings"}
ATTACHMENT_MEMBERS = {"id", "name", "filename", "contentType", "sizeBytes", "inline", "contentId"}


def fill(system, box, n):
    for i in range(n):
        assert deliver(system.smtp, messages.plain(f"Number {i}"), box["address"])[0] == 250


def mails_path(box):
    return f"/v1/mailboxes/{box['id']}/mails"


@pytest.mark.contract("6 object", "6 envelope", "6 get")
def test_members(system, api, box):
    fill(system, box, 1)
    mail = api.only_mail(box)
    assert set(mail) >= MAIL_MEMBERS
    assert set(mail["envelope"]) >= {"mailFrom", "rcptTo", "helo", "tls"} and mail["envelope"]["tls"] is None
    assert mail["expiresAt"] == box["expiresAt"]
    assert mail["cc"] == [] and mail["replyTo"] == [] and mail["bodyHtml"] is None


@pytest.mark.contract("6 list")
def test_list_newest_first_with_cursor_and_fields(system, api, box):
    fill(system, box, 7)
    whole = [mail["id"] for mail in api.mails(box)]
    assert whole == sorted(whole, reverse=True) and len(whole) == 7
    seen, cursor = [], ""
    while True:
        page = api.get(f"{mails_path(box)}?limit=3{cursor}").json
        seen += [mail["id"] for mail in page["items"]]
        if not page.get("nextCursor"):
            break
        cursor = "&cursor=" + quote(page["nextCursor"])
    assert seen == whole
    some = api.mails(box, "?fields=id,subject&limit=2")
    assert len(some) == 2 and all({"id", "subject"} <= set(mail) and "bodyText" not in mail for mail in some)


def test_cursor_is_stable_while_mail_arrives(system, api, box):
    fill(system, box, 4)
    first = api.get(f"{mails_path(box)}?limit=2").json
    fill(system, box, 3)
    second = api.get(f"{mails_path(box)}?limit=1000&cursor=" + quote(first["nextCursor"])).json
    seen = [mail["id"] for mail in first["items"] + second["items"]]
    assert len(seen) == len(set(seen)) == 4


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=a", "cursor=%21%21", "fields="])
def test_list_refuses_bad_pages(api, box, query):
    answer = api.get(f"{mails_path(box)}?{query}")
    if query == "fields=":
        assert answer.status in (200, 400)
    else:
        check_problem(answer, 400, "bad_request")


@pytest.mark.contract("6 body", "6 warnings")
def test_html_only_body(system, api, box):
    source = messages.plain("html", b"<p>Hi</p>\r\n", b"MIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n")
    assert deliver(system.smtp, source, box["address"])[0] == 250
    mail = api.only_mail(box)
    assert mail["bodyHtml"].strip() == "<p>Hi</p>" and mail["body"] == mail["bodyHtml"]
    assert mail["bodyText"].strip() == "Hi" and mail["bodyTextFromHtml"] is True and "text_from_html" in mail["warnings"]


@pytest.mark.contract("6 from")
def test_no_from_header_falls_back_to_the_envelope(system, api, box):
    assert deliver(system.smtp, b"Subject: nobody\r\n\r\nx\r\n", box["address"], "env@example.org")[0] == 250
    mail = api.only_mail(box)
    assert mail["from"] == mail["sender"] == "env@example.org" and mail["fromName"] is None


@pytest.mark.contract("6 UTF-8")
@pytest.mark.parametrize("charset, text", [("windows-1251", "Привет"), ("koi8-r", "Привет"), ("iso-2022-jp", "日本語"),
                                           ("shift_jis", "日本語"), ("gb18030", "中文"), ("iso-8859-8-i", "שלום"), ("utf-16", "Ünï")])
def test_charsets(system, api, box, charset, text):
    codec = {"iso-8859-8-i": "iso-8859-8"}.get(charset, charset)
    body = base64.encodebytes(text.encode(codec)).replace(b"\n", b"\r\n")
    word = b"=?" + charset.encode() + b"?B?" + base64.b64encode(text.encode(codec)) + b"?="
    source = (b"From: a@example.org\r\nSubject: " + word + b"\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=" +
              charset.encode() + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + body)
    assert deliver(system.smtp, source, box["address"])[0] == 250
    mail = api.only_mail(box)
    assert mail["bodyText"].strip() == text and mail["subject"] == text


@pytest.mark.parametrize("extra, octets", [
    (b"Content-Type: text/plain; format=flowed; charset=\"KOI8-R\"\r\n", "Привет".encode("koi8-r")),  # the body's charset
    (b"", "Привет".encode("cp1251")), (b"Content-Type: text/plain; charset=utf-8\r\n", "Привет".encode("cp1251")),  # the guess
    (b"Content-Type: text/plain; charset=koi8-r\r\n", "Привет".encode())])  # UTF-8 is UTF-8
def test_raw_octets_in_the_subject(system, api, box, extra, octets):
    source = messages.plain("SUBJECT", extra=extra).replace(b"SUBJECT", octets)
    assert deliver(system.smtp, source, box["address"])[0] == 250
    mail = api.only_mail(box)
    assert mail["subject"] == "Привет" and "8bit_header" in mail["warnings"]
    headers = items(api.get(f"{mails_path(box)}/{mail['id']}/headers"))
    assert [one["value"] for one in headers if one["name"] == "Subject"] == ["Привет"]


@pytest.mark.contract("6 delete")
def test_delete_one(system, api, box):
    fill(system, box, 3)
    first, second, third = api.mails(box)
    answer = api.delete(f"{mails_path(box)}/{second['id']}")
    assert answer.status == 204 and answer.body == b""
    assert [mail["id"] for mail in api.mails(box)] == [first["id"], third["id"]]
    for path in ("", "/raw", "/headers", "/attachments"):
        check_problem(api.get(f"{mails_path(box)}/{second['id']}{path}"), 404, "not_found")
    check_problem(api.delete(f"{mails_path(box)}/{second['id']}"), 404, "not_found")
    left = system.sql("select count(*) from message_source where id = %s", second["id"])
    assert left == [(0,)]


@pytest.mark.contract("6 delete many")
def test_delete_many_all_or_none(system, api, box):
    fill(system, box, 4)
    ids = [mail["id"] for mail in api.mails(box)]
    check_problem(api.delete(mails_path(box), {"ids": ids[:2] + [str(uuid.uuid4())]}), 404, "not_found")
    assert len(api.mails(box)) == 4
    assert api.delete(mails_path(box), {"ids": ids[:3]}).status == 204
    assert [mail["id"] for mail in api.mails(box)] == ids[3:]


def test_mail_of_another_mailbox_is_404(system, api, box):
    fill(system, box, 1)
    other = api.mailbox()
    mail = api.only_mail(box)
    for path in ("", "/raw", "/headers", "/attachments"):
        check_problem(api.get(f"{mails_path(other)}/{mail['id']}{path}"), 404, "not_found")
    check_problem(api.delete(f"{mails_path(other)}/{mail['id']}"), 404, "not_found")
    assert len(api.mails(box)) == 1


def test_stranger_gets_403_for_everything_inside(system, api, stranger, box):
    source = messages.with_attachments(("a.txt", "text/plain", b"a"))
    assert deliver(system.smtp, source, box["address"])[0] == 250
    mail = api.only_mail(box)
    one = f"{mails_path(box)}/{mail['id']}"
    part = mail["attachments"][0]["id"]
    for method, path, body in (("GET", one, None), ("GET", one + "/raw", None), ("GET", one + "/headers", None),
                               ("DELETE", one, None), ("GET", one + "/attachments", None), ("GET", f"{one}/attachments/{part}", None),
                               ("DELETE", f"{one}/attachments/{part}", None), ("DELETE", one + "/attachments", {"ids": [part]}),
                               ("DELETE", mails_path(box), {"ids": [mail["id"]]})):
        check_problem(stranger.request(method, path, body=body), 403, "forbidden")
    assert api.only_mail(box)["attachments"] == mail["attachments"]


@pytest.mark.contract("1 ETag")
def test_etag(system, api, box):
    fill(system, box, 1)
    mail = api.settled_mail(box)
    for path in (f"/v1/mailboxes/{box['id']}", mails_path(box), f"{mails_path(box)}/{mail['id']}", "/v1/mailboxes?limit=5"):
        first = api.get(path)
        tag = first.headers["ETag"]
        assert first.status == 200 and tag
        again = api.get(path, headers={"If-None-Match": tag})
        assert again.status == 304 and again.body == b"" and again.headers["ETag"] == tag
        assert api.get(path, headers={"If-None-Match": '"other"'}).status == 200
    fill(system, box, 1)
    listed = api.get(mails_path(box))
    assert listed.status == 200 and len(listed.json["items"]) == 2


@pytest.mark.contract("1 HEAD")
def test_head_is_get_without_the_body(system, api, box):
    fill(system, box, 1)
    mail = api.settled_mail(box)
    for path in (f"/v1/mailboxes/{box['id']}", mails_path(box), f"{mails_path(box)}/{mail['id']}/raw", "/health"):
        got, head = api.get(path), api.request("HEAD", path)
        assert head.status == got.status == 200 and head.body == b""
        assert head.headers["Content-Type"] == got.headers["Content-Type"]
        assert head.headers["Content-Length"] == got.headers["Content-Length"] == str(len(got.body))


# Attachments


@pytest.fixture
def three_files(system, api, box):
    octets = [b"first file\r\n", bytes(range(256)) * 500, b""]
    source = messages.with_attachments(("a.txt", "text/plain", octets[0]), ("b.bin", "application/octet-stream", octets[1]),
                                       ("empty.dat", "application/x-empty", octets[2]))
    code, text = deliver(system.smtp, source, box["address"])
    assert code == 250, text
    mail = api.only_mail(box)
    return mail, f"{mails_path(box)}/{mail['id']}/attachments", octets


@pytest.mark.contract("7 list", "7 object")
def test_attachment_list(api, three_files):
    mail, path, octets = three_files
    found = items(api.get(path))
    assert [(one["filename"], one["name"], one["contentType"], one["sizeBytes"]) for one in found] == [
        ("a.txt", "a.txt", "text/plain", 12), ("b.bin", "b.bin", "application/octet-stream", len(octets[1])),
        ("empty.dat", "empty.dat", "application/x-empty", 0)]
    for one in found:
        assert set(one) >= ATTACHMENT_MEMBERS | {"expiresAt", "mailId", "mailboxId", "createdAt"}
        assert (one["mailId"], one["mailboxId"]) == (mail["id"], mail["mailboxId"])
    assert [one["id"] for one in found] == [one["id"] for one in mail["attachments"]]


@pytest.mark.contract("7 JSON", "7 download", "7 safe")
def test_attachment_json_and_download(api, three_files):
    mail, path, octets = three_files
    for one, expected in zip(mail["attachments"], octets):
        as_json = api.get(f"{path}/{one['id']}")
        assert as_json.status == 200 and base64.b64decode(as_json.json["data"], validate=True) == expected
        download = api.get(f"{path}/{one['id']}?download=1")
        assert download.status == 200 and download.body == expected
        assert download.headers["X-Content-Type-Options"] == "nosniff"
        disposition = download.headers["Content-Disposition"]
        assert disposition.startswith("attachment;") and f'filename="{one["filename"]}"' in disposition
        assert download.headers["Accept-Ranges"] == "bytes"


@pytest.mark.contract("7 range")
@pytest.mark.parametrize("given, start, end", [("bytes=0-0", 0, 1), ("bytes=10-19", 10, 20), ("bytes=100000-", 100000, 128000),
                                               ("bytes=-5", 127995, 128000), ("bytes=0-9999999", 0, 128000),
                                               ("bytes=-9999999", 0, 128000), ("bytes=57-100056", 57, 100057)])
def test_range(api, three_files, given, start, end):
    mail, path, octets = three_files
    url = f"{path}/{mail['attachments'][1]['id']}?download=1"
    answer = api.get(url, headers={"Range": given})
    assert answer.status == 206, answer
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/128000"
    assert answer.body == octets[1][start:end]


def test_range_refused_or_ignored(api, three_files):
    mail, path, octets = three_files
    url = f"{path}/{mail['attachments'][1]['id']}?download=1"
    answer = api.get(url, headers={"Range": "bytes=128000-"})
    assert answer.status == 416 and answer.headers["Content-Range"] == "bytes */128000"
    for nonsense in ("bytes=5-1", "lines=1-2", "bytes=a-b", "bytes="):  # RFC 9110 14.2: what does not parse is ignored
        answer = api.get(url, headers={"Range": nonsense})
        assert answer.status in (200, 416), (nonsense, answer.status)
        if answer.status == 200:
            assert answer.body == octets[1]


@pytest.mark.contract("7 ETag", "7 range")
def test_attachment_etag_and_if_range(api, three_files):
    mail, path, octets = three_files
    url = f"{path}/{mail['attachments'][1]['id']}?download=1"
    tag = api.get(url).headers["ETag"]
    assert api.get(url, headers={"If-None-Match": tag}).status == 304
    assert api.get(url, headers={"Range": "bytes=0-3", "If-Range": tag}).status == 206
    assert api.get(url, headers={"Range": "bytes=0-3", "If-Range": '"old"'}).status == 200


@pytest.mark.contract("7 delete", "7 delete many")
def test_attachment_delete(api, three_files):
    mail, path, _ = three_files
    first, second, third = (one["id"] for one in mail["attachments"])
    assert api.delete(f"{path}/{second}").status == 204
    check_problem(api.get(f"{path}/{second}"), 404, "not_found")
    check_problem(api.delete(f"{path}/{second}"), 404, "not_found")
    assert [one["id"] for one in items(api.get(path))] == [first, third]
    assert api.delete(path, {"ids": [first, str(uuid.uuid4()), second]}).status == 204  # unknown ones are skipped
    assert [one["id"] for one in items(api.get(path))] == [third]
    assert [one["id"] for one in api.only_mail({"id": mail["mailboxId"]})["attachments"]] == [third]


@pytest.mark.contract("7 safe")
def test_attachment_names_are_made_safe(system, api, box):
    names = ["../../etc/passwd", "C:\\\\temp\\\\evil.exe", "a\u202egnp.exe", "con", "x" * 400 + ".txt"]
    parts = b"".join(b"--m\r\nContent-Type: application/x-thing\r\nContent-Disposition: attachment; filename=\"" + name.encode() +
                     b"\"\r\n\r\nx\r\n" for name in names)
    source = (b"Subject: names\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=m\r\n\r\n" + parts +
              b"--m\r\nContent-Type: application/x-thing\r\nContent-Disposition: attachment;\r\n"
              b" filename*=utf-8''..%2f..%2fx%e2%80%aegnp.exe%0d%0aX:%20y\r\n\r\nx\r\n--m--\r\n")
    assert deliver(system.smtp, source, box["address"])[0] == 250
    mail = api.only_mail(box)
    assert len(mail["attachments"]) == 6
    for one in mail["attachments"]:
        name = one["filename"]
        assert name and len(name.encode()) <= 255 and not name.startswith(".")
        assert not set(name) & set("/\\\r\n\0\u202e:*?\"<>|"), name
        answer = api.get(f"{mails_path(box)}/{mail['id']}/attachments/{one['id']}?download=1")
        assert answer.status == 200 and answer.body.strip() == b"x"
        assert answer.headers.get("X") is None


# Injected test mails


@pytest.mark.contract("6 inject")
def test_inject(api, box):
    octets = bytes(range(256)) * 40
    body, headers = multipart([("sender", "Тест <test@example.org>"), ("subject", "Внедрено ✓"), ("body", "Привет\nмир\n"),
                               ("expiresIn", "20m"), ("unknown", "ignored")],
                              [("files", "a.bin", "application/octet-stream", octets), ("attachments", "б.txt", "text/plain", b"text")])
    answer = api.post(mails_path(box), body, headers=headers)
    assert answer.status == 201, answer
    mail = answer.json
    assert mail["subject"] == "Внедрено ✓" and mail["sender"] == "test@example.org"
    assert mail["bodyText"].replace("\r\n", "\n").rstrip("\n") == "Привет\nмир"
    assert [(one["filename"], one["sizeBytes"]) for one in mail["attachments"]] == [("a.bin", 10240), ("б.txt", 4)]
    one = api.get(f"{mails_path(box)}/{mail['id']}/attachments/{mail['attachments'][0]['id']}").json
    assert base64.b64decode(one["data"]) == octets
    assert api.get(f"{mails_path(box)}/{mail['id']}").json["subject"] == "Внедрено ✓"
    assert b"Subject:" in api.raw(mail)
    assert api.only_mail(box)["id"] == mail["id"]


@pytest.mark.contract("2 415")
def test_inject_needs_multipart(api, box):
    check_problem(api.post(mails_path(box), b"x", headers={"Content-Type": "text/plain"}), 415, "unsupported_media_type")
    check_problem(api.post(mails_path(box), b"x", headers={"Content-Type": "multipart/form-data"}), 400, "bad_request")
    check_problem(api.post(mails_path(box), b"--x\r\n", headers={"Content-Type": "multipart/form-data; boundary=x"}), 400, "bad_request")


def test_inject_cannot_forge_headers(api, box):
    body, headers = multipart([("sender", "a@example.org"), ("subject", "one\r\nBcc: evil@example.org"), ("body", "x")])
    answer = api.post(mails_path(box), body, headers=headers)
    if answer.status == 201:
        assert b"\r\nBcc:" not in api.raw(answer.json)
    else:
        check_problem(answer, 400, "bad_request")


@pytest.mark.contract("7 add")
def test_add_attachment_to_an_injected_mail(api, box):
    body, headers = multipart([("sender", "a@example.org"), ("subject", "s"), ("body", "b")])
    mail = api.post(mails_path(box), body, headers=headers).json
    path = f"{mails_path(box)}/{mail['id']}/attachments"
    data = base64.b64encode(b"later").decode()
    answer = api.post(path, {"filename": "later.txt", "data": data, "contentType": "text/plain", "sizeBytes": 5})
    assert answer.status == 201, answer
    assert (answer.json["filename"], answer.json["sizeBytes"]) == ("later.txt", 5)
    got = api.get(f"{path}/{answer.json['id']}?download=1")
    assert got.body == b"later"
    for bad in ({"filename": "x", "data": "***", "contentType": "text/plain"}, {"data": data}, {"filename": 1, "data": data},
                {"filename": "x", "data": data, "contentType": "text/plain", "sizeBytes": 6}):
        check_problem(api.post(path, bad), 400, "bad_request")
    check_problem(api.post(path, b"x", headers={"Content-Type": "text/plain"}), 415, "unsupported_media_type")


def test_received_mail_takes_no_attachment(system, api, box):
    fill(system, box, 1)
    mail = api.only_mail(box)
    answer = api.post(f"{mails_path(box)}/{mail['id']}/attachments",
                      {"filename": "x.txt", "data": "eA==", "contentType": "text/plain", "sizeBytes": 1})
    assert answer.status in (400, 403, 409), answer


def test_digest_in_the_database_is_of_the_source(system, api, box):
    source = messages.plain("digest")
    assert deliver(system.smtp, source, box["address"])[0] == 250
    mail = api.only_mail(box)
    (digest,), = system.sql("select digest from messages where id = %s", mail["id"])
    assert bytes(digest) == hashlib.sha256(source).digest()


@pytest.mark.parametrize("method, members, left", [("DELETE", None, 404), ("PATCH", {"noExpiration": True}, 200)])
def test_mails_deleted_while_their_mailbox_changes(system, api, box, method, members, left):
    """Both go through the mails, in orders of their own, and would wait for each other: so one waits for the mailbox, and has touched no
    mail by then. The first mail is held until both have begun, each in a worker of its own."""
    for i in range(3):
        assert deliver(system.smtp, messages.plain(f"number {i}"), box["address"])[0] == 250
    ids = [mail["id"] for mail in api.mails(box)]
    path = f"/v1/mailboxes/{box['id']}"

    def waiting():
        """{who waits: for a row of what}"""
        return dict(system.sql("select a.pid, l.relation::regclass::text from pg_stat_activity a join pg_locks l on l.pid = a.pid "
                               "where a.usename = 'minutemail_apid' and a.wait_event_type = 'Lock' and l.locktype = 'tuple'"))

    holder = system.connect_as("postgres")
    holder.autocommit = False
    with system.another_apid("127.0.0.1:0", workers=1) as apid, concurrent.futures.ThreadPoolExecutor(2) as pool:
        try:
            holder.cursor().execute("select from messages where id = %s for update", [ids[-1]])
            mails = pool.submit(api.delete, path + "/mails", {"ids": ids})
            wait_until(lambda: list(waiting().values()) == ["messages"])
            mailbox = pool.submit(Api(apid.address(), api.key).request, method, path, members)
            wait_until(lambda: len(waiting()) == 2)
            assert sorted(waiting().values()) == ["mailboxes", "messages"]
        finally:
            holder.rollback()
            holder.close()
        assert mails.result().status == 204 and mailbox.result().status == (204 if left == 404 else 200)
    assert api.get(path).status == left
    assert system.sql("select count(*) from messages where mailbox_id = %s", box["id"]) == [(0,)]
