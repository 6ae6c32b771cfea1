/* How a change to API keys, or to whom they act for, reaches every worker before the change is reported done. The
 * protocol, and its changer's side on a plain synchronous libpq connection (minutemailctl). The listener's side is apid/auth.c.
 *
 *   listener  on one connection of its own: LISTEN minutemail_keys, then the shared advisory lock (KEYS_LOCK_CLASS,
 *             KEYS_LOCK_KEY), so that holding the lock means listening, then a row in key_listeners, which outlives the
 *             connection unless the worker ends in order. It uses its cache only while a round trip on that connection that
 *             began less than KEYS_LEASE_US ago has come back.
 *   changer   LISTEN minutemail_keys_ack; then, in the transaction that makes the change, NOTIFY minutemail_keys
 *             '<nonce> <id>', of a key, a console session, a user or an account: whatever is cached of it; or
 *             '<nonce> *' for all.
 *   listener  drops what the notice names, keeps look-ups under way from filling the cache, then
 *             NOTIFY minutemail_keys_ack '<its backend pid> <nonce>'.
 *   changer   after COMMIT reads which backends of this database hold the lock or have a row, and waits until each has
 *             answered, or until KEYS_LEASE_US + KEYS_MARGIN_US have passed since the commit: by then a listener that
 *             has not answered cannot have proved its connection since, so its cache is out of use. A listener that
 *             vanishes meanwhile, or has (a row and no lock), counts as silent: its worker may be slower than the server to learn
 *             of it. After a lease from when it was seen to be gone its row is deleted: nobody else need wait for it.
 *
 * Both are read after the commit, not before: whoever holds something stale held the lock before the commit and
 * still does. */
#ifndef MINUTEMAIL_KEYS_SYNC_H
#define MINUTEMAIL_KEYS_SYNC_H

#include "common/base.h"
#include "common/id.h"

#include <libpq-fe.h>

#define KEYS_CHANNEL "minutemail_keys"
#define KEYS_ACK_CHANNEL "minutemail_keys_ack"
#define KEYS_LOCK_CLASS 19789 /* 'MM' */
#define KEYS_LOCK_KEY 3       /* 1: migrations, 2: the janitor */
#define KEYS_LEASE_US 1000000
#define KEYS_MARGIN_US 100000
#define KEYS_NONCE_SIZE 33 /* 32 hexadecimal digits with their NUL */

struct keys_sync {
	PGconn *conn; /* borrowed */
	char nonce[KEYS_NONCE_SIZE];
};

enum keys_sync_result {
	KEYS_SYNC_CONFIRMED, /* every live listener has answered (or there is none) */
	KEYS_SYNC_LEASE,     /* somebody was silent; the lease has run out */
	KEYS_SYNC_FAILED,    /* the connection broke after the commit: the full lease was waited out all the same */
};

/* Before the transaction. -EIO: the connection's error message says why. */
int keys_sync_start(struct keys_sync *, PGconn *);
/* Inside the transaction, once. `of` NULL: everything. -EIO. */
int keys_sync_publish(struct keys_sync *, const struct id *of);
/* After COMMIT. */
enum keys_sync_result keys_sync_wait(struct keys_sync *);

/* The listener's side: splits a payload of KEYS_CHANNEL. False: not one of ours. *ret_all or *ret_key is set; the
 * nonce is borrowed from the payload. */
bool keys_sync_parse(const char *payload, struct slice *ret_nonce, bool *ret_all, struct id *ret_key);

#endif
