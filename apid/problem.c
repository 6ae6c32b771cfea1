/* The catalogue of errors (RFC 9457) and the one answer that all of them share. */
#include "apid/http_server.h"

#include "common/clock.h"
#include "common/json_out.h"
#include "common/log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define DETAIL_MAX 600

struct problem_row {
	unsigned status;
	const char *error, *title;
};

static const struct problem_row PROBLEMS[] = {
    [PROBLEM_BAD_REQUEST] = {400, "bad_request", "Bad request"},
    [PROBLEM_UNAUTHORIZED] = {401, "unauthorized", "Unauthorized"},
    [PROBLEM_FORBIDDEN] = {403, "forbidden", "Forbidden"},
    [PROBLEM_NOT_FOUND] = {404, "not_found", "Not found"},
    [PROBLEM_METHOD_NOT_ALLOWED] = {405, "method_not_allowed", "Method not allowed"},
    [PROBLEM_CONFLICT] = {409, "conflict", "Conflict"},
    [PROBLEM_PAYLOAD_TOO_LARGE] = {413, "payload_too_large", "Payload too large"},
    [PROBLEM_URI_TOO_LONG] = {414, "uri_too_long", "URI too long"},
    [PROBLEM_UNSUPPORTED_MEDIA_TYPE] = {415, "unsupported_media_type", "Unsupported media type"},
    [PROBLEM_RANGE_NOT_SATISFIABLE] = {416, "range_not_satisfiable", "Range not satisfiable"},
    [PROBLEM_HEADER_TOO_LARGE] = {431, "header_too_large", "Request header fields too large"},
    [PROBLEM_RATE_LIMIT] = {429, "rate_limit_exceeded", "Too many requests"},
    [PROBLEM_QUOTA] = {429, "quota_exceeded", "Quota exceeded"},
    [PROBLEM_INTERNAL] = {500, "internal_error", "Internal error"},
    [PROBLEM_UNAVAILABLE] = {503, "unavailable", "Service unavailable"},
    [PROBLEM_TIMEOUT] = {408, "request_timeout", "Request timeout"},
    [PROBLEM_EXPECTATION_FAILED] = {417, "expectation_failed", "Expectation failed"},
    [PROBLEM_NOT_IMPLEMENTED] = {501, "not_implemented", "Not implemented"},
    [PROBLEM_HTTP_VERSION] = {505, "http_version_not_supported", "HTTP version not supported"},
};

#define WAIT_SIZE 16

static int whole_seconds(int64_t us) {
	return (int)(us / SECOND_US) + 1;
}

/* Until the limit that was met lets one more in. How many mailboxes there are is nobody's clock: a minute. */
static void retry_after(const struct request *req, enum problem problem, char ret[WAIT_SIZE]) {
	if (req->wait_us > 0) {
		snprintf(ret, WAIT_SIZE, "%d", whole_seconds(req->wait_us));
		return;
	}
	struct quota_state state = {.day_seconds = 60, .minute_seconds = 60};
	if (req->principal && req->api->quota)
		quota_state(req->api->quota, req->principal, &state);
	bool day = problem == PROBLEM_QUOTA && state.day_limit >= 0 && state.day_left == 0;
	snprintf(ret, WAIT_SIZE, "%d", day ? state.day_seconds : problem == PROBLEM_RATE_LIMIT ? state.minute_seconds : 60);
}

/* The headers that a status brings with it. `wait` has room for one of them. */
static unsigned extra_headers(const struct request *req, enum problem problem, char wait[WAIT_SIZE],
                              struct respond_header extra[2]) {
	unsigned n = 0;
	if (problem == PROBLEM_UNAUTHORIZED)
		extra[n++] = (struct respond_header){"WWW-Authenticate", "Bearer"};
	else if (problem == PROBLEM_METHOD_NOT_ALLOWED && req->allow[0])
		extra[n++] = (struct respond_header){"Allow", req->allow};
	else if (problem == PROBLEM_UNAVAILABLE)
		extra[n++] = (struct respond_header){"Retry-After", "1"};
	if (problem == PROBLEM_RATE_LIMIT || problem == PROBLEM_QUOTA) {
		retry_after(req, problem, wait);
		extra[n++] = (struct respond_header){"Retry-After", wait};
	}
	extra[n] = (struct respond_header){NULL, NULL};
	return n;
}

static void write_problem(const struct request *req, const struct problem_row *row, const char *detail,
                          struct buf *out) {
	struct json_out json;
	json_out_init(&json, out);
	json_out_object(&json);
	json_out_member_cstring(&json, "type", "about:blank");
	json_out_member_cstring(&json, "title", row->title);
	json_out_member_int(&json, "status", row->status);
	json_out_member_cstring(&json, "detail", detail);
	json_out_member_cstring(&json, "error", row->error);
	json_out_member_cstring(&json, "code", row->error);
	json_out_member_cstring(&json, "message", detail);
	json_out_member_cstring(&json, "requestId", req->id);
	json_out_object_end(&json);
}

static void answer(struct request *req, enum problem problem, const char *text, const struct respond_header *extra) {
	const struct problem_row *row = &PROBLEMS[problem];
	struct buf body;
	buf_init(&body, 16 * 1024);
	write_problem(req, row, text[0] ? text : row->title, &body);
	respond_bytes(req, row->status, "application/problem+json", extra, &body);
}

void respond_problem(struct request *req, enum problem problem, const char *detail, ...) {
	char text[DETAIL_MAX], wait[WAIT_SIZE];
	struct respond_header extra[2];
	text[0] = '\0';
	if (detail) {
		va_list ap;
		va_start(ap, detail);
		vsnprintf(text, sizeof(text), detail, ap);
		va_end(ap);
	}
	if (problem == PROBLEM_INTERNAL) {
		log_msg(LOG_LEVEL_ERROR, "internal error", "request %s: %s", req->id, text);
		snprintf(text, sizeof(text), "The server failed; its log has the request id.");
	}
	extra_headers(req, problem, wait, extra);
	answer(req, problem, text, extra);
}

void respond_too_many(struct request *req, int64_t wait_us, const char *what) {
	req->wait_us = wait_us;
	respond_problem(req, PROBLEM_RATE_LIMIT, "%s; try again in %d seconds", what, whole_seconds(wait_us));
}

void respond_range_problem(struct request *req, uint64_t length) {
	char range[48], text[DETAIL_MAX];
	const struct respond_header extra[] = {{"Content-Range", range}, {NULL, NULL}};
	snprintf(range, sizeof(range), "bytes */%" PRIu64, length); /* RFC 9110 14.4 */
	snprintf(text, sizeof(text), "there are %" PRIu64 " octets", length);
	answer(req, PROBLEM_RANGE_NOT_SATISFIABLE, text, extra);
}

void problem_for_quota(struct request *req, enum quota_verdict verdict) {
	const struct principal *who = req->principal;
	switch (verdict) {
	case QUOTA_OK:
		break;
	case QUOTA_DAY:
		respond_problem(req, PROBLEM_QUOTA, "the account's %" PRId64 " calls of today are used up; they begin again at 00:00 UTC",
		                who->calls_per_day);
		return;
	case QUOTA_MINUTE:
		respond_problem(req, PROBLEM_RATE_LIMIT, "the account may make %" PRId64 " requests a minute", who->requests_per_minute);
		return;
	case QUOTA_UNAVAILABLE:
		respond_problem(req, PROBLEM_UNAVAILABLE, "the database is not reachable");
		return;
	}
	assert(!"no problem");
}

void problem_for_parse_error(struct request *req, const struct http_error *error) {
	for (size_t i = 0; i < array_len(PROBLEMS); i++) {
		if (PROBLEMS[i].status == error->status) {
			respond_problem(req, (enum problem)i, "%s", error->text);
			return;
		}
	}
	respond_problem(req, PROBLEM_BAD_REQUEST, "%s", error->text);
}
