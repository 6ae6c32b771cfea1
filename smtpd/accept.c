/* What happens to a connection before it is a session; see the header. An arrival is a connection whose PROXY header is awaited; it takes
 * a session's place from the start, so that slow proxies are bounded too.
 *
 * Refusals may come by the thousand a second: each is one send() and one close(), and few are logged. */
#include "smtpd/accept.h"

#include "common/log.h"
#include "common/loop.h"
#include "common/proxy_accept.h"
#include "smtpd/conn.h"
#include "smtpd/reply.h"
#include "smtpd/server.h"
#include "smtpd/smtpd_metrics.h"

#include <sys/socket.h>
#include <unistd.h>

struct arrival {
	struct list link;
	const struct smtpd_listener *listener;
	struct proxy_accept *proxy;
	struct netaddr peer;
};

static void log_refusal(struct server *s, const struct conn_client *client, const char *reason, unsigned code) {
	struct log_line line;
	char text[NETADDR_TEXT_SIZE];
	static struct log_limit limit = {.what = "connection refused", .per_second = 10};
	if (!log_limit_pass(&limit))
		return;
	log_begin(&line, LOG_LEVEL_INFO, "connection refused");
	log_str(&line, "reason", reason);
	if (s->config->log_client) {
		netaddr_format(&client->address, text);
		log_str(&line, "client", text);
	}
	log_int(&line, "code", code);
	log_end(&line);
}

/* One line instead of the banner. Not inside TLS, where it could not be read. */
static void turn_away(const struct smtpd_listener *l, int fd, const struct conn_client *client, enum reply_id id, const char *reason) {
	struct server *s = l->server;
	struct buf text;
	buf_init(&text, REPLY_LINE_MAX);
	reply_append(&text, id, s->config->name, strlen(s->config->name));
	if (!l->settings->tls && send(fd, text.data, text.len, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		metrics_add(s->metrics, smtpd_reply_metric(reply_get(id)->code), 1);
	buf_fini(&text);
	close(fd);
	log_refusal(s, client, reason, reply_get(id)->code);
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

/* ---- PROXY ---- */

static void refuse_proxy(struct server *s, const struct netaddr *peer, const char *fault) {
	const struct conn_client client = {.address = *peer, .peer = *peer};
	metrics_add(s->metrics, SMTPD_REFUSED_PROXY, 1);
	log_refusal(s, &client, fault, 0);
}

static void end_arrival(struct arrival *a) {
	list_unlink(&a->link);
	server_place_left(a->listener->server);
	free(a);
}

static void on_header(void *arg, int fd, const struct netaddr *client, const char *fault) {
	struct arrival *a = arg;
	struct conn_client who = {.peer = a->peer};
	if (fault) {
		refuse_proxy(a->listener->server, &a->peer, fault);
	} else {
		who.address = *client;
		admit(a->listener, fd, &who);
	}
	end_arrival(a);
}

static void await_header(const struct smtpd_listener *l, int fd, const struct netaddr *peer) {
	struct server *s = l->server;
	if (!netaddr_nets_have(&l->settings->proxy, peer)) {
		close(fd);
		refuse_proxy(s, peer, "not one of this listener's proxies");
		return;
	}
	struct arrival *a = xcalloc(1, sizeof(*a));
	a->listener = l;
	a->peer = *peer;
	list_append(&s->arrivals, &a->link);
	server_place_taken(s);
	a->proxy = proxy_accept_start(s->loop, fd, peer, on_header, a);
}

void accept_connection(const struct smtpd_listener *l, int fd, const struct sockaddr_storage *peer) {
	struct netaddr address = netaddr_of((const struct sockaddr *)peer);
	metrics_add(l->server->metrics, SMTPD_CONNECTIONS, 1);
	if (l->settings->proxy.n) {
		await_header(l, fd, &address);
	} else {
		struct conn_client client = {.address = address, .peer = address};
		admit(l, fd, &client);
	}
}

void accept_cancel(struct server *s) {
	list_for_each_safe(link, &s->arrivals) {
		struct arrival *a = list_entry(link, struct arrival, link);
		proxy_accept_cancel(a->proxy);
		end_arrival(a);
	}
}

const char *accept_shortage_text(const struct smtpd_listener *l) {
	return l->settings->tls || l->settings->proxy.n ? NULL : l->server->shortage_text;
}
