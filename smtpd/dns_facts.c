#include "smtpd/dns_facts.h"

void dns_facts_fini(struct dns_facts *f) {
	for (unsigned i = 0; i < f->count; i++) {
		dns_answer_free(f->v[i]->answer);
		free(f->v[i]);
	}
	free(f->v);
	*f = (struct dns_facts){0};
}

static struct dns_fact *find(struct dns_facts *f, enum dns_type type, const char *name) {
	for (unsigned i = 0; i < f->count; i++)
		if (f->v[i]->type == type && strcmp(f->v[i]->name, name) == 0)
			return f->v[i];
	return NULL;
}

static struct dns_fact *add(struct dns_facts *f, enum dns_type type, const char *name) {
	struct dns_fact *fact = xcalloc(1, sizeof(*fact));
	if ((f->count & (f->count - 1)) == 0)
		f->v = xrealloc(f->v, max_of(f->count * 2, 1U) * sizeof(struct dns_fact *));
	fact->type = type;
	memcpy(fact->name, name, strlen(name) + 1);
	f->v[f->count++] = fact;
	return fact;
}

const struct dns_answer *dns_facts_ask(struct dns_facts *f, enum dns_type type, const char *name) {
	static const struct dns_answer nobody = {.status = DNS_NXDOMAIN}, later = {.status = DNS_TEMPORARY};
	char canonical[DNS_NAME_SIZE];
	if (dns_name_canonical(name, strlen(name), canonical) < 0 || canonical[0] == '\0')
		return &nobody;
	struct dns_fact *fact = find(f, type, canonical);
	if (!fact && !f->closed && f->count < DNS_FACTS_MAX)
		fact = add(f, type, canonical);
	if (!fact || (!fact->answer && f->closed))
		return &later;
	return fact->answer;
}

struct dns_fact *dns_facts_next(struct dns_facts *f) {
	for (unsigned i = 0; i < f->count; i++) {
		if (!f->v[i]->answer && !f->v[i]->asked) {
			f->v[i]->asked = true;
			return f->v[i];
		}
	}
	return NULL;
}

void dns_facts_tell(struct dns_fact *fact, const struct dns_answer *answer) {
	dns_answer_free(fact->answer);
	fact->answer = dns_answer_copy(answer);
}
