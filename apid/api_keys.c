/* The keys routes, for the console alone: which there are, and making, changing and ending one. A key's text is made
 * here, shown in the answer and nowhere else: what is kept is its hash.
 *
 * A change ends in api_change_commit(): when it is answered no worker takes the key for what it was. A new key needs no notice,
 * because nobody remembers that it was unknown. */
#include "apid/api.h"
#include "apid/api_change.h"
#include "apid/api_common.h"
#include "apid/handlers.h"
#include "apid/principal.h"
#include "common/address.h"
#include "common/apikey.h"
#include "common/clock.h"
#include "keys_stmts.h"

#include <sodium.h>

#define NAME_MAX_OCTETS 200
#define KEYS_OF_USER_MAX 1000
#define DOMAINS_MAX 200
#define KEY_JSON_MAX 131072
#define KEYS_JSON_MAX (32 << 20)

static const char *const SCOPES[] = {"domains", "team", "identities"};

/* ---- Read ---- */

/* The columns of key_list and key_get. */
enum column { ID, NAME, LAST8, CREATED_AT, EXPIRES_AT, LAST_USED_AT, STATUS, ENVIRONMENT, KEY_SCOPES, OWNER, OWN, DOMAINS };

static void write_array(struct json_out *j, const char *name, const struct pg_rows *rows, unsigned row, enum column column) {
	unsigned n = pg_null(rows, row, column) ? 0 : pg_array_count(rows, row, column);
	json_out_key(j, name);
	json_out_array(j);
	for (unsigned i = 0; i < n; i++) {
		struct slice s = pg_array_elem(rows, row, column, i);
		json_out_string(j, s.p, s.n);
	}
	json_out_array_end(j);
}

static void write_text(struct json_out *j, const char *name, const struct pg_rows *rows, unsigned row, enum column column) {
	struct slice s = pg_text(rows, row, column);
	json_out_member_string(j, name, s.p, s.n);
}

/* `key`: its text, the one time that it is shown; NULL: not. */
static void write_key(struct json_out *j, const struct pg_rows *rows, unsigned row, const char *key) {
	struct id id = pg_uuid(rows, row, ID);
	json_out_object(j);
	json_out_member_id(j, "id", &id);
	if (key)
		json_out_member_cstring(j, "key", key);
	write_text(j, "name", rows, row, NAME);
	write_text(j, "last8", rows, row, LAST8);
	write_text(j, "status", rows, row, STATUS);
	write_text(j, "environment", rows, row, ENVIRONMENT);
	write_array(j, "domains", rows, row, DOMAINS);
	write_array(j, "scopes", rows, row, KEY_SCOPES);
	write_text(j, "owner", rows, row, OWNER);
	json_out_member_bool(j, "own", pg_bool(rows, row, OWN));
	json_out_member_time(j, "createdAt", pg_time(rows, row, CREATED_AT));
	json_out_member_time(j, "expiresAt", pg_time(rows, row, EXPIRES_AT));
	json_out_member_time(j, "lastUsedAt", pg_time(rows, row, LAST_USED_AT));
	json_out_object_end(j);
}

static void param_asker(struct pg_params *p, struct request *r) {
	const struct principal *who = request_principal(r);
	pg_param_uuid(p, &who->account_id);
	pg_param_uuid(p, &who->user_id);
	pg_param_bool(p, who->account_owner);
}

static void list_rows(struct request *r, void *arg, const struct pg_result *result) {
	struct buf body;
	struct json_out j;
	api_items_begin(&j, &body, KEYS_JSON_MAX);
	for (unsigned i = 0; i < pg_rows_count(result->rows); i++)
		write_key(&j, result->rows, i, NULL);
	api_items_answer(r, &j, &body, API_LIST_WHOLE, NULL);
}

void api_key_list(struct request *r) {
	struct pg_params p;
	pg_params_init(&p);
	param_asker(&p, r);
	pg_param_time(&p, clock_wall_us());
	api_query(r, &STMT_KEY_LIST, &p, list_rows, NULL);
	pg_params_fini(&p);
}

static void refuse_unknown(struct request *r, const struct id *id) {
	char text[ID_TEXT_SIZE];
	id_format(id, text);
	respond_problem(r, PROBLEM_NOT_FOUND, "no API key %s", text);
}

static void refuse_others(struct request *r) {
	respond_problem(r, PROBLEM_FORBIDDEN, "this key is another member's");
}

/* One key, what is to become of it, and its new text if it gets one. */
struct change {
	struct api_tx *tx;
	struct id id;
	unsigned status; /* of the answer */
	char key[APIKEY_LEN + 1];
	char last8[APIKEY_LAST_LEN + 1];
	uint8_t hash[APIKEY_HASH_LEN];
	char *name; /* NULL: not given */
	bool expiry_given, scopes_given, scopes[array_len(SCOPES)];
	int64_t expires_at;
	unsigned domain_count; /* 0: not given */
	const struct principal_domain *domains[DOMAINS_MAX];
	bool owner_may; /* an owner of the account, too */
	bool revoked_may;
	void (*steps)(struct request *, struct change *); /* ends in a commit */
};

static void refuse_rows(struct request *r, void *arg, const struct pg_result *result) {
	const struct change *c = arg;
	if (pg_rows_count(result->rows) > 0)
		refuse_others(r);
	else
		refuse_unknown(r, &c->id);
}

/* Of the account's keys one is named that the asker does not see, or none. */
static void refuse(struct request *r, struct change *c) {
	struct pg_params p;
	pg_params_init(&p);
	pg_param_uuid(&p, &request_principal(r)->account_id);
	pg_param_uuid(&p, &c->id);
	api_query(r, &STMT_KEY_OF_ACCOUNT, &p, refuse_rows, c);
	pg_params_fini(&p);
}

static void answer_row(struct request *r, void *arg, const struct pg_result *result) {
	struct change *c = arg;
	struct buf body;
	struct json_out j;
	if (pg_rows_count(result->rows) == 0) {
		refuse(r, c);
		return;
	}
	buf_init(&body, KEY_JSON_MAX);
	json_out_init(&j, &body);
	write_key(&j, result->rows, 0, *c->key ? c->key : NULL);
	api_answer_json(r, c->status, &body);
}

static void answer(struct request *r, struct change *c) {
	struct pg_params p;
	pg_params_init(&p);
	param_asker(&p, r);
	pg_param_time(&p, clock_wall_us());
	pg_param_uuid(&p, &c->id);
	api_query(r, &STMT_KEY_GET, &p, answer_row, c);
	pg_params_fini(&p);
}

static void answer_done(struct request *r, void *arg, const struct pg_result *result) {
	if (result->status == PG_OK)
		answer(r, arg);
	else
		api_answer_failure(r, result);
}

static void wipe(void *arg) {
	struct change *c = arg;
	sodium_memzero(c->key, sizeof c->key);
}

/* Memory of the request; NULL: answered. With `has_id` the first parameter of the path is the key. */
static struct change *change_new(struct request *r, bool has_id) {
	struct change *c = request_alloc(r, sizeof *c);
	c->status = 200;
	if (has_id && !request_param_id(r, 0, &c->id))
		return NULL;
	request_at_end(r, wipe, c);
	return c;
}

void api_key_get(struct request *r) {
	struct change *c = change_new(r, true);
	if (c)
		answer(r, c);
}

static void domain_rows(struct request *r, void *arg, const struct pg_result *result) {
	struct buf body;
	struct json_out j;
	if (pg_rows_count(result->rows) == 0) {
		refuse(r, arg);
		return;
	}
	api_items_begin(&j, &body, KEY_JSON_MAX);
	for (unsigned i = 0; i < pg_rows_count(result->rows); i++) {
		if (pg_null(result->rows, i, 0)) /* a key whose domains are all gone */
			continue;
		struct id id = pg_uuid(result->rows, i, 0);
		json_out_object(&j);
		json_out_member_id(&j, "id", &id);
		write_text(&j, "name", result->rows, i, (enum column)1);
		write_text(&j, "status", result->rows, i, (enum column)2);
		json_out_member_bool(&j, "platform", pg_bool(result->rows, i, 3));
		json_out_object_end(&j);
	}
	api_items_answer(r, &j, &body, API_LIST_WHOLE, NULL);
}

void api_key_domains(struct request *r) {
	struct change *c = change_new(r, true);
	struct pg_params p;
	if (!c)
		return;
	pg_params_init(&p);
	param_asker(&p, r);
	pg_param_uuid(&p, &c->id);
	api_query(r, &STMT_KEY_DOMAINS, &p, domain_rows, c);
	pg_params_fini(&p);
}

/* ---- What a body says ---- */

static bool bad(struct request *r, const char *text) {
	respond_problem(r, PROBLEM_BAD_REQUEST, "%s", text);
	return false;
}

static bool read_name(struct request *r, const json_t *body, struct change *c) {
	struct json_in_error error;
	struct slice name;
	int given = json_in_string(body, "name", &name, &error);
	if (given < 0)
		return bad(r, error.text);
	if (given == 0)
		return true;
	if (name.n == 0 || name.n > NAME_MAX_OCTETS)
		return bad(r, "member \"name\" must have 1 to 200 octets");
	c->name = request_strndup(r, name.p, name.n);
	return true;
}

static bool read_expiry(struct request *r, const json_t *body, struct change *c) {
	struct json_in_error error;
	struct slice text;
	int given = json_in_string(body, "expiresAt", &text, &error);
	if (given < 0)
		return bad(r, error.text);
	c->expires_at = INT64_MAX;
	c->expiry_given = given > 0 || json_in_is_null(body, "expiresAt");
	if (given == 0)
		return true;
	if (!clock_parse_rfc3339(text.p, text.n, &c->expires_at))
		return bad(r, "member \"expiresAt\" must be null or an instant like 2030-01-31T00:00:00Z");
	if (c->expires_at <= clock_wall_us())
		return bad(r, "member \"expiresAt\" is past");
	return true;
}

static bool read_scopes(struct request *r, const json_t *body, struct change *c) {
	struct json_in_error error;
	const json_t *array;
	size_t n = 0;
	int given = json_in_strings(body, "scopes", 0, array_len(SCOPES), &array, &n, &error);
	if (given < 0)
		return bad(r, error.text);
	c->scopes_given = given > 0;
	for (size_t i = 0; i < n; i++) {
		struct slice scope = json_in_element(array, i);
		size_t k = 0;
		while (k < array_len(SCOPES) && !slice_eq(scope, slice_str(SCOPES[k])))
			k++;
		if (k == array_len(SCOPES))
			return bad(r, "member \"scopes\": there are domains, team and identities");
		c->scopes[k] = true;
	}
	return true;
}

/* The session's principal covers every domain that its keys may: the platform's and the account's verified ones. */
static const struct principal_domain *domain_of(const struct principal *who, struct slice text) {
	char name[ADDRESS_DOMAIN_MAX + 1];
	struct id id;
	if (id_parse(text.p, text.n, &id)) {
		for (unsigned i = 0; i < who->domain_count; i++) {
			if (id_equal(&who->domains[i].id, &id))
				return &who->domains[i];
		}
		return NULL;
	}
	return address_canonical_domain(text.p, text.n, name) < 0 ? NULL : principal_domain(who, name);
}

static void add_domain(struct change *c, const struct principal_domain *domain) {
	for (unsigned i = 0; i < c->domain_count; i++) {
		if (c->domains[i] == domain)
			return;
	}
	c->domains[c->domain_count++] = domain;
}

static bool read_domains(struct request *r, const json_t *body, struct change *c) {
	const struct principal *who = request_principal(r);
	struct json_in_error error;
	const json_t *array;
	size_t n = 0;
	int given = json_in_strings(body, "domains", 1, DOMAINS_MAX, &array, &n, &error);
	if (given < 0)
		return bad(r, error.text);
	for (size_t i = 0; given > 0 && i < n; i++) {
		const struct principal_domain *domain = domain_of(who, json_in_element(array, i));
		if (!domain) {
			respond_problem(r, PROBLEM_FORBIDDEN,
			                "member \"domains\": element %zu is neither a domain of the platform nor a verified one of your account", i);
			return false;
		}
		add_domain(c, domain);
	}
	return true;
}

static bool read_body(struct request *r, struct change *c) {
	json_t *body = request_json(r, false);
	return body && read_name(r, body, c) && read_expiry(r, body, c) && read_scopes(r, body, c) && read_domains(r, body, c);
}

/* ---- Steps ---- */

static void make_secret(struct request *r, struct change *c) {
	const struct api_config *config = request_api(r)->config;
	apikey_generate(strcmp(config->environment, "test") == 0 ? APIKEY_TEST : APIKEY_LIVE, c->key);
	apikey_hash(c->key, config->secret, 32, c->hash);
	apikey_last(c->key, c->last8);
}

static void param_scopes(struct pg_params *p, const struct change *c) {
	unsigned n = 0;
	for (size_t i = 0; i < array_len(SCOPES); i++)
		n += c->scopes[i];
	pg_param_array(p, PG_TEXT, n);
	for (size_t i = 0; i < array_len(SCOPES); i++) {
		if (c->scopes[i])
			pg_elem_text(p, SCOPES[i], strlen(SCOPES[i]));
	}
}

/* Key, domains, account. */
static void param_domains(struct pg_params *p, struct request *r, const struct change *c) {
	pg_param_uuid(p, &c->id);
	pg_param_array(p, PG_UUID, c->domain_count);
	for (unsigned i = 0; i < c->domain_count; i++)
		pg_elem_uuid(p, &c->domains[i]->id);
	pg_param_uuid(p, &request_principal(r)->account_id);
}

/* A domain may have been given up since the principal was read. */
static bool got_all(struct request *r, struct change *c, const struct pg_result *result) {
	if (result->affected == c->domain_count)
		return true;
	api_tx_rollback(c->tx);
	respond_problem(r, PROBLEM_CONFLICT, "a domain of the list has just been given up");
	return false;
}

/* ---- Create ---- */

static void create_domains(struct request *r, void *arg, const struct pg_result *result) {
	struct change *c = arg;
	if (got_all(r, c, result))
		api_tx_commit(c->tx, answer_done, c);
}

static void create_inserted(struct request *r, void *arg, const struct pg_result *result) {
	struct change *c = arg;
	struct pg_params p;
	if (result->affected == 0) {
		api_tx_rollback(c->tx);
		respond_problem(r, PROBLEM_CONFLICT, "you have %d keys, which is as many as there may be: delete some", KEYS_OF_USER_MAX);
		return;
	}
	pg_params_init(&p);
	param_domains(&p, r, c);
	api_tx_step(c->tx, &STMT_KEY_DOMAINS_SET, &p, create_domains, c);
	pg_params_fini(&p);
	api_tx_flush(c->tx);
}

static void create_start(struct request *r, struct change *c) {
	const struct principal *who = request_principal(r);
	struct pg_params p;
	id_make(&c->id, clock_wall_us());
	make_secret(r, c);
	c->tx = api_tx_begin(r);
	pg_params_init(&p);
	pg_param_uuid(&p, &c->id);
	pg_param_uuid(&p, &who->account_id);
	pg_param_uuid(&p, &who->user_id);
	pg_param_cstring(&p, c->name);
	pg_param_bytea(&p, c->hash, sizeof c->hash);
	pg_param_cstring(&p, c->last8);
	pg_param_cstring(&p, request_api(r)->config->environment);
	param_scopes(&p, c);
	pg_param_time(&p, clock_wall_us());
	pg_param_time(&p, c->expires_at);
	pg_param_int4(&p, KEYS_OF_USER_MAX);
	api_tx_step(c->tx, &STMT_KEY_INSERT, &p, create_inserted, c);
	pg_params_fini(&p);
	api_tx_flush(c->tx);
}

void api_key_create(struct request *r) {
	const struct principal *who = request_principal(r);
	struct change *c = change_new(r, false);
	if (!c || !read_body(r, c))
		return;
	c->status = 201;
	if (!c->name)
		respond_problem(r, PROBLEM_BAD_REQUEST, "member \"name\" is missing");
	else if (c->domain_count == 0 && who->domain_count == 0)
		respond_problem(r, PROBLEM_CONFLICT, "there is no domain yet that a key could cover");
	else {
		if (c->domain_count == 0)
			add_domain(c, &who->domains[0]);
		create_start(r, c);
	}
}

/* ---- Change ---- */

static void locked(struct request *r, void *arg, const struct pg_result *result) {
	struct change *c = arg;
	const struct principal *who = request_principal(r);
	bool found = pg_rows_count(result->rows) > 0, own = false, revoked = false;
	if (found) {
		struct id user = pg_uuid(result->rows, 0, 0);
		own = id_equal(&user, &who->user_id);
		revoked = pg_bool(result->rows, 0, 1);
	}
	if (own ? !revoked || c->revoked_may : found && who->account_owner && c->owner_may) {
		c->steps(r, c);
		return;
	}
	api_tx_rollback(c->tx);
	if (!found)
		refuse_unknown(r, &c->id);
	else if (!own && !who->account_owner)
		refuse_others(r);
	else if (!own)
		respond_problem(r, PROBLEM_FORBIDDEN, "this key is another member's: an owner may only revoke it");
	else
		respond_problem(r, PROBLEM_CONFLICT, "this key has been revoked, which is for good");
}

static void change_start(struct request *r, struct change *c, void (*steps)(struct request *, struct change *)) {
	struct pg_params p;
	c->steps = steps;
	c->tx = api_tx_begin(r);
	pg_params_init(&p);
	pg_param_uuid(&p, &request_principal(r)->account_id);
	pg_param_uuid(&p, &c->id);
	api_tx_step(c->tx, &STMT_KEY_LOCK, &p, locked, c);
	pg_params_fini(&p);
	api_tx_flush(c->tx);
}

static void edit_domains(struct request *r, void *arg, const struct pg_result *result) {
	struct change *c = arg;
	if (got_all(r, c, result))
		api_change_commit(r, c->tx, &c->id, answer_done, c);
}

static void edit_steps(struct request *r, struct change *c) {
	struct pg_params p;
	pg_params_init(&p);
	pg_param_uuid(&p, &c->id);
	pg_param_cstring(&p, c->name);
	pg_param_bool(&p, c->expiry_given);
	pg_param_time(&p, c->expires_at);
	if (c->scopes_given)
		param_scopes(&p, c);
	else
		pg_param_null(&p);
	api_tx_step(c->tx, &STMT_KEY_UPDATE, &p, NULL, NULL);
	if (c->domain_count > 0) {
		pg_params_reset(&p);
		pg_param_uuid(&p, &c->id);
		api_tx_step(c->tx, &STMT_KEY_DOMAINS_CLEAR, &p, NULL, NULL);
		pg_params_reset(&p);
		param_domains(&p, r, c);
		api_tx_step(c->tx, &STMT_KEY_DOMAINS_SET, &p, edit_domains, c);
		api_tx_flush(c->tx);
	} else {
		api_change_commit(r, c->tx, &c->id, answer_done, c);
	}
	pg_params_fini(&p);
}

void api_key_patch(struct request *r) {
	struct change *c = change_new(r, true);
	if (c && read_body(r, c)) {
		c->revoked_may = true;
		change_start(r, c, edit_steps);
	}
}

static void regenerate_steps(struct request *r, struct change *c) {
	struct pg_params p;
	make_secret(r, c);
	pg_params_init(&p);
	pg_param_uuid(&p, &c->id);
	pg_param_bytea(&p, c->hash, sizeof c->hash);
	pg_param_cstring(&p, c->last8);
	pg_param_cstring(&p, request_api(r)->config->environment);
	api_tx_step(c->tx, &STMT_KEY_REGENERATE, &p, NULL, NULL);
	pg_params_fini(&p);
	api_change_commit(r, c->tx, &c->id, answer_done, c);
}

void api_key_regenerate(struct request *r) {
	struct change *c = change_new(r, true);
	if (c)
		change_start(r, c, regenerate_steps);
}

static void revoke_steps(struct request *r, struct change *c) {
	struct pg_params p;
	pg_params_init(&p);
	pg_param_uuid(&p, &c->id);
	pg_param_time(&p, clock_wall_us());
	api_tx_step(c->tx, &STMT_KEY_REVOKE, &p, NULL, NULL);
	pg_params_fini(&p);
	api_change_commit(r, c->tx, &c->id, answer_done, c);
}

void api_key_revoke(struct request *r) {
	struct change *c = change_new(r, true);
	if (c) {
		c->owner_may = c->revoked_may = true;
		change_start(r, c, revoke_steps);
	}
}

static void delete_done(struct request *r, void *arg, const struct pg_result *result) {
	if (result->status == PG_OK)
		respond_empty(r, 204);
	else
		api_answer_failure(r, result);
}

static void delete_steps(struct request *r, struct change *c) {
	struct pg_params p;
	pg_params_init(&p);
	pg_param_uuid(&p, &c->id);
	api_tx_step(c->tx, &STMT_KEY_DELETE, &p, NULL, NULL);
	pg_params_fini(&p);
	api_change_commit(r, c->tx, &c->id, delete_done, c);
}

void api_key_delete(struct request *r) {
	struct change *c = change_new(r, true);
	if (c) {
		c->revoked_may = true;
		change_start(r, c, delete_steps);
	}
}
