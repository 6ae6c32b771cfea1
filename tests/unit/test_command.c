/* One line -> struct command (RFC 5321 4.1, RFC 1870, 3030, 6152, 6531). */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include "smtpd/command.h"

struct row {
	const char *line;
	enum command_verb verb;
	enum command_fault fault;
	const char *text;       /* NULL: not looked at */
	uint64_t size;
	enum command_body body;
	bool has_size, smtputf8, odd, last;
};

static const struct row rows[] = {
	{"EHLO client.example", COMMAND_EHLO, COMMAND_FINE, "client.example"},
	{"ehlo client.example  ", COMMAND_EHLO, COMMAND_FINE, "client.example"},
	{"HELO\tclient.example", COMMAND_HELO, COMMAND_FINE, "client.example"},
	{"HELO two words", COMMAND_HELO, COMMAND_FINE, "two"},
	{"EHLO [192.0.2.1]", COMMAND_EHLO, COMMAND_FINE, "[192.0.2.1]"},
	{"EHLO [IPv6:::1]", COMMAND_EHLO, COMMAND_FINE, "[IPv6:::1]"},
	{"EHLO [::1]", COMMAND_EHLO, COMMAND_BAD_ARGUMENTS},
	{"EHLO [", COMMAND_EHLO, COMMAND_BAD_ARGUMENTS},
	{"EHLO", COMMAND_EHLO, COMMAND_BAD_ARGUMENTS},
	{"EHLO a\033[m", COMMAND_EHLO, COMMAND_BAD_ARGUMENTS},
	{"EHLO \303\251", COMMAND_EHLO, COMMAND_BAD_OCTETS},

	{"MAIL FROM:<a@b>", COMMAND_MAIL, COMMAND_FINE, "a@b"},
	{"mail from:<>", COMMAND_MAIL, COMMAND_FINE, ""},
	{"MAIL  FROM:<a@b>", COMMAND_MAIL, COMMAND_FINE, "a@b"},
	{"MAIL FROM: <a@b>", COMMAND_MAIL, COMMAND_FINE, "a@b", .odd = true},
	{"MAIL FROM:<\"a>b\"@c> SIZE=5", COMMAND_MAIL, COMMAND_FINE, "\"a>b\"@c", 5, .has_size = true},
	{"MAIL FROM:<\"a\\\">b\"@c>", COMMAND_MAIL, COMMAND_FINE, "\"a\\\">b\"@c"},
	{"MAIL FROM:<a@b> SIZE=18446744073709551615", COMMAND_MAIL, COMMAND_FINE, "a@b", UINT64_MAX, .has_size = true},
	{"MAIL FROM:<a@b> SIZE=18446744073709551616", COMMAND_MAIL, COMMAND_FINE, "a@b", UINT64_MAX, .has_size = true},
	{"MAIL FROM:<a@b> SIZE=00000000000000000007", COMMAND_MAIL, COMMAND_FINE, "a@b", 7, .has_size = true},
	{"MAIL FROM:<a@b> SIZE=000000000000000000007", COMMAND_MAIL, COMMAND_BAD_PARAMETER},
	{"MAIL FROM:<a@b> SIZE=0x10", COMMAND_MAIL, COMMAND_BAD_PARAMETER},
	{"MAIL FROM:<a@b> SIZE=+1", COMMAND_MAIL, COMMAND_BAD_PARAMETER},
	{"MAIL FROM:<a@b> SIZE==1", COMMAND_MAIL, COMMAND_BAD_PARAMETER},
	{"MAIL FROM:<a@b> SIZE", COMMAND_MAIL, COMMAND_BAD_PARAMETER},
	{"MAIL FROM:<a@b> SIZE=1 size=2", COMMAND_MAIL, COMMAND_BAD_PARAMETER},
	{"MAIL FROM:<a@b> BODY=7BIT", COMMAND_MAIL, COMMAND_FINE, "a@b", 0, COMMAND_BODY_7BIT},
	{"MAIL FROM:<a@b> body=8bitmime", COMMAND_MAIL, COMMAND_FINE, "a@b", 0, COMMAND_BODY_8BITMIME},
	{"MAIL FROM:<a@b> BODY=BINARYMIME", COMMAND_MAIL, COMMAND_FINE, "a@b", 0, COMMAND_BODY_BINARYMIME},
	{"MAIL FROM:<a@b> BODY=", COMMAND_MAIL, COMMAND_BAD_PARAMETER},
	{"MAIL FROM:<a@b> BODY=7BIT BODY=8BITMIME", COMMAND_MAIL, COMMAND_BAD_PARAMETER},
	{"MAIL FROM:<a@b> SMTPUTF8", COMMAND_MAIL, COMMAND_FINE, "a@b", .smtputf8 = true},
	{"MAIL FROM:<\320\277@b> SMTPUTF8", COMMAND_MAIL, COMMAND_FINE, "\320\277@b", .smtputf8 = true},
	{"MAIL FROM:<a@b> SMTPUTF8=", COMMAND_MAIL, COMMAND_BAD_PARAMETER},
	{"MAIL FROM:<a@b> RET=FULL", COMMAND_MAIL, COMMAND_UNKNOWN_PARAMETER, "RET"},
	{"MAIL FROM:<a@b> SIZE=1 AUTH=<>", COMMAND_MAIL, COMMAND_UNKNOWN_PARAMETER, "AUTH"},
	{"MAIL FROM:<a@b> a;b", COMMAND_MAIL, COMMAND_BAD_ARGUMENTS},
	{"MAIL FROM:<a@b>x", COMMAND_MAIL, COMMAND_BAD_ARGUMENTS},
	{"MAIL FROM:<a@b", COMMAND_MAIL, COMMAND_BAD_ARGUMENTS},
	{"MAIL FROM:<\"a@b>", COMMAND_MAIL, COMMAND_BAD_ARGUMENTS},
	{"MAIL FROM:<\"a\\", COMMAND_MAIL, COMMAND_BAD_ARGUMENTS},
	{"MAIL FROM:a@b", COMMAND_MAIL, COMMAND_BAD_ARGUMENTS},
	{"MAIL FROM :<a@b>", COMMAND_MAIL, COMMAND_BAD_ARGUMENTS},
	{"MAIL FROM", COMMAND_MAIL, COMMAND_BAD_ARGUMENTS},
	{"MAIL", COMMAND_MAIL, COMMAND_BAD_ARGUMENTS},
	{"MAIL FROM:<\377@b>", COMMAND_MAIL, COMMAND_BAD_OCTETS},
	{"MAIL FROM:<a\rb@c>", COMMAND_MAIL, COMMAND_BAD_OCTETS},

	{"RCPT TO:<a@b>", COMMAND_RCPT, COMMAND_FINE, "a@b"},
	{"RCPT TO:\t<a@b>", COMMAND_RCPT, COMMAND_FINE, "a@b", .odd = true},
	{"RCPT TO:<a@b> NOTIFY=NEVER", COMMAND_RCPT, COMMAND_UNKNOWN_PARAMETER, "NOTIFY"},
	{"RCPT TO:<a@b> SIZE=1", COMMAND_RCPT, COMMAND_UNKNOWN_PARAMETER, "SIZE"},
	{"RCPT FROM:<a@b>", COMMAND_RCPT, COMMAND_BAD_ARGUMENTS},

	{"DATA", COMMAND_DATA, COMMAND_FINE},
	{"DATA ", COMMAND_DATA, COMMAND_FINE},
	{"DATA x", COMMAND_DATA, COMMAND_BAD_ARGUMENTS},
	{"BDAT 0", COMMAND_BDAT, COMMAND_FINE, NULL, 0},
	{"BDAT 86 LAST", COMMAND_BDAT, COMMAND_FINE, NULL, 86, .last = true},
	{"bdat 9223372036854775808  last", COMMAND_BDAT, COMMAND_FINE, NULL, 9223372036854775808u, .last = true},
	{"BDAT 99999999999999999999", COMMAND_BDAT, COMMAND_FINE, NULL, UINT64_MAX},
	{"BDAT", COMMAND_BDAT, COMMAND_BAD_ARGUMENTS},
	{"BDAT LAST", COMMAND_BDAT, COMMAND_BAD_ARGUMENTS},
	{"BDAT -1", COMMAND_BDAT, COMMAND_BAD_ARGUMENTS},
	{"BDAT 1 LASTX", COMMAND_BDAT, COMMAND_BAD_ARGUMENTS},
	{"BDAT 1LAST", COMMAND_BDAT, COMMAND_BAD_ARGUMENTS},
	{"BDAT 100000000000000000000", COMMAND_BDAT, COMMAND_BAD_ARGUMENTS},
	{"RSET", COMMAND_RSET, COMMAND_FINE},
	{"RSET x", COMMAND_RSET, COMMAND_BAD_ARGUMENTS},
	{"QUIT", COMMAND_QUIT, COMMAND_FINE},
	{"QUIT x", COMMAND_QUIT, COMMAND_BAD_ARGUMENTS},
	{"NOOP", COMMAND_NOOP, COMMAND_FINE},
	{"NOOP x y", COMMAND_NOOP, COMMAND_FINE},
	{"NOOP \303\251", COMMAND_NOOP, COMMAND_BAD_OCTETS},
	{"HELP", COMMAND_HELP, COMMAND_FINE},
	{"HELP MAIL", COMMAND_HELP, COMMAND_FINE},
	{"VRFY", COMMAND_VRFY, COMMAND_BAD_ARGUMENTS},
	{"VRFY a", COMMAND_VRFY, COMMAND_FINE},
	{"VRFY SMTPUTF8", COMMAND_VRFY, COMMAND_FINE},
	{"VRFY \303\251", COMMAND_VRFY, COMMAND_NON_ASCII},
	{"VRFY \303\251 smtputf8", COMMAND_VRFY, COMMAND_FINE, .smtputf8 = true},
	{"VRFY \303 SMTPUTF8", COMMAND_VRFY, COMMAND_BAD_OCTETS},
	{"STARTTLS", COMMAND_STARTTLS, COMMAND_FINE},
	{"STARTTLS x", COMMAND_STARTTLS, COMMAND_BAD_ARGUMENTS},
	{"EXPN list", COMMAND_NOT_OFFERED, COMMAND_FINE},
	{"AUTH PLAIN", COMMAND_NOT_OFFERED, COMMAND_FINE},
	{"ETRN", COMMAND_NOT_OFFERED, COMMAND_FINE},
	{"GET / HTTP/1.1", COMMAND_FOREIGN_PROTOCOL, COMMAND_FINE},
	{"post / HTTP/1.1", COMMAND_FOREIGN_PROTOCOL, COMMAND_FINE},
	{"", COMMAND_UNKNOWN, COMMAND_FINE},
	{"EHLOX", COMMAND_UNKNOWN, COMMAND_FINE},
	{"EHL", COMMAND_UNKNOWN, COMMAND_FINE},
	{"MAILFROM:<a@b>", COMMAND_UNKNOWN, COMMAND_FINE},
	{" NOOP", COMMAND_UNKNOWN, COMMAND_FINE},
	{"\303\251", COMMAND_UNKNOWN, COMMAND_BAD_OCTETS},
};

static void test_rows(void **state) {
	for (size_t i = 0; i < array_len(rows); i++) {
		const struct row *r = &rows[i];
		struct command c;
		size_t n = strlen(r->line);
		char *line = malloc(n ? n : 1);
		memcpy(line, r->line, n);
		command_parse(line, n, &c);
		bool same = c.verb == r->verb && c.fault == r->fault;
		if (same && r->text)
			same = slice_eq(c.text, slice_str(r->text));
		if (same && c.fault == COMMAND_FINE)
			same = c.size == r->size && c.body == r->body && c.has_size == r->has_size && c.smtputf8 == r->smtputf8 &&
			       c.odd == r->odd && c.last == r->last;
		free(line);
		if (!same)
			fail_msg("%s: verb %d fault %d size %llu odd %d", r->line, c.verb, c.fault, (unsigned long long)c.size,
			         c.odd);
	}
}

static void test_nul(void **state) {
	struct command c;
	command_parse("NOOP a\0b", 8, &c);
	assert_int_equal(c.fault, COMMAND_BAD_OCTETS);
	command_parse("\0", 1, &c);
	assert_int_equal(c.fault, COMMAND_BAD_OCTETS);
	command_parse("MAIL FROM:<a\0@b>", 16, &c);
	assert_int_equal(c.fault, COMMAND_BAD_OCTETS);
}

static void test_names(void **state) {
	assert_string_equal(command_name(COMMAND_MAIL), "MAIL");
	assert_string_equal(command_name(COMMAND_STARTTLS), "STARTTLS");
	assert_string_equal(command_name(COMMAND_UNKNOWN), "UNKNOWN");
	assert_string_equal(command_name(COMMAND_NOT_OFFERED), "UNKNOWN");
	assert_string_equal(command_name(COMMAND_FOREIGN_PROTOCOL), "UNKNOWN");
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_nul),
		cmocka_unit_test(test_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
