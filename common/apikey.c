/* API key text (format in apikey.h): made, checked, hashed. Knows nothing of databases or caches.
 *
 * The checksum only spares a look-up for what was mistyped; it is no secret and proves nothing. The secrecy of a key
 * is its 47 random characters, 279 bits, which is why a fast keyed hash is enough at rest. */
#include "common/apikey.h"

#include <sodium.h>

#define PREFIX_LEN 11
#define RANDOM_LEN 47
#define CHECKSUM_LEN 6
#define CHECKED_LEN (PREFIX_LEN + RANDOM_LEN)
_Static_assert(CHECKED_LEN + CHECKSUM_LEN == APIKEY_LEN, "the parts make a key");

static const char PREFIXES[2][PREFIX_LEN + 1] = {[APIKEY_LIVE] = "mm_sk_live_", [APIKEY_TEST] = "mm_sk_test_"};
static const char BASE62[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/* CRC-32 of IEEE 802.3, reflected, four bits at a time. */
static uint32_t crc32_ieee(const char *s, size_t n) {
	static const uint32_t table[16] = {
	    0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
	    0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
	};
	uint32_t crc = 0xffffffff;
	for (size_t i = 0; i < n; i++) {
		crc ^= (uint8_t)s[i];
		crc = crc >> 4 ^ table[crc & 15];
		crc = crc >> 4 ^ table[crc & 15];
	}
	return ~crc;
}

static void checksum_of(const char *key, char ret[CHECKSUM_LEN]) {
	uint32_t crc = crc32_ieee(key, CHECKED_LEN);
	for (unsigned i = CHECKSUM_LEN; i > 0; i--) {
		ret[i - 1] = BASE62[crc % 62];
		crc /= 62;
	}
}

/* libsodium chooses its fastest code here; once per process is enough. */
static void sodium_ready(void) {
	static bool ready;
	if (!ready && sodium_init() < 0)
		abort(); /* no source of randomness: nothing this process makes would be secret */
	ready = true;
}

void apikey_generate(enum apikey_env env, char ret[APIKEY_LEN + 1]) {
	sodium_ready();
	memcpy(ret, PREFIXES[env], PREFIX_LEN);
	for (unsigned i = 0; i < RANDOM_LEN; i++)
		ret[PREFIX_LEN + i] = BASE62[randombytes_uniform(62)];
	checksum_of(ret, ret + CHECKED_LEN);
	ret[APIKEY_LEN] = '\0';
}

static bool is_base62(char c) {
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

enum apikey_result apikey_check(const char *s, size_t n, enum apikey_env env) {
	if (n != APIKEY_LEN)
		return APIKEY_MALFORMED;
	bool live = memcmp(s, PREFIXES[APIKEY_LIVE], PREFIX_LEN) == 0;
	if (!live && memcmp(s, PREFIXES[APIKEY_TEST], PREFIX_LEN) != 0)
		return APIKEY_MALFORMED;
	for (size_t i = PREFIX_LEN; i < APIKEY_LEN; i++) {
		if (!is_base62(s[i]))
			return APIKEY_MALFORMED;
	}
	char checksum[CHECKSUM_LEN];
	checksum_of(s, checksum);
	if (memcmp(checksum, s + CHECKED_LEN, CHECKSUM_LEN) != 0)
		return APIKEY_CHECKSUM;
	return live == (env == APIKEY_LIVE) ? APIKEY_OK : APIKEY_OTHER_ENV;
}

void apikey_hash(const char key[APIKEY_LEN], const void *secret, size_t secret_len, uint8_t ret[APIKEY_HASH_LEN]) {
	sodium_ready();
	assert(secret_len >= 32 && secret_len <= crypto_generichash_KEYBYTES_MAX);
	int r = crypto_generichash(ret, APIKEY_HASH_LEN, (const unsigned char *)key, APIKEY_LEN, secret, secret_len);
	assert(r == 0);
	(void)r;
}

void apikey_last(const char key[APIKEY_LEN], char ret[APIKEY_LAST_LEN + 1]) {
	memcpy(ret, key + APIKEY_LEN - APIKEY_LAST_LEN, APIKEY_LAST_LEN);
	ret[APIKEY_LAST_LEN] = '\0';
}

struct slice apikey_cut(struct slice text) {
	static const char start[] = "mm_sk_";
	const char *at = text.n ? memmem(text.p, text.n, start, sizeof(start) - 1) : NULL;
	return at ? slice_of(text.p, (size_t)(at - text.p) + sizeof(start) - 1) : text;
}

int apikey_secret_parse(const char *hex, uint8_t ret[32]) {
	uint8_t octets[32];
	size_t n = 0;
	int r = -EINVAL;
	if (strlen(hex) == 64 && sodium_hex2bin(octets, sizeof(octets), hex, 64, NULL, &n, NULL) == 0 &&
	    n == sizeof(octets)) {
		memcpy(ret, octets, sizeof(octets));
		r = 0;
	}
	sodium_memzero(octets, sizeof(octets));
	return r;
}
