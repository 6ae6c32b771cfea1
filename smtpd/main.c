/* smtpd: flags, configuration, listening sockets, then master and workers. */
#include "common/config.h"
#include "common/listener.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/process.h"
#include "smtpd/server.h"
#include "smtpd/smtpd_metrics.h"

#include <stdio.h>
#include <unistd.h>

#define SECOND 1000000LL
#define MIB (1024 * 1024LL)
#define KEY(name, type, member, ...) {name, type, offsetof(struct smtpd_config, member), __VA_ARGS__}

static const struct config_key KEYS[] = {
	KEY("smtpd_listen", CONFIG_LIST, listen, "127.0.0.1:1025", 0, 0, false,
	    "addresses to receive mail on: 127.0.0.1:1025, [::1]:25, *:25, unix:/path"),
	KEY("smtpd_database", CONFIG_STRING, database, "dbname=minutemail user=minutemail_smtpd", 0, 0, false,
	    "libpq connection string or URI; several hosts allowed"),
	KEY("smtpd_workers", CONFIG_INT, workers, "0", 0, 256, false, "worker processes; 0: one per core"),
	KEY("hostname", CONFIG_STRING, hostname, NULL, 0, 0, false, "our name in the banner and in Received; default: the host's"),
	KEY("user", CONFIG_STRING, user, NULL, 0, 0, false, "unprivileged user to become when started as root"),
	KEY("log_level", CONFIG_STRING, log_level, "info", 0, 0, true, "debug, info, warning or error"),
	KEY("drain", CONFIG_DURATION, drain, "30s", 0, 3600 * SECOND, false, "how long open sessions may finish after SIGTERM"),
	KEY("smtpd_metrics_listen", CONFIG_STRING, metrics_listen, NULL, 0, 0, false, "address of GET /metrics; empty: none"),
	KEY("smtpd_pid_file", CONFIG_STRING, pid_file, NULL, 0, 0, false, "written once all workers are up; empty: none"),
	KEY("spool_dir", CONFIG_STRING, spool_dir, "/var/tmp", 0, 0, false,
	    "directory for the unnamed files of messages over 256 KiB while they arrive"),
	KEY("spool_memory_max", CONFIG_SIZE, spool_memory_max, "256M", MIB, 64 * 1024 * MIB, false,
	    "octets of messages held in memory by a worker; over it 451"),
	KEY("message_size_max", CONFIG_SIZE, message_size_max, "25M", 1024, 2048 * MIB - 1, false, "octets of a message (SIZE)"),
	KEY("recipients_max", CONFIG_INT, recipients_max, "100", 100, 1000, false, "recipients of a message; over it 452"),
	KEY("messages_max", CONFIG_INT, messages_max, "0", 0, 1000000, false, "messages of a session; 0: no limit"),
	KEY("errors_max", CONFIG_INT, errors_max, "20", 0, 1000000, false, "errors of a session, then 421; 0: no limit"),
	KEY("junk_max", CONFIG_INT, junk_max, "100", 0, 1000000, false, "NOOP, RSET, VRFY … without mail, then 421; 0: no limit"),
	KEY("bad_recipients_max", CONFIG_INT, bad_recipients_max, "20", 0, 1000000, false,
	    "unknown recipients of a session, then 421; 0: no limit"),
	KEY("connections_max", CONFIG_INT, connections_max, "10000", 1, 1000000, false,
	    "sessions of one worker; past it connections wait in the kernel"),
	KEY("command_deadline", CONFIG_DURATION, command_deadline, "5m", SECOND, 3600 * SECOND, false, "for the next command, then 421"),
	KEY("data_deadline", CONFIG_DURATION, data_deadline, "3m", SECOND, 3600 * SECOND, false, "for the next octets of a message"),
	KEY("store_deadline", CONFIG_DURATION, store_deadline, "30s", SECOND, 300 * SECOND, false,
	    "from the final dot to the commit, retries included; then 451"),
	KEY("store_connections", CONFIG_INT, store_connections, "2", 1, 4, false, "transactions of one worker under way at once"),
	KEY("parse_deadline", CONFIG_DURATION, parse_deadline, "2s", SECOND / 10, 60 * SECOND, false,
	    "for parsing one message; then it is stored unparsed"),
	KEY("parse_memory_max", CONFIG_SIZE, parse_memory_max, "1G", 64 * MIB, 64 * 1024 * MIB, false,
	    "address space of the parser process"),
	KEY("parse_size_max", CONFIG_SIZE, parse_size_max, "64M", 1024, 2048 * MIB - 1, false,
	    "longer messages are stored unparsed"),
	{NULL, CONFIG_STRING, 0, NULL, 0, 0, false, NULL},
};

struct smtpd {
	struct smtpd_config config;
	struct metrics *metrics;
	unsigned workers, addresses;
	int *fds; /* addresses × workers */
	struct server server;
};

static void close_socket(int *fd) {
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static int worker_start(void *arg, struct loop *loop, unsigned index) {
	struct smtpd *d = arg;
	int *mine = xcalloc(d->addresses, sizeof(int));
	for (unsigned a = 0; a < d->addresses; a++) {
		for (unsigned w = 0; w < d->workers; w++) {
			int fd = d->fds[a * d->workers + w];
			if (w == index)
				mine[a] = fd;
			else
				close_socket(&d->fds[a * d->workers + w]); /* the master keeps it for its own worker */
		}
	}
	int r = server_start(&d->server, loop, &d->config, d->metrics, mine, d->addresses);
	free(mine);
	return r;
}

static void worker_drain(void *arg) {
	server_drain(&((struct smtpd *)arg)->server);
}

static void apply_log_level(const struct smtpd_config *config) {
	enum log_level level;
	if (log_level_parse(config->log_level, &level))
		log_set_level(level);
}

static void worker_reload(void *arg) {
	struct smtpd *d = arg;
	if (config_reload(KEYS, &d->config) == 0)
		apply_log_level(&d->config);
}

static void worker_stop(void *arg) {
	struct smtpd *d = arg;
	server_stop(&d->server);
}

static int open_sockets(struct smtpd *d) {
	while (d->config.listen[d->addresses])
		d->addresses++;
	d->fds = xmalloc((size_t)d->addresses * d->workers * sizeof(int));
	memset(d->fds, -1, (size_t)d->addresses * d->workers * sizeof(int));
	for (unsigned a = 0; a < d->addresses; a++) {
		const char *error;
		int r = listener_open(d->config.listen[a], d->workers, &d->fds[a * d->workers], &error);
		if (r < 0) {
			log_msg(LOG_LEVEL_ERROR, "cannot listen", "%s: %s", d->config.listen[a], error);
			return r;
		}
		char name[128];
		listener_name(d->fds[a * d->workers], name, sizeof(name));
		struct log_line line;
		log_begin(&line, LOG_LEVEL_INFO, "listening");
		log_str(&line, "address", name);
		log_end(&line);
	}
	return 0;
}

/* Apart from the configured one, which a reload compares with what is configured then. */
static void set_name(struct smtpd_config *config) {
	if (config->hostname && *config->hostname) {
		config->name = config->hostname;
		return;
	}
	if (gethostname(config->host_name, sizeof(config->host_name) - 1) < 0)
		strcpy(config->host_name, "localhost");
	config->name = config->host_name;
}

int main(int argc, char **argv) {
	struct smtpd d = {0};
	log_init("smtpd", LOG_LEVEL_INFO);
	switch (config_load(KEYS, &d.config, argc, argv, "smtpd: receives mail over SMTP and commits it to PostgreSQL", NULL)) {
	case CONFIG_OK:
		break;
	case CONFIG_EXIT_OK:
		config_fini(KEYS, &d.config);
		return 0;
	case CONFIG_BAD:
		config_fini(KEYS, &d.config);
		return 2;
	}
	apply_log_level(&d.config);
	set_name(&d.config);
	d.workers = d.config.workers ? (unsigned)d.config.workers : process_default_workers();
	d.metrics = metrics_new(SMTPD_METRICS, d.workers);
	int status = 1;
	if (open_sockets(&d) == 0) {
		const struct process_options options = {
			.name = "smtpd",
			.workers = d.workers,
			.user = d.config.user,
			.drain_us = d.config.drain,
			.metrics_listen = d.config.metrics_listen,
			.metrics = d.metrics,
			.pid_file = d.config.pid_file,
		};
		const struct process_ops ops = {worker_start, worker_drain, worker_reload, worker_stop};
		status = process_run(&options, &ops, &d);
	}
	for (unsigned i = 0; d.fds && i < d.addresses * d.workers; i++)
		close_socket(&d.fds[i]);
	free(d.fds);
	metrics_free(d.metrics);
	config_fini(KEYS, &d.config);
	return status;
}
