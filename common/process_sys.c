/* Identity, processors, service manager, pid file. Blocking calls, made at start-up and at the end only. */
#include "common/process_sys.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/process.h"
#include "common/sandbox.h"

#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int drop_fault(const char *user, int error) {
	struct log_line line;
	log_begin(&line, LOG_LEVEL_ERROR, "cannot change user");
	log_str(&line, "user", user);
	log_errno(&line, error);
	log_end(&line);
	return -error;
}

int process_drop_user(const char *user) {
	if (!user || !*user || geteuid() != 0)
		return 0;
	errno = 0;
	const struct passwd *pw = getpwnam(user);
	if (!pw)
		return drop_fault(user, errno ? errno : ENOENT);
	if (pw->pw_uid == 0)
		return 0;
	int r = sandbox_bound_capabilities();
	if (r < 0)
		return drop_fault(user, -r);
	if (initgroups(user, pw->pw_gid) < 0 || setgid(pw->pw_gid) < 0 || setuid(pw->pw_uid) < 0)
		return drop_fault(user, errno);
	/* There must be no way back. */
	if (setuid(0) == 0 || geteuid() == 0)
		return drop_fault(user, EPERM);
	return 0;
}

bool process_lacks_user(const char *user) {
	if (geteuid() != 0 || (user && *user))
		return false;
	log_msg(LOG_LEVEL_ERROR, "no user",
	        "started as root: say with user=NAME (--user=NAME) whom workers become, or user=root to stay root");
	return true;
}

int process_confine_master(bool successor) {
	static const unsigned kept[] = {CAP_DAC_READ_SEARCH, CAP_KILL, CAP_NET_BIND_SERVICE, CAP_SETGID, CAP_SETUID, CAP_SETPCAP};
	struct sandbox sandbox;
	uint64_t mask = 0;
	for (size_t i = 0; i < array_len(kept); i++)
		mask |= UINT64_C(1) << kept[i];
	sandbox_init(&sandbox, SANDBOX_MASTER);
	int r = sandbox_keep_capabilities(mask);
	/* A filter survives exec, and the kernel bounds how many there are: one for all masters of a line of upgrades. */
	if (r == 0 && !(successor && prctl(PR_GET_SECCOMP) == SECCOMP_MODE_FILTER))
		r = sandbox_enter(&sandbox);
	if (r < 0) {
		struct log_line line;
		log_begin(&line, LOG_LEVEL_ERROR, "master cannot enter its sandbox");
		log_errno(&line, r);
		log_end(&line);
	}
	return r;
}

void process_notify(const char *state) {
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	if (!path || (path[0] != '/' && path[0] != '@'))
		return;
	size_t n = strlen(path);
	if (n < 2 || n >= sizeof(un.sun_path))
		return;
	memcpy(un.sun_path, path, n);
	if (path[0] == '@')
		un.sun_path[0] = '\0'; /* the abstract name space: the name has no NUL at its end */
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (path[0] == '/'));
	/* A service manager that does not listen must not keep us from our work. */
	ssize_t sent = sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&un, len);
	(void)sent;
	close(fd);
}

void process_notify_reloading(void) {
	char text[64];
	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%lld", (long long)clock_mono_us_now());
	process_notify(text);
}

static int write_pid(const char *path) {
	char text[24];
	char *temporary = xasprintf("%s.new", path);
	int n = snprintf(text, sizeof(text), "%ld\n", (long)getpid()), r = 0;
	int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		r = -errno;
	if (r == 0 && write(fd, text, (size_t)n) != n)
		r = -EIO;
	if (fd >= 0)
		close(fd);
	if (r == 0 && rename(temporary, path) < 0)
		r = -errno;
	if (r < 0 && fd >= 0)
		unlink(temporary);
	free(temporary);
	return r;
}

/* 0: no such file, or the process that it names lives. */
static long stale_pid(const char *path) {
	long pid = 0;
	FILE *f = fopen(path, "re");
	if (!f)
		return 0;
	if (fscanf(f, "%ld", &pid) != 1 || pid <= 0 || pid == getpid() || kill((pid_t)pid, 0) == 0 || errno != ESRCH)
		pid = 0;
	fclose(f);
	return pid;
}

void process_report_stale_pid(const char *path) {
	struct log_line line;
	long pid = stale_pid(path);
	if (pid == 0)
		return;
	log_begin(&line, LOG_LEVEL_WARNING, "the master before us did not end by itself");
	log_int(&line, "pid", pid);
	log_str(&line, "reason", "killed, or the machine went down: what its workers had not written yet may be lost");
	log_end(&line);
}

static int remove_pid(const char *path) {
	return unlink(path) < 0 ? -errno : 0;
}

/* A master that has given its rights over other users' files away writes in the directory of another as that one: no capability
 * is needed, and nothing is done there that the owner could not do. */
static int as_owner(const char *path, int (*fn)(const char *path)) {
	struct stat st;
	int r = fn(path);
	if (r != -EACCES || geteuid() != 0)
		return r;
	cleanup(freep) char *copy = xstrdup(path);
	if (stat(dirname(copy), &st) < 0)
		return r;
	int dumpable = prctl(PR_GET_DUMPABLE);
	setfsgid(st.st_gid);
	setfsuid(st.st_uid);
	r = fn(path);
	setfsuid(geteuid());
	setfsgid(getegid());
	prctl(PR_SET_DUMPABLE, dumpable == 1); /* the change cleared it */
	return r;
}

bool process_write_pid(const char *path) {
	struct log_line line;
	int r = as_owner(path, write_pid);
	if (r == 0)
		return true;
	log_begin(&line, LOG_LEVEL_WARNING, "pid file not written");
	log_str(&line, "path", path);
	log_errno(&line, r);
	log_end(&line);
	return false;
}

void process_remove_pid(const char *path) {
	as_owner(path, remove_pid);
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
