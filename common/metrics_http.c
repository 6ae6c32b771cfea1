/* GET /metrics, and nothing else of HTTP: the head is read up to its empty line, one answer with its length goes out, the
 * connection is closed (RFC 9112 9.6). Header fields are not looked at and bodies are not read.
 *
 * Invariant: the listener is paused exactly while CONNECTIONS_MAX connections are open. */
#include "common/metrics_http.h"

#include "common/buf.h"
#include "common/list.h"
#include "common/listener.h"
#include "common/loop.h"
#include "common/stream.h"

#include <event2/buffer.h>
#include <unistd.h>

#define CONNECTIONS_MAX 16
#define HEAD_MAX 8192
#define ANSWER_MAX (4 * 1024 * 1024)
#define DEADLINE_US 5000000
#define LINGER_US 1000000

struct metrics_http {
	struct loop *loop;
	int fd;
	struct listener *listener;
	struct list conns;
	unsigned count;
	void (*print)(void *arg, struct buf *);
	void *arg;
};

struct conn {
	struct list link;
	struct metrics_http *http;
	struct stream *stream;
};

/* The stream is closed or disowned by now. */
static void conn_leave(struct conn *c) {
	struct metrics_http *h = c->http;
	list_unlink(&c->link);
	if (h->count-- == CONNECTIONS_MAX)
		listener_set_paused(h->listener, false);
	loop_bury(h->loop, c, free);
}

static void conn_answer(struct conn *c, const char *status, const struct buf *body, bool with_body) {
	struct evbuffer *out = stream_output(c->stream);
	evbuffer_add_printf(
	    out,
	    "HTTP/1.1 %s\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: %zu\r\n"
	    "Connection: close\r\n\r\n",
	    status, body->len);
	if (with_body && body->len)
		evbuffer_add(out, body->data, body->len);
	c->stream = stream_close_after_write(c->stream, LINGER_US);
	conn_leave(c);
}

static void conn_fault(struct conn *c, const char *status) {
	struct buf body;
	buf_init(&body, 256);
	buf_printf(&body, "%s\n", status);
	conn_answer(c, status, &body, true);
	buf_fini(&body);
}

static void conn_metrics(struct conn *c, bool with_body) {
	struct buf body;
	buf_init(&body, ANSWER_MAX);
	c->http->print(c->http->arg, &body);
	if (body.overflow)
		conn_fault(c, "500 Internal Server Error");
	else
		conn_answer(c, "200 OK", &body, with_body);
	buf_fini(&body);
}

static void conn_request(struct conn *c, char *line) {
	char *rest = NULL;
	const char *method = strtok_r(line, " ", &rest);
	char *target = strtok_r(NULL, " ", &rest);
	const char *version = strtok_r(NULL, " \r", &rest);
	if (!method || !target || !version || strncmp(version, "HTTP/1.", 7) != 0) {
		conn_fault(c, "400 Bad Request");
		return;
	}
	target[strcspn(target, "?")] = '\0';
	bool head = strcmp(method, "HEAD") == 0;
	if (strcmp(target, "/metrics") != 0)
		conn_fault(c, "404 Not Found");
	else if (!head && strcmp(method, "GET") != 0)
		conn_fault(c, "405 Method Not Allowed");
	else
		conn_metrics(c, !head);
}

static void conn_read(struct conn *c) {
	struct evbuffer *in = stream_input(c->stream);
	struct evbuffer_ptr end = evbuffer_search(in, "\r\n\r\n", 4, NULL);
	if (end.pos < 0) {
		if (evbuffer_get_length(in) >= HEAD_MAX)
			conn_fault(c, "431 Request Header Fields Too Large");
		return;
	}
	char *line = evbuffer_readln(in, NULL, EVBUFFER_EOL_CRLF);
	if (line)
		conn_request(c, line);
	free(line);
}

static void on_event(void *arg, enum stream_event event) {
	struct conn *c = arg;
	if (event == STREAM_READABLE) {
		conn_read(c);
	} else if (event != STREAM_DRAINED) {
		/* The peer left before its head was whole, was too slow, or failed. */
		c->stream = stream_close(c->stream);
		conn_leave(c);
	}
}

static void on_accept(void *arg, int fd, const struct sockaddr_storage *peer, socklen_t peer_len) {
	static const struct stream_ops ops = {on_event};
	struct metrics_http *h = arg;
	struct conn *c = xcalloc(1, sizeof(*c));
	(void)peer;
	(void)peer_len;
	c->http = h;
	c->stream = stream_new(h->loop, fd, HEAD_MAX, &ops, c);
	list_append(&h->conns, &c->link);
	stream_set_deadline(c->stream, DEADLINE_US);
	stream_want_read(c->stream, true);
	if (++h->count == CONNECTIONS_MAX)
		listener_set_paused(h->listener, true);
}

struct metrics_http *metrics_http_new(struct loop *loop, int fd, void (*print)(void *arg, struct buf *), void *arg) {
	struct metrics_http *h = xcalloc(1, sizeof(*h));
	h->loop = loop;
	h->fd = fd;
	h->print = print;
	h->arg = arg;
	list_init(&h->conns);
	h->listener = listener_new(loop, fd, on_accept, h);
	return h;
}

struct metrics_http *metrics_http_free(struct metrics_http *h) {
	struct list *e;
	if (!h)
		return NULL;
	while ((e = list_first(&h->conns))) {
		struct conn *c = list_entry(e, struct conn, link);
		c->stream = stream_close(c->stream);
		conn_leave(c);
	}
	listener_free(h->listener);
	close(h->fd);
	loop_bury(h->loop, h, free);
	return NULL;
}
