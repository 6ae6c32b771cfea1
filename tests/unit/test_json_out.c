/* json_out: escaping and UTF-8 repair (RFC 8259 7 and 8.1), commas, numbers. Each string row also at every offset behind clean
 * text, because runs are scanned eight octets at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/json_out.h"

#include <stdio.h>

struct row {
	const char *name, *in;
	size_t n;
	const char *want; /* without the quotes */
};

#define V(s) s, sizeof(s) - 1
#define FFFD "\xef\xbf\xbd"
static const struct row rows[] = {
    {"empty", V(""), ""},
    {"plain", V("plain text, a little longer than eight octets"), "plain text, a little longer than eight octets"},
    {"slash and DEL stay", V("a/b\x7f"), "a/b\x7f"},
    {"quote", V("say \"hi\""), "say \\\"hi\\\""},
    {"backslash", V("a\\b"), "a\\\\b"},
    {"line ends and tab", V("a\r\n\tb"), "a\\r\\n\\tb"},
    {"NUL", V("a\0b"), "a\\u0000b"},
    {"controls", V("\x01\x08\x0c\x1f"), "\\u0001\\u0008\\u000c\\u001f"},
    {"two octets", V("\xd0\x9f\xd1\x80\xd0\xb8"), "\xd0\x9f\xd1\x80\xd0\xb8"},
    {"three octets", V("\xe2\x82\xac!"), "\xe2\x82\xac!"},
    {"four octets", V("\xf0\x9f\x93\xa7"), "\xf0\x9f\x93\xa7"},
    {"least and most of each length", V("\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"),
     "\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"},
    {"lone continuation", V("a\x80z"), "a" FFFD "z"},
    {"Latin-1", V("caf\xe9 au"), "caf" FFFD " au"},
    {"cut at the end", V("\xe2\x82"), FFFD},
    {"cut, then ASCII", V("\xe2\x82x"), FFFD "x"},
    {"overlong", V("\xc0\xaf\xe0\x80\xaf"), FFFD FFFD FFFD FFFD FFFD},
    {"surrogate", V("\xed\xa0\x80"), FFFD FFFD FFFD},
    {"over U+10FFFF", V("\xf4\x90\x80\x80\xff"), FFFD FFFD FFFD FFFD FFFD},
};

static void check(const struct row *row, size_t pad) {
	char in[256], want[512];
	struct buf b;
	struct json_out j;
	memset(in, 'p', pad);
	memcpy(in + pad, row->in, row->n);
	memset(want, 'p', pad + 1);
	want[0] = '"';
	snprintf(want + pad + 1, sizeof(want) - pad - 1, "%s\"", row->want);
	buf_init(&b, 1000);
	json_out_init(&j, &b);
	json_out_string(&j, in, pad + row->n);
	assert_int_equal(b.len, strlen(want));
	assert_memory_equal(b.data, want, b.len);
	buf_fini(&b);
}

static void test_strings(void **state) {
	for (size_t i = 0; i < array_len(rows); i++)
		for (size_t pad = 0; pad < 18; pad++)
			check(&rows[i], pad);
}

static void test_every_octet(void **state) {
	for (int c = 1; c < 256; c++) {
		char in[8] = "abcdefg", want[16];
		for (size_t at = 0; at < 8; at++) {
			struct buf b;
			struct json_out j;
			memcpy(in, "abcdefgh", 8);
			in[at] = (char)c;
			bool clean = c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
			buf_init(&b, 100);
			json_out_init(&j, &b);
			json_out_string(&j, in, 8);
			snprintf(want, sizeof(want), "\"%.8s\"", in);
			assert_true(clean == (b.len == 10 && memcmp(b.data, want, 10) == 0));
			buf_fini(&b);
		}
	}
}

static void test_structure(void **state) {
	struct buf b;
	struct json_out j;
	buf_init(&b, 4096);
	json_out_init(&j, &b);
	json_out_object(&j);
	json_out_member_int(&j, "least", INT64_MIN);
	json_out_member_int(&j, "zero", 0);
	json_out_member_int(&j, "most", INT64_MAX);
	json_out_member_bool(&j, "yes", true);
	json_out_member_bool(&j, "no", false);
	json_out_member_cstring(&j, "null", NULL);
	json_out_member_string(&j, "s", "ab", 1);
	json_out_key(&j, "empty");
	json_out_array(&j);
	json_out_array_end(&j);
	json_out_key(&j, "list");
	json_out_array(&j);
	json_out_object(&j);
	json_out_object_end(&j);
	json_out_array(&j);
	json_out_int(&j, 1);
	json_out_null(&j);
	json_out_array_end(&j);
	json_out_raw(&j, "{\"raw\":1}", 9);
	json_out_array_end(&j);
	json_out_key(&j, "at");
	json_out_time(&j, 1795533314123456);
	json_out_object_end(&j);
	assert_string_equal(
	    b.data, "{\"least\":-9223372036854775808,\"zero\":0,\"most\":9223372036854775807,\"yes\":true,\"no\":false,"
	            "\"null\":null,\"s\":\"a\",\"empty\":[],\"list\":[{},[1,null],{\"raw\":1}],"
	            "\"at\":\"2026-11-24T15:15:14.123Z\"}");
	assert_int_equal(j.depth, 0);
	buf_fini(&b);
}

static void test_deep(void **state) {
	struct buf b;
	struct json_out j;
	buf_init(&b, 4096);
	json_out_init(&j, &b);
	for (int i = 0; i < 32; i++)
		json_out_array(&j);
	json_out_int(&j, 1);
	json_out_int(&j, 2);
	for (int i = 0; i < 32; i++)
		json_out_array_end(&j);
	assert_memory_equal(b.data + 31, "[1,2]", 5);
	assert_int_equal(b.len, 67);
	buf_fini(&b);
}

static void test_overflow(void **state) {
	struct buf b;
	struct json_out j;
	buf_init(&b, 10);
	json_out_init(&j, &b);
	json_out_cstring(&j, "longer than ten octets");
	assert_true(b.overflow);
	assert_true(b.len <= 10);
	buf_fini(&b);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_strings), cmocka_unit_test(test_every_octet), cmocka_unit_test(test_structure),
	    cmocka_unit_test(test_deep),    cmocka_unit_test(test_overflow),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
