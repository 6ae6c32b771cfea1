/* The master's children: a slot for each worker, and behind them one for the metrics process if there is one. Who is forked, who has
 * said that it is ready, who has ended and when its slot is due again; what that means for the daemon is process.c's. Private to it.
 *
 *   due -slot_fork()-> starting -octet on its pipe-> ready -exit, slot_reap()-> ended -slot_retry(), back-off-> due
 * Invariant: pid != 0 while starting or ready. */
#ifndef MINUTEMAIL_PROCESS_SLOTS_H
#define MINUTEMAIL_PROCESS_SLOTS_H

#include "common/loop.h"

#include <sys/types.h>

struct event;
struct slots;

struct slot {
	struct slots *slots;
	unsigned index;
	pid_t pid; /* 0: nobody */
	bool due;
	bool ready;
	bool hung;    /* killed for it, not gone yet; the master's to set */
	int ready_fd; /* -1: none */
	struct event *ready_ev;
	struct timer restart;
	int64_t since, back_off; /* microseconds; monotonic, how long */
};

struct slots {
	struct loop *loop;
	unsigned workers, count; /* count: with the metrics process's */
	struct slot *v;
	void (*on_all_ready)(void *arg);
	void *arg;
};

/* All are due. on_all_ready: one more is ready, and so is every other. */
void slots_init(struct slots *, struct loop *, unsigned workers, bool metrics, void (*on_all_ready)(void *arg), void *arg);
/* Also in a child, after event_reinit(); of zeroed memory, too. */
void slots_fini(struct slots *);
/* Nobody is due any more. */
void slots_end(struct slots *);

unsigned slots_workers_alive(const struct slots *);
bool slots_anyone_alive(const struct slots *);
void slots_signal_workers(const struct slots *, int signo);
void slots_signal_metrics(const struct slots *, int signo);

struct slot_end {
	bool clean; /* exit status 0 */
	bool was_ready;
};

bool slot_is_worker(const struct slot *);
/* In the child: 0, and *ret_ready_fd is where it writes an octet once it is ready. In the master: its pid, or -errno; it is not due any
 * more. */
pid_t slot_fork(struct slot *, int *ret_ready_fd);
/* False: it has not ended, or nobody is there. True, logged: the slot is empty. */
bool slot_reap(struct slot *, struct slot_end *ret);
/* Due again after its back-off: 100 ms, doubling to 5 s, until one lives for 10 s. */
void slot_retry(struct slot *);
/* Due again after the longest back-off: the machine refused to fork. */
void slot_retry_late(struct slot *);

#endif
