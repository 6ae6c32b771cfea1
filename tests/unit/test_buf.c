/* buf: ceilings, growth, the NUL behind the data, integers; and sha256 against the standard's own examples. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/buf.h"
#include "common/sha256.h"

static void test_append(void **state) {
	struct buf b;
	buf_init(&b, 1000);
	assert_null(b.data);
	assert_int_equal(buf_append(&b, "", 0), 0);
	assert_null(b.data);
	for (int i = 0; i < 100; i++)
		assert_int_equal(buf_append(&b, "0123456789", 10), 0);
	assert_int_equal(b.len, 1000);
	assert_int_equal(b.data[1000], 0);
	assert_true(b.cap <= 1001);
	assert_memory_equal(b.data + 990, "0123456789", 10);
	buf_fini(&b);
	assert_null(b.data);
	assert_int_equal(buf_append_str(&b, "again"), 0);
	assert_string_equal(b.data, "again");
	buf_fini(&b);
}

static void test_ceiling(void **state) {
	struct buf b;
	buf_init(&b, 5);
	assert_int_equal(buf_append(&b, "abcdef", 6), -ENOSPC);
	assert_true(b.overflow);
	assert_int_equal(b.len, 0);
	assert_int_equal(buf_append(&b, "abc", 3), 0);
	assert_int_equal(buf_append(&b, "def", 3), -ENOSPC);
	assert_int_equal(buf_append(&b, "de", 2), 0);
	assert_true(b.overflow);
	assert_string_equal(b.data, "abcde");
	assert_null(buf_reserve(&b, 1));
	assert_non_null(buf_reserve(&b, 0));
	buf_reset(&b);
	assert_false(b.overflow);
	assert_int_equal(b.len, 0);
	assert_string_equal(b.data, "");
	assert_int_equal(buf_append(&b, "x", SIZE_MAX), -ENOSPC);
	buf_fini(&b);

	buf_init(&b, SIZE_MAX);
	assert_int_equal(buf_append(&b, "x", 1), 0);
	assert_int_equal(buf_append(&b, "x", SIZE_MAX), -ENOSPC);
	buf_fini(&b);
}

static void test_printf(void **state) {
	struct buf b;
	buf_init(&b, 70);
	assert_int_equal(buf_printf(&b, "%s", ""), 0);
	assert_int_equal(b.len, 0);
	for (int i = 0; i < 10; i++)
		assert_int_equal(buf_printf(&b, "%d-%s;", i, "abc"), 0);
	assert_int_equal(b.len, 60);
	assert_int_equal(buf_printf(&b, "%s", "12345678901"), -ENOSPC);
	assert_int_equal(b.len, 60);
	assert_int_equal(b.data[60], 0);
	assert_int_equal(buf_printf(&b, "%s", "1234567890"), 0);
	assert_int_equal(b.len, 70);
	assert_string_equal(b.data + 54, "9-abc;1234567890");
	buf_fini(&b);
}

static void test_reserve_consume_take(void **state) {
	struct buf b;
	size_t n;
	buf_init(&b, 100);
	char *p = buf_reserve(&b, 10);
	assert_non_null(p);
	memcpy(p, "hello worl", 10);
	buf_commit(&b, 5);
	assert_string_equal(b.data, "hello");
	buf_consume(&b, 2);
	assert_string_equal(b.data, "llo");
	buf_consume(&b, 0);
	buf_consume(&b, 3);
	assert_int_equal(b.len, 0);
	buf_append_char(&b, 'x');
	char *taken = buf_take(&b, &n);
	assert_string_equal(taken, "x");
	assert_int_equal(n, 1);
	free(taken);
	assert_null(b.data);
	taken = buf_take(&b, &n);
	assert_string_equal(taken, "");
	assert_int_equal(n, 0);
	free(taken);
	assert_int_equal(buf_append(&b, "1", 1), 0);
	buf_fini(&b);
}

static void test_integers(void **state) {
	struct buf b;
	buf_init(&b, 14);
	buf_append_u16(&b, 0x0102);
	buf_append_u32(&b, 0x03040506);
	buf_append_u64(&b, 0x0708090a0b0c0d0e);
	assert_false(b.overflow);
	assert_memory_equal(b.data, "\1\2\3\4\5\6\7\10\11\12\13\14\15\16", 14);
	assert_int_equal(buf_append_u16(&b, 1), -ENOSPC);
	buf_fini(&b);
}

static void test_strings(void **state) {
	char *s = xasprintf("%s-%d", "a", 7);
	assert_string_equal(s, "a-7");
	free(s);
	s = xstrndup("abc", 2);
	assert_string_equal(s, "ab");
	free(s);
	s = xstrndup("abc", 10);
	assert_string_equal(s, "abc");
	free(s);
	s = xmemdup("a\0b", 3);
	assert_memory_equal(s, "a\0b", 3);
	free(s);
}

static void check_sha256(const char *p, size_t n, const char *hex) {
	uint8_t digest[SHA256_LEN];
	char text[2 * SHA256_LEN + 1];
	static const char digits[] = "0123456789abcdef";
	struct sha256 *s = sha256_new();
	for (int pass = 0; pass < 3; pass++) {
		if (pass == 0) {
			sha256_of(p, n, digest);
		} else {
			sha256_reset(s);
			for (size_t i = 0; i < n; i += pass == 1 ? n : 1)
				sha256_update(s, p + i, pass == 1 ? n : 1);
			sha256_final(s, digest);
		}
		for (size_t i = 0; i < SHA256_LEN; i++) {
			text[2 * i] = digits[digest[i] >> 4];
			text[2 * i + 1] = digits[digest[i] & 15];
		}
		text[2 * SHA256_LEN] = '\0';
		assert_string_equal(text, hex);
	}
	sha256_free(s);
}

static void test_sha256(void **state) {
	check_sha256("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	check_sha256("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	check_sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
	             "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
	assert_null(sha256_free(NULL));
}

int main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_append),   cmocka_unit_test(test_ceiling),
	    cmocka_unit_test(test_printf),   cmocka_unit_test(test_reserve_consume_take),
	    cmocka_unit_test(test_integers), cmocka_unit_test(test_strings),
	    cmocka_unit_test(test_sha256),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
