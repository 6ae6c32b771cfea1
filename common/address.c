/* Mailbox syntax and the canonical form. Not a policy: who may receive is for the look-up; this file only says what
 * is an address and which spellings are the same one.
 *
 * Invariants: after ADDRESS_OK every text of the struct is NUL-terminated, holds no control character and is valid
 * UTF-8; `domain` is ASCII; `canonical` of two addresses is equal exactly when they name the same mailbox. On any
 * other result *ret is as it was. */
#include "common/address.h"

#include "common/netaddr.h"

#include <arpa/inet.h>
#include <idn2.h>
#include <strings.h>
#include <uninorm.h>
#include <unistr.h>

#define LABEL_MAX 63

static bool is_high(char c) {
	return (unsigned char)c >= 0x80;
}

static bool is_alnum(char c) {
	return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

static char lower(char c) {
	return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* RFC 5322 3.2.3 atext; RFC 6531 3.3 adds every non-ASCII character. */
static bool is_atext(char c) {
	return is_alnum(c) || is_high(c) || (c && strchr("!#$%&'*+-/=?^_`{|}~", c));
}

static bool has_high(const char *s, size_t n) {
	for (size_t i = 0; i < n; i++) {
		if (is_high(s[i]))
			return true;
	}
	return false;
}

/* Well-formed and without the C1 controls, which no one types and terminals obey. */
static bool utf8_fit(const char *s, size_t n) {
	if (u8_check((const uint8_t *)s, n))
		return false;
	for (size_t i = 0; i + 1 < n; i++) {
		if ((unsigned char)s[i] == 0xc2 && (unsigned char)s[i + 1] < 0xa0)
			return false;
	}
	return true;
}

/* ---- domains ---- */

/* Labels of letters, digits and inner hyphens (RFC 5321 4.1.2). `underscore`: hosts in the wild are named so;
 * harmless in an address that is only compared. Non-ASCII octets pass here, libidn2 judges them. */
static bool labels_ok(const char *s, size_t n, bool underscore) {
	size_t start = 0;
	for (size_t i = 0; i <= n; i++) {
		if (i < n && s[i] != '.') {
			if (!is_alnum(s[i]) && s[i] != '-' && !is_high(s[i]) && !(underscore && s[i] == '_'))
				return false;
			continue;
		}
		if (i == start || s[start] == '-' || s[i - 1] == '-')
			return false;
		if (i - start > LABEL_MAX && !has_high(s + start, i - start))
			return false;
		start = i + 1;
	}
	return true;
}

static bool has_a_label(const char *s, size_t n) {
	for (size_t i = 0; i + 4 <= n; i++) {
		if ((i == 0 || s[i - 1] == '.') && strncasecmp(s + i, "xn--", 4) == 0)
			return true;
	}
	return false;
}

/* The lower-case A-label form without a trailing dot. `ours`: the name may be one that we serve, so what looks like an
 * A-label is checked to be the form of a U-label; otherwise that and underscores are let pass. */
static enum address_result canonical_domain(const char *s, size_t n, bool ours, bool underscore,
                                            char ret[ADDRESS_DOMAIN_MAX + 1]) {
	if (n > ADDRESS_DOMAIN_MAX)
		return ADDRESS_TOO_LONG;
	if (n > 1 && s[n - 1] == '.')
		n--;
	if (!labels_ok(s, n, underscore))
		return ADDRESS_BAD_SYNTAX;
	if (!has_high(s, n) && !(ours && has_a_label(s, n))) {
		for (size_t i = 0; i < n; i++)
			ret[i] = lower(s[i]);
		ret[n] = '\0';
		return ADDRESS_OK;
	}
	char text[ADDRESS_DOMAIN_MAX + 1];
	memcpy(text, s, n);
	text[n] = '\0';
	char *ascii = NULL;
	int r = idn2_to_ascii_8z(text, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
	if (r != IDN2_OK)
		return r == IDN2_TOO_BIG_DOMAIN || r == IDN2_TOO_BIG_LABEL ? ADDRESS_TOO_LONG : ADDRESS_BAD_IDNA;
	size_t len = strlen(ascii);
	/* A mapped character can become one that no host name has ("℀" -> "a/c"). */
	bool fits = len <= ADDRESS_DOMAIN_MAX && !has_high(ascii, len) && labels_ok(ascii, len, underscore);
	for (size_t i = 0; fits && i <= len; i++)
		ret[i] = lower(ascii[i]);
	idn2_free(ascii);
	return fits ? ADDRESS_OK : ADDRESS_BAD_IDNA;
}

static enum address_result format_literal(int family, const void *addr, char *ret) {
	char text[INET6_ADDRSTRLEN];
	if (!inet_ntop(family, addr, text, sizeof(text)))
		return ADDRESS_BAD_SYNTAX;
	char *p = stpcpy(ret, family == AF_INET6 ? "[IPv6:" : "[");
	stpcpy(stpcpy(p, text), "]");
	return ADDRESS_OK;
}

/* "[1.2.3.4]" or "[IPv6:…]" (RFC 5321 4.1.3); other tags have no registered meaning. */
static enum address_result canonical_literal(const char *s, size_t n, char ret[ADDRESS_DOMAIN_MAX + 1]) {
	static const char tag[] = "IPv6:";
	char text[INET6_ADDRSTRLEN];
	unsigned char addr[sizeof(struct in6_addr)];
	if (n < 3 || s[n - 1] != ']')
		return ADDRESS_BAD_SYNTAX;
	s++;
	n -= 2;
	int family = n > strlen(tag) && strncasecmp(s, tag, strlen(tag)) == 0 ? AF_INET6 : AF_INET;
	if (family == AF_INET6) {
		s += strlen(tag);
		n -= strlen(tag);
	}
	if (n >= sizeof(text) || memchr(s, '\0', n))
		return ADDRESS_BAD_SYNTAX;
	memcpy(text, s, n);
	text[n] = '\0';
	return inet_pton(family, text, addr) == 1 ? format_literal(family, addr, ret) : ADDRESS_BAD_SYNTAX;
}

/* ---- local parts ---- */

/* A quoted-string (RFC 5321 4.1.2) at s: its meaning into ret. The number of octets it takes, or 0 when it is none. */
static size_t quoted_local(const char *s, size_t n, char ret[ADDRESS_LOCAL_MAX + 1], enum address_result *result) {
	size_t len = 0;
	*result = ADDRESS_BAD_SYNTAX;
	for (size_t i = 1; i < n; i++) {
		char c = s[i];
		if (c == '"') {
			ret[len] = '\0';
			*result = ADDRESS_OK;
			return i + 1;
		}
		if (c == '\\') {
			if (++i == n || is_high(s[i]))
				return 0;
			c = s[i];
		}
		if (!is_high(c) && (c < 32 || c > 126))
			return 0;
		if (len == ADDRESS_LOCAL_MAX) {
			*result = ADDRESS_TOO_LONG;
			return 0;
		}
		ret[len++] = c;
	}
	return 0;
}

/* A dot-string at s, up to the first octet that is neither atext nor a dot. */
static size_t dotted_local(const char *s, size_t n, char ret[ADDRESS_LOCAL_MAX + 1], enum address_result *result) {
	size_t i = 0;
	*result = ADDRESS_BAD_SYNTAX;
	while (i < n && (is_atext(s[i]) || s[i] == '.')) {
		if (s[i] == '.' && (i == 0 || s[i - 1] == '.'))
			return 0;
		i++;
	}
	if (i == 0 || s[i - 1] == '.')
		return 0;
	if (i > ADDRESS_LOCAL_MAX) {
		*result = ADDRESS_TOO_LONG;
		return 0;
	}
	memcpy(ret, s, i);
	ret[i] = '\0';
	*result = ADDRESS_OK;
	return i;
}

/* Detail cut, ASCII lower case, NFC (RFC 6532 3.1 asks receivers to compare so). A leading '+' is a name, not a
 * detail. */
static enum address_result canonical_local(const char *local, char ret[ADDRESS_LOCAL_MAX + 1]) {
	size_t n = strlen(local);
	const char *plus = n > 1 ? memchr(local + 1, '+', n - 1) : NULL;
	if (plus)
		n = (size_t)(plus - local);
	for (size_t i = 0; i < n; i++)
		ret[i] = lower(local[i]);
	ret[n] = '\0';
	if (!has_high(ret, n))
		return ADDRESS_OK;
	uint8_t normal[ADDRESS_LOCAL_MAX];
	size_t len = sizeof(normal);
	const uint8_t *p = u8_normalize(UNINORM_NFC, (const uint8_t *)ret, n, normal, &len);
	if (!p)
		return ADDRESS_TOO_LONG;
	enum address_result result = len <= ADDRESS_LOCAL_MAX ? ADDRESS_OK : ADDRESS_TOO_LONG;
	if (result == ADDRESS_OK) {
		memcpy(ret, p, len);
		ret[len] = '\0';
	}
	if (p != normal)
		free((void *)(uintptr_t)p); /* it did not fit, and the library made room */
	return result;
}

/* ---- the whole ---- */

/* The length of a source route "@a,@b:" (RFC 5321 4.1.1.3: accepted and ignored), 0 without one, -1 when malformed. */
static ssize_t route_length(const char *s, size_t n) {
	if (n == 0 || s[0] != '@')
		return 0;
	const char *colon = memchr(s, ':', n);
	if (!colon)
		return -1;
	size_t len = (size_t)(colon - s), start = 0;
	for (size_t i = 0; i <= len; i++) {
		if (i < len && s[i] != ',')
			continue;
		if (s[start] != '@' || !labels_ok(s + start + 1, i - start - 1, true))
			return -1;
		start = i + 1;
	}
	return (ssize_t)len + 1;
}

static enum address_result parse_mailbox(const char *s, size_t n, bool recipient, struct address *a) {
	enum address_result result;
	size_t local = n && s[0] == '"' ? quoted_local(s, n, a->local, &result) : dotted_local(s, n, a->local, &result);
	if (result != ADDRESS_OK)
		return result;
	if (local == n) {
		if (!recipient || strcasecmp(a->local, "postmaster") != 0)
			return ADDRESS_BAD_SYNTAX;
		a->kind = ADDRESS_POSTMASTER; /* RFC 5321 4.5.1 */
		stpcpy(a->canonical, "postmaster");
		return ADDRESS_OK;
	}
	if (s[local] != '@')
		return ADDRESS_BAD_SYNTAX;
	s += local + 1;
	n -= local + 1;
	if (n && s[0] == '[') {
		a->kind = ADDRESS_LITERAL;
		return canonical_literal(s, n, a->domain);
	}
	a->kind = ADDRESS_DOMAIN;
	result = canonical_domain(s, n, recipient, true, a->domain);
	if (result == ADDRESS_OK)
		result = canonical_local(a->local, a->canonical);
	if (result == ADDRESS_OK) {
		char *p = a->canonical + strlen(a->canonical);
		*p++ = '@';
		stpcpy(p, a->domain);
	}
	return result;
}

enum address_result address_parse(const char *s, size_t n, bool utf8, bool recipient, struct address *ret) {
	struct address a = {.kind = ADDRESS_NULL};
	enum address_result result = ADDRESS_OK;
	if (n > ADDRESS_PATH_MAX - 2)
		return ADDRESS_TOO_LONG;
	if (n && has_high(s, n)) {
		if (!utf8)
			return ADDRESS_NON_ASCII;
		if (!utf8_fit(s, n))
			return ADDRESS_BAD_SYNTAX;
		a.utf8 = true;
	}
	if (n) {
		ssize_t route = route_length(s, n);
		if (route < 0)
			return ADDRESS_BAD_SYNTAX;
		s += route;
		n -= (size_t)route;
		result = parse_mailbox(s, n, recipient, &a);
		if (result == ADDRESS_OK)
			memcpy(a.raw, s, n);
	}
	if (result == ADDRESS_OK)
		*ret = a;
	return result;
}

void address_format_literal(const struct netaddr *address, char ret[ADDRESS_LITERAL_SIZE]) {
	ret[0] = '\0';
	if (address->family != NETADDR_NONE)
		format_literal(address->family == NETADDR_IPV4 ? AF_INET : AF_INET6, address->b, ret);
}

int address_canonical_domain(const char *s, size_t n, char ret[ADDRESS_DOMAIN_MAX + 1]) {
	char domain[ADDRESS_DOMAIN_MAX + 1];
	if (n == 0 || (has_high(s, n) && !utf8_fit(s, n)) || canonical_domain(s, n, true, false, domain) != ADDRESS_OK)
		return -EINVAL;
	/* A last label of digits only is an IPv4 address or a slip, never a top-level domain (RFC 3696 2). */
	const char *dot = strrchr(domain, '.');
	const char *last = dot ? dot + 1 : domain;
	if (last[strspn(last, "0123456789")] == '\0')
		return -EINVAL;
	stpcpy(ret, domain);
	return 0;
}

int address_canonical_email(const char *s, size_t n, char ret[ADDRESS_MAX + 1]) {
	struct address a;
	if (address_parse(s, n, false, false, &a) != ADDRESS_OK || a.kind != ADDRESS_DOMAIN)
		return -EINVAL;
	for (char *p = a.local; *p; p++) {
		if (*p >= 'A' && *p <= 'Z')
			*p += 'a' - 'A';
	}
	stpcpy(stpcpy(stpcpy(ret, a.local), "@"), a.domain);
	return 0;
}

int address_canonical_alias(const char *s, size_t n, char ret[ADDRESS_LOCAL_MAX + 1]) {
	char local[ADDRESS_LOCAL_MAX + 1];
	enum address_result result;
	if (n == 0 || has_high(s, n) || memchr(s, '+', n) || dotted_local(s, n, local, &result) != n)
		return -EINVAL;
	for (size_t i = 0; i < n; i++)
		ret[i] = lower(local[i]);
	ret[n] = '\0';
	return 0;
}

bool address_is_postmaster(struct slice canonical) {
	static const char local[] = "postmaster@";
	return canonical.n >= strlen(local) && memcmp(canonical.p, local, strlen(local)) == 0;
}

bool address_is_role(const struct address *a) {
	return a->kind == ADDRESS_POSTMASTER ||
	       (a->kind == ADDRESS_DOMAIN &&
	        (address_is_postmaster(slice_str(a->canonical)) || strncmp(a->canonical, "abuse@", 6) == 0));
}

bool address_alias_reserved(const char *canonical_alias) {
	/* RFC 2142 names people expect a human behind, and ours. */
	static const char *const names[] = {"postmaster", "abuse", "hostmaster", "webmaster", "mailer-daemon", "noreply"};
	for (size_t i = 0; i < array_len(names); i++) {
		if (strcmp(canonical_alias, names[i]) == 0)
			return true;
	}
	return false;
}
