/* Octets that claim to be text, made into UTF-8 that a `text` column, JSON and a terminal can take; and header
 * blocks cut into fields. Not a Unicode library: nothing is normalised or folded here. Charsets are in charset.c,
 * RFC 2047 in encoded_word.c.
 *
 * Invariant: what is appended to a buf is always whole, well-formed UTF-8 without NUL. */
#include "common/text.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* How many octets at p are one well-formed sequence (Unicode table 3-7). Negative: they are not; that many, negated,
 * make the ill-formed part that one U+FFFD stands for. */
static int utf8_sequence(const uint8_t *p, size_t n) {
	uint8_t c = p[0], low = 0x80, high = 0xbf;
	int len;
	if (c < 0x80)
		return 1;
	if (c < 0xc2 || c > 0xf4)
		return -1;
	if (c < 0xe0) {
		len = 2;
	} else if (c < 0xf0) {
		len = 3;
		if (c == 0xe0)
			low = 0xa0;
		else if (c == 0xed)
			high = 0x9f; /* no surrogates */
	} else {
		len = 4;
		if (c == 0xf0)
			low = 0x90;
		else if (c == 0xf4)
			high = 0x8f;
	}
	for (int i = 1; i < len; i++) {
		if ((size_t)i >= n || p[i] < low || p[i] > high)
			return -i;
		low = 0x80;
		high = 0xbf;
	}
	return len;
}

/* The first octet from p on that is not plain: below 0x20 or above 0x7e. Eight at a time; the test may stop a word
 * too early, never too late. */
static const uint8_t *skip_plain(const uint8_t *p, const uint8_t *end) {
	const uint64_t ones = UINT64_C(0x0101010101010101);
	while (end - p >= 8) {
		uint64_t w;
		memcpy(&w, p, 8);
		if (((w - ones * 0x20) | (w + ones) | w) & ones * 0x80)
			break;
		p += 8;
	}
	while (p < end && *p >= 0x20 && *p < 0x7f)
		p++;
	return p;
}

bool text_utf8_valid(const char *p, size_t n) {
	if (n == 0) /* where p may be NULL */
		return true;
	const uint8_t *at = (const uint8_t *)p, *end = at + n;
	for (;;) {
		at = skip_plain(at, end);
		if (at == end)
			return true;
		int len = utf8_sequence(at, (size_t)(end - at));
		if (len < 0)
			return false;
		at += len;
	}
}

enum clean_mode { CLEAN_KEEP, CLEAN_STRIP, CLEAN_LINE };

/* What to put in place of the sequence, or NULL to leave it as it is. */
static const char *clean_replacement(enum clean_mode mode, const uint8_t *p, int len, const uint8_t *end) {
	uint8_t c = p[0];
	if (len < 0 || c == 0)
		return REPLACEMENT;
	if (mode == CLEAN_KEEP)
		return NULL;
	if (mode == CLEAN_STRIP) {
		if (c >= 0x20 || c == '\t' || c == '\n')
			return NULL;
		return c == '\r' && p + 1 < end && p[1] == '\n' ? NULL : "";
	}
	if (c < 0x20 || c == 0x7f)
		return " ";
	if (c == 0xc2 && p[1] < 0xa0) /* C1 */
		return " ";
	if (c == 0xe2 && p[1] == 0x80 && (p[2] == 0xa8 || p[2] == 0xa9)) /* line and paragraph separators */
		return " ";
	return NULL;
}

static int append_clean(struct buf *out, const char *s, size_t n, enum clean_mode mode) {
	if (n == 0) /* where s may be NULL */
		return 0;
	const uint8_t *p = (const uint8_t *)s, *end = p + n, *run = p;
	for (;;) {
		p = skip_plain(p, end);
		if (p == end)
			break;
		int len = utf8_sequence(p, (size_t)(end - p));
		const char *instead = clean_replacement(mode, p, len, end);
		if (instead) {
			int r = buf_append(out, run, (size_t)(p - run));
			if (r == 0)
				r = buf_append_str(out, instead);
			if (r < 0)
				return r;
		}
		p += len < 0 ? -len : len;
		if (instead)
			run = p;
	}
	return buf_append(out, run, (size_t)(p - run));
}

int text_append_clean(struct buf *out, const char *p, size_t n, bool strip_controls) {
	return append_clean(out, p, n, strip_controls ? CLEAN_STRIP : CLEAN_KEEP);
}

int text_append_line(struct buf *out, const char *p, size_t n) {
	return append_clean(out, p, n, CLEAN_LINE);
}

size_t text_cut(const char *p, size_t n, size_t max) {
	if (n <= max)
		return n;
	while (max > 0 && ((uint8_t)p[max] & 0xc0) == 0x80)
		max--;
	return max;
}

static bool is_blank(char c) {
	return c == ' ' || c == '\t';
}

/* The octets of the line at p, its LF included. */
static size_t line_length(const char *p, size_t n) {
	const char *lf = memchr(p, '\n', n);
	return lf ? (size_t)(lf - p) + 1 : n;
}

static size_t trim_line_end(const char *p, size_t n) {
	if (n > 0 && p[n - 1] == '\n')
		n--;
	if (n > 0 && p[n - 1] == '\r')
		n--;
	return n;
}

/* A field name is printable ASCII without colon (RFC 5322 2.2); blanks may stand between it and the colon (4.5). 0:
 * none. */
static size_t field_name_length(const char *p, size_t n) {
	size_t i = 0;
	while (i < n && (uint8_t)p[i] > ' ' && (uint8_t)p[i] < 0x7f && p[i] != ':')
		i++;
	size_t len = i;
	while (i < n && is_blank(p[i]))
		i++;
	return i < n && p[i] == ':' ? len : 0;
}

int text_next_field(struct slice *block, struct text_field *ret) {
	const char *p = block->p;
	size_t n = block->n;
	if (n == 0)
		return 0;
	size_t first = line_length(p, n), len = first;
	if (trim_line_end(p, first) == 0)
		return 0;
	while (len < n && is_blank(p[len]))
		len += line_length(p + len, n - len);
	size_t name = field_name_length(p, first), value = 0, end = trim_line_end(p, len);
	if (name > 0) {
		value = (size_t)((const char *)memchr(p, ':', first) - p) + 1;
		while (value < end && is_blank(p[value]))
			value++;
	}
	ret->name = slice_of(p, name);
	ret->value = slice_of(p + value, end - value);
	*block = slice_of(p + len, n - len);
	return 1;
}

size_t text_skip_comments(struct slice v, size_t i) {
	unsigned depth = 0;
	for (; i < v.n; i++) {
		char c = v.p[i];
		if (c == '(')
			depth++;
		else if (c == ')' && depth)
			depth--;
		else if (c == '\\' && depth)
			i++;
		else if (!depth && c != ' ' && c != '\t' && c != '\r' && c != '\n')
			break;
	}
	return min_of(i, v.n);
}
