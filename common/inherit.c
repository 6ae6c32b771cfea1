/* Not who listens where (listener.h, daemon.h): only what is open already, and whether anybody has taken it. */
#include "common/inherit.h"

#include "common/listener.h"
#include "common/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define FIRST_FD 3 /* SD_LISTEN_FDS_START */
#define FDS_MAX 4096

static int *fds; /* -1: taken */
static unsigned fds_n;

static long number_of(const char *name) {
	const char *s = getenv(name);
	char *end;
	if (!s || *s < '0' || *s > '9')
		return -1;
	errno = 0;
	long v = strtol(s, &end, 10);
	return errno || *end ? -1 : v;
}

static bool is_listening(int fd) {
	int type = 0, listens = 0;
	socklen_t type_len = sizeof(type), listens_len = sizeof(listens);
	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_len) == 0 && type == SOCK_STREAM &&
	       getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &listens_len) == 0 && listens;
}

void inherit_init(void) {
	long n = number_of("LISTEN_FDS"), pid = number_of("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDNAMES");
	if (n <= 0 || n > FDS_MAX || pid != getpid())
		return;
	fds = xcalloc((size_t)n, sizeof(*fds));
	for (int fd = FIRST_FD; fd < FIRST_FD + n; fd++) {
		if (!is_listening(fd)) {
			log_msg(LOG_LEVEL_WARNING, "ignoring inherited descriptor", "%d is not a listening stream socket", fd);
			continue;
		}
		fcntl(fd, F_SETFD, FD_CLOEXEC);
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
		fds[fds_n++] = fd;
	}
}

unsigned inherit_take(bool (*match)(int fd, const void *arg), const void *arg, int *ret_fds, unsigned max) {
	unsigned n = 0;
	for (unsigned i = 0; i < fds_n && n < max; i++) {
		if (fds[i] < 0 || !match(fds[i], arg))
			continue;
		ret_fds[n++] = fds[i];
		fds[i] = -1;
	}
	return n;
}

void inherit_close_rest(void) {
	for (unsigned i = 0; i < fds_n; i++) {
		char name[128];
		if (fds[i] < 0)
			continue;
		listener_name(fds[i], name, sizeof(name));
		log_msg(LOG_LEVEL_WARNING, "ignoring inherited socket", "%s is not among the addresses to listen on", name);
		close(fds[i]);
	}
	free(take_ptr(fds));
	fds_n = 0;
}

/* Above every place that is about to be filled; the copies go at exec. */
static int move_up(int fd, int above) {
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, above);
	return copy < 0 ? -errno : copy;
}

int inherit_pass(const int *from, unsigned n, const int *more, unsigned more_n) {
	int last = FIRST_FD + (int)n, copies_n = (int)(n + more_n);
	int *copies = xcalloc((size_t)copies_n + 1, sizeof(*copies));
	int r = 0;
	char text[24];
	for (int i = 0; i < copies_n && r >= 0; i++)
		r = copies[i] = move_up(i < (int)n ? from[i] : more[i - (int)n], last + (int)more_n);
	for (int i = 0; i < copies_n && r >= 0; i++)
		r = dup2(copies[i], FIRST_FD + i) < 0 ? -errno : 0; /* the new descriptor is not close-on-exec */
	free(copies);
	if (r < 0)
		return r;
	close_range((unsigned)(FIRST_FD + copies_n), ~0U, 0);
	snprintf(text, sizeof(text), "%u", n);
	setenv("LISTEN_FDS", text, 1);
	snprintf(text, sizeof(text), "%ld", (long)getpid());
	setenv("LISTEN_PID", text, 1);
	return last;
}
