/* What many unit tests need: turns of a loop that end, and a log that is seen only by who asks for it. */
#ifndef MINUTEMAIL_TEST_UNIT_H
#define MINUTEMAIL_TEST_UNIT_H

#include "common/log.h"
#include "common/loop.h"

#include <stdio.h>

static inline void unit_nothing(void *arg) {
	(void)arg;
}

/* One turn, which blocks for `us` at the most. */
static inline void turn_within(struct loop *loop, int64_t us) {
	struct timer t;
	timer_init(&t, loop, unit_nothing, NULL);
	timer_arm(&t, us);
	loop_turn(loop);
	timer_fini(&t);
}

/* Turns for about that long. */
static inline void turns_for(struct loop *loop, int64_t us) {
	struct timer t;
	timer_init(&t, loop, unit_nothing, NULL);
	timer_arm(&t, us);
	while (timer_armed(&t))
		loop_turn(loop);
	timer_fini(&t);
}

/* For log_set_sink(): on standard error if TEST_LOG is set. */
static inline void quiet(void *arg, enum log_level level, const char *line, size_t n) {
	(void)arg;
	(void)level;
	if (getenv("TEST_LOG"))
		fprintf(stderr, "%.*s\n", (int)n, line);
}

#endif
