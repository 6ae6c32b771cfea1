/* Bringing a connection up: in one round trip it is asked which server it is, its statements are prepared and its greeting is
 * said. Refused are a standby, a server on an older timeline than one seen before (a revived primary that has lost its
 * cluster; its commits would go nowhere), one that would lose a commit in a power cut, an unknown schema, and a role that would see
 * everybody's rows where it is to see somebody's. */
#include "common/pg_conn.h"

#include <stdatomic.h>
#include <stdio.h>

const struct pg_stmt PG_BEGIN = {.name = "pg_begin", .sql = "begin"};
const struct pg_stmt PG_COMMIT = {.name = "pg_commit", .sql = "commit"};
const struct pg_stmt PG_ROLLBACK = {.name = "pg_rollback", .sql = "rollback"};
/* Whose rows may be seen (row-level security, sql/README.md): to the end of the transaction. No row, since nobody reads one. */
const struct pg_stmt PG_PRINCIPAL = {
	.name = "pg_principal",
	.sql = "select where set_config('minutemail.account', $1, true) is null or set_config('minutemail.user', $2, true) is null",
};

static const struct pg_stmt check_server = {
	.name = "which server",
	.sql = "select pg_is_in_recovery(), case when pg_is_in_recovery() then '' "
		   "else substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) end, "
		   "current_setting('fsync'), current_setting('full_page_writes'), "
		   /* Every statement of ours has an index, but one that was planned while its table or partition was small would read all
		    * of it, and go on so while that grows, until autovacuum comes along. What then has no other way costs enough on
		    * paper to be compiled. */
		   "set_config('enable_seqscan', 'off', false), set_config('jit', 'off', false)",
};
static const struct pg_stmt check_schema = {
	.name = "which schema",
	.sql = "select coalesce(max(version), 0) from schema_migrations",
};

static const struct pg_stmt check_role = {
	.name = "which role",
	.sql = "select row_security_active($1::text), current_user",
};

static struct pg_op *setup_op(struct pg_conn *c, enum pg_op_kind kind, const struct pg_stmt *stmt) {
	struct pg_op *op = pg_op_new(c->pg, kind, stmt, NULL, NULL);
	op->deadline = INT64_MAX; /* the connect deadline covers it */
	return op;
}

static void send_text(struct pg_conn *c, enum pg_op_kind kind, const struct pg_stmt *stmt, const char *sql) {
	struct pg_op *op = setup_op(c, kind, stmt);
	pg_conn_sent(c, op, PQsendQueryParams(c->pq, sql, 0, NULL, NULL, NULL, NULL, 0));
}

int64_t pg_lock_timeout_us(const struct pg *pg) {
	return max_of(pg->options.query_deadline_us / 3, INT64_C(1000)); /* 0 would be for ever */
}

/* A statement that waits for a lock fails there before we give it up here. Given up it would go on waiting, each time on one more of the
 * server's connections, and commit in the end what was answered as failed. Not statement_timeout: it would end COMMIT's wait for a
 * standby. */
static void send_lock_timeout(struct pg_conn *c) {
	char sql[64];
	snprintf(sql, sizeof(sql), "set lock_timeout = %lld", (long long)(pg_lock_timeout_us(c->pg) / 1000));
	send_text(c, PG_OP_GREETING, NULL, sql);
}

static void send_check_role(struct pg_conn *c) {
	struct pg_op *op = setup_op(c, PG_OP_CHECK_ROLE, &check_role);
	pg_conn_sent(c, op, PQsendQueryParams(c->pq, check_role.sql, 1, NULL, &c->pg->options.row_security, NULL, NULL, 0));
}

static void send_prepare(struct pg_conn *c, const struct pg_stmt *stmt) {
	struct pg_op *op = setup_op(c, PG_OP_PREPARE, stmt);
	pg_conn_sent(c, op, PQsendPrepare(c->pq, stmt->name, stmt->sql, 0, NULL));
}

void pg_setup_start(struct pg_conn *c) {
	struct pg *pg = c->pg;
	c->state = PG_CONN_PREPARING;
	send_text(c, PG_OP_CHECK_SERVER, &check_server, check_server.sql);
	if (pg->options.schema_version > 0)
		send_text(c, PG_OP_CHECK_SCHEMA, &check_schema, check_schema.sql);
	if (pg->options.row_security)
		send_check_role(c);
	send_lock_timeout(c);
	send_prepare(c, &PG_BEGIN);
	send_prepare(c, &PG_COMMIT);
	send_prepare(c, &PG_ROLLBACK);
	send_prepare(c, &PG_PRINCIPAL);
	for (const struct pg_stmt *const *s = pg->options.stmts; s && *s; s++)
		send_prepare(c, *s);
	for (const char *const *g = pg->greeting; g && *g; g++)
		send_text(c, PG_OP_GREETING, NULL, *g);
	pg_conn_sync(c);
}

static bool unsafe_allowed(void) {
	const char *s = getenv("MINUTEMAIL_ALLOW_UNSAFE_DATABASE");
	return s && strcmp(s, "1") == 0;
}

/* Workers that share it may raise it at once. */
static void raise_timeline(struct pg *pg, uint32_t timeline) {
	uint32_t highest = *pg->timeline;
	while (highest < timeline && !atomic_compare_exchange_weak(pg->timeline, &highest, timeline))
		;
}

static bool server_acceptable(struct pg_conn *c, const PGresult *res, char *reason, size_t size) {
	struct pg *pg = c->pg;
	if (strcmp(PQgetvalue(res, 0, 0), "f") != 0) {
		snprintf(reason, size, "the server is a standby");
		return false;
	}
	uint32_t highest = *pg->timeline;
	c->timeline = (uint32_t)strtoul(PQgetvalue(res, 0, 1), NULL, 16);
	if (c->timeline < highest) {
		snprintf(reason, size, "the server is on timeline %u, older than %u seen before", c->timeline, highest);
		return false;
	}
	for (int i = 2; i < 4 && !unsafe_allowed(); i++) {
		if (strcmp(PQgetvalue(res, 0, i), "on") != 0) {
			snprintf(reason, size, "the server has %s off: a power cut would lose acknowledged mail",
			         i == 2 ? "fsync" : "full_page_writes");
			return false;
		}
	}
	raise_timeline(pg, c->timeline);
	return true;
}

static bool schema_acceptable(struct pg *pg, const PGresult *res, char *reason, size_t size) {
	int32_t have = (int32_t)strtol(PQgetvalue(res, 0, 0), NULL, 10);
	if (have == pg->options.schema_version)
		return true;
	pg->other_schema = true;
	snprintf(reason, size, "the schema has version %d, this program wants %d: %s", have, pg->options.schema_version,
	         have < pg->options.schema_version ? "run minutemailctl migrate" : "upgrade this program");
	return false;
}

static bool role_acceptable(const PGresult *res, char *reason, size_t size) {
	if (strcmp(PQgetvalue(res, 0, 0), "t") == 0)
		return true;
	snprintf(reason, size, "the role \"%s\" passes over row-level security: connect as one that does not, minutemail_apid",
	         PQgetvalue(res, 0, 1));
	return false;
}

static void describe_error(const struct pg_op *op, const PGresult *res, char *reason, size_t size) {
	const char *sqlstate = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
	if (op->kind == PG_OP_CHECK_SCHEMA && sqlstate && strcmp(sqlstate, "42P01") == 0) {
		op->pg->other_schema = true;
		snprintf(reason, size, "the database has no schema, this program wants version %d: run minutemailctl migrate",
		         op->pg->options.schema_version);
	} else {
		snprintf(reason, size, "%s: %s (%s)", op->stmt ? op->stmt->name : "greeting", message ? message : "?",
		         sqlstate ? sqlstate : "?");
	}
}

static bool acceptable(struct pg_conn *c, const struct pg_op *op, char *reason, size_t size) {
	ExecStatusType type = PQresultStatus(op->res);
	if (type != PGRES_COMMAND_OK && type != PGRES_TUPLES_OK) {
		describe_error(op, op->res, reason, size);
		return false;
	}
	if (op->kind == PG_OP_CHECK_SERVER)
		return server_acceptable(c, op->res, reason, size);
	if (op->kind == PG_OP_CHECK_SCHEMA)
		return schema_acceptable(op->pg, op->res, reason, size);
	if (op->kind == PG_OP_CHECK_ROLE)
		return role_acceptable(op->res, reason, size);
	return true;
}

void pg_setup_answer(struct pg_conn *c, struct pg_op *op) {
	char reason[200];
	bool ok = acceptable(c, op, reason, sizeof(reason));
	bool last = op->sync;
	pg_op_free(op);
	if (!ok) {
		pg_conn_give_up(c, reason);
	} else if (last) {
		timer_disarm(&c->timer);
		c->timer_at = 0;
		c->state = PG_CONN_READY;
		pg_came_up(c);
	}
}
