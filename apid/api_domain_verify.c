/* Proving a claim to a domain: a look at the DNS, and if both records are there the domain is verified in one transaction with
 * its postmaster's mailbox (RFC 5321 4.5.1). From its commit on smtpd takes mail for it, because it asks for each recipient, and
 * keys may cover it. A domain that is verified is looked at likewise, and stays so whatever is found. */
#include "apid/api_domains.h"

#include "apid/api.h"
#include "apid/api_change.h"
#include "apid/domain_check.h"
#include "apid/handlers.h"
#include "apid/principal.h"
#include "apid_stmts.h"
#include "common/address.h"
#include "common/clock.h"
#include "common/domain_proof.h"
#include "domains_stmts.h"

#include <stdio.h>

#define LOOK_WITHIN_US 10000000LL

struct verification {
	struct request *request;
	struct api_tx *tx;
	struct domain_proof_op *look;
	struct domain_proof proof;
	struct id id, mailbox, postmaster;
	char *name, *token;
	char address[ADDRESS_MAX + 1];
};

static void look_end(void *arg) {
	struct verification *v = arg;
	v->look = domain_proof_cancel(v->look);
}

static void done(struct request *r, void *arg, const struct pg_result *result) {
	struct verification *v = arg;
	if (result->status == PG_ERROR && strcmp(result->sqlstate, "23505") == 0)
		respond_problem(r, PROBLEM_CONFLICT, "%s is verified for another account, until that gives it up", v->name);
	else if (result->status != PG_OK)
		api_answer_failure(r, result);
	else
		api_domain_answer(r, 200, &v->id, &v->proof);
}

/* Last, and with the COMMIT, whose outcome then tells of the unique index on verified names. */
static void verify_step(struct request *r, struct verification *v) {
	struct pg_params p;
	pg_params_init(&p);
	pg_param_uuid(&p, &request_principal(r)->account_id);
	pg_param_uuid(&p, &v->id);
	pg_param_time(&p, domain_check_due(request_api(r)->config->domain_check_us));
	api_tx_step(v->tx, &STMT_DOMAIN_VERIFY, &p, NULL, NULL);
	pg_params_fini(&p);
}

static void postmaster_inserted(struct request *r, void *arg, const struct pg_result *result) {
	struct verification *v = arg;
	const struct id *account = &request_principal(r)->account_id;
	if (pg_rows_count(result->rows) > 0) {
		struct pg_params p;
		pg_params_init(&p);
		pg_param_uuid(&p, account);
		pg_param_uuid(&p, &v->mailbox);
		pg_param_uuid(&p, &v->postmaster);
		pg_param_int2(&p, (int16_t)id_bucket(&v->mailbox));
		pg_param_uuid(&p, &v->id);
		pg_param_bool(&p, false);
		pg_param_time(&p, INT64_MAX);
		api_tx_step(v->tx, &STMT_ACCOUNT_MAILBOX_INSERT, &p, NULL, NULL);
		pg_params_fini(&p);
	}
	verify_step(r, v);
	api_change_commit(r, v->tx, account, done, v);
}

static void postmaster_steps(struct request *r, struct verification *v) {
	struct pg_params p;
	size_t n = (size_t)snprintf(v->address, sizeof v->address, "postmaster@%s", v->name);
	unsigned bucket = id_bucket_of_address(v->address, n);
	int64_t now = clock_wall_us();
	id_make_in_bucket(&v->mailbox, now, bucket);
	pg_params_init(&p);
	pg_param_int2(&p, (int16_t)bucket);
	pg_param_text(&p, v->address, n);
	pg_param_time(&p, now);
	pg_param_uuid(&p, &v->postmaster);
	api_tx_step(v->tx, &STMT_MAILBOX_MAKE_ROOM, &p, NULL, NULL);
	pg_params_reset(&p);
	pg_param_int2(&p, (int16_t)bucket);
	pg_param_uuid(&p, &v->mailbox);
	pg_param_uuid(&p, &request_principal(r)->account_id);
	pg_param_uuid(&p, &v->postmaster);
	pg_param_uuid(&p, &v->id);
	pg_param_text(&p, v->address, n);
	pg_param_time(&p, now);
	api_tx_step(v->tx, &STMT_POSTMASTER_INSERT, &p, postmaster_inserted, v);
	pg_params_fini(&p);
	api_tx_flush(v->tx);
}

static void postmaster_known(struct request *r, void *arg, const struct pg_result *result) {
	struct verification *v = arg;
	v->postmaster = request_principal(r)->user_id;
	if (pg_rows_count(result->rows) > 0)
		v->postmaster = pg_uuid(result->rows, 0, 0);
	postmaster_steps(r, v);
}

/* Whether the row that was updated is pending and proven now. */
static void found(struct request *r, void *arg, const struct pg_result *result) {
	struct verification *v = arg;
	struct pg_params p;
	if (pg_rows_count(result->rows) == 0) {
		api_tx_rollback(v->tx);
		api_domain_refuse(r, &v->id);
		return;
	}
	if (!pg_bool(result->rows, 0, 0)) {
		api_tx_commit(v->tx, done, v);
		return;
	}
	pg_params_init(&p);
	pg_param_uuid(&p, &request_principal(r)->account_id);
	api_tx_step(v->tx, &STMT_DOMAIN_POSTMASTER, &p, postmaster_known, v);
	pg_params_fini(&p);
	api_tx_flush(v->tx);
}

static void on_look(void *arg, const struct domain_proof *proof) {
	struct verification *v = arg;
	struct request *r = v->request;
	struct pg_params p;
	v->look = NULL;
	v->proof = *proof;
	v->tx = api_tx_begin(r);
	pg_params_init(&p);
	domain_check_param_found(&p, &request_principal(r)->account_id, &v->id, proof);
	api_tx_step(v->tx, &STMT_DOMAIN_FOUND, &p, found, v);
	pg_params_fini(&p);
	api_tx_flush(v->tx);
}

static char *text(struct request *r, struct slice s) {
	return s.p ? request_strndup(r, s.p, s.n) : NULL;
}

static void row(struct request *r, void *arg, const struct pg_result *result) {
	struct verification *v = arg;
	struct api *api = request_api(r);
	if (pg_rows_count(result->rows) == 0) {
		api_domain_refuse(r, &v->id);
		return;
	}
	if (pg_bool(result->rows, 0, 8)) {
		respond_problem(r, PROBLEM_FORBIDDEN, "this domain is the platform's: there is nothing to prove");
		return;
	}
	v->name = text(r, pg_text(result->rows, 0, 1));
	v->token = text(r, pg_text(result->rows, 0, 3));
	request_at_end(r, look_end, v);
	v->look = domain_proof_start(api->dns, v->name, v->token, api->config->mx_hosts, LOOK_WITHIN_US, on_look, v);
}

void api_domain_verify(struct request *r) {
	struct verification *v = request_alloc(r, sizeof *v);
	struct pg_params p;
	v->request = r;
	if (!request_param_id(r, 0, &v->id))
		return;
	pg_params_init(&p);
	pg_param_uuid(&p, &request_principal(r)->account_id);
	pg_param_uuid(&p, &v->id);
	api_query(r, &STMT_DOMAIN_GET, &p, row, v);
	pg_params_fini(&p);
}
