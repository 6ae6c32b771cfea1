/* common/pg: a server that dies, hangs, restarts, or is not one to trust. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pg_test.h"

#include <sys/socket.h>
#include <sys/un.h>

/* ---- losing the server ---- */

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

static _Atomic uint32_t timeline; /* as of all workers */

static void start_slow_commit(struct answer *a, int64_t deadline_us) {
	struct pg_options o = base_options();
	o.stmts = slow_stmts;
	o.timeline = &timeline;
	open_pool(&o);
	await_up();
	pg_fixture_exec(db, "truncate slow");
	pg_fixture_exec(db, "select pg_advisory_lock(7)");
	struct pg_tx *tx = pg_tx_begin(pg);
	pg_tx_set_deadline(tx, deadline_us);
	step(tx, &put_slow, 1, NULL);
	pg_tx_commit(tx, on_answer, a);
	static const char waiting[] = "select count(*) from pg_stat_activity where application_name = 'test' and wait_event = 'advisory'";
	do
		turn();
	while (!a->done && pg_fixture_int(db, waiting) == 0);
}

/* The lock is let go; the pool answers again. */
static void slow_commit_goes_on(void) {
	struct answer a = {0};
	pg_fixture_exec(db, "select pg_advisory_unlock(7)");
	ask(&echo, 4, &a);
	await(&a);
	assert_int_equal(a.status, PG_OK);
}

static void test_killed_at_commit(void **state) {
	struct answer a = {0};
	(void)state;
	start_slow_commit(&a, 300000);
	assert_false(a.done);
	assert_int_equal(kill_backends(), 1);
	await(&a);
	assert_int_equal(a.status, PG_IN_DOUBT);
	slow_commit_goes_on();
}

/* Cancelling a COMMIT makes an error of class 57 of it; whether it happened cannot be told from that. */
static void test_cancelled_at_commit(void **state) {
	struct answer a = {0};
	(void)state;
	start_slow_commit(&a, 300000);
	pg_fixture_exec(db, "select pg_cancel_backend(pid) from pg_stat_activity where application_name = 'test'");
	await(&a);
	assert_int_equal(a.status, PG_IN_DOUBT);
	slow_commit_goes_on();
}

static void test_deadline_at_commit(void **state) {
	struct answer a = {0};
	int64_t start = clock_mono_us_now();
	(void)state;
	start_slow_commit(&a, 300000);
	await(&a);
	assert_in_range(clock_mono_us_now() - start, 250000, 3000000);
	assert_int_equal(a.status, PG_IN_DOUBT);
	/* The server goes on by itself and may commit. */
	slow_commit_goes_on();
	for (int i = 0; i < 500 && pg_fixture_int(db, "select count(*) from slow") == 0; i++)
		usleep(20000);
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
	/* It answers again; a busy machine may take longer than the deadline to connect. */
	for (int i = 0; i < 100 && !(d.done && d.status == PG_OK); i++) {
		d = (struct answer){0};
		ask(&echo, 7, &d);
		await(&d);
	}
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
	/* Its process hears of it from the one that makes all others. */
	for (int i = 0; i < 500 && strcmp(pg_fixture_value(db, "show fsync"), "off") != 0; i++)
		usleep(20000);
	assert_refused(&o, "fsync off");
	pg_fixture_exec(db, "alter system reset fsync");
	pg_fixture_exec(db, "select pg_reload_conf()");
	await_up();
}

/* What happens to the cluster's directory while its server is stopped. */
static void shell(const char *command) {
	cleanup(freep) char *line = xasprintf("cd %s && %s", pg_fixture_dir(db), command);
	assert_int_equal(system(line), 0);
}

static void test_refused_standby(void **state) {
	(void)state;
	pg_fixture_stop(db, false);
	shell("cp -a data/PG_VERSION data/standby.signal");
	pg_fixture_start(db);
	struct pg_options o = base_options();
	assert_refused(&o, "the server is a standby");
	pg_fixture_stop(db, false);
	shell("rm data/standby.signal");
	pg_fixture_start(db);
	await_up();
}

/* A primary that comes back after its successor has gone on without it: it answers, and what it commits is lost. */
static void test_refused_timeline(void **state) {
	(void)state;
	pg_fixture_stop(db, false);
	shell("cp -a data old && echo \"restore_command = 'false'\" >> data/postgresql.conf && "
	      "cp -a data/PG_VERSION data/recovery.signal");
	pg_fixture_start(db); /* promoted: timeline 2 */
	struct pg_options o = base_options();
	open_pool(&o);
	await_up();
	pg_fixture_stop(db, true);
	await_down();
	shell("mv data new && mv old data");
	pg_fixture_start(db);
	int64_t end = clock_mono_us_now() + 10000000;
	while (!strstr(pg_down_reason(pg), "timeline") && clock_mono_us_now() < end)
		turn();
	assert_false(pg_up(pg));
	assert_string_equal(pg_down_reason(pg), "the server is on timeline 1, older than 2 seen before");
	pg_fixture_stop(db, true);
	shell("rm -r data && mv new data");
	pg_fixture_start(db);
	await_up();
}

static void await_reason(const char *reason) {
	int64_t end = clock_mono_us_now() + 10000000;
	while (!strstr(pg_down_reason(pg), reason) && clock_mono_us_now() < end)
		turn();
	if (!strstr(pg_down_reason(pg), reason))
		fail_msg("%s", pg_down_reason(pg));
}

/* A primary that stood still while its successor took over, and goes on: whoever shares the timeline with a pool that has seen the
 * successor uses it no more, though nothing is wrong with the connection. */
static void test_left_behind(void **state) {
	struct answer a = {0}, b = {0};
	struct pg_options o = base_options();
	(void)state;
	o.timeline = &timeline;
	o.connections = 2;
	open_pool(&o);
	await_connections(2);
	assert_true(timeline > 0);
	timeline++;
	ask(&read_echo, 1, &a);
	await(&a);
	assert_int_equal(a.status, PG_UNAVAILABLE);
	await_reason("seen before");
	timeline--; /* found */
	await_connections(2);
	ask(&read_echo, 2, &b);
	await(&b);
	assert_int_equal(b.value, 2);
}

/* Nor is it believed that it has committed: only it has. */
static void test_left_behind_at_commit(void **state) {
	struct answer a = {0};
	(void)state;
	start_slow_commit(&a, 10000000);
	assert_false(a.done);
	timeline++;
	pg_fixture_exec(db, "select pg_advisory_unlock(7)");
	await(&a);
	timeline--;
	assert_int_equal(a.status, PG_IN_DOUBT);
	assert_int_equal(pg_fixture_int(db, "select count(*) from slow"), 1);
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
struct mute {
	char dir[32];
	struct sockaddr_un sa;
	int fd;
};

static void mute_start(struct mute *m) {
	*m = (struct mute){.dir = "/tmp/minutemail-mute.XXXXXX", .sa.sun_family = AF_UNIX};
	assert_non_null(mkdtemp(m->dir));
	snprintf(m->sa.sun_path, sizeof(m->sa.sun_path), "%s/.s.PGSQL.5432", m->dir);
	m->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(m->fd, (struct sockaddr *)&m->sa, sizeof(m->sa)), 0);
	assert_int_equal(listen(m->fd, 50), 0);
}

static void mute_end(struct mute *m) {
	close(m->fd);
	unlink(m->sa.sun_path);
	rmdir(m->dir);
}

/* How long the pool stays on the next connection, which nobody answers; not less than that, at least. */
static int64_t patience_us(int listening) {
	int64_t begun, end = clock_mono_us_now() + 10000000;
	char octets[512];
	int fd;
	do {
		begun = clock_mono_us_now();
		turn();
		fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	} while (fd < 0 && begun < end);
	assert_true(fd >= 0);
	while (read(fd, octets, sizeof(octets)) != 0 && clock_mono_us_now() < end)
		turn();
	close(fd);
	return clock_mono_us_now() - begun;
}

/* It may be slow, and gets longer each time, to a limit. */
static void test_connect_deadline(void **state) {
	struct mute mute;
	(void)state;
	mute_start(&mute);
	cleanup(freep) char *conninfo = xasprintf("host=%s user=postgres", mute.dir);
	struct pg_options o = base_options();
	o.conninfo = conninfo;
	o.connect_deadline_us = 100000;
	assert_refused(&o, "took too long");
	close(accept4(mute.fd, NULL, NULL, SOCK_CLOEXEC));
	patience_us(mute.fd);
	assert_true(patience_us(mute.fd) >= 400000);
	mute_end(&mute);
}

/* As the first of several hosts, however they are said, it does not keep us from the one behind it. */
static void test_mute_host(void **state) {
	static const char *const forms[] = {
		"host=%s,%s dbname=minutemail user=postgres",
		"host=/nonexistent,%s,/nonexistent,%s port=5432 dbname=minutemail user=postgres target_session_attrs=read-write",
		"host=%s,%s port=5432,5432 dbname=minutemail user=postgres",
		"postgresql://postgres@/minutemail?host=%s,%s",
	};
	struct mute mute;
	(void)state;
	mute_start(&mute);
	for (size_t i = 0; i < array_len(forms); i++) {
		struct answer a = {0};
		struct pg_options o = base_options();
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		cleanup(freep) char *conninfo = xasprintf(forms[i], mute.dir, pg_fixture_dir(db));
#pragma GCC diagnostic pop
		o.conninfo = conninfo;
		o.connect_deadline_us = 200000;
		o.connections = 2;
		open_pool(&o);
		await_connections(2);
		kill_backends(); /* begins where it was well */
		await_down();
		await_connections(2);
		ask(&echo, 9, &a);
		await(&a);
		assert_int_equal(a.value, 9);
		pg = pg_free(pg);
		loop_turn(loop);
		loop_free(loop);
	}
	mute_end(&mute);
	with_connections(1);
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

int main(void) {
	const struct CMUnitTest tests[] = {
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
		row(test_refused_standby),
		row(test_refused_timeline),
		row(test_left_behind),
		row(test_left_behind_at_commit),
		row(test_refused_connection),
		row(test_connect_deadline),
		row(test_mute_host),
		row(test_second_host),
	};
	cmocka_set_test_filter(getenv("TEST_FILTER"));
	return cmocka_run_group_tests_name("pg_server", tests, start_db, stop_db);
}
