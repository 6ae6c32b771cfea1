/* The listening connection.
 *
 *  DOWN -greeting done-> UP, unproved -heartbeat back-> valid -lease over-> UP, unproved ...   any -link lost-> DOWN
 *
 * A heartbeat's time is that of its start: PostgreSQL delivers the notices of every commit before it before the
 * answer, so an answer proves that nothing older than its question is outstanding. No heartbeat is sent while nobody
 * asks for the cache: an idle worker costs the database nothing. */
#include "apid/auth_listen.h"

#include "auth_stmts.h"
#include "common/clock.h"
#include "common/keys_sync.h"
#include "common/log.h"
#include "common/pg.h"
#include "common/schema.h"

#define STRING_(x) #x
#define STRING(x) STRING_(x)
#define NEVER INT64_MIN

struct auth_listen {
	struct pg *pg;
	auth_listen_forget *forget;
	auth_listen_answer *answer;
	void *arg;
	bool up;
	int64_t proved; /* when the last round trip that came back began; NEVER */
	int64_t asked;  /* when the one under way began */
	struct pg_op *heartbeat;
	void (*left)(void *arg); /* auth_listen_leave()'s; NULL: still here */
	void *left_arg;
};

/* LISTEN before the lock: whoever holds the lock is listening. The row after it: one without the lock is of somebody who is gone, and
 * may be deleted. None of this waits for a standby: who takes over from this server has whatever it has reported done, and with that the
 * rows of before; without a standby the cache is of use still, and no attempt leaves a session behind that waits for one. */
static const char *const GREETING[] = {
    "set synchronous_commit = local",
    "listen " KEYS_ACK_CHANNEL,
    "listen " KEYS_CHANNEL,
    "select pg_advisory_lock_shared(" STRING(KEYS_LOCK_CLASS) ", " STRING(KEYS_LOCK_KEY) ")",
    "insert into key_listeners (pid) values (pg_backend_pid()) on conflict do nothing",
    NULL,
};

static void on_heartbeat(void *arg, const struct pg_result *result) {
	struct auth_listen *l = arg;
	l->heartbeat = NULL;
	if (result->status == PG_OK)
		l->proved = l->asked;
}

static void ask(struct auth_listen *l) {
	struct pg_params none;
	if (l->heartbeat)
		return;
	l->asked = clock_mono_us();
	pg_params_init(&none);
	l->heartbeat = pg_query(l->pg, &STMT_AUTH_HEARTBEAT, &none, on_heartbeat, l);
	pg_params_fini(&none);
}

static void on_state(void *arg, bool up) {
	struct auth_listen *l = arg;
	l->up = up && !l->left;
	l->proved = NEVER;
	l->heartbeat = pg_op_cancel(l->heartbeat);
	l->forget(l->arg, NULL);
	if (l->up)
		ask(l);
}

static void on_confirmed(void *arg, const struct pg_result *result) {
	if (result->status != PG_OK)
		log_msg(LOG_LEVEL_WARNING, "key notice not confirmed", "%s",
		        result->message ? result->message : "connection lost");
}

static void on_notify(void *arg, const char *channel, const char *payload) {
	struct auth_listen *l = arg;
	struct pg_params params;
	struct slice nonce;
	struct id key;
	bool all;
	if (strcmp(channel, KEYS_ACK_CHANNEL) == 0)
		l->answer(l->arg, payload);
	if (strcmp(channel, KEYS_CHANNEL) != 0)
		return;
	if (!keys_sync_parse(payload, &nonce, &all, &key)) {
		log_msg(LOG_LEVEL_WARNING, "odd key notice", "all keys are read again");
		l->forget(l->arg, NULL);
		return;
	}
	l->forget(l->arg, all ? NULL : &key);
	pg_params_init(&params);
	pg_param_text(&params, nonce.p, nonce.n);
	pg_query(l->pg, &STMT_AUTH_CONFIRM, &params, on_confirmed, NULL);
	pg_params_fini(&params);
}

struct auth_listen *auth_listen_new(struct loop *loop, const char *conninfo, _Atomic uint32_t *timeline,
                                    auth_listen_forget *forget, auth_listen_answer *answer, void *arg) {
	struct auth_listen *l = xcalloc(1, sizeof(*l));
	const struct pg_options options = {
	    .conninfo = conninfo,
	    .application_name = "apid keys",
	    .stmts = AUTH_STMTS,
	    .connections = 1,
	    .query_deadline_us = 5 * KEYS_LEASE_US,
	    .connect_deadline_us = 5 * KEYS_LEASE_US,
	    .timeline = timeline,
	    .schema_version = SCHEMA_VERSION,
	};
	l->forget = forget;
	l->answer = answer;
	l->arg = arg;
	l->proved = NEVER;
	l->pg = pg_new(loop, &options);
	pg_set_greeting(l->pg, GREETING);
	pg_on_state(l->pg, on_state, l);
	pg_on_notify(l->pg, on_notify, l);
	return l;
}

struct auth_listen *auth_listen_free(struct auth_listen *l) {
	if (!l)
		return NULL;
	pg_free(l->pg);
	free(l);
	return NULL;
}

static void on_left(void *arg, const struct pg_result *result) {
	struct auth_listen *l = arg;
	if (result->status != PG_OK)
		log_msg(LOG_LEVEL_WARNING, "key listener's row left behind", "the next change to a key waits for its lease");
	l->left(l->left_arg);
}

void auth_listen_leave(struct auth_listen *l, void (*done)(void *arg), void *arg) {
	struct pg_params none;
	bool was_up = l->up;
	l->left = done;
	l->left_arg = arg;
	l->up = false;
	l->forget(l->arg, NULL);
	if (!was_up) {
		done(arg);
		return;
	}
	pg_params_init(&none);
	pg_query(l->pg, &STMT_AUTH_LEAVE, &none, on_left, l);
	pg_params_fini(&none);
}

bool auth_listen_up(const struct auth_listen *l) {
	return l->up;
}

bool auth_listen_valid(struct auth_listen *l) {
	if (!l->up)
		return false;
	/* Not the turn's: a worker that is stopped within a turn and goes on after the lease must not take that time for now. */
	int64_t now = clock_mono_us_now();
	if (l->proved == NEVER || now - l->proved > KEYS_LEASE_US / 2)
		ask(l);
	return l->proved != NEVER && now - l->proved < KEYS_LEASE_US;
}
