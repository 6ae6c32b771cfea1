"""Fills a database with mailboxes and small messages by binary COPY, many thousand rows a second.

The rows are what the daemons themselves write: a mailbox made over the API and some messages sent over SMTP are read back in binary form,
and written again and again with other ids, times, owners and addresses, as UUIDs of version 7 with their bucket inside. Nothing here
knows what else is in a row; a column that might be an id, and is not known here, ends the load with a word.

While it loads into empty tables, indexes and foreign keys rest and nothing is flushed; afterwards the indexes are made, the tables
vacuumed, and the server's settings are the launcher's again. The messages lie in the order in which they would have come, those of all
mailboxes mixed. What differs from a database that grew by itself: its indexes are as dense as new ones are."""

import base64
import contextlib
import hashlib
import io
import multiprocessing
import random
import struct
import time
import uuid

from bench import prose
from client import deliver, wait_until

CHUNK = 25_000  # messages a transaction
TEMPLATES = 64
NEVER = 2147483647
EPOCH_2000 = 946684800
FIRST_HOUR, HOURS = 3, 20  # mailboxes end so many hours from the load, spread over so many
PLATFORM_DOMAINS = 10
PLAN = "scale"
TABLES = ("mailboxes", "account_mailboxes", "messages", "message_source", "message_authentication")
# The same with partitions, as names and relids.
RELATIONS = ("select t.name, coalesce(p.relid, t.name::regclass) as relid from unnest('{%s}'::text[]) t (name) "
             "left join lateral pg_partition_tree(t.name::regclass) p on true" % ",".join(TABLES))

# What is in place of the template's: column -> octets, None where they differ; a user_id where a table has one, and then last.
MAILBOX = {"bucket": 2, "id": 16, "account_id": 16, "user_id": 16, "domain_id": 16, "address": None, "recoverable": 1, "tag": None,
           "created_at": 8, "expires_at": None}
OWNED = {"account_id": 16, "mailbox_id": 16, "user_id": 16, "bucket": 2, "domain_id": 16, "recoverable": 1, "expires_at": None}
MESSAGE = {"bucket": 2, "id": 16, "mailbox_id": 16, "received_at": 8, "expiry_hour": 4, "rcpt_to": None}
SOURCE = {"bucket": 2, "id": 16, "expiry_hour": 4}
AUTHENTICATION = {"bucket": 2, "id": 16}


BOX = struct.Struct(">16sh16si")  # id, bucket, user, hour: what messages need to know of a mailbox


class Template:
    """A row of a table with places for what differs. `parts` are the octets between these; a value of no fixed length brings its own
    length along."""

    def __init__(self, names, fields, varying):
        assert [name for name in names if name in varying] == list(varying), f"columns in another order: {names}"
        self.parts, part = [], struct.pack(">h", len(names))
        for name, field in zip(names, fields):
            if name not in varying:
                part += field
                continue
            if varying[name] is not None:
                part += struct.pack(">i", varying[name])
            self.parts.append(part)
            part = b""
        self.parts.append(part)


def varying_text(text):
    octets = text.encode()
    return struct.pack(">i", len(octets)) + octets


def varying_time(seconds):
    return struct.pack(">i", -1) if seconds is None else struct.pack(">iq", 8, time_value(seconds))


def time_value(seconds):
    return round((seconds - EPOCH_2000) * 1e6)


def fields_of(octets):
    """The rows of a binary COPY as lists of fields, each with its length before it."""
    at, rows = 19, []
    while (count := struct.unpack_from(">h", octets, at)[0]) >= 0:
        at += 2
        row = []
        for _ in range(count):
            end = at + 4 + max(0, struct.unpack_from(">i", octets, at)[0])
            row.append(octets[at:end])
            at = end
        rows.append(row)
    return rows


def templates(cursor, table, varying, where):
    cursor.execute("select attname, atttypid::regtype::text from pg_attribute where attrelid = %s::regclass and attnum > 0 "
                   "and not attisdropped order by attnum", (table,))
    columns = cursor.fetchall()
    if ("user_id", "uuid") in columns and "user_id" not in varying:
        varying = varying | {"user_id": 16}
    unknown = [name for name, kind in columns if kind == "uuid" and name not in varying]
    assert not unknown, f"{table} has columns that this program does not know: {unknown}"
    out = io.BytesIO()
    cursor.copy_expert(f"copy (select * from {table} where {where}) to stdout (format binary)", out)
    return [Template([name for name, _ in columns], row, varying) for row in fields_of(out.getvalue())]


def copy(cursor, table, rows):
    stream = io.BytesIO(b"".join([b"PGCOPY\n\xff\r\n\0" + bytes(8), *rows, b"\xff\xff"]))
    cursor.copy_expert(f"copy {table} from stdin (format binary)", stream, 1 << 20)


def bucket_of(address):
    digest = hashlib.sha256(address.encode()).digest()
    return digest[0] << 2 | digest[1] >> 6


def id_in_bucket(generator, seconds, bucket):
    bits = generator.getrandbits(64)
    high = int(seconds * 1000) << 16 | 0x7000 | bits >> 52
    return (high << 64 | 2 << 62 | bucket << 52 | bits & (1 << 52) - 1).to_bytes(16, "big")


class Plan:
    """Who owns what: everything about mailbox number i follows from i, `mailboxes` and the time of the load."""

    def __init__(self, mailboxes, base, domain):
        self.mailboxes, self.base = mailboxes, base
        self.accounts = max(10, mailboxes // 100)
        self.own_domains = max(1, self.accounts // 10)
        self.domains = [domain] + [f"scale{n}.example.org" for n in range(1, PLATFORM_DOMAINS)]
        self.domains += [f"mail.customer{n}.example.com" for n in range(self.own_domains)]

    def owner_and_domain(self, i):
        """Numbers; owner -1 is the operator, who has every tenth mailbox. Every third is in a domain of its owner's."""
        if i % 10 == 0:
            return -1, i // 10 % PLATFORM_DOMAINS
        if i % 3 == 0:
            own = i // 3 % self.own_domains
            return own, PLATFORM_DOMAINS + own
        return i % self.accounts, i % PLATFORM_DOMAINS

    def address(self, i):
        local = base64.b32encode(hashlib.blake2b(b"%d" % i, digest_size=8).digest())[:12].decode().lower()
        return f"{local}@{self.domains[self.owner_and_domain(i)[1]]}"

    @staticmethod
    def archived(i):
        return i % 100 == 51

    def expires_at(self, i):
        """Three of ten never; None means that."""
        if self.archived(i):
            return self.base - 86400
        return None if i % 10 < 3 else (self.base // 3600 + FIRST_HOUR + i // 10 % HOURS) * 3600 + i * 7 % 3600


class Loader:
    """Loads one system with what a plan says."""

    def __init__(self, system, plan):
        self.system, self.plan = system, plan
        self.seed = time.time_ns()  # no load makes another's ids
        self.generator = random.Random(self.seed)

    @contextlib.contextmanager
    def transaction(self):
        db = self.system.connect_as("postgres")
        db.autocommit = False
        with contextlib.closing(db), db, db.cursor() as cursor:
            yield cursor

    def people(self):
        """Accounts with an owner each, and domains."""
        plan = self.plan
        with self.transaction() as cursor:
            cursor.execute("insert into plans values (%s, 1000000000, 1000000000, 1000, 1000, null, 5)", (PLAN,))
            cursor.execute("insert into accounts (id, name, plan, state, created_at) select gen_random_uuid(), 'scale ' || n, "
                           "case n %% 2 when 0 then 'unlimited' else %s end, 'active', now() from generate_series(0, %s) n",
                           (PLAN, plan.accounts - 1))
            cursor.execute("insert into users (id, account_id, email, role, state, created_at) select gen_random_uuid(), id, "
                           "'owner' || substr(name, 7) || '@people.example.org', 'owner', 'active', now() from accounts "
                           "where name like 'scale %'")
            cursor.execute("insert into domains (id, account_id, name, status, created_at, check_at) select gen_random_uuid(), "
                           "(select id from accounts where name = 'scale ' || n - 1 - %s), name, 'verified', now(), "
                           "now() + interval '1 day' "
                           "from unnest(%s) with ordinality as d (name, n) on conflict do nothing", (PLATFORM_DOMAINS, plan.domains))

    def read_people(self):
        """(account, user) by number, -1 the operator's, and domains by number; ids as octets."""
        owners = {int(name[6:]) if name.startswith("scale ") else -1: (octets(account), octets(user)) for name, account, user in
                  self.system.sql("select a.name, a.id::text, u.id::text from accounts a join users u on u.account_id = a.id")}
        ids = {name: octets(one) for name, one in self.system.sql("select name, id::text from domains")}
        return owners, [ids[name] for name in self.plan.domains]

    def capture(self):
        """Makes a mailbox and mails, the way users do, and keeps their rows."""
        box = self.system.api.mailbox(noExpiration=True)
        for n in range(TEMPLATES):
            assert deliver(self.system.smtp, small_message(n), box["address"])[0] == 250
        mine = f"bucket = {bucket_of(box['address'])} and mailbox_id = '{box['id']}'"
        in_mine = f"(bucket, id) in (select bucket, id from messages where {mine})"
        # Known when the message was committed: a column of it. Known later: a row of its own.
        apart = ("select a.id is not null from messages m left join message_authentication a on a.bucket = m.bucket and a.id = m.id "
                 f"where m.{mine.replace('and ', 'and m.')} and (m.authentication is not null or a.id is not null) order by m.id")
        known = wait_until(lambda: rows if len(rows := self.system.sql(apart)) == TEMPLATES else None)
        with self.transaction() as cursor:
            self.mailbox, = templates(cursor, "mailboxes", MAILBOX, f"id = '{box['id']}'")
            self.owned, = templates(cursor, "account_mailboxes", OWNED, f"mailbox_id = '{box['id']}'")
            self.messages = templates(cursor, "messages", MESSAGE, mine + " order by id")
            self.sources = templates(cursor, "message_source", SOURCE, in_mine + " order by id")
            results = iter(templates(cursor, "message_authentication", AUTHENTICATION, in_mine + " order by id"))
        self.results = [next(results) if is_apart else None for is_apart, in known]
        assert len(self.messages) == len(self.sources) == TEMPLATES
        assert self.system.api.delete(f"/v1/mailboxes/{box['id']}").status == 204

    def load_mailboxes(self, first, count, ended_hour=None):
        """Numbers first to first + count. Keeps their ids, buckets and hours for load_messages(). ended_hour: all end in that one."""
        plan = self.plan
        owners, domains = self.read_people()
        self.first, self.boxes = first, bytearray(BOX.size * count)
        with self.transaction() as cursor:
            for at in range(first, first + count, CHUNK):
                mailboxes, owned = [], []
                for i in range(at, min(at + CHUNK, first + count)):
                    owner, domain = plan.owner_and_domain(i)
                    (account, user), address = owners[owner], plan.address(i)
                    bucket = bucket_of(address)
                    created = plan.base - 86400 + 86400 * (i - first) / count
                    box = id_in_bucket(self.generator, created, bucket)
                    kept = plan.expires_at(i) if ended_hour is None else ended_hour * 3600 + i % 3600
                    expires, archived = varying_time(kept), ended_hour is None and plan.archived(i)
                    tag = varying_text(f"tag {i}") if archived else NULL
                    in_bucket, flag = struct.pack(">h", bucket), b"\1" if archived else b"\0"
                    p, q = self.mailbox.parts, self.owned.parts
                    mailboxes += (p[0], in_bucket, p[1], box, p[2], account, p[3], user, p[4], domains[domain], p[5], varying_text(address),
                                  p[6], flag, p[7], tag, p[8], struct.pack(">q", time_value(created)), p[9], expires, p[10])
                    owned += (q[0], account, q[1], box, q[2], user, q[3], in_bucket, q[4], domains[domain], q[5], flag, q[6], expires, q[7])
                    hour = NEVER if kept is None else int(kept // 3600)
                    BOX.pack_into(self.boxes, BOX.size * (i - first), box, bucket, user, hour)
                copy(cursor, "mailboxes", mailboxes)
                copy(cursor, "account_mailboxes", owned)

    def load_messages(self, count, processes, say):
        """`count` messages for the mailboxes of the last load_mailboxes(), received over the last day in this order."""
        begin, done = time.monotonic(), 0
        chunks = [(at, min(at + CHUNK, count), count) for at in range(0, count, CHUNK)]
        with multiprocessing.get_context("fork").Pool(processes) as pool:
            for n in pool.imap_unordered(self.load_chunk, chunks):
                done += n
                if done % (40 * CHUNK) == 0:
                    say(f"{done} messages, {done / (time.monotonic() - begin):.0f}/s")

    def load_chunk(self, chunk):
        start, end, count = chunk
        generator, plan, boxes = random.Random(self.seed + 1 + start), self.plan, self.boxes
        number = len(boxes) // BOX.size
        rows, sources, results = [], [], []
        for i in range(start, end):
            n = int(generator.random() * number)
            if plan.archived(self.first + n):
                n -= 1
            received = plan.base - 86400 + 86400 * i / count
            box, bucket, user, hour = BOX.unpack_from(boxes, BOX.size * n)
            in_bucket, in_hour, mail = struct.pack(">h", bucket), struct.pack(">i", hour), id_in_bucket(generator, received, bucket)
            p, q, result = self.messages[i % TEMPLATES].parts, self.sources[i % TEMPLATES].parts, self.results[i % TEMPLATES]
            rows += (p[0], in_bucket, p[1], mail, p[2], box, p[3], struct.pack(">q", time_value(received)), p[4], in_hour,
                     p[5], varying_text(plan.address(self.first + n)), p[6])
            sources += (q[0], in_bucket, q[1], mail, q[2], in_hour, q[3])
            users = [(rows, p[7:]), (sources, q[4:])]
            if result:
                r = result.parts
                results += (r[0], in_bucket, r[1], mail, r[2])
                users.append((results, r[3:]))
            for one, parts in users:
                if parts:
                    one += (user, parts[0])
        with self.transaction() as cursor:
            cursor.execute("set session_replication_role = replica")  # the foreign key is kept by construction
            copy(cursor, "messages", rows)
            copy(cursor, "message_source", sources)
            copy(cursor, "message_authentication", results)
        return end - start

    @contextlib.contextmanager
    def in_bulk(self):
        """For a load into empty tables: their indexes are made at its end, and only then is anything made to last."""
        ours = f"indrelid in (select relid from ({RELATIONS}) r)"
        settings = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off", "maintenance_work_mem": "'1GB'"}
        for name, value in settings.items():
            self.system.sql(f"alter system set {name} = {value}")
        self.system.sql("select pg_reload_conf()")
        self.system.sql(f"update pg_index set indisready = false, indisvalid = false where {ours} and indexrelid not in "
                        "(select oid from pg_class where relkind = 'I')")
        yield
        for name in TABLES:
            self.system.sql(f"reindex table {name}")
        assert self.system.sql(f"select count(*) from pg_index where {ours} and not (indisready and indisvalid)")[0][0] == 0
        for name in settings:
            self.system.sql(f"alter system reset {name}")
        self.system.sql("select pg_reload_conf()")
        self.system.sql("vacuum (analyze)")
        self.system.sql("checkpoint")


NULL = struct.pack(">i", -1)


def octets(text):
    return uuid.UUID(text).bytes


def small_message(n):
    """1,000 octets, or a few more."""
    head = (f"From: \"Accounts team {n}\" <noreply{n}@service{n % 7}.example.org>\r\nTo: someone@example.com\r\n"
            f"Subject: Your code for order number {100000 + 7919 * n}\r\n"
            f"Message-ID: <{n}.{n * 2654435761 % 2**32:08x}@service{n % 7}.example.org>\r\n"
            "Date: Tue, 24 Nov 2026 12:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n")
    return (head + prose(random.Random(n), 1000 - len(head))).encode()
