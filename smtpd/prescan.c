/* Single passes over octets, ahead of every parser that is not ours. Not a parser: it counts, and it rewrites what
 * GMime 3.2 would read wrongly or at a cost that grows faster than the input.
 *
 * Invariant: every function is linear in its input and holds nothing but counters. */
#include "smtpd/prescan.h"

#include "common/text.h"

#include <strings.h>

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

static bool is_label_char(char c) {
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("._:-+/", c);
}

enum { SECTION_NONE = -1, SECTION_ODD = -2 };

/* One parameter as it stands between two ';'. */
struct parameter {
	const char *p;
	size_t n, name, value; /* octets of the name without its section; where the value begins, n: there is none */
	int section;           /* of RFC 2231 3: "name*2=" */
	bool extended;         /* RFC 2231 4: "name*=", "name*2*=" */
	bool written;
};

/* What follows the first '*' of the name. Sections that are none ("name*-1", "name*x", numbers beyond any count) would
 * hide the real ones: GMime makes an empty parameter of them. */
static void read_section(struct parameter *a, const char *p, const char *end) {
	int number = 0, digits = 0;
	for (; p < end && *p >= '0' && *p <= '9' && digits <= SECTION_DIGITS_MAX; p++, digits++)
		number = number * 10 + (*p - '0');
	a->section = digits == 0 ? SECTION_NONE : number;
	a->extended = digits == 0 || (p < end && *p == '*');
	p += digits > 0 && a->extended;
	if (p < end || digits > SECTION_DIGITS_MAX)
		a->section = SECTION_ODD;
}

static void read_parameter(struct parameter *a, const char *p, size_t n) {
	*a = (struct parameter){.p = p, .n = n, .value = n, .section = SECTION_NONE};
	const char *equals = n > 0 ? memchr(p, '=', n) : NULL;
	if (!equals)
		return;
	const char *end = equals, *star = memchr(p, '*', (size_t)(equals - p));
	while (end > p && end[-1] == ' ')
		end--;
	a->value = (size_t)(equals - p) + 1;
	while (a->value < n && p[a->value] == ' ')
		a->value++;
	a->name = (size_t)((star ? star : end) - p);
	if (star)
		read_section(a, star + 1, end);
}

static bool all_blanks(const char *p, size_t n) {
	while (n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\t'))
		n--;
	return n == 0;
}

/* Cuts at every ';' outside quotes; what is empty is left out. Returns how many there are, at most one more than
 * `max`. */
static unsigned split_parameters(const char *p, size_t n, unsigned max, struct parameter *ret) {
	unsigned count = 0;
	bool quoted = false;
	size_t start = 0;
	for (size_t i = 0; i <= n && count <= max; i++) {
		if (i < n && p[i] == '\\' && quoted && i + 1 < n) {
			i++;
		} else if (i < n && p[i] == '"') {
			quoted = !quoted;
		} else if (i == n || (p[i] == ';' && !quoted)) {
			if (!all_blanks(p + start, i - start))
				read_parameter(&ret[count++], p + start, i - start);
			start = i + 1;
		}
	}
	return count;
}

/* ext-value = charset "'" [language] "'" octets (RFC 2231 4). Writes our name for the charset; returns how much it
 * replaces. */
static size_t write_charset(const char *p, size_t n, struct buf *out, struct prescan_parameters *ret) {
	size_t quote = n > 0 && *p == '"' ? 1 : 0, end = quote;
	while (end < n && end - quote < LABEL_MAX && p[end] && is_label_char(p[end]))
		end++;
	if (end == quote || end >= n || p[end] != '\'')
		return 0;
	const char *name = text_charset_iconv(p + quote, end - quote);
	if (!name) {
		ret->unknown_charset = true;
		name = "UTF-8";
	}
	buf_append(out, p, quote);
	buf_append_str(out, name);
	return end;
}

static void write_masked(const char *p, size_t n, struct buf *out) {
	size_t run = 0;
	for (size_t i = 0; i + 1 < n; i++)
		if (p[i] == '=' && p[i + 1] == '?') {
			buf_append(out, p + run, i - run);
			buf_append_str(out, PRESCAN_MASK);
			run = i + 2;
			i++;
		}
	buf_append(out, p + run, n - run);
}

/* `first`: of its sections, the one that names the charset of all. */
static void write_parameter(struct parameter *a, bool first, struct buf *out, struct prescan_parameters *ret) {
	a->written = true;
	if (ret->count++ > 0)
		buf_append_char(out, ';');
	buf_append(out, a->p, a->name);
	size_t at = a->name;
	if (a->section == SECTION_ODD) {
		buf_append_char(out, '_');
		at++;
	}
	buf_append(out, a->p + at, a->value - at);
	at = a->value;
	if (a->extended && first && a->section != SECTION_ODD)
		at += write_charset(a->p + at, a->n - at, out, ret);
	write_masked(a->p + at, a->n - at, out);
}

static struct slice parameter_name(const struct parameter *a) {
	struct slice name = slice_of(a->p, a->name);
	while (name.n > 0 && *name.p == ' ')
		name.p++, name.n--;
	return name;
}

static bool same_name(const struct parameter *a, const struct parameter *b) {
	struct slice x = parameter_name(a), y = parameter_name(b);
	return x.n == y.n && strncasecmp(x.p, y.p, x.n) == 0;
}

/* The sections of one parameter in the order of their numbers, whatever their order was (RFC 2231 3); GMime looks for
 * the charset in the one that comes first. Of two with the same number the first counts. */
static void write_sections(struct parameter *all, unsigned count, struct parameter *one, struct buf *out,
                           struct prescan_parameters *ret) {
	int last = -1;
	for (;;) {
		struct parameter *next = NULL;
		for (struct parameter *a = one; a < all + count; a++)
			if (a->section > last && !a->written && same_name(a, one) && (!next || a->section < next->section))
				next = a;
		if (!next)
			break;
		write_parameter(next, last < 0, out, ret);
		last = next->section;
	}
	for (struct parameter *a = one; a < all + count; a++)
		if (a->section >= 0 && !a->written && same_name(a, one))
			a->written = ret->conflicting = true;
}

static size_t unquoted_semicolon(const char *p, size_t n) {
	const char *semicolon = n > 0 ? memchr(p, ';', n) : NULL;
	return semicolon ? (size_t)(semicolon - p) : n;
}

enum prescan_verdict prescan_parameters(const char *p, size_t n, unsigned max, struct buf *out,
                                        struct prescan_parameters *ret) {
	struct parameter all[PRESCAN_PARAMETERS_MAX + 1] = {0};
	size_t semicolons = 0;
	max = min_of(max, (unsigned)PRESCAN_PARAMETERS_MAX);
	*ret = (struct prescan_parameters){0};
	for (size_t i = 0; i < n; i++)
		semicolons += p[i] == ';';
	unsigned count = semicolons <= (size_t)max * SEMICOLONS_FACTOR ? split_parameters(p, n, max, all) : max + 1;
	if (count > max) {
		buf_append(out, p, unquoted_semicolon(p, n));
		return PRESCAN_BARE;
	}
	for (struct parameter *a = all; a < all + count; a++) {
		if (a->written)
			continue;
		if (a->section >= 0)
			write_sections(all, count, a, out, ret);
		else
			write_parameter(a, true, out, ret);
	}
	return PRESCAN_OK;
}

void prescan_unmask(char *s) {
	for (; (s = strstr(s, PRESCAN_MASK)); s += 2)
		s[1] = '?';
}
