/* A child of the master after the fork: a worker, or the process that shows metrics.
 *
 * It ignores SIGINT (a terminal sends it to all; the master relays) and takes any number of SIGTERM as one, since a service manager
 * and the master may both send it: "a second one ends at once" is the master's to do. */
#include "common/process_child.h"

#include "common/log.h"
#include "common/metrics.h"
#include "common/metrics_process.h"
#include "common/process_health.h"
#include "common/process_sys.h"

#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define DRAIN_GRACE_US 500000

static char process_title[64];           /* the log keeps it */
static struct process_child *this_child; /* from its start on */

int process_read_signal(int fd) {
	struct signalfd_siginfo info;
	return read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info) ? (int)info.ssi_signo : 0;
}

static void drain_late(void *arg) {
	(void)arg;
	/* The master does this from outside; here for a worker whose master is gone. */
	log_msg(LOG_LEVEL_WARNING, "drain deadline passed", "ending now");
	_exit(1);
}

static void drain(struct process_child *c) {
	if (c->draining)
		return;
	c->draining = true;
	timer_arm(&c->drain_limit, c->options->drain_us + DRAIN_GRACE_US);
	if (c->ops->drain)
		c->ops->drain(c->arg);
	else
		loop_stop(c->loop);
}

static void on_signal(evutil_socket_t fd, short what, void *arg) {
	struct process_child *c = arg;
	int signo;
	(void)what;
	while ((signo = process_read_signal(fd)) != 0) {
		if (signo == SIGTERM)
			drain(c);
		else if (signo == SIGHUP && c->ops->reload && !c->draining)
			c->ops->reload(c->arg);
	}
}

/* Leaves TERM and HUP blocked, for the descriptor. Everything else is as in a fresh process. */
static void take_signals(struct process_child *c) {
	sigset_t mask;
	signal(SIGINT, SIG_IGN);
	signal(SIGUSR2, SIG_IGN); /* the master's; an operator may have sent it to all */
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGHUP);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	c->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	c->signal_ev = event_new(loop_base(c->loop), c->signal_fd, EV_READ | EV_PERSIST, on_signal, c);
	if (c->signal_fd < 0 || !c->signal_ev || event_add(c->signal_ev, NULL) < 0)
		abort();
}

void process_reset_signals(void) {
	sigset_t none;
	signal(SIGINT, SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGUSR2, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Workers close each other's sockets themselves; the metrics process needs none. */
static void let_go_of(struct process_child *c) {
	void (*let_go)(void *) = c->ops->let_go;
	if (!c->exporter)
		return;
	if (let_go)
		let_go(c->arg);
	c->ops = &METRICS_PROCESS_OPS;
	c->arg = c->exporter;
}

static int start(struct process_child *c) {
	int r = process_drop_user(c->options->user);
	if (r < 0)
		return r;
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	/* After the change of user, which clears it; and the master may have died before. */
	prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
	if (getppid() != c->master_pid)
		return -ECHILD;
	r = c->ops->start(c->arg, c->loop, c->index);
	int confined = r >= 0 && c->ops->confine ? c->ops->confine(c->arg) : 0;
	if (confined < 0)
		r = confined;
	if (r < 0) {
		struct log_line line;
		log_begin(&line, LOG_LEVEL_ERROR, "worker cannot start");
		log_errno(&line, r);
		log_end(&line);
		return r;
	}
	if (c->reloaded && c->ops->reload)
		c->ops->reload(c->arg);
	return r;
}

static void close_ready(struct process_child *c) {
	if (c->ready_fd >= 0)
		close(c->ready_fd);
	c->ready_fd = -1;
}

void process_ready(void) {
	struct process_child *c = this_child;
	if (!c || c->ready_fd < 0)
		return;
	ssize_t n = write(c->ready_fd, "r", 1);
	(void)n;
	close_ready(c);
}

void process_failed(void) {
	if (!this_child)
		return;
	this_child->failed = true;
	loop_stop(this_child->loop);
}

static void on_pulse(void *arg) {
	struct process_child *c = arg;
	health_beat(c->health, c->index);
	timer_arm(&c->pulse, health_period_us(c->health));
}

int process_child_run(struct process_child *c) {
	if (c->exporter) {
		snprintf(process_title, sizeof(process_title), "%s metrics", c->options->name);
		prctl(PR_SET_NAME, process_title);
	} else {
		snprintf(process_title, sizeof(process_title), "%s %u", c->options->name, c->index);
	}
	log_set_process(process_title);
	let_go_of(c);
	metrics_attach(c->options->metrics, c->index);
	c->loop = loop_new();
	timer_init(&c->drain_limit, c->loop, drain_late, NULL);
	take_signals(c);
	timer_init(&c->pulse, c->loop, on_pulse, c);
	if (health_period_us(c->health))
		on_pulse(c);
	this_child = c;
	int r = start(c);
	if (r >= 0) {
		if (r != PROCESS_LATER)
			process_ready();
		loop_run(c->loop);
		if (c->ops->stop)
			c->ops->stop(c->arg);
	}
	this_child = NULL;
	close_ready(c);
	timer_fini(&c->pulse);
	timer_fini(&c->drain_limit);
	event_free(c->signal_ev);
	close(c->signal_fd);
	loop_free(c->loop);
	return r < 0 || c->failed ? 1 : 0;
}
