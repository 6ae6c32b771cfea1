/* A run goes through what is due, one piece at a time: first leftovers, then domains, each taken with one statement, looked at and
 * noted. Nothing is due any more, the most of a run is done, or the database is away: the timer starts the next one.
 *
 * Invariant: at most one of `op`, `look` and the armed timer. */
#include "apid/domain_check.h"

#include "apid/api_domains.h"
#include "common/address.h"
#include "common/clock.h"
#include "common/domain_proof.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/pg.h"
#include "domains_stmts.h"

#include <sodium.h>

#define LOOK_WITHIN_US 10000000LL
#define LOOKS_MOST 1000 /* of a run */
#define PURGE_AT_ONCE 50
/* A leftover is kept in mind for so long: a request that was under way when its domain went may have made a mailbox late. */
#define LEFTOVER_US (10 * MINUTE_US)

struct domain_check {
	struct domain_check_options options;
	struct timer timer;
	struct pg_op *op;
	struct domain_proof_op *look;
	struct id account, domain, after; /* in hand; after: the last mailbox of a leftover */
	int64_t deleted_at;
	int64_t lost_since;
	char name[ADDRESS_DOMAIN_MAX + 1], token[DOMAIN_PROOF_TOKEN_SIZE];
	unsigned looks;
	uint64_t runs;
};

static int64_t jittered(int64_t us) {
	return us / 2 + (int64_t)(randombytes_uniform(1 << 20) * (double)us / (1 << 20));
}

int64_t domain_check_due(int64_t interval_us) {
	return clock_wall_us() + jittered(interval_us);
}

static void end_run(struct domain_check *c) {
	c->runs++;
	timer_arm(&c->timer, jittered(c->options.pause_us));
}

/* False: it did not happen, and the run is over. */
static bool went_well(struct domain_check *c, const struct pg_result *result) {
	c->op = NULL;
	if (result->status == PG_OK)
		return true;
	if (result->status == PG_ERROR)
		log_msg(LOG_LEVEL_ERROR, "domain check failed", "%s %s", result->sqlstate, result->message);
	end_run(c);
	return false;
}

/* On behalf of nobody, by functions made for that. */
static void ask(struct domain_check *c, const struct pg_stmt *stmt, const struct pg_params *params, pg_done *done) {
	c->op = pg_query(c->options.pg, stmt, params, done, c);
}

/* On behalf of the account whose domain is in hand. */
static void ask_as(struct domain_check *c, const struct pg_stmt *stmt, const struct pg_params *params, pg_done *done) {
	const struct pg_principal who = {.account = c->account};
	c->op = pg_query_as(c->options.pg, &who, stmt, params, done, c);
}

/* ---- domains ---- */

static void next_domain(struct domain_check *c);

static void on_noted(void *arg, const struct pg_result *result) {
	struct domain_check *c = arg;
	if (went_well(c, result))
		next_domain(c);
}

static void param_fact(struct pg_params *p, enum domain_proof_fact fact) {
	if (fact == DOMAIN_PROOF_UNKNOWN)
		pg_param_null(p);
	else
		pg_param_bool(p, fact == DOMAIN_PROOF_VALID);
}

void domain_check_param_found(struct pg_params *p, const struct id *account, const struct id *domain,
                              const struct domain_proof *proof) {
	pg_param_uuid(p, account);
	pg_param_uuid(p, domain);
	param_fact(p, proof->txt);
	param_fact(p, proof->mx);
	pg_param_time(p, clock_wall_us());
}

static void log_lost(const struct domain_check *c) {
	struct log_line line;
	log_begin(&line, LOG_LEVEL_WARNING, "domain has lost its MX");
	log_str(&line, "domain", c->name);
	log_int(&line, "hours", (clock_wall_us() - c->lost_since) / HOUR_US);
	log_end(&line);
}

static void on_look(void *arg, const struct domain_proof *proof) {
	struct domain_check *c = arg;
	struct pg_params p;
	c->look = NULL;
	if (proof->mx != DOMAIN_PROOF_VALID && c->lost_since != INT64_MAX && clock_wall_us() - c->lost_since >= API_DOMAIN_LOST_US)
		log_lost(c);
	pg_params_init(&p);
	domain_check_param_found(&p, &c->account, &c->domain, proof);
	ask_as(c, &STMT_DOMAIN_FOUND, &p, on_noted);
	pg_params_fini(&p);
}

static void copy_text(struct slice s, char *to, size_t size) {
	size_t n = min_of(s.n, size - 1);
	memcpy(to, s.p ? s.p : "", n);
	to[n] = '\0';
}

static void on_taken(void *arg, const struct pg_result *result) {
	struct domain_check *c = arg;
	if (!went_well(c, result))
		return;
	if (pg_rows_count(result->rows) == 0 || c->looks++ >= LOOKS_MOST) {
		end_run(c);
		return;
	}
	c->account = pg_uuid(result->rows, 0, 0);
	c->domain = pg_uuid(result->rows, 0, 1);
	copy_text(pg_text(result->rows, 0, 2), c->name, sizeof(c->name));
	copy_text(pg_text(result->rows, 0, 3), c->token, sizeof(c->token));
	c->lost_since = pg_time(result->rows, 0, 4);
	c->look = domain_proof_start(c->options.dns, c->name, *c->token ? c->token : NULL, c->options.mx_hosts, LOOK_WITHIN_US,
	                             on_look, c);
}

static void next_domain(struct domain_check *c) {
	struct pg_params p;
	pg_params_init(&p);
	pg_param_time(&p, clock_wall_us());
	pg_param_time(&p, domain_check_due(c->options.interval_us));
	ask(c, &STMT_DOMAIN_CHECK_TAKE, &p, on_taken);
	pg_params_fini(&p);
}

/* ---- leftovers ---- */

static void next_leftover(struct domain_check *c);

static void on_forgotten(void *arg, const struct pg_result *result) {
	struct domain_check *c = arg;
	if (went_well(c, result))
		next_leftover(c);
}

static void purged_all(struct domain_check *c) {
	struct pg_params p;
	if (clock_wall_us() - c->deleted_at < LEFTOVER_US) {
		next_leftover(c);
		return;
	}
	pg_params_init(&p);
	pg_param_uuid(&p, &c->domain);
	pg_param_uuid(&p, &c->account);
	ask_as(c, &STMT_DOMAIN_LEFTOVER_DONE, &p, on_forgotten);
	pg_params_fini(&p);
}

static void purge(struct domain_check *c);

static void on_purged(void *arg, const struct pg_result *result) {
	struct domain_check *c = arg;
	if (!went_well(c, result))
		return;
	if (pg_null(result->rows, 0, 0)) {
		purged_all(c);
		return;
	}
	c->after = pg_uuid(result->rows, 0, 0);
	purge(c);
}

static void purge(struct domain_check *c) {
	struct pg_params p;
	pg_params_init(&p);
	pg_param_uuid(&p, &c->account);
	pg_param_uuid(&p, &c->domain);
	pg_param_uuid(&p, &c->after);
	pg_param_int4(&p, PURGE_AT_ONCE);
	ask(c, &STMT_DOMAIN_PURGE, &p, on_purged);
	pg_params_fini(&p);
}

static void on_leftover(void *arg, const struct pg_result *result) {
	struct domain_check *c = arg;
	if (!went_well(c, result))
		return;
	if (pg_rows_count(result->rows) == 0) {
		next_domain(c);
		return;
	}
	c->account = pg_uuid(result->rows, 0, 0);
	c->domain = pg_uuid(result->rows, 0, 1);
	c->deleted_at = pg_time(result->rows, 0, 2);
	c->after = (struct id){0};
	purge(c);
}

/* By rising id, from the one in hand. */
static void next_leftover(struct domain_check *c) {
	struct pg_params p;
	pg_params_init(&p);
	pg_param_uuid(&p, &c->domain);
	pg_param_uuid(&p, &c->account);
	ask(c, &STMT_DOMAIN_LEFTOVER, &p, on_leftover);
	pg_params_fini(&p);
}

/* ---- life ---- */

static void on_timer(void *arg) {
	struct domain_check *c = arg;
	c->looks = 0;
	c->domain = c->account = (struct id){0};
	next_leftover(c);
}

struct domain_check *domain_check_new(struct loop *loop, const struct domain_check_options *options) {
	struct domain_check *c = xcalloc(1, sizeof(*c));
	c->options = *options;
	timer_init(&c->timer, loop, on_timer, c);
	timer_arm(&c->timer, jittered(options->pause_us / 6));
	return c;
}

struct domain_check *domain_check_free(struct domain_check *c) {
	if (!c)
		return NULL;
	pg_op_cancel(c->op);
	domain_proof_cancel(c->look);
	timer_fini(&c->timer);
	free(c);
	return NULL;
}

uint64_t domain_check_runs(const struct domain_check *c) {
	return c->runs;
}
