/* apid/audit on a real PostgreSQL: every request once, also if the batch's answer was lost; the bound; the end; and the days
 * that the janitor makes and drops. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "apid/apid_metrics.h"
#include "apid/audit.h"
#include "apid/principal.h"
#include "apid/router.h"
#include "audit_stmts.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/pg.h"
#include "tests/support/pg_fixture.h"
#include "tests/support/unit.h"

static struct pg_fixture *db;
static struct loop *loop;
static struct pg *pg;
static struct audit *audit;
static struct metrics *metrics;
static int64_t written_before, dropped_before;
static struct principal *who;

static void turn(void) {
	turn_within(loop, 5000);
}

static void await_up(void) {
	for (int i = 0; i < 4000 && !pg_up(pg); i++)
		turn();
	assert_true(pg_up(pg));
}

static void on_closed(void *arg) {
	bool *closed = arg;
	*closed = true;
}

static void close_audit(void) {
	bool closed = false;
	audit_close(audit, on_closed, &closed);
	for (int i = 0; i < 4000 && !closed; i++)
		turn();
	assert_true(closed);
}

static void note(unsigned n, unsigned status) {
	for (unsigned i = 0; i < n; i++)
		audit_note(audit, who, "GET", "/mailboxes", status, "request-1");
}

static int64_t written(void) {
	return pg_fixture_int(db, "select count(*) from api_audit");
}

static int64_t counted(void) {
	return pg_fixture_int(db, "select coalesce(sum(calls), 0) from api_key_usage");
}

static int setup(void **state) {
	(void)state;
	const struct pg_options options = {
	    .conninfo = pg_fixture_conninfo(db, "minutemail_apid"),
	    .application_name = "test",
	    .stmts = AUDIT_STMTS,
	    .connections = 1,
	    .query_deadline_us = 10 * SECOND_US,
	    .connect_deadline_us = 10 * SECOND_US,
	};
	loop = loop_new();
	written_before = metrics_sum(metrics, APID_AUDIT_WRITTEN);
	dropped_before = metrics_sum(metrics, APID_AUDIT_DROPPED);
	pg = pg_new(loop, &options);
	audit = audit_new(loop, pg, metrics);
	who = xcalloc(1, sizeof(*who));
	*who = (struct principal){.refs = 1, .kind = PRINCIPAL_KEY};
	id_make(&who->account_id, clock_wall_us());
	id_make(&who->user_id, clock_wall_us());
	id_make(&who->key_id, clock_wall_us());
	who->key_name = xstrdup("a key");
	who->last8 = xstrdup("12345678");
	await_up();
	return 0;
}

static int teardown(void **state) {
	(void)state;
	audit = audit_free(audit);
	pg = pg_free(pg);
	principal_unref(who);
	loop_turn(loop);
	loop = loop_free(loop);
	pg_fixture_exec(db, "truncate api_audit, api_key_usage");
	return 0;
}

static int64_t said_written(void) {
	return metrics_sum(metrics, APID_AUDIT_WRITTEN) - written_before;
}

static int64_t said_dropped(void) {
	return metrics_sum(metrics, APID_AUDIT_DROPPED) - dropped_before;
}

static void all_that_was_asked(void **state) {
	(void)state;
	note(1300, 200);
	note(3, 404);
	note(5, 429);
	note(7, 503);
	close_audit();
	assert_int_equal(written(), 1315);
	assert_int_equal(counted(), 1303);
	assert_int_equal(said_written(), 1315);
	assert_int_equal(pg_fixture_int(db, "select count(*) from api_audit where key_name = 'a key' and key_last8 = '12345678'"
	                                    " and route = '/mailboxes' and method = 'GET' and request_id = 'request-1'"),
	                 1315);
}

static struct principal *copy_of(const struct principal *p) {
	struct principal *copy = xcalloc(1, sizeof(*copy));
	*copy = *p;
	copy->refs = 1;
	copy->key_name = xstrdup(p->key_name);
	copy->last8 = xstrdup(p->last8);
	return copy;
}

/* Also by one that was read again meanwhile, which is another object with the same key. */
static void each_key_is_counted_for_itself(void **state) {
	(void)state;
	struct principal *first = who, *again = copy_of(who), *other = copy_of(who);
	id_make(&other->key_id, clock_wall_us());
	id_make(&other->account_id, clock_wall_us());
	for (unsigned i = 0; i < 90; i++) {
		who = i % 3 == 0 ? first : i % 3 == 1 ? again : other;
		note(1, 200);
	}
	who = first;
	principal_unref(again);
	principal_unref(other);
	close_audit();
	assert_int_equal(written(), 90);
	assert_int_equal(pg_fixture_int(db, "select max(calls) from api_key_usage"), 60);
	assert_int_equal(pg_fixture_int(db, "select min(calls) from api_key_usage"), 30);
	assert_int_equal(pg_fixture_int(db, "select count(*) from api_key_usage u join (select distinct account_id, user_id, key_id, "
	                                    "floor(extract(epoch from at) / 86400)::int as day from api_audit) a using (account_id, user_id, key_id, day)"),
	                 2);
}

static void a_few_are_written_soon(void **state) {
	(void)state;
	note(2, 200);
	for (int i = 0; i < 2000 && written() < 2; i++)
		turn();
	assert_int_equal(written(), 2);
}

static void of_the_console(void **state) {
	(void)state;
	who->kind = PRINCIPAL_SESSION;
	audit_note(audit, who, "DELETE", NULL, 405, "r");
	close_audit();
	assert_int_equal(pg_fixture_int(db, "select count(*) from api_audit where key_id is null and key_name is null and route is null"),
	                 1);
	assert_int_equal(counted(), 0);
}

static void nothing_to_write(void **state) {
	(void)state;
	close_audit();
	assert_int_equal(written(), 0);
}

/* The connection is cut while the batch is held up, then again: it is written once. */
static void an_answer_that_was_lost(void **state) {
	(void)state;
	PGconn *lock = PQconnectdb(pg_fixture_conninfo(db, NULL));
	PQclear(PQexec(lock, "begin; lock table api_key_usage in exclusive mode"));
	note(600, 200);
	for (int i = 0; i < 2000 && pg_fixture_int(db, "select count(*) from pg_stat_activity where wait_event_type = 'Lock'") == 0; i++)
		turn();
	pg_fixture_exec(db, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'test'");
	for (int i = 0; i < 20; i++)
		turn();
	PQfinish(lock);
	await_up();
	close_audit();
	assert_int_equal(written(), 600);
	assert_int_equal(counted(), 600);
	assert_int_equal(said_dropped(), 0);
}

static void a_database_that_is_away(void **state) {
	(void)state;
	pg_fixture_stop(db, false);
	for (int i = 0; i < 2000 && pg_up(pg); i++)
		turn();
	note(AUDIT_MOST + 10, 200);
	int64_t lost = said_dropped();
	pg_fixture_start(db);
	await_up();
	for (int i = 0; i < 4000 && said_written() < AUDIT_MOST; i++)
		turn();
	assert_int_equal(lost, 10);
	assert_int_equal(written(), AUDIT_MOST);
	assert_int_equal(counted(), AUDIT_MOST);
}

static void a_database_that_is_away_at_the_end(void **state) {
	(void)state;
	pg_fixture_stop(db, false);
	for (int i = 0; i < 2000 && pg_up(pg); i++)
		turn();
	note(3, 200);
	close_audit();
	pg_fixture_start(db);
	assert_int_equal(said_dropped(), 3);
}

static void janitor(int day) {
	pg_fixture_exec(db, "set role minutemail_apid; select janitor_days(to_timestamp(%d * 86400::bigint), 1); reset role", day);
}

static void entry_on(int day) {
	pg_fixture_exec(db,
	                "insert into api_audit select gen_random_uuid(), gen_random_uuid(), to_timestamp(%d * 86400::bigint + 5),"
	                " gen_random_uuid(), null, null, null, 'GET', null, 200, 'x'",
	                day);
}

static void days_come_and_go(void **state) {
	(void)state;
	const char *parts = "select count(*) from pg_inherits where inhparent = 'api_audit'::regclass";
	entry_on(20000); /* before its partition: into the default one */
	janitor(20000);
	assert_int_equal(pg_fixture_int(db, "%s", parts), 1 + 2);
	entry_on(20001);
	janitor(20001);
	assert_int_equal(pg_fixture_int(db, "%s", parts), 1 + 3);
	assert_int_equal(pg_fixture_int(db, "select count(*) from api_audit_default"), 1);
	janitor(20030);
	assert_int_equal(written(), 2);
	janitor(20031);
	assert_int_equal(written(), 1);
	janitor(20032);
	assert_int_equal(written(), 0);
	assert_string_equal(pg_fixture_value(db, "select to_regclass('api_audit_d20001') is null"), "t");
	assert_string_equal(pg_fixture_value(db, "select to_regclass('api_audit_d20034') is null"), "f");
}

static int start_db(void **state) {
	(void)state;
	log_init("test", LOG_LEVEL_DEBUG);
	log_set_sink(quiet, NULL);
	db = pg_fixture_new("synchronous_commit = off");
	metrics = apid_metrics_new(ROUTES, 1);
	metrics_attach(metrics, 0);
	return 0;
}

static int stop_db(void **state) {
	(void)state;
	db = pg_fixture_free(db);
	metrics = metrics_free(metrics);
	return 0;
}

#define row(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
	const struct CMUnitTest tests[] = {
	    row(all_that_was_asked),      row(each_key_is_counted_for_itself), row(a_few_are_written_soon),
	    row(of_the_console),          row(nothing_to_write),               row(an_answer_that_was_lost),
	    row(a_database_that_is_away), row(a_database_that_is_away_at_the_end), row(days_come_and_go),
	};
	return cmocka_run_group_tests(tests, start_db, stop_db);
}
