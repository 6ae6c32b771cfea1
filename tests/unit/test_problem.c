/* problem: each row of the catalogue has all members that clients read, valid JSON whatever the detail, and its
 * headers. respond_bytes() is replaced here, so no connection is needed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "apid/http_server.h"
#include "apid/json_in.h"
#include "common/log.h"

static unsigned got_status;
static char got_type[64], got_header[64], got_value[64], got_body[8192];
static size_t got_len;
static char last_log[2048];

void respond_bytes(struct request *req, unsigned status, const char *type, const struct respond_header *extra,
                   struct buf *body) {
	(void)req;
	got_status = status;
	snprintf(got_type, sizeof(got_type), "%s", type);
	got_header[0] = got_value[0] = '\0';
	if (extra && extra->name) {
		snprintf(got_header, sizeof(got_header), "%s", extra->name);
		snprintf(got_value, sizeof(got_value), "%s", extra->value);
	}
	assert_false(body->overflow);
	assert_in_range(body->len, 1, sizeof(got_body) - 1);
	memcpy(got_body, body->data, body->len);
	got_len = body->len;
	buf_fini(body);
}

static void on_log(void *arg, enum log_level level, const char *line, size_t n) {
	(void)arg;
	(void)level;
	snprintf(last_log, sizeof(last_log), "%.*s", (int)n, line);
}

static const struct {
	enum problem problem;
	unsigned status;
	const char *error, *header, *value;
} rows[] = {
    {PROBLEM_BAD_REQUEST, 400, "bad_request", "", ""},
    {PROBLEM_UNAUTHORIZED, 401, "unauthorized", "WWW-Authenticate", "Bearer"},
    {PROBLEM_FORBIDDEN, 403, "forbidden", "", ""},
    {PROBLEM_NOT_FOUND, 404, "not_found", "", ""},
    {PROBLEM_METHOD_NOT_ALLOWED, 405, "method_not_allowed", "Allow", "GET, HEAD"},
    {PROBLEM_CONFLICT, 409, "conflict", "", ""},
    {PROBLEM_PAYLOAD_TOO_LARGE, 413, "payload_too_large", "", ""},
    {PROBLEM_URI_TOO_LONG, 414, "uri_too_long", "", ""},
    {PROBLEM_UNSUPPORTED_MEDIA_TYPE, 415, "unsupported_media_type", "", ""},
    {PROBLEM_RANGE_NOT_SATISFIABLE, 416, "range_not_satisfiable", "", ""},
    {PROBLEM_HEADER_TOO_LARGE, 431, "header_too_large", "", ""},
    {PROBLEM_RATE_LIMIT, 429, "rate_limit_exceeded", "Retry-After", "60"},
    {PROBLEM_QUOTA, 429, "quota_exceeded", "Retry-After", "60"},
    {PROBLEM_INTERNAL, 500, "internal_error", "", ""},
    {PROBLEM_UNAVAILABLE, 503, "unavailable", "Retry-After", "1"},
    {PROBLEM_TIMEOUT, 408, "request_timeout", "", ""},
    {PROBLEM_EXPECTATION_FAILED, 417, "expectation_failed", "", ""},
    {PROBLEM_NOT_IMPLEMENTED, 501, "not_implemented", "", ""},
    {PROBLEM_HTTP_VERSION, 505, "http_version_not_supported", "", ""},
};

static struct slice member(const json_t *o, const char *name) {
	struct json_in_error error;
	struct slice s = {0};
	if (json_in_string(o, name, &s, &error) != 1)
		fail_msg("no member %s in %.*s", name, (int)got_len, got_body);
	return s;
}

static json_t *parse(void) {
	struct json_in_error error;
	json_t *o = json_in_parse(got_body, got_len, false, &error);
	if (!o)
		fail_msg("%s: %.*s", error.text, (int)got_len, got_body);
	return o;
}

static void test_rows(void **state) {
	struct request req = {.id = "req-1", .allow = "GET, HEAD"};
	for (size_t i = 0; i < array_len(rows); i++) {
		struct json_in_error error;
		int64_t status = 0;
		respond_problem(&req, rows[i].problem, "detail %d", 42);
		assert_int_equal(got_status, rows[i].status);
		assert_string_equal(got_type, "application/problem+json");
		assert_string_equal(got_header, rows[i].header);
		assert_string_equal(got_value, rows[i].value);
		json_t *o = parse();
		assert_int_equal(json_in_int(o, "status", 0, 999, &status, &error), 1);
		assert_int_equal(status, rows[i].status);
		assert_true(slice_eq(member(o, "error"), slice_str(rows[i].error)));
		assert_true(slice_eq(member(o, "code"), slice_str(rows[i].error)));
		assert_true(slice_eq(member(o, "requestId"), slice_str("req-1")));
		assert_true(slice_eq(member(o, "type"), slice_str("about:blank")));
		assert_true(member(o, "title").n > 0);
		assert_true(slice_eq(member(o, "detail"), member(o, "message")));
		assert_int_equal(slice_eq(member(o, "detail"), slice_str("detail 42")), rows[i].problem != PROBLEM_INTERNAL);
		json_in_free(o);
		respond_problem(&req, rows[i].problem, NULL);
		json_in_free(parse());
	}
}

/* A fault of ours: the log has the detail, the client does not. */
static void test_internal(void **state) {
	struct request req = {.id = "req-2"};
	log_set_sink(on_log, NULL);
	respond_problem(&req, PROBLEM_INTERNAL, "select failed at %s", "host-17");
	log_set_sink(NULL, NULL);
	assert_null(memmem(got_body, got_len, "host-17", 7));
	assert_non_null(memmem(got_body, got_len, "req-2", 5));
	assert_non_null(strstr(last_log, "host-17"));
	assert_non_null(strstr(last_log, "req-2"));
}

static void test_hostile_detail(void **state) {
	struct request req = {.id = "r"};
	char detail[5000];
	memset(detail, '\\', sizeof(detail) - 1);
	detail[sizeof(detail) - 1] = '\0';
	respond_problem(&req, PROBLEM_BAD_REQUEST, "%s", detail);
	json_in_free(parse());
	respond_problem(&req, PROBLEM_BAD_REQUEST, "%s", "\xff\x01\"\r\n</script>\xf0\x9f\x92");
	json_in_free(parse());
	/* cut in the middle of a character */
	memset(detail, 'a', 600);
	memcpy(detail + 598, "\xd0\xbf\xd0\xbf", 5);
	respond_problem(&req, PROBLEM_BAD_REQUEST, "%s", detail);
	json_in_free(parse());
}

static void test_parse_errors(void **state) {
	static const struct {
		unsigned status;
		const char *error;
	} errors[] = {{400, "bad_request"},
	              {413, "payload_too_large"},
	              {414, "uri_too_long"},
	              {417, "expectation_failed"},
	              {431, "header_too_large"},
	              {501, "not_implemented"},
	              {505, "http_version_not_supported"}};
	struct request req = {.id = "r"};
	for (size_t i = 0; i < array_len(errors); i++) {
		const struct http_error error = {errors[i].status, "what was wrong: 100%"};
		problem_for_parse_error(&req, &error);
		assert_int_equal(got_status, errors[i].status);
		json_t *o = parse();
		assert_true(slice_eq(member(o, "error"), slice_str(errors[i].error)));
		assert_true(slice_eq(member(o, "message"), slice_str("what was wrong: 100%")));
		json_in_free(o);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_rows),
	    cmocka_unit_test(test_internal),
	    cmocka_unit_test(test_hostile_detail),
	    cmocka_unit_test(test_parse_errors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
