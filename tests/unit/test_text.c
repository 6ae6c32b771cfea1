/* text, charset, encoded_word: what mail calls text comes out as clean UTF-8, and says so when it was not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "common/text.h"

#define FFFD "\xef\xbf\xbd"

static void check(const struct buf *b, const char *want, const char *what) {
	size_t n = strlen(want);
	if (b->len != n || memcmp(n ? b->data : "", want, n) != 0)
		fail_msg("%s: \"%.*s\", not \"%s\"", what, (int)b->len, b->data ? b->data : "", want);
}

static void test_utf8(void **state) {
	static const struct {
		const char *p;
		size_t n;
		bool valid;
	} rows[] = {
		{"", 0, true},
		{"plain text that is longer than a word", 37, true},
		{"a\0b", 3, true},
		{"\xc3\xa9", 2, true},
		{"\xe2\x82\xac", 3, true},
		{"\xf0\x9f\x98\x80", 4, true},
		{"\xf4\x8f\xbf\xbf", 4, true},
		{"\x80", 1, false},
		{"\xc3", 1, false},
		{"\xc0\x80", 2, false},
		{"\xc1\xbf", 2, false},
		{"\xe0\x80\x80", 3, false},
		{"\xed\xa0\x80", 3, false}, /* a surrogate */
		{"\xf0\x80\x80\x80", 4, false},
		{"\xf4\x90\x80\x80", 4, false},
		{"\xf5\x80\x80\x80", 4, false},
		{"1234567\xff", 8, false},
		{"12345678\xff", 9, false},
	};
	for (size_t i = 0; i < array_len(rows); i++)
		if (text_utf8_valid(rows[i].p, rows[i].n) != rows[i].valid)
			fail_msg("row %zu", i);
}

static void test_clean(void **state) {
	static const struct {
		const char *p;
		size_t n;
		const char *kept, *stripped, *line;
	} rows[] = {
		{"plain", 5, "plain", "plain", "plain"},
		{"a\0b", 3, "a" FFFD "b", "a" FFFD "b", "a" FFFD "b"},
		{"a\x01\x1f"
	     "b",
	     4,
	     "a\x01\x1f"
	     "b",
	     "ab", "a  b"},
		{"a\r\nb\rc\td\n", 9, "a\r\nb\rc\td\n", "a\r\nbc\td\n", "a  b c d "},
		{"a\r", 2, "a\r", "a", "a "},
		{"\xe2\x82", 2, FFFD, FFFD, FFFD},
		{"\xe2\x82z\xff\xfe", 5, FFFD "z" FFFD FFFD, FFFD "z" FFFD FFFD, FFFD "z" FFFD FFFD},
		{"\xed\xa0\x80", 3, FFFD FFFD FFFD, FFFD FFFD FFFD, FFFD FFFD FFFD},
		{"x\x7fy\xc2\x85z\xe2\x80\xa8.", 10, "x\x7fy\xc2\x85z\xe2\x80\xa8.", "x\x7fy\xc2\x85z\xe2\x80\xa8.", "x y z ."},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		struct buf b;
		buf_init(&b, 1000);
		assert_int_equal(text_append_clean(&b, rows[i].p, rows[i].n, false), 0);
		check(&b, rows[i].kept, "kept");
		buf_reset(&b);
		assert_int_equal(text_append_clean(&b, rows[i].p, rows[i].n, true), 0);
		check(&b, rows[i].stripped, "stripped");
		buf_reset(&b);
		assert_int_equal(text_append_line(&b, rows[i].p, rows[i].n), 0);
		check(&b, rows[i].line, "line");
		buf_fini(&b);
	}
}

static const struct {
	const char *charset, *in, *out;
	bool known, bad;
} charset_rows[] = {
	{"utf-8", "\xc3\xa9", "\xc3\xa9", true, false},
	{"UTF-8", "\xef\xbb\xbfx", "x", true, false},
	{"utf8mb4", "\xff", FFFD, true, true},
	{"us-ascii", "abc", "abc", true, false},
	{"us-ascii", "\xc3\xa9", "\xc3\xa9", true, false},
	{"us-ascii", "\xe9", "\xc3\xa9", true, true},
	{"iso-8859-1", "\x80\xe9\x81", "\xe2\x82\xac\xc3\xa9\xc2\x81", true, false},
	{"\"ISO-8859-1\"", "\xe9", "\xc3\xa9", true, false},
	{"windows-1251", "\xcf\xf0\xe8\xe2\xe5\xf2", "Привет", true, false},
	{"koi8-r", "\xf0\xd2\xc9\xd7\xc5\xd4", "Привет", true, false},
	{"koi8-u", "\xa6", "і", true, false},
	{"x-mac-cyrillic", "\x8f", "П", true, false},
	{"iso-8859-5", "\xbf", "П", true, false},
	{"cp866", "\x8f", "П", true, false},
	{"iso-8859-8-i", "\xf9\xec\xe5\xed", "שלום", true, false},
	{"iso-2022-jp", "\x1b$B$3$s\x1b(B!", "こん!", true, false},
	{"iso-2022-jp-ms", "\x1b$B$3\x1b(B", "こ", true, false},
	{"shift_jis", "\x82\xb1\x82\xf1", "こん", true, false},
	{"x-sjis", "\x82\xb1", "こ", true, false},
	{"windows-31j", "\x87\x40", "①", true, false},
	{"euc-jp", "\xa4\xb3\xa4\xf3", "こん", true, false},
	{"gb2312", "\xc4\xe3\xba\xc3", "你好", true, false},
	{"x-gbk", "\xc4\xe3", "你", true, false},
	{"gb18030", "\x81\x30\x84\x36", "¥", true, false},
	{"big5", "\xa7\x41\xa6\x6e", "你好", true, false},
	{"euc-kr", "\xbe\xc8", "안", true, false},
	{"ks_c_5601-1987", "\xbe\xc8", "안", true, false},
	{"iso-2022-kr", "\x1b$)C\x0e\x3e\x48\x0f", "안", true, false},
	{"tis-620", "\xa1", "ก", true, false},
	{"cp-850", "\x82", "é", true, false},
	{"utf-7", "+BB8-", "П", true, false},
	{"unicode-1-1-utf-7", "A+-", "A+", true, false},
	{"ISO8859_15", "\xa4", "€", true, false},
	{"iso_8859-7:1987", "\xc1", "Α", true, false},
	{"windows1252", "\x80", "€", true, false},
	{"EUC_KR", "\xbe\xc8", "안", true, false},
	{"windows-1251", "\x98", FFFD, true, true},
	{"shift_jis", "a\x82", "a" FFFD, true, true},
	{"euc-jp", "\xa4\xb3\xff.", "こ" FFFD ".", true, true},
	/* UTF-8 under another name, where that has no such octets */
	{"gb2312", "你好！", "你好！", true, true},
	{"iso-2022-jp", "Grüße", "Grüße", true, true},
	{"windows-1253", "Ғ", "Ғ", true, true},
	{"windows-1252", "é", "Ã©", true, false},
	/* labels that are not ours, or no labels (smuggled iconv options) */
	{"utf-8//IGNORE", "a\xff", "aÿ", false, true},
	{"koi8-r//TRANSLIT", "abc", "abc", false, false},
	{"iso-2022-cn-ext", "abc", "abc", false, false},
	{":", "abc", "abc", false, false},
	{"utf-8/", "abc", "abc", false, false},
	{"../../x", "abc", "abc", false, false},
	{"", "\xc3\xa9", "é", false, false},
	{"no-such-charset-with-a-name-longer-than-any-label-could-be", "\xe9", "é", false, true},
	{NULL, "\xc3\xa9", "é", false, false},
	{NULL, "\xe9\x93", "é“", false, true},
	/* nobody said what: letters above 0x7f in rows are Cyrillic, among others they are Western */
	{NULL, "\xcf\xf0\xe8\xe2\xe5\xf2!", "Привет!", false, true},
	{"us-ascii", "Re: \xef\xf0\xe8\xe2\xb3\xf2", "Re: привіт", true, true},
	{NULL, "Pr\xe4sident, \xe0 c\xf4t\xe9", "Präsident, à côté", false, true},
	{NULL, "\xe8 \xe0 \xf2", "è à ò", false, true},
	{NULL, "\x80\x80 \xbc\xbd", "€€ ¼½", false, true},
	{"x-unknown", "\xd3\xed\xe8 \xd3\xed\xe8 caf\xe9", "Уни Уни cafй", true, true},
	/* RFC 1843 */
	{"hz-gb-2312", "a~{Dc:C~}b~~", "a你好b~", true, false},
	{"HZ", "~{Dc:C\n~{Dc", "你好\n你", true, false},
	{"hz", "a~\nb~\r\nc~x", "abc~x", true, false},
	{"hz", "~{D", "D", true, false},
};

static void test_charsets(void **state) {
	for (size_t i = 0; i < array_len(charset_rows); i++) {
		struct buf b;
		bool bad;
		buf_init(&b, 1000);
		bool known = text_append_charset_check(&b, charset_rows[i].charset, charset_rows[i].in,
		                                       strlen(charset_rows[i].in), true, &bad);
		char what[100];
		snprintf(what, sizeof what, "row %zu %s", i, charset_rows[i].charset ? charset_rows[i].charset : "-");
		check(&b, charset_rows[i].out, what);
		if (known != charset_rows[i].known || bad != charset_rows[i].bad)
			fail_msg("%s: known %d bad %d", what, known, bad);
		buf_fini(&b);
	}
}

static void test_utf16(void **state) {
	static const struct {
		const char *charset, *in;
		size_t n;
		const char *out;
		bool bad;
	} rows[] = {
		{"utf-16", "\xff\xfe\x1f\x04", 4, "П", false},
		{"utf-16", "\xfe\xff\x04\x1f", 4, "П", false},
		{"utf-16", "\x1f\x04", 2, "П", true}, /* no mark: little endian */
		{"utf-16be", "\x04\x1f", 2, "П", false},
		{"utf-16le", "\x00\x00", 2, FFFD, false},
		{"utf-16le", "\x00\xd8x\x00", 4, FFFD "x", true}, /* a lone surrogate */
		{"utf-16le", "x\x00y", 3, "x" FFFD, true},
		{"utf-16le", "a\x00\r\x00\n\x00", 6, "a\r\n", false},
		{"utf-16le", "\xff\xfe\x1f\x04", 4, "П", false},
		{"utf-16be", "\xfe\xff\x04\x1f", 4, "П", false},
		{"us-ascii", "\xff\xfe\x1f\x04", 4, "П", true}, /* nobody said so, but the mark does */
		{"us-ascii", "\xfe\xff\x04\x1f", 4, "П", true},
		{"us-ascii", "\xff\xfe!", 3, "яю!", true},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		struct buf b;
		bool bad;
		buf_init(&b, 1000);
		assert_true(text_append_charset_check(&b, rows[i].charset, rows[i].in, rows[i].n, true, &bad));
		check(&b, rows[i].out, rows[i].charset);
		assert_int_equal(bad, rows[i].bad);
		buf_fini(&b);
	}
}

/* Longer than one piece of the conversion, with CRLF at every place of the cut. */
static void test_long_text(void **state) {
	for (size_t shift = 0; shift < 4; shift++) {
		struct buf in, out, want;
		buf_init(&in, 100000);
		buf_init(&out, 100000);
		buf_init(&want, 100000);
		for (size_t i = 0; i < shift; i++) {
			buf_append_str(&in, "x");
			buf_append_str(&want, "x");
		}
		for (int i = 0; i < 5000; i++) {
			buf_append_str(&in, "\xcf\r\n");
			buf_append_str(&want, "П\r\n");
		}
		assert_true(text_append_charset(&out, "windows-1251", in.data, in.len, true));
		check(&out, want.data, "long");
		buf_fini(&in);
		buf_fini(&out);
		buf_fini(&want);
	}
}

static void test_ceiling(void **state) {
	struct buf b;
	buf_init(&b, 10);
	text_append_charset(&b, "koi8-r", "\xf0\xd2\xc9\xd7\xc5\xd4\xf0\xd2\xc9\xd7\xc5\xd4", 12, true);
	assert_true(b.overflow);
	assert_true(text_utf8_valid(b.len ? b.data : "", b.len));
	buf_fini(&b);
	assert_int_equal(text_cut("aбв", 5, 4), 3);
	assert_int_equal(text_cut("aбв", 5, 5), 5);
	assert_int_equal(text_cut("aбв", 5, 2), 1);
	assert_int_equal(text_cut("бв", 4, 1), 0);
}

static const struct {
	const char *in, *fallback, *out;
} header_rows[] = {
	{"plain", NULL, "plain"},
	{"", NULL, ""},
	{"  \t ", NULL, ""},
	{"folded\r\n line\n\tmore", NULL, "folded line more"},
	{"not\nfolded\x01\x7f", NULL, "not folded  "},
	/* RFC 2047 8, and the two words that GMime 3.2.13 loses the second of */
	{"=?UTF-8?B?SGVsbG8=?= =?UTF-8?B?IHdvcmxk?=", NULL, "Hello world"},
	{"=?ISO-8859-1?Q?a?=", NULL, "a"},
	{"=?ISO-8859-1?Q?a?= b", NULL, "a b"},
	{"=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", NULL, "ab"},
	{"=?ISO-8859-1?Q?a?=\r\n    =?ISO-8859-1?Q?b?=", NULL, "ab"},
	{"=?ISO-8859-1?Q?a_b?=", NULL, "a b"},
	{"=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=", NULL, "a b"},
	/* characters cut between words, which RFC 2047 5 forbids and everybody sends */
	{"=?utf-8?B?0J8=?= =?utf-8?Q?=D1?= =?UTF-8?Q?=80=D0=B8?=", NULL, "При"},
	{"=?utf-8?B?0A==?=\r\n =?utf-8?B?nw==?=", NULL, "П"},
	{"=?gb2312?B?xOM=?= =?gb2312?B?usM=?=", NULL, "你好"},
	{"=?iso-2022-jp?B?GyRCJDMbKEI=?= =?iso-2022-jp?B?GyRCJHMbKEI=?=", NULL, "こん"},
	{"=?windows-1255?B?+ezl7Q==?=", NULL, "שלום"},
	/* lenient: blanks in a word, text around it, language, unknown charset, missing padding */
	{"=?utf-8?q?hello world?=", NULL, "hello world"},
	{"a=?utf-8?q?b?=c", NULL, "abc"},
	{"=?utf-8?q?a?==?utf-8?q?b?=", NULL, "ab"},
	{"=?us-ascii*en?Q?Keith?=", NULL, "Keith"},
	{"=?x-nothing?q?=C3=A9?=", NULL, "é"},
	{"=?utf-8?b?SGVsbG8?=", NULL, "Hello"},
	{"=?utf-8?q?what?\?=", NULL, "what?"},
	{"=?utf-8?q?=zz=4?=", NULL, "=zz=4"},
	{"=?utf-8?q?=D0=9F?= is Pe", NULL, "П is Pe"},
	/* no words */
	{"=?utf-8?x?a?=", NULL, "=?utf-8?x?a?="},
	{"=?utf-8?q?a", NULL, "=?utf-8?q?a"},
	{"=?=?=?", NULL, "=?=?=?"},
	{"2 = ? 3 =? x", NULL, "2 = ? 3 =? x"},
	{"=??q?a?=", NULL, "=??q?a?="},
	/* decoded line ends and controls are blanks: nothing can be injected */
	{"=?utf-8?q?a=0d=0aX:=20b=00c?=", NULL, "a  X: b" FFFD "c"},
	/* raw 8-bit octets */
	{"caf\xc3\xa9", NULL, "café"},
	{"caf\xe9 \x93x\x94", NULL, "café “x”"},
	{"\xcf\xf0\xe8", "windows-1251", "При"},
	{"\xcf\xf0\xe8", "no-such", "При"},
	{"\xcf\xf0\xe8", NULL, "При"},
	{"\xcf\xf0\xe8", "utf-8", "При"},
	{"M\xfcller \xfc", "us-ascii", "Müller ü"},
	{"\xcf\xf0 =?utf-8?q?=C3=A9?= \xe8", "windows-1251", "Пр é и"},
	{"\x1b$B$3$s\x1b(B", "iso-2022-jp", "こん"},
	{"caf\xe9 +ADw-v+AEA-x+AD4-", "utf-7", "café +ADw-v+AEA-x+AD4-"},
	{"a\xe9", "utf-16", "aé"},
};

static void test_headers(void **state) {
	for (size_t i = 0; i < array_len(header_rows); i++) {
		struct buf b;
		buf_init(&b, 1000);
		assert_int_equal(text_append_header(&b, header_rows[i].in, strlen(header_rows[i].in), header_rows[i].fallback),
		                 0);
		check(&b, header_rows[i].out, header_rows[i].in);
		buf_fini(&b);
	}
}

/* Every octet string gives clean one-line text. */
static void test_header_prefixes(void **state) {
	static const char rich[] =
		"=?utf-8?B?0J8=?= \xe9=?utf-8?Q?=D1?= =?UTF-8?Q?=80=D0=B8?=\r\n =?iso-2022-jp*ja?B?GyRCJDMbKEI=?=";
	for (size_t from = 0; from < sizeof rich; from++)
		for (size_t to = from; to < sizeof rich; to++) {
			struct buf b;
			buf_init(&b, 1000);
			char *copy = xmemdup(rich + from, to - from); /* so that a sanitizer sees a step too far */
			assert_int_equal(text_append_header(&b, copy, to - from, NULL), 0);
			assert_true(text_utf8_valid(b.len ? b.data : "", b.len));
			for (size_t i = 0; i < b.len; i++)
				assert_true((uint8_t)b.data[i] >= 0x20);
			free(copy);
			buf_fini(&b);
		}
}

static void test_unfolded(void **state) {
	struct buf b;
	buf_init(&b, 1000);
	text_append_unfolded(&b, "a=?utf-8?q?x?=\r\n b\xe9", 19, NULL);
	check(&b, "a=?utf-8?q?x?= bé", "unfolded");
	buf_fini(&b);
}

static void test_fields(void **state) {
	static const char text[] = "Subject: a\r\n b\r\nX-Empty:\r\nno colon here\r\nTo : x\r\nbad name: "
							   "y\r\n\tfolded\nLast:z\r\n\r\nBody: no\r\n";
	static const struct {
		const char *name, *value;
		size_t offset;
	} want[] = {
		{"Subject", "a\r\n b", 0},           {"X-Empty", "", 16}, {"", "no colon here", 26}, {"To", "x", 41},
		{"", "bad name: y\r\n\tfolded", 49}, {"Last", "z", 70},
	};
	struct slice block = slice_str(text);
	struct text_field f;
	for (size_t i = 0; i < array_len(want); i++) {
		assert_int_equal(text_next_field(&block, &f), 1);
		if (!slice_eq(f.name, slice_str(want[i].name)) || !slice_eq(f.value, slice_str(want[i].value)))
			fail_msg("field %zu: \"%.*s\" \"%.*s\"", i, (int)f.name.n, f.name.p, (int)f.value.n, f.value.p);
		assert_int_equal(f.name.p - text, want[i].offset);
	}
	assert_int_equal(text_next_field(&block, &f), 0);
	assert_int_equal(text_next_field(&block, &f), 0);
	for (size_t n = 0; n < sizeof text; n++) { /* every truncation ends */
		char *copy = xmemdup(text, n);
		block = slice_of(copy, n);
		for (unsigned i = 0; text_next_field(&block, &f) > 0; i++)
			assert_true(i < 10);
		free(copy);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_utf8),    cmocka_unit_test(test_clean),           cmocka_unit_test(test_charsets),
		cmocka_unit_test(test_utf16),   cmocka_unit_test(test_long_text),       cmocka_unit_test(test_ceiling),
		cmocka_unit_test(test_headers), cmocka_unit_test(test_header_prefixes), cmocka_unit_test(test_unfolded),
		cmocka_unit_test(test_fields),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
