/* The session's contract with the connection: what it consumes, wants, hands to the sink and counts. What it says to
 * whom is in tests/conversations. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include "smtpd/command.h"
#include "smtpd/session.h"

struct fixture {
	struct session_options options;
	struct session *s;
	struct buf body;
	unsigned starts, writes, drops, replies, last_code;
	int write_error;
};

static int body_start(void *arg) {
	struct fixture *f = arg;
	f->starts++;
	buf_reset(&f->body);
	return 0;
}

static int body_write(void *arg, const void *p, size_t n) {
	struct fixture *f = arg;
	f->writes++;
	return f->write_error ? f->write_error : buf_append(&f->body, p, n);
}

static void body_drop(void *arg) {
	struct fixture *f = arg;
	f->drops++;
}

static void on_reply(void *arg, enum reply_id id) {
	struct fixture *f = arg;
	f->replies++;
	f->last_code = reply_get(id)->code;
}

static int set_up(void **state) {
	static const struct session_ops ops = {.body_start = body_start, .body_write = body_write, .body_drop = body_drop};
	struct fixture *f = xcalloc(1, sizeof(*f));
	f->options = (struct session_options){.hostname = "mx.example.org", .size_max = 1 << 20, .recipients_max = 100};
	buf_init(&f->body, 2 << 20);
	f->s = session_new(&f->options, &ops, f);
	session_on_reply(f->s, on_reply, f);
	session_start(f->s);
	*state = f;
	return 0;
}

static int tear_down(void **state) {
	struct fixture *f = *state;
	session_free(f->s);
	buf_fini(&f->body);
	free(f);
	return 0;
}

static size_t feed(struct fixture *f, const char *text) {
	return session_input(f->s, text, strlen(text));
}

static void feed_all(struct fixture *f, const char *text) {
	assert_int_equal(feed(f, text), strlen(text));
}

static void said(struct fixture *f, const char *text) {
	struct buf *out = session_output(f->s);
	assert_string_equal(out->data ? out->data : "", text);
	buf_reset(out);
}

static void recipient_ok(struct fixture *f, uint8_t name) {
	const uint8_t tag[16] = {name};
	assert_int_equal(session_wants(f->s), SESSION_WANT_RECIPIENT);
	session_on_recipient(f->s, SESSION_RECIPIENT_OK, tag);
}

static void to_data(struct fixture *f) {
	feed_all(f, "EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<u@example.org>\r\n");
	recipient_ok(f, 1);
	feed_all(f, "DATA\r\n");
	buf_reset(session_output(f->s));
}

/* The session keeps no line: what is incomplete stays with the connection. */
static void test_incomplete_line(void **state) {
	struct fixture *f = *state;
	said(f, "220 mx.example.org ESMTP\r\n");
	assert_int_equal(feed(f, "NOO"), 0);
	assert_int_equal(feed(f, "NOOP\r"), 0);
	assert_int_equal(feed(f, "NOOP\r\nQUI"), 6);
	said(f, "250 2.0.0 Ok\r\n");
	assert_int_equal(session_wants(f->s), SESSION_WANT_INPUT);
	assert_int_equal(session_input(f->s, "", 0), 0);
}

static void test_stops_at_look_up(void **state) {
	struct fixture *f = *state;
	static const char group[] = "EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<U+x@Example.org>\r\n";
	static const char rest[] = "RCPT TO:<v@example.org>\r\nDATA\r\n";
	char both[200];
	stpcpy(stpcpy(both, group), rest);
	assert_int_equal(feed(f, both), strlen(group));
	assert_int_equal(session_wants(f->s), SESSION_WANT_RECIPIENT);
	assert_string_equal(session_recipient(f->s)->canonical, "u@example.org");
	assert_int_equal(session_transaction(f->s)->recipient_count, 0);
	assert_int_equal(feed(f, rest), 0);
	recipient_ok(f, 1);
	assert_int_equal(feed(f, rest), strlen("RCPT TO:<v@example.org>\r\n"));
	recipient_ok(f, 2);
	assert_int_equal(session_transaction(f->s)->recipient_count, 2);
	assert_int_equal(session_transaction(f->s)->tags[1][0], 2);
	assert_string_equal(session_transaction(f->s)->recipients[0].raw, "U+x@Example.org");
	assert_int_equal(session_counts(f->s)->recipients_accepted, 2);
}

static void test_stops_at_store(void **state) {
	struct fixture *f = *state;
	to_data(f);
	assert_true(session_receiving(f->s));
	assert_int_equal(feed(f, "x\r\n.\r\nMAIL FROM:<a@b>\r\n"), 6);
	assert_int_equal(session_wants(f->s), SESSION_WANT_STORE);
	assert_false(session_receiving(f->s));
	const struct session_transaction *tx = session_transaction(f->s);
	assert_int_equal(tx->size, 3);
	assert_int_equal(tx->recipient_count, 1);
	assert_string_equal(tx->mail_from.raw, "a@b.example");
	assert_int_equal(feed(f, "MAIL FROM:<a@b>\r\n"), 0);
	session_on_stored(f->s, SESSION_STORE_OK, "0190-1");
	said(f, "250 2.0.0 Ok: queued as 0190-1\r\n");
	assert_null(session_transaction(f->s));
	assert_int_equal(session_wants(f->s), SESSION_WANT_INPUT);
	assert_int_equal(f->drops, 0);
	assert_int_equal(session_counts(f->s)->messages, 1);
	assert_int_equal(session_counts(f->s)->last_code, 250);
}

/* A large body reaches the sink as it came: one write a segment. */
static void test_large_runs(void **state) {
	struct fixture *f = *state;
	static char text[78 * 1000];
	for (size_t i = 0; i < sizeof(text); i += 78) {
		memset(text + i, 'x', 76);
		memcpy(text + i + 76, "\r\n", 2);
	}
	to_data(f);
	assert_int_equal(session_input(f->s, text, sizeof(text)), sizeof(text));
	assert_int_equal(f->writes, 1);
	assert_int_equal(session_input(f->s, text, sizeof(text)), sizeof(text));
	assert_int_equal(f->writes, 2);
	feed_all(f, ".\r\n");
	assert_int_equal(f->body.len, 2 * sizeof(text));
}

/* Dots cost the sink nothing: it is not called for each line. */
static void test_short_runs(void **state) {
	struct fixture *f = *state;
	enum { LINES = 20000 };
	char *lines = xmalloc(LINES * 4 + 4), *want = xmalloc(LINES * 3);
	to_data(f);
	for (unsigned i = 0; i < LINES; i++) {
		memcpy(lines + 4 * i, "..\r\n", 4);
		memcpy(want + 3 * i, ".\r\n", 3);
	}
	memcpy(lines + LINES * 4, ".\r\n", 4);
	feed_all(f, lines);
	assert_int_equal(session_wants(f->s), SESSION_WANT_STORE);
	assert_int_equal(f->body.len, LINES * 3);
	assert_memory_equal(f->body.data, want, LINES * 3);
	assert_int_equal(session_transaction(f->s)->size, LINES * 3);
	assert_in_range(f->writes, 1, LINES * 3 / 4000 + 1);
	free(lines);
	free(want);
}

static void test_sink_errors(void **state) {
	struct fixture *f = *state;
	to_data(f);
	f->write_error = -EIO;
	feed_all(f, "a\r\n");
	feed_all(f, "b\r\n");
	assert_int_equal(f->writes, 1);
	assert_int_equal(f->drops, 1);
	feed_all(f, ".\r\n");
	said(f, "451 4.3.0 Temporary failure, try again later\r\n");
	assert_int_equal(session_wants(f->s), SESSION_WANT_INPUT);
	assert_int_equal(f->drops, 1);
}

/* Replies are flushed when no complete command waits (RFC 2920 3.2). */
static void test_flush(void **state) {
	struct fixture *f = *state;
	assert_true(session_should_flush(f->s, NULL, 0));
	assert_true(session_should_flush(f->s, "NOO", 3));
	assert_false(session_should_flush(f->s, "NOOP\r\n", 6));
	feed_all(f, "EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<u@example.org>\r\n");
	assert_false(session_should_flush(f->s, "DATA\r\n", 6));
	assert_true(session_should_flush(f->s, NULL, 0));
	recipient_ok(f, 1);
	feed_all(f, "DATA\r\n");
	assert_true(session_should_flush(f->s, "x\r\n", 3));
}

/* Above the mark no command is consumed, and the output never reaches its ceiling. */
static void test_output_mark(void **state) {
	struct fixture *f = *state;
	static char noops[6 * 4000];
	for (size_t i = 0; i < sizeof(noops); i += 6)
		memcpy(noops + i, "NOOP\r\n", 6);
	size_t used = session_input(f->s, noops, sizeof(noops));
	assert_true(used > 0 && used < sizeof(noops) && used % 6 == 0);
	assert_true(session_output(f->s)->len > SESSION_OUTPUT_MARK);
	assert_true(session_output(f->s)->len < SESSION_OUTPUT_MARK + 512);
	assert_int_equal(session_wants(f->s), SESSION_WANT_INPUT);
	assert_true(session_should_flush(f->s, noops, 6));
	assert_int_equal(session_input(f->s, noops, 6), 0);
	buf_reset(session_output(f->s));
	assert_int_equal(session_input(f->s, noops, 6), 6);
}

static void test_long_line(void **state) {
	struct fixture *f = *state;
	static char line[COMMAND_LINE_MAX + 10];
	memset(line, 'N', sizeof(line));
	assert_int_equal(session_input(f->s, line, COMMAND_LINE_MAX - 1), 0);
	assert_int_equal(session_input(f->s, line, COMMAND_LINE_MAX), COMMAND_LINE_MAX);
	assert_int_equal(session_wants(f->s), SESSION_WANT_INPUT);
	assert_int_equal(session_input(f->s, line, 10), 10);
	feed_all(f, "x\nQUIT\r\n");
	assert_int_equal(session_wants(f->s), SESSION_WANT_CLOSE);
	said(f, "220 mx.example.org ESMTP\r\n500 5.5.2 Line too long, closing\r\n");
}

/* Every reply is reported once, a multi-line one too. */
static void test_reports(void **state) {
	struct fixture *f = *state;
	assert_int_equal(f->replies, 1);
	assert_int_equal(f->last_code, 220);
	feed_all(f, "EHLO c.example\r\n");
	assert_int_equal(f->replies, 2);
	feed_all(f, "XYZZY\r\n");
	assert_int_equal(f->replies, 3);
	assert_int_equal(f->last_code, 500);
	assert_int_equal(session_counts(f->s)->errors, 1);
	assert_int_equal(session_counts(f->s)->commands, 2);
	assert_true(session_esmtp(f->s));
	assert_string_equal(session_helo(f->s), "c.example");
	assert_null(session_tls(f->s));
}

/* A session that ends with octets in the sink tells it so; one that has handed them over does not. */
static void test_lost_in_data(void **state) {
	struct fixture *f = *state;
	to_data(f);
	feed_all(f, "half\r\n");
	f->s = session_free(f->s);
	assert_int_equal(f->drops, 1);
}

static void test_lost_in_store(void **state) {
	struct fixture *f = *state;
	to_data(f);
	feed_all(f, ".\r\n");
	f->s = session_free(f->s);
	assert_int_equal(f->drops, 0);
}

/* An answer that comes after the end is ignored. */
static void test_late_answers(void **state) {
	struct fixture *f = *state;
	to_data(f);
	feed_all(f, ".\r\n");
	session_abort(f->s, SESSION_ABORT_OVERLOAD);
	said(f, "421 4.3.2 mx.example.org too busy, try again later\r\n");
	session_on_stored(f->s, SESSION_STORE_OK, "0190-1");
	session_on_recipient(f->s, SESSION_RECIPIENT_UNKNOWN, NULL);
	session_on_tls(f->s, NULL);
	session_abort(f->s, SESSION_ABORT_IDLE);
	session_start(f->s);
	said(f, "");
	assert_int_equal(session_wants(f->s), SESSION_WANT_CLOSE);
	feed_all(f, "QUIT\r\n");
	said(f, "");
}

static void test_tls(void **state) {
	struct fixture *f = *state;
	f->options.starttls = true;
	feed_all(f, "EHLO c.example\r\nSTARTTLS\r\n");
	assert_int_equal(session_wants(f->s), SESSION_WANT_TLS);
	assert_int_equal(feed(f, "EHLO d\r\n"), 0);
	session_on_tls(f->s, "TLSv1.3 X");
	assert_string_equal(session_tls(f->s), "TLSv1.3 X");
	assert_string_equal(session_helo(f->s), "");
	assert_false(session_esmtp(f->s));
	assert_int_equal(session_wants(f->s), SESSION_WANT_INPUT);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_incomplete_line, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_stops_at_look_up, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_stops_at_store, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_large_runs, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_short_runs, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_sink_errors, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_flush, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_output_mark, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_long_line, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_reports, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_lost_in_data, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_lost_in_store, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_late_answers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_tls, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
