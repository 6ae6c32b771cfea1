/* Whether a worker is under stress: most of its sessions in use, or commits slow. No I/O, no clock: told what is, it says since when and
 * whether it changed. Two lines, so that it does not flap: over the upper one at once, off again only after CALM_US below the lower. */
#ifndef MINUTEMAIL_SMTPD_STRESS_H
#define MINUTEMAIL_SMTPD_STRESS_H

#include "common/base.h"

#define STRESS_CALM_US 10000000

struct stress_lines {
	int64_t sessions;        /* percent of those there may be; 0: never */
	int64_t commit_us;       /* smoothed time to a verdict of the store; 0: never */
};

struct stress {              /* zeroed: calm */
	bool on;
	int64_t commit_us;       /* smoothed */
	bool committed;          /* since the last update */
	int64_t calm_since;      /* 0: not calm */
};

void stress_commit(struct stress *, int64_t us);
/* About every second. Returns whether `on` changed. */
bool stress_update(struct stress *, const struct stress_lines *, unsigned sessions, unsigned sessions_max, int64_t now_us);

#endif
