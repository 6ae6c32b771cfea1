/* Where the octets of a message go: the session's sink. What may lie in spools is bounded twice: memory in this worker, octets over all of
 * them. */
#include "smtpd/conn_impl.h"

#include <sys/socket.h>

void conn_spool_count(const struct conn *c) {
	metrics_set(c->server->metrics, SMTPD_SPOOL_MEMORY, (int64_t)spool_memory_in_use());
	metrics_set(c->server->metrics, SMTPD_SPOOL_OCTETS, (int64_t)spool_octets_in_use());
}

/* The octets of all workers' messages under way are bounded together: they share the disk. */
static bool spools_are_full(const struct conn *c, uint64_t more) {
	return metrics_sum(c->server->metrics, SMTPD_SPOOL_OCTETS) + (int64_t)more > c->server->config->spool_max;
}

static int sink_start(void *arg) {
	struct conn *c = arg;
	c->spool = spool_free(c->spool);
	if (spools_are_full(c, session_transaction(c->session)->declared_size))
		return -ENOSPC; /* 452, before anything is sent */
	if (spool_memory_in_use() > (size_t)c->server->config->spool_memory_max)
		return -ENOBUFS; /* a fault of ours: 451, the sender's queue keeps the mail */
	c->spool = spool_new(c->server->config->spool_dir);
	return 0;
}

static int sink_write(void *arg, const void *p, size_t n) {
	struct conn *c = arg;
	int r = spools_are_full(c, n) ? -ENOSPC : spool_append(c->spool, p, n);
	conn_spool_count(c);
	return r;
}

static void sink_drop(void *arg) {
	struct conn *c = arg;
	c->spool = spool_free(c->spool);
	conn_spool_count(c);
}

/* A client that talks before the banner does not speak SMTP, or speaks it for another (RFC 5321 4.3.1). */
bool conn_talks_early(int fd) {
	char octet;
	return recv(fd, &octet, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

static bool sink_input_waits(void *arg) {
	struct conn *c = arg;
	return conn_talks_early(stream_fd(c->stream));
}

const struct session_sink CONN_SPOOL = {sink_start, sink_write, sink_drop, sink_input_waits};
