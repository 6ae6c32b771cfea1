/* The catalogue: codes are pinned here once more, since senders act on them. Shape: RFC 5321 4.2, RFC 2034 4, RFC
 * 3463 2. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include "smtpd/reply.h"

#include <stdio.h>

static const struct {
	enum reply_id id;
	unsigned code;
	const char *enhanced;
} rows[] = {
	{REPLY_GREETING, 220, NULL},
	{REPLY_HELO, 250, NULL},
	{REPLY_BYE, 221, "2.0.0"},
	{REPLY_MAIL_OK, 250, "2.1.0"},
	{REPLY_RCPT_OK, 250, "2.1.5"},
	{REPLY_OK, 250, "2.0.0"},
	{REPLY_CANNOT_VERIFY, 252, "2.0.0"},
	{REPLY_HELP, 214, "2.0.0"},
	{REPLY_SEND_DATA, 354, NULL},
	{REPLY_CHUNK_OK, 250, "2.0.0"},
	{REPLY_STORED, 250, "2.0.0"},
	{REPLY_START_TLS, 220, "2.0.0"},
	{REPLY_UNKNOWN_COMMAND, 500, "5.5.2"},
	{REPLY_BARE_NEWLINE, 500, "5.5.2"},
	{REPLY_BAD_OCTETS, 500, "5.5.2"},
	{REPLY_LINE_TOO_LONG, 500, "5.5.2"},
	{REPLY_NOT_SMTP, 221, "2.7.0"},
	{REPLY_NOT_A_COMMAND, 500, "5.5.2"},
	{REPLY_BAD_ARGUMENTS, 501, "5.5.4"},
	{REPLY_BAD_PARAMETER, 501, "5.5.4"},
	{REPLY_UNKNOWN_PARAMETER, 555, "5.5.4"},
	{REPLY_NOT_OFFERED, 502, "5.5.1"},
	{REPLY_NEED_HELO, 503, "5.5.1"},
	{REPLY_NEED_MAIL, 503, "5.5.1"},
	{REPLY_NESTED_MAIL, 503, "5.5.1"},
	{REPLY_NO_RECIPIENTS, 554, "5.5.1"},
	{REPLY_BAD_SEQUENCE, 503, "5.5.1"},
	{REPLY_CHUNKS_ONLY, 503, "5.5.1"},
	{REPLY_TLS_ACTIVE, 503, "5.5.1"},
	{REPLY_UNFRAMEABLE, 521, "5.5.4"},
	{REPLY_UNSYNCHRONISED, 554, "5.5.0"},
	{REPLY_BAD_SENDER, 501, "5.1.7"},
	{REPLY_BAD_SENDER_IDNA, 553, "5.1.7"},
	{REPLY_BAD_RECIPIENT, 501, "5.1.3"},
	{REPLY_BAD_RECIPIENT_IDNA, 553, "5.1.3"},
	{REPLY_NEED_SMTPUTF8, 553, "5.6.7"},
	{REPLY_UNKNOWN_MAILBOX, 550, "5.1.1"},
	{REPLY_FOREIGN_DOMAIN, 550, "5.7.1"},
	{REPLY_MAILBOX_DISABLED, 550, "5.2.1"},
	{REPLY_MAILBOX_DISABLED_NOW, 450, "4.2.1"},
	{REPLY_TOO_MANY_RECIPIENTS, 452, "4.5.3"},
	{REPLY_BOUNCE_TO_MANY, 452, "4.5.3"},
	{REPLY_TOO_BIG, 552, "5.3.4"},
	{REPLY_LOOP, 554, "5.4.6"},
	{REPLY_BARE_NEWLINE_DATA, 550, "5.5.2"},
	{REPLY_UNAVAILABLE, 451, "4.3.0"},
	{REPLY_STORAGE_FULL, 452, "4.3.1"},
	{REPLY_IDLE, 421, "4.4.2"},
	{REPLY_SHUTDOWN, 421, "4.3.2"},
	{REPLY_OVERLOAD, 421, "4.3.2"},
	{REPLY_RATE, 421, "4.7.0"},
	{REPLY_TOO_MANY_ERRORS, 421, "4.7.0"},
	{REPLY_TOO_MANY_MESSAGES, 421, "4.7.0"},
	{REPLY_TLS_UNAVAILABLE, 454, "4.7.0"},
	{REPLY_TLS_REQUIRED, 530, "5.7.0"},
	{REPLY_POLICY, 554, "5.7.1"},
	{REPLY_REFUSED_SESSION, 503, "5.5.1"},
	{REPLY_SENDER_NULL_MX, 550, "5.7.27"},
	{REPLY_SENDER_UNCHECKED, 451, "4.4.3"},
	{REPLY_SPF_FAIL, 550, "5.7.23"},
	{REPLY_SPF_PERMERROR, 550, "5.7.24"},
	{REPLY_SPF_TEMPERROR, 451, "4.7.24"},
	{REPLY_DMARC_REJECT, 550, "5.7.1"},
};

static void test_codes(void **state) {
	assert_int_equal(array_len(rows), REPLY_COUNT);
	for (size_t i = 0; i < array_len(rows); i++) {
		const struct reply *r = reply_get(rows[i].id);
		assert_int_equal(rows[i].id, i);
		assert_int_equal(r->code, rows[i].code);
		if (!rows[i].enhanced)
			assert_null(r->enhanced);
		else
			assert_string_equal(r->enhanced, rows[i].enhanced);
	}
}

/* The class of the enhanced code is the first digit of the code, and exactly greetings, HELO and 3xx have none. */
static void test_shape(void **state) {
	for (unsigned i = 0; i < REPLY_COUNT; i++) {
		const struct reply *r = reply_get((enum reply_id)i);
		bool bare = i == REPLY_GREETING || i == REPLY_HELO || r->code / 100 == 3;
		assert_int_equal(r->enhanced == NULL, bare);
		if (r->enhanced)
			assert_int_equal((unsigned)(r->enhanced[0] - '0'), r->code / 100);
		const char *hole = strchr(r->text, '%');
		if (hole) {
			assert_int_equal(hole[1], 's');
			assert_null(strchr(hole + 1, '%'));
		}
	}
}

static void test_lines(void **state) {
	char detail[1000];
	memset(detail, 'x', sizeof(detail));
	for (unsigned i = 0; i < REPLY_COUNT; i++) {
		struct buf b;
		char start[8];
		buf_init(&b, 4096);
		reply_append(&b, (enum reply_id)i, detail, sizeof(detail));
		assert_true(b.len <= REPLY_LINE_MAX);
		snprintf(start, sizeof(start), "%03u ", reply_get((enum reply_id)i)->code);
		assert_memory_equal(b.data, start, 4);
		assert_memory_equal(b.data + b.len - 2, "\r\n", 2);
		assert_ptr_equal(memchr(b.data, '\n', b.len), b.data + b.len - 1);
		buf_fini(&b);
	}
}

static void test_detail(void **state) {
	static const struct {
		enum reply_id id;
		const char *detail;
		size_t n;
		const char *line;
	} details[] = {
		{REPLY_STORED, "0190-ab", 7, "250 2.0.0 Ok: queued as 0190-ab\r\n"},
		{REPLY_CHUNK_OK, "86", 2, "250 2.0.0 86 octets received\r\n"},
		{REPLY_GREETING, "mx.example.org", 14, "220 mx.example.org ESMTP\r\n"},
		{REPLY_UNKNOWN_MAILBOX, "a\r\n250 ok\0\303\251\177", 13, "550 5.1.1 No such mailbox: a??250 ok????\r\n"},
		{REPLY_SEND_DATA, NULL, 0, "354 End data with <CR><LF>.<CR><LF>\r\n"},
	};
	for (size_t i = 0; i < array_len(details); i++) {
		struct buf b;
		buf_init(&b, 4096);
		reply_append(&b, details[i].id, details[i].detail, details[i].n);
		assert_string_equal(b.data, details[i].line);
		buf_fini(&b);
	}
}

static void test_cut(void **state) {
	char detail[REPLY_DETAIL_MAX + 1];
	struct buf b;
	memset(detail, 'x', sizeof(detail));
	buf_init(&b, 4096);
	reply_append(&b, REPLY_UNKNOWN_PARAMETER, detail, REPLY_DETAIL_MAX);
	assert_null(strstr(b.data, "..."));
	buf_reset(&b);
	reply_append(&b, REPLY_UNKNOWN_PARAMETER, detail, sizeof(detail));
	assert_non_null(strstr(b.data, "xxx...\r\n"));
	buf_fini(&b);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_codes),  cmocka_unit_test(test_shape), cmocka_unit_test(test_lines),
		cmocka_unit_test(test_detail), cmocka_unit_test(test_cut),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
