#include "common/process_health.h"

#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#define PERIOD_MOST_US 1000000

/* A cache line each: the children write all the time. */
struct count {
	_Alignas(64) _Atomic uint32_t beats;
};

struct seen {
	uint32_t beats;
	int64_t silent_us;
};

struct health {
	unsigned slots;
	int64_t limit_us, period_us;
	struct count *counts; /* shared */
	struct seen *seen;    /* the master's */
};

int64_t health_watchdog_us(void) {
	const char *us = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	if (!us || (pid && strtol(pid, NULL, 10) != getpid()))
		return 0;
	return max_of(strtoll(us, NULL, 10), 0LL);
}

struct health *health_new(unsigned slots, int64_t limit_us) {
	struct health *h = xcalloc(1, sizeof(*h));
	int64_t watchdog = health_watchdog_us();
	h->slots = slots;
	h->limit_us = limit_us;
	if (limit_us)
		h->period_us = min_of(limit_us / 4, (int64_t)PERIOD_MOST_US);
	if (watchdog)
		h->period_us = min_of(watchdog / 2, h->period_us ? h->period_us : PERIOD_MOST_US);
	h->counts = xshared(slots * sizeof(*h->counts));
	h->seen = xcalloc(slots, sizeof(*h->seen));
	return h;
}

struct health *health_free(struct health *h) {
	if (h) {
		munmap(h->counts, h->slots * sizeof(*h->counts));
		free(h->seen);
		free(h);
	}
	return NULL;
}

int64_t health_period_us(const struct health *h) {
	return h->period_us;
}

void health_beat(struct health *h, unsigned slot) {
	assert(slot < h->slots);
	atomic_fetch_add_explicit(&h->counts[slot].beats, 1, memory_order_relaxed);
}

bool health_look(struct health *h, unsigned slot) {
	assert(slot < h->slots);
	struct seen *s = &h->seen[slot];
	uint32_t beats = atomic_load_explicit(&h->counts[slot].beats, memory_order_relaxed);
	s->silent_us = beats == s->beats ? s->silent_us + h->period_us : 0;
	s->beats = beats;
	return h->limit_us && s->silent_us > h->limit_us;
}

void health_reset(struct health *h, unsigned slot) {
	h->seen[slot].silent_us = 0;
}
