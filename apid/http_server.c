/* The HTTP connections of one worker together: how many there may be, who gives way, and how they all end. */
#include "apid/http_server.h"

#include "common/arrivals.h"
#include "common/clock.h"
#include "common/log.h"

#include <sodium.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVICTABLE_US SECOND_US /* a connection younger than this is not idle: its first request may be on its way */

const struct http_limits HTTP_LIMITS = {
    .connections = 4096,
    .requests = 10000,
    .connection_us = HOUR_US,
    .idle_us = 60 * SECOND_US,
    .head_us = 10 * SECOND_US,
    .body_us = 30 * SECOND_US,
    .handler_us = 60 * SECOND_US,
    .write_us = 30 * SECOND_US,
    .linger_us = 2 * SECOND_US,
    .farewell_us = SECOND_US,
    .body_rate = 16 * 1024,
    .write_rate = 4 * 1024,
    .body_memory = 256 << 20,
    .body_small = 16 * 1024,
    .output_low = 64 * 1024,
    .output_high = 256 * 1024,
};

static void tell_full(struct http_server *server, bool full) {
	if (server->full == full)
		return;
	server->full = full;
	if (full)
		timer_arm(&server->retry, EVICTABLE_US * 11 / 10); /* the clock is coarse */
	else
		timer_disarm(&server->retry);
	if (server->options.on_full)
		server->options.on_full(server->options.arg, full);
}

/* By now some connection may have been idle long enough to give way. */
static void on_retry(void *arg) {
	tell_full(arg, false);
}

static void tell_drained(struct http_server *server) {
	if (server->count > 0 || server->drained)
		return;
	server->drained = true;
	if (server->options.on_drained)
		server->options.on_drained(server->options.arg);
}

/* Room for one more: at the limit the connection that has been idle longest goes, unless even that one has only just
 * come. A few more than the limit get in until the listeners are told. */
static void make_room(struct http_server *server) {
	if (server->count < server->limits.connections)
		return;
	struct list *l = list_first(&server->idle);
	struct http_conn *oldest = l ? list_entry(l, struct http_conn, idle_link) : NULL;
	if (!oldest || clock_mono_us() - oldest->since_us < EVICTABLE_US) {
		tell_full(server, true);
		return;
	}
	apid_count(server->api->metrics, APID_CONNECTIONS_EVICTED, 1);
	http_conn_close(oldest, true);
}

void http_server_place_taken(struct http_server *server) {
	make_room(server);
	server->count++;
	apid_count(server->api->metrics, APID_CONNECTIONS, 1);
}

void http_server_place_left(struct http_server *server) {
	server->count--;
	apid_count(server->api->metrics, APID_CONNECTIONS, -1);
	if (server->draining)
		tell_drained(server);
	else if (server->count < server->limits.connections)
		tell_full(server, false);
}

static bool limited(const struct http_server *server, const struct http_listen *listen, const struct netaddr *client) {
	return server->options.clients && listen->limits && !netaddr_nets_have(server->options.exempt, client) &&
	       !forwarded_trusts(listen, client); /* many stand behind it */
}

/* One answer instead of a connection. Not inside TLS, where it could not be read. */
static void turn_away(struct http_server *server, int fd, const struct http_listen *listen, const struct netaddr *client) {
#define WHY "this client has too many connections"
	static const char form[] = "{\"type\":\"about:blank\",\"title\":\"Too many requests\",\"status\":429,\"detail\":\"" WHY
	                           "\",\"error\":\"rate_limit_exceeded\",\"code\":\"rate_limit_exceeded\",\"message\":\"" WHY
	                           "\",\"requestId\":\"%s\"}";
	char text[1024], body[512], id[REQUEST_ID_MAX];
	snprintf(id, sizeof(id), "%s%08x", server->id_prefix, ++server->id_counter);
	int body_len = snprintf(body, sizeof(body), form, id);
	int n = snprintf(text, sizeof(text), "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/problem+json\r\n"
	                 "Content-Length: %d\r\nX-Request-Id: %s\r\nRetry-After: 5\r\nConnection: close\r\nCache-Control: no-store\r\n"
	                 "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\r\n%s", body_len, id, body);
	apid_count(server->api->metrics, APID_CONNECTIONS_REFUSED_LIMIT, 1);
	if (!listen->tls)
		(void)!send(fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
	close(fd);
	arrivals_log_refusal("too many connections of this client", server->options.log_client ? client : NULL, 429);
}

bool http_server_may_try(struct http_server *server, const struct request *req) {
	return !limited(server, req->conn->listen, &req->client) ||
	       clients_may_address(server->options.clients, &req->client, CLIENTS_BAD_KEYS);
}

int64_t http_server_take(struct http_server *server, const struct request *req, enum clients_rate rate) {
	return limited(server, req->conn->listen, &req->client) ? clients_take_address(server->options.clients, &req->client, rate) : 0;
}

void http_server_give_back(struct http_server *server, const struct request *req, enum clients_rate rate) {
	if (limited(server, req->conn->listen, &req->client))
		clients_give_back_address(server->options.clients, &req->client, rate);
}

void http_server_accept(struct http_server *server, int fd, const struct http_listen *listen, const struct netaddr *client) {
	struct client place = {0};
	if (server->draining) {
		close(fd);
	} else if (limited(server, listen, client) && clients_enter(server->options.clients, client, &place) != CLIENTS_WELCOME) {
		turn_away(server, fd, listen, client);
	} else {
		http_conn_open(server, fd, listen, client, &place);
	}
}

static void on_farewell(void *arg) {
	struct http_server *server = arg;
	list_for_each_safe (l, &server->conns) {
		struct http_conn *c = list_entry(l, struct http_conn, link);
		if (c->state == CONN_TLS || (c->state == CONN_HEAD && !c->head_begun))
			http_conn_close(c, true);
	}
	tell_drained(server);
}

struct http_server *http_server_new(const struct http_options *options) {
	struct http_server *server = xcalloc(1, sizeof(*server));
	uint32_t prefix = 0;
	server->options = *options;
	server->limits = *options->limits;
	server->api = options->api;
	timer_init(&server->retry, options->api->loop, on_retry, server);
	timer_init(&server->farewell, options->api->loop, on_farewell, server);
	list_init(&server->conns);
	list_init(&server->idle);
	list_init(&server->spare);
	buf_init(&server->head, 32 * 1024);
	randombytes_buf(&prefix, sizeof(prefix));
	snprintf(server->id_prefix, sizeof(server->id_prefix), "%08x-", prefix);
	server->date_second = -1;
	return server;
}

void http_server_drain(struct http_server *server) {
	if (server->draining)
		return;
	server->draining = true;
	/* A request may be on its way on any of them: closing at once would lose it. Its answer says "Connection: close". */
	timer_arm(&server->farewell, server->limits.farewell_us);
	tell_drained(server);
}

struct http_server *http_server_free(struct http_server *server) {
	struct list *l;
	if (!server)
		return NULL;
	server->options.on_full = NULL;
	server->options.on_drained = NULL;
	while ((l = list_first(&server->conns)))
		http_conn_close(list_entry(l, struct http_conn, link), false);
	while ((l = list_first(&server->spare))) {
		list_unlink(l);
		free(list_entry(l, struct request, link));
	}
	timer_fini(&server->retry);
	timer_fini(&server->farewell);
	buf_fini(&server->head);
	free(server);
	return NULL;
}

void http_log_client(struct log_line *line, const struct http_server *server, const struct netaddr *client) {
	char text[NETADDR_TEXT_SIZE];
	if (!server->options.log_client || client->family == NETADDR_NONE)
		return;
	netaddr_format(client, text);
	log_str(line, "client", text);
}

unsigned http_server_connections(const struct http_server *server) {
	return server->count;
}
