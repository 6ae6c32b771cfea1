/* A transaction: queues its steps until it has a connection, then passes them on as they come, without waiting for answers.
 *
 *  waiting (in pg->txs) -pg_tx_assign()-> owns conn -COMMIT answered-> over
 *  any -> failed: no further step is sent; what remains is to tell commit's `done`, or to be rolled back.
 *
 * Invariants: conn->tx == tx exactly while tx->conn == conn. An operation in conn->sent or pg->refused that points at its
 * transaction keeps it alive; nothing else does but the caller's pointer, which is dead once commit's `done` has run. */
#include "common/clock.h"
#include "common/pg_conn.h"

static struct pg_op *tx_op(struct pg_tx *tx, enum pg_op_kind kind, const struct pg_stmt *stmt, pg_done *done,
                           void *arg) {
	struct pg_op *op = pg_op_new(tx->pg, kind, stmt, done, arg);
	op->tx = tx;
	return op;
}

static void fail(struct pg_tx *tx, enum pg_status status, const char *sqlstate, const char *message) {
	if (tx->failed)
		return; /* the first error is the one that counts */
	tx->failed = true;
	tx->status = status;
	if (status == PG_ERROR)
		memcpy(tx->sqlstate, sqlstate, sizeof(tx->sqlstate));
	tx->message = message ? xstrdup(message) : NULL;
}

void pg_tx_free(struct pg_tx *tx) {
	struct list *l;
	while ((l = list_first(&tx->steps)))
		pg_op_free(list_entry(l, struct pg_op, link));
	list_unlink(&tx->link);
	list_unlink(&tx->all);
	free(tx->message);
	free(tx);
}

/* ---- sending ---- */

static void send_op(struct pg_tx *tx, struct pg_op *op, const struct pg_params *params) {
	op->deadline = clock_mono_us() + tx->deadline_us;
	if (!tx->begun) {
		struct pg_op *begin = tx_op(tx, PG_OP_BEGIN, &PG_BEGIN, NULL, NULL);
		begin->deadline = op->deadline;
		tx->begun = true;
		pg_conn_send(tx->conn, begin, NULL);
	}
	pg_conn_send(tx->conn, op, params);
}

void pg_tx_assign(struct pg_tx *tx, struct pg_conn *c) {
	struct list *l;
	list_unlink(&tx->link);
	tx->conn = c;
	c->tx = tx;
	c->reserved = false;
	while ((l = list_first(&tx->steps))) {
		struct pg_op *op = list_entry(l, struct pg_op, link);
		bool sync = op->sync;
		list_unlink(l);
		op->sync = false;
		send_op(tx, op, op->params);
		if (op->params) {
			pg_params_fini(op->params);
			free(op->params);
			op->params = NULL;
		}
		if (sync)
			pg_conn_sync(c);
	}
}

/* Gives the connection back: what is on its way is nobody's now, and an open transaction is ended. */
static void release(struct pg_tx *tx) {
	struct pg_conn *c = tx->conn;
	if (!c)
		return;
	list_for_each (l, &c->sent) {
		struct pg_op *op = list_entry(l, struct pg_op, link);
		if (op->tx == tx) {
			op->tx = NULL;
			op->done = NULL;
		}
	}
	tx->conn = NULL;
	c->tx = NULL;
	if (!tx->begun)
		return;
	/* A COMMIT on its way may end nothing: in a group that has failed the server skips it. */
	c->settling = true;
	if (!tx->commit)
		pg_conn_rollback(c);
}

/* ---- what callers do ---- */

struct pg_tx *pg_tx_begin(struct pg *pg) {
	struct pg_tx *tx = xcalloc(1, sizeof(*tx));
	tx->pg = pg;
	tx->deadline_us = pg->options.query_deadline_us;
	tx->wait_deadline = clock_mono_us() + tx->deadline_us;
	list_init(&tx->steps);
	list_append(&pg->all_txs, &tx->all);
	if (pg->failing || pg_queue_full(pg)) {
		fail(tx, PG_UNAVAILABLE, "", NULL);
		return tx;
	}
	list_append(&pg->txs, &tx->link);
	pg->waiting_txs++;
	pg_pump(pg);
	if (!tx->conn)
		pg_watch_waiting(pg, tx->wait_deadline);
	return tx;
}

void pg_tx_set_deadline(struct pg_tx *tx, int64_t us) {
	tx->deadline_us = us;
	tx->wait_deadline = clock_mono_us() + us;
	if (list_linked(&tx->link))
		pg_watch_waiting(tx->pg, tx->wait_deadline);
}

void pg_tx_step(struct pg_tx *tx, const struct pg_stmt *stmt, const struct pg_params *params, pg_done *done,
                void *arg) {
	struct pg_op *op = tx_op(tx, PG_OP_STEP, stmt, done, arg);
	if (tx->failed) {
		pg_op_refuse(op, tx->status, "25P02");
	} else if (params && params->data.overflow) {
		fail(tx, PG_ERROR, "54000", "parameters too large");
		pg_op_refuse(op, PG_ERROR, "54000");
	} else if (tx->conn) {
		send_op(tx, op, params);
	} else {
		pg_op_keep_params(op, params);
		list_append(&tx->steps, &op->link);
	}
}

void pg_tx_as(struct pg_tx *tx, const struct pg_principal *who) {
	struct pg_op *op = tx_op(tx, PG_OP_PRINCIPAL, &PG_PRINCIPAL, NULL, NULL);
	op->who = *who;
	if (tx->failed)
		pg_op_free(op);
	else if (tx->conn)
		send_op(tx, op, NULL);
	else
		list_append(&tx->steps, &op->link);
}

void pg_tx_flush(struct pg_tx *tx) {
	if (tx->conn)
		pg_conn_sync(tx->conn);
	else if (!list_empty(&tx->steps))
		list_entry(tx->steps.prev, struct pg_op, link)->sync = true;
}

void pg_tx_commit(struct pg_tx *tx, pg_done *done, void *arg) {
	struct pg_op *op = tx_op(tx, PG_OP_COMMIT, &PG_COMMIT, done, arg);
	assert(!tx->commit);
	if (tx->failed) {
		release(tx);
		tx->commit = op;
		pg_op_refuse(op, tx->status, tx->sqlstate);
		return;
	}
	tx->commit = op;
	if (tx->conn) {
		send_op(tx, op, NULL);
		pg_conn_sync(tx->conn);
	} else {
		op->sync = true;
		list_append(&tx->steps, &op->link);
	}
}

void pg_tx_rollback(struct pg_tx *tx) {
	struct pg *pg = tx->pg;
	if (list_linked(&tx->link)) {
		list_unlink(&tx->link);
		pg->waiting_txs--;
	}
	list_for_each_safe (l, &pg->refused) {
		struct pg_op *op = list_entry(l, struct pg_op, link);
		if (op->tx == tx)
			pg_op_free(op);
	}
	release(tx);
	pg_tx_free(tx);
	pg_pump(pg);
}

/* ---- what happens to it ---- */

/* Its operations move to where `done` is run from; COMMIT frees the transaction there. */
static void refuse_all(struct pg_tx *tx, struct list *ops, enum pg_status status) {
	struct list *l;
	while ((l = list_first(ops))) {
		struct pg_op *op = list_entry(l, struct pg_op, link);
		list_unlink(l);
		if (op->kind == PG_OP_COMMIT)
			pg_op_refuse(op, status, tx->sqlstate);
		else if (op->done)
			pg_op_refuse(op, status, "25P02");
		else
			pg_op_free(op);
	}
}

void pg_tx_refuse(struct pg_tx *tx) {
	list_unlink(&tx->link);
	tx->pg->waiting_txs--;
	fail(tx, PG_UNAVAILABLE, "", NULL);
	refuse_all(tx, &tx->steps, PG_UNAVAILABLE);
}

void pg_tx_lost(struct pg_tx *tx, struct list *sent) {
	struct pg_op *commit = tx->commit;
	enum pg_status status = PG_UNAVAILABLE; /* no COMMIT was sent: rolled back for certain */
	char sqlstate[6];
	tx->conn = NULL;
	if (tx->failed)
		status = tx->status;
	else if (commit && commit->answered && pg_op_status(commit, sqlstate) == PG_OK &&
	         strcmp(PQcmdStatus(commit->res), "COMMIT") == 0)
		status = PG_OK; /* only the Sync's answer is missing */
	else if (commit && !commit->unsent)
		status = PG_IN_DOUBT;
	if (status != PG_OK)
		fail(tx, status, "", NULL);
	refuse_all(tx, sent, status);
}

static void answer_step(struct pg_tx *tx, struct pg_op *op) {
	char sqlstate[6];
	enum pg_status status = pg_op_status(op, sqlstate);
	const char *message = NULL;
	/* A step that ended in a dying server, COMMIT not reached: rolled back for certain. A warning is no failure of the step. */
	if (status == PG_IN_DOUBT) {
		ExecStatusType type = PQresultStatus(op->res);
		status = type == PGRES_COMMAND_OK || type == PGRES_TUPLES_OK ? PG_OK : PG_UNAVAILABLE;
	}
	if (status == PG_ERROR)
		message = PQresultErrorField(op->res, PG_DIAG_MESSAGE_PRIMARY);
	if (status != PG_OK)
		fail(tx, status, sqlstate, message);
	pg_op_call(op, status, sqlstate, message, op->res);
	pg_op_free(op);
}

static void answer_commit(struct pg_tx *tx, struct pg_op *op) {
	char sqlstate[6];
	enum pg_status status = pg_op_status(op, sqlstate);
	const char *message = status == PG_ERROR ? PQresultErrorField(op->res, PG_DIAG_MESSAGE_PRIMARY) : NULL;
	struct pg *pg = tx->pg;
	tx->conn = NULL;
	tx->commit = NULL;
	if (status == PG_OK && strcmp(PQcmdStatus(op->res), "COMMIT") != 0) {
		/* The server answers ROLLBACK to the COMMIT of a failed transaction, and calls it success. */
		status = PG_ERROR;
		memcpy(sqlstate, "25P02", 6);
	}
	if (tx->failed) {
		status = tx->status;
		memcpy(sqlstate, tx->sqlstate, sizeof(sqlstate));
		message = tx->message;
	}
	pg_op_call(op, status, sqlstate, message, op->res);
	pg_op_free(op);
	if (!pg->closed)
		pg_tx_free(tx);
}

void pg_tx_answer(struct pg_tx *tx, struct pg_op *op) {
	if (op->kind == PG_OP_COMMIT)
		answer_commit(tx, op);
	else
		answer_step(tx, op);
}
