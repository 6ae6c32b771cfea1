/* Questions and transactions of a request. Not pools or retries: common/pg has those.
 *
 * Invariants: a request that has ended is never touched, because its operations are cancelled (a question) or
 * forget it (a transaction whose COMMIT is under way); and every failure is answered once. */
#include "apid/api_query.h"

#include "apid/api.h"
#include "apid/principal.h"
#include "common/clock.h"
#include "common/log.h"

#include <inttypes.h>

static void log_failure(struct request *r, const struct pg_result *result) {
	struct log_line line;
	log_begin(&line, LOG_LEVEL_ERROR, "query failed");
	log_str(&line, "request", request_id_text(r));
	log_str(&line, "sqlstate", result->sqlstate);
	log_str(&line, "message", result->message);
	log_end(&line);
}

/* What our own functions raise (sql/migrations/0007_mailbox_limits.sql, 0024_mailbox_owner_stays.sql). True: answered. */
static bool answer_raised(struct request *r, const char *sqlstate) {
	const struct principal *who = request_principal(r);
	if (strcmp(sqlstate, "MMACT") == 0)
		respond_problem(r, PROBLEM_QUOTA, "the account has the %" PRId64 " active mailboxes that its plan allows",
		                who->active_mailboxes);
	else if (strcmp(sqlstate, "MMARC") == 0)
		respond_problem(r, PROBLEM_QUOTA,
		                "the account has the %" PRId64 " archived mailboxes that its plan allows: delete one, or make this "
		                "mailbox not recoverable first",
		                who->archived_mailboxes);
	else if (strcmp(sqlstate, "MMGON") == 0)
		respond_problem(r, PROBLEM_UNAUTHORIZED, "the user has just been removed");
	else
		return false;
	return true;
}

void api_answer_failure(struct request *r, const struct pg_result *result) {
	switch (result->status) {
	case PG_UNAVAILABLE:
		respond_problem(r, PROBLEM_UNAVAILABLE, "the database is away; try again");
		return;
	case PG_IN_DOUBT:
		respond_problem(r, PROBLEM_UNAVAILABLE, "the database went away; whether the change was made is not known");
		return;
	case PG_OK:
	case PG_ERROR:
		break;
	}
	if (result->status == PG_ERROR && answer_raised(r, result->sqlstate))
		return;
	log_failure(r, result);
	if (result->status == PG_ERROR && pg_passing(result->sqlstate))
		respond_problem(r, PROBLEM_UNAVAILABLE, "the database could not carry the request out; try again");
	else
		respond_problem(r, PROBLEM_INTERNAL, "the database refused a statement");
}

/* ---- One statement ---- */

/* As the database is told of it; nobody where the request has none. */
static struct pg_principal asker(const struct request *r) {
	const struct principal *who = request_principal(r);
	return who ? (struct pg_principal){who->account_id, who->user_id} : (struct pg_principal){0};
}

struct pg_op *api_ask(struct request *r, const struct pg_stmt *stmt, const struct pg_params *params, pg_done *done, void *arg) {
	const struct pg_principal who = asker(r);
	return pg_query_as(request_api(r)->pg, &who, stmt, params, done, arg);
}

struct call {
	struct request *request;
	struct pg_op *op;
	api_rows *done;
	void *arg;
};

static void call_done(void *arg, const struct pg_result *result) {
	struct call *call = arg;
	request_untrack(call->request, call->op);
	if (result->status == PG_OK)
		call->done(call->request, call->arg, result);
	else
		api_answer_failure(call->request, result);
}

void api_query(struct request *r, const struct pg_stmt *stmt, const struct pg_params *params, api_rows *done,
               void *arg) {
	struct call *call = request_alloc(r, sizeof *call);
	*call = (struct call){.request = r, .done = done, .arg = arg};
	call->op = api_ask(r, stmt, params, call_done, call);
	request_track(r, call->op);
}

/* ---- Transactions ---- */

struct step {
	struct step *next;
	struct api_tx *tx;
	api_rows *done;
	void *arg;
};

struct api_tx {
	struct request *request; /* NULL: the client went away while COMMIT was under way */
	struct pg_tx *tx;
	struct step *steps;
	bool committing;
	api_tx_done *done;
	void *arg;
};

static void tx_free(struct api_tx *t) {
	while (t->steps) {
		struct step *step = t->steps;
		t->steps = step->next;
		free(step);
	}
	free(t);
}

static void tx_abort(void *arg) {
	struct api_tx *t = arg;
	if (t->committing) {
		t->request = NULL;
		return;
	}
	pg_tx_rollback(t->tx);
	tx_free(t);
}

struct api_tx *api_tx_begin(struct request *r) {
	struct api_tx *t = xcalloc(1, sizeof *t);
	t->request = r;
	t->tx = pg_tx_begin(request_api(r)->pg);
	if (request_principal(r)) {
		const struct pg_principal who = asker(r);
		pg_tx_as(t->tx, &who);
	}
	request_on_abort(r, tx_abort, t);
	return t;
}

void api_tx_as(struct api_tx *t, const struct id *account, const struct id *user) {
	const struct pg_principal who = {*account, *user};
	pg_tx_as(t->tx, &who);
}

void api_tx_rollback(struct api_tx *t) {
	request_on_abort(t->request, NULL, NULL);
	pg_tx_rollback(t->tx);
	tx_free(t);
}

static void step_done(void *arg, const struct pg_result *result) {
	struct step *step = arg;
	struct api_tx *t = step->tx;
	if (result->status == PG_OK) {
		if (step->done && t->request)
			step->done(t->request, step->arg, result);
		return;
	}
	if (t->committing)
		return; /* commit's own result tells of the first failure */
	struct request *r = t->request;
	api_tx_rollback(t);
	api_answer_failure(r, result);
}

void api_tx_step(struct api_tx *t, const struct pg_stmt *stmt, const struct pg_params *params, api_rows *done,
                 void *arg) {
	struct step *step = xmalloc(sizeof *step);
	*step = (struct step){.next = t->steps, .tx = t, .done = done, .arg = arg};
	t->steps = step;
	pg_tx_step(t->tx, stmt, params, step_done, step);
}

void api_tx_flush(struct api_tx *t) {
	pg_tx_flush(t->tx);
}

static void commit_done(void *arg, const struct pg_result *result) {
	struct api_tx *t = arg;
	struct request *r = t->request;
	api_tx_done *done = t->done;
	void *done_arg = t->arg;
	tx_free(t);
	if (!r)
		return;
	request_on_abort(r, NULL, NULL);
	done(r, done_arg, result);
}

void api_tx_commit(struct api_tx *t, api_tx_done *done, void *arg) {
	t->committing = true;
	t->done = done;
	t->arg = arg;
	pg_tx_commit(t->tx, commit_done, t);
}

/* ---- Parameters ---- */

void api_param_domains(struct pg_params *p, struct request *r) {
	const struct principal *who = request_principal(r);
	pg_param_array(p, PG_UUID, who->domain_count);
	for (unsigned i = 0; i < who->domain_count; i++)
		pg_elem_uuid(p, &who->domains[i].id);
}

void api_param_object_of(struct pg_params *p, struct request *r, const struct id *mailbox, const struct id *user) {
	pg_param_int2(p, (int16_t)id_bucket(mailbox));
	pg_param_uuid(p, mailbox);
	pg_param_time(p, clock_wall_us());
	pg_param_uuid(p, user);
	api_param_domains(p, r);
}

void api_param_object(struct pg_params *p, struct request *r, const struct id *mailbox) {
	api_param_object_of(p, r, mailbox, &request_principal(r)->user_id);
}
