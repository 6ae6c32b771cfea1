/* check_host() of RFC 7208 4: record, terms in order, includes and redirects by recursion. The limits of 4.6.4 belong to the whole
 * evaluation. A call that meets an unknown answer unwinds as WAIT; see dns_facts.h. */
#include "smtpd/spf.h"

#include "common/address.h"
#include "common/buf.h"
#include "smtpd/spf_private.h"

#include <stdio.h>

#define LOOKUPS_MAX 10             /* terms that ask the DNS */
#define VOIDS_MAX 2                /* of them without an answer */
#define HOSTS_MAX 10               /* of one mx, and names of one ptr */

struct check {
	const struct spf_request *request;
	struct dns_facts *facts;
	char local[ADDRESS_MAX + 4], sender_domain[DNS_NAME_SIZE], helo[DNS_NAME_SIZE];
	unsigned lookups, voids;
	const char *reason;
	/* Of the main chain (the first record and where it redirects), not of includes (6.2). */
	const char *mechanism;
	struct slice exp;              /* into an answer */
	char exp_domain[DNS_NAME_SIZE];
};

enum match { NO, YES, WAIT, TEMP, PERM };

static int check_host(struct check *, const char *domain, bool main_chain);

static enum match perm(struct check *c, const char *reason) {
	c->reason = reason;
	return PERM;
}

static enum match temp(struct check *c) {
	c->reason = "dns";
	return TEMP;
}

static bool count_lookup(struct check *c) {
	return ++c->lookups <= LOOKUPS_MAX;
}

static enum dns_type client_type(const struct check *c) {
	return c->request->client.family == NETADDR_IPV4 ? DNS_A : DNS_AAAA;
}

static bool is_void(const struct dns_answer *a) {
	return a->status == DNS_NO_DATA || a->status == DNS_NXDOMAIN;
}

/* Whether one of the addresses is in the client's network of so many bits. */
static bool has_client(const struct check *c, const struct dns_answer *a, const struct spf_term *t) {
	const struct netaddr *client = &c->request->client;
	bool v4 = client->family == NETADDR_IPV4;
	unsigned bits = v4 ? (t ? t->bits4 : 32) : (t ? t->bits6 : 128);
	const struct netaddr_net net = {netaddr_prefix(client, bits), bits};
	for (unsigned i = 0; i < a->count; i++) {
		const struct netaddr address = netaddr_of_octets(client->family, (const uint8_t *)a->records[i].data);
		if (netaddr_net_has(&net, &address))
			return true;
	}
	return false;
}

/* ---- names of the client: ptr and %{p} (5.5, 7.3) ---- */

/* The names whose addresses include the client's; bit i: the i-th of the PTR answer. WAIT, or YES. */
static enum match validate_names(const struct check *c, const struct dns_answer *names, unsigned *ret) {
	enum match m = YES;
	*ret = 0;
	for (unsigned i = 0; i < min_of(names->count, HOSTS_MAX); i++) {
		const struct dns_answer *a = dns_facts_ask(c->facts, client_type(c), names->records[i].data);
		if (!a)
			m = WAIT;
		else if (has_client(c, a, NULL))
			*ret |= 1U << i;
	}
	return m;
}

static const struct dns_answer *ask_names(const struct check *c) {
	const struct netaddr *client = &c->request->client;
	char name[DNS_NAME_SIZE];
	dns_name_reversed(client->b, client->family == NETADDR_IPV4 ? 4 : 16, NULL, name);
	return dns_facts_ask(c->facts, DNS_PTR, name);
}

/* %{p}: the domain itself, else a name below it, else any; NULL: none ("unknown"). */
static enum match find_validated(const struct check *c, const char *domain, const char **ret) {
	const struct dns_answer *names = ask_names(c);
	unsigned valid, best = 0;
	*ret = NULL;
	if (!names)
		return WAIT;
	if (validate_names(c, names, &valid) == WAIT)
		return WAIT;
	for (unsigned i = 0; i < min_of(names->count, HOSTS_MAX); i++) {
		const char *name = names->records[i].data;
		unsigned rank = strcmp(name, domain) == 0 ? 3 : dns_name_within(name, domain) ? 2 : 1;
		if ((valid & (1U << i)) && rank > best) {
			best = rank;
			*ret = name;
		}
	}
	return YES;
}

static enum match macros_for(const struct check *c, struct slice text, const char *domain, struct spf_macros *ret) {
	*ret = (struct spf_macros){c->request, c->local, c->sender_domain, c->helo, domain, NULL};
	return spf_macro_needs_p(text) ? find_validated(c, domain, &ret->validated) : YES;
}

/* The term's domain-spec, or else the current domain. */
static enum match target_of(const struct check *c, struct slice spec, const char *domain, char ret[DNS_NAME_SIZE]) {
	struct spf_macros macros;
	if (!spec.p) {
		memcpy(ret, domain, strlen(domain) + 1);
		return YES;
	}
	if (macros_for(c, spec, domain, &macros) == WAIT)
		return WAIT;
	spf_macro_expand_domain(spec, &macros, ret);
	char name[DNS_NAME_SIZE];
	if (dns_name_canonical(ret, strlen(ret), name) == 0)
		memcpy(ret, name, sizeof(name));
	return YES;
}

/* ---- mechanisms (5) ---- */

/* What a look-up without records costs; YES: go on. */
static enum match settle(struct check *c, const struct dns_answer *a) {
	if (!a)
		return WAIT;
	if (a->status == DNS_TEMPORARY)
		return temp(c);
	if (is_void(a) && ++c->voids > VOIDS_MAX)
		return perm(c, "too many void lookups");
	return YES;
}

static enum match match_include(struct check *c, const char *target) {
	int verdict = check_host(c, target, false);
	if (verdict < 0)
		return WAIT;
	switch ((enum spf_verdict)verdict) {
	case SPF_PASS:
		return YES;
	case SPF_FAIL:
	case SPF_SOFTFAIL:
	case SPF_NEUTRAL:
		return NO;
	case SPF_TEMPERROR:
		return TEMP;
	case SPF_PERMERROR:
		return PERM;
	case SPF_NONE:
		return perm(c, "include without a record");
	}
	return PERM;
}

static enum match match_a(struct check *c, const struct spf_term *t, const char *target) {
	const struct dns_answer *a = dns_facts_ask(c->facts, client_type(c), target);
	enum match m = settle(c, a);
	return m != YES ? m : has_client(c, a, t) ? YES : NO;
}

/* All hosts are asked at once; the first in the order of the answer decides. A host without addresses of the client's family is no
 * void look-up: 4.6.4 counts terms, and a client with IPv6 would exhaust it at every domain that has none. */
static enum match match_mx(struct check *c, const struct spf_term *t, const char *target) {
	const struct dns_answer *mx = dns_facts_ask(c->facts, DNS_MX, target), *hosts[HOSTS_MAX];
	enum match m = settle(c, mx);
	bool wait = false;
	if (m != YES)
		return m;
	if (mx->count > HOSTS_MAX)
		return perm(c, "too many mx hosts");
	for (unsigned i = 0; i < mx->count; i++) {
		hosts[i] = dns_facts_ask(c->facts, client_type(c), mx->records[i].data);
		wait = wait || !hosts[i];
	}
	if (wait)
		return WAIT;
	for (unsigned i = 0; i < mx->count; i++) {
		if (hosts[i]->status == DNS_TEMPORARY)
			return temp(c);
		if (has_client(c, hosts[i], t))
			return YES;
	}
	return NO;
}

static enum match match_ptr(struct check *c, const char *target) {
	const struct dns_answer *names = ask_names(c);
	unsigned valid;
	if (!names)
		return WAIT;
	if (is_void(names) && ++c->voids > VOIDS_MAX)
		return perm(c, "too many void lookups");
	if (validate_names(c, names, &valid) == WAIT)
		return WAIT;
	for (unsigned i = 0; i < min_of(names->count, HOSTS_MAX); i++)
		if ((valid & (1U << i)) && dns_name_within(names->records[i].data, target))
			return YES;
	return NO;
}

static enum match match_exists(struct check *c, const char *target) {
	const struct dns_answer *a = dns_facts_ask(c->facts, DNS_A, target);
	enum match m = settle(c, a);
	return m != YES ? m : a->status == DNS_FOUND ? YES : NO;
}

static enum match match(struct check *c, const struct spf_term *t, const char *domain) {
	char target[DNS_NAME_SIZE];
	if (t->mechanism == SPF_ALL)
		return YES;
	if (t->mechanism == SPF_IP4 || t->mechanism == SPF_IP6)
		return netaddr_net_has(&t->net, &c->request->client) ? YES : NO;
	if (!count_lookup(c))
		return perm(c, "too many lookups");
	if (target_of(c, t->domain, domain, target) == WAIT)
		return WAIT;
	switch (t->mechanism) {
	case SPF_INCLUDE:
		return match_include(c, target);
	case SPF_A:
		return match_a(c, t, target);
	case SPF_MX:
		return match_mx(c, t, target);
	case SPF_PTR:
		return match_ptr(c, target);
	case SPF_EXISTS:
		return match_exists(c, target);
	case SPF_ALL:
	case SPF_IP4:
	case SPF_IP6:
	case SPF_MECHANISMS:
		break;
	}
	return NO;
}

/* ---- records ---- */

static int failed(enum match m) {
	return m == WAIT ? -EAGAIN : m == TEMP ? (int)SPF_TEMPERROR : (int)SPF_PERMERROR;
}

/* The one SPF record of the domain (4.4, 4.5). YES, NO: none, or a failure. */
static enum match find_record(struct check *c, const char *domain, struct slice *ret) {
	const struct dns_answer *txt = dns_facts_ask(c->facts, DNS_TXT, domain);
	unsigned found = 0;
	if (!txt)
		return WAIT;
	if (txt->status == DNS_TEMPORARY)
		return temp(c);
	for (unsigned i = 0; i < txt->count; i++) {
		struct slice text = slice_of(txt->records[i].data, txt->records[i].n);
		if (spf_record_is(text) && found++ == 0)
			*ret = text;
	}
	return found == 0 ? NO : found == 1 ? YES : perm(c, "more than one record");
}

/* Labels, at least two, and no address literal (4.3). */
static bool is_domain(const char *name) {
	char canonical[DNS_NAME_SIZE];
	return name[0] != '[' && dns_name_canonical(name, strlen(name), canonical) == 0 && strchr(canonical, '.');
}

static int follow_redirect(struct check *c, struct slice spec, const char *domain, bool main_chain) {
	char target[DNS_NAME_SIZE];
	if (!count_lookup(c))
		return failed(perm(c, "too many lookups"));
	if (target_of(c, spec, domain, target) == WAIT)
		return -EAGAIN;
	int verdict = check_host(c, target, main_chain);
	return verdict == (int)SPF_NONE ? failed(perm(c, "redirect without a record")) : verdict;
}

static int evaluate(struct check *c, const struct spf_record *r, const char *domain, bool main_chain) {
	for (unsigned i = 0; i < r->count; i++) {
		const struct spf_term *t = &r->terms[i];
		enum match m = match(c, t, domain);
		if (m == NO)
			continue;
		if (m != YES)
			return failed(m);
		if (main_chain) {
			c->mechanism = spf_mechanism_name(t->mechanism);
			c->exp = t->qualifier == SPF_FAIL ? r->exp : slice_of(NULL, 0);
			memcpy(c->exp_domain, domain, strlen(domain) + 1);
		}
		return (int)t->qualifier;
	}
	if (r->redirect.p && !r->has_all) /* 6.1 */
		return follow_redirect(c, r->redirect, domain, main_chain);
	return SPF_NEUTRAL;
}

/* A verdict, or -EAGAIN. */
static int check_host(struct check *c, const char *domain, bool main_chain) {
	struct slice text;
	if (!is_domain(domain))
		return SPF_NONE;
	enum match m = find_record(c, domain, &text);
	if (m != YES)
		return m == NO ? (int)SPF_NONE : failed(m);
	cleanup(freep) struct spf_record *r = xmalloc(sizeof(*r)); /* too much for a stack that recurses */
	if (!spf_record_parse(text, r))
		return failed(perm(c, "syntax"));
	return evaluate(c, r, domain, main_chain);
}

/* ---- the explanation (6.2) ---- */

static void keep_explanation(struct slice text, const struct spf_macros *macros, char ret[SPF_EXPLANATION_MAX + 1]) {
	struct buf out;
	buf_init(&out, 4096);
	spf_macro_expand(text, macros, &out);
	size_t n = min_of(out.len, (size_t)SPF_EXPLANATION_MAX);
	for (size_t i = 0; i < n; i++)
		ret[i] = out.data[i] >= 0x20 && out.data[i] < 0x7f ? out.data[i] : '?';
	ret[n] = '\0';
	buf_fini(&out);
}

/* Any trouble means no explanation. WAIT, or YES. */
static enum match explain(const struct check *c, char ret[SPF_EXPLANATION_MAX + 1]) {
	char target[DNS_NAME_SIZE];
	struct spf_macros macros;
	if (target_of(c, c->exp, c->exp_domain, target) == WAIT)
		return WAIT;
	const struct dns_answer *txt = dns_facts_ask(c->facts, DNS_TXT, target);
	if (!txt)
		return WAIT;
	if (txt->count != 1)
		return YES;
	struct slice text = slice_of(txt->records[0].data, txt->records[0].n);
	if (!spf_macro_valid(text, false))
		return YES;
	if (macros_for(c, text, c->exp_domain, &macros) == WAIT)
		return WAIT;
	keep_explanation(text, &macros, ret);
	return YES;
}

/* ---- identities ---- */

/* Names as DNS has them; what is none stays as it is and will be no domain. */
static void set_domain(char ret[DNS_NAME_SIZE], const char *name) {
	char label[ADDRESS_DOMAIN_MAX + 1];
	size_t n = strlen(name);
	if (dns_name_canonical(name, n, ret) == 0)
		return;
	if (address_canonical_domain(name, n, label) < 0 || dns_name_canonical(label, strlen(label), ret) < 0)
		snprintf(ret, DNS_NAME_SIZE, "%s", name);
}

static void set_sender(struct check *c) {
	const char *from = c->request->mail_from, *at = strrchr(from, '@');
	set_domain(c->helo, c->request->helo);
	set_domain(c->sender_domain, !*from ? c->helo : at ? at + 1 : from);
	if (*from && at && at > from)
		snprintf(c->local, sizeof(c->local), "%.*s", (int)(at - from), from);
	else
		snprintf(c->local, sizeof(c->local), "postmaster");
}

int spf_check(const struct spf_request *request, struct dns_facts *facts, struct spf_result *ret) {
	struct check c = {.request = request, .facts = facts};
	struct spf_result result = {.helo = !*request->mail_from};
	set_sender(&c);
	int verdict = request->client.family == NETADDR_NONE ? (int)SPF_NONE : check_host(&c, c.sender_domain, true);
	if (verdict < 0)
		return verdict;
	result.verdict = (enum spf_verdict)verdict;
	if (is_domain(c.sender_domain))
		memcpy(result.domain, c.sender_domain, sizeof(result.domain));
	result.mechanism = verdict == SPF_TEMPERROR || verdict == SPF_PERMERROR ? NULL : c.mechanism;
	result.reason = verdict == SPF_TEMPERROR || verdict == SPF_PERMERROR ? c.reason : NULL;
	if (verdict == SPF_FAIL && c.exp.p && explain(&c, result.explanation) == WAIT)
		return -EAGAIN;
	*ret = result;
	return 0;
}

const char *spf_verdict_name(enum spf_verdict v) {
	static const char *const names[] = {"none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"};
	return names[v];
}
