/* http_parse: what is taken, and every way of framing a request that two readers could read differently, refused.
 * Each row runs whole and one octet at a time, with a second request behind it that must be reached only when the
 * first one was in order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "apid/http_parse.h"

#include "http_vectors.h"

#define H HTTP_VECTOR_HOST
#define TE HTTP_VECTOR_CHUNKED
#define SECOND "GET /second HTTP/1.1\r\nHost: s\r\n\r\n"

struct outcome {
	enum http_parse_result result;
	unsigned status;
	char text[160], body[64], path[64];
	size_t body_len, used;
	bool keep_alive, expect;
};

static void run(const char *p, size_t n, size_t step, size_t cap, struct outcome *ret) {
	struct http_parse parse;
	struct buf body;
	http_parse_init(&parse);
	buf_init(&body, cap);
	*ret = (struct outcome){.result = HTTP_PARSE_MORE};
	while (ret->used < n && ret->result != HTTP_PARSE_DONE && ret->result != HTTP_PARSE_ERROR) {
		size_t take = n - ret->used < step ? n - ret->used : step, used;
		/* a copy of its own, so that reading past the end is seen */
		char *piece = xmemdup(p + ret->used, take);
		ret->result = http_parse_feed(&parse, piece, take, &used);
		free(piece);
		assert_true(used <= take);
		ret->used += used;
		if (ret->result == HTTP_PARSE_HEAD) {
			http_parse_body(&parse, &body);
			ret->keep_alive = parse.head.keep_alive;
			ret->expect = parse.head.expect_continue;
			snprintf(ret->path, sizeof(ret->path), "%.*s", (int)parse.head.path.n, parse.head.path.p);
			if (!http_head_has_body(&parse.head))
				ret->result = http_parse_feed(&parse, "", 0, &used);
		} else if (ret->result == HTTP_PARSE_MORE) {
			assert_int_equal(used, take);
		}
	}
	if (ret->result == HTTP_PARSE_ERROR) {
		ret->status = parse.error.status;
		memcpy(ret->text, parse.error.text, sizeof(ret->text));
		for (const char *c = ret->text; *c; c++)
			assert_in_range(*c, 0x20, 0x7e);
	}
	ret->body_len = body.len;
	if (body.len)
		memcpy(ret->body, body.data, body.len < sizeof(ret->body) ? body.len : sizeof(ret->body) - 1);
	buf_fini(&body);
	http_parse_fini(&parse);
}

static void run_both(const char *name, const char *p, size_t n, size_t cap, struct outcome *ret) {
	struct outcome trickle;
	run(p, n, n, cap, ret);
	run(p, n, 1, cap, &trickle);
	if (ret->result != trickle.result || ret->status != trickle.status || strcmp(ret->text, trickle.text) != 0 ||
	    (ret->result == HTTP_PARSE_DONE && ret->used != trickle.used))
		fail_msg("%s: whole %d %u \"%s\" %zu, octet by octet %d %u \"%s\" %zu", name, ret->result, ret->status,
		         ret->text, ret->used, trickle.result, trickle.status, trickle.text, trickle.used);
	if (ret->result == HTTP_PARSE_DONE && (ret->body_len != trickle.body_len || strcmp(ret->body, trickle.body) != 0))
		fail_msg("%s: body differs: \"%s\" and \"%s\"", name, ret->body, trickle.body);
}

static const struct {
	const char *name, *request, *path, *body;
	bool keep_alive;
} good[] = {
    {"plain GET", "GET /a HTTP/1.1\r\n" H "\r\n", "/a", "", true},
    {"query", "GET /a?b=c&d=%2F HTTP/1.1\r\n" H "\r\n", "/a", "", true},
    {"one empty line before it", "\r\nGET /a HTTP/1.1\r\n" H "\r\n", "/a", "", true},
    {"HTTP/1.0 without Host", "GET /a HTTP/1.0\r\n\r\n", "/a", "", false},
    {"HTTP/1.0 keep-alive", "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "/a", "", true},
    {"HTTP/1.0 keep-alive and close", "GET /a HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", "/a", "", false},
    {"close", "GET /a HTTP/1.1\r\n" H "Connection: close\r\n\r\n", "/a", "", false},
    {"close in a list", "GET /a HTTP/1.1\r\n" H "Connection: te, Close\r\n\r\n", "/a", "", false},
    {"an upgrade is ignored", "GET /a HTTP/1.1\r\n" H "Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n", "/a", "", true},
    {"an upgrade with a body",
     "POST /a HTTP/1.1\r\n" H "Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhi", "/a", "hi", true},
    {"Content-Length", "POST /a HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhello", "/a", "hello", true},
    {"Content-Length 0", "POST /a HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n", "/a", "", true},
    {"blanks around a value", "POST /a HTTP/1.1\r\n" H "Content-Length:   5 \r\n\r\nhello", "/a", "hello", true},
    {"chunked", "POST /a HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "/a", "hello",
     true},
    {"chunked, any case",
     "POST /a HTTP/1.1\r\n" H "Transfer-Encoding: Chunked\r\n\r\n2\r\nhe\r\n03\r\nllo\r\n0\r\n\r\n", "/a", "hello",
     true},
    {"chunk extension", "POST /a HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n", "/a",
     "hello", true},
    {"trailers", "POST /a HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-A: b\r\n\r\n", "/a",
     "hello", true},
    {"CRLF in chunked data", "POST /a HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\n\n\r\n\r\r\r\n0\r\n\r\n",
     "/a", "\n\r\n\r\r", true},
    {"IPv6 host and port", "GET /a HTTP/1.1\r\nHost: [::1]:8025\r\n\r\n", "/a", "", true},
    {"host and port", "GET /a HTTP/1.1\r\nHost: a-b.example:8025\r\n\r\n", "/a", "", true},
    {"dots that are no segment", "GET /a.b/..c/... HTTP/1.1\r\n" H "\r\n", "/a.b/..c/...", "", true},
    {"UTF-8 in the path", "GET /%d0%bf HTTP/1.1\r\n" H "\r\n", "/%d0%bf", "", true},
    {"obs-text in a value", "GET /a HTTP/1.1\r\n" H "X: \xff\xfe\r\n\r\n", "/a", "", true},
    {"empty value", "GET /a HTTP/1.1\r\n" H "X:\r\nY: \r\n\r\n", "/a", "", true},
    {"HEAD", "HEAD /a HTTP/1.1\r\n" H "\r\n", "/a", "", true},
    {"OPTIONS", "OPTIONS /a HTTP/1.1\r\n" H "\r\n", "/a", "", true},
};

static void test_good(void **state) {
	for (size_t i = 0; i < array_len(good); i++) {
		char all[1024];
		struct outcome got;
		size_t n = strlen(good[i].request);
		snprintf(all, sizeof(all), "%s%s", good[i].request, SECOND);
		run_both(good[i].name, all, strlen(all), 64, &got);
		if (got.result != HTTP_PARSE_DONE)
			fail_msg("%s: refused: %u %s", good[i].name, got.status, got.text);
		if (got.used != n)
			fail_msg("%s: %zu octets used of %zu", good[i].name, got.used, n);
		assert_string_equal(got.path, good[i].path);
		assert_string_equal(got.body, good[i].body);
		assert_int_equal(got.keep_alive, good[i].keep_alive);
	}
}

static void check_bad(const struct http_vector *row, const char *p, size_t n) {
	struct outcome got;
	run_both(row->name, p, n, 64, &got);
	if (got.result != HTTP_PARSE_ERROR)
		fail_msg("%s: not refused (%d, path %s)", row->name, got.result, got.path);
	if (got.status != row->status || !strcasestr(got.text, row->says))
		fail_msg("%s: %u %s", row->name, got.status, got.text);
}

static void test_bad(void **state) {
	for (size_t i = 0; i < array_len(HTTP_VECTORS); i++) {
		char all[1024];
		int n = snprintf(all, sizeof(all), "%s%s", HTTP_VECTORS[i].request, SECOND);
		check_bad(&HTTP_VECTORS[i], all, (size_t)n);
	}
	static const char nul_name[] = "GET /a HTTP/1.1\r\n" H "a\0b: x\r\n\r\n";
	static const char nul_value[] = "GET /a HTTP/1.1\r\n" H "a: x\0y\r\n\r\n";
	static const char nul_target[] = "GET /a\0b HTTP/1.1\r\n" H "\r\n";
	const struct http_vector nul = {"NUL", NULL, 400, ""};
	check_bad(&nul, nul_name, sizeof(nul_name) - 1);
	check_bad(&nul, nul_value, sizeof(nul_value) - 1);
	check_bad(&nul, nul_target, sizeof(nul_target) - 1);
}

/* A request with a filler of n octets between two texts. */
static char *filled(const char *before, const char *filler, size_t n, const char *after, size_t *ret_len) {
	struct buf b;
	buf_init(&b, 1 << 20);
	buf_append_str(&b, before);
	for (size_t i = 0; i < n; i++)
		buf_append_str(&b, filler);
	buf_append_str(&b, after);
	return buf_take(&b, ret_len);
}

static const struct {
	const char *name, *before, *filler;
	size_t n;
	const char *after;
	unsigned status; /* 0: taken */
} limits[] = {
    {"request line of 8 KiB", "GET /", "a", HTTP_REQUEST_LINE_MAX - 16, " HTTP/1.1\r\n" H "\r\n", 0},
    {"request line one over", "GET /", "a", HTTP_REQUEST_LINE_MAX - 15, " HTTP/1.1\r\n" H "\r\n", 414},
    {"request line without end", "GET /", "a", 100000, "", 414},
    {"header of 16 KiB", "GET / HTTP/1.1\r\n" H "X:", "a", HTTP_HEADER_MAX - 15, "\r\n\r\n", 0},
    {"header one over", "GET / HTTP/1.1\r\n" H "X:", "a", HTTP_HEADER_MAX - 14, "\r\n\r\n", 431},
    {"header without end", "GET / HTTP/1.1\r\n" H "X:", "a", 100000, "", 431},
    {"100 header lines", "GET / HTTP/1.1\r\n" H, "X: a\r\n", 99, "\r\n", 0},
    {"101 header lines", "GET / HTTP/1.1\r\n" H, "X: a\r\n", 100, "\r\n", 431},
    {"long chunk extensions", TE "2;", "a", 5000, "\r\nab\r\n0\r\n\r\n", 0},
    {"chunk extensions without end", TE "2;", "a", 50000, "", 400},
    {"chunk size of zeros without end", TE, "0", 50000, "", 400},
    {"trailers without end", TE "0\r\n", "X: a\r\n", 10000, "", 400},
    {"64 chunks of one octet", TE, "1\r\na\r\n", 64, "0\r\n\r\n", 0},
};

static void test_limits(void **state) {
	for (size_t i = 0; i < array_len(limits); i++) {
		struct outcome got;
		size_t n;
		char *p = filled(limits[i].before, limits[i].filler, limits[i].n, limits[i].after, &n);
		run_both(limits[i].name, p, n, 64, &got);
		if (got.status != limits[i].status || got.result != (limits[i].status ? HTTP_PARSE_ERROR : HTTP_PARSE_DONE))
			fail_msg("%s: %d %u %s", limits[i].name, got.result, got.status, got.text);
		free(p);
	}
}

static void test_fields(void **state) {
	static const char text[] =
	    "GET /a?x=1 HTTP/1.1\r\nHost: h\r\nX-Many: one\r\nX-MANY: two\r\nEmpty:\r\nIf-None-Match: \t\"a\" \r\n\r\n";
	struct http_parse parse;
	size_t used;
	http_parse_init(&parse);
	assert_false(http_parse_begun(&parse));
	assert_int_equal(http_parse_feed(&parse, text, sizeof(text) - 1, &used), HTTP_PARSE_HEAD);
	assert_true(http_parse_begun(&parse));
	assert_true(slice_eq(http_head_field(&parse.head, "x-many"), slice_str("one")));
	assert_true(slice_eq(http_head_field(&parse.head, "if-none-match"), slice_str("\"a\"")));
	assert_non_null(http_head_field(&parse.head, "empty").p);
	assert_int_equal(http_head_field(&parse.head, "empty").n, 0);
	assert_null(http_head_field(&parse.head, "many").p);
	assert_true(slice_eq(parse.head.query, slice_str("x=1")));
	assert_int_equal(parse.head.field_count, 5);
	/* again on the same connection */
	http_parse_reset(&parse);
	assert_int_equal(http_parse_feed(&parse, SECOND, strlen(SECOND), &used), HTTP_PARSE_HEAD);
	assert_true(slice_eq(parse.head.path, slice_str("/second")));
	assert_null(http_head_field(&parse.head, "x-many").p);
	/* an error stays */
	http_parse_reset(&parse);
	assert_int_equal(http_parse_feed(&parse, "bad\r\n", 5, &used), HTTP_PARSE_ERROR);
	assert_int_equal(http_parse_feed(&parse, SECOND, strlen(SECOND), &used), HTTP_PARSE_ERROR);
	assert_int_equal(used, 0);
	http_parse_fini(&parse);
}

static void test_expect(void **state) {
	struct outcome got;
	const char *p = "POST /a HTTP/1.1\r\n" H "Expect: 100-Continue\r\nContent-Length: 2\r\n\r\nab";
	run_both("expect", p, strlen(p), 64, &got);
	assert_int_equal(got.result, HTTP_PARSE_DONE);
	assert_true(got.expect);
	p = "POST /a HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab";
	run_both("expect on 1.0", p, strlen(p), 64, &got);
	assert_int_equal(got.result, HTTP_PARSE_DONE);
	assert_false(got.expect);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_good),   cmocka_unit_test(test_bad),    cmocka_unit_test(test_limits),
	    cmocka_unit_test(test_fields), cmocka_unit_test(test_expect),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
