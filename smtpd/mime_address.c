/* A reader of address lists that cannot fail, only find less. Not a validator: what SMTP may carry is address.c's
 * business.
 *
 * Invariants: one pass, no recursion (groups do not nest); a delimiter found to have no partner is not searched for
 * again. */
#include "smtpd/mime_address.h"

#include "common/buf.h"
#include "common/text.h"
#include "smtpd/steps.h"

#define ENCODED_WORD_MAX 256 /* a word has 75 octets at the most (RFC 2047 2); senders differ */

struct reader {
	const char *p, *end;
	mime_address_fn *fn;
	void *arg;
	bool stop, no_quotes, no_comments;

	/* The mailbox under construction. */
	struct buf phrase; /* its words, quotes undone, one blank between two */
	struct buf spec;   /* the same with quotes, for an address without <> */
	size_t token;      /* where the last word of `spec` begins */
	size_t at_token;   /* where the word with the '@' begins */
	bool has_at, blank, angle;
	struct buf address;   /* the inside of <> */
	struct slice comment; /* the last one */
};

static void mailbox_reset(struct reader *r) {
	buf_reset(&r->phrase);
	buf_reset(&r->spec);
	buf_reset(&r->address);
	r->token = r->at_token = 0;
	r->has_at = r->blank = r->angle = false;
	r->comment = slice_of(NULL, 0);
}

static char last_char(const struct buf *b) {
	return b->len ? b->data[b->len - 1] : '\0';
}

/* A blank separates words, but not the two sides of '@' or '.' (obs-local-part, obs-domain). */
static void word_break(struct reader *r, char next) {
	if (!r->blank)
		return;
	r->blank = false;
	if (r->phrase.len)
		buf_append_char(&r->phrase, ' ');
	char last = last_char(&r->spec);
	if (!last || last == '@' || last == '.' || next == '@' || next == '.')
		return;
	buf_append_char(&r->spec, ' ');
	r->token = r->spec.len;
}

static void word_char(struct reader *r, char c) {
	word_break(r, c);
	if (c == '@') {
		r->has_at = true;
		r->at_token = r->token;
	}
	buf_append_char(&r->phrase, c);
	buf_append_char(&r->spec, c);
}

/* Behind the closing quote, or NULL. */
static const char *quoted_end(const char *p, const char *end) {
	for (p++; p < end; p++) {
		steps_add(1);
		if (*p == '\\')
			p++;
		else if (*p == '"')
			return p + 1;
	}
	return NULL;
}

static const char *comment_end(const char *p, const char *end) {
	unsigned depth = 0;
	for (; p < end; p++) {
		steps_add(1);
		if (*p == '\\')
			p++;
		else if (*p == '(')
			depth++;
		else if (*p == ')' && --depth == 0)
			return p + 1;
	}
	return NULL;
}

static void append_unescaped(struct buf *out, const char *p, const char *end) {
	for (; p < end; p++) {
		if (*p == '\\' && p + 1 < end)
			p++;
		buf_append_char(out, *p);
	}
}

static void read_quoted(struct reader *r) {
	const char *end = r->no_quotes ? NULL : quoted_end(r->p, r->end);
	if (!end) {
		r->no_quotes = true;
		r->p++;
		return;
	}
	word_break(r, '"');
	append_unescaped(&r->phrase, r->p + 1, end - 1);
	buf_append(&r->spec, r->p, (size_t)(end - r->p));
	r->p = end;
}

static void read_comment(struct reader *r) {
	const char *end = r->no_comments ? NULL : comment_end(r->p, r->end);
	if (!end) {
		r->no_comments = true;
		r->p++;
		return;
	}
	r->comment = slice_of(r->p + 1, (size_t)(end - r->p) - 2);
	r->blank = true;
	r->p = end;
}

/* Everything between < and >, without blanks, comments and the source route. A ',' behind an address means that the
 * '>' was forgotten. */
static void read_angle(struct reader *r) {
	bool route = false, has_at = false;
	r->angle = true;
	buf_reset(&r->address);
	while (r->p < r->end && (*r->p == '<' || *r->p == ' '))
		r->p++;
	route = r->p < r->end && *r->p == '@';
	while (r->p < r->end) {
		char c = *r->p;
		const char *end = c == '"' ? quoted_end(r->p, r->end) : c == '(' ? comment_end(r->p, r->end) : NULL;
		if (c == '>' || (c == ',' && has_at && !route)) {
			r->p += c == '>';
			return;
		}
		if (end) {
			if (c == '"')
				buf_append(&r->address, r->p, (size_t)(end - r->p));
			r->p = end;
			continue;
		}
		if (c == '"' || c == '(') { /* no partner: the rest of the field is of no use */
			r->p = r->end;
			return;
		}
		if (c == ':' && route) {
			route = has_at = false;
			buf_reset(&r->address);
		} else if (c != ' ') {
			has_at |= c == '@';
			buf_append_char(&r->address, c);
		}
		r->p++;
	}
}

/* Where the address is in a mailbox without <>. */
static struct slice bare_address(const struct reader *r) {
	if (!r->has_at)
		return slice_of(NULL, 0);
	const char *p = r->spec.data + r->at_token;
	size_t n = r->spec.len - r->at_token, len = 0;
	bool quoted = false;
	steps_add(n);
	for (; len < n && (quoted || p[len] != ' '); len++) {
		if (p[len] == '\\' && quoted && len + 1 < n)
			len++;
		else if (p[len] == '"')
			quoted = !quoted;
	}
	while (len > 0 && p[len - 1] == ',')
		len--;
	return slice_of(p, len);
}

static void mailbox_end(struct reader *r) {
	struct slice address = r->angle ? buf_slice(&r->address) : bare_address(r);
	struct slice name = r->angle && r->phrase.len ? buf_slice(&r->phrase) : r->comment;
	steps_add(address.n + name.n);
	const char *at = address.n ? memrchr(address.p, '@', address.n) : NULL;
	if (at && at > address.p && at + 1 < address.p + address.n && address.n <= MIME_ADDRESS_MAX) {
		struct buf decoded;
		buf_init(&decoded, name.n * 4 + 64);
		text_append_header(&decoded, name.p, name.n, NULL);
		r->stop = !r->fn(r->arg, address, decoded.len ? buf_slice(&decoded) : slice_of("", 0));
		buf_fini(&decoded);
	}
	mailbox_reset(r);
}

static void read_literal(struct reader *r) {
	while (r->p < r->end && *r->p != ']' && *r->p != ',')
		word_char(r, *r->p++);
}

/* An encoded word goes into the phrase whole, whatever specials its text has (they should be encoded, and often are
 * not). Behind it, or NULL. */
static const char *encoded_word_end(const char *p, const char *end) {
	if (end - p < 8 || p[1] != '?')
		return NULL;
	end = p + min_of((size_t)(end - p), (size_t)ENCODED_WORD_MAX);
	const char *q = memchr(p + 2, '?', (size_t)(end - p) - 2);
	if (!q || end - q < 5 || q[2] != '?')
		return NULL;
	for (const char *at = q + 3; at + 1 < end && *at != ' '; at++) {
		steps_add(1);
		if (at[0] == '?' && at[1] == '=')
			return at + 2;
	}
	return NULL;
}

static void read_word(struct reader *r) {
	const char *end = *r->p == '=' ? encoded_word_end(r->p, r->end) : NULL;
	if (end) {
		word_break(r, '=');
		buf_append(&r->phrase, r->p, (size_t)(end - r->p));
		r->p = end;
	} else {
		word_char(r, *r->p++);
	}
}

static void read_next(struct reader *r) {
	char c = *r->p;
	/* Words, or more <>, behind <> open the next mailbox: its ',' was forgotten. */
	if (r->angle && !strchr(" (,;:>\\", c)) {
		mailbox_end(r);
		if (r->stop)
			return;
	}
	switch (c) {
	case '"':
		read_quoted(r);
		return;
	case '(':
		read_comment(r);
		return;
	case '<':
		r->p++;
		read_angle(r);
		return;
	case '[':
		read_literal(r);
		return;
	case ',':
		/* A ',' inside a name that nobody quoted: "Doe, Jane <jane@example.com>". */
		if (!r->angle && !r->has_at && r->phrase.len)
			r->blank = false, word_char(r, c);
		else
			mailbox_end(r);
		break;
	case ';':
		mailbox_end(r);
		break;
	case ':':
		mailbox_reset(r); /* what came before names a group */
		break;
	case ' ':
		r->blank = true;
		break;
	case '>':
	case '\\':
		break;
	default:
		read_word(r);
		return;
	}
	r->p++;
}

void mime_address_list(struct slice line, mime_address_fn *fn, void *arg) {
	struct reader r = {.p = line.p, .end = line.p + line.n, .fn = fn, .arg = arg};
	buf_init(&r.phrase, line.n + 16);
	buf_init(&r.spec, line.n + 16);
	buf_init(&r.address, line.n + 16);
	while (r.p < r.end && !r.stop)
		read_next(&r);
	if (!r.stop)
		mailbox_end(&r);
	buf_fini(&r.phrase);
	buf_fini(&r.spec);
	buf_fini(&r.address);
}
