/* Mailbox syntax (RFC 5321 4.1.2, 4.1.3; RFC 6531 3.3) and the canonical form. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include "common/address.h"
#include "common/netaddr.h"

#include <arpa/inet.h>

#define X16 "xxxxxxxxxxxxxxxx"
#define X64 X16 X16 X16 X16
#define X63 X16 X16 X16 "xxxxxxxxxxxxxxx"

struct row {
	const char *name, *in;
	bool utf8;
	enum address_result result;
	enum address_kind kind;
	const char *raw, *local, *domain, *canonical;
};

static const struct row rows[] = {
	{"plain", "user@example.org", false, ADDRESS_OK, ADDRESS_DOMAIN,
	 "user@example.org", "user", "example.org", "user@example.org"},
	{"case: local kept, compared blind", "UsEr@EXAMPLE.Org", false, ADDRESS_OK, ADDRESS_DOMAIN,
	 "UsEr@EXAMPLE.Org", "UsEr",
	 "example.org", "user@example.org"},
	{"detail is cut", "user+tag@example.org", false, ADDRESS_OK, ADDRESS_DOMAIN,
	 "user+tag@example.org", "user+tag", "example.org",
	 "user@example.org"},
	{"detail is cut at the first plus", "u+a+b@d", false, ADDRESS_OK, ADDRESS_DOMAIN, "u+a+b@d", "u+a+b", "d", "u@d"},
	{"an empty detail", "u+@d", false, ADDRESS_OK, ADDRESS_DOMAIN, "u+@d", "u+", "d", "u@d"},
	{"a leading plus is a name", "+u@d", false, ADDRESS_OK, ADDRESS_DOMAIN, "+u@d", "+u", "d", "+u@d"},
	{"every atext", "!#$%&'*-/=?^_`{|}~.a@d", false, ADDRESS_OK, ADDRESS_DOMAIN,
	 "!#$%&'*-/=?^_`{|}~.a@d", "!#$%&'*-/=?^_`{|}~.a",
	 "d", "!#$%&'*-/=?^_`{|}~.a@d"},
	{"null", "", false, ADDRESS_OK, ADDRESS_NULL, "", "", "", ""},
	{"a quoted word is the word (4.1.2)", "\"ab\"@d", false, ADDRESS_OK, ADDRESS_DOMAIN, "\"ab\"@d", "ab", "d", "ab@d"},
	{"quoted blank, at, bracket", "\"a @>\"@d", false, ADDRESS_OK, ADDRESS_DOMAIN, "\"a @>\"@d", "a @>", "d", "a @>@d"},
	{"quoted pairs", "\"a\\\"b\\\\\\c\"@d", false, ADDRESS_OK, ADDRESS_DOMAIN,
	 "\"a\\\"b\\\\\\c\"@d", "a\"b\\c", "d", "a\"b\\c@d"},
	{"a quoted detail is a detail", "\"a+b\"@d", false, ADDRESS_OK, ADDRESS_DOMAIN, "\"a+b\"@d", "a+b", "d", "a@d"},
	{"an empty quoted string", "\"\"@d", false, ADDRESS_OK, ADDRESS_DOMAIN, "\"\"@d", "", "d", "@d"},
	{"a source route is dropped", "@a.example,@b:u@d", false, ADDRESS_OK, ADDRESS_DOMAIN, "u@d", "u", "d", "u@d"},
	{"a trailing dot", "u@example.org.", false, ADDRESS_OK, ADDRESS_DOMAIN,
	 "u@example.org.", "u", "example.org", "u@example.org"},
	{"an underscore in a host", "u@my_host.example", false, ADDRESS_OK, ADDRESS_DOMAIN, "u@my_host.example", "u",
	 "my_host.example", "u@my_host.example"},
	{"digits", "1@2.3", false, ADDRESS_OK, ADDRESS_DOMAIN, "1@2.3", "1", "2.3", "1@2.3"},
	{"local of 64", X64 "@d", false, ADDRESS_OK, ADDRESS_DOMAIN, X64 "@d", X64, "d", X64 "@d"},
	{"label of 63", "u@" X63, false, ADDRESS_OK, ADDRESS_DOMAIN, "u@" X63, "u", X63, "u@" X63},
	{"IPv4", "u@[192.0.2.1]", false, ADDRESS_OK, ADDRESS_LITERAL, "u@[192.0.2.1]", "u", "[192.0.2.1]", ""},
	{"IPv6 in one spelling", "u@[ipv6:2001:DB8:0:0::1]", false, ADDRESS_OK, ADDRESS_LITERAL,
	 "u@[ipv6:2001:DB8:0:0::1]", "u",
	 "[IPv6:2001:db8::1]", ""},
	{"U-labels", "u@b\303\274cher.example", true, ADDRESS_OK, ADDRESS_DOMAIN, "u@b\303\274cher.example", "u",
	 "xn--bcher-kva.example", "u@xn--bcher-kva.example"},
	{"A-labels", "u@XN--bcher-KVA.example", false, ADDRESS_OK, ADDRESS_DOMAIN, "u@XN--bcher-KVA.example", "u",
	 "xn--bcher-kva.example", "u@xn--bcher-kva.example"},
	{"a U-label in capitals", "u@B\303\234CHER.example", true, ADDRESS_OK, ADDRESS_DOMAIN,
	 "u@B\303\234CHER.example", "u",
	 "xn--bcher-kva.example", "u@xn--bcher-kva.example"},
	{"local parts compare after NFC", "e\314\201@d", true, ADDRESS_OK, ADDRESS_DOMAIN,
	 "e\314\201@d", "e\314\201", "d", "\303\251@d"},
	{"no Unicode case folding", "\303\211@d", true, ADDRESS_OK, ADDRESS_DOMAIN,
	 "\303\211@d", "\303\211", "d", "\303\211@d"},

	{"no at", "user", false, ADDRESS_BAD_SYNTAX},
	{"no local part", "@d", false, ADDRESS_BAD_SYNTAX},
	{"no domain", "u@", false, ADDRESS_BAD_SYNTAX},
	{"two ats", "a@b@c", false, ADDRESS_BAD_SYNTAX},
	{"double dot", "a..b@c", false, ADDRESS_BAD_SYNTAX},
	{"leading dot", ".a@c", false, ADDRESS_BAD_SYNTAX},
	{"trailing dot in the local part", "a.@c", false, ADDRESS_BAD_SYNTAX},
	{"blank", "a b@c", false, ADDRESS_BAD_SYNTAX},
	{"angle bracket", "a<b@c", false, ADDRESS_BAD_SYNTAX},
	{"control character", "a\001@c", false, ADDRESS_BAD_SYNTAX},
	{"control character, quoted", "\"a\001\"@c", false, ADDRESS_BAD_SYNTAX},
	{"control character, quoted pair", "\"a\\\001\"@c", false, ADDRESS_BAD_SYNTAX},
	{"DEL, quoted", "\"a\177\"@c", false, ADDRESS_BAD_SYNTAX},
	{"open quote", "\"ab@c", false, ADDRESS_BAD_SYNTAX},
	{"open quoted pair", "\"ab\\", false, ADDRESS_BAD_SYNTAX},
	{"text behind a quote", "\"ab\"c@d", false, ADDRESS_BAD_SYNTAX},
	{"empty label", "u@a..b", false, ADDRESS_BAD_SYNTAX},
	{"only a dot", "u@.", false, ADDRESS_BAD_SYNTAX},
	{"two trailing dots", "u@a..", false, ADDRESS_BAD_SYNTAX},
	{"leading hyphen", "u@-a.b", false, ADDRESS_BAD_SYNTAX},
	{"trailing hyphen", "u@a-.b", false, ADDRESS_BAD_SYNTAX},
	{"label of 64", "u@" X64, false, ADDRESS_BAD_SYNTAX},
	{"bad octet in the domain", "u@a!b", false, ADDRESS_BAD_SYNTAX},
	{"literal, unknown tag", "u@[X-foo:1]", false, ADDRESS_BAD_SYNTAX},
	{"literal, not closed", "u@[192.0.2.1", false, ADDRESS_BAD_SYNTAX},
	{"literal, empty", "u@[]", false, ADDRESS_BAD_SYNTAX},
	{"literal, text behind", "u@[192.0.2.1]x", false, ADDRESS_BAD_SYNTAX},
	{"literal, out of range", "u@[192.0.2.256]", false, ADDRESS_BAD_SYNTAX},
	{"literal, short", "u@[192.0.2]", false, ADDRESS_BAD_SYNTAX},
	{"literal, IPv6 without its tag", "u@[::1]", false, ADDRESS_BAD_SYNTAX},
	{"route without a colon", "@a,u@d", false, ADDRESS_BAD_SYNTAX},
	{"route without an at", "@a,b:u@d", false, ADDRESS_BAD_SYNTAX},
	{"route, empty element", "@a,:u@d", false, ADDRESS_BAD_SYNTAX},
	{"route to nothing", "@a:", false, ADDRESS_BAD_SYNTAX},
	{"route to a word", "@a:Postmaster", false, ADDRESS_BAD_SYNTAX},
	{"Postmaster where it is not allowed", "Postmaster", false, ADDRESS_BAD_SYNTAX},
	{"local of 65", X64 "x@d", false, ADDRESS_TOO_LONG},
	{"quoted local of 65", "\"" X64 "x\"@d", false, ADDRESS_TOO_LONG},
	{"path of 257", "u@" X63 "." X63 "." X63 "." X63, false, ADDRESS_TOO_LONG},
	{"non-ASCII local part", "\303\251@d", false, ADDRESS_NON_ASCII},
	{"non-ASCII domain", "u@\303\251.example", false, ADDRESS_NON_ASCII},
	{"invalid UTF-8", "\377@d", true, ADDRESS_BAD_SYNTAX},
	{"overlong UTF-8", "\300\257@d", true, ADDRESS_BAD_SYNTAX},
	{"surrogate", "\355\240\200@d", true, ADDRESS_BAD_SYNTAX},
	{"C1 control", "a\302\205@d", true, ADDRESS_BAD_SYNTAX},
	{"emoji domain", "u@\360\237\230\200.example", true, ADDRESS_BAD_IDNA},
	{"a character that maps to a slash", "u@\342\204\200.example", true, ADDRESS_BAD_IDNA},
};

static void test_parse(void **state) {
	for (size_t i = 0; i < array_len(rows); i++) {
		const struct row *r = &rows[i];
		struct address a;
		memset(&a, 0x55, sizeof(a));
		/* A copy of the exact length, so that a sanitizer sees a read past it. */
		size_t n = strlen(r->in);
		char *in = malloc(n ? n : 1);
		memcpy(in, r->in, n);
		enum address_result result = address_parse(in, n, r->utf8, false, &a);
		free(in);
		if (result != r->result)
			fail_msg("%s: %d", r->name, result);
		if (result != ADDRESS_OK) {
			assert_int_equal(a.raw[0], 0x55);
			continue;
		}
		if (a.kind != r->kind || strcmp(a.raw, r->raw) || strcmp(a.local, r->local) || strcmp(a.domain, r->domain) ||
		    strcmp(a.canonical, r->canonical))
			fail_msg("%s: kind %d raw %s local %s domain %s canonical %s", r->name, a.kind, a.raw, a.local, a.domain,
			         a.canonical);
		bool high = false;
		for (const char *c = r->raw; *c; c++)
			high |= (unsigned char)*c >= 0x80;
		assert_int_equal(a.utf8, high);
	}
}

/* An A-label that is none cannot be ours; a sender may have it. */
static void test_false_a_label(void **state) {
	static const char *const in[] = {"u@xn--0.example", "u@XN--0.example", "u@mail.xn--i-7iq.example"};
	struct address a;
	for (size_t i = 0; i < array_len(in); i++) {
		assert_int_equal(address_parse(in[i], strlen(in[i]), false, true, &a), ADDRESS_BAD_IDNA);
		assert_int_equal(address_parse(in[i], strlen(in[i]), false, false, &a), ADDRESS_OK);
	}
	static const char good[] = "u@XN--Bcher-KVA.example", no_prefix[] = "u@axn--0.example";
	assert_int_equal(address_parse(good, strlen(good), false, true, &a), ADDRESS_OK);
	assert_string_equal(a.canonical, "u@xn--bcher-kva.example");
	assert_int_equal(address_parse(no_prefix, strlen(no_prefix), false, true, &a), ADDRESS_OK);
}

static void test_format_literal(void **state) {
	static const struct {
		int family;
		const char *in, *out;
	} rows_of_sockets[] = {
		{AF_INET, "192.0.2.1", "[192.0.2.1]"},
		{AF_INET6, "2001:db8::1", "[IPv6:2001:db8::1]"},
		{AF_INET6, "::ffff:192.0.2.1", "[192.0.2.1]"},
		{AF_INET6, "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", "[IPv6:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]"},
	};
	char text[ADDRESS_LITERAL_SIZE];
	for (size_t i = 0; i < array_len(rows_of_sockets); i++) {
		struct sockaddr_storage s = {.ss_family = (sa_family_t)rows_of_sockets[i].family};
		void *at = s.ss_family == AF_INET ? (void *)&((struct sockaddr_in *)&s)->sin_addr : (void *)&((struct sockaddr_in6 *)&s)->sin6_addr;
		assert_int_equal(inet_pton(rows_of_sockets[i].family, rows_of_sockets[i].in, at), 1);
		const struct netaddr address = netaddr_of((const struct sockaddr *)&s);
		address_format_literal(&address, text);
		assert_string_equal(text, rows_of_sockets[i].out);
	}
	address_format_literal(&(struct netaddr){.family = NETADDR_NONE}, text);
	assert_string_equal(text, "");
}

static void test_role(void **state) {
	static const struct {
		const char *in;
		bool role;
	} recipients[] = {
		{"Postmaster", true},         {"POSTMASTER@a.example", true},  {"abuse+x@a.example", true}, {"\"abuse\"@a.example", true},
		{"postmasters@a.example", false}, {"u@postmaster.example", false}, {"abuse@[192.0.2.1]", false},
		{"hostmaster@a.example", false},
	};
	struct address a;
	for (size_t i = 0; i < array_len(recipients); i++) {
		assert_int_equal(address_parse(recipients[i].in, strlen(recipients[i].in), false, true, &a), ADDRESS_OK);
		assert_int_equal(address_is_role(&a), recipients[i].role);
	}
	assert_int_equal(address_parse("", 0, false, false, &a), ADDRESS_OK);
	assert_false(address_is_role(&a));
}

static void test_nul(void **state) {
	struct address a;
	assert_int_equal(address_parse("a\0b@c", 5, false, false, &a), ADDRESS_BAD_SYNTAX);
	assert_int_equal(address_parse("\"a\0b\"@c", 7, false, false, &a), ADDRESS_BAD_SYNTAX);
	assert_int_equal(address_parse("a@b\0c", 5, false, false, &a), ADDRESS_BAD_SYNTAX);
	assert_int_equal(address_parse("a@[1.2.3.4\0]", 12, false, false, &a), ADDRESS_BAD_SYNTAX);
}

/* RFC 5321 4.5.1 */
static void test_postmaster(void **state) {
	static const char *const yes[] = {"Postmaster", "postmaster", "POSTMASTER", "\"postmaster\""};
	struct address a;
	for (size_t i = 0; i < array_len(yes); i++) {
		assert_int_equal(address_parse(yes[i], strlen(yes[i]), false, true, &a), ADDRESS_OK);
		assert_int_equal(a.kind, ADDRESS_POSTMASTER);
		assert_string_equal(a.raw, yes[i]);
		assert_string_equal(a.canonical, "postmaster");
		assert_string_equal(a.domain, "");
	}
	assert_int_equal(address_parse("postmaster+x", 12, false, true, &a), ADDRESS_BAD_SYNTAX);
	assert_int_equal(address_parse("abuse", 5, false, true, &a), ADDRESS_BAD_SYNTAX);
	assert_int_equal(address_parse("Postmaster@d", 12, false, true, &a), ADDRESS_OK);
	assert_int_equal(a.kind, ADDRESS_DOMAIN);
}

/* A composed form longer than what was written must not pass the limit of a local part. */
static void test_nfc_growth(void **state) {
	char in[80] = "";
	struct address a;
	for (int i = 0; i < 16; i++)
		strcat(in, "\360\235\205\240"); /* U+1D160: 4 octets, 12 after NFC */
	strcat(in, "@d");
	assert_int_equal(address_parse(in, strlen(in), true, false, &a), ADDRESS_TOO_LONG);
	in[4] = '\0';
	strcat(in, "@d");
	assert_int_equal(address_parse(in, strlen(in), true, false, &a), ADDRESS_OK);
	assert_int_equal(strlen(a.canonical), 14);
}

static void test_domain(void **state) {
	static const struct {
		const char *in, *out;   /* NULL: no name */
	} names[] = {
		{"Example.ORG", "example.org"},
		{"localhost", "localhost"},
		{"example.org.", "example.org"},
		{"b\303\274cher.example", "xn--bcher-kva.example"},
		{"xn--bcher-kva.example", "xn--bcher-kva.example"},
		{"a-b.c1", "a-b.c1"},
		/* one domain, whichever form it is written in (RFC 5890 2.3.2.1), IDNA2008 and not transitional */
		{"XN--BCHER-KVA.Example", "xn--bcher-kva.example"},
		{"fa\303\237.example", "xn--fa-hia.example"},
		{"xn--fa-hia.example", "xn--fa-hia.example"},
		{"a\314\210.example", "xn--4ca.example"},
		{"b\303\274cher\343\200\202example", "xn--bcher-kva.example"},
		{"xn--0.example", NULL},
		{"xn--a.example", NULL},
		{"xn--.example", NULL},
		{"mail.xn--i-7iq.example", NULL},
		{"a\342\200\215b.example", NULL},
		{"\327\2201a.example", NULL},
		{"", NULL},
		{".", NULL},
		{".org", NULL},
		{"a..b", NULL},
		{"a_b.example", NULL},
		{"-a.example", NULL},
		{"a b.example", NULL},
		{"192.0.2.1", NULL},
		{"example.123", NULL},
		{"[192.0.2.1]", NULL},
		{"*.example.org", NULL},
		{"example.org\n", NULL},
		{"\377.example", NULL},
		{"\360\237\230\200.example", NULL},
		{X64 ".example", NULL},
	};
	for (size_t i = 0; i < array_len(names); i++) {
		char ret[ADDRESS_DOMAIN_MAX + 1] = "untouched";
		int r = address_canonical_domain(names[i].in, strlen(names[i].in), ret);
		if (r != (names[i].out ? 0 : -EINVAL) || strcmp(ret, names[i].out ? names[i].out : "untouched") != 0)
			fail_msg("%s: %d %s", names[i].in, r, ret);
	}
}

static void test_alias(void **state) {
	static const struct {
		const char *in, *out;
	} names[] = {
		{"Alias", "alias"},
		{"a.b-c_d", "a.b-c_d"},
		{X64, X64},
		{"", NULL},
		{X64 "x", NULL},
		{"a+b", NULL},
		{"a..b", NULL},
		{".a", NULL},
		{"a.", NULL},
		{"a b", NULL},
		{"a@b", NULL},
		{"\"a\"", NULL},
		{"\303\251", NULL},
		{"a\n", NULL},
	};
	for (size_t i = 0; i < array_len(names); i++) {
		char ret[ADDRESS_LOCAL_MAX + 1] = "untouched";
		int r = address_canonical_alias(names[i].in, strlen(names[i].in), ret);
		if (r != (names[i].out ? 0 : -EINVAL) || strcmp(ret, names[i].out ? names[i].out : "untouched") != 0)
			fail_msg("%s: %d %s", names[i].in, r, ret);
	}
	assert_true(address_alias_reserved("postmaster"));
	assert_true(address_alias_reserved("abuse"));
	assert_true(address_alias_reserved("mailer-daemon"));
	assert_false(address_alias_reserved("postmaster2"));
	assert_false(address_alias_reserved(""));
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_role), cmocka_unit_test(test_false_a_label), cmocka_unit_test(test_format_literal),
		cmocka_unit_test(test_parse),      cmocka_unit_test(test_nul),    cmocka_unit_test(test_postmaster),
		cmocka_unit_test(test_nfc_growth), cmocka_unit_test(test_domain), cmocka_unit_test(test_alias),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
