/* Finished messages -> committed rows: requests, their deadlines and what waits. Batches are store_batch.c, the rows themselves
 * store_rows.c; the states are drawn in store_private.h.
 *
 * Invariants: `ops` is in order of deadline, since all have the same term; a request is freed when it is dead and has no row
 * left; at most options.connections batches are active, and at most one less are large, if that is not none. */
#include "common/clock.h"
#include "smtpd/smtpd_metrics.h"
#include "smtpd/store_private.h"

#define OPS_MAX 4096 /* requests held at once; more are refused, the senders' queues are longer */
#define LARGE_ROWS 16 /* recipients that share a large transaction: a chunk's statement stays short enough to be progress */

static_assert(STORE_CHUNK == MAIL_CHUNK && STORE_NEVER_HOUR == MAIL_NEVER_HOUR, "one cut of sources for both daemons");

static void pump(void *arg);
static void deliver(void *arg);
static void on_deadline(void *arg);

int32_t store_expiry_hour(int64_t expires_at) {
	return mail_expiry_hour(expires_at);
}

struct store *store_new(struct loop *loop, struct pg *pg, const struct store_options *options) {
	struct store *s = xcalloc(1, sizeof(*s));
	s->loop = loop;
	s->pg = pg;
	s->options = *options;
	s->options.connections = min_of(max_of(options->connections, 1U), 4U);
	s->options.batch_messages = max_of(options->batch_messages, 1U);
	list_init(&s->ops);
	list_init(&s->large_ops);
	list_init(&s->waiting);
	list_init(&s->waiting_large);
	list_init(&s->active);
	list_init(&s->again);
	list_init(&s->spare);
	list_init(&s->due);
	timer_init(&s->timer, loop, on_deadline, s);
	s->zstd = mail_zstd_new();
	buf_init(&s->scratch, (size_t)64 * 1024 * 1024);
	return s;
}

static void count_unsent(struct store *s, int n) {
	s->unsent_count += (unsigned)n;
	if (s->options.metrics)
		metrics_set(s->options.metrics, SMTPD_STORE_QUEUE, s->unsent_count);
}

void store_op_sent(struct store_op *op) {
	struct metrics *m = op->store->options.metrics;
	if (op->sent)
		return;
	op->sent = true;
	count_unsent(op->store, -1);
	if (m)
		metrics_observe_us(m, SMTPD_STORE_WAIT_TIME, clock_mono_us_now() - op->started);
}

static void op_free(struct store_op *op) {
	if (!op->sent)
		count_unsent(op->store, -1);
	list_unlink(&op->link);
	list_unlink(&op->due);
	op->store->op_count--;
	free(op);
}

static void bury(void *s) {
	free(s);
}

static void free_ops(struct list *ops) {
	struct list *l;
	while ((l = list_first(ops)))
		op_free(list_entry(l, struct store_op, link));
}

struct store *store_free(struct store *s) {
	struct list *l;
	if (!s)
		return NULL;
	while ((l = list_first(&s->active)))
		store_batch_abandon(list_entry(l, struct store_batch, link));
	while ((l = list_first(&s->again)))
		store_batch_abandon(list_entry(l, struct store_batch, link));
	free_ops(&s->ops);
	free_ops(&s->large_ops);
	while ((l = list_first(&s->spare))) {
		list_unlink(l);
		store_batch_free(list_entry(l, struct store_batch, link));
	}
	deferred_cancel(&s->pump);
	deferred_cancel(&s->deliver);
	timer_fini(&s->timer);
	mail_zstd_free(s->zstd);
	buf_fini(&s->scratch);
	free(s->pieces);
	free(s->chunk);
	loop_bury(s->loop, s, bury); /* a `done` of ours may be on the stack */
	return NULL;
}

bool store_idle(const struct store *s) {
	return list_empty(&s->ops) && list_empty(&s->large_ops);
}

/* ---- answers ---- */

/* Outcomes are told from a job of the loop, so that `done` may start, cancel and free whatever it likes. */
static void op_due(struct store_op *op) {
	if (op->dead || list_linked(&op->due))
		return;
	list_append(&op->store->due, &op->due);
	loop_defer(op->store->loop, &op->store->deliver, deliver, op->store);
}

static void deliver(void *arg) {
	struct store *s = arg;
	struct list *l;
	/* store_free() inside `done` empties the list; the memory lasts until the turn ends. */
	while ((l = list_first(&s->due))) {
		struct store_op *op = list_entry(l, struct store_op, due);
		store_done *done = op->done;
		void *done_arg = op->arg;
		enum store_verdict verdict = op->verdict;
		list_unlink(l);
		op->dead = true;
		if (op->rows_left == 0)
			op_free(op);
		done(done_arg, verdict);
	}
}

void store_row_finish(struct store_row *row, enum store_verdict verdict) {
	struct store_op *op = row->op;
	list_unlink(&row->link);
	row->batch = NULL;
	op->rows_left--;
	if (op->verdict == STORE_COMMITTED)
		op->verdict = verdict;
	if (op->rows_left > 0)
		return;
	if (op->dead)
		op_free(op);
	else
		op_due(op);
}

/* The answer is known or not wanted: rows that no batch has taken yet are not needed any more, and what is being streamed is not
 * either. May free the request if it is dead. */
static void let_go(struct store_op *op) {
	op->rows_left++; /* keeps it */
	for (unsigned i = 0; i < op->request.recipient_count; i++) {
		struct store_row *row = &op->rows[i];
		if (!list_linked(&row->link))
			continue;
		if (row->batch) {
			if (op->large)
				store_batch_stop(row->batch);
			continue;
		}
		list_unlink(&row->link);
		op->rows_left--;
	}
	op->rows_left--;
	if (op->dead && op->rows_left == 0)
		op_free(op);
}

struct store_op *store_cancel(struct store_op *op) {
	if (!op)
		return NULL;
	op->dead = true;
	list_unlink(&op->due);
	let_go(op);
	return NULL;
}

/* ---- deadlines ---- */

static int64_t deadline_of(const struct store_op *op) {
	const struct store *s = op->store;
	int64_t from = op->started;
	if (op->large) /* while it waits for its turn, the progress of those before it is its own */
		from = max_of(from, min_of(s->progress_at, from + STORE_TERM_MAX_US - s->options.deadline_us));
	return from + s->options.deadline_us;
}

static void watch(struct store *s, int64_t deadline) {
	if (s->timer_at && s->timer_at <= deadline)
		return;
	s->timer_at = deadline;
	timer_arm(&s->timer, max_of(deadline - clock_mono_us(), (int64_t)0));
}

/* Answers it if it is due. Returns whether it was; what has its answer already is. */
static bool expire(struct store_op *op, int64_t now) {
	if (deadline_of(op) > now)
		return false;
	if (op->dead || list_linked(&op->due))
		return true;
	op->verdict = STORE_UNAVAILABLE;
	op_due(op);
	let_go(op);
	return true;
}

static void on_deadline(void *arg) {
	struct store *s = arg;
	int64_t now = clock_mono_us();
	s->timer_at = 0;
	list_for_each_safe (l, &s->ops) {
		struct store_op *op = list_entry(l, struct store_op, link);
		if (!expire(op, now)) {
			watch(s, deadline_of(op));
			break;
		}
	}
	list_for_each_safe (l, &s->large_ops) {
		struct store_op *op = list_entry(l, struct store_op, link);
		if (!expire(op, now))
			watch(s, deadline_of(op));
	}
}

/* ---- requests ---- */

/* Of what a row adds to a batch. */
static size_t row_octets(const struct store_op *op) {
	const struct message *m = op->request.message;
	size_t source = op->large ? 0 : (size_t)spool_size(op->request.spool);
	return source + (m->body_text ? strlen(m->body_text) : 0) + (m->body_html ? strlen(m->body_html) : 0);
}

struct store_op *store_start(struct store *s, const struct store_request *request, store_done *done, void *arg) {
	unsigned n = request->recipient_count;
	struct store_op *op = xcalloc(1, sizeof(*op) + n * sizeof(op->rows[0]));
	op->store = s;
	op->request = *request;
	op->done = done;
	op->arg = arg;
	op->started = clock_mono_us();
	op->large = spool_size(request->spool) > s->options.batch_octets;
	list_append(op->large ? &s->large_ops : &s->ops, &op->link);
	count_unsent(s, 1);
	if (s->op_count++ >= OPS_MAX) {
		op->verdict = STORE_UNAVAILABLE;
		op_due(op);
		return op;
	}
	op->octets = row_octets(op);
	spool_digest(request->spool, op->digest);
	op->rows_left = n;
	for (unsigned i = 0; i < n; i++) {
		op->rows[i].op = op;
		op->rows[i].recipient = &request->recipients[i];
		list_append(op->large ? &s->waiting_large : &s->waiting, &op->rows[i].link);
	}
	if (n == 0)
		op_due(op);
	watch(s, deadline_of(op));
	store_pump_later(s);
	return op;
}

/* ---- batches ---- */

/* At the end of the turn, so that the messages finished in one turn share a batch. */
void store_pump_later(struct store *s) {
	loop_defer(s->loop, &s->pump, pump, s);
}

/* A large batch is made of one request's rows; of its parsed text, which travels whole, there is no more than in any batch. */
static bool fits(const struct store_batch *b, size_t octets, const struct store_row *row) {
	const struct store_options *o = &b->store->options;
	if (b->count == 0)
		return true;
	if (b->large && (row->op != list_entry(b->rows.next, struct store_row, link)->op || b->count == LARGE_ROWS))
		return false;
	return b->count < o->batch_messages && octets + row->op->octets <= o->batch_octets;
}

static struct store_batch *gather(struct store *s, bool large) {
	struct list *waiting = large ? &s->waiting_large : &s->waiting;
	struct store_batch *b = NULL;
	struct list *l;
	size_t octets = 0;
	while ((l = list_first(waiting))) {
		struct store_row *row = list_entry(l, struct store_row, link);
		if (row->op->verdict != STORE_COMMITTED) {
			store_row_finish(row, row->op->verdict); /* another recipient's row has failed */
			continue;
		}
		if (!b)
			b = store_batch_new(s, large);
		if (!fits(b, octets, row))
			break;
		octets += row->op->octets;
		list_unlink(l);
		store_batch_add(b, row);
	}
	return b;
}

static struct store_batch *next_batch(struct store *s) {
	bool large_too = s->active_large < max_of(s->options.connections - 1, 1U);
	struct store_batch *b = NULL;
	list_for_each_safe (l, &s->again) {
		struct store_batch *again = list_entry(l, struct store_batch, link);
		if (again->large && !large_too)
			continue;
		list_unlink(l);
		return again;
	}
	if (large_too)
		b = gather(s, true);
	return b ? b : gather(s, false);
}

static void pump(void *arg) {
	struct store *s = arg;
	struct store_batch *b;
	while (s->active_count < s->options.connections && (b = next_batch(s)))
		store_batch_send(b);
}
