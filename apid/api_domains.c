/* The domains routes: which there are, claiming one, giving it up. Proving a claim: api_domain_verify.c.
 *
 * A name may be claimed by many accounts, so a claim says nothing and takes nothing; it is verified for one. A domain that is
 * given up is gone for SMTP and API with the commit, because both ask for it in each statement; its mailboxes are taken away
 * after that, piece by piece, by this request or, if that is cut short, by domain_check. */
#include "apid/api_domains.h"

#include "apid/api.h"
#include "apid/api_change.h"
#include "apid/api_common.h"
#include "apid/handlers.h"
#include "apid/principal.h"
#include "common/address.h"
#include "common/clock.h"
#include "common/domain_proof.h"
#include "domains_stmts.h"

#include <libpsl.h>

#define DOMAIN_JSON_MAX 4096
#define DOMAINS_JSON_MAX (16 << 20)
#define PURGE_AT_ONCE 50 /* mailboxes of one transaction */

/* ---- Read ---- */

/* The columns of domain_get and domain_list. */
enum column { ID, NAME, STATUS, TXT_TOKEN, TXT_VALID, MX_VALID, MX_LOST_SINCE, CREATED_AT, PLATFORM };

static void write_checks(struct json_out *j, const struct pg_rows *rows, unsigned row, const char *mx_target) {
	struct slice token = pg_text(rows, row, TXT_TOKEN);
	int64_t lost = pg_time(rows, row, MX_LOST_SINCE);
	json_out_member_string(j, "txtToken", token.p, token.n);
	json_out_member_cstring(j, "mxTarget", mx_target);
	json_out_member_bool(j, "txtValid", pg_bool(rows, row, TXT_VALID));
	json_out_member_bool(j, "mxValid", pg_bool(rows, row, MX_VALID));
	json_out_member_time(j, "mxLostSince",
	                     lost != INT64_MAX && clock_wall_us() - lost < API_DOMAIN_LOST_US ? INT64_MAX : lost);
}

static void write_row(struct json_out *j, struct request *r, const struct pg_rows *rows, unsigned row,
                      const struct domain_proof *proof) {
	char problem[DOMAIN_PROOF_TEXT_SIZE];
	const char *mx_target = request_api(r)->config->mx_hosts[0];
	struct id id = pg_uuid(rows, row, ID);
	struct slice name = pg_text(rows, row, NAME), status = pg_text(rows, row, STATUS), token = pg_text(rows, row, TXT_TOKEN);
	json_out_object(j);
	json_out_member_id(j, "id", &id);
	json_out_member_string(j, "name", name.p, name.n);
	api_display_write(j, "displayName", name);
	json_out_member_string(j, "status", status.p, status.n);
	json_out_member_bool(j, "platform", pg_bool(rows, row, PLATFORM));
	write_checks(j, rows, row, mx_target);
	json_out_member_time(j, "createdAt", pg_time(rows, row, CREATED_AT));
	if (proof) {
		char *wanted = token.p ? request_strndup(r, token.p, token.n) : NULL;
		domain_proof_explain(proof, request_strndup(r, name.p, name.n), wanted, mx_target, problem);
		json_out_member_cstring(j, "problem", *problem ? problem : NULL);
	}
	json_out_object_end(j);
}

static void list_rows(struct request *r, void *arg, const struct pg_result *result) {
	struct buf body;
	struct json_out j;
	api_items_begin(&j, &body, DOMAINS_JSON_MAX);
	for (unsigned i = 0; i < pg_rows_count(result->rows); i++)
		write_row(&j, r, result->rows, i, NULL);
	api_items_answer(r, &j, &body, API_LIST_WHOLE, NULL);
}

void api_domain_list(struct request *r) {
	struct pg_params p;
	pg_params_init(&p);
	pg_param_uuid(&p, &request_principal(r)->account_id);
	api_query(r, &STMT_DOMAIN_LIST, &p, list_rows, NULL);
	pg_params_fini(&p);
}

struct answer {
	struct id id;
	unsigned status;
	bool looked;
	struct domain_proof proof;
};

static void answer_row(struct request *r, void *arg, const struct pg_result *result) {
	const struct answer *a = arg;
	struct buf body;
	struct json_out j;
	if (pg_rows_count(result->rows) == 0) {
		api_domain_refuse(r, &a->id);
		return;
	}
	buf_init(&body, DOMAIN_JSON_MAX);
	json_out_init(&j, &body);
	write_row(&j, r, result->rows, 0, a->looked ? &a->proof : NULL);
	api_answer_json(r, a->status, &body);
}

void api_domain_answer(struct request *r, unsigned status, const struct id *id, const struct domain_proof *proof) {
	struct answer *a = request_alloc(r, sizeof *a);
	struct pg_params p;
	*a = (struct answer){.id = *id, .status = status, .looked = proof != NULL};
	if (proof)
		a->proof = *proof;
	pg_params_init(&p);
	pg_param_uuid(&p, &request_principal(r)->account_id);
	pg_param_uuid(&p, id);
	api_query(r, &STMT_DOMAIN_GET, &p, answer_row, a);
	pg_params_fini(&p);
}

void api_domain_refuse(struct request *r, const struct id *id) {
	char text[ID_TEXT_SIZE];
	id_format(id, text);
	respond_problem(r, PROBLEM_NOT_FOUND, "your account has no domain %s", text);
}

void api_domain_get(struct request *r) {
	struct id id;
	if (request_param_id(r, 0, &id))
		api_domain_answer(r, 200, &id, NULL);
}

/* ---- Claim ---- */

struct claim {
	struct api_tx *tx;
	struct id id;
	char name[ADDRESS_DOMAIN_MAX + 1], token[DOMAIN_PROOF_TOKEN_SIZE];
	int64_t limit; /* -1: none */
};

/* Names that are no part of the public DNS (RFC 6761, 6762, 7686; ICANN's .internal), and reverse zones: what a resolver says of them is
 * about the operator's own network, and no matter of whoever asks for a look. */
static bool is_special(const char *name) {
	static const char *const top[] = {".arpa", ".internal", ".invalid", ".local", ".localhost", ".onion"};
	const char *last = strrchr(name, '.');
	for (size_t i = 0; i < array_len(top); i++) {
		if (strcmp(last, top[i]) == 0)
			return true;
	}
	return false;
}

/* Names that nobody can have mail under, or that are ours. NULL: fine. */
static const char *refusal_of(const struct request *r, const char *name) {
	if (!strchr(name, '.'))
		return "is a name without a dot";
	if (is_special(name))
		return "is no name of the public DNS";
	if (psl_is_public_suffix2(psl_builtin(), name, PSL_TYPE_ANY | PSL_TYPE_NO_STAR_RULE))
		return "is a public suffix, below which others have their domains";
	for (char *const *host = request_api(r)->config->mx_hosts; *host; host++) {
		if (strcmp(*host, name) == 0)
			return "is one of this platform's own hosts";
	}
	return NULL;
}

static bool read_name(struct request *r, char ret[ADDRESS_DOMAIN_MAX + 1]) {
	json_t *body = request_json(r, false);
	struct json_in_error error;
	struct slice name;
	const char *refusal = NULL;
	if (!body)
		return false;
	int given = json_in_string(body, "name", &name, &error);
	if (given < 0)
		api_answer_bad_member(r, &error);
	else if (given == 0)
		respond_problem(r, PROBLEM_BAD_REQUEST, "member \"name\" is missing");
	else if (address_canonical_domain(name.p, name.n, ret) < 0)
		respond_problem(r, PROBLEM_BAD_REQUEST, "member \"name\" is not a domain name");
	else if ((refusal = refusal_of(r, ret)))
		respond_problem(r, PROBLEM_BAD_REQUEST, "member \"name\": %s %s", ret, refusal);
	else
		return true;
	return false;
}

static void claim_done(struct request *r, void *arg, const struct pg_result *result) {
	struct claim *c = arg;
	if (result->status == PG_ERROR && strcmp(result->sqlstate, "23505") == 0)
		respond_problem(r, PROBLEM_CONFLICT, "your account has the domain %s already", c->name);
	else if (result->status != PG_OK)
		api_answer_failure(r, result);
	else
		api_domain_answer(r, 201, &c->id, NULL);
}

static void claim_counted(struct request *r, void *arg, const struct pg_result *result) {
	struct claim *c = arg;
	struct pg_params p;
	if (c->limit >= 0 && pg_int(result->rows, 0, 0) >= c->limit) {
		api_tx_rollback(c->tx);
		if (c->limit == 0)
			respond_problem(r, PROBLEM_QUOTA, "the plan %s has no custom domains", request_principal(r)->plan);
		else
			respond_problem(r, PROBLEM_QUOTA, "the plan %s has %lld custom domain(s), and your account has as many",
			                request_principal(r)->plan, (long long)c->limit);
		return;
	}
	pg_params_init(&p);
	pg_param_uuid(&p, &c->id);
	pg_param_uuid(&p, &request_principal(r)->account_id);
	pg_param_cstring(&p, c->name);
	pg_param_cstring(&p, c->token);
	pg_param_time(&p, clock_wall_us());
	api_tx_step(c->tx, &STMT_DOMAIN_INSERT, &p, NULL, NULL);
	pg_params_fini(&p);
	api_tx_commit(c->tx, claim_done, c);
}

static void claim_platform(struct request *r, void *arg, const struct pg_result *result) {
	struct claim *c = arg;
	if (pg_rows_count(result->rows) == 0)
		return;
	struct slice name = pg_text(result->rows, 0, 0);
	const char *platform = request_strndup(r, name.p, name.n);
	api_tx_rollback(c->tx);
	respond_problem(r, PROBLEM_BAD_REQUEST, "member \"name\": %s is this platform's own (%s)", c->name, platform);
}

static void claim_limit(struct request *r, void *arg, const struct pg_result *result) {
	struct claim *c = arg;
	c->limit = pg_rows_count(result->rows) == 0 || pg_null(result->rows, 0, 0) ? -1 : pg_int(result->rows, 0, 0);
}

void api_domain_create(struct request *r) {
	struct claim *c = request_alloc(r, sizeof *c);
	struct pg_params p;
	if (!read_name(r, c->name))
		return;
	id_make(&c->id, clock_wall_us());
	domain_proof_token(c->token);
	c->tx = api_tx_begin(r);
	pg_params_init(&p);
	pg_param_uuid(&p, &request_principal(r)->account_id);
	api_tx_step(c->tx, &STMT_DOMAIN_LIMIT, &p, claim_limit, c);
	pg_params_reset(&p);
	pg_param_cstring(&p, c->name);
	api_tx_step(c->tx, &STMT_DOMAIN_OF_PLATFORM, &p, claim_platform, c);
	pg_params_reset(&p);
	pg_param_uuid(&p, &request_principal(r)->account_id);
	api_tx_step(c->tx, &STMT_DOMAIN_COUNT, &p, claim_counted, c);
	pg_params_fini(&p);
	api_tx_flush(c->tx);
}

/* ---- Give up ---- */

struct release {
	struct api_tx *tx;
	struct id id, after; /* after: the last mailbox taken away */
};

static void purge(struct request *r, struct release *d);

static void purged(struct request *r, void *arg, const struct pg_result *result) {
	struct release *d = arg;
	if (pg_null(result->rows, 0, 0)) {
		respond_empty(r, 204);
		return;
	}
	d->after = pg_uuid(result->rows, 0, 0);
	purge(r, d);
}

static void purge(struct request *r, struct release *d) {
	struct pg_params p;
	pg_params_init(&p);
	pg_param_uuid(&p, &request_principal(r)->account_id);
	pg_param_uuid(&p, &d->id);
	pg_param_uuid(&p, &d->after);
	pg_param_int4(&p, PURGE_AT_ONCE);
	api_query(r, &STMT_DOMAIN_PURGE, &p, purged, d);
	pg_params_fini(&p);
}

static void release_done(struct request *r, void *arg, const struct pg_result *result) {
	if (result->status == PG_OK)
		purge(r, arg);
	else
		api_answer_failure(r, result);
}

static void release_found(struct request *r, void *arg, const struct pg_result *result) {
	struct release *d = arg;
	if (result->affected == 0) {
		api_tx_rollback(d->tx);
		api_domain_refuse(r, &d->id);
		return;
	}
	api_change_commit(r, d->tx, &request_principal(r)->account_id, release_done, d);
}

void api_domain_delete(struct request *r) {
	struct release *d = request_alloc(r, sizeof *d);
	struct pg_params p;
	if (!request_param_id(r, 0, &d->id))
		return;
	d->tx = api_tx_begin(r);
	pg_params_init(&p);
	pg_param_uuid(&p, &request_principal(r)->account_id);
	pg_param_uuid(&p, &d->id);
	pg_param_time(&p, clock_wall_us());
	api_tx_step(d->tx, &STMT_DOMAIN_DELETE, &p, release_found, d);
	pg_params_fini(&p);
	api_tx_flush(d->tx);
}
