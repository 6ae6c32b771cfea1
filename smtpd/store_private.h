/* Private to store*.c: a request's rows, and the batches they travel in.
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
	struct list link;          /* store->ops, by deadline */
	struct list due;           /* store->due: `done` owed on a later turn */
	struct store *store;
	struct store_request request;
	store_done *done;
	void *arg;
	int64_t deadline;          /* monotonic */
	size_t octets;             /* of one row */
	uint8_t digest[SHA256_LEN];
	enum store_verdict verdict;
	bool dead;
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
	struct list ops;           /* all, oldest first */
	unsigned op_count;
	struct list waiting;       /* rows */
	struct list active;        /* batches being sent or pausing */
	unsigned active_count;
	struct list again;         /* halves, to be sent before what waits */
	struct list spare;         /* batches for reuse, with their memory */
	struct list due;
	struct deferred pump, deliver;
	struct timer timer;        /* deadline of the oldest operation, looked at lazily */
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

/* store_batch.c */
struct store_batch *store_batch_new(struct store *);             /* empty, in no list */
void store_batch_free(struct store_batch *);                     /* its rows must be gone */
void store_batch_add(struct store_batch *, struct store_row *);
void store_batch_send(struct store_batch *);                     /* makes it active */
void store_batch_abandon(struct store_batch *);                  /* stops it; the server may still commit */

/* store_rows.c */
/* 0, or -errno with *ret_bad the request whose source cannot be read. */
int store_build(struct store_batch *, struct store_op **ret_bad);

#endif
