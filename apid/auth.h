/* Key text -> principal, by a cache in the worker and else one query.
 *
 * A change to a key (minutemailctl, later the console) commits and sends NOTIFY minutemail_keys, '<key id or *>'. Each worker
 * LISTENs on one connection of its own, drops what it cached and answers NOTIFY minutemail_keys_ack, '<backend pid> <nonce>'.
 * Whoever changed the key waits for the answer of every live listener (they hold a shared advisory lock, see keys_sync.h) or for
 * AUTH_LEASE_US. A worker uses its cache only while its listening connection has proved alive within the lease: a round trip that
 * began less than AUTH_LEASE_US ago has come back. So a revoked key is dead everywhere before the revocation is reported done. */
#ifndef MINUTEMAIL_AUTH_H
#define MINUTEMAIL_AUTH_H

#include "apid/principal.h"

struct auth;
struct auth_op;
struct loop;
struct pg;

#define AUTH_LEASE_US 1000000

enum auth_verdict {
	AUTH_OK,
	AUTH_NO_KEY,
	AUTH_MALFORMED, AUTH_CHECKSUM, AUTH_OTHER_ENV,
	AUTH_UNKNOWN, AUTH_REVOKED, AUTH_EXPIRED, AUTH_SUSPENDED,
	AUTH_UNAVAILABLE,        /* database away: 503 */
};

struct auth_options {
	const char *conninfo;            /* for the listening connection */
	const char *environment;         /* "live" or "test" */
	const uint8_t *key_secret;       /* 32 octets, borrowed */
	unsigned cache_entries;          /* at the most; least recently used goes first */
};

struct auth *auth_new(struct loop *, struct pg *, const struct auth_options *);
struct auth *auth_free(struct auth *);

/* `header`: the Authorization header's value. When the answer is in the cache (or needs no look-up) *ret_verdict (and, if OK, a new
 * reference in *ret_principal) are set and NULL is returned; else `done` runs once on a later turn (the principal is borrowed). */
typedef void auth_done(void *arg, enum auth_verdict, struct principal *);
struct auth_op *auth_start(struct auth *, struct slice header, auth_done *, void *arg, enum auth_verdict *ret_verdict,
                           struct principal **ret_principal);
struct auth_op *auth_cancel(struct auth_op *);
/* "Invalid API key: it has been revoked", … for the 401's message. */
const char *auth_verdict_text(enum auth_verdict);

#endif
