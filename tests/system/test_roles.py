"""The two database roles have the rights their daemon needs and no other; migrations are applied once."""

import psycopg2
import pytest

import messages
from client import deliver


@pytest.mark.parametrize("role, statement", [
    ("minutemail_smtpd", "select subject from messages"),
    ("minutemail_smtpd", "select body_text from messages limit 1"),
    ("minutemail_smtpd", "select data from message_source"),
    ("minutemail_smtpd", "delete from messages"),
    ("minutemail_smtpd", "delete from message_source"),
    ("minutemail_smtpd", "update messages set subject = 'x'"),
    ("minutemail_smtpd", "select hash from api_keys"),
    ("minutemail_smtpd", "select * from users"),
    ("minutemail_smtpd", "insert into mailboxes select * from mailboxes"),
    ("minutemail_smtpd", "create table x (y int)"),
    ("minutemail_smtpd", "select * from accounts"),
    ("minutemail_smtpd", "delete from mailboxes"),
    ("minutemail_smtpd", "update mailboxes set expires_at = now()"),
    ("minutemail_smtpd", "copy messages to stdout"),
    ("minutemail_smtpd", "select pg_read_file('/etc/passwd')"),
    ("minutemail_apid", "select pg_read_file('/etc/passwd')"),
    ("minutemail_apid", "create table x (y int)"),
    ("minutemail_apid", "drop table messages"),
    ("minutemail_apid", "alter table messages add x int"),
    ("minutemail_apid", "truncate messages"),
    ("minutemail_apid", "select password_hash from users"),
    ("minutemail_apid", "update api_keys set account_id = account_id"),
    ("minutemail_apid", "update api_keys set created_at = now()"),
    ("minutemail_apid", "update plans set calls_per_day = null"),
    ("minutemail_apid", "delete from accounts"),
    ("minutemail_apid", "update accounts set plan = 'unlimited'"),
    ("minutemail_apid", "update users set email = 'x'"),
    ("minutemail_apid", "update sessions set user_id = user_id"),
    ("minutemail_apid", "insert into password_resets select * from password_resets"),
    ("minutemail_apid", "update invitations set email = email"),
    ("minutemail_smtpd", "select hash from sessions"),
    ("minutemail_smtpd", "select * from user_password('x')"),
    ("minutemail_apid", "update mailboxes set address = address"),
    ("minutemail_apid", "update mailboxes set user_id = user_id"),
    ("minutemail_apid", "update account_mailboxes set account_id = account_id"),
    ("minutemail_apid", "update messages set mailbox_id = mailbox_id"),
    ("minutemail_apid", "update messages set user_id = user_id"),
    ("minutemail_apid", "update message_source set data = data"),
    ("minutemail_apid", "update api_usage set calls = 0"),
    ("minutemail_apid", "delete from api_audit"),
    ("minutemail_apid", "update api_audit set status = 200"),
    ("minutemail_smtpd", "select * from api_audit"),
    ("minutemail_smtpd", "select quota_return(gen_random_uuid(), 0, 0, 1)"),
])
def test_what_a_role_may_not(system, role, statement):
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        system.sql(statement, role=role)


@pytest.mark.parametrize("role", ["minutemail_smtpd", "minutemail_apid"])
def test_roles_are_ordinary(system, role):
    assert system.sql("select rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls from pg_roles where rolname = %s",
                      role) == [(False,) * 5]


def test_daemons_use_their_roles(system, api, box):
    assert deliver(system.smtp, messages.plain(), box["address"])[0] == 250
    api.only_mail(box)
    seen = {row[0] for row in system.sql("select distinct usename from pg_stat_activity where datname = 'minutemail' and "
                                         "backend_type = 'client backend' and pid <> pg_backend_pid()")}
    assert {"minutemail_smtpd", "minutemail_apid"} <= seen
    assert "postgres" not in seen


@pytest.mark.parametrize("statement", [
    "select id from users where account_id = '{id}' and id > '{id}' order by id limit 10",
    "select count(*) from users where account_id = '{id}'",
    "select k.id from api_keys k where k.account_id = '{id}' order by k.id",
    "select count(*) from api_keys where user_id = '{id}'",
    "delete from sessions where user_id = '{id}'",
    "select id from invitations where account_id = '{id}'",
    "select id from domains where account_id = '{id}'",
])
def test_what_is_asked_by_account_or_user_has_an_index(system, statement):
    statement = statement.format(id="00000000-0000-7000-8000-000000000000")
    plan = system.sql(f"set enable_seqscan = off; explain {statement}")
    assert not any("Seq Scan" in line for line, in plan), plan


def test_durability_settings(system):
    for setting, value in (("fsync", "on"), ("full_page_writes", "on"), ("synchronous_commit", "on"), ("data_checksums", "on"),
                           ("listen_addresses", "")):
        assert system.sql(f"show {setting}") == [(value,)]


def test_migrate_again_changes_nothing(system):
    before = system.sql("select * from schema_migrations order by 1")
    system.ctl("migrate")
    assert system.sql("select * from schema_migrations order by 1") == before and before
