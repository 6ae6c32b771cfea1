/* smtpd: flags, configuration, listening sockets, then master and workers. */
#include "common/clients.h"
#include "common/clock.h"
#include "common/config.h"
#include "common/config_check.h"
#include "common/daemon.h"
#include "common/dns.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/pg.h"
#include "common/process.h"
#include "common/sandbox.h"
#include "common/sandbox_database.h"
#include "common/tls_keys.h"
#include "smtpd/dnsbl.h"
#include "smtpd/server.h"
#include "smtpd/smtpd_metrics.h"

#include <stdio.h>

#define MIB (1024 * 1024LL)
#define KEY(name, type, member, ...) {name, type, offsetof(struct smtpd_config, member), __VA_ARGS__}

static const struct config_key KEYS[] = {
	KEY("smtpd_listen", CONFIG_LIST, listen, "127.0.0.1:1025", 0, 0, false,
	    "addresses to receive mail on: 127.0.0.1:1025, [::1]:25, *:25, unix:/path; each may have options: *:25;option=value;…"),
	KEY("tls_certificates", CONFIG_LIST, tls_certificates, NULL, 0, 0, false,
	    "CHAIN.pem:KEY.pem, …; the first is the default; the files are read again at SIGHUP; empty: a self-signed one"),
	KEY("tls_dir", CONFIG_STRING, tls_dir, "/var/lib/minutemail/tls", 0, 0, false,
	    "directory of the self-signed certificate, made at the first start; empty: without tls_certificates no TLS"),
	KEY("smtpd_database", CONFIG_STRING, database, "dbname=minutemail user=minutemail_smtpd", 0, 0, false,
	    "libpq connection string or URI; several hosts allowed"),
	KEY("smtpd_workers", CONFIG_INT, workers, "0", 0, 256, false, "worker processes; 0: one per core"),
	KEY("hostname", CONFIG_STRING, hostname, NULL, 0, 0, false, "our name in the banner and in Received; default: the host's"),
	KEY("user", CONFIG_STRING, user, NULL, 0, 0, false, "unprivileged user to become when started as root"),
	KEY("log_level", CONFIG_STRING, log_level, "info", 0, 0, true, "debug, info, warning or error"),
	KEY("drain", CONFIG_DURATION, drain, "30s", 0, HOUR_US, false, "how long open sessions may finish after SIGTERM"),
	KEY("hang_limit", CONFIG_DURATION, hang_limit, "60s", 0, HOUR_US, false,
	    "a worker whose loop stands still for this long is killed and replaced; 0: never"),
	KEY("smtpd_metrics_listen", CONFIG_STRING, metrics_listen, NULL, 0, 0, false, "address of GET /metrics; empty: none"),
	KEY("smtpd_pid_file", CONFIG_STRING, pid_file, NULL, 0, 0, false, "written once all workers are up; empty: none"),
	KEY("spool_dir", CONFIG_STRING, spool_dir, "/var/tmp", 0, 0, false,
	    "directory for the unnamed files of messages over 256 KiB while they arrive"),
	KEY("spool_memory_max", CONFIG_SIZE, spool_memory_max, "256M", MIB, 64 * 1024 * MIB, false,
	    "octets of messages held in memory by a worker; what is more waits in files"),
	KEY("spool_max", CONFIG_SIZE, spool_max, "4G", MIB, 1024 * 1024 * MIB, false,
	    "octets of messages arriving in all workers, in memory and files; over it 452"),
	KEY("message_size_max", CONFIG_SIZE, message_size_max, "25M", 1024, 2048 * MIB - 1, false, "octets of a message (SIZE)"),
	KEY("recipients_max", CONFIG_INT, recipients_max, "100", 100, 1000, false, "recipients of a message; over it 452"),
	KEY("messages_max", CONFIG_INT, messages_max, "0", 0, 999999, false, "messages of a session; 0: no limit"),
	KEY("errors_max", CONFIG_INT, errors_max, "20", 0, 1000000, false, "errors of a session, then 421; 0: no limit"),
	KEY("errors_slow", CONFIG_INT, errors_slow, "10", 0, 1000000, false, "errors of a session from which each costs a second; 0: none"),
	KEY("junk_max", CONFIG_INT, junk_max, "100", 0, 1000000, false, "NOOP, RSET, VRFY … without mail, then 421; 0: no limit"),
	KEY("bad_recipients_max", CONFIG_INT, bad_recipients_max, "20", 0, 1000000, false,
	    "unknown recipients of a session, then 421; 0: no limit"),
	KEY("strict_syntax", CONFIG_BOOL, strict_syntax, "no", 0, 0, false, "refuse blanks after the colon of MAIL FROM: and RCPT TO: (501)"),
	KEY("null_sender_single", CONFIG_BOOL, null_sender_single, "no", 0, 0, false,
	    "one recipient a message from the null sender; over it 452"),
	KEY("connections_max", CONFIG_INT, connections_max, "10000", 1, 1000000, false,
	    "sessions of one worker; past it connections wait in the kernel"),
	KEY("client_connections_max", CONFIG_INT, client_connections_max, "50", 0, 1000000, false,
	    "connections at once of a client (an IPv4 address or IPv6 /64), over all workers; then 421. 0, here and below: no limit"),
	KEY("client_connections_rate", CONFIG_INT, client_connections_rate, "600", 0, 1000000000, false,
	    "new connections a minute of a client"),
	KEY("client_messages_rate", CONFIG_INT, client_messages_rate, "1000", 0, 1000000000, false, "messages a minute of a client"),
	KEY("client_octets_rate", CONFIG_SIZE, client_octets_rate, "1G", 0, 1000000 * MIB, false, "octets of messages a minute of a client"),
	KEY("client_bad_recipients_rate", CONFIG_INT, client_bad_recipients_rate, "100", 0, 1000000000, false,
	    "recipients a minute of a client that do not exist"),
	KEY("client_handshakes_rate", CONFIG_INT, client_handshakes_rate, "300", 0, 1000000000, false, "TLS handshakes a minute of a client"),
	KEY("client_errors_rate", CONFIG_INT, client_errors_rate, "200", 0, 1000000000, false, "errors a minute of a client"),
	KEY("client_network_factor", CONFIG_INT, client_network_factor, "4", 0, 1000, false,
	    "times that a client's network (IPv4 /24, IPv6 /48) may do all that"),
	KEY("client_exempt", CONFIG_LIST, client_exempt, "127.0.0.0/8, ::1", 0, 0, false, "networks whose clients have no such limits"),
	KEY("client_refuse", CONFIG_LIST, client_refuse, NULL, 0, 0, false, "networks whose clients get 554 instead of the banner; empty: none"),
	KEY("client_bare_newline", CONFIG_LIST, client_bare_newline, NULL, 0, 0, false,
	    "networks whose clients may end commands with LF alone, as some health checks do; never lines of a message. Empty: none"),
	KEY("log_client", CONFIG_BOOL, log_client, "yes", 0, 0, false, "client addresses in the log"),
	KEY("log_sender", CONFIG_BOOL, log_sender, "no", 0, 0, false,
	    "senders in the log; no: the first 16 hex digits of SHA-256 of the address in lower case"),
	KEY("command_deadline", CONFIG_DURATION, command_deadline, "5m", SECOND_US, HOUR_US, false, "for the next command, then 421"),
	KEY("data_deadline", CONFIG_DURATION, data_deadline, "3m", SECOND_US, HOUR_US, false, "for the next octets of a message"),
	KEY("data_rate_min", CONFIG_SIZE, data_rate_min, "500", 0, 1024 * MIB, false,
	    "octets a second with which a message never meets data_deadline; slower ones may take it in all. 0: the next octets will do"),
	KEY("session_deadline", CONFIG_DURATION, session_deadline, "1h", 0, 7 * DAY_US, false, "for a whole session; 0: none"),
	KEY("stress_sessions", CONFIG_INT, stress_sessions, "80", 0, 100, false,
	    "percent of connections_max, of one worker's or of all together; over it deadlines are 10 s and one error ends a session. 0: never"),
	KEY("stress_commit", CONFIG_DURATION, stress_commit, "2s", 0, 300 * SECOND_US, false, "the same for the time to commit, over all workers; 0: never"),
	KEY("store_deadline", CONFIG_DURATION, store_deadline, "10s", SECOND_US, 300 * SECOND_US, false,
	    "from the final dot to the commit, retries included; then 451. Over 1 MB: between two chunks stored"),
	KEY("store_connections", CONFIG_INT, store_connections, "2", 1, 4, false, "transactions of one worker under way at once"),
	KEY("parse_deadline", CONFIG_DURATION, parse_deadline, "2s", SECOND_US / 10, 60 * SECOND_US, false,
	    "for parsing one message; then it is stored unparsed"),
	KEY("parse_memory_max", CONFIG_SIZE, parse_memory_max, "1G", 64 * MIB, 64 * 1024 * MIB, false,
	    "address space of the parser process"),
	KEY("parse_size_max", CONFIG_SIZE, parse_size_max, "64M", 1024, 2048 * MIB - 1, false,
	    "longer messages are stored unparsed"),
	KEY("authentication", CONFIG_BOOL, authentication, "yes", 0, 0, false, "check SPF, DKIM and DMARC of received mail, for the API to show"),
	KEY("authserv_id", CONFIG_STRING, authserv_id, NULL, 0, 0, false, "our name in Authentication-Results; default: hostname"),
	KEY("authentication_deadline", CONFIG_DURATION, authentication_deadline, "10s", SECOND_US, 60 * SECOND_US, false,
	    "for all DNS questions about a message; then temperror"),
	KEY("authentication_max", CONFIG_INT, authentication_max, "1000", 1, 100000, false,
	    "messages of one worker being checked; beyond it mail is stored unchecked"),
	KEY("authentication_memory_max", CONFIG_SIZE, authentication_memory_max, "64M", MIB, 64 * 1024 * MIB, false,
	    "octets of messages of one worker waiting for their check; beyond it mail is stored unchecked"),
	KEY("spf_reject", CONFIG_BOOL, spf_reject, "no", 0, 0, false, "refuse mail whose SPF result is fail, permerror or, for now, temperror"),
	KEY("dmarc_reject", CONFIG_BOOL, dmarc_reject, "no", 0, 0, false, "refuse mail that fails DMARC where the domain asks for reject"),
	KEY("null_mx_reject", CONFIG_BOOL, null_mx_reject, "no", 0, 0, false, "refuse mail from domains that take none (null MX)"),
	KEY("dnsbl_zones", CONFIG_LIST, dnsbl_zones, NULL, 0, 0, false,
	    "DNS block lists to look clients up in: zone, or zone=127.0.0.2-127.0.0.11/127.0.0.20, the answers that count"),
	KEY("dnsbl_action", CONFIG_STRING, dnsbl_action, "annotate", 0, 0, false, "annotate, or reject: 554 to the recipients of who is listed"),
	KEY("dns_servers", CONFIG_LIST, dns_servers, NULL, 0, 0, false, "resolvers to ask, 127.0.0.1 or [::1]:53; default: the system's"),
	KEY("dns_zone_file", CONFIG_STRING, dns_zone_file, NULL, 0, 0, false, "a zone file that stands in for the DNS, for tests; empty: none"),
	{NULL, CONFIG_STRING, 0, NULL, 0, 0, false, NULL},
};

struct smtpd {
	struct smtpd_config config;
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

static int worker_start(void *arg, struct loop *loop, unsigned index) {
	struct smtpd *d = arg;
	clients_attach(d->clients);
	daemon_sockets_keep(&d->sockets, index);
	/* First, so that the parser is forked without ticket keys. */
	if (d->tls_keys)
		d->tls = tls_open(d->tls_keys, loop, index, d->metrics, SMTPD_TLS_EXPIRY);
	return server_start(&d->server, loop, &d->config, d->metrics, d->clients, d->tls, d->sockets.v, d->sockets.count);
}

static int worker_confine(void *arg) {
	struct smtpd *d = arg;
	struct sandbox sandbox;
	sandbox_init(&sandbox, SANDBOX_WORKER);
	sandbox_may_use_libraries(&sandbox);
	sandbox_may_use_database(&sandbox, d->config.database);
	sandbox_may_write_in(&sandbox, d->config.spool_dir);
	for (char **server = d->config.dns_servers; *server; server++)
		sandbox_may_connect(&sandbox, dns_server_port(*server));
	return daemon_confine(KEYS, &sandbox);
}

static void worker_drain(void *arg) {
	struct smtpd *d = arg;
	server_drain(&d->server);
	daemon_sockets_close(&d->sockets);
}

static void worker_reload(void *arg) {
	struct smtpd *d = arg;
	daemon_reload(KEYS, &d->config, &d->config.log_level);
}

static void worker_stop(void *arg) {
	struct smtpd *d = arg;
	server_stop(&d->server);
	d->tls = tls_close(d->tls);
}

/* In processes that neither ask the database nor read the configuration again. */
static void forget_secrets(void *arg) {
	struct smtpd *d = arg;
	config_forget(NULL);
	explicit_bzero(d->config.database, strlen(d->config.database));
}

static void let_go(void *arg) {
	struct smtpd *d = arg;
	forget_secrets(d);
	daemon_sockets_close(&d->sockets);
	d->tls_keys = tls_keys_free(d->tls_keys);
	d->clients = clients_free(d->clients);
}

static void reload_master(void *arg) {
	tls_keys_reload(((struct smtpd *)arg)->tls_keys);
}

static void tidy(void *arg) {
	struct smtpd *d = arg;
	clients_sweep(d->clients);
	tls_keys_look(d->tls_keys);
}

static void check_dnsbl(struct config_check *c, const struct smtpd_config *config) {
	static const char *const actions[] = {"annotate", "reject", NULL};
	struct dnsbl *dnsbl = NULL;
	char fault[DNSBL_FAULT_SIZE];
	config_check_word(c, "dnsbl_action", config->dnsbl_action, actions);
	if (dnsbl_new(NULL, NULL, config->dnsbl_zones, &dnsbl, fault) < 0)
		config_check_fault(c, "dnsbl_zones", "%s", fault);
	dnsbl_free(dnsbl);
}

static int read_listener(const char *text, void *element, char **ret_address, char ret_fault[LISTEN_FAULT_SIZE]) {
	struct listen_settings *s = element;
	int r = listen_parse(text, s, ret_fault);
	*ret_address = s->address;
	return r;
}

static void check_listeners(struct config_check *c, struct smtpd *d) {
	void *elements;
	d->addresses = config_check_listeners(c, "smtpd_listen", d->config.listen, sizeof(*d->config.listeners), read_listener, &elements, &d->listener_count);
	d->config.listeners = elements;
}

/* What a row of the table cannot say. `only`: nothing will be run. */
static bool check(void *arg, bool only) {
	struct smtpd *d = arg;
	static const char *const levels[] = {"debug", "info", "warning", "error", NULL};
	struct config_check c = {.program = "smtpd"};
	struct smtpd_config *config = &d->config;
	config_check_word(&c, "log_level", config->log_level, levels);
	check_listeners(&c, d);
	config_check_networks(&c, "client_exempt", config->client_exempt, &config->exempt);
	config_check_networks(&c, "client_refuse", config->client_refuse, &config->refused);
	config_check_networks(&c, "client_bare_newline", config->client_bare_newline, &config->bare_newline);
	config_check_database(&c, "smtpd_database", config->database);
	config_check_user(&c, "user", config->user);
	config_check_directory(&c, "spool_dir", config->spool_dir);
	if (config->hostname[0])
		config_check_name(&c, "hostname", config->hostname);
	if (config->metrics_listen[0])
		config_check_address(&c, "smtpd_metrics_listen", config->metrics_listen);
	check_dnsbl(&c, config);
	if (!config->authentication && (config->spf_reject || config->dmarc_reject || config->null_mx_reject))
		config_check_fault(&c, "authentication", "spf_reject, dmarc_reject and null_mx_reject need it");
	config_check_dns(&c, config->dns_servers, config->dns_zone_file);
	if (only)
		config_check_certificates(&c, "tls_certificates", config->tls_certificates);
	return c.faults == 0;
}

static struct clients *make_clients(const struct smtpd_config *config) {
	const struct clients_limits limits = {
		.at_once = config->client_connections_max,
		.a_minute = {
			[CLIENTS_CONNECTIONS] = config->client_connections_rate,
			[CLIENTS_MESSAGES] = config->client_messages_rate,
			[CLIENTS_OCTETS] = config->client_octets_rate,
			[CLIENTS_BAD_RECIPIENTS] = config->client_bad_recipients_rate,
			[CLIENTS_HANDSHAKES] = config->client_handshakes_rate,
			[CLIENTS_ERRORS] = config->client_errors_rate,
		},
		.wide_factor = config->client_network_factor,
	};
	return clients_new(&limits, process_heirloom());
}

/* Who asks for TLS gets it or a fault, not clear text. */
static bool listeners_have_tls(const struct smtpd *d) {
	for (unsigned i = 0; i < d->listener_count; i++) {
		const struct listen_settings *s = &d->config.listeners[i];
		if (!d->tls_keys && (s->tls || s->require_tls)) {
			fprintf(stderr, "smtpd: smtpd_listen: %s: there is no certificate; see tls_certificates and tls_dir\n", s->address);
			return false;
		}
	}
	return true;
}

static int run(struct smtpd *d, char **argv) {
	unsigned workers = d->config.workers ? (unsigned)d->config.workers : process_default_workers();
	daemon_raise_descriptors();
	d->config.name = daemon_hostname(d->config.hostname, d->host_name);
	d->tls_options = (struct tls_keys_options){
		.name = "smtpd",
		.certificates = d->config.tls_certificates,
		.self_signed_dir = d->config.tls_dir,
		.hostname = d->config.name,
		.user = d->config.user,
		.workers = workers,
		.forget = forget_secrets,
		.arg = d,
	};
	if (tls_keys_start(&d->tls_options, &d->tls_keys) < 0 || !listeners_have_tls(d))
		return 1;
	d->metrics = smtpd_metrics_new(workers);
	d->clients = make_clients(&d->config);
	d->config.timeline = pg_timeline_new();
	if (daemon_sockets_open(&d->sockets, d->addresses, workers) < 0)
		return 1;
	const struct process_options options = {
		.name = "smtpd",
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
	const struct process_ops ops = {worker_start, worker_drain, worker_reload, worker_stop, let_go, worker_confine, reload_master, tidy};
	return process_run(&options, &ops, d);
}

int main(int argc, char **argv) {
	struct smtpd d = {0};
	const struct daemon_configuration configuration = {
		.keys = KEYS,
		.config = &d.config,
		.log_level = &d.config.log_level,
		.about = "smtpd: receives mail over SMTP and commits it to PostgreSQL",
		.check = check,
		.arg = &d,
	};
	log_init("smtpd", LOG_LEVEL_INFO);
	int status = daemon_configure(&configuration, argc, argv);
	if (status < 0)
		status = run(&d, argv);
	tls_keys_free(d.tls_keys);
	daemon_sockets_close(&d.sockets);
	metrics_free(d.metrics);
	clients_free(d.clients);
	netaddr_nets_fini(&d.config.exempt);
	netaddr_nets_fini(&d.config.refused);
	netaddr_nets_fini(&d.config.bare_newline);
	for (unsigned i = 0; i < d.listener_count; i++)
		listen_fini(&d.config.listeners[i]);
	free(d.config.listeners);
	free(d.addresses);
	config_fini(KEYS, &d.config);
	return status;
}
