/* What happens to a connection before it is one of HTTP; see the header. An arrival is a connection whose PROXY header is awaited; it takes
 * a connection's place from the start, so that slow proxies are bounded too. Refusals may come by the thousand a second: few are logged. */
#include "apid/accept.h"

#include "apid/apid_metrics.h"
#include "apid/http_conn.h"
#include "apid/server.h"
#include "common/log.h"
#include "common/proxy_accept.h"

#include <unistd.h>

struct arrival {
	struct list link;
	const struct apid_listener *listener;
	struct proxy_accept *proxy;
	struct netaddr peer;
};

static void refuse(struct server *s, const struct netaddr *peer, const char *fault) {
	struct log_line line;
	char text[NETADDR_TEXT_SIZE];
	static struct log_limit limit = {.what = "connection refused", .per_second = 10};
	apid_count(s->api.metrics, APID_CONNECTIONS_REFUSED_PROXY, 1);
	if (!log_limit_pass(&limit))
		return;
	log_begin(&line, LOG_LEVEL_INFO, "connection refused");
	log_str(&line, "reason", fault);
	if (s->config->log_client) {
		netaddr_format(peer, text);
		log_str(&line, "client", text);
	}
	log_end(&line);
}

static void end_arrival(struct arrival *a) {
	list_unlink(&a->link);
	http_server_place_left(a->listener->server->http);
	free(a);
}

static void on_header(void *arg, int fd, const struct netaddr *client, const char *fault) {
	struct arrival *a = arg;
	const struct apid_listener *l = a->listener;
	struct netaddr who;
	if (fault) {
		refuse(l->server, &a->peer, fault);
		end_arrival(a);
		return;
	}
	who = *client;
	end_arrival(a);
	http_server_accept(l->server->http, fd, l->settings, &who);
}

static void await_header(const struct apid_listener *l, int fd, const struct netaddr *peer) {
	struct server *s = l->server;
	if (!netaddr_nets_have(&l->settings->proxy, peer)) {
		close(fd);
		refuse(s, peer, "not one of this listener's proxies");
		return;
	}
	struct arrival *a = xcalloc(1, sizeof(*a));
	a->listener = l;
	a->peer = *peer;
	list_append(&s->arrivals, &a->link);
	http_server_place_taken(s->http);
	a->proxy = proxy_accept_start(s->loop, fd, peer, on_header, a);
}

void accept_connection(const struct apid_listener *l, int fd, const struct sockaddr_storage *peer) {
	struct netaddr address = netaddr_of((const struct sockaddr *)peer);
	if (l->settings->proxy.n)
		await_header(l, fd, &address);
	else
		http_server_accept(l->server->http, fd, l->settings, &address);
}

void accept_cancel(struct server *s) {
	list_for_each_safe(link, &s->arrivals) {
		struct arrival *a = list_entry(link, struct arrival, link);
		proxy_accept_cancel(a->proxy);
		end_arrival(a);
	}
}
