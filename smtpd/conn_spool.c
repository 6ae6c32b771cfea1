/* Where the octets of a message go. What may lie in spools is bounded twice: memory in this worker (server.c says it to the spools),
 * octets over all of them. */
#include "smtpd/conn_impl.h"

void conn_spool_count(const struct conn *c) {
	metrics_set(c->server->metrics, SMTPD_SPOOL_MEMORY, (int64_t)spool_memory_in_use());
	metrics_set(c->server->metrics, SMTPD_SPOOL_OCTETS, (int64_t)spool_octets_in_use());
}

/* The octets of all workers' messages under way are bounded together: they share the disk. */
static bool spools_are_full(const struct conn *c, uint64_t more) {
	return metrics_sum(c->server->metrics, SMTPD_SPOOL_OCTETS) + (int64_t)more > c->server->config->spool_max;
}

/* The operator's to mend. */
static int no_room(const struct conn *c, const char *setting, int r) {
	static struct log_limit limit = {.what = "no room for messages", .per_second = 1};
	struct log_line line;
	if (!log_limit_pass(&limit))
		return r;
	log_begin(&line, LOG_LEVEL_ERROR, "no room for messages");
	log_str(&line, "setting", setting);
	log_str(&line, "spool_dir", c->server->config->spool_dir);
	log_errno(&line, r);
	log_end(&line);
	return r;
}

int conn_spool_start(void *arg) {
	struct conn *c = arg;
	c->spool = spool_free(c->spool);
	if (spools_are_full(c, session_transaction(c->session)->declared_size))
		return no_room(c, "spool_max", -ENOSPC); /* 452, before anything is sent */
	c->spool = spool_new(c->server->config->spool_dir);
	c->body_us = clock_mono_us();
	return 0;
}

int conn_spool_write(void *arg, const void *p, size_t n) {
	struct conn *c = arg;
	int r = spools_are_full(c, n) ? no_room(c, "spool_max", -ENOSPC) : 0;
	if (r == 0 && (r = spool_append(c->spool, p, n)) < 0)
		no_room(c, "spool_dir", r);
	conn_spool_count(c);
	return r;
}

void conn_spool_drop(void *arg) {
	struct conn *c = arg;
	c->spool = spool_free(c->spool);
	conn_spool_count(c);
}
