/* How many calls an account may still make, today and in this minute, without asking the database each time.
 *
 * A worker leases calls from the account's row in the ledger (sql/migrations/0005_quota.sql) and answers from the lease. A
 * call is charged when it is leased, so however many workers there are, on however many hosts, and whatever becomes of
 * them, no more than the limit are ever made. That no fewer are made either:
 *
 *   - A lease is for one minute (UTC). What is left of it when the minute ends, and at exit, goes back.
 *   - It is at most a 64th of what is left of either limit, but for requests that are waiting: towards the end nobody
 *     holds calls in stock. When the ledger has too few for those who wait, every worker is told (NOTIFY), gives back
 *     what it holds, and whoever waits asks again for QUOTA_HOLD_US before it is told that the day is over. So the call
 *     that is refused is the N+1st. That wait comes once a day and worker, not at each refusal.
 *   - A worker that dies takes at most one and a half leases with it (the next is fetched when half is used), and a lease
 *     is at most a 200th of the day's quota divided by the workers of this apid: all of them together lose at most three
 *     quarters of one per cent, even if the whole host is lost. (Where that is less than a call, it is a call a worker.)
 *     An answer that never came, or calls that could not be given back because the database was away, count the same.
 *
 * The limit a minute is of the clock's minutes, and strict: never more than the limit in one of them. Workers may hold back
 * a few calls of a minute, so near the limit a call may be refused a moment early. */
#ifndef MINUTEMAIL_QUOTA_H
#define MINUTEMAIL_QUOTA_H

#include "common/base.h"

struct buf;
struct loop;
struct pg;
struct principal;
struct quota;
struct quota_op;

#define QUOTA_HOLD_US 1000000

enum quota_verdict {
	QUOTA_OK,
	QUOTA_DAY,         /* quota_exceeded */
	QUOTA_MINUTE,      /* rate_limit_exceeded */
	QUOTA_UNAVAILABLE, /* the ledger cannot be asked: 503 */
};

/* `workers`: of this apid. Takes pg's notices (pg_on_notify); QUOTA_GREETING must be among its greetings. */
struct quota *quota_new(struct loop *, struct pg *, unsigned workers);
#define QUOTA_CHANNEL "minutemail_quota"
#define QUOTA_GREETING "listen " QUOTA_CHANNEL
struct quota *quota_free(struct quota *); /* in the turn that frees pg: answers may be outstanding */
/* Gives everything back; `done` runs once on a later turn, when that has been answered or has failed. Nobody asks any more. */
void quota_close(struct quota *, void (*done)(void *arg), void *arg);

/* Takes one call of a key's account. At once (NULL, *ret_verdict) or through `done`, once, on a later turn. A console
 * session's calls are not counted: always QUOTA_OK. The limits are the principal's: a plan that was changed counts with the
 * first principal that was read after it. */
typedef void quota_done(void *arg, enum quota_verdict);
struct quota_op *quota_start(struct quota *, const struct principal *, quota_done *, void *arg, enum quota_verdict *ret_verdict);
struct quota_op *quota_cancel(struct quota_op *); /* NULL is fine; returns NULL */
/* The call that was taken then (wall) does not count after all. */
void quota_refund(struct quota *, const struct principal *, int64_t taken_us);

/* As far as this worker knows: what others hold counts as used. */
struct quota_state {
	int64_t day_limit, day_left;       /* -1: no limit */
	int64_t minute_limit, minute_left;
	int64_t day_ends;                  /* seconds since 1970: the next 00:00 UTC */
	int day_seconds, minute_seconds;   /* until either ends; at least 1 */
};
void quota_state(const struct quota *, const struct principal *, struct quota_state *ret);

/* Appends X-RateLimit-…, RateLimit and RateLimit-Policy, each with its CRLF; none for an account without limits. */
void quota_headers(const struct quota_state *, struct buf *head);

#endif
