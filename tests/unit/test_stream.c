/* stream: caps that hold against a flood, parking, half-close, deadlines, drained marks, and the last octets of a closing stream. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/loop.h"
#include "common/stream.h"
#include "tests/support/unit.h"

#include <arpa/inet.h>
#include <event2/buffer.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#define MIB (1024 * 1024)

struct peer {
	struct loop *loop;
	struct stream *stream;
	int fd;           /* the other end, non-blocking */
	unsigned seen[5]; /* events by kind */
	char trace[32];   /* their letters, RDETX */
	size_t cap, most; /* most: the longest input seen */
	size_t keep;      /* what the callback leaves unread; SIZE_MAX: all */
	int park_in;      /* READABLE: 1: park; 2: park and want again; 3: the same, taking an octet */
	int close_on;     /* event that closes; -1: none */
};

static void on_event(void *arg, enum stream_event event) {
	struct peer *p = arg;
	struct evbuffer *in = stream_input(p->stream);
	size_t n = evbuffer_get_length(in);
	size_t len = strlen(p->trace);
	p->seen[event]++;
	if (len + 1 < sizeof(p->trace)) {
		p->trace[len] = "RDETX"[event];
		p->trace[len + 1] = '\0';
	}
	p->most = max_of(p->most, n);
	assert_true(n <= p->cap);
	if (event == STREAM_READABLE) {
		if (p->keep != SIZE_MAX && n > p->keep)
			evbuffer_drain(in, n - p->keep);
		if (p->park_in == 3)
			evbuffer_drain(in, 1);
		if (p->park_in)
			stream_want_read(p->stream, false);
		if (p->park_in >= 2)
			stream_want_read(p->stream, true);
	}
	if (p->close_on == (int)event)
		p->stream = stream_close(p->stream);
}

static const struct stream_ops ops = {on_event};

static void peer_init(struct peer *p, size_t cap) {
	int fds[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	fcntl(fds[1], F_SETFL, O_NONBLOCK);
	*p = (struct peer){.loop = loop_new(), .fd = fds[1], .cap = cap, .keep = SIZE_MAX, .close_on = -1};
	p->stream = stream_new(p->loop, fds[0], cap, &ops, p);
	assert_int_equal(stream_fd(p->stream), fds[0]);
}

static void peer_fini(struct peer *p) {
	assert_null(stream_close(p->stream));
	if (p->fd >= 0)
		close(p->fd);
	loop_free(p->loop);
}

/* Runs the loop for about this long. */
static void spin(struct peer *p, int ms) {
	turns_for(p->loop, ms * 1000);
}

static size_t held(struct peer *p) {
	return evbuffer_get_length(stream_input(p->stream));
}

static void test_echo(void **state) {
	struct peer p;
	char got[16];
	peer_init(&p, 100);
	assert_int_equal(write(p.fd, "hello", 5), 5);
	spin(&p, 10);
	assert_string_equal(p.trace, ""); /* reading starts off */
	stream_want_read(p.stream, true);
	spin(&p, 10);
	assert_string_equal(p.trace, "R");
	assert_int_equal(held(&p), 5);
	evbuffer_add_buffer(stream_output(p.stream), stream_input(p.stream));
	assert_int_equal(stream_output_pending(p.stream), 5);
	evbuffer_add(stream_output(p.stream), "!", 1);
	loop_turn(p.loop);
	assert_int_equal(read(p.fd, got, sizeof(got)), 6);
	assert_memory_equal(got, "hello!", 6);
	assert_string_equal(p.trace, "RD");
	assert_int_equal(stream_error(p.stream), 0);
	peer_fini(&p);
}

/* Writes until the socket is full; returns how much went. */
static size_t flood(int fd, size_t most) {
	static char block[65536];
	size_t sent = 0;
	ssize_t n;
	while (sent < most && (n = write(fd, block, min_of(sizeof(block), most - sent))) > 0)
		sent += (size_t)n;
	return sent;
}

static void test_cap(void **state) {
	static const size_t caps[] = {1, 100, 4095, 4096, 4097, 10000, 65536, 70000, 200000};
	for (size_t i = 0; i < array_len(caps); i++) {
		struct peer p;
		size_t sent = 0, taken = 0, total = min_of(caps[i] * 20, (size_t)2 * MIB);
		peer_init(&p, caps[i]);
		stream_want_read(p.stream, true);
		/* Nothing is taken: exactly the cap must come in, and stay. */
		sent += flood(p.fd, total);
		spin(&p, 10);
		sent += flood(p.fd, total - sent);
		spin(&p, 10);
		assert_int_equal(held(&p), caps[i]);
		/* Taking goes on by itself. */
		for (int turns = 0; taken < total && turns < 3000; turns++) {
			size_t n = held(&p);
			assert_true(n <= caps[i]);
			taken += n;
			evbuffer_drain(stream_input(p.stream), n);
			sent += flood(p.fd, total - sent);
			if (taken < total)
				loop_turn(p.loop);
		}
		assert_int_equal(taken, total);
		assert_int_equal(p.most, caps[i]);
		peer_fini(&p);
	}
}

static void test_parking(void **state) {
	struct peer p;
	peer_init(&p, 100);
	stream_want_read(p.stream, true);
	stream_want_read(p.stream, false);
	assert_int_equal(write(p.fd, "abc", 3), 3);
	spin(&p, 5);
	assert_int_equal(write(p.fd, "def", 3), 3);
	spin(&p, 5);
	assert_string_equal(p.trace, "");
	stream_want_read(p.stream, true);
	assert_string_equal(p.trace, ""); /* never inside the call */
	spin(&p, 5);
	assert_int_equal(held(&p), 6);
	assert_true(p.seen[STREAM_READABLE] >= 1 && p.seen[STREAM_READABLE] <= 2);

	/* Left unread, parked, wanted: told again. Wanted all along: not. */
	p.trace[0] = '\0';
	stream_want_read(p.stream, true);
	spin(&p, 5);
	assert_string_equal(p.trace, "");
	stream_want_read(p.stream, false);
	stream_want_read(p.stream, true);
	spin(&p, 5);
	assert_string_equal(p.trace, "R");

	/* Wanted and parked again before the loop came round. */
	stream_want_read(p.stream, false);
	stream_want_read(p.stream, true);
	stream_want_read(p.stream, false);
	spin(&p, 5);
	assert_string_equal(p.trace, "R");
	peer_fini(&p);
}

/* What the callback itself does to its wish. */
static void test_parking_inside(void **state) {
	static const struct {
		int park_in;
		const char *want;
	} rows[] = {{0, "R"}, {1, "R"}, {2, "R"} /* no spinning over half a line */, {3, "RRR"} /* what is left is told */};
	for (size_t i = 0; i < array_len(rows); i++) {
		struct peer p;
		peer_init(&p, 100);
		p.park_in = rows[i].park_in;
		stream_want_read(p.stream, true);
		assert_int_equal(write(p.fd, "abc", 3), 3);
		spin(&p, 10);
		assert_string_equal(p.trace, rows[i].want);
		peer_fini(&p);
	}
}

static void test_half_close(void **state) {
	struct peer p;
	char got[8];
	peer_init(&p, 100);
	stream_want_read(p.stream, true);
	assert_int_equal(write(p.fd, "bye", 3), 3);
	shutdown(p.fd, SHUT_WR);
	spin(&p, 10);
	assert_string_equal(p.trace, "RE");
	evbuffer_add(stream_output(p.stream), "ok", 2);
	spin(&p, 10);
	assert_string_equal(p.trace, "RED");
	assert_int_equal(read(p.fd, got, sizeof(got)), 2);
	stream_want_read(p.stream, false);
	stream_want_read(p.stream, true);
	spin(&p, 10);
	assert_string_equal(p.trace, "REDR"); /* the end is told once */
	peer_fini(&p);
}

static void test_end_while_parked(void **state) {
	struct peer p;
	peer_init(&p, 100);
	stream_want_read(p.stream, true);
	stream_want_read(p.stream, false);
	shutdown(p.fd, SHUT_WR);
	spin(&p, 10);
	assert_string_equal(p.trace, "");
	stream_want_read(p.stream, true);
	spin(&p, 10);
	assert_string_equal(p.trace, "E");
	peer_fini(&p);

	peer_init(&p, 100);
	assert_int_equal(write(p.fd, "abc", 3), 3);
	shutdown(p.fd, SHUT_WR);
	spin(&p, 5);
	stream_want_read(p.stream, true);
	spin(&p, 10);
	assert_string_equal(p.trace, "RE");
	peer_fini(&p);
}

static void test_deadlines(void **state) {
	struct peer p;
	peer_init(&p, 100);
	stream_set_deadline(p.stream, 20000);
	spin(&p, 60);
	assert_string_equal(p.trace, "T");
	spin(&p, 60);
	assert_string_equal(p.trace, "T"); /* disarmed */
	stream_set_deadline(p.stream, 20000);
	stream_set_deadline(p.stream, 0);
	spin(&p, 50);
	assert_string_equal(p.trace, "T");
	stream_set_deadline(p.stream, 60000000);
	stream_set_deadline(p.stream, 20000); /* earlier */
	spin(&p, 60);
	assert_string_equal(p.trace, "TT");
	stream_set_deadline(p.stream, 20000);
	stream_set_deadline(p.stream, 100000); /* later */
	spin(&p, 50);
	assert_string_equal(p.trace, "TT");
	spin(&p, 90);
	assert_string_equal(p.trace, "TTT");
	/* Armed again while the timer of a disarmed one still runs. */
	stream_set_deadline(p.stream, 20000);
	stream_set_deadline(p.stream, 0);
	stream_set_deadline(p.stream, 40000);
	spin(&p, 25);
	assert_string_equal(p.trace, "TTT");
	spin(&p, 50);
	assert_string_equal(p.trace, "TTTT");
	peer_fini(&p);
}

static size_t slurp(int fd, size_t most) {
	static char block[65536];
	size_t got = 0;
	ssize_t n;
	while (got < most && (n = read(fd, block, min_of(sizeof(block), most - got))) > 0)
		got += (size_t)n;
	return got;
}

static void test_drained(void **state) {
	static char block[65536];
	struct peer p;
	size_t got = 0;
	peer_init(&p, 100);
	stream_set_output_low(p.stream, 200000);
	evbuffer_add(stream_output(p.stream), block, 1000);
	spin(&p, 5);
	assert_string_equal(p.trace, ""); /* was never above the mark */
	for (int i = 0; i < 32; i++)
		evbuffer_add(stream_output(p.stream), block, sizeof(block));
	while (stream_output_pending(p.stream) > 200000) {
		assert_string_equal(p.trace, "");
		spin(&p, 2);
		got += slurp(p.fd, 100000);
	}
	assert_string_equal(p.trace, "D");
	while (got < 1000 + 32 * sizeof(block)) {
		spin(&p, 2);
		got += slurp(p.fd, SIZE_MAX);
	}
	assert_int_equal(stream_output_pending(p.stream), 0);
	assert_string_equal(p.trace, "D");
	peer_fini(&p);
}

static void test_error(void **state) {
	struct peer p;
	peer_init(&p, 100);
	close(p.fd);
	p.fd = -1;
	evbuffer_add(stream_output(p.stream), "x", 1);
	assert_string_equal(p.trace, "");
	spin(&p, 10);
	assert_string_equal(p.trace, "X"); /* though parked */
	assert_int_equal(stream_error(p.stream), -EPIPE);
	stream_set_deadline(p.stream, 1000);
	stream_want_read(p.stream, true);
	evbuffer_add(stream_output(p.stream), "x", 1);
	spin(&p, 10);
	assert_string_equal(p.trace, "X");
	p.stream = stream_close_after_write(p.stream, 1000000);
	peer_fini(&p);
}

static void test_close_inside(void **state) {
	for (int event = 0; event < 5; event++) {
		struct peer p;
		peer_init(&p, 100);
		p.close_on = event;
		stream_want_read(p.stream, true);
		if (event == STREAM_DEADLINE)
			stream_set_deadline(p.stream, 1000);
		if (event == STREAM_READABLE || event == STREAM_EOF)
			assert_int_equal(write(p.fd, "abc", 3), 3);
		if (event == STREAM_DRAINED || event == STREAM_ERROR)
			evbuffer_add(stream_output(p.stream), "x", 1);
		if (event == STREAM_ERROR || event == STREAM_EOF) {
			close(p.fd);
			p.fd = -1;
		}
		spin(&p, 20);
		assert_null(p.stream);
		assert_int_equal(p.seen[event], 1);
		if (p.fd >= 0)
			assert_int_equal(slurp(p.fd, 10), event == STREAM_DRAINED ? 1 : 0);
		peer_fini(&p);
	}
}

/* A pair of TCP sockets: only there does closing with unread input cost the peer what it has not read. */
static void tcp_pair(int ret_fds[2]) {
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(in);
	int l = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(l, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(listen(l, 1), 0);
	assert_int_equal(getsockname(l, (struct sockaddr *)&in, &len), 0);
	ret_fds[1] = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(ret_fds[1], (struct sockaddr *)&in, sizeof(in)), 0);
	ret_fds[0] = accept(l, NULL, NULL);
	assert_true(ret_fds[0] >= 0);
	fcntl(ret_fds[1], F_SETFL, O_NONBLOCK);
	close(l);
}

static void test_last_octets(void **state) {
	static char block[65536];
	for (int large = 0; large < 2; large++) {
		struct peer p;
		int fds[2];
		size_t want = large ? 64 * sizeof(block) : 7, got = 0;
		tcp_pair(fds);
		p = (struct peer){.loop = loop_new(), .fd = fds[1], .cap = 1000, .keep = SIZE_MAX, .close_on = -1};
		p.stream = stream_new(p.loop, fds[0], 1000, &ops, &p);
		flood(p.fd, 300000);
		for (size_t n = 0; n < want; n += sizeof(block))
			evbuffer_add(stream_output(p.stream), block, min_of(want, sizeof(block)));
		assert_null(stream_close_after_write(p.stream, 500000));
		p.stream = NULL;
		flood(p.fd, 300000);
		for (int i = 0; i < 2000 && got < want; i++) {
			spin(&p, 1);
			flood(p.fd, 1000); /* it goes on talking */
			got += slurp(p.fd, 100000);
		}
		assert_int_equal(got, want);
		/* The end comes next, not a reset, and our end then lets go of the socket at once. */
		spin(&p, 5);
		assert_int_equal(read(p.fd, block, 1), 0);
		shutdown(p.fd, SHUT_WR);
		spin(&p, 20);
		assert_int_equal(fcntl(fds[0], F_GETFD), -1);
		assert_string_equal(p.trace, "");
		peer_fini(&p);
	}
}

static void await_closed(struct peer *p, int fd, size_t read_meanwhile) {
	for (int i = 0; i < 1000 && fcntl(fd, F_GETFD) >= 0; i++) {
		slurp(p->fd, read_meanwhile);
		spin(p, 10);
	}
	assert_int_equal(fcntl(fd, F_GETFD), -1);
}

static void test_linger_ends(void **state) {
	struct peer p;
	static char block[65536];
	/* The peer never closes. */
	peer_init(&p, 100);
	int fd = stream_fd(p.stream);
	evbuffer_add(stream_output(p.stream), "bye", 3);
	p.stream = stream_close_after_write(p.stream, 300000);
	spin(&p, 10);
	assert_int_equal(slurp(p.fd, 10), 3);
	assert_true(fcntl(fd, F_GETFD) >= 0);
	await_closed(&p, fd, 0);
	peer_fini(&p);
	/* The peer never reads. */
	peer_init(&p, 100);
	fd = stream_fd(p.stream);
	for (int i = 0; i < 32; i++)
		evbuffer_add(stream_output(p.stream), block, sizeof(block));
	p.stream = stream_close_after_write(p.stream, 30000);
	await_closed(&p, fd, 0);
	peer_fini(&p);
	/* The peer reads a little each time: the deadline ends it. */
	peer_init(&p, 100);
	fd = stream_fd(p.stream);
	for (int i = 0; i < 32; i++)
		evbuffer_add(stream_output(p.stream), block, sizeof(block));
	stream_set_deadline(p.stream, 1200000);
	p.stream = stream_close_after_write(p.stream, 400000);
	for (int i = 0; i < 15; i++) {
		slurp(p.fd, 40000);
		spin(&p, 30);
	}
	assert_true(fcntl(fd, F_GETFD) >= 0);
	await_closed(&p, fd, 10000);
	peer_fini(&p);
}

static void stop(void *arg) {
	struct peer *p = arg;
	evbuffer_add(stream_output(p->stream), "last", 4);
	p->stream = stream_close_after_write(p->stream, 10000000);
	loop_stop(p->loop);
}

/* What is said in the turn that stops the loop still goes out; a stream that lingers does not outlive the loop. */
static void test_stop(void **state) {
	struct peer p;
	struct deferred d = {0};
	peer_init(&p, 100);
	loop_defer(p.loop, &d, stop, &p);
	shutdown(p.fd, SHUT_WR);
	int64_t before = clock_mono_us_now();
	loop_run(p.loop);
	assert_true(clock_mono_us_now() - before < 1000000);
	assert_int_equal(slurp(p.fd, 10), 4);
	peer_fini(&p);

	peer_init(&p, 100);
	stop(&p);
	assert_int_equal(slurp(p.fd, 10), 4);
	peer_fini(&p);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_echo),        cmocka_unit_test(test_cap),
	    cmocka_unit_test(test_parking),     cmocka_unit_test(test_parking_inside),
	    cmocka_unit_test(test_half_close),  cmocka_unit_test(test_end_while_parked),
	    cmocka_unit_test(test_deadlines),   cmocka_unit_test(test_drained),
	    cmocka_unit_test(test_error),       cmocka_unit_test(test_close_inside),
	    cmocka_unit_test(test_last_octets), cmocka_unit_test(test_linger_ends),
	    cmocka_unit_test(test_stop),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
