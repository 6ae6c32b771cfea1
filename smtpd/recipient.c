/* RCPT -> mailbox. Nothing is kept, and look-ups of one address are not shared: one that is under way may have been answered before
 * the mailbox was made that this client was told of.
 *
 *  DIRECT -no mailbox, but postmaster or abuse of a domain of ours-> DOMAIN -none-> PLATFORM_NAME -> PLATFORM -> verdict
 *  <Postmaster> starts at PLATFORM_NAME.
 *
 * A statement costs PostgreSQL several times what one more address in it does, so look-ups travel in batches: eight of these are under way
 * at the most, what comes meanwhile waits for the next. If the server refuses a batch, each of its addresses is asked alone, so that
 * none fails for another.
 *
 * Invariant: an operation is in `waiting`, or has a place in one batch, or has a query of its own (PLATFORM_NAME), until its `done` has
 * run or it is cancelled. */
#include "smtpd/recipient.h"

#include "common/clock.h"
#include "common/list.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/pg.h"
#include "smtpd_stmts.h"

#include <stdio.h>

#define BATCH_MAX 64
#define BATCHES_MAX 8              /* under way */

enum stage { STAGE_DIRECT, STAGE_DOMAIN, STAGE_PLATFORM_NAME, STAGE_PLATFORM };

struct recipient_op {
	struct list link;             /* recipients->waiting or ->asked */
	struct recipients *owner;
	recipient_done *done;
	void *arg;
	enum stage stage;
	bool by_role;                 /* postmaster or abuse: must find a mailbox (RFC 5321 4.5.1, RFC 2142) */
	char canonical[ADDRESS_MAX + 1];
	char domain[ADDRESS_DOMAIN_MAX + 1];
	char asked[ADDRESS_MAX + 1];  /* the address at this stage */
	bool alone;                   /* the server refused a batch that it was in */
	struct pg_op *query;          /* PLATFORM_NAME */
	struct batch *batch;
	unsigned place;
};

struct batch {
	struct recipients *owner;
	struct pg_op *query;          /* NULL: free */
	struct recipient_op *ops[BATCH_MAX]; /* NULL: cancelled, or answered */
	unsigned count;
};

struct recipients {
	struct loop *loop;
	struct pg *pg;
	struct pg_params params;      /* reused */
	struct list waiting, asked;
	struct batch batches[BATCHES_MAX];
	struct deferred send;
};

static void ask(struct recipient_op *);
static void send_batches(void *arg);

struct recipients *recipients_new(struct loop *loop, struct pg *pg) {
	struct recipients *rs = xcalloc(1, sizeof(*rs));
	rs->loop = loop;
	rs->pg = pg;
	pg_params_init(&rs->params);
	list_init(&rs->waiting);
	list_init(&rs->asked);
	for (unsigned i = 0; i < BATCHES_MAX; i++)
		rs->batches[i].owner = rs;
	return rs;
}

static void leave_batch(struct recipient_op *op) {
	if (op->batch)
		op->batch->ops[op->place] = NULL;
	op->batch = NULL;
}

struct recipient_op *recipient_cancel(struct recipient_op *op) {
	if (op) {
		pg_op_cancel(op->query);
		leave_batch(op);
		list_unlink(&op->link);
		free(op);
	}
	return NULL;
}

struct recipients *recipients_free(struct recipients *rs) {
	struct list *l;
	if (!rs)
		return NULL;
	while ((l = list_first(&rs->waiting)) || (l = list_first(&rs->asked)))
		recipient_cancel(list_entry(l, struct recipient_op, link));
	for (unsigned i = 0; i < BATCHES_MAX; i++)
		pg_op_cancel(rs->batches[i].query);
	deferred_cancel(&rs->send);
	pg_params_fini(&rs->params);
	free(rs);
	return NULL;
}

static void finish(struct recipient_op *op, enum recipient_verdict verdict, const struct recipient *found) {
	recipient_done *done = op->done;
	void *arg = op->arg;
	recipient_cancel(op);
	done(arg, verdict, found);
}

static void no_postmaster(struct recipient_op *op) {
	struct log_line line;
	log_begin(&line, LOG_LEVEL_ERROR, "no postmaster mailbox");
	log_str(&line, "domain", op->domain);
	log_end(&line);
	finish(op, RECIPIENT_UNAVAILABLE, NULL); /* ours to mend: the sender tries again */
}

/* No mailbox at this stage: is there another to ask for? */
static void not_found(struct recipient_op *op, bool ours) {
	switch (op->stage) {
	case STAGE_DIRECT:
		if (!ours || !op->by_role) {
			finish(op, ours ? RECIPIENT_UNKNOWN : RECIPIENT_FOREIGN_DOMAIN, NULL);
			return;
		}
		op->stage = STAGE_DOMAIN;
		break;
	case STAGE_DOMAIN:
		op->stage = STAGE_PLATFORM_NAME;
		break;
	case STAGE_PLATFORM_NAME:
	case STAGE_PLATFORM:
		no_postmaster(op);
		return;
	}
	ask(op);
}

static void on_mailbox(struct recipient_op *op, const struct pg_rows *rows, unsigned row) {
	bool ours = pg_bool(rows, row, 1);
	if (pg_null(rows, row, 2)) {
		not_found(op, ours);
		return;
	}
	if (!ours) { /* the mailbox outlived its domain */
		finish(op, RECIPIENT_FOREIGN_DOMAIN, NULL);
		return;
	}
	if (!op->by_role && (pg_bool(rows, row, 4) || pg_bool(rows, row, 5))) {
		finish(op, pg_bool(rows, row, 4) ? RECIPIENT_DISABLED : RECIPIENT_DISABLED_NOW, NULL);
		return;
	}
	const struct recipient found = {.mailbox = pg_uuid(rows, row, 2), .user = pg_uuid(rows, row, 6), .expires_at = pg_time(rows, row, 3)};
	finish(op, RECIPIENT_OK, &found);
}

static void log_refusal(const struct pg_result *result) {
	log_msg(LOG_LEVEL_ERROR, "recipient look-up failed", "%s %s", result->sqlstate, result->message);
}

static void on_platform_name(void *arg, const struct pg_result *result) {
	struct recipient_op *op = arg;
	const struct pg_rows *rows = result->rows;
	op->query = NULL;
	if (result->status != PG_OK) {
		if (result->status == PG_ERROR)
			log_refusal(result);
		finish(op, RECIPIENT_UNAVAILABLE, NULL);
		return;
	}
	if (pg_rows_count(rows) == 0) {
		not_found(op, false);
		return;
	}
	struct slice name = pg_text(rows, 0, 0);
	snprintf(op->domain, sizeof(op->domain), "%.*s", (int)name.n, name.p);
	op->stage = STAGE_PLATFORM;
	ask(op);
}

/* ---- batches ---- */

static void send_later(struct recipients *rs) {
	loop_defer(rs->loop, &rs->send, send_batches, rs);
}

static struct recipient_op *take(struct batch *b, unsigned place) {
	struct recipient_op *op = b->ops[place];
	if (op)
		leave_batch(op);
	return op;
}

static void on_found(struct batch *b, const struct pg_rows *rows) {
	for (unsigned i = 0; i < pg_rows_count(rows); i++) {
		struct recipient_op *op = take(b, (unsigned)pg_int(rows, i, 0) - 1);
		if (op)
			on_mailbox(op, rows, i);
	}
}

static void on_refused(struct batch *b, const struct pg_result *result) {
	log_refusal(result);
	for (unsigned i = b->count; i-- > 0;) {
		struct recipient_op *op = take(b, i);
		if (op && b->count == 1) {
			finish(op, RECIPIENT_UNAVAILABLE, NULL);
		} else if (op) {
			op->alone = true;
			list_unlink(&op->link);
			list_prepend(&op->owner->waiting, &op->link);
		}
	}
}

/* What waits was to go the same way: it has waited as long, and has the same answer. */
static void on_away(struct batch *b) {
	struct list waiting, *l;
	for (unsigned i = 0; i < b->count; i++) {
		struct recipient_op *op = take(b, i);
		if (op)
			finish(op, RECIPIENT_UNAVAILABLE, NULL);
	}
	list_init(&waiting);
	while ((l = list_first(&b->owner->waiting))) { /* not what `done` may start meanwhile */
		list_unlink(l);
		list_append(&waiting, l);
	}
	while ((l = list_first(&waiting)))
		finish(list_entry(l, struct recipient_op, link), RECIPIENT_UNAVAILABLE, NULL);
}

static void on_answer(void *arg, const struct pg_result *result) {
	struct batch *b = arg;
	switch (result->status) {
	case PG_OK:
		on_found(b, result->rows);
		break;
	case PG_ERROR:
		on_refused(b, result);
		break;
	case PG_UNAVAILABLE:
	case PG_IN_DOUBT:
		on_away(b);
		break;
	}
	b->query = NULL;
	send_later(b->owner);
}

static void fill(struct batch *b) {
	struct recipients *rs = b->owner;
	struct list *l;
	bool alone = false;
	for (b->count = 0; b->count < BATCH_MAX && !alone && (l = list_first(&rs->waiting)); b->count++) {
		struct recipient_op *op = list_entry(l, struct recipient_op, link);
		if (op->alone && b->count > 0)
			break;
		alone = op->alone;
		list_unlink(l);
		list_append(&rs->asked, l);
		op->batch = b;
		op->place = b->count;
		b->ops[b->count] = op;
	}
}

static void send_batch(struct batch *b) {
	struct pg_params *p = &b->owner->params;
	pg_params_reset(p);
	pg_param_array(p, PG_TEXT, b->count);
	for (unsigned i = 0; i < b->count; i++)
		pg_elem_text(p, b->ops[i]->domain, strlen(b->ops[i]->domain));
	pg_param_array(p, PG_INT2, b->count);
	for (unsigned i = 0; i < b->count; i++)
		pg_elem_int(p, PG_INT2, id_bucket_of_address(b->ops[i]->asked, strlen(b->ops[i]->asked)));
	pg_param_array(p, PG_TEXT, b->count);
	for (unsigned i = 0; i < b->count; i++)
		pg_elem_text(p, b->ops[i]->asked, strlen(b->ops[i]->asked));
	pg_param_time(p, clock_wall_us());
	b->query = pg_query(b->owner->pg, &STMT_RECIPIENTS_FIND, p, on_answer, b);
}

/* At the end of the turn, so that its look-ups share a batch. */
static void send_batches(void *arg) {
	struct recipients *rs = arg;
	for (unsigned i = 0; i < BATCHES_MAX && !list_empty(&rs->waiting); i++) {
		if (rs->batches[i].query)
			continue;
		fill(&rs->batches[i]);
		send_batch(&rs->batches[i]);
	}
}

/* ---- asking ---- */

static void ask_mailbox(struct recipient_op *op) {
	list_unlink(&op->link);
	list_append(&op->owner->waiting, &op->link);
	send_later(op->owner);
}

static void ask(struct recipient_op *op) {
	switch (op->stage) {
	case STAGE_DIRECT:
		snprintf(op->asked, sizeof(op->asked), "%s", op->canonical);
		ask_mailbox(op);
		break;
	case STAGE_DOMAIN:
	case STAGE_PLATFORM:
		snprintf(op->asked, sizeof(op->asked), "postmaster@%s", op->domain);
		ask_mailbox(op);
		break;
	case STAGE_PLATFORM_NAME:
		list_unlink(&op->link);
		list_append(&op->owner->asked, &op->link);
		pg_params_reset(&op->owner->params);
		op->query = pg_query(op->owner->pg, &STMT_PLATFORM_DOMAIN_FIRST, &op->owner->params, on_platform_name, op);
		break;
	}
}

struct recipient_op *recipient_start(struct recipients *rs, const struct address *address, recipient_done *done, void *arg) {
	struct recipient_op *op = xcalloc(1, sizeof(*op));
	op->owner = rs;
	op->done = done;
	op->arg = arg;
	op->stage = address->kind == ADDRESS_POSTMASTER ? STAGE_PLATFORM_NAME : STAGE_DIRECT;
	op->by_role = address_is_role(address);
	snprintf(op->canonical, sizeof(op->canonical), "%s", address->canonical);
	snprintf(op->domain, sizeof(op->domain), "%s", address->domain);
	ask(op);
	return op;
}
