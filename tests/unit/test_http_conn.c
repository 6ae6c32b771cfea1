/* http_conn on socket pairs with a route table of its own: order, keep-alive, pipelining, every framing vector with
 * a second request behind it that must not run, deadlines, back-pressure, drain, abort. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "apid/api.h"
#include "apid/auth.h"
#include "apid/cors.h"
#include "apid/http_conn.h"
#include "apid/http_listen.h"
#include "apid/request.h"
#include "apid/router.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"

#include "http_vectors.h"

#define H "Host: a\r\n"
#define MS 1000

/* ---- a key service of our own ---- */

struct auth_op {
	struct deferred later;
	auth_done *done;
	void *arg;
};

static unsigned auth_cancelled;
static struct loop *loop;
static unsigned fickle_asked;

static struct principal *make_principal(void) {
	struct principal *p = xcalloc(1, sizeof(*p));
	p->refs = 1;
	p->last8 = xstrdup("last8abc");
	p->scopes = xcalloc(2, sizeof(char *));
	p->scopes[0] = xstrdup("domains");
	return p;
}

static void auth_later(void *arg) {
	struct auth_op *op = arg;
	struct principal *p = make_principal();
	op->done(op->arg, AUTH_OK, p);
	principal_unref(p);
	free(op);
}

struct auth_op *auth_start(struct auth *auth, struct slice header, struct slice session, auth_done *done, void *arg,
                           enum auth_verdict *ret_verdict, struct principal **ret_principal) {
	(void)auth;
	*ret_verdict = header.n == 0 ? AUTH_NO_KEY : AUTH_UNKNOWN;
	if (slice_eq(header, slice_str("Bearer good"))) {
		*ret_verdict = AUTH_OK;
		*ret_principal = make_principal();
	} else if (slice_eq(header, slice_str("Bearer other")) || slice_eq(header, slice_str("Bearer third"))) { /* of other accounts */
		*ret_verdict = AUTH_OK;
		*ret_principal = make_principal();
		(*ret_principal)->account_id.b[0] = (uint8_t)header.p[7];
	} else if (slice_eq(header, slice_str("Bearer fickle"))) { /* good once */
		*ret_verdict = fickle_asked++ == 0 ? AUTH_OK : AUTH_REVOKED;
		*ret_principal = *ret_verdict == AUTH_OK ? make_principal() : NULL;
	} else if (slice_eq(header, slice_str("Bearer down"))) {
		*ret_verdict = AUTH_UNAVAILABLE;
	} else if (slice_eq(header, slice_str("Bearer slow")) || slice_eq(header, slice_str("Bearer stuck"))) {
		struct auth_op *op = xcalloc(1, sizeof(*op));
		op->done = done;
		op->arg = arg;
		if (slice_eq(header, slice_str("Bearer slow")))
			loop_defer(loop, &op->later, auth_later, op);
		return op;
	}
	return NULL;
}

bool auth_known(struct auth *auth, struct slice header, struct slice session) {
	return true;
}

struct auth_op *auth_cancel(struct auth_op *op) {
	if (op) {
		auth_cancelled++;
		deferred_cancel(&op->later);
		free(op);
	}
	return NULL;
}

const char *auth_verdict_text(enum auth_verdict verdict) {
	return verdict == AUTH_NO_KEY ? "no API key" : "Invalid API key";
}

/* ---- handlers ---- */

static unsigned ran, ended, aborted, second_ran;

static void on_end(void *arg) {
	(void)arg;
	ended++;
}

static void on_abort(void *arg) {
	(void)arg;
	aborted++;
}

static void answer_text(struct request *req, const char *p, size_t n) {
	struct buf body;
	buf_init(&body, 1 << 22);
	buf_append(&body, p, n);
	respond_bytes(req, 200, "text/plain", NULL, &body);
}

static void h_echo(struct request *req) {
	struct slice body = request_body(req);
	ran++;
	request_at_end(req, on_end, NULL);
	answer_text(req, body.n ? body.p : "empty", body.n ? body.n : 5);
}

static void h_second(struct request *req) {
	second_ran++;
	answer_text(req, "second", 6);
}

static void h_json(struct request *req) {
	struct buf body;
	ran++;
	buf_init(&body, 100);
	buf_append_str(&body, "{\"a\":1}");
	respond_json(req, 200, &body);
}

static void h_param(struct request *req) {
	struct slice p = request_param(req, 0), q = request_query(req, "q");
	char text[200];
	int n = snprintf(text, sizeof(text), "%.*s|%.*s|%s|%s", (int)p.n, p.p, (int)q.n, q.p ? q.p : "",
	                 q.p ? "there" : "absent", request_id_text(req));
	answer_text(req, text, (size_t)n);
}

static void h_body(struct request *req) {
	json_t *body = request_json(req, false);
	if (body)
		respond_empty(req, 204);
}

struct later {
	struct deferred d;
	struct timer t;
	struct request *req;
};

static void later_run(void *arg) {
	struct later *l = arg;
	answer_text(l->req, "later", 5);
}

static void h_later(struct request *req) {
	struct later *l = request_alloc(req, sizeof(*l));
	ran++;
	l->req = req;
	loop_defer(loop, &l->d, later_run, l);
}

static void h_never(struct request *req) {
	ran++;
	request_at_end(req, on_end, NULL);
	request_on_abort(req, on_abort, NULL);
}

#define STREAM_SIZE (1 << 20)
struct streaming {
	struct request *req;
	struct deferred d;
	size_t sent;
	bool slow, cut;
};
static unsigned more_calls;

static void stream_piece(void *arg) {
	struct streaming *s = arg;
	char piece[10000];
	size_t n = min_of(sizeof(piece), STREAM_SIZE - s->sent);
	if (s->cut && s->sent > 50000) {
		respond_stream_fail(s->req);
		return;
	}
	memset(piece, 'a' + (int)(s->sent / sizeof(piece) % 26), sizeof(piece));
	respond_stream_write(s->req, piece, n);
	s->sent += n;
	if (s->sent == STREAM_SIZE)
		respond_stream_end(s->req);
}

static void stream_more(void *arg) {
	struct streaming *s = arg;
	more_calls++;
	if (s->slow)
		loop_defer(loop, &s->d, stream_piece, s);
	else
		stream_piece(s);
}

static void stream_cancel(void *arg) {
	struct streaming *s = arg;
	deferred_cancel(&s->d);
	aborted++;
}

static void start_stream(struct request *req, bool slow, bool cut) {
	struct streaming *s = request_alloc(req, sizeof(*s));
	*s = (struct streaming){.req = req, .slow = slow, .cut = cut};
	request_on_abort(req, stream_cancel, s);
	request_at_end(req, on_end, NULL);
	respond_stream_start(req, 200, "application/octet-stream", NULL, STREAM_SIZE, stream_more, s);
}

static void h_stream(struct request *req) {
	start_stream(req, false, false);
}

static void h_slow_stream(struct request *req) {
	start_stream(req, true, false);
}

static void h_cut_stream(struct request *req) {
	start_stream(req, false, true);
}

static void h_big(struct request *req) {
	struct buf body;
	buf_init(&body, 1 << 22);
	char *p = buf_reserve(&body, STREAM_SIZE);
	memset(p, 'x', STREAM_SIZE);
	buf_commit(&body, STREAM_SIZE);
	respond_bytes(req, 200, "text/plain", NULL, &body);
}

static const struct route routes[] = {
    {METHOD_GET, "/a", ROUTE_OPEN, 64, h_echo, false},
    {METHOD_POST, "/a", ROUTE_OPEN, 64, h_echo, false},
    {METHOD_GET, "/second", ROUTE_OPEN, 64, h_second, false},
    {METHOD_GET, "/json", ROUTE_OPEN, 64, h_json, false},
    {METHOD_POST, "/json", ROUTE_OPEN, 64, h_body, false},
    {METHOD_GET, "/p/{}", ROUTE_OPEN, 64, h_param, false},
    {METHOD_GET, "/later", ROUTE_OPEN, 64, h_later, false},
    {METHOD_GET, "/never", ROUTE_OPEN, 64, h_never, false},
    {METHOD_GET, "/stream", ROUTE_OPEN, 64, h_stream, false},
    {METHOD_GET, "/slow", ROUTE_OPEN, 64, h_slow_stream, false},
    {METHOD_GET, "/cut", ROUTE_OPEN, 64, h_cut_stream, false},
    {METHOD_GET, "/big", ROUTE_OPEN, 64, h_big, false},
    {METHOD_GET, "/key", ROUTE_KEY, 64, h_echo, false},
    {METHOD_POST, "/key", ROUTE_KEY, 1 << 20, h_echo, false},
    {METHOD_GET, "/console", ROUTE_CONSOLE, 64, h_echo, false},
    {METHOD_GET, "/team", ROUTE_KEY, 64, h_echo, .scope = "team"},
    {METHOD_GET, "/domains", ROUTE_KEY, 64, h_echo, .scope = "domains"},
    {METHOD_GET, "/owners", ROUTE_KEY, 64, h_echo, .owners_only = true},
    {0},
};

/* ---- a client ---- */

static const struct http_listen listen_plain;

struct caller {
	int fd;
	struct buf in;
	bool eof, reset;
};

static struct api api;
static struct http_server *server;
static struct timer tick;
static unsigned drained;
static char *const *origins; /* of start() */
static bool full;
static char last_log[2048];

static void nothing(void *arg) {
	(void)arg;
}

static void on_full(void *arg, bool is_full) {
	(void)arg;
	full = is_full;
}

static void on_drained(void *arg) {
	(void)arg;
	drained++;
}

static void on_log(void *arg, enum log_level level, const char *line, size_t n) {
	(void)arg;
	(void)level;
	snprintf(last_log, sizeof(last_log), "%.*s", (int)n, line);
}

static void start(const struct http_limits *limits) {
	loop = loop_new();
	api = (struct api){.loop = loop};
	ran = ended = aborted = second_ran = more_calls = auth_cancelled = drained = 0;
	full = false;
	const struct http_options options = {
	    .api = &api, .routes = routes, .limits = limits, .on_full = on_full, .on_drained = on_drained,
	    .cors_origins = origins};
	server = http_server_new(&options);
	timer_init(&tick, loop, nothing, NULL);
	log_set_sink(on_log, NULL);
}

static void stop(void) {
	server = http_server_free(server);
	timer_fini(&tick);
	loop = loop_free(loop);
	log_set_sink(NULL, NULL);
}

static void client_open(struct caller *c) {
	int fds[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	*c = (struct caller){.fd = fds[0]};
	buf_init(&c->in, 1 << 23);
	http_server_accept(server, fds[1], &listen_plain, &(struct netaddr){0});
}

static void client_close(struct caller *c) {
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	buf_fini(&c->in);
}

static void client_read(struct caller *c) {
	char piece[65536];
	ssize_t n;
	while ((n = read(c->fd, piece, sizeof(piece))) > 0)
		buf_append(&c->in, piece, (size_t)n);
	if (n == 0)
		c->eof = true;
	else if (errno != EAGAIN)
		c->eof = c->reset = true;
}

static void turn(void) {
	timer_arm(&tick, 2 * MS);
	loop_turn(loop);
}

static void send_all(struct caller *c, const char *p, size_t n) {
	while (n > 0) {
		ssize_t r = send(c->fd, p, n, MSG_NOSIGNAL);
		if (r > 0) {
			p += r;
			n -= (size_t)r;
		} else if (errno != EAGAIN) {
			return;
		}
		turn();
	}
}

static void say(struct caller *c, const char *text) {
	send_all(c, text, strlen(text));
}

/* Turns until the server has nothing more to say for a while (or has closed). */
static void settle(struct caller *c, unsigned quiet_turns) {
	for (unsigned quiet = 0; quiet < quiet_turns && !c->eof;) {
		size_t before = c->in.len;
		turn();
		client_read(c);
		quiet = c->in.len == before ? quiet + 1 : 0;
	}
}

static void until_eof(struct caller *c) {
	int64_t start = clock_mono_us_now();
	while (!c->eof && clock_mono_us_now() - start < 5000 * MS) {
		turn();
		client_read(c);
	}
	assert_true(c->eof);
}

/* Turns until something has come, half a second at the most. */
static void wait_answer(struct caller *c) {
	int64_t start = clock_mono_us_now();
	while (c->in.len == 0 && !c->eof && clock_mono_us_now() - start < 500 * MS) {
		turn();
		client_read(c);
	}
}

struct answer {
	unsigned status;
	char head[2048];
	const char *body;
	size_t body_len;
};

/* Cuts the next answer from the front of what came. False: none whole. */
static bool next_answer(struct caller *c, size_t *at, bool head_only, struct answer *ret) {
	const char *p = c->in.data + *at;
	size_t left = c->in.len - *at, n = 0;
	const char *end = left ? memmem(p, left, "\r\n\r\n", 4) : NULL;
	if (!end)
		return false;
	snprintf(ret->head, sizeof(ret->head), "%.*s", (int)(end - p + 2), p);
	ret->status = (unsigned)atoi(ret->head + 9);
	const char *length = strstr(ret->head, "\r\nContent-Length: ");
	if (length && !head_only)
		n = (size_t)atoi(length + 18);
	if (left < (size_t)(end + 4 - p) + n)
		return false;
	ret->body = end + 4;
	ret->body_len = n;
	*at += (size_t)(end + 4 - p) + n;
	return true;
}

static void expect_answer(struct caller *c, size_t *at, unsigned status, const char *body) {
	struct answer a;
	if (!next_answer(c, at, false, &a))
		fail_msg("no answer after %zu of %zu octets: %s", *at, c->in.len, c->in.data ? c->in.data + *at : "");
	if (a.status != status || (body && (a.body_len != strlen(body) || memcmp(a.body, body, a.body_len) != 0)))
		fail_msg("got %u %.*s, wanted %u %s", a.status, (int)a.body_len, a.body, status, body ? body : "");
}

/* One request on a connection of its own; the answer's text stays in `c`. */
static void one(struct caller *c, const char *request, bool head_only, struct answer *ret) {
	size_t at = 0;
	client_open(c);
	say(c, request);
	settle(c, 4);
	if (!next_answer(c, &at, head_only, ret))
		fail_msg("no answer to %s", request);
	assert_int_equal(at, c->in.len);
}

/* ---- tests ---- */

static void test_keep_alive(void **state) {
	struct caller c;
	size_t at = 0;
	start(&HTTP_LIMITS);
	client_open(&c);
	for (unsigned i = 0; i < 3; i++) {
		say(&c, "GET /a HTTP/1.1\r\n" H "\r\n");
		settle(&c, 3);
		expect_answer(&c, &at, 200, "empty");
	}
	assert_false(c.eof);
	assert_int_equal(ran, 3);
	assert_int_equal(ended, 3);
	assert_int_equal(http_server_connections(server), 1);
	client_close(&c);
	for (unsigned i = 0; i < 3; i++)
		turn();
	assert_int_equal(http_server_connections(server), 0);
	stop();
}

/* RFC 9112 9.3.2: answers in the order of the requests, whatever takes longer. */
static void test_pipelining(void **state) {
	static const char requests[] = "GET /later HTTP/1.1\r\n" H "\r\n"
	                               "POST /a HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhello"
	                               "GET /slow HTTP/1.1\r\n" H "\r\n"
	                               "POST /a HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
	                               "GET /key HTTP/1.1\r\n" H "Authorization: Bearer slow\r\n\r\n"
	                               "GET /nowhere HTTP/1.1\r\n" H "\r\n"
	                               "GET /second HTTP/1.1\r\n" H "\r\n";
	for (unsigned step = 0; step < 2; step++) {
		struct caller c;
		struct answer a;
		size_t at = 0;
		start(&HTTP_LIMITS);
		client_open(&c);
		if (step == 0) {
			say(&c, requests);
		} else {
			for (const char *p = requests; *p; p++) {
				send_all(&c, p, 1);
				client_read(&c);
			}
		}
		settle(&c, 10);
		expect_answer(&c, &at, 200, "later");
		expect_answer(&c, &at, 200, "hello");
		assert_true(next_answer(&c, &at, false, &a));
		assert_int_equal(a.body_len, STREAM_SIZE);
		assert_int_equal(a.body[STREAM_SIZE - 1], 'a' + (STREAM_SIZE - 1) / 10000 % 26);
		expect_answer(&c, &at, 200, "abc");
		expect_answer(&c, &at, 200, "empty");
		expect_answer(&c, &at, 404, NULL);
		expect_answer(&c, &at, 200, "second");
		assert_int_equal(at, c.in.len);
		assert_false(c.eof);
		client_close(&c);
		stop();
	}
}

/* A client may send its end at once and still wants its answers. */
static void test_half_close(void **state) {
	struct caller c;
	size_t at = 0;
	start(&HTTP_LIMITS);
	client_open(&c);
	say(&c, "GET /later HTTP/1.1\r\n" H "\r\nGET /a HTTP/1.1\r\n" H "\r\n");
	shutdown(c.fd, SHUT_WR);
	until_eof(&c);
	expect_answer(&c, &at, 200, "later");
	expect_answer(&c, &at, 200, "empty");
	client_close(&c);
	/* in the middle of a body */
	at = 0;
	client_open(&c);
	say(&c, "POST /a HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhel");
	shutdown(c.fd, SHUT_WR);
	until_eof(&c);
	expect_answer(&c, &at, 400, NULL);
	assert_int_equal(ran, 2);
	client_close(&c);
	stop();
}

/* Each framing vector, whole and octet by octet, with a second request behind it: one refusal, then the end. */
static void test_vectors(void **state) {
	start(&HTTP_LIMITS);
	for (size_t i = 0; i < array_len(HTTP_VECTORS); i++) {
		char all[1024];
		int n = snprintf(all, sizeof(all), "%sGET /second HTTP/1.1\r\n" H "\r\n", HTTP_VECTORS[i].request);
		for (unsigned bytewise = 0; bytewise < 2; bytewise++) {
			struct caller c;
			struct answer a;
			size_t at = 0;
			client_open(&c);
			if (!bytewise)
				send_all(&c, all, (size_t)n);
			else
				for (int k = 0; k < n; k++)
					send_all(&c, all + k, 1);
			/* closed but for lingering, which waits for our end */
			shutdown(c.fd, SHUT_WR);
			until_eof(&c);
			if (!next_answer(&c, &at, false, &a))
				fail_msg("%s: no answer", HTTP_VECTORS[i].name);
			if (a.status != HTTP_VECTORS[i].status || !strstr(a.head, "\r\nConnection: close\r\n"))
				fail_msg("%s: %s", HTTP_VECTORS[i].name, c.in.data);
			if (at != c.in.len || ran || second_ran)
				fail_msg("%s: something ran after the refusal: %s", HTTP_VECTORS[i].name, c.in.data);
			if (!strstr(a.body, "\"message\":\"") || !strcasestr(a.body, HTTP_VECTORS[i].says))
				fail_msg("%s: does not say what was wrong: %s", HTTP_VECTORS[i].name, a.body);
			client_close(&c);
		}
	}
	stop();
}

static void test_headers(void **state) {
	struct caller c;
	struct answer a;
	start(&HTTP_LIMITS);
	one(&c, "GET /json HTTP/1.1\r\n" H "X-Request-Id: my.id-1_2\r\n\r\n", false, &a);
	static const char *const wanted[] = {
	    "HTTP/1.1 200 OK\r\n",
	    "\r\nX-Request-Id: my.id-1_2\r\n",
	    "\r\nX-Content-Type-Options: nosniff\r\n",
	    "\r\nCache-Control: no-store\r\n",
	    "\r\nReferrer-Policy: no-referrer\r\n",
	    "\r\nDate: ",
	    "\r\nETag: \"",
	    "\r\nContent-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n",
	    "\r\nContent-Type: application/json\r\n",
	    "\r\nContent-Length: 7\r\n",
	};
	for (size_t i = 0; i < array_len(wanted); i++) {
		if (!strstr(a.head, wanted[i]))
			fail_msg("%s is not in %s", wanted[i], a.head);
	}
	assert_null(strstr(a.head, "Server:"));
	assert_null(strstr(a.head, "Connection:"));
	char etag[64], request[300];
	assert_int_equal(sscanf(strstr(a.head, "ETag: "), "ETag: %63s", etag), 1);
	client_close(&c);
	static const struct {
		const char *before, *after;
		unsigned status;
	} rows[] = {{"", "", 304}, {"W/", "", 304}, {"\"x\", ", "", 304}, {"", ", \"y\"", 304}, {"\"x", "\"", 200}};
	for (size_t i = 0; i < array_len(rows); i++) {
		snprintf(request, sizeof(request), "GET /json HTTP/1.1\r\n" H "If-None-Match: %s%s%s\r\n\r\n", rows[i].before,
		         etag, rows[i].after);
		one(&c, request, false, &a);
		assert_int_equal(a.status, rows[i].status);
		assert_non_null(strstr(a.head, etag));
		assert_int_equal(strstr(a.head, "Content-Length") == NULL, a.status == 304);
		client_close(&c);
	}
	one(&c, "GET /json HTTP/1.1\r\n" H "If-None-Match: *\r\n\r\n", false, &a);
	assert_int_equal(a.status, 304);
	client_close(&c);
	/* an id that does not fit into a line of a log */
	one(&c, "GET /json HTTP/1.1\r\n" H "X-Request-Id: a b\r\n\r\n", false, &a);
	assert_null(strstr(a.head, "X-Request-Id: a b"));
	assert_non_null(strstr(a.head, "X-Request-Id: "));
	client_close(&c);
	stop();
}

/* On every answer, whatever it is; HSTS in none of clear text. */
static void test_headers_of_every_answer(void **state) {
	static const struct {
		const char *request;
		unsigned status;
	} rows[] = {
	    {"GET /json HTTP/1.1\r\n" H "\r\n", 200},
	    {"HEAD /json HTTP/1.1\r\n" H "\r\n", 200},
	    {"HEAD /stream HTTP/1.1\r\n" H "\r\n", 200},
	    {"POST /json HTTP/1.1\r\n" H "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", 204},
	    {"GET /json HTTP/1.1\r\n" H "If-None-Match: *\r\n\r\n", 304},
	    {"GET /json HTTP/9.9\r\n" H "\r\n", 505},
	    {"GET /json\r\n" H "\r\n", 505},
	    {"\x16\x03\x01", 400},
	    {"GET /key HTTP/1.1\r\n" H "\r\n", 401},
	    {"GET /key HTTP/1.1\r\n" H "Authorization: Bearer down\r\n\r\n", 503},
	    {"GET /console HTTP/1.1\r\n" H "Authorization: Bearer good\r\n\r\n", 403},
	    {"GET /nowhere HTTP/1.1\r\n" H "\r\n", 404},
	    {"OPTIONS /json HTTP/1.1\r\n" H "Origin: https://a.example\r\nAccess-Control-Request-Method: GET\r\n\r\n", 405},
	    {"POST /a HTTP/1.1\r\n" H "Content-Length: 65\r\n\r\n", 413},
	    {"POST /json HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\n{}", 415},
	    {"POST /a HTTP/1.1\r\n" H "Expect: x\r\n\r\n", 417},
	    {"TRACE /a HTTP/1.1\r\n" H "\r\n", 501},
	};
	static const char *const wanted[] = {
	    "\r\nX-Content-Type-Options: nosniff\r\n",
	    "\r\nCache-Control: no-store\r\n",
	    "\r\nReferrer-Policy: no-referrer\r\n",
	    "\r\nCross-Origin-Resource-Policy: same-origin\r\n",
	    "\r\nCross-Origin-Opener-Policy: same-origin\r\n",
	    "\r\nPermissions-Policy: camera=(), ",
	    "\r\nContent-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n",
	    "\r\nX-Request-Id: ",
	    "\r\nDate: ",
	};
	static const char *const unwanted[] = {"\r\nServer:", "Strict-Transport-Security", "Access-Control-", "\r\nVary:"};
	start(&HTTP_LIMITS);
	for (size_t i = 0; i < array_len(rows); i++) {
		struct caller c;
		struct answer a;
		one(&c, rows[i].request, strncmp(rows[i].request, "HEAD", 4) == 0, &a);
		if (a.status != rows[i].status)
			fail_msg("%s: got %u", rows[i].request, a.status);
		for (size_t k = 0; k < array_len(wanted); k++) {
			/* what a client has stored with a body, its 304 leaves alone */
			bool kept = a.status == 304 && (strstr(wanted[k], "Cache-Control") || strstr(wanted[k], "Content-Security-Policy"));
			if (!strstr(a.head, wanted[k]) != kept)
				fail_msg("%s: %s is %s in %s", rows[i].request, wanted[k], kept ? "still" : "not", a.head);
		}
		for (size_t k = 0; k < array_len(unwanted); k++)
			if (strcasestr(a.head, unwanted[k]))
				fail_msg("%s: %s is in %s", rows[i].request, unwanted[k], a.head);
		client_close(&c);
	}
	stop();
}

/* What each page is told. `sends`: what the answer says in Access-Control-Allow-Origin. */
static void test_cors(void **state) {
#define PREFLIGHT(path, method) "OPTIONS " path " HTTP/1.1\r\n" H "Access-Control-Request-Method: " method "\r\n"
#define ORIGIN "Origin: https://app.example\r\n"
	static const struct {
		const char *request;
		unsigned status;
		const char *sends;
	} rows[] = {
	    {PREFLIGHT("/key", "POST") ORIGIN "\r\n", 204, "https://app.example"},
	    {PREFLIGHT("/p/1", "GET") ORIGIN "Access-Control-Request-Headers: authorization\r\n\r\n", 204, "https://app.example"},
	    {PREFLIGHT("/key", "PATCH") ORIGIN "\r\n", 405, "https://app.example"}, /* no such row */
	    {PREFLIGHT("/nowhere", "GET") ORIGIN "\r\n", 404, "https://app.example"},
	    {PREFLIGHT("/key", "get") ORIGIN "\r\n", 405, "https://app.example"},
	    {PREFLIGHT("/console", "GET") ORIGIN "\r\n", 405, "https://app.example"}, /* not a 2xx: the browser stops there */
	    {PREFLIGHT("/key", "GET") "Origin: https://app.example.evil\r\n\r\n", 405, NULL},
	    {PREFLIGHT("/key", "GET") "Origin: http://app.example\r\n\r\n", 405, NULL},
	    {PREFLIGHT("/key", "GET") "Origin: null\r\n\r\n", 405, NULL},
	    {PREFLIGHT("/key", "GET") "\r\n", 405, NULL},
	    {"OPTIONS /key HTTP/1.1\r\n" H ORIGIN "\r\n", 405, "https://app.example"},
	    {"GET /key HTTP/1.1\r\n" H ORIGIN "Authorization: Bearer good\r\n\r\n", 200, "https://app.example"},
	    {"GET /key HTTP/1.1\r\n" H ORIGIN "\r\n", 401, "https://app.example"}, /* so that the page can tell why */
	    {"GET /console HTTP/1.1\r\n" H ORIGIN "Authorization: Bearer good\r\n\r\n", 403, NULL},
	    {"GET /key HTTP/1.1\r\n" H "Origin: https://b.example\r\nAuthorization: Bearer good\r\n\r\n", 200, NULL},
	    {"GET /key HTTP/1.1\r\n" H "Authorization: Bearer good\r\n\r\n", 200, NULL},
	};
	static char *const listed[] = {(char *)"https://other.example", (char *)"https://app.example", NULL};
	origins = listed;
	start(&HTTP_LIMITS);
	for (size_t i = 0; i < array_len(rows); i++) {
		struct caller c;
		struct answer a;
		char said[80] = "";
		one(&c, rows[i].request, false, &a);
		const char *line = strstr(a.head, "\r\nAccess-Control-Allow-Origin: ");
		if (line)
			sscanf(line + 31, "%79s", said);
		if (a.status != rows[i].status || strcmp(said, rows[i].sends ? rows[i].sends : "") != 0)
			fail_msg("%s: got %s", rows[i].request, a.head);
		assert_non_null(strstr(a.head, "\r\nVary: Origin\r\n"));
		assert_null(strstr(a.head, "Allow-Credentials"));
		assert_int_equal(strstr(a.head, "\r\nAccess-Control-Allow-Methods: ") != NULL, a.status == 204);
		client_close(&c);
	}
	assert_int_equal(ran, 3);
	stop();
	origins = NULL;
}

static void test_cors_origins(void **state) {
	static const char *const good[] = {"*", "https://a.example", "http://localhost:3000", "https://[::1]:8443"};
	static const char *const bad[] = {"", "null", "a.example", "https://", "https://a.example/", "https://a.example/x",
	                                  "ftp://a.example", "https://A.example", "https://a b", "javascript://x", "https://*.a.example"};
	for (size_t i = 0; i < array_len(good); i++)
		assert_true(cors_origin_valid(good[i]));
	for (size_t i = 0; i < array_len(bad); i++)
		if (cors_origin_valid(bad[i]))
			fail_msg("%s", bad[i]);
}

static void test_head_and_http10(void **state) {
	struct caller c;
	struct answer a;
	size_t at = 0;
	start(&HTTP_LIMITS);
	one(&c, "HEAD /json HTTP/1.1\r\n" H "\r\n", true, &a);
	assert_int_equal(a.status, 200);
	assert_non_null(strstr(a.head, "Content-Length: 7\r\n"));
	client_close(&c);
	more_calls = 0;
	one(&c, "HEAD /stream HTTP/1.1\r\n" H "\r\n", true, &a);
	assert_non_null(strstr(a.head, "Content-Length: 1048576\r\n"));
	assert_int_equal(more_calls, 0);
	assert_int_equal(ended, 1);
	client_close(&c);
	client_open(&c);
	say(&c, "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /a HTTP/1.0\r\n\r\nGET /second HTTP/1.0\r\n\r\n");
	shutdown(c.fd, SHUT_WR);
	until_eof(&c);
	assert_true(next_answer(&c, &at, false, &a));
	assert_non_null(strstr(a.head, "\r\nConnection: keep-alive\r\n"));
	assert_true(next_answer(&c, &at, false, &a));
	assert_non_null(strstr(a.head, "\r\nConnection: close\r\n"));
	assert_int_equal(at, c.in.len);
	assert_int_equal(second_ran, 0);
	client_close(&c);
	stop();
}

static void test_router_answers(void **state) {
	struct caller c;
	struct answer a;
	start(&HTTP_LIMITS);
	one(&c, "PUT /a HTTP/1.1\r\n" H "\r\n", false, &a);
	assert_int_equal(a.status, 405);
	assert_non_null(strstr(a.head, "\r\nAllow: GET, HEAD, POST\r\n"));
	client_close(&c);
	one(&c, "OPTIONS /json HTTP/1.1\r\n" H "\r\n", false, &a);
	assert_int_equal(a.status, 405);
	client_close(&c);
	one(&c, "GET /v1/p/x%20y%d0%bf?b=1&q=a%2Bb+c&q=2 HTTP/1.1\r\n" H "X-Request-Id: i\r\n\r\n", false, &a);
	assert_int_equal(a.status, 200);
	assert_memory_equal(a.body, "x y\xd0\xbf|a+b c|there|i", a.body_len);
	client_close(&c);
	one(&c, "GET /api/p/1?qq=2&q HTTP/1.1\r\n" H "X-Request-Id: i\r\n\r\n", false, &a);
	assert_memory_equal(a.body, "1||there|i", a.body_len);
	client_close(&c);
	one(&c, "GET /p/1?qq=2 HTTP/1.1\r\n" H "X-Request-Id: i\r\n\r\n", false, &a);
	assert_memory_equal(a.body, "1||absent|i", a.body_len);
	client_close(&c);
	stop();
}

static const struct {
	const char *request;
	unsigned status;
	bool closes;
	const char *says;
} keys[] = {
    {"GET /key HTTP/1.1\r\n" H "Authorization: Bearer good\r\n\r\n", 200, false, "empty"},
    {"GET /key HTTP/1.1\r\n" H "Authorization: Bearer slow\r\n\r\n", 200, false, "empty"},
    {"POST /key HTTP/1.1\r\n" H "Authorization: Bearer slow\r\nContent-Length: 5\r\n\r\nhello", 200, false, "hello"},
    {"GET /key HTTP/1.1\r\n" H "\r\n", 401, false, "no API key"},
    {"GET /key HTTP/1.1\r\n" H "Authorization: Bearer bad\r\n\r\n", 401, false, "Invalid API key"},
    {"GET /key HTTP/1.1\r\n" H "Authorization: Bearer good\r\nAuthorization: Bearer bad\r\n\r\n", 400, true, "Authorization"},
    {"GET /key HTTP/1.1\r\n" H "Authorization: Bearer good\r\nAuthorization: Bearer good\r\n\r\n", 400, true, "Authorization"},
    {"POST /key HTTP/1.1\r\n" H "Content-Length: 500000\r\n\r\n", 401, true, "no API key"},
    {"POST /key HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n", 401, true, "no API key"},
    {"GET /key HTTP/1.1\r\n" H "Authorization: Bearer down\r\n\r\n", 503, false, "database"},
    {"POST /key HTTP/1.1\r\n" H "Authorization: Bearer good\r\nContent-Length: 2000000\r\n\r\n", 413, true, "1048576"},
    {"POST /key HTTP/1.1\r\n" H "Authorization: Bearer good\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n", 413, true,
     "1048576"},
    /* RFC 9110 10.1.1: refused before the body is asked for */
    {"POST /key HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n", 401, true, "no API key"},
    {"POST /key HTTP/1.1\r\n" H "Authorization: Bearer good\r\nExpect: 100-continue\r\nContent-Length: 2000000\r\n\r\n",
     413, true, ""},
    {"GET /console HTTP/1.1\r\n" H "Authorization: Bearer good\r\n\r\n", 403, false, "sign in to the console"},
    {"GET /team HTTP/1.1\r\n" H "Authorization: Bearer good\r\n\r\n", 403, false, "lacks the scope team"},
    {"GET /domains HTTP/1.1\r\n" H "Authorization: Bearer good\r\n\r\n", 200, false, ""},
    {"GET /owners HTTP/1.1\r\n" H "Authorization: Bearer good\r\n\r\n", 403, false, "only an owner"},
};

static void test_keys(void **state) {
	start(&HTTP_LIMITS);
	for (size_t i = 0; i < array_len(keys); i++) {
		struct caller c;
		struct answer a;
		one(&c, keys[i].request, false, &a);
		if (a.status != keys[i].status || !memmem(a.body, a.body_len, keys[i].says, strlen(keys[i].says)))
			fail_msg("%s%s", keys[i].request, c.in.data);
		assert_int_equal(strstr(a.head, "\r\nConnection: close\r\n") != NULL, keys[i].closes);
		assert_int_equal(strstr(a.head, "\r\nWWW-Authenticate: Bearer\r\n") != NULL, a.status == 401);
		assert_int_equal(strstr(a.head, "\r\nRetry-After: 1\r\n") != NULL, a.status == 503);
		client_close(&c);
	}
	stop();
}

static void test_expect(void **state) {
	struct caller c;
	size_t at = 0;
	struct answer a;
	start(&HTTP_LIMITS);
	client_open(&c);
	say(&c,
	    "POST /key HTTP/1.1\r\n" H "Authorization: Bearer slow\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
	settle(&c, 4);
	assert_true(next_answer(&c, &at, false, &a));
	assert_string_equal(a.head, "HTTP/1.1 100 Continue\r\n");
	assert_int_equal(ran, 0);
	say(&c, "hello");
	settle(&c, 4);
	expect_answer(&c, &at, 200, "hello");
	assert_false(c.eof);
	/* no body to wait for, or one that is there already: none is sent */
	say(&c, "GET /a HTTP/1.1\r\n" H "Expect: 100-continue\r\n\r\n");
	say(&c, "POST /a HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi");
	settle(&c, 4);
	expect_answer(&c, &at, 200, "empty");
	expect_answer(&c, &at, 200, "hi");
	client_close(&c);
	stop();
}

/* A body that has to be waited for: the key is judged again when it is there. */
static void test_key_revoked_before_the_body(void **state) {
	static const char head[] = "POST /key HTTP/1.1\r\n" H "Authorization: Bearer fickle\r\nContent-Length: 5\r\n\r\n";
	struct caller c;
	size_t at = 0;
	start(&HTTP_LIMITS);
	client_open(&c);
	char *whole = xasprintf("%shello", head);
	fickle_asked = 0;
	say(&c, whole);
	free(whole);
	settle(&c, 4);
	expect_answer(&c, &at, 200, "hello");
	assert_int_equal(fickle_asked, 1);
	unsigned before = ran;
	fickle_asked = 0;
	say(&c, head);
	settle(&c, 4);
	say(&c, "he");
	settle(&c, 4);
	assert_int_equal(fickle_asked, 1);
	say(&c, "llo");
	settle(&c, 4);
	expect_answer(&c, &at, 401, NULL);
	assert_int_equal(fickle_asked, 2);
	assert_int_equal(ran, before);
	assert_false(c.eof); /* all of it was read: the next request may come */
	say(&c, "GET /a HTTP/1.1\r\n" H "\r\n");
	settle(&c, 4);
	expect_answer(&c, &at, 200, "empty");
	client_close(&c);
	stop();
}

static void test_json_body(void **state) {
	static const struct {
		const char *type, *body;
		unsigned status;
	} rows[] = {
	    {"application/json", "{\"a\":1}", 204},
	    {"Application/JSON ; charset=utf-8", "{}", 204},
	    {"text/plain", "{}", 415},
	    {"application/jsonx", "{}", 415},
	    {"application/json", "", 400},
	    {"application/json", "{\"a\":1,\"a\":2}", 400},
	    {"application/json", "[]", 400},
	    {"application/json", "{} x", 400},
	};
	start(&HTTP_LIMITS);
	for (size_t i = 0; i < array_len(rows); i++) {
		struct caller c;
		struct answer a;
		char request[400];
		snprintf(request, sizeof(request),
		         "POST /json HTTP/1.1\r\n" H "Content-Type: %s\r\nContent-Length: %zu\r\n\r\n%s", rows[i].type,
		         strlen(rows[i].body), rows[i].body);
		one(&c, request, false, &a);
		if (a.status != rows[i].status)
			fail_msg("%s %s: %u %s", rows[i].type, rows[i].body, a.status, c.in.data);
		assert_int_equal(strstr(a.head, "Content-Length") == NULL, a.status == 204);
		client_close(&c);
	}
	stop();
}

/* A client that does not read: pieces are asked for as it takes them, and no more. */
static void test_back_pressure(void **state) {
	static const char *const paths[] = {"/stream", "/slow"};
	for (size_t i = 0; i < array_len(paths); i++) {
		struct caller c;
		char request[100];
		struct answer a;
		size_t at = 0;
		start(&HTTP_LIMITS);
		client_open(&c);
		snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\n" H "\r\nGET /a HTTP/1.1\r\n" H "\r\n", paths[i]);
		say(&c, request);
		for (unsigned t = 0; t < 50; t++)
			turn();
		/* what the socket and the output mark hold, far from all of it */
		assert_in_range(more_calls, 5, 80);
		assert_int_equal(ran, 0);
		settle(&c, 10);
		assert_true(next_answer(&c, &at, false, &a));
		assert_int_equal(a.body_len, STREAM_SIZE);
		expect_answer(&c, &at, 200, "empty");
		client_close(&c);
		stop();
	}
}

/* Whole answers, pipelined: the next one is not begun while too much is pending. */
static void test_big_answers(void **state) {
	struct caller c;
	struct answer a;
	size_t at = 0;
	start(&HTTP_LIMITS);
	client_open(&c);
	for (unsigned i = 0; i < 5; i++)
		say(&c, "GET /big HTTP/1.1\r\n" H "\r\nGET /second HTTP/1.1\r\n" H "\r\n");
	for (unsigned t = 0; t < 50; t++)
		turn();
	assert_int_equal(second_ran, 0);
	settle(&c, 10);
	for (unsigned i = 0; i < 5; i++) {
		assert_true(next_answer(&c, &at, false, &a));
		assert_int_equal(a.body_len, STREAM_SIZE);
		expect_answer(&c, &at, 200, "second");
	}
	client_close(&c);
	stop();
}

static void test_cut_stream(void **state) {
	struct caller c;
	start(&HTTP_LIMITS);
	client_open(&c);
	say(&c, "GET /cut HTTP/1.1\r\n" H "\r\nGET /second HTTP/1.1\r\n" H "\r\n");
	until_eof(&c);
	assert_int_equal(second_ran, 0);
	assert_true(c.in.len < 200000);
	assert_int_equal(ended, 1);
	client_close(&c);
	stop();
}

/* The client leaves: reset while the handler works, while a key is looked up, while a stream runs. */
static void test_abort(void **state) {
	static const char *const requests[] = {
	    "GET /never HTTP/1.1\r\n" H "\r\n",
	    "GET /stream HTTP/1.1\r\n" H "\r\n",
	    "GET /slow HTTP/1.1\r\n" H "\r\n",
	    "GET /key HTTP/1.1\r\n" H "Authorization: Bearer stuck\r\n\r\n",
	};
	for (size_t i = 0; i < array_len(requests); i++) {
		struct caller c;
		struct http_limits limits = HTTP_LIMITS;
		limits.handler_us = limits.write_us = 60 * MS;
		limits.write_rate = INT64_C(1) << 40;
		start(&limits);
		client_open(&c);
		say(&c, requests[i]);
		turn();
		if (i == 1 || i == 2)
			client_close(&c); /* a reset is seen by the next write */
		for (unsigned t = 0; t < 200 && http_server_connections(server) > 0; t++)
			turn();
		assert_int_equal(http_server_connections(server), 0);
		assert_int_equal(i == 3 ? auth_cancelled : aborted, 1);
		assert_int_equal(ended, i == 3 ? 0 : 1);
		client_close(&c);
		stop();
	}
}

/* Freed with everything under way: nothing leaks, aborts are told. */
static void test_free_busy(void **state) {
	static const char *const requests[] = {
	    "",
	    "GET /ne",
	    "GET /never HTTP/1.1\r\n" H "\r\n",
	    "GET /stream HTTP/1.1\r\n" H "\r\n",
	    "POST /a HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhe",
	    "GET /key HTTP/1.1\r\n" H "Authorization: Bearer stuck\r\n\r\n",
	};
	struct caller c[array_len(requests)];
	start(&HTTP_LIMITS);
	for (size_t i = 0; i < array_len(requests); i++) {
		client_open(&c[i]);
		say(&c[i], requests[i]);
	}
	turn();
	stop();
	assert_int_equal(aborted, 2);
	assert_int_equal(auth_cancelled, 1);
	for (size_t i = 0; i < array_len(requests); i++)
		client_close(&c[i]);
}

static void test_deadlines(void **state) {
	struct http_limits limits = HTTP_LIMITS;
	struct caller idle, head, body, drip;
	size_t at = 0;
	limits.idle_us = 200 * MS;
	limits.head_us = 60 * MS;
	limits.body_us = 60 * MS;
	start(&limits);
	client_open(&idle);
	client_open(&head);
	client_open(&body);
	client_open(&drip);
	say(&head, "GET /a HTT");
	say(&body, "POST /a HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhe");
	/* an octet now and then does not help: the deadline is absolute */
	int64_t begin = clock_mono_us_now();
	for (unsigned i = 0; drip.in.len == 0 && clock_mono_us_now() - begin < 500 * MS; i++) {
		if (i % 4 == 0)
			send_all(&drip, i ? "a" : "GET /", i ? 1 : 5);
		turn();
		client_read(&drip);
	}
	struct caller *slow[] = {&head, &body, &drip};
	for (size_t i = 0; i < array_len(slow); i++) {
		at = 0;
		wait_answer(slow[i]);
		expect_answer(slow[i], &at, 408, NULL);
	}
	assert_int_equal(ran, 0);
	until_eof(&idle);
	assert_int_equal(idle.in.len, 0);
	client_close(&idle);
	client_close(&head);
	client_close(&body);
	client_close(&drip);
	stop();
}

/* A client that takes nothing of an answer. */
static void test_write_deadline(void **state) {
	struct http_limits limits = HTTP_LIMITS;
	struct caller c[2];
	limits.write_us = 60 * MS;
	limits.write_rate = INT64_C(1) << 40;
	start(&limits);
	client_open(&c[0]);
	client_open(&c[1]);
	say(&c[0], "GET /big HTTP/1.1\r\n" H "\r\n");
	say(&c[1], "GET /stream HTTP/1.1\r\n" H "\r\n");
	for (unsigned i = 0; i < 200 && http_server_connections(server) > 0; i++)
		turn();
	assert_int_equal(http_server_connections(server), 0);
	assert_int_equal(aborted, 1);
	client_close(&c[0]);
	client_close(&c[1]);
	stop();
}

static void test_connection_limits(void **state) {
	struct http_limits limits = HTTP_LIMITS;
	struct caller c[4];
	size_t at = 0;
	struct answer a;
	limits.requests = 2;
	limits.connections = 2;
	start(&limits);
	client_open(&c[0]);
	say(&c[0], "GET /a HTTP/1.1\r\n" H "\r\nGET /a HTTP/1.1\r\n" H "\r\nGET /second HTTP/1.1\r\n" H "\r\n");
	shutdown(c[0].fd, SHUT_WR);
	until_eof(&c[0]);
	assert_true(next_answer(&c[0], &at, false, &a));
	assert_null(strstr(a.head, "Connection"));
	assert_true(next_answer(&c[0], &at, false, &a));
	assert_non_null(strstr(a.head, "\r\nConnection: close\r\n"));
	assert_int_equal(at, c[0].in.len);
	assert_int_equal(second_ran, 0);
	client_close(&c[0]);
	/* two places: the one idle longest makes room, but not before it had its chance */
	client_open(&c[0]);
	client_open(&c[1]);
	say(&c[1], "GET /never HTTP/1.1\r\n" H "\r\n");
	client_open(&c[2]);
	assert_true(full);
	assert_int_equal(http_server_connections(server), 3);
	int64_t begin = clock_mono_us_now();
	while (full && clock_mono_us_now() - begin < 5000 * MS)
		turn();
	assert_false(full);
	client_open(&c[3]);
	assert_int_equal(http_server_connections(server), 3);
	until_eof(&c[0]);
	for (unsigned i = 0; i < 4; i++)
		client_close(&c[i]);
	stop();
}

static void body_of(struct caller *c, const char *key, unsigned n) {
	char head[200];
	client_open(c);
	snprintf(head, sizeof(head), "POST /key HTTP/1.1\r\n" H "Authorization: Bearer %s\r\nContent-Length: %u\r\n\r\n", key, n);
	say(c, head);
	settle(c, 4);
}

static void test_body_memory(void **state) {
	static const struct {
		const char *key;
		unsigned n;
		bool fits;
	} rows[] = {
	    {"good", 600, true},
	    {"good", 401, false}, /* half is for others */
	    {"good", 400, true},
	    {"other", 1001, false},
	    {"other", 950, true},
	    {"other", 50, true},
	    {"third", 11, false}, /* all is promised */
	    {"third", 10, true},  /* a small one is never in anybody's hand */
	    {"good", 10, true},
	};
	struct http_limits limits = HTTP_LIMITS;
	struct caller c[array_len(rows)];
	limits.body_memory = 2000;
	limits.body_small = 10;
	start(&limits);
	for (unsigned i = 0; i < array_len(rows); i++) {
		size_t at = 0;
		body_of(&c[i], rows[i].key, rows[i].n);
		if (!rows[i].fits)
			expect_answer(&c[i], &at, 503, NULL);
		else
			assert_int_equal(c[i].in.len, 0);
	}
	for (unsigned i = 0; i < array_len(rows); i++)
		client_close(&c[i]);
	for (unsigned i = 0; i < 5; i++)
		turn();
	/* what was promised is given back */
	size_t at = 0;
	body_of(&c[0], "good", 11);
	say(&c[0], "hello world");
	settle(&c[0], 4);
	expect_answer(&c[0], &at, 200, "hello world");
	client_close(&c[0]);
	stop();
}

static void test_drain(void **state) {
	struct caller idle, busy, late;
	size_t at = 0, late_at = 0;
	struct answer a;
	start(&HTTP_LIMITS);
	client_open(&idle);
	client_open(&late);
	client_open(&busy);
	say(&busy, "POST /a HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhe");
	http_server_drain(server);
	assert_int_equal(drained, 0);
	say(&late, "GET /v1/p/1 HTTP/1.1\r\n" H "\r\n"); /* was on its way */
	shutdown(late.fd, SHUT_WR);
	until_eof(&late);
	assert_true(next_answer(&late, &late_at, false, &a));
	assert_int_equal(a.status, 200);
	assert_non_null(strstr(a.head, "\r\nConnection: close\r\n"));
	until_eof(&idle);
	assert_int_equal(http_server_connections(server), 1);
	say(&busy, "lloGET /second HTTP/1.1\r\n" H "\r\n");
	shutdown(busy.fd, SHUT_WR);
	until_eof(&busy);
	assert_true(next_answer(&busy, &at, false, &a));
	assert_int_equal(a.status, 200);
	assert_non_null(strstr(a.head, "\r\nConnection: close\r\n"));
	assert_int_equal(at, busy.in.len);
	assert_int_equal(second_ran, 0);
	assert_int_equal(drained, 1);
	client_close(&idle);
	client_close(&late);
	client_close(&busy);
	stop();
}

static void test_log(void **state) {
	struct caller c;
	struct answer a;
	start(&HTTP_LIMITS);
	one(&c, "GET /v1/p/1?q=secret HTTP/1.1\r\n" H "X-Request-Id: i1\r\n\r\n", false, &a);
	assert_non_null(strstr(last_log, "event=request"));
	assert_non_null(strstr(last_log, "method=GET"));
	assert_non_null(strstr(last_log, "/p/{}"));
	assert_non_null(strstr(last_log, "status=200"));
	assert_non_null(strstr(last_log, "id=i1"));
	assert_null(strstr(last_log, "secret"));
	client_close(&c);
	one(&c, "GET /key HTTP/1.1\r\n" H "Authorization: Bearer good\r\n\r\n", false, &a);
	assert_non_null(strstr(last_log, "key=last8abc"));
	assert_null(strstr(last_log, "good"));
	client_close(&c);
	stop();
}

int main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_keep_alive),
	    cmocka_unit_test(test_pipelining),
	    cmocka_unit_test(test_half_close),
	    cmocka_unit_test(test_vectors),
	    cmocka_unit_test(test_headers),
	    cmocka_unit_test(test_headers_of_every_answer),
	    cmocka_unit_test(test_cors),
	    cmocka_unit_test(test_cors_origins),
	    cmocka_unit_test(test_head_and_http10),
	    cmocka_unit_test(test_router_answers),
	    cmocka_unit_test(test_keys),
	    cmocka_unit_test(test_expect),
	    cmocka_unit_test(test_key_revoked_before_the_body),
	    cmocka_unit_test(test_json_body),
	    cmocka_unit_test(test_back_pressure),
	    cmocka_unit_test(test_big_answers),
	    cmocka_unit_test(test_cut_stream),
	    cmocka_unit_test(test_abort),
	    cmocka_unit_test(test_free_busy),
	    cmocka_unit_test(test_deadlines),
	    cmocka_unit_test(test_write_deadline),
	    cmocka_unit_test(test_connection_limits),
	    cmocka_unit_test(test_body_memory),
	    cmocka_unit_test(test_drain),
	    cmocka_unit_test(test_log),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
