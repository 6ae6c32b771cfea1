#include "common/process_upgrade.h"

#include "common/inherit.h"
#include "common/log.h"
#include "common/process.h"

#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHANNEL "MINUTEMAIL_UPGRADE_FD"   /* "DESCRIPTOR PID" */
#define HEIRLOOM "MINUTEMAIL_HEIRLOOM_FD" /* the same */
#define READY_LIMIT_US 60000000
#define KILL_AFTER_US 5000000

/* The name we were called by, not the file it was: a symbolic link may lead to another version by now. */
static char *absolute(const char *name) {
	char *cwd;
	if (!strchr(name, '/') || name[0] == '/' || !(cwd = getcwd(NULL, 0)))
		return xstrdup(name);
	char *path = xasprintf("%s/%s", cwd, name);
	free(cwd);
	return path;
}

/* The first time it is asked to end, the second time it is ended. */
static void on_limit(void *arg) {
	struct upgrade *u = arg;
	bool first = u->fd >= 0;
	log_msg(LOG_LEVEL_ERROR, "upgrade takes too long", first ? "asking the new master to end" : "ending the new master");
	upgrade_abandon(u);
	if (!first)
		kill(u->pid, SIGKILL);
	timer_arm(&u->limit, KILL_AFTER_US);
}

void upgrade_init(struct upgrade *u, struct loop *loop, char **argv, void (*on_ready)(void *arg), void *arg) {
	*u = (struct upgrade){.loop = loop, .argv = argv, .fd = -1, .on_ready = on_ready, .arg = arg};
	u->program = argv ? absolute(argv[0]) : NULL;
	timer_init(&u->limit, loop, on_limit, u);
}

void upgrade_fini(struct upgrade *u) {
	loop_close(&u->ev, &u->fd);
	timer_fini(&u->limit);
	free(u->program);
	u->program = NULL;
}

static void on_channel(evutil_socket_t fd, short what, void *arg) {
	struct upgrade *u = arg;
	char c;
	(void)what;
	if (read(fd, &c, 1) != 1) {
		/* It is ending; SIGCHLD tells the rest. */
		loop_close(&u->ev, &u->fd);
		return;
	}
	event_del(u->ev);
	timer_disarm(&u->limit);
	u->on_ready(u->arg);
}

static void tell(const char *name, int fd) {
	char text[48];
	snprintf(text, sizeof(text), "%d %ld", fd, (long)getpid());
	setenv(name, text, 1);
}

/* In the child. */
static _Noreturn void become_successor(const struct upgrade *u, int channel, const int *fds, unsigned n, int heirloom) {
	const int more[] = {channel, heirloom};
	char text[48];
	process_reset_signals();
	int at = inherit_pass(fds, n, more, heirloom ? 2 : 1);
	if (at < 0) {
		log_msg(LOG_LEVEL_ERROR, "sockets cannot be handed over", "%s", strerror(-at));
		_exit(127);
	}
	tell(CHANNEL, at);
	if (heirloom)
		tell(HEIRLOOM, at + 1);
	snprintf(text, sizeof(text), "%ld", (long)getpid());
	if (getenv("WATCHDOG_PID"))
		setenv("WATCHDOG_PID", text, 1);
	/* execvp() alone would have a shell make something of a file that is no program. */
	if (strchr(u->program, '/'))
		execv(u->program, u->argv);
	else
		execvp(u->program, u->argv);
	log_msg(LOG_LEVEL_ERROR, "cannot execute", "%s: %s", u->program, strerror(errno));
	_exit(127);
}

bool upgrade_start(struct upgrade *u, const int *fds, unsigned n, int heirloom) {
	int ends[2];
	if (!u->argv || u->pid) {
		log_msg(LOG_LEVEL_WARNING, "ignoring upgrade", u->pid ? "another one is under way" : "no program to start");
		return false;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0) {
		log_msg(LOG_LEVEL_ERROR, "upgrade failed", "socketpair: %s", strerror(errno));
		return false;
	}
	u->pid = fork();
	if (u->pid == 0)
		become_successor(u, ends[1], fds, n, heirloom);
	close(ends[1]);
	if (u->pid < 0) {
		log_msg(LOG_LEVEL_ERROR, "upgrade failed", "fork: %s", strerror(errno));
		u->pid = 0;
		close(ends[0]);
		return false;
	}
	u->fd = ends[0];
	u->ev = event_new(loop_base(u->loop), u->fd, EV_READ | EV_PERSIST, on_channel, u);
	if (!u->ev || event_add(u->ev, NULL) < 0)
		abort();
	timer_arm(&u->limit, READY_LIMIT_US);
	log_msg(LOG_LEVEL_INFO, "upgrading", "%s as process %ld, on %u sockets", u->program, (long)u->pid, n);
	return true;
}

bool upgrade_reap(struct upgrade *u) {
	struct log_line line;
	int status;
	if (!u->pid || waitpid(u->pid, &status, WNOHANG) != u->pid)
		return false;
	log_begin(&line, LOG_LEVEL_ERROR, "upgrade failed");
	log_int(&line, "pid", u->pid);
	log_int(&line, WIFSIGNALED(status) ? "signal" : "status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	log_str(&line, "reason", "the new master ended before it was ready; its own lines say why");
	log_str(&line, "now", "going on as before");
	log_end(&line);
	u->pid = 0;
	timer_disarm(&u->limit);
	loop_close(&u->ev, &u->fd);
	return true;
}

void upgrade_abandon(struct upgrade *u) {
	if (u->pid)
		kill(u->pid, SIGTERM);
	loop_close(&u->ev, &u->fd);
}

void upgrade_release(struct upgrade *u) {
	ssize_t n = write(u->fd, "g", 1);
	(void)n;
	u->pid = 0;
	loop_close(&u->ev, &u->fd);
}

/* Meant for us: an environment that outlived its process names a descriptor that may be anything here. -1: it is not, or there is none. */
static int told(const char *name) {
	const char *s = getenv(name);
	int fd;
	long pid;
	if (!s)
		return -1;
	bool ours = sscanf(s, "%d %ld", &fd, &pid) == 2 && pid == (long)getpid();
	unsetenv(name);
	if (!ours || fd <= STDERR_FILENO || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -1;
	return fd;
}

bool predecessor_init(struct predecessor *p) {
	struct stat st;
	int fd = told(CHANNEL);
	bool there = fd >= 0 && fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
	*p = (struct predecessor){.fd = there ? fd : -1};
	return there;
}

void predecessor_fini(struct predecessor *p) {
	loop_close(&p->ev, &p->fd);
}

static void on_predecessor(evutil_socket_t fd, short what, void *arg) {
	struct predecessor *p = arg;
	(void)fd;
	(void)what;
	predecessor_fini(p);
	p->on_gone(p->arg);
}

void predecessor_tell(struct predecessor *p, struct loop *loop, void (*on_gone)(void *arg), void *arg) {
	if (p->fd < 0) {
		on_gone(arg);
		return;
	}
	if (p->ev)
		return;
	p->on_gone = on_gone;
	p->arg = arg;
	p->ev = event_new(loop_base(loop), p->fd, EV_READ, on_predecessor, p);
	if (!p->ev || event_add(p->ev, NULL) < 0)
		abort();
	ssize_t n = write(p->fd, "r", 1);
	(void)n;
}

int process_heirloom(void) {
	return told(HEIRLOOM);
}
