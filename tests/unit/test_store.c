/* smtpd/store on a real PostgreSQL, in smtpd's own role: batches, sources byte for byte, poison, doubt, a full disk, a server that
 * goes away, and callers that give up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/mail_row.h"
#include "common/pg.h"
#include "smtpd/store.h"
#include "smtpd_stmts.h"
#include "tests/support/pg_fixture.h"
#include "tests/support/unit.h"

#include <stdio.h>
#include <unistd.h>

#define NOW_US INT64_C(1795533314123456)

static struct pg_fixture *db;
static struct loop *loop;
static struct pg *pg;
static struct store *store;
static char last_error[1000]; /* the last line of level error */
static unsigned error_lines;

/* ---- one mail ---- */

struct mail {
	struct spool *spool;
	struct message *message;
	struct store_recipient recipients[8];
	struct store_request request;
	struct store_op *op;
	bool done;
	enum store_verdict verdict;
};

static void on_stored(void *arg, enum store_verdict verdict) {
	struct mail *m = arg;
	assert_false(m->done);
	m->done = true;
	m->op = NULL;
	m->verdict = verdict;
}

static void never(void *arg, enum store_verdict verdict) {
	(void)arg;
	(void)verdict;
	fail_msg("called after a cancel");
}

/* Half of it compresses, half does not. */
static void fill_spool(struct spool *spool, size_t n) {
	uint32_t seed = 1;
	char block[1000];
	for (size_t at = 0; at < n; at += sizeof(block)) {
		for (size_t i = 0; i < sizeof(block); i++) {
			seed = seed * 1664525 + 1013904223;
			block[i] = i % 2 ? 'x' : (char)(seed >> 24);
		}
		assert_int_equal(spool_append(spool, block, min_of(sizeof(block), n - at)), 0);
	}
}

static void make_mail(struct mail *m, size_t size, unsigned recipients) {
	*m = (struct mail){.spool = spool_new("/tmp"), .message = message_new()};
	fill_spool(m->spool, size);
	m->message->subject = xstrdup("Caf\xc3\xa9");
	m->message->from_address = xstrdup("a@example.org");
	m->message->body_text = xstrdup("text");
	message_strings_add(&m->message->to, "\"q\"@example.org", 15);
	message_strings_add(&m->message->to, "b@example.org", 13);
	message_warn(m->message, "bad_base64");
	for (unsigned i = 0; i < recipients; i++) {
		m->recipients[i] =
			(struct store_recipient){.expires_at = i % 2 ? INT64_MAX : NOW_US, .rcpt_to = "x@minutemail.cc"};
		id_make_in_bucket(&m->recipients[i].mailbox, NOW_US, i * 100);
		id_make_in_bucket(&m->recipients[i].id, NOW_US, i * 100);
	}
	m->request = (struct store_request){
		.recipients = m->recipients,
		.recipient_count = recipients,
		.received_at = NOW_US,
		.mail_from = "",
		.helo = "client.example",
		.trace = "Received: x\r\n",
		.message = m->message,
		.spool = m->spool,
	};
}

static void start(struct mail *m) {
	m->op = store_start(store, &m->request, on_stored, m);
	assert_non_null(m->op);
	assert_false(m->done);
}

static void end_mail(struct mail *m) {
	m->op = store_cancel(m->op);
	spool_free(m->spool);
	message_free(m->message);
}

/* ---- the loop ---- */

static void turn(void) {
	turn_within(loop, 10000);
}

static void spin(int64_t us) {
	int64_t end = clock_mono_us_now() + us;
	while (clock_mono_us_now() < end)
		turn();
}

static void await(struct mail *m) {
	int64_t end = clock_mono_us_now() + 25000000;
	while (!m->done && clock_mono_us_now() < end)
		turn();
	assert_true(m->done);
}

static void await_idle(void) {
	int64_t end = clock_mono_us_now() + 10000000;
	while (!store_idle(store) && clock_mono_us_now() < end)
		turn();
	assert_true(store_idle(store));
}

static void await_up(unsigned connections) {
	int64_t end = clock_mono_us_now() + 10000000;
	while (pg_stats(pg).up < connections && clock_mono_us_now() < end)
		turn();
	assert_int_equal(pg_stats(pg).up, connections);
	assert_string_equal(pg_down_reason(pg), "");
}

static void sink(void *arg, enum log_level level, const char *line, size_t n) {
	(void)arg;
	if (level == LOG_LEVEL_ERROR) {
		error_lines++;
		snprintf(last_error, sizeof(last_error), "%.*s", (int)n, line);
	}
	if (getenv("TEST_LOG"))
		fprintf(stderr, "%.*s\n", (int)n, line);
}

static void open_store(int64_t deadline_us, size_t batch_octets) {
	const struct pg_options pg_options = {
		.conninfo = pg_fixture_conninfo(db, "minutemail_smtpd"),
		.application_name = "test",
		.stmts = SMTPD_STMTS,
		.connections = 2,
		.transactions_only = true,
		.query_deadline_us = deadline_us,
		.connect_deadline_us = 5000000,
		.schema_version = pg_fixture_version(db),
	};
	const struct store_options options = {
		.connections = 2,
		.batch_messages = 64,
		.batch_octets = batch_octets,
		.deadline_us = deadline_us,
	};
	error_lines = 0;
	last_error[0] = '\0';
	loop = loop_new();
	pg = pg_new(loop, &pg_options);
	store = store_new(loop, pg, &options);
	await_up(pg_options.connections);
}

/* Whether a commit waits for a standby by now: the server's processes learn of the setting one after the other. */
static bool commits_wait(void) {
	bool waits = false;
	PGconn *pq = PQconnectdb(pg_fixture_conninfo(db, NULL));
	assert_int_equal(PQsendQuery(pq, "select pg_logical_emit_message(true, '', '')"), 1);
	while (!waits && PQconsumeInput(pq) && PQisBusy(pq))
		waits = pg_fixture_int(db,
		                       "select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity where pid = %d and "
		                       "wait_event = 'SyncRep'",
		                       PQbackendPID(pq));
	PQfinish(pq);
	return waits;
}

static void set_standby(const char *names) {
	pg_fixture_exec(db, "alter system set synchronous_standby_names = '%s'", names);
	pg_fixture_exec(db, "select pg_reload_conf()");
	int64_t end = clock_mono_us_now() + 10000000;
	while (commits_wait() != (*names != '\0'))
		assert_true(clock_mono_us_now() < end);
}

static int teardown(void **state) {
	(void)state;
	store = store_free(store);
	pg = pg_free(pg);
	loop_turn(loop);
	loop_free(loop);
	if (*pg_fixture_value(db, "show synchronous_standby_names"))
		set_standby("");
	pg_fixture_exec(db, "drop trigger if exists test on messages");
	pg_fixture_exec(db, "drop trigger if exists test on message_source");
	pg_fixture_exec(db, "truncate messages, message_authentication, message_source");
	return 0;
}

static int start_db(void **state) {
	(void)state;
	log_init("test", LOG_LEVEL_DEBUG);
	log_set_sink(sink, NULL);
	db = pg_fixture_new("log_statement = 'all'");
	pg_fixture_exec(db, "create sequence counter");
	pg_fixture_exec(db, "grant usage on counter to minutemail_smtpd");
	return 0;
}

static int stop_db(void **state) {
	(void)state;
	db = pg_fixture_free(db);
	return 0;
}

/* `body`: PL/pgSQL run before each row of messages. */
static void set_trigger(const char *body) {
	pg_fixture_exec(
		db, "create or replace function test() returns trigger language plpgsql as $$ begin %s return new; end $$",
		body);
	pg_fixture_exec(db, "create trigger test before insert on messages for each row execute function test()");
}

/* ---- reading back ---- */

static const char *column(const struct store_recipient *r, const char *expression) {
	char id[ID_TEXT_SIZE];
	id_format(&r->id, id);
	return pg_fixture_value(db, "select %s from messages where bucket = %u and id = '%s'", expression,
	                        id_bucket(&r->mailbox), id);
}

static int64_t be(const char *p, int n) {
	uint64_t v = 0;
	for (int i = 0; i < n; i++)
		v = v << 8 | (uint8_t)p[i];
	return (int64_t)v;
}

/* Every chunk in its place, full but the last, and the octets those of the spool. */
static void assert_source(const struct mail *m, const struct store_recipient *r) {
	char id[ID_TEXT_SIZE];
	struct mail_zstd *zstd = mail_zstd_new();
	uint64_t at = 0, size = spool_size(m->spool);
	char *expected = xmalloc(MAIL_CHUNK);
	id_format(&r->id, id);
	PGconn *pq = PQconnectdb(pg_fixture_conninfo(db, NULL));
	cleanup(freep) char *sql = xasprintf("select chunk, codec, size, data, expiry_hour from message_source where "
	                                     "bucket = %u and id = '%s' order by chunk",
	                                     id_bucket(&r->mailbox), id);
	PGresult *res = PQexecParams(pq, sql, 0, NULL, NULL, NULL, NULL, 1);
	assert_int_equal(PQntuples(res), (size + MAIL_CHUNK - 1) / MAIL_CHUNK);
	for (int i = 0; i < PQntuples(res); i++) {
		struct slice raw, data = slice_of(PQgetvalue(res, i, 3), (size_t)PQgetlength(res, i, 3));
		int64_t n = be(PQgetvalue(res, i, 2), 4);
		assert_int_equal(be(PQgetvalue(res, i, 0), 4), i);
		assert_int_equal(n, min_of(size - at, (uint64_t)MAIL_CHUNK));
		assert_int_equal(mail_chunk_decompress(zstd, be(PQgetvalue(res, i, 1), 2), n, data, &raw), 0);
		assert_int_equal(spool_read(m->spool, at, expected, (size_t)n), n);
		assert_memory_equal(raw.p, expected, (size_t)n);
		assert_int_equal(be(PQgetvalue(res, i, 4), 4), store_expiry_hour(r->expires_at));
		at += (uint64_t)n;
	}
	assert_true(at == size);
	PQclear(res);
	PQfinish(pq);
	free(expected);
	mail_zstd_free(zstd);
}

/* ---- rows ---- */

static void test_columns(void **state) {
	struct mail m;
	char hex[65];
	uint8_t digest[32];
	(void)state;
	open_store(10000000, 1 << 20);
	make_mail(&m, 1000, 2);
	m.request.tls = "TLSv1.3 X";
	m.request.authentication = "{}";
	start(&m);
	await(&m);
	assert_int_equal(m.verdict, STORE_COMMITTED);
	const struct store_recipient *r = &m.recipients[1];
	assert_string_equal(column(r, "authentication"), "{}");
	assert_string_equal(column(r, "subject"), "Caf\xc3\xa9");
	assert_string_equal(column(r, "to_list"), "[\"\\\"q\\\"@example.org\",\"b@example.org\"]");
	assert_string_equal(column(r, "cc_list || reply_to_list || warnings"), "[][][\"bad_base64\"]");
	assert_string_equal(column(r, "concat_ws('|', mail_from, rcpt_to, helo, tls, trace)"),
	                    "|x@minutemail.cc|client.example|TLSv1.3 X|Received: x\r\n");
	assert_string_equal(column(r, "from_address || body_text || size"), "a@example.orgtext1000");
	assert_string_equal(column(r, "from_name is null and body_html is null and not injected"), "t");
	assert_string_equal(column(r, "received_at = '2026-11-24 15:15:14.123456+00'"), "t");
	assert_string_equal(column(r, "expiry_hour"), "2147483647");
	assert_int_equal(atoi(column(&m.recipients[0], "expiry_hour")), NOW_US / HOUR_US);
	spool_digest(m.spool, digest);
	for (int i = 0; i < 32; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	assert_string_equal(column(r, "encode(digest, 'hex')"), hex);
	assert_string_equal(column(r, "encode(parts, 'hex')"), "01"); /* an empty part table: its version alone */
	assert_source(&m, &m.recipients[0]);
	assert_source(&m, &m.recipients[1]);
	assert_true(store_idle(store));
	end_mail(&m);
}

static void test_sizes(void **state) {
	static const size_t sizes[] = {0, 1, 262143, 262144, 262145, 524288, 1 << 20, 3000000};
	(void)state;
	open_store(10000000, 1 << 20);
	for (unsigned i = 0; i < array_len(sizes); i++) {
		struct mail m;
		make_mail(&m, sizes[i], 3);
		start(&m);
		await(&m);
		assert_int_equal(m.verdict, STORE_COMMITTED);
		for (unsigned j = 0; j < 3; j++)
			assert_source(&m, &m.recipients[j]);
		assert_int_equal(atoll(column(&m.recipients[0], "size")), sizes[i]);
		end_mail(&m);
	}
}

static void test_expiry_hour(void **state) {
	(void)state;
	assert_int_equal(store_expiry_hour(INT64_MAX), STORE_NEVER_HOUR);
	assert_int_equal(store_expiry_hour(0), 0);
	assert_int_equal(store_expiry_hour(HOUR_US - 1), 0);
	assert_int_equal(store_expiry_hour(HOUR_US), 1);
	assert_int_equal(store_expiry_hour(INT64_MAX - 1),
	                 INT64_MAX / HOUR_US < INT32_MAX ? INT64_MAX / HOUR_US : INT32_MAX - 1);
}

/* ---- batches ---- */

static int64_t transactions(void) {
	return pg_fixture_int(db, "select count(distinct xmin::text) from messages");
}

static void test_one_batch(void **state) {
	struct mail m[64];
	(void)state;
	open_store(10000000, 1 << 20);
	for (unsigned i = 0; i < array_len(m); i++) {
		make_mail(&m[i], 1000 + i, 1);
		start(&m[i]);
	}
	for (unsigned i = 0; i < array_len(m); i++) {
		await(&m[i]);
		assert_int_equal(m[i].verdict, STORE_COMMITTED);
	}
	assert_int_equal(transactions(), 1);
	for (unsigned i = 0; i < array_len(m); i += 9)
		assert_source(&m[i], &m[i].recipients[0]);
	assert_int_equal(pg_fixture_int(db, "select count(distinct xmin::text) from message_source"), 1);
	for (unsigned i = 0; i < array_len(m); i++)
		end_mail(&m[i]);
}

/* By number and by octets; a mail larger than a batch has one to itself; a mail's recipients may be spread over several. */
static void test_limits(void **state) {
	static const struct {
		unsigned mails, recipients;
		size_t size;
		int transactions;
	} rows[] = {
		{65, 1, 10, 2},    {20, 8, 10, 3},   {10, 1, 30000, 3}, /* four of 30,000 octets in 128 KiB, with their texts */
		{3, 1, 140000, 3}, {1, 8, 40000, 3},
	};
	for (unsigned i = 0; i < array_len(rows); i++) {
		struct mail m[65];
		open_store(10000000, 128 * 1024);
		for (unsigned j = 0; j < rows[i].mails; j++) {
			make_mail(&m[j], rows[i].size, rows[i].recipients);
			start(&m[j]);
		}
		for (unsigned j = 0; j < rows[i].mails; j++) {
			await(&m[j]);
			assert_int_equal(m[j].verdict, STORE_COMMITTED);
			end_mail(&m[j]);
		}
		assert_int_equal(transactions(), rows[i].transactions);
		assert_int_equal(pg_fixture_int(db, "select count(*) from messages"), rows[i].mails * rows[i].recipients);
		teardown(state);
	}
	open_store(10000000, 1 << 20);
}

/* ---- refusals ---- */

static void test_poison_fields(void **state) {
	struct mail m[10];
	(void)state;
	open_store(10000000, 1 << 20);
	for (unsigned i = 0; i < array_len(m); i++) {
		make_mail(&m[i], 5000 + i, i == 4 ? 2 : 1);
		if (i == 4)
			m[i].message->subject[2] = '\xff'; /* no UTF-8: 22021 */
		start(&m[i]);
	}
	for (unsigned i = 0; i < array_len(m); i++) {
		await(&m[i]);
		assert_int_equal(m[i].verdict, STORE_COMMITTED);
		assert_source(&m[i], &m[i].recipients[0]);
		assert_string_equal(column(&m[i].recipients[0], "coalesce(subject, '-')"), i == 4 ? "-" : "Caf\xc3\xa9");
	}
	for (unsigned j = 0; j < 2; j++) {
		assert_string_equal(column(&m[4].recipients[j], "warnings || to_list"), "[\"parse_failed\"][]");
		assert_string_equal(column(&m[4].recipients[j], "coalesce(from_address, body_text, '-') || size"), "-5004");
		assert_source(&m[4], &m[4].recipients[j]);
	}
	assert_int_equal(error_lines, 0);
	for (unsigned i = 0; i < array_len(m); i++)
		end_mail(&m[i]);
}

static void test_poison_envelope(void **state) {
	struct mail m;
	(void)state;
	open_store(10000000, 1 << 20);
	make_mail(&m, 10, 1);
	m.request.helo = "a\xff";
	start(&m);
	await(&m);
	assert_int_equal(m.verdict, STORE_COMMITTED);
	assert_string_equal(column(&m.recipients[0], "helo"), "a\xef\xbf\xbd");
	assert_source(&m, &m.recipients[0]);
	end_mail(&m);
}

/* Refused even without its fields: given up, and nobody else's business. */
static void test_refused_for_good(void **state) {
	struct mail m[9];
	(void)state;
	open_store(10000000, 1 << 20);
	set_trigger("if new.rcpt_to = 'bad' then raise exception 'not this one' using errcode = '23514'; end if;");
	for (unsigned i = 0; i < array_len(m); i++) {
		make_mail(&m[i], 100, 1);
		if (i == 8)
			m[i].recipients[0].rcpt_to = "bad";
		start(&m[i]);
	}
	for (unsigned i = 0; i < array_len(m); i++) {
		await(&m[i]);
		assert_int_equal(m[i].verdict, i == 8 ? STORE_UNAVAILABLE : STORE_COMMITTED);
	}
	assert_int_equal(error_lines, 1);
	assert_non_null(strstr(last_error, "23514"));
	assert_non_null(strstr(last_error, "not this one"));
	assert_int_equal(pg_fixture_int(db, "select count(*) from messages"), 8);
	for (unsigned i = 0; i < array_len(m); i++)
		end_mail(&m[i]);
}

static void test_verdicts(void **state) {
	static const struct {
		const char *name, *body;
		enum store_verdict verdict;
	} rows[] = {
		{"disk full", "raise exception 'x' using errcode = '53100';", STORE_FULL},
		{"out of memory for good", "raise exception 'x' using errcode = '53200';", STORE_UNAVAILABLE},
		{"serialization failure, then well",
	     "if nextval('counter') < 3 then raise exception 'x' using errcode = '40001'; end if;", STORE_COMMITTED},
		{"read only, then well", "if nextval('counter') < 3 then raise exception 'x' using errcode = '25006'; end if;",
	     STORE_COMMITTED},
		{"lock timeout, then well",
	     "if nextval('counter') < 3 then raise exception 'x' using errcode = '55P03'; end if;", STORE_COMMITTED},
	};
	for (unsigned i = 0; i < array_len(rows); i++) {
		struct mail m[2];
		open_store(700000, 1 << 20);
		pg_fixture_exec(db, "alter sequence counter restart");
		set_trigger(rows[i].body);
		for (unsigned j = 0; j < 2; j++) {
			make_mail(&m[j], 100, 1);
			start(&m[j]);
		}
		for (unsigned j = 0; j < 2; j++) {
			await(&m[j]);
			if (m[j].verdict != rows[i].verdict)
				fail_msg("%s: %d", rows[i].name, m[j].verdict);
			end_mail(&m[j]);
		}
		assert_int_equal(transactions(), rows[i].verdict == STORE_COMMITTED);
		teardown(state);
	}
	open_store(10000000, 1 << 20);
}

/* Somebody holds the table. What got 451 for it is not stored when he lets go, and nothing of ours waits there meanwhile. */
static void test_locked(void **state) {
	struct mail m, other, after;
	(void)state;
	open_store(3000000, 1 << 20);
	pg_fixture_exec(db, "begin");
	pg_fixture_exec(db, "lock table messages in access exclusive mode");
	make_mail(&m, 100, 1);
	start(&m);
	spin(500000);
	make_mail(&other, 100, 1);
	start(&other);
	assert_true(pg_fixture_int(db, "select count(*) from pg_locks where not granted") > 0);
	await(&m);
	await(&other);
	assert_int_equal(m.verdict, STORE_UNAVAILABLE);
	assert_int_equal(other.verdict, STORE_UNAVAILABLE);
	assert_int_equal(pg_fixture_int(db, "select count(*) from pg_locks where not granted"), 0);
	pg_fixture_exec(db, "commit");
	make_mail(&after, 100, 1);
	start(&after);
	await(&after);
	assert_int_equal(after.verdict, STORE_COMMITTED);
	assert_int_equal(pg_fixture_int(db, "select count(*) from messages"), 1);
	end_mail(&m);
	end_mail(&other);
	end_mail(&after);
}

/* ---- doubt ---- */

static bool server_log_has(const char *text) {
	char path[200];
	snprintf(path, sizeof(path), "%s/server.log", pg_fixture_dir(db));
	FILE *f = fopen(path, "re");
	char *all = NULL;
	size_t size = 0;
	assert_non_null(f);
	ssize_t n = getdelim(&all, &size, '\0', f);
	fclose(f);
	bool found = n > 0 && strstr(all, text);
	free(all);
	return found;
}

/* Until so many of the store's transactions wait for the standby in their COMMIT; then `act` on the `pid` of each. */
static void await_commits(const char *act, int n) {
	int64_t end = clock_mono_us_now() + 20000000;
	static const char waiting[] = "from pg_stat_activity where application_name = 'test' and wait_event = 'SyncRep'";
	while (pg_fixture_int(db, "select count(*) %s", waiting) != n && clock_mono_us_now() < end)
		turn();
	assert_int_equal(pg_fixture_int(db, "select count(%s) %s", act, waiting), n);
}

/* The trap of postgres' synchronous replication: a COMMIT whose wait for the standby was cut off is visible, and only here. What
 * is sent again must wait for the standby as well; asking whether the row is there, or DO NOTHING, would not. */
static void test_in_doubt(void **state) {
	struct mail m[3], late;
	(void)state;
	open_store(10000000, 1 << 20);
	assert_false(server_log_has("execute messages_insert_again"));
	set_standby("nobody");
	for (unsigned i = 0; i < 3; i++) {
		make_mail(&m[i], 300000, 1);
		start(&m[i]);
	}
	await_commits("pg_terminate_backend(pid, 10000)", 1);
	await_commits("pid", 1); /* the next attempt's */
	assert_int_equal(pg_fixture_int(db, "select count(*) from messages"), 3); /* visible … */
	for (unsigned i = 0; i < 3; i++)
		assert_false(m[i].done); /* … and not acknowledged */
	assert_true(server_log_has("execute messages_insert_again"));
	assert_true(server_log_has("execute message_source_insert_again"));
	make_mail(&late, 100, 1);
	start(&late);
	await_commits("pid", 2);
	assert_false(late.done);
	set_standby("");
	await(&late);
	assert_int_equal(late.verdict, STORE_COMMITTED);
	for (unsigned i = 0; i < 3; i++) {
		await(&m[i]);
		assert_int_equal(m[i].verdict, STORE_COMMITTED);
		assert_source(&m[i], &m[i].recipients[0]);
		end_mail(&m[i]);
	}
	end_mail(&late);
}

/* Cancelling the wait makes a success of it, with a warning. */
static void test_cancelled_wait(void **state) {
	struct mail m;
	(void)state;
	open_store(10000000, 1 << 20);
	set_standby("nobody");
	make_mail(&m, 100, 1);
	start(&m);
	await_commits("pg_cancel_backend(pid)", 1);
	spin(300000);
	assert_false(m.done);
	set_standby("");
	await(&m);
	assert_int_equal(m.verdict, STORE_COMMITTED);
	end_mail(&m);
}

/* A frozen standby: the daemon's own deadline ends it, never as stored. */
static void test_frozen(void **state) {
	struct mail m, other;
	(void)state;
	open_store(1500000, 1 << 20);
	set_standby("nobody");
	make_mail(&m, 100, 1);
	int64_t begin = clock_mono_us_now();
	start(&m);
	spin(1000000);
	make_mail(&other, 100, 1);
	start(&other);
	await(&m);
	assert_in_range(clock_mono_us_now() - begin, 1400000, 5000000);
	assert_int_equal(m.verdict, STORE_UNAVAILABLE);
	assert_false(other.done); /* its own time is not over */
	await(&other);
	assert_int_equal(other.verdict, STORE_UNAVAILABLE);
	set_standby("");
	await_idle();
	end_mail(&m);
	end_mail(&other);
}

static void test_server_away(void **state) {
	struct mail m, late;
	(void)state;
	open_store(20000000, 1 << 20); /* a server that comes back has to recover first */
	pg_fixture_stop(db, true);
	make_mail(&m, 100, 1);
	start(&m);
	spin(500000);
	assert_false(m.done);
	pg_fixture_start(db);
	await(&m);
	assert_int_equal(m.verdict, STORE_COMMITTED);
	teardown(state);
	open_store(1000000, 1 << 20);
	pg_fixture_stop(db, false);
	clock_update(); /* the stop took its time, and the term begins now */
	make_mail(&late, 100, 8);
	start(&late);
	int64_t begin = clock_mono_us_now();
	await(&late);
	assert_in_range(clock_mono_us_now() - begin, 900000, 5000000);
	assert_int_equal(late.verdict, STORE_UNAVAILABLE);
	pg_fixture_start(db);
	end_mail(&m);
	end_mail(&late);
}

/* ---- large ---- */

#define LARGE_SIZE ((size_t)6 * 1024 * 1024 + 1)

static void set_source_trigger(const char *body) {
	pg_fixture_exec(
		db, "create or replace function test_source() returns trigger language plpgsql as $$ begin %s return new; end $$",
		body);
	pg_fixture_exec(db, "create trigger test before insert on message_source for each row execute function test_source()");
}

static void make_recipients(struct mail *m, struct store_recipient *recipients, unsigned n) {
	for (unsigned i = 0; i < n; i++) {
		recipients[i] = (struct store_recipient){.expires_at = i % 2 ? INT64_MAX : NOW_US, .rcpt_to = "x@minutemail.cc"};
		id_make_in_bucket(&recipients[i].mailbox, NOW_US, i * 30);
		id_make_in_bucket(&recipients[i].id, NOW_US, i * 30);
	}
	m->request.recipients = recipients;
	m->request.recipient_count = n;
}

/* One transaction for 16 recipients, all chunks of all of them right. */
static void test_large(void **state) {
	static struct store_recipient recipients[20];
	struct mail m;
	(void)state;
	open_store(10000000, 1 << 20);
	make_mail(&m, LARGE_SIZE, 1);
	make_recipients(&m, recipients, array_len(recipients));
	start(&m);
	await(&m);
	assert_int_equal(m.verdict, STORE_COMMITTED);
	for (unsigned i = 0; i < array_len(recipients); i++)
		assert_source(&m, &recipients[i]);
	assert_int_equal(transactions(), 2);
	assert_true(server_log_has("execute message_source_chunk_insert"));
	assert_false(server_log_has("execute message_source_chunk_insert_again"));
	assert_true(store_idle(store));
	end_mail(&m);
}

/* Its fields are refused before much of its source is on its way; then it is stored without them. */
static void test_large_poison(void **state) {
	struct mail m;
	(void)state;
	open_store(10000000, 1 << 20);
	make_mail(&m, LARGE_SIZE, 3);
	m.message->subject[2] = '\xff';
	start(&m);
	await(&m);
	assert_int_equal(m.verdict, STORE_COMMITTED);
	for (unsigned i = 0; i < 3; i++) {
		assert_string_equal(column(&m.recipients[i], "warnings || coalesce(subject, '-')"), "[\"parse_failed\"]-");
		assert_source(&m, &m.recipients[i]);
	}
	end_mail(&m);
}

/* Large ones take turns and leave a connection to the others, which need not wait for them; each chunk that the database takes is
 * a reason to wait on, even for one that has not begun. */
static void test_large_progress(void **state) {
	struct mail large[2], small;
	(void)state;
	open_store(1000000, 1 << 20);
	set_source_trigger("if new.chunk < 1000 and new.size = 262144 then perform pg_sleep(0.08); end if;");
	for (unsigned i = 0; i < 2; i++) {
		make_mail(&large[i], LARGE_SIZE, 1); /* two seconds at the least */
		start(&large[i]);
	}
	spin(200000);
	make_mail(&small, 100, 1);
	start(&small);
	await(&small);
	assert_int_equal(small.verdict, STORE_COMMITTED);
	assert_false(large[0].done);
	for (unsigned i = 0; i < 2; i++) {
		await(&large[i]);
		assert_int_equal(large[i].verdict, STORE_COMMITTED);
		assert_source(&large[i], &large[i].recipients[0]);
		end_mail(&large[i]);
	}
	end_mail(&small);
}

/* A database that takes no more chunks is one that is away. */
static void test_large_stalled(void **state) {
	struct mail large[2], after;
	(void)state;
	open_store(700000, 1 << 20);
	set_source_trigger("if new.chunk = 5 then perform pg_sleep(20); end if;");
	for (unsigned i = 0; i < 2; i++) {
		make_mail(&large[i], LARGE_SIZE, 1);
		start(&large[i]);
	}
	int64_t begin = clock_mono_us_now();
	for (unsigned i = 0; i < 2; i++) {
		await(&large[i]);
		assert_int_equal(large[i].verdict, STORE_UNAVAILABLE);
		end_mail(&large[i]);
	}
	assert_true(clock_mono_us_now() - begin < 10000000);
	/* All of them: on a busy machine one may only be on its way to its sleep, and would be in a deadlock with the drop. */
	pg_fixture_exec(db, "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()");
	pg_fixture_exec(db, "drop trigger test on message_source");
	assert_int_equal(pg_fixture_int(db, "select count(*) from messages"), 0);
	make_mail(&after, LARGE_SIZE, 1);
	do {
		after.done = false;
		start(&after);
		await(&after);
	} while (after.verdict != STORE_COMMITTED && clock_mono_us_now() - begin < 20000000);
	assert_source(&after, &after.recipients[0]);
	end_mail(&after);
}

/* The connection is lost half way: from the spool again, whole. */
static void test_large_lost(void **state) {
	struct mail m;
	(void)state;
	open_store(10000000, 1 << 20);
	set_source_trigger("if new.chunk = 9 and nextval('counter') = 1 then perform pg_terminate_backend(pg_backend_pid()); end if;");
	pg_fixture_exec(db, "alter sequence counter restart");
	make_mail(&m, LARGE_SIZE, 2);
	start(&m);
	await(&m);
	assert_int_equal(m.verdict, STORE_COMMITTED);
	for (unsigned i = 0; i < 2; i++)
		assert_source(&m, &m.recipients[i]);
	end_mail(&m);
}

/* As test_in_doubt(): what may be there is written again, and its COMMIT waits. */
static void test_large_in_doubt(void **state) {
	struct mail m;
	(void)state;
	open_store(10000000, 1 << 20);
	set_standby("nobody");
	make_mail(&m, LARGE_SIZE, 2);
	start(&m);
	await_commits("pg_terminate_backend(pid, 10000)", 1);
	await_commits("pid", 1);
	assert_false(m.done);
	assert_int_equal(pg_fixture_int(db, "select count(*) from messages"), 2);
	assert_true(server_log_has("execute message_source_chunk_insert_again"));
	set_standby("");
	await(&m);
	assert_int_equal(m.verdict, STORE_COMMITTED);
	for (unsigned i = 0; i < 2; i++)
		assert_source(&m, &m.recipients[i]);
	end_mail(&m);
}

/* Half way: nothing of it stays, and the connection is free for the next at once. */
static void test_large_cancel(void **state) {
	struct mail m, after;
	(void)state;
	open_store(10000000, 1 << 20);
	set_source_trigger("if new.chunk = 5 then perform pg_sleep(0.3); end if;");
	make_mail(&m, LARGE_SIZE, 2);
	m.op = store_start(store, &m.request, never, NULL);
	spin(200000);
	end_mail(&m);
	assert_true(store_idle(store));
	make_mail(&after, LARGE_SIZE, 1);
	start(&after);
	await(&after);
	assert_int_equal(after.verdict, STORE_COMMITTED);
	assert_int_equal(pg_fixture_int(db, "select count(*) from messages"), 1);
	assert_int_equal(pg_fixture_int(db, "select count(distinct id) from message_source"), 1);
	end_mail(&after);
}

/* ---- callers ---- */

static void test_cancel(void **state) {
	struct mail m[4], after;
	(void)state;
	open_store(10000000, 1 << 20);
	for (unsigned i = 0; i < 4; i++)
		make_mail(&m[i], 100, 2);
	/* Before anything was sent, with a neighbour that stays. */
	m[0].op = store_start(store, &m[0].request, never, NULL);
	start(&m[1]);
	end_mail(&m[0]);
	await(&m[1]);
	assert_int_equal(m[1].verdict, STORE_COMMITTED);
	/* On its way. What it lent must not be looked at again, even though the batch is split and sent once more. */
	set_trigger(
		"if new.rcpt_to = 'bad' then raise exception 'x' using errcode = '23514'; end if; perform pg_sleep(0.1);");
	m[2].op = store_start(store, &m[2].request, never, NULL);
	m[3].recipients[1].rcpt_to = "bad";
	start(&m[3]);
	turn();
	spin(50000);
	end_mail(&m[2]);
	make_mail(&after, 100, 1);
	start(&after);
	await(&m[3]);
	await(&after);
	assert_int_equal(m[3].verdict, STORE_UNAVAILABLE); /* one recipient of two */
	assert_int_equal(after.verdict, STORE_COMMITTED);
	await_idle();
	end_mail(&m[1]);
	end_mail(&m[3]);
	end_mail(&after);
}

static unsigned refused, committed;

static void on_counted(void *arg, enum store_verdict verdict) {
	(void)arg;
	if (verdict == STORE_COMMITTED)
		committed++;
	else
		refused++;
}

static void test_bound(void **state) {
	enum { N = 4100 };
	static struct store_recipient recipients[N];
	struct mail m;
	(void)state;
	open_store(20000000, 1 << 20);
	make_mail(&m, 10, 1);
	refused = committed = 0;
	for (unsigned i = 0; i < N; i++) {
		recipients[i] = m.recipients[0];
		id_make_in_bucket(&recipients[i].id, NOW_US, 0);
		m.request.recipients = &recipients[i];
		store_start(store, &m.request, on_counted, NULL);
	}
	turn();
	assert_int_equal(refused, N - 4096);
	int64_t end = clock_mono_us_now() + 20000000;
	while (refused + committed < N && clock_mono_us_now() < end)
		turn();
	assert_int_equal(committed, 4096);
	assert_int_equal(pg_fixture_int(db, "select count(*) from messages"), 4096);
	end_mail(&m);
}

/* Whichever batch commits first ends it for all. */
static void on_free_store(void *arg, enum store_verdict verdict) {
	bool *done = arg;
	(void)verdict;
	assert_false(*done);
	*done = true;
	store = store_free(store);
}

static void test_freed_in_callback(void **state) {
	struct mail m[3];
	bool done = false;
	(void)state;
	open_store(10000000, 10);
	for (unsigned i = 0; i < 3; i++) {
		make_mail(&m[i], 100, 1);
		store_start(store, &m[i].request, on_free_store, &done);
	}
	while (!done)
		turn();
	spin(50000);
	for (unsigned i = 0; i < 3; i++)
		end_mail(&m[i]);
}

#define row(fn) cmocka_unit_test_teardown(fn, teardown)

int main(void) {
	const struct CMUnitTest tests[] = {
		row(test_columns),
		row(test_sizes),
		cmocka_unit_test(test_expiry_hour),
		row(test_one_batch),
		row(test_limits),
		row(test_poison_fields),
		row(test_poison_envelope),
		row(test_refused_for_good),
		row(test_verdicts),
		row(test_locked),
		row(test_in_doubt),
		row(test_cancelled_wait),
		row(test_frozen),
		row(test_server_away),
		row(test_large),
		row(test_large_poison),
		row(test_large_progress),
		row(test_large_stalled),
		row(test_large_lost),
		row(test_large_in_doubt),
		row(test_large_cancel),
		row(test_cancel),
		row(test_bound),
		row(test_freed_in_callback),
	};
	cmocka_set_test_filter(getenv("TEST_FILTER"));
	return cmocka_run_group_tests_name("store", tests, start_db, stop_db);
}
