/* Who asks: a key's record and its owner, as auth found them. Reference counted, because the cache and every request under way
 * share it; immutable. */
#ifndef MINUTEMAIL_PRINCIPAL_H
#define MINUTEMAIL_PRINCIPAL_H

#include "common/base.h"
#include "common/id.h"

struct principal_domain {
	struct id id;
	char *name;
};

struct principal {
	unsigned refs;
	struct id key_id, account_id, user_id;
	char *key_name, *last8, *owner;          /* owner: the user's e-mail address */
	char *plan;
	int64_t calls_per_day, requests_per_minute, active_mailboxes, archived_mailboxes; /* -1: no limit */
	int64_t expires_at;                      /* of the key, wall µs; INT64_MAX: never */
	struct principal_domain *domains;        /* what the key covers, platform's first domain first */
	unsigned domain_count;
	char **scopes;                           /* NULL-terminated */
};

struct principal *principal_ref(struct principal *);
struct principal *principal_unref(struct principal *);   /* NULL is fine; returns NULL */
define_cleanup(struct principal *, principal_unref)
/* NULL: the key does not cover it. `name`: canonical. */
const struct principal_domain *principal_domain(const struct principal *, const char *name);

#endif
