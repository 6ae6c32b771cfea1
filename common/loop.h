/* The event loop of one process: event_base, timers, deferred work, the graveyard, drain-then-stop. */
#ifndef MINUTEMAIL_LOOP_H
#define MINUTEMAIL_LOOP_H

#include "common/base.h"
#include "common/list.h"

struct event_base;
struct event;
struct loop;

struct loop *loop_new(void);
struct loop *loop_free(struct loop *);
struct event_base *loop_base(struct loop *);
/* An event and the descriptor that it is on: both end, and are NULL and -1 then, as they may be already. */
void loop_close(struct event **, int *fd);
/* Runs until loop_stop(), or until nothing is left that could happen. Each turn: clock_update(), callbacks, deferred jobs, then
 * the graveyard is emptied. After loop_stop() it goes on for LOOP_ADOPTED_US at the most while adopted objects remain. */
#define LOOP_ADOPTED_US 2000000
void loop_run(struct loop *);
void loop_stop(struct loop *);
void loop_turn(struct loop *);                       /* tests: one turn, does not block longer than the next timer */

/* A one-shot timer embedded in its owner; zeroed = unarmed. Arming again replaces. */
struct timer {
	struct event *ev;
	void (*fn)(void *arg);
	void *arg;
};
void timer_init(struct timer *, struct loop *, void (*fn)(void *arg), void *arg);
void timer_arm(struct timer *, int64_t after_us);
void timer_disarm(struct timer *);
bool timer_armed(const struct timer *);
void timer_fini(struct timer *);

/* Runs fn(arg) after the callbacks of this turn, once, in order of deferral. Embedded and zeroed; deferring twice is one
 * run; cancelling is safe at any time. */
struct deferred {
	struct list link;
	void (*fn)(void *arg);
	void *arg;
};
void loop_defer(struct loop *, struct deferred *, void (*fn)(void *arg), void *arg);
void deferred_cancel(struct deferred *);

/* An object that has no owner any more and ends by itself (a stream that lingers). Embedded and zeroed; it leaves with
 * adopted_leave(). Whatever is still here in loop_free() is ended through `end`, which must leave and may bury. */
struct adopted {
	struct list link;
	void (*end)(void *arg);
	void *arg;
};
void loop_adopt(struct loop *, struct adopted *, void (*end)(void *arg), void *arg);
void adopted_leave(struct adopted *);

/* Frees obj with fn at the end of this turn, when no callback can be on the stack. */
void loop_bury(struct loop *, void *obj, void (*fn)(void *obj));

#endif
