/* loop: timers, order and turn of deferred jobs, the graveyard, stopping, and the clock's freshness inside callbacks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/loop.h"

#include <event2/event.h>
#include <unistd.h>

static char trace[64];

static void mark(void *arg) {
	strcat(trace, arg);
}

#define TEXT(s) ((char *)(uintptr_t)(s))

struct fixture {
	struct loop *loop;
	struct deferred a, b, c;
	struct timer timer;
	int runs;
};

static void test_timers(void **state) {
	struct fixture f = {.loop = loop_new()};
	struct timer slow, fast, never;
	timer_fini(&f.timer); /* zeroed is fine */
	assert_false(timer_armed(&f.timer));
	trace[0] = '\0';
	timer_init(&slow, f.loop, mark, TEXT("s"));
	timer_init(&fast, f.loop, mark, TEXT("f"));
	timer_init(&never, f.loop, mark, TEXT("n"));
	timer_arm(&slow, 60000);
	timer_arm(&fast, 60000000);
	timer_arm(&fast, 10000);
	timer_arm(&never, 10000);
	timer_disarm(&never);
	assert_true(timer_armed(&fast));
	assert_false(timer_armed(&never));
	loop_turn(f.loop);
	assert_string_equal(trace, "f");
	assert_false(timer_armed(&fast));
	loop_run(f.loop); /* ends when nothing is left */
	assert_string_equal(trace, "fs");
	timer_arm(&fast, -5);
	loop_turn(f.loop);
	assert_string_equal(trace, "fsf");
	timer_fini(&slow);
	timer_fini(&fast);
	timer_fini(&never);
	loop_free(f.loop);
	assert_null(loop_free(NULL));
}

static void defer_c(void *arg) {
	struct fixture *f = arg;
	mark(TEXT("b"));
	loop_defer(f->loop, &f->c, mark, TEXT("c"));
	deferred_cancel(&f->a);
}

static void test_deferred(void **state) {
	struct fixture f = {.loop = loop_new()};
	struct deferred d = {0}, e = {0};
	trace[0] = '\0';
	deferred_cancel(&d);
	loop_defer(f.loop, &f.b, defer_c, &f);
	loop_defer(f.loop, &d, mark, TEXT("d"));
	loop_defer(f.loop, &d, mark, TEXT("d")); /* twice is once */
	loop_defer(f.loop, &f.a, mark, TEXT("a"));
	loop_defer(f.loop, &e, mark, TEXT("e"));
	deferred_cancel(&e);
	loop_turn(f.loop);
	assert_string_equal(trace, "bd"); /* a was cancelled by b, c is for the next turn */
	loop_turn(f.loop);
	assert_string_equal(trace, "bdc");
	loop_turn(f.loop);
	assert_string_equal(trace, "bdc");
	loop_defer(f.loop, &f.a, mark, TEXT("x"));
	loop_free(f.loop);
	assert_false(list_linked(&f.a.link));
}

static void again(void *arg) {
	struct fixture *f = arg;
	if (++f->runs < 1000)
		loop_defer(f->loop, &f->a, again, f);
}

static void on_timer(void *arg) {
	struct fixture *f = arg;
	mark(TEXT("t"));
	assert_true(f->runs < 1000);
	loop_stop(f->loop);
}

/* A job that defers itself does not keep timers from running. */
static void test_deferred_again(void **state) {
	struct fixture f = {.loop = loop_new()};
	trace[0] = '\0';
	timer_init(&f.timer, f.loop, on_timer, &f);
	timer_arm(&f.timer, 0);
	loop_defer(f.loop, &f.a, again, &f);
	loop_run(f.loop);
	assert_string_equal(trace, "t");
	deferred_cancel(&f.a);
	timer_fini(&f.timer);
	loop_free(f.loop);
}

static void bury_another(void *obj) {
	struct fixture *f = obj;
	mark(TEXT("1"));
	loop_bury(f->loop, TEXT("2"), mark);
}

static void bury_and_defer(void *arg) {
	struct fixture *f = arg;
	loop_bury(f->loop, f, bury_another);
	loop_defer(f->loop, &f->a, mark, TEXT("d"));
	mark(TEXT("t"));
}

static void test_graveyard(void **state) {
	struct fixture f = {.loop = loop_new()};
	trace[0] = '\0';
	timer_init(&f.timer, f.loop, bury_and_defer, &f);
	timer_arm(&f.timer, 0);
	loop_turn(f.loop);
	assert_string_equal(trace, "td12");
	timer_fini(&f.timer);
	loop_bury(f.loop, TEXT("3"), mark);
	loop_free(f.loop);
	assert_string_equal(trace, "td123");
}

static void stop(void *arg) {
	loop_stop(arg);
}

static void end_adopted(void *arg) {
	struct adopted *a = arg;
	mark(TEXT("e"));
	adopted_leave(a);
}

static void leave(void *arg) {
	mark(TEXT("l"));
	adopted_leave(arg);
}

static void test_adopted(void **state) {
	struct fixture f = {.loop = loop_new()};
	struct adopted a = {0}, b = {0};
	trace[0] = '\0';
	timer_init(&f.timer, f.loop, leave, &a);
	timer_arm(&f.timer, 20000);
	loop_adopt(f.loop, &a, end_adopted, &a);
	loop_defer(f.loop, &f.b, stop, f.loop);
	loop_run(f.loop); /* goes on until it left */
	assert_string_equal(trace, "l");
	loop_adopt(f.loop, &b, end_adopted, &b);
	timer_fini(&f.timer);
	loop_free(f.loop);
	assert_string_equal(trace, "le");
}

static int64_t written_at;

static void on_readable(evutil_socket_t fd, short what, void *arg) {
	char c;
	(void)what;
	(void)arg;
	assert_int_equal(read(fd, &c, 1), 1);
	/* "Now" is not older than what woke us, though a job read the clock just before the poll. */
	assert_true(clock_mono_us() >= written_at);
	mark(TEXT("r"));
}

static void read_clock(void *arg) {
	(void)arg;
	clock_mono_us();
}

static void test_clock(void **state) {
	struct fixture f = {.loop = loop_new()};
	int fds[2];
	trace[0] = '\0';
	assert_int_equal(pipe(fds), 0);
	struct event *ev = event_new(loop_base(f.loop), fds[0], EV_READ | EV_PERSIST, on_readable, NULL);
	event_add(ev, NULL);
	for (int i = 0; i < 3; i++) {
		loop_defer(f.loop, &f.a, read_clock, NULL);
		loop_turn(f.loop);
		usleep(2000);
		written_at = clock_mono_us_now();
		assert_int_equal(write(fds[1], "x", 1), 1);
		loop_turn(f.loop);
	}
	assert_string_equal(trace, "rrr");
	event_free(ev);
	close(fds[0]);
	close(fds[1]);
	loop_free(f.loop);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_timers),    cmocka_unit_test(test_deferred), cmocka_unit_test(test_deferred_again),
	    cmocka_unit_test(test_graveyard), cmocka_unit_test(test_adopted),  cmocka_unit_test(test_clock),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
