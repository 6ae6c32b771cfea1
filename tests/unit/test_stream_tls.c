/* stream under TLS: whole and octet by octet, the cap, parking, half-close, what is not TLS, and the last reply of a closing stream. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/loop.h"
#include "common/stream.h"

#include "tls_test.h"

#include <event2/buffer.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

struct fixture {
	struct tls_set *set;
	struct loop *loop;
	struct stream *stream;
	struct client client;
	int fd;         /* the client's end, non-blocking */
	size_t step;    /* octets given to the wire at a time */
	struct timer tick;
	bool deaf;      /* the client's end is not read */
	unsigned seen[7];
	size_t cap, most;
	bool hold;      /* READABLE takes nothing */
	char got[512];
	size_t got_len, total;
};

static void on_event(void *arg, enum stream_event event) {
	struct fixture *f = arg;
	struct evbuffer *in = stream_input(f->stream);
	size_t n = evbuffer_get_length(in);
	f->seen[event]++;
	f->most = max_of(f->most, n);
	assert_true(n <= f->cap);
	if (event != STREAM_READABLE || f->hold)
		return;
	f->got_len += evbuffer_copyout(in, f->got + f->got_len, min_of(n, sizeof(f->got) - f->got_len));
	f->total += n;
	evbuffer_drain(in, n);
}

static const struct stream_ops ops = {on_event};

static void on_tick(void *arg) {
}

static void begin(struct fixture *f, size_t cap, int version, size_t step) {
	int fds[2];
	clock_update();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	fcntl(fds[1], F_SETFL, O_NONBLOCK);
	*f = (struct fixture){.loop = loop_new(), .fd = fds[1], .cap = cap, .step = step};
	timer_init(&f->tick, f->loop, on_tick, NULL);
	f->set = make_set(NULL);
	f->stream = stream_new(f->loop, fds[0], cap, &ops, f);
	client_init(&f->client, version, "MX.example.org");
}

static void end(struct fixture *f) {
	stream_close(f->stream);
	timer_fini(&f->tick);
	client_fini(&f->client);
	if (f->fd >= 0)
		close(f->fd);
	loop_free(f->loop);
	tls_set_unref(f->set);
}

/* What the client has encrypted goes to the wire, what the wire brings to the client; one turn. */
static void turn(struct fixture *f) {
	char block[65536];
	int n = BIO_ctrl_pending(f->client.out) > 0 ? BIO_read(f->client.out, block, (int)min_of(f->step, sizeof(block))) : 0;
	for (int sent = 0; sent < n;) {
		ssize_t k = write(f->fd, block + sent, (size_t)(n - sent));
		assert_true(k > 0 || errno == EAGAIN);
		sent += k > 0 ? (int)k : 0;
		if (k <= 0)
			loop_turn(f->loop);
	}
	timer_arm(&f->tick, 1000); /* so that the turn cannot wait for ever */
	loop_turn(f->loop);
	ssize_t k = f->deaf ? 0 : read(f->fd, block, sizeof(block));
	if (k > 0)
		BIO_write(f->client.in, block, (int)k);
}

static void shake(struct fixture *f) {
	assert_int_equal(stream_start_tls(f->stream, f->set), 0);
	for (int i = 0; i < 5000; i++) {
		int r = SSL_do_handshake(f->client.ssl);
		if (r == 1 && f->seen[STREAM_TLS] && BIO_ctrl_pending(f->client.out) == 0)
			return;
		assert_true(r == 1 || SSL_get_error(f->client.ssl, r) == SSL_ERROR_WANT_READ);
		turn(f);
	}
	fail_msg("no handshake");
}

static void turns(struct fixture *f, unsigned n) {
	while (n-- > 0)
		turn(f);
}

static void say(struct fixture *f, const void *p, size_t n) {
	assert_int_equal(SSL_write(f->client.ssl, p, (int)n), (int)n);
}

/* What the client has decrypted by now. */
static size_t hear(struct fixture *f, char *p, size_t n) {
	size_t got = 0;
	int r;
	while (got < n && (r = SSL_read(f->client.ssl, p + got, (int)(n - got))) > 0)
		got += (size_t)r;
	return got;
}

static void test_echo(void **state) {
	static const struct {
		int version;
		size_t step;
		const char *name;
	} rows[] = {{TLS1_3_VERSION, 65536, "TLSv1.3"}, {TLS1_3_VERSION, 1, "TLSv1.3"}, {TLS1_2_VERSION, 65536, "TLSv1.2"}, {TLS1_2_VERSION, 1, "TLSv1.2"}};
	for (size_t i = 0; i < array_len(rows); i++) {
		struct fixture f;
		char got[32];
		begin(&f, 4096, rows[i].version, rows[i].step);
		assert_null(stream_tls(f.stream));
		shake(&f);
		const struct tls_info *info = stream_tls(f.stream);
		assert_string_equal(info->version, rows[i].name);
		assert_string_equal(info->sni, "mx.example.org");
		assert_non_null(info->cipher);
		assert_false(info->resumed);
		assert_int_equal(f.seen[STREAM_READABLE], 0);
		stream_want_read(f.stream, true);
		say(&f, "EHLO c\r\n", 8);
		for (int n = 0; n < 500 && f.got_len < 8; n++)
			turn(&f);
		assert_int_equal(f.got_len, 8);
		assert_memory_equal(f.got, "EHLO c\r\n", 8);
		evbuffer_add(stream_output(f.stream), "250-a\r\n", 7);
		evbuffer_add(stream_output(f.stream), "250 b\r\n", 7);
		assert_int_equal(stream_output_pending(f.stream), 14);
		turns(&f, 3);
		assert_int_equal(hear(&f, got, sizeof(got)), 14);
		assert_memory_equal(got, "250-a\r\n250 b\r\n", 14);
		assert_int_equal(stream_output_pending(f.stream), 0);
		assert_int_equal(f.seen[STREAM_DRAINED], 1);
		end(&f);
	}
}

/* What came right behind the handshake is there when reading is wanted, though the wire brings nothing more. */
static void test_data_with_handshake(void **state) {
	struct fixture f;
	begin(&f, 4096, 0, 65536);
	assert_int_equal(stream_start_tls(f.stream, f.set), 0);
	while (SSL_do_handshake(f.client.ssl) != 1)
		turn(&f);
	say(&f, "EHLO c\r\n", 8); /* in one segment with Finished */
	turns(&f, 5);
	assert_int_equal(f.seen[STREAM_TLS], 1);
	assert_int_equal(f.total, 0);
	assert_true(stream_input_waits(f.stream));
	stream_want_read(f.stream, true);
	turns(&f, 3);
	assert_int_equal(f.total, 8);
	end(&f);
}

static void test_cap(void **state) {
	static const size_t caps[] = {1, 100, 16384, 65536};
	static char block[200000];
	for (size_t i = 0; i < array_len(caps); i++) {
		struct fixture f;
		size_t total = min_of(caps[i] * 20, sizeof(block)), taken = 0;
		begin(&f, caps[i], 0, 65536);
		shake(&f);
		f.hold = true;
		stream_want_read(f.stream, true);
		say(&f, block, total);
		turns(&f, 20);
		assert_int_equal(evbuffer_get_length(stream_input(f.stream)), caps[i]);
		/* Taking goes on by itself, outside callbacks as well as inside. */
		for (int n = 0; taken < total && n < 5000; n++) {
			size_t held = evbuffer_get_length(stream_input(f.stream));
			taken += held;
			evbuffer_drain(stream_input(f.stream), held);
			turn(&f);
		}
		assert_int_equal(taken, total);
		assert_true(f.most <= caps[i]);
		end(&f);
	}
}

static void test_parked(void **state) {
	struct fixture f;
	begin(&f, 4096, 0, 65536);
	shake(&f);
	stream_want_read(f.stream, true);
	turns(&f, 2);
	stream_want_read(f.stream, false);
	say(&f, "one", 3);
	turns(&f, 3);
	say(&f, "two", 3);
	SSL_shutdown(f.client.ssl);
	turns(&f, 3);
	assert_int_equal(f.total, 0);
	assert_int_equal(f.seen[STREAM_EOF], 0);
	stream_want_read(f.stream, true);
	turns(&f, 5);
	assert_int_equal(f.total, 6);
	assert_int_equal(f.seen[STREAM_EOF], 1);
	end(&f);
}

/* After close_notify, and after an end without it, there is an end of input, and output still works. */
static void test_half_close(void **state) {
	for (int notify = 0; notify < 2; notify++) {
		struct fixture f;
		char got[16];
		begin(&f, 4096, 0, 65536);
		shake(&f);
		stream_want_read(f.stream, true);
		say(&f, "QUIT\r\n", 6);
		if (notify)
			SSL_shutdown(f.client.ssl);
		turns(&f, 2);
		if (!notify)
			shutdown(f.fd, SHUT_WR);
		turns(&f, 3);
		assert_int_equal(f.total, 6);
		assert_int_equal(f.seen[STREAM_EOF], 1);
		evbuffer_add(stream_output(f.stream), "221 2", 5);
		turns(&f, 3);
		assert_int_equal(hear(&f, got, sizeof(got)), 5);
		assert_int_equal(f.seen[STREAM_ERROR], 0);
		end(&f);
	}
}

/* What left before the handshake is in front of it and clear; what was added during it is inside. */
static void test_output_order(void **state) {
	struct fixture f;
	char got[16];
	begin(&f, 4096, 0, 65536);
	evbuffer_add(stream_output(f.stream), "220 go\r\n", 8);
	assert_int_equal(stream_start_tls(f.stream, f.set), 0);
	evbuffer_add(stream_output(f.stream), "inside", 6);
	f.deaf = true;
	turns(&f, 3);
	assert_int_equal(read(f.fd, got, sizeof(got)), 8);
	assert_memory_equal(got, "220 go\r\n", 8);
	f.deaf = false;
	while (SSL_do_handshake(f.client.ssl) != 1)
		turn(&f);
	turns(&f, 5);
	assert_int_equal(hear(&f, got, sizeof(got)), 6);
	assert_memory_equal(got, "inside", 6);
	end(&f);
}

/* Nobody's clear octets get inside (CVE-2011-0411). */
static void test_injection(void **state) {
	struct fixture f;
	begin(&f, 4096, 0, 65536);
	f.hold = true;
	stream_want_read(f.stream, true);
	assert_int_equal(write(f.fd, "RSET\r\n", 6), 6);
	turns(&f, 2);
	assert_int_equal(stream_start_tls(f.stream, f.set), -EPROTO);
	assert_null(stream_tls(f.stream));
	end(&f);
}

static void test_not_tls(void **state) {
	static const char *const rows[] = {"RSET\r\n", "GET / HTTP/1.0\r\n\r\n", "\x16\x03\x01\x00\x05\x01\x00\x00\x01\xff", "\0\0\0\0\0\0"};
	static const size_t lengths[] = {6, 18, 10, 6};
	for (size_t i = 0; i < array_len(rows); i++) {
		struct fixture f;
		char got[64];
		begin(&f, 4096, 0, 65536);
		f.deaf = true;
		assert_int_equal(stream_start_tls(f.stream, f.set), 0);
		evbuffer_add(stream_output(f.stream), "secret", 6);
		assert_int_equal(write(f.fd, rows[i], lengths[i]), (ssize_t)lengths[i]);
		turns(&f, 3);
		assert_int_equal(f.seen[STREAM_TLS_FAILED], 1);
		assert_int_equal(f.seen[STREAM_TLS] + f.seen[STREAM_READABLE], 0);
		assert_non_null(stream_tls_error(f.stream));
		f.stream = stream_close_after_write(f.stream, 1000000);
		turns(&f, 3);
		ssize_t n = read(f.fd, got, sizeof(got));
		assert_true(n == 0 || got[0] == 0x15); /* an alert, or nothing; never what was to be inside */
		assert_true(n <= 7);
		end(&f);
	}
}

static void test_old_version(void **state) {
	struct fixture f;
	begin(&f, 4096, TLS1_1_VERSION, 65536);
	assert_int_equal(stream_start_tls(f.stream, f.set), 0);
	SSL_do_handshake(f.client.ssl);
	turns(&f, 5);
	assert_int_equal(f.seen[STREAM_TLS_FAILED], 1);
	assert_string_equal(stream_tls_error(f.stream), "unsupported protocol");
	f.stream = stream_close_after_write(f.stream, 1000000);
	turns(&f, 5);
	assert_int_equal(SSL_do_handshake(f.client.ssl), -1); /* the alert came */
	assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_TLSV1_ALERT_PROTOCOL_VERSION);
	ERR_clear_error();
	end(&f);
}

static void test_peer_leaves(void **state) {
	struct fixture f;
	begin(&f, 4096, 0, 10);
	assert_int_equal(stream_start_tls(f.stream, f.set), 0);
	SSL_do_handshake(f.client.ssl);
	turns(&f, 3);
	BIO_reset(f.client.out);
	shutdown(f.fd, SHUT_WR);
	turns(&f, 3);
	assert_int_equal(f.seen[STREAM_TLS_FAILED], 1);
	assert_string_equal(stream_tls_error(f.stream), "connection ended");
	end(&f);
}

static void test_deadline(void **state) {
	struct fixture f;
	begin(&f, 4096, 0, 65536);
	assert_int_equal(stream_start_tls(f.stream, f.set), 0);
	stream_set_deadline(f.stream, 20000);
	for (int i = 0; i < 2000 && !f.seen[STREAM_DEADLINE]; i++)
		turn(&f);
	assert_int_equal(f.seen[STREAM_DEADLINE], 1);
	f.stream = stream_close_after_write(f.stream, 1000);
	turns(&f, 3);
	char got[8];
	assert_int_equal(read(f.fd, got, sizeof(got)), 0); /* not one octet in clear */
	end(&f);
}

/* A record that was tampered with ends the connection. */
static void test_tampered(void **state) {
	struct fixture f;
	char record[128];
	begin(&f, 4096, 0, 65536);
	shake(&f);
	stream_want_read(f.stream, true);
	say(&f, "MAIL", 4);
	int n = BIO_read(f.client.out, record, sizeof(record));
	record[n - 1] ^= 1;
	assert_int_equal(write(f.fd, record, (size_t)n), n);
	turns(&f, 3);
	assert_int_equal(f.seen[STREAM_ERROR], 1);
	assert_int_equal(stream_error(f.stream), -EPROTO);
	assert_int_equal(f.total, 0);
	end(&f);
}

/* The last reply arrives whole, then close_notify, whatever is in the way. */
static void test_last_reply(void **state) {
	enum { LENGTH = 3000000 };
	struct fixture f;
	char *block = xcalloc(1, LENGTH);
	size_t got = 0;
	begin(&f, 4096, 0, 65536);
	shake(&f);
	evbuffer_add(stream_output(f.stream), block, LENGTH);
	say(&f, "unread", 6);
	f.stream = stream_close_after_write(f.stream, 5000000);
	for (int i = 0; i < 5000 && got < LENGTH; i++) {
		turn(&f);
		got += hear(&f, block, LENGTH);
	}
	assert_int_equal(got, LENGTH);
	turns(&f, 3);
	int r = SSL_read(f.client.ssl, block, 1);
	assert_int_equal(SSL_get_error(f.client.ssl, r), SSL_ERROR_ZERO_RETURN);
	free(block);
	end(&f);
}

/* Every KeyUpdate may ask for one in return: a peer that never reads must not make us hold them without end. */
static void test_key_updates(void **state) {
	struct fixture f;
	begin(&f, 4096, TLS1_3_VERSION, 65536);
	shake(&f);
	stream_want_read(f.stream, true);
	f.deaf = true;
	size_t taken = 0;
	for (int i = 0; i < 100000; i++) {
		char record[256];
		assert_int_equal(SSL_key_update(f.client.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
		SSL_do_handshake(f.client.ssl);
		int n = BIO_read(f.client.out, record, sizeof(record));
		assert_true(n > 0);
		ssize_t k = write(f.fd, record, (size_t)n);
		if (k < n) { /* the wire is full: we have stopped reading */
			assert_true(i > 1000);
			break;
		}
		taken += (size_t)k;
		if (i % 100 == 0)
			turn(&f);
	}
	assert_true(taken < 20 * 1024 * 1024);
	turns(&f, 5);
	assert_true(stream_output_pending(f.stream) <= 64 * 1024 + 1024);
	end(&f);
}

/* To the kernel and no further. */
static void post(struct fixture *f) {
	char block[65536];
	int n = BIO_read(f->client.out, block, sizeof(block));
	assert_true(n > 0);
	assert_int_equal(write(f->fd, block, (size_t)n), n);
}

/* What the kernel has is seen, wanted or not, and is there afterwards all the same. */
static void test_input_waits(void **state) {
	for (int wanted = 0; wanted < 2; wanted++) {
		struct fixture f;
		begin(&f, 4096, TLS1_3_VERSION, 65536);
		assert_false(stream_input_waits(f.stream));
		assert_int_equal(write(f.fd, "x", 1), 1);
		assert_true(stream_input_waits(f.stream));
		stream_want_read(f.stream, true);
		turns(&f, 2);
		assert_int_equal(f.total, 1);
		shake(&f);
		stream_want_read(f.stream, wanted);
		assert_false(stream_input_waits(f.stream));
		assert_int_equal(SSL_key_update(f.client.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
		SSL_do_handshake(f.client.ssl);
		post(&f);
		assert_false(stream_input_waits(f.stream));
		say(&f, "DATA\r\n", 6);
		say(&f, "body", 4);
		post(&f);
		assert_true(stream_input_waits(f.stream));
		assert_true(stream_input_waits(f.stream));
		assert_int_equal(evbuffer_get_length(stream_input(f.stream)), 0);
		stream_want_read(f.stream, true);
		turns(&f, 3);
		assert_int_equal(f.total, 11);
		assert_false(stream_input_waits(f.stream));
		end(&f);
	}
}

/* An end or a breach that is met there is told as if it had been read. */
static void test_input_waits_no_more(void **state) {
	for (int breach = 0; breach < 2; breach++) {
		struct fixture f;
		begin(&f, 4096, TLS1_3_VERSION, 65536);
		shake(&f);
		stream_want_read(f.stream, true);
		turns(&f, 2);
		if (breach) {
			assert_int_equal(write(f.fd, "\x17\x03\x03\x00\x14RSET\r\nRSET\r\nRSET\r\nQU", 25), 25);
		} else {
			SSL_shutdown(f.client.ssl);
			post(&f);
		}
		assert_false(stream_input_waits(f.stream));
		turns(&f, 3);
		assert_int_equal(f.seen[breach ? STREAM_ERROR : STREAM_EOF], 1);
		assert_int_equal(f.total, 0);
		end(&f);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_echo),        cmocka_unit_test(test_data_with_handshake), cmocka_unit_test(test_cap),
		cmocka_unit_test(test_parked),      cmocka_unit_test(test_half_close),          cmocka_unit_test(test_output_order),
		cmocka_unit_test(test_injection),   cmocka_unit_test(test_not_tls),             cmocka_unit_test(test_old_version),
		cmocka_unit_test(test_peer_leaves), cmocka_unit_test(test_deadline),            cmocka_unit_test(test_tampered),
		cmocka_unit_test(test_last_reply),  cmocka_unit_test(test_key_updates),         cmocka_unit_test(test_input_waits),
		cmocka_unit_test(test_input_waits_no_more),
	};
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
