/* metrics: sums over processes, bucket bounds, the text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/buf.h"
#include "common/metrics.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SEEN, SENT_250, SENT_451, OPEN, TOOK, HELD };

static const struct metrics_def defs[] = {
    {"mm_seen_total", METRICS_COUNTER, "Things seen.", NULL},
    {"mm_sent_total", METRICS_COUNTER, "Replies.", "code=\"250\""},
    {"mm_sent_total", METRICS_COUNTER, "Replies.", "code=\"451\""},
    {"mm_open", METRICS_GAUGE, "Open now.", NULL},
    {"mm_took_seconds", METRICS_HISTOGRAM, "Time taken.", "op=\"x\""},
    {"mm_held", METRICS_SIZES, "How many.", NULL},
    {NULL, METRICS_COUNTER, NULL, NULL},
};

static void in_child(struct metrics *m, unsigned worker, void (*fn)(struct metrics *)) {
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		metrics_attach(m, worker);
		fn(m);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void work(struct metrics *m) {
	for (int i = 0; i < 1000; i++)
		metrics_add(m, SEEN, 2);
	metrics_set(m, OPEN, 7);
	metrics_add(m, OPEN, -2);
	metrics_observe_us(m, TOOK, 100);
}

static void test_processes(void **state) {
	struct metrics *m = metrics_new(defs, 2);
	in_child(m, 0, work);
	in_child(m, 1, work);
	metrics_add(m, SEEN, 1); /* the master has a row too */
	assert_int_equal(metrics_sum(m, SEEN), 4001);
	assert_int_equal(metrics_sum(m, OPEN), 10);
	assert_int_equal(metrics_sum(m, TOOK), 2);
	metrics_reset_gauges(m, 1);
	assert_int_equal(metrics_sum(m, OPEN), 5);
	in_child(m, 1, work); /* the successor goes on */
	assert_int_equal(metrics_sum(m, SEEN), 6001);
	metrics_free(m);
	assert_null(metrics_free(NULL));
}

static void test_buckets(void **state) {
	static const struct {
		int64_t us;
		const char *first; /* the lowest bucket that counts it */
	} rows[] = {
	    {-5, "0.000016"}, {0, "0.000016"},    {16, "0.000016"},        {17, "0.000032"},   {32, "0.000032"},
	    {33, "0.000064"}, {1000, "0.001024"}, {67108864, "67.108864"}, {67108865, "+Inf"}, {INT64_MAX, "+Inf"},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		struct metrics *m = metrics_new(defs, 1);
		struct buf b;
		char want[128];
		buf_init(&b, 65536);
		metrics_observe_us(m, TOOK, rows[i].us);
		metrics_print(m, &b);
		const char *one = strstr(b.data, "\"} 1\n");
		assert_non_null(one);
		snprintf(want, sizeof(want), "mm_took_seconds_bucket{op=\"x\",le=\"%s\"} 1\n", rows[i].first);
		assert_ptr_equal(strstr(b.data, want), one - strlen(want) + 5);
		buf_fini(&b);
		metrics_free(m);
	}
}

static void test_text(void **state) {
	static const char want[] =
	    "# HELP mm_seen_total Things seen.\n# TYPE mm_seen_total counter\nmm_seen_total 5\n"
	    "# HELP mm_sent_total Replies.\n# TYPE mm_sent_total counter\nmm_sent_total{code=\"250\"} 3\n"
	    "mm_sent_total{code=\"451\"} 0\n# HELP mm_open Open now.\n# TYPE mm_open gauge\nmm_open -1\n"
	    "# HELP mm_took_seconds Time taken.\n# TYPE mm_took_seconds histogram\n"
	    "mm_took_seconds_bucket{op=\"x\",le=\"0.000016\"} 1\n";
	struct metrics *m = metrics_new(defs, 1);
	struct buf b;
	buf_init(&b, 65536);
	metrics_add(m, SEEN, 5);
	metrics_attach(m, 0);
	metrics_add(m, SENT_250, 3);
	metrics_set(m, OPEN, -1);
	metrics_observe_us(m, TOOK, 3);
	metrics_observe_us(m, TOOK, 1500000);
	metrics_print(m, &b);
	assert_memory_equal(b.data, want, sizeof(want) - 1);
	assert_non_null(
	    strstr(b.data, "le=\"+Inf\"} 2\nmm_took_seconds_sum{op=\"x\"} 1.500003\nmm_took_seconds_count{op=\"x\"} 2\n"));
	buf_fini(&b);
	metrics_free(m);
}

static void test_sizes(void **state) {
	static const char want[] = "# HELP mm_held How many.\n# TYPE mm_held histogram\n"
	                           "mm_held_bucket{le=\"1\"} 2\nmm_held_bucket{le=\"2\"} 2\nmm_held_bucket{le=\"4\"} 3\n"
	                           "mm_held_bucket{le=\"8\"} 3\nmm_held_bucket{le=\"16\"} 3\nmm_held_bucket{le=\"32\"} 3\n"
	                           "mm_held_bucket{le=\"64\"} 4\nmm_held_bucket{le=\"128\"} 4\nmm_held_bucket{le=\"256\"} 4\n"
	                           "mm_held_bucket{le=\"512\"} 4\nmm_held_bucket{le=\"1024\"} 4\nmm_held_bucket{le=\"+Inf\"} 5\n"
	                           "mm_held_sum 2069\nmm_held_count 5\n";
	static const int64_t sizes[] = {0, 1, 3, 64, 2001};
	struct metrics *m = metrics_new(defs, 1);
	struct buf b;
	buf_init(&b, 65536);
	for (size_t i = 0; i < array_len(sizes); i++)
		metrics_observe(m, HELD, sizes[i]);
	metrics_observe_us(m, TOOK, 3);
	metrics_observe_us(m, TOOK, 4);
	metrics_print(m, &b);
	assert_non_null(strstr(b.data, want));
	assert_int_equal(metrics_sum(m, HELD), 5);
	assert_int_equal(metrics_total(m, HELD), 2069);
	assert_int_equal(metrics_total(m, TOOK), 7);
	buf_fini(&b);
	metrics_free(m);
}

int main(void) {
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_processes), cmocka_unit_test(test_buckets),
	                                   cmocka_unit_test(test_text), cmocka_unit_test(test_sizes)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
