/* See the header. The commit time is a moving average over about eight commits, and fades at the same pace a second when there are none:
 * a server without mail is not slow. The lower lines are three quarters of the upper for sessions and half for commits. */
#include "smtpd/stress.h"

#define WEIGHT 8

static void move_average(struct stress *s, int64_t us) {
	s->commit_us += (us - s->commit_us) / WEIGHT;
}

void stress_commit(struct stress *s, int64_t us) {
	move_average(s, us);
	s->committed = true;
}

static bool over(const struct stress *s, const struct stress_lines *lines, unsigned sessions, unsigned sessions_max, bool lower) {
	int64_t share = lower ? lines->sessions * 3 / 4 : lines->sessions, commit = lower ? lines->commit_us / 2 : lines->commit_us;
	return (lines->sessions && (int64_t)sessions * 100 >= share * sessions_max) || (lines->commit_us && s->commit_us >= commit);
}

bool stress_update(struct stress *s, const struct stress_lines *lines, unsigned sessions, unsigned sessions_max, int64_t now_us) {
	if (!s->committed)
		move_average(s, 0);
	s->committed = false;
	if (!s->on) {
		s->on = over(s, lines, sessions, sessions_max, false);
		s->calm_since = 0;
		return s->on;
	}
	if (over(s, lines, sessions, sessions_max, true))
		s->calm_since = 0;
	else if (!s->calm_since)
		s->calm_since = now_us;
	s->on = !s->calm_since || now_us - s->calm_since < STRESS_CALM_US;
	return !s->on;
}
