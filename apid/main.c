/* apid: flags, configuration, listening sockets, then master and workers. */
#include "apid/apid_metrics.h"
#include "apid/cors.h"
#include "apid/router.h"
#include "apid/server.h"
#include "common/apikey.h"
#include "common/clients.h"
#include "common/clock.h"
#include "common/config.h"
#include "common/config_check.h"
#include "common/daemon.h"
#include "common/dns.h"
#include "common/log.h"
#include "common/pg.h"
#include "common/process.h"
#include "common/sandbox.h"
#include "common/sandbox_database.h"
#include "common/tls_keys.h"

#include <sodium.h>
#include <stdio.h>

#define NETWORK_FACTOR 4 /* times that a client's network (IPv4 /24, IPv6 /48) may do what a client may */
#define NAME_LOGINS 2 /* wrong passwords a minute for one e-mail address, whether it is known or not, from wherever; a browser that was signed in before counts apart */
#define MIB (1024 * 1024LL)
#define KEY(name, type, member, ...)                                                                                   \
	{ name, type, offsetof(struct apid_config, member), __VA_ARGS__ }

static const struct config_key KEYS[] = {
    KEY("apid_listen", CONFIG_LIST, listen, "127.0.0.1:8025", 0, 0, false,
        "addresses to answer HTTP on: 127.0.0.1:8025, [::1]:8025, *:80, unix:/path; each may have options: *:443;tls;…"),
    KEY("tls_certificates", CONFIG_LIST, tls_certificates, NULL, 0, 0, false,
        "CHAIN.pem:KEY.pem, …; the first is the default; the files are read again at SIGHUP; empty: a self-signed one"),
    KEY("tls_dir", CONFIG_STRING, tls_dir, "/var/lib/minutemail/tls", 0, 0, false,
        "directory of the self-signed certificate, made at the first start; empty: without tls_certificates no TLS"),
    KEY("apid_database", CONFIG_STRING, database, "dbname=minutemail user=minutemail_apid", 0, 0, false,
        "libpq connection string or URI; several hosts allowed"),
    KEY("apid_workers", CONFIG_INT, workers, "0", 0, 256, false, "worker processes; 0: one per core"),
    KEY("hostname", CONFIG_STRING, hostname, NULL, 0, 0, false,
        "our name in the mails that the API makes; default: the host's"),
    KEY("user", CONFIG_STRING, user, NULL, 0, 0, false, "unprivileged user to become when started as root"),
    KEY("apid_client_connections_max", CONFIG_INT, client_connections_max, "200", 0, 1000000, false,
        "connections at once of a client (an IPv4 address or IPv6 /64), over all workers; then 429. 0, here and below: no limit"),
    KEY("apid_client_handshakes_rate", CONFIG_INT, client_handshakes_rate, "600", 0, 1000000000, false,
        "TLS handshakes a minute of a client"),
    KEY("apid_client_bad_keys_rate", CONFIG_INT, client_bad_keys_rate, "60", 0, 1000000000, false,
        "wrong keys a minute of a client; then 429, to all from there that are not known already"),
    KEY("apid_client_logins_rate", CONFIG_INT, client_logins_rate, "12", 0, 1000000000, false,
        "wrong passwords, sign-ups and links that a client tries a minute, those of five minutes at once; then 429"),
    KEY("client_exempt", CONFIG_LIST, client_exempt, "127.0.0.0/8, ::1", 0, 0, false, "networks whose clients have no such limits"),
    KEY("cors_origins", CONFIG_LIST, cors_origins, NULL, 0, 0, false,
        "origins whose pages may use the API with a key from a browser: https://app.example.org, …, or *; empty: none"),
    KEY("log_client", CONFIG_BOOL, log_client, "yes", 0, 0, false, "client addresses in the log"),
    KEY("log_level", CONFIG_STRING, log_level, "info", 0, 0, true, "debug, info, warning or error"),
    KEY("drain", CONFIG_DURATION, drain, "10s", 0, HOUR_US, false,
        "how long answers in hand may take after SIGTERM"),
    KEY("hang_limit", CONFIG_DURATION, hang_limit, "60s", 0, HOUR_US, false,
        "a worker whose loop stands still for this long is killed and replaced; 0: never"),
    KEY("apid_metrics_listen", CONFIG_STRING, metrics_listen, NULL, 0, 0, false,
        "address of GET /metrics; empty: none"),
    KEY("apid_pid_file", CONFIG_STRING, pid_file, NULL, 0, 0, false, "written once all workers are up; empty: none"),
    KEY("key_secret", CONFIG_SECRET, key_secret, NULL, 0, 0, false,
        "64 hex digits that API keys are hashed with (openssl rand -hex 32)"),
    KEY("environment", CONFIG_STRING, environment, "live", 0, 0, false, "live or test: which kind of keys is taken"),
    KEY("apid_database_connections", CONFIG_INT, database_connections, "2", 1, 64, false,
        "database connections of one worker, beside one for changes to keys"),
    KEY("apid_connections_max", CONFIG_INT, connections_max, "4096", 16, 1000000, false,
        "HTTP connections of one worker; at the limit the longest idle one gives way"),
    KEY("apid_key_cache", CONFIG_INT, key_cache, "10000", 1, 1000000, false, "API keys that one worker remembers"),
    KEY("mailbox_lifetime_default", CONFIG_DURATION, mailbox_lifetime_default, "15m", MINUTE_US, 3650 * DAY_US,
        false, "how long a mailbox lives when its creator does not say"),
    KEY("mailbox_lifetime_min", CONFIG_DURATION, mailbox_lifetime_min, "1m", SECOND_US, DAY_US, false,
        "the shortest that a creator may say"),
    KEY("mailbox_lifetime_max", CONFIG_DURATION, mailbox_lifetime_max, "60m", MINUTE_US, 3650 * DAY_US, false,
        "the longest that a creator may say, except for ever"),
    KEY("signup", CONFIG_STRING, signup, "closed", 0, 0, false,
        "who may make an account: closed (nobody, once there is a user), invitation (whom the operator invites) or open"),
    KEY("signup_plan", CONFIG_STRING, signup_plan, "free", 0, 0, false, "the plan of accounts that people make for themselves"),
    KEY("session_idle", CONFIG_DURATION, session_idle, "30m", MINUTE_US, 30 * DAY_US, false,
        "a console session that is not used for so long is over"),
    KEY("session_max", CONFIG_DURATION, session_max, "12h", MINUTE_US, 365 * DAY_US, false,
        "a console session is over after so long, however much it is used"),
    KEY("password_memory", CONFIG_SIZE, password_memory, "64M", 19 * MIB, 1024 * MIB, false,
        "what hashing a password takes while it lasts, at most once in each worker"),
    KEY("password_passes", CONFIG_INT, password_passes, "2", 1, 20, false, "passes over that memory"),
    KEY("mx_hosts", CONFIG_LIST, mx_hosts, NULL, 0, 0, false,
        "names that the MX records of accounts' domains must have, ours all of them; default: hostname"),
    KEY("domain_check", CONFIG_DURATION, domain_check, "6h", SECOND_US, 30 * DAY_US, false,
        "how often the DNS of a verified domain is looked at again, on the average"),
    KEY("dns_servers", CONFIG_LIST, dns_servers, NULL, 0, 0, false,
        "resolvers to ask, 127.0.0.1 or [::1]:53; default: the system's"),
    KEY("dns_zone_file", CONFIG_STRING, dns_zone_file, NULL, 0, 0, false,
        "a zone file that stands in for the DNS, for tests; empty: none"),
    KEY("source_max", CONFIG_SIZE, source_max, "25M", 1024, 512 * MIB, false, "octets of a mail made through the API"),
    KEY("authserv_id", CONFIG_STRING, authserv_id, NULL, 0, 0, false,
        "our name in Authentication-Results; default: hostname"),
    KEY("test_clock_offset", CONFIG_DURATION, test_clock_offset, "0", 0, 0, true, NULL),
    {NULL, CONFIG_STRING, 0, NULL, 0, 0, false, NULL},
};

struct apid {
	struct apid_config config;
	struct metrics *metrics;
	struct clients *clients;
	char **addresses;
	unsigned listener_count;
	struct daemon_sockets sockets;
	struct tls_keys_options tls_options;
	struct tls_keys *tls_keys;
	struct tls *tls;
	char host_name[256];
	struct server server;
};

/* ---- a worker ---- */

static int worker_start(void *arg, struct loop *loop, unsigned index) {
	struct apid *d = arg;
	clients_attach(d->clients);
	daemon_sockets_keep(&d->sockets, index);
	clock_shift(d->config.test_clock_offset);
	if (d->tls_keys)
		d->tls = tls_open(d->tls_keys, loop, index, d->metrics, APID_TLS_EXPIRY);
	return server_start(&d->server, loop, &d->config, d->metrics, d->clients, d->tls, d->sockets.v, d->sockets.count, index);
}

static int worker_confine(void *arg) {
	struct apid *d = arg;
	struct sandbox sandbox;
	sandbox_init(&sandbox, SANDBOX_WORKER);
	sandbox_may_use_libraries(&sandbox);
	sandbox_may_use_database(&sandbox, d->config.database);
	for (char **server = d->config.dns_servers; *server; server++)
		sandbox_may_connect(&sandbox, dns_server_port(*server));
	return daemon_confine(KEYS, &sandbox);
}

static void worker_drain(void *arg) {
	struct apid *d = arg;
	server_drain(&d->server);
	daemon_sockets_close(&d->sockets);
}

static void worker_reload(void *arg) {
	struct apid *d = arg;
	daemon_reload(KEYS, &d->config, &d->config.log_level);
	if (strcmp(d->config.environment, "test") == 0)
		clock_shift(d->config.test_clock_offset);
}

static void worker_stop(void *arg) {
	struct apid *d = arg;
	server_stop(&d->server);
	d->tls = tls_close(d->tls);
}

/* In processes that neither ask the database nor read the configuration again. */
static void forget_secrets(void *arg) {
	struct apid *d = arg;
	config_forget(NULL);
	explicit_bzero(d->config.database, strlen(d->config.database));
	explicit_bzero(d->config.key_secret, strlen(d->config.key_secret));
	explicit_bzero(d->config.secret, sizeof(d->config.secret));
}

static void let_go(void *arg) {
	struct apid *d = arg;
	forget_secrets(d);
	daemon_sockets_close(&d->sockets);
	d->tls_keys = tls_keys_free(d->tls_keys);
	d->clients = clients_free(d->clients);
}

/* Those that the worker had answered, or was about to, and had no word from the database of. */
static void worker_ended(void *arg, unsigned index) {
	struct apid *d = arg;
	struct log_line line;
	int64_t lost = metrics_of(d->metrics, APID_AUDIT_WAITING, index);
	if (lost <= 0)
		return;
	metrics_add(d->metrics, APID_AUDIT_LOST, lost);
	log_begin(&line, LOG_LEVEL_ERROR, "audit entries lost");
	log_int(&line, "worker", index);
	log_int(&line, "at_most", lost);
	log_str(&line, "reason", "the worker died before the database had them; the usage of keys lacks them too");
	log_end(&line);
}

static void reload_master(void *arg) {
	tls_keys_reload(((struct apid *)arg)->tls_keys);
}

static void tidy(void *arg) {
	struct apid *d = arg;
	clients_sweep(d->clients);
	tls_keys_look(d->tls_keys);
}

/* ---- start-up ---- */

static bool refuse(const char *text) {
	fprintf(stderr, "apid: %s\n", text);
	return false;
}

static int read_listener(const char *text, void *element, char **ret_address, char ret_fault[LISTEN_FAULT_SIZE]) {
	struct http_listen *s = element;
	int r = http_listen_parse(text, s, ret_fault);
	*ret_address = s->address;
	return r;
}

static void check_listeners(struct config_check *c, struct apid *d) {
	void *elements;
	d->addresses = config_check_listeners(c, "apid_listen", d->config.listen, sizeof(*d->config.listeners), read_listener, &elements, &d->listener_count);
	d->config.listeners = elements;
}

static void check_names(struct config_check *c, const struct apid_config *config) {
	if (config->hostname[0])
		config_check_name(c, "hostname", config->hostname);
	for (char **host = config->mx_hosts; *host; host++)
		config_check_name(c, "mx_hosts", *host);
	for (char **origin = config->cors_origins; *origin; origin++)
		if (!cors_origin_valid(*origin))
			config_check_fault(c, "cors_origins", "'%s' is no origin (want https://app.example.org, without a path, or *)", *origin);
}

static void check_people(struct config_check *c, struct apid_config *config) {
	static const char *const environments[] = {"live", "test", NULL}, *const signups[] = {"closed", "invitation", "open", NULL};
	config_check_word(c, "environment", config->environment, environments);
	config_check_word(c, "signup", config->signup, signups);
	if (config->test_clock_offset && strcmp(config->environment, "test") != 0)
		config_check_fault(c, "test_clock_offset", "is for environment test only");
	if (config->mailbox_lifetime_default < config->mailbox_lifetime_min || config->mailbox_lifetime_default > config->mailbox_lifetime_max)
		config_check_fault(c, "mailbox_lifetime_default", "is not between mailbox_lifetime_min and mailbox_lifetime_max");
	if (apikey_secret_parse(config->key_secret, config->secret) < 0)
		config_check_fault(c, "key_secret",
		                   "must be 64 hex digits: set MINUTEMAIL_KEY_SECRET_FILE to a file made by openssl rand -hex 32");
}

/* What a row of the table cannot say. `only`: nothing will be run. */
static bool check(void *arg, bool only) {
	struct apid *d = arg;
	static const char *const levels[] = {"debug", "info", "warning", "error", NULL};
	struct config_check c = {.program = "apid"};
	struct apid_config *config = &d->config;
	config_check_word(&c, "log_level", config->log_level, levels);
	check_listeners(&c, d);
	config_check_networks(&c, "client_exempt", config->client_exempt, &config->exempt);
	config_check_database(&c, "apid_database", config->database);
	config_check_user(&c, "user", config->user);
	check_names(&c, config);
	check_people(&c, config);
	if (config->metrics_listen[0])
		config_check_address(&c, "apid_metrics_listen", config->metrics_listen);
	config_check_dns(&c, config->dns_servers, config->dns_zone_file);
	if (only)
		config_check_certificates(&c, "tls_certificates", config->tls_certificates);
	return c.faults == 0;
}

/* mx_hosts, or our own name, as the DNS has them. */
static bool read_mx_hosts(struct apid_config *config) {
	char *own[] = {(char *)(uintptr_t)config->name, NULL}, **hosts = config->mx_hosts[0] ? config->mx_hosts : own;
	char canonical[DNS_NAME_SIZE];
	size_t n = 0;
	while (hosts[n])
		n++;
	config->mx_names = xcalloc(n + 1, sizeof(char *));
	for (size_t i = 0; i < n; i++) {
		if (dns_name_canonical(hosts[i], strlen(hosts[i]), canonical) < 0)
			return refuse("mx_hosts, or hostname in its place, has something that is not a name");
		config->mx_names[i] = xstrdup(canonical);
	}
	return true;
}

static bool wants_tls(const struct apid *d) {
	for (unsigned i = 0; i < d->listener_count; i++)
		if (d->config.listeners[i].tls)
			return true;
	return false;
}

/* The process that keeps the private keys is there only if a listener has use for it. */
static bool start_tls_keys(struct apid *d, unsigned workers) {
	if (!wants_tls(d))
		return true;
	d->tls_options = (struct tls_keys_options){
	    .name = "apid",
	    .certificates = d->config.tls_certificates,
	    .self_signed_dir = d->config.tls_dir,
	    .hostname = d->config.name,
	    .user = d->config.user,
	    .alpn = "http/1.1",
	    .workers = workers,
	    .forget = forget_secrets,
	    .arg = d,
	};
	if (tls_keys_start(&d->tls_options, &d->tls_keys) < 0)
		return false;
	return d->tls_keys || refuse("apid_listen: tls: there is no certificate; see tls_certificates and tls_dir");
}

static struct clients *make_clients(const struct apid_config *config) {
	const struct clients_limits limits = {
	    .at_once = config->client_connections_max,
	    .a_minute = {[CLIENTS_HANDSHAKES] = config->client_handshakes_rate, [CLIENTS_BAD_KEYS] = config->client_bad_keys_rate,
	                 [CLIENTS_LOGINS] = config->client_logins_rate, [CLIENTS_NAME_LOGINS] = NAME_LOGINS},
	    .minutes = {[CLIENTS_LOGINS] = 5, [CLIENTS_NAME_LOGINS] = 5},
	    .wide_factor = NETWORK_FACTOR,
	};
	return clients_new(&limits, process_heirloom());
}

static int run(struct apid *d, char **argv) {
	unsigned workers = d->config.workers ? (unsigned)d->config.workers : process_default_workers();
	daemon_raise_descriptors();
	d->config.name = daemon_hostname(d->config.hostname, d->host_name);
	if (!start_tls_keys(d, workers))
		return 1;
	if (!read_mx_hosts(&d->config))
		return 2;
	d->metrics = apid_metrics_new(ROUTES, workers);
	d->clients = make_clients(&d->config);
	d->config.timeline = pg_timeline_new();
	if (daemon_sockets_open(&d->sockets, d->addresses, workers) < 0)
		return 1;
	const struct process_options options = {
	    .name = "apid",
	    .workers = workers,
	    .user = d->config.user,
	    .drain_us = d->config.drain,
	    .metrics_listen = d->config.metrics_listen,
	    .metrics = d->metrics,
	    .pid_file = d->config.pid_file,
	    .argv = argv,
	    .sockets = &d->sockets,
	    .heirloom = clients_fd(d->clients),
	    .hang_us = d->config.hang_limit,
	};
	const struct process_ops ops = {worker_start, worker_drain, worker_reload, worker_stop, let_go, worker_confine, reload_master, tidy, worker_ended};
	return process_run(&options, &ops, d);
}

int main(int argc, char **argv) {
	struct apid d = {0};
	const struct daemon_configuration configuration = {
		.keys = KEYS,
		.config = &d.config,
		.log_level = &d.config.log_level,
		.about = "apid: answers MinuteMail's HTTP API from PostgreSQL",
		.check = check,
		.arg = &d,
	};
	log_init("apid", LOG_LEVEL_INFO);
	if (sodium_init() < 0)
		return 1;
	int status = daemon_configure(&configuration, argc, argv);
	if (status < 0)
		status = run(&d, argv);
	tls_keys_free(d.tls_keys);
	daemon_sockets_close(&d.sockets);
	metrics_free(d.metrics);
	clients_free(d.clients);
	netaddr_nets_fini(&d.config.exempt);
	for (unsigned i = 0; i < d.listener_count; i++)
		http_listen_fini(&d.config.listeners[i]);
	free(d.config.listeners);
	free(d.addresses);
	for (char **name = d.config.mx_names; name && *name; name++)
		free(*name);
	free(d.config.mx_names);
	config_fini(KEYS, &d.config);
	sodium_memzero(d.config.secret, sizeof(d.config.secret));
	return status;
}
