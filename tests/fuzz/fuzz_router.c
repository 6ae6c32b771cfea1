/* Any octets as a path against the real table's shape: parameters lie inside the path, hold no slash, and a path
 * with something that decodes to a slash, NUL, backslash or dot segment is never found. */
#include "apid/router.h"

#include <strings.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void require(bool ok) {
	if (!ok)
		abort();
}

static void handler(struct request *req) {
	(void)req;
}

static const struct route rows[] = {
    {METHOD_GET, "/health", ROUTE_OPEN, 0, handler, true},
    {METHOD_GET, "/mailboxes", ROUTE_KEY, 0, handler, false},
    {METHOD_POST, "/mailboxes", ROUTE_KEY, 0, handler, false},
    {METHOD_GET, "/mailboxes/{}", ROUTE_KEY, 0, handler, false},
    {METHOD_DELETE, "/mailboxes/{}/mails", ROUTE_KEY, 0, handler, false},
    {METHOD_GET, "/mailboxes/{}/mails/{}/attachments/{}", ROUTE_KEY, 0, handler, false},
    {0},
};

static void check_param(struct slice s, struct slice path) {
	require(s.n > 0 && s.p > path.p && s.p + s.n <= path.p + path.n);
	require(!memchr(s.p, '/', s.n) && !memchr(s.p, '\\', s.n) && !memchr(s.p, '\0', s.n));
	require(!(s.n == 1 && s.p[0] == '.') && !(s.n == 2 && s.p[0] == '.' && s.p[1] == '.'));
	for (size_t i = 0; i + 2 < s.n; i++)
		require(strncasecmp(s.p + i, "%2f", 3) != 0 && strncmp(s.p + i, "%00", 3) != 0 &&
		        strncasecmp(s.p + i, "%5c", 3) != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
	char *text = xmemdup(p, n ? n : 1);
	struct slice path = slice_of(text, n);
	for (int method = METHOD_GET; method <= METHOD_OPTIONS; method++) {
		struct slice params[ROUTER_PARAMS_MAX] = {0};
		const struct route *row = NULL;
		char allow[64];
		enum router_result r = router_find(rows, (enum request_method)method, path, &row, params, allow, sizeof(allow));
		require((r == ROUTER_FOUND) == (row != NULL));
		require((r == ROUTER_NO_METHOD) == (row == NULL && allow[0] != '\0'));
		for (size_t i = 0; row && i < ROUTER_PARAMS_MAX && params[i].p; i++)
			check_param(params[i], path);
	}
	free(text);
	return 0;
}
