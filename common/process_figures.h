/* What each process of a daemon takes of the machine: memory and descriptors, as /proc tells. The master looks, since its children may not
 * open files; the metrics process shows, from a page that both map. Processes are told by who forked them and by their names: those in the
 * master's slots, the keeper of TLS keys and the keys process, a worker's parsers. Private to process.c and metrics_process.c. */
#ifndef MINUTEMAIL_PROCESS_FIGURES_H
#define MINUTEMAIL_PROCESS_FIGURES_H

#include "common/base.h"

#include <sys/types.h>

struct buf;
struct process_figures;

/* In the master, before it forks. */
struct process_figures *process_figures_new(unsigned workers);
struct process_figures *process_figures_free(struct process_figures *); /* in any process; NULL is fine; returns NULL */
/* In the master: looks at all. slots: the workers' pids in order, then the metrics process's; 0: it is not there. */
void process_figures_look(struct process_figures *, const pid_t *slots);
/* As Prometheus text. What is not known of a process (descriptors of another's process need Linux 6.2) is left out. */
void process_figures_print(const struct process_figures *, const char *daemon, struct buf *);

#endif
