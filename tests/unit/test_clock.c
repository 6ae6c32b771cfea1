/* clock: dates against known rows and, day by day, against gmtime_r(); laziness and freezing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"

#include <time.h>

struct row {
	int64_t us;
	const char *rfc3339, *rfc5322;
};

static const struct row rows[] = {
    {0, "1970-01-01T00:00:00.000Z", "Thu, 01 Jan 1970 00:00:00 +0000"},
    {-1, "1969-12-31T23:59:59.999Z", "Wed, 31 Dec 1969 23:59:59 +0000"},
    {951782400000000, "2000-02-29T00:00:00.000Z", "Tue, 29 Feb 2000 00:00:00 +0000"},
    {1795533314123456, "2026-11-24T15:15:14.123Z", "Tue, 24 Nov 2026 15:15:14 +0000"},
    {4107542399999999, "2100-02-28T23:59:59.999Z", "Sun, 28 Feb 2100 23:59:59 +0000"},
    {4107542400000000, "2100-03-01T00:00:00.000Z", "Mon, 01 Mar 2100 00:00:00 +0000"},
    {INT64_MAX, "9999-12-31T23:59:59.999Z", "Fri, 31 Dec 9999 23:59:59 +0000"},
    {INT64_MIN, "0001-01-01T00:00:00.000Z", "Mon, 01 Jan 0001 00:00:00 +0000"},
};

static void test_rows(void **state) {
	for (size_t i = 0; i < array_len(rows); i++) {
		char text[CLOCK_RFC3339_SIZE], mail[CLOCK_RFC5322_SIZE];
		assert_int_equal(clock_format_rfc3339(rows[i].us, text), strlen(rows[i].rfc3339));
		assert_string_equal(text, rows[i].rfc3339);
		assert_int_equal(clock_format_rfc5322(rows[i].us, mail), strlen(rows[i].rfc5322));
		assert_string_equal(mail, rows[i].rfc5322);
	}
}

static void test_read(void **state) {
	static const struct {
		const char *text;
		int64_t us; /* -1: refused */
	} read[] = {
	    {"1970-01-01T00:00:00Z", 0},
	    {"2026-11-24T15:15:14.123456Z", 1795533314123456},
	    {"2026-11-24T15:15:14.1234567891Z", 1795533314123456},
	    {"2000-02-29T00:00:00.0Z", 951782400000000},
	    {"9999-12-31T23:59:59Z", INT64_C(253402300799000000)},
	    {"2026-02-29T00:00:00Z", -1},
	    {"2030-02-30T00:00:00Z", -1},
	    {"2030-04-31T00:00:00Z", -1},
	    {"2030-13-01T00:00:00Z", -1},
	    {"2030-00-01T00:00:00Z", -1},
	    {"2030-01-00T00:00:00Z", -1},
	    {"0000-01-01T00:00:00Z", -1},
	    {"2030-01-01T24:00:00Z", -1},
	    {"2030-01-01T00:60:00Z", -1},
	    {"2030-01-01T00:00:60Z", -1},
	    {"2030-1-1T0:0:0Z", -1},
	    {" 2030-01-01T00:00:00Z", -1},
	    {"2030-01-01 00:00:00Z", -1},
	    {"2030-01-01T00:00:00", -1},
	    {"2030-01-01T00:00:00.Z", -1},
	    {"2030-01-01T00:00:00.5ZZ", -1},
	    {"2030-01-01T00:00:00+01:00", -1},
	    {"2030-01-01", -1},
	    {"Z", -1},
	    {"", -1},
	};
	for (size_t i = 0; i < array_len(read); i++) {
		int64_t us = -1;
		if (!clock_parse_rfc3339(read[i].text, strlen(read[i].text), &us))
			us = -1;
		if (us != read[i].us)
			fail_msg("%s: %lld", read[i].text, (long long)us);
	}
}

static void test_every_day(void **state) {
	for (int64_t day = -50000; day < 150000; day += 1) {
		char ours[CLOCK_RFC5322_SIZE], theirs[CLOCK_RFC5322_SIZE];
		time_t t = (time_t)(day * 86400 + (day & 0xffff));
		struct tm tm;
		clock_format_rfc5322((int64_t)t * 1000000, ours);
		strftime(theirs, sizeof(theirs), "%a, %d %b %Y %H:%M:%S +0000", gmtime_r(&t, &tm));
		assert_string_equal(ours, theirs);
	}
}

static void test_lazy(void **state) {
	clock_update();
	int64_t before = clock_mono_us_now(), first = clock_mono_us();
	assert_true(first >= before);
	while (clock_mono_us_now() == first)
		;
	assert_true(clock_mono_us() == first);
	clock_update();
	before = clock_mono_us_now();
	while (clock_mono_us_now() < before + 1000)
		;
	/* The first read after the mark is what counts, not the mark. */
	assert_true(clock_mono_us() >= before + 1000);
}

static void test_frozen(void **state) {
	int64_t mono = clock_mono_us();
	clock_set(1000000000);
	assert_true(clock_wall_us() == 1000000000);
	assert_true(clock_mono_us() >= mono);
	mono = clock_mono_us();
	clock_update();
	assert_true(clock_mono_us() == mono && clock_mono_us_now() == mono);
	clock_advance(5);
	assert_true(clock_mono_us() == mono + 5 && clock_wall_us() == 1000000005);
	clock_set(1000000105);
	assert_true(clock_mono_us() == mono + 105);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_rows), cmocka_unit_test(test_read),
	    cmocka_unit_test(test_read), cmocka_unit_test(test_every_day), cmocka_unit_test(test_lazy),
	    cmocka_unit_test(test_frozen), /* last: it cannot be undone */
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
