/* The process of a daemon that answers GET /metrics: the master forks it like a worker, so that no process with root's rights
 * reads what the network says. Private to process.c. */
#ifndef MINUTEMAIL_METRICS_PROCESS_H
#define MINUTEMAIL_METRICS_PROCESS_H

#include "common/process.h"

#include <sys/types.h>

struct metrics_process;

/* In the master: takes (inherit.h) or binds options->metrics_listen. *ret is NULL if there is none. -errno, logged. The options are borrowed. */
int metrics_process_new(const struct process_options *, struct metrics_process **ret);
/* In any process: closes the socket, and whoever is connected. NULL is fine; returns NULL. */
struct metrics_process *metrics_process_free(struct metrics_process *);

int metrics_process_fd(const struct metrics_process *); /* in the master: its socket */

/* In the master: what it alone knows, shown by the next answer. NULL is fine. */
struct master_figures {
	unsigned workers_alive, deaths, hangs, upgrades_failed;
};
void metrics_process_tell(struct metrics_process *, const struct master_figures *);
/* In the master: looks at its processes (process_figures_look()). NULL is fine. */
void metrics_process_measure(struct metrics_process *, const pid_t *slots);

/* What the forked process does; its `arg` is the struct metrics_process. */
extern const struct process_ops METRICS_PROCESS_OPS;

#endif
