/* What a child of the master is and does after the fork. Private to process.c. */
#ifndef MINUTEMAIL_PROCESS_CHILD_H
#define MINUTEMAIL_PROCESS_CHILD_H

#include "common/loop.h"
#include "common/process.h"

#include <sys/types.h>

struct event;
struct health;
struct metrics_process;

struct process_child {
	/* of the master */
	const struct process_options *options;
	const struct process_ops *ops;
	void *arg;
	unsigned index;
	int ready_fd;
	pid_t master_pid;
	bool reloaded;
	struct health *health;
	struct metrics_process *exporter; /* not NULL: this process is the one that serves it */
	/* its own */
	struct loop *loop;
	struct event *signal_ev;
	int signal_fd;
	struct timer pulse, drain_limit;
	bool draining, failed;
};

/* Its whole life; returns the exit status. */
int process_child_run(struct process_child *);
/* The next signal of a signalfd(2); 0: none. */
int process_read_signal(int fd);

#endif
