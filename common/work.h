/* Pure jobs on a helper thread; their completion arrives on the loop. For what would hold up a turn: hashing a large body, Argon2.
 *
 * A job may touch only what `arg` points to, and nobody else touches that until the job has ended. It must not use the loop, the log,
 * the clock or anything else of the process that is not made for threads, and it cannot be interrupted: keep it bounded. */
#ifndef MINUTEMAIL_WORK_H
#define MINUTEMAIL_WORK_H

#include "common/base.h"

struct loop;
struct work;
struct work_op;

struct work_job {
	void (*run)(void *arg);        /* on the helper thread */
	void (*done)(void *arg);       /* on the loop, on a later turn than the start; not after work_cancel() */
	void (*drop)(void *arg);       /* on the loop, instead of `done` after work_cancel(): once nobody runs it, `arg` may be freed. May
	                                * come inside the cancel. NULL: nothing to do */
};

/* `threads` helpers, `queue` jobs waiting for them at the most. They are made with the first job, so they live in whatever sandbox the
 * process has entered by then, and take no signals. NULL: out of descriptors (errno). */
struct work *work_new(struct loop *, unsigned threads, unsigned queue);
/* Waits for what runs; every job that was not done is dropped. NULL is fine; returns NULL. */
struct work *work_free(struct work *);
/* NULL: the queue is full or no thread could be made; nothing was called. `job` is borrowed for ever (a const table of the caller's). */
struct work_op *work_start(struct work *, const struct work_job *job, void *arg);
/* NULL is fine; returns NULL. */
struct work_op *work_cancel(struct work_op *);

#endif
