/* One smtpd worker: builds its services in order, accepts, drains, tears down in reverse. */
#include "smtpd/server.h"

#include "common/clock.h"
#include "common/config.h"
#include "common/daemon.h"
#include "common/listener.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/pg.h"
#include "common/process.h"
#include "common/schema.h"
#include "common/tls_keys.h"
#include "smtpd/accept.h"
#include "smtpd/conn.h"
#include "smtpd/mail_auth.h"
#include "smtpd/parser.h"
#include "smtpd/recipient.h"
#include "smtpd/smtpd_metrics.h"
#include "smtpd/spool.h"
#include "smtpd/store.h"
#include "smtpd_stmts.h"

#define CONNECT_DEADLINE_US 5000000
#define PATIENCE_US 3000000 /* without a database we accept all the same, and say 451 */
#define TICK_US 1000000
/* Under stress one error ends a session, as does the second empty command beside the EHLO before and the one after STARTTLS. */
#define STRESS_ERRORS 1
#define STRESS_JUNK 4
#define QUERY_DEADLINE_US 10000000 /* any dependency down is a 4xx within 10 s */

static void on_accept(void *arg, int fd, const struct sockaddr_storage *peer, socklen_t peer_len) {
	(void)peer_len;
	accept_connection(arg, fd, peer);
}

static void set_paused(struct server *s, bool paused) {
	s->paused = paused;
	for (unsigned i = 0; i < s->listener_count; i++)
		listener_set_paused(s->listeners[i].accept, paused);
}

/* Sessions and what is being found out about their mail. */
static void stop_if_drained(void *arg) {
	struct server *s = arg;
	if (s->draining && s->conn_count == 0 && (!s->auth.checks || mail_auth_idle(s->auth.checks)))
		loop_stop(s->loop);
}

void server_place_taken(struct server *s) {
	if (++s->conn_count >= (unsigned)s->config->connections_max && !s->paused)
		set_paused(s, true);
}

void server_place_left(struct server *s) {
	s->conn_count--;
	if (s->draining)
		stop_if_drained(s);
	else if (s->paused && s->conn_count < (unsigned)s->config->connections_max)
		set_paused(s, false);
}

void server_conn_opened(struct server *s, struct list *link) {
	list_append(&s->conns, link);
	server_place_taken(s);
}

void server_conn_closed(struct server *s, struct list *link) {
	list_unlink(link);
	server_place_left(s);
}

/* ---- stress, and the database ---- */

static unsigned least(int64_t configured, unsigned stressed) {
	return configured ? min_of((unsigned)configured, stressed) : stressed;
}

static void set_stress(struct server *s) {
	const struct smtpd_config *config = s->config;
	bool on = s->stress.on;
	struct log_line line;
	log_begin(&line, LOG_LEVEL_WARNING, on ? "stress begins" : "stress is over");
	log_int(&line, "sessions", s->conn_count);
	log_int(&line, "commit_ms", s->stress.commit_us / 1000);
	log_end(&line);
	metrics_set(s->metrics, SMTPD_STRESS, on);
	for (unsigned i = 0; i < s->listener_count; i++) {
		struct session_options *o = &s->listeners[i].session;
		o->errors_max = on ? least(config->errors_max, STRESS_ERRORS) : (unsigned)config->errors_max;
		o->junk_max = on ? least(config->junk_max, STRESS_JUNK) : (unsigned)config->junk_max;
	}
	if (on)
		list_for_each_safe(link, &s->conns)
			conn_hurry(link);
}

/* What is not counted where it happens. */
static void sample(struct server *s) {
	struct pg_stats a = pg_stats(s->pg_lookup), b = pg_stats(s->pg_store);
	metrics_set(s->metrics, SMTPD_DATABASE_UP, a.up + b.up);
	metrics_set(s->metrics, SMTPD_DATABASE_WAITING, a.waiting + b.waiting);
	metrics_add(s->metrics, SMTPD_DATABASE_CONNECTS, (int64_t)(a.connects + b.connects - s->connects));
	metrics_set(s->metrics, SMTPD_PAUSED, s->paused);
	s->connects = a.connects + b.connects;
}

static void on_tick(void *arg) {
	struct server *s = arg;
	const struct stress_lines lines = {.sessions = s->config->stress_sessions, .commit_us = s->config->stress_commit};
	const struct stress_load load = {
		.sessions = s->conn_count,
		.sessions_max = (unsigned)s->config->connections_max,
		.all_sessions = metrics_sum(s->metrics, SMTPD_SESSIONS),
		.all_sessions_max = s->config->connections_max * metrics_workers(s->metrics),
		.commits = metrics_sum(s->metrics, SMTPD_STORE_TIME),
		.commits_us = metrics_total(s->metrics, SMTPD_STORE_TIME),
	};
	int64_t now = clock_mono_us();
	if (pg_up(s->pg_lookup) && pg_up(s->pg_store))
		s->database_away_us = 0;
	else if (!s->database_away_us)
		s->database_away_us = now;
	if (stress_update(&s->stress, &lines, &load, now))
		set_stress(s);
	sample(s);
	timer_arm(&s->tick, TICK_US);
}

bool server_database_away(const struct server *s) {
	return s->database_away_us && clock_mono_us() - s->database_away_us > QUERY_DEADLINE_US;
}

static void on_parser_restart(void *arg) {
	struct server *s = arg;
	metrics_add(s->metrics, SMTPD_PARSER_RESTARTS, 1);
}

/* Without a zygote every message would be stored unparsed: end, so that the master starts a whole worker. */
static void on_parser_lost(void *arg) {
	log_msg(LOG_LEVEL_ERROR, "parser lost", "this worker drains and ends");
	server_drain(arg);
}

/* In the zygote: no parser shall know how the database is reached. */
static void forget_secrets(void *arg) {
	struct server *s = arg;
	explicit_bzero(s->config->database, strlen(s->config->database));
	config_forget(NULL);
}

/* Every statement of ours has one good plan, whatever arrays it is given. The server would make one for each short array anew, since
 * it reckons the kept one with ten elements. */
#define KEEP_PLANS "set plan_cache_mode = force_generic_plan"

struct pg *server_open_pg(struct server *s, unsigned connections, enum server_pg kind) {
	static const char *const greetings[][3] = {
		[SERVER_PG_LOOKUPS] = {KEEP_PLANS},
		[SERVER_PG_TRANSACTIONS] = {KEEP_PLANS},
		[SERVER_PG_RESULTS] = {KEEP_PLANS, "set synchronous_commit = off"}, /* results can be lost, mail cannot */
	};
	const struct pg_options options = {
		.conninfo = s->config->database,
		.application_name = "minutemail-smtpd",
		.stmts = SMTPD_STMTS,
		.connections = connections,
		.transactions_only = kind == SERVER_PG_TRANSACTIONS,
		.depth = 256,
		.queue = 8192,
		.query_deadline_us = kind == SERVER_PG_TRANSACTIONS ? s->config->store_deadline : QUERY_DEADLINE_US,
		.connect_deadline_us = CONNECT_DEADLINE_US,
		.timeline = s->config->timeline,
		.schema_version = SCHEMA_VERSION,
	};
	struct pg *pg = pg_new(s->loop, &options);
	pg_set_greeting(pg, greetings[kind]);
	return pg;
}

static struct session_options session_options_for(const struct smtpd_config *config, const struct listen_settings *settings) {
	return (struct session_options){
		.hostname = config->name,
		.size_max = (uint64_t)(settings->message_size_max ? settings->message_size_max : config->message_size_max),
		.recipients_max = (unsigned)config->recipients_max,
		.transactions_max = (unsigned)config->messages_max,
		.errors_max = (unsigned)config->errors_max,
		.errors_slow = (unsigned)config->errors_slow,
		.junk_max = (unsigned)config->junk_max,
		.bad_recipients_max = (unsigned)config->bad_recipients_max,
		.starttls = settings->starttls && !settings->tls && smtpd_wants_tls(config),
		.require_tls = settings->require_tls,
		.chunking = true,
		.reject_bare_newline = settings->bare_newline_reject,
		.strict_syntax = config->strict_syntax,
		.null_sender_single = config->null_sender_single,
	};
}

static void make_shortage_text(struct server *s) {
	struct buf text;
	buf_init(&text, REPLY_LINE_MAX);
	reply_append(&text, REPLY_OVERLOAD, s->config->name, strlen(s->config->name));
	memcpy(s->shortage_text, text.data, min_of(text.len, sizeof(s->shortage_text) - 1));
	buf_fini(&text);
}

static void start_accepting(struct server *s) {
	if (s->open || s->draining)
		return;
	s->open = true;
	timer_disarm(&s->patience);
	s->listeners = xcalloc(s->socket_count, sizeof(*s->listeners));
	s->listener_count = s->socket_count;
	for (unsigned i = 0; i < s->socket_count; i++) {
		struct smtpd_listener *l = &s->listeners[i];
		l->server = s;
		l->settings = &s->config->listeners[s->sockets[i].address];
		l->session = session_options_for(s->config, l->settings);
		l->accept = listener_new(s->loop, s->sockets[i].fd, on_accept, l);
		listener_set_refusal(l->accept, accept_shortage_text(l));
	}
	process_ready();
}

static void on_patience(void *arg) {
	start_accepting(arg);
}

static void on_database(void *arg, bool up) {
	struct server *s = arg;
	(void)up;
	if (s->open)
		return;
	if (pg_up(s->pg_lookup) && pg_up(s->pg_store))
		start_accepting(s);
	else if (pg_other_schema(s->pg_lookup))
		process_failed();
}

void server_look_at_tls(struct server *s) {
	bool broken = !tls_usable(s->tls);
	for (unsigned i = 0; i < s->listener_count; i++)
		s->listeners[i].session.starttls_broken = broken && s->listeners[i].session.starttls;
}

int server_start(struct server *s, struct loop *loop, const struct smtpd_config *config, struct metrics *metrics, struct clients *clients,
                 struct tls *tls, const struct daemon_socket *sockets, unsigned socket_count) {
	*s = (struct server){
		.loop = loop, .config = config, .metrics = metrics, .clients = clients, .tls = tls, .sockets = sockets, .socket_count = socket_count};
	s->stress.commits_seen = metrics_sum(metrics, SMTPD_STORE_TIME); /* of what was before us we know nothing */
	s->stress.commits_us_seen = metrics_total(metrics, SMTPD_STORE_TIME);
	spool_bound_memory((size_t)config->spool_memory_max);
	list_init(&s->conns);
	accept_init(s);
	timer_init(&s->patience, loop, on_patience, s);
	make_shortage_text(s);
	/* The parser's zygote is forked first, while this process holds nothing it should not have. */
	const struct parser_options parser_options = {
		.deadline_us = config->parse_deadline,
		.memory_max = config->parse_memory_max,
		.source_max = (uint64_t)config->parse_size_max,
		.on_restart = on_parser_restart,
		.on_lost = on_parser_lost,
		.forget = forget_secrets,
		.arg = s,
	};
	s->parser = parser_new(loop, &parser_options);
	if (!s->parser)
		return -EAGAIN;
	s->pg_lookup = server_open_pg(s, 1, SERVER_PG_LOOKUPS);
	s->pg_store = server_open_pg(s, (unsigned)config->store_connections, SERVER_PG_TRANSACTIONS);
	s->recipients = recipients_new(loop, s->pg_lookup);
	const struct store_options store_options = {
		.metrics = s->metrics,
		.connections = (unsigned)config->store_connections,
		.batch_messages = 64,
		.batch_octets = 1024 * 1024,
		.deadline_us = config->store_deadline,
	};
	s->store = store_new(loop, s->pg_store, &store_options);
	int r = server_auth_start(s);
	if (r < 0)
		return r;
	pg_on_state(s->pg_lookup, on_database, s);
	pg_on_state(s->pg_store, on_database, s);
	timer_arm(&s->patience, PATIENCE_US);
	timer_init(&s->tick, loop, on_tick, s);
	timer_arm(&s->tick, TICK_US);
	return PROCESS_LATER;
}

static void stop_accepting(struct server *s) {
	timer_disarm(&s->tick);
	for (unsigned i = 0; i < s->listener_count; i++)
		s->listeners[i].accept = listener_free(s->listeners[i].accept);
}

void server_drain(struct server *s) {
	s->draining = true;
	stop_accepting(s);
	arrivals_cancel(&s->arrivals);
	if (s->auth.checks)
		mail_auth_on_idle(s->auth.checks, stop_if_drained, s);
	list_for_each_safe(link, &s->conns)
		conn_drain(link);
	stop_if_drained(s);
}

void server_stop(struct server *s) {
	stop_accepting(s);
	timer_fini(&s->tick);
	arrivals_cancel(&s->arrivals);
	list_for_each_safe(link, &s->conns)
		conn_kill(link);
	free(s->listeners);
	server_auth_stop(s);
	s->store = store_free(s->store);
	s->recipients = recipients_free(s->recipients);
	s->pg_store = pg_free(s->pg_store);
	s->pg_lookup = pg_free(s->pg_lookup);
	timer_fini(&s->patience);
	s->parser = parser_free(s->parser);
}
