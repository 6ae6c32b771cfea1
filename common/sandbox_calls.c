/* seccomp: a program of the kernel's packet filter machine that runs at each system call, made here from tables.
 *
 * Each table says what happens to a call that it does not name. For workers that is EPERM: a library that asks for more than we
 * know of gets an answer it can deal with. Processes that handle hostile octets or keys are killed, but for calls that libraries
 * are known to try. Calls that are newer than these tables get ENOSYS everywhere, for which libraries have a way round, so that
 * a new libc does not need new tables. A table holds nothing that opens a way out: adding to it is harmless only if the call is.
 *
 * ARM64 has fewer calls than x86-64, and its libc uses only the newer of two (openat, ppoll, clone): whatever stands in an #ifdef
 * has such a successor beside it, which tests/unit/sandbox_tables.py looks after.
 *
 * Another architecture's numbers (a 32-bit program's, x32's) would mean other calls: those kill. */
#include "common/sandbox.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define FILTER_ARCH AUDIT_ARCH_X86_64
#define X32_FIRST 0x40000000u
#elif defined(__aarch64__)
#define FILTER_ARCH AUDIT_ARCH_AARCH64
#endif

#ifdef FILTER_ARCH

#define NEWEST_CALL 450 /* set_mempolicy_home_node, Linux 5.17; both architectures number alike from 424 on */
#define CODE_MAX 1024

#define REFUSE(error) (SECCOMP_RET_ERRNO | (error))
#define KILL SECCOMP_RET_KILL_PROCESS
#define ALLOW SECCOMP_RET_ALLOW

/* What must hold of a call's arguments; if it does not, the call is refused with EPERM. Only the lower halves are looked at,
 * since the kernel looks at no more of these. */
enum condition {
	ALWAYS,
	NO_EXEC,   /* memory is not made executable */
	NO_WX,     /* memory is not made writable and executable at once */
	FAMILY,    /* socket: Unix, IPv4, IPv6 */
	UNIX,      /* socketpair */
	THREAD,    /* clone: a thread, not a process */
	PROCESS,   /* clone: without new name spaces */
	OURSELVES, /* a signal: to this process */
	PID_0,     /* limits: of this process */
	FILE_IOCTL,
	NAMES,     /* prctl: names and the like */
};

struct call {
	int nr; /* -1: the table's end */
	enum condition condition;
	uint32_t otherwise; /* for ALWAYS, what happens; 0: allowed */
};

#define IF(name, condition) {__NR_##name, condition, 0}
#define MAY(name) {__NR_##name, ALWAYS, 0}
#define NOT(name) {__NR_##name, ALWAYS, REFUSE(EPERM)}
#define DEADLY(name) {__NR_##name, ALWAYS, KILL}
#define MISSING(name) {__NR_##name, ALWAYS, REFUSE(ENOSYS)}
#define END {-1, ALWAYS, 0}

/* What every process of ours does, the most frequent first: on an old kernel the table is walked at each call. */
static const struct call COMMON[] = {
    MAY(read), MAY(write), MAY(recvmsg), MAY(sendmsg), MAY(recvfrom), MAY(sendto), MAY(readv), MAY(writev), MAY(futex),
    MAY(clock_gettime), MAY(gettimeofday), MAY(close), MAY(lseek), MAY(fstat), MAY(munmap), MAY(mremap), MAY(madvise),
    MAY(brk), MAY(exit), MAY(exit_group), MAY(rt_sigreturn), MAY(rt_sigaction), MAY(rt_sigprocmask), MAY(sigaltstack),
    MAY(getrandom), MAY(getpid), MAY(gettid), MAY(restart_syscall), MAY(sched_yield), MAY(clock_nanosleep),
    MAY(nanosleep), MAY(ppoll),
#ifdef __NR_poll
    MAY(poll),
#endif
    END};

/* What GLib, iconv and libc may try when a message asks for it, and do without: a charset that was not loaded before, or how
 * many processors there are. */
static const struct call TRIED[] = {
    NOT(openat), NOT(newfstatat), NOT(statx), NOT(faccessat), NOT(readlinkat), NOT(ioctl), NOT(fcntl), NOT(uname),
    NOT(sysinfo), NOT(prlimit64), NOT(sched_getaffinity), NOT(getuid), NOT(geteuid), NOT(getgid), NOT(getegid),
    NOT(getcwd), NOT(prctl), NOT(getrlimit),
#ifdef __NR_open
    NOT(open), NOT(stat), NOT(lstat), NOT(access), NOT(readlink),
#endif
    END};

static const struct call COMPUTES[] = {IF(mmap, NO_EXEC), IF(mprotect, NO_EXEC), IF(tgkill, OURSELVES), END};

static const struct call KEYS[] = {
    MAY(epoll_pwait), MAY(epoll_ctl), MAY(pselect6), MAY(shutdown), MAY(mlock), MAY(munlock), MAY(wait4),
#ifdef __NR_poll
    MAY(epoll_wait), MAY(select),
#endif
    END};

static const struct call ZYGOTE[] = {
    IF(clone, PROCESS), MISSING(clone3), MAY(wait4), MAY(kill), MAY(tgkill), IF(socketpair, UNIX), MAY(mmap),
    MAY(mprotect), MAY(close_range), MAY(dup3), MAY(getppid), MAY(prctl), MAY(prlimit64), MAY(capget), MAY(capset),
    MAY(seccomp), MAY(umask), MAY(set_robust_list), MAY(rseq), MAY(landlock_create_ruleset),
    MAY(landlock_add_rule), MAY(landlock_restrict_self), MAY(setrlimit),
#ifdef __NR_dup2
    MAY(dup2),
#endif
    NOT(openat), NOT(fcntl), NOT(ioctl), END};

static const struct call WORKER[] = {
    MAY(epoll_pwait), MAY(epoll_ctl), IF(ioctl, FILE_IOCTL), MAY(accept4), MAY(shutdown), MAY(connect),
    IF(socket, FAMILY), MAY(setsockopt), MAY(getsockopt), MAY(getsockname), MAY(getpeername), MAY(sendmmsg),
    MAY(recvmmsg), MAY(accept), IF(socketpair, UNIX), MAY(pselect6), MAY(fcntl), MAY(pread64), MAY(pwrite64),
    MAY(preadv), MAY(pwritev), MAY(preadv2), MAY(pwritev2), IF(mmap, NO_WX), IF(mprotect, NO_WX), MAY(openat),
    MAY(newfstatat), MAY(statx), MAY(faccessat), MAY(faccessat2), MAY(readlinkat), MAY(getdents64), MAY(getcwd),
    MAY(unlinkat), MAY(ftruncate), MAY(fallocate), MAY(fsync), MAY(fdatasync), MAY(fadvise64), MAY(fstatfs),
    MAY(statfs), MAY(sendfile), MAY(flock), MAY(umask), MAY(close_range), MAY(dup), MAY(dup3), MAY(pipe2),
    MAY(eventfd2), MAY(timerfd_create), MAY(timerfd_settime), MAY(signalfd4), MAY(epoll_create1), MAY(clock_getres),
    MAY(rt_sigpending), MAY(rt_sigtimedwait), IF(tgkill, OURSELVES), IF(clone, THREAD), MISSING(clone3),
    MAY(set_robust_list), MAY(rseq), MAY(set_tid_address), MAY(membarrier), MAY(sched_getaffinity), MAY(getcpu),
    IF(prctl, NAMES), IF(prlimit64, PID_0), MAY(getrusage), MAY(times), MAY(sysinfo), MAY(uname), MAY(getppid),
    MAY(getuid), MAY(geteuid), MAY(getgid), MAY(getegid), MAY(getgroups), MAY(wait4), MAY(waitid), MAY(mlock),
    MAY(munlock), MAY(mlock2), MAY(mincore), MAY(msync), MAY(capget), MAY(getrlimit),
#ifdef __NR_open
    MAY(epoll_wait), MAY(select), MAY(open), MAY(stat), MAY(lstat), MAY(access), MAY(readlink), MAY(unlink),
    MAY(dup2), MAY(pipe), MAY(time), MAY(getdents), MAY(eventfd),
#endif
    /* No library of ours asks for these on any version: whoever does is not us any more. */
    DEADLY(execve), DEADLY(execveat), DEADLY(ptrace), DEADLY(process_vm_readv), DEADLY(process_vm_writev), DEADLY(bpf),
    DEADLY(unshare), DEADLY(setns), DEADLY(mount), DEADLY(pivot_root), DEADLY(chroot), DEADLY(init_module),
    DEADLY(finit_module), DEADLY(kexec_load), DEADLY(open_by_handle_at), DEADLY(userfaultfd), DEADLY(add_key),
    DEADLY(keyctl), DEADLY(request_key), END};

/* The master forks, changes users and starts programs; these it does not do, as little as what it starts. */
static const struct call MASTER[] = {
    NOT(ptrace), NOT(process_vm_readv), NOT(process_vm_writev), NOT(bpf), NOT(unshare), NOT(setns), NOT(mount),
    NOT(umount2), NOT(pivot_root), NOT(chroot), NOT(move_mount), NOT(open_tree), NOT(fsopen), NOT(fsmount),
    NOT(init_module), NOT(finit_module), NOT(delete_module), NOT(kexec_load), NOT(open_by_handle_at), NOT(userfaultfd),
    NOT(add_key), NOT(keyctl), NOT(request_key), NOT(perf_event_open), NOT(io_uring_setup), NOT(io_uring_enter),
    NOT(io_uring_register), NOT(swapon), NOT(swapoff), NOT(reboot), NOT(acct), NOT(quotactl), NOT(settimeofday),
    NOT(clock_settime), NOT(adjtimex), NOT(clock_adjtime), NOT(sethostname), NOT(setdomainname), NOT(syslog),
    NOT(mknodat), NOT(personality),
#ifdef __NR_iopl
    NOT(iopl), NOT(ioperm), NOT(mknod),
#endif
    END};

struct filter {
	const struct call *tables[4];
	uint32_t otherwise;
};

static const struct filter FILTERS[] = {
    [SANDBOX_MASTER] = {{MASTER}, ALLOW},
    [SANDBOX_WORKER] = {{COMMON, WORKER}, REFUSE(EPERM)},
    [SANDBOX_ZYGOTE] = {{COMMON, ZYGOTE}, KILL},
    [SANDBOX_PARSER] = {{COMMON, COMPUTES, TRIED}, KILL},
    [SANDBOX_KEYS] = {{COMMON, COMPUTES, KEYS, TRIED}, KILL},
};

struct code {
	struct sock_filter at[CODE_MAX];
	unsigned short n;
};

static void emit(struct code *c, uint16_t op, uint32_t k, uint8_t if_true, uint8_t if_false) {
	assert(c->n < CODE_MAX);
	c->at[c->n++] = (struct sock_filter)BPF_JUMP(op, k, if_true, if_false);
}

static void answer(struct code *c, uint32_t verdict) {
	emit(c, BPF_RET | BPF_K, verdict, 0, 0);
}

static void load(struct code *c, size_t offset) {
	emit(c, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void load_argument(struct code *c, unsigned i) {
	load(c, offsetof(struct seccomp_data, args) + i * sizeof(uint64_t)); /* the lower half: both are little-endian */
}

/* Allowed if the argument is one of these. */
static void one_of(struct code *c, unsigned argument, const uint32_t *values, size_t n) {
	load_argument(c, argument);
	for (size_t i = 0; i < n; i++) {
		emit(c, BPF_JMP | BPF_JEQ | BPF_K, values[i], 0, 1);
		answer(c, ALLOW);
	}
	answer(c, REFUSE(EPERM));
}

/* Allowed if argument & mask is (`equal`) or is not that. */
static void masked(struct code *c, unsigned argument, uint32_t mask, uint32_t value, bool equal) {
	load_argument(c, argument);
	emit(c, BPF_ALU | BPF_AND | BPF_K, mask, 0, 0);
	emit(c, BPF_JMP | BPF_JEQ | BPF_K, value, equal ? 1 : 0, equal ? 0 : 1);
	answer(c, REFUSE(EPERM));
	answer(c, ALLOW);
}

static void check(struct code *c, enum condition condition) {
	static const uint32_t families[] = {AF_UNIX, AF_INET, AF_INET6}, ioctls[] = {FIONREAD, FIONBIO, TCGETS},
	                      names[] = {PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE, PR_GET_NO_NEW_PRIVS, 0x53564d41 /* PR_SET_VMA */};
	const uint32_t self = (uint32_t)getpid(), zero = 0;
	const uint32_t spaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |
	                        CLONE_NEWNET;
	switch (condition) {
	case ALWAYS:
		answer(c, ALLOW);
		break;
	case NO_EXEC:
		masked(c, 2, PROT_EXEC, 0, true);
		break;
	case NO_WX:
		masked(c, 2, PROT_WRITE | PROT_EXEC, PROT_WRITE | PROT_EXEC, false);
		break;
	case FAMILY:
		one_of(c, 0, families, array_len(families));
		break;
	case UNIX:
		one_of(c, 0, families, 1);
		break;
	case THREAD:
		masked(c, 0, CLONE_THREAD, CLONE_THREAD, true);
		break;
	case PROCESS:
		masked(c, 0, spaces, 0, true);
		break;
	case OURSELVES:
		one_of(c, 0, &self, 1);
		break;
	case PID_0:
		one_of(c, 0, &zero, 1);
		break;
	case FILE_IOCTL:
		one_of(c, 1, ioctls, array_len(ioctls));
		break;
	case NAMES:
		one_of(c, 0, names, array_len(names));
		break;
	}
}

/* One call: if it is another, the jump goes over what is said of this one. */
static void add_call(struct code *c, const struct call *call) {
	unsigned short jump = c->n;
	emit(c, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call->nr, 0, 0);
	if (call->otherwise)
		answer(c, call->otherwise);
	else
		check(c, call->condition);
	c->at[jump].jf = (uint8_t)(c->n - jump - 1);
}

static void assemble(struct code *c, const struct filter *filter) {
	c->n = 0;
	load(c, offsetof(struct seccomp_data, arch));
	emit(c, BPF_JMP | BPF_JEQ | BPF_K, FILTER_ARCH, 1, 0);
	answer(c, KILL);
	load(c, offsetof(struct seccomp_data, nr));
#ifdef X32_FIRST
	emit(c, BPF_JMP | BPF_JGE | BPF_K, X32_FIRST, 0, 1);
	answer(c, KILL);
#endif
	for (size_t t = 0; t < array_len(filter->tables) && filter->tables[t]; t++)
		for (const struct call *call = filter->tables[t]; call->nr >= 0; call++)
			add_call(c, call);
	if (filter->otherwise != ALLOW) {
		emit(c, BPF_JMP | BPF_JGT | BPF_K, NEWEST_CALL, 0, 1);
		answer(c, REFUSE(ENOSYS));
	}
	answer(c, filter->otherwise);
}

bool sandbox_filter_available(void) {
	const uint32_t action = SECCOMP_RET_KILL_PROCESS;
	return syscall(__NR_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

int sandbox_filter_calls(enum sandbox_calls calls) {
	struct code code;
	assemble(&code, &FILTERS[calls]);
	const struct sock_fprog program = {.len = code.n, .filter = code.at};
	/* A kernel built without filters still has the other layers. */
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0 && errno != EINVAL)
		return -errno;
	return 0;
}

#else /* an architecture whose calls nobody has looked at: it may not even have all of these */

bool sandbox_filter_available(void) {
	return false;
}

int sandbox_filter_calls(enum sandbox_calls calls) {
	(void)calls;
	return 0;
}

#endif
