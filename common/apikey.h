/* API key text: `mm_sk_live_` or `mm_sk_test_` + 47 random base62 characters + 6 of checksum = 64 characters.
 * The checksum is CRC-32 (IEEE) of the first 58 characters in base62, most significant first, padded with '0'.
 * At rest only BLAKE2b-256 of the whole text keyed with the installation's secret (libsodium crypto_generichash). */
#ifndef MINUTEMAIL_APIKEY_H
#define MINUTEMAIL_APIKEY_H

#include "common/base.h"

#define APIKEY_LEN 64
#define APIKEY_HASH_LEN 32
#define APIKEY_LAST_LEN 8

enum apikey_env { APIKEY_LIVE, APIKEY_TEST };

enum apikey_result {
	APIKEY_OK,
	APIKEY_MALFORMED,   /* length, prefix or alphabet */
	APIKEY_CHECKSUM,    /* mistyped */
	APIKEY_OTHER_ENV,   /* a well-formed key of the other environment */
};

void apikey_generate(enum apikey_env, char ret[APIKEY_LEN + 1]);
enum apikey_result apikey_check(const char *s, size_t n, enum apikey_env);
/* `secret`: the installation's key secret, 32..64 octets. */
void apikey_hash(const char key[APIKEY_LEN], const void *secret, size_t secret_len, uint8_t ret[APIKEY_HASH_LEN]);
void apikey_last(const char key[APIKEY_LEN], char ret[APIKEY_LAST_LEN + 1]);

/* The text up to where something in it may be a key, which is then no matter of a log's or an answer's; all of it if nothing is. */
struct slice apikey_cut(struct slice text);

/* The key secret as configured: 64 hex digits (made by `openssl rand -hex 32`). -EINVAL otherwise. */
int apikey_secret_parse(const char *hex, uint8_t ret[32]);

#endif
