/* The headers of a download: whether it is one, which range, under which name, as what type. Pure. */
#include "apid/api_common.h"

#include <strings.h>

/* ---- Accept ---- */

static struct slice up_to(struct slice *rest, char c) {
	const char *at = rest->n ? memchr(rest->p, c, rest->n) : NULL;
	size_t n = at ? (size_t)(at - rest->p) : rest->n, skipped = n + (at != NULL);
	struct slice s = slice_of(rest->p, n);
	*rest = slice_of(rest->p + skipped, rest->n - skipped);
	return slice_trim(s);
}

static bool is(struct slice s, const char *word) {
	return s.n == strlen(word) && strncasecmp(s.p, word, s.n) == 0;
}

/* RFC 9110 12.4.2, in thousandths. */
static unsigned weight(struct slice params) {
	while (params.n > 0) {
		struct slice param = up_to(&params, ';'), name = up_to(&param, '=');
		if (!is(name, "q") || param.n == 0)
			continue;
		unsigned q = param.p[0] == '1' ? 1000 : 0, unit = 100;
		for (size_t i = 2; param.p[0] == '0' && i < param.n && param.p[i] >= '0' && param.p[i] <= '9'; i++, unit /= 10)
			q += (unsigned)(param.p[i] - '0') * unit;
		return q;
	}
	return 1000;
}

bool api_accepts_octets(struct slice accept) {
	unsigned octets = 0, json = 0;
	while (accept.n > 0) {
		struct slice range = up_to(&accept, ','), type = up_to(&range, ';');
		if (is(type, "application/octet-stream"))
			octets = weight(range);
		else if (is(type, "application/json"))
			json = weight(range);
	}
	return octets > 0 && octets >= json;
}

/* ---- Range ---- */

static bool range_number(struct slice *s, uint64_t *ret) {
	uint64_t n = 0;
	size_t i = 0;
	for (; i < s->n && s->p[i] >= '0' && s->p[i] <= '9'; i++)
		if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, (uint64_t)(s->p[i] - '0'), &n))
			n = UINT64_MAX; /* past any end; further digits overflow again */
	*s = slice_of(s->p + i, s->n - i);
	*ret = n;
	return i > 0;
}

int api_range_parse(struct slice header, uint64_t size, uint64_t *ret_first, uint64_t *ret_n) {
	uint64_t first = 0, last = UINT64_MAX;
	struct slice s = header;
	if (s.n < 6 || memcmp(s.p, "bytes=", 6) != 0)
		return 0;
	s = slice_of(s.p + 6, s.n - 6);
	bool has_first = range_number(&s, &first);
	if (s.n == 0 || s.p[0] != '-')
		return 0;
	s = slice_of(s.p + 1, s.n - 1);
	bool has_last = range_number(&s, &last);
	if (s.n > 0 || (!has_first && !has_last))
		return 0;
	if (!has_first) { /* the last so many octets */
		if (last == 0 || size == 0)
			return -ERANGE;
		last = min_of(last, size);
		*ret_first = size - last;
		*ret_n = last;
		return 1;
	}
	if (has_last && last < first)
		return 0;
	if (first >= size)
		return -ERANGE;
	last = has_last ? min_of(last, size - 1) : size - 1;
	*ret_first = first;
	*ret_n = last - first + 1;
	return 1;
}

/* ---- Content-Disposition ---- */

void api_disposition(struct buf *out, const char *name) {
	bool exact = true;
	buf_append_str(out, "attachment; filename=\"");
	for (const unsigned char *p = (const unsigned char *)name; *p; p++) {
		bool plain = *p >= 0x20 && *p < 0x7f && *p != '"' && *p != '\\' && *p != '%';
		exact = exact && plain;
		if (plain)
			buf_append_char(out, (char)*p);
		else if ((*p & 0xc0) != 0x80) /* one stand-in a character */
			buf_append_char(out, '_');
	}
	buf_append_char(out, '"');
	if (exact)
		return;
	buf_append_str(out, "; filename*=UTF-8''"); /* RFC 8187 3.2 */
	for (const unsigned char *p = (const unsigned char *)name; *p; p++) {
		bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') ||
		             strchr("-._~!$&+^`|#", *p);
		if (plain)
			buf_append_char(out, (char)*p);
		else
			buf_printf(out, "%%%02X", *p);
	}
}

/* ---- Content-Type ---- */

static const char OCTET_STREAM[] = "application/octet-stream";

/* Documents that a browser renders or runs, and containers that are none of its business. */
static bool active(const char *type) {
	static const char *const types[] = {
	    "text/html",
	    "text/css",
	    "text/javascript",
	    "text/ecmascript",
	    "text/xml",
	    "text/xsl",
	    "text/vbscript",
	    "text/cache-manifest",
	    "application/xml",
	    "application/xhtml+xml",
	    "application/javascript",
	    "application/ecmascript",
	    "application/pdf",
	    "application/x-javascript",
	    "application/x-shockwave-flash",
	    "application/wasm",
	    "image/svg+xml",
	};
	size_t n = strlen(type);
	for (size_t i = 0; i < array_len(types); i++)
		if (strcmp(type, types[i]) == 0)
			return true;
	return strncmp(type, "multipart/", 10) == 0 || (n > 4 && strcmp(type + n - 4, "+xml") == 0);
}

const char *api_safe_type(const char *declared) {
	unsigned slashes = 0;
	size_t n = strlen(declared);
	if (n < 3 || n > 127 || declared[0] == '/' || declared[n - 1] == '/')
		return OCTET_STREAM;
	for (size_t i = 0; i < n; i++) {
		char c = declared[i];
		slashes += c == '/';
		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || strchr("/!#$&-^_.+", c)))
			return OCTET_STREAM;
	}
	return slashes == 1 && !active(declared) ? declared : OCTET_STREAM;
}
