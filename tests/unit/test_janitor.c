/* apid/janitor and the functions of 0003_janitor.sql and later on a real PostgreSQL, called as the role that calls them. Time
 * is a parameter: the hours are 500000 (NOW is 20 minutes into it) and those around it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "apid/janitor.h"
#include "common/log.h"
#include "common/loop.h"
#include "tests/support/pg_fixture.h"

#include <stdio.h>

#define HOUR 500000
#define NEVER 2147483647
#define ACCOUNT "00000000-0000-7000-8000-0000000000a1"

static struct pg_fixture *db;
static PGconn *apid;

/* `minutes` after the start of HOUR. */
static const char *at(int minutes) {
	static char text[4][64];
	static unsigned turn;
	char *s = text[turn++ % 4];
	snprintf(s, 64, "to_timestamp(%lld)", HOUR * 3600LL + minutes * 60LL);
	return s;
}

static int call(const char *fmt, ...) printf_like(1, 2);
static int call(const char *fmt, ...) {
	char sql[256];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(sql, sizeof(sql), fmt, ap);
	va_end(ap);
	PGresult *res = PQexec(apid, sql);
	if (PQresultStatus(res) != PGRES_TUPLES_OK)
		fail_msg("%s: %s", sql, PQerrorMessage(apid));
	int n = atoi(PQgetvalue(res, 0, 0));
	PQclear(res);
	return n;
}

/* Ids are as old as the hour before HOUR, so nothing is too young to be judged. n: 0..255, kind: 'b'ox or 'm'ail. */
static const char *id_of(char kind, int n) {
	static char text[4][40];
	static unsigned turn;
	char *s = text[turn++ % 4];
	unsigned long long ms = (HOUR - 1) * 3600000ULL;
	snprintf(s, 40, "%08llx-%04llx-7000-8000-0000000%c%04x", ms >> 16, ms & 0xffff, kind == 'b' ? 'b' : 'a',
	         (unsigned)n);
	return s;
}

/* expires: minutes from HOUR; INT32_MAX: never. */
static void box(int n, int bucket, bool recoverable, int expires) {
	const char *when = expires == INT32_MAX ? "null" : at(expires);
	pg_fixture_exec(db,
	                "insert into mailboxes values (%d, '%s', '" ACCOUNT "', '" ACCOUNT "', '" ACCOUNT
	                "', 'a%d@x.example', %s, null,"
	                " now(), %s)",
	                bucket, id_of('b', n), n, recoverable ? "true" : "false", when);
	pg_fixture_exec(
	    db, "insert into account_mailboxes values ('" ACCOUNT "', '%s', '" ACCOUNT "', %d, '" ACCOUNT "', %s, %s)",
	    id_of('b', n), bucket, recoverable ? "true" : "false", when);
}

/* Mail n in mailbox b; two chunks of source. */
static void mail(int n, int b, int bucket, int hour) {
	pg_fixture_exec(db,
	                "insert into messages (bucket, id, mailbox_id, received_at, expiry_hour, mail_from, rcpt_to, helo, "
	                "trace, to_list,"
	                " cc_list, reply_to_list, size, digest, parts, warnings, injected, user_id) values (%d, '%s', '%s', now(), "
	                "%d, '', '', '',"
	                " '', '[]', '[]', '[]', 20, '', '', '[]', false, '" ACCOUNT "')",
	                bucket, id_of('m', n), id_of('b', b), hour);
	pg_fixture_exec(
	    db,
	    "insert into message_source select %d, '%s', c, %d, 0, 10, convert_to('chunk ' || c || ' of %d', 'UTF8'), '" ACCOUNT "'"
	    " from generate_series(0, 1) c",
	    bucket, id_of('m', n), hour, n);
}

static bool message_there(int n) {
	return pg_fixture_int(db, "select count(*) from messages where id = '%s'", id_of('m', n)) == 1;
}

static int sources(int n) {
	return (int)pg_fixture_int(db, "select count(*) from message_source where id = '%s'", id_of('m', n));
}

static bool partition_there(int hour) {
	return *pg_fixture_value(db, "select to_regclass('message_source_h%d') is not null", hour) == 't';
}

static const char *partition_of(int n) {
	return pg_fixture_value(
	    db, "select string_agg(distinct tableoid::regclass::text, ' ') from message_source where id = '%s'",
	    id_of('m', n));
}

static int setup_each(void **state) {
	pg_fixture_exec(db, "truncate messages, message_authentication, message_source, mailboxes, account_mailboxes");
	pg_fixture_exec(db,
	                "do $$ declare r record; begin for r in select oid::regclass as t from pg_class where relkind = 'r'"
	                " and relname ~ '^message_source_h[0-9]+$' loop execute 'drop table ' || r.t; end loop; end $$");
	return 0;
}

/* ---- partitions ---- */

static void test_make(void **state) {
	assert_int_equal(call("select janitor_make_partitions(%s, 3, 100)", at(20)), 4);
	assert_false(partition_there(HOUR - 1));
	assert_true(partition_there(HOUR) && partition_there(HOUR + 3));
	assert_false(partition_there(HOUR + 4));
	assert_int_equal(call("select janitor_make_partitions(%s, 3, 100)", at(59)), 0);
	assert_int_equal(call("select janitor_make_partitions(%s, 8, 2)", at(60)), 2);
	assert_int_equal(call("select janitor_make_partitions(%s, 8, 100)", at(60)), 4);
	/* made as the parent is: a primary key, and no second try at compressing */
	assert_string_equal(
	    pg_fixture_value(db,
	                     "select attstorage from pg_attribute where attrelid = 'message_source_h%d'::regclass"
	                     " and attname = 'data'",
	                     HOUR),
	    "e");
	assert_int_equal(pg_fixture_int(db,
	                                "select count(*) from pg_inherits where inhparent = 'message_source_pkey'::regclass"
	                                " and inhrelid = 'message_source_h%d_pkey'::regclass",
	                                HOUR),
	                 1);
}

static void test_make_skips_the_default_partitions_hours(void **state) {
	box(1, 5, false, 90);
	mail(1, 1, 5, HOUR + 1);
	assert_string_equal(partition_of(1), "message_source_default");
	assert_int_equal(call("select janitor_make_partitions(%s, 2, 100)", at(20)), 2);
	assert_false(partition_there(HOUR + 1));
	assert_int_equal(sources(1), 2);
}

/* Somebody reads the default partition for long: mail goes on, the janitor comes back another time. */
static void test_make_does_not_wait(void **state) {
	PGconn *reader = PQconnectdb(pg_fixture_conninfo(db, NULL));
	PQclear(PQexec(reader, "begin; lock table message_source_default in access share mode"));
	assert_int_equal(call("select janitor_make_partitions(%s, 2, 100)", at(20)), -1);
	assert_false(partition_there(HOUR));
	PQfinish(reader);
	assert_int_equal(call("select janitor_make_partitions(%s, 2, 100)", at(20)), 3);
}

static void test_one_at_a_time(void **state) {
	PGconn *other = PQconnectdb(pg_fixture_conninfo(db, NULL));
	PQclear(PQexec(other, "begin; select pg_advisory_xact_lock(19789, 2)"));
	assert_int_equal(call("select janitor_make_partitions(%s, 2, 100)", at(20)), -1);
	assert_int_equal(call("select handled from janitor_expire_messages(%s, 0, 0, 100)", at(20)), -1);
	assert_int_equal(call("select janitor_drop_sources(%s, 100)", at(20)), -1);
	assert_int_equal(call("select janitor_delete_mailboxes(%s, 100)", at(20)), -1);
	assert_int_equal(call("select janitor_sweep_bucket(%s, 1, 100)", at(20)), -1);
	PQfinish(other);
}

/* ---- expiry ---- */

/* Box 1 expired in HOUR - 1; box 2 was given time until HOUR + 2 after its mail came; box 3 for ever; box 4 is
 * archived. */
static void four_boxes(void) {
	assert_true(call("select janitor_make_partitions(%s, 5, 100)", at(-40)) > 0);
	box(1, 5, false, -30);
	box(2, 5, false, 130);
	box(3, 900, false, INT32_MAX);
	box(4, 6, true, -30);
	for (int n = 1; n <= 4; n++)
		mail(n, n, n == 3 ? 900 : n == 4 ? 6 : 5, HOUR - 1);
}

static void test_expire(void **state) {
	four_boxes();
	/* within the grace nothing happens, and a partition in use is not dropped */
	assert_int_equal(call("select handled from janitor_expire_messages(%s, 0, 0, 100)", at(9)), 0);
	assert_int_equal(call("select janitor_drop_sources(%s, 100)", at(9)), 0);
	assert_int_equal(call("select janitor_drop_sources(%s, 100)", at(11)), 0);
	assert_true(partition_there(HOUR - 1));
	assert_int_equal(call("select handled from janitor_expire_messages(%s, 0, 0, 100)", at(11)), 4);
	assert_int_equal(call("select handled from janitor_expire_messages(%s, 0, 0, 100)", at(11)), 0);
	assert_false(message_there(1));
	assert_false(message_there(4));
	assert_true(message_there(2) && message_there(3));
	char name[40];
	snprintf(name, sizeof(name), "message_source_h%d", HOUR + 2);
	assert_string_equal(partition_of(2), name);
	assert_string_equal(partition_of(3), "message_source_never");
	assert_int_equal(pg_fixture_int(db, "select expiry_hour from messages where id = '%s'", id_of('m', 2)), HOUR + 2);
	assert_int_equal(pg_fixture_int(db, "select expiry_hour from messages where id = '%s'", id_of('m', 3)), NEVER);
	assert_int_equal(call("select janitor_drop_sources(%s, 100)", at(11)), 1);
	assert_int_equal(call("select janitor_drop_sources(%s, 100)", at(11)), 0);
	assert_false(partition_there(HOUR - 1));
	assert_true(partition_there(HOUR));
	/* what moved is whole */
	assert_int_equal(sources(2), 2);
	assert_string_equal(
	    pg_fixture_value(db, "select convert_from(data, 'UTF8') from message_source where id = '%s' and chunk = 1",
	                     id_of('m', 2)),
	    "chunk 1 of 2");
	assert_int_equal(sources(1) + sources(4), 0);
}

static void test_expire_in_pieces(void **state) {
	four_boxes();
	assert_int_equal(call("select handled from janitor_expire_messages(%s, 0, 0, 3)", at(11)), 3);
	assert_int_equal(call("select janitor_drop_sources(%s, 3)", at(11)), 0);
	assert_int_equal(call("select handled from janitor_expire_messages(%s, 0, 0, 3)", at(11)), 1);
	assert_int_equal(call("select handled from janitor_expire_messages(%s, 0, 0, 3)", at(11)), 0);
	assert_int_equal(pg_fixture_int(db, "select count(*) from messages"), 2);
	assert_int_equal(call("select janitor_drop_sources(%s, 3)", at(11)), 1);
}

/* A call goes on where the last one came to, and begins again when nothing is left from there on. */
static void test_expire_goes_on(void **state) {
	mail(1, 1, 3, HOUR - 1);
	mail(2, 2, 5, HOUR - 1);
	mail(3, 3, 5, HOUR - 1);
	assert_string_equal(pg_fixture_value(db, "select janitor_expire_messages(%s, 0, 0, 1)", at(11)), "(1,499999,3)");
	mail(4, 1, 3, HOUR - 1); /* late */
	assert_string_equal(pg_fixture_value(db, "select janitor_expire_messages(%s, 499999, 3, 1)", at(11)), "(1,499999,3)");
	mail(5, 1, 3, HOUR - 1);
	assert_string_equal(pg_fixture_value(db, "select janitor_expire_messages(%s, 499999, 5, 100)", at(11)), "(2,499999,5)");
	assert_true(message_there(5));
	assert_string_equal(pg_fixture_value(db, "select janitor_expire_messages(%s, 499999, 5, 100)", at(11)), "(1,499999,3)");
	assert_string_equal(pg_fixture_value(db, "select janitor_expire_messages(%s, 499999, 3, 100)", at(11)), "(0,0,0)");
	mail(6, 1, 3, HOUR - 1);
	assert_string_equal(pg_fixture_value(db, "select janitor_expire_messages(%s, 499999, 3, 100)", at(9)), "(0,0,0)"); /* not yet */
	assert_int_equal(pg_fixture_int(db, "select count(*) from messages"), 1);
}

static void test_default_partition_is_cleaned(void **state) {
	box(1, 5, false, -30);
	box(2, 5, false, 130);
	mail(1, 1, 5, HOUR - 1);
	mail(2, 2, 5, HOUR - 1);
	mail(3, 2, 5, HOUR + 2);
	assert_string_equal(partition_of(1), "message_source_default");
	assert_int_equal(call("select janitor_drop_sources(%s, 100)", at(11)), 0);
	assert_int_equal(call("select handled from janitor_expire_messages(%s, 0, 0, 100)", at(11)), 2);
	assert_int_equal(call("select janitor_drop_sources(%s, 1)", at(11)), 1);
	assert_int_equal(call("select janitor_drop_sources(%s, 100)", at(11)), 1);
	assert_int_equal(sources(1), 0);
	assert_int_equal(sources(2), 2);
	assert_int_equal(sources(3), 2);
}

static void test_drop_does_not_wait(void **state) {
	assert_int_equal(call("select janitor_make_partitions(%s, 1, 100)", at(-40)), 2);
	PGconn *reader = PQconnectdb(pg_fixture_conninfo(db, NULL));
	PQclear(PQexec(reader, "begin; lock table message_source in access share mode"));
	assert_int_equal(call("select janitor_drop_sources(%s, 100)", at(11)), -1);
	PQfinish(reader);
	assert_int_equal(call("select janitor_drop_sources(%s, 100)", at(11)), 1);
}

/* ---- mailboxes ---- */

static void test_delete_mailboxes(void **state) {
	box(1, 5, false, -30);       /* dead */
	box(2, 5, true, -30);        /* archived */
	box(3, 5, false, 5);         /* dead within the grace */
	box(4, 5, false, 30);        /* live */
	box(5, 5, false, INT32_MAX); /* permanent */
	assert_int_equal(call("select janitor_delete_mailboxes(%s, 100)", at(10)), 1);
	assert_string_equal(pg_fixture_value(db, "select string_agg(address, ' ' order by address) from mailboxes"),
	                    "a2@x.example a3@x.example a4@x.example a5@x.example");
	assert_int_equal(pg_fixture_int(db, "select count(*) from account_mailboxes"), 4);
	assert_int_equal(call("select janitor_delete_mailboxes(%s, 100)", at(10)), 0);
	assert_int_equal(call("select janitor_delete_mailboxes(%s, 1)", at(60)), 1);
	assert_int_equal(call("select janitor_delete_mailboxes(%s, 1)", at(60)), 1);
	assert_int_equal(pg_fixture_int(db, "select count(*) from account_mailboxes"), 2);
}

/* ---- sweep ---- */

static void test_sweep(void **state) {
	assert_true(call("select janitor_make_partitions(%s, 9, 100)", at(-40)) > 0);
	box(1, 5, false, INT32_MAX);
	box(2, 5, true, -30);
	mail(1, 1, 5, NEVER);    /* fine */
	mail(2, 2, 5, NEVER);    /* of a mailbox that was permanent and is archived */
	mail(3, 3, 5, NEVER);    /* of no mailbox */
	mail(4, 3, 5, HOUR + 1); /* the same, but its partition goes soon */
	mail(5, 3, 5, HOUR + 7); /* and late */
	mail(6, 3, 6, NEVER);    /* another bucket */
	mail(7, 1, 5, NEVER);
	pg_fixture_exec(db, "delete from messages where id = '%s'", id_of('m', 7)); /* a source without its message */
	box(8, 5, false, INT32_MAX);
	pg_fixture_exec(db, "delete from mailboxes where id = '%s'",
	                id_of('b', 8)); /* a line of a list without its mailbox */
	assert_int_equal(call("select janitor_sweep_bucket(%s, 5, 100)", at(20)), 3 + 2 + 1);
	assert_true(message_there(1) && message_there(4) && message_there(6));
	assert_false(message_there(2) || message_there(3) || message_there(5));
	assert_int_equal(sources(1), 2);
	assert_int_equal(sources(2) + sources(3) + sources(5) + sources(7), 0);
	assert_int_equal(sources(4), 2);
	assert_int_equal(pg_fixture_int(db, "select count(*) from account_mailboxes"), 2);
	assert_int_equal(call("select janitor_sweep_bucket(%s, 5, 100)", at(20)), 0);
	assert_int_equal(call("select janitor_sweep_bucket(%s, 6, 100)", at(20)), 1);
	assert_int_equal(sources(6), 0);
}

static void test_sweep_in_pieces(void **state) {
	for (int n = 0; n < 5; n++)
		mail(n, n < 3 ? 1 : 2, 5, NEVER);
	assert_int_equal(call("select janitor_sweep_bucket(%s, 5, 2)", at(20)), 2);
	assert_int_equal(call("select janitor_sweep_bucket(%s, 5, 2)", at(20)), 2);
	assert_int_equal(call("select janitor_sweep_bucket(%s, 5, 2)", at(20)), 1);
	assert_int_equal(pg_fixture_int(db, "select count(*) from message_source"), 0);
}

/* What is younger than the grace may be half of somebody's work. */
static void test_sweep_spares_the_young(void **state) {
	mail(1, 1, 5, NEVER);
	box(2, 5, false, INT32_MAX);
	pg_fixture_exec(db, "delete from mailboxes");
	assert_int_equal(call("select janitor_sweep_bucket(%s, 5, 100)", at(-55)), 0);
	assert_int_equal(call("select janitor_sweep_bucket(%s, 5, 100)", at(-49)), 2);
}

/* ---- the roles of 0002_roles.sql ---- */

static void test_smtpd_grants(void **state) {
#define ONE_MESSAGE                                                                                                    \
	"insert into messages (bucket, id, mailbox_id, received_at, expiry_hour, mail_from, rcpt_to, helo, trace, "        \
	"to_list, cc_list,"                                                                                                \
	" reply_to_list, size, digest, parts, warnings, injected, user_id)"                                                \
	" select *, now(), 500001, '', '', '', '', '[]', '[]', '[]', 1, '', '', '[]', false, '" ACCOUNT "'::uuid"                \
	" from unnest('{5}'::smallint[], '{" ACCOUNT "}'::uuid[], '{" ACCOUNT "}'::uuid[])"
#define ONE_SOURCE                                                                                                     \
	"insert into message_source (bucket, id, chunk, expiry_hour, codec, size, data, user_id)"                          \
	" select *, '" ACCOUNT "'::uuid from unnest('{5}'::smallint[], '{" ACCOUNT                                                              \
	"}'::uuid[], '{0}'::int[], '{500001}'::int[], '{0}'::smallint[],"                                                  \
	" '{1}'::int[], '{x}'::bytea[])"
	static const struct {
		const char *sql;
		bool allowed;
	} rows[] = {
	    {ONE_MESSAGE, true},
	    {ONE_MESSAGE " on conflict (bucket, id) do update set id = excluded.id", true},
	    {ONE_SOURCE, true},
	    {ONE_SOURCE " on conflict (bucket, id, chunk, expiry_hour) do update set id = excluded.id", true},
	    {"select id, expires_at from mailboxes where bucket = 1 and address = 'a@b'", true},
	    {"select name from domains where account_id is null and status = 'verified' order by id", true},
	    {"select max(version) from schema_migrations", true},
	    {"select bucket, id from messages", true},
	    {"select subject from messages", false},
	    {"select data from message_source", false},
	    {"select data from message_source_h500001", false},
	    {"select tag from mailboxes", false},
	    {"select user_id, account_id from mailboxes", true},
	    {"select u.id, u.state, a.id, a.state from users u, accounts a", true},
	    {"select account_id from users", false},
	    {"select plan from accounts", false},
	    {"update users set state = 'active'", false},
	    {"select user_id from messages", false},
	    {"select user_id from message_source", false},
	    {"select hash from api_keys", false},
	    {"select email from users", false},
	    {"update messages set subject = ''", false},
	    {"delete from messages", false},
	    {"delete from message_source", false},
	    {"insert into mailboxes (bucket) values (1)", false},
	    {"select janitor_sweep_bucket(now(), 1, 1)", false},
	    {"create table mine (n int)", false},
	    {"drop table messages", false},
	};
	assert_true(call("select janitor_make_partitions(%s, 2, 100)", at(20)) > 0);
	PGconn *smtpd = PQconnectdb(pg_fixture_conninfo(db, "minutemail_smtpd"));
	for (size_t i = 0; i < array_len(rows); i++) {
		PGresult *res = PQexec(smtpd, rows[i].sql);
		bool ok = PQresultStatus(res) == PGRES_TUPLES_OK || PQresultStatus(res) == PGRES_COMMAND_OK;
		const char *state_code = PQresultErrorField(res, PG_DIAG_SQLSTATE);
		if (ok != rows[i].allowed || (!ok && strcmp(state_code, "42501") != 0))
			fail_msg("%s: %s", rows[i].sql, PQresultErrorMessage(res));
		PQclear(res);
	}
	PQfinish(smtpd);
	assert_int_equal(pg_fixture_int(db, "select count(*) from message_source_h500001"), 1);
}

static void test_apid_grants(void **state) {
	static const struct {
		const char *sql;
		bool allowed;
	} rows[] = {
	    {"select * from messages, message_source, mailboxes, account_mailboxes, plans, accounts, domains, api_keys, "
	     "api_key_domains",
	     true},
	    {"select id, account_id, email, role, state, created_at from users", true},
	    {"update api_keys set last_used_at = now()", false},
	    {"update api_keys set name = name", true},
	    {"delete from message_source", true},
	    {"select password_hash from users", false},
	    {"update api_keys set user_id = null", false},
	    {"update api_key_domains set key_id = null", false},
	    {"update plans set calls_per_day = null", false},
	    {"update domains set account_id = null", false},
	    {"select janitor_lock()", false},
	    {"create table mine (n int)", false},
	    {"drop table message_source_never", false},
	    {"update schema_migrations set version = 9", false},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		PGresult *res = PQexec(apid, rows[i].sql);
		bool ok = PQresultStatus(res) == PGRES_TUPLES_OK || PQresultStatus(res) == PGRES_COMMAND_OK;
		const char *state_code = PQresultErrorField(res, PG_DIAG_SQLSTATE);
		if (ok != rows[i].allowed || (!ok && strcmp(state_code, "42501") != 0))
			fail_msg("%s: %s", rows[i].sql, PQresultErrorMessage(res));
		PQclear(res);
	}
}

/* ---- the daemon's side ---- */

static void drop_line(void *arg, enum log_level level, const char *line, size_t n) {
	int *errors = arg;
	if (level >= LOG_LEVEL_WARNING) {
		fprintf(stderr, "%.*s\n", (int)n, line);
		++*errors;
	}
}

static void nothing(void *arg) {
	(void)arg;
}

static void test_run(void **state) {
	int errors = 0;
	char *conninfo = xstrdup(pg_fixture_conninfo(db, "minutemail_apid"));
	const struct janitor_options options = {conninfo, 3600000000};
	struct loop *loop = loop_new();
	struct timer tick;
	timer_init(&tick, loop, nothing, NULL);
	log_set_sink(drop_line, &errors);
	box(1, 5, false, -30); /* HOUR is in 2027; this one expires then */
	pg_fixture_exec(db, "update mailboxes set expires_at = now() - interval '1 day'");
	struct janitor *j = janitor_new(loop, &options);
	for (int i = 0; i < 1000 && janitor_runs(j) == 0; i++) {
		timer_arm(&tick, 10000);
		loop_turn(loop);
	}
	assert_int_equal(janitor_runs(j), 1);
	assert_int_equal(errors, 0);
	int now = (int)pg_fixture_int(db, "select floor(extract(epoch from now()) / 3600)::int");
	assert_true(partition_there(now) && partition_there(now + 1) && partition_there(now + 6));
	assert_int_equal(pg_fixture_int(db, "select count(*) from mailboxes"), 0);
	janitor_free(j);
	/* and once more, stopped in the middle */
	j = janitor_new(loop, &options);
	loop_turn(loop);
	janitor_free(j);
	loop_turn(loop);
	timer_fini(&tick);
	loop_free(loop);
	log_set_sink(NULL, NULL);
	free(conninfo);
}

static int setup(void **state) {
	log_init("test", LOG_LEVEL_ERROR);
	db = pg_fixture_new(NULL);
	apid = PQconnectdb(pg_fixture_conninfo(db, "minutemail_apid"));
	return PQstatus(apid) == CONNECTION_OK ? 0 : -1;
}

static int teardown(void **state) {
	PQfinish(apid);
	pg_fixture_free(db);
	return 0;
}

int main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(test_make, setup_each),
	    cmocka_unit_test_setup(test_make_skips_the_default_partitions_hours, setup_each),
	    cmocka_unit_test_setup(test_make_does_not_wait, setup_each),
	    cmocka_unit_test_setup(test_one_at_a_time, setup_each),
	    cmocka_unit_test_setup(test_expire, setup_each),
	    cmocka_unit_test_setup(test_expire_in_pieces, setup_each),
	    cmocka_unit_test_setup(test_expire_goes_on, setup_each),
	    cmocka_unit_test_setup(test_default_partition_is_cleaned, setup_each),
	    cmocka_unit_test_setup(test_drop_does_not_wait, setup_each),
	    cmocka_unit_test_setup(test_delete_mailboxes, setup_each),
	    cmocka_unit_test_setup(test_sweep, setup_each),
	    cmocka_unit_test_setup(test_sweep_in_pieces, setup_each),
	    cmocka_unit_test_setup(test_sweep_spares_the_young, setup_each),
	    cmocka_unit_test_setup(test_smtpd_grants, setup_each),
	    cmocka_unit_test_setup(test_apid_grants, setup_each),
	    cmocka_unit_test_setup(test_run, setup_each),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
