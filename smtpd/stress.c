/* See the header. The commit time is a moving average over about eight commits, and fades at the same pace a second when there are none:
 * a server without mail is not slow. The lower lines are three quarters of the upper for sessions and half for commits. */
#include "smtpd/stress.h"

#define WEIGHT 8
#define ENOUGH 64 /* commits after which what was before has no weight */

/* Of the commits since the last look their mean stands for each. */
static void smooth(struct stress *s, const struct stress_load *load) {
	int64_t n = load->commits - s->commits_seen, mean = 0;
	if (n > 0)
		mean = (load->commits_us - s->commits_us_seen) / n;
	s->commits_seen = load->commits;
	s->commits_us_seen = load->commits_us;
	n = min_of(max_of(n, INT64_C(1)), (int64_t)ENOUGH);
	for (int64_t i = 0; i < n; i++)
		s->commit_us += (mean - s->commit_us) / WEIGHT;
}

static bool crowded(const struct stress_load *load, int64_t share) {
	return (int64_t)load->sessions * 100 >= share * load->sessions_max || load->all_sessions * 100 >= share * load->all_sessions_max;
}

static bool over(const struct stress *s, const struct stress_lines *lines, const struct stress_load *load, bool lower) {
	int64_t share = lower ? lines->sessions * 3 / 4 : lines->sessions, commit = lower ? lines->commit_us / 2 : lines->commit_us;
	return (lines->sessions && crowded(load, share)) || (lines->commit_us && s->commit_us >= commit);
}

bool stress_update(struct stress *s, const struct stress_lines *lines, const struct stress_load *load, int64_t now_us) {
	smooth(s, load);
	if (!s->on) {
		s->on = over(s, lines, load, false);
		s->calm_since = 0;
		return s->on;
	}
	if (over(s, lines, load, true))
		s->calm_since = 0;
	else if (!s->calm_since)
		s->calm_since = now_us;
	s->on = !s->calm_since || now_us - s->calm_since < STRESS_CALM_US;
	return !s->on;
}
