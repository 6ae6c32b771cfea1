/* Checks under way. Each is one operation:
 *
 *   scanning on a helper: the job has the spool, nobody frees it;  then: the spool is free, or conn's again
 *   SPF, DKIM, iprev and then DMARC are evaluated from the facts known so far, again whenever an answer came
 *
 * Invariants: an operation is in `ops` from its start until it is freed; it is freed only when no job and no question to the DNS has
 * it; a cancelled or kept one has no `done`. */
#include "smtpd/mail_auth.h"

#include "common/clock.h"
#include "common/dns.h"
#include "common/list.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/work.h"
#include "smtpd/mail_auth_scan.h"
#include "smtpd/mail_auth_store.h"
#include "smtpd/smtpd_metrics.h"

#define SHORT_MAX (32 * 1024)      /* 0.2 ms in the worst case: four forms of the body hashed */
#define QUESTION_US 5000000        /* one question, so that a dead key leaves time for the policy */
#define RESULTS_MAX (64 * 1024)

struct question {
	struct list link;
	struct mail_auth_op *op;
	struct dns_op *dns;
	struct dns_fact *fact;
};

struct mail_auth_op {
	struct list link;
	struct mail_auth *owner;
	mail_auth_done *done;
	void *arg;
	struct netaddr client;
	char *helo, *mail_from, *from;
	struct spool *spool;
	size_t octets;                 /* that count against the bound */
	struct dnsbl_results dnsbl;
	struct work_op *job;
	struct mail_auth_scan scan;
	struct dns_facts facts;
	struct list questions;
	struct deferred advance;
	struct timer deadline;
	int64_t started_us;
	bool scanned, spf_known, dkim_known, iprev_known, concluded;
	struct mail_auth_result result;
	struct buf text;               /* of the results, once they are asked for */
	bool stored;                   /* ... with the message */
	bool kept;
	struct mail_auth_row *messages;
	unsigned message_count;
};

struct mail_auth {
	struct loop *loop;
	struct dns *dns;
	struct work *work;
	struct metrics *metrics;
	struct mail_auth_options options;
	struct mail_auth_store *store;
	struct list ops;
	unsigned count;                /* in ops */
	unsigned checking;             /* of them, not concluded */
	size_t octets;
	void (*idle)(void *arg);
	void *idle_arg;
};

static void advance_later(struct mail_auth_op *op);

/* ---- the service ---- */

bool mail_auth_idle(const struct mail_auth *a) {
	return a->count == 0 && (!a->store || mail_auth_store_idle(a->store));
}

static void tell_idle(void *arg) {
	struct mail_auth *a = arg;
	if (a->idle && mail_auth_idle(a))
		a->idle(a->idle_arg);
}

void mail_auth_on_idle(struct mail_auth *a, void (*fn)(void *arg), void *arg) {
	a->idle = fn;
	a->idle_arg = arg;
}

struct mail_auth *mail_auth_new(struct loop *loop, struct dns *dns, struct work *work, struct pg *pg, struct metrics *metrics,
                                const struct mail_auth_options *options) {
	struct mail_auth *a = xcalloc(1, sizeof(*a));
	a->loop = loop;
	a->dns = dns;
	a->work = work;
	a->metrics = metrics;
	a->options = *options;
	list_init(&a->ops);
	if (pg)
		a->store = mail_auth_store_new(loop, pg, metrics, tell_idle, a);
	return a;
}

/* ---- life of an operation ---- */

static void release_spool(struct mail_auth_op *op) {
	op->owner->octets -= op->octets;
	op->octets = 0;
	if (!op->spool)
		return;
	op->spool = spool_free(op->spool);
	metrics_set(op->owner->metrics, SMTPD_SPOOL_MEMORY, (int64_t)spool_memory_in_use());
	metrics_set(op->owner->metrics, SMTPD_SPOOL_OCTETS, (int64_t)spool_octets_in_use());
}

static void drop_questions(struct mail_auth_op *op) {
	struct list *l;
	while ((l = list_first(&op->questions))) {
		struct question *q = list_entry(l, struct question, link);
		dns_cancel(q->dns);
		list_unlink(l);
		free(q);
	}
}

static void op_free(struct mail_auth_op *op) {
	struct mail_auth *a = op->owner;
	drop_questions(op);
	release_spool(op);
	deferred_cancel(&op->advance);
	timer_fini(&op->deadline);
	mail_auth_scan_fini(&op->scan);
	dns_facts_fini(&op->facts);
	buf_fini(&op->text);
	list_unlink(&op->link);
	free(op->helo);
	free(op->mail_from);
	free(op->from);
	free(op->messages);
	a->checking -= !op->concluded;
	free(op);
	a->count--;
}

struct mail_auth_op *mail_auth_cancel(struct mail_auth_op *op) {
	if (!op)
		return NULL;
	struct mail_auth *a = op->owner;
	op->done = NULL;
	if (op->job) {
		/* Its `drop` frees the operation: the job still reads the spool. */
		drop_questions(op);
		deferred_cancel(&op->advance);
		timer_disarm(&op->deadline);
		work_cancel(take_ptr(op->job));
	} else {
		op_free(op);
	}
	tell_idle(a);
	return NULL;
}

struct mail_auth *mail_auth_free(struct mail_auth *a) {
	struct list *l;
	if (!a)
		return NULL;
	while ((l = list_first(&a->ops)))
		op_free(list_entry(l, struct mail_auth_op, link));
	mail_auth_store_free(a->store);
	free(a);
	return NULL;
}

/* ---- scanning, on a helper thread ---- */

/* What is shown and what is checked must be the same author, though a hostile field may read differently in another charset, or
 * stand where only one of the two readers finds it. */
static void scan(struct mail_auth_op *op, struct spool *spool) {
	struct mail_auth_scan *found = &op->scan;
	mail_auth_scan(spool, op->owner->options.authserv_id, found);
	if (found->author == DMARC_AUTHOR_ONE && op->from && !dmarc_author_is(op->from, found->author_domain))
		found->author = *op->from ? DMARC_AUTHOR_SEVERAL : DMARC_AUTHOR_NONE;
}

static void job_run(void *arg) {
	struct mail_auth_op *op = arg;
	scan(op, op->spool);
}

static void job_done(void *arg) {
	struct mail_auth_op *op = arg;
	op->job = NULL;
	op->scanned = true;
	if (!op->done)
		release_spool(op); /* who waits wants it back */
	advance_later(op);
}

static void job_drop(void *arg) {
	op_free(arg);
}

static const struct work_job SCAN = {job_run, job_done, job_drop};

/* ---- questions ---- */

static void on_answer(void *arg, const struct dns_answer *answer) {
	struct question *q = arg;
	struct mail_auth_op *op = q->op;
	dns_facts_tell(q->fact, answer);
	list_unlink(&q->link);
	free(q);
	advance_later(op);
}

static void ask(struct mail_auth_op *op, struct dns_fact *fact) {
	int64_t left = op->started_us + op->owner->options.budget_us - clock_mono_us();
	struct question *q = xcalloc(1, sizeof(*q));
	q->op = op;
	q->fact = fact;
	list_append(&op->questions, &q->link);
	q->dns = dns_start(op->owner->dns, fact->type, fact->name, min_of(max_of(left, (int64_t)0), (int64_t)QUESTION_US), on_answer, q);
}

/* Returns whether something of it was known already, so that there may be more to evaluate. */
static bool ask_wanted(struct mail_auth_op *op) {
	struct dns_fact *fact;
	bool told = false;
	if (op->facts.closed)
		return false; /* the scan is what is missing */
	while ((fact = dns_facts_next(&op->facts))) {
		const struct dns_answer *known = dns_known(op->owner->dns, fact->type, fact->name);
		if (known) {
			dns_facts_tell(fact, known);
			told = true;
		} else {
			ask(op, fact);
		}
	}
	return told;
}

static void on_deadline(void *arg) {
	struct mail_auth_op *op = arg;
	drop_questions(op);
	op->facts.closed = true;
	advance_later(op);
}

/* ---- evaluation ---- */

static bool check_spf(struct mail_auth_op *op) {
	const struct spf_request request = {
		.client = op->client,
		.helo = op->helo,
		.mail_from = op->mail_from,
		.hostname = op->owner->options.hostname,
		.now = clock_wall_us(),
	};
	return spf_check(&request, &op->facts, &op->result.spf) == 0;
}

/* RFC 7505 3: one MX, the root. What cannot be found out is no null MX. */
static bool check_null_mx(struct mail_auth_op *op) {
	const char *at = strrchr(op->mail_from, '@');
	if (!op->owner->options.null_mx || !at)
		return true;
	const struct dns_answer *mx = dns_facts_ask(&op->facts, DNS_MX, at + 1);
	op->result.null_mx = mx && mx->count == 1 && mx->records[0].n == 0;
	return mx != NULL;
}

static bool check_dkim(struct mail_auth_op *op) {
	return op->scanned && dkim_verify(&op->scan.dkim, &op->facts, clock_wall_us()) == 0;
}

static bool check_dmarc(struct mail_auth_op *op) {
	const struct spf_result *spf = &op->result.spf;
	struct dmarc_request request = {
		.author = op->scan.author,
		.domain = op->scan.author_domain,
		.spf_domain = spf->verdict == SPF_PASS ? spf->domain : NULL,
		.spf_temporary = spf->verdict == SPF_TEMPERROR,
	};
	for (unsigned i = 0; i < op->scan.dkim.count; i++) {
		const struct dkim_signature *s = &op->scan.dkim.v[i];
		if (s->verdict == DKIM_PASS)
			request.signers[request.signer_count++] = s->domain;
		request.dkim_temporary = request.dkim_temporary || s->verdict == DKIM_TEMPERROR;
	}
	return op->scan.failed || dmarc_check(&request, &op->facts, &op->result.dmarc) == 0;
}

static bool evaluate(struct mail_auth_op *op) {
	op->spf_known = op->spf_known || check_spf(op);
	op->iprev_known = op->iprev_known || iprev_check(&op->client, &op->facts, &op->result.iprev) == 0;
	op->dkim_known = op->dkim_known || check_dkim(op);
	bool null_mx_known = check_null_mx(op);
	return op->spf_known && op->iprev_known && null_mx_known && op->dkim_known && check_dmarc(op);
}

/* False: too long. */
static bool write_text(struct mail_auth_op *op) {
	if (op->text.len == 0)
		mail_auth_result_write(&op->result, &op->text);
	return !op->text.overflow;
}

static void write_rows(struct mail_auth_op *op) {
	struct mail_auth_store *store = op->owner->store;
	if (!store || op->stored || !write_text(op))
		return;
	for (unsigned i = 0; i < op->message_count; i++)
		mail_auth_store_add(store, &op->messages[i], op->text.data, op->text.len, op->scan.forged);
}

static void log_result(const struct mail_auth_op *op) {
	struct log_line line;
	char id[ID_TEXT_SIZE];
	if (!log_enabled(LOG_LEVEL_INFO) || op->message_count == 0)
		return;
	id_format(&op->messages[0].message, id);
	log_begin(&line, LOG_LEVEL_INFO, "message authenticated");
	log_str(&line, "id", id);
	log_str(&line, "spf", spf_verdict_name(op->result.spf.verdict));
	for (unsigned i = 0; i < min_of(op->scan.dkim.count, 3U); i++) {
		log_str(&line, "dkim", dkim_verdict_name(op->scan.dkim.v[i].verdict));
		log_str(&line, "dkim_domain", op->scan.dkim.v[i].domain);
	}
	log_str(&line, "dmarc", dmarc_verdict_name(op->result.dmarc.verdict));
	for (unsigned i = 0; i < op->dnsbl.count; i++)
		if (op->dnsbl.v[i].verdict == DNSBL_LISTED)
			log_str(&line, "listed", op->dnsbl.v[i].zone);
	log_int(&line, "ms", (clock_mono_us() - op->started_us) / 1000);
	log_end(&line);
}

static void finish_kept(struct mail_auth_op *op) {
	struct mail_auth *a = op->owner;
	write_rows(op);
	log_result(op);
	op_free(op);
	tell_idle(a);
}

static void conclude(struct mail_auth_op *op) {
	struct mail_auth *a = op->owner;
	op->concluded = true;
	a->checking--;
	op->result.dkim = &op->scan.dkim;
	op->result.author_domain = op->scan.author == DMARC_AUTHOR_ONE ? op->scan.author_domain : "";
	op->result.scan_failed = op->scan.failed;
	op->result.dnsbl = &op->dnsbl;
	timer_disarm(&op->deadline);
	drop_questions(op);
	metrics_add(a->metrics, SMTPD_AUTH_CHECKED, 1);
	metrics_observe_us(a->metrics, SMTPD_AUTH_TIME, clock_mono_us() - op->started_us);
	if (op->kept) {
		finish_kept(op);
	} else if (op->done) {
		mail_auth_done *done = op->done;
		op->done = NULL;
		done(op->arg);
	}
}

static void advance(void *arg) {
	struct mail_auth_op *op = arg;
	if (op->concluded)
		return;
	while (!evaluate(op))
		if (!ask_wanted(op))
			return;
	conclude(op);
}

/* At the end of the turn, so that answers that come together are looked at together. */
static void advance_later(struct mail_auth_op *op) {
	loop_defer(op->owner->loop, &op->advance, advance, op);
}

/* ---- for conn ---- */

static void copy_request(struct mail_auth_op *op, const struct mail_auth_request *request) {
	op->client = request->client;
	op->helo = xstrdup(request->helo);
	op->mail_from = xstrdup(request->mail_from);
	op->from = request->from ? xstrdup(request->from) : NULL;
	if (request->dnsbl)
		op->dnsbl = *request->dnsbl;
}

static struct mail_auth_op *op_new(struct mail_auth *a, const struct mail_auth_request *request) {
	struct mail_auth_op *op = xcalloc(1, sizeof(*op));
	op->owner = a;
	op->started_us = clock_mono_us();
	copy_request(op, request);
	list_init(&op->questions);
	buf_init(&op->text, RESULTS_MAX);
	list_append(&a->ops, &op->link);
	a->count++;
	a->checking++;
	return op;
}

/* One that is larger than the whole bound may go alone. */
static bool has_room(const struct mail_auth *a, const struct spool *spool) {
	if (a->checking >= a->options.checks_max)
		return false;
	return mail_auth_is_short(spool) || a->octets == 0 || a->octets + spool_size(spool) <= a->options.octets_max;
}

static struct mail_auth_op *refuse(struct mail_auth *a) {
	metrics_add(a->metrics, SMTPD_AUTH_OVERLOAD, 1);
	return NULL;
}

bool mail_auth_is_short(const struct spool *spool) {
	return spool_size(spool) <= SHORT_MAX && spool_memory(spool);
}

static bool start_scan(struct mail_auth_op *op, struct spool *spool) {
	struct mail_auth *a = op->owner;
	if (mail_auth_is_short(spool)) {
		scan(op, spool);
		op->scanned = true;
		return true;
	}
	op->spool = spool;
	op->job = work_start(a->work, &SCAN, op);
	if (!op->job) {
		op->spool = NULL; /* stays the caller's */
		return false;
	}
	op->octets = (size_t)spool_size(spool);
	a->octets += op->octets;
	return true;
}

struct mail_auth_op *mail_auth_start(struct mail_auth *a, const struct mail_auth_request *request, mail_auth_done *done, void *arg) {
	if (!has_room(a, request->spool))
		return refuse(a);
	struct mail_auth_op *op = op_new(a, request);
	if (!start_scan(op, request->spool)) {
		op_free(op);
		return refuse(a);
	}
	advance(op);
	if (op->concluded)
		return op;
	op->done = done; /* only now: it does not run inside this call */
	op->arg = arg;
	timer_init(&op->deadline, a->loop, on_deadline, op);
	timer_arm(&op->deadline, a->options.budget_us);
	return op;
}

bool mail_auth_concluded(const struct mail_auth_op *op) {
	return op->concluded;
}

const struct mail_auth_result *mail_auth_get(const struct mail_auth_op *op) {
	assert(op->concluded);
	return &op->result;
}

struct spool *mail_auth_take_spool(struct mail_auth_op *op) {
	assert(op->concluded);
	op->owner->octets -= op->octets;
	op->octets = 0;
	return take_ptr(op->spool);
}

const char *mail_auth_text(struct mail_auth_op *op, bool *ret_forged) {
	if (!op->concluded || !write_text(op))
		return NULL;
	op->stored = true;
	*ret_forged = op->scan.forged;
	return op->text.data;
}

void mail_auth_keep(struct mail_auth_op *op, const struct mail_auth_row *messages, unsigned n) {
	op->done = NULL;
	op->kept = true;
	op->messages = xmemdup(messages, n * sizeof(*messages));
	op->message_count = n;
	if (op->scanned)
		release_spool(op);
	if (op->concluded)
		finish_kept(op);
}
