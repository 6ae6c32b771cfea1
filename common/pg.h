/* Asynchronous PostgreSQL for one node ("lane"): a pool of pipelined libpq connections on the loop.
 *
 * Two ways to work:
 *   pg_query()   one prepared statement; many are in flight on one connection at once (libpq pipeline mode). Those of one turn of the
 *                loop that only read share a Sync: one write and one answer for all. Each fails for itself.
 *   pg_tx_*()    a transaction with a connection of its own for as long as it lasts; several steps travel in one round trip.
 * Completions run on a later loop turn, never inside the call that started them, and never after the cancel. */
#ifndef MINUTEMAIL_PG_H
#define MINUTEMAIL_PG_H

#include "common/base.h"
#include "common/buf.h"
#include "common/id.h"

struct loop;
struct pg;
struct pg_op;
struct pg_tx;
struct pg_rows;

/* From sql/queries/NAME.sql: a line "-- name: mailbox_get" starts a statement. The generator sql/queries.py makes
 * <NAME>_stmts.h with `extern const struct pg_stmt STMT_MAILBOX_GET;` and an all-of-them table for pg_new(). */
struct pg_stmt {
	const char *name;
	const char *sql;
	unsigned index;              /* in its table */
	bool reads;                  /* changes and locks nothing ("-- name: mailbox_get reads") */
};

/* On whose behalf a statement runs: row-level security shows it the account's rows, and of mail the user's (sql/README.md). Both
 * travel with the statement, in its round trip, and are forgotten with its transaction. A zero id: nobody's. */
struct pg_principal {
	struct id account, user;
};

enum pg_status {
	PG_OK,
	PG_ERROR,       /* the server refused the statement: sqlstate is set; nothing of the transaction happened */
	PG_UNAVAILABLE, /* not sent, or known not to have happened: queue full, no connection, shutting down */
	PG_IN_DOUBT,    /* sent, outcome unknown: link lost, deadline passed, or a notice came before COMMIT's result */
};

struct pg_result {
	enum pg_status status;
	char sqlstate[6];            /* PG_ERROR; "" otherwise */
	const char *message;         /* PG_ERROR: the server's primary message, for the log only; "" otherwise, never NULL; borrowed
	                                for the call */
	const struct pg_rows *rows;  /* PG_OK; borrowed for the call; may have 0 rows */
	int64_t affected;            /* rows touched, from the command tag */
};

/* A failure of the moment, not of the statement: serialization, a deadlock, resources, a lock that was not to be had, a shutdown. */
bool pg_passing(const char *sqlstate);

struct pg_options {
	const char *conninfo;              /* libpq string or URI; several hosts allowed */
	const char *application_name;
	const struct pg_stmt *const *stmts;/* prepared on every connection before it counts as up; NULL-terminated */
	unsigned connections;              /* shared by queries and transactions; at least 1 */
	bool transactions_only;            /* no queries come: transactions may have all connections, not all but one */
	unsigned depth;                    /* queries in flight on one connection at the most, default 64 when 0 */
	unsigned queue;                    /* queries and transactions waiting for room at the most, default 1024 when 0 */
	int64_t query_deadline_us;         /* from start to result; past it the connection is closed (a query past its deadline
	                                      costs its connection; libpq 15 has no asynchronous cancel). A statement that
	                                      waits for a lock fails before that, with 55P03 */
	int64_t connect_deadline_us;       /* of an attempt; of an only host's up to eight times that, after some at which it was there, but slow */
	const char *row_security;          /* a table whose row-level security must bind our role, or the connection is refused; NULL: not
	                                      looked at */
	_Atomic uint32_t *timeline;        /* the highest seen by all who share it (pg_timeline_new()); NULL: by this pool */
	int32_t schema_version;            /* > 0: checked after connecting; another version: connection refused, logged once */
};

/* Of one database for all workers, made before the fork; for as long as the process lives. */
_Atomic uint32_t *pg_timeline_new(void);

/* Starts connecting at once; reconnects with back-off 50 ms doubling to 2 s with jitter. Of several hosts one that said nothing within a
 * deadline, or was refused, is the last to be tried next time. After each connect the timeline is read and a server on an older one than
 * the highest seen is refused, since it has not got what we were told is committed, as are fsync=off and full_page_writes=off unless the
 * environment has MINUTEMAIL_ALLOW_UNSAFE_DATABASE=1; a connection to a server that turns out to be of an older one is closed before it is
 * used again or believed. The planner is told to use indexes. */
struct pg *pg_new(struct loop *, const struct pg_options *);
/* Outstanding operations and transactions are cancelled without a callback; their pointers are dead. */
struct pg *pg_free(struct pg *);
bool pg_up(const struct pg *);         /* at least one connection is ready */
/* Why not, for /ready and the log: "" when up. Borrowed until the next call. */
const char *pg_down_reason(const struct pg *);
/* How long the server lets a statement wait for a lock. */
int64_t pg_lock_timeout_us(const struct pg *);
struct pg_stats {
	unsigned up, waiting;    /* connections ready; queries and transactions that wait for one */
	unsigned long connects;  /* that came up, ever */
};
struct pg_stats pg_stats(const struct pg *);
/* Down because the server's schema is not schema_version: pg_down_reason() tells both. */
bool pg_other_schema(const struct pg *);
/* Called whenever pg_up() may have changed, and with each asynchronous notification (LISTEN). */
void pg_on_state(struct pg *, void (*fn)(void *arg, bool up), void *arg);
void pg_on_notify(struct pg *, void (*fn)(void *arg, const char *channel, const char *payload), void *arg);
/* Statements sent once on each new connection before it counts as up ("LISTEN minutemail_keys"); NULL-terminated, borrowed. */
void pg_set_greeting(struct pg *, const char *const *sql);

/* Parameters in order. Values are copied. All in libpq's binary format but text. An array of n rows starts with
 * pg_param_array(), then n pg_elem_*(); elements count towards that parameter. */
struct pg_params {
	struct buf data;
	struct {
		size_t offset;
		int32_t length; /* -1: NULL */
		bool binary;
	} at[40];
	unsigned count;
	size_t array_start; /* of the array under construction, 0: none */
};
void pg_params_init(struct pg_params *);
void pg_params_fini(struct pg_params *);
void pg_params_reset(struct pg_params *);
void pg_param_null(struct pg_params *);
void pg_param_text(struct pg_params *, const char *s, size_t n);  /* valid UTF-8 without NUL: the caller's duty (asserted in debug) */
void pg_param_cstring(struct pg_params *, const char *s);         /* NULL: SQL NULL */
void pg_param_int2(struct pg_params *, int16_t);
void pg_param_int4(struct pg_params *, int32_t);
void pg_param_int8(struct pg_params *, int64_t);
void pg_param_bool(struct pg_params *, bool);
void pg_param_bytea(struct pg_params *, const void *, size_t);
void pg_param_uuid(struct pg_params *, const struct id *);
void pg_param_time(struct pg_params *, int64_t wall_us);          /* timestamptz; INT64_MAX: NULL ("never") */

enum pg_elem { PG_INT2, PG_INT4, PG_INT8, PG_BOOL, PG_TEXT, PG_BYTEA, PG_UUID, PG_TIMESTAMPTZ };
void pg_param_array(struct pg_params *, enum pg_elem, unsigned n);
void pg_elem_null(struct pg_params *);
void pg_elem_int(struct pg_params *, enum pg_elem, int64_t);      /* INT2, INT4, INT8, BOOL */
void pg_elem_text(struct pg_params *, const char *, size_t);
void pg_elem_bytea(struct pg_params *, const void *, size_t);
void pg_elem_uuid(struct pg_params *, const struct id *);
void pg_elem_time(struct pg_params *, int64_t wall_us);           /* INT64_MAX: NULL */

typedef void pg_done(void *arg, const struct pg_result *);

/* The params may be reused or freed as soon as this returns. Never NULL: refusals come through `done` as PG_UNAVAILABLE. On behalf
 * of nobody. */
struct pg_op *pg_query(struct pg *, const struct pg_stmt *, const struct pg_params *, pg_done *done, void *arg);
/* On behalf of `who`; NULL: nobody. */
struct pg_op *pg_query_as(struct pg *, const struct pg_principal *who, const struct pg_stmt *, const struct pg_params *,
                          pg_done *done, void *arg);
/* `done` will not run; the server may still carry the statement out. NULL is fine; returns NULL. */
struct pg_op *pg_op_cancel(struct pg_op *);

/* A transaction. pg_tx_begin() queues for a connection; steps added before the first flush travel with BEGIN. `done` of a
 * step may be NULL. pg_tx_commit() ends it: steps and COMMIT not sent yet go in one round trip, and `done` tells the outcome
 * of all: PG_OK only when COMMIT's own tag came, with no notice before it. After a failed step everything later in the
 * transaction is skipped (their done get PG_ERROR with sqlstate "25P02") and commit's done gets the first error. */
struct pg_tx *pg_tx_begin(struct pg *);
/* The steps from here on are on behalf of `who`; before the first call, of nobody. No round trip of its own. */
void pg_tx_as(struct pg_tx *, const struct pg_principal *who);
void pg_tx_step(struct pg_tx *, const struct pg_stmt *, const struct pg_params *, pg_done *done, void *arg);
void pg_tx_flush(struct pg_tx *);                                 /* sends what is queued with a Sync, stays open */
void pg_tx_commit(struct pg_tx *, pg_done *done, void *arg);      /* the pointer is dead once `done` has run */
/* Drops it; no callback runs afterwards; pointer dead. Also after pg_tx_commit(), until its `done` runs: then the server may still
 * commit. */
void pg_tx_rollback(struct pg_tx *);
/* Deadline for this transaction's commit instead of query_deadline_us. */
void pg_tx_set_deadline(struct pg_tx *, int64_t us);

/* Reading a result (all columns are binary). Out of range or of another width: assert. */
unsigned pg_rows_count(const struct pg_rows *);
bool pg_null(const struct pg_rows *, unsigned row, unsigned col);
int64_t pg_int(const struct pg_rows *, unsigned row, unsigned col);     /* int2, int4, int8 */
bool pg_bool(const struct pg_rows *, unsigned row, unsigned col);
int64_t pg_time(const struct pg_rows *, unsigned row, unsigned col);    /* wall µs; NULL: INT64_MAX */
struct slice pg_text(const struct pg_rows *, unsigned row, unsigned col); /* also json text and bytea; NULL: {NULL,0} */
struct id pg_uuid(const struct pg_rows *, unsigned row, unsigned col);
/* One-dimensional arrays: how many, then element i as octets ({NULL,0}: SQL NULL). */
unsigned pg_array_count(const struct pg_rows *, unsigned row, unsigned col);
struct slice pg_array_elem(const struct pg_rows *, unsigned row, unsigned col, unsigned i);

#endif
