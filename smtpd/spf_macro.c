/* SPF macros (RFC 7208 7): checked once with the record, expanded as often as needed. */
#include "smtpd/spf_private.h"

#include <stdio.h>

#define DELIMITERS ".-+,/_="
#define EXPANSION_MAX 4096

struct macro {
	char letter;                   /* lower case */
	bool escape;                   /* the letter was upper case */
	bool reverse;
	unsigned keep;                 /* right-most parts; 0: all */
	const char *delimiters;        /* into the text */
	size_t delimiter_count;
};

static bool is_alpha(char c) {
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c) {
	return c >= '0' && c <= '9';
}

/* Reads "%{…}" at the start of s. False: not one. */
static bool read_macro(struct slice *s, struct macro *ret) {
	size_t at = 2;
	if (s->n < 4 || s->p[0] != '%' || s->p[1] != '{' || !is_alpha(s->p[at]) || !strchr("slodipvhcrtSLODIPVHCRT", s->p[at]))
		return false;
	*ret = (struct macro){.letter = (char)(s->p[at] | 0x20), .escape = !(s->p[at] & 0x20)};
	at++;
	size_t digits = at;
	for (; at < s->n && is_digit(s->p[at]); at++)
		ret->keep = min_of(ret->keep * 10 + (unsigned)(s->p[at] - '0'), 1000U);
	if (at > digits && ret->keep == 0)
		return false;
	if (at < s->n && (s->p[at] | 0x20) == 'r') {
		ret->reverse = true;
		at++;
	}
	ret->delimiters = s->p + at;
	while (at < s->n && s->p[at] && strchr(DELIMITERS, s->p[at]))
		at++;
	ret->delimiter_count = (size_t)(s->p + at - ret->delimiters);
	if (at >= s->n || s->p[at] != '}')
		return false;
	*s = slice_of(s->p + at + 1, s->n - at - 1);
	return true;
}

/* One step through a macro-string: 'l' a literal octet (a blank only comes up in explanations, the words of a record have none), 'm' a
 * macro, '%' one of %% %_ %-; 0: malformed. */
static char step(struct slice *s, struct macro *macro, char *literal) {
	if (*s->p != '%') {
		*literal = *s->p;
		*s = slice_of(s->p + 1, s->n - 1);
		return (unsigned char)*literal >= 0x20 && (unsigned char)*literal < 0x7f ? 'l' : 0;
	}
	if (s->n >= 2 && s->p[1] && strchr("%_-", s->p[1])) {
		*literal = s->p[1];
		*s = slice_of(s->p + 2, s->n - 2);
		return '%';
	}
	return read_macro(s, macro) ? 'm' : 0;
}

/* The letters of a top-level domain: not digits only, no hyphen at an end (RFC 7208 7.1). */
static bool is_top_label(struct slice s) {
	bool all_digits = true;
	if (s.n == 0 || s.p[0] == '-' || s.p[s.n - 1] == '-')
		return false;
	for (size_t i = 0; i < s.n; i++) {
		if (!is_alpha(s.p[i]) && !is_digit(s.p[i]) && s.p[i] != '-')
			return false;
		all_digits = all_digits && is_digit(s.p[i]);
	}
	return !all_digits;
}

static bool ends_as_domain(struct slice s) {
	if (s.n && s.p[s.n - 1] == '.')
		s.n--;
	size_t at = s.n;
	while (at > 0 && s.p[at - 1] != '.')
		at--;
	return at > 0 && is_top_label(slice_of(s.p + at, s.n - at));
}

bool spf_macro_valid(struct slice text, bool domain) {
	struct slice s = text;
	struct macro m;
	char literal, kind = 'l';
	if (text.n == 0)
		return !domain;
	while (s.n) {
		kind = step(&s, &m, &literal);
		if (kind == 0)
			return false;
	}
	return !domain || kind != 'l' || ends_as_domain(text);
}

static bool has_letter(struct slice s, const char *letters) {
	struct macro m;
	char literal, kind;
	while (s.n && (kind = step(&s, &m, &literal)) != 0)
		if (kind == 'm' && strchr(letters, m.letter))
			return true;
	return false;
}

bool spf_macro_needs_p(struct slice text) {
	return has_letter(text, "p");
}

bool spf_macro_explains(struct slice text) {
	return has_letter(text, "crt");
}

/* ---- expansion ---- */

/* %{i}: dotted octets or dotted nibbles. */
static void append_dotted(const struct netaddr *a, struct buf *out) {
	if (a->family == NETADDR_IPV4) {
		buf_printf(out, "%u.%u.%u.%u", a->b[0], a->b[1], a->b[2], a->b[3]);
		return;
	}
	for (unsigned i = 0; i < 16; i++)
		buf_printf(out, "%s%x.%x", i ? "." : "", a->b[i] >> 4, a->b[i] & 15U);
}

static void append_value(char letter, const struct spf_macros *m, struct buf *out) {
	const struct netaddr *client = &m->request->client;
	char address[NETADDR_TEXT_SIZE];
	switch (letter) {
	case 's':
		buf_printf(out, "%s@%s", m->local, m->sender_domain);
		break;
	case 'l':
		buf_append_str(out, m->local);
		break;
	case 'o':
		buf_append_str(out, m->sender_domain);
		break;
	case 'd':
		buf_append_str(out, m->domain);
		break;
	case 'i':
		append_dotted(client, out);
		break;
	case 'p':
		buf_append_str(out, m->validated ? m->validated : "unknown");
		break;
	case 'v':
		buf_append_str(out, client->family == NETADDR_IPV4 ? "in-addr" : "ip6");
		break;
	case 'h':
		buf_append_str(out, m->helo);
		break;
	case 'c':
		netaddr_format(client, address);
		buf_append_str(out, address);
		break;
	case 'r':
		buf_append_str(out, m->request->hostname);
		break;
	case 't':
		buf_printf(out, "%lld", (long long)(m->request->now / 1000000));
		break;
	}
}

static bool is_delimiter(const struct macro *m, char c) {
	return m->delimiter_count ? memchr(m->delimiters, c, m->delimiter_count) != NULL : c == '.';
}

static void append_escaped(struct slice part, bool escape, struct buf *out) {
	for (size_t i = 0; i < part.n; i++) {
		unsigned char c = (unsigned char)part.p[i];
		if (!escape || is_alpha((char)c) || is_digit((char)c) || (c && strchr("-._~", c)))
			buf_append_char(out, (char)c);
		else
			buf_printf(out, "%%%02X", c);
	}
}

/* Splits at the delimiters, reverses, keeps the right-most parts, joins with dots (7.3). */
static void append_transformed(const struct macro *m, struct slice value, struct buf *out) {
	struct slice parts[129];
	size_t n = 0, start = 0;
	for (size_t i = 0; i <= value.n && n < array_len(parts); i++) {
		if (i == value.n || is_delimiter(m, value.p[i])) {
			parts[n++] = slice_of(value.p + start, i - start);
			start = i + 1;
		}
	}
	size_t keep = m->keep ? min_of((size_t)m->keep, n) : n;
	for (size_t i = n - keep; i < n; i++) {
		if (i > n - keep)
			buf_append_char(out, '.');
		append_escaped(parts[m->reverse ? n - 1 - i : i], m->escape, out);
	}
}

static void expand_macro(const struct macro *macro, const struct spf_macros *m, struct buf *out) {
	struct buf value;
	buf_init(&value, EXPANSION_MAX);
	append_value(macro->letter, m, &value);
	if (macro->keep == 0 && !macro->reverse && macro->delimiter_count == 0)
		append_escaped(buf_slice(&value), macro->escape, out);
	else
		append_transformed(macro, buf_slice(&value), out);
	buf_fini(&value);
}

void spf_macro_expand(struct slice text, const struct spf_macros *m, struct buf *out) {
	struct slice s = text;
	struct macro macro;
	char literal, kind;
	while (s.n && !out->overflow && (kind = step(&s, &macro, &literal)) != 0) {
		if (kind == 'm')
			expand_macro(&macro, m, out);
		else if (kind == '%' && literal == '-')
			buf_append_str(out, "%20");
		else
			buf_append_char(out, kind == '%' && literal == '_' ? ' ' : literal);
	}
}

void spf_macro_expand_domain(struct slice text, const struct spf_macros *m, char ret[DNS_NAME_SIZE]) {
	struct buf out;
	buf_init(&out, EXPANSION_MAX);
	spf_macro_expand(text, m, &out);
	struct slice s = out.overflow ? slice_of("", 0) : buf_slice(&out);
	if (s.n && s.p[s.n - 1] == '.')
		s.n--;
	while (s.n >= DNS_NAME_SIZE) {
		const char *dot = memchr(s.p, '.', s.n);
		if (!dot) {
			s.n = 0;
			break;
		}
		s = slice_of(dot + 1, s.n - (size_t)(dot + 1 - s.p));
	}
	for (size_t i = 0; i < s.n; i++)
		ret[i] = s.p[i] ? s.p[i] : '?';
	ret[s.n] = '\0';
	buf_fini(&out);
}
