/* stress: on at once, off after ten calm seconds, and what counts as calm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "smtpd/stress.h"

#define SECOND INT64_C(1000000)

static const struct stress_lines lines = {.sessions = 80, .commit_us = 2 * SECOND};
static int64_t now;

/* One second later. */
static bool update(struct stress *s, unsigned sessions) {
	now += SECOND;
	return stress_update(s, &lines, sessions, 100, now);
}

static void test_sessions(void **state) {
	struct stress s = {0};
	now = 100 * SECOND;
	assert_false(update(&s, 79));
	assert_true(update(&s, 80));
	assert_true(s.on);
	assert_false(update(&s, 100));
	for (int i = 0; i < 60; i++)
		assert_false(update(&s, 60)); /* between the lines it stays */
	assert_false(update(&s, 59));
	for (int i = 0; i < 9; i++)
		assert_false(update(&s, 0));
	assert_true(s.on);
	assert_false(update(&s, 70)); /* not calm yet: from the start */
	for (int i = 0; i < 10; i++)
		assert_false(update(&s, 10));
	assert_true(update(&s, 10));
	assert_false(s.on);
	assert_false(update(&s, 79));
}

static void test_commits(void **state) {
	struct stress s = {0};
	now = 100 * SECOND;
	stress_commit(&s, 10 * SECOND); /* one alone says little */
	assert_false(update(&s, 0));
	stress_commit(&s, 10 * SECOND);
	assert_true(update(&s, 0));
	for (int i = 0; i < 30; i++) {
		stress_commit(&s, 3 * SECOND);
		assert_false(update(&s, 0));
	}
	assert_true(s.on);
	bool changed = false;
	int i = 0;
	for (; i < 40 && !changed; i++)
		changed = update(&s, 0); /* no commits: it fades */
	assert_true(changed && !s.on);
	assert_in_range(i, 12, 30);
}

static void test_never(void **state) {
	const struct stress_lines none = {0};
	struct stress s = {0};
	for (int i = 0; i < 30; i++)
		stress_commit(&s, 60 * SECOND);
	assert_false(stress_update(&s, &none, 100, 100, SECOND));
	assert_false(s.on);
}

int main(void) {
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_sessions), cmocka_unit_test(test_commits), cmocka_unit_test(test_never)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
