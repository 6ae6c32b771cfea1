/* New people, and passwords set by a link. Three ways in: sign-up, where the operator has opened it or nobody is there yet; an
 * invitation's link; and for who is there already, the link to a new password. Each looks first whether the cost of hashing a
 * password is worth it, then hashes, then judges again inside the transaction: a link works once, and of two who come first one
 * is second. */
#include "apid/api_auth.h"
#include "apid/api_change.h"
#include "apid/handlers.h"

#include "apid/api.h"
#include "apid/passwords.h"
#include "apid/session_open.h"
#include "common/clock.h"
#include "common/json_out.h"
#include "common/token.h"
#include "people_stmts.h"

#include <sodium.h>
#include <stdio.h>

#define SIGNUP_LOCK_CLASS 19789 /* 'MM', as in common/keys_sync.h */
#define SIGNUP_LOCK_KEY 4

struct joining {
	struct request *request;
	struct api_tx *tx;
	struct passwords_op *op;
	void (*begin)(struct request *, struct joining *); /* once `made` is there */
	struct slice password;
	uint8_t token[TOKEN_HASH_LEN];
	char email[ADDRESS_MAX + 1], made[PASSWORD_HASH_SIZE];
	struct id user, account;
	bool has_account, owner, limited;
	int64_t limit;
	struct session_user who;
	struct session_new session;
};

static void end_joining(void *arg) {
	struct joining *n = arg;
	n->op = passwords_cancel(n->op);
	sodium_memzero(&n->session, sizeof n->session);
}

static struct joining *joining_new(struct request *r) {
	struct joining *n = request_alloc(r, sizeof *n);
	n->request = r;
	request_at_end(r, end_joining, n);
	return n;
}

/* ---- the password ---- */

static void hashed(void *arg, const struct passwords_result *result) {
	struct joining *n = arg;
	n->op = NULL;
	if (!result->made) {
		respond_problem(n->request, PROBLEM_UNAVAILABLE, "there is no memory for it now; try again");
		return;
	}
	snprintf(n->made, sizeof n->made, "%s", result->made);
	n->begin(n->request, n);
}

/* Answers if the password will not do. */
static void hash_password(struct request *r, struct joining *n, void (*begin)(struct request *, struct joining *)) {
	const char *fault = password_fault(n->password, n->email);
	if (fault) {
		respond_problem(r, PROBLEM_BAD_REQUEST, "member \"password\": %s", fault);
		return;
	}
	n->begin = begin;
	n->op = passwords_make(request_api(r)->passwords, n->password, hashed, n);
	api_auth_wipe(n->password);
	if (!n->op)
		api_auth_answer_busy(r);
}

static void param_link(struct pg_params *p, const struct joining *n) {
	pg_param_bytea(p, n->token, sizeof n->token);
	pg_param_time(p, clock_wall_us());
}

static void answer_dead_link(struct request *r) {
	respond_problem(r, PROBLEM_NOT_FOUND, "this link is unknown, was used, or has expired");
}

/* A link's token and the password of the body; false: answered. */
static bool read_link(struct request *r, enum token_use use, struct joining *n) {
	struct slice token;
	if (!request_same_origin(r) || !api_auth_may_try(r))
		return false;
	const json_t *body = request_json(r, false);
	if (!body || api_auth_secret(r, body, "token", &token) < 0 || api_auth_secret(r, body, "password", &n->password) < 0)
		return false;
	bool ok = token_hash(use, token, request_api(r)->config->secret, n->token);
	api_auth_wipe(token);
	api_auth_wipe(request_body(r));
	if (!ok)
		answer_dead_link(r);
	return ok;
}

/* ---- somebody new ---- */

static void joined(struct request *r, void *arg, const struct pg_result *result) {
	struct joining *n = arg;
	if (result->status == PG_OK)
		session_open_answer(r, 201, &n->who, &n->session);
	else
		api_answer_failure(r, result);
}

static void user_inserted(struct request *r, void *arg, const struct pg_result *result) {
	struct joining *n = arg;
	if (result->affected == 0) {
		api_tx_rollback(n->tx);
		respond_problem(r, PROBLEM_CONFLICT, "there is a user %s already", n->email);
		return;
	}
	n->who.id = n->user;
	n->who.account_id = n->account;
	n->who.email = slice_str(n->email);
	n->who.owner = n->owner;
	session_open_steps(r, n->tx, &n->user, &n->session);
	api_tx_commit(n->tx, joined, n);
}

static void plan_known(struct request *r, void *arg, const struct pg_result *result) {
	struct joining *n = arg;
	struct slice plan = pg_rows_count(result->rows) > 0 ? pg_text(result->rows, 0, 0) : slice_str("");
	n->who.plan = slice_of(request_strndup(r, plan.p, plan.n), plan.n);
}

static void insert_user(struct request *r, struct joining *n) {
	int64_t now = clock_wall_us();
	struct pg_params p;
	pg_params_init(&p);
	pg_param_uuid(&p, &n->account);
	api_tx_step(n->tx, &STMT_ACCOUNT_PLAN, &p, plan_known, n);
	pg_params_reset(&p);
	pg_param_uuid(&p, &n->user);
	pg_param_uuid(&p, &n->account);
	pg_param_cstring(&p, n->email);
	pg_param_cstring(&p, n->owner ? "owner" : "member");
	pg_param_time(&p, now);
	pg_param_cstring(&p, n->made);
	api_tx_step(n->tx, &STMT_USER_INSERT, &p, user_inserted, n);
	pg_params_fini(&p);
	api_tx_flush(n->tx);
}

static void insert_account(struct request *r, struct joining *n, const char *plan) {
	int64_t now = clock_wall_us();
	struct pg_params p;
	id_make(&n->account, now);
	n->owner = true;
	api_tx_as(n->tx, &n->account, &n->user);
	pg_params_init(&p);
	pg_param_uuid(&p, &n->account);
	pg_param_cstring(&p, n->email);
	pg_param_cstring(&p, plan);
	pg_param_time(&p, now);
	api_tx_step(n->tx, &STMT_ACCOUNT_INSERT, &p, NULL, NULL);
	pg_params_fini(&p);
	insert_user(r, n);
}

/* ---- POST /auth/accept-invitation ---- */

static void limit_known(struct request *r, void *arg, const struct pg_result *result) {
	struct joining *n = arg;
	n->limited = pg_rows_count(result->rows) > 0 && !pg_null(result->rows, 0, 0);
	if (n->limited)
		n->limit = pg_int(result->rows, 0, 0);
}

static void invitation_counted(struct request *r, void *arg, const struct pg_result *result) {
	struct joining *n = arg;
	if (n->limited && pg_int(result->rows, 0, 0) >= n->limit) {
		api_tx_rollback(n->tx);
		respond_problem(r, PROBLEM_QUOTA, "the account's plan has %lld members", (long long)n->limit);
	} else {
		insert_user(r, n);
	}
}

static void invitation_taken(struct request *r, void *arg, const struct pg_result *result) {
	struct joining *n = arg;
	if (pg_rows_count(result->rows) == 0) {
		api_tx_rollback(n->tx);
		answer_dead_link(r);
		return;
	}
	if (!n->has_account) {
		insert_account(r, n, request_api(r)->config->signup_plan);
		return;
	}
	struct pg_params p;
	pg_params_init(&p);
	pg_param_uuid(&p, &n->account);
	api_tx_step(n->tx, &STMT_MEMBER_COUNT, &p, invitation_counted, n);
	pg_params_fini(&p);
	api_tx_flush(n->tx);
}

static void accept_invitation(struct request *r, struct joining *n) {
	struct pg_params p;
	n->tx = api_tx_begin(r);
	id_make(&n->user, clock_wall_us());
	pg_params_init(&p);
	if (n->has_account) {
		api_tx_as(n->tx, &n->account, &n->user);
		pg_param_uuid(&p, &n->account);
		api_tx_step(n->tx, &STMT_ACCOUNT_LOCK, &p, limit_known, n);
		pg_params_reset(&p);
	}
	param_link(&p, n);
	api_tx_step(n->tx, &STMT_INVITATION_TAKE, &p, invitation_taken, n);
	pg_params_fini(&p);
	api_tx_flush(n->tx);
}

static void invitation_found(struct request *r, void *arg, const struct pg_result *result) {
	struct joining *n = arg;
	if (pg_rows_count(result->rows) == 0) {
		answer_dead_link(r);
		return;
	}
	struct slice email = pg_text(result->rows, 0, 1);
	n->has_account = !pg_null(result->rows, 0, 0);
	if (n->has_account)
		n->account = pg_uuid(result->rows, 0, 0);
	snprintf(n->email, sizeof n->email, "%.*s", (int)email.n, email.p);
	n->owner = pg_bool(result->rows, 0, 2);
	if (!n->has_account && strcmp(request_api(r)->config->signup, "closed") == 0)
		respond_problem(r, PROBLEM_FORBIDDEN, "this server takes no new accounts");
	else
		hash_password(r, n, accept_invitation);
}

void api_accept_invitation(struct request *r) {
	struct joining *n = joining_new(r);
	struct pg_params p;
	if (!read_link(r, TOKEN_INVITATION, n))
		return;
	pg_params_init(&p);
	param_link(&p, n);
	api_query(r, &STMT_INVITATION_FIND, &p, invitation_found, n);
	pg_params_fini(&p);
}

/* ---- GET and POST /auth/signup ---- */

static bool is_open(struct request *r) {
	return strcmp(request_api(r)->config->signup, "open") == 0;
}

static void signup_judged(struct request *r, void *arg, const struct pg_result *result) {
	struct joining *n = arg;
	bool first = !pg_bool(result->rows, 0, 0);
	if (!first && !is_open(r)) {
		api_tx_rollback(n->tx);
		respond_problem(r, PROBLEM_FORBIDDEN, "sign-up is not open on this server");
	} else {
		insert_account(r, n, first ? "unlimited" : request_api(r)->config->signup_plan);
	}
}

static void sign_up(struct request *r, struct joining *n) {
	struct pg_params p;
	n->tx = api_tx_begin(r);
	id_make(&n->user, clock_wall_us());
	pg_params_init(&p);
	pg_param_int4(&p, SIGNUP_LOCK_CLASS);
	pg_param_int4(&p, SIGNUP_LOCK_KEY);
	api_tx_step(n->tx, &STMT_SIGNUP_LOCK, &p, NULL, NULL);
	pg_params_reset(&p);
	api_tx_step(n->tx, &STMT_PEOPLE_ANY, &p, signup_judged, n);
	pg_params_fini(&p);
	api_tx_flush(n->tx);
}

static void signup_asked(struct request *r, void *arg, const struct pg_result *result) {
	if (pg_bool(result->rows, 0, 0) && !is_open(r))
		respond_problem(r, PROBLEM_FORBIDDEN, "sign-up is not open on this server");
	else
		hash_password(r, arg, sign_up);
}

static void ask_people(struct request *r, api_rows *done, void *arg) {
	struct pg_params none;
	pg_params_init(&none);
	api_query(r, &STMT_PEOPLE_ANY, &none, done, arg);
	pg_params_fini(&none);
}

void api_signup(struct request *r) {
	struct joining *n = joining_new(r);
	if (!request_same_origin(r) || !api_auth_may_try(r))
		return;
	const json_t *body = request_json(r, false);
	if (!body || api_auth_email(r, body, n->email) < 0 || api_auth_secret(r, body, "password", &n->password) < 0)
		return;
	api_auth_wipe(request_body(r));
	ask_people(r, signup_asked, n);
}

static void answer_signup(struct request *r, void *arg, const struct pg_result *result) {
	struct buf body;
	struct json_out j;
	buf_init(&body, 256);
	json_out_init(&j, &body);
	json_out_object(&j);
	json_out_member_cstring(&j, "signup", pg_bool(result->rows, 0, 0) ? request_api(r)->config->signup : "first");
	json_out_object_end(&j);
	respond_json(r, 200, &body);
}

void api_signup_get(struct request *r) {
	ask_people(r, answer_signup, NULL);
}

/* ---- POST /auth/reset ---- */

static void was_reset(struct request *r, void *arg, const struct pg_result *result) {
	if (result->status == PG_OK)
		respond_empty(r, 204);
	else
		api_answer_failure(r, result);
}

static void reset_taken(struct request *r, void *arg, const struct pg_result *result) {
	struct joining *n = arg;
	struct pg_params p;
	if (result->affected == 0) {
		api_tx_rollback(n->tx);
		answer_dead_link(r);
		return;
	}
	pg_params_init(&p);
	pg_param_uuid(&p, &n->user);
	pg_param_cstring(&p, n->made);
	pg_param_time(&p, clock_wall_us());
	api_tx_step(n->tx, &STMT_USER_SET_PASSWORD, &p, NULL, NULL);
	pg_params_reset(&p);
	pg_param_uuid(&p, &n->user);
	api_tx_step(n->tx, &STMT_SESSION_DELETE_ALL, &p, NULL, NULL);
	api_tx_step(n->tx, &STMT_RESET_CLEAR, &p, NULL, NULL);
	pg_params_fini(&p);
	api_change_commit(r, n->tx, &n->user, was_reset, n);
}

static void reset_password(struct request *r, struct joining *n) {
	struct pg_params p;
	n->tx = api_tx_begin(r);
	api_tx_as(n->tx, &n->account, &n->user);
	pg_params_init(&p);
	param_link(&p, n);
	api_tx_step(n->tx, &STMT_RESET_TAKE, &p, reset_taken, n);
	pg_params_fini(&p);
	api_tx_flush(n->tx);
}

static void reset_found(struct request *r, void *arg, const struct pg_result *result) {
	struct joining *n = arg;
	if (pg_rows_count(result->rows) == 0) {
		answer_dead_link(r);
		return;
	}
	struct slice email = pg_text(result->rows, 0, 1);
	n->user = pg_uuid(result->rows, 0, 0);
	n->account = pg_uuid(result->rows, 0, 2);
	snprintf(n->email, sizeof n->email, "%.*s", (int)email.n, email.p);
	hash_password(r, n, reset_password);
}

void api_reset(struct request *r) {
	struct joining *n = joining_new(r);
	struct pg_params p;
	if (!read_link(r, TOKEN_RESET, n))
		return;
	pg_params_init(&p);
	param_link(&p, n);
	api_query(r, &STMT_RESET_FIND, &p, reset_found, n);
	pg_params_fini(&p);
}
