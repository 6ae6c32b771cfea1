/* Which handler answers. The path is split once; a row is compared segment by segment and never gone back over. */
#include "apid/router.h"

#include <stdio.h>

#define SEGMENTS_MAX 10

static const char *const METHOD_NAMES[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};

/* Not empty, no dot segment (also in its encoded forms), no encoded NUL, slash or backslash: what a proxy in front
 * could read differently from us names nothing here (RFC 3986 6.2.2.3, RFC 9110 17.1). */
static bool segment_ok(struct slice s) {
	size_t dots = 0, octets = 0;
	for (size_t i = 0; i < s.n; i++, octets++) {
		char c = s.p[i];
		if (c == '%') {
			if (i + 2 >= s.n || hex_value(s.p[i + 1]) < 0 || hex_value(s.p[i + 2]) < 0)
				return false;
			c = (char)(hex_value(s.p[i + 1]) * 16 + hex_value(s.p[i + 2]));
			i += 2;
			if (c == '/')
				return false;
		}
		if (c == '\0' || c == '\\')
			return false;
		dots += c == '.';
	}
	return octets > 0 && !(dots == octets && dots <= 2);
}

/* How many segments; 0: matches nothing. */
static unsigned split(struct slice path, struct slice segments[SEGMENTS_MAX]) {
	unsigned n = 0;
	if (path.n == 0 || path.p[0] != '/')
		return 0;
	const char *p = path.p + 1, *end = path.p + path.n;
	for (;;) {
		const char *slash = memchr(p, '/', (size_t)(end - p));
		struct slice s = slice_of(p, (size_t)((slash ? slash : end) - p));
		if (n == SEGMENTS_MAX || !segment_ok(s))
			return 0;
		segments[n++] = s;
		if (!slash)
			return n;
		p = slash + 1;
	}
}

static bool row_matches(const char *pattern, const struct slice *segments, unsigned n,
                        struct slice params[ROUTER_PARAMS_MAX]) {
	unsigned param = 0;
	const char *p = pattern;
	for (unsigned i = 0; i < n; i++) {
		if (*p != '/')
			return false;
		p++;
		if (p[0] == '{' && p[1] == '}') {
			assert(param < ROUTER_PARAMS_MAX);
			params[param++] = segments[i];
			p += 2;
			continue;
		}
		/* Most rows differ in the first octet. strncmp cannot match past the pattern's end: a segment holds no NUL. */
		if (*p != *segments[i].p || strncmp(p, segments[i].p, segments[i].n) != 0)
			return false;
		p += segments[i].n;
	}
	return *p == '\0';
}

static void allow_add(char *allow, size_t size, enum request_method method) {
	size_t len = size > 0 ? strlen(allow) : 0;
	if (len < size)
		snprintf(allow + len, size - len, "%s%s%s", len ? ", " : "", METHOD_NAMES[method],
		         method == METHOD_GET ? ", HEAD" : "");
}

static bool method_matches(const struct route *row, enum request_method method) {
	return row->method == method || (method == METHOD_HEAD && row->method == METHOD_GET);
}

enum router_result router_find(const struct route *rows, enum request_method method, struct slice path,
                               const struct route **ret, struct slice ret_params[ROUTER_PARAMS_MAX], char *ret_allow,
                               size_t allow_size) {
	struct slice segments[SEGMENTS_MAX], params[ROUTER_PARAMS_MAX] = {0};
	unsigned n = split(path, segments);
	if (allow_size > 0)
		ret_allow[0] = '\0';
	if (n == 0)
		return ROUTER_NO_PATH;
	bool prefixed = slice_eq(segments[0], slice_of("v1", 2)) || slice_eq(segments[0], slice_of("api", 3));
	const struct slice *first = segments + prefixed;
	bool found_path = false;
	n -= prefixed;
	if (n == 0)
		return ROUTER_NO_PATH;
	for (const struct route *row = rows; row->pattern; row++) {
		if ((prefixed && row->bare) || !row_matches(row->pattern, first, n, params))
			continue;
		if (method_matches(row, method)) {
			memcpy(ret_params, params, sizeof(params));
			*ret = row;
			return ROUTER_FOUND;
		}
		found_path = true;
		allow_add(ret_allow, allow_size, row->method);
	}
	return found_path ? ROUTER_NO_METHOD : ROUTER_NO_PATH;
}
