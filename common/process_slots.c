#include "common/process_slots.h"

#include "common/clock.h"
#include "common/log.h"

#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define BACK_OFF_FIRST_US 100000
#define BACK_OFF_MOST_US 5000000
#define LIVED_LONG_US 10000000 /* after this the back-off starts over */

static void on_restart(void *arg) {
	struct slot *s = arg;
	s->due = true;
}

void slots_init(struct slots *slots, struct loop *loop, unsigned workers, bool metrics, void (*on_all_ready)(void *arg), void *arg) {
	*slots = (struct slots){.loop = loop, .workers = workers, .count = workers + metrics, .on_all_ready = on_all_ready, .arg = arg};
	slots->v = xcalloc(slots->count, sizeof(*slots->v));
	for (unsigned i = 0; i < slots->count; i++) {
		struct slot *s = &slots->v[i];
		*s = (struct slot){.slots = slots, .index = i, .due = true, .ready_fd = -1, .back_off = BACK_OFF_FIRST_US};
		timer_init(&s->restart, loop, on_restart, s);
	}
}

void slots_fini(struct slots *slots) {
	for (unsigned i = 0; i < slots->count; i++) {
		loop_close(&slots->v[i].ready_ev, &slots->v[i].ready_fd);
		timer_fini(&slots->v[i].restart);
	}
	free(slots->v);
	*slots = (struct slots){0};
}

void slots_end(struct slots *slots) {
	for (unsigned i = 0; i < slots->count; i++) {
		slots->v[i].due = false;
		timer_disarm(&slots->v[i].restart);
	}
}

unsigned slots_workers_alive(const struct slots *slots) {
	unsigned n = 0;
	for (unsigned i = 0; i < slots->workers; i++)
		n += slots->v[i].pid != 0;
	return n;
}

bool slots_anyone_alive(const struct slots *slots) {
	for (unsigned i = 0; i < slots->count; i++)
		if (slots->v[i].pid)
			return true;
	return false;
}

static void signal_range(const struct slots *slots, unsigned from, unsigned to, int signo) {
	for (unsigned i = from; i < to; i++)
		if (slots->v[i].pid)
			kill(slots->v[i].pid, signo);
}

void slots_signal_workers(const struct slots *slots, int signo) {
	signal_range(slots, 0, slots->workers, signo);
}

void slots_signal_metrics(const struct slots *slots, int signo) {
	signal_range(slots, slots->workers, slots->count, signo);
}

bool slot_is_worker(const struct slot *s) {
	return s->index < s->slots->workers;
}

static void on_ready(evutil_socket_t fd, short what, void *arg) {
	struct slot *s = arg;
	struct slots *slots = s->slots;
	char c;
	(void)what;
	/* At the end of the pipe the child is dead, and SIGCHLD tells the rest. */
	s->ready = read(fd, &c, 1) == 1;
	loop_close(&s->ready_ev, &s->ready_fd);
	for (unsigned i = 0; i < slots->count; i++)
		if (!slots->v[i].ready)
			return;
	slots->on_all_ready(slots->arg);
}

pid_t slot_fork(struct slot *s, int *ret_ready_fd) {
	int fds[2];
	s->due = false;
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	clock_update();
	s->since = clock_mono_us();
	pid_t pid = fork();
	if (pid < 0) {
		int error = errno;
		close(fds[0]);
		close(fds[1]);
		return -error;
	}
	if (pid == 0) {
		close(fds[0]);
		*ret_ready_fd = fds[1];
		return 0;
	}
	close(fds[1]);
	s->pid = pid;
	s->ready_fd = fds[0];
	s->ready_ev = event_new(loop_base(s->slots->loop), fds[0], EV_READ, on_ready, s);
	if (!s->ready_ev || event_add(s->ready_ev, NULL) < 0)
		abort();
	return pid;
}

static void log_end_of(const struct slot *s, int status, bool clean) {
	struct log_line line;
	log_begin(&line, clean ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR, WIFSIGNALED(status) ? "worker died" : "worker ended");
	if (slot_is_worker(s))
		log_int(&line, "worker", s->index);
	else
		log_str(&line, "process", "metrics");
	log_int(&line, "pid", s->pid);
	if (WIFSIGNALED(status)) {
		log_int(&line, "signal", WTERMSIG(status));
		log_str(&line, "reason", strsignal(WTERMSIG(status)));
	} else {
		log_int(&line, "status", WEXITSTATUS(status));
	}
	log_end(&line);
}

bool slot_reap(struct slot *s, struct slot_end *ret) {
	int status;
	if (!s->pid || waitpid(s->pid, &status, WNOHANG) != s->pid)
		return false;
	*ret = (struct slot_end){.clean = WIFEXITED(status) && WEXITSTATUS(status) == 0, .was_ready = s->ready};
	log_end_of(s, status, ret->clean);
	if (s->ready && clock_mono_us() - s->since > LIVED_LONG_US)
		s->back_off = BACK_OFF_FIRST_US;
	s->pid = 0;
	s->ready = s->hung = false;
	loop_close(&s->ready_ev, &s->ready_fd);
	return true;
}

void slot_retry(struct slot *s) {
	timer_arm(&s->restart, s->back_off);
	s->back_off = min_of(s->back_off * 2, (int64_t)BACK_OFF_MOST_US);
}

void slot_retry_late(struct slot *s) {
	timer_arm(&s->restart, BACK_OFF_MOST_US);
}
