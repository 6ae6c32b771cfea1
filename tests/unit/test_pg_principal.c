/* common/pg: on whose behalf statements run. What the server was told reaches the statement it was said for, and no other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pg_test.h"

#define WHOSE                                                                                                          \
	"select coalesce(current_setting('minutemail.account', true), '') || '/' || coalesce(current_setting('minutemail.user', "  \
	"true), '') || '/' || pg_backend_pid()"
static const struct pg_stmt whose = {.name = "whose", .sql = WHOSE};
static const struct pg_stmt read_whose = {.name = "read_whose", .sql = WHOSE, .reads = true};
static const struct pg_stmt *const whose_stmts[] = {&whose, &read_whose, &divide, &put, &put_late, NULL};

#define A "0190aaaa-0000-7000-8000-000000000001"
#define B "0190bbbb-0000-7000-8000-000000000002"
#define U "0190cccc-0000-7000-8000-000000000003"

static struct pg_principal principal(const char *account, const char *user) {
	struct pg_principal p = {0};
	assert_true(!account || id_parse(account, strlen(account), &p.account));
	assert_true(!user || id_parse(user, strlen(user), &p.user));
	return p;
}

struct said {
	bool done;
	enum pg_status status;
	char text[128];
};

static void on_said(void *arg, const struct pg_result *r) {
	struct said *s = arg;
	s->done = true;
	s->status = r->status;
	if (pg_rows_count(r->rows) > 0) {
		struct slice text = pg_text(r->rows, 0, 0);
		snprintf(s->text, sizeof(s->text), "%.*s", (int)(strrchr(text.p, '/') - text.p), text.p);
	}
}

static void open_with(unsigned connections) {
	struct pg_options o = base_options();
	o.stmts = whose_stmts;
	o.connections = connections;
	open_pool(&o);
	await_up();
}

static void ask_whose(const struct pg_principal *who, struct said *s) {
	pg_query_as(pg, who, &whose, NULL, on_said, s);
}

static void await_said(struct said *s) {
	turn_until(&s->done, 10000000);
	assert_true(s->done);
}

/* All in flight on one connection at once. */
static void check_queries(const struct pg_stmt *stmt) {
	const struct pg_principal a = principal(A, U), b = principal(B, NULL);
	static const char *const expected[] = {A "/" U, A "/" U, "/", B "/", "/", A "/" U};
	const struct pg_principal *const who[] = {&a, &a, NULL, &b, NULL, &a};
	struct said said[array_len(who)] = {0};
	for (unsigned i = 0; i < array_len(who); i++)
		pg_query_as(pg, who[i], stmt, NULL, on_said, &said[i]);
	for (unsigned i = 0; i < array_len(who); i++) {
		await_said(&said[i]);
		assert_int_equal(said[i].status, PG_OK);
		assert_string_equal(said[i].text, expected[i]);
	}
	struct said later = {0};
	ask_whose(NULL, &later);
	await_said(&later);
	assert_string_equal(later.text, "/");
}

static void test_queries(void **state) {
	(void)state;
	open_with(1);
	check_queries(&whose);
}

/* They share one implicit transaction, in which what is set stays set. */
static void test_queries_of_a_group(void **state) {
	(void)state;
	open_with(1);
	check_queries(&read_whose);
}

/* For one that waits for room it is said when it is sent. */
static void test_queries_that_wait(void **state) {
	const struct pg_principal a = principal(A, U);
	struct said said[40] = {0};
	(void)state;
	struct pg_options o = base_options();
	o.stmts = whose_stmts;
	o.depth = 2;
	open_pool(&o);
	for (unsigned i = 0; i < array_len(said); i++)
		ask_whose(i % 2 ? &a : NULL, &said[i]);
	for (unsigned i = 0; i < array_len(said); i++) {
		await_said(&said[i]);
		assert_string_equal(said[i].text, i % 2 ? A "/" U : "/");
	}
}

static void test_after_an_error(void **state) {
	const struct pg_principal a = principal(A, U);
	struct said said = {0};
	struct answer bad = {0};
	struct pg_params p;
	(void)state;
	open_with(1);
	pg_params_init(&p);
	pg_param_int4(&p, 0);
	pg_query_as(pg, &a, &divide, &p, on_answer, &bad);
	pg_params_fini(&p);
	ask_whose(NULL, &said);
	await_said(&said);
	assert_int_equal(bad.status, PG_ERROR);
	assert_string_equal(bad.sqlstate, "22012");
	assert_string_equal(said.text, "/");
}

/* A transaction has a connection to itself: what it says holds across its round trips, until it says something else, and ends with
 * it, however it ends. */
static void test_transaction(void **state) {
	const struct pg_principal a = principal(A, U), b = principal(B, U);
	struct said said[5] = {0};
	struct answer committed = {0};
	(void)state;
	open_with(1);
	struct pg_tx *tx = pg_tx_begin(pg);
	pg_tx_step(tx, &whose, NULL, on_said, &said[0]);
	pg_tx_as(tx, &a);
	pg_tx_step(tx, &whose, NULL, on_said, &said[1]);
	pg_tx_flush(tx);
	await_said(&said[1]);
	pg_tx_step(tx, &whose, NULL, on_said, &said[2]);
	pg_tx_as(tx, &b);
	pg_tx_step(tx, &whose, NULL, on_said, &said[3]);
	pg_tx_commit(tx, on_answer, &committed);
	ask_whose(NULL, &said[4]);
	await_said(&said[4]);
	assert_int_equal(committed.status, PG_OK);
	assert_string_equal(said[0].text, "/");
	assert_string_equal(said[1].text, A "/" U);
	assert_string_equal(said[2].text, A "/" U);
	assert_string_equal(said[3].text, B "/" U);
	assert_string_equal(said[4].text, "/");
}

static void test_transaction_that_ends_badly(void **state) {
	const struct pg_principal a = principal(A, U);
	struct said first = {0}, dropped = {0}, after_drop = {0}, after_error = {0};
	struct answer bad = {0}, committed = {0};
	(void)state;
	open_with(1);
	struct pg_tx *tx = pg_tx_begin(pg);
	pg_tx_as(tx, &a);
	pg_tx_step(tx, &whose, NULL, on_said, &first);
	pg_tx_flush(tx);
	await_said(&first);
	assert_string_equal(first.text, A "/" U);
	pg_tx_rollback(tx);
	ask_whose(NULL, &after_drop);
	await_said(&after_drop);
	assert_string_equal(after_drop.text, "/");
	tx = pg_tx_begin(pg);
	pg_tx_as(tx, &a);
	step(tx, &divide, 0, &bad);
	pg_tx_as(tx, &a);
	pg_tx_step(tx, &whose, NULL, on_said, &dropped);
	pg_tx_commit(tx, on_answer, &committed);
	ask_whose(NULL, &after_error);
	await_said(&after_error);
	assert_int_equal(committed.status, PG_ERROR);
	assert_string_equal(committed.sqlstate, "22012");
	assert_string_equal(after_error.text, "/");
}

int main(void) {
	const struct CMUnitTest tests[] = {
		row(test_queries),       row(test_queries_of_a_group), row(test_queries_that_wait),
		row(test_after_an_error), row(test_transaction),       row(test_transaction_that_ends_badly),
	};
	return cmocka_run_group_tests(tests, start_db, stop_db);
}
