/* One apid worker: its database connections, its keys, its listeners and connections, and how it ends. */
#ifndef MINUTEMAIL_APID_SERVER_H
#define MINUTEMAIL_APID_SERVER_H

#include "apid/api.h"
#include "apid/http_listen.h"
#include "common/arrivals.h"
#include "common/loop.h"

struct clients;
struct daemon_socket;
struct domain_check;
struct http_server;
struct janitor;
struct listener;
struct metrics;
struct tls;

/* The daemon's configuration; main.c has the table that fills it. Durations in microseconds, sizes in octets. */
struct apid_config {
	char **listen, **tls_certificates;
	char *tls_dir;
	struct http_listen *listeners; /* of `listen`, parsed; as many */
	bool log_client;
	char **mx_hosts, **dns_servers;
	char **cors_origins, **client_exempt;
	struct netaddr_nets exempt; /* of client_exempt, parsed */
	int64_t client_connections_max, client_handshakes_rate, client_bad_keys_rate, client_logins_rate;
	const char *name; /* by which we go: hostname, or the host's when that is empty */
	_Atomic uint32_t *timeline; /* the database's, of all workers (pg_timeline_new()) */
	char *database, *hostname, *user, *log_level, *metrics_listen, *pid_file, *environment, *key_secret, *authserv_id, *dns_zone_file;
	int64_t workers, drain, hang_limit;
	int64_t database_connections; /* of one worker, beside one for keys */
	int64_t connections_max;      /* of one worker */
	int64_t key_cache;            /* keys held by one worker */
	int64_t mailbox_lifetime_default, mailbox_lifetime_min, mailbox_lifetime_max;
	int64_t source_max, domain_check;
	int64_t test_clock_offset;    /* added to the time of day; only where environment is test */
	int64_t session_idle, session_max;
	char *signup, *signup_plan;
	int64_t password_memory, password_passes;
	uint8_t secret[32]; /* key_secret, decoded */
	char **mx_names;    /* mx_hosts, canonical; at least one; NULL-terminated */
};

/* A listening socket of this worker. */
struct apid_listener {
	struct server *server;
	const struct http_listen *settings;
	struct listener *accept; /* NULL: not accepting any more */
};

struct server {
	struct loop *loop;
	const struct apid_config *config;
	struct api_config api_config;
	struct api api; /* what every handler sees */
	const struct pg_stmt **stmts;
	struct janitor *janitor;           /* worker 0 only, as */
	struct domain_check *domain_check;
	struct http_server *http;
	struct clients *clients; /* borrowed; of all workers */
	struct tls *tls; /* borrowed; NULL: no listener has TLS */
	struct apid_listener *listeners;
	struct arrivals arrivals; /* connections that have not said who they are */
	unsigned listener_count;
	const struct daemon_socket *sockets;
	unsigned socket_count;
	struct timer patience;
	struct timer tick; /* every second: figures that are not counted where they arise */
	unsigned long connects; /* told to the metrics */
	bool open;
	unsigned flushing; /* services that still write what they hold */
};

/* Builds the worker on `loop`. `tls` is borrowed until server_stop(). sockets: those that this worker listens on, their addresses in the
 * order of config->listeners; borrowed. PROCESS_LATER (process.h): it
 * accepts, and says that it is ready, once the database has answered or has been waited for long enough; or says that it
 * failed, if the database has a schema that we do not know. -errno. */
int server_start(struct server *, struct loop *, const struct apid_config *, struct metrics *, struct clients *, struct tls *,
                 const struct daemon_socket *sockets, unsigned socket_count, unsigned index);
/* Accepts nothing new; connections end after the answer in hand; the loop stops when the last is gone. */
void server_drain(struct server *);
void server_stop(struct server *);

#endif
