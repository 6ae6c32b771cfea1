/* DNS block lists. What an answer means is decided here once, by zone: errors of the list (127.255.255.0/24: we ask too much or through
 * the wrong resolver) and 127.0.0.1 never list anybody. */
#include "smtpd/dnsbl.h"

#include "common/dns.h"
#include "common/log.h"
#include "common/loop.h"

#include <stdio.h>

#define WITHIN_US 3000000
#define RANGES_MAX 16

struct range {
	uint32_t first, last;
};

struct zone {
	char name[DNS_NAME_SIZE];
	struct range ranges[RANGES_MAX];
	unsigned range_count;          /* 0: any answer that is no error */
};

struct dnsbl {
	struct loop *loop;
	struct dns *dns;
	struct zone zones[DNSBL_ZONES_MAX];
	unsigned zone_count;
	struct dnsbl_op *tests[2];     /* of the self-test */
};

struct question {
	struct dnsbl_op *op;
	struct dns_op *dns;
	unsigned index;
};

struct dnsbl_op {
	struct dnsbl *owner;
	struct dnsbl_results results;
	struct question questions[DNSBL_ZONES_MAX];
	unsigned left;
	dnsbl_done *done;
	void *arg;
	struct deferred nothing_to_ask;
};

/* ---- configuration ---- */

static bool read_code(struct slice s, uint32_t *ret) {
	struct netaddr a;
	if (netaddr_parse(s.p, s.n, &a) < 0 || a.family != NETADDR_IPV4 || a.b[0] != 127)
		return false;
	*ret = (uint32_t)a.b[0] << 24 | (uint32_t)a.b[1] << 16 | (uint32_t)a.b[2] << 8 | a.b[3];
	return true;
}

/* "127.0.0.2" or "127.0.0.2-127.0.0.11". */
static bool read_range(struct slice s, struct range *ret) {
	const char *dash = s.n ? memchr(s.p, '-', s.n) : NULL;
	size_t n = dash ? (size_t)(dash - s.p) : s.n;
	if (!read_code(slice_of(s.p, n), &ret->first))
		return false;
	ret->last = ret->first;
	return !dash || (read_code(slice_of(dash + 1, s.n - n - 1), &ret->last) && ret->first <= ret->last);
}

static bool read_zone(const char *text, struct zone *z) {
	size_t n = strcspn(text, "=");
	if (dns_name_canonical(text, n, z->name) < 0 || !z->name[0])
		return false;
	if (!text[n])
		return true;
	for (const char *at = text + n + 1;;) {
		size_t len = strcspn(at, "/");
		if (z->range_count == RANGES_MAX || !read_range(slice_of(at, len), &z->ranges[z->range_count++]))
			return false;
		if (!at[len])
			return true;
		at += len + 1;
	}
}

int dnsbl_new(struct loop *loop, struct dns *dns, char *const *zones, struct dnsbl **ret, char ret_fault[DNSBL_FAULT_SIZE]) {
	struct dnsbl *b = xcalloc(1, sizeof(*b));
	b->loop = loop;
	b->dns = dns;
	for (; *zones; zones++) {
		if (b->zone_count == DNSBL_ZONES_MAX || !read_zone(*zones, &b->zones[b->zone_count++])) {
			snprintf(ret_fault, DNSBL_FAULT_SIZE, "not ZONE or ZONE=127.0.0.2-127.0.0.11/…, or more than %u: %s", DNSBL_ZONES_MAX,
			         *zones);
			free(b);
			return -EINVAL;
		}
	}
	*ret = b;
	return 0;
}

struct dnsbl *dnsbl_free(struct dnsbl *b) {
	if (!b)
		return NULL;
	for (unsigned i = 0; i < array_len(b->tests); i++)
		b->tests[i] = dnsbl_cancel(b->tests[i]);
	free(b);
	return NULL;
}

/* ---- answers ---- */

static bool counts(const struct zone *z, uint32_t code) {
	if (code >> 24 != 127 || code == 0x7f000001 || code >> 8 == 0x7fffff)
		return false;
	for (unsigned i = 0; i < z->range_count; i++)
		if (code >= z->ranges[i].first && code <= z->ranges[i].last)
			return true;
	return z->range_count == 0;
}

static void judge(const struct zone *z, const struct dns_answer *a, struct dnsbl_result *r) {
	r->verdict = a->status == DNS_TEMPORARY ? DNSBL_ERROR : DNSBL_UNLISTED;
	for (unsigned i = 0; i < a->count; i++) {
		const uint8_t *p = (const uint8_t *)a->records[i].data;
		uint32_t code = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
		if (counts(z, code)) {
			r->verdict = DNSBL_LISTED;
			if (r->code_count < DNSBL_CODES_MAX)
				memcpy(r->codes[r->code_count++], p, 4);
		} else if (code >> 8 == 0x7fffff && r->verdict == DNSBL_UNLISTED) {
			r->verdict = DNSBL_ERROR;
		}
	}
}

static void on_answer(void *arg, const struct dns_answer *a) {
	struct question *q = arg;
	struct dnsbl_op *op = q->op;
	q->dns = NULL;
	judge(&op->owner->zones[q->index], a, &op->results.v[q->index]);
	if (--op->left == 0)
		op->done(op->arg);
}

static void on_nothing(void *arg) {
	struct dnsbl_op *op = arg;
	op->done(op->arg);
}

struct dnsbl_op *dnsbl_start(struct dnsbl *b, const struct netaddr *client, dnsbl_done *done, void *arg) {
	struct dnsbl_op *op = xcalloc(1, sizeof(*op));
	op->owner = b;
	op->done = done;
	op->arg = arg;
	if (client->family == NETADDR_NONE) {
		loop_defer(b->loop, &op->nothing_to_ask, on_nothing, op);
		return op;
	}
	for (unsigned i = 0; i < b->zone_count; i++) {
		char name[DNS_NAME_SIZE];
		op->results.v[op->results.count++] = (struct dnsbl_result){.zone = b->zones[i].name, .verdict = DNSBL_ERROR};
		if (!dns_name_reversed(client->b, client->family == NETADDR_IPV4 ? 4 : 16, b->zones[i].name, name))
			continue;
		op->questions[i] = (struct question){.op = op, .index = i};
		op->questions[i].dns = dns_start(b->dns, DNS_A, name, WITHIN_US, on_answer, &op->questions[i]);
		op->left++;
	}
	if (op->left == 0)
		loop_defer(b->loop, &op->nothing_to_ask, on_nothing, op);
	return op;
}

bool dnsbl_is_done(const struct dnsbl_op *op) {
	return op->left == 0;
}

const struct dnsbl_results *dnsbl_results(const struct dnsbl_op *op) {
	return &op->results;
}

bool dnsbl_listed(const struct dnsbl_op *op) {
	for (unsigned i = 0; i < op->results.count; i++)
		if (op->results.v[i].verdict == DNSBL_LISTED)
			return true;
	return false;
}

struct dnsbl_op *dnsbl_cancel(struct dnsbl_op *op) {
	if (!op)
		return NULL;
	for (unsigned i = 0; i < op->results.count; i++)
		dns_cancel(op->questions[i].dns);
	deferred_cancel(&op->nothing_to_ask);
	free(op);
	return NULL;
}

/* ---- the self-test ---- */

static void on_tested(void *arg) {
	struct dnsbl *b = arg;
	if (!dnsbl_is_done(b->tests[0]) || !dnsbl_is_done(b->tests[1]))
		return;
	for (unsigned i = 0; i < b->zone_count; i++) {
		enum dnsbl_verdict must = dnsbl_results(b->tests[0])->v[i].verdict, must_not = dnsbl_results(b->tests[1])->v[i].verdict;
		struct log_line line;
		bool works = must == DNSBL_LISTED && must_not == DNSBL_UNLISTED;
		log_begin(&line, works ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, works ? "block list works" : "block list does not work");
		log_str(&line, "zone", b->zones[i].name);
		if (!works)
			log_str(&line, "why", must_not == DNSBL_LISTED ? "it lists 127.0.0.1" : "it does not list 127.0.0.2");
		log_end(&line);
	}
}

void dnsbl_self_test(struct dnsbl *b) {
	const struct netaddr listed = {NETADDR_IPV4, {127, 0, 0, 2}}, unlisted = {NETADDR_IPV4, {127, 0, 0, 1}};
	b->tests[0] = dnsbl_start(b, &listed, on_tested, b);
	b->tests[1] = dnsbl_start(b, &unlisted, on_tested, b);
}
