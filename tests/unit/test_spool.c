/* smtpd/spool: octets in, the same octets out, on both sides of the step from memory to a file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "smtpd/spool.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

static char dir[] = "/tmp/minutemail-spool.XXXXXX";

static unsigned entries(void) {
	DIR *d = opendir(dir);
	unsigned n = 0;
	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static uint8_t octet(uint64_t at) {
	return (uint8_t)(at * 31 + at / 251 + at / 65537);
}

static void fill(struct spool *s, uint64_t size, size_t step) {
	uint8_t *block = xmalloc(step);
	for (uint64_t at = 0; at < size;) {
		size_t n = (size_t)min_of((uint64_t)step, size - at);
		for (size_t i = 0; i < n; i++)
			block[i] = octet(at + i);
		assert_int_equal(spool_append(s, block, n), 0);
		at += n;
	}
	free(block);
}

static void assert_octets(struct spool *s, uint64_t size, size_t step) {
	uint8_t *got = xmalloc(step + 1), *all = xmalloc(size + 1), digest[SHA256_LEN], expected[SHA256_LEN];
	uint64_t at = 0;
	ssize_t n;
	assert_true(spool_size(s) == size);
	while ((n = spool_read(s, at, got, step)) > 0) {
		for (ssize_t i = 0; i < n; i++)
			all[at + (uint64_t)i] = got[i];
		at += (uint64_t)n;
	}
	assert_int_equal(n, 0);
	assert_true(at == size);
	for (uint64_t i = 0; i < size; i++)
		if (all[i] != octet(i))
			fail_msg("octet %llu", (unsigned long long)i);
	sha256_of(all, size, expected);
	spool_digest(s, digest);
	assert_memory_equal(digest, expected, SHA256_LEN);
	spool_digest(s, digest); /* and again */
	assert_memory_equal(digest, expected, SHA256_LEN);
	free(all);
	free(got);
}

static void test_sizes(void **state) {
	static const struct {
		uint64_t size;
		size_t step;
		bool file;
	} rows[] = {
		{0, 1, false},
		{1, 1, false},
		{5000, 1, false},
		{SPOOL_MEMORY_MAX - 1, 1000, false},
		{SPOOL_MEMORY_MAX, 1000, false},
		{SPOOL_MEMORY_MAX, SPOOL_MEMORY_MAX, false},
		{SPOOL_MEMORY_MAX + 1, 1000, true},
		{SPOOL_MEMORY_MAX + 1, SPOOL_MEMORY_MAX, true},
		{SPOOL_MEMORY_MAX + 1, SPOOL_MEMORY_MAX + 1, true}, /* never in memory */
		{3000000, 65537, true},
	};
	(void)state;
	for (unsigned i = 0; i < array_len(rows); i++) {
		struct spool *s = spool_new(dir);
		fill(s, rows[i].size, rows[i].step);
		assert_int_equal(spool_fd(s) >= 0, rows[i].file);
		if (rows[i].file) /* a parser may have it, and must not change what is stored */
			assert_int_equal(write(spool_fd(s), "x", 1), -1);
		assert_int_equal(spool_memory(s) == NULL, rows[i].file);
		if (rows[i].file)
			assert_int_equal(spool_memory_in_use(), 0);
		else
			assert_in_range(spool_memory_in_use(), rows[i].size, SPOOL_MEMORY_MAX);
		assert_int_equal(entries(), 0); /* the file has no name */
		assert_octets(s, rows[i].size, 4096 + i);
		assert_null(spool_free(s));
		assert_int_equal(spool_memory_in_use(), 0);
	}
	assert_null(spool_free(NULL));
}

static void test_memory_counted(void **state) {
	struct spool *a = spool_new(dir), *b = spool_new(dir);
	(void)state;
	assert_int_equal(spool_memory_in_use(), 0);
	fill(a, 10, 10);
	size_t one = spool_memory_in_use();
	assert_in_range(one, 10, 16384);
	fill(b, SPOOL_MEMORY_MAX, 5000);
	assert_int_equal(spool_memory_in_use(), one + SPOOL_MEMORY_MAX);
	fill(b, 1, 1);
	assert_int_equal(spool_memory_in_use(), one);
	spool_free(a);
	spool_free(b);
	assert_int_equal(spool_memory_in_use(), 0);
}

/* Past the bound of all spools' memory one of few octets is in a file; what is in memory stays there as long as it does not grow. */
static void test_memory_bounded(void **state) {
	struct spool *a = spool_new(dir), *b = spool_new(dir);
	(void)state;
	spool_bound_memory(24576);
	fill(a, 8192, 100);
	fill(b, 16384, 100);
	assert_int_equal(spool_memory_in_use(), 24576);
	assert_non_null(spool_memory(a));
	assert_int_equal(spool_append(a, &(uint8_t){octet(8192)}, 1), 0);
	assert_null(spool_memory(a));
	assert_int_equal(spool_memory_in_use(), 16384);
	assert_octets(a, 8193, 1000);
	assert_octets(b, 16384, 1000);
	spool_free(a);
	spool_free(b);
	spool_bound_memory(0);
	a = spool_new(dir);
	fill(a, 1, 1);
	assert_null(spool_memory(a));
	assert_octets(a, 1, 1);
	spool_free(a);
	spool_bound_memory(SIZE_MAX);
}

static void test_read_ranges(void **state) {
	struct spool *s = spool_new(dir);
	char got[100];
	(void)state;
	for (int round = 0; round < 2; round++) {
		fill(s, round ? SPOOL_MEMORY_MAX : 50, 50);
		uint64_t size = spool_size(s);
		assert_int_equal(spool_read(s, size, got, 1), 0);
		assert_int_equal(spool_read(s, size + 1000, got, 1), 0);
		assert_int_equal(spool_read(s, UINT64_MAX, got, 1), 0);
		assert_int_equal(spool_read(s, size - 10, got, sizeof(got)), 10);
		assert_int_equal(spool_read(s, 3, got, 1), 1);
		assert_int_equal((uint8_t)got[0], octet(3));
	}
	spool_free(s);
}

/* No directory: refused, and what came before stays readable; more may be tried later. */
static void test_no_directory(void **state) {
	struct spool *s = spool_new("/nonexistent/dir");
	uint8_t octets[10] = {0};
	(void)state;
	fill(s, SPOOL_MEMORY_MAX, 4096);
	assert_int_equal(spool_append(s, octets, 10), -ENOENT);
	assert_int_equal(spool_append(s, octets, 10), -ENOENT);
	assert_octets(s, SPOOL_MEMORY_MAX, 1000);
	spool_free(s);
}

/* A file that may grow no further (here by RLIMIT_FSIZE; a full disk is the same write failing half-way). */
static void test_write_fails(void **state) {
	struct spool *s = spool_new(dir);
	struct rlimit old, limit;
	(void)state;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = (struct rlimit){400000, old.rlim_max};
	fill(s, 300000, 300000);
	uint8_t *more = xcalloc(1, 200000);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	int r = spool_append(s, more, 200000); /* half of it fits */
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(r, -EFBIG);
	free(more);
	assert_octets(s, 300000, 9999);
	spool_free(s);
}

static int make_dir(void **state) {
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state) {
	(void)state;
	return rmdir(dir);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),        cmocka_unit_test(test_memory_counted), cmocka_unit_test(test_memory_bounded), cmocka_unit_test(test_read_ranges),
		cmocka_unit_test(test_no_directory), cmocka_unit_test(test_write_fails),
	};
	return cmocka_run_group_tests_name("spool", tests, make_dir, remove_dir);
}
