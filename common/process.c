/* The master of workers, and of the metrics process, which is the slot behind the workers' in the table below; what they do after
 * the fork is in process_child.c. The master runs a loop of its own and forks between its turns, never inside a callback (but for a
 * new master, which execs), so that the child can give the master's loop back and return through process_run() into a clean stack:
 * main() tears down in every process, and leak checkers see it.
 *
 * Signals come through signalfd(2): blocked before the first fork, they can neither be lost nor run a handler of the master in
 * a child that has not changed it yet.
 *
 *   worker:  due -fork-> starting -octet on its pipe-> ready -exit-> waiting (back-off) -timer-> due
 * Invariants: pid != 0 while starting or ready; `announced` once all have been ready; draining: nothing is forked any more. */
#include "common/process.h"

#include "common/clock.h"
#include "common/daemon.h"
#include "common/inherit.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/metrics.h"
#include "common/metrics_process.h"
#include "common/process_child.h"
#include "common/process_health.h"
#include "common/process_sys.h"
#include "common/process_upgrade.h"
#include "common/sandbox.h"

#include <event2/event.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define BACK_OFF_FIRST_US 100000
#define BACK_OFF_MOST_US 5000000
#define LIVED_LONG_US 10000000 /* after this the back-off starts over */
#define MEASURE_PULSES 5

struct worker {
	struct master *master;
	unsigned index;
	pid_t pid;
	bool due;
	bool ready;
	bool hung; /* killed for it, not gone yet */
	int ready_fd; /* -1: none */
	struct event *ready_ev;
	struct timer restart;
	int64_t since, back_off;
};

struct master {
	const struct process_options *options;
	const struct process_ops *ops;
	void *arg;
	pid_t pid;
	struct loop *loop;
	int signal_fd;
	struct event *signal_ev;
	struct worker *workers;            /* slots */
	struct metrics_process *exporter; /* NULL: nothing to listen on */
	struct timer drain_limit;
	struct health *health;
	struct timer pulse;
	struct upgrade upgrade;        /* to our successor */
	int predecessor;               /* the master that started us, until it lets us announce ourselves; -1 */
	struct event *predecessor_ev;
	int64_t since;
	struct master_figures figures;
	unsigned pulses;
	bool announced, draining, stopping, successor, succeeded, unclean, reloaded, wrote_pid;
};

static int64_t now_us(void) {
	return clock_mono_us();
}

static unsigned worker_count(const struct master *m) {
	return max_of(m->options->workers, 1u);
}

static unsigned slot_count(const struct master *m) {
	return worker_count(m) + (m->exporter != NULL);
}

static bool is_worker(const struct worker *w) {
	return w->index < worker_count(w->master);
}

static unsigned alive_count(const struct master *m) {
	unsigned n = 0;
	for (unsigned i = 0; i < worker_count(m); i++)
		n += m->workers[i].pid != 0;
	return n;
}

static bool anyone_alive(const struct master *m) {
	return alive_count(m) > 0 || (m->exporter && m->workers[worker_count(m)].pid != 0);
}

static void tell_exporter(struct master *m) {
	m->figures.workers_alive = alive_count(m);
	metrics_process_tell(m->exporter, &m->figures);
}

static void tidy(struct master *m) {
	if (m->ops->tidy)
		m->ops->tidy(m->arg);
}

static void signal_workers(struct master *m, int signo) {
	for (unsigned i = 0; i < worker_count(m); i++)
		if (m->workers[i].pid)
			kill(m->workers[i].pid, signo);
}

/* ---- the master ---- */

/* Metrics are served for as long as there is a worker. */
static void end_exporter(struct master *m, int signo) {
	if (m->exporter && m->workers[worker_count(m)].pid)
		kill(m->workers[worker_count(m)].pid, signo);
}

static void begin_drain(struct master *m) {
	if (m->draining)
		return;
	m->draining = true;
	for (unsigned i = 0; i < slot_count(m); i++) {
		m->workers[i].due = false;
		timer_disarm(&m->workers[i].restart);
	}
	signal_workers(m, SIGTERM);
	if (alive_count(m) == 0)
		end_exporter(m, SIGTERM);
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

static void end_now(struct master *m, const char *why) {
	struct log_line line;
	log_begin(&line, LOG_LEVEL_WARNING, "workers killed");
	log_str(&line, "reason", why);
	log_int(&line, "workers", alive_count(m));
	log_end(&line);
	m->unclean = true;
	signal_workers(m, SIGKILL);
	end_exporter(m, SIGKILL);
}

static void on_drain_limit(void *arg) {
	end_now(arg, "drain deadline passed");
}

static void on_restart(void *arg) {
	struct worker *w = arg;
	w->due = true;
}

static void tell_stale_pid(const char *path) {
	struct log_line line;
	long pid = process_stale_pid(path);
	if (pid == 0)
		return;
	log_begin(&line, LOG_LEVEL_WARNING, "the master before us did not end by itself");
	log_int(&line, "pid", pid);
	log_str(&line, "reason", "killed, or the machine went down: what its workers had not written yet may be lost");
	log_end(&line);
}

/* All workers have returned from start() for the first time. */
static void announce(struct master *m) {
	struct log_line line;
	m->announced = true;
	if (m->options->pid_file && *m->options->pid_file) {
		if (!m->successor)
			tell_stale_pid(m->options->pid_file);
		int r = process_write_pid(m->options->pid_file);
		m->wrote_pid = r == 0;
		if (r < 0) {
			log_begin(&line, LOG_LEVEL_WARNING, "pid file not written");
			log_str(&line, "path", m->options->pid_file);
			log_errno(&line, r);
			log_end(&line);
		}
	}
	if (process_confine_master(m->successor) < 0) {
		m->unclean = true;
		begin_stop(m);
		return;
	}
	process_notify("READY=1");
	log_begin(&line, LOG_LEVEL_INFO, "ready");
	log_int(&line, "workers", worker_count(m));
	log_int(&line, "pid", m->pid);
	log_int(&line, "took_ms", (now_us() - m->since) / 1000);
	log_end(&line);
}

static void forget_predecessor(struct master *m) {
	if (m->predecessor_ev)
		event_free(m->predecessor_ev);
	m->predecessor_ev = NULL;
	if (m->predecessor >= 0)
		close(m->predecessor);
	m->predecessor = -1;
}

/* It lets us go on alone, or it is dead. */
static void on_predecessor(evutil_socket_t fd, short what, void *arg) {
	struct master *m = arg;
	(void)fd;
	(void)what;
	forget_predecessor(m);
	if (!m->draining)
		announce(m);
}

static void all_ready(struct master *m) {
	if (m->predecessor < 0) {
		announce(m);
		return;
	}
	if (m->predecessor_ev)
		return; /* told before, and one of the workers has been replaced since */
	m->predecessor_ev = event_new(loop_base(m->loop), m->predecessor, EV_READ, on_predecessor, m);
	if (!m->predecessor_ev || event_add(m->predecessor_ev, NULL) < 0)
		abort();
	ssize_t n = write(m->predecessor, "r", 1);
	(void)n;
}

static void forget_pipe(struct worker *w) {
	if (w->ready_ev)
		event_free(w->ready_ev);
	w->ready_ev = NULL;
	if (w->ready_fd >= 0)
		close(w->ready_fd);
	w->ready_fd = -1;
}

static void on_ready(evutil_socket_t fd, short what, void *arg) {
	struct worker *w = arg;
	struct master *m = w->master;
	char c;
	(void)what;
	/* At the end of the pipe the worker is dead, and SIGCHLD tells the rest. */
	w->ready = read(fd, &c, 1) == 1;
	forget_pipe(w);
	if (!w->ready || m->announced || m->draining)
		return;
	for (unsigned i = 0; i < slot_count(m); i++)
		if (!m->workers[i].ready)
			return;
	all_ready(m);
}

static void log_end_of(const struct worker *w, int status) {
	struct log_line line;
	bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;
	log_begin(&line, clean ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR, WIFSIGNALED(status) ? "worker died" : "worker ended");
	if (is_worker(w))
		log_int(&line, "worker", w->index);
	else
		log_str(&line, "process", "metrics");
	log_int(&line, "pid", w->pid);
	if (WIFSIGNALED(status)) {
		log_int(&line, "signal", WTERMSIG(status));
		log_str(&line, "reason", strsignal(WTERMSIG(status)));
	} else {
		log_int(&line, "status", WEXITSTATUS(status));
	}
	log_end(&line);
}

static void worker_ended(struct worker *w, int status) {
	struct master *m = w->master;
	log_end_of(w, status);
	if (is_worker(w) && m->ops->worker_ended)
		m->ops->worker_ended(m->arg, w->index);
	if (is_worker(w))
		metrics_reset_gauges(m->options->metrics, w->index);
	bool was_ready = w->ready, clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;
	w->pid = 0;
	w->ready = w->hung = false;
	forget_pipe(w);
	/* One that had not started yet had nothing in hand. */
	m->unclean = m->unclean || (m->draining && was_ready && !clean);
	if (m->draining) {
		if (alive_count(m) == 0)
			end_exporter(m, SIGTERM);
		return;
	}
	m->figures.deaths += is_worker(w);
	if (!m->announced) {
		m->unclean = true;
		begin_stop(m);
		return;
	}
	if (was_ready && now_us() - w->since > LIVED_LONG_US)
		w->back_off = BACK_OFF_FIRST_US;
	timer_arm(&w->restart, w->back_off);
	w->back_off = min_of(w->back_off * 2, (int64_t)BACK_OFF_MOST_US);
}

/* Asks for our workers by pid: other children are not ours to reap. */
static void reap(struct master *m) {
	for (unsigned i = 0; i < slot_count(m); i++) {
		struct worker *w = &m->workers[i];
		int status;
		if (w->pid && waitpid(w->pid, &status, WNOHANG) == w->pid)
			worker_ended(w, status);
	}
	if (upgrade_reap(&m->upgrade)) {
		m->figures.upgrades_failed++;
		process_notify("READY=1");
	}
	tidy(m);
	tell_exporter(m);
}

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
	signal_workers(m, SIGHUP);
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
	end_exporter(m, SIGTERM);
	begin_drain(m);
}

/* ---- signs of life ---- */

static void measure(struct master *m) {
	pid_t *slots;
	if (!m->exporter)
		return;
	slots = xcalloc(slot_count(m), sizeof(*slots));
	for (unsigned i = 0; i < slot_count(m); i++)
		slots[i] = m->workers[i].pid;
	metrics_process_measure(m->exporter, slots);
	free(slots);
}

static void look_at(struct worker *w) {
	struct master *m = w->master;
	struct log_line line;
	if (!w->pid || !health_look(m->health, w->index) || w->hung)
		return;
	log_begin(&line, LOG_LEVEL_ERROR, "worker hangs");
	log_int(&line, "worker", w->index);
	log_int(&line, "pid", w->pid);
	log_int(&line, "silent_ms", m->options->hang_us / 1000);
	log_str(&line, "now", "killing it");
	log_end(&line);
	w->hung = true;
	m->figures.hangs++;
	kill(w->pid, SIGKILL);
}

/* The service manager hears from us while we turn and no worker is beyond even SIGKILL. */
static void on_pulse(void *arg) {
	struct master *m = arg;
	bool hung = false;
	for (unsigned i = 0; i < slot_count(m); i++) {
		hung = hung || m->workers[i].hung;
		look_at(&m->workers[i]);
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
	m->since = now_us();
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	m->loop = loop_new();
	master_signals(m);
	timer_init(&m->drain_limit, m->loop, on_drain_limit, m);
	timer_init(&m->pulse, m->loop, on_pulse, m);
	upgrade_init(&m->upgrade, m->loop, m->options->argv, on_successor, m);
	m->predecessor = upgrade_predecessor();
	m->successor = m->predecessor >= 0;
	inherit_init();
	sandbox_report();
	if (process_lacks_user(m->options->user))
		return -1;
	if (metrics_process_new(m->options, &m->exporter) < 0)
		return -1;
	inherit_close_rest();
	m->health = health_new(slot_count(m), m->options->hang_us);
	m->workers = xcalloc(slot_count(m), sizeof(*m->workers));
	for (unsigned i = 0; i < slot_count(m); i++) {
		struct worker *w = &m->workers[i];
		*w = (struct worker){.master = m, .index = i, .due = true, .ready_fd = -1, .back_off = BACK_OFF_FIRST_US};
		timer_init(&w->restart, m->loop, on_restart, w);
	}
	if (health_period_us(m->health))
		timer_arm(&m->pulse, health_period_us(m->health));
	return 0;
}

/* Also in a child, after event_reinit(). */
static void master_fini(struct master *m) {
	for (unsigned i = 0; m->workers && i < slot_count(m); i++) {
		forget_pipe(&m->workers[i]);
		timer_fini(&m->workers[i].restart);
	}
	free(m->workers);
	forget_predecessor(m);
	upgrade_fini(&m->upgrade);
	timer_fini(&m->pulse);
	timer_fini(&m->drain_limit);
	event_free(m->signal_ev);
	close(m->signal_fd);
	loop_free(m->loop);
}

enum spawned { SPAWNED_HERE, SPAWNED_CHILD, SPAWNED_NOT };

static enum spawned spawn(struct worker *w, struct process_child *ret_child) {
	struct master *m = w->master;
	int fds[2];
	w->due = false;
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return SPAWNED_NOT;
	clock_update();
	w->since = now_us();
	health_reset(m->health, w->index);
	pid_t pid = fork();
	if (pid < 0) {
		close(fds[0]);
		close(fds[1]);
		return SPAWNED_NOT;
	}
	if (pid == 0) {
		close(fds[0]);
		*ret_child = (struct process_child){.options = m->options,
		                            .ops = m->ops,
		                            .arg = m->arg,
		                            .index = w->index,
		                            .ready_fd = fds[1],
		                            .master_pid = m->pid,
		                            .reloaded = m->reloaded,
		                            .health = m->health,
		                            .exporter = is_worker(w) ? NULL : m->exporter};
		return SPAWNED_CHILD;
	}
	close(fds[1]);
	w->pid = pid;
	w->ready_fd = fds[0];
	w->ready_ev = event_new(loop_base(m->loop), fds[0], EV_READ, on_ready, w);
	if (!w->ready_ev || event_add(w->ready_ev, NULL) < 0)
		abort();
	return SPAWNED_HERE;
}

/* Forks what is due. SPAWNED_CHILD: this process is a worker now. */
static enum spawned spawn_due(struct master *m, struct process_child *ret_child) {
	for (unsigned i = 0; i < slot_count(m) && !m->draining; i++) {
		struct worker *w = &m->workers[i];
		if (!w->due)
			continue;
		switch (spawn(w, ret_child)) {
		case SPAWNED_CHILD:
			return SPAWNED_CHILD;
		case SPAWNED_HERE:
			break;
		case SPAWNED_NOT:
			log_msg(LOG_LEVEL_ERROR, "cannot fork", "worker %u: %s", i, strerror(errno));
			if (m->announced) {
				timer_arm(&w->restart, BACK_OFF_MOST_US);
			} else {
				m->unclean = true;
				begin_stop(m);
			}
			break;
		}
	}
	tell_exporter(m);
	return SPAWNED_HERE;
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
	while (!m->draining || anyone_alive(m)) {
		struct process_child child;
		if (spawn_due(m, &child) == SPAWNED_CHILD)
			return become_child(m, &child);
		if (!m->draining || anyone_alive(m))
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

unsigned process_default_workers(void) {
	cpu_set_t set;
	long n;
	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		n = CPU_COUNT(&set);
	else
		n = sysconf(_SC_NPROCESSORS_ONLN); /* more processors than the set holds */
	return n > 0 ? (unsigned)n : 1;
}
