/* http_listen: an address with options, and what is said of a bad one. How options are written is test_listen's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "apid/http_listen.h"

static void test_good(void **state) {
	struct http_listen s;
	char fault[LISTEN_FAULT_SIZE] = "";
	assert_int_equal(http_listen_parse("127.0.0.1:8025", &s, fault), 0);
	assert_string_equal(s.address, "127.0.0.1:8025");
	assert_true(s.limits);
	assert_false(s.tls);
	assert_int_equal(s.proxy.n + s.forwarded.n, 0);
	http_listen_fini(&s);
	assert_int_equal(http_listen_parse("*:443;tls;proxy=10.0.0.0/8;forwarded=192.0.2.7+2001:db8::/32", &s, fault), 0);
	assert_true(s.tls);
	assert_int_equal(s.proxy.n, 1);
	assert_int_equal(s.forwarded.n, 2);
	http_listen_fini(&s);
	assert_int_equal(http_listen_parse("unix:/run/x;forwarded=10.0.0.0/8;limits=no", &s, fault), 0);
	assert_false(s.limits);
	http_listen_fini(&s);
	http_listen_fini(&s);
}

static const struct {
	const char *text, *fault;
} bad[] = {
    {"*:80;starttls", "unknown option 'starttls' (want tls, limits, proxy or forwarded)"},
    {"*:80;", "unknown option ''"},
    {"*:80;tls=maybe", "option tls: want yes or no"},
    {"*:80;forwarded", "option forwarded: '' is not a network"},
    {"*:80;forwarded=10.0.0.1/8", "option forwarded: '10.0.0.1/8' has bits set behind its prefix"},
    {"unix:/run/x;proxy=10.0.0.0/8", "option proxy: a Unix socket's clients"},
};

static void test_bad(void **state) {
	for (size_t i = 0; i < array_len(bad); i++) {
		struct http_listen s;
		char fault[LISTEN_FAULT_SIZE] = "";
		assert_int_equal(http_listen_parse(bad[i].text, &s, fault), -EINVAL);
		if (strncmp(fault, bad[i].fault, strlen(bad[i].fault)) != 0)
			fail_msg("%s: %s", bad[i].text, fault);
		assert_null(s.address);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
