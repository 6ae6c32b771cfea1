/* stress: on at once, off after ten calm seconds, and what counts as calm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "smtpd/stress.h"

static const struct stress_lines lines = {.sessions = 80, .commit_us = 2 * SECOND_US};
static struct stress_load load;
static int64_t now;

static void begin(void) {
	now = 100 * SECOND_US;
	load = (struct stress_load){.sessions_max = 100, .all_sessions_max = 400};
}

/* One second later. */
static bool update(struct stress *s, unsigned sessions) {
	now += SECOND_US;
	load.sessions = sessions;
	return stress_update(s, &lines, &load, now);
}

static void committed(unsigned n, int64_t us) {
	load.commits += n;
	load.commits_us += n * us;
}

static void test_sessions(void **state) {
	struct stress s = {0};
	begin();
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

/* This worker has hardly any, but all together have most of what there is. */
static void test_sessions_of_all(void **state) {
	struct stress s = {0};
	begin();
	load.all_sessions = 319;
	assert_false(update(&s, 10));
	load.all_sessions = 320;
	assert_true(update(&s, 10));
	load.all_sessions = 240;
	for (int i = 0; i < 30; i++)
		assert_false(update(&s, 10));
	load.all_sessions = 239;
	for (int i = 0; i < 10; i++)
		assert_false(update(&s, 10));
	assert_true(update(&s, 10));
	assert_false(s.on);
}

static void test_commits(void **state) {
	struct stress s = {0};
	begin();
	committed(1, 10 * SECOND_US); /* one alone says little */
	assert_false(update(&s, 0));
	committed(1, 10 * SECOND_US);
	assert_true(update(&s, 0));
	for (int i = 0; i < 30; i++) {
		committed(1, 3 * SECOND_US);
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

/* Many in one second weigh as they did one by one; a few slow ones among them do not. */
static void test_many_commits(void **state) {
	struct stress s = {0};
	begin();
	committed(1000, 3 * SECOND_US);
	assert_true(update(&s, 0));
	assert_in_range(s.commit_us, 29 * SECOND_US / 10, 3 * SECOND_US);
	s = (struct stress){.commits_seen = load.commits, .commits_us_seen = load.commits_us};
	committed(1000, SECOND_US / 100);
	committed(3, 10 * SECOND_US);
	assert_false(update(&s, 0));
	assert_in_range(s.commit_us, 0, SECOND_US / 10);
}

static void test_never(void **state) {
	const struct stress_lines none = {0};
	struct stress s = {0};
	begin();
	committed(30, 60 * SECOND_US);
	load.sessions = 100;
	load.all_sessions = 400;
	assert_false(stress_update(&s, &none, &load, SECOND_US));
	assert_false(s.on);
}

int main(void) {
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_sessions),     cmocka_unit_test(test_sessions_of_all), cmocka_unit_test(test_commits),
	                                   cmocka_unit_test(test_many_commits), cmocka_unit_test(test_never)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
