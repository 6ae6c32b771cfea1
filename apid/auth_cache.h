/* Private to auth: hash of a key -> principal, bounded, least recently used goes first. Whether an entry may be used
 * is auth's question (the lease), not the cache's. */
#ifndef MINUTEMAIL_AUTH_CACHE_H
#define MINUTEMAIL_AUTH_CACHE_H

#include "apid/principal.h"
#include "common/apikey.h"

struct auth_cache;

struct auth_cache *auth_cache_new(unsigned most);
struct auth_cache *auth_cache_free(struct auth_cache *);
/* Borrowed until the next change of the cache; NULL: not there. */
struct principal *auth_cache_find(struct auth_cache *, const uint8_t hash[APIKEY_HASH_LEN]);
/* Takes a reference of its own; replaces what was there. */
void auth_cache_put(struct auth_cache *, const uint8_t hash[APIKEY_HASH_LEN], struct principal *);
/* What is of this key, session, user or account; NULL: everything. */
void auth_cache_forget(struct auth_cache *, const struct id *of);
unsigned auth_cache_count(const struct auth_cache *);

#endif
