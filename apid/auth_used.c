/* Which keys were used, until it is written down.
 *
 * Invariants: a key is there at most once; `waiting` ones are in the list as well; count <= MOST, past which new
 * keys go unnoted until old ones are a minute old. What is freed has been sent, but for uses of a minute at the most. */
#include "apid/auth_used.h"

#include "common/clock.h"
#include "common/list.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/pg.h"

#define GATHER_US 1000000 /* from the first note to its statement */
#define BATCH 1000u
#define MOST 8192u
#define CHAINS 1024

struct used {
	struct used *next; /* in its chain */
	struct list waiting;
	struct id key;
	int64_t noted; /* monotonic: when it was last put in the list */
	int64_t at;    /* wall: the last use */
	int64_t sent;  /* the one that was last sent to the database */
};

struct auth_used {
	struct pg *pg;
	const struct pg_stmt *stmt, *last;
	struct pg_op *op;
	struct timer timer;
	struct list waiting;
	struct used *chains[CHAINS];
	unsigned count;
	void (*closed)(void *arg);
	void *closed_arg;
};

static void on_written(void *arg, const struct pg_result *result);

static void arm(struct auth_used *u) {
	if (!u->op && !list_empty(&u->waiting) && !timer_armed(&u->timer))
		timer_arm(&u->timer, GATHER_US);
}

static void flush(struct auth_used *u) {
	struct pg_params params;
	unsigned n = 0;
	list_for_each (l, &u->waiting)
		n++;
	n = min_of(n, BATCH);
	if (n == 0)
		return;
	pg_params_init(&params);
	pg_param_array(&params, PG_UUID, n);
	struct list *l = u->waiting.next;
	for (unsigned i = 0; i < n; i++, l = l->next)
		pg_elem_uuid(&params, &list_entry(l, struct used, waiting)->key);
	pg_param_array(&params, PG_TIMESTAMPTZ, n);
	for (unsigned i = 0; i < n; i++) {
		struct used *e = list_entry(list_first(&u->waiting), struct used, waiting);
		pg_elem_time(&params, e->at);
		e->sent = e->at;
		list_unlink(&e->waiting);
	}
	u->op = pg_query(u->pg, u->closed ? u->last : u->stmt, &params, on_written, u);
	pg_params_fini(&params);
}

static void give_up(struct auth_used *u) {
	struct list *l;
	log_msg(LOG_LEVEL_WARNING, "last use not written", "%s: the database is away and the worker ends", u->stmt->name);
	while ((l = list_first(&u->waiting)))
		list_unlink(l);
}

static void go_on(struct auth_used *u) {
	if (!u->closed) {
		arm(u);
		return;
	}
	if (!list_empty(&u->waiting)) {
		flush(u);
		return;
	}
	void (*closed)(void *arg) = u->closed;
	u->closed = NULL;
	closed(u->closed_arg);
}

static void on_timer(void *arg) {
	struct auth_used *u = arg;
	if (u->closed && !list_empty(&u->waiting) && !pg_up(u->pg))
		give_up(u);
	if (u->closed)
		go_on(u);
	else
		flush(u);
}

static void on_written(void *arg, const struct pg_result *result) {
	struct auth_used *u = arg;
	u->op = NULL;
	if (result->status == PG_ERROR)
		log_msg(LOG_LEVEL_WARNING, "last use not written", "%s: %s", u->stmt->name, result->message);
	if (u->closed && result->status != PG_OK)
		give_up(u);
	go_on(u);
}

struct auth_used *auth_used_new(struct loop *loop, struct pg *pg, const struct pg_stmt *stmt, const struct pg_stmt *last) {
	struct auth_used *u = xcalloc(1, sizeof(*u));
	u->pg = pg;
	u->stmt = stmt;
	u->last = last;
	list_init(&u->waiting);
	timer_init(&u->timer, loop, on_timer, u);
	return u;
}

/* Frees what is a minute old and written, or (all) everything. */
static void clear(struct auth_used *u, bool all) {
	int64_t now = clock_mono_us();
	for (unsigned i = 0; i < CHAINS; i++) {
		for (struct used **at = &u->chains[i]; *at;) {
			struct used *e = *at;
			if (!all && (list_linked(&e->waiting) || now - e->noted < MINUTE_US)) {
				at = &e->next;
				continue;
			}
			*at = e->next;
			list_unlink(&e->waiting);
			free(e);
			u->count--;
		}
	}
}

struct auth_used *auth_used_free(struct auth_used *u) {
	if (!u)
		return NULL;
	pg_op_cancel(u->op);
	timer_fini(&u->timer);
	clear(u, true);
	free(u);
	return NULL;
}

static struct used *find_or_add(struct auth_used *u, const struct id *key) {
	/* The last octets of an id are random (common/id.h). */
	struct used **chain = &u->chains[(key->b[14] << 8 | key->b[15]) % CHAINS];
	for (struct used *e = *chain; e; e = e->next) {
		if (id_equal(&e->key, key))
			return e;
	}
	if (u->count >= MOST)
		clear(u, false);
	if (u->count >= MOST)
		return NULL;
	struct used *e = xcalloc(1, sizeof(*e));
	e->key = *key;
	e->noted = clock_mono_us() - MINUTE_US;
	e->next = *chain;
	*chain = e;
	u->count++;
	return e;
}

void auth_used_note(struct auth_used *u, const struct id *key) {
	struct used *e = find_or_add(u, key);
	if (!e)
		return;
	int64_t now = clock_mono_us();
	e->at = clock_wall_us();
	if (!list_linked(&e->waiting) && now - e->noted >= MINUTE_US) {
		e->noted = now;
		list_append(&u->waiting, &e->waiting);
		arm(u);
	}
}

/* Also what was used since it was last sent, less than a minute ago. */
void auth_used_close(struct auth_used *u, void (*done)(void *arg), void *arg) {
	u->closed = done;
	u->closed_arg = arg;
	for (unsigned i = 0; i < CHAINS; i++) {
		for (struct used *e = u->chains[i]; e; e = e->next) {
			if (!list_linked(&e->waiting) && e->at > e->sent)
				list_append(&u->waiting, &e->waiting);
		}
	}
	if (!u->op)
		timer_arm(&u->timer, 1);
}
