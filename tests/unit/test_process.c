/* process, daemon (who serves which socket): a real master with two workers in a forked child. Both report through one pipe, log lines
 * included; the tests wait for lines there, so nothing is slept for. The child ends through exit(), so leak checkers judge master and
 * workers alike. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/daemon.h"
#include "common/listener.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/metrics.h"
#include "common/process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum behaviour { GOOD, FAILS_TO_START, FAILS_LATER, NEVER_DRAINS };

static const struct metrics_def defs[] = {{"mm_open", METRICS_GAUGE, "Open.", NULL},
                                          {"mm_starts_total", METRICS_COUNTER, "Starts.", NULL},
                                          {NULL, METRICS_GAUGE, NULL, NULL}};

struct run {
	pid_t master;
	int fd;           /* our end of the pipe */
	char text[16384]; /* all that was said */
	size_t len, at;   /* at: behind the line found last */
	enum behaviour behaviour;
	int out; /* the other end, in master and workers */
	struct loop *loop;
	struct metrics *metrics;
	unsigned index;
	struct process_options options;
	struct daemon_sockets sockets;
	struct listener *listeners[8];
};

static char dir[64];
static char *program; /* this one */

static void sink(void *arg, enum log_level level, const char *line, size_t n) {
	struct run *r = arg;
	(void)level;
	dprintf(r->out, "%.*s\n", (int)n, line);
}

static int on_start(void *arg, struct loop *loop, unsigned index) {
	struct run *r = arg;
	r->loop = loop;
	r->index = index;
	bool first = metrics_sum(r->metrics, 1) < 2;
	metrics_add(r->metrics, 1, 1);
	metrics_set(r->metrics, 0, 10);
	dprintf(r->out, "start %u pid=%ld uid=%u nnp=%d\n", index, (long)getpid(), (unsigned)getuid(),
	        prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	if ((r->behaviour == FAILS_TO_START && index == 1) || (r->behaviour == FAILS_LATER && !first))
		return -ENOTCONN;
	return 0;
}

static void greet(void *arg, int fd, const struct sockaddr_storage *peer, socklen_t len) {
	ssize_t n = write(fd, "hello", 5);
	(void)n;
	close(fd);
}

/* The successor's workers greet everybody; those of the first master leave them in the queue. */
static int on_successor_start(void *arg, struct loop *loop, unsigned index) {
	struct run *r = arg;
	int result = on_start(arg, loop, index);
	if (result < 0)
		return result;
	daemon_sockets_keep(&r->sockets, index);
	assert(r->sockets.count <= array_len(r->listeners));
	for (unsigned i = 0; i < r->sockets.count; i++)
		r->listeners[i] = listener_new(loop, r->sockets.v[i].fd, greet, r);
	return 0;
}

static void on_drain(void *arg) {
	struct run *r = arg;
	for (unsigned i = 0; i < array_len(r->listeners); i++)
		r->listeners[i] = listener_free(r->listeners[i]);
	dprintf(r->out, "drain %u\n", r->index);
	if (r->behaviour != NEVER_DRAINS)
		loop_stop(r->loop);
}

static void on_reload(void *arg) {
	struct run *r = arg;
	dprintf(r->out, "reload %u\n", r->index);
}

static void on_stop(void *arg) {
	struct run *r = arg;
	dprintf(r->out, "stop %u\n", r->index);
}

static const struct process_ops ops = {on_start, on_drain, on_reload, on_stop};

/* What an upgrade finds on disk. Words: the address, and how many workers or how it fails. */
static int successor(char **argv) {
	static const struct process_ops successor_ops = {on_successor_start, on_drain, on_reload, on_stop};
	char *addresses[] = {argv[2], NULL};
	struct run r = {.out = STDERR_FILENO};
	alarm(120); /* a failed test leaves nothing behind */
	log_init("test", LOG_LEVEL_INFO);
	if (strcmp(argv[3], "exits") == 0)
		return 3;
	r.behaviour = strcmp(argv[3], "fails") == 0 ? FAILS_TO_START : GOOD;
	r.options = (struct process_options){.name = "new", .drain_us = 20000000, .argv = argv, .sockets = &r.sockets};
	r.options.user = getpwnam("nobody") ? "nobody" : "root"; /* the first one's master has kept the right to */
	r.options.workers = r.behaviour == GOOD ? (unsigned)atoi(argv[3]) : 2;
	r.options.metrics = r.metrics = metrics_new(defs, r.options.workers);
	int status = daemon_sockets_open(&r.sockets, addresses, r.options.workers) < 0 ? 1 : process_run(&r.options, &successor_ops, &r);
	daemon_sockets_close(&r.sockets);
	metrics_free(r.metrics);
	prctl(PR_SET_DUMPABLE, 1); /* or no leak checker may look at a process that changed its user */
	return status;
}

static void launch_with(struct run *r, const struct process_ops *run_ops, char *address) {
	int fds[2];
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	r->options.name = "test";
	r->options.workers = 2;
	if (!r->options.user)
		r->options.user = "root"; /* if we are, we stay it */
	if (!r->options.drain_us)
		r->options.drain_us = 20000000;
	fflush(NULL);
	r->master = fork();
	if (r->master == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failed test leaves nothing behind */
		close(fds[0]);
		r->out = fds[1];
		log_init("test", LOG_LEVEL_INFO);
		log_set_sink(sink, r);
		r->options.metrics = r->metrics = metrics_new(defs, 2);
		char *addresses[] = {address, NULL};
		if (address && daemon_sockets_open(&r->sockets, addresses, 2) < 0)
			_exit(99);
		r->options.sockets = &r->sockets;
		dup2(fds[1], STDERR_FILENO); /* all that a successor keeps */
		int status = process_run(&r->options, run_ops, r);
		metrics_free(r->metrics);
		daemon_sockets_close(&r->sockets);
		prctl(PR_SET_DUMPABLE, 1); /* or no leak checker may look at a process that changed its user */
		exit(status);
	}
	close(fds[1]);
	r->fd = fds[0];
}

static void launch(struct run *r) {
	launch_with(r, &ops, NULL);
}

/* Reads more; false: everybody who could say something is gone. */
static bool hear(struct run *r) {
	struct pollfd p = {.fd = r->fd, .events = POLLIN};
	if (poll(&p, 1, 20000) != 1)
		fail_msg("nothing more was said after:\n%s", r->text);
	ssize_t n = read(r->fd, r->text + r->len, sizeof(r->text) - 1 - r->len);
	assert_true(n >= 0);
	r->len += (size_t)n;
	r->text[r->len] = '\0';
	return n > 0;
}

/* Waits for `what` behind what was found last; returns where it is. */
static const char *expect(struct run *r, const char *what) {
	const char *found;
	while (!(found = strstr(r->text + r->at, what)))
		if (!hear(r))
			fail_msg("\"%s\" was never said in:\n%s", what, r->text + r->at);
	r->at = (size_t)(found - r->text) + strlen(what);
	return found;
}

/* Both, in any order. */
static void expect_both(struct run *r, const char *a, const char *b) {
	size_t at = r->at, end;
	expect(r, a);
	end = r->at;
	r->at = at;
	expect(r, b);
	r->at = max_of(end, r->at);
}

static pid_t pid_in(const char *line) {
	const char *p = strstr(line, "pid=");
	assert_non_null(p);
	while (!strchr(p, '\n'))
		return 0;
	return (pid_t)strtol(p + 4, NULL, 10);
}

static pid_t worker_pid(struct run *r, const char *start) {
	pid_t pid;
	const char *line = expect(r, start);
	while ((pid = pid_in(line)) == 0)
		assert_true(hear(r));
	return pid;
}

static void finish(struct run *r, int want) {
	int status;
	assert_int_equal(waitpid(r->master, &status, 0), r->master);
	while (hear(r))
		;
	close(r->fd);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != want)
		fail_msg("status %x instead of %d:\n%s", status, want, r->text);
	if (strstr(r->text, "Sanitizer"))
		fail_msg("%s", r->text);
}

static unsigned count(const struct run *r, const char *what) {
	unsigned n = 0;
	for (const char *p = r->text; (p = strstr(p, what)); p++)
		n++;
	return n;
}

static void test_ready_and_stop(void **state) {
	struct run r = {0};
	char pid_file[96], notify[96], text[64];
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	snprintf(pid_file, sizeof(pid_file), "%s/pid", dir);
	snprintf(notify, sizeof(notify), "%s/notify", dir);
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", notify);
	int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(s, (struct sockaddr *)&un, sizeof(un)), 0);
	setenv("NOTIFY_SOCKET", notify, 1);
	r.options.pid_file = pid_file;
	launch(&r);
	expect_both(&r, "start 0", "start 1");
	expect(&r, "event=ready workers=2");
	assert_int_equal(recv(s, text, sizeof(text), 0), 7);
	assert_memory_equal(text, "READY=1", 7);
	FILE *f = fopen(pid_file, "r");
	assert_non_null(f);
	assert_non_null(fgets(text, sizeof(text), f));
	fclose(f);
	assert_int_equal(strtol(text, NULL, 10), r.master);
	kill(r.master, SIGTERM);
	expect_both(&r, "stop 0", "stop 1");
	finish(&r, 0);
	assert_int_equal(recv(s, text, sizeof(text), 0), 10);
	assert_memory_equal(text, "STOPPING=1", 10);
	assert_int_equal(access(pid_file, F_OK), -1);
	assert_int_equal(count(&r, "nnp=1"), 2);
	unsetenv("NOTIFY_SOCKET");
	close(s);
	unlink(notify);
}

/* What the master's metrics listener says. */
static void scrape(struct run *r, char *ret, size_t size) {
	const char *line = strstr(r->text, "address=127.0.0.1:");
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	size_t len = 0;
	ssize_t n;
	assert_non_null(line);
	in.sin_port = htons((uint16_t)strtol(line + 18, NULL, 10));
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_true(write(fd, "GET /metrics HTTP/1.1\r\n\r\n", 25) == 25);
	while ((n = read(fd, ret + len, size - 1 - len)) > 0)
		len += (size_t)n;
	ret[len] = '\0';
	close(fd);
}

static void test_restart(void **state) {
	struct run r = {.options = {.metrics_listen = "127.0.0.1:0"}};
	char text[4096];
	launch(&r);
	pid_t first = worker_pid(&r, "start 1 ");
	expect(&r, "event=ready");
	scrape(&r, text, sizeof(text));
	assert_non_null(strstr(text, "mm_open 20\n"));
	assert_non_null(strstr(text, "minutemail_workers{daemon=\"test\"} 2\n"));
	assert_non_null(strstr(text, "minutemail_worker_deaths_total{daemon=\"test\"} 0\n"));
	kill(first, SIGKILL);
	expect(&r, "event=\"worker died\" worker=1");
	expect(&r, "signal=9");
	pid_t second = worker_pid(&r, "start 1 ");
	assert_true(second != first);
	scrape(&r, text, sizeof(text));
	assert_non_null(strstr(text, "mm_open 20\n"));
	assert_non_null(strstr(text, "mm_starts_total 3\n"));
	assert_non_null(strstr(text, "minutemail_worker_deaths_total{daemon=\"test\"} 1\n"));
	/* A worker that is told to go goes, and is replaced too; it drains once however often it is told. */
	kill(second, SIGTERM);
	kill(second, SIGTERM);
	expect(&r, "drain 1");
	expect(&r, "stop 1");
	assert_true(worker_pid(&r, "start 1 ") != second);
	assert_int_equal(count(&r, "drain 1"), 1);
	assert_int_equal(count(&r, "event=ready"), 1);
	kill(r.master, SIGINT);
	finish(&r, 0);
	assert_int_equal(count(&r, "start 0"), 1);
}

static void test_fails_to_start(void **state) {
	struct run r = {.behaviour = FAILS_TO_START};
	launch(&r);
	expect(&r, "event=\"worker cannot start\" error=\"Transport endpoint is not connected\"");
	finish(&r, 1);
	assert_int_equal(count(&r, "start 1"), 1);
	assert_int_equal(count(&r, "event=ready"), 0);
	assert_int_equal(count(&r, "stop 0"), 1);
}

/* The line of a status file that begins with `key`, as a number. */
static uint64_t status_number(pid_t pid, const char *key, int base) {
	char path[64], line[256];
	uint64_t v = UINT64_MAX;
	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	FILE *f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, key, strlen(key)) == 0)
			v = strtoull(line + strlen(key), NULL, base);
	fclose(f);
	return v;
}

static unsigned status_of(pid_t pid, const char *key) {
	return (unsigned)status_number(pid, key, 10);
}

static uint64_t status_in_hex(pid_t pid, const char *key) {
	return status_number(pid, key, 16);
}

/* The child of the master that is named so. */
static pid_t child_named(const struct run *r, const char *want) {
	char path[64], name[32] = "";
	pid_t pid, found = 0;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)r->master, (int)r->master);
	FILE *f = fopen(path, "re");
	assert_non_null(f);
	while (!found && fscanf(f, "%d", &pid) == 1) {
		snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
		FILE *comm = fopen(path, "re");
		if (comm && fgets(name, sizeof(name), comm) && strncmp(name, want, strlen(want)) == 0)
			found = pid;
		if (comm)
			fclose(comm);
	}
	fclose(f);
	return found;
}

/* Metrics have a process of their own, which is replaced too, is no worker, and is there until the last worker ends. */
static void test_metrics_process(void **state) {
	struct run r = {.behaviour = NEVER_DRAINS, .options = {.metrics_listen = "127.0.0.1:0", .user = "nobody"}};
	const struct passwd *pw = getpwnam("nobody");
	char text[4096];
	launch(&r);
	expect(&r, "event=ready");
	pid_t pid = child_named(&r, "test metrics");
	assert_true(pid > 0);
	if (geteuid() == 0 && pw)
		assert_int_equal(status_of(pid, "Uid:"), pw->pw_uid);
	scrape(&r, text, sizeof(text));
	kill(pid, SIGKILL);
	expect(&r, "event=\"worker died\" process=metrics");
	scrape(&r, text, sizeof(text));
	assert_non_null(strstr(text, "minutemail_workers{daemon=\"test\"} 2\n"));
	assert_non_null(strstr(text, "minutemail_worker_deaths_total{daemon=\"test\"} 0\n"));
	kill(r.master, SIGTERM);
	expect_both(&r, "drain 0", "drain 1");
	scrape(&r, text, sizeof(text));
	assert_non_null(strstr(text, "mm_open 20\n"));
	kill(r.master, SIGTERM);
	finish(&r, 1);
	assert_int_equal(count(&r, "start "), 2);
}

/* Later on it is retried, ever more slowly; and stopping meanwhile is clean. */
static void test_fails_later(void **state) {
	struct run r = {.behaviour = FAILS_LATER};
	launch(&r);
	pid_t pid = worker_pid(&r, "start 0 ");
	expect(&r, "event=ready");
	kill(pid, SIGKILL);
	expect(&r, "start 0 ");
	int64_t before = clock_mono_us_now();
	expect(&r, "start 0 ");
	expect(&r, "start 0 ");
	assert_true(clock_mono_us_now() - before >= 550000); /* 200 ms and 400 ms, less the timers' coarseness */
	kill(r.master, SIGTERM);
	finish(&r, 0);
}

static void test_drain_deadline(void **state) {
	struct run r = {.behaviour = NEVER_DRAINS, .options = {.drain_us = 200000}};
	launch(&r);
	expect(&r, "event=ready");
	kill(r.master, SIGTERM);
	expect_both(&r, "drain 0", "drain 1");
	expect(&r, "event=\"workers killed\" reason=\"drain deadline passed\" workers=2");
	finish(&r, 1);
}

static void test_second_signal(void **state) {
	struct run r = {.behaviour = NEVER_DRAINS, .options = {.drain_us = 60000000}};
	launch(&r);
	expect(&r, "event=ready");
	kill(r.master, SIGTERM);
	expect_both(&r, "drain 0", "drain 1");
	kill(r.master, SIGTERM);
	expect(&r, "event=\"workers killed\" reason=\"second signal\"");
	finish(&r, 1);
}

static void test_reload(void **state) {
	struct run r = {0};
	launch(&r);
	pid_t pid = worker_pid(&r, "start 0 ");
	expect(&r, "event=ready");
	kill(r.master, SIGHUP);
	expect_both(&r, "reload 0", "reload 1");
	kill(pid, SIGKILL);
	expect(&r, "start 0");
	expect(&r, "reload 0"); /* the master's memory still has the old configuration */
	kill(r.master, SIGTERM);
	finish(&r, 0);
}

static void test_master_killed(void **state) {
	struct run r = {0};
	int status;
	launch(&r);
	expect(&r, "event=ready");
	kill(r.master, SIGKILL);
	expect_both(&r, "stop 0", "stop 1");
	while (hear(&r)) /* until the last worker has let go of the pipe */
		;
	assert_int_equal(waitpid(r.master, &status, 0), r.master);
	close(r.fd);
}

static void test_user(void **state) {
	struct run r = {.options = {.user = "nobody"}};
	char want[64];
	const struct passwd *pw = getpwnam("nobody");
	if (geteuid() != 0 || !pw)
		skip();
	snprintf(want, sizeof(want), "uid=%u ", (unsigned)pw->pw_uid);
	launch(&r);
	pid_t pid = worker_pid(&r, "start 0 ");
	expect(&r, "event=ready");
	kill(pid, SIGKILL);
	expect(&r, "start 0 "); /* by a master that has kept the right to */
	kill(r.master, SIGTERM);
	finish(&r, 0);
	assert_int_equal(count(&r, want), 3);
}

/* Root says whom to become; the master keeps a few rights, workers none. */
static void test_root(void **state) {
	struct run none = {.options = {.user = ""}}, r = {.options = {.user = "nobody"}};
	if (geteuid() != 0 || !getpwnam("nobody"))
		skip();
	launch(&none);
	expect(&none, "event=\"no user\"");
	finish(&none, 1);
	launch(&r);
	pid_t pid = worker_pid(&r, "start 0 ");
	expect(&r, "event=ready");
	assert_int_equal(status_of(r.master, "Uid:"), 0);
	/* KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, DAC_READ_SEARCH */
	assert_int_equal(status_in_hex(r.master, "CapPrm:"), 0x5e4);
	assert_int_equal(status_in_hex(r.master, "CapBnd:"), 0x5e4);
	assert_int_equal(status_in_hex(pid, "CapPrm:"), 0);
	assert_int_equal(status_in_hex(pid, "CapBnd:"), 0);
	assert_int_equal(status_of(r.master, "NoNewPrivs:"), 1);
	kill(r.master, SIGTERM);
	finish(&r, 0);
}

static void test_bad_user(void **state) {
	struct run r = {.options = {.user = "no-such-user-here"}};
	if (geteuid() != 0)
		skip();
	launch(&r);
	expect(&r, "event=\"cannot change user\" user=no-such-user-here");
	finish(&r, 1);
}

static void test_metrics_taken(void **state) {
	struct run r = {.options = {.metrics_listen = "nowhere"}};
	launch(&r);
	expect(&r, "event=\"metrics cannot listen\"");
	finish(&r, 1);
	assert_int_equal(count(&r, "start"), 0);
	assert_true(process_default_workers() >= 1);
}

static int on_later(void *arg, struct loop *loop, unsigned index) {
	int r = on_start(arg, loop, index);
	if (index == 0)
		process_ready();
	else
		process_failed();
	return r < 0 ? r : PROCESS_LATER;
}

/* A worker that finds out late that it cannot work fails as if start() had. */
static void test_later(void **state) {
	static const struct process_ops later = {on_later, on_drain, on_reload, on_stop};
	struct run r = {0};
	launch_with(&r, &later, NULL);
	finish(&r, 1);
	assert_int_equal(count(&r, "event=ready"), 0);
	assert_int_equal(count(&r, "start 1"), 1);
}

/* Longer than a busy machine keeps a worker that could run from its turn. */
static void test_hang(void **state) {
	struct run r = {.options = {.hang_us = 3000000}};
	launch(&r);
	pid_t first = worker_pid(&r, "start 1 ");
	expect(&r, "event=ready");
	kill(first, SIGSTOP);
	expect(&r, "event=\"worker hangs\" worker=1");
	expect(&r, "signal=9");
	assert_true(worker_pid(&r, "start 1 ") != first);
	kill(r.master, SIGTERM);
	finish(&r, 0);
}

static void test_watchdog(void **state) {
	struct run r = {0};
	char notify[96], text[128] = "";
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	snprintf(notify, sizeof(notify), "%s/notify", dir);
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", notify);
	int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(s, (struct sockaddr *)&un, sizeof(un)), 0);
	setenv("NOTIFY_SOCKET", notify, 1);
	setenv("WATCHDOG_USEC", "200000", 1);
	launch(&r);
	for (unsigned pings = 0; pings < 3;) {
		ssize_t n = recv(s, text, sizeof(text) - 1, 0);
		assert_true(n > 0);
		pings += strncmp(text, "WATCHDOG=1", (size_t)n) == 0;
	}
	expect(&r, "event=ready");
	kill(r.master, SIGHUP);
	do {
		ssize_t n = recv(s, text, sizeof(text) - 1, 0);
		assert_true(n > 0);
		text[n] = '\0';
	} while (strncmp(text, "RELOADING=1\nMONOTONIC_USEC=", 27) != 0);
	kill(r.master, SIGTERM);
	finish(&r, 0);
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	close(s);
	unlink(notify);
}

/* Connects to the address that the first master said. */
static int dial(struct run *r) {
	const char *line = strstr(r->text, "event=listening address=127.0.0.1:");
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	assert_non_null(line);
	in.sin_port = htons((uint16_t)strtol(line + 34, NULL, 10));
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	return fd;
}

static void expect_hello(int fd) {
	char text[8] = "";
	assert_int_equal(recv(fd, text, sizeof(text), MSG_WAITALL), 5);
	assert_string_equal(text, "hello");
	close(fd);
}

/* With fewer workers than sockets, as many, and more; what waited in the old master's sockets is served by the new one. */
static void test_upgrade(void **state) {
	char flag[] = "--successor";
	for (unsigned workers = 1; workers <= 3; workers++) {
		char address[] = "127.0.0.1:0", number[] = {(char)('0' + workers), '\0'};
		char *argv[] = {program, flag, address, number, NULL};
		struct run r = {.options = {.argv = argv}};
		int waiting[16];
		launch_with(&r, &ops, address);
		expect(&r, "event=ready");
		for (size_t c = 0; c < array_len(waiting); c++)
			waiting[c] = dial(&r);
		kill(r.master, SIGUSR2);
		expect(&r, "event=listening");
		expect(&r, "inherited=2");
		const char *line = expect(&r, "msg=\"process ");
		pid_t next = (pid_t)strtol(line + 13, NULL, 10);
		expect(&r, "event=ready");
		for (size_t c = 0; c < array_len(waiting); c++)
			expect_hello(waiting[c]);
		expect_hello(dial(&r));
		int status;
		assert_int_equal(waitpid(r.master, &status, 0), r.master);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
		expect_hello(dial(&r));
		kill(next, SIGTERM);
		while (hear(&r)) /* until the last process has let go of the pipe */
			;
		close(r.fd);
		assert_null(strstr(r.text, "Sanitizer"));
		assert_int_equal(count(&r, "event=stopped msg=clean"), 2);
	}
}

static void test_upgrade_fails(void **state) {
	char flag[] = "--successor", address[] = "127.0.0.1:0", exits[] = "exits", fails[] = "fails";
	char *const how[] = {exits, fails};
	for (size_t i = 0; i < array_len(how); i++) {
		char *argv[] = {program, flag, address, how[i], NULL};
		struct run r = {.options = {.argv = argv}};
		launch_with(&r, &ops, address);
		expect(&r, "event=ready");
		kill(r.master, SIGUSR2);
		expect(&r, "event=\"upgrade failed\"");
		expect(&r, i == 0 ? "status=3" : "status=1");
		expect(&r, "now=\"going on as before\"");
		kill(r.master, SIGTERM);
		finish(&r, 0);
	}
}

/* A file that is no program, half of one for instance, is not given to a shell. */
static void test_upgrade_is_no_script(void **state) {
	char address[] = "127.0.0.1:0", path[] = "/tmp/minutemail-upgrade-XXXXXX", *argv[] = {path, NULL};
	struct run r = {.options = {.argv = argv}};
	int fd = mkstemp(path);
	assert_true(fd >= 0 && fchmod(fd, 0755) == 0 && write(fd, "exit 7\n", 7) == 7);
	close(fd);
	launch_with(&r, &ops, address);
	expect(&r, "event=ready");
	kill(r.master, SIGUSR2);
	expect(&r, "event=\"upgrade failed\"");
	kill(r.master, SIGTERM);
	finish(&r, 0);
	assert_int_equal(count(&r, "status=7"), 0);
	unlink(path);
}

static void test_nothing_to_start(void **state) {
	struct run r = {0};
	launch(&r);
	expect(&r, "event=ready");
	kill(r.master, SIGUSR2);
	expect(&r, "event=\"ignoring upgrade\"");
	kill(r.master, SIGTERM);
	finish(&r, 0);
}

/* Every socket is served, and every worker serves. */
static void test_who_serves(void **state) {
	for (unsigned workers = 1; workers <= 5; workers++) {
		for (unsigned of = 1; of <= 5; of++) {
			unsigned served[2][5] = {0};
			for (unsigned w = 0; w < workers; w++) {
				struct daemon_sockets s = {.workers = workers};
				unsigned at[2] = {0};
				int names[10];
				s.v = xcalloc(of + 1, sizeof(*s.v));
				for (unsigned i = 0; i < of; i++)
					s.v[s.count++] = (struct daemon_socket){names[i] = dup(0), 0};
				s.v[s.count++] = (struct daemon_socket){names[of] = dup(0), 1};
				daemon_sockets_keep(&s, w);
				for (unsigned i = 0; i < s.count; i++) {
					unsigned k = 0;
					while (names[k] != s.v[i].fd)
						k++;
					served[s.v[i].address][s.v[i].address ? 0 : k]++;
					at[s.v[i].address]++;
				}
				assert_true(at[0] >= 1 && at[1] == 1);
				daemon_sockets_close(&s);
			}
			for (unsigned i = 0; i < of; i++)
				assert_true(served[0][i] >= 1);
			assert_int_equal(served[1][0], workers);
		}
	}
}

static int make_dir(void **state) {
	strcpy(dir, "/tmp/test_process.XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state) {
	return rmdir(dir);
}

int main(int argc, char **argv) {
	if (argc > 3 && strcmp(argv[1], "--successor") == 0)
		return successor(argv);
	program = argv[0];
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_ready_and_stop), cmocka_unit_test(test_restart),
	    cmocka_unit_test(test_fails_to_start), cmocka_unit_test(test_fails_later),
	    cmocka_unit_test(test_drain_deadline), cmocka_unit_test(test_second_signal),
	    cmocka_unit_test(test_reload),         cmocka_unit_test(test_master_killed),
	    cmocka_unit_test(test_user),           cmocka_unit_test(test_bad_user),
	    cmocka_unit_test(test_metrics_taken),  cmocka_unit_test(test_later),
	    cmocka_unit_test(test_hang),           cmocka_unit_test(test_watchdog),
	    cmocka_unit_test(test_upgrade),        cmocka_unit_test(test_upgrade_fails),
	    cmocka_unit_test(test_upgrade_is_no_script),
	    cmocka_unit_test(test_nothing_to_start), cmocka_unit_test(test_who_serves),
	    cmocka_unit_test(test_metrics_process), cmocka_unit_test(test_root),
	};
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
