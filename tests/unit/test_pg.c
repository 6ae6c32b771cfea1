/* common/pg on a real PostgreSQL: order, isolation of errors, transactions, loss of the server at every stage, deadlines, bounds,
 * and every parameter type there and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/pg.h"
#include "tests/support/pg_fixture.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const struct pg_stmt echo = {.name = "echo", .sql = "select $1::int"};
static const struct pg_stmt divide = {.name = "divide", .sql = "select 1 / $1::int"};
static const struct pg_stmt nap = {.name = "nap", .sql = "select pg_sleep($1::float8 / 1000)"};
static const struct pg_stmt put = {.name = "put", .sql = "insert into t values ($1::int) returning n"};
static const struct pg_stmt put_late = {.name = "put_late", .sql = "insert into late values ($1::int)"};
static const struct pg_stmt tell = {.name = "tell", .sql = "select pg_notify('news', $1)"};
static const struct pg_stmt warn = {.name = "warn", .sql = "select warn()"};
static const struct pg_stmt scalars = {.name = "scalars",
                                       .sql = "select $1::text, $2::text, $3::smallint, $4::int, $5::bigint, "
                                              "$6::boolean, $7::bytea, $8::uuid, $9::timestamptz, "
                                              "$10::timestamptz, 'infinity'::timestamptz, $11::jsonb::text"};
static const struct pg_stmt arrays = {
	.name = "arrays",
	.sql = "select $1::smallint[], $2::int[], $3::bigint[], $4::boolean[], $5::text[], $6::bytea[], $7::uuid[], "
		   "$8::timestamptz[], array_to_string($8::timestamptz[], ',', 'null')"};
static const struct pg_stmt *const stmts[] = {&echo, &divide, &nap,     &put,    &put_late,
                                              &tell, &warn,   &scalars, &arrays, NULL};

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

static void on_answer(void *arg, const struct pg_result *r) {
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

static void nothing(void *arg) {
	(void)arg;
}

/* One turn that blocks for 10 ms at the most. */
static void turn(void) {
	struct timer t;
	timer_init(&t, loop, nothing, NULL);
	timer_arm(&t, 10000);
	loop_turn(loop);
	timer_fini(&t);
}

static void turn_until(const bool *flag, int64_t us) {
	int64_t end = clock_mono_us_now() + us;
	while (!*flag && clock_mono_us_now() < end)
		turn();
}

static void spin(int64_t us) {
	bool no = false;
	turn_until(&no, us);
}

static void await(struct answer *a) {
	turn_until(&a->done, 10000000);
	assert_true(a->done);
}

static void never(void *arg, const struct pg_result *r) {
	(void)arg;
	(void)r;
	fail_msg("called after a cancel");
}

static struct pg_op *ask(const struct pg_stmt *stmt, int32_t n, struct answer *a) {
	struct pg_params p;
	pg_params_init(&p);
	pg_param_int4(&p, n);
	struct pg_op *op = pg_query(pg, stmt, &p, on_answer, a);
	pg_params_fini(&p);
	assert_false(a->done);
	return op;
}

static void step(struct pg_tx *tx, const struct pg_stmt *stmt, int32_t n, struct answer *a) {
	struct pg_params p;
	pg_params_init(&p);
	pg_param_int4(&p, n);
	pg_tx_step(tx, stmt, &p, a ? on_answer : NULL, a);
	pg_params_fini(&p);
}

static void nap_params(struct pg_params *p, int ms) {
	char text[16];
	snprintf(text, sizeof(text), "%d", ms);
	pg_params_init(p);
	pg_param_cstring(p, text);
}

static void ask_nap(int ms, struct answer *a) {
	struct pg_params p;
	nap_params(&p, ms);
	pg_query(pg, &nap, &p, on_answer, a);
	pg_params_fini(&p);
}

/* ---- set-up ---- */

static void quiet(void *arg, enum log_level level, const char *line, size_t n) {
	(void)arg;
	(void)level;
	if (getenv("TEST_LOG"))
		fprintf(stderr, "%.*s\n", (int)n, line);
}

static struct pg_options base_options(void) {
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

static void open_pool(const struct pg_options *o) {
	loop = loop_new();
	pg = pg_new(loop, o);
}

static void await_up(void) {
	int64_t end = clock_mono_us_now() + 10000000;
	while (!pg_up(pg) && clock_mono_us_now() < end)
		turn();
	assert_string_equal(pg_down_reason(pg), "");
	assert_true(pg_up(pg));
}

static void await_down(void) {
	int64_t end = clock_mono_us_now() + 10000000;
	while (pg_up(pg) && clock_mono_us_now() < end)
		turn();
	assert_false(pg_up(pg));
}

static void with_connections(unsigned n) {
	struct pg_options o = base_options();
	o.connections = n;
	open_pool(&o);
	await_up();
}

static int teardown(void **state) {
	(void)state;
	pg_free(pg);
	pg = NULL;
	loop_turn(loop);
	loop_free(loop);
	pg_fixture_exec(db, "truncate t, late");
	return 0;
}

static int start_db(void **state) {
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

static int stop_db(void **state) {
	(void)state;
	db = pg_fixture_free(db);
	return 0;
}

/* ---- queries ---- */

static void test_order(void **state) {
	struct answer a[500] = {0};
	(void)state;
	with_connections(1);
	answers = 0;
	for (unsigned i = 0; i < array_len(a); i++)
		ask(&echo, (int32_t)i, &a[i]);
	for (unsigned i = 0; i < array_len(a); i++) {
		await(&a[i]);
		assert_int_equal(a[i].status, PG_OK);
		assert_int_equal(a[i].value, i);
		assert_int_equal(a[i].order, i + 1);
		assert_int_equal(a[i].affected, 1);
	}
}

static void test_error_isolated(void **state) {
	struct answer a[9] = {0};
	(void)state;
	with_connections(1);
	for (int i = 0; i < 9; i++)
		ask(&divide, i % 3, &a[i]);
	for (int i = 0; i < 9; i++) {
		await(&a[i]);
		assert_int_equal(a[i].status, i % 3 ? PG_OK : PG_ERROR);
		assert_string_equal(a[i].sqlstate, i % 3 ? "" : "22012");
		assert_string_equal(a[i].message, i % 3 ? "" : "division by zero");
	}
}

/* What runs outside a transaction commits at its Sync: an error there must not have been reported as success. */
static void test_error_at_sync(void **state) {
	struct answer a = {0}, b = {0}, c = {0}, d = {0};
	(void)state;
	with_connections(1);
	ask(&put_late, 1, &a);
	ask(&put_late, 1, &b);
	ask(&echo, 5, &c);
	ask(&put_late, 2, &d);
	await(&d);
	assert_int_equal(a.status, PG_OK);
	assert_int_equal(b.status, PG_ERROR);
	assert_string_equal(b.sqlstate, "23505");
	assert_int_equal(c.status, PG_OK);
	assert_int_equal(c.value, 5);
	assert_int_equal(d.status, PG_OK);
	assert_int_equal(pg_fixture_int(db, "select count(*) from late"), 2);
}

static void test_warning_is_doubt(void **state) {
	struct answer a = {0}, b = {0};
	(void)state;
	with_connections(1);
	pg_query(pg, &warn, NULL, on_answer, &a);
	ask(&echo, 1, &b);
	await(&b);
	assert_int_equal(a.status, PG_IN_DOUBT);
	assert_int_equal(b.status, PG_OK);
}

static void test_cancel(void **state) {
	struct answer a = {0}, b = {0};
	struct pg_params p;
	(void)state;
	struct pg_options o = base_options();
	o.depth = 1;
	open_pool(&o);
	await_up();
	nap_params(&p, 20);
	struct pg_op *sent = pg_query(pg, &nap, &p, never, NULL);
	struct pg_op *waits = pg_query(pg, &nap, &p, never, NULL);
	struct pg_op *waits_bare = pg_query(pg, &warn, NULL, never, NULL);
	pg_params_fini(&p);
	ask(&echo, 1, &a);
	assert_null(pg_op_cancel(sent));
	assert_null(pg_op_cancel(waits));
	assert_null(pg_op_cancel(waits_bare));
	assert_null(pg_op_cancel(NULL));
	await(&a);
	assert_int_equal(a.status, PG_OK);
	/* A refusal on its way is stopped as well. */
	pg_fixture_stop(db, true);
	await_down();
	spin(200000);
	pg_op_cancel(pg_query(pg, &warn, NULL, never, NULL));
	ask(&echo, 1, &b);
	await(&b);
	assert_int_equal(b.status, PG_UNAVAILABLE);
	pg_fixture_start(db);
}

static void test_bounds(void **state) {
	struct answer a[8] = {0};
	(void)state;
	struct pg_options o = base_options();
	o.depth = 2;
	o.queue = 3;
	open_pool(&o);
	await_up();
	answers = 0;
	ask_nap(50, &a[0]);
	for (int i = 1; i < 8; i++)
		ask(&echo, i, &a[i]);
	for (int i = 0; i < 8; i++) {
		await(&a[i]);
		assert_int_equal(a[i].status, i < 5 ? PG_OK : PG_UNAVAILABLE);
	}
	assert_true(a[5].order < a[0].order); /* at once */
}

static void test_too_large(void **state) {
	struct answer a = {0}, b = {0}, c = {0}, d = {0};
	struct pg_params p;
	(void)state;
	with_connections(1);
	pg_params_init(&p);
	p.data.ceiling = 100;
	char text[200] = {0};
	pg_param_bytea(&p, text, sizeof(text));
	pg_query(pg, &echo, &p, on_answer, &a);
	struct pg_tx *tx = pg_tx_begin(pg);
	step(tx, &put, 1, &b);
	pg_tx_step(tx, &put, &p, on_answer, &c);
	pg_tx_commit(tx, on_answer, &d);
	pg_params_fini(&p);
	await(&a);
	await(&d);
	assert_string_equal(a.sqlstate, "54000");
	assert_string_equal(c.sqlstate, "54000");
	assert_string_equal(d.sqlstate, "54000");
	assert_int_equal(pg_fixture_int(db, "select count(*) from t"), 0);
}

/* ---- types ---- */

static struct id some_id(uint8_t first) {
	struct id id = {{first, 1, 2, 3, 4, 5, 0x76, 7, 0x88, 9, 10, 11, 12, 13, 14, 15}};
	return id;
}

static bool types_done;

static void on_scalars(void *arg, const struct pg_result *r) {
	const struct pg_rows *rows = r->rows;
	struct id id = some_id(1), got;
	(void)arg;
	assert_int_equal(r->status, PG_OK);
	assert_int_equal(pg_rows_count(rows), 1);
	assert_true(slice_eq(pg_text(rows, 0, 0), slice_str("h\xc3\xa9 ' \\")));
	assert_true(pg_null(rows, 0, 1));
	assert_null(pg_text(rows, 0, 1).p);
	assert_int_equal(pg_int(rows, 0, 2), -32768);
	assert_int_equal(pg_int(rows, 0, 3), INT32_MIN);
	assert_true(pg_int(rows, 0, 4) == INT64_MIN);
	assert_true(pg_bool(rows, 0, 5));
	assert_true(slice_eq(pg_text(rows, 0, 6), slice_of("\0\xff", 2)));
	got = pg_uuid(rows, 0, 7);
	assert_memory_equal(got.b, id.b, 16);
	assert_true(pg_time(rows, 0, 8) == 1795533314123456);
	assert_true(pg_time(rows, 0, 9) == INT64_MAX);
	assert_true(pg_time(rows, 0, 10) == INT64_MAX);
	assert_true(slice_eq(pg_text(rows, 0, 11), slice_str("{\"a\": 1}")));
	types_done = true;
}

static void test_scalars(void **state) {
	struct pg_params p;
	struct id id = some_id(1);
	(void)state;
	with_connections(1);
	pg_params_init(&p);
	for (int round = 0; round < 2; round++) {
		types_done = false;
		pg_params_reset(&p);
		pg_param_cstring(&p, "h\xc3\xa9 ' \\");
		pg_param_cstring(&p, NULL);
		pg_param_int2(&p, -32768);
		pg_param_int4(&p, INT32_MIN);
		pg_param_int8(&p, INT64_MIN);
		pg_param_bool(&p, true);
		pg_param_bytea(&p, "\0\xff", 2);
		pg_param_uuid(&p, &id);
		pg_param_time(&p, 1795533314123456);
		pg_param_time(&p, INT64_MAX);
		pg_param_text(&p, "{\"a\":1}xx", 7);
		pg_query(pg, &scalars, &p, on_scalars, NULL);
		turn_until(&types_done, 5000000);
		assert_true(types_done);
	}
	pg_params_fini(&p);
}

static int64_t big_endian(struct slice s) {
	uint64_t v = 0;
	for (size_t i = 0; i < s.n; i++)
		v = v << 8 | (uint8_t)s.p[i];
	return (int64_t)v;
}

static void on_arrays(void *arg, const struct pg_result *r) {
	unsigned n = *(unsigned *)arg;
	const struct pg_rows *rows = r->rows;
	assert_int_equal(r->status, PG_OK);
	for (unsigned col = 0; col < 8; col++) {
		assert_int_equal(pg_array_count(rows, 0, col), n);
		if (n > 1)
			assert_null(pg_array_elem(rows, 0, col, 1).p);
	}
	if (n) {
		assert_int_equal(big_endian(pg_array_elem(rows, 0, 0, 0)), 7);
		assert_int_equal(big_endian(pg_array_elem(rows, 0, 1, 0)), 70000);
		assert_true(big_endian(pg_array_elem(rows, 0, 2, n - 1)) == 7000000000 + n - 1);
		assert_int_equal(big_endian(pg_array_elem(rows, 0, 3, 0)), 1);
		assert_true(slice_eq(pg_array_elem(rows, 0, 4, n - 1), slice_str("text")));
		assert_non_null(pg_array_elem(rows, 0, 5, n - 1).p);
		assert_int_equal(pg_array_elem(rows, 0, 5, n - 1).n, 0);
		assert_memory_equal(pg_array_elem(rows, 0, 6, n - 1).p, some_id((uint8_t)n).b, 16);
		assert_true(
			slice_eq(pg_text(rows, 0, 8), n == 1 ? slice_str("1970-01-01 00:00:00+00")
		                                         : slice_str("1970-01-01 00:00:00+00,null,1970-01-01 00:00:00+00")));
	} else {
		assert_int_equal(pg_text(rows, 0, 8).n, 0);
	}
	types_done = true;
}

/* Element 1 of each is NULL. */
static void fill_array(struct pg_params *p, enum pg_elem elem, unsigned n) {
	pg_param_array(p, elem, n);
	for (unsigned i = 0; i < n; i++) {
		struct id id = some_id((uint8_t)(i + 1));
		if (i == 1)
			pg_elem_null(p);
		else if (elem == PG_TEXT)
			pg_elem_text(p, "text", 4);
		else if (elem == PG_BYTEA)
			pg_elem_bytea(p, "", 0);
		else if (elem == PG_UUID)
			pg_elem_uuid(p, &id);
		else if (elem == PG_TIMESTAMPTZ)
			pg_elem_time(p, 0);
		else
			pg_elem_int(p, elem, elem == PG_INT2 ? 7 : elem == PG_INT4 ? 70000 : elem == PG_INT8 ? 7000000000 + i : 1);
	}
}

static void test_arrays(void **state) {
	static const enum pg_elem elems[] = {PG_INT2, PG_INT4,  PG_INT8, PG_BOOL,
	                                     PG_TEXT, PG_BYTEA, PG_UUID, PG_TIMESTAMPTZ};
	static const unsigned sizes[] = {0, 1, 3};
	struct pg_params p;
	(void)state;
	with_connections(1);
	pg_params_init(&p);
	for (unsigned s = 0; s < array_len(sizes); s++) {
		unsigned n = sizes[s];
		types_done = false;
		pg_params_reset(&p);
		for (unsigned i = 0; i < array_len(elems); i++)
			fill_array(&p, elems[i], n);
		pg_query(pg, &arrays, &p, on_arrays, &n);
		turn_until(&types_done, 5000000);
		assert_true(types_done);
	}
	pg_params_fini(&p);
}

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
	struct answer a = {0}, b = {0}, q[3] = {0};
	(void)state;
	with_connections(2);
	ask(&echo, 1, &q[0]);
	await(&q[0]);
	spin(50000); /* the second is up as well */
	struct pg_tx *one = pg_tx_begin(pg), *two = pg_tx_begin(pg);
	step(one, &put, 1, NULL);
	step(two, &put, 2, NULL);
	pg_tx_flush(one);
	pg_tx_flush(two);
	ask(&echo, 1, &q[1]);
	await(&q[1]);
	assert_int_equal(q[1].status, PG_OK);
	pg_tx_commit(two, on_answer, &b);
	pg_tx_commit(one, on_answer, &a);
	await(&b);
	assert_true(a.order < b.order);
	assert_int_equal(a.status, PG_OK);
	assert_int_equal(b.status, PG_OK);
}

/* Without any query, transactions have them all. */
static void test_txs_have_all(void **state) {
	struct answer a = {0}, b = {0}, c = {0};
	(void)state;
	with_connections(2);
	spin(50000);
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
		spin(50000);
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

/* ---- losing the server ---- */

static int64_t kill_backends(void) {
	return pg_fixture_int(
		db, "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'test'");
}

static void test_killed_query(void **state) {
	struct answer a = {0}, b = {0}, c = {0};
	(void)state;
	with_connections(1);
	ask_nap(10000, &a);
	ask(&echo, 1, &b);
	spin(50000);
	assert_int_equal(kill_backends(), 1);
	await(&b);
	assert_int_equal(a.status, PG_IN_DOUBT);
	assert_int_equal(b.status, PG_IN_DOUBT);
	ask(&echo, 4, &c); /* waits for the next connection */
	await(&c);
	assert_int_equal(c.status, PG_OK);
	assert_int_equal(c.value, 4);
}

static void test_killed_before_commit(void **state) {
	struct answer a = {0}, b = {0}, c = {0}, d = {0};
	(void)state;
	with_connections(1);
	struct pg_tx *tx = pg_tx_begin(pg);
	step(tx, &put, 1, &a);
	pg_tx_flush(tx);
	await(&a);
	assert_int_equal(kill_backends(), 1);
	await_down();
	step(tx, &put, 2, &b);
	pg_tx_commit(tx, on_answer, &c);
	await(&c);
	assert_int_equal(b.status, PG_UNAVAILABLE);
	assert_int_equal(c.status, PG_UNAVAILABLE);
	assert_int_equal(pg_fixture_int(db, "select count(*) from t"), 0);
	/* The same while a step is under way. */
	await_up();
	struct answer e = {0};
	struct pg_params p;
	tx = pg_tx_begin(pg);
	nap_params(&p, 10000);
	pg_tx_step(tx, &nap, &p, on_answer, &d);
	pg_params_fini(&p);
	pg_tx_flush(tx);
	spin(50000);
	assert_int_equal(kill_backends(), 1);
	await(&d);
	assert_int_equal(d.status, PG_UNAVAILABLE);
	pg_tx_commit(tx, on_answer, &e);
	await(&e);
	assert_int_equal(e.status, PG_UNAVAILABLE);
}

static const struct pg_stmt put_slow = {.name = "put_slow", .sql = "insert into slow values ($1::int)"};
static const struct pg_stmt *const slow_stmts[] = {&put_slow, &echo, NULL};

static void start_slow_commit(struct answer *a) {
	struct pg_options o = base_options();
	o.stmts = slow_stmts;
	open_pool(&o);
	await_up();
	pg_fixture_exec(db, "truncate slow");
	pg_fixture_exec(db, "select pg_advisory_lock(7)");
	struct pg_tx *tx = pg_tx_begin(pg);
	pg_tx_set_deadline(tx, 300000);
	step(tx, &put_slow, 1, NULL);
	pg_tx_commit(tx, on_answer, a);
	spin(50000);
}

static void test_killed_at_commit(void **state) {
	struct answer a = {0}, b = {0};
	(void)state;
	start_slow_commit(&a);
	assert_false(a.done);
	assert_int_equal(kill_backends(), 1);
	await(&a);
	assert_int_equal(a.status, PG_IN_DOUBT);
	pg_fixture_exec(db, "select pg_advisory_unlock(7)");
	ask(&echo, 4, &b);
	await(&b);
	assert_int_equal(b.status, PG_OK);
}

/* Cancelling a COMMIT makes an error of class 57 of it; whether it happened cannot be told from that. */
static void test_cancelled_at_commit(void **state) {
	struct answer a = {0}, b = {0};
	(void)state;
	start_slow_commit(&a);
	pg_fixture_exec(db, "select pg_cancel_backend(pid) from pg_stat_activity where application_name = 'test'");
	await(&a);
	assert_int_equal(a.status, PG_IN_DOUBT);
	pg_fixture_exec(db, "select pg_advisory_unlock(7)");
	ask(&echo, 4, &b);
	await(&b);
	assert_int_equal(b.status, PG_OK);
}

static void test_deadline_at_commit(void **state) {
	struct answer a = {0}, b = {0};
	int64_t start = clock_mono_us_now();
	(void)state;
	start_slow_commit(&a);
	await(&a);
	assert_in_range(clock_mono_us_now() - start, 250000, 3000000);
	assert_int_equal(a.status, PG_IN_DOUBT);
	/* The server goes on by itself and may commit. */
	pg_fixture_exec(db, "select pg_advisory_unlock(7)");
	ask(&echo, 4, &b);
	await(&b);
	assert_int_equal(b.status, PG_OK);
	usleep(100000);
	assert_int_equal(pg_fixture_int(db, "select count(*) from slow"), 1);
}

static void test_deadlines(void **state) {
	struct answer a = {0}, b = {0}, c = {0}, d = {0};
	(void)state;
	struct pg_options o = base_options();
	o.depth = 1;
	o.query_deadline_us = 200000;
	open_pool(&o);
	await_up();
	int64_t start = clock_mono_us_now();
	ask_nap(10000, &a);
	ask(&echo, 1, &b); /* waits its whole life behind it */
	struct pg_tx *tx = pg_tx_begin(pg);
	pg_tx_commit(tx, on_answer, &c);
	await(&a);
	await(&b);
	await(&c);
	assert_in_range(clock_mono_us_now() - start, 190000, 2000000);
	assert_int_equal(a.status, PG_IN_DOUBT);
	assert_int_equal(b.status, PG_UNAVAILABLE);
	assert_int_equal(c.status, PG_UNAVAILABLE);
	ask(&echo, 7, &d);
	await(&d);
	assert_int_equal(d.status, PG_OK);
}

static void test_restart(void **state) {
	struct answer a = {0}, b = {0}, c = {0}, d = {0};
	(void)state;
	with_connections(2);
	ask_nap(10000, &a);
	turn();
	pg_fixture_stop(db, true);
	await_down();
	assert_true(strlen(pg_down_reason(pg)) > 0);
	await(&a);
	assert_int_equal(a.status, PG_IN_DOUBT);
	ask(&echo, 1, &b); /* refused when an attempt has failed, long before its deadline */
	struct pg_tx *tx = pg_tx_begin(pg);
	step(tx, &put, 1, NULL);
	pg_tx_commit(tx, on_answer, &c);
	int64_t start = clock_mono_us_now();
	await(&b);
	await(&c);
	assert_true(clock_mono_us_now() - start < 2000000);
	assert_int_equal(b.status, PG_UNAVAILABLE);
	assert_int_equal(c.status, PG_UNAVAILABLE);
	pg_fixture_start(db);
	await_up();
	ask(&echo, 2, &d);
	await(&d);
	assert_int_equal(d.value, 2);
}

/* ---- which servers are refused ---- */

static void assert_refused(const struct pg_options *o, const char *reason) {
	struct answer a = {0};
	open_pool(o);
	pg_query(pg, &warn, NULL, on_answer, &a); /* queued before anything is known, refused with the attempt */
	await(&a);
	assert_int_equal(a.status, PG_UNAVAILABLE);
	assert_false(pg_up(pg));
	if (!strstr(pg_down_reason(pg), reason))
		fail_msg("%s", pg_down_reason(pg));
}

static void test_refused_schema(void **state) {
	struct pg_options o = base_options();
	(void)state;
	o.schema_version++;
	assert_refused(&o, "run minutemailctl migrate");
	pg_free(pg);
	loop_turn(loop);
	loop_free(loop);
	cleanup(freep) char *conninfo = xasprintf("%s dbname=postgres", base_options().conninfo);
	o.conninfo = conninfo;
	assert_refused(&o, "the database has no schema");
}

static void test_refused_statement(void **state) {
	static const struct pg_stmt bad = {.name = "bad", .sql = "select nothing from nowhere"};
	static const struct pg_stmt *const bad_stmts[] = {&bad, NULL};
	struct pg_options o = base_options();
	(void)state;
	o.stmts = bad_stmts;
	assert_refused(&o, "bad: relation \"nowhere\" does not exist (42P01)");
}

static void test_refused_fsync(void **state) {
	struct pg_options o = base_options();
	(void)state;
	pg_fixture_exec(db, "alter system set fsync = off");
	pg_fixture_exec(db, "select pg_reload_conf()");
	usleep(200000);
	assert_refused(&o, "fsync off");
	pg_fixture_exec(db, "alter system reset fsync");
	pg_fixture_exec(db, "select pg_reload_conf()");
	await_up();
}

static void test_refused_connection(void **state) {
	struct pg_options o = base_options();
	(void)state;
	o.conninfo = "host=/nonexistent";
	assert_refused(&o, "No such file");
	pg_free(pg);
	loop_turn(loop);
	loop_free(loop);
	o.conninfo = "no_such_option=1";
	assert_refused(&o, "invalid connection option");
}

/* A server that accepts and then says nothing. */
static void test_connect_deadline(void **state) {
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	char dir[] = "/tmp/minutemail-mute.XXXXXX";
	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/.s.PGSQL.5432", dir);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(fd, 5), 0);
	cleanup(freep) char *conninfo = xasprintf("host=%s user=postgres", dir);
	struct pg_options o = base_options();
	o.conninfo = conninfo;
	o.connect_deadline_us = 100000;
	assert_refused(&o, "took too long");
	close(fd);
	unlink(sa.sun_path);
	rmdir(dir);
}

/* The second of two hosts; libpq changes its socket on the way. */
static void test_second_host(void **state) {
	struct answer a = {0};
	struct pg_options o = base_options();
	(void)state;
	cleanup(freep) char *conninfo = xasprintf(
		"host=/nonexistent,%s dbname=minutemail user=postgres target_session_attrs=read-write", pg_fixture_dir(db));
	o.conninfo = conninfo;
	open_pool(&o);
	await_up();
	ask(&echo, 9, &a);
	await(&a);
	assert_int_equal(a.value, 9);
}

/* ---- notifications, state, being freed in the middle ---- */

static char heard[100];
static bool heard_done;

static void on_notify(void *arg, const char *channel, const char *payload) {
	(void)arg;
	snprintf(heard, sizeof(heard), "%s:%s", channel, payload);
	heard_done = true;
}

static int ups, downs;

static void on_state(void *arg, bool up) {
	(void)arg;
	if (up)
		ups++;
	else
		downs++;
}

static void test_notify(void **state) {
	static const char *const greeting[] = {"listen news", NULL};
	struct pg_options o = base_options();
	struct answer a = {0};
	struct pg_params p;
	(void)state;
	open_pool(&o);
	pg_set_greeting(pg, greeting);
	pg_on_notify(pg, on_notify, NULL);
	pg_on_state(pg, on_state, NULL);
	ups = downs = 0;
	await_up();
	heard_done = false;
	pg_fixture_exec(db, "notify news, 'outside'");
	turn_until(&heard_done, 5000000);
	assert_string_equal(heard, "news:outside");
	pg_params_init(&p);
	pg_param_cstring(&p, "own");
	pg_query(pg, &tell, &p, on_answer, &a);
	pg_params_fini(&p);
	heard_done = false;
	turn_until(&heard_done, 5000000);
	assert_string_equal(heard, "news:own");
	assert_int_equal(ups, 1);
	assert_int_equal(downs, 0);
	kill_backends();
	await_down();
	await_up();
	turn();
	heard_done = false;
	pg_fixture_exec(db, "notify news, 'again'"); /* the greeting was said again */
	turn_until(&heard_done, 5000000);
	assert_string_equal(heard, "news:again");
	assert_int_equal(ups, 2);
	assert_int_equal(downs, 1);
}

static void free_pool(void *arg, const struct pg_result *r) {
	(void)r;
	pg = pg_free(pg);
	*(bool *)arg = true;
}

static void test_freed_in_callback(void **state) {
	bool done = false;
	struct answer q = {0};
	struct pg_params p;
	(void)state;
	with_connections(2);
	ask(&echo, 1, &q);
	await(&q);
	spin(50000); /* the second is up: one for the first transaction, one for queries */
	pg_params_init(&p);
	pg_param_int4(&p, 1);
	struct pg_tx *tx = pg_tx_begin(pg);
	pg_tx_step(tx, &put, &p, never, NULL);
	struct pg_tx *waits = pg_tx_begin(pg);
	pg_tx_step(waits, &put, &p, never, NULL);
	pg_tx_commit(waits, never, NULL);
	pg_query(pg, &echo, &p, free_pool, &done);
	pg_query(pg, &echo, &p, never, NULL);
	pg_params_fini(&p);
	turn_until(&done, 5000000);
	assert_true(done);
}

static void test_freed_in_commit(void **state) {
	bool done = false;
	(void)state;
	with_connections(1);
	pg_tx_commit(pg_tx_begin(pg), free_pool, &done);
	turn_until(&done, 5000000);
	assert_true(done);
}

#define row(fn) cmocka_unit_test_teardown(fn, teardown)

int main(void) {
	const struct CMUnitTest tests[] = {
		row(test_order),
		row(test_error_isolated),
		row(test_error_at_sync),
		row(test_warning_is_doubt),
		row(test_cancel),
		row(test_bounds),
		row(test_too_large),
		row(test_scalars),
		row(test_arrays),
		row(test_commit),
		row(test_commit_in_steps),
		row(test_waiting_tx),
		row(test_tx_error),
		row(test_tx_error_then_more),
		row(test_commit_error),
		row(test_rollback),
		row(test_rollback_after_failed_commit),
		row(test_error_before_sync),
		row(test_commit_warned),
		row(test_queries_keep_one),
		row(test_txs_have_all),
		row(test_tx_not_starved),
		row(test_query_not_starved),
		row(test_killed_query),
		row(test_killed_before_commit),
		row(test_killed_at_commit),
		row(test_cancelled_at_commit),
		row(test_deadline_at_commit),
		row(test_deadlines),
		row(test_restart),
		row(test_refused_schema),
		row(test_refused_statement),
		row(test_refused_fsync),
		row(test_refused_connection),
		row(test_connect_deadline),
		row(test_second_host),
		row(test_notify),
		row(test_freed_in_callback),
		row(test_freed_in_commit),
	};
	cmocka_set_test_filter(getenv("TEST_FILTER"));
	return cmocka_run_group_tests_name("pg", tests, start_db, stop_db);
}
