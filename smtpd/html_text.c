/* One pass over HTML of any quality, with one tag of look-ahead. Not a parser: nesting is not checked, styles are
 * not known, so what CSS hides is shown.
 *
 * Invariants: linear (a search that fails is not repeated); what is appended is UTF-8, since only whole runs,
 * entities and attributes are copied and all of them are. */
#include "smtpd/html_text.h"

#include "common/text.h"
#include "smtpd/steps.h"

#include <strings.h>

#define ENTITY_MAX 10
#define HREF_MAX 2048

struct writer {
	struct buf *out;
	size_t start;
	unsigned breaks;   /* line ends owed before the next text */
	bool blank;        /* a blank owed before the next text on the line */
	unsigned pre;      /* inside so many <pre> */
	struct slice href; /* of the open <a>; borrowed from the source */
	size_t link_start; /* where its text begins in `out` */
	int error;
};

static void put(struct writer *w, const char *p, size_t n) {
	int r = buf_append(w->out, p, n);
	if (r < 0)
		w->error = r;
}

static void pay_debts(struct writer *w) {
	if (w->out->len > w->start) {
		for (unsigned i = 0; i < w->breaks; i++)
			put(w, "\n", 1);
		if (!w->breaks && w->blank)
			put(w, " ", 1);
	}
	w->breaks = 0;
	w->blank = false;
}

static bool is_space(char c) {
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

static void put_text(struct writer *w, const char *p, size_t n) {
	size_t i = 0;
	if (w->pre) {
		if (n)
			pay_debts(w);
		put(w, p, n);
		return;
	}
	while (i < n) {
		if (is_space(p[i])) {
			w->blank = true;
			i++;
			continue;
		}
		size_t run = i;
		while (i < n && !is_space(p[i]))
			i++;
		pay_debts(w);
		put(w, p + run, i - run);
	}
}

static void line_break(struct writer *w, unsigned breaks) {
	w->breaks = max_of(w->breaks, breaks);
	w->blank = false;
}

/* --- entities --- */

static const struct {
	const char *name, *text;
} entities[] = {
	{"amp", "&"},         {"lt", "<"},          {"gt", ">"},          {"quot", "\""},       {"apos", "'"},
	{"nbsp", "\u00a0"},   {"copy", "\u00a9"},   {"reg", "\u00ae"},    {"trade", "\u2122"},  {"hellip", "\u2026"},
	{"mdash", "\u2014"},  {"ndash", "\u2013"},  {"lsquo", "\u2018"},  {"rsquo", "\u2019"},  {"ldquo", "\u201c"},
	{"rdquo", "\u201d"},  {"sbquo", "\u201a"},  {"bdquo", "\u201e"},  {"laquo", "\u00ab"},  {"raquo", "\u00bb"},
	{"bull", "\u2022"},   {"middot", "\u00b7"}, {"euro", "\u20ac"},   {"pound", "\u00a3"},  {"yen", "\u00a5"},
	{"cent", "\u00a2"},   {"sect", "\u00a7"},   {"deg", "\u00b0"},    {"times", "\u00d7"},  {"divide", "\u00f7"},
	{"plusmn", "\u00b1"}, {"frac12", "\u00bd"}, {"frac14", "\u00bc"}, {"rarr", "\u2192"},   {"larr", "\u2190"},
	{"uarr", "\u2191"},   {"darr", "\u2193"},   {"shy", ""},          {"zwnj", ""},         {"zwj", ""},
	{"ensp", " "},        {"emsp", " "},        {"thinsp", " "},      {"auml", "\u00e4"},   {"ouml", "\u00f6"},
	{"uuml", "\u00fc"},   {"Auml", "\u00c4"},   {"Ouml", "\u00d6"},   {"Uuml", "\u00dc"},   {"szlig", "\u00df"},
	{"eacute", "\u00e9"}, {"egrave", "\u00e8"}, {"ecirc", "\u00ea"},  {"agrave", "\u00e0"}, {"aacute", "\u00e1"},
	{"acirc", "\u00e2"},  {"atilde", "\u00e3"}, {"ccedil", "\u00e7"}, {"iacute", "\u00ed"}, {"ntilde", "\u00f1"},
	{"oacute", "\u00f3"}, {"ocirc", "\u00f4"},  {"otilde", "\u00f5"}, {"uacute", "\u00fa"}, {"aring", "\u00e5"},
	{"aelig", "\u00e6"},  {"oslash", "\u00f8"}, {"Eacute", "\u00c9"}, {"Aring", "\u00c5"},  {"Oslash", "\u00d8"},
	{"iexcl", "\u00a1"},  {"iquest", "\u00bf"}, {"check", "\u2713"},  {"star", "\u2606"},   {"hearts", "\u2665"},
	{"ordm", "\u00ba"},   {"ordf", "\u00aa"},   {"para", "\u00b6"},
};

static size_t encode_utf8(unsigned long c, char out[4]) {
	if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) || (c < 0x20 && c != '\t' && c != '\n'))
		c = 0xfffd;
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
	for (size_t i = n - 1; i > 0; i--, c >>= 6)
		out[i] = (char)(0x80 | (c & 0x3f));
	out[0] = (char)((n == 2 ? 0xc0 : n == 3 ? 0xe0 : 0xf0) | c);
	return n;
}

/* "#8364", "#x20ac" or a name, without & and ;. False: none. */
static bool put_entity(struct writer *w, const char *name) {
	char text[4], *end;
	if (name[0] == '#') {
		bool hex = (name[1] | 0x20) == 'x';
		unsigned long c = strtoul(name + 1 + hex, &end, hex ? 16 : 10);
		if (end == name + 1 + hex || *end)
			return false;
		if (c >= 0x80 && c < 0xa0) { /* meant as windows-1252, as browsers take it */
			struct buf one;
			text[0] = (char)c;
			buf_init(&one, 16);
			text_append_charset(&one, "windows-1252", text, 1, true);
			put_text(w, one.data, one.len);
			buf_fini(&one);
			return true;
		}
		put_text(w, text, encode_utf8(c, text));
		return true;
	}
	for (size_t i = 0; i < array_len(entities); i++)
		if (strcmp(entities[i].name, name) == 0) {
			const char *s = entities[i].text;
			put_text(w, s, strlen(s));
			return true;
		}
	return false;
}

/* At '&'; returns how much it was, at least 1. */
static size_t read_entity(struct writer *w, const char *p, size_t n) {
	char name[ENTITY_MAX + 1];
	size_t len = 0;
	while (len < ENTITY_MAX && len + 1 < n &&
	       (p[len + 1] == '#' || (p[len + 1] >= '0' && p[len + 1] <= '9') ||
	        ((p[len + 1] | 0x20) >= 'a' && (p[len + 1] | 0x20) <= 'z'))) {
		name[len] = p[len + 1];
		len++;
	}
	name[len] = '\0';
	if (len > 0 && put_entity(w, name))
		return len + 1 + (len + 1 < n && p[len + 1] == ';');
	put_text(w, "&", 1);
	return 1;
}

static void put_decoded(struct writer *w, const char *p, size_t n) {
	for (size_t i = 0; i < n && !w->error;) {
		const char *amp = memchr(p + i, '&', n - i);
		size_t plain = amp ? (size_t)(amp - p) - i : n - i;
		put_text(w, p + i, plain);
		i += plain;
		if (i < n)
			i += read_entity(w, p + i, n - i);
	}
}

/* --- tags --- */

enum tag_kind {
	TAG_NONE,
	TAG_BREAK,
	TAG_BLOCK,
	TAG_PARAGRAPH,
	TAG_ITEM,
	TAG_CELL,
	TAG_LINK,
	TAG_IMAGE,
	TAG_PRE,
	TAG_RULE,
	TAG_SKIP
};

static const struct {
	const char *name;
	enum tag_kind kind;
} tags[] = {
	{"br", TAG_BREAK},
	{"div", TAG_BLOCK},
	{"p", TAG_PARAGRAPH},
	{"tr", TAG_BLOCK},
	{"td", TAG_CELL},
	{"th", TAG_CELL},
	{"a", TAG_LINK},
	{"img", TAG_IMAGE},
	{"li", TAG_ITEM},
	{"ul", TAG_BLOCK},
	{"ol", TAG_BLOCK},
	{"table", TAG_BLOCK},
	{"h1", TAG_PARAGRAPH},
	{"h2", TAG_PARAGRAPH},
	{"h3", TAG_PARAGRAPH},
	{"h4", TAG_PARAGRAPH},
	{"h5", TAG_PARAGRAPH},
	{"h6", TAG_PARAGRAPH},
	{"blockquote", TAG_PARAGRAPH},
	{"pre", TAG_PRE},
	{"hr", TAG_RULE},
	{"style", TAG_SKIP},
	{"script", TAG_SKIP},
	{"title", TAG_SKIP},
	{"noscript", TAG_NONE},
	{"textarea", TAG_NONE},
	{"header", TAG_BLOCK},
	{"footer", TAG_BLOCK},
	{"section", TAG_BLOCK},
	{"article", TAG_BLOCK},
	{"center", TAG_BLOCK},
	{"dl", TAG_BLOCK},
	{"dt", TAG_BLOCK},
	{"dd", TAG_BLOCK},
	{"address", TAG_BLOCK},
	{"form", TAG_BLOCK},
	{"fieldset", TAG_BLOCK},
	{"option", TAG_BLOCK},
	{"caption", TAG_BLOCK},
};

struct tag {
	enum tag_kind kind;
	bool closing;
	struct slice name, attributes;
};

/* The value of the attribute, quotes removed. */
static struct slice attribute(struct slice attrs, const char *name) {
	const char *p = attrs.p, *end = p + attrs.n;
	size_t len = strlen(name);
	steps_add(attrs.n);
	while (p < end) {
		while (p < end && (is_space(*p) || *p == '/'))
			p++;
		const char *key = p;
		while (p < end && !is_space(*p) && *p != '=')
			p++;
		bool found = (size_t)(p - key) == len && strncasecmp(key, name, len) == 0;
		while (p < end && is_space(*p))
			p++;
		if (p == end || *p != '=') {
			if (p == key)
				p++;
			continue;
		}
		for (p++; p < end && is_space(*p);)
			p++;
		const char *value = p, *value_end;
		if (p < end && (*p == '"' || *p == '\'')) {
			value = p + 1;
			value_end = memchr(value, *p, (size_t)(end - value));
			value_end = value_end ? value_end : end;
			p = value_end < end ? value_end + 1 : end;
		} else {
			while (p < end && !is_space(*p))
				p++;
			value_end = p;
		}
		if (found)
			return slice_of(value, (size_t)(value_end - value));
	}
	return slice_of(NULL, 0);
}

/* Behind the '>' that ends the tag at p; quotes protect theirs, unless *no_quotes. NULL: the tag does not end. A quote
 * without a partner makes the search run to the end of the source: from then on quotes protect nothing, so that it
 * does so once. */
static const char *tag_end(const char *p, const char *end, bool *no_quotes) {
	char quote = 0;
	const char *first = NULL;
	if (*no_quotes) {
		first = p < end ? memchr(p, '>', (size_t)(end - p)) : NULL;
		steps_add((size_t)((first ? first : end) - p));
		return first ? first + 1 : NULL;
	}
	for (; p < end; p++) {
		steps_add(1);
		if (quote) {
			if (*p == quote)
				quote = 0;
			if (*p == '>' && !first)
				first = p + 1; /* in case the quote has no partner */
		} else if (*p == '>') {
			return p + 1;
		} else if ((*p == '"' || *p == '\'') && p[-1] == '=') {
			quote = *p;
		}
	}
	*no_quotes = true;
	return first;
}

static void end_link(struct writer *w) {
	struct slice href = w->href;
	w->href = slice_of(NULL, 0);
	if (href.n == 0 || href.n > HREF_MAX || w->error || w->link_start > w->out->len)
		return;
	size_t shown = w->out->len - w->link_start;
	steps_add(shown + href.n);
	const char *text = shown ? w->out->data + w->link_start : "";
	while (shown > 0 && is_space(*text))
		text++, shown--;
	const char *bare = href.p;
	size_t bare_n = href.n;
	for (const char *c = bare; c < href.p + min_of(href.n, (size_t)8); c++)
		if (*c == ':') {
			bare = c + 1;
			while (bare < href.p + href.n && *bare == '/')
				bare++;
			bare_n = (size_t)(href.p + href.n - bare);
			break;
		}
	if (shown >= bare_n && memmem(text, shown, bare, bare_n))
		return; /* the text is the address */
	w->blank = w->out->len > w->start;
	put_text(w, "(", 1);
	put_decoded(w, href.p, href.n);
	put_text(w, ")", 1);
}

static bool worth_showing(struct slice href) {
	static const char *const schemes[] = {"http://", "https://", "mailto:"};
	for (size_t i = 0; i < array_len(schemes); i++)
		if (href.n > strlen(schemes[i]) && strncasecmp(href.p, schemes[i], strlen(schemes[i])) == 0)
			return true;
	return false;
}

static void open_link(struct writer *w, struct slice attrs) {
	struct slice href = attribute(attrs, "href");
	while (href.n > 0 && is_space(*href.p))
		href.p++, href.n--;
	while (href.n > 0 && is_space(href.p[href.n - 1]))
		href.n--;
	end_link(w);
	if (worth_showing(href)) {
		w->href = href;
		w->link_start = w->out->len;
	}
}

static void apply_tag(struct writer *w, const struct tag *t) {
	struct slice alt;
	switch (t->kind) {
	case TAG_NONE:
	case TAG_SKIP:
		break;
	case TAG_BREAK:
		w->breaks = min_of(w->breaks + 1, 2u);
		w->blank = false;
		break;
	case TAG_BLOCK:
		line_break(w, 1);
		break;
	case TAG_PARAGRAPH:
		line_break(w, 2);
		break;
	case TAG_ITEM:
		line_break(w, 1);
		if (!t->closing)
			put_text(w, "- ", 2);
		break;
	case TAG_CELL:
		w->blank = true;
		break;
	case TAG_LINK:
		if (t->closing)
			end_link(w);
		else
			open_link(w, t->attributes);
		break;
	case TAG_IMAGE:
		alt = attribute(t->attributes, "alt");
		put_decoded(w, alt.p, alt.n);
		break;
	case TAG_PRE:
		line_break(w, 1);
		w->pre = t->closing ? 0 : 1;
		break;
	case TAG_RULE:
		line_break(w, 1);
		put_text(w, "----", 4);
		line_break(w, 1);
		break;
	}
}

static enum tag_kind tag_kind(struct slice name) {
	for (size_t i = 0; i < array_len(tags); i++)
		if (strlen(tags[i].name) == name.n && strncasecmp(tags[i].name, name.p, name.n) == 0)
			return tags[i].kind;
	return TAG_NONE;
}

/* Behind "</name", where the text of <script>, <style> or <title> ends. */
static const char *skip_element(struct slice name, const char *p, const char *end) {
	while (p < end) {
		const char *from = p;
		p = memchr(p, '<', (size_t)(end - p));
		steps_add((size_t)((p ? p : end) - from));
		if (!p || (size_t)(end - p) < name.n + 2)
			return end;
		if (p[1] == '/' && strncasecmp(p + 2, name.p, name.n) == 0)
			return p;
		p++;
	}
	return end;
}

struct source {
	const char *p, *end;
	bool no_tag_end, no_comment_end, no_quotes;
};

/* At "<!--"; behind "-->". */
static const char *skip_comment(struct source *s) {
	if (s->no_comment_end)
		return s->p + 4;
	const char *close = memmem(s->p + 4, (size_t)(s->end - s->p) - 4, "-->", 3);
	steps_add((size_t)((close ? close : s->end) - s->p));
	if (!close) {
		s->no_comment_end = true;
		return s->p + 4;
	}
	return close + 3;
}

/* At '<'. */
static void read_markup(struct writer *w, struct source *s) {
	const char *p = s->p, *end = s->end;
	if (end - p >= 4 && memcmp(p, "<!--", 4) == 0) {
		s->p = skip_comment(s);
		return;
	}
	struct tag t = {.closing = p + 1 < end && p[1] == '/'};
	const char *name = p + 1 + t.closing, *q = name;
	while (q < end && (((*q | 0x20) >= 'a' && (*q | 0x20) <= 'z') || (*q >= '0' && *q <= '9')))
		q++;
	bool markup = q > name || (name < end && (*name == '!' || *name == '?'));
	const char *behind = markup && !s->no_tag_end ? tag_end(name, end, &s->no_quotes) : NULL;
	if (!behind) {
		s->no_tag_end |= markup;
		put_text(w, "<", 1);
		s->p++;
		return;
	}
	t.name = slice_of(name, (size_t)(q - name));
	t.attributes = slice_of(q, (size_t)(behind - 1 - q));
	t.kind = tag_kind(t.name);
	apply_tag(w, &t);
	s->p = t.kind == TAG_SKIP && !t.closing ? skip_element(t.name, behind, end) : behind;
}

int html_text(struct buf *out, const char *html, size_t n) {
	if (n == 0) /* where html may be NULL */
		return 0;
	struct writer w = {.out = out, .start = out->len};
	struct source s = {html, html + n, false, false, false};
	while (s.p < s.end && !w.error) {
		const char *lt = memchr(s.p, '<', (size_t)(s.end - s.p));
		size_t plain = lt ? (size_t)(lt - s.p) : (size_t)(s.end - s.p);
		put_decoded(&w, s.p, plain);
		s.p += plain;
		if (s.p < s.end)
			read_markup(&w, &s);
	}
	end_link(&w);
	return w.error;
}
