/* One request: what came with it, the memory and the operations that live as long as it does, and its end. */
#include "apid/http_server.h"

#include "apid/json_in.h"
#include "apid/session.h"
#include "common/apikey.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/pg.h"

#include <strings.h>

#define SPARE_MOST 64
#define BLOCK_LEAST 4096
#define PATH_LOGGED 200

/* ---- life ---- */

static void make_id(struct http_server *server, char ret[REQUEST_ID_MAX + 1]) {
	size_t n = strlen(server->id_prefix);
	memcpy(ret, server->id_prefix, n);
	*hexadecimal(++server->id_counter, 8, ret + n) = '\0';
}

struct request *request_new(struct http_conn *c) {
	struct http_server *server = c->server;
	struct list *l = list_first(&server->spare);
	struct request *req;
	if (l) {
		list_unlink(l);
		server->spare_count--;
		req = list_entry(l, struct request, link);
	} else {
		req = xmalloc(sizeof(*req));
	}
	memset(req, 0, offsetof(struct request, first));
	req->conn = c;
	req->api = server->api;
	req->head = &c->parse.head;
	req->arena = (char *)req->first;
	req->arena_left = sizeof(req->first);
	req->began_us = clock_mono_us_now();
	req->client = c->address;
	req->secure = c->listen->tls;
	make_id(server, req->id);
	return req;
}

/* The client's, when it is one that can stand in a log and a header. */
void request_set_id(struct request *req) {
	struct slice id = http_head_field(req->head, "x-request-id");
	if (id.n == 0 || id.n > REQUEST_ID_MAX || apikey_cut(id).n < id.n)
		return;
	for (size_t i = 0; i < id.n; i++) {
		char c = id.p[i];
		if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '.' || c == '_' ||
		      c == '-'))
			return;
	}
	memcpy(req->id, id.p, id.n);
	req->id[id.n] = '\0';
}

void request_set_client(struct request *req) {
	struct forwarded forwarded;
	forwarded_read(req->conn->listen, &req->conn->address, req->head, &forwarded);
	req->client = forwarded.client;
	req->secure = forwarded.secure;
}

static void release_body(struct request *req) {
	struct http_server *server = req->conn->server;
	buf_fini(&req->body);
	if (req->body_counted == 0)
		return;
	server->body_memory -= req->body_counted;
	apid_count(req->api->metrics, APID_BODY_MEMORY, -(int64_t)req->body_counted);
}

static void finish(struct request *req) {
	struct http_server *server = req->conn->server;
	while (req->ends) {
		struct request_end *end = req->ends;
		req->ends = end->next;
		end->fn(end->arg);
	}
	release_body(req);
	if (req->json)
		json_in_free(req->json);
	principal_unref(req->principal);
	while (req->blocks) {
		struct arena_block *block = req->blocks;
		req->blocks = block->next;
		free(block);
	}
	if (server->spare_count < SPARE_MOST) {
		list_append(&server->spare, &req->link);
		server->spare_count++;
	} else {
		free(req);
	}
}

static const char *method_name(enum request_method method) {
	static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};
	return names[method];
}

/* The one line of a request. The query is left out: it holds addresses. */
static void log_request(const struct request *req, int64_t us, bool aborted) {
	struct log_line line;
	const struct slice path = apikey_cut(req->head->path); /* a client's slip */
	static struct log_limit limit = {.what = "request", .per_second = 100};
	if (!log_enabled(LOG_LEVEL_INFO))
		return;
	/* Without a key, and refused: anybody can send any number of these. */
	if (!req->principal && req->status >= 400 && req->status < 500 && !log_limit_pass(&limit))
		return;
	log_begin(&line, LOG_LEVEL_INFO, "request");
	log_str(&line, "method", path.n ? method_name(req->head->method) : NULL);
	log_str(&line, "route", req->route ? req->route->pattern : NULL);
	log_slice(&line, "path", slice_of(path.p, min_of(path.n, (size_t)PATH_LOGGED)));
	log_int(&line, "status", req->status);
	log_int(&line, "us", us);
	log_int(&line, "octets", (int64_t)req->octets_out);
	log_str(&line, "id", req->id);
	http_log_client(&line, req->conn->server, &req->client);
	log_str(&line, "aborted", aborted || req->cut ? "true" : NULL);
	log_str(&line, "key", req->principal ? req->principal->last8 : NULL);
	log_end(&line);
}

void request_promise(struct request *req) {
	if (req->promised || !req->principal || !req->api->audit)
		return;
	req->promised = true;
	audit_promise(req->api->audit);
}

/* Of everybody who is known, also those who were refused. 499: gone before the answer. */
static void note(struct request *req, unsigned status) {
	request_promise(req);
	if (req->promised)
		audit_note(req->api->audit, req->principal, method_name(req->head->method), req->route ? req->route->pattern : NULL,
		           status, req->id);
}

void request_end(struct request *req) {
	int64_t us = clock_mono_us_now() - req->began_us;
	assert(req->state == REQUEST_ANSWERED);
	if (req->counted_us && req->api->quota && (req->status == 401 || req->status == 429 || req->status >= 500))
		quota_refund(req->api->quota, req->principal, req->counted_us);
	ptrdiff_t route = req->route ? req->route - req->conn->server->options.routes : -1;
	apid_count_answer(req->api->metrics, route, req->status, us);
	apid_count(req->api->metrics, APID_BODY_OCTETS_OUT, (int64_t)req->octets_out);
	note(req, req->status);
	log_request(req, us, false);
	finish(req);
}

void request_abort(struct request *req) {
	for (unsigned i = 0; i < REQUEST_OPS_MAX; i++) {
		if (req->ops[i])
			req->ops[i] = pg_op_cancel(req->ops[i]);
	}
	if (req->on_abort)
		req->on_abort(req->abort_arg);
	apid_count(req->api->metrics, APID_REQUESTS_ABORTED, 1);
	note(req, 499);
	log_request(req, clock_mono_us_now() - req->began_us, true);
	finish(req);
}

/* ---- memory and operations ---- */

void *request_alloc(struct request *req, size_t n) {
	const size_t align = sizeof(max_align_t);
	size_t need = (n + align - 1) / align * align;
	if (need > req->arena_left) {
		size_t size = max_of(need, (size_t)BLOCK_LEAST);
		struct arena_block *block = xmalloc(sizeof(*block) + size);
		block->next = req->blocks;
		req->blocks = block;
		/* a large piece gets a block of its own and leaves the current one in use */
		if (need > BLOCK_LEAST / 2)
			return memset(block->data, 0, n);
		req->arena = (char *)block->data;
		req->arena_left = size;
	}
	void *p = req->arena;
	req->arena += need;
	req->arena_left -= need;
	return memset(p, 0, n);
}

char *request_strndup(struct request *req, const char *s, size_t n) {
	char *copy = request_alloc(req, n + 1);
	if (n > 0)
		memcpy(copy, s, n);
	return copy;
}

void request_at_end(struct request *req, void (*fn)(void *arg), void *arg) {
	struct request_end *end = request_alloc(req, sizeof(*end));
	*end = (struct request_end){req->ends, fn, arg};
	req->ends = end;
}

void request_track(struct request *req, struct pg_op *op) {
	for (unsigned i = 0; i < REQUEST_OPS_MAX; i++) {
		if (!req->ops[i]) {
			req->ops[i] = op;
			return;
		}
	}
	assert(!"more operations than a request may have");
	abort();
}

void request_untrack(struct request *req, struct pg_op *op) {
	for (unsigned i = 0; i < REQUEST_OPS_MAX; i++) {
		if (req->ops[i] == op)
			req->ops[i] = NULL;
	}
}

void request_on_abort(struct request *req, void (*fn)(void *arg), void *arg) {
	req->on_abort = fn;
	req->abort_arg = arg;
}

/* ---- what came ---- */

enum request_method request_method(const struct request *req) {
	return req->head->method;
}

struct api *request_api(const struct request *req) {
	return req->api;
}

const struct principal *request_principal(const struct request *req) {
	return req->principal;
}

const char *request_id_text(const struct request *req) {
	return req->id;
}

int64_t request_take(struct request *r, enum clients_rate rate) {
	return http_server_take(r->conn->server, r, rate);
}

void request_give_back(struct request *r, enum clients_rate rate) {
	http_server_give_back(r->conn->server, r, rate);
}

bool request_secure(const struct request *req) {
	return req->secure;
}

struct slice request_header(const struct request *req, const char *name) {
	return http_head_field(req->head, name);
}

struct slice request_body(const struct request *req) {
	return buf_slice(&req->body);
}

/* http_head has checked that every % is followed by two hex digits and that the outcome is UTF-8 without NUL. */
static struct slice decode(struct request *req, struct slice s, bool plus_is_blank) {
	if (s.n == 0 || (!memchr(s.p, '%', s.n) && !(plus_is_blank && memchr(s.p, '+', s.n))))
		return s;
	char *text = request_alloc(req, s.n);
	size_t n = 0;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (c == '%') {
			c = (char)(hex_value(s.p[i + 1]) * 16 + hex_value(s.p[i + 2]));
			i += 2;
		} else if (c == '+' && plus_is_blank) {
			c = ' ';
		}
		text[n++] = c;
	}
	return slice_of(text, n);
}

struct slice request_param(const struct request *req, unsigned i) {
	assert(i < ROUTER_PARAMS_MAX && req->params[i].p);
	if (!req->params_decoded[i]) {
		/* what is decoded is the same request to every caller */
		struct request *own = req->conn->req;
		own->params[i] = decode(own, req->params[i], false);
		own->params_decoded[i] = true;
	}
	return req->params[i];
}

struct slice request_query(const struct request *req, const char *name) {
	struct slice rest = req->head->query;
	size_t n = strlen(name);
	while (rest.n > 0) {
		const char *end = memchr(rest.p, '&', rest.n);
		size_t len = end ? (size_t)(end - rest.p) : rest.n;
		const char *value = rest.p + n;
		if (len >= n && memcmp(rest.p, name, n) == 0 && (len == n || *value == '='))
			return len == n ? slice_of(value, 0) : decode(req->conn->req, slice_of(value + 1, len - n - 1), true);
		if (!end)
			break;
		rest = slice_of(end + 1, rest.n - len - 1);
	}
	return slice_of(NULL, 0);
}

/* ---- helpers that answer ---- */

bool request_param_id(struct request *req, unsigned i, struct id *ret) {
	struct slice text = request_param(req, i);
	if (id_parse(text.p, text.n, ret))
		return true;
	text = apikey_cut(text);
	bool address = memchr(text.p, '@', text.n);
	respond_problem(req, PROBLEM_NOT_FOUND, "%.*s is not an id%s", (int)min_of(text.n, (size_t)80), text.p,
	                address ? "; /v1/mailboxes?address= finds a mailbox by its address" : "");
	return false;
}

bool request_same_origin(struct request *req) {
	if (session_same_origin(request_header(req, "origin"), request_header(req, "sec-fetch-site"),
	                        request_header(req, "host"), req->secure))
		return true;
	respond_problem(req, PROBLEM_FORBIDDEN, "the request comes from another site");
	return false;
}

/* application/json, also with parameters. */
static bool is_json(struct slice type) {
	static const char json[] = "application/json";
	const char *semicolon = type.n ? memchr(type.p, ';', type.n) : NULL;
	size_t n = semicolon ? (size_t)(semicolon - type.p) : type.n;
	while (n > 0 && (type.p[n - 1] == ' ' || type.p[n - 1] == '\t'))
		n--;
	return n == sizeof(json) - 1 && strncasecmp(type.p, json, n) == 0;
}

json_t *request_json(struct request *req, bool optional) {
	struct json_in_error error;
	struct slice body = request_body(req);
	if (req->json)
		return req->json;
	if (body.n > 0 && !is_json(request_header(req, "content-type"))) {
		struct slice type = request_header(req, "content-type");
		respond_problem(req, PROBLEM_UNSUPPORTED_MEDIA_TYPE, "the body's Content-Type must be application/json, %s%.*s",
		                type.n ? "and is " : "and there is none", (int)min_of(type.n, (size_t)60), type.n ? type.p : "");
		return NULL;
	}
	req->json = json_in_parse(body.p, body.n, optional, &error);
	if (!req->json)
		respond_problem(req, PROBLEM_BAD_REQUEST, "%s", error.text);
	return req->json;
}
