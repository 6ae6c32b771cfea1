/* The parser process and the worker's end of its channel. One per worker, forked before the worker opens anything
 * secret; no network, no database, no files but the descriptors it is sent; RLIMIT_AS, RLIMIT_NOFILE, RLIMIT_FSIZE
 * and RLIMIT_CORE 0, and (but under sanitizers) a seccomp filter. Requests are answered in order and several may be
 * under way.
 *
 * When the process dies on a message or exceeds the deadline on it, that message's result is parse_failed, the
 * process is killed and started again, and the messages queued behind it are sent to the new one: nobody else's
 * session notices. A process that dies before it has begun a message (somebody killed it) does not cost that message
 * its result. */
#ifndef MINUTEMAIL_PARSER_H
#define MINUTEMAIL_PARSER_H

#include "smtpd/message.h"
#include "smtpd/spool.h"

#include <sys/types.h>

struct loop;
struct parser;
struct parser_op;

struct parser_options {
	int64_t deadline_us;       /* wall time for one message from the moment it is at the head; 2 s by default */
	int64_t memory_max;        /* octets it may map beyond what it starts with; 0: any; ignored under sanitizers */
	uint64_t source_max;       /* longer sources are not sent: warning not_parsed */
	void (*on_restart)(void *arg);
	/* The zygote itself is gone, and with it every parser to come: all results are parse_failed from now on. The
	 * worker should drain and end, so that its master starts a new one. May be NULL. */
	void (*on_lost)(void *arg);
	/* Runs in the zygote right after the fork: wipe there what the configuration holds and a parser must not know.
	 * May be NULL. */
	void (*forget)(void *arg);
	void *arg;
};

/* Forks. Call it before threads or libpq exist in this process. A zygote stays behind to fork successors, so that later
 * parsers do not inherit what the worker has opened since. */
struct parser *parser_new(struct loop *, const struct parser_options *);
struct parser *parser_free(struct parser *); /* what is under way is cancelled */
pid_t parser_pid(const struct parser *);     /* of the parser process; 0 while there is none. For logs and tests */

/* `msg` is handed over; never NULL (at worst empty with the warning parse_failed). Runs on a later turn. `spool` is
 * borrowed until then. */
typedef void parser_done(void *arg, struct message *msg);
struct parser_op *parser_start(struct parser *, struct spool *, parser_done *, void *arg);
struct parser_op *parser_cancel(struct parser_op *);

#endif
