/* The people of an account: who they are, what an owner may change. What a member loses is lost in every worker before the
 * answer. There is always an owner who can sign in: whatever would take the last one's place away is a conflict, judged under a
 * lock on the account. */
#include "apid/api_change.h"
#include "apid/api_common.h"
#include "apid/handlers.h"

#include "apid/principal.h"
#include "apid_stmts.h"
#include "people_stmts.h"


/* ---- the object ---- */

struct member {
	struct id id;
	struct slice email, role, state;
	int64_t created_at;
};

static struct member read_member(const struct pg_rows *rows, unsigned row) {
	return (struct member){
	    .id = pg_uuid(rows, row, 0),
	    .email = pg_text(rows, row, 1),
	    .role = pg_text(rows, row, 2),
	    .state = pg_text(rows, row, 3),
	    .created_at = pg_time(rows, row, 4),
	};
}

static void write_member(struct json_out *j, const struct member *m) {
	json_out_object(j);
	json_out_member_id(j, "id", &m->id);
	json_out_member_string(j, "email", m->email.p, m->email.n);
	json_out_member_string(j, "role", m->role.p, m->role.n);
	json_out_member_string(j, "state", m->state.p, m->state.n);
	json_out_member_time(j, "createdAt", m->created_at);
	json_out_object_end(j);
}

static void answer_member(struct request *r, const struct member *m) {
	struct buf body;
	struct json_out j;
	buf_init(&body, 8192);
	json_out_init(&j, &body);
	write_member(&j, m);
	api_answer_json(r, 200, &body);
}

static void answer_no_member(struct request *r, const struct id *id) {
	char text[ID_TEXT_SIZE];
	id_format(id, text);
	respond_problem(r, PROBLEM_NOT_FOUND, "no member %s in this account", text);
}

static void param_member(struct pg_params *p, struct request *r, const struct id *id) {
	pg_param_uuid(p, &request_principal(r)->account_id);
	pg_param_uuid(p, id);
}

/* ---- GET ---- */

static void listed(struct request *r, void *arg, const struct pg_result *result) {
	const struct api_page *page = arg;
	unsigned found = pg_rows_count(result->rows), n = min_of(found, page->limit);
	struct buf body;
	struct json_out j;
	api_items_begin(&j, &body, (size_t)(n + 1) * 4096);
	struct id last = {0};
	for (unsigned i = 0; i < n; i++) {
		struct member m = read_member(result->rows, i);
		write_member(&j, &m);
		last = m.id;
	}
	api_items_answer(r, &j, &body, API_LIST_MEMBERS, found > n ? &last : NULL);
}

void api_member_list(struct request *r) {
	struct api_page *page = request_alloc(r, sizeof *page);
	struct pg_params p;
	if (!api_page(r, API_LIST_MEMBERS, API_PAGE_MAX, page))
		return;
	pg_params_init(&p);
	param_member(&p, r, &page->cursor);
	pg_param_int8(&p, (int64_t)page->limit + 1);
	api_query(r, &STMT_MEMBER_LIST, &p, listed, page);
	pg_params_fini(&p);
}

struct wanted {
	struct id id;
	void (*found)(struct request *, const struct member *);
};

static void got(struct request *r, void *arg, const struct pg_result *result) {
	const struct wanted *w = arg;
	if (pg_rows_count(result->rows) == 0) {
		answer_no_member(r, &w->id);
		return;
	}
	struct member m = read_member(result->rows, 0);
	w->found(r, &m);
}

static void get(struct request *r, void (*found)(struct request *, const struct member *)) {
	struct wanted *w = request_alloc(r, sizeof *w);
	struct pg_params p;
	w->found = found;
	if (!request_param_id(r, 0, &w->id))
		return;
	pg_params_init(&p);
	param_member(&p, r, &w->id);
	api_query(r, &STMT_MEMBER_GET, &p, got, w);
	pg_params_fini(&p);
}

void api_member_get(struct request *r) {
	get(r, answer_member);
}

/* ---- a member's mailboxes: what they are, never what is in them ---- */

static void write_box(struct json_out *j, const struct pg_rows *rows, const char *owner) {
	struct api_mailbox m;
	api_mailbox_read(rows, 0, &m);
	api_mailbox_write(j, &m, owner);
}

static const struct api_listing BOXES = {API_LIST_MAILBOXES, &STMT_MAILBOX_IDS, &STMT_MEMBER_BOX_GET, write_box};

static void list_boxes(struct request *r, const struct member *m) {
	api_listing_of(r, &BOXES, &m->id, request_strndup(r, m->email.p, m->email.n));
}

void api_member_mailboxes(struct request *r) {
	get(r, list_boxes);
}

/* ---- changes ---- */

struct change {
	struct id id, heir;
	struct api_tx *tx;
	bool has_owner, owner; /* of the body: the role */
	bool has_active, active;
	bool removes;
	struct member after; /* texts of the request's memory */
};

static void remove_boxes(struct request *r, struct change *c);

static void changed(struct request *r, void *arg, const struct pg_result *result) {
	struct change *c = arg;
	if (result->status != PG_OK)
		api_answer_failure(r, result);
	else if (c->removes)
		remove_boxes(r, c);
	else
		answer_member(r, &c->after);
}

static struct slice keep(struct request *r, struct slice s) {
	return slice_of(request_strndup(r, s.p, s.n), s.n);
}

static void carry_out(struct request *r, struct change *c) {
	struct pg_params p;
	pg_params_init(&p);
	param_member(&p, r, &c->id);
	pg_param_text(&p, c->after.role.p, c->after.role.n);
	pg_param_text(&p, c->after.state.p, c->after.state.n);
	api_tx_step(c->tx, &STMT_MEMBER_UPDATE, &p, NULL, NULL);
	if (slice_eq(c->after.state, slice_str("suspended"))) {
		api_tx_as(c->tx, &request_principal(r)->account_id, &c->id);
		pg_params_reset(&p);
		pg_param_uuid(&p, &c->id);
		api_tx_step(c->tx, &STMT_SESSION_DELETE_ALL, &p, NULL, NULL);
	}
	pg_params_fini(&p);
	api_change_commit(r, c->tx, &c->id, changed, c);
}

static void judged(struct request *r, void *arg, const struct pg_result *result) {
	struct change *c = arg;
	bool found = pg_rows_count(result->rows) > 0;
	if (!found) {
		api_tx_rollback(c->tx);
		answer_no_member(r, &c->id);
		return;
	}
	struct member m = read_member(result->rows, 0);
	bool other = !pg_null(result->rows, 0, 5);
	if (other)
		c->heir = pg_uuid(result->rows, 0, 5);
	m.email = keep(r, m.email);
	m.role = c->has_owner ? slice_str(c->owner ? "owner" : "member") : keep(r, m.role);
	m.state = c->has_active ? slice_str(c->active ? "active" : "suspended") : keep(r, m.state);
	c->after = m;
	bool stays = !c->removes && slice_eq(m.role, slice_str("owner")) && slice_eq(m.state, slice_str("active"));
	if (!other && !stays) {
		api_tx_rollback(c->tx);
		respond_problem(r, PROBLEM_CONFLICT, "the account would be without an owner: make somebody else one first");
		return;
	}
	carry_out(r, c);
}

static void start(struct request *r, struct change *c) {
	struct pg_params p;
	c->tx = api_tx_begin(r);
	pg_params_init(&p);
	pg_param_uuid(&p, &request_principal(r)->account_id);
	api_tx_step(c->tx, &STMT_ACCOUNT_LOCK, &p, NULL, NULL);
	pg_params_reset(&p);
	param_member(&p, r, &c->id);
	api_tx_step(c->tx, &STMT_MEMBER_JUDGE, &p, judged, c);
	pg_params_fini(&p);
	api_tx_flush(c->tx);
}

/* A member that is one of two words. -EINVAL: answered. */
static int read_word(struct request *r, const json_t *body, const char *name, const char *yes, const char *no, bool *ret_given,
                     bool *ret) {
	struct json_in_error error;
	struct slice word;
	int given = json_in_string(body, name, &word, &error);
	if (given < 0) {
		api_answer_bad_member(r, &error);
		return -EINVAL;
	}
	*ret_given = given > 0;
	*ret = given > 0 && slice_eq(word, slice_str(yes));
	if (given == 0 || *ret || slice_eq(word, slice_str(no)))
		return 0;
	respond_problem(r, PROBLEM_BAD_REQUEST, "member \"%s\" must be \"%s\" or \"%s\"", name, yes, no);
	return -EINVAL;
}

void api_member_patch(struct request *r) {
	struct change *c = request_alloc(r, sizeof *c);
	if (!request_param_id(r, 0, &c->id))
		return;
	const json_t *body = request_json(r, false);
	if (body && read_word(r, body, "role", "owner", "member", &c->has_owner, &c->owner) == 0 &&
	    read_word(r, body, "state", "active", "suspended", &c->has_active, &c->active) == 0)
		start(r, c);
}

/* ---- removal ----
 *
 * First suspended, which every worker knows before anything else happens, so no request comes in any more; then the mailboxes,
 * some at a time, because each lies in its bucket; then the user, once nothing that had come in makes another. Whatever fails on the way leaves somebody who can do nothing, and
 * DELETE goes on from there. */

#define BOXES_AT_ONCE 100

static void removed(struct request *r, void *arg, const struct pg_result *result) {
	if (result->status == PG_OK)
		respond_empty(r, 204);
	else
		api_answer_failure(r, result);
}

static void boxes_counted(struct request *r, void *arg, const struct pg_result *result) {
	struct change *c = arg;
	struct pg_params p;
	if (pg_rows_count(result->rows) > 0) { /* made by a request that was under way */
		api_tx_rollback(c->tx);
		remove_boxes(r, c);
		return;
	}
	pg_params_init(&p);
	param_member(&p, r, &c->id);
	api_tx_step(c->tx, &STMT_MEMBER_DELETE, &p, NULL, NULL);
	pg_params_fini(&p);
	api_tx_commit(c->tx, removed, NULL);
}

static void remove_user(struct request *r, struct change *c) {
	struct pg_params p;
	c->tx = api_tx_begin(r);
	pg_params_init(&p);
	param_member(&p, r, &c->id);
	api_tx_step(c->tx, &STMT_MEMBER_LOCK, &p, NULL, NULL);
	pg_param_int8(&p, 1);
	api_tx_step(c->tx, &STMT_MEMBER_BOXES, &p, boxes_counted, c);
	pg_params_fini(&p);
	api_tx_flush(c->tx);
}

static void boxes_removed(struct request *r, void *arg, const struct pg_result *result) {
	if (result->status == PG_OK)
		remove_boxes(r, arg);
	else
		api_answer_failure(r, result);
}

struct box {
	struct change *c;
	struct id id;
	bool last;
};

/* What is a postmaster's has another owner by now; the rest is gone. */
static void box_judged(struct request *r, void *arg, const struct pg_result *result) {
	struct box *b = arg;
	struct change *c = b->c;
	bool moved = pg_bool(result->rows, 0, 0);
	struct pg_params p;
	pg_params_init(&p);
	if (!moved) {
		pg_param_int2(&p, (int16_t)id_bucket(&b->id));
		pg_param_uuid(&p, &b->id);
		pg_param_uuid(&p, &c->id);
		api_tx_step(c->tx, &STMT_MEMBER_BOX_DESTROY, &p, NULL, NULL);
		pg_params_reset(&p);
	}
	param_member(&p, r, &b->id);
	if (moved)
		pg_param_uuid(&p, &c->heir);
	api_tx_step(c->tx, moved ? &STMT_MEMBER_POSTMASTER_LIST : &STMT_ACCOUNT_MAILBOX_FORGET, &p, NULL, NULL);
	pg_params_fini(&p);
	if (b->last)
		api_tx_commit(c->tx, boxes_removed, c);
}

static void boxes_found(struct request *r, void *arg, const struct pg_result *result) {
	struct change *c = arg;
	unsigned n = pg_rows_count(result->rows);
	if (n == 0) {
		remove_user(r, c);
		return;
	}
	struct box *boxes = request_alloc(r, n * sizeof *boxes);
	struct pg_params p;
	c->tx = api_tx_begin(r);
	api_tx_as(c->tx, &request_principal(r)->account_id, &c->id); /* what is destroyed is the member's */
	pg_params_init(&p);
	for (unsigned i = 0; i < n; i++) {
		boxes[i] = (struct box){.c = c, .id = pg_uuid(result->rows, i, 0), .last = i + 1 == n};
		pg_params_reset(&p);
		pg_param_int2(&p, (int16_t)id_bucket(&boxes[i].id));
		pg_param_uuid(&p, &boxes[i].id);
		pg_param_uuid(&p, &c->id);
		pg_param_uuid(&p, &c->heir);
		api_tx_step(c->tx, &STMT_MEMBER_POSTMASTER, &p, box_judged, &boxes[i]);
	}
	pg_params_fini(&p);
	api_tx_flush(c->tx);
}

static void remove_boxes(struct request *r, struct change *c) {
	struct pg_params p;
	pg_params_init(&p);
	param_member(&p, r, &c->id);
	pg_param_int8(&p, BOXES_AT_ONCE);
	api_query(r, &STMT_MEMBER_BOXES, &p, boxes_found, c);
	pg_params_fini(&p);
}

void api_member_delete(struct request *r) {
	struct change *c = request_alloc(r, sizeof *c);
	if (!request_param_id(r, 0, &c->id))
		return;
	c->removes = c->has_active = true; /* and not active */
	start(r, c);
}
