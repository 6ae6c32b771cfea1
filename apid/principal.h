/* Who asks: a key's or a console session's record and whom it acts for, as auth found them. Reference counted, because the cache and
 * every request under way share it; immutable. */
#ifndef MINUTEMAIL_PRINCIPAL_H
#define MINUTEMAIL_PRINCIPAL_H

#include "common/base.h"
#include "common/id.h"

struct principal_domain {
	struct id id;
	char *name;
};

enum principal_kind {
	PRINCIPAL_KEY,
	PRINCIPAL_SESSION, /* of the console: every verified domain of the account, what the user's role allows */
};

struct principal {
	unsigned refs;
	enum principal_kind kind;
	struct id key_id, account_id, user_id;   /* key_id: of the key, or of the session */
	bool account_owner;                      /* the user's role: owner, else member */
	char *key_name, *last8, *owner;          /* owner: the user's e-mail address. A session: "", "" */
	char *plan;
	int64_t calls_per_day, requests_per_minute, active_mailboxes, archived_mailboxes, custom_domains, members; /* -1: no limit */
	int64_t expires_at;                      /* of the key or session, wall µs; INT64_MAX: never */
	struct principal_domain *domains;        /* what it covers, platform's first domain first */
	unsigned domain_count;
	char **scopes;                           /* of a key; NULL-terminated */
};

struct principal *principal_ref(struct principal *);
struct principal *principal_unref(struct principal *);   /* NULL is fine; returns NULL */
define_cleanup(struct principal *, principal_unref)
/* NULL: the key does not cover it. `name`: canonical. */
const struct principal_domain *principal_domain(const struct principal *, const char *name);
/* Whether it may do what takes this scope: a key that has it, or any session. NULL: takes none. */
bool principal_has_scope(const struct principal *, const char *scope);
/* Whether it falls with this id: its own, its user's or its account's (common/keys_sync.h). */
bool principal_is_of(const struct principal *, const struct id *);

#endif
