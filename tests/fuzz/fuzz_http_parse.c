/* A connection's octets: read whole and in pieces, the requests found, their bodies and the error must be the same. */
#include "apid/http_parse.h"

#define BODY_MAX 4096
#define REQUESTS_MAX 16

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

struct outcome {
	unsigned requests;
	unsigned status;
	char text[160];
	uint64_t sum; /* over targets, fields and bodies */
};

static void require(bool ok) {
	if (!ok)
		abort();
}

static void add(struct outcome *o, const char *p, size_t n) {
	for (size_t i = 0; i < n; i++)
		o->sum = (o->sum ^ (unsigned char)p[i]) * 1099511628211u;
	o->sum = (o->sum ^ 0x100) * 1099511628211u;
}

static void check_head(const struct http_head *head, struct outcome *o) {
	require(head->path.n > 0 && head->path.p[0] == '/');
	require(head->path.n + head->query.n <= head->target.n);
	require(head->field_count <= HTTP_FIELDS_MAX && head->text.len <= HTTP_REQUEST_LINE_MAX + HTTP_HEADER_MAX);
	require(!(head->chunked && head->content_length >= 0));
	require(head->http11 || !head->chunked);
	require(!head->http11 || http_head_field(head, "host").n > 0);
	require(head->method != METHOD_HEAD || !http_head_has_body(head));
	add(o, head->target.p, head->target.n);
	for (unsigned i = 0; i < head->field_count; i++) {
		const struct http_field *f = &head->fields[i];
		require((size_t)f->name_at + f->name_len < head->text.len &&
		        (size_t)f->value_at + f->value_len < head->text.len);
		require(f->name_len > 0 && !memchr(head->text.data + f->value_at, '\n', f->value_len));
		add(o, head->text.data + f->name_at, f->name_len);
		add(o, head->text.data + f->value_at, f->value_len);
	}
}

/* step 0: sizes that come from the input itself. */
static void run(const uint8_t *p, size_t n, size_t step, struct outcome *o) {
	struct http_parse parse;
	struct buf body;
	enum http_parse_result r = HTTP_PARSE_MORE;
	size_t at = 0;
	*o = (struct outcome){.sum = 1};
	http_parse_init(&parse);
	buf_init(&body, BODY_MAX);
	while (r != HTTP_PARSE_ERROR && at < n && o->requests < REQUESTS_MAX) {
		size_t want = step ? step : (size_t)p[at] % 13 + 1, take = min_of(want, n - at), used = 0;
		char *piece = xmemdup(p + at, take);
		r = http_parse_feed(&parse, piece, take, &used);
		free(piece);
		require(used <= take && (r != HTTP_PARSE_MORE || used == take));
		at += used;
		if (r == HTTP_PARSE_HEAD) {
			check_head(&parse.head, o);
			http_parse_body(&parse, &body);
			r = http_parse_feed(&parse, "", 0, &used);
		}
		if (r == HTTP_PARSE_DONE) {
			require(parse.head.content_length < 0 || body.len == (size_t)parse.head.content_length);
			add(o, body.data, body.len);
			buf_reset(&body);
			http_parse_reset(&parse);
			o->requests++;
		}
	}
	if (r == HTTP_PARSE_ERROR) {
		o->status = parse.error.status;
		memcpy(o->text, parse.error.text, strlen(parse.error.text) + 1);
		require(o->status >= 400 && o->text[0]);
	}
	buf_fini(&body);
	http_parse_fini(&parse);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
	static const size_t steps[] = {1, 2, 0};
	struct outcome whole, piecewise;
	if (n == 0)
		return 0;
	run(p, n, n, &whole);
	for (size_t i = 0; i < array_len(steps); i++) {
		run(p, n, steps[i], &piecewise);
		require(whole.requests == piecewise.requests && whole.status == piecewise.status && whole.sum == piecewise.sum);
		require(strcmp(whole.text, piecewise.text) == 0);
	}
	return 0;
}
