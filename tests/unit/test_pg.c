/* common/pg on a real PostgreSQL: queries keep their order and their errors to themselves, bounds, every type of parameter there and
 * back, notifications. Transactions are in test_pg_tx.c, servers that fail in test_pg_server.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pg_test.h"

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

static void ask_transaction(struct answer *a) {
	pg_query(pg, &read_transaction, NULL, on_answer, a);
}

static void test_reads_of_a_turn_share_a_sync(void **state) {
	struct answer a = {0}, b = {0}, write = {0}, c = {0}, d = {0}, later = {0};
	(void)state;
	with_connections(1);
	ask_transaction(&a);
	ask_transaction(&b);
	ask(&put, 1, &write);
	ask_transaction(&c);
	ask_transaction(&d);
	await(&d);
	ask_transaction(&later);
	await(&later);
	assert_true(a.order < b.order && b.order < write.order && write.order < c.order && c.order < d.order);
	assert_int_equal(a.value, b.value);
	assert_int_not_equal(b.value, c.value);
	assert_int_equal(c.value, d.value);
	assert_int_not_equal(d.value, later.value);
}

/* While two groups are on their way the next one gathers, over any number of turns. */
static void test_reads_gather_behind_others(void **state) {
	struct answer busy = {0}, a[6] = {0};
	(void)state;
	with_connections(1);
	ask_nap(300, &busy);
	for (unsigned i = 0; i < array_len(a); i++) {
		ask_transaction(&a[i]);
		turn();
	}
	assert_false(busy.done);
	for (unsigned i = 0; i < array_len(a); i++) {
		await(&a[i]);
		assert_int_equal(a[i].status, PG_OK);
	}
	assert_int_not_equal(a[0].value, a[1].value);
	for (unsigned i = 2; i < array_len(a); i++)
		assert_int_equal(a[i].value, a[1].value);
}

/* The server skips what stands behind an error in its group: nobody but the faulty one notices. */
static void test_reads_fail_for_themselves(void **state) {
	struct answer a[8] = {0}, many[400] = {0};
	(void)state;
	with_connections(1);
	ask(&read_echo, 0, &a[0]);
	ask(&read_divide, 0, &a[1]);
	ask(&read_echo, 2, &a[2]);
	pg_op_cancel(ask(&read_echo, 3, &a[3]));
	ask(&read_divide, 0, &a[4]);
	ask_transaction(&a[5]);
	ask(&put, 6, &a[6]);
	ask(&read_echo, 7, &a[7]);
	for (unsigned i = 0; i < array_len(a); i++) {
		if (i == 3)
			continue;
		await(&a[i]);
		assert_int_equal(a[i].status, i == 1 || i == 4 ? PG_ERROR : PG_OK);
		assert_string_equal(a[i].sqlstate, i == 1 || i == 4 ? "22012" : "");
		assert_true(i == 1 || i == 4 || i == 5 || a[i].value == (int64_t)i);
	}
	spin(20000);
	assert_false(a[3].done);
	/* More than the depth of a connection, so that some wait. */
	for (unsigned i = 0; i < array_len(many); i++)
		ask(i % 7 ? &read_echo : &read_divide, i % 7 ? (int32_t)i : 0, &many[i]);
	for (unsigned i = 0; i < array_len(many); i++) {
		await(&many[i]);
		assert_int_equal(many[i].status, i % 7 ? PG_OK : PG_ERROR);
		assert_int_equal(many[i].value, i % 7 ? i : 0);
	}
}

static void test_reads_are_lost_with_their_connection(void **state) {
	struct answer a[3] = {0};
	(void)state;
	with_connections(1);
	ask(&read_echo, 0, &a[0]);
	ask_nap(5000, &a[1]);
	ask(&read_echo, 2, &a[2]);
	spin(100000);
	assert_int_equal(a[0].status, PG_OK);
	assert_true(a[0].done);
	assert_int_equal(kill_backends(), 1);
	await(&a[1]);
	await(&a[2]);
	assert_int_not_equal(a[2].status, PG_OK);
}

/* A table of a few rows would be read whole, by a plan that is kept while it grows. */
static void test_no_plan_that_reads_all(void **state) {
	static const struct pg_stmt plan = {.name = "plan", .sql = "select reads_all($1::int)"};
	static const struct pg_stmt *const plan_stmts[] = {&plan, NULL};
	struct answer a = {0};
	struct pg_options o = base_options();
	(void)state;
	pg_fixture_exec(db, "create table few (n int primary key); insert into few values (1), (2); analyze few");
	pg_fixture_exec(db, "create function reads_all(i int) returns int language plpgsql as $$ declare line text; begin "
	                    "execute 'explain select from few where n = ' || i into line; "
	                    "return (line like '%%Seq Scan%%')::int; end $$");
	assert_int_equal(pg_fixture_int(db, "select reads_all(1)"), 1); /* what PostgreSQL does by itself */
	o.stmts = plan_stmts;
	open_pool(&o);
	ask(&plan, 1, &a);
	await(&a);
	assert_int_equal(a.status, PG_OK);
	assert_int_equal(a.value, 0);
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

static const struct pg_stmt scalars = {.name = "scalars",
                                       .sql = "select $1::text, $2::text, $3::smallint, $4::int, $5::bigint, "
                                              "$6::boolean, $7::bytea, $8::uuid, $9::timestamptz, "
                                              "$10::timestamptz, 'infinity'::timestamptz, $11::jsonb::text"};
static const struct pg_stmt arrays = {
	.name = "arrays",
	.sql = "select $1::smallint[], $2::int[], $3::bigint[], $4::boolean[], $5::text[], $6::bytea[], $7::uuid[], "
		   "$8::timestamptz[], array_to_string($8::timestamptz[], ',', 'null')"};
static const struct pg_stmt *const types_stmts[] = {&scalars, &arrays, NULL};

static void open_types(void) {
	struct pg_options o = base_options();
	o.stmts = types_stmts;
	open_pool(&o);
	await_up();
}

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
	open_types();
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
	open_types();
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

/* ---- notifications, state, being freed in the middle ---- */

static const struct pg_stmt tell = {.name = "tell", .sql = "select pg_notify('news', $1)"};
static const struct pg_stmt *const tell_stmts[] = {&tell, NULL};

static char heard[100];
static bool heard_done;

static void on_notify(void *arg, const char *channel, const char *payload) {
	(void)arg;
	snprintf(heard, sizeof(heard), "%s:%s", channel, payload);
	heard_done = true;
}

static void test_notify(void **state) {
	static const char *const greeting[] = {"listen news", NULL};
	struct pg_options o = base_options();
	struct answer a = {0};
	struct pg_params p;
	(void)state;
	o.stmts = tell_stmts;
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

int main(void) {
	const struct CMUnitTest tests[] = {
		row(test_reads_of_a_turn_share_a_sync),
		row(test_reads_gather_behind_others),
		row(test_reads_fail_for_themselves),
		row(test_reads_are_lost_with_their_connection),
		row(test_no_plan_that_reads_all),
		row(test_order),  row(test_error_isolated), row(test_error_at_sync),     row(test_warning_is_doubt),
		row(test_cancel), row(test_bounds),         row(test_too_large),         row(test_scalars),
		row(test_arrays), row(test_notify),         row(test_freed_in_callback), row(test_freed_in_commit),
	};
	cmocka_set_test_filter(getenv("TEST_FILTER"));
	return cmocka_run_group_tests_name("pg", tests, start_db, stop_db);
}
