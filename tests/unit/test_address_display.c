/* Which domains are shown as U-labels (RFC 5890, UTS #39 5.1). */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include "common/address.h"
#include "common/address_display.h"

static const struct {
	const char *in, *out;
} rows[] = {
	{"minutemail.cc", "minutemail.cc"},
	{"a@minutemail.cc", "a@minutemail.cc"},
	{"xn--bcher-kva.example", "bücher.example"},
	{"a+b@XN--BCHER-KVA.Example", "a+b@bücher.example"},
	{"bücher.example", "bücher.example"},
	{"a@BÜCHER.example", "a@bücher.example"},
	{"xn--e1afmkfd.xn--p1ai", "пример.рф"},
	{"xn--mgbh0fb.xn--kgbechtv", "مثال.إختبار"},
	{"xn--r8jz45g.xn--zckzah", "例え.テスト"}, /* Han and Hiragana are Japanese */
	{"xn--9n2bp8q.xn--9t4b11yi5a", "실례.테스트"},
	/* Latin letters with Cyrillic or Greek ones among them: the label stays, its neighbours do not */
	{"xn--ypal-43d9g.example", "xn--ypal-43d9g.example"},
	{"раypal.xn--p1ai", "xn--ypal-43d9g.рф"},
	{"a@xn--ggle-0qaa.example", "a@gõõgle.example"}, /* all Latin */
	/* not A-labels of anything */
	{"xn--0.example", "xn--0.example"},
	{"xn--.example", "xn--.example"},
	{"xn--abc-.example", "xn--abc-.example"},
	{"xn--bcher-kva", "bücher"},
	/* no names */
	{"☃.example", "☃.example"},
	{"a@[192.0.2.1]", "a@[192.0.2.1]"},
	{"", ""},
	{"a@", "a@"},
	{"имя@xn--bcher-kva.example", "имя@bücher.example"},
};

static void test_rows(void **state) {
	struct buf out;
	buf_init(&out, 4096);
	for (size_t i = 0; i < array_len(rows); i++) {
		buf_reset(&out);
		address_append_display(&out, rows[i].in, strlen(rows[i].in));
		if (!slice_eq(buf_slice(&out), slice_str(rows[i].out)))
			fail_msg("%s: %.*s", rows[i].in, (int)out.len, out.data);
		if (!address_display_differs(rows[i].in, strlen(rows[i].in)))
			assert_string_equal(rows[i].in, rows[i].out);
	}
	buf_fini(&out);
}

/* What is shown may be pasted: it is the same domain. */
static void test_round_trip(void **state) {
	struct buf out;
	char before[ADDRESS_DOMAIN_MAX + 1], after[ADDRESS_DOMAIN_MAX + 1];
	buf_init(&out, 4096);
	for (size_t i = 0; i < array_len(rows); i++) {
		if (address_canonical_domain(rows[i].in, strlen(rows[i].in), before) < 0)
			continue;
		buf_reset(&out);
		address_append_display(&out, rows[i].in, strlen(rows[i].in));
		assert_int_equal(address_canonical_domain(out.data, out.len, after), 0);
		assert_string_equal(after, before);
	}
	buf_fini(&out);
}

int main(void) {
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_round_trip)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
