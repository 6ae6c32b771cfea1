/* Invitations to an account: an owner's way to add people. This server sends no mail, so the answer has the link, once; at rest
 * there is only the hash of its token. Who accepts one: api_signup.c. */
#include "apid/api_auth.h"
#include "apid/api_common.h"
#include "apid/api_inject.h"
#include "apid/handlers.h"

#include "apid/api.h"
#include "apid/principal.h"
#include "common/clock.h"
#include "common/token.h"
#include "people_stmts.h"

#include <sodium.h>
#include <stdio.h>

#define LIFETIME_US (INT64_C(7) * 24 * 3600 * 1000000)
#define LINK_SIZE 512

struct invitation {
	struct id id;
	struct slice email, role;
	int64_t created_at, expires_at;
};

static void write_members(struct json_out *j, const struct invitation *i) {
	json_out_member_id(j, "id", &i->id);
	json_out_member_string(j, "email", i->email.p, i->email.n);
	json_out_member_string(j, "role", i->role.p, i->role.n);
	json_out_member_time(j, "createdAt", i->created_at);
	json_out_member_time(j, "expiresAt", i->expires_at);
}

static void listed(struct request *r, void *arg, const struct pg_result *result) {
	unsigned n = pg_rows_count(result->rows);
	struct buf body;
	struct json_out j;
	api_items_begin(&j, &body, (size_t)(n + 1) * 4096);
	for (unsigned i = 0; i < n; i++) {
		const struct invitation invitation = {
		    .id = pg_uuid(result->rows, i, 0),
		    .email = pg_text(result->rows, i, 1),
		    .role = pg_text(result->rows, i, 2),
		    .created_at = pg_time(result->rows, i, 3),
		    .expires_at = pg_time(result->rows, i, 4),
		};
		json_out_object(&j);
		write_members(&j, &invitation);
		json_out_object_end(&j);
	}
	api_items_answer(r, &j, &body, API_LIST_WHOLE, NULL);
}

void api_invitation_list(struct request *r) {
	struct pg_params p;
	pg_params_init(&p);
	pg_param_uuid(&p, &request_principal(r)->account_id);
	pg_param_time(&p, clock_wall_us());
	api_query(r, &STMT_INVITATION_LIST, &p, listed, NULL);
	pg_params_fini(&p);
}

/* ---- POST ---- */

struct creation {
	struct api_tx *tx;
	char email[ADDRESS_MAX + 1], token[TOKEN_SIZE];
	bool owner;
	bool limited;
	int64_t limit; /* of members */
	struct invitation made;
};

static void wipe_token(void *arg) {
	struct creation *c = arg;
	sodium_memzero(c->token, sizeof c->token);
}

/* The token stands behind the '#', which no browser sends and no server logs. */
static void make_link(struct request *r, const char *token, char ret[LINK_SIZE]) {
	struct slice host = request_header(r, "host");
	snprintf(ret, LINK_SIZE, "%s://%.*s/invitation#%s", request_secure(r) ? "https" : "http", (int)min_of(host.n, (size_t)300),
	         host.p ? host.p : "", token);
}

static void told(struct request *r, void *arg, bool delivered) {
	struct creation *c = arg;
	char link[LINK_SIZE];
	struct buf body;
	struct json_out j;
	make_link(r, c->token, link);
	buf_init(&body, 8192);
	json_out_init(&j, &body);
	json_out_object(&j);
	write_members(&j, &c->made);
	json_out_member_cstring(&j, "token", c->token);
	json_out_member_cstring(&j, "link", link);
	json_out_member_bool(&j, "delivered", delivered);
	json_out_object_end(&j);
	sodium_memzero(link, sizeof link);
	api_answer_json(r, 201, &body);
}

static void created(struct request *r, void *arg, const struct pg_result *result) {
	struct creation *c = arg;
	char text[1024];
	if (result->status != PG_OK) {
		api_answer_failure(r, result);
		return;
	}
	/* Not the whole link: its host is what the asker's Host said, and this is a mail of the server's own to somebody else. */
	snprintf(text, sizeof text,
	         "%s invites you to an account on this mail server: for 7 days, at the address of its console followed by\r\n\r\n"
	         "/invitation#%s\r\n",
	         request_principal(r)->owner, c->token);
	api_inject_notice(r, c->email, "An invitation", text, told, c);
	sodium_memzero(text, sizeof text);
}

static void insert(struct request *r, struct creation *c) {
	uint8_t hash[TOKEN_HASH_LEN];
	int64_t now = clock_wall_us();
	struct pg_params p;
	token_make(c->token);
	token_hash(TOKEN_INVITATION, slice_of(c->token, TOKEN_LEN), request_api(r)->config->secret, hash);
	c->made = (struct invitation){
	    .email = slice_str(c->email),
	    .role = slice_str(c->owner ? "owner" : "member"),
	    .created_at = now,
	    .expires_at = now + LIFETIME_US,
	};
	id_make(&c->made.id, now);
	pg_params_init(&p);
	pg_param_uuid(&p, &request_principal(r)->account_id);
	pg_param_uuid(&p, &c->made.id);
	pg_param_cstring(&p, c->email);
	pg_param_text(&p, c->made.role.p, c->made.role.n);
	pg_param_bytea(&p, hash, sizeof hash);
	pg_param_time(&p, now);
	pg_param_time(&p, c->made.expires_at);
	api_tx_step(c->tx, &STMT_INVITATION_INSERT, &p, NULL, NULL);
	pg_params_fini(&p);
	api_tx_commit(c->tx, created, c);
}

static void locked(struct request *r, void *arg, const struct pg_result *result) {
	struct creation *c = arg;
	c->limited = pg_rows_count(result->rows) > 0 && !pg_null(result->rows, 0, 0);
	if (c->limited)
		c->limit = pg_int(result->rows, 0, 0);
}

static void room_known(struct request *r, void *arg, const struct pg_result *result) {
	struct creation *c = arg;
	if (pg_bool(result->rows, 0, 1)) {
		api_tx_rollback(c->tx);
		respond_problem(r, PROBLEM_CONFLICT, "there is a user %s already", c->email);
	} else if (c->limited && pg_int(result->rows, 0, 0) >= c->limit) {
		api_tx_rollback(c->tx);
		respond_problem(r, PROBLEM_QUOTA, "the account's plan has %lld members, with those invited", (long long)c->limit);
	} else {
		insert(r, c);
	}
}

static void begin(struct request *r, struct creation *c) {
	const struct id *account = &request_principal(r)->account_id;
	struct pg_params p;
	c->tx = api_tx_begin(r);
	pg_params_init(&p);
	pg_param_uuid(&p, account);
	api_tx_step(c->tx, &STMT_ACCOUNT_LOCK, &p, locked, c);
	pg_params_reset(&p);
	pg_param_uuid(&p, account);
	pg_param_cstring(&p, c->email);
	pg_param_time(&p, clock_wall_us());
	api_tx_step(c->tx, &STMT_INVITATION_CLEAR, &p, NULL, NULL);
	pg_params_reset(&p);
	pg_param_uuid(&p, account);
	pg_param_cstring(&p, c->email);
	api_tx_step(c->tx, &STMT_INVITATION_ROOM, &p, room_known, c);
	pg_params_fini(&p);
	api_tx_flush(c->tx);
}

void api_invitation_create(struct request *r) {
	struct creation *c = request_alloc(r, sizeof *c);
	struct json_in_error error;
	struct slice role = slice_str("member");
	const json_t *body = request_json(r, false);
	if (!body || api_auth_email(r, body, c->email) < 0)
		return;
	if (json_in_string(body, "role", &role, &error) < 0) {
		api_answer_bad_member(r, &error);
		return;
	}
	c->owner = slice_eq(role, slice_str("owner"));
	if (!c->owner && !slice_eq(role, slice_str("member"))) {
		respond_problem(r, PROBLEM_BAD_REQUEST, "member \"role\" must be \"owner\" or \"member\"");
		return;
	}
	request_at_end(r, wipe_token, c);
	begin(r, c);
}

/* ---- DELETE ---- */

static void deleted(struct request *r, void *arg, const struct pg_result *result) {
	char text[ID_TEXT_SIZE];
	if (result->affected > 0) {
		respond_empty(r, 204);
		return;
	}
	id_format(arg, text);
	respond_problem(r, PROBLEM_NOT_FOUND, "no invitation %s in this account", text);
}

void api_invitation_delete(struct request *r) {
	struct id *id = request_alloc(r, sizeof *id);
	struct pg_params p;
	if (!request_param_id(r, 0, id))
		return;
	pg_params_init(&p);
	pg_param_uuid(&p, &request_principal(r)->account_id);
	pg_param_uuid(&p, id);
	api_query(r, &STMT_INVITATION_DELETE, &p, deleted, id);
	pg_params_fini(&p);
}
