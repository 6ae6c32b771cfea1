/* One statement on its way: made, kept while it waits, answered or refused. It knows neither connections nor their order.
 *
 * Invariant: an operation is in at most one list, and whoever unlinks it frees it or passes it on. */
#include "common/pg_conn.h"

#define FREE_OPS_MAX 256

struct pg_op *pg_op_new(struct pg *pg, enum pg_op_kind kind, const struct pg_stmt *stmt, pg_done *done, void *arg) {
	struct list *l = list_first(&pg->free_ops);
	struct pg_op *op;
	if (l) {
		op = list_entry(l, struct pg_op, link);
		list_unlink(l);
		pg->free_count--;
	} else {
		op = xmalloc(sizeof(*op));
	}
	*op = (struct pg_op){.pg = pg, .kind = kind, .stmt = stmt, .done = done, .arg = arg};
	return op;
}

void pg_op_free(struct pg_op *op) {
	struct pg *pg = op->pg;
	list_unlink(&op->link);
	PQclear(op->res);
	pg_op_drop_params(op);
	if (pg->closed || pg->free_count >= FREE_OPS_MAX) {
		free(op);
		return;
	}
	list_append(&pg->free_ops, &op->link);
	pg->free_count++;
}

void pg_op_drop_params(struct pg_op *op) {
	if (!op->params)
		return;
	pg_params_fini(op->params);
	free(take_ptr(op->params));
}

void pg_op_keep_params(struct pg_op *op, const struct pg_params *params) {
	if (!params || params == op->params)
		return;
	op->params = xmalloc(sizeof(*op->params));
	*op->params = *params;
	buf_init(&op->params->data, PG_PARAMS_CEILING);
	buf_append(&op->params->data, params->data.data, params->data.len);
}

void pg_op_call(struct pg_op *op, enum pg_status status, const char *sqlstate, const char *message,
                const PGresult *res) {
	const struct pg_rows rows = {res};
	struct pg_result result = {.status = status, .message = message ? message : ""};
	if (!op->done)
		return;
	if (status == PG_ERROR)
		memcpy(result.sqlstate, sqlstate, sizeof(result.sqlstate));
	if (status == PG_OK && res) {
		result.rows = &rows;
		result.affected = strtoll(PQcmdTuples((PGresult *)(uintptr_t)res), NULL, 10);
	}
	op->done(op->arg, &result);
}

/* The job behind pg->deliver. */
static void deliver(void *arg) {
	struct pg *pg = arg;
	struct list *l;
	/* pg_free() inside a callback empties the list; the memory lasts until the turn ends. */
	while ((l = list_first(&pg->refused))) {
		struct pg_op *op = list_entry(l, struct pg_op, link);
		struct pg_tx *tx = op->kind == PG_OP_COMMIT ? op->tx : NULL;
		list_unlink(l);
		/* From here on a rollback inside the callback finds nothing of this operation. */
		if (tx)
			tx->commit = NULL;
		pg_op_call(op, op->status, op->sqlstate, tx && op->status == PG_ERROR ? tx->message : NULL, NULL);
		pg_op_free(op);
		if (tx && !pg->closed)
			pg_tx_free(tx);
	}
}

void pg_op_refuse(struct pg_op *op, enum pg_status status, const char *sqlstate) {
	struct pg *pg = op->pg;
	list_unlink(&op->link);
	PQclear(op->res);
	op->res = NULL;
	op->status = status;
	memcpy(op->sqlstate, sqlstate, min_of(strlen(sqlstate), sizeof(op->sqlstate) - 1) + 1);
	list_append(&pg->refused, &op->link);
	loop_defer(pg->loop, &pg->deliver, deliver, pg);
}

static bool severe(const PGresult *res) {
	const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);
	return !severity || strcmp(severity, "ERROR") != 0;
}

bool pg_passing(const char *sqlstate) {
	static const char classes[][3] = {"40", "53", "55", "57"};
	for (size_t i = 0; i < array_len(classes); i++)
		if (strncmp(sqlstate, classes[i], 2) == 0)
			return true;
	return false;
}

/* A COMMIT answered with one of these may have happened: interrupted after its record was written, or said to be unknown. */
static bool commit_unknown(const char *sqlstate) {
	return strncmp(sqlstate, "57", 2) == 0 || strncmp(sqlstate, "XX", 2) == 0 || strncmp(sqlstate, "08", 2) == 0 ||
	       strcmp(sqlstate, "40003") == 0;
}

enum pg_status pg_op_status(const struct pg_op *op, char ret_sqlstate[6]) {
	ret_sqlstate[0] = '\0';
	if (!op->res)
		return PG_IN_DOUBT;
	ExecStatusType type = PQresultStatus(op->res);
	if (type == PGRES_COMMAND_OK || type == PGRES_TUPLES_OK)
		return op->noticed ? PG_IN_DOUBT : PG_OK;
	if (type == PGRES_PIPELINE_ABORTED && op->kind == PG_OP_QUERY)
		return PG_UNAVAILABLE; /* another of its group has failed: not carried out */
	if (type == PGRES_PIPELINE_ABORTED) {
		memcpy(ret_sqlstate, "25P02", 6);
		return PG_ERROR;
	}
	const char *sqlstate = PQresultErrorField(op->res, PG_DIAG_SQLSTATE);
	if (!sqlstate || strlen(sqlstate) != 5 || severe(op->res))
		return PG_IN_DOUBT;
	if (op->kind == PG_OP_COMMIT && commit_unknown(sqlstate))
		return PG_IN_DOUBT;
	memcpy(ret_sqlstate, sqlstate, 6);
	return PG_ERROR;
}

void pg_op_complete(struct pg_op *op) {
	char sqlstate[6];
	enum pg_status status = pg_op_status(op, sqlstate);
	const char *message = status == PG_ERROR ? PQresultErrorField(op->res, PG_DIAG_MESSAGE_PRIMARY) : NULL;
	pg_op_call(op, status, sqlstate, message, op->res);
	pg_op_free(op);
}
