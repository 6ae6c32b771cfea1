/* common/pg: transactions on a real PostgreSQL, and who gets a connection when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pg_test.h"

/* ---- transactions ---- */

static void test_commit(void **state) {
	struct answer a = {0}, b = {0}, c = {0};
	(void)state;
	with_connections(1);
	struct pg_tx *tx = pg_tx_begin(pg);
	step(tx, &put, 1, &a);
	step(tx, &put, 2, &b);
	pg_tx_commit(tx, on_answer, &c);
	assert_false(a.done || c.done);
	await(&c);
	assert_true(a.done && b.done);
	assert_int_equal(a.status, PG_OK);
	assert_int_equal(a.affected, 1);
	assert_int_equal(b.value, 2);
	assert_int_equal(c.status, PG_OK);
	assert_int_equal(pg_fixture_int(db, "select count(*) from t"), 2);
}

/* Round trips, and work decided by answers; other queries wait for the only connection, then run. */
static void test_commit_in_steps(void **state) {
	struct answer a = {0}, b = {0}, c = {0}, q = {0};
	(void)state;
	with_connections(1);
	struct pg_tx *tx = pg_tx_begin(pg);
	step(tx, &put, 1, &a);
	pg_tx_flush(tx);
	pg_tx_flush(tx);
	await(&a);
	ask(&echo, 1, &q);
	assert_int_equal(pg_fixture_int(db, "select count(*) from t"), 0);
	step(tx, &put, (int32_t)a.value + 1, &b);
	pg_tx_flush(tx);
	await(&b);
	assert_false(q.done);
	pg_tx_commit(tx, on_answer, &c);
	await(&q);
	assert_int_equal(c.status, PG_OK);
	assert_int_equal(pg_fixture_int(db, "select sum(n) from t"), 3);
}

static void test_waiting_tx(void **state) {
	struct answer a = {0}, b = {0}, c = {0}, d = {0};
	(void)state;
	with_connections(1);
	struct pg_tx *first = pg_tx_begin(pg), *second = pg_tx_begin(pg);
	step(second, &put, 1, &b);
	pg_tx_flush(second);
	step(second, &put, 2, NULL);
	pg_tx_commit(second, on_answer, &c);
	step(first, &put, 1, &a);
	pg_tx_flush(first);
	await(&a);
	assert_false(b.done);
	pg_tx_rollback(first);
	await(&c);
	assert_int_equal(b.status, PG_OK); /* the first one's row is gone */
	assert_int_equal(c.status, PG_OK);
	assert_int_equal(pg_fixture_int(db, "select sum(n) from t"), 3);
	pg_tx_commit(pg_tx_begin(pg), on_answer, &d);
	await(&d);
	assert_int_equal(d.status, PG_OK); /* an empty one */
}

static void test_tx_error(void **state) {
	struct answer a = {0}, b = {0}, c = {0}, d = {0}, q = {0};
	(void)state;
	with_connections(1);
	struct pg_tx *tx = pg_tx_begin(pg);
	step(tx, &put, 1, &a);
	step(tx, &divide, 0, &b);
	step(tx, &put, 2, &c);
	pg_tx_commit(tx, on_answer, &d);
	ask(&echo, 3, &q);
	await(&q);
	assert_int_equal(a.status, PG_OK);
	assert_string_equal(b.sqlstate, "22012");
	assert_int_equal(c.status, PG_ERROR);
	assert_string_equal(c.sqlstate, "25P02");
	assert_int_equal(d.status, PG_ERROR);
	assert_string_equal(d.sqlstate, "22012");
	assert_string_equal(d.message, "division by zero");
	assert_int_equal(q.status, PG_OK); /* the connection was cleaned */
	assert_int_equal(pg_fixture_int(db, "select count(*) from t"), 0);
}

static void test_tx_error_then_more(void **state) {
	struct answer a = {0}, b = {0}, c = {0}, d = {0}, e = {0}, q = {0};
	(void)state;
	with_connections(1);
	struct pg_tx *tx = pg_tx_begin(pg);
	step(tx, &divide, 0, &a);
	pg_tx_flush(tx);
	step(tx, &put, 1, &b); /* on its way before the error is known */
	pg_tx_flush(tx);
	await(&a);
	step(tx, &put, 2, &c);
	pg_tx_commit(tx, on_answer, &d);
	ask(&echo, 3, &q);
	await(&q);
	assert_string_equal(c.sqlstate, "25P02");
	assert_string_equal(d.sqlstate, "22012");
	/* COMMIT of a failed transaction on its way before the error is known: the server says ROLLBACK. */
	tx = pg_tx_begin(pg);
	step(tx, &divide, 0, NULL);
	pg_tx_flush(tx);
	pg_tx_commit(tx, on_answer, &e);
	await(&e);
	assert_int_equal(e.status, PG_ERROR);
	assert_string_equal(e.sqlstate, "22012");
	assert_int_equal(pg_fixture_int(db, "select count(*) from t"), 0);
}

/* An error of the COMMIT itself. */
static void test_commit_error(void **state) {
	struct answer a = {0}, b = {0};
	(void)state;
	with_connections(1);
	struct pg_tx *tx = pg_tx_begin(pg);
	step(tx, &put_late, 1, NULL);
	step(tx, &put_late, 1, &a);
	pg_tx_commit(tx, on_answer, &b);
	await(&b);
	assert_int_equal(a.status, PG_OK);
	assert_int_equal(b.status, PG_ERROR);
	assert_string_equal(b.sqlstate, "23505");
}

static void test_rollback(void **state) {
	struct answer a = {0}, q = {0};
	(void)state;
	with_connections(1);
	struct pg_tx *tx = pg_tx_begin(pg);
	step(tx, &put, 1, &a);
	pg_tx_flush(tx);
	await(&a);
	pg_tx_step(tx, &warn, NULL, never, NULL);
	pg_tx_flush(tx);
	pg_tx_rollback(tx);
	pg_tx_rollback(pg_tx_begin(pg)); /* waits, sent nothing */
	tx = pg_tx_begin(pg);            /* given up while its COMMIT is on its way */
	step(tx, &put, 5, NULL);
	pg_tx_commit(tx, never, NULL);
	pg_tx_rollback(tx);
	ask(&echo, 1, &q);
	await(&q);
	assert_int_equal(q.status, PG_OK);
	assert_int_equal(pg_fixture_int(db, "select count(*) from t where n = 1"), 0);
}

static const struct pg_stmt swallow = {.name = "swallow", .sql = "select length($1::bytea)"};
static const struct pg_stmt *const unsynced_stmts[] = {&echo, &divide, &swallow, NULL};

/* An error that may be answered before the Sync is sent, because what follows it filled libpq's buffer. */
static void test_error_before_sync(void **state) {
	char *octets = xcalloc(1, 100000);
	struct pg_options o = base_options();
	(void)state;
	o.stmts = unsynced_stmts;
	open_pool(&o);
	await_up();
	pg_on_state(pg, on_state, NULL);
	downs = 0;
	for (int i = 0; i < 3; i++) {
		struct answer a = {0}, b = {0}, c = {0}, q = {0};
		struct pg_params p;
		struct pg_tx *tx = pg_tx_begin(pg);
		step(tx, &divide, 0, &a);
		pg_params_init(&p);
		pg_param_bytea(&p, octets, 100000);
		pg_tx_step(tx, &swallow, &p, on_answer, &b);
		pg_params_fini(&p);
		spin(50000);
		if (i == 0) {
			pg_tx_rollback(tx);
		} else {
			pg_tx_flush(tx);
			if (i == 2)
				await(&a);
			pg_tx_commit(tx, on_answer, &c);
			await(&c);
			assert_string_equal(c.sqlstate, "22012");
		}
		ask(&echo, 1, &q);
		await(&q);
		assert_int_equal(q.status, PG_OK);
	}
	assert_int_equal(downs, 0); /* nor did it cost the connection */
	free(octets);
}

/* A COMMIT that nobody waits for any more, and that the server skips. */
static void test_rollback_after_failed_commit(void **state) {
	struct answer q = {0}, r = {0};
	(void)state;
	with_connections(1);
	struct pg_tx *tx = pg_tx_begin(pg);
	step(tx, &divide, 0, NULL);
	pg_tx_commit(tx, never, NULL);
	pg_tx_rollback(tx);
	ask(&echo, 1, &q);
	ask(&echo, 2, &r);
	await(&r);
	assert_int_equal(q.status, PG_OK);
	assert_int_equal(r.status, PG_OK);
}

/* A warning before COMMIT's result: it may be only here (a cancelled wait for the standby says so). */
static void test_commit_warned(void **state) {
	struct answer a = {0}, b = {0};
	(void)state;
	with_connections(1);
	struct pg_tx *tx = pg_tx_begin(pg);
	pg_tx_step(tx, &warn, NULL, on_answer, &a);
	pg_tx_commit(tx, on_answer, &b);
	await(&b);
	assert_int_equal(a.status, PG_OK);
	assert_int_equal(b.status, PG_IN_DOUBT);
}

/* Two connections: two open transactions share one of them, so that queries always have the other. */
static void test_queries_keep_one(void **state) {
	struct answer a = {0}, b = {0}, q = {0};
	(void)state;
	with_connections(2);
	struct pg_tx *one = pg_tx_begin(pg), *two = pg_tx_begin(pg);
	step(one, &put, 1, NULL);
	step(two, &put, 2, NULL);
	pg_tx_flush(one);
	pg_tx_flush(two);
	ask(&echo, 1, &q);
	await(&q);
	assert_int_equal(q.status, PG_OK);
	pg_tx_commit(two, on_answer, &b);
	pg_tx_commit(one, on_answer, &a);
	await(&b);
	assert_true(a.order < b.order);
	assert_int_equal(a.status, PG_OK);
	assert_int_equal(b.status, PG_OK);
}

/* Where no queries come, transactions have them all. */
static void test_txs_have_all(void **state) {
	struct answer a = {0}, b = {0}, c = {0};
	struct pg_options o = base_options();
	(void)state;
	o.connections = 2;
	o.transactions_only = true;
	open_pool(&o);
	await_connections(2);
	struct pg_tx *one = pg_tx_begin(pg), *two = pg_tx_begin(pg);
	step(one, &put, 1, &a);
	step(two, &put, 2, &b);
	pg_tx_flush(one);
	pg_tx_flush(two);
	await(&a);
	await(&b);
	pg_tx_rollback(one);
	pg_tx_commit(two, on_answer, &c);
	await(&c);
}

struct flood {
	unsigned asked;
	bool stop;
};

static void on_flood(void *arg, const struct pg_result *r) {
	struct flood *f = arg;
	struct pg_params p;
	assert_int_equal(r->status, PG_OK);
	if (f->stop)
		return;
	f->asked++;
	pg_params_init(&p);
	pg_param_int4(&p, 1);
	pg_query(pg, &echo, &p, on_flood, f);
	pg_params_fini(&p);
}

/* Queries without a pause on every connection: a transaction gets its turn. */
static void test_tx_not_starved(void **state) {
	static const unsigned connections[] = {1, 2};
	for (unsigned i = 0; i < array_len(connections); i++) {
		struct flood f = {0};
		struct answer a = {0};
		const struct pg_result ok = {.status = PG_OK};
		with_connections(connections[i]);
		for (int n = 0; n < 20; n++)
			on_flood(&f, &ok);
		int64_t end = clock_mono_us_now() + 10000000;
		while (f.asked <= 100 && clock_mono_us_now() < end)
			turn();
		unsigned before = f.asked;
		assert_true(before > 100);
		struct pg_tx *tx = pg_tx_begin(pg);
		step(tx, &put, 1, NULL);
		pg_tx_commit(tx, on_answer, &a);
		await(&a);
		assert_int_equal(a.status, PG_OK);
		if (connections[i] == 1)
			assert_true(f.asked - before < 200);
		f.stop = true;
		teardown(state);
	}
	with_connections(1);
}

struct chain {
	int left;
	bool done;
};

static void on_chain(void *arg, const struct pg_result *r) {
	struct chain *c = arg;
	assert_int_equal(r->status, PG_OK);
	if (--c->left > 0)
		pg_tx_commit(pg_tx_begin(pg), on_chain, c);
	else
		c->done = true;
}

/* One connection, transactions without a pause: a query gets its turn. */
static void test_query_not_starved(void **state) {
	struct chain c = {.left = 200};
	struct answer q = {0};
	(void)state;
	with_connections(1);
	pg_tx_commit(pg_tx_begin(pg), on_chain, &c);
	ask(&echo, 1, &q);
	await(&q);
	assert_true(c.left > 190);
	turn_until(&c.done, 10000000);
	assert_true(c.done);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		row(test_commit),         row(test_commit_in_steps),    row(test_waiting_tx),
		row(test_tx_error),       row(test_tx_error_then_more), row(test_commit_error),
		row(test_rollback),       row(test_error_before_sync),  row(test_rollback_after_failed_commit),
		row(test_commit_warned),  row(test_queries_keep_one),   row(test_txs_have_all),
		row(test_tx_not_starved), row(test_query_not_starved),
	};
	cmocka_set_test_filter(getenv("TEST_FILTER"));
	return cmocka_run_group_tests_name("pg_tx", tests, start_db, stop_db);
}
