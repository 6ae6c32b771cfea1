/* Any octets as a path, with and without SMTPUTF8; what is accepted keeps the promises of common/address.h. */
#include "common/address.h"

#include <stdio.h>

#include <unistr.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void require(bool ok) {
	if (!ok)
		abort();
}

static bool clean(const char *s) {
	for (const char *c = s; *c; c++) {
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			return false;
	}
	return u8_check((const uint8_t *)s, strlen(s)) == NULL;
}

static bool ascii_lower(const char *s) {
	for (; *s; s++) {
		if ((unsigned char)*s >= 0x80 || (*s >= 'A' && *s <= 'Z'))
			return false;
	}
	return true;
}

static void check(const char *s, size_t n, bool utf8, bool recipient) {
	struct address a, again;
	if (address_parse(s, n, utf8, recipient, &a) != ADDRESS_OK)
		return;
	require(clean(a.raw) && clean(a.local) && clean(a.domain) && clean(a.canonical));
	require(strlen(a.raw) <= n && (utf8 || !a.utf8));
	require(a.kind == ADDRESS_LITERAL || ascii_lower(a.domain));
	/* What was kept reads as the same address, and the canonical form does not depend on the route. */
	require(address_parse(a.raw, strlen(a.raw), utf8, recipient, &again) == ADDRESS_OK);
	require(strcmp(a.canonical, again.canonical) == 0 && a.kind == again.kind);
	/* The A-label form is the same domain (RFC 5890 2.3.2.1). */
	if (a.kind == ADDRESS_DOMAIN && recipient) {
		char text[ADDRESS_DOMAIN_MAX + 3];
		int len = snprintf(text, sizeof(text), "x@%s", a.domain);
		require(len > ADDRESS_PATH_MAX - 2 || address_parse(text, (size_t)len, false, true, &again) == ADDRESS_OK);
		require(len > ADDRESS_PATH_MAX - 2 || strcmp(a.domain, again.domain) == 0);
	}
	char domain[ADDRESS_DOMAIN_MAX + 1], twice[ADDRESS_DOMAIN_MAX + 1];
	if (a.kind == ADDRESS_DOMAIN && address_canonical_domain(a.domain, strlen(a.domain), domain) == 0) {
		require(strcmp(a.domain, domain) == 0);
		require(address_canonical_domain(domain, strlen(domain), twice) == 0 && strcmp(domain, twice) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
	char text[ADDRESS_DOMAIN_MAX + 1];
	const char *s = (const char *)p;
	check(s, n, false, false);
	check(s, n, true, true);
	address_canonical_domain(s, n, text);
	if (address_canonical_alias(s, n, text) == 0)
		require(strlen(text) == n && ascii_lower(text) && !strchr(text, '+'));
	return 0;
}
