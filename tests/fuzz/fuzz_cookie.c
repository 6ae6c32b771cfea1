/* Any octets as a Cookie field: a token lies inside it, right behind its name and in front of a semicolon or the end; the two names are
 * not taken for each other; said twice is said never. And as a token: what hashes is one by its form. */
#include "apid/session.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void require(bool ok) {
	if (!ok)
		abort();
}

static void check(struct slice field, bool secure) {
	static const uint8_t secret[32] = {1};
	const char *name = secure ? "__Host-mm_session=" : "mm_session=";
	size_t len = strlen(name);
	uint8_t hash[TOKEN_HASH_LEN], other[TOKEN_HASH_LEN];
	struct slice token = session_cookie(field, secure);
	if (!token.p) {
		require(token.n == 0);
		return;
	}
	require(token.p >= field.p + len && token.p + token.n <= field.p + field.n);
	require(memcmp(token.p - len, name, len) == 0);
	require(token.p - len == field.p || strchr("; \t", token.p[-(ptrdiff_t)len - 1]));
	require(token.n == 0 || !memchr(token.p, ';', token.n));
	if (token_hash(TOKEN_SESSION, token, secret, hash)) {
		require(token.n == TOKEN_LEN && token_hash(TOKEN_RESET, token, secret, other));
		require(memcmp(hash, other, sizeof(hash)) != 0);
	}
	char *twice = xmalloc(field.n * 2 + 1);
	memcpy(twice, field.p, field.n);
	twice[field.n] = ';';
	memcpy(twice + field.n + 1, field.p, field.n);
	require(!session_cookie(slice_of(twice, field.n * 2 + 1), secure).p);
	free(twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
	char *text = xmemdup(p, n ? n : 1);
	check(slice_of(text, n), true);
	check(slice_of(text, n), false);
	free(text);
	return 0;
}
