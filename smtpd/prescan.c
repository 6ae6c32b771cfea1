/* Single passes over octets, ahead of every parser that is not ours. Not a parser: it counts, and it rewrites what
 * GMime 3.2 would read wrongly or at a cost that grows faster than the input.
 *
 * Invariant: every function is linear in its input and holds nothing but counters. */
#include "smtpd/prescan.h"

#include "common/text.h"

#define LABEL_MAX 64
#define SECTION_DIGITS_MAX 4
#define SEMICOLONS_FACTOR 4 /* inside quotes, where GMime may see them as separators after all */

void prescan_source(const char *p, size_t n, struct prescan_source *ret) {
	const char *end = p + n, *at;
	*ret = (struct prescan_source){0};
	if (n == 0)
		return;
	ret->nul = memchr(p, 0, n) != NULL;
	for (at = p; !ret->bare_newline && at < end && (at = memchr(at, '\n', (size_t)(end - at))); at++)
		ret->bare_newline = at == p || at[-1] != '\r';
	for (at = p; !ret->bare_cr && at < end && (at = memchr(at, '\r', (size_t)(end - at))); at++)
		ret->bare_cr = at + 1 == end || at[1] != '\n';
}

unsigned prescan_groups(const char *p, size_t n) {
	unsigned colons = 0, comment = 0;
	bool quoted = false;
	char closing = 0; /* of <> or [] */
	for (size_t i = 0; i < n; i++) {
		char c = p[i];
		if (c == '\\' && (quoted || comment)) {
			i++;
		} else if (comment) {
			comment += c == '(' ? 1 : c == ')' ? (unsigned)-1 : 0;
		} else if (c == '"') {
			quoted = !quoted;
		} else if (quoted) {
			continue;
		} else if (c == '(') {
			comment = 1;
		} else if (closing) {
			closing = c == closing ? 0 : closing;
		} else if (c == '<' || c == '[') {
			closing = c == '<' ? '>' : ']';
		} else if (c == ':') {
			colons++;
		}
	}
	return colons;
}

struct rewrite {
	struct buf *out;
	struct prescan_parameters *ret;
	bool first_segment; /* none with a number has been seen, so the next extended value names a charset */
};

static bool is_label_char(char c) {
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("._:-+/", c);
}

/* ext-value = charset "'" [language] "'" octets (RFC 2231 4). Writes our name for the charset; returns how much it
 * replaces. */
static size_t rewrite_charset(struct rewrite *w, const char *p, size_t n) {
	size_t quote = n > 0 && *p == '"' ? 1 : 0, end = quote;
	while (end < n && end - quote < LABEL_MAX && p[end] && is_label_char(p[end]))
		end++;
	if (end == quote || end >= n || p[end] != '\'')
		return 0;
	const char *name = text_charset_iconv(p + quote, end - quote);
	if (!name) {
		w->ret->unknown_charset = true;
		name = "UTF-8";
	}
	buf_append(w->out, p, quote);
	buf_append_str(w->out, name);
	return end;
}

/* Is the '=' at p[i] that of "name*=" or "name*0*="? */
static bool opens_extended(struct rewrite *w, const char *p, size_t i) {
	while (i > 0 && p[i - 1] == ' ')
		i--;
	if (i == 0 || p[i - 1] != '*')
		return false;
	size_t digits = --i;
	while (digits > 0 && p[digits - 1] >= '0' && p[digits - 1] <= '9')
		digits--;
	if (digits == i || digits == 0 || p[digits - 1] != '*')
		return true; /* one value */
	bool zero = i - digits == 1 && p[digits] == '0';
	bool first = zero || w->first_segment;
	w->first_segment = false;
	return first;
}

/* The '*' of an attribute whose section is none of RFC 2231's ("name*-1", "name*x", numbers beyond any count): GMime
 * makes an empty parameter of it, under the name before the '*', which hides the real one. NULL: there is none. */
static const char *odd_section(const char *p, size_t n) {
	const char *star = n > 0 ? memchr(p, '*', n) : NULL;
	if (!star)
		return NULL;
	const char *end = p + n, *at = star + 1;
	while (end > at && end[-1] == ' ')
		end--;
	while (at < end && *at >= '0' && *at <= '9')
		at++;
	size_t digits = (size_t)(at - star) - 1;
	at += digits > 0 && at < end && *at == '*';
	return at == end && digits <= SECTION_DIGITS_MAX ? NULL : star;
}

static size_t unquoted_semicolon(const char *p, size_t n) {
	const char *semicolon = n > 0 ? memchr(p, ';', n) : NULL;
	return semicolon ? (size_t)(semicolon - p) : n;
}

static void rewrite_all(struct rewrite *w, const char *p, size_t n) {
	bool quoted = false, in_name = true;
	size_t run = 0, name = 0;
	for (size_t i = 0; i < n; i++) {
		char c = p[i];
		const char *odd = c == '=' && in_name && !quoted ? odd_section(p + name, i - name) : NULL;
		in_name = in_name && c != '=';
		if (odd) {
			buf_append(w->out, p + run, (size_t)(odd - p) - run);
			buf_append_char(w->out, '_');
			run = (size_t)(odd - p) + 1;
		}
		if (c == '\\' && quoted) {
			i++;
		} else if (c == '"') {
			quoted = !quoted;
		} else if (c == ';' && !quoted) {
			w->ret->count++;
			in_name = true;
			name = i + 1;
		} else if (c == '=' && i + 1 < n && p[i + 1] == '?') {
			buf_append(w->out, p + run, i - run);
			buf_append_str(w->out, PRESCAN_MASK);
			run = i + 2;
			i++;
		} else if (c == '=' && !quoted && opens_extended(w, p, i)) {
			size_t value = i + 1;
			while (value < n && p[value] == ' ')
				value++;
			buf_append(w->out, p + run, value - run);
			run = value + rewrite_charset(w, p + value, n - value);
			i = value - 1;
			if (run > value) {
				quoted = p[value] == '"';
				i = run - 1;
			}
		}
	}
	buf_append(w->out, p + min_of(run, n), n - min_of(run, n));
}

enum prescan_verdict prescan_parameters(const char *p, size_t n, unsigned max, struct buf *out,
                                        struct prescan_parameters *ret) {
	struct rewrite w = {out, ret, true};
	size_t start = out->len, semicolons = 0;
	*ret = (struct prescan_parameters){0};
	for (size_t i = 0; i < n; i++)
		semicolons += p[i] == ';';
	if (semicolons <= (size_t)max * SEMICOLONS_FACTOR)
		rewrite_all(&w, p, n);
	if (semicolons > (size_t)max * SEMICOLONS_FACTOR || ret->count > max) {
		out->len = start;
		if (out->data)
			out->data[start] = '\0';
		buf_append(out, p, unquoted_semicolon(p, n));
		return PRESCAN_BARE;
	}
	return PRESCAN_OK;
}

void prescan_unmask(char *s) {
	for (; (s = strstr(s, PRESCAN_MASK)); s += 2)
		s[1] = '?';
}
