/* What a process that reads hostile mail may do: compute, answer on its channel, and end. Not the worker's sandbox.
 *
 * Under sanitizers the address-space limit and the system call filter are left out: their run-time needs both. */
#include "smtpd/parser_process.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define DESCRIPTORS_MAX 16

#if defined(__x86_64__)
#define FILTER_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define FILTER_ARCH AUDIT_ARCH_AARCH64
#endif

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

int parser_sandbox_close_all(int fd, int want) {
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), r = null < 0 ? -errno : 0;
	for (int i = 0; i < 3 && r == 0; i++)
		if (i != STDERR_FILENO || !SANITIZED) /* where a sanitizer reports */
			r = redirect(null, i);
	if (r == 0 && fd != want)
		r = redirect(fd, want);
	if (r == 0 && close_range((unsigned)want + 1, ~0u, 0) < 0)
		r = -errno;
	return r;
}

static int limit(int resource, uint64_t value) {
	struct rlimit l = {value, value};
	return setrlimit((__rlimit_resource_t)resource, &l) < 0 ? -errno : 0;
}

/* Pages mapped now, from /proc/self/statm. */
static uint64_t mapped_octets(void) {
	unsigned long pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");
	if (f) {
		if (fscanf(f, "%lu", &pages) != 1)
			pages = 0;
		fclose(f);
	}
	return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

#ifdef FILTER_ARCH
/* Everything else fails with EPERM: opening files, sockets, processes, signals to others. */
static const unsigned allowed[] = {
	__NR_read,         __NR_write,          __NR_readv,         __NR_writev,
	__NR_recvmsg,      __NR_sendmsg,        __NR_recvfrom,      __NR_sendto,
	__NR_close,        __NR_lseek,          __NR_mmap,          __NR_munmap,
	__NR_mprotect,     __NR_mremap,         __NR_madvise,       __NR_brk,
	__NR_futex,        __NR_exit,           __NR_exit_group,    __NR_rt_sigreturn,
	__NR_rt_sigaction, __NR_rt_sigprocmask, __NR_clock_gettime, __NR_gettimeofday,
	__NR_getrandom,    __NR_getpid,         __NR_gettid,        __NR_restart_syscall,
};

static int filter_calls(void) {
	enum { HEAD = 4, COUNT = array_len(allowed) };
	struct sock_filter code[HEAD + COUNT + 2];
	size_t n = 0;
	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
	code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, FILTER_ARCH, 1, 0);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < COUNT; i++) /* each hit jumps over the rest and the refusal */
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed[i], (uint8_t)(COUNT - i), 0);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = {.len = (unsigned short)n, .filter = code};
	/* A kernel built without filters still has the limits and the empty descriptor table. */
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0 && errno != EINVAL)
		return -errno;
	return 0;
}
#else
static int filter_calls(void) {
	return 0;
}
#endif

int parser_sandbox_enter(int64_t memory_max) {
	int r = 0;
	if (memory_max > 0 && !SANITIZED)
		r = limit(RLIMIT_AS, (uint64_t)memory_max + mapped_octets());
	if (r == 0)
		r = limit(RLIMIT_NOFILE, DESCRIPTORS_MAX);
	if (r == 0)
		r = limit(RLIMIT_FSIZE, 0);
	if (r == 0)
		r = limit(RLIMIT_CORE, 0);
	if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		r = -errno;
	if (r == 0 && prctl(PR_SET_DUMPABLE, 0) < 0)
		r = -errno;
	if (r == 0 && !SANITIZED)
		r = filter_calls();
	return r;
}
