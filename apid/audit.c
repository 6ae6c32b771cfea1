/* A queue and the one batch of it that is under way.
 *
 *  entries wait -AUDIT_GATHER_US, or AUDIT_BATCH of them-> batch sent -written-> next
 *                                                                     -unknown, not sent-> the same again, RETRY_US later
 *                                                                     -refused-> dropped: it would be refused again
 *
 * Invariants: `waiting_count` is what the gauge says. The first `sent` entries of the queue are the batch under way; they keep their ids,
 * so a batch that is sent again is written once. */
#include "apid/audit.h"

#include "apid/apid_metrics.h"
#include "apid/principal.h"
#include "audit_stmts.h"
#include "common/clock.h"
#include "common/list.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/pg.h"

#define RETRY_US 1000000
#define REQUEST_ID_SIZE 65

struct entry {
	struct list link;
	struct principal *who;
	struct id id;
	int64_t at;
	const char *method, *route;
	unsigned status;
	char request_id[REQUEST_ID_SIZE];
};

struct audit {
	struct pg *pg;
	struct metrics *metrics;
	struct pg_op *op;
	struct timer timer;
	struct list waiting;
	unsigned count, sent;
	unsigned waiting_count; /* promised, or in the queue */
	void (*closed)(void *arg);
	void *closed_arg;
};

static void count_waiting(struct audit *a, int n) {
	a->waiting_count += (unsigned)n;
	if (a->metrics)
		metrics_set(a->metrics, APID_AUDIT_WAITING, a->waiting_count);
}

static void drop_first(struct audit *a, unsigned n) {
	count_waiting(a, -(int)n);
	while (n-- > 0) {
		struct entry *e = list_entry(list_first(&a->waiting), struct entry, link);
		list_unlink(&e->link);
		principal_unref(e->who);
		free(e);
		a->count--;
	}
}

static void dropped(struct audit *a, unsigned n, const char *why) {
	if (n == 0)
		return;
	apid_count(a->metrics, APID_AUDIT_DROPPED, n);
	log_msg(LOG_LEVEL_ERROR, "audit entries dropped", "%u: %s", n, why);
}

/* ---- the statement ---- */

static const char *key_text(const struct entry *e, const char *text) {
	return e->who->kind == PRINCIPAL_KEY ? text : NULL;
}

static void put_text(struct pg_params *p, const char *s) {
	if (s)
		pg_elem_text(p, s, strlen(s));
	else
		pg_elem_null(p);
}

/* Of the columns of api_audit. */
enum column { ACCOUNT, ID, AT, USER, KEY, KEY_NAME, LAST8, METHOD, ROUTE, STATUS, REQUEST_ID, COLUMNS };

static void put(struct pg_params *p, const struct entry *e, enum column c) {
	switch (c) {
	case ACCOUNT:
		pg_elem_uuid(p, &e->who->account_id);
		return;
	case ID:
		pg_elem_uuid(p, &e->id);
		return;
	case AT:
		pg_elem_time(p, e->at);
		return;
	case USER:
		pg_elem_uuid(p, &e->who->user_id);
		return;
	case KEY:
		if (e->who->kind == PRINCIPAL_KEY)
			pg_elem_uuid(p, &e->who->key_id);
		else
			pg_elem_null(p);
		return;
	case KEY_NAME:
		put_text(p, key_text(e, e->who->key_name));
		return;
	case LAST8:
		put_text(p, key_text(e, e->who->last8));
		return;
	case METHOD:
		put_text(p, e->method);
		return;
	case ROUTE:
		put_text(p, e->route);
		return;
	case STATUS:
		pg_elem_int(p, PG_INT2, e->status);
		return;
	case REQUEST_ID:
		put_text(p, e->request_id);
		return;
	case COLUMNS:
		return;
	}
}

/* Calls of one key a day, as far as neighbours in the batch go; the statement adds up the rest. */
struct count {
	const struct principal *who;
	int64_t day, calls;
};

/* As sql/queries/audit.sql has it of a batch that is sent again. */
static bool counts(const struct entry *e) {
	return e->who->kind == PRINCIPAL_KEY && e->status != 429 && e->status < 500;
}

static struct count *count_of(struct count *c, unsigned n, const struct entry *e) {
	int64_t day = e->at / DAY_US;
	for (unsigned i = n; i > 0; i--)
		if (c[i - 1].who == e->who && c[i - 1].day == day)
			return &c[i - 1];
	c[n] = (struct count){.who = e->who, .day = day};
	return &c[n];
}

static void put_counts(struct pg_params *p, const struct count *c, unsigned n) {
	pg_param_array(p, PG_UUID, n);
	for (unsigned i = 0; i < n; i++)
		pg_elem_uuid(p, &c[i].who->account_id);
	pg_param_array(p, PG_UUID, n);
	for (unsigned i = 0; i < n; i++)
		pg_elem_uuid(p, &c[i].who->key_id);
	pg_param_array(p, PG_INT4, n);
	for (unsigned i = 0; i < n; i++)
		pg_elem_int(p, PG_INT4, c[i].day);
	pg_param_array(p, PG_UUID, n);
	for (unsigned i = 0; i < n; i++)
		pg_elem_uuid(p, &c[i].who->user_id);
	pg_param_array(p, PG_INT8, n);
	for (unsigned i = 0; i < n; i++)
		pg_elem_int(p, PG_INT8, c[i].calls);
}

static void put_usage(struct pg_params *p, const struct audit *a) {
	struct count counted[AUDIT_BATCH];
	struct list *l = a->waiting.next;
	unsigned n = 0;
	for (unsigned i = 0; i < a->sent; i++, l = l->next) {
		const struct entry *e = list_entry(l, struct entry, link);
		if (!counts(e))
			continue;
		struct count *c = count_of(counted, n, e);
		n += c == &counted[n];
		c->calls++;
	}
	put_counts(p, counted, n);
}

static void on_written(void *arg, const struct pg_result *result);

static void send_batch(struct audit *a) {
	static const enum pg_elem types[COLUMNS] = {PG_UUID, PG_UUID, PG_TIMESTAMPTZ, PG_UUID, PG_UUID, PG_TEXT,
	                                            PG_TEXT, PG_TEXT, PG_TEXT,        PG_INT2, PG_TEXT};
	struct pg_params params;
	bool again = a->sent > 0;
	if (!again)
		a->sent = min_of(a->count, AUDIT_BATCH);
	pg_params_init(&params);
	for (enum column c = 0; c < COLUMNS; c++) {
		struct list *l = a->waiting.next;
		pg_param_array(&params, types[c], a->sent);
		for (unsigned i = 0; i < a->sent; i++, l = l->next)
			put(&params, list_entry(l, struct entry, link), c);
	}
	if (!again)
		put_usage(&params, a);
	a->op = pg_query(a->pg, again ? &STMT_AUDIT_WRITE_AGAIN : &STMT_AUDIT_WRITE, &params, on_written, a);
	pg_params_fini(&params);
}

static void tell_closed(struct audit *a) {
	void (*closed)(void *arg) = a->closed;
	a->closed = NULL;
	if (closed)
		closed(a->closed_arg);
}

/* Whatever is next: a batch, a wait, or the end. */
static void go_on(struct audit *a) {
	if (a->op || timer_armed(&a->timer))
		return;
	if (a->count == 0)
		tell_closed(a);
	else if (a->closed || a->count >= AUDIT_BATCH)
		send_batch(a);
	else
		timer_arm(&a->timer, AUDIT_GATHER_US);
}

static void give_up(struct audit *a) {
	dropped(a, a->count, "the database is away and the worker ends");
	drop_first(a, a->count);
	a->sent = 0;
}

static bool passing(const struct pg_result *result) {
	return result->status != PG_ERROR || pg_passing(result->sqlstate);
}

static void on_written(void *arg, const struct pg_result *result) {
	struct audit *a = arg;
	a->op = NULL;
	if (result->status != PG_OK && passing(result)) {
		if (a->closed)
			give_up(a);
		else
			timer_arm(&a->timer, RETRY_US);
	} else {
		if (result->status == PG_ERROR)
			dropped(a, a->sent, result->message);
		else
			apid_count(a->metrics, APID_AUDIT_WRITTEN, a->sent);
		drop_first(a, a->sent);
		a->sent = 0;
	}
	go_on(a);
}

static void on_timer(void *arg) {
	struct audit *a = arg;
	if (a->closed && a->count > 0 && !pg_up(a->pg))
		give_up(a);
	if (a->count > 0 && !a->op)
		send_batch(a);
	go_on(a);
}

/* ---- for the worker ---- */

struct audit *audit_new(struct loop *loop, struct pg *pg, struct metrics *metrics) {
	struct audit *a = xcalloc(1, sizeof(*a));
	a->pg = pg;
	a->metrics = metrics;
	list_init(&a->waiting);
	timer_init(&a->timer, loop, on_timer, a);
	return a;
}

struct audit *audit_free(struct audit *a) {
	if (!a)
		return NULL;
	pg_op_cancel(a->op);
	timer_fini(&a->timer);
	dropped(a, a->count, "the worker ends");
	drop_first(a, a->count);
	free(a);
	return NULL;
}

void audit_promise(struct audit *a) {
	count_waiting(a, 1);
}

void audit_note(struct audit *a, struct principal *who, const char *method, const char *route, unsigned status,
                const char *request_id) {
	if (a->count >= AUDIT_MOST) {
		static struct log_limit limit = {.what = "audit entry dropped", .per_second = 1};
		apid_count(a->metrics, APID_AUDIT_DROPPED, 1);
		if (log_limit_pass(&limit))
			log_msg(LOG_LEVEL_ERROR, "audit entry dropped", "%u wait for the database", a->count);
		count_waiting(a, -1);
		return;
	}
	struct entry *e = xmalloc(sizeof(*e));
	*e = (struct entry){
	    .who = principal_ref(who), .at = clock_wall_us(), .method = method, .route = route, .status = status};
	id_make(&e->id, e->at);
	size_t n = strnlen(request_id, sizeof(e->request_id) - 1);
	memcpy(e->request_id, request_id, n);
	e->request_id[n] = '\0';
	list_append(&a->waiting, &e->link);
	a->count++;
	if (a->count == AUDIT_BATCH && !a->op && a->sent == 0) {
		timer_disarm(&a->timer);
		send_batch(a);
	}
	go_on(a);
}

void audit_close(struct audit *a, void (*done)(void *arg), void *arg) {
	a->closed = done;
	a->closed_arg = arg;
	if (!a->op)
		timer_arm(&a->timer, 1);
}
