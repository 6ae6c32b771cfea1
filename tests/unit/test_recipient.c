/* smtpd/recipient on a real PostgreSQL, in smtpd's own role: whose an address is, as of now, with the fallbacks of RFC 5321 4.5.1 and
 * RFC 2142. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/pg.h"
#include "smtpd/recipient.h"
#include "smtpd_stmts.h"
#include "tests/support/pg_fixture.h"
#include "tests/support/unit.h"


static struct pg_fixture *db;
static struct loop *loop;
static struct pg *pg;
static struct recipients *recipients;

static void turn(void) {
	turn_within(loop, 10000);
}

struct answer {
	bool done;
	enum recipient_verdict verdict;
	struct recipient found;
};

static void on_answer(void *arg, enum recipient_verdict verdict, const struct recipient *found) {
	struct answer *a = arg;
	assert_false(a->done);
	assert_int_equal(found != NULL, verdict == RECIPIENT_OK);
	a->done = true;
	a->verdict = verdict;
	if (found)
		a->found = *found;
}

static void never(void *arg, enum recipient_verdict verdict, const struct recipient *found) {
	(void)arg;
	(void)verdict;
	(void)found;
	fail_msg("called after a cancel");
}

static struct address parse(const char *path) {
	struct address a;
	assert_int_equal(address_parse(path, strlen(path), true, true, &a), ADDRESS_OK);
	return a;
}

static void look_up(const char *path, struct answer *a) {
	struct address address = parse(path);
	*a = (struct answer){0};
	assert_non_null(recipient_start(recipients, &address, on_answer, a));
	memset(&address, 0, sizeof(address)); /* not borrowed */
	assert_false(a->done);
}

static void await(struct answer *a) {
	int64_t end = clock_mono_us_now() + 10000000;
	while (!a->done && clock_mono_us_now() < end)
		turn();
	assert_true(a->done);
}

static enum recipient_verdict verdict_of(const char *path) {
	struct answer a;
	look_up(path, &a);
	await(&a);
	return a.verdict;
}

/* ---- what is there ---- */

static struct id mailbox_id(unsigned n, const char *address) {
	struct id id;
	id_make_in_bucket(&id, 1000000, id_bucket_of_address(address, strlen(address)));
	id.b[15] = (uint8_t)n;
	return id;
}

static void add_mailbox(unsigned n, const char *address, const char *expires_at) {
	struct id id = mailbox_id(n, address);
	char text[ID_TEXT_SIZE];
	id_format(&id, text);
	pg_fixture_exec(db, "insert into mailboxes select %u, '%s', a.id, a.id, d.id, '%s', false, null, now(), %s from accounts a, domains d"
	                " where d.name = '%s'", id_bucket(&id), text, address, expires_at, strchr(address, '@') + 1);
}

static void add_domain(unsigned n, const char *name, bool platform, const char *status) {
	pg_fixture_exec(
		db, "insert into domains select '00000000-0000-0000-0000-%012u', %s, '%s', '%s', null, now() from accounts", n,
		platform ? "null" : "id", name, status);
}

static void fill(void) {
	pg_fixture_exec(db, "truncate mailboxes, domains cascade");
	add_domain(2, "second.example", true, "verified"); /* made later, in the table first */
	add_domain(1, "minutemail.cc", true, "verified");
	add_domain(0, "unverified.example", true, "pending");
	add_domain(3, "customer.example", false, "verified");
	add_domain(4, "pending.example", false, "pending");
	add_mailbox(1, "alice@minutemail.cc", "now() + interval '1 hour'");
	add_mailbox(2, "for-ever@minutemail.cc", "null");
	add_mailbox(3, "gone@minutemail.cc", "now() - interval '1 millisecond'");
	add_mailbox(4, "orphan@pending.example", "null");
	add_mailbox(5, "postmaster@minutemail.cc", "null");
	add_mailbox(6, "postmaster@customer.example", "null");
	add_mailbox(7, "abuse@second.example", "null");
	add_mailbox(8, "caf\xc3\xa9@customer.example", "null");
	add_mailbox(9, "a b@customer.example", "null");
	/* of a domain of that name that was given up, and is another account's now */
	add_mailbox(10, "left@customer.example", "null");
	pg_fixture_exec(db, "update mailboxes set domain_id = gen_random_uuid() where address = 'left@customer.example'");
}

static void open_recipients(unsigned queue) {
	const struct pg_options options = {
		.conninfo = pg_fixture_conninfo(db, "minutemail_smtpd"),
		.stmts = SMTPD_STMTS,
		.connections = 1,
		.queue = queue,
		.query_deadline_us = 3000000,
		.connect_deadline_us = 3000000,
		.schema_version = pg_fixture_version(db),
	};
	loop = loop_new();
	pg = pg_new(loop, &options);
	recipients = recipients_new(loop, pg);
}

static int setup(void **state) {
	(void)state;
	fill();
	open_recipients(0);
	return 0;
}

static int teardown(void **state) {
	(void)state;
	recipients = recipients_free(recipients);
	pg = pg_free(pg);
	loop_turn(loop);
	loop_free(loop);
	return 0;
}

static int start_db(void **state) {
	(void)state;
	log_init("test", LOG_LEVEL_DEBUG);
	log_set_sink(quiet, NULL);
	db = pg_fixture_new(NULL);
	pg_fixture_exec(
		db, "insert into accounts values ('00000000-0000-0000-0000-0000000000ff', 'a', 'free', 'active', now())");
	return 0;
}

static int stop_db(void **state) {
	(void)state;
	db = pg_fixture_free(db);
	return 0;
}

/* ---- tests ---- */

static const struct {
	const char *path;
	enum recipient_verdict verdict;
	uint8_t mailbox;
} rows[] = {
	{"alice@minutemail.cc", RECIPIENT_OK, 1},
	{"ALICE+detail@MinuteMail.CC", RECIPIENT_OK, 1},
	{"for-ever@minutemail.cc", RECIPIENT_OK, 2},
	{"gone@minutemail.cc", RECIPIENT_UNKNOWN, 0},
	{"nobody@minutemail.cc", RECIPIENT_UNKNOWN, 0},
	{"alice@second.example", RECIPIENT_UNKNOWN, 0},
	{"alice@elsewhere.example", RECIPIENT_FOREIGN_DOMAIN, 0},
	{"alice@[127.0.0.1]", RECIPIENT_FOREIGN_DOMAIN, 0},
	{"orphan@pending.example", RECIPIENT_FOREIGN_DOMAIN, 0},
	{"caf\xc3\xa9@customer.example", RECIPIENT_OK, 8},
	{"\"a b\"@customer.example", RECIPIENT_OK, 9},
	/* RFC 5321 4.5.1: postmaster without a domain, and of every domain served, in any case. RFC 2142 5: abuse likewise. */
	{"Postmaster", RECIPIENT_OK, 5},
	{"POSTMASTER@minutemail.cc", RECIPIENT_OK, 5},
	{"postmaster@customer.example", RECIPIENT_OK, 6},
	{"postmaster@second.example", RECIPIENT_OK, 5},
	{"abuse@second.example", RECIPIENT_OK, 7},
	{"abuse@customer.example", RECIPIENT_OK, 6},
	{"abuse@minutemail.cc", RECIPIENT_OK, 5},
	{"postmaster@elsewhere.example", RECIPIENT_FOREIGN_DOMAIN, 0},
	{"postmaster@pending.example", RECIPIENT_FOREIGN_DOMAIN, 0},
	{"hostmaster@customer.example", RECIPIENT_UNKNOWN, 0},
	{"left@customer.example", RECIPIENT_UNKNOWN, 0},
};

static void check(unsigned i, const struct answer *a) {
	if (a->verdict != rows[i].verdict || (a->verdict == RECIPIENT_OK && a->found.mailbox.b[15] != rows[i].mailbox))
		fail_msg("%s: verdict %d, mailbox %u", rows[i].path, a->verdict, a->found.mailbox.b[15]);
}

static void test_rows(void **state) {
	struct answer a[array_len(rows)];
	(void)state;
	for (unsigned i = 0; i < array_len(rows); i++) {
		look_up(rows[i].path, &a[i]);
		await(&a[i]);
		check(i, &a[i]);
	}
	/* All at once, each several times. */
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < array_len(rows); i++)
			look_up(rows[i].path, &a[i]);
		for (unsigned i = 0; i < array_len(rows); i++) {
			await(&a[i]);
			check(i, &a[i]);
		}
	}
}

static void test_expiry_is_told(void **state) {
	struct answer a;
	(void)state;
	look_up("alice@minutemail.cc", &a);
	await(&a);
	assert_in_range(a.found.expires_at - clock_wall_us(), INT64_C(3590) * 1000000, INT64_C(3600) * 1000000);
	look_up("for-ever@minutemail.cc", &a);
	await(&a);
	assert_true(a.found.expires_at == INT64_MAX);
}

/* An address made, deleted or expired a moment ago is answered as it is now, whatever else is being asked. */
static void test_as_it_is_now(void **state) {
	struct answer early, late;
	(void)state;
	assert_int_equal(verdict_of("new@minutemail.cc"), RECIPIENT_UNKNOWN);
	look_up("new@minutemail.cc", &early);
	add_mailbox(10, "new@minutemail.cc", "null");
	look_up("new@minutemail.cc", &late);
	await(&early);
	await(&late);
	assert_int_equal(late.verdict, RECIPIENT_OK); /* the early one may have been answered before or after */
	pg_fixture_exec(db, "delete from mailboxes where address = 'new@minutemail.cc'");
	assert_int_equal(verdict_of("new@minutemail.cc"), RECIPIENT_UNKNOWN);
	/* Its instant belongs to the time after (now is the daemon's). */
	pg_fixture_exec(db,
	                "update mailboxes set expires_at = '2030-01-01 00:00:00+00' where address = 'alice@minutemail.cc'");
	clock_set(INT64_C(1893456000) * 1000000 - 1);
	struct answer a;
	look_up("alice@minutemail.cc", &a);
	while (!a.done)
		loop_turn(loop);
	assert_int_equal(a.verdict, RECIPIENT_OK);
	clock_advance(1);
	look_up("alice@minutemail.cc", &a);
	while (!a.done)
		loop_turn(loop);
	assert_int_equal(a.verdict, RECIPIENT_UNKNOWN);
}

/* More than all batches hold; in the midst some that are cancelled before and after they were sent. */
static void test_many(void **state) {
	struct answer a[300];
	struct recipient_op *cancelled[30];
	struct address alice = parse("alice@minutemail.cc");
	(void)state;
	for (unsigned i = 0; i < array_len(a); i++) {
		look_up(i % 3 ? "for-ever@minutemail.cc" : "nobody@minutemail.cc", &a[i]);
		if (i % 10 == 0)
			cancelled[i / 10] = recipient_start(recipients, &alice, never, NULL);
	}
	for (unsigned i = 0; i < array_len(cancelled); i += 2)
		recipient_cancel(cancelled[i]);
	loop_turn(loop);
	for (unsigned i = 1; i < array_len(cancelled); i += 2)
		recipient_cancel(cancelled[i]);
	for (unsigned i = 0; i < array_len(a); i++) {
		await(&a[i]);
		assert_int_equal(a[i].verdict, i % 3 ? RECIPIENT_OK : RECIPIENT_UNKNOWN);
		assert_true(i % 3 == 0 || a[i].found.mailbox.b[15] == 2);
	}
}

/* What the server refuses of one look-up is not answered to the others that went with it. */
static void test_refused_alone(void **state) {
	struct answer before, bad, after;
	struct address odd = parse("odd@minutemail.cc");
	(void)state;
	odd.canonical[0] = '\xff'; /* no UTF-8: 22021 */
	look_up("alice@minutemail.cc", &before);
	bad = (struct answer){0};
	recipient_start(recipients, &odd, on_answer, &bad);
	look_up("for-ever@minutemail.cc", &after);
	await(&before);
	await(&bad);
	await(&after);
	assert_int_equal(before.verdict, RECIPIENT_OK);
	assert_int_equal(bad.verdict, RECIPIENT_UNAVAILABLE);
	assert_int_equal(after.verdict, RECIPIENT_OK);
	assert_int_equal(after.found.mailbox.b[15], 2);
}

static void test_cancel(void **state) {
	struct address address = parse("alice@minutemail.cc");
	struct answer a;
	(void)state;
	struct recipient_op *op = recipient_start(recipients, &address, never, NULL);
	look_up("alice@minutemail.cc", &a);
	assert_null(recipient_cancel(op));
	assert_null(recipient_cancel(NULL));
	await(&a);
	assert_int_equal(a.verdict, RECIPIENT_OK);
	recipient_start(recipients, &address, never, NULL); /* left to recipients_free() */
}

static void test_away(void **state) {
	(void)state;
	assert_int_equal(verdict_of("alice@minutemail.cc"), RECIPIENT_OK);
	pg_fixture_stop(db, true);
	assert_int_equal(verdict_of("alice@minutemail.cc"), RECIPIENT_UNAVAILABLE);
	assert_int_equal(verdict_of("Postmaster"), RECIPIENT_UNAVAILABLE);
	pg_fixture_start(db);
	while (!pg_up(pg))
		turn();
	assert_int_equal(verdict_of("alice@minutemail.cc"), RECIPIENT_OK);
}

/* RFC 3463 X.2.1. Whose postmaster's mail is may be suspended: it is taken all the same. */
static void test_suspended(void **state) {
	(void)state;
	pg_fixture_exec(db, "insert into users select id, id, 'x@y', null, 'owner', 'active', now() from accounts");
	assert_int_equal(verdict_of("alice@minutemail.cc"), RECIPIENT_OK);
	pg_fixture_exec(db, "update users set state = 'suspended'");
	assert_int_equal(verdict_of("alice@minutemail.cc"), RECIPIENT_DISABLED_NOW);
	assert_int_equal(verdict_of("nobody@minutemail.cc"), RECIPIENT_UNKNOWN);
	pg_fixture_exec(db, "update accounts set state = 'suspended'");
	assert_int_equal(verdict_of("alice@minutemail.cc"), RECIPIENT_DISABLED);
	assert_int_equal(verdict_of("gone@minutemail.cc"), RECIPIENT_UNKNOWN);
	assert_int_equal(verdict_of("postmaster@customer.example"), RECIPIENT_OK);
	assert_int_equal(verdict_of("abuse@second.example"), RECIPIENT_OK);
	assert_int_equal(verdict_of("Postmaster"), RECIPIENT_OK);
	pg_fixture_exec(db, "delete from users");
	pg_fixture_exec(db, "update accounts set state = 'active'");
	assert_int_equal(verdict_of("alice@minutemail.cc"), RECIPIENT_OK);
}

/* Postmaster must be accepted; where no mailbox has been made for it the operator has something to mend, and senders try again. */
static void test_no_postmaster(void **state) {
	(void)state;
	pg_fixture_exec(db, "delete from mailboxes where address like 'postmaster@%%'");
	assert_int_equal(verdict_of("Postmaster"), RECIPIENT_UNAVAILABLE);
	assert_int_equal(verdict_of("postmaster@customer.example"), RECIPIENT_UNAVAILABLE);
	pg_fixture_exec(db, "delete from domains");
	assert_int_equal(verdict_of("Postmaster"), RECIPIENT_UNAVAILABLE);
}

#define row(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
	const struct CMUnitTest tests[] = {
		row(test_rows), row(test_expiry_is_told), row(test_cancel), row(test_many), row(test_refused_alone),
		row(test_away), row(test_suspended), row(test_no_postmaster),  row(test_as_it_is_now), /* last: it stops the clock */
	};
	return cmocka_run_group_tests_name("recipient", tests, start_db, stop_db);
}
