/* Who asks. Immutable once auth has filled it; the cache and every request hold a reference, all on one thread. */
#include "apid/principal.h"

struct principal *principal_ref(struct principal *p) {
	assert(p->refs > 0);
	p->refs++;
	return p;
}

static void free_principal(struct principal *p) {
	for (unsigned i = 0; i < p->domain_count; i++)
		free(p->domains[i].name);
	free(p->domains);
	for (char **s = p->scopes; s && *s; s++)
		free(*s);
	free(p->scopes);
	free(p->key_name);
	free(p->last8);
	free(p->owner);
	free(p->plan);
	free(p);
}

struct principal *principal_unref(struct principal *p) {
	if (!p)
		return NULL;
	assert(p->refs > 0);
	if (--p->refs == 0)
		free_principal(p);
	return NULL;
}

const struct principal_domain *principal_domain(const struct principal *p, const char *name) {
	for (unsigned i = 0; i < p->domain_count; i++) {
		if (strcmp(p->domains[i].name, name) == 0)
			return &p->domains[i];
	}
	return NULL;
}

bool principal_has_scope(const struct principal *p, const char *scope) {
	if (!scope || p->kind == PRINCIPAL_SESSION)
		return true;
	for (char **s = p->scopes; s && *s; s++) {
		if (strcmp(*s, scope) == 0)
			return true;
	}
	return false;
}

bool principal_is_of(const struct principal *p, const struct id *id) {
	return id_equal(&p->key_id, id) || id_equal(&p->user_id, id) || id_equal(&p->account_id, id);
}
