/* RCPT -> mailbox. The look-ups of one loop turn, and under load those that gather while others are under way, are one statement; nothing
 * is cached, so an address created, deleted or expired a moment ago is answered as it is now. */
#ifndef MINUTEMAIL_RECIPIENT_H
#define MINUTEMAIL_RECIPIENT_H

#include "common/address.h"
#include "common/id.h"

struct loop;
struct pg;
struct recipients;
struct recipient_op;

enum recipient_verdict {
	RECIPIENT_OK,
	RECIPIENT_UNKNOWN,         /* our domain, no such (live) mailbox: 550 5.1.1 */
	RECIPIENT_FOREIGN_DOMAIN,  /* 550 5.7.1 */
	RECIPIENT_DISABLED,        /* its account is suspended: 550 5.2.1 */
	RECIPIENT_DISABLED_NOW,    /* its owner is: 450 4.2.1 */
	RECIPIENT_UNAVAILABLE,     /* database away: 451 4.3.0 */
};

struct recipient {
	struct id mailbox, user;   /* user: whose it is */
	int64_t expires_at;        /* wall µs, INT64_MAX: never */
};

/* postmaster and abuse of a served domain, and <Postmaster>, fall back to the domain's postmaster mailbox and then to that of the
 * first platform domain (RFC 5321 4.5.1, RFC 2142). Whose these are may be suspended: they are taken all the same. */
struct recipients *recipients_new(struct loop *, struct pg *);
struct recipients *recipients_free(struct recipients *);
/* Runs once on a later loop turn, never inside the start and never after the cancel. `found` is borrowed; NULL unless OK. */
typedef void recipient_done(void *arg, enum recipient_verdict, const struct recipient *found);
struct recipient_op *recipient_start(struct recipients *, const struct address *, recipient_done *, void *arg);
struct recipient_op *recipient_cancel(struct recipient_op *);

#endif
