/* What a process that reads hostile mail may do: compute, answer on its channel, and end. The zygote enters a sandbox of its
 * own (common/sandbox.h) once it is warm, and each parser a narrower one inside that. */
#include "smtpd/parser_process.h"

#include "common/sandbox.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define DESCRIPTORS_MAX 16

int parser_sandbox_child(pid_t parent) {
	static const int deaf[] = {SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGUSR1, SIGUSR2};
	sigset_t none;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return -errno;
	if (getppid() != parent) /* it died before we could be told */
		return -ESRCH;
	for (size_t i = 0; i < array_len(deaf); i++)
		signal(deaf[i], SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	return 0;
}

static int redirect(int fd, int want) {
	return dup2(fd, want) < 0 ? -errno : 0;
}

int parser_sandbox_silence(void) {
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), r = null < 0 ? -errno : 0;
	for (int i = 0; i < 3 && r == 0; i++)
		if (i != STDERR_FILENO || !SANDBOX_RELAXED) /* where a sanitizer reports */
			r = redirect(null, i);
	if (null > STDERR_FILENO)
		close(null);
	return r;
}

int parser_sandbox_close_all(int fd, int want) {
	int r = fd != want ? redirect(fd, want) : 0;
	if (r == 0 && close_range((unsigned)want + 1, ~0u, 0) < 0)
		r = -errno;
	return r;
}

static int limit(int resource, uint64_t value) {
	struct rlimit l = {value, value};
	return setrlimit((__rlimit_resource_t)resource, &l) < 0 ? -errno : 0;
}

uint64_t parser_sandbox_mapped(void) {
	unsigned long pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");
	if (f) {
		if (fscanf(f, "%lu", &pages) != 1)
			pages = 0;
		fclose(f);
	}
	return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

int parser_sandbox_enter(int64_t memory_max, uint64_t mapped) {
	struct sandbox sandbox;
	int r = 0;
	if (memory_max > 0 && !SANDBOX_RELAXED)
		r = limit(RLIMIT_AS, (uint64_t)memory_max + mapped);
	if (r == 0)
		r = limit(RLIMIT_NOFILE, DESCRIPTORS_MAX);
	if (r == 0)
		r = limit(RLIMIT_FSIZE, 0);
	sandbox_init(&sandbox, SANDBOX_PARSER);
	return r < 0 ? r : sandbox_enter(&sandbox);
}
