/* The source of a large request, streamed into its transaction: a chunk is read from the spool, compressed and sent when the one
 * before the last has been answered. So there are two chunks of it in memory, the loop has at most two to make in a turn, and
 * every answer is progress of which deadlines take note. A retry reads the spool again.
 *
 *   store_large_send() -> chunk, chunk -answer-> chunk -answer-> ... -last sent-> COMMIT;  refused, or lost: COMMIT at once, whose
 *   outcome is the transaction's */
#include "common/clock.h"
#include "smtpd/store_private.h"
#include "smtpd_stmts.h"

#define WINDOW 2 /* chunks sent and not answered: the server has one while we make the next */

static struct store_op *op_of(const struct store_batch *b) {
	return list_entry(b->rows.next, struct store_row, link)->op;
}

static void on_chunk(void *arg, const struct pg_result *r);

/* The transaction may end in here. */
static void send_chunk(struct store_batch *b) {
	struct store_op *op = op_of(b);
	int r = store_build_chunk(b, b->chunk);
	if (r < 0) {
		store_batch_unreadable(op, r);
		store_batch_stop(b);
		return;
	}
	b->chunk++;
	pg_tx_step(b->tx, b->in_doubt ? &STMT_MESSAGE_SOURCE_CHUNK_INSERT_AGAIN : &STMT_MESSAGE_SOURCE_CHUNK_INSERT, &b->sources,
	           on_chunk, b);
	if (b->chunk == store_chunk_count(op))
		store_batch_commit(b);
	else
		pg_tx_flush(b->tx);
}

static void on_chunk(void *arg, const struct pg_result *r) {
	struct store_batch *b = arg;
	if (r->status == PG_OK)
		b->store->progress_at = clock_mono_us();
	if (b->ending)
		return;
	if (r->status == PG_OK)
		send_chunk(b);
	else
		store_batch_commit(b);
}

void store_large_send(struct store_batch *b) {
	b->ending = false;
	b->chunk = 0;
	for (unsigned i = 0; i < WINDOW && b->tx && !b->ending; i++)
		send_chunk(b);
}
