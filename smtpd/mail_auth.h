/* SPF, DKIM, DMARC and the client's name for received messages. One service a worker; checks run beside the sessions:
 *
 *   start -> SPF on the loop, the message scanned -> keys and policies from the DNS -> concluded
 *   concluded -> done(arg), if somebody waits;  kept and concluded -> its rows are written
 *
 * Without a policy that can refuse, conn starts the check of a short message before the commit, does not wait, and stores the results
 * with the message if they are known; that of a long one after it. With a policy it starts the check before, waits,
 * and keeps it after the commit. A short message is scanned at once, which takes less time than handing it to a helper thread; a longer
 * one has the helper, so that no session waits for it. Where the DNS has answered before, too, a check is concluded when it starts.
 * How many are under way, and how many octets of sources they hold, is bounded: what comes
 * beyond that is not checked, and a metric counts it. */
#ifndef MINUTEMAIL_MAIL_AUTH_H
#define MINUTEMAIL_MAIL_AUTH_H

#include "common/id.h"
#include "smtpd/mail_auth_result.h"

struct dns;
struct loop;
struct mail_auth;
struct mail_auth_op;
struct metrics;
struct pg;
struct spool;
struct work;

struct mail_auth_options {
	const char *hostname;          /* %{r} of SPF */
	const char *authserv_id;       /* ours: fields that claim it are forged */
	int64_t budget_us;             /* for all questions to the DNS of one message; then temporary errors */
	unsigned checks_max;           /* under way */
	size_t octets_max;             /* of sources held for scanning */
	bool null_mx;                  /* look for one at the sender's domain, too (RFC 7505) */
};

/* Borrows everything. `pg`: one connection for the rows of results, NULL in tests that look at no rows. */
struct mail_auth *mail_auth_new(struct loop *, struct dns *, struct work *, struct pg *, struct metrics *,
                                const struct mail_auth_options *);
/* What is under way is lost, as are rows not written yet. The helper threads must have ended before (work_free). */
struct mail_auth *mail_auth_free(struct mail_auth *);
/* Called when nothing is under way or unwritten any more; NULL: nobody. */
void mail_auth_on_idle(struct mail_auth *, void (*fn)(void *arg), void *arg);
bool mail_auth_idle(const struct mail_auth *);

struct mail_auth_request {             /* all but the spool is copied */
	struct netaddr client;
	const char *helo, *mail_from;
	const char *from;                  /* the author that is shown; "": none; NULL: unknown */
	struct spool *spool;               /* taken if it is not short (mail_auth_is_short), unless the start is refused */
	const struct dnsbl_results *dnsbl; /* NULL: none */
};

/* Scanned at once, and left to the caller. */
bool mail_auth_is_short(const struct spool *);

typedef void mail_auth_done(void *arg);
/* NULL: too much is under way. `done` (NULL: nobody waits) runs once when all is known, on a later turn, not after the cancel or the
 * keep; if mail_auth_concluded() is true at once, it does not run. */
struct mail_auth_op *mail_auth_start(struct mail_auth *, const struct mail_auth_request *, mail_auth_done *done, void *arg);
bool mail_auth_concluded(const struct mail_auth_op *);
/* Once it is concluded. */
const struct mail_auth_result *mail_auth_get(const struct mail_auth_op *);
struct spool *mail_auth_take_spool(struct mail_auth_op *);   /* back from it, once it is concluded; NULL: it had none */
/* The results as JSON, to be stored with the message: mail_auth_keep() will not write them again. NULL: not concluded, or too long.
 * *ret_forged: a field of the message claims results of ours. Lives until the keep or the cancel. */
const char *mail_auth_text(struct mail_auth_op *, bool *ret_forged);
/* A row of messages, and whose it is. */
struct mail_auth_row {
	struct id message, user;
};

/* The message was committed as these rows: the results are written for each when they are known, if they are not stored with it. The
 * pointer is dead. */
void mail_auth_keep(struct mail_auth_op *, const struct mail_auth_row *messages, unsigned n);
/* NULL is fine; returns NULL. */
struct mail_auth_op *mail_auth_cancel(struct mail_auth_op *);

#endif
