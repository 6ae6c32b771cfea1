/* What the tests of common/pg share: a database with a few tables, one pool, and answers to wait for. For test_pg*.c only, after
 * cmocka.h. */
#ifndef MINUTEMAIL_PG_TEST_H
#define MINUTEMAIL_PG_TEST_H

#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/pg.h"
#include "tests/support/pg_fixture.h"
#include "tests/support/unit.h"

#include <stdio.h>
#include <unistd.h>

static const struct pg_stmt echo = {.name = "echo", .sql = "select $1::int"};
static const struct pg_stmt divide = {.name = "divide", .sql = "select 1 / $1::int"};
static const struct pg_stmt nap = {.name = "nap", .sql = "select pg_sleep($1::float8 / 1000)"};
static const struct pg_stmt put = {.name = "put", .sql = "insert into t values ($1::int) returning n"};
static const struct pg_stmt put_late = {.name = "put_late", .sql = "insert into late values ($1::int)"};
static const struct pg_stmt warn = {.name = "warn", .sql = "select warn()"};
/* Those of one turn share a Sync, so they are of one transaction. */
static const struct pg_stmt read_echo = {.name = "read_echo", .sql = "select $1::int", .reads = true};
static const struct pg_stmt read_divide = {.name = "read_divide", .sql = "select 1 / $1::int", .reads = true};
static const struct pg_stmt read_transaction = {
    .name = "read_transaction", .sql = "select pg_current_xact_id()::text::int", .reads = true};
static const struct pg_stmt *const stmts[] = {&echo,      &divide,      &nap,              &put, &put_late, &warn,
                                              &read_echo, &read_divide, &read_transaction, NULL};

static struct pg_fixture *db;
static struct loop *loop;
static struct pg *pg;

/* ---- what came back ---- */

struct answer {
	bool done;
	unsigned order;
	enum pg_status status;
	char sqlstate[6];
	char message[100];
	int64_t value, affected;
	unsigned rows;
};

static unsigned answers;

static inline void on_answer(void *arg, const struct pg_result *r) {
	struct answer *a = arg;
	assert_false(a->done);
	a->done = true;
	a->order = ++answers;
	a->status = r->status;
	a->affected = r->affected;
	strcpy(a->sqlstate, r->sqlstate);
	assert_non_null(r->message);
	snprintf(a->message, sizeof(a->message), "%s", r->message);
	a->rows = pg_rows_count(r->rows);
	if (a->rows && !pg_null(r->rows, 0, 0) && pg_text(r->rows, 0, 0).n == 4)
		a->value = pg_int(r->rows, 0, 0);
}

/* One turn that blocks for 10 ms at the most. */
static inline void turn(void) {
	turn_within(loop, 10000);
}

static inline void turn_until(const bool *flag, int64_t us) {
	int64_t end = clock_mono_us_now() + us;
	while (!*flag && clock_mono_us_now() < end)
		turn();
}

static inline void spin(int64_t us) {
	bool no = false;
	turn_until(&no, us);
}

static inline void await(struct answer *a) {
	turn_until(&a->done, 10000000);
	assert_true(a->done);
}

static inline void never(void *arg, const struct pg_result *r) {
	(void)arg;
	(void)r;
	fail_msg("called after a cancel");
}

static inline struct pg_op *ask(const struct pg_stmt *stmt, int32_t n, struct answer *a) {
	struct pg_params p;
	pg_params_init(&p);
	pg_param_int4(&p, n);
	struct pg_op *op = pg_query(pg, stmt, &p, on_answer, a);
	pg_params_fini(&p);
	assert_false(a->done);
	return op;
}

static inline void step(struct pg_tx *tx, const struct pg_stmt *stmt, int32_t n, struct answer *a) {
	struct pg_params p;
	pg_params_init(&p);
	pg_param_int4(&p, n);
	pg_tx_step(tx, stmt, &p, a ? on_answer : NULL, a);
	pg_params_fini(&p);
}

static inline void nap_params(struct pg_params *p, int ms) {
	char text[16];
	snprintf(text, sizeof(text), "%d", ms);
	pg_params_init(p);
	pg_param_cstring(p, text);
}

static inline void ask_nap(int ms, struct answer *a) {
	struct pg_params p;
	nap_params(&p, ms);
	pg_query(pg, &nap, &p, on_answer, a);
	pg_params_fini(&p);
}

static int ups, downs;

static inline void on_state(void *arg, bool up) {
	(void)arg;
	if (up)
		ups++;
	else
		downs++;
}

/* ---- set-up ---- */

static inline struct pg_options base_options(void) {
	return (struct pg_options){
		.conninfo = pg_fixture_conninfo(db, NULL),
		.application_name = "test",
		.stmts = stmts,
		.connections = 1,
		.query_deadline_us = 5000000,
		.connect_deadline_us = 5000000,
		.schema_version = pg_fixture_version(db),
	};
}

static inline void open_pool(const struct pg_options *o) {
	loop = loop_new();
	pg = pg_new(loop, o);
}

static inline void await_connections(unsigned n) {
	int64_t end = clock_mono_us_now() + 10000000;
	while (pg_stats(pg).up < n && clock_mono_us_now() < end)
		turn();
	assert_string_equal(pg_down_reason(pg), "");
	assert_true(pg_stats(pg).up >= n);
}

static inline void await_up(void) {
	await_connections(1);
}

static inline void await_down(void) {
	int64_t end = clock_mono_us_now() + 10000000;
	while (pg_up(pg) && clock_mono_us_now() < end)
		turn();
	assert_false(pg_up(pg));
}

static inline void with_connections(unsigned n) {
	struct pg_options o = base_options();
	o.connections = n;
	open_pool(&o);
	await_connections(n);
}

static inline int teardown(void **state) {
	(void)state;
	pg_free(pg);
	pg = NULL;
	loop_turn(loop);
	loop_free(loop);
	pg_fixture_exec(db, "truncate t, late");
	return 0;
}

static inline int start_db(void **state) {
	(void)state;
	log_init("test", LOG_LEVEL_DEBUG);
	log_set_sink(quiet, NULL);
	db = pg_fixture_new(NULL);
	pg_fixture_exec(db, "create table t (n int primary key)");
	pg_fixture_exec(db, "create table late (n int unique deferrable initially deferred)");
	pg_fixture_exec(
		db, "create function warn() returns int language plpgsql as $$ begin raise warning 'odd'; return 1; end $$");
	/* Waits in the COMMIT, as for a standby: for the lock that the test holds. */
	pg_fixture_exec(db, "create function slow_commit() returns trigger language plpgsql as $$ begin "
	                    "perform pg_advisory_xact_lock(7); return null; end $$");
	pg_fixture_exec(db, "create table slow (n int primary key)");
	pg_fixture_exec(db, "create constraint trigger slow_commit after insert on slow deferrable initially deferred "
	                    "for each row execute function slow_commit()");
	return 0;
}

static inline int stop_db(void **state) {
	(void)state;
	db = pg_fixture_free(db);
	return 0;
}

static inline int64_t kill_backends(void) {
	return pg_fixture_int(
		db, "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'test'");
}

#define row(fn) cmocka_unit_test_teardown(fn, teardown)

#endif
