/* apid/domain_check on a real PostgreSQL, as the role that runs it, and a zone file: domains looked at again, each by one instance,
 * and what given-up domains have left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "apid/domain_check.h"
#include "common/clock.h"
#include "common/dns.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/pg.h"
#include "domains_stmts.h"
#include "tests/support/pg_fixture.h"

#include <unistd.h>

#define ACCOUNT "00000000-0000-7000-8000-0000000000a1"
#define TOKEN "minutemail-abcdefgh234567xy"

static struct pg_fixture *db;
static struct loop *loop;
static struct pg *pg;
static struct dns *dns;
static char mx[] = "mx.platform.example";
static char *const hosts[] = {mx, NULL};

static const char zone[] = "here.example MX 10 mx.platform.example\nhere.example TXT " TOKEN "\n"
						   "gone.example MX 10 mx.elsewhere.example\ngone.example TXT " TOKEN "\n"
						   "broken.example SERVFAIL\n";

static void domain(int n, const char *name, const char *more) {
	pg_fixture_exec(db,
	                "insert into domains (id, account_id, name, status, txt_token, created_at, txt_valid, mx_valid) values"
	                " ('00000000-0000-7000-8000-0000000000d%d', '" ACCOUNT "', '%s', 'verified', '" TOKEN "', now(), true, true)",
	                n, name);
	if (*more)
		pg_fixture_exec(db, "update domains set %s where name = '%s'", more, name);
}

/* A mailbox of domain n with one mail, in bucket b. */
static void mailbox(int n, int b) {
	const char *id = "00000000-0000-7000-8000-00000000";
	pg_fixture_exec(db,
	                "insert into mailboxes values (%d, '%s%02d%02d', '" ACCOUNT "', '" ACCOUNT
	                "', '00000000-0000-7000-8000-0000000000d%d', 'a%d@d%d.example', false, null, now(), null)",
	                b, id, n, b, n, b, n);
	pg_fixture_exec(db,
	                "insert into account_mailboxes values ('" ACCOUNT "', '%s%02d%02d', '" ACCOUNT
	                "', %d, '00000000-0000-7000-8000-0000000000d%d', false, null)",
	                id, n, b, b, n);
	pg_fixture_exec(db,
	                "insert into messages (bucket, id, mailbox_id, received_at, expiry_hour, mail_from, rcpt_to, helo, trace,"
	                " to_list, cc_list, reply_to_list, size, digest, parts, warnings, injected, user_id) values (%d, '%s%02d%02d',"
	                " '%s%02d%02d', now(), 2147483647, '', '', '', '', '[]', '[]', '[]', 20, '', '', '[]', false, '" ACCOUNT "')",
	                b, id, n, b, id, n, b);
	pg_fixture_exec(db, "insert into message_source values (%d, '%s%02d%02d', 0, 2147483647, 0, 1, 'x', '" ACCOUNT "')", b, id, n, b);
}

static int64_t rows_of(const char *table) {
	return pg_fixture_int(db, "select count(*) from %s", table);
}

/* Runs two instances until each has completed as many runs more. */
static void run_both(unsigned runs) {
	struct domain_check *both[2];
	const struct domain_check_options options = {pg, dns, hosts, HOUR_US, 2000};
	for (unsigned i = 0; i < 2; i++)
		both[i] = domain_check_new(loop, &options);
	for (int turn = 0; turn < 100000; turn++) {
		if (domain_check_runs(both[0]) >= runs && domain_check_runs(both[1]) >= runs)
			break;
		loop_turn(loop);
	}
	for (unsigned i = 0; i < 2; i++) {
		assert_true(domain_check_runs(both[i]) >= runs);
		domain_check_free(both[i]);
	}
}

static int setup_each(void **state) {
	pg_fixture_exec(db, "truncate domains, domain_leftovers, mailboxes, account_mailboxes, messages, message_source cascade");
	return 0;
}

static const char *facts(const char *name) {
	return pg_fixture_value(db,
	                        "select concat_ws(' ', status, txt_valid, mx_valid, mx_lost_since is not null) from domains"
	                        " where name = '%s'",
	                        name);
}

static void test_looks(void **state) {
	domain(1, "here.example", "mx_lost_since = now() - interval '3 days', mx_valid = false");
	domain(2, "gone.example", "");
	domain(3, "broken.example", "");
	domain(4, "nowhere.example", "txt_valid = false");
	domain(5, "claimed.example", "status = 'pending', mx_valid = false, txt_valid = false");
	run_both(1);
	assert_string_equal(facts("here.example"), "verified t t f");
	assert_string_equal(facts("gone.example"), "verified t f t");
	assert_string_equal(facts("broken.example"), "verified t t f"); /* what the DNS did not say stays as it was */
	assert_string_equal(facts("nowhere.example"), "verified f f t");
	assert_string_equal(facts("claimed.example"), "pending f f f"); /* nobody's yet: its owner asks */
	assert_int_equal(pg_fixture_int(db, "select count(*) from domains where check_at is null and status = 'verified'"), 0);
}

static void test_lost_since_the_first_look(void **state) {
	domain(2, "gone.example", "mx_lost_since = '2026-01-01Z', mx_valid = false");
	run_both(2);
	assert_string_equal(pg_fixture_value(db, "select extract(epoch from mx_lost_since)::bigint from domains"), "1767225600");
}

static void test_not_before_it_is_due(void **state) {
	domain(2, "gone.example", "check_at = now() + interval '1 hour'");
	run_both(2);
	assert_string_equal(facts("gone.example"), "verified t t f");
}

static void test_jitter(void **state) {
	int64_t least = INT64_MAX, most = 0;
	for (int i = 0; i < 200; i++) {
		int64_t due = domain_check_due(6 * HOUR_US);
		least = min_of(least, due);
		most = max_of(most, due);
	}
	assert_true(most - least > 3 * HOUR_US && most - least <= 6 * HOUR_US);
}

static void test_leftovers(void **state) {
	domain(1, "here.example", "check_at = now() + interval '1 hour'");
	for (int b = 0; b < 60; b++)
		mailbox(7, b);
	mailbox(1, 99);
	mailbox(8, 98);
	pg_fixture_exec(db, "insert into domain_leftovers values"
	                    " ('00000000-0000-7000-8000-0000000000d7', '" ACCOUNT "', now() - interval '11 minutes'),"
	                    " ('00000000-0000-7000-8000-0000000000d8', '" ACCOUNT "', now())");
	run_both(1);
	assert_int_equal(rows_of("mailboxes"), 1);
	assert_int_equal(rows_of("account_mailboxes"), 1);
	assert_int_equal(rows_of("messages"), 1);
	assert_int_equal(rows_of("message_source"), 1);
	assert_int_equal(pg_fixture_int(db, "select bucket from mailboxes"), 99);
	/* One that went just now is kept in mind: what comes late goes too. */
	assert_string_equal(pg_fixture_value(db, "select string_agg(right(domain_id::text, 2), ' ') from domain_leftovers"), "d8");
	mailbox(8, 97);
	run_both(1);
	assert_int_equal(rows_of("mailboxes"), 1);
}

/* Whatever asks for it: the mailboxes of a domain that is there are not touched. */
static void test_purge_spares_the_living(void **state) {
	domain(1, "here.example", "check_at = now() + interval '1 hour'");
	mailbox(1, 5);
	pg_fixture_exec(db, "insert into domain_leftovers values ('00000000-0000-7000-8000-0000000000d1', '" ACCOUNT "', now())");
	run_both(1);
	assert_int_equal(rows_of("mailboxes"), 1);
}

static int setup_all(void **state) {
	char path[] = "/tmp/minutemail-zone-XXXXXX", fault[DNS_FAULT_SIZE];
	int fd = mkstemp(path);
	if (write(fd, zone, sizeof(zone) - 1) < 0)
		return -1;
	close(fd);
	db = pg_fixture_new(NULL);
	pg_fixture_exec(db, "insert into accounts values ('" ACCOUNT "', 'a', 'unlimited', 'active', now())");
	loop = loop_new();
	const struct dns_options options = {.servers = (char *const[]){NULL}, .zone_file = path};
	if (dns_new(loop, &options, &dns, fault) < 0)
		fail_msg("%s", fault);
	unlink(path);
	const struct pg_options pg_options = {
	    .conninfo = pg_fixture_conninfo(db, "minutemail_apid"),
	    .application_name = "test",
	    .stmts = DOMAINS_STMTS,
	    .connections = 1,
	    .query_deadline_us = 10000000,
	    .connect_deadline_us = 5000000,
	};
	pg = pg_new(loop, &pg_options);
	return 0;
}

static int teardown_all(void **state) {
	pg_free(pg);
	dns_free(dns);
	loop_free(loop);
	pg_fixture_free(db);
	return 0;
}

int main(void) {
	log_init("test", LOG_LEVEL_ERROR);
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(test_looks, setup_each),
	    cmocka_unit_test_setup(test_lost_since_the_first_look, setup_each),
	    cmocka_unit_test_setup(test_not_before_it_is_due, setup_each),
	    cmocka_unit_test(test_jitter),
	    cmocka_unit_test_setup(test_leftovers, setup_each),
	    cmocka_unit_test_setup(test_purge_spares_the_living, setup_each),
	};
	return cmocka_run_group_tests(tests, setup_all, teardown_all);
}
