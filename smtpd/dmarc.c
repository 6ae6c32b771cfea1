/* DMARC: records, the walk up the tree, alignment. All questions of a walk are asked at once: they are at most eight. */
#include "smtpd/dmarc.h"

#include "smtpd/tag_list.h"

#include <stdio.h>
#include <strings.h>

#define WALK_MAX 8                 /* questions of one walk (4.10) */

/* ---- records ---- */

static bool is_word(struct slice s, const char *word) {
	return s.n == strlen(word) && strncasecmp(s.p, word, s.n) == 0;
}

/* False: there, but not valid. Absent: *ret stays. */
static bool read_policy(const struct tag_list *tags, const char *name, enum dmarc_policy *ret) {
	static const char *const words[] = {"none", "quarantine", "reject"};
	struct slice v = tag_list_value(tags, name);
	for (unsigned i = 0; i < array_len(words); i++) {
		if (is_word(v, words[i])) {
			*ret = (enum dmarc_policy)i;
			return true;
		}
	}
	return !v.p;
}

static bool has_report_address(const struct tag_list *tags) {
	struct slice rua = tag_list_value(tags, "rua");
	return rua.n > 7 && strncasecmp(rua.p, "mailto:", 7) == 0;
}

bool dmarc_record_parse(struct slice text, struct dmarc_record *ret) {
	struct tag_list tags;
	tag_list_parse(text, true, &tags);
	*ret = (struct dmarc_record){.effective = true};
	if (tags.count == 0 || !slice_eq(tags.v[0].name, slice_str("v")) || !slice_eq(tags.v[0].value, slice_str("DMARC1")))
		return false;
	bool valid = tag_list_find(&tags, "p") && read_policy(&tags, "p", &ret->policy);
	ret->sub_policy = ret->policy;
	valid = read_policy(&tags, "sp", &ret->sub_policy) && valid;
	ret->np_policy = ret->sub_policy;
	valid = read_policy(&tags, "np", &ret->np_policy) && valid;
	ret->has_np = tag_list_find(&tags, "np") != NULL;
	if (!valid) {
		ret->policy = ret->sub_policy = ret->np_policy = DMARC_POLICY_NONE;
		ret->effective = has_report_address(&tags);
	}
	ret->strict_dkim = is_word(tag_list_value(&tags, "adkim"), "s");
	ret->strict_spf = is_word(tag_list_value(&tags, "aspf"), "s");
	ret->testing = is_word(tag_list_value(&tags, "t"), "y");
	struct slice psd = tag_list_value(&tags, "psd");
	ret->psd = is_word(psd, "y") ? DMARC_PSD_YES : is_word(psd, "n") ? DMARC_PSD_NO : DMARC_PSD_UNKNOWN;
	return true;
}

/* ---- the walk (4.10) ---- */

struct step {
	const char *name;              /* into the name that the walk began with */
	bool found;
	struct dmarc_record record;
};

struct walk {
	struct step steps[WALK_MAX];
	unsigned count;
	const char *organizational;
};

enum outcome { KNOWN, WAIT, TEMPORARY };

static unsigned labels(const char *name) {
	unsigned n = 1;
	for (; *name; name++)
		n += *name == '.';
	return n;
}

static const char *parent_of(const char *name) {
	const char *dot = strchr(name, '.');
	return dot ? dot + 1 : NULL;
}

/* The name itself; of a long one then only the last seven labels; then one label less each time. */
static void plan(const char *name, struct walk *w) {
	unsigned n = labels(name);
	w->count = 0;
	while (name && w->count < WALK_MAX) {
		w->steps[w->count++] = (struct step){.name = name};
		name = parent_of(name);
		for (n--; name && w->count == 1 && n > 7; n--)
			name = parent_of(name);
	}
}

/* The one DMARC record at the name; several are none. */
static enum outcome find_record(struct dns_facts *facts, struct step *s) {
	char name[DNS_NAME_SIZE + 8];
	struct dmarc_record record;
	unsigned found = 0;
	snprintf(name, sizeof(name), "_dmarc.%s", s->name);
	const struct dns_answer *a = dns_facts_ask(facts, DNS_TXT, name);
	if (!a)
		return WAIT;
	for (unsigned i = 0; i < a->count; i++) {
		if (dmarc_record_parse(slice_of(a->records[i].data, a->records[i].n), &record) && found++ == 0)
			s->record = record;
	}
	s->found = found == 1;
	return a->status == DNS_TEMPORARY ? TEMPORARY : KNOWN;
}

/* 4.10.2. `w` ends where psd= says so. */
static void choose_organizational(struct walk *w) {
	const char *shortest = NULL;
	for (unsigned i = 0; i < w->count; i++) {
		const struct step *s = &w->steps[i];
		if (!s->found)
			continue;
		if (s->record.psd == DMARC_PSD_NO || (s->record.psd == DMARC_PSD_YES && i > 0)) {
			const char *below = w->steps[0].name;
			while (s->record.psd == DMARC_PSD_YES && strcmp(parent_of(below), s->name) != 0)
				below = parent_of(below);
			w->organizational = s->record.psd == DMARC_PSD_NO ? s->name : below;
			w->count = i + 1;
			return;
		}
		shortest = s->name;
	}
	w->organizational = shortest ? shortest : w->steps[0].name;
}

static enum outcome walk(struct dns_facts *facts, const char *name, struct walk *w) {
	enum outcome all = KNOWN;
	plan(name, w);
	for (unsigned i = 0; i < w->count; i++) {
		enum outcome one = find_record(facts, &w->steps[i]);
		if (one == WAIT || (one == TEMPORARY && all == KNOWN))
			all = one;
	}
	if (all == KNOWN)
		choose_organizational(w);
	return all;
}

/* ---- policy (4.10.1) ---- */

static const struct step *step_at(const struct walk *w, const char *name) {
	for (unsigned i = 0; i < w->count; i++)
		if (w->steps[i].found && strcmp(w->steps[i].name, name) == 0)
			return &w->steps[i];
	return NULL;
}

/* At the author's domain, else at its organisational domain, else at the public suffix above that. */
static const struct step *policy_step(const struct walk *w) {
	const struct step *s = step_at(w, w->steps[0].name);
	if (!s)
		s = step_at(w, w->organizational);
	if (!s && w->steps[w->count - 1].found)
		s = &w->steps[w->count - 1];
	return s;
}

static enum outcome choose_policy(struct dns_facts *facts, const struct walk *w, const struct step *s, enum dmarc_policy *ret) {
	const struct dmarc_record *r = &s->record;
	*ret = s == &w->steps[0] ? r->policy : r->sub_policy;
	if (s != &w->steps[0] && r->has_np) {
		const struct dns_answer *a = dns_facts_ask(facts, DNS_A, w->steps[0].name);
		if (!a)
			return WAIT;
		if (a->status == DNS_NXDOMAIN)
			*ret = r->np_policy;
	}
	if (r->testing && *ret > DMARC_POLICY_NONE)
		(*ret)--;
	return KNOWN;
}

/* ---- alignment (4.4) ---- */

/* Whether the other domain's organisational domain is the author's, too. It must lie within that, or no walk is needed. */
static enum outcome align(struct dns_facts *facts, const struct walk *author, const char *other, bool strict, bool *ret) {
	struct walk w;
	*ret = strcmp(other, author->steps[0].name) == 0;
	if (*ret || strict || !dns_name_within(other, author->organizational))
		return KNOWN;
	enum outcome o = walk(facts, other, &w);
	if (o == KNOWN)
		*ret = strcmp(w.organizational, author->organizational) == 0;
	return o;
}

static enum outcome align_all(const struct dmarc_request *q, struct dns_facts *facts, const struct walk *author,
                              const struct dmarc_record *r, struct dmarc_result *ret) {
	enum outcome all = KNOWN;
	bool aligned = false;
	if (q->spf_domain) {
		all = align(facts, author, q->spf_domain, r->strict_spf, &aligned);
		ret->spf_aligned = aligned;
	}
	for (unsigned i = 0; i < q->signer_count; i++) {
		enum outcome one = align(facts, author, q->signers[i], r->strict_dkim, &aligned);
		ret->dkim_aligned = ret->dkim_aligned || aligned;
		if (one == WAIT || all == KNOWN)
			all = one;
	}
	return all;
}

/* ---- the check ---- */

static int fail_without_author(const struct dmarc_request *q, struct dmarc_result *ret) {
	ret->verdict = DMARC_FAIL;
	ret->reason = q->author == DMARC_AUTHOR_NONE ? "no author domain" : "several author domains";
	return 0;
}

static int temporary(struct dmarc_result *ret) {
	ret->verdict = DMARC_TEMPERROR;
	ret->reason = "dns";
	return 0;
}

int dmarc_check(const struct dmarc_request *q, struct dns_facts *facts, struct dmarc_result *ret) {
	struct walk w;
	*ret = (struct dmarc_result){0};
	if (q->author != DMARC_AUTHOR_ONE)
		return fail_without_author(q, ret);
	enum outcome o = walk(facts, q->domain, &w);
	if (o != KNOWN)
		return o == WAIT ? -EAGAIN : temporary(ret);
	snprintf(ret->organizational_domain, sizeof(ret->organizational_domain), "%s", w.organizational);
	const struct step *s = policy_step(&w);
	if (!s || !s->record.effective)
		return 0;
	snprintf(ret->record_domain, sizeof(ret->record_domain), "%s", s->name);
	ret->testing = s->record.testing;
	if (choose_policy(facts, &w, s, &ret->policy) == WAIT)
		return -EAGAIN;
	o = align_all(q, facts, &w, &s->record, ret);
	if (o == WAIT)
		return -EAGAIN;
	if (ret->spf_aligned || ret->dkim_aligned)
		ret->verdict = DMARC_PASS;
	else if (o == TEMPORARY || q->spf_temporary || q->dkim_temporary)
		return temporary(ret);
	else
		ret->verdict = DMARC_FAIL;
	return 0;
}

const char *dmarc_verdict_name(enum dmarc_verdict v) {
	static const char *const names[] = {"none", "pass", "fail", "temperror"};
	return names[v];
}

const char *dmarc_policy_name(enum dmarc_policy p) {
	static const char *const names[] = {"none", "quarantine", "reject"};
	return names[p];
}
