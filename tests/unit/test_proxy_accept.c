/* proxy_accept: the header and not an octet more, however it arrives; what is refused closes the socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/loop.h"
#include "common/proxy_accept.h"
#include "tests/support/unit.h"

#include <sys/socket.h>
#include <unistd.h>

#define MS 1000

struct fixture {
	struct loop *loop;
	struct proxy_accept *accept;
	int client, fd;              /* fd: what `done` handed over */
	unsigned calls;
	char name[NETADDR_TEXT_SIZE], local[NETADDR_TEXT_SIZE];
	const char *fault;
};

static void on_done(void *arg, int fd, const struct proxy_client *client, const char *fault) {
	struct fixture *f = arg;
	f->calls++;
	f->fd = fd;
	f->fault = fault;
	if (!fault) {
		netaddr_format(&client->address, f->name);
		netaddr_format(&client->local, f->local);
	}
}

static void open_fixture(struct fixture *f) {
	struct netaddr peer;
	int fds[2];
	*f = (struct fixture){.fd = -1, .loop = loop_new()};
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	netaddr_parse("10.0.0.9", 8, &peer);
	f->client = fds[1];
	f->accept = proxy_accept_start(f->loop, fds[0], &peer, on_done, f);
}

static void close_fixture(struct fixture *f) {
	if (f->fd >= 0)
		close(f->fd);
	close(f->client);
	loop_free(f->loop);
}

static void say(struct fixture *f, const char *octets, size_t n) {
	assert_int_equal(write(f->client, octets, n), n);
	turns_for(f->loop, 5 * MS);
}

static void test_takes_the_header_only(void **state) {
	struct fixture f;
	char rest[64];
	open_fixture(&f);
	say(&f, "PROXY TCP4 192.0.2.1 10.0.0.1 5000 25\r\nEHLO x\r\n", 47);
	assert_int_equal(f.calls, 1);
	assert_null(f.fault);
	assert_string_equal(f.name, "192.0.2.1");
	assert_string_equal(f.local, "10.0.0.1");
	assert_int_equal(read(f.fd, rest, sizeof(rest)), 8);
	assert_memory_equal(rest, "EHLO x\r\n", 8);
	close_fixture(&f);
}

static void test_in_pieces(void **state) {
	struct fixture f;
	char rest[64];
	open_fixture(&f);
	for (const char *p = "PROXY TCP6 2001:db8::1 ::1 5000 25\r"; *p; p++) {
		assert_int_equal(f.calls, 0);
		say(&f, p, 1);
	}
	say(&f, "\n\x16\x03", 3);
	assert_string_equal(f.name, "2001:db8::1");
	assert_int_equal(read(f.fd, rest, sizeof(rest)), 2);
	close_fixture(&f);
}

static void test_local_is_the_peer(void **state) {
	struct fixture f;
	open_fixture(&f);
	say(&f, "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", 16);
	assert_string_equal(f.name, "10.0.0.9");
	assert_string_equal(f.local, "");
	close_fixture(&f);
}

static bool hung_up(int fd) {
	char octet;
	return recv(fd, &octet, 1, MSG_DONTWAIT) == 0 || errno == ECONNRESET;
}

static void test_refusals(void **state) {
	static const struct {
		const char *octets, *fault;
	} rows[] = {
	    {"EHLO x\r\n", "not a PROXY header"},
	    {"PROXY UNKNOWN\r\n", "the PROXY header does not say who the client is"},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		struct fixture f;
		open_fixture(&f);
		say(&f, rows[i].octets, strlen(rows[i].octets));
		assert_int_equal(f.calls, 1);
		assert_string_equal(f.fault, rows[i].fault);
		assert_true(hung_up(f.client));
		close_fixture(&f);
	}
}

static void test_closed_early(void **state) {
	struct fixture f;
	open_fixture(&f);
	say(&f, "PROXY TC", 8);
	shutdown(f.client, SHUT_WR);
	turns_for(f.loop, 5 * MS);
	assert_string_equal(f.fault, "closed before the PROXY header was whole");
	close_fixture(&f);
}

static void test_cancel(void **state) {
	struct fixture f;
	open_fixture(&f);
	say(&f, "PROXY TC", 8);
	f.accept = proxy_accept_cancel(f.accept);
	turns_for(f.loop, 5 * MS);
	assert_int_equal(f.calls, 0);
	assert_true(hung_up(f.client));
	close_fixture(&f);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_takes_the_header_only), cmocka_unit_test(test_in_pieces),    cmocka_unit_test(test_local_is_the_peer),
	    cmocka_unit_test(test_refusals),              cmocka_unit_test(test_closed_early), cmocka_unit_test(test_cancel),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
