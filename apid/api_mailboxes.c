/* The mailboxes routes. A mailbox is one row by bucket and one row in its owner's list; both change in
 * one transaction. Not archived mailboxes: api_archived.c. */
#include "apid/api_common.h"
#include "apid/handlers.h"

#include "apid/api.h"
#include "apid/principal.h"
#include "apid_stmts.h"
#include "common/address.h"
#include "common/clock.h"
#include "common/mail_row.h"

#include <sodium.h>
#include <stdio.h>

#define TAG_MAX 256
#define ALIAS_LENGTH 12 /* of a made-up alias: 60 bits */
#define ALIAS_TRIES 4

/* ---- Create ---- */

struct creation {
	const struct principal_domain *domain;
	char alias[ADDRESS_LOCAL_MAX + 1];
	bool made_up; /* the alias is ours to change if it is taken */
	unsigned tries;
	struct api_mailbox box;
	char address[ADDRESS_MAX + 1];
	bool met_dead; /* a dead mailbox made room; its row in its owner's list goes afterwards */
	struct id dead, dead_account;
};

/* `recoverable` and `tag` of a body; what it does not name is left as it is. A null or empty tag is none. */
struct kind {
	bool recoverable_given, recoverable, tag_given;
	struct slice tag;
};

static bool read_kind(struct request *r, const json_t *body, struct kind *ret) {
	struct json_in_error error;
	struct kind kind = {0};
	int recoverable = json_in_bool(body, "recoverable", &kind.recoverable, &error);
	int tag = recoverable < 0 ? 0 : json_in_string(body, "tag", &kind.tag, &error);
	if (recoverable < 0 || tag < 0) {
		api_answer_bad_member(r, &error);
		return false;
	}
	if (kind.tag.n > TAG_MAX) {
		respond_problem(r, PROBLEM_BAD_REQUEST, "member \"tag\" is over %d octets", TAG_MAX);
		return false;
	}
	if (kind.tag.n == 0)
		kind.tag = (struct slice){0};
	kind.recoverable_given = recoverable > 0;
	kind.tag_given = tag > 0 || json_in_is_null(body, "tag");
	*ret = kind;
	return true;
}

static void apply_kind(const struct kind *kind, struct api_mailbox *box) {
	if (kind->recoverable_given)
		box->recoverable = kind->recoverable;
	if (kind->tag_given)
		box->tag = kind->tag;
}

static void answer_no_tag(struct request *r) {
	respond_problem(r, PROBLEM_BAD_REQUEST, "member \"tag\" is missing: a recoverable mailbox needs one");
}

/* A domain has a postmaster as long as there is the domain (RFC 5321 4.5.1), and nobody could make the mailbox anew: the alias is
 * reserved. */
static void answer_needed(struct request *r, struct slice address) {
	respond_problem(r, PROBLEM_FORBIDDEN, "%.*s must exist as long as its domain: it can neither be deleted nor expire", (int)address.n,
	                address.p);
}

static void refuse_domain(struct request *r, const char *name) {
	const struct principal *who = request_principal(r);
	char more[32] = "";
	if (who->domain_count > 1)
		snprintf(more, sizeof(more), " and %u more", who->domain_count - 1);
	respond_problem(r, PROBLEM_FORBIDDEN, "domain %s is not on this key, which covers %s%s", name,
	                who->domain_count ? who->domains[0].name : "none", more);
}

/* The domain named, which the key must cover, or the key's first. NULL: answered. */
static const struct principal_domain *read_domain(struct request *r, const json_t *body) {
	const struct principal *who = request_principal(r);
	struct json_in_error error;
	struct slice name;
	char canonical[ADDRESS_DOMAIN_MAX + 1];
	int given = json_in_string(body, "domain", &name, &error);
	if (given < 0) {
		api_answer_bad_member(r, &error);
		return NULL;
	}
	if (given == 0) {
		if (who->domain_count > 0)
			return &who->domains[0];
		respond_problem(r, PROBLEM_FORBIDDEN, "this key covers no domain");
		return NULL;
	}
	if (address_canonical_domain(name.p, name.n, canonical) < 0) {
		respond_problem(r, PROBLEM_BAD_REQUEST, "member \"domain\" is not a domain name");
		return NULL;
	}
	const struct principal_domain *domain = principal_domain(who, canonical);
	if (!domain)
		refuse_domain(r, canonical);
	return domain;
}

static bool read_alias(struct request *r, const json_t *body, struct creation *c) {
	struct json_in_error error;
	struct slice alias;
	int given = json_in_string(body, "alias", &alias, &error);
	c->made_up = given == 0;
	if (given < 0)
		api_answer_bad_member(r, &error);
	else if (given > 0 && memchr(alias.p, '@', alias.n))
		respond_problem(r, PROBLEM_BAD_REQUEST, "member \"alias\" is what stands before the @; the domain goes into \"domain\"");
	else if (given > 0 && address_canonical_alias(alias.p, alias.n, c->alias) < 0)
		respond_problem(r, PROBLEM_BAD_REQUEST,
		                "member \"alias\" must be 1 to %d letters, digits, dots inside or any of !#$%%&'*-/=?^_`{|}~",
		                ADDRESS_LOCAL_MAX);
	else if (given > 0 && address_alias_reserved(c->alias))
		respond_problem(r, PROBLEM_BAD_REQUEST, "member \"alias\": %s is reserved", c->alias);
	else
		return true;
	return false;
}

static void make_alias(char alias[ADDRESS_LOCAL_MAX + 1]) {
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567";
	for (unsigned i = 0; i < ALIAS_LENGTH; i++)
		alias[i] = letters[randombytes_uniform(sizeof letters - 1)];
	alias[ALIAS_LENGTH] = '\0';
}

static void create_start(struct request *r, struct creation *c);

static void create_room_made(struct request *r, void *arg, const struct pg_result *result) {
	struct creation *c = arg;
	c->met_dead = pg_rows_count(result->rows) > 0;
	if (c->met_dead) {
		c->dead = pg_uuid(result->rows, 0, 0);
		c->dead_account = pg_uuid(result->rows, 0, 1);
	}
}

static void nothing_more(void *arg, const struct pg_result *result) {
}

/* Off the request's path: readers of the list skip what is gone anyway. */
static void forget_dead(struct request *r, const struct creation *c) {
	const struct pg_principal whose = {.account = c->dead_account};
	struct pg_params p;
	pg_params_init(&p);
	pg_param_uuid(&p, &c->dead_account);
	pg_param_uuid(&p, &c->dead);
	pg_query_as(request_api(r)->pg, &whose, &STMT_ACCOUNT_MAILBOX_FORGET, &p, nothing_more, NULL);
	pg_params_fini(&p);
}

static void create_done(struct request *r, void *arg, const struct pg_result *result) {
	struct creation *c = arg;
	if (result->status == PG_ERROR && strcmp(result->sqlstate, "23505") == 0) {
		if (c->made_up && ++c->tries < ALIAS_TRIES)
			create_start(r, c);
		else
			respond_problem(r, PROBLEM_CONFLICT, "%s is taken", c->address);
		return;
	}
	if (result->status != PG_OK) {
		api_answer_failure(r, result);
		return;
	}
	if (c->met_dead)
		forget_dead(r, c);
	api_mailbox_answer(r, 201, &c->box);
}

static void param_mailbox(struct pg_params *p, struct request *r, const struct api_mailbox *m,
                          const struct id *domain) {
	const struct principal *who = request_principal(r);
	pg_param_int2(p, (int16_t)id_bucket(&m->id));
	pg_param_uuid(p, &m->id);
	pg_param_uuid(p, &who->account_id);
	pg_param_uuid(p, &who->user_id);
	pg_param_uuid(p, domain);
	pg_param_text(p, m->address.p, m->address.n);
	pg_param_bool(p, m->recoverable);
	if (m->tag.p)
		pg_param_text(p, m->tag.p, m->tag.n);
	else
		pg_param_null(p);
	pg_param_time(p, m->created_at);
	pg_param_time(p, m->expires_at);
}

void api_mailbox_insert_steps(struct api_tx *tx, struct request *r, const struct api_mailbox *m,
                              const struct id *domain) {
	const struct principal *who = request_principal(r);
	struct pg_params p;
	pg_params_init(&p);
	pg_param_uuid(&p, &who->account_id);
	pg_param_uuid(&p, &who->user_id);
	api_tx_step(tx, &STMT_MAILBOX_OWNER_STAYS, &p, NULL, NULL);
	pg_params_reset(&p);
	param_mailbox(&p, r, m, domain);
	api_tx_step(tx, &STMT_MAILBOX_INSERT, &p, NULL, NULL);
	pg_params_reset(&p);
	pg_param_uuid(&p, &who->account_id);
	pg_param_uuid(&p, &m->id);
	pg_param_uuid(&p, &who->user_id);
	pg_param_int2(&p, (int16_t)id_bucket(&m->id));
	pg_param_uuid(&p, domain);
	pg_param_bool(&p, m->recoverable);
	pg_param_time(&p, m->expires_at);
	api_tx_step(tx, &STMT_ACCOUNT_MAILBOX_INSERT, &p, NULL, NULL);
	if (who->active_mailboxes >= 0) {
		pg_params_reset(&p);
		pg_param_uuid(&p, &who->account_id);
		pg_param_time(&p, m->created_at);
		pg_param_int8(&p, who->active_mailboxes);
		api_tx_step(tx, &STMT_MAILBOX_LIMIT_ACTIVE, &p, NULL, NULL);
	}
	pg_params_fini(&p);
}

static void create_start(struct request *r, struct creation *c) {
	if (c->made_up)
		make_alias(c->alias);
	snprintf(c->address, sizeof c->address, "%s@%s", c->alias, c->domain->name);
	c->box.address = slice_str(c->address);
	unsigned bucket = id_bucket_of_address(c->address, c->box.address.n);
	id_make_in_bucket(&c->box.id, c->box.created_at, bucket);

	struct api_tx *tx = api_tx_begin(r);
	struct pg_params p;
	pg_params_init(&p);
	pg_param_int2(&p, (int16_t)bucket);
	pg_param_text(&p, c->box.address.p, c->box.address.n);
	pg_param_time(&p, c->box.created_at);
	pg_param_uuid(&p, &request_principal(r)->user_id);
	api_tx_step(tx, &STMT_MAILBOX_MAKE_ROOM, &p, create_room_made, c);
	pg_params_fini(&p);
	api_mailbox_insert_steps(tx, r, &c->box, &c->domain->id);
	api_tx_commit(tx, create_done, c);
}

void api_mailbox_create(struct request *r) {
	json_t *body = request_json(r, true);
	if (!body)
		return;
	struct creation *c = request_alloc(r, sizeof *c);
	struct kind kind;
	c->box.created_at = clock_wall_us();
	if (!read_alias(r, body, c) || !read_kind(r, body, &kind) || api_expiry(r, body, &c->box.expires_at) < 0)
		return;
	apply_kind(&kind, &c->box);
	if (c->box.recoverable && !c->box.tag.p) {
		answer_no_tag(r);
		return;
	}
	c->domain = read_domain(r, body);
	if (c->domain)
		create_start(r, c);
}

/* ---- Read ---- */

static void write_row(struct json_out *j, const struct pg_rows *rows, const char *owner) {
	struct api_mailbox box;
	api_mailbox_read(rows, 0, &box);
	api_mailbox_write(j, &box, owner);
}

static const struct api_listing LISTING = {API_LIST_MAILBOXES, &STMT_MAILBOX_IDS, &STMT_MAILBOX_GET, write_row};

static void by_address_row(struct request *r, void *arg, const struct pg_result *result) {
	struct buf body;
	struct json_out j;
	api_items_begin(&j, &body, 16384);
	if (pg_rows_count(result->rows) > 0)
		write_row(&j, result->rows, request_principal(r)->owner);
	api_items_answer(r, &j, &body, API_LIST_WHOLE, NULL);
}

static void list_by_address(struct request *r, struct slice text) {
	struct address *a = request_alloc(r, sizeof *a);
	if (address_parse(text.p, text.n, true, false, a) != ADDRESS_OK || a->kind != ADDRESS_DOMAIN) {
		respond_problem(r, PROBLEM_BAD_REQUEST, "address is not an e-mail address");
		return;
	}
	if (!principal_domain(request_principal(r), a->domain)) {
		refuse_domain(r, a->domain);
		return;
	}
	size_t n = strlen(a->canonical);
	struct pg_params p;
	pg_params_init(&p);
	pg_param_int2(&p, (int16_t)id_bucket_of_address(a->canonical, n));
	pg_param_text(&p, a->canonical, n);
	pg_param_time(&p, clock_wall_us());
	pg_param_uuid(&p, &request_principal(r)->user_id);
	api_param_domains(&p, r);
	api_query(r, &STMT_MAILBOX_BY_ADDRESS, &p, by_address_row, NULL);
	pg_params_fini(&p);
}

void api_mailbox_list(struct request *r) {
	struct slice address = request_query(r, "address");
	if (address.p)
		list_by_address(r, address);
	else
		api_listing_start(r, &LISTING);
}

static void get_row(struct request *r, void *arg, const struct pg_result *result) {
	const struct id *id = arg;
	if (pg_rows_count(result->rows) == 0) {
		api_refuse(r, false, id, NULL);
		return;
	}
	struct api_mailbox box;
	api_mailbox_read(result->rows, 0, &box);
	api_mailbox_answer(r, 200, &box);
}

void api_mailbox_get(struct request *r) {
	struct id *id = request_alloc(r, sizeof *id);
	if (!request_param_id(r, 0, id))
		return;
	struct pg_params p;
	pg_params_init(&p);
	api_param_object(&p, r, id);
	api_query(r, &STMT_MAILBOX_GET, &p, get_row, id);
	pg_params_fini(&p);
}

/* ---- Change ---- */

struct change {
	struct api_tx *tx;
	struct kind kind;
	bool lifetime_given;
	int64_t expires_at;
	struct api_mailbox box;
};

static void change_done(struct request *r, void *arg, const struct pg_result *result) {
	struct change *c = arg;
	if (result->status == PG_OK)
		api_mailbox_answer(r, 200, &c->box);
	else
		api_answer_failure(r, result);
}

static void change_steps(struct request *r, struct change *c, bool longer) {
	struct pg_params p;
	pg_params_init(&p);
	pg_param_int2(&p, (int16_t)id_bucket(&c->box.id));
	pg_param_uuid(&p, &c->box.id);
	pg_param_bool(&p, c->box.recoverable);
	if (c->box.tag.p)
		pg_param_text(&p, c->box.tag.p, c->box.tag.n);
	else
		pg_param_null(&p);
	pg_param_time(&p, c->box.expires_at);
	api_tx_step(c->tx, &STMT_MAILBOX_UPDATE, &p, NULL, NULL);
	pg_params_reset(&p);
	pg_param_uuid(&p, &request_principal(r)->account_id);
	pg_param_uuid(&p, &c->box.id);
	pg_param_bool(&p, c->box.recoverable);
	pg_param_time(&p, c->box.expires_at);
	api_tx_step(c->tx, &STMT_ACCOUNT_MAILBOX_UPDATE, &p, NULL, NULL);
	if (longer) {
		pg_params_reset(&p);
		pg_param_int2(&p, (int16_t)id_bucket(&c->box.id));
		pg_param_uuid(&p, &c->box.id);
		pg_param_int4(&p, mail_expiry_hour(c->box.expires_at));
		api_tx_step(c->tx, &STMT_MAILBOX_MOVE_MAILS, &p, NULL, NULL);
	}
	pg_params_fini(&p);
	api_tx_commit(c->tx, change_done, c);
}

static void change_locked(struct request *r, void *arg, const struct pg_result *result) {
	struct change *c = arg;
	const struct pg_rows *rows = result->rows;
	if (pg_rows_count(rows) == 0) {
		api_tx_rollback(c->tx);
		api_refuse(r, false, &c->box.id, NULL);
		return;
	}
	struct slice address = pg_text(rows, 0, 0), tag = pg_text(rows, 0, 2);
	c->box.address = slice_of(request_strndup(r, address.p, address.n), address.n);
	if (tag.p)
		c->box.tag = slice_of(request_strndup(r, tag.p, tag.n), tag.n);
	c->box.recoverable = pg_bool(rows, 0, 1);
	c->box.created_at = pg_time(rows, 0, 3);
	c->box.expires_at = pg_time(rows, 0, 4);
	c->box.message_count = pg_int(rows, 0, 5);
	apply_kind(&c->kind, &c->box);
	if (c->box.recoverable && !c->box.tag.p) {
		api_tx_rollback(c->tx);
		answer_no_tag(r);
		return;
	}
	if (c->lifetime_given && c->expires_at != INT64_MAX && address_is_postmaster(c->box.address)) {
		api_tx_rollback(c->tx);
		answer_needed(r, c->box.address);
		return;
	}
	int64_t before = c->box.expires_at;
	if (c->lifetime_given)
		c->box.expires_at = c->expires_at;
	change_steps(r, c, mail_expiry_hour(c->box.expires_at) > mail_expiry_hour(before));
}

void api_mailbox_patch(struct request *r) {
	struct change *c = request_alloc(r, sizeof *c);
	if (!request_param_id(r, 0, &c->box.id))
		return;
	json_t *body = request_json(r, false);
	if (!body || !read_kind(r, body, &c->kind))
		return;
	int given = api_expiry(r, body, &c->expires_at);
	if (given < 0)
		return;
	c->lifetime_given = given > 0;
	c->tx = api_tx_begin(r);
	struct pg_params p;
	pg_params_init(&p);
	api_param_object(&p, r, &c->box.id);
	api_tx_step(c->tx, &STMT_MAILBOX_LOCK, &p, change_locked, c);
	pg_params_fini(&p);
	api_tx_flush(c->tx);
}

/* ---- Delete ---- */

/* The rows of one mailbox: archived if recoverable, else gone; its mails gone either way. */
static void delete_steps(struct request *r, struct api_tx *tx, const struct id *id) {
	const struct principal *who = request_principal(r);
	struct pg_params p;
	pg_params_init(&p);
	api_param_object(&p, r, id);
	api_tx_step(tx, &STMT_MAILBOX_DELETE, &p, NULL, NULL);
	pg_params_reset(&p);
	pg_param_uuid(&p, &who->account_id);
	pg_param_uuid(&p, id);
	pg_param_time(&p, clock_wall_us());
	pg_param_uuid(&p, &who->user_id);
	api_param_domains(&p, r);
	api_tx_step(tx, &STMT_ACCOUNT_MAILBOX_DELETE, &p, NULL, NULL);
	api_tx_step(tx, &STMT_ACCOUNT_MAILBOX_ARCHIVE, &p, NULL, NULL);
	if (who->archived_mailboxes >= 0) {
		pg_params_reset(&p);
		pg_param_uuid(&p, &who->account_id);
		pg_param_time(&p, clock_wall_us());
		pg_param_int8(&p, who->archived_mailboxes);
		pg_param_uuid(&p, id);
		api_tx_step(tx, &STMT_MAILBOX_LIMIT_ARCHIVED, &p, NULL, NULL);
	}
	pg_params_fini(&p);
}

static bool may_go(struct request *r, const struct pg_rows *row) {
	struct slice address = pg_text(row, 0, 0);
	if (address_is_postmaster(address))
		answer_needed(r, address);
	return !address_is_postmaster(address);
}

static const struct api_deletion DELETION = {false, &STMT_MAILBOX_LOCK, may_go, delete_steps};

void api_mailbox_delete(struct request *r) {
	api_delete_one(r, &DELETION);
}

void api_mailbox_delete_many(struct request *r) {
	api_delete_many(r, &DELETION);
}
