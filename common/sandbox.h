/* What a process may still do once it has started. Entered when the last privilege has been used; there is no way out, and
 * children inherit it. Four layers, so that one that the kernel lacks or that has a hole leaves the others:
 *
 *   privileges   no new ones, no capability, no core file, not to be traced or read by others of its user
 *   calls        a list of system calls that the process needs (seccomp); the rest is refused, or kills
 *   files, TCP   a list of paths and ports (Landlock); everything else cannot be opened, connected to or listened on
 *   signals      none to processes outside (Landlock, from its version 6 on)
 *
 * What a kernel lacks is left out; sandbox_report() says so. README.md has the table of what holds where. */
#ifndef MINUTEMAIL_SANDBOX_H
#define MINUTEMAIL_SANDBOX_H

#include "common/base.h"

/* A sanitizer's run-time maps what it likes, reads /proc, traces its own process to look for leaks and writes reports: in such
 * a build there is no filter of calls, no list of files and no limit of memory, and the process can be traced. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANDBOX_RELAXED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANDBOX_RELAXED true
#endif
#endif
#ifndef SANDBOX_RELAXED
#define SANDBOX_RELAXED false
#endif

enum sandbox_calls {
	SANDBOX_MASTER,  /* everything but what no daemon does: tracing, mounting, modules, name spaces, io_uring … */
	SANDBOX_WORKER,  /* files, connections to others, threads; no new process, no program, no listening, no signal to others */
	SANDBOX_ZYGOTE,  /* forks, and what its children need before they enter SANDBOX_PARSER */
	SANDBOX_PARSER,  /* computes on what it has; opening a file is refused, anything else kills it */
	SANDBOX_KEYS,    /* the same with poll and epoll: answers on descriptors that it has */
};

#define SANDBOX_PATHS_MAX 64
#define SANDBOX_PORTS_MAX 16

struct sandbox {
	enum sandbox_calls calls;
	struct {
		char *path; /* owned */
		bool write;
	} paths[SANDBOX_PATHS_MAX];
	uint16_t ports[SANDBOX_PORTS_MAX];
	unsigned path_count, port_count;
	bool any_port;
};

void sandbox_init(struct sandbox *, enum sandbox_calls);
/* Only for one that is not entered. */
void sandbox_fini(struct sandbox *);
/* A file, or a directory with all that is below it. What does not exist when the sandbox is entered stays closed. A rule holds
 * for the file, not for its name: one that is replaced by another of its name is closed then. */
void sandbox_may_read(struct sandbox *, const char *path);
/* Files in a directory: making, reading, writing and removing them. */
void sandbox_may_write_in(struct sandbox *, const char *dir);
/* Outgoing TCP connections to this port. None at all unless said. */
void sandbox_may_connect(struct sandbox *, uint16_t port);
void sandbox_may_connect_anywhere(struct sandbox *);
/* What libc and OpenSSL read when they look up names, verify certificates, tell the time or load a module; TCP to port 53. */
void sandbox_may_use_libraries(struct sandbox *);

/* Enters it, for SANDBOX_MASTER the calls alone, and empties the struct. -errno: the process must not go on. */
int sandbox_enter(struct sandbox *);

/* For a process of root's that is about to change its user: no program that it runs gains a capability, ever. Nothing else has
 * changed yet; for any other process this does nothing. -errno. */
int sandbox_bound_capabilities(void);
/* Of root's capabilities only those in the mask (1 << CAP_…) stay, and none outside can come back. -errno. */
int sandbox_keep_capabilities(uint64_t mask);

/* One line about what this kernel offers; a warning if something is missing. */
void sandbox_report(void);

/* --- private to sandbox*.c --- */
int sandbox_filter_calls(enum sandbox_calls);     /* 0 also where the kernel has no filters */
int sandbox_restrict_files(const struct sandbox *); /* 0 also where the kernel has no Landlock */
int sandbox_landlock_version(void);               /* 0: none */
bool sandbox_filter_available(void);

#endif
