/* API keys. The secret is printed once, when it is made; the database has its keyed hash only, and it never travels
 * to the server. Every change of an existing key returns when no worker accepts what was before. */
#include "common/apikey.h"
#include "deploy/ctl.h"

#include "common/address.h"
#include "common/buf.h"

#include <sodium.h>

static const struct ctl_column KEY_COLUMNS[] = {
    {"id", "ID", CTL_TEXT},
    {"name", "NAME", CTL_TEXT},
    {"last8", "LAST 8", CTL_TEXT},
    {"status", "STATUS", CTL_TEXT},
    {"owner", "OWNER", CTL_TEXT},
    {"account", "ACCOUNT", CTL_TEXT},
    {"environment", "ENVIRONMENT", CTL_TEXT},
    {"domains", "DOMAINS", CTL_LIST},
    {"scopes", "SCOPES", CTL_LIST},
    {"expiresAt", "EXPIRES", CTL_TIME},
    {"lastUsedAt", "LAST USED", CTL_TIME},
    {"createdAt", "CREATED", CTL_TIME},
};
/* $1 is now. */
#define KEY_SELECT                                                                                                     \
	"select k.id, k.name, k.last8, case when k.revoked_at is not null then 'revoked'"                                  \
	" when k.expires_at <= $1::timestamptz then 'expired' else 'active' end, u.email, a.name, k.environment,"          \
	" (select string_agg(d.name, ',' order by d.account_id is not null, d.id) from api_key_domains kd"                 \
	" join domains d on d.id = kd.domain_id where kd.key_id = k.id), array_to_string(k.scopes, ','),"                  \
	" " CTL_EPOCH("k.expires_at") ", " CTL_EPOCH("k.last_used_at") ", " CTL_EPOCH(                                     \
	    "k.created_at") " from api_keys k join users u on u.id = k.user_id join accounts a on a.id = k.account_id"

static int print_key(struct ctl *ctl, const char *id, const char *secret) {
	char now[32];
	const char *params[] = {ctl_now(ctl, now), id};
	cleanup(ctl_clearp) PGresult *res = ctl_query(ctl, KEY_SELECT " where k.id = $2::uuid", 2, params);
	return res ? ctl_print_one(ctl, KEY_COLUMNS, array_len(KEY_COLUMNS), res, secret ? "key" : NULL, secret)
	           : CTL_FAILED;
}

/* ---- a key's secret ---- */

struct secret {
	char key[APIKEY_LEN + 1], last[APIKEY_LAST_LEN + 1];
	char hash[2 + 2 * APIKEY_HASH_LEN + 1]; /* as bytea text: \x… */
};

static void wipe_secret(struct secret *s) {
	sodium_memzero(s, sizeof(*s));
}

static bool make_secret(struct ctl *ctl, struct secret *s) {
	uint8_t octets[32], hash[APIKEY_HASH_LEN];
	if (!ctl->settings.key_secret || apikey_secret_parse(ctl->settings.key_secret, octets) < 0) {
		ctl_error(ctl, "MINUTEMAIL_KEY_SECRET (or MINUTEMAIL_KEY_SECRET_FILE) must give 64 hexadecimal digits, the "
		               "same as apid's");
		return false;
	}
	apikey_generate(strcmp(ctl->settings.environment, "test") == 0 ? APIKEY_TEST : APIKEY_LIVE, s->key);
	apikey_hash(s->key, octets, sizeof(octets), hash);
	apikey_last(s->key, s->last);
	memcpy(s->hash, "\\x", 2);
	sodium_bin2hex(s->hash + 2, sizeof(s->hash) - 2, hash, sizeof(hash));
	sodium_memzero(octets, sizeof(octets));
	return true;
}

/* ---- parts of a record ---- */

/* --scopes a,b as a text[] literal. False: said. */
static bool scopes_literal(struct ctl *ctl, char ret[64]) {
	static const char *const known[] = {"domains", "team", "identities"};
	cleanup(freep) char **list = ctl_option_list(ctl, "scopes");
	bool given[array_len(known)] = {false};
	for (char **s = list; *s; s++) {
		size_t i = 0;
		if (strcmp(*s, "none") == 0 && s == list && !s[1])
			break;
		while (i < array_len(known) && strcmp(*s, known[i]) != 0)
			i++;
		if (i == array_len(known)) {
			ctl_error(ctl, "no scope \"%s\": there are domains, team and identities", *s);
			return false;
		}
		given[i] = true;
	}
	size_t n = 0;
	ret[n++] = '{';
	for (size_t i = 0; i < array_len(known); i++) {
		if (given[i])
			n += (size_t)snprintf(ret + n, 64 - n, "%s%s", n > 1 ? "," : "", known[i]);
	}
	snprintf(ret + n, 64 - n, "}");
	return true;
}

/* `text` for SQL: "infinity" stands for never here and becomes null in the statement. False: said. */
static bool expiry_text(struct ctl *ctl, const char *text, char ret[32]) {
	int64_t at;
	if (!ctl_parse_expiry(text, ctl->now, &at)) {
		ctl_error(ctl, "--expires is like 90d or 12h, an instant to come like 2030-01-31T00:00:00Z, or never");
		return false;
	}
	if (at == INT64_MAX)
		strcpy(ret, "infinity");
	else
		ctl_time_text(at, ret);
	return true;
}

static bool name_fits(struct ctl *ctl, const char *name) {
	if (*name && strlen(name) <= 200)
		return true;
	ctl_error(ctl, "a key's name has 1 to 200 octets");
	return false;
}

/* Adds one domain to the key: the platform's, or a verified one of its account. */
static bool add_domain(struct ctl *ctl, const char *key, const char *text) {
	char name[ADDRESS_DOMAIN_MAX + 1];
	bool is_name = address_canonical_domain(text, strlen(text), name) == 0;
	const char *params[] = {key, is_name ? name : text, text};
	cleanup(ctl_clearp) PGresult *res =
	    ctl_query(ctl,
	              "insert into api_key_domains (key_id, domain_id, account_id) select k.id, d.id, k.account_id from api_keys k, domains d"
	              " where k.id = $1::uuid and (d.name = $2 or d.id::text = lower($3)) and d.status = 'verified'"
	              " and (d.account_id is null or d.account_id = k.account_id)"
	              " on conflict (key_id, domain_id) do update set key_id = excluded.key_id",
	              3, params);
	if (res && atoi(PQcmdTuples(res)) == 0)
		ctl_error(ctl, "\"%s\" is neither a domain of the platform nor a verified one of the key's account", text);
	return res && atoi(PQcmdTuples(res)) > 0;
}

static bool add_domains(struct ctl *ctl, const char *key, char **list) {
	for (; *list; list++) {
		if (!add_domain(ctl, key, *list))
			return false;
	}
	return true;
}

static bool add_default_domain(struct ctl *ctl, const char *key) {
	cleanup(ctl_clearp) PGresult *res =
	    ctl_query(ctl,
	              "insert into api_key_domains (key_id, domain_id, account_id) select k.id, d.id, k.account_id from api_keys k, domains d"
	              " where k.id = $1::uuid and d.account_id is null and d.status = 'verified' order by d.id limit 1",
	              1, &key);
	if (res && atoi(PQcmdTuples(res)) == 0)
		ctl_error(ctl, "the platform has no domain yet: create one, or name one with --domain");
	return res && atoi(PQcmdTuples(res)) > 0;
}

static bool remove_domains(struct ctl *ctl, const char *key, char **list) {
	for (; *list; list++) {
		const char *params[] = {key, *list};
		cleanup(ctl_clearp) PGresult *res = ctl_query(
		    ctl,
		    "delete from api_key_domains kd using domains d where d.id = kd.domain_id and kd.key_id = $1::uuid"
		    " and (d.name = lower($2) or d.id::text = lower($2))",
		    2, params);
		if (res && atoi(PQcmdTuples(res)) == 0)
			ctl_error(ctl, "the key does not cover \"%s\"", *list);
		if (!res || atoi(PQcmdTuples(res)) == 0)
			return false;
	}
	return true;
}

static bool has_domain(struct ctl *ctl, const char *key) {
	cleanup(ctl_clearp) PGresult *res =
	    ctl_query(ctl, "select from api_key_domains where key_id = $1::uuid limit 1", 1, &key);
	if (res && PQntuples(res) == 0)
		ctl_error(ctl, "a key covers at least one domain");
	return res && PQntuples(res) == 1;
}

/* ---- create and list ---- */

static bool insert_key(struct ctl *ctl, const char *id, const char *user, const struct secret *secret) {
	char now[32], expires[32] = "infinity", scopes[64];
	const char *given = ctl_option(ctl, "expires");
	if (!scopes_literal(ctl, scopes) || (given && !expiry_text(ctl, given, expires)))
		return false;
	const char *params[] = {id,
	                        user,
	                        ctl_option(ctl, "name"),
	                        secret->hash,
	                        secret->last,
	                        ctl->settings.environment,
	                        scopes,
	                        ctl_now(ctl, now),
	                        expires};
	cleanup(freep) char **domains = ctl_option_list(ctl, "domain");
	if (!ctl_begin(ctl) ||
	    !ctl_exec(ctl,
	              "insert into api_keys (id, account_id, user_id, name, hash, last8, environment, scopes, created_at, "
	              "expires_at)"
	              " select $1::uuid, account_id, id, $3, $4::bytea, $5, $6, $7::text[], $8::timestamptz,"
	              " nullif($9::timestamptz, 'infinity') from users where id = $2::uuid",
	              9, params))
		return false;
	return (*domains ? add_domains(ctl, id, domains) : add_default_domain(ctl, id)) && ctl_commit(ctl);
}

/* The user's usable key of that name, if any. 1: *ret_id; 0: none; -1: said. */
static int find_same(struct ctl *ctl, const char *user, char ret_id[ID_TEXT_SIZE]) {
	char now[32];
	const char *params[] = {user, ctl_option(ctl, "name"), ctl_now(ctl, now), ctl->settings.environment};
	cleanup(ctl_clearp) PGresult *res =
	    ctl_query(ctl,
	              "select id from api_keys where user_id = $1::uuid and name = $2 and revoked_at is null"
	              " and (expires_at is null or expires_at > $3::timestamptz) and environment = $4"
	              " order by id limit 1",
	              4, params);
	if (res && PQntuples(res) == 1)
		snprintf(ret_id, ID_TEXT_SIZE, "%s", PQgetvalue(res, 0, 0));
	return res ? PQntuples(res) : -1;
}

int ctl_key_create(struct ctl *ctl) {
	char user[ID_TEXT_SIZE], id[ID_TEXT_SIZE];
	cleanup(wipe_secret) struct secret secret = {0};
	if (!ctl_option(ctl, "name") || !ctl_option(ctl, "user")) {
		ctl_error(ctl, "--name and --user are needed");
		return CTL_USAGE;
	}
	if (!name_fits(ctl, ctl_option(ctl, "name")) || !ctl_resolve(ctl, CTL_USER, ctl_option(ctl, "user"), user))
		return CTL_FAILED;
	int same = ctl_flag(ctl, "if-missing") ? find_same(ctl, user, id) : 0;
	if (same)
		return same < 0 ? CTL_FAILED : print_key(ctl, id, NULL);
	ctl_new_id(ctl, id);
	if (!make_secret(ctl, &secret) || !insert_key(ctl, id, user, &secret))
		return CTL_FAILED;
	return print_key(ctl, id, secret.key);
}

int ctl_key_list(struct ctl *ctl) {
	char now[32], user[ID_TEXT_SIZE], account[ID_TEXT_SIZE];
	const char *by_user = ctl_option(ctl, "user"), *by_account = ctl_option(ctl, "account");
	if ((by_user && !ctl_resolve(ctl, CTL_USER, by_user, user)) ||
	    (by_account && !ctl_resolve(ctl, CTL_ACCOUNT, by_account, account)))
		return CTL_FAILED;
	const char *params[] = {ctl_now(ctl, now), by_user ? user : NULL, by_account ? account : NULL};
	cleanup(ctl_clearp) PGresult *res =
	    ctl_query(ctl,
	              KEY_SELECT " where ($2::uuid is null or k.user_id = $2::uuid)"
	                         " and ($3::uuid is null or k.account_id = $3::uuid) order by k.id",
	              3, params);
	return res ? ctl_print_list(ctl, KEY_COLUMNS, array_len(KEY_COLUMNS), res) : CTL_FAILED;
}

/* ---- change ---- */

static bool replace_domains(struct ctl *ctl, const char *id) {
	cleanup(freep) char **domains = ctl_option_list(ctl, "domain");
	if (!*domains)
		return true;
	return ctl_exec(ctl, "delete from api_key_domains where key_id = $1::uuid", 1, &id) &&
	       add_domains(ctl, id, domains);
}

int ctl_key_edit(struct ctl *ctl) {
	char id[ID_TEXT_SIZE], expires[32], scopes[64];
	const char *name = ctl_option(ctl, "name"), *given = ctl_option(ctl, "expires");
	struct keys_sync ks;
	if (!ctl_resolve(ctl, CTL_KEY, ctl->words[0], id) || (name && !name_fits(ctl, name)) ||
	    (given && !expiry_text(ctl, given, expires)) || !scopes_literal(ctl, scopes))
		return CTL_FAILED;
	const char *params[] = {id, name, given ? expires : NULL, ctl_option(ctl, "scopes") ? scopes : NULL};
	if (!ctl_change_begin(ctl, &ks) ||
	    !ctl_exec(ctl,
	              "update api_keys set name = coalesce($2, name), scopes = coalesce($4::text[], scopes),"
	              " expires_at = case when $3::timestamptz is null then expires_at else nullif($3::timestamptz, "
	              "'infinity') end"
	              " where id = $1::uuid",
	              4, params) ||
	    !replace_domains(ctl, id) || !has_domain(ctl, id) || !ctl_change_commit(ctl, &ks, id))
		return CTL_FAILED;
	return print_key(ctl, id, NULL);
}

int ctl_key_domains(struct ctl *ctl) {
	static const struct ctl_column columns[] = {{"id", "ID", CTL_TEXT},
	                                            {"name", "NAME", CTL_TEXT},
	                                            {"status", "STATUS", CTL_TEXT},
	                                            {"platform", "PLATFORM", CTL_BOOL}};
	char id[ID_TEXT_SIZE];
	const char *param = id;
	cleanup(freep) char **add = ctl_option_list(ctl, "add");
	cleanup(freep) char **removed = ctl_option_list(ctl, "remove");
	struct keys_sync ks;
	if (!ctl_resolve(ctl, CTL_KEY, ctl->words[0], id))
		return CTL_FAILED;
	if ((*add || *removed) &&
	    (!ctl_change_begin(ctl, &ks) || !add_domains(ctl, id, add) || !remove_domains(ctl, id, removed) ||
	     !has_domain(ctl, id) || !ctl_change_commit(ctl, &ks, id)))
		return CTL_FAILED;
	cleanup(ctl_clearp) PGresult *res =
	    ctl_query(ctl,
	              "select d.id, d.name, d.status, d.account_id is null from api_key_domains kd"
	              " join domains d on d.id = kd.domain_id where kd.key_id = $1::uuid"
	              " order by d.account_id is not null, d.id",
	              1, &param);
	return res ? ctl_print_list(ctl, columns, array_len(columns), res) : CTL_FAILED;
}

static bool not_revoked(struct ctl *ctl, const char *id) {
	cleanup(ctl_clearp) PGresult *res =
	    ctl_query(ctl, "select from api_keys where id = $1::uuid and revoked_at is null", 1, &id);
	if (res && PQntuples(res) == 0)
		ctl_error(ctl, "the key has been revoked");
	return res && PQntuples(res) == 1;
}

int ctl_key_regenerate(struct ctl *ctl) {
	char id[ID_TEXT_SIZE];
	struct keys_sync ks;
	cleanup(wipe_secret) struct secret secret = {0};
	if (!ctl_resolve(ctl, CTL_KEY, ctl->words[0], id) || !not_revoked(ctl, id) || !make_secret(ctl, &secret))
		return CTL_FAILED;
	const char *params[] = {id, secret.hash, secret.last, ctl->settings.environment};
	if (!ctl_change_begin(ctl, &ks) ||
	    !ctl_exec(ctl, "update api_keys set hash = $2::bytea, last8 = $3, environment = $4 where id = $1::uuid", 4,
	              params) ||
	    !ctl_change_commit(ctl, &ks, id))
		return CTL_FAILED;
	return print_key(ctl, id, secret.key);
}

int ctl_key_revoke(struct ctl *ctl) {
	char id[ID_TEXT_SIZE], now[32];
	struct keys_sync ks;
	if (!ctl_resolve(ctl, CTL_KEY, ctl->words[0], id))
		return CTL_FAILED;
	const char *params[] = {id, ctl_now(ctl, now)};
	if (!ctl_change_begin(ctl, &ks) ||
	    !ctl_exec(ctl, "update api_keys set revoked_at = coalesce(revoked_at, $2::timestamptz) where id = $1::uuid", 2,
	              params) ||
	    !ctl_change_commit(ctl, &ks, id))
		return CTL_FAILED;
	return print_key(ctl, id, NULL);
}

int ctl_key_delete(struct ctl *ctl) {
	char id[ID_TEXT_SIZE];
	const char *param = id;
	struct keys_sync ks;
	if (!ctl_resolve(ctl, CTL_KEY, ctl->words[0], id) || !ctl_change_begin(ctl, &ks) ||
	    !ctl_exec(ctl, "delete from api_keys where id = $1::uuid", 1, &param) || !ctl_change_commit(ctl, &ks, id))
		return CTL_FAILED;
	return ctl_print_done(ctl, id, "deleted", "Deleted key %s.", ctl->words[0]);
}
