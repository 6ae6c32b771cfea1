/* apid/auth and common/keys_sync on a real PostgreSQL: what a key's text, its record and its owner make of a
 * request; the cache, and that a change is never reported done while a worker could still act on what was before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "apid/auth.h"
#include "apid/auth_cache.h"
#include "apid/auth_change.h"
#include "auth_stmts.h"
#include "common/apikey.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/pg.h"
#include "common/token.h"
#include "tests/support/pg_fixture.h"
#include "tests/support/unit.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#define ACCOUNT "00000000-0000-7000-8000-0000000000a1"
#define USER "00000000-0000-7000-8000-0000000000b1"
#define PLATFORM_2 "00000000-0000-7000-8000-0000000000d2"
#define PLATFORM_1 "00000000-0000-7000-8000-0000000000d1"
#define CUSTOM "00000000-0000-7000-8000-0000000000c1"
#define PENDING "00000000-0000-7000-8000-0000000000c2"

static struct pg_fixture *db;
static struct loop *loop;
static struct pg *pg[2];
static struct auth *auths[2];
static char *conninfo;
static uint8_t secret[32];

/* ---- a worker or two ---- */

static void turns_us(int64_t us) {
	turns_for(loop, us);
}

struct seen {
	bool done;
	unsigned count;
	enum auth_verdict verdict;
	struct principal *principal;
};

static void on_auth(void *arg, enum auth_verdict verdict, struct principal *p) {
	struct seen *s = arg;
	s->done = true;
	s->count++;
	s->verdict = verdict;
	assert_true((p != NULL) == (verdict == AUTH_OK));
	s->principal = p ? principal_ref(p) : NULL;
}

static struct auth_op *start(unsigned worker, const char *key, struct seen *s) {
	char *header = xasprintf("Bearer %s", key);
	enum auth_verdict verdict = AUTH_UNAVAILABLE;
	struct principal *p = NULL;
	*s = (struct seen){0};
	struct auth_op *op = auth_start(auths[worker], slice_str(header), (struct slice){NULL, 0}, on_auth, s, &verdict, &p);
	free(header);
	if (!op)
		*s = (struct seen){true, 0, verdict, p};
	return op;
}

static void wait_for(struct seen *s) {
	for (int i = 0; i < 1000 && !s->done; i++)
		turns_us(5000);
	assert_true(s->done);
}

/* The verdict; *ret_cached: without a look-up. */
static enum auth_verdict ask(unsigned worker, const char *key, bool *ret_cached) {
	struct seen s;
	*ret_cached = start(worker, key, &s) == NULL;
	wait_for(&s);
	principal_unref(s.principal);
	return s.verdict;
}

/* Until the worker answers this good key from its cache. */
static void warm(unsigned worker, const char *key) {
	bool cached = false;
	for (int i = 0; i < 2000 && !cached; i++) {
		assert_int_equal(ask(worker, key, &cached), AUTH_OK);
		turns_us(5000);
	}
	assert_true(cached);
}

static void workers_start(void) {
	const struct auth_options options = {conninfo, "live", secret, 4, 1800000000};
	const struct pg_options pg_options = {
	    .conninfo = conninfo,
	    .application_name = "test",
	    .stmts = AUTH_STMTS,
	    .connections = 1,
	    .query_deadline_us = 5000000,
	    .connect_deadline_us = 5000000,
	};
	for (unsigned i = 0; i < 2; i++) {
		pg[i] = pg_new(loop, &pg_options);
		auths[i] = auth_new(loop, pg[i], &options);
	}
}

static void on_closed(void *arg) {
	++*(unsigned *)arg;
}

/* In order, as a worker that has drained. */
static void workers_leave(void) {
	unsigned closed = 0;
	for (unsigned i = 0; i < 2; i++)
		auth_close(auths[i], on_closed, &closed);
	for (int i = 0; i < 1000 && closed < 2; i++)
		turns_us(5000);
	assert_int_equal(closed, 2);
}

static void workers_stop(void) {
	for (unsigned i = 0; i < 2; i++) {
		auths[i] = auth_free(auths[i]);
		pg[i] = pg_free(pg[i]);
	}
	loop_turn(loop);
}

/* ---- keys ---- */

struct key {
	char text[APIKEY_LEN + 1];
	char id[ID_TEXT_SIZE];
};

static void make_key(struct key *k, const char *name) {
	uint8_t hash[APIKEY_HASH_LEN];
	char hex[2 * APIKEY_HASH_LEN + 1], last[APIKEY_LAST_LEN + 1];
	struct id id;
	apikey_generate(APIKEY_LIVE, k->text);
	apikey_hash(k->text, secret, sizeof(secret), hash);
	apikey_last(k->text, last);
	for (unsigned i = 0; i < APIKEY_HASH_LEN; i++)
		snprintf(hex + 2 * i, 3, "%02x", hash[i]);
	id_make(&id, 1795533314000000);
	id_format(&id, k->id);
	pg_fixture_exec(
	    db,
	    "insert into api_keys (id, account_id, user_id, name, hash, last8, environment, scopes, created_at) values"
	    " ('%s', '" ACCOUNT "', '" USER "', '%s', '\\x%s', '%s', 'live', '{team}', now())",
	    k->id, name, hex, last);
	pg_fixture_exec(db,
	                "insert into api_key_domains select '%s', d, '" ACCOUNT "' from unnest('{" CUSTOM "," PLATFORM_2 "," PLATFORM_1
	                "," PENDING "}'::uuid[]) d",
	                k->id);
}

/* ---- the changer, beside the loop ---- */

struct change {
	pthread_t thread;
	const char *sql;
	const char *key; /* NULL: all */
	char *conninfo;
	volatile bool done;
	enum keys_sync_result result;
	int64_t took_us; /* from the commit */
};

static void must(PGconn *c, const char *sql) {
	PGresult *res = PQexec(c, sql);
	if (PQresultStatus(res) != PGRES_COMMAND_OK) {
		fprintf(stderr, "%s: %s", sql, PQerrorMessage(c));
		abort();
	}
	PQclear(res);
}

static void *run_change(void *arg) {
	struct change *c = arg;
	PGconn *pq = PQconnectdb(c->conninfo);
	struct keys_sync ks;
	struct id id;
	bool one = c->key && id_parse(c->key, 36, &id);
	if (keys_sync_start(&ks, pq) < 0)
		abort();
	must(pq, "begin");
	must(pq, c->sql);
	if (keys_sync_publish(&ks, one ? &id : NULL) < 0)
		abort();
	must(pq, "commit");
	int64_t t0 = clock_mono_us_now();
	c->result = keys_sync_wait(&ks);
	c->took_us = clock_mono_us_now() - t0;
	PQfinish(pq);
	c->done = true;
	return NULL;
}

static void change_start(struct change *c, const char *sql, const char *key) {
	*c = (struct change){.sql = sql, .key = key, .conninfo = xstrdup(pg_fixture_conninfo(db, NULL))};
	assert_int_equal(pthread_create(&c->thread, NULL, run_change, c), 0);
}

static void change_join(struct change *c) {
	pthread_join(c->thread, NULL);
	free(c->conninfo);
}

/* ---- rows ---- */

static void test_header(void **state) {
	static const char good[] = "mm_sk_live_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTU1efTGv";
	static const struct {
		const char *format;
		const char *key;
		bool asked; /* a look-up is made */
		enum auth_verdict verdict;
	} rows[] = {
	    {"Bearer %s", good, true, AUTH_UNKNOWN},
	    {"bearer %s", good, true, AUTH_UNKNOWN},
	    {"BEARER   %s", good, true, AUTH_UNKNOWN},
	    {" \tBearer\t%s \t", good, true, AUTH_UNKNOWN},
	    {"%s", good, false, AUTH_NO_KEY},
	    {"Basic %s", good, false, AUTH_NO_KEY},
	    {"Bearer%s", good, false, AUTH_NO_KEY},
	    {"Bearer %s", "", false, AUTH_NO_KEY},
	    {"%s", "", false, AUTH_NO_KEY},
	    {"%s", "Bearer", false, AUTH_NO_KEY},
	    {"Bearer x%s", good, false, AUTH_MALFORMED},
	    {"Bearer %s %s", good, false, AUTH_MALFORMED},
	    {"Bearer %s", "mm_sk_live_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTU1efTGw", false, AUTH_CHECKSUM},
	    {"Bearer %s", "mm_sk_test_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTU0ZWQBF", false, AUTH_OTHER_ENV},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		char header[300];
		struct seen s = {0};
		enum auth_verdict verdict = AUTH_OK;
		struct principal *p = NULL;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		int n = snprintf(header, sizeof(header), rows[i].format, rows[i].key, "x");
#pragma GCC diagnostic pop
		struct auth_op *op = auth_start(auths[0], slice_of(header, (size_t)n), (struct slice){NULL, 0}, on_auth, &s, &verdict, &p);
		if ((op != NULL) != rows[i].asked)
			fail_msg("row %zu: %s", i, header);
		assert_null(p);
		if (op) {
			wait_for(&s);
			verdict = s.verdict;
		}
		if (verdict != rows[i].verdict)
			fail_msg("row %zu: %s: %d", i, header, verdict);
		assert_true(strstr(auth_verdict_text(verdict), "Invalid API key") != NULL);
	}
	enum auth_verdict verdict = AUTH_OK;
	struct principal *p = NULL;
	assert_null(auth_start(auths[0], (struct slice){NULL, 0}, (struct slice){NULL, 0}, on_auth, NULL, &verdict, &p));
	assert_int_equal(verdict, AUTH_NO_KEY);
}

static void test_principal(void **state) {
	struct key k;
	struct seen s;
	char id[ID_TEXT_SIZE];
	make_key(&k, "first");
	assert_non_null(start(0, k.text, &s));
	wait_for(&s);
	assert_int_equal(s.verdict, AUTH_OK);
	const struct principal *p = s.principal;
	id_format(&p->key_id, id);
	assert_string_equal(id, k.id);
	id_format(&p->user_id, id);
	assert_string_equal(id, USER);
	id_format(&p->account_id, id);
	assert_string_equal(id, ACCOUNT);
	assert_string_equal(p->key_name, "first");
	assert_string_equal(p->last8, k.text + 56);
	assert_string_equal(p->owner, "me@one.example");
	assert_string_equal(p->plan, "team");
	assert_int_equal(p->calls_per_day, 50000);
	assert_int_equal(p->archived_mailboxes, 1000);
	assert_true(p->expires_at == INT64_MAX);
	assert_string_equal(p->scopes[0], "team");
	assert_null(p->scopes[1]);
	/* the platform's first, the account's after it, pending ones not at all */
	assert_int_equal(p->domain_count, 3);
	assert_string_equal(p->domains[0].name, "one.example");
	assert_string_equal(p->domains[1].name, "two.example");
	assert_string_equal(p->domains[2].name, "custom.example");
	id_format(&p->domains[2].id, id);
	assert_string_equal(id, CUSTOM);
	assert_ptr_equal(principal_domain(p, "two.example"), &p->domains[1]);
	assert_null(principal_domain(p, "pending.example"));
	principal_unref(s.principal);
}

static void test_no_limit_no_domain(void **state) {
	struct key k;
	struct seen s;
	make_key(&k, "bare");
	pg_fixture_exec(db, "delete from api_key_domains where key_id = '%s'", k.id);
	pg_fixture_exec(db, "update accounts set plan = 'unlimited'");
	start(0, k.text, &s);
	wait_for(&s);
	pg_fixture_exec(db, "update accounts set plan = 'team'");
	assert_int_equal(s.verdict, AUTH_OK);
	assert_int_equal(s.principal->domain_count, 0);
	assert_null(principal_domain(s.principal, "one.example"));
	assert_int_equal(s.principal->calls_per_day, -1);
	assert_int_equal(s.principal->active_mailboxes, -1);
	principal_unref(s.principal);
}

/* ---- cache ---- */

static void test_cached(void **state) {
	struct key k;
	struct seen s;
	make_key(&k, "cached");
	warm(0, k.text);
	assert_null(start(0, k.text, &s));
	assert_int_equal(s.verdict, AUTH_OK);
	assert_string_equal(s.principal->key_name, "cached");
	principal_unref(s.principal);
}

static void test_shared_lookup(void **state) {
	struct key k;
	struct seen a, b, c;
	make_key(&k, "warms up"); /* the lease is proved */
	warm(0, k.text);
	make_key(&k, "shared");
	assert_non_null(start(0, k.text, &a));
	struct auth_op *op = start(0, k.text, &b);
	assert_non_null(op);
	assert_non_null(start(0, k.text, &c));
	assert_null(auth_cancel(op));
	wait_for(&a);
	assert_true(c.done); /* the same answer, in the same turn */
	assert_ptr_equal(a.principal, c.principal);
	turns_us(20000);
	assert_int_equal(a.count, 1);
	assert_int_equal(b.count, 0);
	principal_unref(a.principal);
	principal_unref(c.principal);
}

static void test_expires_in_cache(void **state) {
	struct key k;
	bool cached = false;
	make_key(&k, "soon");
	pg_fixture_exec(db, "update api_keys set expires_at = clock_timestamp() + interval '2 seconds' where id = '%s'", k.id);
	warm(0, k.text);
	enum auth_verdict verdict = AUTH_OK;
	for (int i = 0; i < 1000 && !(verdict == AUTH_EXPIRED && cached); i++) {
		turns_us(5000);
		verdict = ask(0, k.text, &cached);
	}
	assert_int_equal(verdict, AUTH_EXPIRED);
	assert_true(cached);
}

static void test_cache_bound(void **state) {
	struct auth_cache *c = auth_cache_new(3);
	uint8_t hash[5][APIKEY_HASH_LEN] = {
	    {1}, {2}, {1, 0, 0, 0, 9}, {4}, {5}}; /* the third shares a chain with the first */
	struct principal *p[5];
	for (unsigned i = 0; i < 5; i++) {
		p[i] = xcalloc(1, sizeof(*p[i]));
		p[i]->refs = 1;
		p[i]->key_id.b[0] = (uint8_t)i;
		auth_cache_put(c, hash[i], p[i]);
		assert_ptr_equal(auth_cache_find(c, hash[0]), p[0]); /* used, so it stays */
	}
	assert_int_equal(auth_cache_count(c), 3);
	assert_null(auth_cache_find(c, hash[1]));
	assert_null(auth_cache_find(c, hash[2]));
	assert_int_equal(p[1]->refs, 1);
	assert_int_equal(p[4]->refs, 2);
	auth_cache_put(c, hash[4], p[4]);
	assert_int_equal(auth_cache_count(c), 3);
	auth_cache_forget(c, &p[4]->key_id);
	assert_null(auth_cache_find(c, hash[4]));
	assert_non_null(auth_cache_find(c, hash[3]));
	auth_cache_forget(c, NULL);
	assert_int_equal(auth_cache_count(c), 0);
	auth_cache_free(c);
	for (unsigned i = 0; i < 5; i++)
		principal_unref(p[i]);
}

/* ---- changes ---- */

static void revoke_and_ask(const char *name, bool one) {
	struct key k, other;
	struct change c;
	struct seen s;
	bool cached;
	make_key(&k, name);
	make_key(&other, "bystander");
	for (unsigned w = 0; w < 2; w++) {
		warm(w, k.text);
		warm(w, other.text);
	}
	char *sql = xasprintf("update api_keys set revoked_at = now() where id = '%s'", k.id);
	change_start(&c, sql, one ? k.id : NULL);
	while (!c.done)
		turns_us(1000);
	change_join(&c);
	free(sql);
	assert_int_equal(c.result, KEYS_SYNC_CONFIRMED);
	assert_true(c.took_us < KEYS_LEASE_US / 2);
	for (unsigned w = 0; w < 2; w++) {
		/* the very next request */
		struct auth_op *op = start(w, k.text, &s);
		assert_non_null(op);
		wait_for(&s);
		assert_int_equal(s.verdict, AUTH_REVOKED);
		assert_int_equal(ask(w, other.text, &cached), AUTH_OK);
		assert_int_equal(cached, one);
	}
}

static void test_revoke_one(void **state) {
	revoke_and_ask("revoked", true);
}

static void test_revoke_all(void **state) {
	revoke_and_ask("revoked with all", false);
}

/* On a connection that no transaction of the fixture holds up. */
static void notify_all(void) {
	PGconn *other = PQconnectdb(pg_fixture_conninfo(db, NULL));
	PGresult *res = PQexec(other, "select pg_notify('minutemail_keys', 'ab *')");
	assert_int_equal(PQresultStatus(res), PGRES_TUPLES_OK);
	PQclear(res);
	PQfinish(other);
	turns_us(50000);
}

/* A worker that hangs: the changer waits until its lease has run out, and then it does not use its cache. */
static void test_silent_worker(void **state) {
	struct key k;
	struct change c;
	struct seen s;
	make_key(&k, "silent");
	warm(0, k.text);
	warm(1, k.text);
	char *sql = xasprintf("update api_keys set revoked_at = now() where id = '%s'", k.id);
	change_start(&c, sql, k.id);
	change_join(&c); /* no turn of the loop meanwhile */
	free(sql);
	assert_int_equal(c.result, KEYS_SYNC_LEASE);
	assert_true(c.took_us >= KEYS_LEASE_US);
	assert_non_null(start(0, k.text, &s)); /* still in the turn in which it hung */
	wait_for(&s);
	assert_int_equal(s.verdict, AUTH_REVOKED);
}

static void revoke_unseen(struct key *k, enum keys_sync_result result) {
	struct change c;
	char *sql = xasprintf("update api_keys set revoked_at = now() where id = '%s'", k->id);
	change_start(&c, sql, k->id);
	change_join(&c); /* no turn of the loop meanwhile */
	free(sql);
	assert_int_equal(c.result, result);
	assert_true((c.took_us >= KEYS_LEASE_US) == (result == KEYS_SYNC_LEASE));
}

static void asked_anew(struct key *k) {
	struct seen s;
	assert_non_null(start(0, k->text, &s));
	wait_for(&s);
	assert_int_equal(s.verdict, AUTH_REVOKED);
}

/* A look-up from before the revocation, whose answer nobody has read yet: who asks afterwards does not get that one. */
static void test_silent_worker_under_way(void **state) {
	struct key k;
	struct seen early;
	make_key(&k, "under way");
	warm(1, k.text);
	warm(0, k.text);
	notify_all();
	assert_non_null(start(0, k.text, &early));
	pg_fixture_exec(db, "select pg_sleep(0.1)"); /* it has been answered */
	revoke_unseen(&k, KEYS_SYNC_LEASE);
	asked_anew(&k);
	wait_for(&early);
	principal_unref(early.principal);
}

static void terminate_listeners(void) {
	pg_fixture_exec(db, "select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = 'apid keys'");
}

/* The server has lost the listening connection and the worker has not noticed: it may use its cache for a lease, so that is waited for,
 * once. */
static void test_listener_lost_unnoticed(void **state) {
	struct key k, other;
	make_key(&k, "lost");
	make_key(&other, "the next");
	warm(0, k.text);
	warm(1, k.text);
	terminate_listeners();
	revoke_unseen(&k, KEYS_SYNC_LEASE);
	asked_anew(&k);
	assert_int_equal(pg_fixture_int(db, "select count(*) from key_listeners k where not exists"
	                                    " (select from pg_locks l where l.pid = k.pid)"), 0);
	turns_us(100000); /* the connections are back */
	warm(0, other.text);
	warm(1, other.text);
	struct change c;
	change_start(&c, "delete from api_keys where false", NULL);
	while (!c.done)
		turns_us(1000);
	change_join(&c);
	assert_int_equal(c.result, KEYS_SYNC_CONFIRMED);
}

/* Nobody waits for a worker whose listening connection is known to be down, so it shares no look-up either. */
static void test_listener_down_under_way(void **state) {
	struct key k, other;
	struct seen early;
	make_key(&k, "down, under way");
	make_key(&other, "the next");
	warm(0, k.text);
	terminate_listeners();
	revoke_unseen(&(struct key){.id = "00000000-0000-7000-8000-00000000dead"}, KEYS_SYNC_LEASE); /* the rows are gone */
	terminate_listeners();
	assert_non_null(start(0, k.text, &early));
	pg_fixture_exec(db, "select pg_sleep(0.1)");
	revoke_unseen(&k, KEYS_SYNC_CONFIRMED);
	asked_anew(&k);
	wait_for(&early);
	principal_unref(early.principal);
	warm(0, other.text);
	warm(1, other.text);
}

/* Nothing is cached while nobody listens, and what was is gone afterwards. The listening connection cannot come back before it may; the
 * others stay. */
static void test_listener_down(void **state) {
	struct key k;
	struct seen s;
	bool cached = true;
	make_key(&k, "before");
	warm(0, k.text);
	pg_fixture_exec(db, "alter role minutemail_apid nologin");
	terminate_listeners();
	for (int i = 0; i < 2000 && cached; i++) { /* until the connection is noticed gone */
		turns_us(1000);
		assert_int_equal(ask(0, k.text, &cached), AUTH_OK);
	}
	for (int i = 0; i < 5; i++) {
		assert_false(cached);
		assert_int_equal(ask(0, k.text, &cached), AUTH_OK);
	}
	/* changed while the notice cannot be heard */
	pg_fixture_exec(db, "update api_keys set name = 'after' where id = '%s'", k.id);
	pg_fixture_exec(db, "alter role minutemail_apid login");
	warm(0, k.text);
	assert_null(start(0, k.text, &s));
	assert_string_equal(s.principal->key_name, "after");
	principal_unref(s.principal);
}

/* A look-up that the server holds up, and a notice that overtakes it; the lease is proved. */
static void overtaken(struct key *k, const char *name, struct seen *early) {
	make_key(k, name);
	warm(0, k->text);
	notify_all();
	pg_fixture_exec(db, "begin");
	pg_fixture_exec(db, "lock table api_keys in access exclusive mode");
	assert_non_null(start(0, k->text, early));
	turns_us(20000);
	assert_false(early->done);
	notify_all();
}

/* Its answer does not enter the cache. */
static void test_overtaken_lookup(void **state) {
	struct key k;
	struct seen early;
	bool cached;
	overtaken(&k, "overtaken", &early);
	pg_fixture_exec(db, "rollback");
	wait_for(&early);
	assert_int_equal(early.verdict, AUTH_OK);
	principal_unref(early.principal);
	assert_int_equal(ask(0, k.text, &cached), AUTH_OK);
	assert_false(cached);
	assert_int_equal(ask(0, k.text, &cached), AUTH_OK);
	assert_true(cached);
}

/* Who asks after the notice has a look-up of its own, and that one is remembered. */
static void test_overtaken_not_joined(void **state) {
	struct key k;
	struct seen early, late;
	bool cached;
	overtaken(&k, "not joined", &early);
	assert_null(auth_cancel(start(0, k.text, &late)));
	pg_fixture_exec(db, "rollback");
	wait_for(&early);
	principal_unref(early.principal);
	turns_us(50000);
	assert_int_equal(ask(0, k.text, &cached), AUTH_OK);
	assert_true(cached);
}

static void test_verdicts(void **state) {
	static const struct {
		const char *sql, *undo;
		enum auth_verdict verdict;
	} rows[] = {
	    {"update api_keys set revoked_at = now()", "update api_keys set revoked_at = null", AUTH_REVOKED},
	    {"update api_keys set expires_at = now()", "update api_keys set expires_at = null", AUTH_EXPIRED},
	    {"update users set state = 'suspended'", "update users set state = 'active'", AUTH_SUSPENDED},
	    {"update accounts set state = 'suspended'", "update accounts set state = 'active'", AUTH_SUSPENDED},
	    {"select", "delete from api_keys", AUTH_OK},
	    {"select", "select", AUTH_UNKNOWN},
	};
	struct key k;
	bool cached;
	make_key(&k, "verdicts");
	for (size_t i = 0; i < array_len(rows); i++) {
		pg_fixture_exec(db, "%s", rows[i].sql);
		assert_int_equal(ask(0, k.text, &cached), rows[i].verdict);
		assert_false(cached); /* refusals are not remembered */
		pg_fixture_exec(db, "%s", rows[i].undo);
		notify_all();
	}
}

static void test_odd_notice(void **state) {
	struct key k;
	bool cached;
	make_key(&k, "odd notice");
	warm(0, k.text);
	pg_fixture_exec(db, "select pg_notify('minutemail_keys', 'what is this')");
	turns_us(50000);
	ask(0, k.text, &cached);
	assert_false(cached);
}

static void test_nobody_listens(void **state) {
	struct change c;
	workers_leave();
	workers_stop();
	turns_us(100000);
	change_start(&c, "delete from api_keys where false", NULL);
	change_join(&c);
	assert_int_equal(c.result, KEYS_SYNC_CONFIRMED);
	assert_true(c.took_us < KEYS_LEASE_US / 2);
	workers_start();
}

static void test_payload(void **state) {
	static const struct {
		const char *text;
		bool ok, all;
	} rows[] = {
	    {"0123456789abcdef *", true, true},
	    {"a 01890a5d-ac96-774b-bcce-b302099a8057", true, false},
	    {"", false, false},
	    {" *", false, false},
	    {"a", false, false},
	    {"a ", false, false},
	    {"a **", false, false},
	    {"a * ", false, false},
	    {"A *", false, false},
	    {"a'b *", false, false},
	    {"a 01890a5d-ac96-774b-bcce-b302099a805", false, false},
	    {"0123456789abcdef0123456789abcdef0 *", false, false},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		struct slice nonce;
		struct id key;
		bool all = !rows[i].all;
		assert_int_equal(keys_sync_parse(rows[i].text, &nonce, &all, &key), rows[i].ok);
		if (rows[i].ok)
			assert_int_equal(all, rows[i].all);
	}
}

/* ---- the rest ---- */

static void test_last_used(void **state) {
	struct key k;
	bool cached;
	make_key(&k, "used");
	assert_int_equal(ask(0, k.text, &cached), AUTH_OK);
	assert_int_equal(pg_fixture_int(db, "select count(last_used_at) from api_keys where id = '%s'", k.id), 0);
	turns_us(1200000);
	char *first = xstrdup(pg_fixture_value(db, "select last_used_at from api_keys where id = '%s'", k.id));
	assert_string_not_equal(first, "");
	assert_string_equal(pg_fixture_value(db, "select now() - last_used_at < '5s' from api_keys where id = '%s'", k.id),
	                    "t");
	assert_int_equal(ask(0, k.text, &cached), AUTH_OK);
	turns_us(1200000);
	assert_string_equal(pg_fixture_value(db, "select last_used_at from api_keys where id = '%s'", k.id), first);
	free(first);
}

static void test_freed_under_way(void **state) {
	struct key k;
	struct seen s;
	make_key(&k, "freed");
	assert_non_null(start(0, k.text, &s));
	workers_stop();
	turns_us(20000);
	assert_false(s.done);
	workers_start();
	warm(0, k.text);
}

static void test_database_away(void **state) {
	struct key k;
	bool cached;
	make_key(&k, "away");
	warm(0, k.text);
	pg_fixture_stop(db, true);
	turns_us(100000);
	assert_int_equal(ask(0, k.text, &cached), AUTH_UNAVAILABLE);
	assert_false(cached);
	pg_fixture_start(db);
	for (int i = 0; i < 500 && ask(0, k.text, &cached) != AUTH_OK; i++)
		turns_us(20000);
	warm(0, k.text);
}

/* ---- sessions, and changes made by a worker itself (auth_change.h) ---- */

struct session {
	char token[TOKEN_SIZE], id[ID_TEXT_SIZE];
};

static void make_session(struct session *s, const char *used, const char *ends) {
	uint8_t hash[TOKEN_HASH_LEN];
	char hex[2 * TOKEN_HASH_LEN + 1];
	struct id id;
	token_make(s->token);
	assert_true(token_hash(TOKEN_SESSION, slice_str(s->token), secret, hash));
	for (unsigned i = 0; i < sizeof(hash); i++)
		snprintf(hex + 2 * i, 3, "%02x", hash[i]);
	id_make(&id, 1795533314000000);
	id_format(&id, s->id);
	pg_fixture_exec(db,
	                "insert into sessions (id, user_id, hash, created_at, used_at, ends_at)"
	                " values ('%s', '" USER "', '\\x%s', now(), now() + interval '%s', now() + interval '%s')",
	                s->id, hex, used, ends);
}

static enum auth_verdict ask_session(unsigned worker, const char *token, bool *ret_cached, struct principal **ret) {
	struct seen s = {0};
	enum auth_verdict verdict = AUTH_UNAVAILABLE;
	struct principal *p = NULL;
	struct auth_op *op =
	    auth_start(auths[worker], (struct slice){NULL, 0}, slice_str(token), on_auth, &s, &verdict, &p);
	*ret_cached = op == NULL;
	if (op)
		wait_for(&s);
	else
		s = (struct seen){true, 0, verdict, p};
	*ret = s.principal;
	return s.verdict;
}

/* Until it is answered from the cache. */
static void warm_session(unsigned worker, const char *token) {
	bool cached = false;
	for (int i = 0; i < 2000 && !cached; i++) {
		struct principal *p = NULL;
		assert_int_equal(ask_session(worker, token, &cached, &p), AUTH_OK);
		principal_unref(p);
		turns_us(5000);
	}
	assert_true(cached);
}

static void test_session(void **state) {
	struct session s;
	struct principal *p = NULL;
	bool cached;
	make_session(&s, "0 seconds", "1 hour");
	assert_int_equal(ask_session(0, s.token, &cached, &p), AUTH_OK);
	assert_int_equal(p->kind, PRINCIPAL_SESSION);
	assert_true(p->account_owner);
	assert_string_equal(p->owner, "me@one.example");
	assert_int_equal(p->domain_count, 3); /* all that are verified, the platform's first */
	assert_string_equal(p->domains[0].name, "one.example");
	assert_string_equal(p->domains[2].name, "custom.example");
	assert_true(principal_has_scope(p, "team"));
	assert_true(p->expires_at <= clock_wall_us() + 1800 * INT64_C(1000000)); /* idle */
	principal_unref(p);
	warm_session(0, s.token);
}

static void test_no_session(void **state) {
	static const struct {
		const char *used, *ends;
	} rows[] = {{"-31 minutes", "1 hour"}, {"0 seconds", "-1 second"}};
	static const char *const bad[] = {"", "x", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"};
	struct principal *p = NULL;
	struct session s;
	bool cached;
	for (size_t i = 0; i < array_len(rows); i++) {
		make_session(&s, rows[i].used, rows[i].ends);
		assert_int_equal(ask_session(0, s.token, &cached, &p), AUTH_NO_SESSION);
	}
	for (size_t i = 0; i < array_len(bad); i++) {
		assert_int_equal(ask_session(0, bad[i], &cached, &p), AUTH_NO_SESSION);
		assert_int_equal(cached, i < 2); /* what cannot be one costs no look-up */
	}
}

/* Cached by one worker, used in another since: over in the cache is not over. */
static void test_session_used_elsewhere(void **state) {
	struct session s;
	struct principal *p = NULL;
	bool cached;
	make_session(&s, "-1796 seconds", "1 hour");
	warm_session(0, s.token);
	pg_fixture_exec(db, "update sessions set used_at = now() + interval '1 minute' where id = '%s'", s.id);
	turns_us(4200000);
	assert_int_equal(ask_session(0, s.token, &cached, &p), AUTH_OK);
	assert_false(cached);
	principal_unref(p);
}

static void on_changed(void *arg) {
	*(bool *)arg = true;
}

static void on_published(void *arg, const struct pg_result *result) {
	assert_int_equal(result->status, PG_OK);
	*(bool *)arg = true;
}

/* Ends the session, and waits as a handler would; how long it took. */
static int64_t end_session(const struct session *s, bool in_doubt) {
	char nonce[KEYS_NONCE_SIZE];
	bool published = false, changed = false;
	struct pg_params p;
	struct auth_change *change = auth_change_start(auth_changes(auths[0]), nonce);
	pg_fixture_exec(db, "delete from sessions where id = '%s'", s->id);
	pg_params_init(&p);
	pg_param_cstring(&p, nonce);
	pg_param_cstring(&p, s->id);
	pg_query(pg[0], &STMT_AUTH_PUBLISH, &p, on_published, &published);
	pg_params_fini(&p);
	for (int i = 0; i < 1000 && !published; i++)
		turns_us(5000);
	assert_true(published);
	int64_t t0 = clock_mono_us_now();
	auth_change_wait(change, in_doubt, on_changed, &changed);
	assert_false(changed); /* never inside the call */
	for (int i = 0; i < 2000 && !changed; i++)
		turns_us(1000);
	assert_true(changed);
	return clock_mono_us_now() - t0;
}

static void both_refuse(const struct session *s) {
	for (unsigned i = 0; i < 2; i++) {
		struct principal *p = NULL;
		bool cached;
		assert_int_equal(ask_session(i, s->token, &cached, &p), AUTH_NO_SESSION);
	}
}

static void make_warm(struct session *s) {
	make_session(s, "0 seconds", "1 hour");
	warm_session(0, s->token);
	warm_session(1, s->token);
}

static void test_change_confirmed(void **state) {
	int64_t least = INT64_MAX;
	for (int i = 0; i < 5; i++) {
		struct session s;
		make_warm(&s);
		least = min_of(least, end_session(&s, false));
		both_refuse(&s);
	}
	assert_true(least < KEYS_LEASE_US); /* one in five at the least did not wait for the lease, however busy we are */
}

static void test_change_in_doubt(void **state) {
	struct session s;
	make_warm(&s);
	assert_true(end_session(&s, true) >= KEYS_LEASE_US);
	both_refuse(&s);
}

/* Somebody holds the lock, so listens, and says nothing. */
static void test_change_unconfirmed(void **state) {
	PGconn *silent = PQconnectdb(pg_fixture_conninfo(db, NULL));
	char sql[80];
	struct session s;
	make_warm(&s);
	snprintf(sql, sizeof(sql), "select pg_advisory_lock_shared(%d, %d)", KEYS_LOCK_CLASS, KEYS_LOCK_KEY);
	PQclear(PQexec(silent, sql));
	assert_true(end_session(&s, false) >= KEYS_LEASE_US);
	both_refuse(&s);
	PQfinish(silent);
}

static void test_change_cancelled(void **state) {
	char nonce[KEYS_NONCE_SIZE], *payload;
	bool changed = false;
	struct auth_change *change = auth_change_start(auth_changes(auths[0]), nonce);
	auth_change_wait(change, false, on_changed, &changed);
	assert_null(auth_change_cancel(change));
	assert_null(auth_change_cancel(NULL));
	payload = xasprintf("1 %s", nonce);
	auth_changes_answered(auth_changes(auths[0]), payload);
	static const char *const odd[] = {"", "x", "-1 a", "1", "99999999999999999999 a", "1 "};
	for (size_t i = 0; i < array_len(odd); i++)
		auth_changes_answered(auth_changes(auths[0]), odd[i]);
	free(payload);
	turns_us(50000);
	assert_false(changed);
}

static void drop_line(void *arg, enum log_level level, const char *line, size_t n) {
	(void)arg;
	(void)level;
	(void)line;
	(void)n;
}

static int setup(void **state) {
	log_init("test", LOG_LEVEL_ERROR);
	log_set_sink(drop_line, NULL);
	for (uint8_t i = 0; i < sizeof(secret); i++)
		secret[i] = i;
	db = pg_fixture_new(NULL);
	pg_fixture_exec(db, "insert into accounts values ('" ACCOUNT "', 'a', 'team', 'active', now())");
	pg_fixture_exec(db, "insert into users values ('" USER "', '" ACCOUNT
	                    "', 'me@one.example', null, 'owner', 'active', now())");
	pg_fixture_exec(db, "insert into domains values ('" PLATFORM_1 "', null, 'one.example', 'verified', null, now()),"
	                    " ('" PLATFORM_2 "', null, 'two.example', 'verified', null, now()),"
	                    " ('" CUSTOM "', '" ACCOUNT "', 'custom.example', 'verified', null, now()),"
	                    " ('" PENDING "', '" ACCOUNT "', 'pending.example', 'pending', null, now())");
	conninfo = xstrdup(pg_fixture_conninfo(db, "minutemail_apid"));
	loop = loop_new();
	workers_start();
	return 0;
}

static int teardown(void **state) {
	workers_stop();
	loop_free(loop);
	free(conninfo);
	pg_fixture_free(db);
	return 0;
}

int main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_header),
	    cmocka_unit_test(test_principal),
	    cmocka_unit_test(test_no_limit_no_domain),
	    cmocka_unit_test(test_cached),
	    cmocka_unit_test(test_shared_lookup),
	    cmocka_unit_test(test_expires_in_cache),
	    cmocka_unit_test(test_cache_bound),
	    cmocka_unit_test(test_revoke_one),
	    cmocka_unit_test(test_revoke_all),
	    cmocka_unit_test(test_silent_worker),
	    cmocka_unit_test(test_silent_worker_under_way),
	    cmocka_unit_test(test_listener_down),
	    cmocka_unit_test(test_listener_lost_unnoticed),
	    cmocka_unit_test(test_listener_down_under_way),
	    cmocka_unit_test(test_overtaken_lookup),
	    cmocka_unit_test(test_overtaken_not_joined),
	    cmocka_unit_test(test_odd_notice),
	    cmocka_unit_test(test_nobody_listens),
	    cmocka_unit_test(test_payload),
	    cmocka_unit_test(test_last_used),
	    cmocka_unit_test(test_session),
	    cmocka_unit_test(test_no_session),
	    cmocka_unit_test(test_session_used_elsewhere),
	    cmocka_unit_test(test_change_confirmed),
	    cmocka_unit_test(test_change_in_doubt),
	    cmocka_unit_test(test_change_unconfirmed),
	    cmocka_unit_test(test_change_cancelled),
	    cmocka_unit_test(test_freed_under_way),
	    cmocka_unit_test(test_database_away),
	    cmocka_unit_test(test_verdicts),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
