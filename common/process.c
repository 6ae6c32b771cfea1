/* The master of workers and of the metrics process: what their coming and going (process_slots.h), signals and the next master
 * (process_upgrade.h) mean for the daemon. What children do after the fork is in process_child.c. The master runs a loop of its own and
 * forks between its turns, never inside a callback (but for a new master, which execs), so that the child can give the master's loop back
 * and return through process_run() into a clean stack: main() tears down in every process, and leak checkers see it.
 *
 * Signals come through signalfd(2): blocked before the first fork, they can neither be lost nor run a handler of the master in a child
 * that has not changed it yet.
 *
 * Invariants: `announced` once all children have been ready; draining: nothing is forked any more. */
#include "common/process.h"

#include "common/clock.h"
#include "common/daemon.h"
#include "common/inherit.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/metrics_process.h"
#include "common/process_child.h"
#include "common/process_health.h"
#include "common/process_slots.h"
#include "common/process_sys.h"
#include "common/process_upgrade.h"
#include "common/sandbox.h"

#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define MEASURE_PULSES 5 /* looks at the children's loops, for one at their memory and at what others may have left behind */

struct master {
	const struct process_options *options;
	const struct process_ops *ops;
	void *arg;
	pid_t pid;
	struct loop *loop;
	int signal_fd;
	struct event *signal_ev;
	struct slots slots;
	struct metrics_process *exporter; /* NULL: nothing to listen on */
	struct timer drain_limit;
	struct health *health;
	struct timer pulse;
	struct upgrade upgrade; /* to our successor */
	struct predecessor predecessor;
	int64_t since;
	struct master_figures figures;
	unsigned pulses;
	bool announced, draining, stopping, successor, succeeded, unclean, reloaded, wrote_pid;
};

static void tell_exporter(struct master *m) {
	m->figures.workers_alive = slots_workers_alive(&m->slots);
	metrics_process_tell(m->exporter, &m->figures);
}

static void tidy(struct master *m) {
	if (m->ops->tidy)
		m->ops->tidy(m->arg);
}

/* ---- the end ---- */

/* Metrics are served for as long as there is a worker. */
static void end_exporter_last(struct master *m) {
	if (slots_workers_alive(&m->slots) == 0)
		slots_signal_metrics(&m->slots, SIGTERM);
}

static void begin_drain(struct master *m) {
	if (m->draining)
		return;
	m->draining = true;
	slots_end(&m->slots);
	slots_signal_workers(&m->slots, SIGTERM);
	if (m->options->sockets)
		daemon_sockets_close(m->options->sockets);
	end_exporter_last(m);
	timer_arm(&m->drain_limit, m->options->drain_us);
}

/* Ends the service, not only this master. */
static void begin_stop(struct master *m) {
	if (m->draining)
		return;
	process_notify("STOPPING=1");
	upgrade_abandon(&m->upgrade);
	begin_drain(m);
}

static void stop_unclean(struct master *m) {
	m->unclean = true;
	begin_stop(m);
}

static void end_now(struct master *m, const char *why) {
	struct log_line line;
	log_begin(&line, LOG_LEVEL_WARNING, "workers killed");
	log_str(&line, "reason", why);
	log_int(&line, "workers", slots_workers_alive(&m->slots));
	log_end(&line);
	m->unclean = true;
	slots_signal_workers(&m->slots, SIGKILL);
	slots_signal_metrics(&m->slots, SIGKILL);
}

static void on_drain_limit(void *arg) {
	end_now(arg, "drain deadline passed");
}

/* ---- ready ---- */

/* All workers have returned from start() for the first time. */
static void announce(struct master *m) {
	struct log_line line;
	m->announced = true;
	if (m->options->pid_file && *m->options->pid_file) {
		if (!m->successor)
			process_report_stale_pid(m->options->pid_file);
		m->wrote_pid = process_write_pid(m->options->pid_file);
	}
	if (process_confine_master(m->successor) < 0) {
		stop_unclean(m);
		return;
	}
	process_notify("READY=1");
	log_begin(&line, LOG_LEVEL_INFO, "ready");
	log_int(&line, "workers", m->slots.workers);
	log_int(&line, "pid", m->pid);
	log_int(&line, "took_ms", (clock_mono_us() - m->since) / 1000);
	log_end(&line);
}

/* The master before us lets us go on alone, it is dead, or there was none. */
static void on_alone(void *arg) {
	struct master *m = arg;
	if (!m->draining)
		announce(m);
}

static void on_all_ready(void *arg) {
	struct master *m = arg;
	if (!m->announced && !m->draining)
		predecessor_tell(&m->predecessor, m->loop, on_alone, m);
}

/* ---- children that end ---- */

static void child_ended(struct master *m, struct slot *s, const struct slot_end *end) {
	bool worker = slot_is_worker(s);
	if (worker && m->ops->worker_ended)
		m->ops->worker_ended(m->arg, s->index);
	if (worker)
		metrics_reset_gauges(m->options->metrics, s->index);
	if (m->draining) {
		/* One that had not started yet had nothing in hand. */
		m->unclean = m->unclean || (end->was_ready && !end->clean);
		end_exporter_last(m);
		return;
	}
	m->figures.deaths += worker;
	if (m->announced)
		slot_retry(s);
	else
		stop_unclean(m);
}

/* Asks for our children by pid: others are not ours to reap. */
static void reap(struct master *m) {
	for (unsigned i = 0; i < m->slots.count; i++) {
		struct slot_end end;
		if (slot_reap(&m->slots.v[i], &end))
			child_ended(m, &m->slots.v[i], &end);
	}
	if (upgrade_reap(&m->upgrade)) {
		m->figures.upgrades_failed++;
		process_notify("READY=1");
	}
	tidy(m);
	tell_exporter(m);
}

/* ---- signals ---- */

static void on_stop_signal(struct master *m, int signo) {
	struct log_line line;
	if (m->stopping) {
		end_now(m, "second signal");
		return;
	}
	m->stopping = true; /* perhaps draining already, for a successor */
	log_begin(&line, LOG_LEVEL_INFO, "draining");
	log_int(&line, "signal", signo);
	log_end(&line);
	begin_stop(m);
}

static void on_reload_signal(struct master *m) {
	log_msg(LOG_LEVEL_INFO, "reloading", "signal %d", SIGHUP);
	m->reloaded = true;
	process_notify_reloading();
	if (m->ops->reload_master)
		m->ops->reload_master(m->arg);
	slots_signal_workers(&m->slots, SIGHUP);
	process_notify("READY=1");
}

/* ---- to the next master ---- */

static void on_upgrade_signal(struct master *m) {
	const struct daemon_sockets *sockets = m->options->sockets;
	if (!m->announced || m->draining) {
		log_msg(LOG_LEVEL_WARNING, "ignoring upgrade", m->draining ? "draining" : "not ready yet");
		return;
	}
	unsigned n = 0, count = sockets ? sockets->count : 0;
	int *fds = xcalloc(count + 1, sizeof(*fds));
	while (n < count) {
		fds[n] = sockets->v[n].fd;
		n++;
	}
	if (m->exporter)
		fds[n++] = metrics_process_fd(m->exporter);
	if (upgrade_start(&m->upgrade, fds, n, m->options->heirloom))
		process_notify_reloading();
	free(fds);
}

/* The successor serves. It is the service now, and what we still have in hand is our own matter. */
static void on_successor(void *arg) {
	struct master *m = arg;
	char text[48];
	snprintf(text, sizeof(text), "MAINPID=%ld", (long)m->upgrade.pid);
	process_notify(text);
	log_msg(LOG_LEVEL_INFO, "draining", "process %ld has taken over", (long)m->upgrade.pid);
	m->succeeded = true;
	m->wrote_pid = false; /* it is the successor's file */
	upgrade_release(&m->upgrade);
	slots_signal_metrics(&m->slots, SIGTERM);
	begin_drain(m);
}

/* ---- signs of life ---- */

static void measure(struct master *m) {
	if (!m->exporter)
		return;
	cleanup(freep) pid_t *pids = xcalloc(m->slots.count, sizeof(*pids));
	for (unsigned i = 0; i < m->slots.count; i++)
		pids[i] = m->slots.v[i].pid;
	metrics_process_measure(m->exporter, pids);
}

static void look_at(struct master *m, struct slot *s) {
	struct log_line line;
	if (!s->pid || !health_look(m->health, s->index) || s->hung)
		return;
	log_begin(&line, LOG_LEVEL_ERROR, "worker hangs");
	log_int(&line, "worker", s->index);
	log_int(&line, "pid", s->pid);
	log_int(&line, "silent_ms", m->options->hang_us / 1000);
	log_str(&line, "now", "killing it");
	log_end(&line);
	s->hung = true;
	m->figures.hangs++;
	kill(s->pid, SIGKILL);
}

/* The service manager hears from us while we turn and no worker is beyond even SIGKILL. */
static void on_pulse(void *arg) {
	struct master *m = arg;
	bool hung = false;
	for (unsigned i = 0; i < m->slots.count; i++) {
		hung = hung || m->slots.v[i].hung;
		look_at(m, &m->slots.v[i]);
	}
	if (!hung && m->announced && !m->succeeded && health_watchdog_us())
		process_notify("WATCHDOG=1");
	if (m->pulses % MEASURE_PULSES == 0) {
		measure(m);
		tidy(m);
	}
	m->pulses++;
	timer_arm(&m->pulse, health_period_us(m->health));
}

static void on_signal(evutil_socket_t fd, short what, void *arg) {
	struct master *m = arg;
	int signo;
	(void)what;
	while ((signo = process_read_signal(fd)) != 0) {
		switch (signo) {
		case SIGCHLD:
			reap(m);
			break;
		case SIGHUP:
			on_reload_signal(m);
			break;
		case SIGUSR2:
			on_upgrade_signal(m);
			break;
		default:
			on_stop_signal(m, signo);
			break;
		}
	}
}

/* ---- start-up ---- */

static void master_signals(struct master *m) {
	static const int signals[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGUSR2};
	sigset_t mask;
	sigemptyset(&mask);
	for (size_t i = 0; i < array_len(signals); i++)
		sigaddset(&mask, signals[i]);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	m->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	m->signal_ev = event_new(loop_base(m->loop), m->signal_fd, EV_READ | EV_PERSIST, on_signal, m);
	if (m->signal_fd < 0 || !m->signal_ev || event_add(m->signal_ev, NULL) < 0)
		abort();
}

static int master_init(struct master *m) {
	static char title[64]; /* the log keeps it */
	snprintf(title, sizeof(title), "%s master", m->options->name);
	log_set_process(title);
	clock_update();
	m->pid = getpid();
	m->since = clock_mono_us();
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	m->loop = loop_new();
	master_signals(m);
	timer_init(&m->drain_limit, m->loop, on_drain_limit, m);
	timer_init(&m->pulse, m->loop, on_pulse, m);
	upgrade_init(&m->upgrade, m->loop, m->options->argv, on_successor, m);
	m->successor = predecessor_init(&m->predecessor);
	inherit_init();
	sandbox_report();
	if (process_lacks_user(m->options->user))
		return -1;
	if (metrics_process_new(m->options, &m->exporter) < 0)
		return -1;
	inherit_close_rest();
	slots_init(&m->slots, m->loop, max_of(m->options->workers, 1u), m->exporter != NULL, on_all_ready, m);
	m->health = health_new(m->slots.count, m->options->hang_us);
	if (health_period_us(m->health))
		timer_arm(&m->pulse, health_period_us(m->health));
	return 0;
}

/* Also in a child, after event_reinit(). */
static void master_fini(struct master *m) {
	slots_fini(&m->slots);
	predecessor_fini(&m->predecessor);
	upgrade_fini(&m->upgrade);
	timer_fini(&m->pulse);
	timer_fini(&m->drain_limit);
	event_free(m->signal_ev);
	close(m->signal_fd);
	loop_free(m->loop);
}

static void fork_failed(struct master *m, struct slot *s, int error) {
	log_msg(LOG_LEVEL_ERROR, "cannot fork", "worker %u: %s", s->index, strerror(-error));
	if (m->announced)
		slot_retry_late(s);
	else
		stop_unclean(m);
}

/* Forks what is due. True: this process is a child now. */
static bool fork_due(struct master *m, struct process_child *ret_child) {
	for (unsigned i = 0; i < m->slots.count && !m->draining; i++) {
		struct slot *s = &m->slots.v[i];
		int ready_fd;
		if (!s->due)
			continue;
		health_reset(m->health, i);
		pid_t pid = slot_fork(s, &ready_fd);
		if (pid == 0) {
			*ret_child = (struct process_child){
				.options = m->options,
				.ops = m->ops,
				.arg = m->arg,
				.index = i,
				.ready_fd = ready_fd,
				.master_pid = m->pid,
				.reloaded = m->reloaded,
				.health = m->health,
				.exporter = slot_is_worker(s) ? NULL : m->exporter,
			};
			return true;
		}
		if (pid < 0)
			fork_failed(m, s, (int)pid);
	}
	tell_exporter(m);
	return false;
}

/* The master's past is given back first. A polling descriptor of our own before that: giving its events back would take them
 * from the master. */
static int become_child(struct master *m, struct process_child *child) {
	event_reinit(loop_base(m->loop));
	master_fini(m);
	if (!child->exporter)
		metrics_process_free(m->exporter);
	int status = process_child_run(child);
	metrics_process_free(child->exporter);
	health_free(child->health);
	return status;
}

static int master_run(struct master *m) {
	while (!m->draining || slots_anyone_alive(&m->slots)) {
		struct process_child child;
		if (fork_due(m, &child))
			return become_child(m, &child);
		if (!m->draining || slots_anyone_alive(&m->slots))
			loop_turn(m->loop);
	}
	if (m->wrote_pid)
		process_remove_pid(m->options->pid_file);
	log_msg(LOG_LEVEL_INFO, "stopped", m->unclean ? "not clean" : "clean");
	master_fini(m);
	metrics_process_free(m->exporter);
	health_free(m->health);
	return m->unclean ? 1 : 0;
}

int process_run(const struct process_options *options, const struct process_ops *ops, void *arg) {
	struct master m = {.options = options, .ops = ops, .arg = arg};
	if (master_init(&m) < 0) {
		master_fini(&m);
		return 1;
	}
	return master_run(&m);
}
