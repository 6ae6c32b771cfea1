/* API key text: what is refused before anything is asked, and the stored form. The keys and digests in the rows were
 * computed by another implementation of CRC-32 and BLAKE2b. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/apikey.h"

#define ZEROS "mm_sk_live_000000000000000000000000000000000000000000000000eYOAC"
#define LIVE "mm_sk_live_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTU1efTGv"
#define TEST "mm_sk_test_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTU0ZWQBF"

static const struct row {
	const char *text;
	enum apikey_env env;
	enum apikey_result result;
} rows[] = {
    {ZEROS, APIKEY_LIVE, APIKEY_OK},
    {LIVE, APIKEY_LIVE, APIKEY_OK},
    {TEST, APIKEY_TEST, APIKEY_OK},
    {TEST, APIKEY_LIVE, APIKEY_OTHER_ENV},
    {LIVE, APIKEY_TEST, APIKEY_OTHER_ENV},
    /* one character changed, at each end of what is summed and in the sum; two swapped */
    {"mm_sk_live_bbcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTU1efTGv", APIKEY_LIVE, APIKEY_CHECKSUM},
    {"mm_sk_live_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTV1efTGv", APIKEY_LIVE, APIKEY_CHECKSUM},
    {"mm_sk_live_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTU1efTGw", APIKEY_LIVE, APIKEY_CHECKSUM},
    {"mm_sk_live_bacdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTU1efTGv", APIKEY_LIVE, APIKEY_CHECKSUM},
    {"mm_sk_test_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTU1efTGv", APIKEY_LIVE, APIKEY_CHECKSUM},
    {"mm_sk_prod_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTU1efTGv", APIKEY_LIVE, APIKEY_MALFORMED},
    {"MM_SK_LIVE_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTU1efTGv", APIKEY_LIVE, APIKEY_MALFORMED},
    {"mm_sk_live_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRST-1efTGv", APIKEY_LIVE, APIKEY_MALFORMED},
    {"mm_sk_live_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTU1efTGv0", APIKEY_LIVE, APIKEY_MALFORMED},
    {"mm_sk_live_", APIKEY_LIVE, APIKEY_MALFORMED},
    {"", APIKEY_LIVE, APIKEY_MALFORMED},
};

static void test_check(void **state) {
	for (size_t i = 0; i < array_len(rows); i++) {
		const struct row *r = &rows[i];
		if (apikey_check(r->text, strlen(r->text), r->env) != r->result)
			fail_msg("%s", r->text);
		for (size_t n = 0; n < min_of(strlen(r->text), (size_t)APIKEY_LEN); n++)
			assert_int_equal(apikey_check(r->text, n, r->env), APIKEY_MALFORMED);
	}
}

static void test_every_octet(void **state) {
	/* any single octet changed in the random part or the checksum is noticed */
	char key[APIKEY_LEN + 1];
	for (size_t at = 11; at < APIKEY_LEN; at++) {
		for (unsigned c = 0; c < 256; c++) {
			memcpy(key, LIVE, sizeof(key));
			if ((char)c == key[at])
				continue;
			key[at] = (char)c;
			assert_int_not_equal(apikey_check(key, APIKEY_LEN, APIKEY_LIVE), APIKEY_OK);
		}
	}
}

static void test_generate(void **state) {
	char key[APIKEY_LEN + 1], other[APIKEY_LEN + 1], last[APIKEY_LAST_LEN + 1];
	bool seen[256] = {false};
	for (unsigned i = 0; i < 200; i++) {
		apikey_generate(APIKEY_TEST, key);
		assert_int_equal(strlen(key), APIKEY_LEN);
		assert_int_equal(apikey_check(key, APIKEY_LEN, APIKEY_TEST), APIKEY_OK);
		for (unsigned c = 11; c < APIKEY_LEN; c++)
			seen[(uint8_t)key[c]] = true;
	}
	unsigned alphabet = 0;
	for (unsigned c = 0; c < 256; c++)
		alphabet += seen[c];
	assert_int_equal(alphabet, 62);
	apikey_generate(APIKEY_TEST, other);
	assert_string_not_equal(key, other);
	apikey_last(key, last);
	assert_string_equal(last, key + 56);
}

static void test_cut(void **state) {
	static const char *const cuts[][2] = {
	    {"/v1/mailboxes", "/v1/mailboxes"},
	    {"/v1/mm_sk_live_abc/mails", "/v1/mm_sk_"},
	    {"mm_sk_", "mm_sk_"},
	    {"mm_s", "mm_s"},
	    {"", ""},
	};
	for (size_t i = 0; i < array_len(cuts); i++)
		assert_true(slice_eq(apikey_cut(slice_str(cuts[i][0])), slice_str(cuts[i][1])));
	assert_int_equal(apikey_cut(slice_of(NULL, 0)).n, 0);
}

static void test_hash(void **state) {
	static const uint8_t want[APIKEY_HASH_LEN] = {
	    0xd4, 0x4b, 0xb8, 0x8a, 0x8c, 0x05, 0xe8, 0x4a, 0xc2, 0x2c, 0x19, 0x4f, 0xd1, 0x5d, 0x28, 0x6e,
	    0x7c, 0xfc, 0xba, 0xc2, 0x07, 0x71, 0x8f, 0x00, 0xb6, 0xc5, 0xa1, 0xa8, 0xad, 0xcd, 0x9e, 0x9f,
	};
	uint8_t secret[32], hash[APIKEY_HASH_LEN];
	for (uint8_t i = 0; i < 32; i++)
		secret[i] = i;
	apikey_hash(ZEROS, secret, sizeof(secret), hash);
	assert_memory_equal(hash, want, sizeof(want));
	secret[0] ^= 1;
	apikey_hash(ZEROS, secret, sizeof(secret), hash);
	assert_memory_not_equal(hash, want, sizeof(want));
}

static void test_secret(void **state) {
	static const struct {
		const char *hex;
		int result;
	} secrets[] = {
	    {"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", 0},
	    {"000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F", 0},
	    {"", -EINVAL},
	    {"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1", -EINVAL},
	    {"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f00", -EINVAL},
	    {"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1g", -EINVAL},
	    {"00:01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:10:11:12:13:14:1", -EINVAL},
	};
	for (size_t i = 0; i < array_len(secrets); i++) {
		uint8_t octets[32] = {0xff};
		assert_int_equal(apikey_secret_parse(secrets[i].hex, octets), secrets[i].result);
		if (secrets[i].result == 0)
			assert_int_equal(octets[31], 0x1f);
		else
			assert_int_equal(octets[0], 0xff);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_check), cmocka_unit_test(test_every_octet), cmocka_unit_test(test_generate),
	    cmocka_unit_test(test_cut), cmocka_unit_test(test_hash),  cmocka_unit_test(test_secret),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
