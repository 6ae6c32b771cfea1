/* Trace fields (RFC 5321 4.4; RFC 3848; RFC 6531 4.3; RFC 8314 4.3). */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include "smtpd/received.h"

static const int64_t at = 1795533314000000; /* Tue, 24 Nov 2026 15:15:14 UTC */
#define DATE "\tTue, 24 Nov 2026 15:15:14 +0000\r\n"

static const struct {
	const char *name;
	struct received r;
	const char *out;
} rows[] = {
	{"one recipient",
	 {"mx.example.org", "client.example", "0190-1", "a@b.example", "c@example.org", .esmtp = true, .wall_us = at},
	 "Return-Path: <a@b.example>\r\nReceived: from client.example\r\n\tby mx.example.org with ESMTP id 0190-1\r\n"
	 "\tfor <c@example.org>;\r\n" DATE},
	{"several recipients are not told of each other (7.2)",
	 {"mx.example.org", "client.example", "0190-1", "a@b.example", NULL, .esmtp = true, .wall_us = at},
	 "Return-Path: <a@b.example>\r\nReceived: from client.example\r\n"
	 "\tby mx.example.org with ESMTP id 0190-1;\r\n" DATE},
	{"null sender, HELO, a literal",
	 {"mx.example.org", "[192.0.2.1]", "0190-1", "", NULL, .wall_us = at},
	 "Return-Path: <>\r\nReceived: from [192.0.2.1]\r\n\tby mx.example.org with SMTP id 0190-1;\r\n" DATE},
	{"TLS",
	 {"mx.example.org", "c", "0190-1", "", NULL, .esmtp = true, .tls = "TLSv1.3 TLS_AES_256_GCM_SHA384", .wall_us = at},
	 "Return-Path: <>\r\nReceived: from c\r\n\tby mx.example.org with ESMTPS id 0190-1\r\n"
	 "\ttls TLS_AES_256_GCM_SHA384 (TLSv1.3);\r\n" DATE},
	{"HELO inside TLS",
	 {"mx.example.org", "c", "0190-1", "", NULL, .tls = "TLSv1.3 X", .wall_us = at},
	 "Return-Path: <>\r\nReceived: from c\r\n\tby mx.example.org with SMTP id 0190-1\r\n\ttls X (TLSv1.3);\r\n" DATE},
	{"SMTPUTF8",
	 {"mx.example.org", "c", "0190-1", "\320\277@b", "\320\270@d", .esmtp = true, .utf8 = true, .wall_us = at},
	 "Return-Path: <\320\277@b>\r\nReceived: from c\r\n\tby mx.example.org with UTF8SMTP id 0190-1\r\n"
	 "\tfor <\320\270@d>;\r\n" DATE},
	{"SMTPUTF8 and TLS",
	 {"mx.example.org", "c", "0190-1", "", NULL, .esmtp = true, .utf8 = true, .tls = "X", .wall_us = at},
	 "Return-Path: <>\r\nReceived: from c\r\n\tby mx.example.org with UTF8SMTPS id 0190-1\r\n\ttls X;\r\n" DATE},
	{"nothing a client says can add a field or a clause",
	 {"mx.example.org", "a (b);\r\nX: y\001<\"\\>\377", "0190-1", "a\r\nb\t@c", NULL, .esmtp = true, .wall_us = at},
	 "Return-Path: <ab@c>\r\nReceived: from a?b??X:y?????\r\n\tby mx.example.org with ESMTP id 0190-1;\r\n" DATE},
	{"no name",
	 {"mx.example.org", "", "0190-1", "", NULL, .wall_us = at},
	 "Return-Path: <>\r\nReceived: from unknown\r\n\tby mx.example.org with SMTP id 0190-1;\r\n" DATE},
};

static void test_rows(void **state) {
	for (size_t i = 0; i < array_len(rows); i++) {
		struct buf b;
		buf_init(&b, 8192);
		received_append(&b, &rows[i].r);
		if (strcmp(b.data, rows[i].out) != 0)
			fail_msg("%s:\n%s", rows[i].name, b.data);
		buf_fini(&b);
	}
}

/* ---- loops ---- */

#define BY "\r\n\tby mx.example.org with ESMTP id 0190-1"
#define ROUND "Received: from relay.example" BY "\r\n\tfor <c@example.org>;\r\n" DATE

static const struct {
	const char *name;
	unsigned rounds;
	const char *head;
} loops[] = {
	{"never here", 0, "Received: from x by relay.example for <c@example.org>;\r\n" DATE "Subject: x\r\n\r\n"},
	{"once", 1, ROUND "\r\n"},
	{"three times, with others between", 3, ROUND "Received: from x by relay.example;\r\n" DATE ROUND "X: y\r\n" ROUND "\r\n"},
	{"in the body it says nothing", 1, ROUND "\r\n" ROUND ROUND},
	{"another spelling of the recipient", 2, ROUND "RECEIVED: from x by MX.Example.ORG for <C+tag@EXAMPLE.org>; " DATE "\r\n"},
	{"folded anew, with comments and LF only", 1,
	 "Received: from x (y by z\n for <d@example.org>) by\n mx.example.org (us)\n with ESMTP for\n (whom) <c@example.org>\n (tag);\n" DATE "\n"},
	{"another recipient", 0, "Received: from x" BY " for <d@example.org>;\r\n" DATE "\r\n"},
	{"the second recipient", 2,
	 "Received: from x" BY " for <e@example.org>;\r\n" DATE "Received: from x" BY " for <e@example.org>;\r\n" DATE ROUND "\r\n"},
	{"no recipient told", 0, "Received: from x" BY ";\r\n" DATE "\r\n"},
	{"ours in what the client called itself", 0, "Received: from mx.example.org by x for <c@example.org>;\r\n" DATE "\r\n"},
	{"a field cut short", 0, "Received: by"},
	{"and shorter", 0, "Received: from x by mx.example.org for"},
	{"an empty path", 0, "Received: by mx.example.org for <>; x\r\n"},
	{"no header at all", 0, "\r\n"},
	{"nothing", 0, ""},
};

static void test_rounds(void **state) {
	struct address recipients[2];
	address_parse("c@example.org", 13, false, true, &recipients[0]);
	address_parse("E@example.org", 13, false, true, &recipients[1]);
	for (size_t i = 0; i < array_len(loops); i++) {
		unsigned got = received_rounds(slice_str(loops[i].head), "mx.example.org", recipients, array_len(recipients));
		if (got != loops[i].rounds)
			fail_msg("%s: %u", loops[i].name, got);
	}
}

/* What we write is what we find again. */
static void test_our_own(void **state) {
	const struct received r = {"mx.example.org", "for <x@y>", "0190-1", "", "\"c\"@example.org", .esmtp = true, .tls = "TLSv1.3 X", .wall_us = at};
	struct address recipient;
	struct buf out;
	address_parse("c@example.org", 13, false, true, &recipient);
	buf_init(&out, 8192);
	for (unsigned i = 0; i < RECEIVED_ROUNDS_MAX; i++)
		received_append(&out, &r);
	assert_int_equal(received_rounds(buf_slice(&out), "mx.example.org", &recipient, 1), RECEIVED_ROUNDS_MAX);
	buf_fini(&out);
}

int main(void) {
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_rounds), cmocka_unit_test(test_our_own)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
