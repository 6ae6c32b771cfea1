/* The text of an SPF record (RFC 7208 4.5, 4.6, 12): all of it is read before any of it counts. */
#include "smtpd/spf_private.h"

#include <strings.h>

static const struct {
	const char *name;
	bool needs_domain, may_domain, may_prefix, needs_net;
} MECHANISMS[SPF_MECHANISMS] = {
	[SPF_ALL] = {"all", false, false, false, false},
	[SPF_INCLUDE] = {"include", true, true, false, false},
	[SPF_A] = {"a", false, true, true, false},
	[SPF_MX] = {"mx", false, true, true, false},
	[SPF_PTR] = {"ptr", false, true, false, false},
	[SPF_IP4] = {"ip4", false, false, false, true},
	[SPF_IP6] = {"ip6", false, false, false, true},
	[SPF_EXISTS] = {"exists", true, true, false, false},
};

const char *spf_mechanism_name(enum spf_mechanism m) {
	return MECHANISMS[m].name;
}

bool spf_record_is(struct slice text) {
	return text.n >= 6 && strncasecmp(text.p, "v=spf1", 6) == 0 && (text.n == 6 || text.p[6] == ' ');
}

static bool is_name_char(char c, bool first) {
	bool alpha = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
	return alpha || (!first && ((c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.'));
}

static size_t name_length(struct slice s) {
	size_t n = 0;
	while (n < s.n && is_name_char(s.p[n], n == 0))
		n++;
	return n;
}

/* "0" or 1 to 3 digits without a leading zero, at most max. */
static bool read_bits(struct slice s, unsigned max, unsigned *ret) {
	unsigned v = 0;
	if (s.n == 0 || s.n > 3 || (s.n > 1 && s.p[0] == '0'))
		return false;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
		v = v * 10 + (unsigned)(s.p[i] - '0');
	}
	*ret = v;
	return v <= max;
}

/* The digits at the end of s if `mark` stands before them: cuts both off. */
static bool take_suffix(struct slice *s, const char *mark, struct slice *ret) {
	size_t at = s->n, n = strlen(mark);
	while (at > 0 && s->p[at - 1] >= '0' && s->p[at - 1] <= '9')
		at--;
	if (at == s->n || at < n || memcmp(s->p + at - n, mark, n) != 0)
		return false;
	*ret = slice_of(s->p + at, s->n - at);
	s->n = at - n;
	return true;
}

/* The prefix lengths stand at the end: "…/24", "…//64", "…/24//64" (RFC 7208 5.3). Any other slash is the domain's. */
static bool take_prefixes(struct slice *s, struct spf_term *t) {
	struct slice digits;
	if (take_suffix(s, "//", &digits) && !read_bits(digits, 128, &t->bits6))
		return false;
	return !take_suffix(s, "/", &digits) || read_bits(digits, 32, &t->bits4);
}

/* The network's bits behind the prefix do not matter here (unlike in a configuration). */
static bool read_net(struct slice s, enum netaddr_family family, struct netaddr_net *ret) {
	const char *slash = memchr(s.p, '/', s.n);
	size_t n = slash ? (size_t)(slash - s.p) : s.n;
	unsigned max = family == NETADDR_IPV4 ? 32 : 128, bits = max;
	struct netaddr a;
	if (slash && !read_bits(slice_of(slash + 1, s.n - n - 1), max, &bits))
		return false;
	bool colon = memchr(s.p, ':', n) != NULL;
	if (netaddr_parse(s.p, n, &a) < 0 || colon != (family == NETADDR_IPV6))
		return false;
	*ret = (struct netaddr_net){netaddr_prefix(&a, bits), bits};
	if (a.family != family)
		ret->address.family = NETADDR_NONE; /* an IPv4 address mapped: no client counts as that */
	return true;
}

static bool read_argument(struct slice name, struct slice rest, struct spf_term *t) {
	enum spf_mechanism m = t->mechanism;
	if (MECHANISMS[m].needs_net)
		return rest.n > 1 && rest.p[0] == ':' &&
		       read_net(slice_of(rest.p + 1, rest.n - 1), m == SPF_IP4 ? NETADDR_IPV4 : NETADDR_IPV6, &t->net);
	if (MECHANISMS[m].may_prefix && !take_prefixes(&rest, t))
		return false;
	if (rest.n == 0)
		return !MECHANISMS[m].needs_domain;
	if (rest.p[0] != ':' || !MECHANISMS[m].may_domain)
		return false;
	t->domain = slice_of(rest.p + 1, rest.n - 1);
	return spf_macro_valid(t->domain, true) && !spf_macro_explains(t->domain);
}

static bool read_mechanism(struct slice word, struct spf_record *r) {
	struct spf_term t = {.qualifier = SPF_PASS, .bits4 = 32, .bits6 = 128};
	static const char signs[] = "+-~?";
	static const enum spf_verdict verdicts[] = {SPF_PASS, SPF_FAIL, SPF_SOFTFAIL, SPF_NEUTRAL};
	const char *sign = word.p[0] ? strchr(signs, word.p[0]) : NULL;
	if (sign) {
		t.qualifier = verdicts[sign - signs];
		word = slice_of(word.p + 1, word.n - 1);
	}
	struct slice name = slice_of(word.p, name_length(word));
	for (int m = 0; m < SPF_MECHANISMS; m++) {
		if (name.n != strlen(MECHANISMS[m].name) || strncasecmp(name.p, MECHANISMS[m].name, name.n) != 0)
			continue;
		t.mechanism = (enum spf_mechanism)m;
		if (r->count == SPF_TERMS_MAX || !read_argument(name, slice_of(word.p + name.n, word.n - name.n), &t))
			return false;
		r->terms[r->count++] = t;
		r->has_all = r->has_all || m == SPF_ALL;
		return true;
	}
	return false;
}

static bool is_word(struct slice s, const char *word) {
	return s.n == strlen(word) && strncasecmp(s.p, word, s.n) == 0;
}

/* name=macro-string. Unknown ones are read and ignored (6). */
static bool read_modifier(struct slice name, struct slice value, struct spf_record *r) {
	struct slice *known = is_word(name, "redirect") ? &r->redirect : is_word(name, "exp") ? &r->exp : NULL;
	if (!known)
		return spf_macro_valid(value, false);
	if (known->p || !spf_macro_valid(value, true) || spf_macro_explains(value))
		return false;
	*known = value;
	return true;
}

static bool read_term(struct slice word, struct spf_record *r) {
	size_t n = name_length(word);
	if (n > 0 && n < word.n && word.p[n] == '=')
		return read_modifier(slice_of(word.p, n), slice_of(word.p + n + 1, word.n - n - 1), r);
	return read_mechanism(word, r);
}

bool spf_record_parse(struct slice text, struct spf_record *ret) {
	ret->count = 0;
	ret->has_all = false;
	ret->redirect = ret->exp = slice_of(NULL, 0);
	for (size_t at = 6; at < text.n;) {
		size_t n = 0;
		while (at + n < text.n && text.p[at + n] != ' ')
			n++;
		if (n > 0 && !read_term(slice_of(text.p + at, n), ret))
			return false;
		at += n + 1;
	}
	return true;
}
