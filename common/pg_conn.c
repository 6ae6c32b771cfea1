/* One libpq connection in pipeline mode (libpq 15, chapter "Pipeline Mode"): connects, sends, matches answers with what was
 * sent, dies. It decides nothing about what runs where; that is the pool's.
 *
 * Invariants: `sent` is in the server's order. libpq gives, for each command, its result and then NULL; for a Sync, one
 * PGRES_PIPELINE_SYNC and no NULL; after an error, PGRES_PIPELINE_ABORTED for the rest of the group. A command whose results
 * are complete but whose Sync is owed stays at the head, since an error can still come from the commit at the Sync.
 *
 * libpq resolves host names inside PQconnectStart, synchronously (documented). A conninfo with host addresses (hostaddr=) or a
 * Unix socket never blocks the loop; with names, a slow resolver does, for as long as it takes. */
#include "common/pg_conn.h"
#include "common/clock.h"
#include "common/log.h"

#include <event2/event.h>
#include <sodium.h>
#include <stdio.h>

#define BACKOFF_MAX_US 2000000
#define PATIENCE_MOST 8 /* connect deadlines */
#define BLANKS_MAX 4
#define GROUP_MOST 16 /* queries that share a Sync: the last one's answer waits for all of them */
#define GROUPS_BUSY 2 /* one that the server carries out and one that lies there: what comes now gathers here meanwhile */

static void on_timer(void *arg);
static void on_lost(void *arg);
static void lose_later(struct pg_conn *c);
static void on_group(void *arg);
static void on_event(evutil_socket_t fd, short what, void *arg);

void pg_conn_init(struct pg_conn *c, struct pg *pg) {
	c->pg = pg;
	c->backoff_us = PG_BACKOFF_MIN_US;
	c->patience = 1;
	list_init(&c->sent);
	timer_init(&c->timer, pg->loop, on_timer, c);
}

/* Lets libpq's handle and our events go. */
static void disconnect(struct pg_conn *c) {
	if (c->ev_read)
		event_free(c->ev_read);
	if (c->ev_write)
		event_free(c->ev_write);
	c->ev_read = c->ev_write = NULL;
	deferred_cancel(&c->flush);
	deferred_cancel(&c->group);
	deferred_cancel(&c->lost);
	timer_disarm(&c->timer);
	PQfinish(c->pq);
	c->pq = NULL;
	c->state = PG_CONN_DOWN;
	c->timer_at = 0;
	c->in_flight = c->blanks = c->grouped = c->groups = 0;
	c->broken = c->unsynced = c->held = c->reserved = c->settling = false;
	c->who = (struct pg_principal){0};
	c->tx = NULL;
}

void pg_conn_fini(struct pg_conn *c) {
	struct list *l;
	disconnect(c);
	timer_fini(&c->timer);
	while ((l = list_first(&c->sent)))
		pg_op_free(list_entry(l, struct pg_op, link));
}

/* Another connection has found a server that has gone on without this one's, whose answers are old by now and whose commits go nowhere. */
static bool left_behind(const struct pg_conn *c) {
	return c->state == PG_CONN_READY && c->timeline < *c->pg->timeline;
}

bool pg_conn_usable(struct pg_conn *c) {
	if (left_behind(c) && !c->broken)
		lose_later(c);
	return c->state == PG_CONN_READY && !c->broken;
}

bool pg_conn_idle(struct pg_conn *c) {
	return pg_conn_usable(c) && !c->tx && c->in_flight == 0;
}

/* ---- dying ---- */

/* An operation without its last answer: what can be said for certain? */
static void refuse_lost(struct pg_op *op) {
	char sqlstate[6];
	if (op->unsent)
		pg_op_refuse(op, PG_UNAVAILABLE, "");
	else if (op->answered && pg_op_status(op, sqlstate) == PG_ERROR)
		pg_op_refuse(op, PG_ERROR, sqlstate);
	else
		pg_op_refuse(op, PG_IN_DOUBT, "");
}

static int64_t next_backoff(struct pg_conn *c) {
	int64_t us = c->backoff_us;
	c->backoff_us = min_of(us * 2, (int64_t)BACKOFF_MAX_US);
	/* 3/4 to 5/4, so that the workers of a host do not come back in step. */
	return us - us / 4 + (int64_t)randombytes_uniform((uint32_t)(us / 2));
}

void pg_conn_die(struct pg_conn *c, const char *reason) {
	struct list *l, own;
	struct pg_tx *tx = c->tx;
	bool was_up = c->state == PG_CONN_READY;
	char copy[200];
	/* The reason may be libpq's and go with the handle; it may also end in a line end. */
	snprintf(copy, sizeof(copy), "%.*s", (int)strcspn(reason, "\r\n"), reason);
	disconnect(c);
	list_init(&own);
	while ((l = list_first(&c->sent))) {
		struct pg_op *op = list_entry(l, struct pg_op, link);
		list_unlink(l);
		if (op->kind == PG_OP_QUERY && op->done)
			refuse_lost(op);
		else if (tx && op->tx == tx)
			list_append(&own, l);
		else
			pg_op_free(op);
	}
	if (tx)
		pg_tx_lost(tx, &own);
	timer_arm(&c->timer, next_backoff(c));
	pg_went_down(c->pg, was_up, copy);
}

void pg_conn_give_up(struct pg_conn *c, const char *reason) {
	pg_hosts_pass(&c->pg->hosts, c->pq);
	pg_conn_die(c, reason);
}

static bool give_up_left_behind(struct pg_conn *c) {
	char reason[100];
	if (!left_behind(c))
		return false;
	snprintf(reason, sizeof(reason), "the server is on timeline %u, and another on %u", c->timeline, *c->pg->timeline);
	pg_conn_give_up(c, reason);
	return true;
}

static void lose_later(struct pg_conn *c) {
	c->broken = true;
	loop_defer(c->pg->loop, &c->lost, on_lost, c);
}

static void on_lost(void *arg) {
	struct pg_conn *c = arg;
	if (!give_up_left_behind(c) && c->pq)
		pg_conn_die(c, PQerrorMessage(c->pq));
}

/* ---- connecting ---- */

/* libpq may close its socket and open another inside a poll (several hosts, or SSL refused), so the event is made anew each
 * time; while connecting it is one-shot. */
static void make_read_event(struct pg_conn *c, short what) {
	if (c->ev_read)
		event_free(c->ev_read);
	c->ev_read = event_new(loop_base(c->pg->loop), PQsocket(c->pq), what, on_event, c);
	if (!c->ev_read || event_add(c->ev_read, NULL) < 0)
		abort();
}

static void on_notice(void *arg, const PGresult *res) {
	struct pg_conn *c = arg;
	struct list *l = list_first(&c->sent);
	const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);
	const char *sqlstate = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	bool mild = severity && (strcmp(severity, "NOTICE") == 0 || strcmp(severity, "INFO") == 0 ||
	                         strcmp(severity, "LOG") == 0 || strncmp(severity, "DEBUG", 5) == 0);
	struct log_line line;
	log_begin(&line, mild ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, "database notice");
	log_str(&line, "severity", severity);
	log_str(&line, "sqlstate", sqlstate);
	log_str(&line, "msg", PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY));
	log_end(&line);
	/* "Canceling wait for synchronous replication": the server reports success for what only it has. Whatever the notice
	 * says, a COMMIT it came before is not taken as done. */
	if (l && !mild)
		list_entry(l, struct pg_op, link)->noticed = true;
	if (c->tx && c->tx->commit)
		c->tx->commit->noticed = true;
}

static void connected(struct pg_conn *c) {
	PQsetNoticeReceiver(c->pq, on_notice, c);
	if (PQsetnonblocking(c->pq, 1) < 0 || !PQenterPipelineMode(c->pq)) {
		pg_conn_die(c, PQerrorMessage(c->pq));
		return;
	}
	make_read_event(c, EV_READ | EV_PERSIST);
	c->ev_write = event_new(loop_base(c->pg->loop), PQsocket(c->pq), EV_WRITE, on_event, c);
	if (!c->ev_write)
		abort();
	pg_setup_start(c);
}

static void poll_connect(struct pg_conn *c) {
	switch (PQconnectPoll(c->pq)) {
	case PGRES_POLLING_READING:
		make_read_event(c, EV_READ);
		break;
	case PGRES_POLLING_WRITING:
		make_read_event(c, EV_WRITE);
		break;
	case PGRES_POLLING_OK:
		connected(c);
		break;
	case PGRES_POLLING_FAILED:
	case PGRES_POLLING_ACTIVE:
		pg_conn_die(c, PQerrorMessage(c->pq));
		break;
	}
}

/* DOWN -> CONNECTING */
static void start(struct pg_conn *c) {
	struct pg *pg = c->pg;
	cleanup(freep) char *host = NULL, *hostaddr = NULL, *port = NULL;
	pg_hosts_order(&pg->hosts, &host, &hostaddr, &port);
	const char *const keys[] = {"dbname", "host", "hostaddr", "port", "application_name", "client_encoding", NULL};
	const char *const values[] = {pg->conninfo, host, hostaddr, port, pg->application_name, "UTF8", NULL};
	c->state = PG_CONN_CONNECTING;
	c->pq = PQconnectStartParams(keys, values, 1);
	if (!c->pq)
		abort();
	timer_arm(&c->timer, pg->options.connect_deadline_us * c->patience);
	if (PQstatus(c->pq) == CONNECTION_BAD)
		lose_later(c); /* a bad conninfo, or no host resolved; pg_new() may be on the stack */
	else
		make_read_event(c, EV_WRITE);
}

/* ---- sending ---- */

static void flush(struct pg_conn *c) {
	int r = PQflush(c->pq);
	if (r < 0)
		lose_later(c);
	else if (r > 0 && event_add(c->ev_write, NULL) < 0)
		abort();
}

#ifdef LIBPQ_HAS_SEND_PIPELINE_SYNC
static void on_flush(void *arg) {
	struct pg_conn *c = arg;
	if (c->pq && !c->broken)
		flush(c);
}
#endif

/* One timer for all: the head's deadline, since what stands behind it cannot be answered before it. It is left running when the
 * head is answered and looks again when it fires, so a query costs no timer of its own. */
static void watch(struct pg_conn *c, int64_t deadline) {
	if (c->state != PG_CONN_READY || (c->timer_at && c->timer_at <= deadline))
		return;
	c->timer_at = deadline;
	timer_arm(&c->timer, max_of(deadline - clock_mono_us(), (int64_t)0));
}

void pg_conn_sent(struct pg_conn *c, struct pg_op *op, bool ok) {
	list_append(&c->sent, &op->link);
	c->in_flight++;
	c->unsynced = true;
	if (!ok) {
		op->unsent = true;
		lose_later(c);
	}
}

static bool send_stmt(struct pg_conn *c, const struct pg_stmt *stmt, const struct pg_params *params) {
	const char *values[array_len(params->at)];
	int lengths[array_len(params->at)], formats[array_len(params->at)];
	unsigned n = params ? params->count : 0;
	for (unsigned i = 0; i < n; i++) {
		values[i] = params->at[i].length < 0 ? NULL : params->data.data + params->at[i].offset;
		lengths[i] = params->at[i].length;
		formats[i] = params->at[i].binary;
	}
	return PQsendQueryPrepared(c->pq, stmt->name, (int)n, values, lengths, formats, 1);
}

static const struct id NOBODY;

static void principal_text(const struct id *id, char ret[ID_TEXT_SIZE]) {
	if (id_equal(id, &NOBODY))
		ret[0] = '\0';
	else
		id_format(id, ret);
}

static bool send_principal(struct pg_conn *c, const struct pg_principal *who) {
	char account[ID_TEXT_SIZE], user[ID_TEXT_SIZE];
	const char *const values[] = {account, user};
	principal_text(&who->account, account);
	principal_text(&who->user, user);
	return PQsendQueryPrepared(c->pq, PG_PRINCIPAL.name, 2, values, NULL, NULL, 1);
}

void pg_conn_send(struct pg_conn *c, struct pg_op *op, const struct pg_params *params) {
	bool ok = false;
	if (!c->broken && op->kind == PG_OP_PRINCIPAL)
		ok = send_principal(c, &op->who);
	else if (!c->broken)
		ok = send_stmt(c, op->stmt, params);
	pg_conn_sent(c, op, ok);
	watch(c, op->deadline);
}

/* An error is sent at once, and so is a long result: the answers may be here before the Sync is on its way. */
static void send_lone_sync(struct pg_conn *c) {
	struct pg_op *op = pg_op_new(c->pg, PG_OP_SYNC, NULL, NULL, NULL);
	op->answered = true;
	op->deadline = clock_mono_us() + c->pg->options.query_deadline_us;
	list_append(&c->sent, &op->link);
	c->in_flight++;
	watch(c, op->deadline);
}

void pg_conn_sync(struct pg_conn *c) {
	if (!c->unsynced)
		return;
	c->unsynced = c->held = false;
	c->grouped = 0;
	c->groups++;
	c->who = (struct pg_principal){0}; /* the group's implicit transaction ends, and with it what was set in it */
	if (list_empty(&c->sent))
		send_lone_sync(c);
	list_entry(c->sent.prev, struct pg_op, link)->sync = true;
	if (c->broken)
		return;
#ifdef LIBPQ_HAS_SEND_PIPELINE_SYNC
	/* libpq 17: all groups of this turn leave in one write. */
	if (!PQsendPipelineSync(c->pq))
		lose_later(c);
	loop_defer(c->pg->loop, &c->flush, on_flush, c);
#else
	/* Before libpq 17 this writes as well; what is left over waits for the socket. */
	if (!PQpipelineSync(c->pq))
		lose_later(c);
	else
		flush(c);
#endif
}

/* The fuller a group, the less each of its queries costs both sides; and none is done sooner for having been sent to a server that
 * is busy with two groups. */
static void on_group(void *arg) {
	struct pg_conn *c = arg;
	c->held = c->unsynced && c->groups >= GROUPS_BUSY;
	if (!c->held)
		pg_conn_sync(c);
}

/* In a group that several share, one that is nobody's says so, too. */
static void become(struct pg_conn *c, const struct pg_op *op) {
	if (id_equal(&c->who.account, &op->who.account) && id_equal(&c->who.user, &op->who.user))
		return;
	struct pg_op *say = pg_op_new(c->pg, PG_OP_PRINCIPAL, &PG_PRINCIPAL, NULL, NULL);
	say->who = c->who = op->who;
	say->deadline = op->deadline;
	pg_conn_send(c, say, NULL);
}

void pg_conn_query(struct pg_conn *c, struct pg_op *op, const struct pg_params *params) {
	bool shares = op->stmt->reads && !op->alone;
	if (!shares || c->grouped == GROUP_MOST)
		pg_conn_sync(c);
	op->again = c->grouped > 0;
	if (op->again)
		pg_op_keep_params(op, params);
	become(c, op);
	pg_conn_send(c, op, params);
	c->grouped++;
	if (shares)
		loop_defer(c->pg->loop, &c->group, on_group, c);
	else
		pg_conn_sync(c);
	if (!op->again)
		pg_op_drop_params(op);
}

/* In a group of its own: behind an error it would be skipped. */
void pg_conn_rollback(struct pg_conn *c) {
	pg_conn_sync(c);
	struct pg_op *op = pg_op_new(c->pg, PG_OP_ROLLBACK, &PG_ROLLBACK, NULL, NULL);
	op->deadline = clock_mono_us() + c->pg->options.query_deadline_us;
	c->settling = true;
	pg_conn_send(c, op, NULL);
	pg_conn_sync(c);
}

/* ---- answers ---- */

/* A transaction that failed, or was dropped, is still open on the server: end it before anybody else gets the connection. */
static void settle(struct pg_conn *c, enum pg_op_kind last) {
	if (c->tx || c->in_flight || !pg_conn_usable(c))
		return;
	if (PQtransactionStatus(c->pq) == PQTRANS_IDLE)
		c->settling = false;
	else if (last == PG_OP_ROLLBACK)
		lose_later(c);
	else
		pg_conn_rollback(c);
}

/* A statement before it in its group has failed. */
static bool was_skipped(const struct pg_op *op) {
	return op->again && op->done && PQresultStatus(op->res) == PGRES_PIPELINE_ABORTED;
}

static void finish_head(struct pg_conn *c, struct pg_op *op) {
	enum pg_op_kind kind = op->kind;
	list_unlink(&op->link);
	c->in_flight--;
	c->blanks = 0;
	c->groups -= op->sync;
	if (kind >= PG_OP_CHECK_SERVER) {
		pg_setup_answer(c, op);
		return;
	}
	if (kind == PG_OP_COMMIT && op->tx)
		c->tx = NULL;
	if (op->sync && c->held)
		loop_defer(c->pg->loop, &c->group, on_group, c);
	if (op->sync)
		settle(c, kind);
	if (kind == PG_OP_QUERY && was_skipped(op))
		pg_ask_again(op);
	else if (kind == PG_OP_QUERY)
		pg_op_complete(op);
	else if (op->tx)
		pg_tx_answer(op->tx, op);
	else
		pg_op_free(op);
}

/* Takes what libpq has for the head; also on a broken connection, since what came before the loss counts. False: nothing more
 * for now. */
static bool take_result(struct pg_conn *c) {
	struct pg_op *op = list_entry(list_first(&c->sent), struct pg_op, link);
	if (PQisBusy(c->pq))
		return false;
	PGresult *res = PQgetResult(c->pq);
	if (!res) {
		if (op->res && !op->answered) {
			op->answered = true;
			if (!op->sync)
				finish_head(c, op);
			return true;
		}
		if (++c->blanks <= BLANKS_MAX)
			return true;
		c->broken = true;
		return false;
	}
	if (PQresultStatus(res) == PGRES_PIPELINE_SYNC) {
		PQclear(res);
		if (op->sync && op->answered) {
			finish_head(c, op);
			return true;
		}
		c->broken = true;
		return false;
	}
	if (PQstatus(c->pq) == CONNECTION_BAD && !PQresultErrorField(res, PG_DIAG_SQLSTATE)) {
		PQclear(res); /* libpq's own words for the loss: no answer to this command */
		c->broken = true;
		return false;
	}
	/* A second result can only be an error, from the commit at the Sync. */
	PQclear(op->res);
	op->res = res;
	return true;
}

static void take_notifications(struct pg_conn *c) {
	PGnotify *n;
	while (c->pq && (n = PQnotifies(c->pq))) {
		if (c->pg->on_notify)
			c->pg->on_notify(c->pg->on_notify_arg, n->relname, n->extra);
		PQfreemem(n);
	}
}

/* After an input: answers in order, then the notifications among them. The callbacks may do anything, pg_free() included; then
 * c->pq is NULL. */
static void take_answers(struct pg_conn *c) {
	while (c->pq && !list_empty(&c->sent) && take_result(c))
		;
	take_notifications(c);
	if (c->pq && c->broken && !give_up_left_behind(c))
		pg_conn_die(c, PQstatus(c->pq) == CONNECTION_BAD ? PQerrorMessage(c->pq) : "answers out of step");
}

static void on_event(evutil_socket_t fd, short what, void *arg) {
	struct pg_conn *c = arg;
	struct pg *pg = c->pg;
	(void)fd;
	if (c->state == PG_CONN_CONNECTING) {
		poll_connect(c);
		return;
	}
	if (give_up_left_behind(c)) /* even a COMMIT that it calls done is to be done again by its successor */
		return;
	if (!PQconsumeInput(c->pq))
		c->broken = true;
	else if (what & EV_WRITE)
		flush(c);
	take_answers(c);
	if (!pg->closed && (pg->waiting_queries || pg->waiting_txs))
		pg_pump(pg);
}

/* A server that is there but slow never comes up if all workers, again and again, give up what it was nearly done with: it is given
 * longer each time. One that is not there is not, since its successor may have come meanwhile; of several hosts another has its turn. */
static void connect_late(struct pg_conn *c) {
	bool there = c->state == PG_CONN_PREPARING || PQstatus(c->pq) != CONNECTION_STARTED;
	c->patience = there && c->pg->hosts.count < 2 ? min_of(c->patience * 2, (unsigned)PATIENCE_MOST) : 1;
	pg_conn_give_up(c, "connecting took too long");
}

static void on_timer(void *arg) {
	struct pg_conn *c = arg;
	struct list *l = list_first(&c->sent);
	switch (c->state) {
	case PG_CONN_DOWN:
		start(c);
		break;
	case PG_CONN_CONNECTING:
	case PG_CONN_PREPARING:
		connect_late(c);
		break;
	case PG_CONN_READY:
		c->timer_at = 0;
		if (!l)
			break;
		if (list_entry(l, struct pg_op, link)->deadline <= clock_mono_us())
			pg_conn_give_up(c, "no answer within the deadline");
		else
			watch(c, list_entry(l, struct pg_op, link)->deadline);
		break;
	}
}
