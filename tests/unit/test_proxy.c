/* proxy: headers of both versions and what is none, each row whole and octet by octet, followed by what the client says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/proxy.h"

#include <stdio.h>

#define V2 "\r\n\r\n\0\r\nQUIT\n"
#define FOUR "\xc0\0\x02\x01\xc6\x33\x64\x02\x13\x88\0\x19"
#define SIX "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\x13\x88\0\x19"
#define MAPPED "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\x02\x01\0\0\0\0\0\0\0\0\0\0\xff\xff\xc6\x33\x64\x02\x13\x88\0\x19"
#define F20 "ffffffffffffffffffff"
#define text(s) s, sizeof(s) - 1

static const struct {
	const char *name;
	const char *octets;
	size_t n;
	enum proxy_result result;
	const char *source;      /* with its port; CLIENT */
} rows[] = {
    {"v1 tcp4", text("PROXY TCP4 192.0.2.1 198.51.100.2 5000 25\r\n"), PROXY_CLIENT, "192.0.2.1 5000"},
    {"v1 tcp6", text("PROXY TCP6 2001:db8::1 2001:DB8::2 0 65535\r\n"), PROXY_CLIENT, "2001:db8::1 0"},
    {"v1 mapped", text("PROXY TCP6 ::ffff:192.0.2.1 ::1 5000 25\r\n"), PROXY_CLIENT, "192.0.2.1 5000"},
    {"v1 longest addresses",
     text("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
     PROXY_CLIENT, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535"},
    {"v1 unknown", text("PROXY UNKNOWN\r\n"), PROXY_UNKNOWN, NULL},
    {"v1 unknown with addresses", text("PROXY UNKNOWN 1.2.3.4 what ever\r\n"), PROXY_UNKNOWN, NULL},
    {"v1 106 octets", text("PROXY UNKNOWN " F20 F20 F20 F20 "1234567890\r\n"), PROXY_UNKNOWN, NULL},
    {"v1 107 octets", text("PROXY UNKNOWN " F20 F20 F20 F20 "12345678901\r\n"), PROXY_UNKNOWN, NULL},
    {"v1 108 octets", text("PROXY UNKNOWN " F20 F20 F20 F20 "123456789012\r\n"), PROXY_BAD, NULL},
    {"v1 107 octets without end", text("PROXY UNKNOWN " F20 F20 F20 F20 "1234567890123"), PROXY_BAD, NULL},
    {"v1 truncated", text("PROXY TCP4 192.0.2.1 198.51.100.2 5000 25\r"), PROXY_MORE, NULL},
    {"v1 one octet", text("P"), PROXY_MORE, NULL},
    {"v1 bare LF", text("PROXY TCP4 192.0.2.1 198.51.100.2 5000 25\n"), PROXY_BAD, NULL},
    {"v1 no protocol", text("PROXY \r\n"), PROXY_BAD, NULL},
    {"v1 empty", text("PROXY\r\n"), PROXY_BAD, NULL},
    {"v1 lower case", text("proxy TCP4 192.0.2.1 198.51.100.2 5000 25\r\n"), PROXY_BAD, NULL},
    {"v1 two blanks", text("PROXY TCP4  192.0.2.1 198.51.100.2 5000 25\r\n"), PROXY_BAD, NULL},
    {"v1 blank at the end", text("PROXY TCP4 192.0.2.1 198.51.100.2 5000 25 \r\n"), PROXY_BAD, NULL},
    {"v1 a word too many", text("PROXY TCP4 192.0.2.1 198.51.100.2 5000 25 7\r\n"), PROXY_BAD, NULL},
    {"v1 a word too few", text("PROXY TCP4 192.0.2.1 198.51.100.2 5000\r\n"), PROXY_BAD, NULL},
    {"v1 leading zero in a port", text("PROXY TCP4 192.0.2.1 198.51.100.2 05000 25\r\n"), PROXY_BAD, NULL},
    {"v1 port too large", text("PROXY TCP4 192.0.2.1 198.51.100.2 65536 25\r\n"), PROXY_BAD, NULL},
    {"v1 port with a sign", text("PROXY TCP4 192.0.2.1 198.51.100.2 +5 25\r\n"), PROXY_BAD, NULL},
    {"v1 leading zero in an address", text("PROXY TCP4 192.0.2.01 198.51.100.2 5000 25\r\n"), PROXY_BAD, NULL},
    {"v1 family and address differ", text("PROXY TCP4 2001:db8::1 2001:db8::2 5000 25\r\n"), PROXY_BAD, NULL},
    {"v1 family and address differ", text("PROXY TCP6 192.0.2.1 198.51.100.2 5000 25\r\n"), PROXY_BAD, NULL},
    {"v1 another protocol", text("PROXY UDP4 192.0.2.1 198.51.100.2 5000 25\r\n"), PROXY_BAD, NULL},
    {"v1 NUL", text("PROXY TCP4 192.0.2.1\0 198.51.100.2 5000 25\r\n"), PROXY_BAD, NULL},
    {"no header: SMTP", text("EHLO x\r\n"), PROXY_BAD, NULL},
    {"no header: TLS", text("\x16\x03\x01"), PROXY_BAD, NULL},
    {"v2 tcp4", text(V2 "\x21\x11\0\x0c" FOUR), PROXY_CLIENT, "192.0.2.1 5000"},
    {"v2 tcp6", text(V2 "\x21\x21\0\x24" SIX), PROXY_CLIENT, "2001:db8::1 5000"},
    {"v2 mapped", text(V2 "\x21\x21\0\x24" MAPPED), PROXY_CLIENT, "192.0.2.1 5000"},
    {"v2 with fields", text(V2 "\x21\x11\0\x14" FOUR "\x01\0\x02h2\x04\0\0"), PROXY_CLIENT, "192.0.2.1 5000"},
    {"v2 field beyond the end", text(V2 "\x21\x11\0\x11" FOUR "\x01\0\x03h2"), PROXY_BAD, NULL},
    {"v2 half a field", text(V2 "\x21\x11\0\x0e" FOUR "\x01\0"), PROXY_BAD, NULL},
    {"v2 checksum", text(V2 "\x21\x11\0\x13" FOUR "\x03\0\x04\xb2\xaf\x03\x78"), PROXY_CLIENT, "192.0.2.1 5000"},
    {"v2 bad checksum", text(V2 "\x21\x11\0\x13" FOUR "\x03\0\x04\xb2\xaf\x03\x79"), PROXY_BAD, NULL},
    {"v2 short checksum", text(V2 "\x21\x11\0\x12" FOUR "\x03\0\x03\xb2\xaf\x03"), PROXY_BAD, NULL},
    {"v2 local", text(V2 "\x20\0\0\0"), PROXY_LOCAL, NULL},
    {"v2 local with what is to be skipped", text(V2 "\x20\x11\0\x05" "abcde"), PROXY_LOCAL, NULL},
    {"v2 len 0", text(V2 "\x21\x11\0\0"), PROXY_BAD, NULL},
    {"v2 len 11", text(V2 "\x21\x11\0\x0b" "12345678901"), PROXY_BAD, NULL},
    {"v2 tcp6 len 35", text(V2 "\x21\x21\0\x23" "12345678901234567890123456789012345"), PROXY_BAD, NULL},
    {"v2 len 4097", text(V2 "\x21\x11\x10\x01"), PROXY_BAD, NULL},
    {"v2 len 65535", text(V2 "\x21\x11\xff\xff"), PROXY_BAD, NULL},
    {"v2 truncated", text(V2 "\x21\x11\0\x0c\xc0\0\x02"), PROXY_MORE, NULL},
    {"v2 truncated in the signature", text("\r\n\r\n\0\r\nQU"), PROXY_MORE, NULL},
    {"v2 version 1", text(V2 "\x11\x11\0\x0c" FOUR), PROXY_BAD, NULL},
    {"v2 command 2", text(V2 "\x22\x11\0\x0c" FOUR), PROXY_BAD, NULL},
    {"v2 unspecified", text(V2 "\x21\0\0\0"), PROXY_UNKNOWN, NULL},
    {"v2 udp", text(V2 "\x21\x12\0\x0c" FOUR), PROXY_BAD, NULL},
    {"v2 another signature", text("\r\n\r\n\0\r\nQUIT\r\x21\x11\0\x0c" FOUR), PROXY_BAD, NULL},
};

static void check(size_t i, const struct proxy_header *h, enum proxy_result r, size_t used) {
	char shown[NETADDR_TEXT_SIZE + 8] = "";
	if (r != rows[i].result)
		fail_msg("%s: %d", rows[i].name, r);
	if (r != PROXY_BAD && used != rows[i].n)
		fail_msg("%s: took %zu of %zu", rows[i].name, used, rows[i].n);
	if (r != PROXY_CLIENT)
		return;
	netaddr_format(&h->source, shown);
	snprintf(shown + strlen(shown), 8, " %u", h->source_port);
	assert_string_equal(shown, rows[i].source);
}

static void test_whole(void **state) {
	for (size_t i = 0; i < array_len(rows); i++) {
		struct proxy_header h = {0};
		char room[256];
		size_t used, n = rows[i].n;
		assert_true(n + 8 <= sizeof(room));
		memcpy(room, rows[i].octets, n);
		if (rows[i].result != PROXY_MORE) {
			memcpy(room + n, "EHLO x\r\n", 8);
			n += 8;
		}
		enum proxy_result r = proxy_feed(&h, room, n, &used);
		check(i, &h, r, used);
	}
}

static void test_octet_by_octet(void **state) {
	for (size_t i = 0; i < array_len(rows); i++) {
		struct proxy_header h = {0};
		enum proxy_result r = PROXY_MORE;
		size_t used = 0, k = 0;
		for (; k < rows[i].n && r == PROXY_MORE; k++) {
			size_t step;
			r = proxy_feed(&h, rows[i].octets + k, 1, &step);
			used += step;
		}
		check(i, &h, r, used);
	}
}

static void test_longest(void **state) {
	struct proxy_header h = {0};
	uint8_t octets[PROXY_HEADER_MAX + 1] = V2 "\x21\x11\x10\0" FOUR "\x04\x0f\xf1";   /* one field up to the end */
	size_t used;
	assert_int_equal(proxy_feed(&h, octets, sizeof(octets), &used), PROXY_CLIENT);
	assert_int_equal(used, PROXY_HEADER_MAX);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_whole),
	    cmocka_unit_test(test_octet_by_octet),
	    cmocka_unit_test(test_longest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
