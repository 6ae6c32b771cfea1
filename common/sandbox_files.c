/* Landlock: files, TCP ports and signals. No library and, in Debian 12, headers of its first version only: the numbers of
 * later versions are named here (include/uapi/linux/landlock.h of Linux 6.12). Each version's rights are handled, and so
 * refused unless a rule allows them, as far as the kernel knows them. */
#include "common/sandbox.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FS_VERSION_1 ((UINT64_C(1) << 13) - 1)
#define FS_REFER (UINT64_C(1) << 13)     /* version 2 */
#define FS_TRUNCATE (UINT64_C(1) << 14)  /* version 3 */
#define FS_IOCTL_DEV (UINT64_C(1) << 15) /* version 5 */
#define NET_BIND (UINT64_C(1) << 0)      /* version 4 */
#define NET_CONNECT (UINT64_C(1) << 1)
#define RULE_NET_PORT 2
#define SCOPE_SIGNAL (UINT64_C(1) << 1) /* version 6 */

#define READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define WRITE_IN                                                                                                       \
	(LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |                      \
	 LANDLOCK_ACCESS_FS_REMOVE_FILE | FS_TRUNCATE)
#define OF_A_FILE (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | FS_TRUNCATE)

struct ruleset {
	uint64_t fs, net, scoped;
};

struct net_rule {
	uint64_t allowed, port;
};

int sandbox_landlock_version(void) {
	long r = syscall(__NR_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	return r > 0 ? (int)r : 0;
}

static int make_ruleset(const struct sandbox *s, int version, struct ruleset *ret) {
	size_t size = sizeof(ret->fs);
	*ret = (struct ruleset){.fs = FS_VERSION_1};
	if (version >= 2)
		ret->fs |= FS_REFER;
	if (version >= 3)
		ret->fs |= FS_TRUNCATE;
	if (version >= 5)
		ret->fs |= FS_IOCTL_DEV;
	if (version >= 4) {
		ret->net = s->any_port ? NET_BIND : NET_BIND | NET_CONNECT;
		size = offsetof(struct ruleset, scoped);
	}
	if (version >= 6) {
		ret->scoped = SCOPE_SIGNAL;
		size = sizeof(*ret);
	}
	long fd = syscall(__NR_landlock_create_ruleset, ret, size, 0);
	return fd < 0 ? -errno : (int)fd;
}

/* What is not there, or not for this user to see, needs no rule. */
static int add_path(int ruleset, const char *path, uint64_t access) {
	struct stat st;
	int fd = open(path, O_PATH | O_CLOEXEC), r = 0;
	if (fd < 0)
		return 0;
	if (fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode))
		access &= OF_A_FILE;
	const struct landlock_path_beneath_attr rule = {.allowed_access = access, .parent_fd = fd};
	if (syscall(__NR_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
		r = -errno;
	close(fd);
	return r;
}

static int add_port(int ruleset, uint16_t port) {
	const struct net_rule rule = {NET_CONNECT, port};
	return syscall(__NR_landlock_add_rule, ruleset, RULE_NET_PORT, &rule, 0) < 0 ? -errno : 0;
}

int sandbox_restrict_files(const struct sandbox *s) {
	struct ruleset handled;
	int version = sandbox_landlock_version(), r = 0;
	if (version == 0)
		return 0;
	int fd = make_ruleset(s, version, &handled);
	if (fd < 0)
		return fd;
	for (unsigned i = 0; r == 0 && i < s->path_count; i++)
		r = add_path(fd, s->paths[i].path, handled.fs & (s->paths[i].write ? WRITE_IN : READ));
	for (unsigned i = 0; r == 0 && (handled.net & NET_CONNECT) && i < s->port_count; i++)
		r = add_port(fd, s->ports[i]);
	if (r == 0 && syscall(__NR_landlock_restrict_self, fd, 0) < 0)
		r = -errno;
	close(fd);
	return r;
}
