/* Whether a worker is under stress: most of the sessions in use, its own or those of all workers, or commits slow. No I/O, no clock: told
 * what is, it says whether that changed. Two lines, so that it does not flap: over the upper one at once, off again only after
 * STRESS_CALM_US below the lower.
 *
 * Stress is the daemon's. The database is the same for all workers, so its commits are judged together, and one that has none to judge by
 * agrees with the others; connections are spread over the workers by the kernel, so when most of all places are taken, this one's may be
 * the next. A worker whose own places are used up is under stress besides: it has a queue of its own. */
#ifndef MINUTEMAIL_SMTPD_STRESS_H
#define MINUTEMAIL_SMTPD_STRESS_H

#include "common/base.h"

#define STRESS_CALM_US 10000000

struct stress_lines {
	int64_t sessions;        /* percent of those there may be; 0: never */
	int64_t commit_us;       /* smoothed time to a verdict of the store; 0: never */
};

struct stress_load {
	unsigned sessions, sessions_max;           /* this worker's */
	int64_t all_sessions, all_sessions_max;    /* of all workers together */
	int64_t commits, commits_us;               /* verdicts of the store since the daemon began, of all workers; and the time to them in all */
};

struct stress {              /* zeroed: calm */
	bool on;
	int64_t commit_us;       /* smoothed */
	int64_t commits_seen, commits_us_seen;
	int64_t calm_since;      /* 0: not calm */
};

/* About every second. Returns whether `on` changed. */
bool stress_update(struct stress *, const struct stress_lines *, const struct stress_load *, int64_t now_us);

#endif
