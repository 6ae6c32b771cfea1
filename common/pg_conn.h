/* Private to pg_*.c: what the pool and one connection share. Callers see pg.h.
 *
 *  DOWN -timer-> CONNECTING -PQconnectPoll-> PREPARING -checks, statements, greeting answered-> READY
 *  any -> DOWN by pg_conn_die(): libpq's handle is gone, everything sent has got its outcome.
 *
 * `sent` holds what the server owes an answer, in its order. An operation with `sync` set is followed by a Sync and completes
 * only when the Sync is answered, because that is when the server commits what runs outside an explicit transaction.
 *
 * No function here but pg_conn's event callbacks and pg->deliver runs a caller's callback. */
#ifndef MINUTEMAIL_PG_CONN_H
#define MINUTEMAIL_PG_CONN_H

#include "common/list.h"
#include "common/loop.h"
#include "common/pg.h"
#include "common/pg_hosts.h"

#include <libpq-fe.h>

struct event;
struct pg_conn;

#define PG_PARAMS_CEILING ((size_t)256 * 1024 * 1024) /* octets of one statement's parameters */
#define PG_BACKOFF_MIN_US 50000

struct pg_rows {
	const PGresult *res;
};

enum pg_op_kind {
	PG_OP_QUERY,
	PG_OP_BEGIN,
	PG_OP_STEP,
	PG_OP_COMMIT,
	PG_OP_ROLLBACK,     /* nobody waits for it */
	PG_OP_PRINCIPAL,    /* says on whose behalf what follows it is; nobody waits for it */
	PG_OP_SYNC,         /* a Sync whose commands have all been answered before it was sent */
	PG_OP_CHECK_SERVER, /* the rest: bringing a connection up */
	PG_OP_CHECK_SCHEMA,
	PG_OP_CHECK_ROLE,
	PG_OP_PREPARE,
	PG_OP_GREETING,
};

struct pg_op {
	struct list link; /* pg->queries, tx->steps, conn->sent or pg->refused */
	struct pg *pg;
	struct pg_tx *tx; /* BEGIN, STEP, COMMIT; NULL once the transaction has let go of it */
	enum pg_op_kind kind;
	bool sync;     /* a Sync follows */
	bool answered; /* its results are complete; only the Sync is owed */
	bool noticed;  /* a warning came while it, or its Sync, was at the head */
	bool unsent;   /* in `sent`, but the connection was already broken */
	bool waiting;  /* in pg->queries */
	bool again;    /* another of its group can make the server skip it: then it is sent again */
	bool alone;    /* in a group of its own, since it was skipped once */
	const struct pg_stmt *stmt;
	struct pg_principal who; /* QUERY, PRINCIPAL */
	pg_done *done; /* NULL: cancelled, or nobody asked */
	void *arg;
	int64_t deadline;         /* monotonic */
	PGresult *res;            /* arrived, but not the end of the command, or not the Sync */
	struct pg_params *params; /* a copy, while it waits for a connection or may have to be sent again */
	enum pg_status status;    /* in pg->refused, as is sqlstate */
	char sqlstate[6];
};

struct pg_tx {
	struct list link; /* pg->txs while it waits */
	struct list all;  /* pg->all_txs */
	struct pg *pg;
	struct pg_conn *conn;  /* NULL: waiting, or over */
	struct list steps;     /* while it waits */
	struct pg_op *commit;  /* once asked for */
	int64_t deadline_us;   /* of each round trip, and of the wait for a connection */
	int64_t wait_deadline; /* monotonic */
	bool begun;            /* BEGIN is sent */
	bool failed;           /* `status`, `sqlstate` and `message` are what commit's done gets */
	enum pg_status status;
	char sqlstate[6];
	char *message; /* the server's, of the first error; or NULL */
};

enum pg_conn_state { PG_CONN_DOWN, PG_CONN_CONNECTING, PG_CONN_PREPARING, PG_CONN_READY };

struct pg_conn {
	struct pg *pg;
	enum pg_conn_state state;
	PGconn *pq; /* NULL when DOWN */
	struct event *ev_read, *ev_write;
	uint32_t timeline;  /* of its server, once that was asked */
	bool broken;        /* the link is lost; answers already here are still taken, then it dies */
	struct timer timer; /* DOWN: back-off; CONNECTING, PREPARING: connect deadline; READY: oldest operation's */
	int64_t timer_at;   /* READY: when it fires, monotonic; 0: unarmed */
	struct deferred flush;
	struct deferred lost; /* dies on a later turn, when the loss shows inside a caller's call */
	int64_t backoff_us;
	unsigned patience; /* the next attempt's deadline, in connect deadlines */
	struct list sent;
	unsigned in_flight; /* elements of `sent` */
	bool unsynced;      /* something was sent after the last Sync */
	unsigned grouped;   /* queries since then */
	unsigned groups;    /* Syncs that are not answered */
	bool held;          /* the group waits for the answer to another */
	struct pg_principal who; /* of queries sent after the last Sync: nobody, until one says */
	struct deferred group; /* sends the Sync that the queries of this turn share */
	unsigned blanks;    /* results in a row that meant nothing: out of step if they go on */
	struct pg_tx *tx;   /* the transaction that owns it */
	bool reserved;      /* takes no more queries: a transaction waits for it to drain */
	bool settling;      /* likewise: a transaction without an owner is being ended on it */
};

struct pg {
	struct loop *loop;
	struct pg_options options;
	char *conninfo, *application_name;
	struct pg_hosts hosts;
	struct pg_conn *conns;
	unsigned up;  /* READY */
	unsigned long connects;
	bool failing, other_schema; /* none is up and the last attempt failed: refuse at once */
	bool closed;
	_Atomic uint32_t own_timeline, *timeline; /* the highest seen */
	struct list queries; /* waiting, oldest first */
	struct list txs;     /* waiting, oldest first */
	struct list all_txs;
	unsigned waiting_queries, waiting_txs;
	struct timer wait_timer; /* deadlines of what waits */
	int64_t wait_at;         /* when it fires, monotonic; 0: unarmed */
	struct list refused;     /* outcome known, `done` owed on a later turn */
	struct deferred deliver;
	struct list free_ops;
	unsigned free_count;
	char reason[256]; /* why not up */
	char logged_reason[256];
	const char *const *greeting;
	struct deferred state_changed;
	void (*on_state)(void *arg, bool up);
	void *on_state_arg;
	void (*on_notify)(void *arg, const char *channel, const char *payload);
	void *on_notify_arg;
};

/* pg_op.c */
struct pg_op *pg_op_new(struct pg *, enum pg_op_kind, const struct pg_stmt *, pg_done *, void *arg);
void pg_op_free(struct pg_op *); /* unlinks; clears its result and copy */
void pg_op_keep_params(struct pg_op *, const struct pg_params *);
void pg_op_drop_params(struct pg_op *);
/* The outcome is known without the server: `done` runs on a later turn. Takes the operation over. */
void pg_op_refuse(struct pg_op *, enum pg_status, const char *sqlstate);
/* The last word on a query: runs `done`, frees it. */
void pg_op_complete(struct pg_op *);
void pg_op_call(struct pg_op *, enum pg_status, const char *sqlstate, const char *message, const PGresult *);
/* How op->res is to be understood; PG_IN_DOUBT also when libpq or a dying server made the error. */
enum pg_status pg_op_status(const struct pg_op *, char ret_sqlstate[6]);

/* pg_tx.c */
void pg_tx_assign(struct pg_tx *, struct pg_conn *); /* sends what is queued */
/* It waits, and will not get a connection: all its operations are refused. */
void pg_tx_refuse(struct pg_tx *);
/* An answer to one of its operations, which it takes over. */
void pg_tx_answer(struct pg_tx *, struct pg_op *);
/* Its connection died; `sent` has operations of its own only. */
void pg_tx_lost(struct pg_tx *, struct list *sent);
void pg_tx_free(struct pg_tx *);

/* pg_conn.c */
void pg_conn_init(struct pg_conn *, struct pg *);
void pg_conn_fini(struct pg_conn *);
/* Appends to `sent` whatever happens; a connection that turns out to be lost dies on a later turn. `params` NULL: none. */
void pg_conn_send(struct pg_conn *, struct pg_op *, const struct pg_params *);
/* A query on behalf of op->who, likewise, which is said before it unless the one before it has said so already. It ends its group, or,
 * if it only reads, the turn does. */
void pg_conn_query(struct pg_conn *, struct pg_op *, const struct pg_params *);
void pg_conn_sent(struct pg_conn *, struct pg_op *, bool ok); /* bookkeeping of the above, for setup */
void pg_conn_sync(struct pg_conn *);                          /* ends the group sent so far, if there is one */
void pg_conn_rollback(struct pg_conn *);
void pg_conn_die(struct pg_conn *, const char *reason);
/* Likewise, and the next attempt begins with another host. */
void pg_conn_give_up(struct pg_conn *, const char *reason);
/* READY and not known to be lost. One whose server is of a timeline that is over is lost with this look. */
bool pg_conn_usable(struct pg_conn *);
bool pg_conn_idle(struct pg_conn *); /* usable, owned by nobody, nothing in flight */

/* pg_setup.c */
extern const struct pg_stmt PG_BEGIN, PG_COMMIT, PG_ROLLBACK, PG_PRINCIPAL;
void pg_setup_start(struct pg_conn *); /* CONNECTING -> PREPARING: sends checks and statements */
/* An answer while PREPARING. Takes the operation over; the connection may die of it. */
void pg_setup_answer(struct pg_conn *, struct pg_op *);

/* pg_pool.c */
void pg_pump(struct pg *); /* gives what waits to who is free */
void pg_ask_again(struct pg_op *); /* the server has skipped it: it waits once more, ahead of the others */
bool pg_queue_full(const struct pg *);
void pg_watch_waiting(struct pg *, int64_t deadline); /* something waits until then */
void pg_came_up(struct pg_conn *);
void pg_went_down(struct pg *, bool was_up, const char *reason);

#endif
