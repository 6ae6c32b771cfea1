/* One process's event loop on libevent. It polls with EVLOOP_ONCE and does between polls what must not happen inside a
 * callback: deferred jobs, then freeing. Not re-entrant: no callback may run a turn.
 *
 * The clock: clock_update() marks the stored time as stale right before the poll, and nothing reads it between the mark and the
 * first callback, so "now" is never older than the poll's return (clock.c).
 *
 * Invariants: a job is in at most one of `waiting` and `running`; the graveyard is emptied by every turn. */
#include "common/loop.h"

#include "common/clock.h"
#include "common/log.h"

#include <event2/event.h>
#include <signal.h>
#include <unistd.h>

struct grave {
	void *obj;
	void (*fn)(void *obj);
};

struct loop {
	struct event_base *base;
	bool stopped;
	struct list waiting; /* jobs for the end of this turn, or of the next while jobs run */
	struct list running; /* jobs of this turn not run yet */
	struct list adopted;
	struct grave *graves;
	size_t graves_n, graves_cap;
};

struct loop *loop_new(void) {
	struct loop *l = xcalloc(1, sizeof(*l));
	list_init(&l->waiting);
	list_init(&l->running);
	list_init(&l->adopted);
	/* Sockets are written with writev(2), which knows no MSG_NOSIGNAL. */
	signal(SIGPIPE, SIG_IGN);
	l->base = event_base_new();
	if (!l->base)
		abort();
	return l;
}

static void empty_graveyard(struct loop *l) {
	/* By index: a destructor may bury more. */
	for (size_t i = 0; i < l->graves_n; i++)
		l->graves[i].fn(l->graves[i].obj);
	l->graves_n = 0;
}

struct loop *loop_free(struct loop *l) {
	struct list *e;
	if (!l)
		return NULL;
	while ((e = list_first(&l->adopted))) {
		struct adopted *a = list_entry(e, struct adopted, link);
		list_unlink(e);
		a->end(a->arg);
	}
	while ((e = list_first(&l->waiting)))
		list_unlink(e);
	empty_graveyard(l);
	free(l->graves);
	event_base_free(l->base);
	free(l);
	return NULL;
}

void loop_close(struct event **ev, int *fd) {
	if (*ev)
		event_free(*ev);
	*ev = NULL;
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

struct event_base *loop_base(struct loop *l) {
	return l->base;
}

/* What is deferred meanwhile waits for the next turn, so a job that defers itself does not keep the loop from polling. */
static void run_deferred(struct loop *l) {
	struct list *e;
	while ((e = list_first(&l->waiting))) {
		list_unlink(e);
		list_append(&l->running, e);
	}
	while ((e = list_first(&l->running))) {
		struct deferred *d = list_entry(e, struct deferred, link);
		list_unlink(e);
		d->fn(d->arg);
	}
}

/* Returns whether anything could still happen. */
static bool turn(struct loop *l) {
	int flags = list_empty(&l->waiting) && l->graves_n == 0 ? EVLOOP_ONCE : EVLOOP_NONBLOCK;
	clock_update();
	log_hold();
	int r = event_base_loop(l->base, flags);
	if (r < 0)
		abort();
	run_deferred(l);
	empty_graveyard(l);
	log_flush();
	return r == 0 || !list_empty(&l->waiting);
}

void loop_turn(struct loop *l) {
	turn(l);
}

static void wake(void *arg) {
	(void)arg;
}

void loop_run(struct loop *l) {
	while (!l->stopped && turn(l))
		;
	if (!list_empty(&l->adopted)) {
		struct timer limit;
		timer_init(&limit, l, wake, NULL);
		timer_arm(&limit, LOOP_ADOPTED_US);
		while (timer_armed(&limit) && !list_empty(&l->adopted))
			turn(l);
		timer_fini(&limit);
	}
	l->stopped = false;
}

void loop_stop(struct loop *l) {
	l->stopped = true;
}

static void on_timer(evutil_socket_t fd, short what, void *arg) {
	struct timer *t = arg;
	(void)fd;
	(void)what;
	t->fn(t->arg);
}

void timer_init(struct timer *t, struct loop *l, void (*fn)(void *arg), void *arg) {
	*t = (struct timer){.fn = fn, .arg = arg};
	t->ev = evtimer_new(l->base, on_timer, t);
	if (!t->ev)
		abort();
}

void timer_arm(struct timer *t, int64_t after_us) {
	if (after_us < 0)
		after_us = 0;
	struct timeval tv = {.tv_sec = after_us / 1000000, .tv_usec = after_us % 1000000};
	if (evtimer_add(t->ev, &tv) < 0)
		abort();
}

void timer_disarm(struct timer *t) {
	if (t->ev)
		evtimer_del(t->ev);
}

bool timer_armed(const struct timer *t) {
	return t->ev && evtimer_pending(t->ev, NULL);
}

void timer_fini(struct timer *t) {
	if (t->ev)
		event_free(t->ev);
	t->ev = NULL;
}

void loop_defer(struct loop *l, struct deferred *d, void (*fn)(void *arg), void *arg) {
	d->fn = fn;
	d->arg = arg;
	if (!list_linked(&d->link))
		list_append(&l->waiting, &d->link);
}

void deferred_cancel(struct deferred *d) {
	list_unlink(&d->link);
}

void loop_adopt(struct loop *l, struct adopted *a, void (*end)(void *arg), void *arg) {
	a->end = end;
	a->arg = arg;
	list_append(&l->adopted, &a->link);
}

void adopted_leave(struct adopted *a) {
	list_unlink(&a->link);
}

void loop_bury(struct loop *l, void *obj, void (*fn)(void *obj)) {
	if (l->graves_n == l->graves_cap) {
		l->graves_cap = max_of(l->graves_cap * 2, (size_t)16);
		l->graves = xrealloc(l->graves, l->graves_cap * sizeof(*l->graves));
	}
	l->graves[l->graves_n++] = (struct grave){obj, fn};
}
