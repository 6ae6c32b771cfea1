/* Ids: layout, order, text form (RFC 9562), and the bucket of an address. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/id.h"

#include <sys/wait.h>
#include <unistd.h>

#define T0 1795533314123456LL /* 2026-11-24T15:15:14.123456Z */

/* RFC 9562 5.7: unix_ts_ms */
static int64_t time_ms(const struct id *id) {
	uint64_t ms = 0;
	for (unsigned i = 0; i < 6; i++)
		ms = ms << 8 | id->b[i];
	return (int64_t)ms;
}

static void test_layout(void **state) {
	for (unsigned bucket = 0; bucket < ID_BUCKETS; bucket++) {
		struct id id;
		id_make_in_bucket(&id, T0, bucket);
		assert_int_equal(id_bucket(&id), bucket);
		assert_int_equal(id.b[6] >> 4, 7); /* RFC 9562 5.7: ver */
		assert_int_equal(id.b[8] >> 6, 2); /* RFC 9562 4.1: var */
		assert_in_range(time_ms(&id), T0 / 1000, T0 / 1000 + 1);
	}
}

static int compare(const struct id *a, const struct id *b) {
	return memcmp(a->b, b->b, sizeof(a->b));
}

static void test_rising(void **state) {
	/* same instant, later, and a clock that stepped back by a minute: always greater */
	static const int64_t steps[] = {0, 0, 1, 0, 999, 1000, -60000000, 0, 5, 60000000, 0, 3600000000};
	struct id last, next;
	int64_t now = T0 + 1000000;
	id_make(&last, now);
	for (unsigned round = 0; round < 200; round++) {
		now += steps[round % array_len(steps)];
		id_make(&next, now);
		assert_true(compare(&last, &next) < 0);
		last = next;
	}
}

static void test_fraction(void **state) {
	/* RFC 9562 6.2, method 3: half a millisecond is half of 4096 */
	struct id id;
	id_make(&id, T0 + 40000000000000LL - T0 % 1000 + 500);
	assert_int_equal((id.b[6] & 0x0f) << 8 | id.b[7], 2048);
}

static void test_random(void **state) {
	struct id a, b;
	id_make(&a, T0);
	id_make(&b, T0);
	assert_memory_not_equal(a.b + 9, b.b + 9, 7);
}

/* Parent and child go on from the same state, and must not make the same ids. */
static void test_fork(void **state) {
	struct id here, there;
	int pair[2], status;
	id_make(&here, 0);
	assert_int_equal(pipe(pair), 0);
	pid_t pid = fork();
	if (pid == 0) {
		id_make(&there, 0);
		_exit(write(pair[1], &there, sizeof(there)) != sizeof(there));
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(read(pair[0], &there, sizeof(there)), sizeof(there));
	id_make(&here, 0);
	assert_memory_not_equal(here.b + 8, there.b + 8, 8);
	close(pair[0]);
	close(pair[1]);
}

static void test_parse(void **state) {
	static const struct {
		const char *text;
		bool ok;
	} rows[] = {
	    {"01890a5d-ac96-774b-bcce-b302099a8057", true},   {"01890A5D-AC96-774B-BCCE-B302099A8057", true},
	    {"00000000-0000-0000-0000-000000000000", true},   {"", false},
	    {"01890a5dac96774bbcceb302099a8057", false},      {"01890a5d-ac96-774b-bcce-b302099a805", false},
	    {"01890a5d-ac96-774b-bcce-b302099a80577", false}, {"{1890a5d-ac96-774b-bcce-b302099a8057", false},
	    {"01890a5d-ac96-774b-bcceb-302099a8057", false},  {"01890a5d-ac96-774b-bcce-b302099a805g", false},
	    {"01890a5d ac96 774b bcce b302099a8057", false},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		struct id id;
		assert_int_equal(id_parse(rows[i].text, strlen(rows[i].text), &id), rows[i].ok);
	}
	/* one octet at a time: no prefix of a good id is an id */
	for (size_t n = 0; n < ID_TEXT_SIZE - 1; n++) {
		struct id id;
		assert_false(id_parse(rows[0].text, n, &id));
	}
}

static void test_round_trip(void **state) {
	struct id id, back;
	char text[ID_TEXT_SIZE];
	for (unsigned i = 0; i < 100; i++) {
		id_make(&id, T0 + i);
		id_format(&id, text);
		assert_int_equal(strlen(text), ID_TEXT_SIZE - 1);
		assert_true(id_parse(text, strlen(text), &back));
		assert_true(id_equal(&id, &back));
	}
	back.b[15] ^= 1;
	assert_false(id_equal(&id, &back));
	assert_true(id_parse("01890A5D-AC96-774B-BCCE-B302099A8057", 36, &id));
	id_format(&id, text);
	assert_string_equal(text, "01890a5d-ac96-774b-bcce-b302099a8057");
	assert_int_equal(time_ms(&id), 0x01890a5dac96);
}

/* Values computed by another implementation of SHA-256; they may never change, since they are in every stored key. */
static void test_bucket_of_address(void **state) {
	assert_int_equal(id_bucket_of_address("postmaster@minutemail.cc", 24), 906);
	assert_int_equal(id_bucket_of_address("a@b.example", 11), 942);
	assert_int_equal(id_bucket_of_address("", 0), 910);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_layout),
	    cmocka_unit_test(test_rising),
	    cmocka_unit_test(test_random), cmocka_unit_test(test_fork),
	    cmocka_unit_test(test_fraction),
	    cmocka_unit_test(test_parse),
	    cmocka_unit_test(test_round_trip),
	    cmocka_unit_test(test_bucket_of_address),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
