/* HTTP/1.x requests from octets (RFC 9112). llhttp in its strict mode judges the syntax and the chunks; the head's
 * text is kept, its fields are cut from that, and what llhttp lets pass is checked again. Whatever two readers could
 * read differently is an error, after which the connection must be closed. Resumable at any octet, everything
 * bounded. Pure.
 *
 *   HEAD -empty line-> HTTP_PARSE_HEAD (input waits) -http_parse_body()-> BODY -> HTTP_PARSE_DONE
 *   HTTP_PARSE_DONE -http_parse_reset()-> HEAD
 */
#ifndef MINUTEMAIL_HTTP_PARSE_H
#define MINUTEMAIL_HTTP_PARSE_H

#include "common/base.h"
#include "common/buf.h"

#include "apid/request.h"

#include <llhttp.h>

#define HTTP_REQUEST_LINE_MAX (8 * 1024)
#define HTTP_HEADER_MAX (16 * 1024) /* all header lines together */
#define HTTP_FIELDS_MAX 100
#define HTTP_CHUNK_OVERHEAD                                                                                            \
	(16 * 1024) /* sizes, extensions and trailers of one body, on top of 8 octets for each of data */

struct http_field { /* offsets into the head's text; names are in lower case */
	uint16_t name_at, name_len, value_at, value_len;
};

struct http_head {
	struct buf text; /* as it came; everything below points into it once it is whole */
	enum request_method method;
	struct slice target, path, query; /* query: after the '?', may be empty */
	bool http11;
	bool keep_alive; /* what the client wants and its version allows */
	bool chunked;
	bool expect_continue;
	int64_t content_length; /* -1: none given */
	unsigned field_count;
	struct http_field fields[HTTP_FIELDS_MAX];
};

/* The first field of that name, which is in lower case. {NULL,0}: absent; an empty value has n == 0 and a pointer. */
struct slice http_head_field(const struct http_head *, const char *name);
bool http_head_has_body(const struct http_head *);

struct http_error {
	unsigned status; /* 400, 413, 414, 417, 431, 501, 505 */
	char text[160];  /* what was wrong, printable ASCII */
};

enum http_parse_result {
	HTTP_PARSE_MORE,  /* all input used */
	HTTP_PARSE_HEAD,  /* the head is whole */
	HTTP_PARSE_DONE,  /* the body is whole */
	HTTP_PARSE_ERROR, /* error is set; sticky until reset */
};

enum http_parse_state { HTTP_IN_HEAD, HTTP_HEAD_SEEN, HTTP_IN_BODY, HTTP_BODY_SEEN, HTTP_FAILED };

struct http_parse {
	enum http_parse_state state;
	llhttp_t llhttp;
	struct http_head head;
	struct http_error error;
	size_t line_end;  /* of the request line in head.text; 0: not seen */
	unsigned leading; /* octets of the empty line before the request line */
	bool version_seen;
	struct buf *body; /* borrowed from http_parse_body() on */
	uint64_t body_octets, framing_octets;
	const char *gap; /* chunked: where the framing octets not yet looked at begin */
	bool framing_cr; /* the last framing octet was CR */
};

void http_parse_init(struct http_parse *);
void http_parse_fini(struct http_parse *);
/* Ready for the next request of the same connection. */
void http_parse_reset(struct http_parse *);
/* Uses up to n octets; *ret_used tells how many. What is left after a result other than MORE belongs to what comes
 * next. */
enum http_parse_result http_parse_feed(struct http_parse *, const char *p, size_t n, size_t *ret_used);
/* After HTTP_PARSE_HEAD: goes on with the body, appended to `body`, whose ceiling is the cap (over it: 413). A
 * request without one is DONE with the next feed, which may be empty. */
void http_parse_body(struct http_parse *, struct buf *body);
/* Whether anything of a request has been read. */
bool http_parse_begun(const struct http_parse *);

#endif
