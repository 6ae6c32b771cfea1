/*  STARTED -committed-> ASKING -listeners known-> AWAITED -all have answered-> done
 *                          |                         |     -lease over-> done
 *                          +-- cannot be asked: the lease alone
 *
 * An answer may come before it is known who has to answer, so all are kept. */
#include "apid/auth_change.h"

#include "auth_stmts.h"
#include "common/list.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/pg.h"

#include <sodium.h>

#define ANSWERS_MOST 65536

struct auth_changes {
	struct loop *loop;
	struct pg *pg;
	struct list changes;
};

struct auth_change {
	struct list link;
	struct auth_changes *all;
	char nonce[KEYS_NONCE_SIZE];
	struct pg_op *op; /* who listens? */
	struct timer lease;
	void (*done)(void *arg); /* NULL: not committed yet */
	void *arg;
	bool known; /* `listeners` is set */
	int32_t *answers, *listeners, *gone; /* gone: those of `listeners` that nobody will hear of */
	unsigned answer_count, answer_room, listener_count, gone_count;
};

struct auth_changes *auth_changes_new(struct loop *loop, struct pg *pg) {
	struct auth_changes *a = xcalloc(1, sizeof(*a));
	a->loop = loop;
	a->pg = pg;
	list_init(&a->changes);
	return a;
}

struct auth_changes *auth_changes_free(struct auth_changes *a) {
	struct list *e;
	if (!a)
		return NULL;
	while ((e = list_first(&a->changes)))
		auth_change_cancel(list_entry(e, struct auth_change, link));
	free(a);
	return NULL;
}

struct auth_change *auth_change_cancel(struct auth_change *c) {
	if (!c)
		return NULL;
	list_unlink(&c->link);
	pg_op_cancel(c->op);
	timer_fini(&c->lease);
	free(c->answers);
	free(c->listeners);
	free(c->gone);
	free(c);
	return NULL;
}

static void finish(struct auth_change *c) {
	void (*done)(void *arg) = c->done;
	void *arg = c->arg;
	auth_change_cancel(c);
	done(arg);
}

static bool has_answered(const struct auth_change *c, int32_t pid) {
	for (unsigned i = 0; i < c->answer_count; i++) {
		if (c->answers[i] == pid)
			return true;
	}
	return false;
}

static bool all_have(const struct auth_change *c) {
	for (unsigned i = 0; i < c->listener_count; i++) {
		if (!has_answered(c, c->listeners[i]))
			return false;
	}
	return true;
}

static void on_forgotten(void *arg, const struct pg_result *result) {
	(void)arg;
	if (result->status != PG_OK)
		log_msg(LOG_LEVEL_WARNING, "key listeners that are gone", "not deleted: the next change to a key waits for them, too");
}

static void param_lock(struct pg_params *p) {
	pg_params_init(p);
	pg_param_int4(p, KEYS_LOCK_CLASS);
	pg_param_int4(p, KEYS_LOCK_KEY);
}

/* Whoever was gone when we looked has nothing any more that it may use. */
static void forget_gone(struct auth_change *c) {
	struct pg_params params;
	if (c->gone_count == 0)
		return;
	param_lock(&params);
	pg_param_array(&params, PG_INT4, c->gone_count);
	for (unsigned i = 0; i < c->gone_count; i++)
		pg_elem_int(&params, PG_INT4, c->gone[i]);
	pg_query(c->all->pg, &STMT_AUTH_LISTENERS_FORGET, &params, on_forgotten, NULL);
	pg_params_fini(&params);
}

static void on_lease(void *arg) {
	struct auth_change *c = arg;
	forget_gone(c);
	if (c->known)
		log_msg(LOG_LEVEL_WARNING, "key notice not confirmed by all", "waited until their caches were out of use");
	finish(c);
}

static void on_listeners(void *arg, const struct pg_result *result) {
	struct auth_change *c = arg;
	c->op = NULL;
	if (result->status != PG_OK)
		return;
	c->known = true;
	c->listener_count = pg_rows_count(result->rows);
	c->listeners = xcalloc(c->listener_count + 1, sizeof(*c->listeners));
	c->gone = xcalloc(c->listener_count + 1, sizeof(*c->gone));
	for (unsigned i = 0; i < c->listener_count; i++) {
		c->listeners[i] = (int32_t)pg_int(result->rows, i, 0);
		if (pg_bool(result->rows, i, 1))
			c->gone[c->gone_count++] = c->listeners[i];
	}
	if (c->gone_count > 0) /* the lease of these begins where they were seen to be gone */
		timer_arm(&c->lease, KEYS_LEASE_US + KEYS_MARGIN_US);
	else if (all_have(c))
		finish(c);
}

static void note_answer(struct auth_change *c, int32_t pid) {
	if (c->answer_count == c->answer_room) {
		if (c->answer_room >= ANSWERS_MOST)
			return;
		c->answer_room = max_of(2 * c->answer_room, 16u);
		c->answers = xrealloc(c->answers, c->answer_room * sizeof(*c->answers));
	}
	c->answers[c->answer_count++] = pid;
	if (c->known && c->gone_count == 0 && all_have(c))
		finish(c);
}

void auth_changes_answered(struct auth_changes *a, const char *payload) {
	char *end;
	long pid = strtol(payload, &end, 10);
	if (pid <= 0 || pid > INT32_MAX || *end != ' ')
		return;
	list_for_each (e, &a->changes) {
		struct auth_change *c = list_entry(e, struct auth_change, link);
		if (strcmp(end + 1, c->nonce) == 0) {
			note_answer(c, (int32_t)pid);
			return;
		}
	}
}

struct auth_change *auth_change_start(struct auth_changes *a, char ret_nonce[KEYS_NONCE_SIZE]) {
	struct auth_change *c = xcalloc(1, sizeof(*c));
	uint8_t octets[(KEYS_NONCE_SIZE - 1) / 2];
	randombytes_buf(octets, sizeof(octets));
	sodium_bin2hex(c->nonce, sizeof(c->nonce), octets, sizeof(octets));
	memcpy(ret_nonce, c->nonce, sizeof(c->nonce));
	c->all = a;
	timer_init(&c->lease, a->loop, on_lease, c);
	list_append(&a->changes, &c->link);
	return c;
}

void auth_change_wait(struct auth_change *c, bool in_doubt, void (*done)(void *arg), void *arg) {
	struct pg_params params;
	c->done = done;
	c->arg = arg;
	timer_arm(&c->lease, KEYS_LEASE_US + KEYS_MARGIN_US);
	if (in_doubt)
		return;
	param_lock(&params);
	c->op = pg_query(c->all->pg, &STMT_AUTH_LISTENERS, &params, on_listeners, c);
	pg_params_fini(&params);
}
