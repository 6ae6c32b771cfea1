/* Shared by the handlers: see the header. The listing at the end keeps a window of questions under way, so that a
 * list of a thousand mailboxes neither waits a thousand round trips nor takes every slot of the worker's
 * connections. */
#include "apid/api_common.h"

#include "apid/api.h"
#include "apid/principal.h"
#include "apid_stmts.h"
#include "common/address_display.h"
#include "common/clock.h"
#include "common/log.h"

#include <sodium.h>
#include <stdio.h>

/* ---- Refusals ---- */

struct refusal {
	struct id mailbox;
	const char *missing;
	bool archived;
};

static void refuse_whose(struct request *r, void *arg, const struct pg_result *result) {
	const struct refusal *refusal = arg;
	char id[ID_TEXT_SIZE];
	id_format(&refusal->mailbox, id);
	const char *what = refusal->archived ? "archived mailbox" : "mailbox";
	bool there = pg_rows_count(result->rows) > 0;
	if (there && !pg_bool(result->rows, 0, 0))
		respond_problem(r, PROBLEM_FORBIDDEN, "%s %s is not your own or its domain is not on this key", what, id);
	else if (there && refusal->missing)
		respond_problem(r, PROBLEM_NOT_FOUND, "no %s in mailbox %s", refusal->missing, id);
	else
		respond_problem(r, PROBLEM_NOT_FOUND, "no %s %s", what, id);
}

void api_refuse(struct request *r, bool archived, const struct id *mailbox, const char *missing) {
	struct refusal *refusal = request_alloc(r, sizeof *refusal);
	*refusal = (struct refusal){.mailbox = *mailbox, .archived = archived};
	refusal->missing = missing ? request_strndup(r, missing, strlen(missing)) : NULL;
	struct pg_params p;
	pg_params_init(&p);
	api_param_object(&p, r, mailbox);
	api_query(r, archived ? &STMT_ARCHIVED_WHOSE : &STMT_MAILBOX_WHOSE, &p, refuse_whose, refusal);
	pg_params_fini(&p);
}

void api_refuse_mail(struct request *r, const struct id *mailbox, const struct id *mail) {
	char missing[5 + ID_TEXT_SIZE] = "mail ";
	id_format(mail, missing + 5);
	api_refuse(r, false, mailbox, missing);
}

void api_answer_bad_member(struct request *r, const struct json_in_error *error) {
	respond_problem(r, PROBLEM_BAD_REQUEST, "%s", error->text);
}

/* ---- Lists of ids ---- */

static int compare_ids(const void *a, const void *b, void *arg) {
	const struct id *ids = arg;
	unsigned i = *(const unsigned *)a, k = *(const unsigned *)b;
	int order = memcmp(&ids[i], &ids[k], sizeof *ids);
	return order ? order : (i > k) - (i < k);
}

/* Drops an id's later appearances and leaves `rising` indexing what stays. */
static void ids_unique(struct request *r, struct api_ids *ids) {
	bool *twice = request_alloc(r, ids->n * sizeof *twice);
	unsigned *place = request_alloc(r, ids->n * sizeof *place);
	qsort_r(ids->rising, ids->n, sizeof *ids->rising, compare_ids, ids->v);
	for (unsigned i = 1; i < ids->n; i++)
		twice[ids->rising[i]] = id_equal(&ids->v[ids->rising[i]], &ids->v[ids->rising[i - 1]]);
	unsigned kept = 0, sorted = 0;
	for (unsigned i = 0; i < ids->n; i++) {
		place[i] = kept;
		if (!twice[i])
			ids->v[kept++] = ids->v[i];
	}
	for (unsigned i = 0; i < ids->n; i++)
		if (!twice[ids->rising[i]])
			ids->rising[sorted++] = place[ids->rising[i]];
	assert(kept == sorted);
	ids->n = kept;
}

bool api_body_ids(struct request *r, struct api_ids *ret) {
	json_t *body = request_json(r, false);
	if (!body)
		return false;
	struct json_in_error error;
	const json_t *array = NULL;
	size_t n = 0;
	int got = json_in_strings(body, "ids", 1, API_IDS_MAX, &array, &n, &error);
	if (got < 0) {
		api_answer_bad_member(r, &error);
		return false;
	}
	if (got == 0) {
		respond_problem(r, PROBLEM_BAD_REQUEST, "member \"ids\" is missing");
		return false;
	}
	struct api_ids ids = {.n = (unsigned)n};
	ids.v = request_alloc(r, n * sizeof *ids.v);
	ids.rising = request_alloc(r, n * sizeof *ids.rising);
	for (unsigned i = 0; i < ids.n; i++) {
		struct slice text = json_in_element(array, i);
		ids.rising[i] = i;
		if (!id_parse(text.p, text.n, &ids.v[i])) {
			respond_problem(r, PROBLEM_BAD_REQUEST, "member \"ids\": element %u is not a UUID", i);
			return false;
		}
	}
	ids_unique(r, &ids);
	*ret = ids;
	return true;
}

/* ---- Pages ---- */

#define CURSOR_OCTETS 17

void api_cursor_encode(enum api_list kind, const struct id *last, char ret[API_CURSOR_SIZE]) {
	uint8_t octets[CURSOR_OCTETS];
	octets[0] = (uint8_t)kind;
	memcpy(octets + 1, last->b, sizeof last->b);
	sodium_bin2base64(ret, API_CURSOR_SIZE, octets, sizeof octets, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

bool api_cursor_decode(enum api_list kind, struct slice text, struct id *ret) {
	uint8_t octets[CURSOR_OCTETS];
	size_t n = 0;
	const char *end = NULL;
	if (text.n != API_CURSOR_SIZE - 1 || sodium_base642bin(octets, sizeof octets, text.p, text.n, NULL, &n, &end,
	                                                       sodium_base64_VARIANT_URLSAFE_NO_PADDING) < 0)
		return false;
	if (n != sizeof octets || end != text.p + text.n || octets[0] != (uint8_t)kind)
		return false;
	memcpy(ret->b, octets + 1, sizeof ret->b);
	return true;
}

/* 1..API_PAGE_MAX in decimal. */
static bool page_limit(struct slice text, unsigned *ret) {
	unsigned n = 0;
	if (text.n < 1 || text.n > 4)
		return false;
	for (size_t i = 0; i < text.n; i++) {
		if (text.p[i] < '0' || text.p[i] > '9')
			return false;
		n = n * 10 + (unsigned)(text.p[i] - '0');
	}
	if (n < 1 || n > API_PAGE_MAX)
		return false;
	*ret = n;
	return true;
}

bool api_page(struct request *r, enum api_list kind, unsigned limit_default, struct api_page *ret) {
	struct api_page page = {.limit = limit_default};
	struct slice limit = request_query(r, "limit"), cursor = request_query(r, "cursor");
	if (limit.p && !page_limit(limit, &page.limit)) {
		respond_problem(r, PROBLEM_BAD_REQUEST, "limit must be an integer from 1 to %d", API_PAGE_MAX);
		return false;
	}
	page.has_cursor = cursor.p != NULL;
	if (page.has_cursor && !api_cursor_decode(kind, cursor, &page.cursor)) {
		respond_problem(r, PROBLEM_BAD_REQUEST, "cursor is not a nextCursor of this list");
		return false;
	}
	*ret = page;
	return true;
}

/* ---- Writing ---- */

void json_out_member_id(struct json_out *j, const char *key, const struct id *id) {
	char text[ID_TEXT_SIZE];
	id_format(id, text);
	json_out_member_string(j, key, text, ID_TEXT_SIZE - 1);
}

void json_out_member_time(struct json_out *j, const char *key, int64_t wall_us) {
	json_out_key(j, key);
	if (wall_us == INT64_MAX)
		json_out_null(j);
	else
		json_out_time(j, wall_us);
}

void api_answer_json(struct request *r, unsigned status, struct buf *body) {
	if (!body->overflow) {
		respond_json(r, status, body);
		return;
	}
	log_msg(LOG_LEVEL_ERROR, "answer too large", "request %s: over %zu octets", request_id_text(r), body->ceiling);
	buf_fini(body);
	respond_problem(r, PROBLEM_INTERNAL, "the answer is too large");
}

void api_items_begin(struct json_out *j, struct buf *body, size_t room) {
	buf_init(body, room);
	json_out_init(j, body);
	json_out_object(j);
	json_out_key(j, "items");
	json_out_array(j);
}

void api_items_answer(struct request *r, struct json_out *j, struct buf *body, enum api_list kind, const struct id *last) {
	char cursor[API_CURSOR_SIZE];
	json_out_array_end(j);
	if (last) {
		api_cursor_encode(kind, last, cursor);
		json_out_member_cstring(j, "nextCursor", cursor);
	}
	json_out_object_end(j);
	api_answer_json(r, 200, body);
}

void api_etag(struct slice sha256, const char *suffix, char ret[API_ETAG_SIZE]) {
	size_t n = min_of(sha256.n, (size_t)16), at = 0;
	ret[at++] = '"';
	sodium_bin2hex(ret + at, API_ETAG_SIZE - at, (const unsigned char *)sha256.p, n);
	at += 2 * n;
	snprintf(ret + at, API_ETAG_SIZE - at, "%s\"", suffix ? suffix : "");
}

void api_address_write(struct json_out *j, struct slice address) {
	const char *at = address.n ? memrchr(address.p, '@', address.n) : NULL;
	size_t local = at ? (size_t)(at - address.p) : address.n;
	json_out_member_string(j, "alias", address.p, local);
	json_out_member_string(j, "domain", at ? at + 1 : "", at ? address.n - local - 1 : 0);
	json_out_member_string(j, "address", address.p, address.n);
	api_display_write(j, "displayDomain", slice_of(at ? at + 1 : "", at ? address.n - local - 1 : 0));
	api_display_write(j, "displayAddress", address);
}

void api_display_write(struct json_out *j, const char *key, struct slice text) {
	struct buf shown;
	if (!text.p || !address_display_differs(text.p, text.n)) {
		json_out_member_string(j, key, text.p, text.n);
		return;
	}
	buf_init(&shown, text.n * 4 + 1);
	address_append_display(&shown, text.p, text.n);
	json_out_member_string(j, key, shown.data, shown.len);
	buf_fini(&shown);
}

void api_mailbox_read(const struct pg_rows *rows, unsigned row, struct api_mailbox *ret) {
	*ret = (struct api_mailbox){
	    .id = pg_uuid(rows, row, 0),
	    .address = pg_text(rows, row, 1),
	    .recoverable = pg_bool(rows, row, 2),
	    .tag = pg_text(rows, row, 3),
	    .created_at = pg_time(rows, row, 4),
	    .expires_at = pg_time(rows, row, 5),
	    .message_count = pg_int(rows, row, 6),
	};
}

void api_mailbox_write(struct json_out *j, const struct api_mailbox *m, const char *owner) {
	json_out_object(j);
	json_out_member_id(j, "id", &m->id);
	api_address_write(j, m->address);
	json_out_member_bool(j, "recoverable", m->recoverable);
	json_out_member_string(j, "tag", m->tag.p, m->tag.n);
	json_out_member_cstring(j, "owner", owner);
	json_out_member_int(j, "messageCount", m->message_count);
	json_out_member_bool(j, "permanent", m->expires_at == INT64_MAX);
	json_out_member_time(j, "expiresAt", m->expires_at);
	json_out_member_time(j, "createdAt", m->created_at);
	json_out_object_end(j);
}

void api_mailbox_answer(struct request *r, unsigned status, const struct api_mailbox *m) {
	struct buf body;
	struct json_out j;
	buf_init(&body, 16384);
	json_out_init(&j, &body);
	api_mailbox_write(&j, m, request_principal(r)->owner);
	api_answer_json(r, status, &body);
}

/* ---- Lifetimes ---- */

int api_expiry(struct request *r, const json_t *body, int64_t *ret_expires_at) {
	const struct api_config *config = request_api(r)->config;
	struct json_in_error error;
	int64_t life = config->mailbox_lifetime_default_us;
	bool never = false;
	int given = json_in_duration(body, "expiresIn", &life, &error);
	if (given < 0 || json_in_bool(body, "noExpiration", &never, &error) < 0) {
		api_answer_bad_member(r, &error);
		return -1;
	}
	if (given && never) {
		respond_problem(r, PROBLEM_BAD_REQUEST, "members \"expiresIn\" and \"noExpiration\" contradict each other");
		return -1;
	}
	if (given && life > config->mailbox_lifetime_max_us) {
		respond_problem(r, PROBLEM_BAD_REQUEST, "member \"expiresIn\" is over the longest lifetime, %lld seconds",
		                (long long)(config->mailbox_lifetime_max_us / 1000000));
		return -1;
	}
	if (given && life < config->mailbox_lifetime_min_us) {
		respond_problem(r, PROBLEM_BAD_REQUEST, "member \"expiresIn\" is under the shortest lifetime, %lld seconds",
		                (long long)(config->mailbox_lifetime_min_us / 1000000));
		return -1;
	}
	*ret_expires_at = never ? INT64_MAX : clock_wall_us() + life;
	return given || never;
}

/* ---- Deletes ---- */

struct deletion {
	const struct api_deletion *how;
	struct api_tx *tx;
	struct api_ids ids;
	bool *found;
	bool refused;
	unsigned answered;
};

static void deletion_done(struct request *r, void *arg, const struct pg_result *result) {
	if (result->status == PG_OK)
		respond_empty(r, 204);
	else
		api_answer_failure(r, result);
}

/* The steps' results come in the order of the steps, that of `rising`. */
static void deletion_locked(struct request *r, void *arg, const struct pg_result *result) {
	struct deletion *d = arg;
	if (d->refused)
		return;
	bool found = pg_rows_count(result->rows) > 0;
	d->found[d->ids.rising[d->answered]] = found;
	if (found && d->how->may_go && !d->how->may_go(r, result->rows)) {
		d->refused = true;
		api_tx_rollback(d->tx);
		return;
	}
	if (++d->answered < d->ids.n)
		return;
	for (unsigned i = 0; i < d->ids.n; i++) {
		if (!d->found[i]) {
			api_tx_rollback(d->tx);
			api_refuse(r, d->how->archived, &d->ids.v[i], NULL);
			return;
		}
	}
	for (unsigned i = 0; i < d->ids.n; i++)
		d->how->delete(r, d->tx, &d->ids.v[i]);
	api_tx_commit(d->tx, deletion_done, NULL);
}

static void deletion_start(struct request *r, struct deletion *d) {
	d->found = request_alloc(r, d->ids.n * sizeof *d->found);
	d->tx = api_tx_begin(r);
	struct pg_params p;
	pg_params_init(&p);
	for (unsigned i = 0; i < d->ids.n; i++) {
		pg_params_reset(&p);
		api_param_object(&p, r, &d->ids.v[d->ids.rising[i]]);
		api_tx_step(d->tx, d->how->lock, &p, deletion_locked, d);
	}
	pg_params_fini(&p);
	api_tx_flush(d->tx);
}

void api_delete_many(struct request *r, const struct api_deletion *how) {
	struct deletion *d = request_alloc(r, sizeof *d);
	d->how = how;
	if (api_body_ids(r, &d->ids))
		deletion_start(r, d);
}

void api_delete_one(struct request *r, const struct api_deletion *how) {
	struct deletion *d = request_alloc(r, sizeof *d);
	d->how = how;
	d->ids = (struct api_ids){.n = 1, .v = request_alloc(r, sizeof *d->ids.v), .rising = request_alloc(r, sizeof *d->ids.rising)};
	if (request_param_id(r, 0, d->ids.v))
		deletion_start(r, d);
}

/* ---- Listing ---- */

#define LISTING_WINDOW 16
#define LISTING_ITEM_MAX 8192 /* an address twice, a tag and an owner, each at its longest, and the member names */

struct listing;

struct listing_item {
	struct listing *listing;
	struct pg_op *op;
	struct buf text; /* empty: gone meanwhile */
};

struct listing {
	const struct api_listing *kind;
	struct request *request;
	struct id user;
	const char *owner;
	struct id *ids;
	struct listing_item *items;
	unsigned n, asked, answered;
	bool more; /* there is a next page */
	unsigned limit;
	bool ended;
};

static void listing_cancel(struct listing *l) {
	l->ended = true;
	for (unsigned i = 0; i < l->asked; i++)
		l->items[i].op = pg_op_cancel(l->items[i].op);
}

static void listing_abort(void *arg) {
	listing_cancel(arg);
}

static void listing_end(void *arg) {
	struct listing *l = arg;
	listing_cancel(l);
	for (unsigned i = 0; i < l->n; i++)
		buf_fini(&l->items[i].text);
}

static void listing_answer(struct listing *l) {
	struct buf body;
	struct json_out j;
	api_items_begin(&j, &body, (size_t)(l->n + 1) * (LISTING_ITEM_MAX + 1));
	for (unsigned i = 0; i < l->n; i++) {
		if (l->items[i].text.len > 0)
			json_out_raw(&j, l->items[i].text.data, l->items[i].text.len);
		body.overflow |= l->items[i].text.overflow;
	}
	l->ended = true;
	request_on_abort(l->request, NULL, NULL);
	api_items_answer(l->request, &j, &body, l->kind->kind, l->more ? &l->ids[l->n - 1] : NULL);
}

static void listing_ask(struct listing *l);

static void listing_row(void *arg, const struct pg_result *result) {
	struct listing_item *item = arg;
	struct listing *l = item->listing;
	item->op = NULL;
	l->answered++;
	if (result->status != PG_OK) {
		listing_cancel(l);
		request_on_abort(l->request, NULL, NULL);
		api_answer_failure(l->request, result);
		return;
	}
	if (pg_rows_count(result->rows) > 0) {
		struct json_out j;
		json_out_init(&j, &item->text);
		l->kind->write(&j, result->rows, l->owner);
	}
	if (l->answered == l->n)
		listing_answer(l);
	else
		listing_ask(l);
}

static void listing_ask(struct listing *l) {
	while (l->asked < l->n && l->asked - l->answered < LISTING_WINDOW) {
		struct listing_item *item = &l->items[l->asked];
		struct pg_params p;
		pg_params_init(&p);
		api_param_object_of(&p, l->request, &l->ids[l->asked], &l->user);
		l->asked++;
		item->op = api_ask(l->request, l->kind->get, &p, listing_row, item);
		pg_params_fini(&p);
	}
}

static void listing_ids(struct request *r, void *arg, const struct pg_result *result) {
	struct listing *l = arg;
	unsigned found = pg_rows_count(result->rows);
	l->more = found > l->limit;
	l->n = min_of(found, l->limit);
	if (l->n == 0) {
		listing_answer(l);
		return;
	}
	l->ids = request_alloc(r, l->n * sizeof *l->ids);
	l->items = request_alloc(r, l->n * sizeof *l->items);
	for (unsigned i = 0; i < l->n; i++) {
		l->ids[i] = pg_uuid(result->rows, i, 0);
		l->items[i] = (struct listing_item){.listing = l};
		buf_init(&l->items[i].text, LISTING_ITEM_MAX);
	}
	request_at_end(r, listing_end, l);
	request_on_abort(r, listing_abort, l);
	listing_ask(l);
}

void api_listing_of(struct request *r, const struct api_listing *kind, const struct id *user, const char *owner) {
	struct api_page page;
	if (!api_page(r, kind->kind, API_PAGE_MAX, &page))
		return;
	struct listing *l = request_alloc(r, sizeof *l);
	*l = (struct listing){.kind = kind, .request = r, .user = *user, .owner = owner, .limit = page.limit};
	struct pg_params p;
	pg_params_init(&p);
	pg_param_uuid(&p, &request_principal(r)->account_id);
	pg_param_uuid(&p, user);
	api_param_domains(&p, r);
	pg_param_time(&p, clock_wall_us());
	pg_param_uuid(&p, &page.cursor); /* without a cursor: the nil UUID, below every id */
	pg_param_int8(&p, (int64_t)page.limit + 1);
	api_query(r, kind->ids, &p, listing_ids, l);
	pg_params_fini(&p);
}

void api_listing_start(struct request *r, const struct api_listing *kind) {
	const struct principal *who = request_principal(r);
	api_listing_of(r, kind, &who->user_id, who->owner);
}
