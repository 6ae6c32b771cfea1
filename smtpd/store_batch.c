/* One batch = one transaction: sent, judged, and sent again until its rows have their verdicts (store_private.h).
 *
 * Invariants: a batch is active exactly while its transaction is under way or its pause runs; once in_doubt it stays so, and so do
 * its halves: whatever may have been committed is only ever written again in the form that writes WAL. */
#include "common/clock.h"
#include "common/log.h"
#include "smtpd/smtpd_metrics.h"
#include "smtpd/store_private.h"
#include "smtpd_stmts.h"

#define PAUSE_MIN_US 20000
#define PAUSE_MAX_US 250000
#define KEEP_OCTETS ((size_t)4 * 1024 * 1024) /* of a spare batch's memory */

static void on_pause(void *arg);

/* ---- life ---- */

static struct store_batch *make(struct store *s) {
	struct store_batch *b = xcalloc(1, sizeof(*b));
	b->store = s;
	list_init(&b->rows);
	timer_init(&b->pause, s->loop, on_pause, b);
	pg_params_init(&b->messages);
	pg_params_init(&b->sources);
	return b;
}

struct store_batch *store_batch_new(struct store *s, bool large) {
	struct list *l = list_first(&s->spare);
	struct store_batch *b = l ? list_entry(l, struct store_batch, link) : make(s);
	list_unlink(&b->link);
	b->large = large;
	return b;
}

void store_batch_free(struct store_batch *b) {
	list_unlink(&b->link);
	timer_fini(&b->pause);
	pg_params_fini(&b->messages);
	pg_params_fini(&b->sources);
	free(b);
}

void store_batch_add(struct store_batch *b, struct store_row *row) {
	row->batch = b;
	list_append(&b->rows, &row->link);
	b->count++;
}

static void trim(struct pg_params *p) {
	if (p->data.cap > KEEP_OCTETS)
		pg_params_fini(p);
	else
		pg_params_reset(p);
}

static void activate(struct store_batch *b) {
	struct store *s = b->store;
	list_append(&s->active, &b->link);
	s->active_count++;
	s->active_large += b->large;
}

static void deactivate(struct store_batch *b) {
	struct store *s = b->store;
	list_unlink(&b->link);
	s->active_count--;
	s->active_large -= b->large;
}

/* Its rows are gone. */
static void over(struct store_batch *b) {
	struct store *s = b->store;
	deactivate(b);
	timer_disarm(&b->pause);
	trim(&b->messages);
	trim(&b->sources);
	b->count = 0;
	b->in_doubt = b->built = b->large = false;
	b->pause_us = 0;
	list_append(&s->spare, &b->link);
	store_pump_later(s);
}

void store_batch_abandon(struct store_batch *b) {
	struct list *l;
	if (b->tx)
		pg_tx_rollback(b->tx);
	b->tx = NULL;
	while ((l = list_first(&b->rows)))
		list_unlink(l);
	store_batch_free(b);
}

static void finish_rows(struct store_batch *b, enum store_verdict verdict) {
	struct list *l;
	while ((l = list_first(&b->rows)))
		store_row_finish(list_entry(l, struct store_row, link), verdict);
	over(b);
}

/* ---- what the server said ---- */

enum refusal {
	REFUSAL_DATA,  /* a row's own fault: others may pass without it */
	REFUSAL_LATER, /* the server's state: the same may pass in a moment */
	REFUSAL_FULL,  /* disk full */
};

/* SQLSTATE classes that speak of the server, not of the rows: connection, transaction state and rollback, resources,
 * object in use, operator intervention, system and internal errors. */
static enum refusal refusal_of(const char *sqlstate) {
	static const char later[][3] = {"08", "25", "40", "53", "55", "57", "58", "XX"};
	if (strcmp(sqlstate, "53100") == 0)
		return REFUSAL_FULL;
	for (unsigned i = 0; i < array_len(later); i++)
		if (strncmp(sqlstate, later[i], 2) == 0)
			return REFUSAL_LATER;
	return REFUSAL_DATA;
}

static void log_refusal(enum log_level level, const char *event, const struct store_row *row,
                        const struct pg_result *r) {
	char id[ID_TEXT_SIZE];
	struct log_line line;
	id_format(&row->recipient->id, id);
	log_begin(&line, level, event);
	log_str(&line, "id", id);
	log_str(&line, "sqlstate", r->sqlstate);
	log_str(&line, "msg", r->message);
	log_end(&line);
}

static void pause_then_again(struct store_batch *b) {
	b->pause_us = b->pause_us ? min_of(b->pause_us * 2, (int64_t)PAUSE_MAX_US) : PAUSE_MIN_US;
	timer_arm(&b->pause, b->pause_us);
}

static void put_again(struct store_batch *b) {
	struct store *s = b->store;
	list_prepend(&s->again, &b->link);
	b->built = false;
	store_pump_later(s);
}

static void split(struct store_batch *b) {
	struct store_batch *tail = store_batch_new(b->store, b->large);
	unsigned half = b->count / 2;
	tail->in_doubt = b->in_doubt;
	while (b->count > half) {
		struct list *l = b->rows.prev;
		struct store_row *row = list_entry(l, struct store_row, link);
		list_unlink(l);
		b->count--;
		row->batch = tail;
		list_prepend(&tail->rows, l);
		tail->count++;
	}
	deactivate(b);
	put_again(tail);
	put_again(b);
}

/* A message that stands alone: its parsed fields are our reading of it and can be left out; its source is what must be kept. */
static void isolate(struct store_batch *b, const struct pg_result *r) {
	struct store_row *row = list_entry(list_first(&b->rows), struct store_row, link);
	if (row->op->dead) {
		finish_rows(b, STORE_UNAVAILABLE);
	} else if (row->source_only) {
		log_refusal(LOG_LEVEL_ERROR, "message refused by the database", row, r);
		finish_rows(b, STORE_UNAVAILABLE);
	} else {
		log_refusal(LOG_LEVEL_WARNING, "message fields refused by the database, storing its source only", row, r);
		row->source_only = true;
		deactivate(b);
		put_again(b);
	}
}

static int64_t last_deadline(const struct store_batch *b) {
	int64_t at = 0;
	list_for_each (l, &b->rows)
		at = max_of(at, list_entry(l, struct store_row, link)->op->started);
	return at + b->store->options.deadline_us;
}

/* Once more would end here before it ends there: given up in a lock's queue, the transaction may still be carried out after we have said
 * 451. */
static bool too_late_for_locks(const struct store_batch *b, const char *sqlstate) {
	return strcmp(sqlstate, "55P03") == 0 && !b->large && last_deadline(b) - clock_mono_us() < pg_lock_timeout_us(b->store->pg);
}

static void on_refused(struct store_batch *b, const struct pg_result *r) {
	switch (refusal_of(r->sqlstate)) {
	case REFUSAL_DATA:
		if (b->count > 1)
			split(b);
		else
			isolate(b, r);
		break;
	case REFUSAL_LATER:
		if (too_late_for_locks(b, r->sqlstate))
			finish_rows(b, STORE_UNAVAILABLE);
		else
			pause_then_again(b);
		break;
	case REFUSAL_FULL:
		log_msg(LOG_LEVEL_ERROR, "database full", "%s", r->message);
		finish_rows(b, STORE_FULL);
		break;
	}
}

static void count_committed(const struct store_batch *b) {
	struct metrics *m = b->store->options.metrics;
	if (!m)
		return;
	metrics_observe_us(m, SMTPD_COMMIT_TIME, clock_mono_us_now() - b->sent_us);
	metrics_observe(m, SMTPD_BATCH_ROWS, b->count);
}

static void on_commit(void *arg, const struct pg_result *r) {
	struct store_batch *b = arg;
	b->tx = NULL;
	switch (r->status) {
	case PG_OK:
		count_committed(b);
		if (b->large)
			b->store->progress_at = clock_mono_us();
		finish_rows(b, STORE_COMMITTED);
		break;
	case PG_ERROR:
		on_refused(b, r);
		break;
	case PG_UNAVAILABLE:
		pause_then_again(b);
		break;
	case PG_IN_DOUBT:
		log_msg(LOG_LEVEL_WARNING, "commit in doubt", "%u messages, sending them again", b->count);
		b->in_doubt = true;
		pause_then_again(b);
		break;
	}
}

/* ---- sending ---- */

/* Rows whose request has its answer already are not sent again. */
static void drop_dead_rows(struct store_batch *b) {
	list_for_each_safe (l, &b->rows) {
		struct store_row *row = list_entry(l, struct store_row, link);
		if (!row->op->dead && row->op->verdict == STORE_COMMITTED)
			continue;
		store_row_finish(row, STORE_UNAVAILABLE);
		b->count--;
		b->built = false;
	}
}

void store_batch_unreadable(struct store_op *op, int error) {
	struct log_line line;
	log_begin(&line, LOG_LEVEL_ERROR, "spool unreadable");
	log_errno(&line, error);
	log_end(&line);
	op->verdict = STORE_UNAVAILABLE;
}

static bool build(struct store_batch *b) {
	struct store_op *bad;
	int r;
	for (drop_dead_rows(b); b->count && !b->built; drop_dead_rows(b)) {
		r = store_build(b, &bad);
		if (r < 0) {
			store_batch_unreadable(bad, r);
			continue;
		}
		b->built = true;
	}
	return b->count > 0;
}

static void send_sources(struct store_batch *b) {
	if (b->chunks)
		pg_tx_step(b->tx, b->in_doubt ? &STMT_MESSAGE_SOURCE_INSERT_AGAIN : &STMT_MESSAGE_SOURCE_INSERT, &b->sources,
		           NULL, NULL);
	store_batch_commit(b);
}

/* The rows of `messages` go first: what the server may refuse is in them, and 100 MB of source need not be there to learn it. */
static void send(struct store_batch *b) {
	struct store *s = b->store;
	if (!build(b)) {
		over(b);
		return;
	}
	b->sent_us = clock_mono_us_now();
	list_for_each (l, &b->rows)
		store_op_sent(list_entry(l, struct store_row, link)->op);
	b->tx = pg_tx_begin(s->pg);
	/* Requests in it are answered at their own deadlines; the connection is given up at the last of them. A large one's has
	 * so long for each chunk. */
	pg_tx_set_deadline(b->tx, b->large ? s->options.deadline_us : max_of(last_deadline(b) - clock_mono_us(), (int64_t)1));
	pg_tx_step(b->tx, b->in_doubt ? &STMT_MESSAGES_INSERT_AGAIN : &STMT_MESSAGES_INSERT, &b->messages, NULL, NULL);
	if (b->large)
		store_large_send(b);
	else
		send_sources(b);
}

void store_batch_commit(struct store_batch *b) {
	b->ending = true;
	pg_tx_commit(b->tx, on_commit, b);
}

void store_batch_send(struct store_batch *b) {
	activate(b);
	send(b);
}

void store_batch_stop(struct store_batch *b) {
	if (!b->tx || b->ending)
		return;
	pg_tx_rollback(b->tx);
	b->tx = NULL;
	finish_rows(b, STORE_UNAVAILABLE);
}

static void on_pause(void *arg) {
	send(arg);
}
