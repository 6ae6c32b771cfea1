/* What goes out: a head, and a body whole or in pieces. The connection's state is http_conn's; here it is only told. */
#include "apid/http_server.h"

#include "apid/cors.h"
#include "common/clock.h"

#include <event2/buffer.h>
#include <inttypes.h>
#include <stdio.h>
#include <strings.h>
#include <time.h>
#include <xxhash.h>

#define COPIED_MOST (16 * 1024) /* bodies up to this go out in one piece with their head, larger ones by reference */
#define ETAG_SIZE 36            /* two quotes, 32 hex digits, NUL, one spare */

static const char *status_text(unsigned status) {
	static const struct {
		unsigned status;
		const char *text;
	} rows[] = {
	    {200, "OK"},
	    {201, "Created"},
	    {202, "Accepted"},
	    {204, "No Content"},
	    {206, "Partial Content"},
	    {304, "Not Modified"},
	    {400, "Bad Request"},
	    {401, "Unauthorized"},
	    {403, "Forbidden"},
	    {404, "Not Found"},
	    {405, "Method Not Allowed"},
	    {408, "Request Timeout"},
	    {409, "Conflict"},
	    {412, "Precondition Failed"},
	    {413, "Content Too Large"},
	    {414, "URI Too Long"},
	    {415, "Unsupported Media Type"},
	    {416, "Range Not Satisfiable"},
	    {417, "Expectation Failed"},
	    {429, "Too Many Requests"},
	    {431, "Request Header Fields Too Large"},
	    {500, "Internal Server Error"},
	    {501, "Not Implemented"},
	    {503, "Service Unavailable"},
	    {505, "HTTP Version Not Supported"},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		if (rows[i].status == status)
			return rows[i].text;
	}
	return "Unknown";
}

/* RFC 9110 5.6.7, made once a second. */
static const char *date(struct http_server *server) {
	static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
	static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
	                                 "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	int64_t now = clock_wall_us() / 1000000;
	if (now != server->date_second) {
		time_t t = (time_t)now;
		struct tm tm;
		gmtime_r(&t, &tm);
		snprintf(server->date, sizeof(server->date), "%s, %02u %s %04u %02u:%02u:%02u GMT", days[tm.tm_wday % 7],
		         (unsigned)tm.tm_mday % 100, months[tm.tm_mon % 12], (unsigned)(tm.tm_year + 1900) % 10000,
		         (unsigned)tm.tm_hour % 100, (unsigned)tm.tm_min % 100, (unsigned)tm.tm_sec % 100);
		server->date_second = now;
	}
	return server->date;
}

/* ---- head ---- */

/* The service is an API: nothing of it is to be cached, framed, run or linked from. */
static const struct respond_header DEFAULTS[] = {
    {"X-Content-Type-Options", "nosniff"},
    {"Cache-Control", "no-store"},
    {"Referrer-Policy", "no-referrer"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
    {"Cross-Origin-Opener-Policy", "same-origin"},
    {"Permissions-Policy", "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"},
    {"Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"},
};
#define DEFAULTS_TEXT                                                                                                  \
	"X-Content-Type-Options: nosniff\r\n"                                                                              \
	"Cache-Control: no-store\r\n"                                                                                      \
	"Referrer-Policy: no-referrer\r\n"                                                                                 \
	"Cross-Origin-Resource-Policy: same-origin\r\n"                                                                    \
	"Cross-Origin-Opener-Policy: same-origin\r\n"                                                                      \
	"Permissions-Policy: camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()\r\n"         \
	"Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n"

static bool in_extra(const struct respond_header *extra, const char *name) {
	for (; extra && extra->name; extra++) {
		if (strcasecmp(extra->name, name) == 0)
			return true;
	}
	return false;
}

static void put(struct buf *head, const char *name, const char *value) {
	assert(!strchr(value, '\r') && !strchr(value, '\n'));
	buf_append_str(head, name);
	buf_append(head, ": ", 2);
	buf_append_str(head, value);
	buf_append(head, "\r\n", 2);
}

/* A 304 renews the headers that a client has stored with the body (RFC 9111 4.3.4): what the 200 said otherwise than by default must not
 * be taken back. */
static bool in_stored(unsigned status, const char *name) {
	return status == 304 && (strcmp(name, "Cache-Control") == 0 || strcmp(name, "Content-Security-Policy") == 0);
}

static void put_headers(struct buf *head, unsigned status, const struct respond_header *extra) {
	if (!extra || !extra->name) {
		buf_append(head, DEFAULTS_TEXT, sizeof(DEFAULTS_TEXT) - 1);
		return;
	}
	for (size_t i = 0; i < array_len(DEFAULTS); i++) {
		if (!in_extra(extra, DEFAULTS[i].name) && !in_stored(status, DEFAULTS[i].name))
			put(head, DEFAULTS[i].name, DEFAULTS[i].value);
	}
	for (; extra->name; extra++)
		put(head, extra->name, extra->value);
}

/* Every answer to a key says what it may still ask. */
static void put_quota(struct buf *head, const struct request *req) {
	struct quota_state state;
	if (!req->principal || req->principal->kind != PRINCIPAL_KEY || !req->api->quota)
		return;
	quota_state(req->api->quota, req->principal, &state);
	quota_headers(&state, head);
}

/* Whether a page of another origin may read this. Nobody's page but ours reads what a console session is told. */
static void put_cors(struct buf *head, const struct request *req) {
	char *const *origins = req->conn->server->options.cors_origins;
	if (!origins || !*origins)
		return;
	put(head, "Vary", "Origin");
	if ((req->route && req->route->access == ROUTE_CONSOLE) || (req->principal && req->principal->kind == PRINCIPAL_SESSION))
		return;
	const char *allowed = cors_allows(origins, http_head_field(req->head, "origin"));
	if (!allowed)
		return;
	put(head, "Access-Control-Allow-Origin", allowed);
	put(head, "Access-Control-Expose-Headers",
	    "Content-Disposition, ETag, RateLimit, RateLimit-Policy, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, "
	    "X-RateLimit-Reset, X-Request-Id");
}

/* 204 and 304 have no body and no length (RFC 9110 8.6). */
static bool has_length(unsigned status) {
	return status != 204 && status != 304;
}

/* Makes the head in server->head. `type` NULL: no body headers but the length. */
static struct buf *make_head(struct request *req, unsigned status, const char *type, const struct respond_header *extra,
                             uint64_t length) {
	struct http_conn *c = req->conn;
	struct buf *head = &c->server->head;
	assert(req->state == REQUEST_OPEN);
	buf_reset(head);
	buf_append(head, "HTTP/1.1 ", 9);
	buf_append_decimal(head, status);
	buf_append_char(head, ' ');
	buf_append_str(head, status_text(status));
	buf_append(head, "\r\n", 2);
	put(head, "Date", date(c->server));
	if (type)
		put(head, "Content-Type", type);
	if (has_length(status)) {
		buf_append_str(head, "Content-Length: ");
		buf_append_decimal(head, (int64_t)length);
		buf_append(head, "\r\n", 2);
	}
	put(head, "X-Request-Id", req->id);
	put_headers(head, status, extra);
	put_quota(head, req);
	put_cors(head, req);
	if (req->secure) /* a browser takes it from TLS only (RFC 6797 7.2, 8.1) */
		put(head, "Strict-Transport-Security", "max-age=63072000; includeSubDomains");
	if (http_conn_closes(c))
		put(head, "Connection", "close");
	else if (!req->head->http11)
		put(head, "Connection", "keep-alive");
	buf_append(head, "\r\n", 2);
	assert(!head->overflow);
	req->status = status;
	request_promise(req);
	return head;
}

static void done(struct request *req) {
	req->state = REQUEST_ANSWERED;
	http_conn_answered(req->conn);
}

/* ---- whole bodies ---- */

static void free_body(const void *data, size_t n, void *arg) {
	free(arg);
}

/* Head and body; the body is taken over. */
static void send_whole(struct request *req, struct buf *head, struct buf *body) {
	struct evbuffer *out = stream_output(req->conn->stream);
	size_t n = 0;
	if (req->head_only || body->len == 0) {
		buf_fini(body);
		evbuffer_add(out, head->data, head->len);
	} else if (body->len <= COPIED_MOST) {
		n = body->len;
		struct evbuffer_iovec room;
		if (evbuffer_reserve_space(out, (ev_ssize_t)(head->len + n), &room, 1) != 1)
			abort();
		memcpy(room.iov_base, head->data, head->len);
		memcpy((char *)room.iov_base + head->len, body->data, n);
		room.iov_len = head->len + n;
		evbuffer_commit_space(out, &room, 1);
		buf_fini(body);
	} else {
		char *data = buf_take(body, &n);
		evbuffer_add(out, head->data, head->len);
		if (evbuffer_add_reference(out, data, n, free_body, data) < 0)
			abort();
	}
	req->octets_out = n;
	done(req);
}

void respond_bytes(struct request *req, unsigned status, const char *type, const struct respond_header *extra,
                   struct buf *body) {
	struct buf none;
	if (!body) {
		buf_init(&none, 1);
		body = &none;
	}
	assert(!body->overflow);
	send_whole(req, make_head(req, status, type, extra, body->len), body);
}

/* A preflight names the method that is to follow; it brings no key. Where CORS is off, or to others, OPTIONS is a method like any
 * that a path does not take. */
bool response_preflight(struct request *req) {
	static const struct respond_header extra[] = {
	    {"Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE"},
	    {"Access-Control-Allow-Headers", "Authorization, Content-Type, If-None-Match, X-Request-Id"},
	    {"Access-Control-Max-Age", "600"},
	    {NULL, NULL},
	};
	const struct http_options *options = &req->conn->server->options;
	struct slice params[ROUTER_PARAMS_MAX];
	enum request_method method;
	if (!cors_allows(options->cors_origins, request_header(req, "origin")) ||
	    !cors_method(request_header(req, "access-control-request-method"), &method) ||
	    router_find(options->routes, method, req->head->path, &req->route, params, NULL, 0) != ROUTER_FOUND)
		return false;
	if (req->route->access == ROUTE_CONSOLE) {
		req->route = NULL;
		return false;
	}
	respond_bytes(req, 204, NULL, extra, NULL);
	return true;
}

void respond_empty(struct request *req, unsigned status) {
	respond_bytes(req, status, NULL, NULL, NULL);
}

/* If-None-Match: a list of tags, or *; compared weakly (RFC 9110 13.1.2). */
static bool etag_matches(struct slice list, const char *etag) {
	size_t n = strlen(etag);
	for (size_t i = 0; i < list.n;) {
		const char *p = list.p + i;
		size_t left = list.n - i;
		if (*p == '*')
			return true;
		if (*p == ' ' || *p == '\t' || *p == ',') {
			i++;
			continue;
		}
		if (left > 2 && p[0] == 'W' && p[1] == '/') {
			p += 2;
			left -= 2;
		}
		if (left >= n && memcmp(p, etag, n) == 0)
			return true;
		const char *close = left > 1 && *p == '"' ? memchr(p + 1, '"', left - 1) : NULL;
		if (!close)
			return false;
		i = (size_t)(close + 1 - list.p);
	}
	return false;
}

static bool is_read(const struct request *req) {
	return req->head->method == METHOD_GET || req->head->method == METHOD_HEAD;
}

bool respond_not_modified(struct request *req, const char *etag) {
	const struct respond_header extra[] = {{"ETag", etag}, {NULL, NULL}};
	struct slice wanted = request_header(req, "if-none-match");
	if (wanted.n == 0 || !is_read(req) || !etag_matches(wanted, etag))
		return false;
	respond_bytes(req, 304, NULL, extra, NULL);
	return true;
}

/* Strong: the same octets and no others. */
static void make_etag(const struct buf *body, char ret[ETAG_SIZE]) {
	XXH128_hash_t hash = XXH3_128bits(body->data, body->len); /* nobody gains by a collision with himself */
	char *p = ret;
	*p++ = '"';
	p = hexadecimal(hash.high64, 16, p);
	p = hexadecimal(hash.low64, 16, p);
	memcpy(p, "\"", 2);
}

void respond_json(struct request *req, unsigned status, struct buf *body) {
	char etag[ETAG_SIZE];
	const struct respond_header extra[] = {{"ETag", etag}, {NULL, NULL}};
	if (status != 200 || !is_read(req)) {
		respond_bytes(req, status, "application/json", NULL, body);
		return;
	}
	make_etag(body, etag);
	if (respond_not_modified(req, etag))
		buf_fini(body);
	else
		respond_bytes(req, status, "application/json", extra, body);
}

/* ---- bodies in pieces ---- */

void respond_stream_start(struct request *req, unsigned status, const char *type, const struct respond_header *extra,
                          uint64_t length, void (*more)(void *arg), void *arg) {
	struct buf *head = make_head(req, status, type, extra, length);
	evbuffer_add(stream_output(req->conn->stream), head->data, head->len);
	if (req->head_only) {
		done(req);
		return;
	}
	req->stream.more = more;
	req->stream.arg = arg;
	req->stream.left = length;
	req->state = REQUEST_STREAM;
	http_conn_answered(req->conn);
}

void respond_stream_write(struct request *req, const void *p, size_t n) {
	assert(req->state == REQUEST_STREAM && n <= req->stream.left);
	req->stream.left -= n;
	req->stream.asked = false;
	req->octets_out += n;
	evbuffer_add(stream_output(req->conn->stream), p, n);
	http_conn_answered(req->conn);
}

void respond_stream_end(struct request *req) {
	assert(req->state == REQUEST_STREAM && req->stream.left == 0);
	done(req);
}

void respond_stream_fail(struct request *req) {
	assert(req->state == REQUEST_STREAM);
	req->cut = true;
	done(req);
}
