/* One HTTP connection: the states of http_server.h, and what each of them waits for. No HTTP syntax (http_parse), no
 * text of an answer (response, problem).
 *
 * Invariants: conn_run() is the one function that moves a connection on, and never runs inside itself; conn_arm()
 * the one that sets deadlines and read interest. A request ends only in conn_run() or when its connection does, so a
 * handler may use its memory for the rest of its callback. */
#include "apid/http_server.h"

#include "apid/session.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/tls.h"
#include "common/tls_keys.h"

#include <event2/buffer.h>

#define INPUT_CAP (64 * 1024)
#define STEPS_MOST 64 /* of one connection in one turn, so that pipelining does not starve the others */

static void conn_run(struct http_conn *);

/* ---- opening and closing ---- */

static void conn_free(void *obj) {
	struct http_conn *c = obj;
	http_parse_fini(&c->parse);
	free(c);
}

/* Detaches everything; the memory goes at the end of the turn. `gently`: what is in the output still goes out. */
void http_conn_close(struct http_conn *c, bool gently) {
	struct http_server *server = c->server;
	if (c->state == CONN_CLOSED)
		return;
	c->state = CONN_CLOSED;
	c->auth_op = auth_cancel(c->auth_op);
	c->quota_op = quota_cancel(c->quota_op);
	if (c->req && c->req->state == REQUEST_ANSWERED)
		request_end(c->req);
	else if (c->req)
		request_abort(c->req);
	c->req = NULL;
	c->stream = gently ? stream_close_after_write(c->stream, server->limits.linger_us) : stream_close(c->stream);
	deferred_cancel(&c->rerun);
	list_unlink(&c->idle_link);
	list_unlink(&c->link);
	if (server->options.clients)
		clients_leave(server->options.clients, &c->place);
	loop_bury(server->api->loop, c, conn_free);
	http_server_place_left(server);
}

static void on_stream(void *arg, enum stream_event);

static const struct stream_ops STREAM_OPS = {on_stream};

static void conn_arm(struct http_conn *);

/* Without a usable key nobody is answered in clear instead. */
static void conn_start_tls(struct http_conn *c) {
	struct tls_set *set = tls_usable(c->server->options.tls);
	c->state = CONN_TLS;
	if (c->server->options.clients) {
		if (!clients_may(c->server->options.clients, &c->place, CLIENTS_HANDSHAKES)) {
			apid_count(c->server->api->metrics, APID_CONNECTIONS_REFUSED_LIMIT, 1);
			http_conn_close(c, false);
			return;
		}
		clients_count(c->server->options.clients, &c->place, CLIENTS_HANDSHAKES, 1);
	}
	if (!set || stream_start_tls(c->stream, set) < 0)
		http_conn_close(c, false);
}

void http_conn_open(struct http_server *server, int fd, const struct http_listen *listen, const struct netaddr *client,
                    const struct client *place) {
	struct http_conn *c = xcalloc(1, sizeof(*c));
	http_server_place_taken(server);
	apid_count(server->api->metrics, APID_CONNECTIONS_TOTAL, 1);
	c->server = server;
	c->listen = listen;
	c->address = *client;
	c->place = *place;
	c->state = CONN_HEAD;
	c->born_us = c->since_us = clock_mono_us();
	http_parse_init(&c->parse);
	c->stream = stream_new(server->api->loop, fd, INPUT_CAP, &STREAM_OPS, c);
	stream_set_output_low(c->stream, server->limits.output_low);
	list_append(&server->conns, &c->link);
	list_append(&server->idle, &c->idle_link);
	if (listen->tls)
		conn_start_tls(c);
	conn_arm(c);
}

/* ---- state ---- */

static void conn_set_state(struct http_conn *c, enum conn_state state) {
	assert(c->state != CONN_CLOSED);
	assert((state <= CONN_HEAD || state == CONN_WRITING) == (c->req == NULL));
	c->state = state;
	c->since_us = clock_mono_us();
}

static bool conn_ended(const struct http_conn *c) {
	return c->eof && evbuffer_get_length(stream_input(c->stream)) == 0;
}

bool http_conn_closes(struct http_conn *c) {
	const struct http_limits *limits = &c->server->limits;
	c->close_after = c->close_after || conn_ended(c) || c->server->draining || c->requests >= limits->requests ||
	                 clock_mono_us() - c->born_us >= limits->connection_us;
	return c->close_after;
}

/* What was announced holds: a client that was not told to expect the end may be sending its next request by now. While draining
 * that goes until the farewell. */
static bool conn_closes_now(const struct http_conn *c) {
	return c->close_after || conn_ended(c) || (c->server->draining && !timer_armed(&c->server->farewell));
}

static int64_t conn_limit_us(const struct http_conn *c) {
	const struct http_limits *limits = &c->server->limits;
	size_t pending = stream_output_pending(c->stream);
	int64_t writing = limits->write_us + (int64_t)pending * SECOND_US / limits->write_rate;
	switch (c->state) {
	case CONN_TLS:
		return limits->head_us;
	case CONN_HEAD:
		return c->head_begun ? limits->head_us : limits->idle_us;
	case CONN_BODY:
		return limits->body_us + (int64_t)c->req->body.len * SECOND_US / limits->body_rate;
	case CONN_AUTH:
	case CONN_HANDLING:
		return limits->handler_us;
	case CONN_STREAMING:
		return pending > 0 ? writing : limits->handler_us;
	case CONN_WRITING:
		return writing;
	case CONN_CLOSED:
		break;
	}
	return limits->idle_us;
}

/* Reading goes on while a handler works, up to the stream's cap: a client that leaves is noticed. */
static void conn_arm(struct http_conn *c) {
	if (c->state == CONN_CLOSED)
		return;
	stream_want_read(c->stream, !c->eof);
	stream_set_deadline(c->stream, max_of(c->since_us + conn_limit_us(c) - clock_mono_us(), 1));
}

/* ---- from head to handler ---- */

/* What is promised to the bodies of this one's account. */
static size_t account_body_memory(const struct request *req) {
	size_t sum = 0;
	list_for_each (l, &req->conn->server->conns) {
		const struct request *other = list_entry(l, struct http_conn, link)->req;
		if (other && other->principal && req->principal && id_equal(&other->principal->account_id, &req->principal->account_id))
			sum += other->body_counted;
	}
	return sum;
}

static bool has_room(size_t most, size_t taken, size_t n) {
	return taken <= most && n <= most - taken;
}

/* Body memory is promised before it is taken: what a Content-Length says, or for chunks what the route allows. */
static bool conn_claim_body(struct request *req, size_t n) {
	struct http_server *server = req->conn->server;
	const struct http_limits *limits = &server->limits;
	if (n > limits->body_small &&
	    (!has_room(limits->body_memory, server->body_memory, n) || !has_room(limits->body_memory / 2, account_body_memory(req), n)))
		return false;
	server->body_memory += n;
	req->body_counted = n;
	apid_count(server->api->metrics, APID_BODY_MEMORY, (int64_t)n);
	return true;
}

/* RFC 9110 10.1.1. A client that did not wait for it has sent octets already. */
static void conn_continue(struct http_conn *c) {
	static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
	if (c->parse.head.expect_continue && evbuffer_get_length(stream_input(c->stream)) == 0)
		evbuffer_add(stream_output(c->stream), text, sizeof(text) - 1);
}

/* The key was good, or none was needed. */
static void conn_begin_body(struct http_conn *c) {
	struct request *req = c->req;
	const struct http_head *head = &c->parse.head;
	size_t max = req->route->body_max;
	conn_set_state(c, CONN_BODY);
	if (!http_head_has_body(head)) {
		c->close_after = !head->keep_alive;
	} else if (head->content_length > 0 && (uint64_t)head->content_length > max) {
		respond_problem(req, PROBLEM_PAYLOAD_TOO_LARGE, "the body is larger than the %zu octets that this route takes",
		                max);
		return;
	} else if (!conn_claim_body(req, head->chunked ? max : (size_t)head->content_length)) {
		respond_problem(req, PROBLEM_UNAVAILABLE, "too many large requests at once");
		return;
	} else {
		conn_continue(c);
	}
	buf_init(&req->body, max);
	http_parse_body(&c->parse, &req->body);
}

/* A browser sends a session's cookie whoever made it ask. What changes something needs a token that only our own pages
 * know. False: answered. */
static bool conn_meant_it(struct http_conn *c) {
	const struct http_head *head = &c->parse.head;
	char token[TOKEN_SIZE];
	if (c->req->principal->kind != PRINCIPAL_SESSION || head->method == METHOD_GET || head->method == METHOD_HEAD)
		return true;
	if (!request_same_origin(c->req))
		return false;
	session_csrf(&c->req->principal->key_id, c->server->api->config->secret, token);
	if (token_equal(http_head_field(head, "x-csrf-token"), token))
		return true;
	respond_problem(c->req, PROBLEM_FORBIDDEN,
	                "X-CSRF-Token is missing or is not this session's; GET /v1/auth/session tells it");
	return false;
}

/* Whether this principal may use the route at all; false: answered. Whose objects it may touch is asked of each
 * statement. */
static bool conn_may_use_route(struct http_conn *c) {
	const struct route *route = c->req->route;
	const struct principal *who = c->req->principal;
	if (!conn_meant_it(c))
		return false;
	if (route->access == ROUTE_CONSOLE && who->kind != PRINCIPAL_SESSION)
		respond_problem(c->req, PROBLEM_FORBIDDEN, "an API key cannot do this: sign in to the console");
	else if (!principal_has_scope(who, route->scope))
		respond_problem(c->req, PROBLEM_FORBIDDEN, "this API key lacks the scope %s", route->scope);
	else if (route->owners_only && !who->account_owner)
		respond_problem(c->req, PROBLEM_FORBIDDEN, "only an owner of the account can do this");
	else
		return true;
	return false;
}

static void conn_refuse_path(struct request *req) {
	const struct slice path = req->head->path;
	if (req->allow[0])
		respond_problem(req, PROBLEM_METHOD_NOT_ALLOWED, "this path takes %s", req->allow);
	else if (path.n > 1 && path.p[path.n - 1] == '/')
		respond_problem(req, PROBLEM_NOT_FOUND, "there is nothing at this path: none of ours ends with a slash; /docs tells what there is");
	else
		respond_problem(req, PROBLEM_NOT_FOUND, "there is nothing at this path; /docs tells what there is");
}

static void conn_judge_quota(struct http_conn *c, enum quota_verdict verdict) {
	struct request *req = c->req;
	if (verdict != QUOTA_OK) {
		problem_for_quota(req, verdict);
		return;
	}
	req->counted_us = clock_wall_us();
	if (!req->route)
		conn_refuse_path(req);
	else if (conn_may_use_route(c))
		conn_begin_body(c);
}

static void conn_handle(struct http_conn *c) {
	conn_set_state(c, CONN_HANDLING);
	c->req->route->handler(c->req);
}

static void on_quota(void *arg, enum quota_verdict verdict) {
	struct http_conn *c = arg;
	c->quota_op = NULL;
	conn_judge_quota(c, verdict);
	conn_run(c);
}

/* Whatever comes of it: every request with a valid key counts. */
static void conn_begin_quota(struct http_conn *c) {
	struct quota *quota = c->server->api->quota;
	enum quota_verdict verdict = QUOTA_OK;
	c->quota_op = quota ? quota_start(quota, c->req->principal, on_quota, c, &verdict) : NULL;
	if (!c->quota_op)
		conn_judge_quota(c, verdict);
}

static void conn_slow_down(struct http_conn *c) {
	apid_count(c->server->api->metrics, APID_AUTH_LIMITED, 1);
	respond_problem(c->req, PROBLEM_RATE_LIMIT, "too many wrong keys come from this address; try again later");
}

static bool key_was_wrong(enum auth_verdict verdict) {
	return verdict != AUTH_OK && verdict != AUTH_NO_KEY && verdict != AUTH_UNAVAILABLE;
}

static void conn_judge_key(struct http_conn *c, enum auth_verdict verdict) {
	struct metrics *metrics = c->server->api->metrics;
	if (key_was_wrong(verdict) && http_server_take(c->server, c->req, CLIENTS_BAD_KEYS) > 0) {
		conn_slow_down(c);
		return;
	}
	if (verdict != AUTH_OK && !c->req->route) {
		conn_refuse_path(c->req);
		return;
	}
	switch (verdict) {
	case AUTH_OK:
		if (!c->body_waited)
			conn_begin_quota(c);
		else if (conn_may_use_route(c))
			conn_handle(c);
		return;
	case AUTH_UNAVAILABLE:
		respond_problem(c->req, PROBLEM_UNAVAILABLE, "the database is not reachable");
		return;
	case AUTH_NO_KEY:
	case AUTH_MALFORMED:
	case AUTH_CHECKSUM:
	case AUTH_OTHER_ENV:
	case AUTH_UNKNOWN:
	case AUTH_REVOKED:
	case AUTH_EXPIRED:
	case AUTH_SUSPENDED:
	case AUTH_NO_SESSION:
		break;
	}
	apid_count(metrics, APID_AUTH_REFUSED, 1);
	respond_problem(c->req, PROBLEM_UNAUTHORIZED, "%s", auth_verdict_text(verdict));
}

/* Takes the reference. Who is refused at the second time stays known: for the log, and to have the call back. */
static void conn_take_principal(struct http_conn *c, struct principal *principal) {
	if (!principal)
		return;
	principal_unref(c->req->principal);
	c->req->principal = principal;
}

static void on_auth(void *arg, enum auth_verdict verdict, struct principal *principal) {
	struct http_conn *c = arg;
	c->auth_op = NULL;
	conn_take_principal(c, principal ? principal_ref(principal) : NULL);
	conn_judge_key(c, verdict);
	conn_run(c);
}

static void conn_begin_auth(struct http_conn *c) {
	struct api *api = c->server->api;
	enum auth_verdict verdict = AUTH_UNAVAILABLE;
	struct principal *principal = NULL;
	conn_set_state(c, CONN_AUTH);
	struct slice session = session_cookie(http_head_field(&c->parse.head, "cookie"), c->req->secure);
	struct slice header = http_head_field(&c->parse.head, "authorization");
	/* Who guesses is not looked up; who is known goes on working beside him, at the same address. */
	if (!http_server_may_try(c->server, c->req) && !auth_known(api->auth, header, session)) {
		conn_slow_down(c);
		return;
	}
	c->auth_op = auth_start(api->auth, header, session, on_auth, c, &verdict,
	                        &principal);
	apid_count(api->metrics, c->auth_op ? APID_AUTH_QUERIED : APID_AUTH_CACHED, 1);
	if (c->auth_op)
		return;
	conn_take_principal(c, principal);
	conn_judge_key(c, verdict);
}

static void conn_new_request(struct http_conn *c) {
	list_unlink(&c->idle_link);
	c->requests++;
	c->req = request_new(c);
}

static void conn_begin_request(struct http_conn *c) {
	const struct http_head *head = &c->parse.head;
	conn_new_request(c);
	struct request *req = c->req;
	conn_set_state(c, CONN_HANDLING);
	/* An answer before the body was read leaves octets of it behind it. */
	c->close_after = !head->keep_alive || http_head_has_body(head);
	req->head_only = head->method == METHOD_HEAD;
	request_set_id(req);
	request_set_client(req);
	if (head->method == METHOD_OPTIONS && response_preflight(req))
		return;
	switch (router_find(c->server->options.routes, head->method, head->path, &req->route, req->params, req->allow,
	                    sizeof(req->allow))) {
	case ROUTER_NO_PATH:
	case ROUTER_NO_METHOD:
		if (http_head_field(head, "authorization").n > 0)
			conn_begin_auth(c); /* it counts all the same */
		else
			conn_refuse_path(req);
		return;
	case ROUTER_FOUND:
		break;
	}
	if (req->route->access == ROUTE_OPEN)
		conn_begin_body(c);
	else
		conn_begin_auth(c);
}

/* What cannot be read: answered, and the connection ends, because where the next request begins is unknown. */
static void conn_refuse(struct http_conn *c) {
	c->close_after = true;
	if (!c->req) {
		apid_count(c->server->api->metrics, APID_REQUESTS_MALFORMED, 1);
		conn_new_request(c);
		conn_set_state(c, CONN_HANDLING);
	}
	problem_for_parse_error(c->req, &c->parse.error);
}

/* ---- steps: each returns whether another one may follow at once ---- */

/* Feeds what is there until the parser has something. */
static enum http_parse_result conn_feed(struct http_conn *c) {
	struct evbuffer *in = stream_input(c->stream);
	for (;;) {
		struct evbuffer_iovec piece = {0};
		size_t used = 0;
		if (evbuffer_peek(in, -1, NULL, &piece, 1) < 1)
			piece.iov_len = 0;
		enum http_parse_result r = http_parse_feed(&c->parse, piece.iov_base, piece.iov_len, &used);
		evbuffer_drain(in, used);
		if (r != HTTP_PARSE_MORE || used == 0)
			return r;
	}
}

static bool step_head(struct http_conn *c) {
	enum http_parse_result r = conn_feed(c);
	if (r == HTTP_PARSE_HEAD) {
		conn_begin_request(c);
		return true;
	}
	if (r == HTTP_PARSE_ERROR) {
		conn_refuse(c);
		return true;
	}
	if (c->eof) { /* between requests, or half a head: nobody waits for an answer */
		http_conn_close(c, true);
		return false;
	}
	if (!c->head_begun && http_parse_begun(&c->parse)) {
		c->head_begun = true;
		c->since_us = clock_mono_us();
		list_unlink(&c->idle_link);
	}
	return false;
}

static bool step_body(struct http_conn *c) {
	struct request *req = c->req;
	if (req->state == REQUEST_ANSWERED) { /* refused before it was read */
		conn_set_state(c, CONN_HANDLING);
		return true;
	}
	switch (conn_feed(c)) {
	case HTTP_PARSE_DONE:
		c->close_after = !c->parse.head.keep_alive;
		apid_count(c->server->api->metrics, APID_BODY_OCTETS_IN, (int64_t)req->body.len);
		/* The key may have been revoked while the body was on its way. */
		if (c->body_waited && req->route->access != ROUTE_OPEN)
			conn_begin_auth(c);
		else
			conn_handle(c);
		return true;
	case HTTP_PARSE_ERROR:
		conn_refuse(c);
		return true;
	case HTTP_PARSE_MORE:
	case HTTP_PARSE_HEAD:
		break;
	}
	c->body_waited = true;
	if (c->eof) {
		c->close_after = true;
		respond_problem(req, PROBLEM_BAD_REQUEST, "the body ends before its announced length");
		return true;
	}
	return false;
}

/* The answer is in the output, all of it. */
static bool conn_finish_request(struct http_conn *c) {
	bool closes = conn_closes_now(c), cut = c->req->cut;
	request_end(c->req);
	c->req = NULL;
	if (cut || closes) {
		http_conn_close(c, !cut);
		return false;
	}
	http_parse_reset(&c->parse);
	c->head_begun = c->body_waited = false;
	conn_set_state(c, stream_output_pending(c->stream) > c->server->limits.output_high ? CONN_WRITING : CONN_HEAD);
	list_append(&c->server->idle, &c->idle_link);
	return true;
}

static bool step_handling(struct http_conn *c) {
	if (c->req->state == REQUEST_ANSWERED)
		return conn_finish_request(c);
	if (c->req->state == REQUEST_STREAM) {
		conn_set_state(c, CONN_STREAMING);
		return true;
	}
	return false;
}

static bool step_streaming(struct http_conn *c) {
	struct request *req = c->req;
	if (req->state == REQUEST_ANSWERED)
		return conn_finish_request(c);
	if (req->stream.asked || stream_output_pending(c->stream) > c->server->limits.output_low)
		return false;
	c->since_us = clock_mono_us();
	req->stream.asked = true;
	req->stream.more(req->stream.arg);
	return true;
}

static bool step_writing(struct http_conn *c) {
	if (stream_output_pending(c->stream) > c->server->limits.output_low)
		return false;
	conn_set_state(c, CONN_HEAD);
	return true;
}

static bool conn_step(struct http_conn *c) {
	switch (c->state) {
	case CONN_TLS:
		return false;
	case CONN_HEAD:
		return step_head(c);
	case CONN_AUTH:
		if (c->auth_op || c->quota_op)
			return false;
		conn_set_state(c, CONN_HANDLING); /* refused */
		return true;
	case CONN_BODY:
		return step_body(c);
	case CONN_HANDLING:
		return step_handling(c);
	case CONN_STREAMING:
		return step_streaming(c);
	case CONN_WRITING:
		return step_writing(c);
	case CONN_CLOSED:
		break;
	}
	return false;
}

static void on_rerun(void *arg) {
	conn_run(arg);
}

static void conn_run(struct http_conn *c) {
	if (c->running || c->state == CONN_CLOSED)
		return;
	c->running = true;
	unsigned steps = 0;
	while (steps < STEPS_MOST && conn_step(c))
		steps++;
	c->running = false;
	if (c->state == CONN_CLOSED)
		return;
	conn_arm(c);
	if (steps == STEPS_MOST)
		loop_defer(c->server->api->loop, &c->rerun, on_rerun, c);
}

void http_conn_answered(struct http_conn *c) {
	if (!c->running && c->state != CONN_CLOSED)
		loop_defer(c->server->api->loop, &c->rerun, on_rerun, c);
}

/* ---- events ---- */

static void log_timeout(const struct http_conn *c, const char *doing) {
	struct log_line line;
	if (!log_enabled(LOG_LEVEL_INFO))
		return;
	log_begin(&line, LOG_LEVEL_INFO, "connection timed out");
	log_str(&line, "doing", doing);
	if (c->req)
		log_str(&line, "request", c->req->id);
	log_end(&line);
}

/* Says 408 and closes; the request may not exist yet. */
static void conn_too_slow(struct http_conn *c, const char *what) {
	log_timeout(c, what);
	c->close_after = true;
	if (!c->req) {
		conn_new_request(c);
		conn_set_state(c, CONN_HANDLING);
	}
	respond_problem(c->req, PROBLEM_TIMEOUT, "%s took too long", what);
	conn_run(c);
}

/* Never back to clear: an alert is all that may still leave. */
static void conn_tls_failed(struct http_conn *c, const char *why) {
	struct log_line line;
	static struct log_limit limit = {.what = "TLS handshake failed", .per_second = 10};
	apid_count(c->server->api->metrics, APID_TLS_FAILED, 1);
	if (log_enabled(LOG_LEVEL_INFO) && log_limit_pass(&limit)) {
		log_begin(&line, LOG_LEVEL_INFO, "TLS handshake failed");
		log_str(&line, "reason", why);
		http_log_client(&line, c->server, &c->address);
		log_end(&line);
	}
	http_conn_close(c, true);
}

static void conn_tls_done(struct http_conn *c) {
	const struct tls_info *info = stream_tls(c->stream);
	struct metrics *metrics = c->server->api->metrics;
	apid_count(metrics, strcmp(info->version, "TLSv1.2") == 0 ? APID_TLS_12 : APID_TLS_13, 1);
	if (info->resumed)
		apid_count(metrics, APID_TLS_RESUMED, 1);
	conn_set_state(c, CONN_HEAD);
	list_unlink(&c->idle_link);
	list_append(&c->server->idle, &c->idle_link);
	conn_run(c);
}

static void on_deadline(struct http_conn *c) {
	if (c->state == CONN_HEAD && !c->head_begun) {
		http_conn_close(c, true);
		return;
	}
	apid_count(c->server->api->metrics, APID_CONNECTIONS_TIMED_OUT, 1);
	switch (c->state) {
	case CONN_TLS:
		conn_tls_failed(c, "deadline passed");
		return;
	case CONN_HEAD:
		conn_too_slow(c, "the request's head");
		return;
	case CONN_BODY:
		conn_too_slow(c, "the request's body");
		return;
	case CONN_AUTH:
	case CONN_HANDLING: {
		/* The handler's operations have deadlines of their own, shorter ones: this is our bug, and must not cost the
		 * client a wait. */
		log_msg(LOG_LEVEL_ERROR, "handler did not answer", "request %s", c->req->id);
		http_conn_close(c, false);
		return;
	}
	case CONN_STREAMING:
	case CONN_WRITING:
		log_timeout(c, "writing the answer");
		http_conn_close(c, false);
		return;
	case CONN_CLOSED:
		return;
	}
}

static void on_stream(void *arg, enum stream_event event) {
	struct http_conn *c = arg;
	switch (event) {
	case STREAM_READABLE:
		if (c->state == CONN_HEAD || c->state == CONN_BODY)
			conn_run(c);
		return;
	case STREAM_DRAINED:
		conn_run(c);
		return;
	case STREAM_EOF:
		c->eof = true;
		conn_run(c);
		return;
	case STREAM_TLS:
		conn_tls_done(c);
		return;
	case STREAM_TLS_FAILED:
		conn_tls_failed(c, stream_tls_error(c->stream));
		return;
	case STREAM_DEADLINE:
		on_deadline(c);
		return;
	case STREAM_ERROR:
		http_conn_close(c, false);
		return;
	}
}
