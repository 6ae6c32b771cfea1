/* Signing in to the console and out of it. A wrong password, an unknown address and a suspended user are one answer, and
 * take as long. Signed out means: dead in every worker before the answer. Accounts are made in api_signup.c. */
#include "apid/api_auth.h"

#include "apid/api.h"
#include "apid/api_change.h"
#include "apid/api_common.h"
#include "apid/handlers.h"
#include "apid/passwords.h"
#include "apid/principal.h"
#include "apid/session.h"
#include "apid/session_open.h"
#include "common/clock.h"
#include "people_stmts.h"

#include <sodium.h>
#include <stdio.h>

/* ---- shared by the handlers of passwords ---- */

void api_auth_wipe(struct slice s) {
	if (s.n > 0)
		sodium_memzero((void *)(uintptr_t)s.p, s.n);
}

int api_auth_secret(struct request *r, const json_t *body, const char *name, struct slice *ret) {
	struct json_in_error error;
	int given = json_in_string(body, name, ret, &error);
	if (given < 0)
		api_answer_bad_member(r, &error);
	else if (given == 0)
		respond_problem(r, PROBLEM_BAD_REQUEST, "member \"%s\" is missing", name);
	else if (ret->n > PASSWORD_MOST)
		respond_problem(r, PROBLEM_BAD_REQUEST, "member \"%s\" is over %d octets", name, PASSWORD_MOST);
	else
		return 0;
	return -EINVAL;
}

int api_auth_email(struct request *r, const json_t *body, char ret[ADDRESS_MAX + 1]) {
	struct json_in_error error;
	struct slice text;
	int given = json_in_string(body, "email", &text, &error);
	if (given < 0)
		api_answer_bad_member(r, &error);
	else if (given == 0)
		respond_problem(r, PROBLEM_BAD_REQUEST, "member \"email\" is missing");
	else if (address_canonical_email(text.p, text.n, ret) < 0)
		respond_problem(r, PROBLEM_BAD_REQUEST, "member \"email\" is not an e-mail address");
	else
		return 0;
	return -EINVAL;
}

void api_auth_answer_busy(struct request *r) {
	respond_problem(r, PROBLEM_UNAVAILABLE, "too many sign-ins at once; try again");
}

/* ---- limits ---- */

bool api_auth_may_try(struct request *r) {
	int64_t wait_us = request_take(r, CLIENTS_LOGINS);
	if (wait_us > 0)
		respond_too_many(r, wait_us, "too many attempts");
	return wait_us == 0;
}

static void was_right(struct request *r, struct slice person) {
	clients_give_back_name(request_api(r)->clients, person, CLIENTS_NAME_LOGINS);
	request_give_back(r, CLIENTS_LOGINS);
}

/* ---- trying a password ---- */

struct proof { /* of who knows the password */
	struct id account, user;
	int64_t set_at;   /* when it was set: what it must still be */
	const char *made; /* passwords.h */
};

/* `proof` NULL: wrong, unknown or suspended. */
typedef void tried(struct request *, void *arg, const struct proof *proof);

struct attempt {
	struct request *request;
	char person[ADDRESS_MAX + 8]; /* as whose attempts it counts */
	struct slice password, next; /* of the body */
	struct passwords_op *op;
	struct id account, user;
	int64_t set_at;
	bool active;
	tried *done;
	void *arg;
};

static void cancel_check(void *arg) {
	struct attempt *t = arg;
	t->op = passwords_cancel(t->op);
}

/* Those of browsers that are known count apart: whoever guesses elsewhere does not keep their owner out. */
static void name_person(struct attempt *t, const char *email) {
	struct request *r = t->request;
	bool known = session_is_known(request_header(r, "cookie"), request_secure(r), email, request_api(r)->config->secret);
	snprintf(t->person, sizeof t->person, "%s%s", known ? "known\n" : "", email); /* no address has a line end */
}

static void on_checked(void *arg, const struct passwords_result *result) {
	struct attempt *t = arg;
	struct request *r = t->request;
	bool right = result->right && t->active;
	t->op = NULL;
	if (right)
		was_right(r, slice_str(t->person));
	const struct proof proof = {.account = t->account, .user = t->user, .set_at = t->set_at, .made = result->made};
	t->done(r, t->arg, right ? &proof : NULL);
}

static void on_user(struct request *r, void *arg, const struct pg_result *result) {
	struct attempt *t = arg;
	char hash[PASSWORD_HASH_SIZE] = "";
	bool known = pg_rows_count(result->rows) > 0;
	if (known) {
		struct slice text = pg_text(result->rows, 0, 1);
		t->user = pg_uuid(result->rows, 0, 0);
		t->set_at = pg_time(result->rows, 0, 2);
		t->active = pg_bool(result->rows, 0, 3);
		t->account = pg_uuid(result->rows, 0, 4);
		if (text.n < sizeof hash && text.n > 0)
			memcpy(hash, text.p, text.n);
	}
	t->op = passwords_check(request_api(r)->passwords, t->password, hash[0] ? hash : NULL, t->next, on_checked, t);
	sodium_memzero(hash, sizeof hash);
	api_auth_wipe(t->password);
	api_auth_wipe(t->next);
	if (!t->op)
		api_auth_answer_busy(r);
}

/* Within the limit of attempts (else answers 429). `next`: hashed as well if the password is right; may be {NULL,0}. Wipes both. */
static void try_password(struct request *r, const char *email, struct slice password, struct slice next, tried *done, void *arg) {
	struct attempt *t = request_alloc(r, sizeof *t);
	struct pg_params p;
	*t = (struct attempt){.request = r, .password = password, .next = next, .done = done, .arg = arg};
	name_person(t, email);
	if (!api_auth_may_try(r))
		return;
	int64_t wait_us = clients_take_name(request_api(r)->clients, slice_str(t->person), CLIENTS_NAME_LOGINS);
	if (wait_us > 0) {
		respond_too_many(r, wait_us, "too many attempts");
		return;
	}
	request_at_end(r, cancel_check, t);
	pg_params_init(&p);
	pg_param_cstring(&p, email);
	api_query(r, &STMT_USER_PASSWORD, &p, on_user, t);
	pg_params_fini(&p);
}

/* ---- opening a session ---- */

struct opening {
	struct api_tx *tx;
	struct id user;
	struct session_user who;
	struct session_new session;
	char made[PASSWORD_HASH_SIZE]; /* "": none */
	bool changes;                  /* the password: every session of the user ends, and `made` is of a new one */
};

static void opened(struct request *r, void *arg, const struct pg_result *result) {
	struct opening *o = arg;
	if (result->status == PG_OK)
		session_open_answer(r, 200, &o->who, &o->session);
	else
		api_answer_failure(r, result);
}

static struct slice keep(struct request *r, struct slice s) {
	return slice_of(request_strndup(r, s.n ? s.p : "", s.n), s.n);
}

static void set_password(struct opening *o, int64_t set_at) {
	struct pg_params p;
	pg_params_init(&p);
	pg_param_uuid(&p, &o->user);
	pg_param_cstring(&p, o->made);
	pg_param_time(&p, set_at);
	api_tx_step(o->tx, &STMT_USER_SET_PASSWORD, &p, NULL, NULL);
	if (o->changes) {
		pg_params_reset(&p);
		pg_param_uuid(&p, &o->user);
		api_tx_step(o->tx, &STMT_SESSION_DELETE_ALL, &p, NULL, NULL);
	}
	pg_params_fini(&p);
}

struct locked {
	struct opening o;
	int64_t set_at;
};

static void on_locked(struct request *r, void *arg, const struct pg_result *result) {
	struct locked *l = arg;
	struct opening *o = &l->o;
	if (pg_rows_count(result->rows) == 0) { /* the password was changed, or the user suspended, a moment ago */
		api_tx_rollback(o->tx);
		respond_problem(r, PROBLEM_UNAUTHORIZED, API_AUTH_WRONG);
		return;
	}
	o->who = (struct session_user){
	    .id = o->user,
	    .email = keep(r, pg_text(result->rows, 0, 0)),
	    .owner = pg_bool(result->rows, 0, 1),
	    .account_id = pg_uuid(result->rows, 0, 2),
	    .plan = keep(r, pg_text(result->rows, 0, 3)),
	};
	if (o->made[0])
		set_password(o, o->changes ? clock_wall_us() : l->set_at);
	session_open_steps(r, o->tx, &o->user, &o->session);
	if (o->changes)
		api_change_commit(r, o->tx, &o->user, opened, o);
	else
		api_tx_commit(o->tx, opened, o);
}

static void open_session(struct request *r, const struct proof *proof, bool changes) {
	struct locked *l = request_alloc(r, sizeof *l);
	struct pg_params p;
	l->o = (struct opening){.tx = api_tx_begin(r), .user = proof->user, .changes = changes};
	l->set_at = proof->set_at;
	api_tx_as(l->o.tx, &proof->account, &proof->user);
	if (proof->made)
		snprintf(l->o.made, sizeof l->o.made, "%s", proof->made);
	pg_params_init(&p);
	pg_param_uuid(&p, &l->o.user);
	pg_param_time(&p, l->set_at);
	api_tx_step(l->o.tx, &STMT_USER_LOCK, &p, on_locked, l);
	pg_params_fini(&p);
	api_tx_flush(l->o.tx);
}

/* ---- POST /auth/login, GET /auth/session ---- */

static void login_tried(struct request *r, void *arg, const struct proof *proof) {
	if (proof)
		open_session(r, proof, false);
	else
		respond_problem(r, PROBLEM_UNAUTHORIZED, API_AUTH_WRONG);
}

void api_login(struct request *r) {
	char email[ADDRESS_MAX + 1];
	struct slice password;
	if (!request_same_origin(r))
		return;
	const json_t *body = request_json(r, false);
	if (!body || api_auth_email(r, body, email) < 0 || api_auth_secret(r, body, "password", &password) < 0)
		return;
	try_password(r, email, password, slice_of(NULL, 0), login_tried, NULL);
	api_auth_wipe(request_body(r));
}

void api_session(struct request *r) {
	session_answer(r);
}

/* ---- POST /auth/password ---- */

static void password_tried(struct request *r, void *arg, const struct proof *proof) {
	if (!proof)
		respond_problem(r, PROBLEM_FORBIDDEN, "the current password is wrong");
	else if (!proof->made)
		respond_problem(r, PROBLEM_UNAVAILABLE, "there is no memory for it now; try again");
	else
		open_session(r, proof, true);
}

void api_password(struct request *r) {
	struct slice current, next;
	const char *email = request_principal(r)->owner;
	const json_t *body = request_json(r, false);
	if (!body || api_auth_secret(r, body, "current", &current) < 0 || api_auth_secret(r, body, "new", &next) < 0)
		return;
	const char *fault = password_fault(next, email);
	if (fault)
		respond_problem(r, PROBLEM_BAD_REQUEST, "member \"new\": %s", fault);
	else
		try_password(r, email, current, next, password_tried, NULL);
	api_auth_wipe(request_body(r));
}

/* ---- POST /auth/logout, /auth/logout-everywhere ---- */

static void closed(struct request *r, void *arg, const struct pg_result *result) {
	if (result->status == PG_OK)
		session_answer_closed(r);
	else
		api_answer_failure(r, result);
}

static void close_sessions(struct request *r, const struct pg_stmt *stmt, const struct id *of) {
	struct api_tx *tx = api_tx_begin(r);
	struct pg_params p;
	pg_params_init(&p);
	pg_param_uuid(&p, of);
	api_tx_step(tx, stmt, &p, NULL, NULL);
	pg_params_fini(&p);
	api_change_commit(r, tx, of, closed, NULL);
}

void api_logout(struct request *r) {
	close_sessions(r, &STMT_SESSION_DELETE, &request_principal(r)->key_id);
}

void api_logout_everywhere(struct request *r) {
	close_sessions(r, &STMT_SESSION_DELETE_ALL, &request_principal(r)->user_id);
}
