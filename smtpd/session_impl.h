/* What session.c and session_act.c share, and nobody else includes: the machine's memory and its moves. */
#ifndef MINUTEMAIL_SESSION_IMPL_H
#define MINUTEMAIL_SESSION_IMPL_H

#include "smtpd/command.h"
#include "smtpd/data.h"
#include "smtpd/reply.h"
#include "smtpd/session.h"

#define SESSION_EXCESS_MAX (1024 * 1024)   /* beyond SIZE a client may finish what it sends, up to this */

enum state {
	STATE_GREET,
	STATE_READY,
	STATE_MAIL,
	STATE_RCPT_WAIT,
	STATE_DATA,
	STATE_BDAT,
	STATE_STORE_WAIT,
	STATE_TLS_WAIT,
	STATE_SKIP,
	STATE_CLOSING,
};

struct transaction {
	struct session_transaction pub;
	struct address *recipients;    /* `room` of them; the one being looked up stands behind the accepted ones */
	uint8_t (*tags)[16];
	unsigned room;
	unsigned accepted;             /* RCPTs answered 250, repetitions included */
	bool put_off;                  /* one was answered 4xx for itself */
	struct data_decoder decoder;
	uint64_t received;             /* octets of the body, kept or not */
	int error;                     /* of the sink */
	bool body;
	bool too_big;
	bool binary;                   /* BODY=BINARYMIME */
	bool chunked;                  /* BDAT has begun, were it only to be refused */
	enum reply_id failure;         /* of a chunk: the rest is swallowed (RFC 3030 2) and told the same; REPLY_CHUNK_OK: none */
};

struct session {
	const struct session_options *options;
	const struct session_ops *ops;
	void *ops_arg;
	void (*on_reply)(void *arg, enum reply_id);
	void *on_reply_arg;
	enum state state;
	bool esmtp;
	bool shutdown;                 /* asked for while a reply was owed */
	bool refused;                  /* at the banner: QUIT only */
	bool bare_newline;             /* may end a command */
	bool slow;                     /* between commands: the next waits for the end of a pause */
	char *helo, *tls;
	struct buf out;
	struct transaction *tx;
	struct data_chunk chunk;
	uint64_t chunk_size;
	enum reply_id chunk_refusal;   /* REPLY_CHUNK_OK: none */
	uint64_t swallowed;            /* octets of chunks outside a transaction */
	size_t skipped;
	unsigned penalty_errors, penalty_junk;   /* since the last stored message */
	unsigned guesses;              /* recipients that do not exist */
	unsigned transactions;
	struct session_counts counts;
};

void session_set_state(struct session *, enum state);
void session_resume(struct session *);               /* to the state between commands */
void session_end_transaction(struct session *);      /* drops the body if the sink still holds one */

/* The hostname is the detail of those texts that have one and concern no client text. */
void session_reply(struct session *, enum reply_id);
void session_reply_about(struct session *, enum reply_id, const char *detail, size_t n);
void session_count_reply(struct session *, enum reply_id);
void session_refuse_recipient(struct session *, enum reply_id);   /* session_recipient() */
void session_refuse_guess(struct session *, enum reply_id);       /* likewise: it does not exist */
/* A reply to something the client should not have sent; too many end the session. */
void session_fault(struct session *, enum reply_id);
void session_fault_about(struct session *, enum reply_id, const char *detail, size_t n);
/* A reply that refuses: 5xx is the client's fault, 4xx is not. */
void session_refuse(struct session *, enum reply_id);
void session_count_junk(struct session *);
void session_close_with(struct session *, enum reply_id);
void session_close_fault(struct session *, enum reply_id);
void session_settle(struct session *);               /* carries out a shut-down that had to wait */

enum reply_id session_error_reply(int error);        /* of the sink */
void session_start_body(struct session *);
void session_finish_chunk(struct session *);

/* One command line without its line end; `ended`: with one that ends a command of this client. `waiting` octets follow in the input
 * (session_act.c). */
void session_execute(struct session *, const char *line, size_t n, bool ended, size_t waiting);

#endif
