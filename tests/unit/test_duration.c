/* duration: the forms of expiresIn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "apid/duration.h"

#define S 1000000LL

static const struct {
	int64_t n;
	int r;
	int64_t us;
} ints[] = {
    {1, 0, 60 * S},  {60, 0, 3600 * S}, {61, 0, 61 * S},    {900, 0, 900 * S},       {3600, 0, 3600 * S},
    {0, -ERANGE, 0}, {-1, -ERANGE, 0},  {3601, -ERANGE, 0}, {INT64_MAX, -ERANGE, 0}, {INT64_MIN, -ERANGE, 0},
};

static const struct {
	const char *text;
	int r;
	int64_t us;
} texts[] = {
    {"900s", 0, 900 * S},
    {"20m", 0, 1200 * S},
    {"1h", 0, 3600 * S},
    {"1d", 0, 86400 * S},
    {"020m", 0, 1200 * S},
    {"3660d", 0, 3660 * 86400 * S},
    {"3661d", -ERANGE, 0},
    {"0s", -ERANGE, 0},
    {"99999999999999999999999999999s", -ERANGE, 0},
    {"9223372036854775808s", -ERANGE, 0},
    {"", -EINVAL, 0},
    {"m", -EINVAL, 0},
    {"20", -EINVAL, 0},
    {"20M", -EINVAL, 0},
    {"20 m", -EINVAL, 0},
    {" 20m", -EINVAL, 0},
    {"20m ", -EINVAL, 0},
    {"-20m", -EINVAL, 0},
    {"+20m", -EINVAL, 0},
    {"1.5h", -EINVAL, 0},
    {"1h30m", -EINVAL, 0},
    {"20min", -EINVAL, 0},
    {"20w", -EINVAL, 0},
    {"0x10m", -EINVAL, 0},
    {"99999999999999999999999999x9s", -EINVAL, 0},
};

static void test_ints(void **state) {
	for (size_t i = 0; i < array_len(ints); i++) {
		int64_t us = -1;
		assert_int_equal(duration_from_int(ints[i].n, &us), ints[i].r);
		assert_int_equal(us, ints[i].r == 0 ? ints[i].us : -1);
	}
}

static void test_texts(void **state) {
	for (size_t i = 0; i < array_len(texts); i++) {
		int64_t us = -1;
		int r = duration_from_text(slice_str(texts[i].text), &us);
		if (r != texts[i].r || us != (texts[i].r == 0 ? texts[i].us : -1))
			fail_msg("\"%s\": %d, %lld", texts[i].text, r, (long long)us);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_ints), cmocka_unit_test(test_texts)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
