/* Privileges, and the order in which the layers are entered: each must still be able to set up the next, so the filter of calls
 * comes last. */
#include "common/sandbox.h"

#include "common/log.h"

#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DNS_PORT 53

void sandbox_init(struct sandbox *s, enum sandbox_calls calls) {
	*s = (struct sandbox){.calls = calls};
}

static void add_path(struct sandbox *s, const char *path, bool write) {
	assert(s->path_count < SANDBOX_PATHS_MAX);
	s->paths[s->path_count].path = xstrdup(path);
	s->paths[s->path_count++].write = write;
}

void sandbox_may_read(struct sandbox *s, const char *path) {
	add_path(s, path, false);
}

void sandbox_may_write_in(struct sandbox *s, const char *dir) {
	add_path(s, dir, true);
}

void sandbox_may_connect(struct sandbox *s, uint16_t port) {
	if (s->port_count == SANDBOX_PORTS_MAX)
		s->any_port = true;
	else
		s->ports[s->port_count++] = port;
}

void sandbox_may_connect_anywhere(struct sandbox *s) {
	s->any_port = true;
}

void sandbox_may_use_libraries(struct sandbox *s) {
	static const char *const paths[] = {
	    "/etc/resolv.conf",    "/etc/hosts",          "/etc/nsswitch.conf",        "/etc/host.conf",
	    "/etc/gai.conf",       "/etc/services",       "/etc/protocols",            "/run/systemd/resolve",
	    "/run/NetworkManager", "/run/resolvconf",     "/etc/ssl",                  "/etc/pki",
	    "/usr/lib/ssl",        "/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/etc/localtime",
	    "/usr/share/zoneinfo", "/etc/ld.so.cache",    "/lib",                      "/lib64",
	    "/usr/lib",            "/usr/lib64",          "/usr/local/lib",            "/dev/null",
	    "/dev/urandom",        "/proc/sys/vm",
	};
	for (size_t i = 0; i < array_len(paths); i++)
		sandbox_may_read(s, paths[i]);
	sandbox_may_connect(s, DNS_PORT);
}

void sandbox_fini(struct sandbox *s) {
	for (unsigned i = 0; i < s->path_count; i++)
		free(s->paths[i].path);
	*s = (struct sandbox){.calls = s->calls};
}

/* glibc has no wrapper for capset(2). */
static int set_capabilities(uint64_t mask) {
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {
	    {.effective = (uint32_t)mask, .permitted = (uint32_t)mask},
	    {.effective = (uint32_t)(mask >> 32), .permitted = (uint32_t)(mask >> 32)},
	};
	return syscall(__NR_capset, &head, data) < 0 ? -errno : 0;
}

static int get_capabilities(uint64_t *ret) {
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}};
	if (syscall(__NR_capget, &head, data) < 0)
		return -errno;
	*ret = data[0].permitted | (uint64_t)data[1].permitted << 32;
	return 0;
}

/* The kernel may know more of them than our headers: it says where they end. */
static int bound_to(uint64_t mask) {
	for (unsigned cap = 0; cap < 64; cap++) {
		if (mask >> cap & 1)
			continue;
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return errno == EINVAL ? 0 : -errno;
	}
	return 0;
}

static bool has_capability(unsigned cap) {
	uint64_t have = 0;
	return get_capabilities(&have) == 0 && (have >> cap & 1);
}

int sandbox_bound_capabilities(void) {
	return has_capability(CAP_SETPCAP) ? bound_to(0) : 0;
}

int sandbox_keep_capabilities(uint64_t mask) {
	uint64_t have = 0;
	int r = get_capabilities(&have);
	if (r == 0 && (have >> CAP_SETPCAP & 1))
		r = bound_to(mask);
	if (r == 0)
		r = set_capabilities(have & mask);
	return r;
}

static int drop_privileges(void) {
	static const struct rlimit none = {0, 0};
	umask(S_IRWXG | S_IRWXO);
	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return -errno;
	/* Nobody of the same user may attach, read memory, or see the environment in /proc. */
	if (!SANDBOX_RELAXED && prctl(PR_SET_DUMPABLE, 0) < 0)
		return -errno;
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	/* Root by number only, if somebody said user=root: no program gets capabilities for it. */
	if (has_capability(CAP_SETPCAP))
		prctl(PR_SET_SECUREBITS, SECURE_ALL_BITS | SECURE_ALL_LOCKS, 0, 0, 0);
	return sandbox_keep_capabilities(0);
}

int sandbox_enter(struct sandbox *s) {
	int r = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
	if (s->calls != SANDBOX_MASTER) {
		if (r == 0)
			r = drop_privileges();
		if (r == 0 && !SANDBOX_RELAXED)
			r = sandbox_restrict_files(s);
	}
	if (r == 0 && !SANDBOX_RELAXED)
		r = sandbox_filter_calls(s->calls);
	sandbox_fini(s);
	return r;
}

void sandbox_report(void) {
	struct log_line line;
	int landlock = sandbox_landlock_version();
	bool filter = sandbox_filter_available();
	log_begin(&line, landlock > 0 && filter && !SANDBOX_RELAXED ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING,
	          SANDBOX_RELAXED ? "sandbox relaxed by a sanitized build" : landlock > 0 && filter ? "sandbox" : "sandbox incomplete");
	log_int(&line, "landlock", landlock);
	log_str(&line, "seccomp", filter ? "yes" : "no");
	log_end(&line);
}
