/* parser: the real zygote and the real process, on a loop: order, descriptors, cancelling, and every way to lose the
 * process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/loop.h"
#include "smtpd/parser.h"
#include "tests/support/unit.h"

#define OPS_MAX 200

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

struct request {
	struct spool *spool;
	struct parser_op *op;
	struct message *msg;
	unsigned order; /* of its answer, from 1 */
};

struct fixture {
	struct loop *loop;
	struct parser *parser;
	unsigned restarts, lost, answers, wanted;
	struct request requests[OPS_MAX];
	unsigned count;
	bool inside; /* a call of ours: no callback may run */
};

static void on_restart(void *arg) {
	((struct fixture *)arg)->restarts++;
}

static void on_lost(void *arg) {
	((struct fixture *)arg)->lost++;
}

static struct fixture *open_fixture(int64_t deadline_us, uint64_t source_max) {
	struct fixture *f = xcalloc(1, sizeof *f);
	f->loop = loop_new();
	const struct parser_options options = {
		.deadline_us = deadline_us,
		.memory_max = 256 << 20,
		.source_max = source_max,
		.on_restart = on_restart,
		.on_lost = on_lost,
		.arg = f,
	};
	f->parser = parser_new(f->loop, &options);
	assert_non_null(f->parser);
	return f;
}

static void close_fixture(struct fixture *f) {
	parser_free(f->parser);
	for (unsigned i = 0; i < f->count; i++) {
		message_free(f->requests[i].msg);
		spool_free(f->requests[i].spool);
	}
	loop_free(f->loop);
	free(f);
}

/* The request is looked up by spool, so that the callback needs no more than the fixture. */
static void on_done(void *arg, struct message *msg) {
	struct fixture *f = arg;
	assert_false(f->inside);
	assert_non_null(msg);
	for (unsigned i = 0; i < f->count; i++)
		if (f->requests[i].op && !f->requests[i].msg) {
			f->requests[i].msg = msg;
			f->requests[i].op = NULL;
			f->requests[i].order = ++f->answers;
			return;
		}
	fail_msg("an answer to nothing");
}

static struct request *ask(struct fixture *f, const void *source, size_t n) {
	assert_true(f->count < OPS_MAX);
	struct request *r = &f->requests[f->count++];
	r->spool = spool_new("/tmp");
	assert_int_equal(spool_append(r->spool, source, n), 0);
	f->inside = true;
	r->op = parser_start(f->parser, r->spool, on_done, f);
	f->inside = false;
	f->wanted++;
	return r;
}

static struct request *ask_subject(struct fixture *f, unsigned number) {
	char text[100];
	int n = snprintf(text, sizeof text, "From: a@b.c\r\nSubject: %u\r\n\r\nx\r\n", number);
	return ask(f, text, (size_t)n);
}

static void cancel(struct fixture *f, struct request *r) {
	f->inside = true;
	r->op = parser_cancel(r->op);
	f->inside = false;
	assert_null(r->op);
	f->wanted--;
	r->spool = spool_free(r->spool); /* ours again, at once */
}

static void turn(struct fixture *f) {
	turn_within(f->loop, 10000);
}

static void wait_for_answers(struct fixture *f) {
	int64_t limit = clock_mono_us_now() + 60 * SECOND_US;
	while (f->answers < f->wanted) {
		assert_true(clock_mono_us_now() < limit);
		turn(f);
	}
}

static pid_t wait_for_process(struct fixture *f, pid_t old) {
	int64_t limit = clock_mono_us_now() + 60 * SECOND_US;
	while (parser_pid(f->parser) == 0 || parser_pid(f->parser) == old) {
		assert_true(clock_mono_us_now() < limit);
		turn(f);
	}
	return parser_pid(f->parser);
}

static void expect_subject(const struct request *r, unsigned number) {
	char want[16];
	snprintf(want, sizeof want, "%u", number);
	assert_non_null(r->msg);
	assert_int_equal(r->msg->warnings.n, 0);
	assert_string_equal(r->msg->subject, want);
}

static void expect_failed(const struct request *r) {
	assert_non_null(r->msg);
	assert_true(message_warned(r->msg, "parse_failed"));
	assert_null(r->msg->subject);
}

static void test_one(void **state) {
	struct fixture *f = open_fixture(20 * SECOND_US, 1 << 20);
	struct request *r = ask_subject(f, 7);
	wait_for_answers(f);
	expect_subject(r, 7);
	r = ask(f, "", 0);
	wait_for_answers(f);
	assert_true(message_warned(r->msg, "no_headers"));
	assert_int_equal(f->restarts, 0);
	close_fixture(f);
}

/* What a message needs when no file can be opened any more: charsets, names in them, digests. */
static void test_inside_sandbox(void **state) {
	static const char source[] =
		"Subject: =?iso-2022-jp?B?GyRCJDMbKEI=?=\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
		"--b\r\nContent-Type: text/plain; charset=windows-1255\r\n\r\n\xf9\xec\xe5\xed\r\n"
		"--b\r\nContent-Type: a/b; name*=big5''%A7A\r\n\r\nabc\r\n--b--\r\n";
	static const uint8_t abc[] = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea};
	struct fixture *f = open_fixture(20 * SECOND_US, 1 << 20);
	struct request *r = ask(f, source, sizeof source - 1);
	wait_for_answers(f);
	assert_int_equal(r->msg->warnings.n, 0);
	assert_string_equal(r->msg->subject, "こ");
	assert_string_equal(r->msg->body_text, "שלום");
	assert_string_equal(r->msg->parts.parts[0].name, "你");
	assert_memory_equal(r->msg->parts.parts[0].sha256, abc, sizeof abc);

	char path[64], line[256];
	unsigned filter = 9, privileges = 9, mine = 9;
	snprintf(path, sizeof path, "/proc/%d/status", (int)parser_pid(f->parser));
	FILE *status = fopen(path, "re"), *self = fopen("/proc/self/status", "re");
	assert_non_null(status);
	while (fgets(line, sizeof line, status)) {
		sscanf(line, "Seccomp: %u", &filter);
		sscanf(line, "NoNewPrivs: %u", &privileges);
	}
	while (fgets(line, sizeof line, self))
		sscanf(line, "Seccomp: %u", &mine);
	fclose(status);
	fclose(self);
	assert_int_equal(privileges, 1);
	assert_int_equal(filter, SANITIZED ? mine : 2);
	close_fixture(f);
}

/* In memory and in files, all at once: answers in order, each its own. */
static void test_many(void **state) {
	struct fixture *f = open_fixture(20 * SECOND_US, 8 << 20);
	char *big = xmalloc(1 << 20);
	for (unsigned i = 0; i < 120; i++) {
		if (i % 3 == 0) {
			ask_subject(f, i);
			continue;
		}
		size_t n = i % 3 == 1 ? SPOOL_MEMORY_MAX - i : SPOOL_MEMORY_MAX + i * 1000;
		memset(big, 'x', n);
		int head = snprintf(big, 100, "From: a@b.c\r\nSubject: %u\r\nContent-Type: a/b\r\n\r\n", i);
		big[head] = 'x';
		ask(f, big, n);
	}
	free(big);
	wait_for_answers(f);
	for (unsigned i = 0; i < f->count; i++) {
		expect_subject(&f->requests[i], i);
		assert_int_equal(f->requests[i].order, i + 1);
		if (i % 3)
			assert_int_equal(f->requests[i].msg->parts.parts[0].offset + f->requests[i].msg->parts.parts[0].length,
			                 spool_size(f->requests[i].spool));
	}
	close_fixture(f);
}

static void test_too_large(void **state) {
	struct fixture *f = open_fixture(20 * SECOND_US, 29);
	struct request *a = ask_subject(f, 1), *b = ask(f, "Subject: 2\r\n\r\n", 14);
	wait_for_answers(f);
	assert_true(message_warned(a->msg, "not_parsed"));
	expect_subject(b, 2);
	close_fixture(f);
}

static void test_cancel(void **state) {
	struct fixture *f = open_fixture(20 * SECOND_US, 8 << 20);
	char *big = xmalloc(SPOOL_MEMORY_MAX);
	memset(big, 'x', SPOOL_MEMORY_MAX);
	cancel(f, ask_subject(f, 1)); /* before anything is sent */
	pid_t pid = wait_for_process(f, 0);
	kill(pid, SIGSTOP);
	/* More than the socket holds: some are sent, one in part, the rest not at all. */
	for (unsigned i = 0; i < 20; i++)
		ask(f, big, SPOOL_MEMORY_MAX);
	free(big);
	unsigned first = f->count;
	for (unsigned i = 0; i < 3; i++)
		turn(f);
	for (unsigned i = 1; i < first; i++)
		cancel(f, &f->requests[i]);
	struct request *last = ask_subject(f, 99);
	kill(pid, SIGCONT);
	wait_for_answers(f);
	expect_subject(last, 99);
	assert_int_equal(f->restarts, 0);
	assert_int_equal(parser_pid(f->parser), pid);

	/* after the answer has come, before it is handed over there is no moment; after it is, the pointer is gone: NULL
	 * is fine */
	assert_null(parser_cancel(NULL));
	close_fixture(f);
}

static void test_free_with_work(void **state) {
	struct fixture *f = open_fixture(20 * SECOND_US, 8 << 20);
	ask_subject(f, 1);
	turn(f);
	ask_subject(f, 2);
	pid_t pid = wait_for_process(f, 0);
	close_fixture(f);
	for (int i = 0; i < 1000 && kill(pid, 0) == 0; i++)
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	assert_int_equal(kill(pid, 0), -1);
}

static void test_killed_idle(void **state) {
	struct fixture *f = open_fixture(20 * SECOND_US, 1 << 20);
	struct request *r = ask_subject(f, 1);
	wait_for_answers(f);
	expect_subject(r, 1);
	for (unsigned i = 2; i < 6; i++) {
		kill(parser_pid(f->parser), SIGKILL);
		r = ask_subject(f, i); /* perhaps still sent to the dead one */
		wait_for_answers(f);
		expect_subject(r, i);
	}
	assert_int_equal(f->restarts, 4);
	close_fixture(f);
}

/* Killed with requests in its socket, none begun: all are answered by the next one. */
static void test_killed_before_begun(void **state) {
	struct fixture *f = open_fixture(20 * SECOND_US, 1 << 20);
	pid_t pid = wait_for_process(f, 0);
	ask_subject(f, 0);
	wait_for_answers(f);
	kill(pid, SIGSTOP);
	for (unsigned i = 1; i < 10; i++)
		ask_subject(f, i);
	cancel(f, ask_subject(f, 10));
	turn(f);
	turn(f);
	kill(pid, SIGKILL);
	wait_for_answers(f);
	for (unsigned i = 0; i < 10; i++)
		expect_subject(&f->requests[i], i);
	assert_int_equal(f->restarts, 1);
	close_fixture(f);
}

/* A process that hangs: the head pays, and nobody else. */
static void test_deadline(void **state) {
	const int64_t deadline = 2 * SECOND_US; /* more than a slow machine needs for one of those behind it */
	struct fixture *f = open_fixture(deadline, 1 << 20);
	pid_t pid = wait_for_process(f, 0);
	ask_subject(f, 0);
	wait_for_answers(f);
	kill(pid, SIGSTOP);
	int64_t before = clock_mono_us_now();
	for (unsigned i = 1; i < 6; i++)
		ask_subject(f, i);
	wait_for_answers(f);
	assert_true(clock_mono_us_now() - before >= deadline * 5 / 6); /* libevent's clock is coarse */
	expect_failed(&f->requests[1]);
	for (unsigned i = 2; i < 6; i++)
		expect_subject(&f->requests[i], i);
	assert_int_equal(f->restarts, 1);
	assert_int_not_equal(parser_pid(f->parser), pid);
	assert_int_equal(kill(pid, 0), -1);
	close_fixture(f);
}

/* Killed in the midst of a message: that one is failed, the one behind it is not. How far the process got in 20 ms
 * nobody knows, so until it was the first. */
static void test_killed_at_work(void **state) {
	size_t n = 48 << 20;
	char *big = xmalloc(n);
	memset(big, 'A', n);
	memcpy(big, "Content-Type: a/b\r\nContent-Transfer-Encoding: base64\r\n\r\n", 57);
	bool failed = false;
	for (int attempt = 0; attempt < 30 && !failed; attempt++) {
		struct fixture *f = open_fixture(20 * SECOND_US, 64 << 20);
		pid_t pid = wait_for_process(f, 0);
		struct request *a = ask(f, big, n), *b = ask_subject(f, 1);
		turn(f);
		nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
		kill(pid, SIGKILL);
		wait_for_answers(f);
		failed = message_warned(a->msg, "parse_failed");
		expect_subject(b, 1);
		close_fixture(f);
	}
	assert_true(failed);
	free(big);
}

static pid_t parent_of(pid_t pid) {
	char path[64];
	int parent = 0;
	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	FILE *stat = fopen(path, "re");
	assert_non_null(stat);
	assert_int_equal(fscanf(stat, "%*d (%*[^)]) %*c %d", &parent), 1);
	fclose(stat);
	return parent;
}

static void test_zygote_lost(void **state) {
	struct fixture *f = open_fixture(20 * SECOND_US, 1 << 20);
	pid_t pid = wait_for_process(f, 0), zygote = parent_of(pid);
	assert_int_equal(parent_of(zygote), getpid());
	ask_subject(f, 0);
	wait_for_answers(f); /* it is past its fork, and bound to its parent's life */
	kill(pid, SIGSTOP);
	struct request *a = ask_subject(f, 1);
	turn(f);
	kill(zygote, SIGKILL);
	wait_for_answers(f);
	expect_failed(a);
	struct request *b = ask_subject(f, 2);
	wait_for_answers(f);
	expect_failed(b);
	assert_int_equal(f->lost, 1);
	for (int i = 0; i < 1000 && kill(pid, 0) == 0; i++)
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	assert_int_equal(kill(pid, 0), -1);
	close_fixture(f);
}

/* What stops a daemon does not stop the parser it still needs. */
static void test_deaf(void **state) {
	struct fixture *f = open_fixture(20 * SECOND_US, 1 << 20);
	pid_t pid = wait_for_process(f, 0), zygote = parent_of(pid);
	ask_subject(f, 1);
	wait_for_answers(f);
	static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
	for (size_t i = 0; i < array_len(signals); i++) {
		kill(pid, signals[i]);
		kill(zygote, signals[i]);
	}
	struct request *r = ask_subject(f, 2);
	wait_for_answers(f);
	expect_subject(r, 2);
	assert_int_equal(parser_pid(f->parser), pid);
	close_fixture(f);
}

static void forget(void *arg) {
	*(int *)arg = getpid();
}

static void test_forget(void **state) {
	int *seen = mmap(NULL, sizeof *seen, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct loop *loop = loop_new();
	const struct parser_options options = {.deadline_us = SECOND_US, .source_max = 1, .forget = forget, .arg = seen};
	struct parser *p = parser_new(loop, &options);
	while (parser_pid(p) == 0)
		loop_turn(loop);
	assert_int_equal(*seen, parent_of(parser_pid(p)));
	parser_free(p);
	loop_free(loop);
	munmap(seen, sizeof *seen);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one),         cmocka_unit_test(test_inside_sandbox),
		cmocka_unit_test(test_many),        cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_cancel),      cmocka_unit_test(test_free_with_work),
		cmocka_unit_test(test_killed_idle), cmocka_unit_test(test_killed_before_begun),
		cmocka_unit_test(test_deadline),    cmocka_unit_test(test_killed_at_work),
		cmocka_unit_test(test_zygote_lost), cmocka_unit_test(test_deaf),
		cmocka_unit_test(test_forget),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
