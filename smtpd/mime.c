/* The walk over a message's structure: parts, their boundaries, nesting. Fields are read in mime_header.c, bodies in
 * mime_body.c.
 *
 * GMime does not see the message. Given one, it recurses without limit on nested groups in an address header, keeps
 * an object per header and part without counting, needs quadratic time for parameters and for boundaries deep inside
 * others, loses the end of some encoded words and base64 bodies (3.2.13), and rewrites IDN domains. So the structure
 * (RFC 2046 5.1) is walked here with one cursor over the source, every offset is exact by construction, and GMime
 * reads what it reads well and boundedly: the parameter lists of Content-Type and Content-Disposition (RFC 2045 5.1,
 * RFC 2231), each checked by prescan first.
 *
 * Invariants: the cursor never moves back, so the walk is linear whatever the structure; each octet of a body is
 * decoded at most once; no recursion but walk_part() -> walk_multipart() -> walk_part(), at most limits->depth deep. */
#include "smtpd/mime_private.h"

#include "smtpd/prescan.h"
#include "smtpd/steps.h"

const struct mime_limits MIME_LIMITS = {
	.fields_entity = 1000,
	.fields_message = 10000,
	.field = 64 * 1024,
	.field_block = 256 * 1024,
	.depth = 32,
	.parts = 1000,
	.parameters = 64,
	.groups = 50,
	.addresses = MESSAGE_ADDRESSES_MAX,
	.boundary = 200,
	.text = MESSAGE_TEXT_MAX,
};

/* Where the part before the line at `at` ends: the line end before a delimiter is part of the delimiter (RFC 2046
 * 5.1.1). */
static size_t content_end(const struct mime_walk *w, size_t at) {
	if (at > 0 && w->source[at - 1] == '\n')
		at--;
	if (at > 0 && w->source[at] == '\n' && w->source[at - 1] == '\r')
		at--;
	return at;
}

/* The innermost boundary that matches wins. A delimiter line is "--" boundary ["--"] blanks, and nothing more: a
 * longer boundary with the same beginning is another one. */
bool mime_delimiter_at(const struct mime_walk *w, size_t at, struct mime_delimiter *ret) {
	const char *p = w->source + at;
	const char *lf = memchr(p, '\n', w->n - at);
	size_t len = lf ? (size_t)(lf - p) : w->n - at, next = at + len + (lf != NULL);
	steps_add(len);
	while (len > 0 && (p[len - 1] == '\r' || p[len - 1] == ' ' || p[len - 1] == '\t'))
		len--;
	for (unsigned i = w->depth; i-- > 0;) {
		struct slice b = w->frames[i];
		bool closing = len == b.n + 4 && p[len - 1] == '-' && p[len - 2] == '-';
		if ((len != b.n + 2 && !closing) || memcmp(p + 2, b.p, b.n) != 0)
			continue;
		*ret = (struct mime_delimiter){content_end(w, at), next, (int)i, closing};
		return true;
	}
	return false;
}

/* From the line start w->at to the next delimiter of any multipart we are in, or the end. */
static void find_delimiter(struct mime_walk *w) {
	const char *p = w->source + w->at, *end = w->source + w->n;
	w->delimiter = (struct mime_delimiter){w->n, w->n, -1, false};
	if (w->depth == 0)
		return;
	while (end - p >= 2) {
		if (p[0] == '-' && p[1] == '-' && mime_delimiter_at(w, (size_t)(p - w->source), &w->delimiter))
			return;
		const char *lf = memchr(p, '\n', (size_t)(end - p));
		steps_add((size_t)((lf ? lf : end) - p));
		if (!lf)
			return;
		p = lf + 1;
	}
}

static void walk_part(struct mime_walk *w, enum container in);

static void walk_leaf(struct mime_walk *w, struct mime_entity *e, enum container in) {
	size_t start = w->at;
	find_delimiter(w);
	mime_add_leaf(w, e, in, start, max_of(start, w->delimiter.content_end));
}

static enum container container_of_type(const char *type) {
	if (strcmp(type, "multipart/alternative") == 0)
		return CONTAINER_ALTERNATIVE;
	if (strcmp(type, "multipart/related") == 0)
		return CONTAINER_RELATED;
	if (strcmp(type, "multipart/digest") == 0)
		return CONTAINER_DIGEST;
	return CONTAINER_MIXED;
}

/* No delimiter ever came. Encoded, it may be that a relay encoded the whole multipart (which RFC 2045 6.4 forbids):
 * kept whole for whoever can use it. Else what there is may as well be read. */
static void unopened_multipart(struct mime_walk *w, struct mime_entity *e, enum container in, size_t start) {
	message_warn(w->msg, "missing_end_boundary");
	e->media = e->encoding == TRANSFER_IDENTITY ? MEDIA_TEXT : MEDIA_OTHER;
	mime_add_leaf(w, e, in, start, max_of(start, w->delimiter.content_end));
}

static void walk_multipart(struct mime_walk *w, struct mime_entity *e, enum container in) {
	size_t start = w->at;
	int frame = (int)w->depth;
	w->frames[w->depth++] = slice_str(e->boundary);
	find_delimiter(w);
	bool opened = w->delimiter.frame == frame;
	while (w->delimiter.frame == frame && !w->delimiter.closing && !w->stopped) {
		w->at = w->delimiter.next;
		walk_part(w, container_of_type(e->type));
	}
	w->depth = (unsigned)frame;
	if (w->stopped)
		return;
	if (!opened) {
		unopened_multipart(w, e, in, start);
	} else if (w->delimiter.frame == frame) {
		w->at = w->delimiter.next; /* the epilogue is for nobody */
		find_delimiter(w);
	} else {
		message_warn(w->msg, "missing_end_boundary");
	}
}

/* On return w->delimiter is what ended the part. */
static void walk_part(struct mime_walk *w, enum container in) {
	struct mime_entity e = {0};
	if (w->parts++ >= w->limits->parts) {
		message_warn(w->msg, "too_many_parts");
		w->stopped = true;
		return;
	}
	mime_read_header(w, &e, in == CONTAINER_NONE, in);
	if (e.media == MEDIA_MULTIPART && w->depth >= min_of(w->limits->depth, (unsigned)MIME_DEPTH_MAX)) {
		message_warn(w->msg, "too_deep");
		e.media = MEDIA_OTHER;
	}
	if (w->stopped)
		;
	else if (e.media == MEDIA_MULTIPART)
		walk_multipart(w, &e, in);
	else
		walk_leaf(w, &e, in);
	mime_entity_fini(&e);
}

static void warn_of_source(struct mime_walk *w) {
	struct prescan_source seen;
	prescan_source(w->source, w->n, &seen);
	if (seen.nul)
		message_warn(w->msg, "nul_octet");
	if (seen.bare_newline)
		message_warn(w->msg, "bare_newline");
	if (seen.bare_cr)
		message_warn(w->msg, "bare_cr");
}

struct message *mime_parse(const void *source, size_t n, const struct mime_limits *limits) {
	struct mime_walk w = {.source = n ? source : "", .n = n, .limits = limits, .msg = message_new()};
	buf_init(&w.text, limits->text * 7 + 8192); /* see append_text() */
	buf_init(&w.html, limits->text * 7 + 8192);
	buf_init(&w.raw, max_of(limits->text * 2, limits->field * 4) + 65536);
	buf_init(&w.scratch, limits->field * 4 + 65536);
	warn_of_source(&w);
	walk_part(&w, CONTAINER_NONE);
	mime_read_top_fields(&w);
	if (w.has_html && !w.has_text)
		mime_text_from_html(&w);
	if (w.has_text)
		w.msg->body_text = buf_take(&w.text, NULL);
	if (w.has_html)
		w.msg->body_html = buf_take(&w.html, NULL);
	buf_fini(&w.text);
	buf_fini(&w.html);
	buf_fini(&w.raw);
	buf_fini(&w.scratch);
	sha256_free(w.sha);
	free(w.charset);
	return w.msg;
}
