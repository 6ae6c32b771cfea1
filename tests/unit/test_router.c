/* router: rows, prefixes, methods, and paths that must name nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "apid/router.h"

static void h(struct request *req) {
	(void)req;
}

static const struct route table[] = {
    {METHOD_GET, "/health", ROUTE_OPEN, 0, h, true},
    {METHOD_GET, "/mailboxes", ROUTE_KEY, 1, h, false},
    {METHOD_POST, "/mailboxes", ROUTE_KEY, 2, h, false},
    {METHOD_DELETE, "/mailboxes", ROUTE_KEY, 3, h, false},
    {METHOD_GET, "/mailboxes/{}", ROUTE_KEY, 4, h, false},
    {METHOD_POST, "/mailboxes/{}/mails", ROUTE_KEY, 5, h, false},
    {METHOD_GET, "/mailboxes/{}/mails/{}", ROUTE_KEY, 6, h, false},
    {METHOD_GET, "/mailboxes/{}/mails/{}/raw", ROUTE_KEY, 7, h, false},
    {METHOD_GET, "/mailboxes/{}/mails/{}/attachments/{}", ROUTE_KEY, 8, h, false},
    {0},
};

#define NONE ROUTER_NO_PATH
#define NO_METHOD ROUTER_NO_METHOD

static const struct {
	enum request_method method;
	const char *path;
	enum router_result result;
	int row; /* its body_max above */
	const char *params[3];
	const char *allow;
} rows[] = {
    {METHOD_GET, "/health", ROUTER_FOUND, 0, {0}, ""},
    {METHOD_HEAD, "/health", ROUTER_FOUND, 0, {0}, ""},
    {METHOD_GET, "/v1/health", NONE, 0, {0}, ""},
    {METHOD_GET, "/api/health", NONE, 0, {0}, ""},
    {METHOD_GET, "/mailboxes", ROUTER_FOUND, 1, {0}, ""},
    {METHOD_GET, "/v1/mailboxes", ROUTER_FOUND, 1, {0}, ""},
    {METHOD_POST, "/api/mailboxes", ROUTER_FOUND, 2, {0}, ""},
    {METHOD_HEAD, "/v1/mailboxes", ROUTER_FOUND, 1, {0}, ""},
    {METHOD_PUT, "/v1/mailboxes", NO_METHOD, 0, {0}, "GET, HEAD, POST, DELETE"},
    {METHOD_OPTIONS, "/v1/mailboxes/x", NO_METHOD, 0, {0}, "GET, HEAD"},
    {METHOD_HEAD, "/v1/mailboxes/x/mails", NO_METHOD, 0, {0}, "POST"},
    {METHOD_PUT, "/v1/health", NONE, 0, {0}, ""},
    {METHOD_GET, "/v1/mailboxes/abc", ROUTER_FOUND, 4, {"abc"}, ""},
    {METHOD_GET, "/mailboxes/a/mails/b", ROUTER_FOUND, 6, {"a", "b"}, ""},
    {METHOD_GET, "/mailboxes/a/mails/b/raw", ROUTER_FOUND, 7, {"a", "b"}, ""},
    {METHOD_GET, "/mailboxes/a/mails/b/attachments/c%20d", ROUTER_FOUND, 8, {"a", "b", "c%20d"}, ""},
    {METHOD_GET, "/v1/mailboxes/v1", ROUTER_FOUND, 4, {"v1"}, ""},
    {METHOD_GET, "/mailboxes/...", ROUTER_FOUND, 4, {"..."}, ""},
    {METHOD_GET, "/", NONE, 0, {0}, ""},
    {METHOD_GET, "", NONE, 0, {0}, ""},
    {METHOD_GET, "/v1", NONE, 0, {0}, ""},
    {METHOD_GET, "/v1/", NONE, 0, {0}, ""},
    {METHOD_GET, "/v2/mailboxes", NONE, 0, {0}, ""},
    {METHOD_GET, "/v1/v1/mailboxes", NONE, 0, {0}, ""},
    {METHOD_GET, "/api/v1/mailboxes", NONE, 0, {0}, ""},
    {METHOD_GET, "/mailbox", NONE, 0, {0}, ""},
    {METHOD_GET, "/mailboxess", NONE, 0, {0}, ""},
    {METHOD_GET, "/Mailboxes", NONE, 0, {0}, ""},
    {METHOD_GET, "/mail%62oxes", NONE, 0, {0}, ""},
    {METHOD_GET, "mailboxes", NONE, 0, {0}, ""},
    {METHOD_GET, "/mailboxes/", NONE, 0, {0}, ""},
    {METHOD_GET, "//mailboxes", NONE, 0, {0}, ""},
    {METHOD_GET, "/mailboxes/a/raw", NONE, 0, {0}, ""},
    {METHOD_GET, "/mailboxes/a/mails/b/raw/c", NONE, 0, {0}, ""},
    {METHOD_GET, "/1/2/3/4/5/6/7/8/9/10/11/12", NONE, 0, {0}, ""},
    /* what a proxy in front may read differently (RFC 3986 6.2.2.3) */
    {METHOD_GET, "/mailboxes/..", NONE, 0, {0}, ""},
    {METHOD_GET, "/mailboxes/.", NONE, 0, {0}, ""},
    {METHOD_GET, "/mailboxes/%2e%2E", NONE, 0, {0}, ""},
    {METHOD_GET, "/mailboxes/.%2e", NONE, 0, {0}, ""},
    {METHOD_GET, "/mailboxes/a%2fb", NONE, 0, {0}, ""},
    {METHOD_GET, "/mailboxes/a%5Cb", NONE, 0, {0}, ""},
    {METHOD_GET, "/mailboxes/a\\b", NONE, 0, {0}, ""},
    {METHOD_GET, "/mailboxes/a%00", NONE, 0, {0}, ""},
    {METHOD_GET, "/mailboxes/a%0", NONE, 0, {0}, ""},
    {METHOD_GET, "/mailboxes/a%", NONE, 0, {0}, ""},
    {METHOD_GET, "/mailboxes/a%xy", NONE, 0, {0}, ""},
};

static void test_rows(void **state) {
	for (size_t i = 0; i < array_len(rows); i++) {
		const struct route *route = NULL;
		struct slice params[ROUTER_PARAMS_MAX] = {0};
		char allow[64];
		/* not NUL-terminated: a read past its end is seen */
		size_t n = strlen(rows[i].path);
		char *path = xmemdup(n ? rows[i].path : "x", n ? n : 1);
		enum router_result r =
		    router_find(table, rows[i].method, slice_of(path, n), &route, params, allow, sizeof(allow));
		if (r != rows[i].result)
			fail_msg("%s: %d", rows[i].path, r);
		assert_string_equal(allow, rows[i].result == ROUTER_FOUND ? allow : rows[i].allow);
		if (r == ROUTER_FOUND) {
			assert_int_equal(route->body_max, rows[i].row);
			for (size_t k = 0; k < 3; k++)
				assert_true(slice_eq(params[k], slice_str(rows[i].params[k])));
		}
		free(path);
	}
}

static void test_nul(void **state) {
	const struct route *route;
	struct slice params[ROUTER_PARAMS_MAX];
	char allow[64];
	assert_int_equal(router_find(table, METHOD_GET, slice_of("/mailboxes\0", 11), &route, params, allow, sizeof(allow)),
	                 NONE);
	assert_int_equal(router_find(table, METHOD_PUT, slice_str("/mailboxes"), &route, params, NULL, 0), NO_METHOD);
	char small[6];
	assert_int_equal(router_find(table, METHOD_PUT, slice_str("/mailboxes"), &route, params, small, sizeof(small)),
	                 NO_METHOD);
	assert_string_equal(small, "GET, ");
}

int main(void) {
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_nul)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
