/* log: escaping, quoting, levels and cut lines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/log.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char got[4096];
static unsigned lines;

static void sink(void *arg, enum log_level level, const char *line, size_t n) {
	(void)arg;
	(void)level;
	assert_true(n < sizeof(got));
	memcpy(got, line, n);
	got[n] = '\0';
	lines++;
}

#define HEAD "time=2026-11-24T15:15:14.123Z level=info process=\"test 1\" event="

struct row {
	const char *name, *value;
	size_t n;
	const char *want;
};

#define V(s) s, sizeof(s) - 1
static const struct row rows[] = {
    {"plain", V("a.b@c.example:25/x"), "a.b@c.example:25/x"},
    {"empty", V(""), "\"\""},
    {"blank", V("a b"), "\"a b\""},
    {"equals", V("a=b"), "\"a=b\""},
    {"quote and backslash", V("a\"b\\"), "\"a\\\"b\\\\\""},
    {"line ends", V("a\r\nlevel=error"), "\"a\\r\\nlevel=error\""},
    {"NUL and controls", V("\0\x1b[2J\x7f"), "\"\\x00\\x1b[2J\\x7f\""},
    {"8-bit", V("\xc3\xa9"), "\"\\xc3\\xa9\""},
};

static void test_values(void **state) {
	for (size_t i = 0; i < array_len(rows); i++) {
		struct log_line l;
		char want[512] = HEAD "x key=";
		strcat(want, rows[i].want);
		log_begin(&l, LOG_LEVEL_INFO, "x");
		log_slice(&l, "key", slice_of(rows[i].value, rows[i].n));
		log_end(&l);
		assert_string_equal(got, want);
	}
}

/* Every octet at every place of what is looked at eight at a time. */
static void test_every_octet(void **state) {
	for (unsigned c = 0; c < 256; c++) {
		bool plain = c > 0x20 && c < 0x7f && !strchr("\"\\=", (int)c);
		for (size_t at = 0; at < 19; at++) {
			struct log_line l;
			char value[19];
			memset(value, 'z', sizeof(value));
			value[at] = (char)c;
			log_begin(&l, LOG_LEVEL_INFO, "x");
			log_slice(&l, "key", slice_of(value, sizeof(value)));
			log_end(&l);
			assert_int_equal(strchr(got + sizeof(HEAD), '"') == NULL, plain);
		}
	}
}

static void test_pairs(void **state) {
	struct log_line l;
	log_begin(&l, LOG_LEVEL_INFO, "message stored");
	log_str(&l, "absent", NULL);
	log_int(&l, "least", INT64_MIN);
	log_errno(&l, -ENOENT);
	log_end(&l);
	assert_string_equal(got, HEAD "\"message stored\" least=-9223372036854775808 error=\"No such file or directory\"");
	log_msg(LOG_LEVEL_INFO, "said", "%d apples", 3);
	assert_string_equal(got, HEAD "said msg=\"3 apples\"");
}

static void test_levels(void **state) {
	lines = 0;
	log_msg(LOG_LEVEL_DEBUG, "quiet", "x");
	assert_int_equal(lines, 0);
	assert_false(log_enabled(LOG_LEVEL_DEBUG));
	log_set_level(LOG_LEVEL_DEBUG);
	log_msg(LOG_LEVEL_DEBUG, "quiet", "x");
	assert_int_equal(lines, 1);
	log_set_level(LOG_LEVEL_INFO);
}

/* Every length up to past the end, plain and with four octets an octet: the line must always end whole. */
static void test_cut(void **state) {
	static char value[3000];
	static const char fills[] = {'a', ' ', '\n', '\x01'};
	for (size_t f = 0; f < sizeof(fills); f++) {
		memset(value, fills[f], sizeof(value));
		for (size_t n = 0; n < sizeof(value); n += n < 400 || (n > 1800 && n < 2100) ? 1 : 97) {
			struct log_line l;
			log_begin(&l, LOG_LEVEL_INFO, "x");
			log_slice(&l, "a", slice_of(value, n));
			log_str(&l, "b", "tail");
			log_end(&l);
			size_t len = strlen(got);
			assert_true(len < sizeof(l.text));
			bool whole = strcmp(got + len - 7, " b=tail") == 0, cut = strcmp(got + len - 9, " cut=true") == 0;
			assert_true(whole != cut);
			const char *from = strstr(got, " a=");
			if (from && fills[f] != 'a' && cut && !strstr(got, " b="))
				assert_true(got[len - 10] == '"' && from[3] == '"');
		}
	}
}

/* What has come out of standard error so far. */
static size_t drain(int fd, char *ret, size_t size) {
	ssize_t n = read(fd, ret, size - 1);
	ret[n > 0 ? n : 0] = '\0';
	return n > 0 ? (size_t)n : 0;
}

static void test_hold(void **state) {
	char text[3 * PIPE_BUF];
	int pair[2], saved = dup(STDERR_FILENO);
	size_t written = 0, n;
	assert_int_equal(pipe2(pair, O_NONBLOCK), 0);
	log_set_sink(NULL, NULL);
	dup2(pair[1], STDERR_FILENO);
	log_msg(LOG_LEVEL_INFO, "at once", "1");
	assert_true(drain(pair[0], text, sizeof(text)) > 0);
	log_hold();
	log_msg(LOG_LEVEL_INFO, "kept", "2");
	assert_int_equal(drain(pair[0], text, sizeof(text)), 0);
	log_msg(LOG_LEVEL_WARNING, "not kept", "3");
	assert_true(drain(pair[0], text, sizeof(text)) > 0);
	assert_true(strstr(text, "kept msg=2\n") < strstr(text, "\"not kept\" msg=3\n"));
	/* Never more in one write than a pipe takes whole, and whole lines only. */
	for (unsigned i = 0; i < 100; i++) {
		log_msg(LOG_LEVEL_INFO, "many", "%100u", i);
		n = drain(pair[0], text, sizeof(text));
		assert_true(n <= PIPE_BUF && (n == 0 || text[n - 1] == '\n'));
		written += n;
	}
	assert_true(written > PIPE_BUF);
	log_flush();
	assert_true(drain(pair[0], text, sizeof(text)) > 0);
	assert_non_null(strstr(text, " 99\"\n"));
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(pair[0]);
	close(pair[1]);
	log_set_sink(sink, NULL);
}

/* Nobody reads: lines are left out instead of waited for, and counted once somebody does again. */
static void test_reader_stands_still(void **state) {
	static char text[1 << 17];
	int pair[2], saved = dup(STDERR_FILENO), room;
	assert_int_equal(pipe2(pair, O_NONBLOCK), 0);
	room = fcntl(pair[1], F_GETPIPE_SZ);
	fcntl(pair[1], F_SETFL, 0); /* as a service manager gives it to us: a write would wait */
	log_set_sink(NULL, NULL);
	dup2(pair[1], STDERR_FILENO);
	alarm(20);
	for (int sent = 0; sent < 2 * room; sent += 1000)
		log_msg(LOG_LEVEL_INFO, "x", "%1000u", 1U);
	assert_true(drain(pair[0], text, sizeof(text)) > 0);
	assert_null(strstr(text, "left out"));
	unsigned taken = 0;
	for (const char *p = text; (p = strchr(p, '\n')); p++)
		taken++;
	log_msg(LOG_LEVEL_INFO, "after", "it");
	alarm(0);
	assert_true(drain(pair[0], text, sizeof(text)) > 0);
	unsigned sent = (unsigned)(2 * room + 999) / 1000;
	cleanup(freep) char *count = xasprintf("event=\"lines left out\" of=log count=%u\n", sent - taken);
	assert_non_null(strstr(text, count));
	assert_non_null(strstr(text, "event=after msg=it\n"));
	log_msg(LOG_LEVEL_INFO, "then", "on");
	assert_true(drain(pair[0], text, sizeof(text)) > 0);
	assert_null(strstr(text, "left out"));
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(pair[0]);
	close(pair[1]);
	log_set_sink(sink, NULL);
}

/* What is printed must not go into a socket that got the place of a closed descriptor. */
static void test_closed_places(void **state) {
	pid_t pid = fork();
	if (pid == 0) {
		for (int fd = 0; fd <= STDERR_FILENO; fd++)
			close(fd);
		log_init("test", LOG_LEVEL_INFO);
		_exit(dup(0) == STDERR_FILENO + 1 && fcntl(STDERR_FILENO, F_GETFD) == 0 ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* What a process says whose standard error is a pipe, told that the journal is `inodes` beside it. */
static void say_to_journal(char *ret, size_t size, unsigned inodes) {
	int pair[2], status;
	assert_int_equal(pipe2(pair, O_NONBLOCK), 0);
	pid_t pid = fork();
	if (pid == 0) {
		struct stat st;
		char text[64];
		dup2(pair[1], STDERR_FILENO);
		fstat(STDERR_FILENO, &st);
		snprintf(text, sizeof(text), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)(st.st_ino + inodes));
		setenv("JOURNAL_STREAM", text, 1);
		log_set_sink(NULL, NULL);
		log_init("test", LOG_LEVEL_DEBUG);
		for (unsigned level = LOG_LEVEL_DEBUG; level <= LOG_LEVEL_ERROR; level++)
			log_msg((enum log_level)level, "x", "y");
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(drain(pair[0], ret, size) > 0);
	close(pair[0]);
	close(pair[1]);
}

static void test_journal(void **state) {
	static const char *const begins[] = {"<7>time=", "\n<6>time=", "\n<4>time=", "\n<3>time="};
	char text[PIPE_BUF], *p = text;
	say_to_journal(text, sizeof(text), 0);
	for (unsigned i = 0; i < array_len(begins); i++) {
		p = strstr(p, begins[i]);
		assert_non_null(p);
	}
	say_to_journal(text, sizeof(text), 1);
	assert_null(strchr(text, '<'));
}

static void test_limit(void **state) {
	struct log_limit limit = {.what = "x y", .per_second = 3};
	unsigned before = lines;
	for (int i = 0; i < 10; i++)
		assert_int_equal(log_limit_pass(&limit), i < 3);
	assert_int_equal(lines, before);
	clock_advance(999999);
	assert_false(log_limit_pass(&limit));
	clock_advance(1);
	assert_true(log_limit_pass(&limit));
	assert_int_equal(lines, before + 1);
	assert_non_null(strstr(got, "event=\"lines left out\" of=\"x y\" count=8"));
	clock_advance(1000000);
	assert_true(log_limit_pass(&limit));
	assert_int_equal(lines, before + 1);
}

int main(void) {
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_values), cmocka_unit_test(test_every_octet),
	                                   cmocka_unit_test(test_pairs),  cmocka_unit_test(test_levels),
	                                   cmocka_unit_test(test_cut),    cmocka_unit_test(test_hold),
	                                   cmocka_unit_test(test_limit),  cmocka_unit_test(test_reader_stands_still),
	                                   cmocka_unit_test(test_closed_places), cmocka_unit_test(test_journal)};
	clock_set(1795533314123456);
	log_init("test 1", LOG_LEVEL_INFO);
	log_set_sink(sink, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
