/* One apid worker: builds its services in order, accepts, drains, tears down in reverse. */
#include "apid/server.h"

#include "apid/apid_metrics.h"
#include "apid/audit.h"
#include "apid/auth.h"
#include "apid/domain_check.h"
#include "apid/http_conn.h"
#include "apid/janitor.h"
#include "apid/passwords.h"
#include "apid/quota.h"
#include "apid/router.h"
#include "apid_stmts.h"
#include "audit_stmts.h"
#include "auth_stmts.h"
#include "common/daemon.h"
#include "common/dns.h"
#include "common/listener.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/pg.h"
#include "common/process.h"
#include "common/schema.h"
#include "domains_stmts.h"
#include "keys_stmts.h"
#include "people_stmts.h"
#include "quota_stmts.h"

#define CONNECT_DEADLINE_US 5000000
#define PATIENCE_US 3000000 /* without a database we accept all the same, and say 503 */
#define QUERY_DEADLINE_US 10000000
#define DOMAIN_CHECK_PAUSE_US 60000000
#define TICK_US 1000000

static void on_accept(void *arg, int fd, const struct sockaddr_storage *peer, socklen_t peer_len) {
	const struct apid_listener *l = arg;
	arrivals_add(&l->server->arrivals, fd, peer, &l->settings->proxy, arg);
}

static void on_come(void *listener, int fd, const struct proxy_client *client) {
	const struct apid_listener *l = listener;
	http_server_accept(l->server->http, fd, l->settings, &client->address);
}

static void on_refused(void *arg) {
	apid_count(((struct server *)arg)->api.metrics, APID_CONNECTIONS_REFUSED_PROXY, 1);
}

static void on_place_taken(void *arg) {
	http_server_place_taken(((struct server *)arg)->http);
}

static void on_place_left(void *arg) {
	http_server_place_left(((struct server *)arg)->http);
}

static const struct arrivals_ops arrivals_ops = {on_come, on_refused, on_place_taken, on_place_left};

static void on_full(void *arg, bool full) {
	struct server *s = arg;
	for (unsigned i = 0; i < s->listener_count; i++)
		listener_set_paused(s->listeners[i].accept, full);
}

static void on_flushed(void *arg) {
	struct server *s = arg;
	if (--s->flushing == 0)
		loop_stop(s->loop);
}

/* What is held for later goes to the database before we do. */
static void on_drained(void *arg) {
	struct server *s = arg;
	s->flushing = 3;
	quota_close(s->api.quota, on_flushed, s);
	audit_close(s->api.audit, on_flushed, s);
	auth_close(s->api.auth, on_flushed, s);
}

static void start_accepting(struct server *s) {
	if (s->open || s->api.draining)
		return;
	s->open = true;
	timer_disarm(&s->patience);
	s->listeners = xcalloc(s->socket_count, sizeof(*s->listeners));
	s->listener_count = s->socket_count;
	for (unsigned i = 0; i < s->socket_count; i++) {
		struct apid_listener *l = &s->listeners[i];
		l->server = s;
		l->settings = &s->config->listeners[s->sockets[i].address];
		l->accept = listener_new(s->loop, s->sockets[i].fd, on_accept, l);
	}
	process_ready();
}

static void on_patience(void *arg) {
	start_accepting(arg);
}

static void on_database(void *arg, bool up) {
	struct server *s = arg;
	metrics_set(s->api.metrics, APID_DATABASE_UP, up);
	if (up)
		start_accepting(s);
	else if (!s->open && pg_other_schema(s->api.pg))
		process_failed();
}

static void on_tick(void *arg) {
	struct server *s = arg;
	struct pg_stats stats = pg_stats(s->api.pg);
	metrics_set(s->api.metrics, APID_DATABASE_CONNECTIONS, stats.up);
	metrics_set(s->api.metrics, APID_DATABASE_WAITING, stats.waiting);
	metrics_add(s->api.metrics, APID_DATABASE_CONNECTS, (int64_t)(stats.connects - s->connects));
	s->connects = stats.connects;
	timer_arm(&s->tick, TICK_US);
}

/* The handlers' statements and those of the services on the shared connections. */
static const struct pg_stmt **all_stmts(void) {
	const struct pg_stmt *const *parts[] = {APID_STMTS, AUTH_STMTS, QUOTA_STMTS, AUDIT_STMTS, PEOPLE_STMTS, DOMAINS_STMTS, KEYS_STMTS};
	size_t n = 0;
	for (size_t i = 0; i < array_len(parts); i++) {
		for (const struct pg_stmt *const *s = parts[i]; *s; s++)
			n++;
	}
	const struct pg_stmt **all = xcalloc(n + 1, sizeof(*all));
	n = 0;
	for (size_t i = 0; i < array_len(parts); i++) {
		for (const struct pg_stmt *const *s = parts[i]; *s; s++)
			all[n++] = *s;
	}
	return all;
}

static struct pg *open_pg(struct server *s) {
	static const char *const greeting[] = {QUOTA_GREETING, NULL};
	const struct pg_options options = {
	    .conninfo = s->config->database,
	    .application_name = "minutemail-apid",
	    .stmts = s->stmts,
	    .connections = (unsigned)s->config->database_connections,
	    .depth = 128, /* of one request: its statement, and before it on whose behalf that is */
	    .queue = 4096,
	    .query_deadline_us = QUERY_DEADLINE_US,
	    .connect_deadline_us = CONNECT_DEADLINE_US,
	    .timeline = s->config->timeline,
	    .row_security = "messages",
	    .schema_version = SCHEMA_VERSION,
	};
	struct pg *pg = pg_new(s->loop, &options);
	pg_set_greeting(pg, greeting);
	return pg;
}

static int start_dns(struct server *s) {
	const struct dns_options options = {.servers = s->config->dns_servers, .zone_file = s->config->dns_zone_file};
	char fault[DNS_FAULT_SIZE];
	int r = dns_new(s->loop, &options, &s->api.dns, fault);
	if (r < 0)
		log_msg(LOG_LEVEL_ERROR, "cannot ask the DNS", "%s", fault);
	return r;
}

/* What only one worker of an instance does. */
static void start_chores(struct server *s) {
	const struct janitor_options janitor = {
	    .conninfo = s->config->database,
	    .timeline = s->config->timeline,
	    .mailbox_lifetime_max_us = s->config->mailbox_lifetime_max,
	};
	const struct domain_check_options domain_check = {
	    .pg = s->api.pg,
	    .dns = s->api.dns,
	    .mx_hosts = s->config->mx_names,
	    .interval_us = s->config->domain_check,
	    .pause_us = min_of(s->config->domain_check, (int64_t)DOMAIN_CHECK_PAUSE_US),
	};
	s->janitor = janitor_new(s->loop, &janitor);
	s->domain_check = domain_check_new(s->loop, &domain_check);
}

static void start_services(struct server *s, unsigned index) {
	const struct apid_config *config = s->config;
	const struct auth_options auth = {
	    .conninfo = config->database,
	    .timeline = config->timeline,
	    .environment = config->environment,
	    .key_secret = config->secret,
	    .cache_entries = (unsigned)config->key_cache,
	    .session_idle_us = config->session_idle,
	};
	unsigned workers = config->workers ? (unsigned)config->workers : process_default_workers();
	s->stmts = all_stmts();
	s->api.pg = open_pg(s);
	pg_on_state(s->api.pg, on_database, s);
	s->api.auth = auth_new(s->loop, s->api.pg, &auth);
	s->api.audit = audit_new(s->loop, s->api.pg, s->api.metrics);
	s->api.quota = quota_new(s->loop, s->api.pg, workers);
	const struct password_cost cost = {(size_t)config->password_memory, (unsigned)config->password_passes};
	s->api.passwords = passwords_new(s->loop, &cost);
	if (index == 0)
		start_chores(s);
}

int server_start(struct server *s, struct loop *loop, const struct apid_config *config, struct metrics *metrics, struct clients *clients, struct tls *tls,
                 const struct daemon_socket *sockets, unsigned socket_count, unsigned index) {
	*s = (struct server){.loop = loop, .config = config, .clients = clients, .tls = tls, .sockets = sockets, .socket_count = socket_count};
	arrivals_init(&s->arrivals, loop, &arrivals_ops, s, config->log_client);
	timer_init(&s->patience, loop, on_patience, s);
	s->api_config = (struct api_config){
	    .hostname = config->name,
	    .environment = config->environment,
	    .authserv_id = config->authserv_id[0] ? config->authserv_id : config->name,
	    .secret = config->secret,
	    .session_idle_us = config->session_idle,
	    .session_max_us = config->session_max,
	    .signup = config->signup,
	    .signup_plan = config->signup_plan,
	    .mx_hosts = config->mx_names,
	    .domain_check_us = config->domain_check,
	    .mailbox_lifetime_default_us = config->mailbox_lifetime_default,
	    .mailbox_lifetime_min_us = config->mailbox_lifetime_min,
	    .mailbox_lifetime_max_us = config->mailbox_lifetime_max,
	    .source_max = config->source_max,
	};
	s->api = (struct api){.loop = loop, .metrics = metrics, .clients = clients, .config = &s->api_config};
	int r = start_dns(s);
	if (r < 0)
		return r;
	start_services(s, index);
	struct http_limits limits = HTTP_LIMITS;
	limits.connections = (unsigned)config->connections_max;
	const struct http_options http = {
	    .api = &s->api,
	    .routes = ROUTES,
	    .limits = &limits,
	    .tls = tls,
	    .clients = clients,
	    .exempt = &config->exempt,
	    .log_client = config->log_client,
	    .cors_origins = config->cors_origins,
	    .on_full = on_full,
	    .on_drained = on_drained,
	    .arg = s,
	};
	s->http = http_server_new(&http);
	timer_init(&s->tick, loop, on_tick, s);
	timer_arm(&s->tick, TICK_US);
	timer_arm(&s->patience, PATIENCE_US);
	return PROCESS_LATER;
}

static void stop_accepting(struct server *s) {
	for (unsigned i = 0; i < s->listener_count; i++)
		s->listeners[i].accept = listener_free(s->listeners[i].accept);
}

void server_drain(struct server *s) {
	s->api.draining = true;
	stop_accepting(s);
	arrivals_cancel(&s->arrivals);
	http_server_drain(s->http);
}

void server_stop(struct server *s) {
	stop_accepting(s);
	arrivals_cancel(&s->arrivals);
	s->http = http_server_free(s->http);
	timer_fini(&s->tick);
	free(s->listeners);
	s->domain_check = domain_check_free(s->domain_check);
	s->janitor = janitor_free(s->janitor);
	s->api.passwords = passwords_free(s->api.passwords);
	s->api.auth = auth_free(s->api.auth);
	s->api.quota = quota_free(s->api.quota);
	s->api.audit = audit_free(s->api.audit);
	s->api.pg = pg_free(s->api.pg);
	s->api.dns = dns_free(s->api.dns);
	timer_fini(&s->patience);
	free(s->stmts);
}
