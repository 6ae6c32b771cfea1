/* Canonical forms, octet by octet through a small buffer. Only CRLF ends a line: a CR or LF alone is an octet like any other. */
#include "smtpd/dkim_canon.h"

/* ---- header fields (3.4.1, 3.4.2) ---- */

static bool blank(char c) {
	return c == ' ' || c == '\t';
}

static void add_relaxed(struct sha256 *sha, struct slice s, struct slice hole) {
	const char *colon = memchr(s.p, ':', s.n);
	size_t name = colon ? (size_t)(colon - s.p) : s.n, held = 0;
	bool space = false, any = false;
	char out[512];
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (hole.p && s.p + i >= hole.p && s.p + i < hole.p + hole.n)
			continue;
		if (i < name && blank(c))
			continue;
		bool line_end = c == '\n' || (c == '\r' && i + 1 < s.n && s.p[i + 1] == '\n');
		if (i > name && (blank(c) || line_end)) {
			space = space || blank(c); /* a fold is a line end and blanks; the line end goes */
			continue;
		}
		if (held + 2 > sizeof(out)) {
			sha256_update(sha, out, held);
			held = 0;
		}
		if (space && any)
			out[held++] = ' ';
		space = false;
		any = any || i > name;
		out[held++] = i < name && c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
	}
	sha256_update(sha, out, held);
}

void dkim_header_add(struct sha256 *sha, bool relaxed, struct slice field, struct slice hole) {
	if (field.n && field.p[field.n - 1] == '\n')
		field.n--;
	if (field.n && field.p[field.n - 1] == '\r')
		field.n--;
	if (relaxed) {
		add_relaxed(sha, field, hole);
		return;
	}
	size_t before = hole.p ? (size_t)(hole.p - field.p) : field.n;
	size_t after = hole.p ? min_of(before + hole.n, field.n) : field.n;
	sha256_update(sha, field.p, before);
	sha256_update(sha, field.p + after, field.n - after);
}

void dkim_header_end(struct sha256 *sha) {
	sha256_update(sha, "\r\n", 2);
}

/* ---- the body (3.4.3, 3.4.4) ---- */

void dkim_body_init(struct dkim_body *b, bool relaxed, uint64_t limit) {
	b->relaxed = relaxed;
	b->limit = limit;
	b->length = b->newlines = 0;
	b->cr = b->blank = b->any = false;
	b->held = 0;
	b->sha = sha256_new();
	sha256_reset(b->sha);
}

void dkim_body_fini(struct dkim_body *b) {
	b->sha = sha256_free(b->sha);
}

static void flush(struct dkim_body *b) {
	sha256_update(b->sha, b->out, b->held);
	b->held = 0;
}

static void emit(struct dkim_body *b, char c) {
	if (b->length == b->limit)
		return;
	if (b->held == sizeof(b->out))
		flush(b);
	b->out[b->held++] = c;
	b->length++;
}

/* What was held back turned out to stand before something. */
static void release(struct dkim_body *b) {
	for (; b->newlines > 0 && b->length < b->limit; b->newlines--) {
		emit(b, '\r');
		emit(b, '\n');
	}
	b->newlines = 0;
	b->any = true;
	if (b->blank)
		emit(b, ' ');
	b->blank = false;
}

static void feed_octet(struct dkim_body *b, char c) {
	if (b->cr) {
		b->cr = false;
		if (c == '\n') {
			b->blank = false;
			b->newlines++;
			return;
		}
		release(b);
		emit(b, '\r');
	}
	if (c == '\r') {
		b->cr = true;
	} else if (b->relaxed && blank(c)) {
		b->blank = true;
	} else {
		if (b->newlines || b->blank || !b->any)
			release(b);
		emit(b, c);
	}
}

void dkim_body_feed(struct dkim_body *b, const void *p, size_t n) {
	const char *s = p;
	for (size_t i = 0; i < n && b->length < b->limit; i++)
		feed_octet(b, s[i]);
}

bool dkim_body_end(struct dkim_body *b, uint8_t ret[SHA256_LEN]) {
	if (b->cr) {
		release(b);
		emit(b, '\r');
	}
	if (!b->relaxed || b->any) { /* an empty body is one CRLF when simple, nothing when relaxed */
		emit(b, '\r');
		emit(b, '\n');
	}
	flush(b);
	sha256_final(b->sha, ret);
	return b->limit == UINT64_MAX || b->length == b->limit;
}
