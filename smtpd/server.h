/* One smtpd worker: its listeners, its sessions and the services they share. */
#ifndef MINUTEMAIL_SMTPD_SERVER_H
#define MINUTEMAIL_SMTPD_SERVER_H

#include "common/arrivals.h"
#include "common/list.h"
#include "common/loop.h"
#include "smtpd/listen.h"
#include "smtpd/reply.h"
#include "smtpd/server_auth.h"
#include "smtpd/session.h"
#include "smtpd/stress.h"

struct daemon_socket;
struct listener;
struct loop;
struct metrics;
struct parser;
struct pg;
struct recipients;
struct store;
struct tls;

/* The daemon's configuration; main.c has the table that fills it. Durations in microseconds, sizes in octets. */
struct smtpd_config {
	char **listen, **tls_certificates;
	char *tls_dir;
	char *database, *hostname, *user, *log_level, *metrics_listen, *pid_file, *spool_dir;
	const char *name;             /* by which we go: hostname, or the host's when that is empty */
	struct listen_settings *listeners;   /* of `listen`, parsed; as many */
	_Atomic uint32_t *timeline;   /* the database's, of all workers (pg_timeline_new()) */
	int64_t workers, drain, hang_limit;
	int64_t message_size_max, recipients_max, messages_max, errors_max, junk_max, bad_recipients_max;
	bool strict_syntax, null_sender_single;
	struct netaddr_nets exempt;   /* of client_exempt, parsed */
	struct netaddr_nets refused;  /* of client_refuse */
	struct netaddr_nets bare_newline;   /* of client_bare_newline */
	char **client_exempt, **client_refuse, **client_bare_newline;
	int64_t client_connections_max, client_network_factor;
	int64_t client_connections_rate, client_messages_rate, client_octets_rate, client_bad_recipients_rate, client_handshakes_rate,
	    client_errors_rate;       /* a minute */
	int64_t errors_slow, data_rate_min, session_deadline;
	int64_t stress_sessions, stress_commit;
	int64_t spool_max;            /* of all workers */
	bool log_client, log_sender;
	int64_t connections_max;      /* of one worker */
	int64_t command_deadline, data_deadline, store_deadline;
	int64_t parse_deadline, parse_memory_max, parse_size_max;
	int64_t spool_memory_max;     /* of one worker */
	int64_t store_connections;
	char **dns_servers, **dnsbl_zones;
	char *dns_zone_file, *authserv_id, *dnsbl_action;
	bool authentication, spf_reject, dmarc_reject, null_mx_reject;
	int64_t authentication_deadline, authentication_max, authentication_memory_max;
};

/* Whether there is to be TLS: a certificate is configured, or may be made. */
static inline bool smtpd_wants_tls(const struct smtpd_config *config) {
	return config->tls_certificates[0] || *config->tls_dir;
}

/* A listening socket of this worker, and how it treats its sessions; they borrow it, so it outlives them. */
struct smtpd_listener {
	struct server *server;
	const struct listen_settings *settings;
	struct session_options session;   /* the daemon's, with what the settings change */
	struct listener *accept;          /* NULL: not accepting any more */
};

/* One worker's state; what conn needs of it is borrowed by every connection. */
struct server {
	struct loop *loop;
	const struct smtpd_config *config;
	struct metrics *metrics;
	struct parser *parser;
	struct pg *pg_lookup, *pg_store;  /* apart, so that no look-up waits behind a commit */
	struct recipients *recipients;
	struct store *store;
	struct tls *tls;                  /* borrowed; NULL: no TLS */
	struct server_auth auth;
	struct smtpd_listener *listeners;
	unsigned listener_count;
	const struct daemon_socket *sockets;
	unsigned socket_count;
	struct timer patience;
	struct clients *clients;          /* borrowed; of all workers */
	unsigned long connects;           /* told to the metrics */
	struct list conns;
	struct arrivals arrivals;         /* connections that have not said who they are */
	unsigned conn_count;              /* of both */
	bool paused, open, draining;
	struct stress stress;
	struct timer tick;                /* every second: stress, and whether the database is there */
	int64_t database_away_us;         /* monotonic, since when; 0: it is there */
	char shortage_text[REPLY_LINE_MAX + 1];
};

/* Whether a certificate and its key can be used now, told to the sessions in clear before they are fed. */
void server_look_at_tls(struct server *);

/* Builds the worker on `loop`. `tls` is borrowed until server_stop(). sockets: those that this worker listens on, their addresses in the
 * order of config->listeners; borrowed. PROCESS_LATER (process.h): it accepts, and says that it is ready, once the database has answered
 * or has been waited for long enough; or says that it failed, if the database has a schema that we do not know. -errno. */
int server_start(struct server *, struct loop *, const struct smtpd_config *, struct metrics *, struct clients *, struct tls *,
                 const struct daemon_socket *sockets, unsigned socket_count);
/* Accepts nothing new; sessions end after what is in hand; the loop stops when the last is gone. */
void server_drain(struct server *);
void server_stop(struct server *);

/* A pool of our database; for the services beside, too. */
enum server_pg {
	SERVER_PG_LOOKUPS,       /* queries that only read */
	SERVER_PG_TRANSACTIONS,  /* no queries */
	SERVER_PG_RESULTS,       /* queries that write what may be lost */
};
struct pg *server_open_pg(struct server *, unsigned connections, enum server_pg);

/* conn reports its birth and death, so that accepting pauses at connections_max and resumes. */
void server_conn_opened(struct server *, struct list *link);
void server_conn_closed(struct server *, struct list *link);
/* The same for a connection that is not one yet. */
void server_place_taken(struct server *);
void server_place_left(struct server *);
/* The database has been away for as long as any command would wait for it: what is accepted now could only be told 451. */
bool server_database_away(const struct server *);

#endif
