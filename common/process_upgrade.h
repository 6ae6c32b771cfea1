/* One master starts its successor from the program on disk, on the same sockets, and leaves when that one is ready. Private to
 * process.c; what the operator sees of it is told in process.h.
 *
 *   old:  idle -start-> starting -"r" from the new one-> ready, told to the owner -release-> idle
 *                          +-- it ends, or takes too long: logged -> idle
 *   new:  workers ready -"r"-> waits for "g", or for the old one's end -> announces itself
 *
 * Between "r" and "g" the old one tells the service manager whose process the service is now, which counts only while it comes
 * from the old one. */
#ifndef MINUTEMAIL_PROCESS_UPGRADE_H
#define MINUTEMAIL_PROCESS_UPGRADE_H

#include "common/base.h"
#include "common/loop.h"

#include <sys/types.h>

struct event;

struct upgrade {
	struct loop *loop;
	char **argv; /* ours, for the successor too; NULL: none can be started */
	char *program;
	pid_t pid; /* != 0: a successor is starting */
	int fd;    /* our end of the channel; -1 */
	struct event *ev;
	struct timer limit;
	void (*on_ready)(void *arg);
	void *arg;
};

/* on_ready: the successor serves. `argv` is borrowed. */
void upgrade_init(struct upgrade *, struct loop *, char **argv, void (*on_ready)(void *arg), void *arg);
/* Also in a forked child, which has nothing to do with the successor. */
void upgrade_fini(struct upgrade *);
/* fds: the sockets to hand over; heirloom: one more descriptor (process.h), 0: none. False: not started, logged. */
bool upgrade_start(struct upgrade *, const int *fds, unsigned n, int heirloom);
/* After SIGCHLD. True: a successor has ended before it was ready; logged. */
bool upgrade_reap(struct upgrade *);
/* We end ourselves: so must it. */
void upgrade_abandon(struct upgrade *);
/* It may call itself the master. */
void upgrade_release(struct upgrade *);

/* The successor's side: the master that started us. */
struct predecessor {
	int fd; /* the channel to it; -1: nobody has started us, or it has let us go */
	struct event *ev;
	void (*on_gone)(void *arg);
	void *arg;
};

/* Once, at start-up. True: there is one. */
bool predecessor_init(struct predecessor *);
/* Also in a forked child. */
void predecessor_fini(struct predecessor *);
/* Our workers are ready: on_gone is called when it lets us go on alone, or is dead; from in here if there is none. A second call while it
 * has not does nothing. */
void predecessor_tell(struct predecessor *, struct loop *, void (*on_gone)(void *arg), void *arg);

#endif
