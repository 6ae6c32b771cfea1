/* HTTP/1.x requests from octets: the machine around llhttp. The judgement of a whole head is in http_head.c. */
#include "apid/http_parse.h"
#include "apid/http_head.h"

#include <stdarg.h>
#include <stdio.h>

#define TEXT_KEPT 4096 /* a head's memory over this is given back between requests */

enum http_parse_result http_parse_fail(struct http_parse *parse, unsigned status, const char *fmt, ...) {
	va_list ap;
	if (parse->state != HTTP_FAILED) {
		parse->state = HTTP_FAILED;
		parse->error.status = status;
		va_start(ap, fmt);
		vsnprintf(parse->error.text, sizeof(parse->error.text), fmt, ap);
		va_end(ap);
	}
	return HTTP_PARSE_ERROR;
}

/* ---- llhttp's callbacks: -1 stops it, with our error set ---- */

static int on_method_complete(llhttp_t *llhttp) {
	struct http_parse *parse = llhttp->data;
	switch (llhttp->method) {
	case HTTP_GET:
		parse->head.method = METHOD_GET;
		return 0;
	case HTTP_HEAD:
		parse->head.method = METHOD_HEAD;
		return 0;
	case HTTP_POST:
		parse->head.method = METHOD_POST;
		return 0;
	case HTTP_PUT:
		parse->head.method = METHOD_PUT;
		return 0;
	case HTTP_PATCH:
		parse->head.method = METHOD_PATCH;
		return 0;
	case HTTP_DELETE:
		parse->head.method = METHOD_DELETE;
		return 0;
	case HTTP_OPTIONS:
		parse->head.method = METHOD_OPTIONS;
		return 0;
	case HTTP_PRI:
		http_parse_fail(parse, 505, "HTTP/2 is not spoken here");
		return -1;
	default:
		http_parse_fail(parse, 501, "method %s is not supported", llhttp_method_name((llhttp_method_t)llhttp->method));
		return -1;
	}
}

static int on_version_complete(llhttp_t *llhttp) {
	struct http_parse *parse = llhttp->data;
	parse->version_seen = true;
	return 0;
}

static int on_headers_complete(llhttp_t *llhttp) {
	llhttp->upgrade = 0; /* an Upgrade that we don't take up is ignored (RFC 9110 7.8) */
	return HPE_PAUSED;
}

/* Framing octets of a chunked body: sizes, extensions, trailers and the line ends between them. llhttp is the
 * reader; here CR and LF must come in pairs, and all of it is counted. */
static bool check_gap(struct http_parse *parse, const char *end) {
	for (const char *p = parse->gap; p < end; p++) {
		if ((*p == '\n') != parse->framing_cr) {
			http_parse_fail(parse, 400, "chunked body: CR and LF must come as a pair");
			return false;
		}
		parse->framing_cr = *p == '\r';
		if (++parse->framing_octets > HTTP_CHUNK_OVERHEAD + 8 * parse->body_octets) {
			http_parse_fail(parse, 400, "chunked body: chunk extensions, trailers or tiny chunks out of proportion");
			return false;
		}
	}
	parse->gap = end;
	return true;
}

static int on_chunk_header(llhttp_t *llhttp) {
	struct http_parse *parse = llhttp->data;
	if (parse->state != HTTP_FAILED && llhttp->content_length > parse->body->ceiling - parse->body->len)
		http_parse_fail(parse, 413, "the body is larger than the %zu octets that this route takes",
		                parse->body->ceiling);
	return parse->state == HTTP_FAILED ? -1 : 0;
}

static int on_body(llhttp_t *llhttp, const char *at, size_t n) {
	struct http_parse *parse = llhttp->data;
	if (!check_gap(parse, at))
		return -1;
	parse->gap = at + n;
	parse->body_octets += n;
	if (buf_append(parse->body, at, n) < 0) {
		http_parse_fail(parse, 413, "the body is larger than the %zu octets that this route takes",
		                parse->body->ceiling);
		return -1;
	}
	return 0;
}

static int on_message_complete(llhttp_t *llhttp) {
	return HPE_PAUSED;
}

static const llhttp_settings_t SETTINGS = {
    .on_method_complete = on_method_complete,
    .on_version_complete = on_version_complete,
    .on_headers_complete = on_headers_complete,
    .on_chunk_header = on_chunk_header,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

/* ---- life ---- */

static void start_over(struct http_parse *parse) {
	llhttp_init(&parse->llhttp, HTTP_REQUEST, &SETTINGS);
	parse->llhttp.data = parse;
	parse->state = HTTP_IN_HEAD;
	parse->line_end = 0;
	parse->leading = 0;
	parse->version_seen = false;
	parse->body = NULL;
	parse->body_octets = parse->framing_octets = 0;
	parse->framing_cr = false;
	parse->head.field_count = 0;
	parse->head.method = METHOD_GET;
	parse->head.target = parse->head.path = parse->head.query = slice_of(NULL, 0);
	parse->head.http11 = parse->head.keep_alive = parse->head.chunked = parse->head.expect_continue = false;
	parse->head.content_length = -1;
}

void http_parse_init(struct http_parse *parse) {
	*parse = (struct http_parse){0};
	buf_init(&parse->head.text, HTTP_REQUEST_LINE_MAX + HTTP_HEADER_MAX);
	start_over(parse);
}

void http_parse_fini(struct http_parse *parse) {
	buf_fini(&parse->head.text);
}

void http_parse_reset(struct http_parse *parse) {
	if (parse->head.text.cap > TEXT_KEPT)
		buf_fini(&parse->head.text);
	buf_reset(&parse->head.text);
	start_over(parse);
}

bool http_parse_begun(const struct http_parse *parse) {
	return parse->state != HTTP_IN_HEAD || parse->head.text.len > 0;
}

/* ---- head ---- */

/* RFC 9112 2.2: one empty line before the request line is forgiven; llhttp would skip any number of CRs and LFs. */
static size_t skip_empty_line(struct http_parse *parse, const char *p, size_t n) {
	size_t used = 0;
	while (used < n && parse->leading < 2 && p[used] == "\r\n"[parse->leading]) {
		parse->leading++;
		used++;
	}
	if (used < n && (parse->leading == 1 || p[used] == '\r' || p[used] == '\n'))
		http_parse_fail(parse, 400, "stray line ends before the request line");
	return used;
}

static bool past_line(const struct http_parse *parse) {
	return parse->line_end > 0 && parse->head.text.len >= parse->line_end;
}

/* Whether the header line that llhttp stopped in begins with a blank; `culprit` is the octet that it stopped at. A bare LF is a fault of
 * its own, which llhttp stops behind: what follows it may be here or not. */
static bool folded(const struct http_parse *parse, char culprit) {
	const struct buf *text = &parse->head.text;
	if (!past_line(parse))
		return false;
	const char *lf = memrchr(text->data, '\n', text->len);
	char first = lf + 1 < text->data + text->len ? lf[1] : culprit;
	return lf[-1] == '\r' && (first == ' ' || first == '\t');
}

/* The name of the header line that llhttp stopped in, cut to what can be shown. */
static int faulty_name(const struct http_parse *parse, const char **ret) {
	const struct buf *text = &parse->head.text;
	size_t at = text->len, n = 0;
	if (!past_line(parse))
		return 0;
	if (at > parse->line_end && text->data[at - 1] == '\n')
		at--;
	while (at > parse->line_end && text->data[at - 1] != '\n')
		at--;
	while (at + n < text->len && n < 40 && http_is_token_char(text->data[at + n]))
		n++;
	*ret = text->data + at;
	return (int)n;
}

static enum http_parse_result syntax_error(struct http_parse *parse, llhttp_errno_t code, char culprit) {
	const char *reason = parse->llhttp.reason ? parse->llhttp.reason : "malformed", *name = "";
	int n = faulty_name(parse, &name);
	switch (code) {
	case HPE_INVALID_METHOD:
		/* Nobody knows the method (501), or it is no HTTP at all: a TLS hello, a SOCKS greeting. */
		if (http_is_token_char(culprit))
			return http_parse_fail(parse, 501, "unknown method");
		return http_parse_fail(parse, 400, "this is not an HTTP request");
	case HPE_INVALID_VERSION:
		if (parse->version_seen)
			return http_parse_fail(parse, 400, "malformed request line: %s", reason);
		return http_parse_fail(parse, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
	case HPE_INVALID_URL:
		return http_parse_fail(parse, 400, "malformed request target: %s", reason);
	case HPE_UNEXPECTED_CONTENT_LENGTH:
	case HPE_INVALID_CONTENT_LENGTH:
		return http_parse_fail(parse, 400, "Content-Length is malformed, repeated or beside Transfer-Encoding: %s",
		                       reason);
	case HPE_INVALID_TRANSFER_ENCODING:
		return http_parse_fail(parse, 400, "Transfer-Encoding must be exactly \"chunked\": %s", reason);
	default:
		/* llhttp 9 stops there; what went before leaves it to http_head_judge(). */
		if (folded(parse, culprit))
			return http_parse_fail(parse, 400, HTTP_FOLDED);
		if (n > 0)
			return http_parse_fail(parse, 400, "malformed header line %.*s: %s", n, name, reason);
		return http_parse_fail(parse, 400, "malformed %s: %s", past_line(parse) ? "header line" : "request line",
		                       reason);
	}
}

/* Runs llhttp over one piece of the head and keeps the text it took. */
static enum http_parse_result feed_piece(struct http_parse *parse, const char *p, size_t n, size_t *ret_used) {
	llhttp_errno_t code = llhttp_execute(&parse->llhttp, p, n);
	size_t used = code == HPE_OK ? n : (size_t)(llhttp_get_error_pos(&parse->llhttp) - p);
	assert(used <= n);
	buf_append(&parse->head.text, p, used);
	*ret_used += used;
	if (parse->state == HTTP_FAILED)
		return HTTP_PARSE_ERROR;
	if (code == HPE_OK)
		return HTTP_PARSE_MORE;
	if (code != HPE_PAUSED)
		return syntax_error(parse, code, used < n ? p[used] : '\0');
	parse->state = HTTP_HEAD_SEEN;
	return http_head_judge(parse) ? HTTP_PARSE_HEAD : HTTP_PARSE_ERROR;
}

static enum http_parse_result feed_line(struct http_parse *parse, const char *p, size_t n, size_t *ret_used) {
	size_t len = parse->head.text.len, room = HTTP_REQUEST_LINE_MAX - len;
	size_t take = min_of(n, room);
	const char *lf = memchr(p, '\n', take);
	if (lf) {
		take = (size_t)(lf - p) + 1;
		parse->line_end = len + take;
	}
	enum http_parse_result r = feed_piece(parse, p, take, ret_used);
	if (r == HTTP_PARSE_ERROR)
		return r;
	if (lf && !parse->version_seen)
		return http_parse_fail(parse, 505, "the request line has no HTTP version");
	if (!lf && parse->head.text.len == HTTP_REQUEST_LINE_MAX)
		return http_parse_fail(parse, 414, "the request line is longer than %d octets", HTTP_REQUEST_LINE_MAX);
	return r;
}

static enum http_parse_result feed_fields(struct http_parse *parse, const char *p, size_t n, size_t *ret_used) {
	size_t room = parse->line_end + HTTP_HEADER_MAX - parse->head.text.len;
	enum http_parse_result r = feed_piece(parse, p, min_of(n, room), ret_used);
	if (r == HTTP_PARSE_MORE && parse->head.text.len == parse->line_end + HTTP_HEADER_MAX)
		return http_parse_fail(parse, 431, "the header is longer than %d octets", HTTP_HEADER_MAX);
	return r;
}

static enum http_parse_result feed_head(struct http_parse *parse, const char *p, size_t n, size_t *ret_used) {
	enum http_parse_result r = HTTP_PARSE_MORE;
	if (parse->head.text.len == 0) {
		*ret_used = skip_empty_line(parse, p, n);
		if (parse->state == HTTP_FAILED)
			return HTTP_PARSE_ERROR;
	}
	if (*ret_used < n && parse->line_end == 0)
		r = feed_line(parse, p + *ret_used, n - *ret_used, ret_used);
	if (r == HTTP_PARSE_MORE && *ret_used < n)
		r = feed_fields(parse, p + *ret_used, n - *ret_used, ret_used);
	return r;
}

/* ---- body ---- */

void http_parse_body(struct http_parse *parse, struct buf *body) {
	assert(parse->state == HTTP_HEAD_SEEN);
	parse->body = body;
	if (!http_head_has_body(&parse->head)) {
		parse->state = HTTP_BODY_SEEN;
		return;
	}
	parse->state = HTTP_IN_BODY;
	if (parse->head.chunked)
		llhttp_resume(&parse->llhttp);
	else if (!buf_reserve(body, (size_t)parse->head.content_length))
		http_parse_fail(parse, 413, "the body is larger than the %zu octets that this route takes", body->ceiling);
}

static enum http_parse_result feed_counted(struct http_parse *parse, const char *p, size_t n, size_t *ret_used) {
	size_t left = (size_t)parse->head.content_length - parse->body_octets;
	*ret_used = min_of(n, left);
	buf_append(parse->body, p, *ret_used);
	parse->body_octets += *ret_used;
	if (*ret_used < left)
		return HTTP_PARSE_MORE;
	parse->state = HTTP_BODY_SEEN;
	return HTTP_PARSE_DONE;
}

static enum http_parse_result feed_chunked(struct http_parse *parse, const char *p, size_t n, size_t *ret_used) {
	parse->gap = p;
	llhttp_errno_t code = llhttp_execute(&parse->llhttp, p, n);
	*ret_used = code == HPE_OK ? n : (size_t)(llhttp_get_error_pos(&parse->llhttp) - p);
	if (parse->state == HTTP_FAILED)
		return HTTP_PARSE_ERROR;
	/* A body's last span ends inside this piece, so the gap is never past what was used. */
	if (!check_gap(parse, p + *ret_used))
		return HTTP_PARSE_ERROR;
	if (code == HPE_OK)
		return HTTP_PARSE_MORE;
	if (code != HPE_PAUSED)
		return http_parse_fail(parse, 400, "malformed chunked body: %s",
		                       parse->llhttp.reason ? parse->llhttp.reason : "?");
	parse->state = HTTP_BODY_SEEN;
	return HTTP_PARSE_DONE;
}

enum http_parse_result http_parse_feed(struct http_parse *parse, const char *p, size_t n, size_t *ret_used) {
	*ret_used = 0;
	switch (parse->state) {
	case HTTP_IN_HEAD:
		return n > 0 ? feed_head(parse, p, n, ret_used) : HTTP_PARSE_MORE;
	case HTTP_HEAD_SEEN:
		return HTTP_PARSE_HEAD;
	case HTTP_IN_BODY:
		if (n == 0)
			return HTTP_PARSE_MORE;
		return parse->head.chunked ? feed_chunked(parse, p, n, ret_used) : feed_counted(parse, p, n, ret_used);
	case HTTP_BODY_SEEN:
		return HTTP_PARSE_DONE;
	case HTTP_FAILED:
		break;
	}
	return HTTP_PARSE_ERROR;
}
