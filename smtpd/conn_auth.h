/* What one connection has to do with authentication: block lists from its start, a check for each message. Embedded in conn, which
 * calls these at its four points: start, RCPT, before the store, after the commit. */
#ifndef MINUTEMAIL_CONN_AUTH_H
#define MINUTEMAIL_CONN_AUTH_H

#include "common/netaddr.h"
#include "smtpd/session.h"

struct dnsbl_op;
struct mail_auth_op;
struct message;
struct server;
struct spool;
struct store_recipient;

struct conn_auth {
	struct server *server;
	struct netaddr client;
	struct dnsbl_op *listing;      /* NULL: no zones */
	bool listing_awaited;          /* by a RCPT */
	struct mail_auth_op *check;    /* of the message before its commit */
	bool check_awaited;
	void (*resume)(void *arg);     /* what was awaited has come */
	void *arg;
};

void conn_auth_start(struct conn_auth *, struct server *, const struct netaddr *client, void (*resume)(void *arg), void *arg);
void conn_auth_end(struct conn_auth *);
/* Something is awaited: resume() comes. */
bool conn_auth_busy(const struct conn_auth *);

enum conn_auth_answer { CONN_AUTH_GO, CONN_AUTH_WAIT, CONN_AUTH_REFUSE };

/* May there be a look-up for this recipient? Ask again after resume(). */
enum conn_auth_answer conn_auth_recipient(struct conn_auth *, const struct address *rcpt);
/* May this message be stored? WAIT: the spool may have been taken; after resume() ask again, and it is there again. REFUSE: for
 * *ret_policy. */
enum conn_auth_answer conn_auth_message(struct conn_auth *, const struct session *, const struct message *, struct spool **,
                                        enum session_policy *ret_policy);
/* What is known of it now, to be stored with it (mail_auth_text). NULL: nothing yet. */
const char *conn_auth_text(struct conn_auth *, bool *ret_forged);
/* It was: what was not stored with it will be written beside it. Takes the spool where the check is still to be made. */
void conn_auth_stored(struct conn_auth *, const struct session *, const struct message *, struct spool **,
                      const struct store_recipient *, unsigned n);
/* It was not, or is over. */
void conn_auth_drop(struct conn_auth *);

#endif
