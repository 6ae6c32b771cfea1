/* A whole request head: the kept text cut into lines, fields and target, each checked. llhttp has passed all of it;
 * this is the second opinion, written to refuse whatever a proxy in front could read in another way (RFC 9112 11.2). */
#include "apid/http_head.h"

#include "common/text.h"

#include <strings.h>

/* RFC 9110 5.6.2; index: the octet. */
static const bool TOKEN[256] = {
    ['!'] = true, ['#'] = true, ['$'] = true, ['%'] = true, ['&'] = true, ['\''] = true, ['*'] = true, ['+'] = true,
    ['-'] = true, ['.'] = true, ['^'] = true, ['_'] = true, ['`'] = true, ['|'] = true,  ['~'] = true, ['0'] = true,
    ['1'] = true, ['2'] = true, ['3'] = true, ['4'] = true, ['5'] = true, ['6'] = true,  ['7'] = true, ['8'] = true,
    ['9'] = true, ['A'] = true, ['B'] = true, ['C'] = true, ['D'] = true, ['E'] = true,  ['F'] = true, ['G'] = true,
    ['H'] = true, ['I'] = true, ['J'] = true, ['K'] = true, ['L'] = true, ['M'] = true,  ['N'] = true, ['O'] = true,
    ['P'] = true, ['Q'] = true, ['R'] = true, ['S'] = true, ['T'] = true, ['U'] = true,  ['V'] = true, ['W'] = true,
    ['X'] = true, ['Y'] = true, ['Z'] = true, ['a'] = true, ['b'] = true, ['c'] = true,  ['d'] = true, ['e'] = true,
    ['f'] = true, ['g'] = true, ['h'] = true, ['i'] = true, ['j'] = true, ['k'] = true,  ['l'] = true, ['m'] = true,
    ['n'] = true, ['o'] = true, ['p'] = true, ['q'] = true, ['r'] = true, ['s'] = true,  ['t'] = true, ['u'] = true,
    ['v'] = true, ['w'] = true, ['x'] = true, ['y'] = true, ['z'] = true,
};

/* Fields that decide where a message ends or who speaks: there once or not at all. */
struct special {
	struct slice host, content_length, transfer_encoding, authorization, content_type, expect;
};

bool http_is_token_char(char c) {
	return TOKEN[(unsigned char)c];
}

struct slice http_head_field(const struct http_head *head, const char *name) {
	size_t n = strlen(name);
	for (unsigned i = 0; i < head->field_count; i++) {
		const struct http_field *f = &head->fields[i];
		if (f->name_len == n && memcmp(head->text.data + f->name_at, name, n) == 0)
			return slice_of(head->text.data + f->value_at, f->value_len);
	}
	return slice_of(NULL, 0);
}

bool http_head_has_body(const struct http_head *head) {
	return head->chunked || head->content_length > 0;
}

static bool bad(struct http_parse *parse, const char *text) {
	http_parse_fail(parse, 400, "%s", text);
	return false;
}

/* ---- request target ---- */

/* Percent-encoding is whole and hides no NUL; decoded, the target is UTF-8, so parameters can be used as text. */
static bool check_encoding(struct http_parse *parse, struct slice s) {
	char decoded[HTTP_REQUEST_LINE_MAX];
	size_t n = 0;
	for (size_t i = 0; i < s.n; i++) {
		int c = (unsigned char)s.p[i];
		if (c == '%') {
			if (i + 2 >= s.n || hex_value(s.p[i + 1]) < 0 || hex_value(s.p[i + 2]) < 0)
				return bad(parse, "request target: % is not followed by two hex digits");
			c = hex_value(s.p[i + 1]) * 16 + hex_value(s.p[i + 2]);
			i += 2;
			if (c == 0)
				return bad(parse, "request target: %00 is not allowed");
		}
		decoded[n++] = (char)c;
	}
	if (!text_utf8_valid(decoded, n))
		return bad(parse, "request target: the percent-encoded octets are not UTF-8");
	return true;
}

/* Slashes that are none yet, and dot segments: proxies resolve them, each in its own way. */
static bool check_path(struct http_parse *parse, struct slice path) {
	bool start = true;
	for (size_t i = 0; i < path.n; i++) {
		const char *p = path.p + i;
		if (*p == '\\' || (*p == '%' && (strncasecmp(p, "%2f", 3) == 0 || strncasecmp(p, "%5c", 3) == 0)))
			return bad(parse, "path: %2F, %5C and backslashes are not allowed");
		if (start) {
			size_t k = i, dots = 0;
			for (; k < path.n && (path.p[k] == '.' || strncasecmp(path.p + k, "%2e", 3) == 0); dots++)
				k += path.p[k] == '.' ? 1 : 3;
			if ((dots == 1 || dots == 2) && (k >= path.n || path.p[k] == '/'))
				return bad(parse, "path: dot segments are not allowed");
		}
		start = *p == '/';
	}
	return true;
}

/* The request line is exactly METHOD SP target SP HTTP/1.x CRLF: by length, nothing else fits between. */
static bool judge_line(struct http_parse *parse) {
	struct http_head *head = &parse->head;
	const char *line = head->text.data, *end = line + parse->line_end;
	if (parse->llhttp.http_major != 1 || parse->llhttp.http_minor > 1) {
		http_parse_fail(parse, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
		return false;
	}
	const char *sp = memchr(line, ' ', (size_t)(end - line));
	if (!sp || end - sp < 12 || end[-2] != '\r' || memcmp(end - 11, " HTTP/1.", 8) != 0)
		return bad(parse, "malformed request line");
	head->target = slice_of(sp + 1, (size_t)(end - 11 - (sp + 1)));
	head->http11 = parse->llhttp.http_minor == 1;
	for (size_t i = 0; i < head->target.n; i++) {
		unsigned char c = (unsigned char)head->target.p[i];
		if (c <= ' ' || c >= 0x7f || c == '#')
			return bad(parse, "request target: blanks, controls, 8-bit octets and # are not allowed");
	}
	/* absolute-form, authority-form and asterisk-form: no proxy here (RFC 9112 3.2) */
	if (head->target.n == 0 || head->target.p[0] != '/')
		return bad(parse, "the request target must be a path that begins with /");
	const char *mark = memchr(head->target.p, '?', head->target.n);
	size_t path_len = mark ? (size_t)(mark - head->target.p) : head->target.n;
	head->path = slice_of(head->target.p, path_len);
	head->query = mark ? slice_of(mark + 1, head->target.n - path_len - 1) : slice_of(NULL, 0);
	if (!memchr(head->target.p, '%', head->target.n) && !memchr(head->path.p, '.', path_len) &&
	    !memchr(head->path.p, '\\', path_len))
		return true;
	return check_encoding(parse, head->target) && check_path(parse, head->path);
}

/* ---- fields ---- */

static bool once(struct http_parse *parse, struct slice *slot, struct slice value, const char *name) {
	if (slot->p) {
		http_parse_fail(parse, 400, "header %s is there twice", name);
		return false;
	}
	*slot = value;
	return true;
}

static bool note_special(struct http_parse *parse, struct special *special, const char *name, size_t n,
                         struct slice value) {
	static const struct {
		const char *lower, *shown;
		size_t n, offset;
	} rows[] = {
	    {"host", "Host", 4, offsetof(struct special, host)},
	    {"expect", "Expect", 6, offsetof(struct special, expect)},
	    {"content-type", "Content-Type", 12, offsetof(struct special, content_type)},
	    {"authorization", "Authorization", 13, offsetof(struct special, authorization)},
	    {"content-length", "Content-Length", 14, offsetof(struct special, content_length)},
	    {"transfer-encoding", "Transfer-Encoding", 17, offsetof(struct special, transfer_encoding)},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		if (rows[i].n == n && memcmp(rows[i].lower, name, n) == 0)
			return once(parse, (struct slice *)(void *)((char *)special + rows[i].offset), value, rows[i].shown);
	}
	return true;
}

/* One line without its CRLF, at `at` in the text. */
static bool judge_field(struct http_parse *parse, struct special *special, size_t at, size_t n) {
	struct http_head *head = &parse->head;
	char *line = head->text.data + at;
	size_t name = 0, from, to = n;
	if (line[0] == ' ' || line[0] == '\t')
		return bad(parse, HTTP_FOLDED);
	while (name < n && TOKEN[(unsigned char)line[name]]) {
		if (line[name] >= 'A' && line[name] <= 'Z')
			line[name] |= 0x20;
		name++;
	}
	if (name == 0 || name == n || line[name] != ':')
		return bad(parse, "a header's name has an octet that is not allowed, or a blank before its colon"); /* 5.1 */
	for (from = name + 1; from < n && (line[from] == ' ' || line[from] == '\t'); from++)
		;
	while (to > from && (line[to - 1] == ' ' || line[to - 1] == '\t'))
		to--;
	for (size_t i = from; i < to; i++) {
		unsigned char c = (unsigned char)line[i];
		if ((c < ' ' && c != '\t') || c == 0x7f) {
			http_parse_fail(parse, 400, "header %.*s has a control octet in its value", (int)min_of(name, 40), line);
			return false;
		}
	}
	if (head->field_count == HTTP_FIELDS_MAX) {
		http_parse_fail(parse, 431, "more than %d header lines", HTTP_FIELDS_MAX);
		return false;
	}
	head->fields[head->field_count++] =
	    (struct http_field){(uint16_t)at, (uint16_t)name, (uint16_t)(at + from), (uint16_t)(to - from)};
	return note_special(parse, special, line, name, slice_of(line + from, to - from));
}

static bool judge_fields(struct http_parse *parse, struct special *special) {
	const struct buf *text = &parse->head.text;
	for (size_t at = parse->line_end; at < text->len;) {
		const char *lf = memchr(text->data + at, '\n', text->len - at);
		size_t n = lf ? (size_t)(lf - (text->data + at)) : 0;
		if (n == 0 || text->data[at + n - 1] != '\r')
			return bad(parse, "header lines must end in CRLF");
		if (n == 1) /* the empty line; both readers must find it in the same place */
			return at + 2 == text->len || bad(parse, "malformed header");
		if (!judge_field(parse, special, at, n - 1))
			return false;
		at += n + 1;
	}
	return bad(parse, "malformed header");
}

/* ---- what the fields say together ---- */

static bool equals(struct slice s, const char *word) {
	return s.n == strlen(word) && strncasecmp(s.p, word, s.n) == 0;
}

/* RFC 9110 7.2; uri-host [":" port]. Whose host it is doesn't matter here: no answer depends on it. */
static bool host_ok(struct slice s) {
	size_t i = 0;
	if (s.n > 0 && s.p[0] == '[') {
		for (i = 1; i < s.n && (hex_value(s.p[i]) >= 0 || s.p[i] == ':' || s.p[i] == '.'); i++)
			;
		if (i < 3 || i == s.n || s.p[i] != ']')
			return false;
		i++;
	} else {
		while (i < s.n && s.p[i] != ':' && TOKEN[(unsigned char)s.p[i]] && !strchr("#^`|", s.p[i]))
			i++;
		if (i == 0 || i > 255)
			return false;
	}
	if (i == s.n)
		return true;
	if (s.p[i] != ':' || s.n - i > 6)
		return false;
	for (i++; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
	}
	return true;
}

static bool judge_length(struct http_parse *parse, struct slice value) {
	int64_t n = 0;
	if (value.n == 0 || value.n > 18)
		return bad(parse, "Content-Length must be a decimal number");
	for (size_t i = 0; i < value.n; i++) {
		if (value.p[i] < '0' || value.p[i] > '9')
			return bad(parse, "Content-Length must be a decimal number");
		n = n * 10 + (value.p[i] - '0');
	}
	if (parse->llhttp.content_length != (uint64_t)n)
		return bad(parse, "Content-Length is ambiguous");
	parse->head.content_length = n;
	return true;
}

/* RFC 9112 6.1, 6.3: where the body ends has one reading, or there is no answer but 400. */
static bool judge_framing(struct http_parse *parse, const struct special *special) {
	struct http_head *head = &parse->head;
	head->content_length = -1;
	head->chunked = false;
	if (special->transfer_encoding.p) {
		if (!head->http11)
			return bad(parse, "Transfer-Encoding is not part of HTTP/1.0");
		if (special->content_length.p)
			return bad(parse, "Content-Length and Transfer-Encoding together are not allowed");
		if (!equals(special->transfer_encoding, "chunked"))
			return bad(parse, "Transfer-Encoding must be exactly \"chunked\"");
		head->chunked = true;
	} else if (special->content_length.p && !judge_length(parse, special->content_length)) {
		return false;
	}
	if (head->chunked != !!(parse->llhttp.flags & F_CHUNKED))
		return bad(parse, "Transfer-Encoding is ambiguous");
	if (head->method == METHOD_HEAD && (head->chunked || head->content_length >= 0))
		return bad(parse, "a HEAD request has no body, so neither Content-Length nor Transfer-Encoding");
	return true;
}

bool http_head_judge(struct http_parse *parse) {
	struct http_head *head = &parse->head;
	struct special special = {0};
	if (!judge_line(parse) || !judge_fields(parse, &special) || !judge_framing(parse, &special))
		return false;
	if (head->http11 && !special.host.p)
		return bad(parse, "header Host is missing");
	if (special.host.p && !host_ok(special.host))
		return bad(parse, "header Host is malformed");
	bool close = parse->llhttp.flags & F_CONNECTION_CLOSE;
	head->keep_alive = !close && (head->http11 || (parse->llhttp.flags & F_CONNECTION_KEEP_ALIVE));
	head->expect_continue = false;
	if (head->http11 && special.expect.p) { /* RFC 9110 10.1.1: HTTP/1.0's is ignored */
		if (!equals(special.expect, "100-continue")) {
			http_parse_fail(parse, 417, "Expect: only 100-continue is known here");
			return false;
		}
		head->expect_continue = true;
	}
	return true;
}
