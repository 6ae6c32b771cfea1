/* GET /v1/audit and GET /v1/usage: what was asked of the API. An owner sees the account's, a member his own. */
#include "apid/api.h"
#include "apid/api_common.h"
#include "apid/handlers.h"
#include "apid/principal.h"
#include "apid/quota.h"
#include "audit_stmts.h"
#include "common/clock.h"

#define KEPT_DAYS 30
#define LIST_DEFAULT 100
#define BODY_MAX (32 << 20)

/* The account, and the user unless all of the account's may be seen. */
static void param_whose(struct pg_params *p, const struct principal *who) {
	pg_param_uuid(p, &who->account_id);
	if (who->account_owner)
		pg_param_null(p);
	else
		pg_param_uuid(p, &who->user_id);
}

/* ---- Audit ---- */

struct audit_query {
	struct api_page page;
	struct id key;
	bool key_given;
	int64_t since, until;
	int status; /* 0: any */
};

/* False: answered. Absent: as it is. */
static bool read_time(struct request *r, const char *name, int64_t *ret) {
	struct slice text = request_query(r, name);
	if (!text.p || clock_parse_rfc3339(text.p, text.n, ret))
		return true;
	respond_problem(r, PROBLEM_BAD_REQUEST, "%s must be a time like 2026-11-24T15:00:00Z", name);
	return false;
}

static bool read_status(struct request *r, int *ret) {
	struct slice text = request_query(r, "status");
	if (!text.p)
		return true;
	*ret = 0;
	for (size_t i = 0; i < text.n && text.n == 3 && text.p[i] >= '0' && text.p[i] <= '9'; i++)
		*ret = *ret * 10 + (text.p[i] - '0');
	if (*ret >= 100)
		return true;
	respond_problem(r, PROBLEM_BAD_REQUEST, "status must be a status of three digits");
	return false;
}

static bool read_key(struct request *r, struct audit_query *q) {
	struct slice text = request_query(r, "key");
	q->key_given = text.p != NULL;
	if (!text.p || id_parse(text.p, text.n, &q->key))
		return true;
	respond_problem(r, PROBLEM_BAD_REQUEST, "key must be the id of a key");
	return false;
}

static void write_text(struct json_out *j, const char *key, struct slice s) {
	json_out_member_string(j, key, s.p, s.n);
}

static void write_entry(struct json_out *j, const struct pg_rows *rows, unsigned i) {
	struct id id = pg_uuid(rows, i, 0);
	json_out_object(j);
	json_out_member_id(j, "id", &id);
	json_out_member_time(j, "time", pg_time(rows, i, 1));
	json_out_member_cstring(j, "actor", !pg_null(rows, i, 2) ? "key" : pg_bool(rows, i, 9) ? "operator" : "console");
	if (pg_null(rows, i, 2)) {
		json_out_member_cstring(j, "keyId", NULL);
	} else {
		struct id key = pg_uuid(rows, i, 2);
		json_out_member_id(j, "keyId", &key);
	}
	write_text(j, "keyName", pg_text(rows, i, 3));
	write_text(j, "last8", pg_text(rows, i, 4));
	write_text(j, "method", pg_text(rows, i, 5));
	write_text(j, "route", pg_text(rows, i, 6));
	json_out_member_int(j, "status", pg_int(rows, i, 7));
	write_text(j, "requestId", pg_text(rows, i, 8));
	json_out_object_end(j);
}

static void audit_rows(struct request *r, void *arg, const struct pg_result *result) {
	const struct audit_query *q = arg;
	unsigned n = pg_rows_count(result->rows), shown = min_of(n, q->page.limit);
	struct buf body;
	struct json_out j;
	api_items_begin(&j, &body, BODY_MAX);
	for (unsigned i = 0; i < shown; i++)
		write_entry(&j, result->rows, i);
	struct id last = {0};
	if (n > shown)
		last = pg_uuid(result->rows, shown - 1, 0);
	api_items_answer(r, &j, &body, API_LIST_AUDIT, n > shown ? &last : NULL);
}

void api_audit_list(struct request *r) {
	struct audit_query *q = request_alloc(r, sizeof(*q));
	int64_t now = clock_wall_us();
	q->since = now - KEPT_DAYS * DAY_US;
	q->until = now + DAY_US; /* clocks differ */
	if (!api_page(r, API_LIST_AUDIT, LIST_DEFAULT, &q->page) || !read_key(r, q) || !read_status(r, &q->status) ||
	    !read_time(r, "since", &q->since) || !read_time(r, "until", &q->until))
		return;
	if (!q->page.has_cursor)
		memset(&q->page.cursor, 0xff, sizeof(q->page.cursor));
	struct pg_params p;
	pg_params_init(&p);
	param_whose(&p, request_principal(r));
	pg_param_time(&p, q->since);
	pg_param_time(&p, q->until);
	pg_param_uuid(&p, &q->page.cursor);
	if (q->key_given)
		pg_param_uuid(&p, &q->key);
	else
		pg_param_null(&p);
	if (q->status)
		pg_param_int2(&p, (int16_t)q->status);
	else
		pg_param_null(&p);
	pg_param_int8(&p, (int64_t)q->page.limit + 1);
	api_query(r, &STMT_AUDIT_LIST, &p, audit_rows, q);
	pg_params_fini(&p);
}

/* ---- Usage ---- */

static void write_date(struct json_out *j, int64_t day) {
	char text[CLOCK_RFC3339_SIZE];
	clock_format_rfc3339(day * DAY_US, text);
	json_out_member_string(j, "date", text, 10);
}

static void write_limit(struct json_out *j, const char *key, int64_t limit) {
	if (limit < 0)
		json_out_member_cstring(j, key, NULL);
	else
		json_out_member_int(j, key, limit);
}

/* What the account used today: of the ledger where there is a limit, else what has been written of its keys. */
static void write_today(struct request *r, struct json_out *j, int64_t written) {
	const struct principal *who = request_principal(r);
	struct quota_state s = {.day_limit = -1, .minute_limit = -1};
	int64_t day = clock_wall_us() / DAY_US;
	if (request_api(r)->quota)
		quota_state(request_api(r)->quota, who, &s);
	json_out_key(j, "today");
	json_out_object(j);
	write_date(j, day);
	json_out_member_int(j, "calls", s.day_limit < 0 || who->kind != PRINCIPAL_KEY ? written : s.day_limit - s.day_left);
	write_limit(j, "limit", s.day_limit);
	write_limit(j, "limitPerMinute", s.minute_limit);
	json_out_member_time(j, "reset", (day + 1) * DAY_US);
	json_out_object_end(j);
}

static void write_days(struct json_out *j, const int64_t calls[KEPT_DAYS], int64_t first) {
	json_out_key(j, "days");
	json_out_array(j);
	for (unsigned i = 0; i < KEPT_DAYS; i++) {
		json_out_object(j);
		write_date(j, first + i);
		json_out_member_int(j, "calls", calls[i]);
		json_out_object_end(j);
	}
	json_out_array_end(j);
}

/* The rows of one key from row i on; returns the row after them. */
static unsigned write_key(struct json_out *j, const struct pg_rows *rows, unsigned i, int64_t first) {
	struct id key = pg_uuid(rows, i, 0);
	int64_t calls[KEPT_DAYS] = {0};
	json_out_object(j);
	json_out_member_id(j, "keyId", &key);
	write_text(j, "name", pg_text(rows, i, 3));
	write_text(j, "last8", pg_text(rows, i, 4));
	for (; i < pg_rows_count(rows); i++) {
		struct id of = pg_uuid(rows, i, 0);
		int64_t day = pg_int(rows, i, 1) - first;
		if (!id_equal(&of, &key))
			break;
		if (day >= 0 && day < KEPT_DAYS)
			calls[day] = pg_int(rows, i, 2);
	}
	json_out_member_int(j, "today", calls[KEPT_DAYS - 1]);
	write_days(j, calls, first);
	json_out_object_end(j);
	return i;
}

static void usage_rows(struct request *r, void *arg, const struct pg_result *result) {
	const struct pg_rows *rows = result->rows;
	int64_t first = clock_wall_us() / DAY_US - KEPT_DAYS + 1, calls[KEPT_DAYS] = {0};
	struct buf body;
	struct json_out j;
	for (unsigned i = 0; i < pg_rows_count(rows); i++) {
		int64_t day = pg_int(rows, i, 1) - first;
		if (day >= 0 && day < KEPT_DAYS)
			calls[day] += pg_int(rows, i, 2);
	}
	buf_init(&body, BODY_MAX);
	json_out_init(&j, &body);
	json_out_object(&j);
	write_today(r, &j, calls[KEPT_DAYS - 1]);
	write_days(&j, calls, first);
	json_out_key(&j, "keys");
	json_out_array(&j);
	for (unsigned i = 0; i < pg_rows_count(rows);)
		i = write_key(&j, rows, i, first);
	json_out_array_end(&j);
	json_out_object_end(&j);
	api_answer_json(r, 200, &body);
}

void api_usage_get(struct request *r) {
	struct pg_params p;
	pg_params_init(&p);
	param_whose(&p, request_principal(r));
	pg_param_int4(&p, (int32_t)(clock_wall_us() / DAY_US - KEPT_DAYS));
	api_query(r, &STMT_USAGE_LIST, &p, usage_rows, NULL);
	pg_params_fini(&p);
}
