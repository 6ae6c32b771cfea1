/* Who asks, and how, when a reverse proxy asks for him. Pure. */
#ifndef MINUTEMAIL_FORWARDED_H
#define MINUTEMAIL_FORWARDED_H

#include "apid/http_listen.h"
#include "apid/http_parse.h"

struct forwarded {
	struct netaddr client; /* NONE: a Unix socket's, and nobody said more */
	bool secure;           /* the client speaks TLS, with us or with the proxy */
};

/* Whether what this peer forwards is believed. */
bool forwarded_trusts(const struct http_listen *, const struct netaddr *peer);
/* `peer` is the connection's own address (or the PROXY header's). From anybody who is not listed nothing is believed. Else the client
 * is the rightmost hop of X-Forwarded-For that is not listed itself: what stands left of it anybody may have written. A hop that
 * is no address ends the list. X-Forwarded-Proto counts if it is there once. */
void forwarded_read(const struct http_listen *, const struct netaddr *peer, const struct http_head *, struct forwarded *ret);

#endif
