/* RCPT -> mailbox. Nothing is kept, and look-ups of one address are not shared either: one that is under way may have been
 * answered before the mailbox was made that this client was told of.
 *
 *  DIRECT -no mailbox, but postmaster or abuse of a domain of ours-> DOMAIN -none-> PLATFORM_NAME -> PLATFORM -> verdict
 *  <Postmaster> starts at PLATFORM_NAME.
 *
 * Invariant: an operation has exactly one query under way, until its `done` has run or it is cancelled. */
#include "smtpd/recipient.h"

#include "common/clock.h"
#include "common/list.h"
#include "common/log.h"
#include "common/pg.h"
#include "smtpd_stmts.h"

#include <stdio.h>

enum stage { STAGE_DIRECT, STAGE_DOMAIN, STAGE_PLATFORM_NAME, STAGE_PLATFORM };

struct recipient_op {
	struct list link;
	struct recipients *owner;
	recipient_done *done;
	void *arg;
	enum stage stage;
	bool by_role;                 /* postmaster or abuse: must find a mailbox (RFC 5321 4.5.1, RFC 2142) */
	char canonical[ADDRESS_MAX + 1];
	char domain[ADDRESS_DOMAIN_MAX + 1];
	struct pg_op *query;
};

struct recipients {
	struct pg *pg;
	struct pg_params params;      /* reused */
	struct list ops;
};

static void ask(struct recipient_op *);

struct recipients *recipients_new(struct loop *loop, struct pg *pg) {
	(void)loop; /* completions are pg's, always on a later turn */
	struct recipients *rs = xcalloc(1, sizeof(*rs));
	rs->pg = pg;
	pg_params_init(&rs->params);
	list_init(&rs->ops);
	return rs;
}

struct recipient_op *recipient_cancel(struct recipient_op *op) {
	if (op) {
		pg_op_cancel(op->query);
		list_unlink(&op->link);
		free(op);
	}
	return NULL;
}

struct recipients *recipients_free(struct recipients *rs) {
	struct list *l;
	if (!rs)
		return NULL;
	while ((l = list_first(&rs->ops)))
		recipient_cancel(list_entry(l, struct recipient_op, link));
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

static void on_mailbox(struct recipient_op *op, const struct pg_rows *rows) {
	if (pg_null(rows, 0, 1)) {
		not_found(op, pg_bool(rows, 0, 0));
		return;
	}
	if (!pg_bool(rows, 0, 0)) { /* the mailbox outlived its domain */
		finish(op, RECIPIENT_FOREIGN_DOMAIN, NULL);
		return;
	}
	if (!op->by_role && (pg_bool(rows, 0, 3) || pg_bool(rows, 0, 4))) {
		finish(op, pg_bool(rows, 0, 3) ? RECIPIENT_DISABLED : RECIPIENT_DISABLED_NOW, NULL);
		return;
	}
	const struct recipient found = {pg_uuid(rows, 0, 1), pg_time(rows, 0, 2)};
	finish(op, RECIPIENT_OK, &found);
}

static void on_platform_name(struct recipient_op *op, const struct pg_rows *rows) {
	if (pg_rows_count(rows) == 0) {
		not_found(op, false);
		return;
	}
	struct slice name = pg_text(rows, 0, 0);
	snprintf(op->domain, sizeof(op->domain), "%.*s", (int)name.n, name.p);
	op->stage = STAGE_PLATFORM;
	ask(op);
}

static void on_answer(void *arg, const struct pg_result *result) {
	struct recipient_op *op = arg;
	op->query = NULL;
	if (result->status != PG_OK) {
		if (result->status == PG_ERROR)
			log_msg(LOG_LEVEL_ERROR, "recipient look-up failed", "%s %s", result->sqlstate, result->message);
		finish(op, RECIPIENT_UNAVAILABLE, NULL);
	} else if (op->stage == STAGE_PLATFORM_NAME) {
		on_platform_name(op, result->rows);
	} else {
		on_mailbox(op, result->rows);
	}
}

static void ask_mailbox(struct recipient_op *op, const char *canonical) {
	struct pg_params *p = &op->owner->params;
	size_t n = strlen(canonical);
	pg_params_reset(p);
	pg_param_cstring(p, op->domain);
	pg_param_int2(p, (int16_t)id_bucket_of_address(canonical, n));
	pg_param_text(p, canonical, n);
	pg_param_time(p, clock_wall_us());
	op->query = pg_query(op->owner->pg, &STMT_RECIPIENT_FIND, p, on_answer, op);
}

static void ask(struct recipient_op *op) {
	char postmaster[ADDRESS_MAX + 1];
	switch (op->stage) {
	case STAGE_DIRECT:
		ask_mailbox(op, op->canonical);
		break;
	case STAGE_DOMAIN:
	case STAGE_PLATFORM:
		snprintf(postmaster, sizeof(postmaster), "postmaster@%s", op->domain);
		ask_mailbox(op, postmaster);
		break;
	case STAGE_PLATFORM_NAME:
		pg_params_reset(&op->owner->params);
		op->query = pg_query(op->owner->pg, &STMT_PLATFORM_DOMAIN_FIRST, &op->owner->params, on_answer, op);
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
	list_append(&rs->ops, &op->link);
	ask(op);
	return op;
}
