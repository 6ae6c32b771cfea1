"""Row-level security (sql/README.md), asked from outside apid: whoever has its role and its password, and says that it acts for account A,
reads, changes, deletes and adds nothing of account B's, in any table. Tables come from the catalogue, so a new one is asked too, and fails
here until it has a policy and rows to try it on, or stands in OPEN with a reason. Its own system, because its pg_hba.conf asks apid's role
for a password."""

import json
import os
import re
import signal
import time

import psycopg2
import psycopg2.errors
import pytest
from psycopg2.sql import SQL, Identifier

import messages
from client import Api, Console, deliver, wait_until
from launched import ROOT, System, process_state
from people import PASSWORD, address, make_account, make_person

ROLE, ROLE_PASSWORD = "minutemail_apid", "correct horse battery staple"
REFUSED = psycopg2.errors.InsufficientPrivilege  # 42501: no such right, or a row that the policy does not let in

# Tables that apid's role may read whole, and why.
OPEN = {
    "plans": "what each plan allows, the same for everybody and no secret",
    "schema_migrations": "which schema this is, asked before anybody is known",
}
# And those that it may also change, because nothing in them is anybody's.
SHARED = {
    "key_listeners": "numbers of backends that hear of changed keys, which apid's workers keep among themselves",
}
# Functions of more rights than the caller's, and why apid may call them although they say nothing about on whose behalf.
DEFINER = {
    "auth_key": "a key's hash says who asks", "auth_session": "a session's hash says who asks",
    "user_password": "an address and a password say who signs in", "user_exists": "an address is one user's in all accounts",
    "people_any": "the first one to sign up", "invitation_find": "a link's hash says whose it is",
    "invitation_take": "a link's hash says whose it is", "reset_find": "a link's hash says whose it is",
    "auth_keys_used": "a batch of many accounts", "auth_sessions_used": "a batch of many users",
    "auth_keys_used_last": "a batch of many accounts", "auth_sessions_used_last": "a batch of many users",
    "audit_write": "a batch of many accounts", "audit_write_again": "a batch of many accounts", "domain_check_take": "the next domain to look at, whosever",
    "domain_leftover": "the next leftover, whosever", "domain_purge": "only of a domain that is gone",
    "mailbox_make_room": "a dead mailbox at the address, whosever", "mailbox_whose": "403 or 404", "archived_whose": "403 or 404",
    "mailbox_share_anybodys": "a mail of the server's own", "mailbox_message_count": "of the account in the setting",
    "mailbox_hand_over": "within the account in the setting", "mailbox_limit_active": "counts, and fails or not",
    "mailbox_limit_archived": "counts, and fails or not", "quota_lease": "the ledger", "quota_return": "the ledger",
    "janitor_make_partitions": "clean-up", "janitor_expire_messages": "clean-up", "janitor_drop_sources": "clean-up",
    "janitor_delete_mailboxes": "clean-up", "janitor_sweep_bucket": "clean-up", "janitor_days": "clean-up",
}
OWNERS_OWN = {"quota_lease", "quota_return", "mailbox_limit_active", "mailbox_limit_archived", "domain_purge"}  # and the janitor's


class Account:
    def __init__(self, system):
        self.name = make_account(system)
        self.email = make_person(system, account=self.name)
        self.id, self.user = system.sql("select account_id::text, id::text from users where email = %s", self.email)[0]


class World:
    """Two accounts with rows in every table that apid's role can reach, and apid's role with a password."""

    def __init__(self, system):
        self.system = system
        self.a, self.b = Account(system), Account(system)
        for account in (self.a, self.b):
            self.fill(account)
        self.settle()
        self.mate = make_person(system, account=self.a.name, role="member")
        self.mate_id = system.sql("select id::text from users where email = %s", self.mate)[0][0]
        self.require_password()
        self.tables = self.reachable()

    def fill(self, account):
        system = self.system
        made = system.ctl("key", "create", "--name", "wall", "--user", account.email, "--domain", "minutemail.cc", "--scopes", "domains,team")
        api = Api(address(system), made["key"])
        box = api.mailbox()
        assert deliver(system.smtp, messages.plain(), box["address"])[0] == 250
        wait_until(lambda: any(mail["authentication"] for mail in api.mails(box)))
        assert api.post("/v1/domains", {"name": f"wall-{time.time_ns()}.example"}).status == 201
        console = Console(address(system)).sign_in(account.email, PASSWORD)
        assert console.post("/v1/invitations", {"email": f"guest-{time.time_ns()}@example.com"}).status == 201
        system.ctl("user", "reset", account.email)
        # Results that were known at the commit are in the message's row.
        system.sql("insert into message_authentication select bucket, id, '{}', false, user_id from messages where user_id = %s"
                   " on conflict do nothing", account.user)
        system.sql("insert into domain_leftovers values (gen_random_uuid(), %s, now())", account.id)
        wait_until(lambda: system.sql("select 1 from api_audit where account_id = %s", account.id)
                   and system.sql("select 1 from api_key_usage where account_id = %s", account.id))

    def settle(self):
        """Nobody changes a row any more but who tries to: at its end apid writes last uses and the audit log, and its janitor rests."""
        apid = self.system.pid("apid")
        os.kill(apid, signal.SIGTERM)
        wait_until(lambda: process_state(apid) is None)

    def require_password(self):
        self.system.sql(f"alter role {ROLE} password '{ROLE_PASSWORD}'")
        (file, ), = self.system.sql("show hba_file")
        with open(file) as f:
            rest = f.read()
        with open(file, "w") as f:
            f.write(f"local all {ROLE} scram-sha-256\n{rest}")
        self.system.sql("select pg_reload_conf()")

        def asked():
            try:
                self.system.connect_as(ROLE).close()
            except psycopg2.OperationalError as error:
                return "password" in str(error)
            return False
        wait_until(asked)

    def connect(self, password=ROLE_PASSWORD):
        connection = psycopg2.connect(host=self.system.sockets, port=5432, dbname="minutemail", user=ROLE, password=password)
        connection.autocommit = True
        return connection

    def reachable(self):
        return [name for (name, ) in self.system.sql(
            "select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace"
            " where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_'"
            " and (has_table_privilege(%s, c.oid, 'select,insert,update,delete,truncate,references,trigger')"
            " or has_any_column_privilege(%s, c.oid, 'select,insert,update,references')) order by 1", ROLE, ROLE)]

    def columns(self, table, privilege):
        return [name for (name, ) in self.system.sql(
            "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 and not attisdropped"
            " and has_column_privilege(%s, attrelid, attnum, %s) order by attnum", table, ROLE, privilege)]

    def may(self, table, privilege):
        return self.system.sql("select has_table_privilege(%s, %s::regclass, %s)", ROLE, table, privilege)[0][0]

    def owned_by(self, table, account):
        """Whose rows of a table are an account's: the condition, and its value."""
        names = {name for (name, ) in self.system.sql("select attname from pg_attribute where attrelid = %s::regclass and attnum > 0", table)}
        if table == "accounts":
            return "id", account.id
        if "account_id" in names:
            return "account_id", account.id
        assert "user_id" in names, f"{table}: by which column is a row somebody's?"
        return "user_id", account.user


@pytest.fixture(scope="module")
def world():
    system = System(domains=["minutemail.cc"])
    try:
        yield World(system.start())
    finally:
        system.remove()


def act_for(cursor, account=None, user=None):
    cursor.execute("select set_config('minutemail.account', %s, true), set_config('minutemail.user', %s, true)", (account or "", user or ""))


class Turn:
    """A transaction of apid's role on behalf of somebody, rolled back at its end."""

    def __init__(self, world, account=None, user=None):
        self.connection = world.connect()
        self.connection.autocommit = False
        self.cursor = self.connection.cursor()
        if account:
            act_for(self.cursor, account, user)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.rollback()
        self.connection.close()

    def rows(self, statement, *values):
        """How many rows a statement touches; None: it is refused. What it did is undone."""
        self.cursor.execute("savepoint before")
        try:
            self.cursor.execute(statement, values)
            return self.cursor.rowcount
        except REFUSED:
            return None
        finally:
            self.cursor.execute("rollback to before")


def walled(world):
    return [table for table in world.tables if table not in OPEN and table not in SHARED]


def attempts(world, table):
    """Every way to touch all rows of a table that the role's grants allow: a name, the statement, what follows its condition."""
    readable, writable = world.columns(table, "select"), world.columns(table, "update")
    name = Identifier(table)
    if readable:
        for what, tail in (("read", ""), ("lock", " for key share")):
            yield what, SQL("select {} from {}").format(Identifier(readable[0]), name), SQL(tail)
    for column in writable:
        value = Identifier(column) if column in readable else SQL("null")
        yield f"update {column}", SQL("update {} set {} = {}").format(name, Identifier(column), value), SQL("")
    if world.may(table, "delete"):
        yield "delete", SQL("delete from {}").format(name), SQL("")


def fingerprint(world, table, account):
    column, value = world.owned_by(table, account)
    return world.system.sql(f"select count(*), md5(string_agg(x.xmin::text || x.ctid::text, ' ' order by x.ctid)) from {table} x"
                            f" where {column}::text = %s", value)[0]


def test_the_password_is_asked_for(world):
    with pytest.raises(psycopg2.OperationalError):
        world.connect("another")
    world.connect().close()


def test_every_table_has_a_wall(world):
    """Whatever apid's role can reach, and every other table of ours but partitions, to which nobody has any right."""
    assert len(walled(world)) >= 16
    assert not [table for table in world.tables if world.may(table, "truncate")]  # which no policy stops
    for table in OPEN:
        assert table in world.tables and not world.columns(table, "insert") and not world.columns(table, "update")
        assert not world.may(table, "delete")
    rows = world.system.sql("select c.relname, c.relrowsecurity, c.relispartition, c.relkind, pg_get_userbyid(c.relowner) from pg_class c"
                            " where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')")
    for table in SHARED:
        assert world.columns(table, "select") == ["pid"]
    for name, secured, partition, kind, owner in rows:
        assert owner not in (ROLE, "minutemail_smtpd", "minutemail_gate")
        assert kind in "rp", f"{name}: a view has its owner's rights"
        if partition:
            assert name not in world.tables, f"{name}: reached past the wall of its parent"
        else:
            assert secured or name in OPEN or name in SHARED, f"{name} has no row-level security"
    policies = world.system.sql("select tablename, coalesce(qual, '') || coalesce(with_check, '') from pg_policies where %s = any (roles)", ROLE)
    assert {table for table, _ in policies} == set(walled(world))
    for table, text in policies:
        assert "current_setting('minutemail." in text or (table, text) == ("domains", "(account_id IS NULL)"), (table, text)
        assert "SELECT" not in text, f"{table}: a policy looks at the row and the settings only (Citus)"
    assert not world.system.sql("select 1 from pg_policies where 'public' = any (roles)")


def test_nothing_of_another_account(world):
    for table in walled(world):
        column, value = world.owned_by(table, world.b)
        _, own = world.owned_by(table, world.a)
        before = fingerprint(world, table, world.b)
        assert before[0] > 0, f"{table}: without rows of another account this proves nothing"
        assert fingerprint(world, table, world.a)[0] > 0
        seen = 0
        with Turn(world, world.a.id, world.a.user) as turn:
            for what, statement, tail in attempts(world, table):
                statement = statement + SQL(" where {}::text = %s").format(Identifier(column)) + tail
                assert turn.rows(statement, value) in (0, None), f"{table}: {what}"
                seen += turn.rows(statement, own) or 0
        assert seen > 0 or not world.columns(table, "select"), f"{table}: not even one's own"
        assert fingerprint(world, table, world.b) == before


def test_statements_without_any_condition_touch_ones_own(world):
    for table in walled(world):
        column, value = world.owned_by(table, world.a)
        own = {count for (count, ) in world.system.sql(f"select count(*) from {table} where {column}::text = %s", value)}
        if table == "domains":  # the platform's are read, and only read
            own.add(world.system.sql("select count(*) from domains where account_id is null or account_id = %s", world.a.id)[0][0])
        before = fingerprint(world, table, world.b)
        with Turn(world, world.a.id, world.a.user) as turn:
            for what, statement, tail in attempts(world, table):
                try:
                    count = turn.rows(statement + tail)
                except psycopg2.errors.NotNullViolation:
                    continue  # a column that can be set and not read
                assert count is None or count in own, f"{table}: {what}"
        assert fingerprint(world, table, world.b) == before


def put_back(world, table, account, turn):
    """Adds a copy of a row of the account's: what the server says before it looks at any key. None: refused."""
    column, value = world.owned_by(table, account)
    names = world.columns(table, "insert")
    if not names:
        return None
    (row, ), = world.system.sql(f"select row_to_json(x) from {table} x where {column}::text = %s limit 1", value)
    listed = SQL(", ").join(Identifier(name) for name in names)
    statement = SQL("insert into {} ({}) select {} from json_populate_record(null::{}, %s)").format(Identifier(table), listed, listed, Identifier(table))
    try:
        return turn.rows(statement, json.dumps(row))
    except psycopg2.errors.UniqueViolation:
        return 1


def test_no_row_is_added_to_another_account(world):
    inserted = 0
    for table in walled(world):
        before = fingerprint(world, table, world.b)
        with Turn(world, world.a.id, world.a.user) as turn:
            assert put_back(world, table, world.b, turn) is None, table
            inserted += put_back(world, table, world.a, turn) or 0
        with Turn(world) as turn:
            assert put_back(world, table, world.a, turn) is None, table
        assert fingerprint(world, table, world.b) == before
    assert inserted >= 8  # one's own are refused for their key alone


def test_no_row_is_given_away(world):
    """Nor taken: whose a row is, is no column that apid may change."""
    for table in walled(world):
        own, _ = world.owned_by(table, world.b)
        assert own not in world.columns(table, "update"), table


def test_nothing_on_behalf_of_nobody(world):
    """As when a statement is sent without saying for whom; and in a session that had said it before."""
    for table in walled(world):
        for turn in (Turn(world), Turn(world, world.a.id, world.a.user)):
            with turn:
                turn.connection.commit()  # ends the settings, which leaves '' where there was nothing
                for what, statement, tail in attempts(world, table):
                    if table == "domains" and what in ("read", "lock"):
                        statement += SQL(" where account_id is not null")
                    assert turn.rows(statement + tail) in (0, None), f"{table}: {what}"


def test_mail_is_its_users_alone(world):
    """Another user of the account, its owner too, sees that a mailbox is there, and nothing in it."""
    mails = [table for table in walled(world) if world.owned_by(table, world.a)[0] == "user_id"]
    assert set(mails) >= {"messages", "message_source", "message_authentication", "sessions", "password_resets"}
    with Turn(world, world.a.id, world.mate_id) as turn:
        assert turn.rows("select id from mailboxes") > 0
        for table in mails:
            for what, statement, tail in attempts(world, table):
                assert turn.rows(statement + tail) in (0, None), f"{table}: {what}"


def test_settings_end_with_the_transaction(world):
    with Turn(world, world.a.id, world.a.user) as turn:
        assert turn.rows("select id from mailboxes") > 0
        turn.connection.rollback()
        assert turn.rows("select id from mailboxes") == 0


@pytest.mark.parametrize("statement", [
    "alter table messages disable row level security", "alter table messages no force row level security",
    "drop policy apid on messages", "create policy mine on messages using (true)", "alter policy apid on messages using (true)",
    "alter table messages owner to minutemail_apid", "alter role minutemail_apid bypassrls", "grant minutemail_gate to minutemail_apid",
    "set role minutemail_gate", "set role minutemail_smtpd", "set role postgres", "set session authorization postgres",
    "set session authorization minutemail_gate", "create function f() returns int language sql security definer as 'select 1'",
    "alter function people_any() owner to minutemail_apid", "select mailbox_own_mails(1::smallint, gen_random_uuid(), gen_random_uuid())",
    "select janitor_sweep_rows(now(), 1, 1)", "select * from message_source_never", "select * from api_audit_default",
    "set session_replication_role = replica", "load 'x'",
])
def test_the_wall_stays(world, statement):
    with world.connect() as connection, connection.cursor() as cursor:
        with pytest.raises(REFUSED):
            cursor.execute(statement)


def test_turning_it_off_shows_nothing(world):
    """row_security = off makes an error of what a policy would have filtered."""
    for table in walled(world):
        with Turn(world, world.a.id, world.a.user) as turn:
            turn.cursor.execute("set local row_security = off")
            for what, statement, tail in attempts(world, table):
                assert turn.rows(statement + tail) is None, f"{table}: {what}"


def test_roles_behind_it(world):
    rows = world.system.sql("select rolname, rolcanlogin, rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication"
                            " from pg_roles where rolname ~ '^minutemail' order by 1")
    assert rows == [(ROLE, True, False), ("minutemail_gate", False, False), ("minutemail_smtpd", True, False)]
    assert world.system.sql("select 1 from pg_auth_members where member::regrole::text ~ '^minutemail' or roleid::regrole::text ~ '^minutemail'") == []
    assert world.system.sql("select has_schema_privilege('minutemail_gate', 'public', 'create')") == [(False, )]


def statements(role):
    """Names and texts of what a daemon asks (sql/queries)."""
    for file in sorted((ROOT / "sql" / "queries").glob("*.sql")):
        if (file.stem == "smtpd") == (role == "minutemail_smtpd"):
            for name, text in re.findall(r"^-- name: (\w+)(?: reads)?\n(.*?)(?=^--|\Z)", file.read_text(), re.M | re.S):
                yield name, text.strip().rstrip(";")


@pytest.mark.parametrize("role, fewest", [(ROLE, 90), ("minutemail_smtpd", 8)])
def test_every_statement_has_its_rights(world, role, fewest):
    """Two changes that met may leave a statement without what it needs; EXPLAIN looks at rights and runs nothing."""
    seen = 0
    with (world.connect() if role == ROLE else world.system.connect_as(role)) as connection, connection.cursor() as cursor:
        for name, text in statements(role):
            cursor.execute(f"prepare {name} as {text}".replace("%", "%%"), ())
            cursor.execute("select cardinality(parameter_types) from pg_prepared_statements where name = %s", (name, ))
            nulls = ", ".join(["null"] * cursor.fetchone()[0])
            cursor.execute(f"explain execute {name}" + (f"({nulls})" if nulls else ""))
            seen += 1
    assert seen >= fewest


def test_functions_with_more_rights(world):
    rows = world.system.sql("select proname, pg_get_userbyid(proowner), proconfig, has_function_privilege(%s, oid, 'execute'),"
                            " has_function_privilege('minutemail_smtpd', oid, 'execute') from pg_proc"
                            " where pronamespace = 'public'::regnamespace and prosecdef", ROLE)
    assert {name for name, _, _, callable, _ in rows if callable} == set(DEFINER)
    for name, owner, settings, callable, by_smtpd in rows:
        assert "search_path=pg_catalog, public, pg_temp" in settings, name
        assert not by_smtpd, name
        if callable:
            assert owner == "minutemail_gate" or name in OWNERS_OWN or name.startswith("janitor_"), f"{name} has the rights of {owner}"
