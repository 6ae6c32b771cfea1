/* netaddr: forms of addresses and networks, mapped addresses, prefixes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/netaddr.h"

#include <netinet/in.h>
#include <sys/un.h>

static const struct {
	const char *text;
	const char *shown; /* NULL: refused */
} addresses[] = {
	{"192.0.2.1", "192.0.2.1"},
	{"255.255.255.255", "255.255.255.255"},
	{"2001:db8::1", "2001:db8::1"},
	{"2001:0DB8:0:0:0:0:0:1", "2001:db8::1"},
	{"::ffff:192.0.2.1", "192.0.2.1"},
	{"::ffff:c000:201", "192.0.2.1"},
	{"::192.0.2.1", "::192.0.2.1"},
	{"::", "::"},
	{"", NULL},
	{"192.0.2", NULL},
	{"192.0.2.01", NULL},
	{"0x7f.1", NULL},
	{"2130706433", NULL},
	{"192.0.2.256", NULL},
	{" 192.0.2.1", NULL},
	{"192.0.2.1 ", NULL},
	{"[::1]", NULL},
	{"fe80::1%lo", NULL},
	{"mx.example.org", NULL},
	{"1111:2222:3333:4444:5555:6666:7777:8888:9999", NULL},
	{"1111:2222:3333:4444:5555:6666:123.123.123.1234567890123456", NULL},
};

static struct netaddr address(const char *text) {
	struct netaddr a;
	assert_int_equal(netaddr_parse(text, strlen(text), &a), 0);
	return a;
}

static void test_addresses(void **state) {
	for (size_t i = 0; i < array_len(addresses); i++) {
		struct netaddr a;
		char shown[NETADDR_TEXT_SIZE];
		int r = netaddr_parse(addresses[i].text, strlen(addresses[i].text), &a);
		assert_int_equal(r, addresses[i].shown ? 0 : -EINVAL);
		if (r == 0) {
			netaddr_format(&a, shown);
			assert_string_equal(shown, addresses[i].shown);
		}
	}
	struct netaddr a;
	assert_int_equal(netaddr_parse("1.2.3.4\0", 8, &a), -EINVAL);
}

static void test_of_sockets(void **state) {
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0xc0000201)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	char shown[NETADDR_TEXT_SIZE];
	struct netaddr four = netaddr_of((struct sockaddr *)&in), none = netaddr_of((struct sockaddr *)&un);
	netaddr_format(&four, shown);
	assert_string_equal(shown, "192.0.2.1");
	memcpy(in6.sin6_addr.s6_addr, (const uint8_t[]){0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1}, 16);
	struct netaddr mapped = netaddr_of((struct sockaddr *)&in6);
	assert_true(netaddr_equal(&four, &mapped));
	netaddr_format(&none, shown);
	assert_string_equal(shown, "");
	assert_int_equal(none.family, NETADDR_NONE);
}

static const struct {
	const char *text;
	unsigned bits;
	const char *prefix;
} prefixes[] = {
	{"192.0.2.255", 24, "192.0.2.0"},
	{"192.0.2.255", 32, "192.0.2.255"},
	{"192.0.2.255", 128, "192.0.2.255"},
	{"192.0.2.255", 0, "0.0.0.0"},
	{"192.0.2.255", 25, "192.0.2.128"},
	{"2001:db8:1:2:3:4:5:6", 64, "2001:db8:1:2::"},
	{"2001:db8:1:ffff::1", 56, "2001:db8:1:ff00::"},
	{"2001:db8:1:ffff::1", 48, "2001:db8:1::"},
	{"ffff::", 1, "8000::"},
};

static void test_prefixes(void **state) {
	for (size_t i = 0; i < array_len(prefixes); i++) {
		char shown[NETADDR_TEXT_SIZE];
		struct netaddr a = address(prefixes[i].text), p = netaddr_prefix(&a, prefixes[i].bits);
		netaddr_format(&p, shown);
		assert_string_equal(shown, prefixes[i].prefix);
	}
}

static const struct {
	const char *text;
	int r;
	unsigned bits;
	const char *in, *out;
} nets[] = {
	{"10.0.0.0/8", 0, 8, "10.255.0.1", "11.0.0.0"},
	{"192.0.2.1", 0, 32, "192.0.2.1", "192.0.2.2"},
	{"0.0.0.0/0", 0, 0, "255.1.2.3", "::1"},
	{"::/0", 0, 0, "2001:db8::1", "127.0.0.1"},
	{"2001:db8::/33", 0, 33, "2001:db8:7fff::1", "2001:db8:8000::1"},
	{"::ffff:10.0.0.0/104", 0, 8, "10.1.2.3", "11.1.2.3"},
	{"10.0.0.1/8", -ERANGE, 0, NULL, NULL},
	{"2001:db8::1/64", -ERANGE, 0, NULL, NULL},
	{"10.0.0.0/33", -EINVAL, 0, NULL, NULL},
	{"10.0.0.0/", -EINVAL, 0, NULL, NULL},
	{"10.0.0.0/08", -EINVAL, 0, NULL, NULL},
	{"10.0.0.0/+8", -EINVAL, 0, NULL, NULL},
	{"10.0.0.0/8/8", -EINVAL, 0, NULL, NULL},
	{"::ffff:10.0.0.0/64", -EINVAL, 0, NULL, NULL},
	{"::/129", -EINVAL, 0, NULL, NULL},
	{"/8", -EINVAL, 0, NULL, NULL},
	{"", -EINVAL, 0, NULL, NULL},
};

static void test_nets(void **state) {
	for (size_t i = 0; i < array_len(nets); i++) {
		struct netaddr_nets set = {0};
		int r = netaddr_nets_add(&set, nets[i].text, strlen(nets[i].text));
		if (r != nets[i].r)
			fail_msg("\"%s\": %d", nets[i].text, r);
		assert_int_equal(set.n, r == 0);
		if (r == 0) {
			struct netaddr in = address(nets[i].in), out = address(nets[i].out), none = {0};
			assert_int_equal(set.v[0].bits, nets[i].bits);
			assert_true(netaddr_nets_have(&set, &in));
			assert_false(netaddr_nets_have(&set, &out));
			assert_false(netaddr_nets_have(&set, &none));
		}
		netaddr_nets_fini(&set);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses), cmocka_unit_test(test_of_sockets), cmocka_unit_test(test_prefixes),
		cmocka_unit_test(test_nets),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
