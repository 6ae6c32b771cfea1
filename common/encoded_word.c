/* Header values to one line of UTF-8: unfolding, RFC 2047 encoded words, raw 8-bit octets. Lenient where mailers
 * are: words inside longer runs of text, blanks inside words, words that split a character (their octets are joined
 * before conversion).
 *
 * Invariant: one pass. A search for the end of a word that fails is not repeated, so a value full of "=?" costs no
 * more. */
#include "common/text.h"
#include "common/transfer.h"

#include <strings.h>

#define CHARSET_MAX 64

struct decoder {
	struct buf line;           /* the value so far, not yet made one line */
	struct buf octets;         /* decoded octets of adjacent words in one charset, not yet converted */
	char charset[CHARSET_MAX]; /* of `octets` */
	const char *fallback;
	bool raw_is_utf8;
};

struct word {
	struct slice charset, text;
	char encoding;   /* 'b' or 'q' */
	const char *end; /* behind "?=" */
};

static bool is_space(char c) {
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static const char *find_word_end(const char *p, const char *end) {
	while (p < end) {
		p = memchr(p, '?', (size_t)(end - p));
		if (!p || p + 1 >= end)
			return NULL;
		if (p[1] == '=')
			return p;
		p++;
	}
	return NULL;
}

/* encoded-word = "=?" charset ["*" language] "?" encoding "?" encoded-text "?=" (RFC 2047 2, RFC 2231 5). *no_end:
 * there is no "?=" from p on. */
static bool parse_word(const char *p, const char *end, struct word *ret, bool *no_end) {
	const char *cs = p + 2, *q = cs;
	while (q < end && q - cs < CHARSET_MAX && (uint8_t)*q > ' ' && *q != '?')
		q++;
	if (q == cs || end - q < 5 || q[0] != '?' || q[2] != '?')
		return false;
	ret->encoding = (char)(q[1] | 0x20);
	if (ret->encoding != 'b' && ret->encoding != 'q')
		return false;
	const char *star = memchr(cs, '*', (size_t)(q - cs));
	ret->charset = slice_of(cs, (size_t)((star ? star : q) - cs));
	const char *text = q + 3, *close = find_word_end(text, end);
	if (!close) {
		*no_end = true;
		return false;
	}
	ret->text = slice_of(text, (size_t)(close - text));
	ret->end = close + 2;
	return true;
}

static void decode_q(struct buf *out, struct slice text) {
	char *o = buf_reserve(out, text.n);
	size_t n = 0;
	if (!o)
		return;
	for (size_t i = 0; i < text.n; i++) {
		char c = text.p[i];
		int high = c == '=' && i + 2 < text.n ? hex_value(text.p[i + 1]) : -1;
		int low = high >= 0 ? hex_value(text.p[i + 2]) : -1;
		if (low >= 0) {
			c = (char)(high << 4 | low);
			i += 2;
		} else if (c == '_') {
			c = ' ';
		}
		o[n++] = c;
	}
	buf_commit(out, n);
}

static void decode_b(struct buf *out, struct slice text) {
	struct transfer t;
	transfer_init(&t, TRANSFER_BASE64);
	char *o = buf_reserve(out, transfer_bound(&t, text.n));
	if (o)
		buf_commit(out, transfer_run(&t, text.p, text.n, o));
}

static void flush_octets(struct decoder *d) {
	if (d->octets.len > 0)
		text_append_charset(&d->line, d->charset, d->octets.data, d->octets.len, false);
	buf_reset(&d->octets);
}

static void add_word(struct decoder *d, const struct word *w) {
	char charset[CHARSET_MAX];
	size_t n = min_of(w->charset.n, sizeof charset - 1);
	memcpy(charset, w->charset.p, n);
	charset[n] = '\0';
	if (strcasecmp(charset, d->charset) != 0)
		flush_octets(d);
	memcpy(d->charset, charset, sizeof charset);
	if (w->encoding == 'q')
		decode_q(&d->octets, w->text);
	else
		decode_b(&d->octets, w->text);
}

/* Text outside words: line ends go, the blanks that follow them stay (RFC 5322 2.2.3); one without is a blank
 * itself. */
static void add_raw(struct decoder *d, const char *p, size_t n) {
	flush_octets(d);
	for (size_t i = 0, run = 0; i <= n; i++) {
		if (i < n && p[i] != '\n')
			continue;
		size_t end = i > run && i < n && p[i - 1] == '\r' ? i - 1 : i;
		if (d->raw_is_utf8)
			buf_append(&d->line, p + run, end - run);
		else
			text_append_charset(&d->line, d->fallback, p + run, end - run, false);
		if (i + 1 < n && !is_space(p[i + 1]))
			buf_append_char(&d->line, ' ');
		run = i + 1;
	}
}

static bool all_space(const char *p, const char *end) {
	while (p < end && is_space(*p))
		p++;
	return p == end;
}

static void decode_value(struct decoder *d, const char *p, size_t n) {
	const char *end = p + n, *raw = p, *at = p;
	bool after_word = false, no_end = false;
	while (at < end && !no_end) {
		at = memchr(at, '=', (size_t)(end - at));
		if (!at || end - at < 2)
			break;
		struct word w;
		if (at[1] != '?' || !parse_word(at, end, &w, &no_end)) {
			at++;
			continue;
		}
		/* Blanks between two words are part of neither (RFC 2047 6.2). */
		if (!after_word || !all_space(raw, at))
			add_raw(d, raw, (size_t)(at - raw));
		add_word(d, &w);
		after_word = true;
		raw = at = w.end;
	}
	add_raw(d, raw, (size_t)(end - raw));
}

/* Raw text in a stateful 7-bit charset is valid UTF-8, yet not what it says. */
static bool looks_like_iso2022(const char *fallback, const char *p, size_t n) {
	static const char prefix[] = "iso-2022-";
	if (!fallback || !memchr(p, 0x1b, n))
		return false;
	for (size_t i = 0; i < sizeof prefix - 1; i++)
		if (fallback[i] == '\0' || (fallback[i] | 0x20) != (prefix[i] | 0x20))
			return false;
	return true;
}

/* The charset for raw octets that are not UTF-8: guessed once for the whole value. ASCII must mean itself in it: no header was ever
 * written in UTF-16, and UTF-7 could hide the '<' and '@' of another address. */
static const char *fallback_for(const char *charset, const char *p, size_t n) {
	const char *name = charset ? text_charset_iconv(charset, strlen(charset)) : NULL;
	return !name || strncmp(name, "UTF-", 4) == 0 || strcmp(name, "US-ASCII") == 0 ? text_charset_guess(p, n) : charset;
}

int text_append_header(struct buf *out, const char *p, size_t n, const char *fallback_charset) {
	while (n > 0 && is_space(*p))
		p++, n--;
	while (n > 0 && is_space(p[n - 1]))
		n--;
	if (n == 0)
		return 0;
	bool utf8 = text_utf8_valid(p, n) && !looks_like_iso2022(fallback_charset, p, n);
	if (utf8 && !memchr(p, '\n', n) && !memmem(p, n, "=?", 2))
		return text_append_line(out, p, n);

	struct decoder d = {.fallback = utf8 ? NULL : fallback_for(fallback_charset, p, n), .raw_is_utf8 = utf8};
	buf_init(&d.line, n * 4 + 64);
	buf_init(&d.octets, n + 128);
	decode_value(&d, p, n);
	const char *line = d.line.len ? d.line.data : "";
	size_t len = d.line.len;
	while (len > 0 && is_space(*line))
		line++, len--;
	while (len > 0 && is_space(line[len - 1]))
		len--;
	int r = text_append_line(out, line, len);
	buf_fini(&d.line);
	buf_fini(&d.octets);
	return r;
}

int text_append_unfolded(struct buf *out, const char *p, size_t n, const char *fallback_charset) {
	bool utf8 = text_utf8_valid(p, n);
	if (utf8 && (n == 0 || !memchr(p, '\n', n)))
		return text_append_line(out, p, n);
	struct decoder d = {.fallback = utf8 ? NULL : fallback_for(fallback_charset, p, n), .raw_is_utf8 = utf8};
	buf_init(&d.line, n * 4 + 64);
	add_raw(&d, p, n);
	int r = text_append_line(out, d.line.data, d.line.len);
	buf_fini(&d.line);
	return r;
}
