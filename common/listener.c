/* Listening sockets: opened by the master before it forks, accepted from by the workers. Numeric addresses only: a name that
 * resolves differently tomorrow must not decide where we listen.
 *
 * SO_REUSEPORT lets any process of the same user join in silently, so a first socket without it finds out whether the port is
 * taken. A Unix socket cannot be bound twice: its set is one socket under several descriptors.
 *
 * Invariant: the event is pending exactly when neither the owner (paused) nor a shortage (waiting) holds it back. */
#include "common/listener.h"

#include "common/inherit.h"
#include "common/log.h"
#include "common/loop.h"

#include <arpa/inet.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LISTENER_BACKLOG 1024
#define LISTENER_BURST 16
#define LISTENER_SHORTAGE_US 1000000

struct place {
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
		struct sockaddr_storage any;
	} u;
	socklen_t len;
	bool dual; /* "*": IPv6 and IPv4 on one socket */
};

static char open_error[256];

static int parse_port(const char *s, in_port_t *ret) {
	unsigned v = 0;
	if (!*s || strlen(s) > 5)
		return -EINVAL;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return -EINVAL;
		v = v * 10 + (unsigned)(*s - '0');
	}
	if (v > 65535)
		return -EINVAL;
	*ret = htons((uint16_t)v);
	return 0;
}

static int parse_unix(const char *path, struct place *ret) {
	size_t n = strlen(path);
	if (n == 0 || n >= sizeof(ret->u.un.sun_path))
		return n ? -ENAMETOOLONG : -EINVAL;
	ret->u.un.sun_family = AF_UNIX;
	memcpy(ret->u.un.sun_path, path, n + 1);
	ret->len = sizeof(ret->u.un);
	return 0;
}

static int parse_place(const char *address, struct place *ret) {
	char host[INET6_ADDRSTRLEN];
	in_port_t port;
	*ret = (struct place){0};
	if (strncmp(address, "unix:", 5) == 0)
		return parse_unix(address + 5, ret);
	const char *colon = strrchr(address, ':');
	if (!colon || parse_port(colon + 1, &port) < 0)
		return -EINVAL;
	bool six = address[0] == '[';
	const char *from = address + six, *to = colon - six;
	if (to <= from || (six && *to != ']') || (size_t)(to - from) >= sizeof(host))
		return -EINVAL;
	memcpy(host, from, (size_t)(to - from));
	host[to - from] = '\0';
	ret->dual = !six && strcmp(host, "*") == 0;
	if (six || ret->dual) {
		ret->u.in6.sin6_family = AF_INET6;
		ret->u.in6.sin6_port = port;
		ret->len = sizeof(ret->u.in6);
		return ret->dual || inet_pton(AF_INET6, host, &ret->u.in6.sin6_addr) == 1 ? 0 : -EINVAL;
	}
	ret->u.in.sin_family = AF_INET;
	ret->u.in.sin_port = port;
	ret->len = sizeof(ret->u.in);
	return inet_pton(AF_INET, host, &ret->u.in.sin_addr) == 1 ? 0 : -EINVAL;
}

int listener_check(const char *address) {
	struct place p;
	return parse_place(address, &p);
}

static in_port_t *port_of(struct place *p) {
	return p->u.sa.sa_family == AF_INET6 ? &p->u.in6.sin6_port : &p->u.in.sin_port;
}

/* A bound socket, not listening yet. */
static int bind_one(const struct place *p, bool reuseport) {
	int one = 1, only_six = !p->dual;
	int fd = socket(p->u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	int r = 0;
	if (p->u.sa.sa_family == AF_INET6)
		r = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only_six, sizeof(only_six));
	if (r == 0 && p->u.sa.sa_family != AF_UNIX)
		r = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (r == 0 && reuseport)
		r = setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	if (r == 0)
		r = bind(fd, &p->u.sa, p->len);
	if (r < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

/* One listening socket, for a moment, to learn whether somebody else listens there. A first look with bind() alone would not:
 * two sockets with SO_REUSEADDR may be bound to one port while neither listens. */
static int check_free(const struct place *p) {
	int fd = bind_one(p, false);
	if (fd < 0)
		return fd;
	int r = listen(fd, 1) < 0 ? -errno : 0;
	close(fd);
	return r;
}

static void close_all(int *fds, unsigned count) {
	for (unsigned i = 0; i < count; i++)
		close(fds[i]);
}

static int open_inet(struct place *p, unsigned count, int *ret_fds) {
	int r = *port_of(p) ? check_free(p) : 0;
	if (r < 0)
		return r;
	for (unsigned i = 0; i < count; i++) {
		int fd = bind_one(p, true);
		socklen_t len = sizeof(p->u);
		r = fd;
		if (fd >= 0 && (getsockname(fd, &p->u.sa, &len) < 0 || listen(fd, LISTENER_BACKLOG) < 0)) {
			r = -errno;
			close(fd);
		}
		if (r < 0) {
			close_all(ret_fds, i);
			return r;
		}
		ret_fds[i] = fd;
	}
	return 0;
}

/* Removes a socket file nobody listens on any more. Anything else that is in the way stays, and bind() reports it. */
static void remove_stale(const struct place *p) {
	struct stat st;
	if (lstat(p->u.un.sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	if (connect(fd, &p->u.sa, p->len) < 0 && errno == ECONNREFUSED)
		unlink(p->u.un.sun_path);
	close(fd);
}

static int open_unix(const struct place *p, unsigned count, int *ret_fds) {
	remove_stale(p);
	int fd = bind_one(p, false);
	if (fd < 0)
		return fd;
	ret_fds[0] = fd;
	int r = listen(fd, LISTENER_BACKLOG) < 0 ? -errno : 0;
	unsigned i = 1;
	for (; r == 0 && i < count; i++) {
		ret_fds[i] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (ret_fds[i] < 0) {
			r = -errno;
			break;
		}
	}
	if (r < 0)
		close_all(ret_fds, i);
	return r;
}

static bool is_dual(int fd) {
	int only_six = 1;
	socklen_t len = sizeof(only_six);
	return getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only_six, &len) == 0 && !only_six;
}

/* Whether a socket listens exactly here; any port will do for port 0. */
static bool is_at(int fd, const void *arg) {
	const struct place *want = arg;
	struct place have = {.len = sizeof(have.u)};
	if (getsockname(fd, &have.u.sa, &have.len) < 0 || have.u.sa.sa_family != want->u.sa.sa_family)
		return false;
	switch (have.u.sa.sa_family) {
	case AF_INET:
		return have.u.in.sin_addr.s_addr == want->u.in.sin_addr.s_addr &&
		       (!want->u.in.sin_port || have.u.in.sin_port == want->u.in.sin_port);
	case AF_INET6:
		return IN6_ARE_ADDR_EQUAL(&have.u.in6.sin6_addr, &want->u.in6.sin6_addr) && is_dual(fd) == want->dual &&
		       (!want->u.in6.sin6_port || have.u.in6.sin6_port == want->u.in6.sin6_port);
	case AF_UNIX:
		return strcmp(have.u.un.sun_path, want->u.un.sun_path) == 0;
	default:
		return false;
	}
}

/* All that stand where the first one does: for port 0 its port decides. */
static unsigned take_at(struct place *p, int *ret_fds, unsigned max) {
	if (p->u.sa.sa_family == AF_UNIX || *port_of(p))
		return inherit_take(is_at, p, ret_fds, max);
	if (max == 0 || inherit_take(is_at, p, ret_fds, 1) == 0)
		return 0;
	p->len = sizeof(p->u);
	if (getsockname(ret_fds[0], &p->u.sa, &p->len) < 0)
		return 1;
	return 1 + inherit_take(is_at, p, ret_fds + 1, max - 1);
}

/* What "*" means on a kernel without IPv6. */
static struct place all_of_four(const struct place *six) {
	return (struct place){.u.in = {.sin_family = AF_INET, .sin_port = six->u.in6.sin6_port}, .len = sizeof(six->u.in)};
}

static bool kernel_has_six(void) {
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		close(fd);
	return fd >= 0 || errno != EAFNOSUPPORT;
}

unsigned listener_take(const char *address, int *ret_fds, unsigned max) {
	struct place p;
	if (parse_place(address, &p) < 0)
		return 0; /* listener_open() says why */
	if (p.dual && !kernel_has_six())
		p = all_of_four(&p);
	return take_at(&p, ret_fds, max);
}

int listener_open(const char *address, unsigned count, int *ret_fds, const char **ret_error) {
	struct place p;
	assert(count > 0);
	int r = parse_place(address, &p);
	if (r < 0) {
		snprintf(open_error, sizeof(open_error),
		         "%s: not an address to listen on (want HOST:PORT, [HOST]:PORT, *:PORT or "
		         "unix:PATH; HOST is numeric)",
		         address);
		*ret_error = open_error;
		return r;
	}
	if (p.u.sa.sa_family == AF_UNIX) {
		r = open_unix(&p, count, ret_fds);
	} else {
		r = open_inet(&p, count, ret_fds);
		if (r == -EAFNOSUPPORT && p.dual) {
			struct place four = all_of_four(&p);
			r = open_inet(&four, count, ret_fds);
		}
	}
	if (r < 0) {
		snprintf(open_error, sizeof(open_error), "%s: %s", address, strerror(-r));
		*ret_error = open_error;
	}
	return r;
}

void listener_name(int fd, char *ret, size_t size) {
	struct place p = {.len = sizeof(p.u)};
	char host[INET6_ADDRSTRLEN] = "";
	if (getsockname(fd, &p.u.sa, &p.len) < 0) {
		snprintf(ret, size, "?");
	} else if (p.u.sa.sa_family == AF_INET) {
		inet_ntop(AF_INET, &p.u.in.sin_addr, host, sizeof(host));
		snprintf(ret, size, "%s:%u", host, ntohs(p.u.in.sin_port));
	} else if (p.u.sa.sa_family == AF_INET6) {
		bool any = IN6_IS_ADDR_UNSPECIFIED(&p.u.in6.sin6_addr) && is_dual(fd);
		inet_ntop(AF_INET6, &p.u.in6.sin6_addr, host, sizeof(host));
		if (any)
			snprintf(ret, size, "*:%u", ntohs(p.u.in6.sin6_port));
		else
			snprintf(ret, size, "[%s]:%u", host, ntohs(p.u.in6.sin6_port));
	} else {
		snprintf(ret, size, "unix:%s", p.u.un.sun_path);
	}
}

struct listener {
	struct loop *loop;
	struct event *ev;
	listener_accept *accept;
	void *arg;
	int fd;
	bool paused;  /* by the owner */
	bool waiting; /* for descriptors or memory */
	bool freed;
	bool told; /* of the shortage; until an accept succeeds */
	const char *refusal;
	int spare; /* a descriptor to say it with; -1: none */
	struct timer timer;
};

static void update(struct listener *l) {
	if (l->paused || l->waiting || l->freed)
		event_del(l->ev);
	else if (event_add(l->ev, NULL) < 0)
		abort();
}

static void on_timer(void *arg) {
	struct listener *l = arg;
	l->waiting = false;
	update(l);
}

/* A duplicate, since a sandbox may let us open nothing. */
static int open_spare(const struct listener *l) {
	return fcntl(l->fd, F_DUPFD_CLOEXEC, 0);
}

/* With the spare descriptor's place one client learns what the others wait for. */
static void refuse_one(struct listener *l) {
	if (!l->refusal || l->spare < 0)
		return;
	close(l->spare);
	int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd >= 0) {
		ssize_t n = send(fd, l->refusal, strlen(l->refusal), MSG_DONTWAIT | MSG_NOSIGNAL);
		(void)n;
		close(fd);
	}
	l->spare = open_spare(l);
}

static void shortage(struct listener *l, int error) {
	if (!l->told) {
		struct log_line line;
		char name[128];
		listener_name(l->fd, name, sizeof(name));
		log_begin(&line, LOG_LEVEL_WARNING, "accepting paused");
		log_str(&line, "listen", name);
		log_errno(&line, error);
		log_end(&line);
		l->told = true;
	}
	l->waiting = true;
	timer_arm(&l->timer, LISTENER_SHORTAGE_US);
	update(l);
}

/* Accepts one; false: enough for this turn. */
static bool accept_one(struct listener *l) {
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);
	int fd = accept4(l->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd >= 0) {
		l->told = false;
		l->accept(l->arg, fd, &peer, min_of(len, (socklen_t)sizeof(peer)));
		return !l->freed && !l->paused;
	}
	switch (errno) {
	case EAGAIN:
		return false;
	case EMFILE:
	case ENFILE:
	case ENOMEM:
	case ENOBUFS:
		shortage(l, errno);
		refuse_one(l);
		return false;
	default:
		/* The connection's own error (ECONNABORTED, accept(2)'s list of network errors), or EINTR: the next one may do. */
		return true;
	}
}

static void on_ready(evutil_socket_t fd, short what, void *arg) {
	struct listener *l = arg;
	(void)fd;
	(void)what;
	for (int i = 0; i < LISTENER_BURST && accept_one(l); i++)
		;
}

struct listener *listener_new(struct loop *loop, int fd, listener_accept *accept, void *arg) {
	struct listener *l = xcalloc(1, sizeof(*l));
	l->loop = loop;
	l->fd = fd;
	l->spare = -1;
	l->accept = accept;
	l->arg = arg;
	l->ev = event_new(loop_base(loop), fd, EV_READ | EV_PERSIST, on_ready, l);
	if (!l->ev)
		abort();
	timer_init(&l->timer, loop, on_timer, l);
	update(l);
	return l;
}

static void listener_destroy(void *obj) {
	struct listener *l = obj;
	event_free(l->ev);
	timer_fini(&l->timer);
	if (l->spare >= 0)
		close(l->spare);
	free(l);
}

struct listener *listener_free(struct listener *l) {
	if (!l)
		return NULL;
	l->freed = true;
	timer_disarm(&l->timer);
	update(l);
	loop_bury(l->loop, l, listener_destroy);
	return NULL;
}

void listener_set_paused(struct listener *l, bool paused) {
	if (!l)
		return;
	l->paused = paused;
	update(l);
}

void listener_set_refusal(struct listener *l, const char *text) {
	l->refusal = text;
	if (text && l->spare < 0)
		l->spare = open_spare(l);
}
