/* Master and workers. The master forks `workers` children, restarts one that dies (back-off 100 ms doubling to 5 s), relays
 * SIGTERM (drain) and SIGHUP (reload), and kills one whose loop stands still; a worker runs one loop. With `metrics_listen` one more
 * child serves the metrics of all, until the last worker has ended. A worker whose master dies drains and ends (PR_SET_PDEATHSIG).
 *
 * At SIGUSR2 the master starts a new one from the program on disk, with its own words and environment, and hands its listening
 * sockets over: the very same ones, so nothing that waits in them is lost. When all workers of the new one are ready the old
 * master drains and ends. If the new one fails (bad configuration, another schema) the old one logs it and goes on. The new
 * master's counters start at 0. The service manager is told (sd_notify(3)): READY, RELOADING, STOPPING, MAINPID, WATCHDOG. */
#ifndef MINUTEMAIL_PROCESS_H
#define MINUTEMAIL_PROCESS_H

#include "common/base.h"

struct daemon_sockets;
struct loop;
struct metrics;

/* What start() may return when the loop must turn first: the worker then says itself that it is ready, or that it is not going
 * to be. Until it is ready it is not counted as started. */
#define PROCESS_LATER 1

struct process_ops {
	/* In the worker, after the fork: build everything, then return; the loop runs afterwards. 0: ready. PROCESS_LATER: not yet.
	 * -errno ends the worker. */
	int (*start)(void *arg, struct loop *, unsigned index);
	/* First SIGTERM/SIGINT: close the listening sockets (whoever waits in them unanswered could try elsewhere, and the next daemon
	 * could not have the address), finish what is in hand, then loop_stop(). */
	void (*drain)(void *arg);
	/* SIGHUP; also once right after start() in a worker that was forked after one. Not called in the master. */
	void (*reload)(void *arg);
	void (*stop)(void *arg);     /* after the loop ended: tear down in reverse, so leak checkers prove the destructors */
	/* In the metrics process, first of all: close and wipe what only workers need. The other functions do not run there. */
	void (*let_go)(void *arg);
	/* In the worker, right after start(): enter its sandbox (daemon_confine). -errno ends the worker. */
	int (*confine)(void *arg);
	/* SIGHUP, in the master, before the workers learn of it; NULL: nothing. */
	void (*reload_master)(void *arg);
	/* In the master: after a worker, ours or those of a next master that failed, has ended, however that was; and every few seconds, for
	 * what others may have left behind. NULL: nothing. */
	void (*tidy)(void *arg);
	/* In the master, when a worker has ended, however it did, before its gauges are set to 0; NULL: nothing. */
	void (*worker_ended)(void *arg, unsigned index);
};

struct process_options {
	const char *name;            /* "smtpd" */
	unsigned workers;            /* at least 1 */
	const char *user;            /* whom workers become if root starts us (then not NULL or ""); the master keeps a few rights */
	int64_t drain_us;            /* a worker still draining after this long is ended */
	const char *metrics_listen;  /* "127.0.0.1:9125"; NULL or "": no metrics listener */
	struct metrics *metrics;
	const char *pid_file;        /* NULL or "": none; written by the master once all workers have started */
	char **argv;                 /* main()'s: how to start the next master at SIGUSR2; NULL: SIGUSR2 is ignored */
	struct daemon_sockets *sockets; /* what the next master gets; NULL: none. Open in the master until it drains: closed then */
	int heirloom;                /* a descriptor that the next master gets, too (process_heirloom()); 0: none. The caller's to keep open */
	int64_t hang_us;             /* a child whose loop does not turn for this long is killed and replaced; 0: never */
};

/* Runs until stopped; returns the exit status for main(). A second SIGTERM/SIGINT ends at once. When every worker has
 * returned from start() the master logs event="ready". A worker that fails in start() the first time ends the daemon with
 * status 1; later ones are retried. workers == 1 still forks. It returns in every process, so what main() does after it runs
 * in each worker too; `arg` and the options are the forked copies there. In a worker SIGTERM and SIGHUP are blocked (they
 * come through a descriptor) and SIGINT is ignored. */
int process_run(const struct process_options *, const struct process_ops *, void *arg);

/* At start-up, once: the heirloom of the master that we replace, now the caller's; -1: there is none. What it is must be looked at: the
 * other may be of another version. */
int process_heirloom(void);

/* In a worker whose start() said PROCESS_LATER; not in vain elsewhere, just without effect. process_failed() ends it with
 * status 1, as if start() had failed: the caller has logged why. */
void process_ready(void);
void process_failed(void);

/* For a helper process that a worker forks: nothing blocked, nothing ignored. */
void process_reset_signals(void);

/* One per CPU the process may run on (sched_getaffinity). */
unsigned process_default_workers(void);

#endif
