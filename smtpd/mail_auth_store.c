/* Rows wait a moment for company, then go in one statement: a commit a batch instead of one a message. One statement is under way at
 * a time. A batch that fails on one of its rows (its message was deleted: 23503) is sent again row by row. */
#include "smtpd/mail_auth_store.h"

#include "common/list.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/pg.h"
#include "smtpd/smtpd_metrics.h"
#include "smtpd_stmts.h"

#define BATCH_MAX 64
#define ROWS_MAX 10000             /* waiting; more are given up */
#define GATHER_US 50000
#define RETRY_US 1000000
#define TRIES_MAX 10

struct row {
	struct list link;
	struct mail_auth_row of;
	char *results;
	size_t n;
	bool forged;
	bool alone;                    /* its batch failed */
	unsigned tries;
};

struct mail_auth_store {
	struct pg *pg;
	struct metrics *metrics;
	void (*idle)(void *arg);
	void *idle_arg;
	struct list waiting, sent;
	unsigned count;                /* in both */
	struct timer timer;
	struct pg_op *op;
	struct pg_params params;
};

static void send_batch(void *arg);

struct mail_auth_store *mail_auth_store_new(struct loop *loop, struct pg *pg, struct metrics *metrics, void (*idle)(void *arg),
                                            void *arg) {
	struct mail_auth_store *s = xcalloc(1, sizeof(*s));
	s->pg = pg;
	s->metrics = metrics;
	s->idle = idle;
	s->idle_arg = arg;
	list_init(&s->waiting);
	list_init(&s->sent);
	timer_init(&s->timer, loop, send_batch, s);
	pg_params_init(&s->params);
	return s;
}

static void row_free(struct mail_auth_store *s, struct row *row) {
	list_unlink(&row->link);
	free(row->results);
	free(row);
	s->count--;
}

struct mail_auth_store *mail_auth_store_free(struct mail_auth_store *s) {
	struct list *l;
	if (!s)
		return NULL;
	s->op = pg_op_cancel(s->op);
	while ((l = list_first(&s->sent)) || (l = list_first(&s->waiting)))
		row_free(s, list_entry(l, struct row, link));
	timer_fini(&s->timer);
	pg_params_fini(&s->params);
	free(s);
	return NULL;
}

bool mail_auth_store_idle(const struct mail_auth_store *s) {
	return s->count == 0;
}

static void give_up(struct mail_auth_store *s, struct row *row) {
	metrics_add(s->metrics, SMTPD_AUTH_LOST, 1);
	row_free(s, row);
}

/* ---- what came of it ---- */

static void on_written(struct mail_auth_store *s) {
	struct list *l;
	while ((l = list_first(&s->sent)))
		row_free(s, list_entry(l, struct row, link));
}

/* Back to the head of the queue, in order. */
static void again(struct mail_auth_store *s, bool alone) {
	while (!list_empty(&s->sent)) {
		struct row *row = list_entry(s->sent.prev, struct row, link);
		list_unlink(&row->link);
		list_prepend(&s->waiting, &row->link);
		row->alone = row->alone || alone;
		if (!alone && ++row->tries >= TRIES_MAX)
			give_up(s, row);
	}
}

static void on_refused(struct mail_auth_store *s, const struct pg_result *result) {
	bool gone = strcmp(result->sqlstate, "23503") == 0;
	struct row *first = list_entry(list_first(&s->sent), struct row, link);
	if (!gone)
		log_msg(LOG_LEVEL_ERROR, "authentication results not stored", "%s %s", result->sqlstate, result->message);
	if (list_first(&s->sent) != s->sent.prev)
		again(s, true);
	else if (gone)
		row_free(s, first);
	else
		give_up(s, first);
}

static void on_result(void *arg, const struct pg_result *result) {
	struct mail_auth_store *s = arg;
	s->op = NULL;
	int64_t pause = 0;
	switch (result->status) {
	case PG_OK:
		on_written(s);
		break;
	case PG_ERROR:
		on_refused(s, result);
		break;
	case PG_UNAVAILABLE:
	case PG_IN_DOUBT: /* the statement does no harm twice */
		again(s, false);
		pause = RETRY_US;
		break;
	}
	if (!list_empty(&s->waiting))
		timer_arm(&s->timer, pause);
	else if (s->idle)
		s->idle(s->idle_arg);
}

/* ---- sending ---- */

static unsigned choose(struct mail_auth_store *s) {
	unsigned n = 0;
	struct list *l;
	while (n < BATCH_MAX && (l = list_first(&s->waiting))) {
		struct row *row = list_entry(l, struct row, link);
		if (row->alone && n > 0)
			break;
		list_unlink(l);
		list_append(&s->sent, l);
		n++;
		if (row->alone)
			break;
	}
	return n;
}

static void send_batch(void *arg) {
	struct mail_auth_store *s = arg;
	struct pg_params *p = &s->params;
	if (s->op)
		return; /* its end sends the next */
	unsigned n = choose(s);
	if (n == 0)
		return;
	pg_params_reset(p);
	pg_param_array(p, PG_INT2, n);
	list_for_each (l, &s->sent)
		pg_elem_int(p, PG_INT2, (int64_t)id_bucket(&list_entry(l, struct row, link)->of.message));
	pg_param_array(p, PG_UUID, n);
	list_for_each (l, &s->sent)
		pg_elem_uuid(p, &list_entry(l, struct row, link)->of.message);
	pg_param_array(p, PG_TEXT, n);
	list_for_each (l, &s->sent)
		pg_elem_text(p, list_entry(l, struct row, link)->results, list_entry(l, struct row, link)->n);
	pg_param_array(p, PG_BOOL, n);
	list_for_each (l, &s->sent)
		pg_elem_int(p, PG_BOOL, list_entry(l, struct row, link)->forged);
	pg_param_array(p, PG_UUID, n);
	list_for_each (l, &s->sent)
		pg_elem_uuid(p, &list_entry(l, struct row, link)->of.user);
	s->op = pg_query(s->pg, &STMT_MESSAGE_AUTHENTICATION_INSERT, p, on_result, s);
}

void mail_auth_store_add(struct mail_auth_store *s, const struct mail_auth_row *of, const char *results, size_t n, bool forged) {
	if (s->count >= ROWS_MAX) {
		metrics_add(s->metrics, SMTPD_AUTH_LOST, 1);
		return;
	}
	struct row *row = xcalloc(1, sizeof(*row));
	row->of = *of;
	row->results = xmemdup(results, n);
	row->n = n;
	row->forged = forged;
	list_append(&s->waiting, &row->link);
	if (++s->count == BATCH_MAX && !s->op)
		timer_arm(&s->timer, 0);
	else if (!s->op && !timer_armed(&s->timer))
		timer_arm(&s->timer, GATHER_US);
}
