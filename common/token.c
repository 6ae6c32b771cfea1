/* Tokens: made, hashed, derived, compared. Knows neither cookies nor databases. */
#include "common/token.h"

#include <sodium.h>

#define OCTETS 32
_Static_assert(sodium_base64_ENCODED_LEN(OCTETS, sodium_base64_VARIANT_URLSAFE_NO_PADDING) == TOKEN_SIZE, "43 characters");

static const char *const USES[] = {
    [TOKEN_SESSION] = "minutemail session ",
    [TOKEN_CSRF] = "minutemail csrf ",
    [TOKEN_RESET] = "minutemail reset ",
    [TOKEN_INVITATION] = "minutemail invitation ",
    [TOKEN_KNOWN] = "minutemail known ",
};

static void encode(const uint8_t octets[OCTETS], char ret[TOKEN_SIZE]) {
	sodium_bin2base64(ret, TOKEN_SIZE, octets, OCTETS, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

void token_make(char ret[TOKEN_SIZE]) {
	uint8_t octets[OCTETS];
	if (sodium_init() < 0)
		abort(); /* no source of randomness */
	randombytes_buf(octets, sizeof(octets));
	encode(octets, ret);
	sodium_memzero(octets, sizeof(octets));
}

/* No token is the beginning of another, and no use of another use, so the two can stand side by side. */
static void hash(enum token_use use, const void *what, size_t n, const uint8_t secret[32], uint8_t ret[TOKEN_HASH_LEN]) {
	crypto_generichash_state state;
	crypto_generichash_init(&state, secret, 32, TOKEN_HASH_LEN);
	crypto_generichash_update(&state, (const unsigned char *)USES[use], strlen(USES[use]));
	crypto_generichash_update(&state, what, n);
	crypto_generichash_final(&state, ret, TOKEN_HASH_LEN);
	sodium_memzero(&state, sizeof(state));
}

static bool is_form(struct slice token) {
	for (size_t i = 0; i < token.n; i++) {
		char c = token.p[i];
		if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' || c == '_'))
			return false;
	}
	return token.n == TOKEN_LEN;
}

bool token_hash(enum token_use use, struct slice token, const uint8_t secret[32], uint8_t ret[TOKEN_HASH_LEN]) {
	if (!is_form(token))
		return false;
	hash(use, token.p, token.n, secret, ret);
	return true;
}

void token_derive(enum token_use use, const void *what, size_t n, const uint8_t secret[32], char ret[TOKEN_SIZE]) {
	uint8_t octets[TOKEN_HASH_LEN];
	hash(use, what, n, secret, octets);
	encode(octets, ret);
	sodium_memzero(octets, sizeof(octets));
}

bool token_equal(struct slice a, const char token[TOKEN_SIZE]) {
	return a.n == TOKEN_LEN && sodium_memcmp(a.p, token, TOKEN_LEN) == 0;
}
