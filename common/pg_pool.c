/* The connections of one node, and what waits for them. A query goes to the connection with the fewest in flight; a
 * transaction needs one to itself.
 *
 * Who waits for whom: transactions own or reserve all connections but one (all, if there is one, or in a pool of transactions
 * only), so queries always move; a transaction that waits reserves a connection, which takes no more queries until it has drained,
 * so constant queries do not starve transactions; and when a connection comes free, waiting queries go first, so with a single
 * connection the two take turns.
 *
 * Invariants: waiting_queries and waiting_txs count the two lists; pg_pump() runs whenever a connection may have come free. */
#include "common/clock.h"
#include "common/log.h"
#include "common/pg_conn.h"

#include <stdio.h>

#define DEPTH_DEFAULT 64
#define QUEUE_DEFAULT 1024

static void on_wait_timer(void *arg);

_Atomic uint32_t *pg_timeline_new(void) {
	return xshared(sizeof(_Atomic uint32_t));
}

static void copy_options(struct pg *pg, const struct pg_options *o) {
	pg->options = *o;
	pg->conninfo = xstrdup(o->conninfo);
	pg->application_name = o->application_name ? xstrdup(o->application_name) : NULL;
	pg->options.connections = max_of(o->connections, 1U);
	pg->timeline = o->timeline ? o->timeline : &pg->own_timeline;
	pg_hosts_init(&pg->hosts, pg->conninfo);
	pg->options.depth = o->depth ? o->depth : DEPTH_DEFAULT;
	pg->options.queue = o->queue ? o->queue : QUEUE_DEFAULT;
}

struct pg *pg_new(struct loop *loop, const struct pg_options *options) {
	struct pg *pg = xcalloc(1, sizeof(*pg));
	pg->loop = loop;
	copy_options(pg, options);
	list_init(&pg->queries);
	list_init(&pg->txs);
	list_init(&pg->all_txs);
	list_init(&pg->refused);
	list_init(&pg->free_ops);
	timer_init(&pg->wait_timer, loop, on_wait_timer, pg);
	snprintf(pg->reason, sizeof(pg->reason), "not connected yet");
	pg->conns = xcalloc(pg->options.connections, sizeof(*pg->conns));
	for (unsigned i = 0; i < pg->options.connections; i++) {
		pg_conn_init(&pg->conns[i], pg);
		/* On the next turn, so that pg_set_greeting() can still be called. */
		timer_arm(&pg->conns[i].timer, 0);
	}
	return pg;
}

static void free_ops(struct list *ops) {
	struct list *l;
	while ((l = list_first(ops)))
		pg_op_free(list_entry(l, struct pg_op, link));
}

static void bury(void *arg) {
	struct pg *pg = arg;
	free(pg->conns);
	pg_hosts_fini(&pg->hosts);
	free(pg->conninfo);
	free(pg->application_name);
	free(pg);
}

struct pg *pg_free(struct pg *pg) {
	struct list *l;
	if (!pg)
		return NULL;
	pg->closed = true;
	for (unsigned i = 0; i < pg->options.connections; i++)
		pg_conn_fini(&pg->conns[i]);
	pg->up = 0;
	free_ops(&pg->queries);
	free_ops(&pg->refused);
	while ((l = list_first(&pg->free_ops))) {
		list_unlink(l);
		free(list_entry(l, struct pg_op, link));
	}
	while ((l = list_first(&pg->all_txs)))
		pg_tx_free(list_entry(l, struct pg_tx, all));
	timer_fini(&pg->wait_timer);
	deferred_cancel(&pg->deliver);
	deferred_cancel(&pg->state_changed);
	loop_bury(pg->loop, pg, bury);
	return NULL;
}

/* ---- state ---- */

bool pg_up(const struct pg *pg) {
	return pg->up > 0;
}

const char *pg_down_reason(const struct pg *pg) {
	return pg->up > 0 ? "" : pg->reason;
}

struct pg_stats pg_stats(const struct pg *pg) {
	return (struct pg_stats){.up = pg->up, .waiting = pg->waiting_queries + pg->waiting_txs, .connects = pg->connects};
}

bool pg_other_schema(const struct pg *pg) {
	return pg->up == 0 && pg->other_schema;
}

void pg_on_state(struct pg *pg, void (*fn)(void *arg, bool up), void *arg) {
	pg->on_state = fn;
	pg->on_state_arg = arg;
}

void pg_on_notify(struct pg *pg, void (*fn)(void *arg, const char *channel, const char *payload), void *arg) {
	pg->on_notify = fn;
	pg->on_notify_arg = arg;
}

void pg_set_greeting(struct pg *pg, const char *const *sql) {
	pg->greeting = sql;
}

static void tell_state(void *arg) {
	struct pg *pg = arg;
	if (pg->on_state)
		pg->on_state(pg->on_state_arg, pg->up > 0);
}

void pg_came_up(struct pg_conn *c) {
	struct pg *pg = c->pg;
	pg->up++;
	pg->connects++;
	pg->failing = pg->other_schema = false;
	pg->reason[0] = '\0';
	c->backoff_us = PG_BACKOFF_MIN_US;
	c->patience = 1;
	if (pg->up == 1) {
		struct log_line line;
		pg->logged_reason[0] = '\0';
		log_begin(&line, LOG_LEVEL_INFO, "database up");
		log_str(&line, "host", PQhost(c->pq));
		log_str(&line, "db", PQdb(c->pq));
		log_int(&line, "timeline", c->timeline);
		log_end(&line);
		loop_defer(pg->loop, &pg->state_changed, tell_state, pg);
	}
	pg_pump(pg);
}

static void refuse_query(struct pg_op *op) {
	op->waiting = false;
	op->pg->waiting_queries--;
	pg_op_refuse(op, PG_UNAVAILABLE, "");
}

static void refuse_waiting(struct pg *pg) {
	struct list *l;
	while ((l = list_first(&pg->queries)))
		refuse_query(list_entry(l, struct pg_op, link));
	while ((l = list_first(&pg->txs)))
		pg_tx_refuse(list_entry(l, struct pg_tx, link));
}

/* A lost connection leaves what waits to its successor. A failed attempt, with none up, does not: the next may be seconds off. */
void pg_went_down(struct pg *pg, bool was_up, const char *reason) {
	snprintf(pg->reason, sizeof(pg->reason), "%s", reason);
	if (was_up) {
		pg->up--;
		log_msg(LOG_LEVEL_WARNING, "database connection lost", "%s", reason);
		if (pg->up == 0)
			loop_defer(pg->loop, &pg->state_changed, tell_state, pg);
		else
			pg_pump(pg);
		return;
	}
	if (strcmp(pg->logged_reason, pg->reason) != 0) {
		snprintf(pg->logged_reason, sizeof(pg->logged_reason), "%s", reason);
		log_msg(LOG_LEVEL_WARNING, "database connection failed", "%s", reason);
	}
	if (pg->up == 0) {
		pg->failing = true;
		refuse_waiting(pg);
		loop_defer(pg->loop, &pg->state_changed, tell_state, pg);
	}
}

/* ---- who gets what ---- */

static struct pg_conn *for_query(struct pg *pg) {
	struct pg_conn *best = NULL;
	for (unsigned i = 0; i < pg->options.connections; i++) {
		struct pg_conn *c = &pg->conns[i];
		if (!pg_conn_usable(c) || c->tx || c->reserved || c->settling || c->in_flight >= pg->options.depth)
			continue;
		if (!best || c->in_flight < best->in_flight)
			best = c;
	}
	return best;
}

static void pump_queries(struct pg *pg) {
	struct list *l;
	struct pg_conn *c;
	while ((l = list_first(&pg->queries)) && (c = for_query(pg))) {
		struct pg_op *op = list_entry(l, struct pg_op, link);
		list_unlink(l);
		op->waiting = false;
		pg->waiting_queries--;
		pg_conn_query(c, op, op->params);
	}
}

/* The connection a transaction should have next: idle if possible, else the one that drains soonest. NULL: their share is used
 * up. */
static struct pg_conn *for_tx(struct pg *pg, unsigned *ret_reserved) {
	struct pg_conn *best = NULL;
	unsigned used = 0, reserved = 0;
	for (unsigned i = 0; i < pg->options.connections; i++) {
		struct pg_conn *c = &pg->conns[i];
		used += c->tx || c->reserved;
		reserved += c->reserved;
		if (pg_conn_usable(c) && !c->tx && !c->reserved && (!best || c->in_flight < best->in_flight))
			best = c;
	}
	*ret_reserved = reserved;
	unsigned all = pg->options.connections;
	unsigned share = pg->options.transactions_only ? all : max_of(all - 1, 1U);
	return used < share ? best : NULL;
}

static void assign_first(struct pg *pg, struct pg_conn *c) {
	struct list *l = list_first(&pg->txs);
	pg->waiting_txs--;
	pg_tx_assign(list_entry(l, struct pg_tx, link), c);
}

static void pump_txs(struct pg *pg) {
	struct pg_conn *c;
	unsigned reserved;
	for (unsigned i = 0; i < pg->options.connections; i++) {
		c = &pg->conns[i];
		if (!c->reserved || !pg_conn_idle(c))
			continue;
		c->reserved = false;
		if (pg->waiting_txs)
			assign_first(pg, c);
	}
	while ((c = for_tx(pg, &reserved)) && pg->waiting_txs && pg_conn_idle(c))
		assign_first(pg, c);
	while ((c = for_tx(pg, &reserved)) && reserved < pg->waiting_txs)
		c->reserved = true;
	/* Nobody waits any more for what is still reserved. */
	for (unsigned i = 0; i < pg->options.connections && reserved > pg->waiting_txs; i++) {
		reserved -= pg->conns[i].reserved;
		pg->conns[i].reserved = false;
	}
}

void pg_pump(struct pg *pg) {
	if (pg->closed || pg->up == 0)
		return;
	pump_queries(pg);
	pump_txs(pg);
	if (pg->waiting_queries)
		pump_queries(pg); /* a reservation that was let go */
}

/* ---- waiting ---- */

bool pg_queue_full(const struct pg *pg) {
	return pg->waiting_queries + pg->waiting_txs >= pg->options.queue;
}

void pg_watch_waiting(struct pg *pg, int64_t deadline) {
	if (pg->wait_at && pg->wait_at <= deadline)
		return;
	pg->wait_at = deadline;
	timer_arm(&pg->wait_timer, max_of(deadline - clock_mono_us(), (int64_t)0));
}

static void on_wait_timer(void *arg) {
	struct pg *pg = arg;
	int64_t now = clock_mono_us(), next = INT64_MAX;
	struct list *l;
	pg->wait_at = 0;
	/* Queries share one deadline, so the oldest is due first. */
	while ((l = list_first(&pg->queries)) && list_entry(l, struct pg_op, link)->deadline <= now)
		refuse_query(list_entry(l, struct pg_op, link));
	if (l)
		next = list_entry(l, struct pg_op, link)->deadline;
	list_for_each_safe (w, &pg->txs) {
		struct pg_tx *tx = list_entry(w, struct pg_tx, link);
		if (tx->wait_deadline <= now)
			pg_tx_refuse(tx);
		else
			next = min_of(next, tx->wait_deadline);
	}
	if (next != INT64_MAX)
		pg_watch_waiting(pg, next);
	pg_pump(pg);
}

/* ---- queries ---- */

/* Its deadline is the oldest's, or as good as: what waits stays in the order of deadlines. */
void pg_ask_again(struct pg_op *op) {
	struct pg *pg = op->pg;
	PQclear(take_ptr(op->res));
	op->answered = op->sync = op->again = false;
	op->alone = true;
	op->waiting = true;
	list_prepend(&pg->queries, &op->link);
	pg->waiting_queries++;
	pg_watch_waiting(pg, op->deadline);
}

struct pg_op *pg_query_as(struct pg *pg, const struct pg_principal *who, const struct pg_stmt *stmt, const struct pg_params *params,
                          pg_done *done, void *arg) {
	struct pg_op *op = pg_op_new(pg, PG_OP_QUERY, stmt, done, arg);
	struct pg_conn *c = list_empty(&pg->queries) ? for_query(pg) : NULL;
	op->deadline = clock_mono_us() + pg->options.query_deadline_us;
	if (who)
		op->who = *who;
	if (params && params->data.overflow) {
		pg_op_refuse(op, PG_ERROR, "54000");
	} else if (c) {
		pg_conn_query(c, op, params);
	} else if (pg->failing || pg_queue_full(pg)) {
		pg_op_refuse(op, PG_UNAVAILABLE, "");
	} else {
		pg_op_keep_params(op, params);
		list_append(&pg->queries, &op->link);
		op->waiting = true;
		pg->waiting_queries++;
		pg_watch_waiting(pg, op->deadline);
	}
	return op;
}

struct pg_op *pg_query(struct pg *pg, const struct pg_stmt *stmt, const struct pg_params *params, pg_done *done,
                       void *arg) {
	return pg_query_as(pg, NULL, stmt, params, done, arg);
}

struct pg_op *pg_op_cancel(struct pg_op *op) {
	if (!op)
		return NULL;
	op->done = NULL;
	if (op->waiting) {
		op->pg->waiting_queries--;
		pg_op_free(op);
	}
	return NULL;
}
