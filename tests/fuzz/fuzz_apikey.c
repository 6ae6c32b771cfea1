/* Any octets as an API key: what passes is one by its form, in one environment only; every octet of it counts; what we make passes. */
#include "common/apikey.h"

#include <sodium.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void require(bool ok) {
	if (!ok)
		abort();
}

static bool is_base62(char c) {
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static void check_good(const char *key, enum apikey_env env) {
	char changed[APIKEY_LEN], last[APIKEY_LAST_LEN + 1];
	require(memcmp(key, env == APIKEY_LIVE ? "mm_sk_live_" : "mm_sk_test_", 11) == 0);
	for (size_t i = 11; i < APIKEY_LEN; i++)
		require(is_base62(key[i]));
	require(apikey_check(key, APIKEY_LEN, env == APIKEY_LIVE ? APIKEY_TEST : APIKEY_LIVE) == APIKEY_OTHER_ENV);
	require(apikey_check(key, APIKEY_LEN - 1, env) == APIKEY_MALFORMED);
	for (size_t i = 11; i < APIKEY_LEN; i++) { /* a CRC sees every change of one octet */
		memcpy(changed, key, APIKEY_LEN);
		changed[i] = key[i] == 'a' ? 'b' : 'a';
		require(apikey_check(changed, APIKEY_LEN, env) == APIKEY_CHECKSUM);
	}
	apikey_last(key, last);
	require(memcmp(last, key + APIKEY_LEN - APIKEY_LAST_LEN, APIKEY_LAST_LEN) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
	char *text = xmemdup(p, n ? n : 1); /* its end is the allocation's */
	enum apikey_result live = apikey_check(text, n, APIKEY_LIVE), test = apikey_check(text, n, APIKEY_TEST);
	require((live == APIKEY_MALFORMED) == (test == APIKEY_MALFORMED));
	require(n == APIKEY_LEN || live == APIKEY_MALFORMED);
	require(!(live == APIKEY_OK && test == APIKEY_OK));
	if (live == APIKEY_OK)
		check_good(text, APIKEY_LIVE);
	if (test == APIKEY_OK)
		check_good(text, APIKEY_TEST);
	free(text);
	char made[APIKEY_LEN + 1];
	enum apikey_env env = n & 1 ? APIKEY_LIVE : APIKEY_TEST;
	require(sodium_init() >= 0);
	apikey_generate(env, made);
	require(apikey_check(made, APIKEY_LEN, env) == APIKEY_OK);
	return 0;
}
