/* Leases of calls. One entry for each account that asked lately; at most one question to the ledger under way for each.
 *
 *  no calls in hand, requests waiting -> ask -granted-> serve them
 *                                            -too few, the minute's-> refuse them, and others for MINUTE_PAUSE_US
 *                                            -too few, the day's--> hold: ask every HOLD_STEP_US; after QUOTA_HOLD_US refuse
 *                                                                   them, and others until asked again DAY_PAUSE_US later
 *
 * Invariants: calls in hand and requests waiting exclude each other. What is in hand is of the minute e->minute and goes
 * back when another has begun. An entry is freed only by the sweep, which no callback of a request runs in. */
#include "apid/quota.h"

#include "apid/principal.h"
#include "common/clock.h"
#include "common/list.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/pg.h"
#include "quota_stmts.h"

#define DAY_MINUTES 1440
#define CHAINS 4096
#define WANT_LEAST 4
#define WANT_MOST 1000
#define HOLD_STEP_US 50000
#define MINUTE_PAUSE_US 250000
#define DAY_PAUSE_US SECOND_US
#define SWEEP_STEP_US 10000
#define SWEEP_RETURNS 64 /* a step: minutes end for all accounts at once, and the queue of the database is bounded */

struct quota_op {
	struct list link; /* entry->waiting */
	quota_done *done;
	void *arg;
};

struct entry {
	struct entry *next; /* in its chain */
	struct quota *quota;
	struct id account;
	int64_t per_day, per_minute;    /* -1: none */
	int64_t minute;                 /* of all that follows; its day too */
	int64_t left, size;             /* of the lease in hand; of the last one granted */
	int64_t want;                   /* size of the next: doubles as leases are used up, halves with each minute */
	int64_t day_calls, minute_calls;/* of the ledger's last answer */
	int64_t used;                   /* last asked for, monotonic */
	struct list waiting;
	struct pg_op *op;
	int64_t op_minute, op_need;
	bool op_stale;                  /* asked under other limits: all that it brings goes back */
	bool op_recalled;               /* what it brings beyond need goes back */
	struct timer retry;
	int64_t hold_until;             /* monotonic; 0: no hold has begun this day */
	bool day_over;                  /* a hold of this day ended in vain */
	int64_t refuse_until;           /* monotonic; with `refuse` */
	enum quota_verdict refuse;
};

struct quota {
	struct loop *loop;
	struct pg *pg;
	unsigned workers;
	struct entry *chains[CHAINS];
	unsigned count, sweep_at;
	struct timer sweep;
	unsigned flying; /* statements under way */
	void (*closed)(void *arg);
	void *closed_arg;
};

static int64_t minute_now(void) {
	return clock_wall_us() / MINUTE_US;
}

static int64_t day_of(int64_t minute) {
	return minute / DAY_MINUTES;
}

/* ---- giving back ---- */

static void tell_closed(struct quota *q) {
	if (!q->closed || q->flying > 0 || timer_armed(&q->sweep))
		return;
	void (*closed)(void *arg) = q->closed;
	q->closed = NULL;
	closed(q->closed_arg);
}

/* Not tried again: it may have happened. */
static void on_returned(void *arg, const struct pg_result *result) {
	struct quota *q = arg;
	q->flying--;
	if (result->status != PG_OK)
		log_msg(LOG_LEVEL_WARNING, "unused calls not given back", "%s",
		        result->status == PG_ERROR ? result->message : "database away");
	tell_closed(q);
}

static void send_return(struct quota *q, const struct id *account, int64_t minute, int64_t n) {
	struct pg_params params;
	pg_params_init(&params);
	pg_param_uuid(&params, account);
	pg_param_int4(&params, (int32_t)day_of(minute));
	pg_param_int4(&params, (int32_t)minute);
	pg_param_int8(&params, n);
	q->flying++;
	pg_query(q->pg, &STMT_QUOTA_RETURN, &params, on_returned, q);
	pg_params_fini(&params);
}

/* Returns whether there was anything. */
static bool give_back(struct entry *e) {
	if (e->left == 0)
		return false;
	send_return(e->quota, &e->account, e->minute, e->left);
	e->day_calls = max_of(e->day_calls - e->left, 0);
	e->minute_calls = max_of(e->minute_calls - e->left, 0);
	e->left = e->size = 0;
	return true;
}

/* ---- entries ---- */

static struct entry **chain_of(const struct quota *q, const struct id *account) {
	/* The last octets of an id are random (common/id.h). */
	return (struct entry **)&q->chains[(account->b[14] << 8 | account->b[15]) % CHAINS];
}

static struct entry *find(const struct quota *q, const struct id *account) {
	struct entry *e = *chain_of(q, account);
	while (e && !id_equal(&e->account, account))
		e = e->next;
	return e;
}

static void on_retry(void *arg);

static int64_t until_next_minute(void) {
	return MINUTE_US - clock_wall_us() % MINUTE_US + SWEEP_STEP_US;
}

static struct entry *find_or_add(struct quota *q, const struct id *account) {
	struct entry *e = find(q, account);
	if (e)
		return e;
	struct entry **chain = chain_of(q, account);
	e = xcalloc(1, sizeof(*e));
	e->quota = q;
	e->account = *account;
	e->minute = minute_now();
	e->want = WANT_LEAST;
	e->per_day = e->per_minute = -1;
	list_init(&e->waiting);
	timer_init(&e->retry, q->loop, on_retry, e);
	e->next = *chain;
	*chain = e;
	q->count++;
	if (!timer_armed(&q->sweep))
		timer_arm(&q->sweep, until_next_minute());
	return e;
}

static void entry_free(struct entry *e) {
	struct list *l;
	pg_op_cancel(e->op);
	timer_fini(&e->retry);
	while ((l = list_first(&e->waiting))) {
		list_unlink(l);
		free(list_entry(l, struct quota_op, link));
	}
	free(e);
}

/* Another minute, and perhaps another day, has begun. Returns whether calls went back. */
static bool entry_turn(struct entry *e) {
	int64_t minute = minute_now();
	if (e->minute == minute)
		return false;
	bool gave = give_back(e);
	if (day_of(e->minute) != day_of(minute)) {
		e->day_calls = 0;
		e->day_over = false;
		e->hold_until = 0;
	}
	e->minute = minute;
	e->minute_calls = 0;
	e->refuse_until = 0;
	e->want = max_of(e->want / 2, WANT_LEAST);
	return gave;
}

/* Other limits: what was leased under the old ones goes back, and what they refused may be asked again. */
static void entry_limits(struct entry *e, const struct principal *who) {
	if (e->per_day == who->calls_per_day && e->per_minute == who->requests_per_minute)
		return;
	give_back(e);
	e->op_stale = e->op != NULL;
	e->per_day = who->calls_per_day;
	e->per_minute = who->requests_per_minute;
	e->day_over = false;
	e->hold_until = e->refuse_until = 0;
}

/* ---- who waits ---- */

static void op_finish(struct quota_op *op, enum quota_verdict verdict) {
	quota_done *done = op->done;
	void *arg = op->arg;
	list_unlink(&op->link);
	free(op);
	done(arg, verdict);
}

static void serve(struct entry *e) {
	struct list *l;
	while (e->left > 0 && (l = list_first(&e->waiting))) {
		e->left--;
		op_finish(list_entry(l, struct quota_op, link), QUOTA_OK);
	}
}

/* Those who wait now: an answer may bring the next request of its connection. */
static void refuse_all(struct entry *e, enum quota_verdict verdict) {
	struct list now, *l;
	list_init(&now);
	while ((l = list_first(&e->waiting))) {
		list_unlink(l);
		list_append(&now, l);
	}
	while ((l = list_first(&now)))
		op_finish(list_entry(l, struct quota_op, link), verdict);
}

static void refuse(struct entry *e, enum quota_verdict verdict, int64_t pause_us) {
	e->refuse = verdict;
	e->refuse_until = clock_mono_us() + pause_us;
	refuse_all(e, verdict);
}

/* ---- asking ---- */

static void on_leased(void *arg, const struct pg_result *result);

static int64_t lease_most(const struct entry *e) {
	int64_t share = e->per_day < 0 ? WANT_MOST : e->per_day / (200 * (int64_t)e->quota->workers);
	return max_of(min_of(e->want, share), 1);
}

static void param_limit(struct pg_params *params, int64_t limit) {
	if (limit < 0)
		pg_param_null(params);
	else
		pg_param_int8(params, limit);
}

/* For those who wait, or (nobody does) ahead of need. */
static void ask(struct entry *e) {
	struct pg_params params;
	assert(!e->op);
	e->op_need = 0;
	list_for_each (l, &e->waiting)
		e->op_need++;
	e->op_minute = e->minute;
	e->op_stale = e->op_recalled = false;
	e->quota->flying++;
	pg_params_init(&params);
	pg_param_uuid(&params, &e->account);
	pg_param_int4(&params, (int32_t)day_of(e->minute));
	pg_param_int4(&params, (int32_t)e->minute);
	pg_param_int8(&params, e->op_need);
	pg_param_int8(&params, lease_most(e));
	param_limit(&params, e->per_day);
	param_limit(&params, e->per_minute);
	pg_param_bool(&params, e->hold_until == 0);
	e->op = pg_query(e->quota->pg, &STMT_QUOTA_LEASE, &params, on_leased, e);
	pg_params_fini(&params);
}

static void on_retry(void *arg) {
	struct entry *e = arg;
	entry_turn(e);
	if (!e->op && !list_empty(&e->waiting))
		ask(e);
}

/* The ledger has fewer than wait here. */
static void exhausted(struct entry *e) {
	int64_t now = clock_mono_us();
	if (e->per_day < 0 || e->day_calls < e->per_day) {
		refuse(e, QUOTA_MINUTE, MINUTE_PAUSE_US);
		return;
	}
	if (e->hold_until == 0)
		e->hold_until = now + QUOTA_HOLD_US;
	if (now < e->hold_until) {
		timer_arm(&e->retry, HOLD_STEP_US);
		return;
	}
	e->day_over = true;
	refuse(e, QUOTA_DAY, DAY_PAUSE_US);
}

/* The answer is of this minute and these limits, or else what it brought goes back at once. */
static void take_lease(struct entry *e, const struct pg_rows *rows) {
	int64_t granted = pg_int(rows, 0, 0);
	entry_turn(e);
	if (e->op_minute != e->minute || e->op_stale) {
		if (granted > 0)
			send_return(e->quota, &e->account, e->op_minute, granted);
		if (!list_empty(&e->waiting))
			ask(e);
		return;
	}
	e->left += granted;
	e->size = granted;
	e->day_calls = pg_int(rows, 0, 1);
	e->minute_calls = pg_int(rows, 0, 2);
	e->want = min_of(e->want * 2, WANT_MOST);
	bool too_few = granted < e->op_need;
	serve(e);
	if (e->op_recalled && !e->op)
		give_back(e);
	if (list_empty(&e->waiting) || e->op)
		return;
	if (too_few)
		exhausted(e);
	else
		ask(e);
}

static void on_leased(void *arg, const struct pg_result *result) {
	struct entry *e = arg;
	e->op = NULL;
	e->quota->flying--;
	if (result->status == PG_ERROR)
		log_msg(LOG_LEVEL_ERROR, "no calls leased", "%s %s", result->sqlstate, result->message);
	if (result->status == PG_OK)
		take_lease(e, result->rows);
	else
		refuse_all(e, QUOTA_UNAVAILABLE);
	tell_closed(e->quota);
}

/* ---- for requests ---- */

static bool counts(const struct principal *who) {
	return who->kind == PRINCIPAL_KEY && (who->calls_per_day >= 0 || who->requests_per_minute >= 0);
}

static bool take_one(struct entry *e) {
	if (e->left == 0)
		return false;
	e->left--;
	if (!e->op && e->size > 1 && e->left <= e->size / 2)
		ask(e);
	return true;
}

struct quota_op *quota_start(struct quota *q, const struct principal *who, quota_done *done, void *arg,
                             enum quota_verdict *ret_verdict) {
	*ret_verdict = QUOTA_OK;
	if (!counts(who))
		return NULL;
	struct entry *e = find_or_add(q, &who->account_id);
	entry_turn(e);
	entry_limits(e, who);
	e->used = clock_mono_us();
	if (take_one(e))
		return NULL;
	if (e->used < e->refuse_until) {
		*ret_verdict = e->refuse;
		return NULL;
	}
	struct quota_op *op = xcalloc(1, sizeof(*op));
	op->done = done;
	op->arg = arg;
	list_append(&e->waiting, &op->link);
	if (!e->op && !timer_armed(&e->retry))
		ask(e);
	return op;
}

struct quota_op *quota_cancel(struct quota_op *op) {
	if (!op)
		return NULL;
	list_unlink(&op->link);
	free(op);
	return NULL;
}

void quota_refund(struct quota *q, const struct principal *who, int64_t taken_us) {
	if (!counts(who))
		return;
	struct entry *e = find(q, &who->account_id);
	int64_t minute = taken_us / MINUTE_US;
	if (!e || e->minute != minute || e->day_over) { /* day_over: others may have a request waiting */
		send_return(q, &who->account_id, minute, 1);
		return;
	}
	e->left++;
	serve(e);
}

void quota_state(const struct quota *q, const struct principal *who, struct quota_state *ret) {
	const struct entry *e = find(q, &who->account_id);
	int64_t second = clock_wall_us() / SECOND_US, minute = second / 60;
	int64_t left = 0, day_calls = 0, minute_calls = 0;
	if (e && day_of(e->minute) == day_of(minute))
		day_calls = e->day_calls;
	if (e && e->minute == minute) {
		minute_calls = e->minute_calls;
		left = e->left;
	}
	*ret = (struct quota_state){
	    .day_limit = who->calls_per_day,
	    .day_left = who->calls_per_day < 0 ? -1 : max_of(who->calls_per_day - day_calls + left, 0),
	    .minute_limit = who->requests_per_minute,
	    .minute_left = who->requests_per_minute < 0 ? -1 : max_of(who->requests_per_minute - minute_calls + left, 0),
	    .day_ends = (second / 86400 + 1) * 86400,
	    .day_seconds = (int)(86400 - second % 86400),
	    .minute_seconds = (int)(60 - second % 60),
	};
}

/* ---- the worker's ---- */

/* Somebody found the ledger empty. */
static void on_notify(void *arg, const char *channel, const char *payload) {
	struct quota *q = arg;
	struct id account;
	if (strcmp(channel, QUOTA_CHANNEL) != 0 || !id_parse(payload, strlen(payload), &account))
		return;
	struct entry *e = find(q, &account);
	if (!e)
		return;
	give_back(e);
	e->op_recalled = e->op != NULL;
}

/* Nobody waits and nothing is in hand or under way. A day that is over stays known for a while. */
static bool entry_idle(const struct entry *e) {
	return !e->op && e->left == 0 && list_empty(&e->waiting) && clock_mono_us() - e->used > MINUTE_US;
}

/* One chain; returns how many entries gave calls back. */
static unsigned sweep_chain(struct quota *q, unsigned chain) {
	unsigned gave = 0;
	for (struct entry **at = &q->chains[chain]; *at;) {
		struct entry *e = *at;
		gave += q->closed ? give_back(e) : entry_turn(e);
		e->op_recalled = e->op_recalled || q->closed;
		if (!entry_idle(e)) {
			at = &e->next;
			continue;
		}
		*at = e->next;
		entry_free(e);
		q->count--;
	}
	return gave;
}

/* In steps, so that minutes that end for many accounts at once do not flood the database. */
static void on_sweep(void *arg) {
	struct quota *q = arg;
	unsigned gave = 0;
	while (q->sweep_at < CHAINS && gave < SWEEP_RETURNS)
		gave += sweep_chain(q, q->sweep_at++);
	if (q->sweep_at < CHAINS) {
		timer_arm(&q->sweep, SWEEP_STEP_US);
		return;
	}
	q->sweep_at = 0;
	if (q->closed)
		tell_closed(q);
	else if (q->count > 0)
		timer_arm(&q->sweep, until_next_minute());
}

struct quota *quota_new(struct loop *loop, struct pg *pg, unsigned workers) {
	struct quota *q = xcalloc(1, sizeof(*q));
	q->loop = loop;
	q->pg = pg;
	q->workers = max_of(workers, 1u);
	timer_init(&q->sweep, loop, on_sweep, q);
	pg_on_notify(pg, on_notify, q);
	return q;
}

void quota_close(struct quota *q, void (*done)(void *arg), void *arg) {
	q->closed = done;
	q->closed_arg = arg;
	q->sweep_at = 0;
	timer_arm(&q->sweep, 1);
}

struct quota *quota_free(struct quota *q) {
	if (!q)
		return NULL;
	for (unsigned i = 0; i < CHAINS; i++) {
		struct entry *e;
		while ((e = q->chains[i])) {
			q->chains[i] = e->next;
			entry_free(e);
		}
	}
	timer_fini(&q->sweep);
	pg_on_notify(q->pg, NULL, NULL);
	free(q);
	return NULL;
}
