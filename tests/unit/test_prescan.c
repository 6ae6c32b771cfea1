/* prescan: what is counted, and what GMime is given instead of what came. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "smtpd/prescan.h"

static void test_source(void **state) {
	static const struct {
		const char *p;
		size_t n;
		struct prescan_source want;
	} rows[] = {
		{"", 0, {false, false, false}},        {"a\r\nb\r\n", 6, {false, false, false}},
		{"a\nb\r\n", 5, {false, true, false}}, {"\n", 1, {false, true, false}},
		{"a\rb\r\n", 5, {false, false, true}}, {"a\r", 2, {false, false, true}},
		{"\r\r\n", 3, {false, false, true}},   {"a\r\n\n\r\n", 6, {false, true, false}},
		{"a\0b", 3, {true, false, false}},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		struct prescan_source got;
		prescan_source(rows[i].p, rows[i].n, &got);
		if (got.nul != rows[i].want.nul || got.bare_newline != rows[i].want.bare_newline ||
		    got.bare_cr != rows[i].want.bare_cr)
			fail_msg("row %zu", i);
	}
}

static void test_groups(void **state) {
	static const struct {
		const char *line;
		unsigned want;
	} rows[] = {
		{"", 0},
		{"a@b, c@d", 0},
		{"g: a@b;", 1},
		{"a:a:a:", 3},
		{"\"a:b\" <c@d>", 0},
		{"\"a\\\":b\" <c@d>: x", 1},
		{"(a:(b:)c:) d: x", 1},
		{"x <@a,@b:c@d>", 0},
		{"x@[IPv6:::1]", 0},
		{"\"unclosed: a", 0},
		{"<unclosed: a", 0},
	};
	for (size_t i = 0; i < array_len(rows); i++)
		if (prescan_groups(rows[i].line, strlen(rows[i].line)) != rows[i].want)
			fail_msg("%s", rows[i].line);
}

static void test_parameters(void **state) {
	static const struct {
		const char *in, *out;
		enum prescan_verdict verdict;
		bool unknown;
	} rows[] = {
		{"text/plain", "text/plain", PRESCAN_OK, false},
		{"a/b; c=d; e=\"f;g\"", "a/b; c=d; e=\"f;g\"", PRESCAN_OK, false},
		{"name=\"=?utf-8?q?x?=\"", "name=\"=\x01utf-8?q?x?=\"", PRESCAN_OK, false},
		{"name=?x", "name=?x", PRESCAN_OK, false},
		{"name*=utf-8''a%20b", "name*=UTF-8''a%20b", PRESCAN_OK, false},
		{"name*=windows-31j'ja'a", "name*=CP932'ja'a", PRESCAN_OK, false},
		{"name*=\"koi8-r''a\"; x=y", "name*=\"KOI8-R''a\"; x=y", PRESCAN_OK, false},
		{"name* = utf8''a", "name* = UTF-8''a", PRESCAN_OK, false},
		{"name*=utf-8//IGNORE''a", "name*=UTF-8''a", PRESCAN_OK, true},
		{"name*=iso-2022-cn-ext''a", "name*=UTF-8''a", PRESCAN_OK, true},
		{"name*=plain", "name*=plain", PRESCAN_OK, false},
		{"n*0*=koi8-r''a; n*1*=b'c'd", "n*0*=KOI8-R''a; n*1*=b'c'd", PRESCAN_OK, false},
		{"n*1*=evil//x''a; n*0*=koi8-r''a", " n*0*=KOI8-R''a;n*1*=evil//x''a", PRESCAN_OK, false},
		{"n*1=b;a=1;N*0=c;n*1=d", "N*0=c;n*1=b;a=1", PRESCAN_OK, false},
		{"n*0=koi8-r''a", "n*0=koi8-r''a", PRESCAN_OK, false},
		{"n*-1=a; n*0=b", "n_-1=a; n*0=b", PRESCAN_OK, false},
		{"n*0x=a; n*00000=b", "n_0x=a; n_00000=b", PRESCAN_OK, false},
		{"n*1 =a; n*2* =b", "n*1 =a; n*2* =b", PRESCAN_OK, false},
		{"n=*x=y; m=\"*-1=\"", "n=*x=y; m=\"*-1=\"", PRESCAN_OK, false},
		{"a=b; ;c=d;;e=f;g=h;", "a=b;c=d;e=f;g=h", PRESCAN_OK, false},
		{"a;b;c;d;e", "a", PRESCAN_BARE, false},
		{"a;\"b;;;;;;;;;;;;;;;;;\"", "a", PRESCAN_BARE, false},
		{"name*=", "name*=", PRESCAN_OK, false},
		{"=", "=", PRESCAN_OK, false},
		{"\"a\\", "\"a\\", PRESCAN_OK, false},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		struct buf out;
		struct prescan_parameters seen;
		buf_init(&out, 1000);
		enum prescan_verdict v = prescan_parameters(rows[i].in, strlen(rows[i].in), 4, &out, &seen);
		if (v != rows[i].verdict || !out.data || strcmp(out.data, rows[i].out) != 0 ||
		    seen.unknown_charset != rows[i].unknown)
			fail_msg("%s gave %s, %d, %d", rows[i].in, out.data, v, seen.unknown_charset);
		buf_fini(&out);
	}
	char masked[] = "a=\x01=\x01=x=\x01";
	prescan_unmask(masked);
	assert_string_equal(masked, "a=?=?=x=?");
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_source),
		cmocka_unit_test(test_groups),
		cmocka_unit_test(test_parameters),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
