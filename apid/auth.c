/* Key text or session token -> principal. Text first (nothing is asked for what cannot be a key), then the cache if its lease holds,
 * else one query, shared by all who ask for the same key while it is under way. What is refused is not cached: a key
 * made a moment ago works.
 *
 * Invariants: the cache holds only principals read since the listening connection came up and since the last notice
 * that named their key. A look-up's answer enters it only if `generation` is what it was at the start, so an answer
 * that a revocation has overtaken never does; and whoever asks after a notice, or without a proof that there was none,
 * does not join a look-up from before. */
#include "apid/auth.h"

#include "apid/auth_cache.h"
#include "apid/auth_change.h"
#include "apid/auth_listen.h"
#include "apid/auth_used.h"
#include "auth_stmts.h"
#include "common/apikey.h"
#include "common/clock.h"
#include "common/list.h"
#include "common/log.h"
#include "common/pg.h"
#include "common/token.h"

#include <strings.h>

struct lookup {
	struct list link; /* auth->lookups */
	struct auth *auth;
	struct pg_op *op;
	struct list askers;
	uint64_t generation;
	enum principal_kind kind;
	bool cacheable; /* notices were heard when it began */
	uint8_t hash[APIKEY_HASH_LEN];
};

struct auth_op {
	struct list link; /* lookup->askers */
	auth_done *done;
	void *arg;
};

struct auth {
	struct pg *pg;
	enum apikey_env environment;
	const uint8_t *key_secret;
	struct auth_cache *cache;
	struct auth_listen *listen;
	struct auth_used *used, *sessions_used;
	struct auth_changes *changes;
	int64_t session_idle_us;
	unsigned closing; /* parts that are not done yet */
	void (*closed)(void *arg);
	void *closed_arg;
	struct list lookups;
	uint64_t generation; /* counts notices, and the connection's coming and going */
};

static void forget(void *arg, const struct id *of) {
	struct auth *a = arg;
	a->generation++;
	auth_cache_forget(a->cache, of);
}

static void answer(void *arg, const char *payload) {
	struct auth *a = arg;
	auth_changes_answered(a->changes, payload);
}

struct auth *auth_new(struct loop *loop, struct pg *pg, const struct auth_options *options) {
	struct auth *a = xcalloc(1, sizeof(*a));
	a->pg = pg;
	a->environment = strcmp(options->environment, "test") == 0 ? APIKEY_TEST : APIKEY_LIVE;
	a->key_secret = options->key_secret;
	list_init(&a->lookups);
	a->cache = auth_cache_new(options->cache_entries);
	a->session_idle_us = options->session_idle_us;
	a->used = auth_used_new(loop, pg, &STMT_AUTH_KEYS_USED, &STMT_AUTH_KEYS_USED_LAST);
	a->sessions_used = auth_used_new(loop, pg, &STMT_AUTH_SESSIONS_USED, &STMT_AUTH_SESSIONS_USED_LAST);
	a->changes = auth_changes_new(loop, pg);
	a->listen = auth_listen_new(loop, options->conninfo, options->timeline, forget, answer, a);
	return a;
}

static void lookup_free(struct lookup *l) {
	struct list *e;
	while ((e = list_first(&l->askers))) {
		list_unlink(e);
		free(list_entry(e, struct auth_op, link));
	}
	list_unlink(&l->link);
	pg_op_cancel(l->op);
	free(l);
}

struct auth *auth_free(struct auth *a) {
	struct list *e;
	if (!a)
		return NULL;
	while ((e = list_first(&a->lookups)))
		lookup_free(list_entry(e, struct lookup, link));
	auth_listen_free(a->listen);
	auth_changes_free(a->changes);
	auth_used_free(a->used);
	auth_used_free(a->sessions_used);
	auth_cache_free(a->cache);
	free(a);
	return NULL;
}

/* The columns of auth_key and auth_session, in their order. */
enum column {
	KEY_ID,
	ACCOUNT_ID,
	USER_ID,
	KEY_NAME,
	LAST8,
	EXPIRES_AT,
	REVOKED,
	ACTIVE,
	SCOPES,
	OWNER,
	PLAN,
	CALLS_PER_DAY,
	REQUESTS_PER_MINUTE,
	ACTIVE_MAILBOXES,
	ARCHIVED_MAILBOXES,
	DOMAIN_IDS,
	DOMAIN_NAMES,
	ACCOUNT_OWNER,
	CUSTOM_DOMAINS,
	MEMBERS,
};

static char *text(const struct pg_rows *rows, enum column c) {
	struct slice s = pg_text(rows, 0, c);
	return xstrndup(s.p ? s.p : "", s.n);
}

static int64_t limit(const struct pg_rows *rows, enum column c) {
	return pg_null(rows, 0, c) ? -1 : pg_int(rows, 0, c);
}

static void read_domains(const struct pg_rows *rows, struct principal *p) {
	if (pg_null(rows, 0, DOMAIN_IDS))
		return;
	p->domain_count = pg_array_count(rows, 0, DOMAIN_IDS);
	p->domains = xcalloc(p->domain_count, sizeof(*p->domains));
	for (unsigned i = 0; i < p->domain_count; i++) {
		struct slice id = pg_array_elem(rows, 0, DOMAIN_IDS, i), name = pg_array_elem(rows, 0, DOMAIN_NAMES, i);
		assert(id.n == sizeof(struct id));
		memcpy(&p->domains[i].id, id.p, sizeof(struct id));
		p->domains[i].name = xstrndup(name.p, name.n);
	}
}

static void read_scopes(const struct pg_rows *rows, struct principal *p) {
	unsigned n = pg_array_count(rows, 0, SCOPES);
	p->scopes = xcalloc((size_t)n + 1, sizeof(char *));
	for (unsigned i = 0; i < n; i++) {
		struct slice s = pg_array_elem(rows, 0, SCOPES, i);
		p->scopes[i] = xstrndup(s.p ? s.p : "", s.n);
	}
}

static struct principal *read_principal(enum principal_kind kind, const struct pg_rows *rows) {
	struct principal *p = xcalloc(1, sizeof(*p));
	p->refs = 1;
	p->kind = kind;
	p->key_id = pg_uuid(rows, 0, KEY_ID);
	p->account_id = pg_uuid(rows, 0, ACCOUNT_ID);
	p->user_id = pg_uuid(rows, 0, USER_ID);
	p->account_owner = pg_bool(rows, 0, ACCOUNT_OWNER);
	p->key_name = text(rows, KEY_NAME);
	p->last8 = text(rows, LAST8);
	p->owner = text(rows, OWNER);
	p->plan = text(rows, PLAN);
	p->calls_per_day = limit(rows, CALLS_PER_DAY);
	p->requests_per_minute = limit(rows, REQUESTS_PER_MINUTE);
	p->active_mailboxes = limit(rows, ACTIVE_MAILBOXES);
	p->archived_mailboxes = limit(rows, ARCHIVED_MAILBOXES);
	p->custom_domains = limit(rows, CUSTOM_DOMAINS);
	p->members = limit(rows, MEMBERS);
	p->expires_at = pg_time(rows, 0, EXPIRES_AT);
	read_domains(rows, p);
	read_scopes(rows, p);
	return p;
}

/* At every use, cached or not. */
static enum auth_verdict verdict_now(const struct principal *p) {
	return p->expires_at <= clock_wall_us() ? AUTH_EXPIRED : AUTH_OK;
}

/* *ret_principal is set, with a reference, for AUTH_OK. */
static enum auth_verdict judge(enum principal_kind kind, const struct pg_result *result,
                               struct principal **ret_principal) {
	if (result->status != PG_OK) {
		if (result->status == PG_ERROR)
			log_msg(LOG_LEVEL_ERROR, "key not looked up", "%s %s", result->sqlstate, result->message);
		return AUTH_UNAVAILABLE;
	}
	if (pg_rows_count(result->rows) == 0)
		return kind == PRINCIPAL_SESSION ? AUTH_NO_SESSION : AUTH_UNKNOWN;
	if (pg_bool(result->rows, 0, REVOKED))
		return AUTH_REVOKED;
	cleanup(principal_unrefp) struct principal *p = read_principal(kind, result->rows);
	enum auth_verdict verdict = verdict_now(p);
	if (verdict == AUTH_OK && !pg_bool(result->rows, 0, ACTIVE))
		verdict = kind == PRINCIPAL_SESSION ? AUTH_NO_SESSION : AUTH_SUSPENDED;
	if (verdict == AUTH_OK)
		*ret_principal = take_ptr(p);
	return verdict;
}

static void note_use(struct auth *a, const struct principal *p) {
	auth_used_note(p->kind == PRINCIPAL_SESSION ? a->sessions_used : a->used, &p->key_id);
}

static void on_found(void *arg, const struct pg_result *result) {
	struct lookup *l = arg;
	struct auth *a = l->auth;
	cleanup(principal_unrefp) struct principal *p = NULL;
	struct list *e;
	l->op = NULL;
	enum auth_verdict verdict = judge(l->kind, result, &p);
	if (p) {
		note_use(a, p);
		if (l->cacheable && l->generation == a->generation)
			auth_cache_put(a->cache, l->hash, p);
	}
	list_unlink(&l->link); /* nobody joins from here on */
	while ((e = list_first(&l->askers))) {
		struct auth_op *op = list_entry(e, struct auth_op, link);
		auth_done *done = op->done;
		void *done_arg = op->arg;
		list_unlink(e);
		free(op);
		done(done_arg, verdict, p);
	}
	lookup_free(l);
}

static struct lookup *lookup_start(struct auth *a, enum principal_kind kind, const uint8_t hash[APIKEY_HASH_LEN]) {
	struct lookup *l = xcalloc(1, sizeof(*l));
	struct pg_params params;
	l->auth = a;
	l->kind = kind;
	l->generation = a->generation;
	l->cacheable = auth_listen_up(a->listen);
	memcpy(l->hash, hash, sizeof(l->hash));
	list_init(&l->askers);
	list_append(&a->lookups, &l->link);
	pg_params_init(&params);
	pg_param_bytea(&params, hash, APIKEY_HASH_LEN);
	if (kind == PRINCIPAL_SESSION) {
		pg_param_time(&params, clock_wall_us());
		pg_param_int8(&params, a->session_idle_us);
	}
	l->op = pg_query(a->pg, kind == PRINCIPAL_SESSION ? &STMT_AUTH_SESSION : &STMT_AUTH_KEY, &params, on_found, l);
	pg_params_fini(&params);
	return l;
}

/* Hashes of keys and of sessions are never the same: what they are of is in them (token.h). A look-up under way is joined on the
 * condition on which its answer might be used from the cache: else it may be from before a change whose notice is still on its way to us. */
static struct lookup *lookup_join(struct auth *a, enum principal_kind kind, const uint8_t hash[APIKEY_HASH_LEN]) {
	if (!auth_listen_valid(a->listen))
		return lookup_start(a, kind, hash);
	list_for_each (e, &a->lookups) {
		struct lookup *l = list_entry(e, struct lookup, link);
		if (l->generation == a->generation && memcmp(l->hash, hash, APIKEY_HASH_LEN) == 0)
			return l;
	}
	return lookup_start(a, kind, hash);
}

/* RFC 9110 11.4, RFC 6750 2.1: the scheme in any case, blanks, the key. Another scheme is "no key". */
static struct slice bearer(struct slice header) {
	static const size_t n = sizeof("Bearer") - 1;
	struct slice s = slice_trim(header);
	if (s.n <= n || strncasecmp(s.p, "Bearer", n) != 0 || (s.p[n] != ' ' && s.p[n] != '\t'))
		return (struct slice){NULL, 0};
	return slice_trim(slice_of(s.p + n, s.n - n));
}

static enum auth_verdict check_text(const struct auth *a, struct slice key) {
	if (key.n == 0)
		return AUTH_NO_KEY;
	switch (apikey_check(key.p, key.n, a->environment)) {
	case APIKEY_OK:
		return AUTH_OK;
	case APIKEY_MALFORMED:
		return AUTH_MALFORMED;
	case APIKEY_CHECKSUM:
		return AUTH_CHECKSUM;
	case APIKEY_OTHER_ENV:
		return AUTH_OTHER_ENV;
	}
	return AUTH_MALFORMED;
}

_Static_assert(TOKEN_HASH_LEN == APIKEY_HASH_LEN, "one cache for both");

/* A session's end may have moved since it was cached: another worker was asked. */
static struct principal *find_cached(struct auth *a, const uint8_t hash[APIKEY_HASH_LEN]) {
	struct principal *p = auth_listen_valid(a->listen) ? auth_cache_find(a->cache, hash) : NULL;
	return p && p->kind == PRINCIPAL_SESSION && verdict_now(p) != AUTH_OK ? NULL : p;
}

/* Whose text it is, if that is known already; the text of a key that is known needs no check. AUTH_OK: *ret_hash is set. */
static enum auth_verdict look_at(struct auth *a, enum principal_kind kind, struct slice text, uint8_t ret_hash[APIKEY_HASH_LEN],
                                 struct principal **ret) {
	*ret = NULL;
	if (kind == PRINCIPAL_SESSION) {
		if (!token_hash(TOKEN_SESSION, text, a->key_secret, ret_hash))
			return AUTH_NO_SESSION;
	} else {
		if (text.n != APIKEY_LEN)
			return check_text(a, text);
		apikey_hash(text.p, a->key_secret, 32, ret_hash);
	}
	*ret = find_cached(a, ret_hash);
	return *ret || kind == PRINCIPAL_SESSION ? AUTH_OK : check_text(a, text);
}

bool auth_known(struct auth *a, struct slice header, struct slice session) {
	uint8_t hash[APIKEY_HASH_LEN];
	struct principal *p;
	enum principal_kind kind = !header.p && session.p ? PRINCIPAL_SESSION : PRINCIPAL_KEY;
	return look_at(a, kind, kind == PRINCIPAL_SESSION ? session : bearer(header), hash, &p) != AUTH_OK || p;
}

struct auth_op *auth_start(struct auth *a, struct slice header, struct slice session, auth_done *done, void *arg,
                           enum auth_verdict *ret_verdict, struct principal **ret_principal) {
	uint8_t hash[APIKEY_HASH_LEN];
	enum principal_kind kind = !header.p && session.p ? PRINCIPAL_SESSION : PRINCIPAL_KEY;
	struct principal *p;
	enum auth_verdict verdict = look_at(a, kind, kind == PRINCIPAL_SESSION ? session : bearer(header), hash, &p);
	if (verdict != AUTH_OK) {
		*ret_verdict = verdict;
		return NULL;
	}
	if (p) {
		*ret_verdict = verdict_now(p);
		if (*ret_verdict == AUTH_OK) {
			note_use(a, p);
			*ret_principal = principal_ref(p);
		}
		return NULL;
	}
	struct auth_op *op = xcalloc(1, sizeof(*op));
	op->done = done;
	op->arg = arg;
	list_append(&lookup_join(a, kind, hash)->askers, &op->link);
	return op;
}

struct auth_op *auth_cancel(struct auth_op *op) {
	if (!op)
		return NULL;
	/* The look-up goes on: its answer is useful to the next request. */
	list_unlink(&op->link);
	free(op);
	return NULL;
}

const char *auth_verdict_text(enum auth_verdict verdict) {
	switch (verdict) {
	case AUTH_OK:
		return "The API key is valid";
	case AUTH_NO_KEY:
		return "Invalid API key: none was sent as Authorization: Bearer <key>";
	case AUTH_MALFORMED:
		return "Invalid API key: it is malformed (a key is mm_sk_live_ or mm_sk_test_ and 53 letters and digits)";
	case AUTH_CHECKSUM:
		return "Invalid API key: its checksum is wrong, so it was mistyped or cut";
	case AUTH_OTHER_ENV:
		return "Invalid API key: it belongs to the other environment (live or test) than this server";
	case AUTH_UNKNOWN:
		return "Invalid API key: it is unknown here or has been deleted or replaced";
	case AUTH_REVOKED:
		return "Invalid API key: it has been revoked";
	case AUTH_EXPIRED:
		return "Invalid API key: it has expired";
	case AUTH_SUSPENDED:
		return "Invalid API key: its owner or account is suspended";
	case AUTH_NO_SESSION:
		return "You are not signed in: the session is unknown or has ended";
	case AUTH_UNAVAILABLE:
		return "The key cannot be checked now; try again";
	}
	return "Invalid API key";
}

static void on_part_closed(void *arg) {
	struct auth *a = arg;
	if (--a->closing == 0)
		a->closed(a->closed_arg);
}

void auth_close(struct auth *a, void (*done)(void *arg), void *arg) {
	a->closing = 3;
	a->closed = done;
	a->closed_arg = arg;
	auth_listen_leave(a->listen, on_part_closed, a);
	auth_used_close(a->used, on_part_closed, a);
	auth_used_close(a->sessions_used, on_part_closed, a);
}

struct auth_changes *auth_changes(struct auth *a) {
	return a->changes;
}
