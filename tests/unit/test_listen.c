/* listen: an address with options, and what is said of a bad one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "smtpd/listen.h"

static struct listen_settings parse(const char *text) {
	struct listen_settings s;
	char fault[LISTEN_FAULT_SIZE] = "";
	if (listen_parse(text, &s, fault) < 0)
		fail_msg("%s: %s", text, fault);
	return s;
}

static void test_plain(void **state) {
	struct listen_settings s = parse("[::1]:25");
	assert_string_equal(s.address, "[::1]:25");
	assert_int_equal(s.message_size_max, 0);
	assert_true(s.limits && s.starttls);
	assert_false(s.tls || s.require_tls || s.bare_newline_reject);
	assert_int_equal(s.proxy.n, 0);
	listen_fini(&s);
	listen_fini(&s);
}

static void test_all(void **state) {
	struct listen_settings s = parse(
		"*:25;proxy=10.0.0.0/8+2001:db8::/32+192.0.2.7;message_size_max=50M;limits=no;starttls=no;tls;require_tls;"
		"bare_newline=reject");
	struct netaddr in, out;
	assert_string_equal(s.address, "*:25");
	assert_int_equal(s.message_size_max, 50 * 1024 * 1024);
	assert_true(s.tls && s.require_tls && s.bare_newline_reject);
	assert_false(s.limits || s.starttls);
	assert_int_equal(s.proxy.n, 3);
	netaddr_parse("192.0.2.7", 9, &in);
	netaddr_parse("192.0.2.8", 9, &out);
	assert_true(netaddr_nets_have(&s.proxy, &in));
	assert_false(netaddr_nets_have(&s.proxy, &out));
	listen_fini(&s);
}

static void test_said_twice_the_last_wins(void **state) {
	struct listen_settings s = parse("unix:/run/x.sock;limits=no;limits=on;bare_newline=reject;bare_newline=accept");
	assert_string_equal(s.address, "unix:/run/x.sock");
	assert_true(s.limits);
	assert_false(s.bare_newline_reject);
	listen_fini(&s);
}

static const struct {
	const char *text, *fault;
} bad[] = {
	{"*:25;what=1", "unknown option 'what'"},
	{"*:25;", "unknown option ''"},
	{"*:25;;tls", "unknown option ''"},
	{"*:25;TLS", "unknown option 'TLS'"},
	{"*:25;message_size_max=5X", "option message_size_max: want a size"},
	{"*:25;message_size_max", "option message_size_max: want a size"},
	{"*:25;message_size_max=1", "option message_size_max: out of range, want 1K to"},
	{"*:25;limits=maybe", "option limits: want yes or no"},
	{"*:25;proxy", "option proxy: '' is not a network"},
	{"*:25;proxy=10.0.0.0/8+", "option proxy: '' is not a network"},
	{"*:25;proxy=10.0.0.0/8+lb.example", "option proxy: 'lb.example' is not a network"},
	{"*:25;proxy=10.0.0.1/8", "option proxy: '10.0.0.1/8' has bits set behind its prefix"},
	{"*:25;bare_newline", "option bare_newline: want accept or reject"},
	{"*:25;require_tls;starttls=no", "option require_tls: with starttls=no"},
	{"unix:/run/x.sock;proxy=10.0.0.0/8", "option proxy: a Unix socket's clients"},
};

static void test_bad(void **state) {
	for (size_t i = 0; i < array_len(bad); i++) {
		struct listen_settings s;
		char fault[LISTEN_FAULT_SIZE] = "";
		assert_int_equal(listen_parse(bad[i].text, &s, fault), -EINVAL);
		if (strncmp(fault, bad[i].fault, strlen(bad[i].fault)) != 0)
			fail_msg("%s: %s", bad[i].text, fault);
		assert_null(s.address);
		assert_null(s.proxy.v);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_all),
		cmocka_unit_test(test_said_twice_the_last_wins),
		cmocka_unit_test(test_bad),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
