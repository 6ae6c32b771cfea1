/* The parser process and the worker's end of its channel. One per worker, forked before the worker opens anything secret; no
 * network, no database, no files but the descriptors it is sent; RLIMIT_AS, RLIMIT_CPU per message by a watchdog, RLIMIT_NOFILE,
 * RLIMIT_CORE 0. Requests are answered in order and several may be under way.
 *
 * When the process dies or exceeds the deadline on a message, that message's result is parse_failed, the process is killed and
 * started again, and the messages queued behind it are sent to the new one: nobody else's session notices. */
#ifndef MINUTEMAIL_PARSER_H
#define MINUTEMAIL_PARSER_H

#include "smtpd/message.h"
#include "smtpd/spool.h"

struct loop;
struct parser;
struct parser_op;

struct parser_options {
	int64_t deadline_us;       /* wall time for one message from the moment it is at the head; 2 s by default */
	int64_t memory_max;        /* RLIMIT_AS, octets; ignored under AddressSanitizer */
	uint64_t source_max;       /* longer sources are not sent: warning not_parsed */
	void (*on_restart)(void *arg);
	void *arg;
};

/* Forks. Call it before threads or libpq exist in this process. A zygote stays behind to fork successors, so that later
 * parsers do not inherit what the worker has opened since. */
struct parser *parser_new(struct loop *, const struct parser_options *);
struct parser *parser_free(struct parser *);

/* `msg` is handed over; never NULL (at worst empty with the warning parse_failed). Runs on a later turn. `spool` is borrowed
 * until then. */
typedef void parser_done(void *arg, struct message *msg);
struct parser_op *parser_start(struct parser *, struct spool *, parser_done *, void *arg);
struct parser_op *parser_cancel(struct parser_op *);

#endif
