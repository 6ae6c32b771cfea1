/* apid/quota on a real PostgreSQL, several workers of it in one loop: never more than the limit, never fewer, whoever
 * holds what, across midnight, and what a worker that dies takes along. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "apid/principal.h"
#include "apid/quota.h"
#include "common/buf.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/pg.h"
#include "quota_stmts.h"
#include "tests/support/pg_fixture.h"
#include "tests/support/unit.h"

#include <inttypes.h>

#define WORKERS 4
#define NONE (-1)

static struct pg_fixture *db;
static struct loop *loop;
static struct pg *pg[WORKERS];
static struct quota *quotas[WORKERS];
static struct principal who;

static void turn(void) {
	turn_within(loop, 5000);
}

struct answer {
	bool done;
	enum quota_verdict verdict;
};

static void on_answer(void *arg, enum quota_verdict verdict) {
	struct answer *a = arg;
	assert_false(a->done);
	*a = (struct answer){true, verdict};
}

static struct quota_op *start(unsigned worker, struct answer *a) {
	*a = (struct answer){0};
	struct quota_op *op = quota_start(quotas[worker], &who, on_answer, a, &a->verdict);
	a->done = op == NULL;
	return op;
}

static void await(struct answer *a) {
	for (int i = 0; i < 4000 && !a->done; i++)
		turn();
	assert_true(a->done);
}

static enum quota_verdict take(unsigned worker) {
	struct answer a;
	start(worker, &a);
	await(&a);
	return a.verdict;
}

static void takes(unsigned worker, int64_t n) {
	for (int64_t i = 0; i < n; i++) {
		if (take(worker) != QUOTA_OK)
			fail_msg("call %" PRId64 " of %" PRId64 " of worker %u refused", i + 1, n, worker);
	}
}

static void on_closed(void *arg) {
	bool *closed = arg;
	*closed = true;
}

static void close_worker(unsigned worker) {
	bool closed = false;
	quota_close(quotas[worker], on_closed, &closed);
	for (int i = 0; i < 4000 && !closed; i++)
		turn();
	assert_true(closed);
}

static void free_worker(unsigned worker) {
	quotas[worker] = quota_free(quotas[worker]);
	pg[worker] = pg_free(pg[worker]);
}

static int64_t ledger(void) {
	return pg_fixture_int(db, "select coalesce(sum(calls), 0) from api_usage");
}

/* Long before the end of a minute, and of a day; the same day each time. */
static void set_time(int64_t day, int hour, int second) {
	clock_shift(0);
	int64_t now = clock_wall_us();
	clock_shift(day * DAY_US + hour * HOUR_US + second * SECOND_US - now);
}

static int setup(void **state) {
	(void)state;
	static const char *const greeting[] = {QUOTA_GREETING, NULL};
	const struct pg_options options = {
	    .conninfo = pg_fixture_conninfo(db, "minutemail_apid"),
	    .application_name = "test",
	    .stmts = QUOTA_STMTS,
	    .connections = 1,
	    .query_deadline_us = 10 * SECOND_US,
	    .connect_deadline_us = 10 * SECOND_US,
	};
	loop = loop_new();
	set_time(20000, 12, 1);
	who = (struct principal){.refs = 1, .kind = PRINCIPAL_KEY};
	id_make(&who.account_id, clock_wall_us());
	who.calls_per_day = 1000;
	who.requests_per_minute = NONE;
	for (unsigned i = 0; i < WORKERS; i++) {
		pg[i] = pg_new(loop, &options);
		pg_set_greeting(pg[i], greeting);
		quotas[i] = quota_new(loop, pg[i], 1);
	}
	for (unsigned i = 0; i < WORKERS; i++) {
		for (int n = 0; n < 2000 && !pg_up(pg[i]); n++)
			turn();
	}
	return 0;
}

static int teardown(void **state) {
	(void)state;
	for (unsigned i = 0; i < WORKERS; i++)
		free_worker(i);
	loop_turn(loop);
	loop = loop_free(loop);
	clock_shift(0);
	pg_fixture_exec(db, "truncate api_usage");
	return 0;
}

/* ---- the day ---- */

static void exactly_so_many_in_turn(void **state) {
	(void)state;
	for (int i = 0; i < 1000; i++)
		assert_int_equal(take((unsigned)i % WORKERS), QUOTA_OK);
	for (unsigned i = 0; i < WORKERS; i++)
		assert_int_equal(take(i), QUOTA_DAY);
	assert_int_equal(ledger(), 1000);
}

static void exactly_so_many_at_once(void **state) {
	(void)state;
	static struct answer answers[1200];
	unsigned ok = 0, refused = 0;
	for (unsigned i = 0; i < array_len(answers); i++)
		start(i % WORKERS, &answers[i]);
	for (unsigned i = 0; i < array_len(answers); i++) {
		await(&answers[i]);
		ok += answers[i].verdict == QUOTA_OK;
		refused += answers[i].verdict == QUOTA_DAY;
	}
	assert_int_equal(ok, 1000);
	assert_int_equal(refused, 200);
}

static void what_an_idle_worker_holds_comes_back(void **state) {
	(void)state;
	takes(0, 1);
	assert_true(ledger() > 1); /* it holds more than it used */
	takes(1, 999);
	assert_int_equal(take(1), QUOTA_DAY);
	assert_int_equal(take(0), QUOTA_DAY);
	assert_int_equal(ledger(), 1000);
}

static void one_question_serves_many(void **state) {
	(void)state;
	who.calls_per_day = 1000000;
	takes(0, 5000);
	assert_true(ledger() < 5000 + 2 * 1000);
	assert_true(pg_fixture_int(db, "select n_tup_upd from pg_stat_user_tables where relname = 'api_usage'") < 5000);
}

static void refusals_cost_nothing(void **state) {
	(void)state;
	struct answer a;
	who.calls_per_day = 3;
	takes(0, 3);
	assert_int_equal(take(0), QUOTA_DAY);
	assert_null(start(0, &a));
	assert_int_equal(a.verdict, QUOTA_DAY);
}

static void none_at_all(void **state) {
	(void)state;
	who.calls_per_day = 0;
	assert_int_equal(take(0), QUOTA_DAY);
}

static void midnight_opens_it_again(void **state) {
	(void)state;
	set_time(20000, 23, 3590);
	who.calls_per_day = 300;
	takes(0, 2);
	takes(1, 298);
	assert_int_equal(take(1), QUOTA_DAY);
	set_time(20001, 0, 1);
	takes(1, 1);
	takes(0, 1);
	assert_int_equal(pg_fixture_int(db, "select calls from api_usage where day = 20000"), 300);
	takes(0, 298);
	assert_int_equal(take(0), QUOTA_DAY);
}

static void unused_calls_go_back_at_the_end_of_the_minute(void **state) {
	(void)state;
	set_time(20000, 12, 58);
	takes(0, 1);
	assert_true(ledger() > 1);
	for (int i = 0; i < 2000 && ledger() > 1; i++)
		turn();
	assert_int_equal(ledger(), 1);
}

static void unused_calls_go_back_at_exit(void **state) {
	(void)state;
	takes(0, 7);
	assert_true(ledger() > 7);
	close_worker(0);
	assert_int_equal(ledger(), 7);
}

static void a_worker_that_dies_takes_little_along(void **state) {
	(void)state;
	who.calls_per_day = 10000;
	takes(0, 2000);
	free_worker(0);
	assert_true(ledger() > 2000);
	int64_t more = 0;
	while (take(1) == QUOTA_OK)
		more++;
	assert_true(2000 + more >= 9900 && 2000 + more <= 10000);
}

static void a_refund_is_a_call(void **state) {
	(void)state;
	who.calls_per_day = 10;
	takes(0, 10);
	quota_refund(quotas[0], &who, clock_wall_us());
	takes(0, 1);
	assert_int_equal(take(0), QUOTA_DAY);
	quota_refund(quotas[0], &who, clock_wall_us()); /* the day is over: for whoever asks first */
	for (int i = 0; i < 400 && take(1) != QUOTA_OK; i++)
		turn();
	assert_int_equal(take(1), QUOTA_DAY);
	assert_int_equal(ledger(), 10);
}

static void a_changed_plan_counts_at_once(void **state) {
	(void)state;
	who.calls_per_day = 10;
	takes(0, 10);
	assert_int_equal(take(0), QUOTA_DAY);
	who.calls_per_day = 400;
	takes(0, 100);
	who.calls_per_day = 111;
	takes(0, 1);
	assert_int_equal(take(0), QUOTA_DAY);
	assert_int_equal(ledger(), 111);
}

static void who_left_takes_no_call(void **state) {
	(void)state;
	struct answer a;
	who.calls_per_day = 10;
	struct quota_op *op = start(0, &a);
	assert_non_null(op);
	quota_cancel(op);
	takes(0, 10);
	assert_false(a.done);
	assert_int_equal(take(0), QUOTA_DAY);
}

static void sessions_and_the_unlimited_are_not_counted(void **state) {
	(void)state;
	struct answer a;
	who.kind = PRINCIPAL_SESSION;
	assert_null(start(0, &a));
	assert_int_equal(a.verdict, QUOTA_OK);
	who.kind = PRINCIPAL_KEY;
	who.calls_per_day = NONE;
	assert_null(start(0, &a));
	assert_int_equal(a.verdict, QUOTA_OK);
	assert_int_equal(ledger(), 0);
}

static void without_a_database(void **state) {
	(void)state;
	pg_fixture_stop(db, false);
	for (int i = 0; i < 2000 && pg_up(pg[0]); i++)
		turn();
	enum quota_verdict verdict = take(0);
	pg_fixture_start(db);
	assert_int_equal(verdict, QUOTA_UNAVAILABLE);
	for (int i = 0; i < 2000 && !pg_up(pg[0]); i++)
		turn();
	takes(0, 1);
}

/* ---- the minute ---- */

static void never_more_in_a_minute(void **state) {
	(void)state;
	unsigned ok = 0;
	who.requests_per_minute = 60;
	for (int minute = 0; minute < 3; minute++) {
		ok = 0;
		set_time(20000, 12, 60 * minute + 1);
		for (int i = 0; i < 100; i++)
			ok += take((unsigned)i % WORKERS) == QUOTA_OK;
		assert_int_equal(ok, 60);
		assert_int_equal(take(0), QUOTA_MINUTE);
	}
	assert_int_equal(ledger(), 180);
}

static void the_day_ends_within_a_minute(void **state) {
	(void)state;
	who.calls_per_day = 30;
	who.requests_per_minute = 60;
	takes(0, 30);
	assert_int_equal(take(0), QUOTA_DAY);
}

/* ---- the headers ---- */

static void state_and_headers(void **state) {
	(void)state;
	struct quota_state s;
	struct buf text;
	buf_init(&text, 1000);
	who.requests_per_minute = 60;
	set_time(20000, 23, 3530);
	takes(0, 5);
	quota_state(quotas[0], &who, &s);
	assert_int_equal(s.day_left, 995);
	assert_int_equal(s.minute_left, 55);
	assert_int_equal(s.day_ends, 20001 * INT64_C(86400));
	assert_in_range(s.day_seconds, 40, 70);
	s.day_seconds = 70;
	s.minute_seconds = 10;
	quota_headers(&s, &text);
	assert_string_equal(text.data, "X-RateLimit-Limit: 1000\r\nX-RateLimit-Remaining: 995\r\nX-RateLimit-Reset: 1728086400\r\n"
	                               "RateLimit-Policy: \"day\";q=1000;w=86400, \"minute\";q=60;w=60\r\n"
	                               "RateLimit: \"day\";r=995;t=70, \"minute\";r=55;t=10\r\n");
	s.day_limit = NONE;
	buf_reset(&text);
	quota_headers(&s, &text);
	assert_string_equal(text.data, "RateLimit-Policy: \"minute\";q=60;w=60\r\nRateLimit: \"minute\";r=55;t=10\r\n");
	s.minute_limit = NONE;
	buf_reset(&text);
	quota_headers(&s, &text);
	assert_int_equal(text.len, 0);
	s.day_limit = s.day_left = 7;
	quota_headers(&s, &text);
	assert_string_equal(text.data, "X-RateLimit-Limit: 7\r\nX-RateLimit-Remaining: 7\r\nX-RateLimit-Reset: 1728086400\r\n"
	                               "RateLimit-Policy: \"day\";q=7;w=86400\r\nRateLimit: \"day\";r=7;t=70\r\n");
	buf_fini(&text);
}

static int start_db(void **state) {
	(void)state;
	log_init("test", LOG_LEVEL_DEBUG);
	log_set_sink(quiet, NULL);
	db = pg_fixture_new("synchronous_commit = off");
	return 0;
}

static int stop_db(void **state) {
	(void)state;
	db = pg_fixture_free(db);
	return 0;
}

#define row(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
	const struct CMUnitTest tests[] = {
	    row(exactly_so_many_in_turn),
	    row(exactly_so_many_at_once),
	    row(what_an_idle_worker_holds_comes_back),
	    row(one_question_serves_many),
	    row(refusals_cost_nothing),
	    row(none_at_all),
	    row(midnight_opens_it_again),
	    row(unused_calls_go_back_at_the_end_of_the_minute),
	    row(unused_calls_go_back_at_exit),
	    row(a_worker_that_dies_takes_little_along),
	    row(a_refund_is_a_call),
	    row(a_changed_plan_counts_at_once),
	    row(who_left_takes_no_call),
	    row(sessions_and_the_unlimited_are_not_counted),
	    row(without_a_database),
	    row(never_more_in_a_minute),
	    row(the_day_ends_within_a_minute),
	    row(state_and_headers),
	};
	return cmocka_run_group_tests(tests, start_db, stop_db);
}
