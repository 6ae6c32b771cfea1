/* Private to store*.c: a request's rows, and the batches they travel in.
 *
 * A request whose source is longer than a batch may be is `large`: its rows have batches of their own, and such a batch is a
 * transaction that the source is streamed into (store_large.c). All others are sent whole, in one round trip.
 *
 *  row:    waiting -gather-> in a batch -verdict-> gone;  a request is answered when its last row is gone, or at its deadline
 *  batch:  SENDING -committed-> over
 *          SENDING -in doubt, or the database away-> PAUSING -timer-> SENDING
 *          SENDING -refused for its data-> two halves in `again`;  a row alone: source only, then given up
 *
 * A request that was cancelled or answered early is `dead`: what it borrowed to us is not touched any more, though its rows may
 * still be under way. */
#ifndef MINUTEMAIL_STORE_PRIVATE_H
#define MINUTEMAIL_STORE_PRIVATE_H

#include "common/loop.h"
#include "common/mail_row.h"
#include "common/pg.h"
#include "smtpd/store.h"

struct store_batch;
struct store_piece;

struct store_row {
	struct list link;          /* store->waiting or batch->rows; unlinked: gone */
	struct store_op *op;
	const struct store_recipient *recipient;
	struct store_batch *batch; /* NULL while it waits */
	bool source_only;          /* its parsed fields are left out: the server refused them */
};

struct store_op {
	struct list link;          /* store->ops, oldest first, or store->large_ops */
	struct list due;           /* store->due: `done` owed on a later turn */
	struct store *store;
	struct store_request request;
	store_done *done;
	void *arg;
	int64_t started;           /* monotonic */
	bool large;
	size_t octets;             /* of one row */
	uint8_t digest[SHA256_LEN];
	enum store_verdict verdict;
	bool dead;
	bool sent;                 /* a row of it has been under way */
	unsigned rows_left;
	struct store_row rows[];
};

struct store_batch {
	struct list link;          /* store->active, ->again or ->spare */
	struct store *store;
	struct list rows;
	unsigned count;
	bool in_doubt;             /* a COMMIT's outcome is unknown: only the retry form from now on */
	bool built;                /* the parameters are those of `rows` */
	bool large;                /* all rows are of one large request */
	int64_t sent_us;           /* monotonic: when its transaction was begun, the last time */
	bool ending;               /* large: COMMIT is asked for, no further chunk goes out */
	unsigned chunk;            /* large: the next one to send */
	struct pg_tx *tx;          /* SENDING */
	struct timer pause;
	int64_t pause_us;          /* the last one; 0: none yet */
	struct pg_params messages, sources;
	unsigned chunks;           /* rows of message_source */
};

struct store {
	struct loop *loop;
	struct pg *pg;
	struct store_options options;
	struct list ops, large_ops;
	unsigned op_count, unsent_count;
	struct list waiting, waiting_large; /* rows */
	struct list active;        /* batches being sent or pausing */
	unsigned active_count, active_large;
	int64_t progress_at;       /* the database last took a piece of something large, monotonic */
	struct list again;         /* halves, to be sent before what waits */
	struct list spare;         /* batches for reuse, with their memory */
	struct list due;
	struct deferred pump, deliver;
	struct timer timer;        /* the next deadline, looked at lazily */
	int64_t timer_at;
	struct mail_zstd *zstd;
	char *chunk;               /* one chunk of a source that is in a file */
	struct buf scratch;        /* one value under construction */
	struct store_piece *pieces; /* of the batch being built */
	unsigned pieces_cap;
};

/* store.c */
void store_row_finish(struct store_row *, enum store_verdict);   /* takes it out of its batch */
void store_pump_later(struct store *);
void store_op_sent(struct store_op *);                           /* a row of it goes out, perhaps again */

/* store_batch.c */
struct store_batch *store_batch_new(struct store *, bool large); /* empty, in no list */
void store_batch_free(struct store_batch *);                     /* its rows must be gone */
void store_batch_add(struct store_batch *, struct store_row *);
void store_batch_send(struct store_batch *);                     /* makes it active */
void store_batch_abandon(struct store_batch *);                  /* stops it; the server may still commit */
void store_batch_commit(struct store_batch *);                   /* what its transaction has is all */
/* Its request has its answer: the transaction, if it has not come to its COMMIT, is rolled back. */
void store_batch_stop(struct store_batch *);
void store_batch_unreadable(struct store_op *, int error);       /* its source cannot be read: logged, given up */

/* store_large.c */
void store_large_send(struct store_batch *);                     /* the transaction is begun and has the rows of `messages` */

/* store_rows.c */
/* 0, or -errno with *ret_bad the request whose source cannot be read. A large batch's chunks are left out. */
int store_build(struct store_batch *, struct store_op **ret_bad);
unsigned store_chunk_count(const struct store_op *);
/* The parameters of one chunk for all rows of a large batch, in b->sources. -errno: unreadable. */
int store_build_chunk(struct store_batch *, unsigned chunk);

#endif
