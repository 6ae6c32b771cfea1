/* What happens to a connection before it is a session; see the header. Refusals may come by the thousand a second: each is one send() and
 * one close(), and few are logged. */
#include "smtpd/accept.h"

#include "smtpd/conn.h"
#include "smtpd/reply.h"
#include "smtpd/server.h"
#include "smtpd/smtpd_metrics.h"

#include <sys/socket.h>
#include <unistd.h>

/* One line instead of the banner. Not inside TLS, where it could not be read. */
static void turn_away(const struct smtpd_listener *l, int fd, const struct conn_client *client, enum reply_id id, const char *reason) {
	struct server *s = l->server;
	struct buf text;
	buf_init(&text, REPLY_LINE_MAX);
	reply_append(&text, id, s->config->name, strlen(s->config->name));
	if (!l->settings->tls && send(fd, text.data, text.len, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		smtpd_count_reply(s->metrics, id);
	buf_fini(&text);
	close(fd);
	arrivals_log_refusal(reason, s->config->log_client ? &client->address : NULL, reply_get(id)->code);
}

static bool limited(const struct smtpd_listener *l, const struct netaddr *address) {
	return l->settings->limits && !netaddr_nets_have(&l->server->config->exempt, address);
}

static void admit(const struct smtpd_listener *l, int fd, struct conn_client *client) {
	struct server *s = l->server;
	enum clients_verdict verdict = CLIENTS_WELCOME;
	if (limited(l, &client->address))
		verdict = clients_enter(s->clients, &client->address, &client->place);
	if (verdict != CLIENTS_WELCOME) {
		metrics_add(s->metrics, SMTPD_REFUSED_LIMIT, 1);
		turn_away(l, fd, client, REPLY_RATE, verdict == CLIENTS_TOO_MANY ? "too many connections" : "too fast");
	} else if (server_database_away(s)) {
		clients_leave(s->clients, &client->place);
		metrics_add(s->metrics, SMTPD_REFUSED_DATABASE, 1);
		turn_away(l, fd, client, REPLY_OVERLOAD, "database away");
	} else {
		conn_start(l, fd, client);
	}
}

static void on_come(void *listener, int fd, const struct proxy_client *client) {
	struct conn_client who = {.address = client->address, .peer = client->peer, .local = client->local};
	admit(listener, fd, &who);
}

static void on_refused(void *arg) {
	metrics_add(((struct server *)arg)->metrics, SMTPD_REFUSED_PROXY, 1);
}

static void on_place_taken(void *arg) {
	server_place_taken(arg);
}

static void on_place_left(void *arg) {
	server_place_left(arg);
}

void accept_init(struct server *s) {
	static const struct arrivals_ops ops = {on_come, on_refused, on_place_taken, on_place_left};
	arrivals_init(&s->arrivals, s->loop, &ops, s, s->config->log_client);
}

void accept_connection(struct smtpd_listener *l, int fd, const struct sockaddr_storage *peer) {
	struct server *s = l->server;
	metrics_add(s->metrics, SMTPD_CONNECTIONS, 1);
	arrivals_add(&s->arrivals, fd, peer, &l->settings->proxy, l);
}

const char *accept_shortage_text(const struct smtpd_listener *l) {
	return l->settings->tls || l->settings->proxy.n ? NULL : l->server->shortage_text;
}
