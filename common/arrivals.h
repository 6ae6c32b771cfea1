/* Connections just accepted, on their way to becoming what the daemon serves: where a listener wants a PROXY header, it is read first.
 * Whoever waits for it takes a place among the daemon's connections, so that slow proxies are bounded too. */
#ifndef MINUTEMAIL_ARRIVALS_H
#define MINUTEMAIL_ARRIVALS_H

#include "common/list.h"
#include "common/proxy_accept.h"

struct loop;
struct sockaddr_storage;

struct arrivals_ops {
	/* fd is the callee's. `listener` is arrivals_add()'s; `client` is borrowed for the call: without a header, the peer and nothing more. */
	void (*come)(void *listener, int fd, const struct proxy_client *client);
	/* The socket is closed already, and the line is in the log: count it. */
	void (*refused)(void *arg);
	void (*place_taken)(void *arg);
	void (*place_left)(void *arg);
};

struct arrivals {
	struct loop *loop;
	const struct arrivals_ops *ops;
	void *arg;
	bool log_client;       /* whether an address may be in the log */
	struct list waiting;
};

/* `ops` is borrowed for the life of *a. */
void arrivals_init(struct arrivals *, struct loop *, const struct arrivals_ops *, void *arg, bool log_client);
/* A connection has been accepted; owns fd. proxies: from which networks a PROXY header must come first; none: none is wanted, and come()
 * runs inside this call. */
void arrivals_add(struct arrivals *, int fd, const struct sockaddr_storage *peer, const struct netaddr_nets *proxies, void *listener);
/* Those that wait are closed. */
void arrivals_cancel(struct arrivals *);

/* The line of a connection that does not become one, of which ten a second are written. client NULL: it may not be in the log. code 0:
 * nothing was said to it. */
void arrivals_log_refusal(const char *reason, const struct netaddr *client, unsigned code);

#endif
