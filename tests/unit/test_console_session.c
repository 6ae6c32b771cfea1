/* The console's session on the wire (apid/session.h), tokens and passwords: tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "apid/session.h"
#include "common/password.h"

static const uint8_t SECRET[32] = {1, 2, 3}, OTHER[32] = {1, 2, 4};

static void test_cookie(void **state) {
	static const struct {
		const char *field;
		bool secure;
		const char *found; /* NULL: none */
	} rows[] = {
	    {"mm_session=abc", false, "abc"},
	    {"mm_session=abc", true, NULL},
	    {"__Host-mm_session=abc", true, "abc"},
	    {"__Host-mm_session=abc", false, NULL},
	    {"mm_session=x; __Host-mm_session=abc", true, "abc"},
	    {"a=b; mm_session=abc; c=d", false, "abc"},
	    {"a=b;mm_session=abc;c=d", false, "abc"},
	    {" mm_session=abc\t;", false, "abc"},
	    {"mm_session=", false, ""},
	    {"mm_session=a=b", false, "a=b"},
	    {"mm_session=abc; mm_session=def", false, NULL}, /* somebody else set one of them */
	    {"mm_session=abc; mm_session=abc", false, NULL},
	    {"mm_session", false, NULL},
	    {"mm_sessionx=abc", false, NULL},
	    {"xmm_session=abc", false, NULL},
	    {"MM_SESSION=abc", false, NULL},
	    {"a=mm_session=abc", false, NULL},
	    {"=; ;;", false, NULL},
	    {"", false, NULL},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		struct slice got = session_cookie(slice_str(rows[i].field), rows[i].secure);
		if ((got.p != NULL) != (rows[i].found != NULL) || (got.p && !slice_eq(got, slice_str(rows[i].found))))
			fail_msg("row %zu: %s", i, rows[i].field);
	}
	assert_null(session_cookie(slice_of(NULL, 0), true).p);
}

static void test_set_cookie(void **state) {
	char text[SESSION_COOKIE_SIZE], token[TOKEN_SIZE];
	session_set_cookie("abc", false, text);
	assert_string_equal(text, "mm_session=abc; Path=/; HttpOnly; SameSite=Lax");
	session_set_cookie("abc", true, text);
	assert_string_equal(text, "__Host-mm_session=abc; Path=/; HttpOnly; SameSite=Lax; Secure");
	session_set_cookie(NULL, true, text);
	assert_string_equal(text, "__Host-mm_session=; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=0");
	token_make(token);
	session_set_cookie(token, true, text);
	assert_true(slice_eq(session_cookie(slice_of(text, strcspn(text, ";")), true), slice_str(token)));
}

static void test_known(void **state) {
	static const uint8_t secret[32] = {1}, other[32] = {2};
	char text[SESSION_COOKIE_SIZE];
	session_set_known("a@example.com", secret, false, text);
	const char *rest = text + strcspn(text, ";");
	assert_string_equal(rest, "; Path=/; HttpOnly; SameSite=Lax; Max-Age=31536000");
	struct slice cookie = slice_of(text, (size_t)(rest - text));
	assert_true(session_is_known(cookie, false, "a@example.com", secret));
	assert_false(session_is_known(cookie, true, "a@example.com", secret));
	assert_false(session_is_known(cookie, false, "b@example.com", secret));
	assert_false(session_is_known(cookie, false, "a@example.com", other));
	assert_false(session_is_known(slice_str("mm_known="), false, "a@example.com", secret));
	assert_false(session_is_known(slice_of(NULL, 0), false, "a@example.com", secret));
	assert_null(session_cookie(cookie, false).p);
	session_set_known("a@example.com", secret, true, text);
	assert_true(strncmp(text, "__Host-mm_known=", 16) == 0 && strstr(text, "; Secure"));
	assert_true(session_is_known(slice_of(text, strcspn(text, ";")), true, "a@example.com", secret));
}

static void test_origin(void **state) {
	static const struct {
		const char *origin, *site, *host;
		bool secure, ours;
	} rows[] = {
	    {NULL, NULL, "a.example", false, true},
	    {"https://a.example", NULL, "a.example", true, true},
	    {"https://a.example", "same-origin", "a.example", true, true},
	    {"HTTPS://A.example", NULL, "a.example", true, true},
	    {"https://a.example:8443", NULL, "a.example:8443", true, true},
	    {"http://127.0.0.1:8025", NULL, "127.0.0.1:8025", false, true},
	    {"https://a.example", NULL, "a.example", false, true}, /* a proxy's TLS that we were not told of */
	    {"http://a.example", NULL, "a.example", true, false},
	    {"https://b.example", NULL, "a.example", true, false},
	    {"https://a.example.evil", NULL, "a.example", true, false},
	    {"https://xa.example", NULL, "a.example", true, false},
	    {"https://a.example:1", NULL, "a.example", true, false},
	    {"null", NULL, "a.example", false, false},
	    {"", NULL, "a.example", false, false},
	    {"https://", NULL, "", true, false},
	    {"ftp://a.example", NULL, "a.example", false, false},
	    {NULL, "none", "a.example", false, true},
	    {NULL, "cross-site", "a.example", false, false},
	    {NULL, "same-site", "a.example", false, false},
	    {"https://a.example", "cross-site", "a.example", true, false},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		if (session_same_origin(slice_str(rows[i].origin), slice_str(rows[i].site), slice_str(rows[i].host),
		                        rows[i].secure) != rows[i].ours)
			fail_msg("row %zu: %s", i, rows[i].origin);
	}
}

static void test_csrf(void **state) {
	struct id one, two;
	char a[TOKEN_SIZE], b[TOKEN_SIZE];
	id_make(&one, 1795533314000000);
	id_make(&two, 1795533314000000);
	session_csrf(&one, SECRET, a);
	assert_int_equal(strlen(a), TOKEN_LEN);
	session_csrf(&one, SECRET, b);
	assert_true(token_equal(slice_str(a), b));
	session_csrf(&two, SECRET, b);
	assert_false(token_equal(slice_str(a), b));
	session_csrf(&one, OTHER, b);
	assert_false(token_equal(slice_str(a), b));
	assert_false(token_equal(slice_of(NULL, 0), a));
	assert_false(token_equal(slice_of(a, TOKEN_LEN - 1), a));
}

static void test_token(void **state) {
	static const char *const bad[] = {"", "short", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
	                                  "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA+", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"};
	uint8_t one[TOKEN_HASH_LEN], two[TOKEN_HASH_LEN];
	char a[TOKEN_SIZE], b[TOKEN_SIZE];
	token_make(a);
	token_make(b);
	assert_string_not_equal(a, b);
	assert_true(token_hash(TOKEN_RESET, slice_str(a), SECRET, one));
	assert_true(token_hash(TOKEN_RESET, slice_str(a), SECRET, two));
	assert_memory_equal(one, two, sizeof(one));
	assert_true(token_hash(TOKEN_INVITATION, slice_str(a), SECRET, two)); /* of another use */
	assert_memory_not_equal(one, two, sizeof(one));
	assert_true(token_hash(TOKEN_RESET, slice_str(a), OTHER, two));
	assert_memory_not_equal(one, two, sizeof(one));
	for (size_t i = 0; i < array_len(bad); i++)
		assert_false(token_hash(TOKEN_SESSION, slice_str(bad[i]), SECRET, one));
}

static void test_password_rules(void **state) {
	static const struct {
		const char *password;
		bool taken;
	} rows[] = {
	    {"a long enough password", true}, {"twelve chars", true},  {"eleven char", false},
	    {"aaaaaaaaaaaa", false},          {"abcdabcdabcd", false}, {"Password1234", false},
	    {"someone@example.com", false},   {"\xc3\xa4\xc3\xb6\xc3\xbc\xc3\x9f w\xc3\xb6rter", true},
	};
	char most[PASSWORD_MOST + 2];
	for (size_t i = 0; i < array_len(rows); i++) {
		if ((password_fault(slice_str(rows[i].password), "someone@example.com") == NULL) != rows[i].taken)
			fail_msg("%s", rows[i].password);
	}
	for (size_t i = 0; i < sizeof(most); i++)
		most[i] = (char)('a' + i % 26);
	assert_null(password_fault(slice_of(most, PASSWORD_MOST), ""));
	assert_non_null(password_fault(slice_of(most, PASSWORD_MOST + 1), ""));
}

static void test_password_hash(void **state) {
	const struct password_cost cost = {64 * 1024, 1}, dearer = {128 * 1024, 1};
	const struct slice right = slice_str("a long enough password");
	char hash[PASSWORD_HASH_SIZE], again[PASSWORD_HASH_SIZE];
	assert_int_equal(password_hash(right, &cost, hash), 0);
	assert_int_equal(password_hash(right, &cost, again), 0);
	assert_string_not_equal(hash, again);
	assert_true(password_verify(right, hash, &cost));
	assert_true(password_verify(right, hash, &dearer));
	assert_false(password_verify(slice_str("a long enough Password"), hash, &cost));
	assert_false(password_verify(right, NULL, &cost));
	assert_false(password_hash_is_old(hash, &cost));
	assert_true(password_hash_is_old(hash, &dearer));
}

int main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_cookie), cmocka_unit_test(test_known), cmocka_unit_test(test_set_cookie),     cmocka_unit_test(test_origin),
	    cmocka_unit_test(test_csrf),   cmocka_unit_test(test_token),          cmocka_unit_test(test_password_rules),
	    cmocka_unit_test(test_password_hash),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
