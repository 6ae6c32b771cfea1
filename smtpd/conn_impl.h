/* What conn*.c share, and nobody else includes: the connection's memory. */
#ifndef MINUTEMAIL_CONN_IMPL_H
#define MINUTEMAIL_CONN_IMPL_H

#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/stream.h"
#include "smtpd/conn.h"
#include "smtpd/conn_auth.h"
#include "smtpd/parser.h"
#include "smtpd/recipient.h"
#include "smtpd/server.h"
#include "smtpd/smtpd_metrics.h"
#include "smtpd/store.h"

/* An accepted recipient's mailbox; the session keeps the address, we what the store needs. */
struct accepted {
	struct id mailbox, user;
	int64_t expires_at;
};

struct conn {
	struct list link;
	struct server *server;
	const struct smtpd_listener *listener;
	struct conn_client client;
	struct stream *stream;
	struct session *session;
	bool eof;
	bool shaking;                      /* a TLS handshake is under way */
	const char *tls_error;             /* static; why the handshake failed */
	char *tls;                         /* as stored: version, cipher and the name asked for; NULL: clear */

	struct accepted *accepted;
	unsigned accepted_count, accepted_cap;

	struct spool *spool;
	struct message *message;
	struct store_recipient *recipients;
	struct buf trace;
	char queue_id[ID_TEXT_SIZE];
	char *log_from;                    /* the sender, as the log has it; NULL: no message yet */
	int64_t body_us, dot_us, parsed_us; /* monotonic: the body begins, ends, is parsed */
	int64_t asked_us;                  /* monotonic: when the look-up began */
	int64_t received_at;

	struct recipient_op *lookup;
	struct parser_op *parse;
	struct store_op *commit;
	struct conn_auth auth;

	struct timer pause;                /* of a client that errs and errs */
	int64_t opened_us;
	unsigned messages;

	/* conn_limits.c */
	int64_t due;                       /* monotonic: when patience ends; 0: the client owes nothing */
	bool in_message;                   /* `due` is a message's */
	unsigned errors_seen;
	uint64_t octets_seen;
};

/* ---- conn_limits.c: what one connection may cost ---- */

void conn_limits_end(struct conn *);
/* Whether the client may name session_recipient(); when not, the session has been told to end. */
bool conn_limits_recipient(struct conn *);
void conn_limits_refused_recipient(struct conn *);
bool conn_limits_handshake(struct conn *);   /* whether there may be one more, and then counts it */
int64_t conn_limits_handshake_us(const struct conn *);
void conn_limits_message(struct conn *);
/* After input was used: counts errors, and octets of a message towards its deadline. */
void conn_limits_used(struct conn *);
/* Sets the stream's deadline. `owing`: the client is to send something; `progress`: it has just sent something whole. */
void conn_limits_arm(struct conn *, bool owing, bool progress);

/* ---- conn_spool.c: where octets of messages go ---- */

void conn_spool_count(const struct conn *);   /* sets the gauges; after spools came or went */
int conn_spool_start(void *arg);              /* session.h's body_ three; arg: the connection */
int conn_spool_write(void *arg, const void *p, size_t n);
void conn_spool_drop(void *arg);

/* ---- conn_ops.c: what the session asks; its argument is the connection ---- */

extern const struct session_ops CONN_OPS;

/* ---- conn_log.c ---- */

void conn_log_end(const struct conn *, const char *reason);
void conn_log_sender(struct conn *, const char *mail_from);   /* a message begins its way to the store */
void conn_log_message(const struct conn *, const char *event, enum log_level, uint64_t size, unsigned recipients, unsigned code);

#endif
