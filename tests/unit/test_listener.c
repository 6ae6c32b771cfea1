/* listener: address forms and their faults, sets of sockets, ports that are taken, accepting, pausing, running out of
 * descriptors; and metrics_http, which stands on listener and stream. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/buf.h"
#include "common/inherit.h"
#include "common/listener.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/metrics_http.h"
#include "tests/support/unit.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MS 1000

#define FDS 4

struct fixture {
	struct loop *loop;
	struct listener *listener;
	int got[64];
	unsigned count;
	bool free_inside, pause_inside;
	int family;
};

static void on_accept(void *arg, int fd, const struct sockaddr_storage *peer, socklen_t len) {
	struct fixture *f = arg;
	(void)len;
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	f->got[f->count++ % 64] = fd;
	f->family = peer->ss_family;
	if (f->free_inside)
		f->listener = listener_free(f->listener);
	else if (f->pause_inside)
		listener_set_paused(f->listener, true);
}

/* Connects to what a listening descriptor is bound to. */
static int dial(int listening) {
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);
	assert_int_equal(getsockname(listening, (struct sockaddr *)&a, &len), 0);
	int fd = socket(a.ss_family, SOCK_STREAM, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, len), 0);
	return fd;
}

static void close_all(int *fds, unsigned n) {
	for (unsigned i = 0; i < n; i++)
		close(fds[i]);
}

static void test_faults(void **state) {
	static const char *const rows[] = {
	    "",
	    "25",
	    ":25",
	    "127.0.0.1",
	    "127.0.0.1:",
	    "127.0.0.1:x",
	    "127.0.0.1:65536",
	    "127.0.0.1:000025",
	    "127.0.0.1:-1",
	    "127.0.0.1:25 ",
	    "localhost:25",
	    "256.0.0.1:25",
	    "::1:25",
	    "[::1:25",
	    "[::1]",
	    "[::1]25",
	    "[]:25",
	    "[127.0.0.1]:25",
	    "**:25",
	    "unix:",
	    "[0000:0000:0000:0000:0000:0000:0000:0000:0000:0001]:25",
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		const char *error = NULL;
		int fd = -1;
		if (listener_open(rows[i], 1, &fd, &error) != -EINVAL)
			fail_msg("accepted \"%s\"", rows[i]);
		assert_int_equal(fd, -1);
		assert_int_equal(strncmp(error, rows[i], strlen(rows[i])), 0);
	}
}

static void test_set(void **state) {
	const char *error;
	int fds[FDS], one;
	char name[64], other[64];
	assert_int_equal(listener_open("127.0.0.1:0", FDS, fds, &error), 0);
	listener_name(fds[0], name, sizeof(name));
	assert_int_equal(strncmp(name, "127.0.0.1:", 10), 0);
	assert_string_not_equal(name, "127.0.0.1:0");
	for (int i = 0; i < FDS; i++) {
		listener_name(fds[i], other, sizeof(other));
		assert_string_equal(other, name);
		assert_true(fcntl(fds[i], F_GETFL) & O_NONBLOCK);
		assert_true(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
	}
	/* Taken, though SO_REUSEPORT would let us in; and it says where. */
	assert_int_equal(listener_open(name, 1, &one, &error), -EADDRINUSE);
	assert_int_equal(strncmp(error, name, strlen(name)), 0);
	close_all(fds, FDS);
	assert_int_equal(listener_open(name, 1, &one, &error), 0);
	close(one);
}

static void test_families(void **state) {
	static const char *const rows[] = {"[::1]:0", "*:0"};
	for (size_t i = 0; i < array_len(rows); i++) {
		const char *error;
		char name[64];
		int fds[2];
		int r = listener_open(rows[i], 2, fds, &error);
		if (r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL)
			continue; /* no IPv6 here */
		assert_int_equal(r, 0);
		listener_name(fds[1], name, sizeof(name));
		assert_int_equal(strncmp(name, rows[i], strlen(rows[i]) - 1), 0);
		int one;
		assert_int_equal(listener_open(name, 1, &one, &error), -EADDRINUSE);
		if (rows[i][0] == '*') {
			struct sockaddr_in6 six;
			socklen_t len = sizeof(six);
			struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
			getsockname(fds[0], (struct sockaddr *)&six, &len);
			in.sin_port = six.sin6_port;
			int fd = socket(AF_INET, SOCK_STREAM, 0);
			assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0); /* both families */
			close(fd);
		}
		close_all(fds, 2);
	}
}

static void test_unix(void **state) {
	char dir[] = "/tmp/test_listener.XXXXXX", address[80], name[128];
	const char *error;
	int fds[3], one;
	struct stat st;
	assert_non_null(mkdtemp(dir));
	snprintf(address, sizeof(address), "unix:%s/s", dir);
	const char *path = address + 5;
	assert_int_equal(listener_open(address, 3, fds, &error), 0);
	listener_name(fds[2], name, sizeof(name));
	assert_string_equal(name, address);
	assert_int_equal(listener_open(address, 1, &one, &error), -EADDRINUSE);
	struct fixture f = {.loop = loop_new()};
	f.listener = listener_new(f.loop, fds[2], on_accept, &f);
	int client = dial(fds[0]);
	turns_for(f.loop, 10 * MS);
	assert_int_equal(f.count, 2); /* the first one asked whether anybody is here */
	assert_int_equal(f.family, AF_UNIX);
	close(client);
	close_all(f.got, 2);
	listener_free(f.listener);
	loop_free(f.loop);
	close_all(fds, 3);
	/* The file is left behind, and the next start takes its place; a file that is no socket stays. */
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(listener_open(address, 1, &one, &error), 0);
	close(one);
	unlink(path);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(listener_open(address, 1, &one, &error), -EADDRINUSE);
	unlink(path);
	rmdir(dir);
	assert_int_equal(listener_open("unix:/nonexistent/dir/s", 1, &one, &error), -ENOENT);
}

static void test_accept(void **state) {
	struct fixture f = {.loop = loop_new()};
	const char *error;
	int fd, clients[40];
	assert_int_equal(listener_open("127.0.0.1:0", 1, &fd, &error), 0);
	f.listener = listener_new(f.loop, fd, on_accept, &f);
	for (int i = 0; i < 40; i++)
		clients[i] = dial(fd);
	loop_turn(f.loop);
	assert_int_equal(f.count, 16); /* the rest another turn: others want to run too */
	listener_set_paused(f.listener, true);
	turns_for(f.loop, 10 * MS);
	assert_int_equal(f.count, 16);
	f.pause_inside = true;
	listener_set_paused(f.listener, false);
	turns_for(f.loop, 10 * MS);
	assert_int_equal(f.count, 17);
	f.pause_inside = false;
	listener_set_paused(f.listener, false);
	turns_for(f.loop, 10 * MS);
	assert_int_equal(f.count, 40);
	close_all(clients, 40);
	close_all(f.got, 40);
	f.free_inside = true;
	clients[0] = dial(fd);
	clients[1] = dial(fd);
	turns_for(f.loop, 10 * MS);
	assert_int_equal(f.count, 41);
	assert_null(f.listener);
	assert_null(listener_free(NULL));
	close_all(clients, 2);
	close(f.got[40]);
	close(fd);
	loop_free(f.loop);
}

static unsigned warnings;

static void sink(void *arg, enum log_level level, const char *line, size_t n) {
	(void)arg;
	(void)line;
	(void)n;
	warnings += level == LOG_LEVEL_WARNING;
}

/* Returns the limit as it was. */
static struct rlimit run_out_of_descriptors(void) {
	struct rlimit old;
	int next = dup(0);
	close(next);
	getrlimit(RLIMIT_NOFILE, &old);
	const struct rlimit few = {.rlim_cur = (rlim_t)next, .rlim_max = old.rlim_max};
	setrlimit(RLIMIT_NOFILE, &few);
	return old;
}

static void test_shortage(void **state) {
	struct fixture f = {.loop = loop_new()};
	const char *error;
	int fd, client;
	assert_int_equal(listener_open("127.0.0.1:0", 1, &fd, &error), 0);
	f.listener = listener_new(f.loop, fd, on_accept, &f);
	client = dial(fd);
	struct rlimit old = run_out_of_descriptors();
	warnings = 0;
	log_set_sink(sink, NULL);
	turns_for(f.loop, 1500 * MS); /* two attempts */
	assert_int_equal(f.count, 0);
	assert_int_equal(warnings, 1);
	setrlimit(RLIMIT_NOFILE, &old);
	turns_for(f.loop, 1000 * MS);
	assert_int_equal(f.count, 1);
	log_set_sink(NULL, NULL);
	listener_free(f.listener);
	close(client);
	close(f.got[0]);
	close(fd);
	loop_free(f.loop);
}

/* One of those who wait is told, with a descriptor kept for that; the others stay in the queue. */
static void test_shortage_refusal(void **state) {
	struct fixture f = {.loop = loop_new()};
	const char *error;
	char said[64] = "";
	int fd, clients[2];
	assert_int_equal(listener_open("127.0.0.1:0", 1, &fd, &error), 0);
	f.listener = listener_new(f.loop, fd, on_accept, &f);
	listener_set_refusal(f.listener, "421 4.3.2 busy\r\n");
	for (int i = 0; i < 2; i++)
		clients[i] = dial(fd);
	struct rlimit old = run_out_of_descriptors();
	log_set_sink(sink, NULL);
	turns_for(f.loop, 500 * MS); /* one attempt */
	assert_int_equal(f.count, 0);
	assert_int_equal(recv(clients[0], said, sizeof(said) - 1, MSG_DONTWAIT), 16);
	assert_string_equal(said, "421 4.3.2 busy\r\n");
	assert_int_equal(recv(clients[0], said, sizeof(said), MSG_DONTWAIT), 0);
	assert_int_equal(recv(clients[1], said, sizeof(said), MSG_DONTWAIT), -1);
	setrlimit(RLIMIT_NOFILE, &old);
	turns_for(f.loop, 1000 * MS);
	assert_int_equal(f.count, 1);
	log_set_sink(NULL, NULL);
	listener_free(f.listener);
	close(clients[0]);
	close(clients[1]);
	close(f.got[0]);
	close(fd);
	loop_free(f.loop);
}

static void print(void *arg, struct buf *out) {
	buf_append_str(out, arg);
}

struct http_row {
	const char *request, *status, *body; /* NULL body: any */
};

static const struct http_row http_rows[] = {
    {"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\n", "up 1\n"},
    {"GET /metrics?x=1 HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n", "up 1\n"},
    {"HEAD /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n", ""},
    {"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found\r\n", NULL},
    {"POST /metrics HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", "HTTP/1.1 405 Method Not Allowed\r\n", NULL},
    {"GET /metrics\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n", NULL},
    {"\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n", NULL},
    {"GET /metrics HTTP/2\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n", NULL},
};

static void test_metrics_http(void **state) {
	struct loop *loop = loop_new();
	int fd;
	const char *error;
	char got[4096];
	assert_int_equal(listener_open("127.0.0.1:0", 1, &fd, &error), 0);
	struct metrics_http *http = metrics_http_new(loop, fd, print, (char *)(uintptr_t) "up 1\n");
	for (size_t i = 0; i < array_len(http_rows); i++) {
		const struct http_row *row = &http_rows[i];
		for (int single = 0; single < 2; single++) {
			size_t len = strlen(row->request);
			int client = dial(fd);
			for (size_t at = 0; at < len; at += single ? 1 : len) {
				assert_true(send(client, row->request + at, single ? 1 : len, MSG_NOSIGNAL) > 0);
				if (single)
					turns_for(loop, 1 * MS);
			}
			turns_for(loop, 5 * MS);
			ssize_t n = recv(client, got, sizeof(got) - 1, MSG_DONTWAIT);
			assert_true(n > 0);
			got[n] = '\0';
			assert_int_equal(strncmp(got, row->status, strlen(row->status)), 0);
			const char *body = strstr(got, "\r\n\r\n");
			assert_non_null(body);
			if (row->body)
				assert_string_equal(body + 4, row->body);
			assert_int_equal(recv(client, got, sizeof(got), MSG_DONTWAIT), 0);
			close(client);
		}
	}
	/* A head without an end, a peer that leaves, and one that is there when we go. */
	memset(got, 'x', sizeof(got));
	int client = dial(fd), idle = dial(fd);
	for (int i = 0; i < 2; i++)
		assert_int_equal(send(client, got, sizeof(got), 0), sizeof(got));
	turns_for(loop, 10 * MS);
	assert_true(recv(client, got, sizeof(got), MSG_DONTWAIT) > 12);
	assert_memory_equal(got, "HTTP/1.1 431", 12);
	close(client);
	close(dial(fd));
	int many[20];
	for (int i = 0; i < 20; i++)
		many[i] = dial(fd);
	turns_for(loop, 10 * MS);
	close_all(many, 20);
	turns_for(loop, 10 * MS);
	client = dial(fd);
	assert_true(send(client, http_rows[0].request, strlen(http_rows[0].request), 0) > 0);
	turns_for(loop, 10 * MS);
	assert_true(recv(client, got, sizeof(got), MSG_DONTWAIT) > 12);
	close(client);
	metrics_http_free(http);
	loop_free(loop);
	close(idle);
}

/* In a process that was started with sockets: each address takes its own, once, and no others. */
static int inheritor(const int *fds, unsigned n, const char *inet, const char *path) {
	int got[FDS], status = 0;
	char port0[] = "127.0.0.1:0", other[64];
	snprintf(other, sizeof(other), "*%s", strrchr(inet, ':'));
	if (inherit_pass(fds, n, NULL, 0) != (int)(3 + n))
		return 1;
	inherit_init();
	if (getenv("LISTEN_FDS") || getenv("LISTEN_PID"))
		return 2;
	if (listener_take(other, got, FDS) != 0 || listener_take("[::1]:0", got, FDS) != 0 || listener_take("x", got, FDS) != 0)
		return 3;
	if (listener_take(inet, got, FDS) != 2 || listener_take(inet, got + 2, FDS) != 0)
		return 4;
	for (int i = 0; i < 2; i++)
		if (!(fcntl(got[i], F_GETFL) & O_NONBLOCK) || !(fcntl(got[i], F_GETFD) & FD_CLOEXEC))
			status = 5;
	if (listener_take(path, got, FDS) != 1)
		return 6;
	/* Two more are left: port 0 takes one port's, and the rest is closed. */
	if (listener_take(port0, got, FDS) != 1)
		return 7;
	inherit_close_rest();
	return fcntl((int)(3 + n) - 1, F_GETFD) < 0 && errno == EBADF ? status : 8;
}

static void test_inherit(void **state) {
	int fds[6], status;
	const char *error;
	char inet[64], path[64], address[96];
	assert_int_equal(listener_open("127.0.0.1:0", 2, fds, &error), 0);
	listener_name(fds[0], inet, sizeof(inet));
	snprintf(path, sizeof(path), "/tmp/test_inherit.%ld", (long)getpid());
	snprintf(address, sizeof(address), "unix:%s", path);
	assert_int_equal(listener_open(address, 1, fds + 2, &error), 0);
	assert_int_equal(listener_open("127.0.0.1:0", 1, fds + 3, &error), 0);
	fds[4] = socket(AF_INET, SOCK_STREAM, 0); /* does not listen */
	assert_int_equal(listener_open("127.0.0.1:0", 1, fds + 5, &error), 0);
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0)
		_exit(inheritor(fds, 6, inet, address));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	/* Meant for another process: nothing is taken. */
	setenv("LISTEN_FDS", "3", 1);
	setenv("LISTEN_PID", "1", 1);
	inherit_init();
	assert_int_equal(listener_take(inet, fds, 1), 0);
	assert_null(getenv("LISTEN_FDS"));
	close_all(fds, 6);
	unlink(path);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_inherit), cmocka_unit_test(test_faults),       cmocka_unit_test(test_set),    cmocka_unit_test(test_families),
	    cmocka_unit_test(test_unix),         cmocka_unit_test(test_accept), cmocka_unit_test(test_shortage),
	    cmocka_unit_test(test_shortage_refusal),
	    cmocka_unit_test(test_metrics_http),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
