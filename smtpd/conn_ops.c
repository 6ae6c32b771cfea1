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

const struct session_ops CONN_OPS = {conn_spool_start, conn_spool_write, conn_spool_drop, input_waits, may_start_tls, local_literal};
