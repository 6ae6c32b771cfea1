/* Key text or session token -> principal, by a cache in the worker and else one query.
 *
 * A change to a key, a session or whom they act for (minutemailctl, or a handler: api_change.h) publishes a notice in its own
 * transaction; each worker hears it on one connection of its own, drops what it cached and confirms. Whoever changed the key waits for
 * every live worker, or until the lease on what a silent one has cached (AUTH_LEASE_US) has run out: a worker uses its cache only while
 * its listening connection has proved alive within the lease. So a revoked key is dead everywhere before the revocation is reported done.
 * The protocol is described in common/keys_sync.h. */
#ifndef MINUTEMAIL_AUTH_H
#define MINUTEMAIL_AUTH_H

#include "apid/principal.h"
#include "common/keys_sync.h"

struct auth;
struct auth_changes;
struct auth_op;
struct loop;
struct pg;

#define AUTH_LEASE_US KEYS_LEASE_US

enum auth_verdict {
	AUTH_OK,
	AUTH_NO_KEY,
	AUTH_MALFORMED,
	AUTH_CHECKSUM,
	AUTH_OTHER_ENV,
	AUTH_UNKNOWN,
	AUTH_REVOKED,
	AUTH_EXPIRED,
	AUTH_SUSPENDED,
	AUTH_NO_SESSION,  /* unknown, ended, or its user or account is suspended */
	AUTH_UNAVAILABLE, /* database away: 503 */
};

struct auth_options {
	const char *conninfo;      /* for the listening connection */
	const char *environment;   /* "live" or "test" */
	const uint8_t *key_secret; /* 32 octets, borrowed */
	unsigned cache_entries;    /* at the most; least recently used goes first */
	int64_t session_idle_us;   /* a session that is not used for so long is over */
	_Atomic uint32_t *timeline; /* pg_options', for the listening connection */
};

struct auth *auth_new(struct loop *, struct pg *, const struct auth_options *);
/* Before the end of a worker that answers nobody any more: no change waits for it from here on, and when keys and sessions were last used is
 * written down. `done` runs once on a later turn. */
void auth_close(struct auth *, void (*done)(void *arg), void *arg);
struct auth *auth_free(struct auth *);

/* `header`: the Authorization header's value; `session`: the session's token, which counts only where there is no such header. When the
 * answer is in the cache (or needs no look-up) *ret_verdict (and, if OK, a new reference in *ret_principal) are set and NULL is returned;
 * else `done` runs once on a later turn (the principal is borrowed). */
typedef void auth_done(void *arg, enum auth_verdict, struct principal *);
/* Whether auth_start() would need no look-up. */
bool auth_known(struct auth *, struct slice header, struct slice session);
struct auth_op *auth_start(struct auth *, struct slice header, struct slice session, auth_done *, void *arg,
                           enum auth_verdict *ret_verdict, struct principal **ret_principal);
struct auth_op *auth_cancel(struct auth_op *);
/* "Invalid API key: it has been revoked", … for the 401's message. */
const char *auth_verdict_text(enum auth_verdict);

/* Where changes wait for their confirmation (auth_change.h). */
struct auth_changes *auth_changes(struct auth *);

#endif
