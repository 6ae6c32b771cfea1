/* A chained hash table and a list by last use. The hashes are keyed (common/apikey.h), so nobody can choose keys
 * that collide, and a piece of one is as good an index as any.
 *
 * Invariant: every entry is in exactly one chain and in the list; count <= most. */
#include "apid/auth_cache.h"

#include "common/list.h"

#include <sodium.h>

struct entry {
	struct list used;   /* most recent first */
	struct entry *next; /* in its chain */
	uint8_t hash[APIKEY_HASH_LEN];
	struct principal *principal;
};

struct auth_cache {
	struct list used;
	struct entry **chains;
	unsigned mask, count, most;
};

struct auth_cache *auth_cache_new(unsigned most) {
	struct auth_cache *c = xcalloc(1, sizeof(*c));
	unsigned chains = 16;
	while (chains < most && chains < 1u << 20)
		chains *= 2;
	list_init(&c->used);
	c->chains = xcalloc(chains, sizeof(struct entry *));
	c->mask = chains - 1;
	c->most = max_of(most, 1u);
	return c;
}

static struct entry **chain_of(struct auth_cache *c, const uint8_t hash[APIKEY_HASH_LEN]) {
	uint32_t piece;
	memcpy(&piece, hash, sizeof(piece));
	return &c->chains[piece & c->mask];
}

/* Where the pointer to the entry is, so that it can be taken out; that pointer is NULL when there is none. */
static struct entry **find(struct auth_cache *c, const uint8_t hash[APIKEY_HASH_LEN]) {
	struct entry **at = chain_of(c, hash);
	while (*at && sodium_memcmp((*at)->hash, hash, APIKEY_HASH_LEN) != 0)
		at = &(*at)->next;
	return at;
}

static void take_out(struct auth_cache *c, struct entry **at) {
	struct entry *e = *at;
	*at = e->next;
	list_unlink(&e->used);
	principal_unref(e->principal);
	free(e);
	c->count--;
}

struct auth_cache *auth_cache_free(struct auth_cache *c) {
	if (!c)
		return NULL;
	auth_cache_forget(c, NULL);
	free(c->chains);
	free(c);
	return NULL;
}

struct principal *auth_cache_find(struct auth_cache *c, const uint8_t hash[APIKEY_HASH_LEN]) {
	struct entry *e = *find(c, hash);
	if (!e)
		return NULL;
	list_unlink(&e->used);
	list_prepend(&c->used, &e->used);
	return e->principal;
}

void auth_cache_put(struct auth_cache *c, const uint8_t hash[APIKEY_HASH_LEN], struct principal *p) {
	struct entry **at = find(c, hash);
	if (*at)
		take_out(c, at);
	if (c->count >= c->most) {
		struct entry *oldest = list_entry(c->used.prev, struct entry, used);
		take_out(c, find(c, oldest->hash));
	}
	struct entry *e = xcalloc(1, sizeof(*e)), **chain = chain_of(c, hash);
	memcpy(e->hash, hash, sizeof(e->hash));
	e->principal = principal_ref(p);
	e->next = *chain;
	*chain = e;
	list_prepend(&c->used, &e->used);
	c->count++;
}

void auth_cache_forget(struct auth_cache *c, const struct id *of) {
	list_for_each_safe (l, &c->used) {
		struct entry *e = list_entry(l, struct entry, used);
		if (!of || principal_is_of(e->principal, of))
			take_out(c, find(c, e->hash));
	}
}

unsigned auth_cache_count(const struct auth_cache *c) {
	return c->count;
}
