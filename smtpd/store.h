/* Finished messages -> committed rows. One store per lane and worker.
 *
 * Messages gather while earlier batches commit; a batch is one transaction in one round trip: INSERT ... SELECT FROM unnest(),
 * one statement a table. A batch ends at 64 messages or about 1 MB of sources, or because a connection is free.
 *
 * A message that is longer than a batch may be has a transaction of its own (one for each 16 recipients), into which its source goes
 * chunk by chunk as the database takes them: memory and the loop's turns do not grow with it. Such transactions leave one connection
 * to the batches if there are two. */
#ifndef MINUTEMAIL_STORE_H
#define MINUTEMAIL_STORE_H

#include "common/id.h"
#include "common/list.h"
#include "smtpd/message.h"
#include "smtpd/spool.h"

struct loop;
struct metrics;
struct pg;
struct store;
struct store_op;

enum store_verdict {
	STORE_COMMITTED,    /* every recipient's rows are committed: 250 */
	STORE_UNAVAILABLE,  /* 451 4.3.0; the rows may or may not exist, the sender will retry */
	STORE_FULL,         /* 452 4.3.1: SQLSTATE 53100 */
};

struct store_recipient {
	struct id mailbox;       /* its bucket is the row's bucket */
	struct id user;          /* whose mailbox it is */
	struct id id;            /* of the message row; made before the first attempt, never again */
	int64_t expires_at;      /* of the mailbox, wall µs; INT64_MAX: never. Gives the expiry hour */
	const char *rcpt_to;     /* as the client wrote it, UTF-8 */
};

struct store_request {           /* everything is borrowed until `done` runs or the operation is cancelled */
	const struct store_recipient *recipients;
	unsigned recipient_count;
	int64_t received_at;         /* wall µs */
	const char *mail_from, *helo;
	const char *tls;             /* "TLSv1.3 TLS_AES_256_GCM_SHA384 sni=mx.example.org", the last only if a name was asked for; NULL: clear */
	const char *trace;           /* our Return-Path and Received fields, CRLF line ends; not part of the source */
	const struct message *message;
	const char *authentication;  /* results as JSON, where they are known already; NULL: not yet */
	struct spool *spool;
};

struct store_options {
	struct metrics *metrics;     /* borrowed; NULL: nothing is counted */
	unsigned connections;        /* transactions under way at once, 1..4; default 2 */
	unsigned batch_messages;     /* 64 */
	size_t batch_octets;         /* 1 MB */
	/* From store_start() to the verdict, retries included; then 451. What is longer than batch_octets may take longer, for as
	 * long as the database goes on taking chunks of one such message or another: its term runs from the last of them, but
	 * ends STORE_TERM_MAX_US after store_start() at the latest. */
	int64_t deadline_us;
};

struct store *store_new(struct loop *, struct pg *, const struct store_options *);   /* borrows pg */
struct store *store_free(struct store *);
typedef void store_done(void *arg, enum store_verdict);
struct store_op *store_start(struct store *, const struct store_request *, store_done *, void *arg);
struct store_op *store_cancel(struct store_op *);   /* `done` will not run; rows may still be committed */
bool store_idle(const struct store *);

/* Senders wait 10 minutes for the answer to the final dot (RFC 5321 4.5.3.2.6). */
#define STORE_TERM_MAX_US ((int64_t)5 * 60 * 1000000)

#define STORE_CHUNK (256 * 1024)      /* raw octets of a message_source row; every chunk but the last is full */
#define STORE_NEVER_HOUR INT32_MAX    /* expiry_hour of what never expires */
/* Whole hours since 1970 of the instant; INT64_MAX: STORE_NEVER_HOUR. */
int32_t store_expiry_hour(int64_t expires_at);

#endif
