/* What the session asks of its connection in passing (session.h), beside where octets go (conn_spool.c). */
#include "smtpd/conn_impl.h"

#include <sys/socket.h>

static bool input_waits(void *arg) {
	return stream_input_waits(((struct conn *)arg)->stream);
}

static bool may_start_tls(void *arg) {
	return conn_limits_handshake(arg);
}

/* Asked of the kernel only here: hardly anybody writes to an address literal. */
static void local_literal(void *arg, char ret[ADDRESS_LITERAL_SIZE]) {
	struct conn *c = arg;
	struct sockaddr_storage own;
	if (c->client.local.family == NETADDR_NONE && getsockname(stream_fd(c->stream), (struct sockaddr *)&own, &(socklen_t){sizeof(own)}) == 0)
		c->client.local = netaddr_of((const struct sockaddr *)&own);
	address_format_literal(&c->client.local, ret);
}

/* What became of it without us: it counts as a message all the same. */
static void body_refused(void *arg, enum reply_id id, uint64_t octets) {
	struct conn *c = arg;
	const struct session_transaction *tx = session_transaction(c->session);
	unsigned code = reply_get(id)->code;
	metrics_add(c->server->metrics, code < 500 ? SMTPD_MESSAGES_DEFERRED : SMTPD_MESSAGES_REFUSED, 1);
	c->messages++;
	conn_limits_message(c);
	c->queue_id[0] = '\0';
	c->dot_us = c->parsed_us = clock_mono_us_now();
	conn_log_sender(c, tx->mail_from.raw);
	conn_log_message(c, "message not stored", LOG_LEVEL_WARNING, octets, tx->recipient_count, code);
}

const struct session_ops CONN_OPS = {conn_spool_start, conn_spool_write, conn_spool_drop, body_refused, input_waits, may_start_tls,
                                     local_literal};
