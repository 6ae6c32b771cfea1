/* The SMTP state machine of one connection. No I/O, no libevent: octets in, reply text out, and what it waits for.
 * The connection (conn) carries out what session_wants() says and reports the outcome by a session_on_ call.
 *
 *   GREET -EHLO/HELO-> READY -MAIL-> MAIL -RCPT-> RCPT_WAIT -verdict-> MAIL -DATA-> DATA -dot-> STORE_WAIT
 *   STORE_WAIT -verdict-> READY;  MAIL -BDAT-> BDAT -its octets-> MAIL, or with LAST STORE_WAIT
 *   any of GREET..MAIL -STARTTLS-> TLS_WAIT -done-> GREET;  a line too long -> SKIP -LF-> CLOSING;  any -> CLOSING
 *   READY, GREET: no transaction.  *_WAIT: input parked, exactly one answer owed.
 *   CLOSING: only output is left, input is discarded.
 * Between commands a client that errs too often waits (SESSION_WANT_PAUSE). */
#ifndef MINUTEMAIL_SESSION_H
#define MINUTEMAIL_SESSION_H

#include "common/address.h"
#include "common/buf.h"
#include "smtpd/reply.h"

struct session;

struct session_options {           /* borrowed for the life of the session */
	const char *hostname;          /* first word of the banner, `by` of Received */
	uint64_t size_max;             /* octets of a message; SIZE */
	unsigned recipients_max;       /* per transaction; at least 100 */
	unsigned transactions_max;     /* messages per session; 0: no limit */
	unsigned errors_max;           /* 421 4.7.0 and close at this many; 0: no limit */
	unsigned errors_slow;          /* from this many on a pause after each; 0: none */
	unsigned junk_max;             /* NOOP, RSET, VRFY, HELP, EHLO without mail in between; 0: no limit */
	unsigned bad_recipients_max;   /* 421 4.7.0; 0: no limit */
	bool starttls;                 /* offered while in clear */
	bool starttls_broken;          /* there should be TLS and no certificate is loaded: 454 4.7.0 */
	bool require_tls;              /* in clear 530 to all but EHLO, NOOP, STARTTLS and QUIT (RFC 3207 4) */
	bool chunking;                 /* CHUNKING and BINARYMIME offered */
	bool strict_syntax;            /* 501 to what is outside the grammar and usually let pass: blanks after the colon */
	bool reject_bare_newline;      /* a message with line ends other than CRLF: 550 5.5.2 after its end, then close */
	bool null_sender_single;       /* a second recipient of a bounce: 452 4.5.3 */
};

enum session_want {
	SESSION_WANT_INPUT,            /* call session_input() when octets come */
	SESSION_WANT_RECIPIENT,        /* look session_recipient() up, then session_on_recipient() */
	SESSION_WANT_STORE,            /* the message is complete: store it, then session_on_stored() */
	SESSION_WANT_TLS,              /* flush the output, then handshake; then session_on_tls() */
	SESSION_WANT_PAUSE,            /* flush the output, wait a second, then session_on_pause() */
	SESSION_WANT_CLOSE,            /* flush the output, then close */
};

enum session_recipient_verdict { /* kept apart from recipient.h because this half is pure */
	SESSION_RECIPIENT_OK,
	SESSION_RECIPIENT_UNKNOWN,         /* 550 5.1.1 */
	SESSION_RECIPIENT_FOREIGN_DOMAIN,  /* 550 5.7.1 */
	SESSION_RECIPIENT_UNAVAILABLE,     /* 451 4.3.0 */
	SESSION_RECIPIENT_DISABLED,        /* 550 5.2.1 */
	SESSION_RECIPIENT_DISABLED_NOW,    /* 450 4.2.1: for the time being */
};

enum session_store_verdict {
	SESSION_STORE_OK,
	SESSION_STORE_UNAVAILABLE,     /* 451 4.3.0 */
	SESSION_STORE_FULL,            /* 452 4.3.1 */
	SESSION_STORE_LOOP,            /* 554 5.4.6 */
};

/* Why the connection's policy refuses a recipient or a message. */
enum session_policy {
	SESSION_POLICY_LOCAL,              /* 554 5.7.1: DNSBL and the like */
	SESSION_POLICY_SENDER_NULL_MX,     /* 550 5.7.27 */
	SESSION_POLICY_SENDER_UNCHECKED,   /* 451 4.4.3: DNS did not answer, and policy wants it to */
	SESSION_POLICY_SPF_FAIL,           /* 550 5.7.23 */
	SESSION_POLICY_SPF_PERMERROR,      /* 550 5.7.24 */
	SESSION_POLICY_SPF_TEMPERROR,      /* 451 4.7.24 */
	SESSION_POLICY_DMARC_REJECT,       /* 550 5.7.1 */
};

/* What a session asks of its connection in passing, answered at once.
 *
 * Where the octets of a message go. A transaction's body starts with body_start; when that fails (-ENOSPC: 452, else
 * 451) the message is refused and nothing else is called for it. A failing body_write is remembered and answered at
 * the end (452 or 451); it is not called again for that message. body_drop: the octets so far are void (RSET, too
 * big, failed write, session over); called at most once for each body_start, and not after SESSION_WANT_STORE, when
 * the octets are the connection's. body_refused: the session itself refuses a message of which all has come, or more than may, with this
 * reply; the transaction is still to be seen. */
struct session_ops {
	int (*body_start)(void *arg);
	int (*body_write)(void *arg, const void *p, size_t n);
	void (*body_drop)(void *arg);
	void (*body_refused)(void *arg, enum reply_id, uint64_t octets); /* NULL: nothing */
	/* Whether more has come from the client that session_input() was not given: nothing may follow DATA, STARTTLS in clear, or
	 * HELO and what comes after it. NULL: no. */
	bool (*input_waits)(void *arg);
	/* Whether the client may have a handshake now; else STARTTLS is 454 and the session goes on. NULL: yes. */
	bool (*may_start_tls)(void *arg);
	/* The address that the client connected to, as an address literal's domain: postmaster@[that address] is ours (RFC 5321
	 * 4.5.1). "" or NULL: not known. */
	void (*local_literal)(void *arg, char ret[ADDRESS_LITERAL_SIZE]);
};

struct session *session_new(const struct session_options *, const struct session_ops *, void *ops_arg);
struct session *session_free(struct session *);

/* TLS from the first octet: the handshake is done. Before the start. */
void session_set_tls(struct session *, const char *version_cipher);
/* A command line of this client may end with LF alone; a line of its messages never does. Before the start. */
void session_allow_bare_newline(struct session *);
void session_start(struct session *);                       /* queues the banner */
/* Instead of it: 554 5.7.1, then 503 to all but QUIT (RFC 5321 3.1). */
void session_start_refused(struct session *);
/* Consumes octets until all are used or something other than input is wanted; returns how many. Never looks past a
 * command that must be answered first, so replies keep their order and PIPELINING works.
 *
 * p holds everything unread, or its first COMMAND_LINE_MAX (command.h) octets at least: the session keeps no line:
 *   - a command line that is not complete is not consumed (returns less than n, still wants input): call again with
 *     more after it;
 *   - above SESSION_OUTPUT_MARK octets of output no command is consumed: call again once the output was moved on;
 *   - octets behind DATA, STARTTLS or, after HELO, any command are seen as a breach of synchronisation (554 5.5.0). */
#define SESSION_OUTPUT_MARK (16 * 1024)
size_t session_input(struct session *, const void *p, size_t n);
enum session_want session_wants(const struct session *);
struct buf *session_output(struct session *);               /* reply text; conn consumes it */
/* Whether replies should be flushed now: no complete command can be waiting in the n unread octets (RFC 2920 3.2). */
bool session_should_flush(const struct session *, const void *unread, size_t n);
bool session_receiving(const struct session *);             /* inside DATA or a chunk: what comes is the message's */
/* From DATA or the first BDAT to the end of the message, between its chunks too: other deadlines apply. */
bool session_in_message(const struct session *);

const struct address *session_recipient(const struct session *);   /* SESSION_WANT_RECIPIENT: which */
/* `tag` identifies the mailbox for "same recipient twice" (its id, 16 octets); ignored unless OK. */
void session_on_recipient(struct session *, enum session_recipient_verdict, const uint8_t tag[16]);
/* `queue_id`: printed in the 250; at most 64 characters of [A-Za-z0-9-]; may be NULL unless OK. The transaction ends
 * here. */
void session_on_stored(struct session *, enum session_store_verdict, const char *queue_id);
/* Instead of either of them: policy says no. A recipient so refused is not held against the client's guesses. */
void session_on_policy(struct session *, enum session_policy);
/* Forgets everything said in clear. NULL: the handshake failed, close. */
void session_on_tls(struct session *, const char *version_cipher);
/* The pause is over. */
void session_on_pause(struct session *);

/* Things the connection decides: each queues its reply and, if it ends the session, moves to CLOSING. In CLOSING it
 * does nothing, and an answer owed from before is ignored there. */
enum session_abort {
	SESSION_ABORT_IDLE,            /* 421 4.4.2 */
	SESSION_ABORT_SHUTDOWN,        /* 421 4.3.2; inside DATA, BDAT (its pauses too) or *_WAIT after the reply owed */
	SESSION_ABORT_OVERLOAD,        /* 421 4.3.2 */
	SESSION_ABORT_RATE,            /* 421 4.7.0 */
	SESSION_ABORT_UNSYNCHRONISED,  /* 554 5.5.0 */
};
void session_abort(struct session *, enum session_abort);

/* The transaction, complete at SESSION_WANT_STORE (before, only its counts and mail_from), borrowed until
 * session_on_stored(). */
struct session_transaction {
	struct address mail_from;
	bool smtputf8;
	uint64_t declared_size;        /* MAIL's SIZE; 0: not said */
	uint64_t size;                 /* octets given to the sink */
	bool bare_newline;             /* line ends other than CRLF, or a line that a NUL begins; not in
	                                * BINARYMIME, which has no lines */
	bool bare_cr;                  /* a CR without LF among them */
	unsigned recipient_count;      /* accepted and distinct */
	const struct address *recipients;
	const uint8_t (*tags)[16];     /* parallel to recipients */
};
const struct session_transaction *session_transaction(const struct session *);   /* NULL: no transaction */
const char *session_helo(const struct session *);           /* "" before EHLO */
bool session_esmtp(const struct session *);                 /* EHLO, not HELO */
const char *session_tls(const struct session *);            /* NULL in clear */

struct session_counts {
	unsigned commands, errors, junk, recipients_accepted, recipients_refused, messages;
	uint64_t octets;               /* of messages, refused ones too */
	unsigned odd;                  /* commands outside the grammar that were let pass */
	unsigned last_code;            /* of the last reply */
	enum reply_id last_refusal;    /* the last reply of 4xx or 5xx; REPLY_GREETING: none */
	const char *stage;             /* "RCPT", "DATA", … for "lost connection after" */
};
const struct session_counts *session_counts(const struct session *);
/* Called for every reply queued (a multi-line one counts once), for metrics; NULL: none. */
void session_on_reply(struct session *, void (*fn)(void *arg, enum reply_id), void *arg);

#endif
