/* transfer: every row is decoded whole, one octet at a time and in runs of three, and must come out the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/transfer.h"

struct row {
	const char *what;
	enum transfer_encoding encoding;
	const char *in, *out;
	bool odd;
};

static const struct row rows[] = {
	/* RFC 2045 6.2 */
	{"identity", TRANSFER_IDENTITY, "a=\r\n\x01 ", "a=\r\n\x01 ", false},
	/* RFC 4648 10, RFC 2045 6.8 */
	{"b64 empty", TRANSFER_BASE64, "", "", false},
	{"b64 f", TRANSFER_BASE64, "Zg==", "f", false},
	{"b64 fo", TRANSFER_BASE64, "Zm8=", "fo", false},
	{"b64 foo", TRANSFER_BASE64, "Zm9v", "foo", false},
	{"b64 foob", TRANSFER_BASE64, "Zm9vYg==", "foob", false},
	{"b64 foobar", TRANSFER_BASE64, "Zm9vYmFy", "foobar", false},
	{"b64 all letters", TRANSFER_BASE64, "+/+/", "\xfb\xff\xbf", false},
	{"b64 line ends and blanks", TRANSFER_BASE64, "Zm 9\r\nv\tYmFy\r\n", "foobar", false},
	{"b64 foreign characters are skipped", TRANSFER_BASE64, "Zm!9v\x80YmF*y", "foobar", true},
	{"b64 missing padding", TRANSFER_BASE64, "Zm9vYg", "foob", true},
	{"b64 one letter too many", TRANSFER_BASE64, "Zm9vY", "foo", true},
	{"b64 goes on after inner padding", TRANSFER_BASE64, "SGVsbG8=IHdvcmxk", "Hello world", true},
	{"b64 inner padding, own lines", TRANSFER_BASE64, "SGVsbG8=\r\nIHdvcmxk\r\n", "Hello world", true},
	{"b64 inner double padding", TRANSFER_BASE64, "QQ==QUJD", "AABC", true},
	{"b64 padding only", TRANSFER_BASE64, "====", "", true},
	{"b64 padding after a whole quantum", TRANSFER_BASE64, "Zm9v=", "foo", true},
	/* RFC 2045 6.7 */
	{"qp plain", TRANSFER_QP, "a b\r\nc", "a b\r\nc", false},
	{"qp escape", TRANSFER_QP, "=41=c3=A9=3D", "A\xc3\xa9=", false},
	{"qp soft break", TRANSFER_QP, "ab=\r\ncd=\ne", "abcde", false},
	{"qp soft break with blanks", TRANSFER_QP, "ab= \t \r\ncd", "abcd", false},
	{"qp blanks before a line end go", TRANSFER_QP, "a \t\r\nb  \nc ", "a\r\nb\nc", false},
	{"qp blanks inside stay", TRANSFER_QP, "a \t b", "a \t b", false},
	{"qp escaped blank stays", TRANSFER_QP, "a=20\r\n", "a \r\n", false},
	{"qp blank before escape", TRANSFER_QP, "a =41 =\r\nb", "a A b", false},
	{"qp bad escape is literal", TRANSFER_QP, "=ZZ=4", "=ZZ=4", true},
	{"qp half escape", TRANSFER_QP, "=4Zx", "=4Zx", true},
	{"qp escape in escape", TRANSFER_QP, "==41=4=42", "=A=4B", true},
	{"qp blank after =", TRANSFER_QP, "= x", "= x", true},
	{"qp = at the end", TRANSFER_QP, "ab=", "ab", false},
	{"qp = CR x", TRANSFER_QP, "=\rx", "=\rx", true},
	{"qp CR", TRANSFER_QP, "a\rb", "a\rb", false},
	{"uu", TRANSFER_UU, "begin 644 f\n#0V%T\n`\nend\n", "Cat", false},
	{"uu with CRLF and text around", TRANSFER_UU, "hi\r\nbegin 644 f\r\n#0V%T\r\n#0V%T\r\n`\r\nend\r\nbye #0V%T\r\n",
     "CatCat", false},
	{"uu without begin", TRANSFER_UU, "#0V%T\n`\nend\n", "", true},
	{"uu short line", TRANSFER_UU, "begin 644 f\n#0V\n#0V%T\nend\n", "CCat", true},
	{"uu bad length", TRANSFER_UU, "begin 644 f\n~xx\n#0V%T\nend\n", "Cat", true},
};

static void decode(const struct row *r, size_t step, struct buf *out, bool *ret_odd) {
	struct transfer t;
	size_t n = strlen(r->in);
	transfer_init(&t, r->encoding);
	for (size_t i = 0; i < n; i += step) {
		size_t run = min_of(step, n - i), room = transfer_bound(&t, run);
		char *p = buf_reserve(out, room);
		assert_non_null(p);
		size_t got = transfer_run(&t, r->in + i, run, p);
		assert_true(got <= room);
		buf_commit(out, got);
	}
	char *p = buf_reserve(out, 80);
	buf_commit(out, transfer_end(&t, p));
	*ret_odd = t.odd;
}

static void test_rows(void **state) {
	static const size_t steps[] = {1000, 1, 3};
	for (size_t i = 0; i < array_len(rows); i++)
		for (size_t k = 0; k < array_len(steps); k++) {
			struct buf out;
			bool odd;
			buf_init(&out, 10000);
			decode(&rows[i], steps[k], &out, &odd);
			if (out.len != strlen(rows[i].out) || memcmp(out.data, rows[i].out, out.len) != 0 || odd != rows[i].odd)
				fail_msg("%s, step %zu: \"%.*s\" odd %d", rows[i].what, steps[k], (int)out.len, out.data, odd);
			buf_fini(&out);
		}
}

/* Longer than what can be held: no octet is lost, and the cut of the runs does not show. */
static void test_qp_long_blanks(void **state) {
	for (size_t n = 70; n < 170; n++) {
		char in[200], whole[400], single[400];
		struct transfer a, b;
		memset(in, ' ', n);
		in[n] = 'x';
		transfer_init(&a, TRANSFER_QP);
		transfer_init(&b, TRANSFER_QP);
		size_t an = transfer_run(&a, in, n + 1, whole), bn = 0;
		for (size_t i = 0; i <= n; i++)
			bn += transfer_run(&b, in + i, 1, single + bn);
		assert_int_equal(an, n + 1);
		assert_int_equal(bn, an);
		assert_memory_equal(whole, in, an);
		assert_memory_equal(single, in, an);
	}
	/* "=" and blanks without end */
	char in[300], out[400];
	struct transfer t;
	memset(in, ' ', sizeof in);
	in[0] = '=';
	in[299] = 'x';
	transfer_init(&t, TRANSFER_QP);
	assert_int_equal(transfer_run(&t, in, sizeof in, out), sizeof in);
	assert_memory_equal(in, out, sizeof in);
	assert_true(t.odd);
}

static void test_names(void **state) {
	static const struct {
		const char *name;
		enum transfer_encoding encoding;
		bool unknown;
	} names[] = {
		{"7bit", TRANSFER_IDENTITY, false},
		{"8BIT", TRANSFER_IDENTITY, false},
		{" binary\t", TRANSFER_IDENTITY, false},
		{"Base64", TRANSFER_BASE64, false},
		{"QUOTED-printable", TRANSFER_QP, false},
		{"x-uuencode", TRANSFER_UU, false},
		{"uuencode", TRANSFER_UU, false},
		{"base-64", TRANSFER_IDENTITY, true},
		{"", TRANSFER_IDENTITY, true},
		{"x-yenc", TRANSFER_IDENTITY, true},
	};
	for (size_t i = 0; i < array_len(names); i++) {
		bool unknown;
		assert_int_equal(transfer_parse(names[i].name, strlen(names[i].name), &unknown), names[i].encoding);
		assert_int_equal(unknown, names[i].unknown);
	}
}

static void test_base64_both_ways(void **state) {
	uint8_t data[300];
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)(i * 37 + i / 7);
	for (size_t n = 0; n <= sizeof data; n++) {
		struct buf text, back;
		buf_init(&text, 1000);
		buf_init(&back, 1000);
		assert_int_equal(transfer_base64_encode(&text, data, n), 0);
		assert_int_equal(text.len, (n + 2) / 3 * 4);
		assert_int_equal(transfer_base64_decode(&back, n ? text.data : "", text.len), 0);
		assert_int_equal(back.len, n);
		assert_memory_equal(n ? back.data : "", data, n);
		buf_fini(&text);
		buf_fini(&back);
	}
}

static void test_base64_strict(void **state) {
	static const struct {
		const char *in;
		int r;
	} strict[] = {
		{"", 0},
		{"Zg==", 0},
		{"Zg", 0},
		{"Zm8", 0},
		{"Zm8=", 0},
		{"Zm9v", 0},
		{"Z", -EINVAL},
		{"Zg=", -EINVAL},
		{"Zg===", -EINVAL},
		{"Z===", -EINVAL},
		{"=", -EINVAL},
		{"====", -EINVAL},
		{"Zm 9v", -EINVAL},
		{"Zm9v\n", -EINVAL},
		{"Zh==", -EINVAL},
		{"Zm9=", -EINVAL},
		{"Zm-_", -EINVAL},
		{"Zg==Zg==", -EINVAL},
		{"Zm9vZm9v!", -EINVAL},
	};
	for (size_t i = 0; i < array_len(strict); i++) {
		struct buf out;
		buf_init(&out, 100);
		int r = transfer_base64_decode(&out, strict[i].in, strlen(strict[i].in));
		if (r != strict[i].r)
			fail_msg("\"%s\": %d", strict[i].in, r);
		if (r < 0)
			assert_int_equal(out.len, 0);
		buf_fini(&out);
	}
	struct buf small;
	buf_init(&small, 3);
	assert_int_equal(transfer_base64_encode(&small, "ab", 2), -ENOSPC);
	assert_int_equal(transfer_base64_decode(&small, "Zm9vYg==", 8), -ENOSPC);
	buf_fini(&small);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),          cmocka_unit_test(test_qp_long_blanks),
		cmocka_unit_test(test_names),         cmocka_unit_test(test_base64_both_ways),
		cmocka_unit_test(test_base64_strict),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
