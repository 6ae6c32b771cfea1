/* sandbox: every rule broken from inside. Each attempt runs in a child that has entered the sandbox with the table its process
 * has, and says how it ended; what a row expects is the exact denial. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/sandbox.h"
#include "common/sandbox_database.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define KILLED (-1000)
#define OTHER_PORT 1 /* nobody listens, and no rule allows it */

static char readable[64], writable[64], secret[96], inside[96], new_file[96];
static uint16_t allowed_port, listening_port;
static int listener = -1;
static pid_t tester; /* the parent of every attempt */

static int outcome(int r) {
	return r < 0 ? -errno : 0;
}

/* ---- attempts: 0, or -errno ---- */

static int open_it(const char *path, int flags) {
	int fd = open(path, flags | O_CLOEXEC, 0600);
	return outcome(fd);
}

static int read_secret(void) {
	return open_it(secret, O_RDONLY);
}
static int read_allowed(void) {
	return open_it(inside, O_RDONLY);
}
static int write_readable(void) {
	return open_it(inside, O_WRONLY);
}
static int make_in_readable(void) {
	char path[128];
	snprintf(path, sizeof(path), "%s/new", readable);
	return open_it(path, O_WRONLY | O_CREAT);
}
static int unlink_in_readable(void) {
	return outcome(unlink(inside));
}
static int read_passwd(void) {
	return open_it("/etc/passwd", O_RDONLY);
}
static int write_etc(void) {
	return open_it("/etc/hosts", O_WRONLY);
}
static int list_root(void) {
	return open_it("/", O_RDONLY | O_DIRECTORY);
}
static int read_memory_of_parent(void) {
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)tester);
	return open_it(path, O_RDONLY);
}
static int environment_of_parent(void) {
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/environ", (int)tester);
	return open_it(path, O_RDONLY);
}

/* What the spool does: a file without a name, written, opened again for reading. */
static int spool(void) {
	char path[64];
	int fd = open(writable, O_TMPFILE | O_RDWR | O_CLOEXEC | O_EXCL, 0600);
	if (fd < 0 && errno == EOPNOTSUPP)
		return 0;
	if (fd < 0 || write(fd, "x", 1) != 1)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open_it(path, O_RDONLY);
}
static int spool_named(void) {
	if (open_it(new_file, O_RDWR | O_CREAT | O_EXCL) < 0)
		return -errno;
	return outcome(unlink(new_file));
}

static int reach(int family, int type, uint16_t port) {
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_port = htons(port)};
	int fd = socket(family, type | SOCK_CLOEXEC, 0);
	return fd < 0 ? -errno : outcome(connect(fd, (struct sockaddr *)&in, sizeof(in)));
}
static int connect_allowed(void) {
	return reach(AF_INET, SOCK_STREAM, listening_port);
}
static int connect_other(void) {
	return reach(AF_INET, SOCK_STREAM, OTHER_PORT);
}
static int ask_dns(void) {
	return reach(AF_INET, SOCK_DGRAM, 53);
}
static int listen_somewhere(void) {
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return fd < 0 ? -errno : outcome(bind(fd, (struct sockaddr *)&in, sizeof(in)));
}
static int packet_socket(void) {
	return outcome(socket(AF_PACKET, SOCK_RAW, 0));
}
static int netlink_socket(void) {
	return outcome(socket(AF_NETLINK, SOCK_RAW, 0));
}
static int vsock_socket(void) {
	return outcome(socket(AF_VSOCK, SOCK_STREAM, 0));
}
static int any_socket(void) {
	return outcome(socket(AF_INET, SOCK_STREAM, 0));
}
static int use_descriptor(void) {
	return outcome((int)recv(listener, new_file, 1, MSG_DONTWAIT)) == -EPERM ? -EPERM : 0;
}

static int new_process(void) {
	long pid = syscall(__NR_clone, SIGCHLD, 0, 0, 0, 0);
	if (pid == 0)
		_exit(0);
	return outcome((int)pid);
}
static int new_process_3(void) {
	uint64_t args[11] = {[4] = SIGCHLD};
	long pid = syscall(__NR_clone3, args, sizeof(args));
	if (pid == 0)
		_exit(0);
	return outcome((int)pid);
}
static void *nothing(void *arg) {
	return arg;
}
static int new_thread(void) {
	pthread_t t;
	int r = pthread_create(&t, NULL, nothing, NULL);
	return r ? -r : -pthread_join(t, NULL);
}
static int program(void) {
	char *words[] = {(char *)(uintptr_t) "true", NULL};
	return outcome(execve("/bin/true", words, words));
}
static int name_space(void) {
	return outcome(unshare(CLONE_NEWUSER));
}

static int trace_parent(void) {
	return outcome((int)ptrace(PTRACE_SEIZE, tester, NULL, NULL));
}
static int copy_from_parent(void) {
	char octet;
	struct iovec here = {&octet, 1}, there = {readable, 1};
	return outcome((int)process_vm_readv(tester, &here, 1, &there, 1, 0));
}
static int signal_parent(void) {
	return outcome(kill(tester, 0));
}
static int signal_parent_thread(void) {
	return outcome((int)syscall(__NR_tgkill, tester, tester, 0));
}
static int signal_ourselves(void) {
	return outcome((int)syscall(__NR_tgkill, getpid(), getpid(), 0));
}

static int become_root(void) {
	return geteuid() == 0 ? outcome(setgid(1)) : outcome(setuid(0));
}
static int raise_limit(void) {
	struct rlimit l;
	if (getrlimit(RLIMIT_CORE, &l) < 0)
		return -errno;
	l.rlim_cur = l.rlim_max = 1 << 20;
	return outcome(setrlimit(RLIMIT_CORE, &l));
}
static int limit_of_parent(void) {
	struct rlimit l;
	return outcome(prlimit(tester, RLIMIT_CORE, NULL, &l));
}
static int get_capability(void) {
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{.effective = 1, .permitted = 1}};
	return outcome((int)syscall(__NR_capset, &head, data));
}
static int be_traceable(void) {
	return outcome(prctl(PR_SET_DUMPABLE, 1));
}
static int be_privileged(void) {
	return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? -EACCES : 0;
}
static int dump_core(void) {
	struct rlimit l = {1, 1};
	getrlimit(RLIMIT_CORE, &l);
	return l.rlim_max == 0 ? -EACCES : 0;
}

static int uring(void) {
	uint8_t params[120] = {0};
	return outcome((int)syscall(__NR_io_uring_setup, 1, params));
}
static int key_ring(void) {
	return outcome((int)syscall(__NR_keyctl, 0, -3, 0));
}
static int load_bpf(void) {
	return outcome((int)syscall(__NR_bpf, 0, NULL, 0));
}
static int performance(void) {
	return outcome((int)syscall(__NR_perf_event_open, NULL, 0, -1, -1, 0));
}
static int mount_something(void) {
	return outcome((int)syscall(__NR_mount, "none", "/mnt", "tmpfs", 0, NULL));
}
static int page_faults(void) {
	return outcome((int)syscall(__NR_userfaultfd, 0));
}
static int call_of_tomorrow(void) {
	return outcome((int)syscall(100000));
}
static int map(int protection) {
	void *p = mmap(NULL, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return p == MAP_FAILED ? -errno : 0;
}
static int map_plain(void) {
	return map(PROT_READ | PROT_WRITE);
}
static int map_code(void) {
	return map(PROT_READ | PROT_EXEC);
}
static int map_own_code(void) {
	return map(PROT_READ | PROT_WRITE | PROT_EXEC);
}
static int protect_own_code(void) {
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return outcome(mprotect(p, 4096, PROT_READ | PROT_EXEC));
}
static int x32_call(void) {
#ifdef __x86_64__
	return outcome((int)syscall(0x40000000 | __NR_getpid));
#else
	return KILLED;
#endif
}

/* ---- rows ---- */

struct row {
	enum sandbox_calls calls;
	const char *what;
	int (*attempt)(void);
	int want;     /* 0, -errno or KILLED */
	int landlock; /* the version without which nothing is expected */
};

#define W SANDBOX_WORKER
#define Z SANDBOX_ZYGOTE
#define P SANDBOX_PARSER
#define K SANDBOX_KEYS
#define M SANDBOX_MASTER

static const struct row rows[] = {
    {W, "reads what it may", read_allowed, 0, 0},
    {W, "reads a file of its user", read_secret, -EACCES, 1},
    {W, "reads /etc/passwd", read_passwd, -EACCES, 1},
    {W, "lists a directory", list_root, -EACCES, 1},
    {W, "writes what it may read", write_readable, -EACCES, 1},
    {W, "makes a file where it may read", make_in_readable, -EACCES, 1},
    {W, "removes a file where it may read", unlink_in_readable, -EACCES, 1},
    {W, "writes in /etc", write_etc, -EACCES, 1},
    {W, "opens its master's memory", read_memory_of_parent, -EACCES, 1},
    {W, "reads its master's environment", environment_of_parent, -EACCES, 1},
    {W, "spools", spool, 0, 0},
    {W, "spools where files must have names", spool_named, 0, 0},
    {W, "connects where it may", connect_allowed, 0, 0},
    {W, "connects elsewhere", connect_other, -EACCES, 4},
    {W, "asks the DNS", ask_dns, 0, 0},
    {W, "listens", listen_somewhere, -EPERM, 0},
    {W, "makes a packet socket", packet_socket, -EPERM, 0},
    {W, "makes a netlink socket", netlink_socket, -EPERM, 0},
    {W, "makes a vsock", vsock_socket, -EPERM, 0},
    {W, "forks", new_process, -EPERM, 0},
    {W, "forks the new way", new_process_3, -ENOSYS, 0},
    {W, "makes a thread", new_thread, 0, 0},
    {W, "starts a program", program, KILLED, 0},
    {W, "makes a name space", name_space, KILLED, 0},
    {W, "traces its master", trace_parent, KILLED, 0},
    {W, "copies its master's memory", copy_from_parent, KILLED, 0},
    {W, "signals its master", signal_parent, -EPERM, 0},
    {W, "signals its master's thread", signal_parent_thread, -EPERM, 0},
    {W, "signals itself", signal_ourselves, 0, 0},
    {W, "becomes another user", become_root, -EPERM, 0},
    {W, "raises a limit", raise_limit, -EPERM, 0},
    {W, "looks at its master's limits", limit_of_parent, -EPERM, 0},
    {W, "takes a capability", get_capability, -EPERM, 0},
    {W, "makes itself traceable", be_traceable, -EPERM, 0},
    {W, "gains from a set-user-id program", be_privileged, -EACCES, 0},
    {W, "leaves a core file", dump_core, -EACCES, 0},
    {W, "sets up io_uring", uring, -EPERM, 0},
    {W, "uses a key ring", key_ring, KILLED, 0},
    {W, "loads BPF", load_bpf, KILLED, 0},
    {W, "opens perf", performance, -EPERM, 0},
    {W, "mounts", mount_something, KILLED, 0},
    {W, "handles page faults", page_faults, KILLED, 0},
    {W, "uses a call of tomorrow", call_of_tomorrow, -ENOSYS, 0},
    {W, "maps memory", map_plain, 0, 0},
    {W, "writes code", map_own_code, -EPERM, 0},
    {W, "makes a call of x32", x32_call, KILLED, 0},

    {Z, "forks", new_process, 0, 0},
    {Z, "opens a file", read_secret, -EPERM, 0},
    {Z, "starts a program", program, KILLED, 0},
    {Z, "makes a socket", any_socket, KILLED, 0},
    {Z, "signals its parent", signal_parent, -EPERM, 6},
    {Z, "traces its parent", trace_parent, KILLED, 0},
    {Z, "makes a name space", name_space, KILLED, 0},

    {P, "uses a descriptor it has", use_descriptor, 0, 0},
    {P, "maps memory", map_plain, 0, 0},
    {P, "maps code", map_code, -EPERM, 0},
    {P, "makes memory executable", protect_own_code, -EPERM, 0},
    {P, "opens a file", read_allowed, -EPERM, 0},
    {P, "opens a file to write", spool_named, -EPERM, 0},
    {P, "makes a socket", any_socket, KILLED, 0},
    {P, "forks", new_process, KILLED, 0},
    {P, "makes a thread", new_thread, KILLED, 0},
    {P, "starts a program", program, KILLED, 0},
    {P, "traces its parent", trace_parent, KILLED, 0},
    {P, "copies its parent's memory", copy_from_parent, KILLED, 0},
    {P, "signals its parent", signal_parent, KILLED, 0},
    {P, "signals its parent's thread", signal_parent_thread, -EPERM, 0},
    {P, "becomes another user", become_root, KILLED, 0},
    {P, "looks at a limit", raise_limit, -EPERM, 0},
    {P, "makes itself traceable", be_traceable, -EPERM, 0},
    {P, "sets up io_uring", uring, KILLED, 0},
    {P, "uses a call of tomorrow", call_of_tomorrow, -ENOSYS, 0},
    {P, "makes a call of x32", x32_call, KILLED, 0},

    {K, "uses a descriptor it has", use_descriptor, 0, 0},
    {K, "opens a file", read_secret, -EPERM, 0},
    {K, "makes a socket", any_socket, KILLED, 0},
    {K, "forks", new_process, KILLED, 0},
    {K, "starts a program", program, KILLED, 0},
    {K, "maps code", map_code, -EPERM, 0},
    {K, "signals its parent", signal_parent, KILLED, 0},
    {K, "signals itself", signal_ourselves, 0, 0},

    {M, "forks", new_process, 0, 0},
    {M, "starts a program", program, 0, 0},
    {M, "traces", trace_parent, -EPERM, 0},
    {M, "copies another's memory", copy_from_parent, -EPERM, 0},
    {M, "makes a name space", name_space, -EPERM, 0},
    {M, "mounts", mount_something, -EPERM, 0},
    {M, "loads BPF", load_bpf, -EPERM, 0},
    {M, "sets up io_uring", uring, -EPERM, 0},
};

static int enter(enum sandbox_calls calls) {
	struct sandbox s;
	sandbox_init(&s, calls);
	if (calls == SANDBOX_WORKER) {
		sandbox_may_read(&s, readable);
		sandbox_may_read(&s, "/nonexistent");
		sandbox_may_write_in(&s, writable);
		sandbox_may_connect(&s, allowed_port);
	}
	return sandbox_enter(&s);
}

/* As another user if `uid` says so: what a daemon that root started does. */
static int run(const struct row *row, uid_t uid) {
	int fds[2], said = -4242, status;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		struct row mine = *row;
		if (uid && (sandbox_bound_capabilities() < 0 || setgid(uid) < 0 || setuid(uid) < 0))
			_exit(3);
		int r = enter(mine.calls);
		r = r < 0 ? r - 2000 : mine.attempt();
		if (write(fds[1], &r, sizeof(r)) != sizeof(r))
			_exit(4);
		_exit(0);
	}
	close(fds[1]);
	if (read(fds[0], &said, sizeof(said)) != sizeof(said))
		said = -4242;
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		return KILLED;
	if (said == -4242 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0; /* another program ran */
	return said;
}

static void attempt_all(uid_t uid) {
	int version = sandbox_landlock_version();
	unsigned wrong = 0;
	for (size_t i = 0; i < array_len(rows); i++) {
		if (rows[i].landlock > version)
			continue;
		int got = run(&rows[i], uid);
		if (got != rows[i].want) {
			print_error("%d: %s: got %d, want %d\n", rows[i].calls, rows[i].what, got, rows[i].want);
			wrong++;
		}
	}
	assert_int_equal(wrong, 0);
}

static void test_rules(void **state) {
	if (SANDBOX_RELAXED || !sandbox_filter_available())
		skip();
	if (sandbox_landlock_version() < 6)
		print_message("Landlock is of version %d here: what needs more is not tested\n", sandbox_landlock_version());
	attempt_all(0);
}

static void test_rules_as_another(void **state) {
	const struct passwd *pw = getpwnam("nobody");
	if (SANDBOX_RELAXED || !sandbox_filter_available() || geteuid() != 0 || !pw)
		skip();
	assert_int_equal(chown(readable, pw->pw_uid, pw->pw_gid) | chown(writable, pw->pw_uid, pw->pw_gid), 0);
	assert_int_equal(chown(inside, pw->pw_uid, pw->pw_gid) | chown(secret, pw->pw_uid, pw->pw_gid), 0);
	attempt_all(pw->pw_uid);
}

/* Without the sandbox all of it works that can: the rows above prove the rules, not this machine. */
static void test_without(void **state) {
	assert_int_equal(read_secret(), 0);
	assert_int_equal(list_root(), 0);
	assert_int_equal(listen_somewhere(), 0);
	assert_int_equal(connect_other(), -ECONNREFUSED);
	assert_int_equal(new_process(), 0);
	assert_int_equal(signal_parent(), 0);
	assert_int_equal(map_own_code(), 0);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

static int show_capabilities(void) {
	char line[256];
	unsigned long long permitted = 1, bound = 1, inherited = 1, ambient = 1;
	FILE *f = fopen("/proc/self/status", "re");
	while (f && fgets(line, sizeof(line), f)) {
		sscanf(line, "CapPrm: %llx", &permitted);
		sscanf(line, "CapBnd: %llx", &bound);
		sscanf(line, "CapInh: %llx", &inherited);
		sscanf(line, "CapAmb: %llx", &ambient);
	}
	if (f)
		fclose(f);
	return permitted == 1ull << CAP_KILL && bound == permitted && !inherited && !ambient ? 0 : -EACCES;
}

static void test_capabilities(void **state) {
	int status;
	if (geteuid() != 0)
		skip();
	pid_t pid = fork();
	if (pid == 0) {
		int r = sandbox_keep_capabilities(UINT64_C(1) << CAP_KILL | UINT64_C(1) << CAP_SETPCAP);
		if (r == 0)
			r = sandbox_keep_capabilities(UINT64_C(1) << CAP_KILL);
		_exit(r == 0 && show_capabilities() == 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static bool may_read(const struct sandbox *s, const char *path) {
	for (unsigned i = 0; i < s->path_count; i++)
		if (strcmp(s->paths[i].path, path) == 0)
			return true;
	return false;
}

static bool may_connect(const struct sandbox *s, uint16_t port) {
	for (unsigned i = 0; i < s->port_count; i++)
		if (s->ports[i] == port)
			return true;
	return s->any_port;
}

/* Connection strings, and what they make reachable. */
static void test_database(void **state) {
	static const struct {
		const char *conninfo, *path, *no_path;
		uint16_t port, no_port;
	} table[] = {
	    {"dbname=a user=b", NULL, "/etc/passwd", 0, 5432},
	    {"dbname=a", "/etc/passwd", "/etc", 0, 5432},
	    {"host=/run/postgresql user=b port=6000", NULL, "/etc", 0, 6000},
	    {"host=127.0.0.1 user=b", NULL, "/etc", 5432, 6000},
	    {"host=db.example user=b port=6000", "/etc", "/etc/passwd", 6000, 5432},
	    {"host=10.0.0.1,/tmp,::1 port=1000,2000,3000 user=b", NULL, "/etc", 3000, 5432},
	    {"postgresql://b@h1:1111,h2/a?sslrootcert=/x/ca.pem", "/x/ca.pem", "/etc/passwd", 5432, 6000},
	    {"postgresql://b@h1:1111,h2/a?sslkey=/x/key.pem&hostaddr=1.1.1.1,1.1.1.2", "/x/key.pem", "/etc", 1111, 6000},
	    {"service=x", "/etc", "/x", 9, 0},
	};
	unsetenv("PGHOST");
	unsetenv("PGPORT");
	unsetenv("PGUSER");
	for (size_t i = 0; i < array_len(table); i++) {
		struct sandbox s;
		sandbox_init(&s, SANDBOX_WORKER);
		sandbox_may_use_database(&s, table[i].conninfo);
		if (table[i].path && !may_read(&s, table[i].path))
			fail_msg("%s: no %s", table[i].conninfo, table[i].path);
		if (may_read(&s, table[i].no_path))
			fail_msg("%s: %s", table[i].conninfo, table[i].no_path);
		if (table[i].port && !may_connect(&s, table[i].port))
			fail_msg("%s: not port %u", table[i].conninfo, table[i].port);
		if (table[i].no_port && may_connect(&s, table[i].no_port))
			fail_msg("%s: port %u", table[i].conninfo, table[i].no_port);
		sandbox_fini(&s);
	}
}

static void make_file(const char *path) {
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
}

static int set_up(void **state) {
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(in);
	tester = getpid();
	strcpy(readable, "/var/tmp/test_sandbox.r.XXXXXX");
	strcpy(writable, "/var/tmp/test_sandbox.w.XXXXXX");
	if (!mkdtemp(readable) || !mkdtemp(writable))
		return -1;
	snprintf(inside, sizeof(inside), "%s/file", readable);
	snprintf(new_file, sizeof(new_file), "%s/file", writable);
	snprintf(secret, sizeof(secret), "%s.secret", readable);
	make_file(inside);
	make_file(secret);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(listener, (struct sockaddr *)&in, sizeof(in)) < 0 || listen(listener, 10) < 0 ||
	    getsockname(listener, (struct sockaddr *)&in, &len) < 0)
		return -1;
	allowed_port = listening_port = ntohs(in.sin_port);
	return 0;
}

static int tear_down(void **state) {
	unlink(inside);
	unlink(secret);
	close(listener);
	return rmdir(readable) | rmdir(writable);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_without),      cmocka_unit_test(test_rules), cmocka_unit_test(test_rules_as_another),
	    cmocka_unit_test(test_capabilities), cmocka_unit_test(test_database),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
