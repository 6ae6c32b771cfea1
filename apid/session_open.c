#include "apid/session_open.h"

#include "apid/api.h"
#include "apid/api_common.h"
#include "apid/principal.h"
#include "apid/session.h"
#include "common/clock.h"
#include "people_stmts.h"

#include <sodium.h>

void session_open_steps(struct request *r, struct api_tx *tx, const struct id *user, struct session_new *ret) {
	const struct api_config *config = request_api(r)->config;
	uint8_t hash[TOKEN_HASH_LEN];
	int64_t now = clock_wall_us();
	struct pg_params p;
	id_make(&ret->id, now);
	token_make(ret->token);
	ret->ends_at = now + config->session_max_us;
	token_hash(TOKEN_SESSION, slice_of(ret->token, TOKEN_LEN), config->secret, hash);
	pg_params_init(&p);
	pg_param_uuid(&p, user);
	pg_param_time(&p, now);
	pg_param_int8(&p, config->session_idle_us);
	api_tx_step(tx, &STMT_SESSION_SWEEP, &p, NULL, NULL);
	pg_params_reset(&p);
	pg_param_uuid(&p, &ret->id);
	pg_param_uuid(&p, user);
	pg_param_bytea(&p, hash, sizeof hash);
	pg_param_time(&p, now);
	pg_param_time(&p, ret->ends_at);
	api_tx_step(tx, &STMT_SESSION_INSERT, &p, NULL, NULL);
	pg_params_fini(&p);
}

static void write_session(struct request *r, const struct session_user *user, const struct id *session, int64_t ends_at,
                          struct buf *body) {
	char csrf[TOKEN_SIZE];
	struct json_out j;
	session_csrf(session, request_api(r)->config->secret, csrf);
	buf_init(body, 8192);
	json_out_init(&j, body);
	json_out_object(&j);
	json_out_key(&j, "user");
	json_out_object(&j);
	json_out_member_id(&j, "id", &user->id);
	json_out_member_string(&j, "email", user->email.p, user->email.n);
	json_out_member_cstring(&j, "role", user->owner ? "owner" : "member");
	json_out_member_id(&j, "accountId", &user->account_id);
	json_out_member_string(&j, "plan", user->plan.p, user->plan.n);
	json_out_object_end(&j);
	json_out_member_cstring(&j, "csrfToken", csrf);
	json_out_member_time(&j, "expiresAt", ends_at);
	json_out_object_end(&j);
}

void session_open_answer(struct request *r, unsigned status, const struct session_user *user, struct session_new *s) {
	char cookie[SESSION_COOKIE_SIZE], known[SESSION_COOKIE_SIZE];
	const struct respond_header extra[] = {{"Set-Cookie", cookie}, {"Set-Cookie", known}, {NULL, NULL}};
	char *email = request_strndup(r, user->email.p, user->email.n);
	int64_t idle_ends = clock_wall_us() + request_api(r)->config->session_idle_us;
	struct buf body;
	write_session(r, user, &s->id, min_of(idle_ends, s->ends_at), &body);
	session_set_cookie(s->token, request_secure(r), cookie);
	session_set_known(email, request_api(r)->config->secret, request_secure(r), known);
	respond_bytes(r, status, "application/json", extra, &body);
	sodium_memzero(cookie, sizeof cookie);
	sodium_memzero(s->token, sizeof s->token);
}

void session_answer(struct request *r) {
	const struct principal *who = request_principal(r);
	const struct session_user user = {
	    .id = who->user_id,
	    .account_id = who->account_id,
	    .email = slice_str(who->owner),
	    .plan = slice_str(who->plan),
	    .owner = who->account_owner,
	};
	struct buf body;
	write_session(r, &user, &who->key_id, who->expires_at, &body);
	respond_json(r, 200, &body);
}

void session_answer_closed(struct request *r) {
	char cookie[SESSION_COOKIE_SIZE];
	const struct respond_header extra[] = {{"Set-Cookie", cookie}, {NULL, NULL}};
	session_set_cookie(NULL, request_secure(r), cookie);
	respond_bytes(r, 204, NULL, extra, NULL);
}
