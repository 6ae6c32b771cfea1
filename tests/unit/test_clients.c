/* clients: limits of an address and of its network, over workers that are real processes, one of which is killed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/clients.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct netaddr address(const char *text) {
	struct netaddr a;
	assert_int_equal(netaddr_parse(text, strlen(text), &a), 0);
	return a;
}

static enum clients_verdict enter(struct clients *c, const char *text, struct client *ret) {
	struct netaddr a = address(text);
	return clients_enter(c, &a, ret);
}

static unsigned at_once(struct clients *c, const char *text) {
	struct netaddr a = address(text);
	return clients_at_once(c, &a);
}

static void test_at_once(void **state) {
	const struct clients_limits limits = {.at_once = 2, .wide_factor = 2};
	struct clients *c = clients_new(&limits, -1);
	struct client v[8];
	clients_attach(c);
	assert_int_equal(enter(c, "192.0.2.1", &v[0]), CLIENTS_WELCOME);
	assert_int_equal(enter(c, "192.0.2.1", &v[1]), CLIENTS_WELCOME);
	assert_int_equal(enter(c, "192.0.2.1", &v[2]), CLIENTS_TOO_MANY);
	assert_int_equal(v[2].place[0], 0);
	assert_int_equal(at_once(c, "192.0.2.1"), 2);
	assert_int_equal(enter(c, "192.0.2.2", &v[2]), CLIENTS_WELCOME);
	assert_int_equal(enter(c, "192.0.2.3", &v[3]), CLIENTS_WELCOME);
	assert_int_equal(enter(c, "192.0.2.4", &v[4]), CLIENTS_TOO_MANY); /* the /24 is full */
	assert_int_equal(enter(c, "192.0.3.4", &v[4]), CLIENTS_WELCOME);
	clients_leave(c, &v[0]);
	clients_leave(c, &v[0]); /* nothing any more */
	assert_int_equal(at_once(c, "192.0.2.1"), 1);
	assert_int_equal(enter(c, "192.0.2.1", &v[0]), CLIENTS_WELCOME);
	clients_free(c);
}

static void test_ipv6_is_its_64(void **state) {
	const struct clients_limits limits = {.at_once = 1, .wide_factor = 2};
	struct clients *c = clients_new(&limits, -1);
	struct client v[4];
	clients_attach(c);
	assert_int_equal(enter(c, "2001:db8::1", &v[0]), CLIENTS_WELCOME);
	assert_int_equal(enter(c, "2001:db8::ffff:2", &v[1]), CLIENTS_TOO_MANY);
	assert_int_equal(enter(c, "2001:db8:0:1::1", &v[1]), CLIENTS_WELCOME);
	assert_int_equal(enter(c, "2001:db8:0:2::1", &v[2]), CLIENTS_TOO_MANY); /* the /48 */
	assert_int_equal(enter(c, "2001:db8:1::1", &v[2]), CLIENTS_WELCOME);
	clients_free(c);
}

static void test_rates(void **state) {
	const struct clients_limits limits = {.a_minute = {[CLIENTS_CONNECTIONS] = 3, [CLIENTS_OCTETS] = 1000}, .wide_factor = 0};
	struct clients *c = clients_new(&limits, -1);
	struct client v;
	clients_attach(c);
	clock_set(1000000 * SECOND_US);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(enter(c, "192.0.2.1", &v), CLIENTS_WELCOME);
		clients_leave(c, &v);
	}
	for (int i = 0; i < 50; i++)
		assert_int_equal(enter(c, "192.0.2.1", &v), CLIENTS_TOO_FAST);
	assert_int_equal(at_once(c, "192.0.2.1"), 0);
	clock_advance(19 * SECOND_US);
	assert_int_equal(enter(c, "192.0.2.1", &v), CLIENTS_TOO_FAST);
	clock_advance(1 * SECOND_US); /* refusals cost nothing: a third of a minute gives one of three */
	assert_int_equal(enter(c, "192.0.2.1", &v), CLIENTS_WELCOME);
	assert_true(clients_may(c, &v, CLIENTS_OCTETS));
	clients_count(c, &v, CLIENTS_OCTETS, 999);
	assert_true(clients_may(c, &v, CLIENTS_OCTETS));
	clients_count(c, &v, CLIENTS_OCTETS, INT64_MAX);
	assert_false(clients_may(c, &v, CLIENTS_OCTETS));
	assert_true(clients_may(c, &v, CLIENTS_MESSAGES)); /* no limit */
	clock_advance(299 * SECOND_US);
	assert_true(clients_may(c, &v, CLIENTS_OCTETS)); /* the debt has an end */
	clients_free(c);
}

/* More clients than the table has room for: all are served, and those with connections keep their place. */
static void test_name_and_minutes(void **state) {
	const struct clients_limits limits = {.a_minute = {[CLIENTS_LOGINS] = 12, [CLIENTS_NAME_LOGINS] = 2},
	                                      .minutes = {[CLIENTS_LOGINS] = 5, [CLIENTS_NAME_LOGINS] = 5}, .wide_factor = 2};
	struct clients *c = clients_new(&limits, -1);
	struct netaddr a = address("192.0.2.1");
	struct slice me = slice_str("me@example.org"), you = slice_str("you@example.org");
	clients_attach(c);
	clock_set(1000000 * SECOND_US);
	for (int i = 0; i < 10; i++)
		assert_int_equal(clients_take_name(c, me, CLIENTS_NAME_LOGINS), 0);
	assert_int_equal(clients_take_name(c, me, CLIENTS_NAME_LOGINS), 30 * SECOND_US);
	assert_int_equal(clients_take_name(c, you, CLIENTS_NAME_LOGINS), 0);
	clients_give_back_name(c, me, CLIENTS_NAME_LOGINS);
	assert_int_equal(clients_take_name(c, me, CLIENTS_NAME_LOGINS), 0);
	clock_advance(29 * SECOND_US);
	assert_int_equal(clients_take_name(c, me, CLIENTS_NAME_LOGINS), SECOND_US);
	clock_advance(SECOND_US);
	assert_int_equal(clients_take_name(c, me, CLIENTS_NAME_LOGINS), 0);
	assert_int_equal(clients_take_name(c, slice_of(NULL, 0), CLIENTS_NAME_LOGINS), 0);
	for (int i = 0; i < 60; i++)
		assert_int_equal(clients_take_address(c, &a, CLIENTS_LOGINS), 0);
	assert_int_equal(clients_take_address(c, &a, CLIENTS_LOGINS), 5 * SECOND_US);
	clients_give_back_address(c, &a, CLIENTS_LOGINS);
	assert_int_equal(clients_take_address(c, &a, CLIENTS_LOGINS), 0);
	clients_free(c);
}

/* Processes that take from one limit at once get it all, and not one more. */
static void test_taken_exactly(void **state) {
	const struct clients_limits limits = {.a_minute = {[CLIENTS_BAD_KEYS] = 1000}, .wide_factor = 0};
	struct clients *c = clients_new(&limits, -1);
	struct netaddr a = address("192.0.2.1");
	int pipes[2], total = 0;
	clock_set(1000000 * SECOND_US);
	assert_int_equal(pipe(pipes), 0);
	for (unsigned w = 0; w < 4; w++) {
		if (fork() == 0) {
			int n = 0;
			clients_attach(c);
			for (int i = 0; i < 1000; i++)
				n += clients_take_address(c, &a, CLIENTS_BAD_KEYS) == 0;
			_exit(write(pipes[1], &n, sizeof(n)) != sizeof(n));
		}
	}
	for (unsigned w = 0; w < 4; w++) {
		int n;
		assert_int_equal(read(pipes[0], &n, sizeof(n)), (int)sizeof(n));
		total += n;
		wait(NULL);
	}
	assert_int_equal(total, 1000);
	close(pipes[0]);
	close(pipes[1]);
	clients_free(c);
}

/* For who has no connection of its own: nothing of it stays but the rate. */
static void test_without_connection(void **state) {
	const struct clients_limits limits = {.at_once = 1, .a_minute = {[CLIENTS_BAD_KEYS] = 2}, .wide_factor = 2};
	struct clients *c = clients_new(&limits, -1);
	struct netaddr a = address("192.0.2.1"), b = address("192.0.2.2"), other = address("192.0.2.3"), none = {0};
	clients_attach(c);
	clock_set(1000000 * SECOND_US);
	assert_true(clients_may_address(c, &a, CLIENTS_BAD_KEYS));
	assert_int_equal(clients_take_address(c, &a, CLIENTS_BAD_KEYS), 0);
	assert_int_equal(clients_take_address(c, &a, CLIENTS_BAD_KEYS), 0);
	assert_true(clients_take_address(c, &a, CLIENTS_BAD_KEYS) > 0);
	assert_false(clients_may_address(c, &a, CLIENTS_BAD_KEYS));
	assert_int_equal(at_once(c, "192.0.2.1"), 0);
	assert_int_equal(clients_take_address(c, &b, CLIENTS_BAD_KEYS), 0);
	assert_int_equal(clients_take_address(c, &b, CLIENTS_BAD_KEYS), 0);
	assert_false(clients_may_address(c, &other, CLIENTS_BAD_KEYS)); /* the /24 is at its limit */
	clock_advance(60 * SECOND_US);
	assert_int_equal(clients_take_address(c, &a, CLIENTS_BAD_KEYS), 0);
	for (int i = 0; i < 10; i++)
		assert_int_equal(clients_take_address(c, &none, CLIENTS_BAD_KEYS), 0);
	clients_free(c);
}

static void test_table_is_bounded(void **state) {
	const struct clients_limits limits = {.at_once = 1, .wide_factor = 0};
	struct clients *c = clients_new(&limits, -1);
	struct client kept, v;
	char text[32];
	clients_attach(c);
	clock_set(1000000 * SECOND_US);
	assert_int_equal(enter(c, "192.0.2.1", &kept), CLIENTS_WELCOME);
	for (unsigned i = 0; i < 200000; i++) {
		snprintf(text, sizeof(text), "10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255);
		assert_int_equal(enter(c, text, &v), CLIENTS_WELCOME);
		clients_leave(c, &v);
	}
	assert_int_equal(at_once(c, "192.0.2.1"), 1);
	assert_int_equal(enter(c, "192.0.2.1", &v), CLIENTS_TOO_MANY);
	clients_free(c);
}

static void test_full_set_is_open(void **state) {
	const struct clients_limits limits = {.at_once = 1, .wide_factor = 0};
	struct clients *c = clients_new(&limits, -1);
	static struct client v[120000];
	char text[32];
	unsigned uncounted = 0;
	clients_attach(c);
	for (unsigned i = 0; i < array_len(v); i++) {
		snprintf(text, sizeof(text), "10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255);
		assert_int_equal(enter(c, text, &v[i]), CLIENTS_WELCOME);
		uncounted += v[i].place[0] == 0;
	}
	assert_true(uncounted > 0 && uncounted < array_len(v));
	for (unsigned i = 0; i < array_len(v); i++)
		clients_leave(c, &v[i]);
	assert_int_equal(at_once(c, "10.0.0.1"), 0);
	clients_free(c);
}

/* Each process holds one connection after another from few addresses of few networks; the limit must hold at every moment, and after
 * a kill nothing stays but what is swept. */
static void test_workers(void **state) {
	const struct clients_limits limits = {.at_once = 5, .wide_factor = 2};
	enum { WORKERS = 4 };
	struct clients *c = clients_new(&limits, -1);
	pid_t pids[WORKERS];
	char text[WORKERS][32];
	for (unsigned w = 0; w < WORKERS; w++) {
		pids[w] = fork();
		if (pids[w] != 0)
			continue;
		struct client v[8] = {0};
		clients_attach(c);
		for (unsigned k = 0;; k++) {
			unsigned i = k % array_len(v);
			clients_leave(c, &v[i]);
			snprintf(text[w], sizeof(text[w]), "192.0.%u.%u", k % 7, k % 3);
			struct netaddr a;
			netaddr_parse(text[w], strlen(text[w]), &a);
			clients_enter(c, &a, &v[i]);
		}
	}
	for (int round = 0; round < 2000; round++)
		for (unsigned k = 0; k < 21; k++) {
			snprintf(text[0], sizeof(text[0]), "192.0.%u.%u", k % 7, k % 3);
			/* One more a worker for the moment between counting and looking. */
			assert_in_range(at_once(c, text[0]), 0, 5 + WORKERS);
		}
	for (unsigned w = 0; w < WORKERS; w++) {
		int status;
		kill(pids[w], SIGKILL);
		assert_int_equal(waitpid(pids[w], &status, 0), pids[w]);
	}
	unsigned left = 0;
	for (unsigned k = 0; k < 21; k++) {
		snprintf(text[0], sizeof(text[0]), "192.0.%u.%u", k % 7, k % 3);
		left += at_once(c, text[0]);
	}
	assert_true(left > 0);
	clients_sweep(c);
	struct client v[6];
	for (unsigned k = 0; k < 21; k++) {
		snprintf(text[0], sizeof(text[0]), "192.0.%u.%u", k % 7, k % 3);
		assert_int_equal(at_once(c, text[0]), 0);
	}
	clients_attach(c);
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(enter(c, "192.0.0.0", &v[i]), i < 5 ? CLIENTS_WELCOME : CLIENTS_TOO_MANY);
	clients_free(c);
}

/* A process that does `act` and stays until it is killed. */
static pid_t other(void (*act)(struct clients *), struct clients *c) {
	int ends[2];
	char done;
	assert_int_equal(pipe(ends), 0);
	pid_t pid = fork();
	if (pid == 0) {
		act(c);
		if (write(ends[1], "d", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ends[1]);
	assert_int_equal(read(ends[0], &done, 1), 1);
	close(ends[0]);
	return pid;
}

static void end(pid_t pid) {
	int status;
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void two_connections(struct clients *c) {
	struct client v[2];
	clients_attach(c);
	for (unsigned i = 0; i < array_len(v); i++)
		if (enter(c, "192.0.2.1", &v[i]) != CLIENTS_WELCOME)
			_exit(1);
}

/* What an upgrade does: another master has the same table by its descriptor, with limits of its own, and both have workers. */
static void test_handed_over(void **state) {
	const struct clients_limits limits = {.at_once = 3, .a_minute = {[CLIENTS_BAD_KEYS] = 1}, .wide_factor = 0}, wider = {.at_once = 4};
	struct clients *old = clients_new(&limits, -1);
	struct netaddr a = address("192.0.2.9");
	pid_t pid = other(two_connections, old);
	struct clients *new = clients_new(&limits, dup(clients_fd(old)));
	struct client v[3];
	clients_attach(new);
	clock_set(1000000 * SECOND_US);
	assert_int_equal(at_once(new, "192.0.2.1"), 2);
	assert_int_equal(enter(new, "192.0.2.1", &v[0]), CLIENTS_WELCOME);
	assert_int_equal(enter(new, "192.0.2.1", &v[1]), CLIENTS_TOO_MANY);
	assert_int_equal(clients_take_address(new, &a, CLIENTS_BAD_KEYS), 0);
	assert_false(clients_may_address(new, &a, CLIENTS_BAD_KEYS));
	clients_free(old);
	clients_free(new);

	struct clients *first = clients_new(&limits, -1);
	pid_t second_pid = other(two_connections, first);
	clients_sweep(first); /* they live: nothing is cleared */
	assert_int_equal(at_once(first, "192.0.2.1"), 2);
	struct clients *third = clients_new(&wider, dup(clients_fd(first)));
	end(second_pid);
	assert_int_equal(at_once(third, "192.0.2.1"), 2);
	clients_sweep(third);
	assert_int_equal(at_once(first, "192.0.2.1"), 0);
	clients_free(third);
	clients_free(first);
	end(pid);
}

/* A descriptor that is no table of this form: another size, not sealed, another version. The last is told by its first octets. */
static void test_another_form(void **state) {
	const struct clients_limits limits = {.at_once = 1, .wide_factor = 0};
	struct clients *c;
	struct client v[2];
	struct stat given, taken;
	for (int kind = 0; kind < 4; kind++) {
		struct clients *model = clients_new(&limits, -1);
		off_t size = lseek(clients_fd(model), 0, SEEK_END);
		int fd = memfd_create("other", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		char head[64];
		assert_int_equal(pread(clients_fd(model), head, sizeof(head), 0), sizeof(head));
		head[8] += kind == 2; /* the version */
		assert_int_equal(pwrite(fd, head, sizeof(head), 0), sizeof(head));
		assert_int_equal(ftruncate(fd, kind == 0 ? size - 4096 : size), 0);
		if (kind != 1)
			assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
		assert_int_equal(fstat(fd, &given), 0);
		c = clients_new(&limits, fd);
		assert_int_equal(fstat(clients_fd(c), &taken), 0);
		assert_int_equal(given.st_ino == taken.st_ino, kind == 3); /* only if all is right */
		clients_attach(c);
		assert_int_equal(enter(c, "192.0.2.1", &v[0]), CLIENTS_WELCOME);
		assert_int_equal(enter(c, "192.0.2.1", &v[1]), CLIENTS_TOO_MANY);
		clients_free(c);
		clients_free(model);
	}
	c = clients_new(&limits, open("/dev/null", O_RDWR | O_CLOEXEC));
	clients_attach(c);
	assert_int_equal(enter(c, "192.0.2.1", &v[0]), CLIENTS_WELCOME);
	clients_free(c);
}

/* Where no row is: nobody is refused, nothing is counted. */
static void test_not_attached(void **state) {
	const struct clients_limits limits = {.at_once = 1, .wide_factor = 0};
	struct clients *c = clients_new(&limits, -1);
	struct client v;
	for (int i = 0; i < 3; i++)
		assert_int_equal(enter(c, "192.0.2.1", &v), CLIENTS_WELCOME);
	assert_int_equal(at_once(c, "192.0.2.1"), 0);
	clients_free(c);
}

static void test_no_address(void **state) {
	const struct clients_limits limits = {.at_once = 1, .wide_factor = 1};
	struct clients *c = clients_new(&limits, -1);
	struct netaddr none = {0};
	struct client v[2];
	clients_attach(c);
	for (int i = 0; i < 2; i++)
		assert_int_equal(clients_enter(c, &none, &v[i]), CLIENTS_WELCOME);
	assert_true(clients_may(c, &v[0], CLIENTS_MESSAGES));
	clients_count(c, &v[0], CLIENTS_MESSAGES, 1);
	clients_leave(c, &v[0]);
	clients_free(c);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_at_once),          cmocka_unit_test(test_ipv6_is_its_64),   cmocka_unit_test(test_rates),
	    cmocka_unit_test(test_name_and_minutes),
	    cmocka_unit_test(test_taken_exactly),
	    cmocka_unit_test(test_without_connection), cmocka_unit_test(test_table_is_bounded), cmocka_unit_test(test_full_set_is_open), cmocka_unit_test(test_workers),
	    cmocka_unit_test(test_no_address),       cmocka_unit_test(test_handed_over),     cmocka_unit_test(test_another_form),
	    cmocka_unit_test(test_not_attached),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
