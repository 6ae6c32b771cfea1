/* The reading half of the PROXY protocol. Octets are looked at with MSG_PEEK, and then exactly those are taken that belong to the
 * header; since all that is peeked before its end belongs to it, the socket is never readable for what was seen already. */
#include "common/proxy_accept.h"

#include "common/loop.h"

#include <event2/event.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOOK 512

struct proxy_accept {
	struct loop *loop;
	int fd;
	struct netaddr peer;
	proxy_accept_done *done;
	void *arg;
	struct event *ev;
	struct timer deadline;
	struct proxy_header header;
};

static void destroy(void *obj) {
	struct proxy_accept *a = obj;
	event_free(a->ev);
	timer_fini(&a->deadline);
	free(a);
}

/* Forgets the socket. */
static void retire(struct proxy_accept *a) {
	event_del(a->ev);
	timer_disarm(&a->deadline);
	loop_bury(a->loop, a, destroy);
}

struct proxy_accept *proxy_accept_cancel(struct proxy_accept *a) {
	if (a) {
		close(a->fd);
		retire(a);
	}
	return NULL;
}

static void fail(struct proxy_accept *a, const char *fault) {
	close(a->fd);
	retire(a);
	a->done(a->arg, -1, NULL, fault);
}

static void succeed(struct proxy_accept *a, struct netaddr address, struct netaddr local) {
	const struct proxy_client client = {.peer = a->peer, .address = address, .local = local};
	retire(a);
	a->done(a->arg, a->fd, &client, NULL);
}

static void on_deadline(void *arg) {
	fail(arg, "no PROXY header in time");
}

/* Takes what was peeked. It is in the kernel's buffer, so a short read would be a fault of the kernel's. */
static bool consume(int fd, size_t n) {
	uint8_t gone[LOOK];
	return n == 0 || recv(fd, gone, n, MSG_DONTWAIT) == (ssize_t)n;
}

static void on_readable(evutil_socket_t fd, short what, void *arg) {
	struct proxy_accept *a = arg;
	uint8_t seen[LOOK];
	size_t used;
	ssize_t n = recv(fd, seen, sizeof(seen), MSG_PEEK | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		fail(a, "closed before the PROXY header was whole");
		return;
	}
	enum proxy_result r = proxy_feed(&a->header, seen, (size_t)n, &used);
	if (r != PROXY_BAD && !consume(fd, used)) {
		fail(a, "cannot read");
		return;
	}
	switch (r) {
	case PROXY_MORE:
		break;
	case PROXY_CLIENT:
		succeed(a, a->header.source, a->header.destination);
		break;
	case PROXY_LOCAL:
		succeed(a, a->peer, (struct netaddr){.family = NETADDR_NONE});
		break;
	case PROXY_UNKNOWN:
		fail(a, "the PROXY header does not say who the client is");
		break;
	case PROXY_BAD:
		fail(a, "not a PROXY header");
		break;
	}
}

struct proxy_accept *proxy_accept_start(struct loop *loop, int fd, const struct netaddr *peer, proxy_accept_done *done, void *arg) {
	struct proxy_accept *a = xcalloc(1, sizeof(*a));
	*a = (struct proxy_accept){.loop = loop, .fd = fd, .peer = *peer, .done = done, .arg = arg};
	a->ev = event_new(loop_base(loop), fd, EV_READ | EV_PERSIST, on_readable, a);
	if (!a->ev || event_add(a->ev, NULL) < 0)
		abort();
	timer_init(&a->deadline, loop, on_deadline, a);
	timer_arm(&a->deadline, PROXY_DEADLINE_US);
	return a;
}
