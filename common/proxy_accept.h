/* Reads the PROXY header from a socket just accepted, and no octet beyond it, so that whoever gets the socket next (a stream, a TLS
 * handshake) finds exactly what the client sent. Nothing is sent before. */
#ifndef MINUTEMAIL_PROXY_ACCEPT_H
#define MINUTEMAIL_PROXY_ACCEPT_H

#include "common/proxy.h"

struct loop;
struct proxy_accept;

#define PROXY_DEADLINE_US 5000000   /* at least 3 s: one lost segment of the proxy's */

struct proxy_client {
	struct netaddr peer;        /* of the socket */
	struct netaddr address;     /* whom the connection is from; the peer for LOCAL */
	struct netaddr local;       /* what it connected to; none for LOCAL: the socket's own holds */
};

/* Runs once, on a later turn. `fault` NULL: fd is the callback's, and `client` is for the call. Else the socket is closed, fd is -1, and
 * `fault` says why for the log. */
typedef void proxy_accept_done(void *arg, int fd, const struct proxy_client *client, const char *fault);

/* Owns fd (non-blocking) until `done`. `peer`: its own address. */
struct proxy_accept *proxy_accept_start(struct loop *, int fd, const struct netaddr *peer, proxy_accept_done *, void *arg);
/* Closes the socket; `done` will not run. NULL is fine; returns NULL. */
struct proxy_accept *proxy_accept_cancel(struct proxy_accept *);

#endif
