/* SPF: the examples of RFC 7208's appendices, its macros, its limits, and every way in which a record can be wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/buf.h"
#include "smtpd/spf_private.h"
#include "tests/support/zone_facts.h"

static struct spf_result check_as(const struct dns_zone *zone, const char *ip, const char *helo, const char *from) {
	struct spf_request request = {.helo = helo, .mail_from = from, .hostname = "mx.receiver.example", .now = 1262304000000000};
	struct dns_facts facts = {0};
	struct spf_result result = {0};
	if (*ip)
		assert_int_equal(netaddr_parse(ip, strlen(ip), &request.client), 0);
	unsigned rounds = 0;
	while (spf_check(&request, &facts, &result) == -EAGAIN) {
		assert_true(zone_tell(zone, &facts)); /* waiting for nothing would be for ever */
		assert_true(++rounds < 100);
	}
	dns_facts_fini(&facts);
	return result;
}

/* RFC 7208 appendix A. */
#define EXAMPLE_ZONE                                                                                                     \
	"example.com MX 10 mail-a.example.com\n"                                                                             \
	"example.com MX 20 mail-b.example.com\n"                                                                             \
	"example.com A 192.0.2.10\n"                                                                                         \
	"example.com A 192.0.2.11\n"                                                                                         \
	"amy.example.com A 192.0.2.65\n"                                                                                     \
	"bob.example.com A 192.0.2.66\n"                                                                                     \
	"mail-a.example.com A 192.0.2.129\n"                                                                                 \
	"mail-b.example.com A 192.0.2.130\n"                                                                                 \
	"www.example.com CNAME example.com\n"                                                                                \
	"example.org MX 10 mail-c.example.org\n"                                                                             \
	"mail-c.example.org A 192.0.2.140\n"                                                                                 \
	"65.2.0.192.in-addr.arpa PTR amy.example.com\n"                                                                      \
	"140.2.0.192.in-addr.arpa PTR mail-c.example.org\n"                                                                  \
	"10.0.0.4.in-addr.arpa PTR bob.example.com\n" /* forged: bob is elsewhere */

static void test_appendix_a(void **state) {
	static const struct {
		const char *record, *ip;
		enum spf_verdict verdict;
	} rows[] = {
		{"v=spf1 +all", "203.0.113.1", SPF_PASS},
		{"v=spf1 a -all", "192.0.2.10", SPF_PASS},
		{"v=spf1 a -all", "192.0.2.129", SPF_FAIL},
		{"v=spf1 a:example.org -all", "192.0.2.10", SPF_FAIL},
		{"v=spf1 mx -all", "192.0.2.129", SPF_PASS},
		{"v=spf1 mx -all", "192.0.2.130", SPF_PASS},
		{"v=spf1 mx -all", "192.0.2.140", SPF_FAIL},
		{"v=spf1 mx:example.org -all", "192.0.2.140", SPF_PASS},
		{"v=spf1 mx mx:example.org -all", "192.0.2.140", SPF_PASS},
		{"v=spf1 mx/30 mx:example.org/30 -all", "192.0.2.131", SPF_PASS},
		{"v=spf1 mx/30 mx:example.org/30 -all", "192.0.2.143", SPF_PASS},
		{"v=spf1 mx/30 mx:example.org/30 -all", "192.0.2.144", SPF_FAIL},
		{"v=spf1 ptr -all", "192.0.2.65", SPF_PASS},
		{"v=spf1 ptr -all", "192.0.2.140", SPF_FAIL},
		{"v=spf1 ptr -all", "4.0.0.10", SPF_FAIL},
		{"v=spf1 ip4:192.0.2.128/28 -all", "192.0.2.65", SPF_FAIL},
		{"v=spf1 ip4:192.0.2.128/28 -all", "192.0.2.140", SPF_PASS},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		char zone_text[4096];
		snprintf(zone_text, sizeof(zone_text), EXAMPLE_ZONE "example.com TXT \"%s\"\n", rows[i].record);
		struct dns_zone *zone = zone_of(zone_text);
		struct spf_result r = check_as(zone, rows[i].ip, "mail.example.com", "strong-bad@example.com");
		if (r.verdict != rows[i].verdict)
			fail_msg("%s from %s: %s", rows[i].record, rows[i].ip, spf_verdict_name(r.verdict));
		dns_zone_free(zone);
	}
}

/* One record at example.com, with hosts beside it. */
#define HOSTS                                                     \
	"h.example.com A 192.0.2.1\n"                                 \
	"h.example.com AAAA 2001:db8::1\n"                            \
	"pass.example.com TXT \"v=spf1 ip4:192.0.2.1 -all\"\n"        \
	"soft.example.com TXT \"v=spf1 ~all\"\n"                      \
	"bad.example.com TXT \"v=spf1 foo\"\n"                        \
	"two.example.com TXT \"v=spf1 a\"\n"                          \
	"two.example.com TXT \"v=spf1 -all\"\n"                       \
	"text.example.com TXT \"v=spf10 a\"\n"                        \
	"dns.example.com SERVFAIL\n"                                  \
	"loop.example.com TXT \"v=spf1 include:loop.example.com\"\n"  \
	"mxdns.example.com MX 1 dns.example.com\n"                    \
	"null.example.com MX 0 .\n"                                   \
	"1.2.0.192.in-addr.arpa PTR h.example.com\n"                  \
	"192.0.2.1.x.example.com A 127.0.0.2\n"                       \
	"why.example.com TXT \"%{i} may not send for %{d}, %{s}\"\n"  \
	"two-whys.example.com TXT a\n"                                \
	"two-whys.example.com TXT b\n"                                \
	"bad-why.example.com TXT \"%{x}\"\n"

static void test_records(void **state) {
	static const struct {
		const char *record;
		enum spf_verdict verdict;
		const char *mechanism, *reason, *explanation;
	} rows[] = {
		{"v=spf1", SPF_NEUTRAL, NULL, NULL, ""},
		{"V=SPF1 IP4:192.0.2.0/24 -ALL", SPF_PASS, "ip4", NULL, ""},
		{"v=spf1 ?all", SPF_NEUTRAL, "all", NULL, ""},
		{"v=spf1   ~all   ", SPF_SOFTFAIL, "all", NULL, ""},
		{"v=spf1 ip4:192.0.2.1", SPF_PASS, "ip4", NULL, ""},
		{"v=spf1 ip4:192.0.2.2/31 -all", SPF_FAIL, "all", NULL, ""},
		{"v=spf1 ip4:192.0.2.77/24", SPF_PASS, "ip4", NULL, ""},
		{"v=spf1 ip4:0.0.0.0/0", SPF_PASS, "ip4", NULL, ""},
		{"v=spf1 ip6:2001:db8::/32 -all", SPF_FAIL, "all", NULL, ""},
		{"v=spf1 ip6:::ffff:192.0.2.1 -all", SPF_FAIL, "all", NULL, ""},
		{"v=spf1 a:h.example.com -all", SPF_PASS, "a", NULL, ""},
		{"v=spf1 a:H.Example.Com./24//64 -all", SPF_PASS, "a", NULL, ""},
		{"v=spf1 exists:%{i}.x.example.com -all", SPF_PASS, "exists", NULL, ""},
		{"v=spf1 exists:nobody.example.com -all", SPF_FAIL, "all", NULL, ""},
		{"v=spf1 ptr:example.com -all", SPF_PASS, "ptr", NULL, ""},
		{"v=spf1 a:%{p} -all", SPF_PASS, "a", NULL, ""},
		{"v=spf1 mx:null.example.com -all", SPF_FAIL, "all", NULL, ""},
		/* syntax: anywhere, even behind what would match */
		{"v=spf1 all foo", SPF_PERMERROR, NULL, "syntax", ""},
		{"v=spf1 all:x.com", SPF_PERMERROR, NULL, "syntax", ""},
		{"v=spf1 ip4:192.0.2.1/33", SPF_PERMERROR, NULL, "syntax", ""},
		{"v=spf1 ip4:192.0.2.1/032", SPF_PERMERROR, NULL, "syntax", ""},
		{"v=spf1 ip4:192.0.2", SPF_PERMERROR, NULL, "syntax", ""},
		{"v=spf1 ip4:2001:db8::1", SPF_PERMERROR, NULL, "syntax", ""},
		{"v=spf1 ip4", SPF_PERMERROR, NULL, "syntax", ""},
		{"v=spf1 ip6:192.0.2.1", SPF_PERMERROR, NULL, "syntax", ""},
		{"v=spf1 a:/24", SPF_PERMERROR, NULL, "syntax", ""},
		{"v=spf1 a/24//129", SPF_PERMERROR, NULL, "syntax", ""},
		{"v=spf1 a:example.123", SPF_PERMERROR, NULL, "syntax", ""},
		{"v=spf1 a:%{x}.com", SPF_PERMERROR, NULL, "syntax", ""},
		{"v=spf1 a:%{d", SPF_PERMERROR, NULL, "syntax", ""},
		{"v=spf1 a:%{d0}", SPF_PERMERROR, NULL, "syntax", ""},
		{"v=spf1 a:%{r}", SPF_PERMERROR, NULL, "syntax", ""},
		{"v=spf1 a:%d.com", SPF_PERMERROR, NULL, "syntax", ""},
		{"v=spf1 include", SPF_PERMERROR, NULL, "syntax", ""},
		{"v=spf1 exists:", SPF_PERMERROR, NULL, "syntax", ""},
		{"v=spf1 -", SPF_PERMERROR, NULL, "syntax", ""},
		{"v=spf1 =x", SPF_PERMERROR, NULL, "syntax", ""},
		{"v=spf1 \\233", SPF_PERMERROR, NULL, "syntax", ""},
		{"v=spf1 redirect=a.com redirect=b.com", SPF_PERMERROR, NULL, "syntax", ""},
		{"v=spf1 exp=a.com exp=b.com -all", SPF_PERMERROR, NULL, "syntax", ""},
		{"v=spf1 unknown=%{q} -all", SPF_PERMERROR, NULL, "syntax", ""},
		{"v=spf1 unknown=%{d}/x -all", SPF_FAIL, "all", NULL, ""},
		/* include (5.2) */
		{"v=spf1 include:pass.example.com -all", SPF_PASS, "include", NULL, ""},
		{"v=spf1 include:soft.example.com -all", SPF_FAIL, "all", NULL, ""},
		{"v=spf1 include:bad.example.com -all", SPF_PERMERROR, NULL, "syntax", ""},
		{"v=spf1 include:two.example.com -all", SPF_PERMERROR, NULL, "more than one record", ""},
		{"v=spf1 include:text.example.com -all", SPF_PERMERROR, NULL, "include without a record", ""},
		{"v=spf1 include:dns.example.com -all", SPF_TEMPERROR, NULL, "dns", ""},
		{"v=spf1 include:loop.example.com -all", SPF_PERMERROR, NULL, "too many lookups", ""},
		/* redirect (6.1) */
		{"v=spf1 redirect=soft.example.com", SPF_SOFTFAIL, "all", NULL, ""},
		{"v=spf1 redirect=soft.example.com -all", SPF_FAIL, "all", NULL, ""},
		{"v=spf1 redirect=nobody.example.com", SPF_PERMERROR, NULL, "redirect without a record", ""},
		/* failing answers */
		{"v=spf1 a:dns.example.com -all", SPF_TEMPERROR, NULL, "dns", ""},
		{"v=spf1 mx:mxdns.example.com -all", SPF_TEMPERROR, NULL, "dns", ""},
		{"v=spf1 ip4:192.0.2.1 a:dns.example.com", SPF_PASS, "ip4", NULL, ""},
		/* limits (4.6.4) */
		{"v=spf1 a:h.example.com//1 mx:n1.x.com exists:n2.x.com -all", SPF_PASS, "a", NULL, ""},
		{"v=spf1 a:n1.x.com a:n2.x.com -all", SPF_FAIL, "all", NULL, ""},
		{"v=spf1 a:n1.x.com exists:n2.x.com mx:n3.x.com -all", SPF_PERMERROR, NULL, "too many void lookups", ""},
		{"v=spf1 include:soft.example.com include:soft.example.com include:soft.example.com include:soft.example.com "
		 "include:soft.example.com include:soft.example.com include:soft.example.com include:soft.example.com "
		 "include:soft.example.com a:h.example.com -all",
		 SPF_PASS, "a", NULL, ""},
		{"v=spf1 include:soft.example.com include:soft.example.com include:soft.example.com include:soft.example.com "
		 "include:soft.example.com include:soft.example.com include:soft.example.com include:soft.example.com "
		 "include:soft.example.com include:soft.example.com a:h.example.com -all",
		 SPF_PERMERROR, NULL, "too many lookups", ""},
		/* exp (6.2) */
		{"v=spf1 -all exp=why.example.com", SPF_FAIL, "all", NULL, "192.0.2.1 may not send for example.com, bob@example.com"},
		{"v=spf1 -all exp=two-whys.example.com", SPF_FAIL, "all", NULL, ""},
		{"v=spf1 -all exp=bad-why.example.com", SPF_FAIL, "all", NULL, ""},
		{"v=spf1 -all exp=dns.example.com", SPF_FAIL, "all", NULL, ""},
		{"v=spf1 ~all exp=why.example.com", SPF_SOFTFAIL, "all", NULL, ""},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		char zone_text[8192];
		snprintf(zone_text, sizeof(zone_text), "%sexample.com TXT \"%.200s\" \"%s\"\n", HOSTS, rows[i].record,
		         strlen(rows[i].record) > 200 ? rows[i].record + 200 : "");
		struct dns_zone *zone = zone_of(zone_text);
		struct spf_result r = check_as(zone, "192.0.2.1", "mail.example.net", "bob@example.com");
		bool same = r.verdict == rows[i].verdict && (r.mechanism == NULL) == (rows[i].mechanism == NULL) &&
		            (!r.mechanism || strcmp(r.mechanism, rows[i].mechanism) == 0) && (r.reason == NULL) == (rows[i].reason == NULL) &&
		            (!r.reason || strcmp(r.reason, rows[i].reason) == 0) && strcmp(r.explanation, rows[i].explanation) == 0;
		if (!same)
			fail_msg("%s: %s %s %s \"%s\"", rows[i].record, spf_verdict_name(r.verdict), r.mechanism ? r.mechanism : "-",
			         r.reason ? r.reason : "-", r.explanation);
		dns_zone_free(zone);
	}
}

/* RFC 7208 7.4, with <sender> strong-bad@email.example.com. */
static void test_macros(void **state) {
	static const struct {
		const char *in, *v4, *v6;
	} rows[] = {
		{"%{s}", "strong-bad@email.example.com", NULL},
		{"%{o}", "email.example.com", NULL},
		{"%{d}", "email.example.com", NULL},
		{"%{d4}", "email.example.com", NULL},
		{"%{d3}", "email.example.com", NULL},
		{"%{d2}", "example.com", NULL},
		{"%{d1}", "com", NULL},
		{"%{dr}", "com.example.email", NULL},
		{"%{d2r}", "example.email", NULL},
		{"%{l}", "strong-bad", NULL},
		{"%{l-}", "strong.bad", NULL},
		{"%{lr}", "strong-bad", NULL},
		{"%{lr-}", "bad.strong", NULL},
		{"%{l1r-}", "strong", NULL},
		{"%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com",
		 "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6._spf.example.com"},
		{"%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com", NULL},
		{"%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}", "3.2.0.192.in-addr.strong.lp._spf.example.com", NULL},
		{"%{d2}.trusted-domains.example.net", "example.com.trusted-domains.example.net", NULL},
		{"%%%_%-", "% %20", NULL},
		{"%{S}", "strong-bad%40email.example.com", NULL},
		{"%{c} %{r} %{t} %{p} %{h}", "192.0.2.3 mx.example 1262304000 unknown h.example",
		 "2001:db8::cb01 mx.example 1262304000 unknown h.example"},
	};
	struct spf_request v4 = {.hostname = "mx.example", .now = 1262304000000000}, v6 = v4;
	netaddr_parse("192.0.2.3", 9, &v4.client);
	netaddr_parse("2001:db8::cb01", 14, &v6.client);
	for (size_t i = 0; i < array_len(rows) * 2; i++) {
		const char *in = rows[i / 2].in, *want = i % 2 && rows[i / 2].v6 ? rows[i / 2].v6 : rows[i / 2].v4;
		struct spf_macros m = {i % 2 ? &v6 : &v4, "strong-bad", "email.example.com", "h.example", "email.example.com", NULL};
		if (i % 2 && !rows[i / 2].v6)
			continue;
		struct buf out;
		buf_init(&out, 1000);
		assert_true(spf_macro_valid(slice_str(in), false));
		spf_macro_expand(slice_str(in), &m, &out);
		assert_string_equal(out.data, want);
		buf_fini(&out);
	}
}

/* A name over 253 octets loses labels on the left (7.3). */
static void test_long_expansion(void **state) {
	struct spf_request request = {.hostname = "mx.example"};
	char local[260], name[DNS_NAME_SIZE];
	memset(local, 'a', sizeof(local));
	for (size_t i = 50; i < sizeof(local); i += 51)
		local[i] = '.';
	local[259] = '\0';
	struct spf_macros m = {&request, local, "example.com", "h", "example.com", NULL};
	spf_macro_expand_domain(slice_str("%{l}.%{d}"), &m, name);
	assert_true(strlen(name) <= 253 && strlen(name) > 190);
	assert_string_equal(name + strlen(name) - 12, ".example.com");
	assert_true(name[0] == 'a');
}

static void test_identities(void **state) {
	struct dns_zone *zone = zone_of("example.com TXT \"v=spf1 ip4:192.0.2.1 -all\"\n"
	                                "helo.example.com TXT \"v=spf1 exists:%{l}.%{o}.x.example.com -all\"\n"
	                                "postmaster.helo.example.com.x.example.com A 127.0.0.2\n"
	                                "xn--bcher-kva.example TXT \"v=spf1 +all\"\n"
	                                "silent.example.com TIMEOUT\n");
	static const struct {
		const char *ip, *helo, *from;
		enum spf_verdict verdict;
		const char *domain;
		bool by_helo;
	} rows[] = {
		{"192.0.2.1", "x", "a@example.com", SPF_PASS, "example.com", false},
		{"::ffff:192.0.2.1", "x", "a@Example.COM", SPF_PASS, "example.com", false},
		{"2001:db8::1", "x", "a@example.com", SPF_FAIL, "example.com", false},
		{"192.0.2.1", "helo.example.com", "", SPF_PASS, "helo.example.com", true},
		{"192.0.2.1", "helo.example.com", "@helo.example.com", SPF_PASS, "helo.example.com", false},
		{"192.0.2.1", "localhost", "", SPF_NONE, "", true},
		{"192.0.2.1", "[192.0.2.1]", "", SPF_NONE, "", true},
		{"192.0.2.1", "", "", SPF_NONE, "", true},
		{"192.0.2.1", "x", "a@nobody.example.com", SPF_NONE, "nobody.example.com", false},
		{"192.0.2.1", "x", "a@b..example.com", SPF_NONE, "", false},
		{"192.0.2.1", "x", "a@silent.example.com", SPF_TEMPERROR, "silent.example.com", false},
		{"192.0.2.1", "x", "a@b\xc3\xbc" "cher.example", SPF_PASS, "xn--bcher-kva.example", false},
		{"", "x", "a@example.com", SPF_NONE, "example.com", false},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		struct spf_result r = check_as(zone, rows[i].ip, rows[i].helo, rows[i].from);
		if (r.verdict != rows[i].verdict || strcmp(r.domain, rows[i].domain) != 0 || r.helo != rows[i].by_helo)
			fail_msg("row %zu: %s %s", i, spf_verdict_name(r.verdict), r.domain);
	}
	dns_zone_free(zone);
}

/* Eleven hosts of an mx are an error, ten are not; ptr looks at ten names. */
static void test_host_limits(void **state) {
	char text[8192] = "ten.example.com TXT \"v=spf1 mx -all\"\neleven.example.com TXT \"v=spf1 mx -all\"\n"
					  "ptr.example.com TXT \"v=spf1 ptr:ok.example -all\"\n";
	for (int i = 0; i < 11; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text),
		         "%s.example.com MX 1 h%d.example.com\nh%d.example.com A 192.0.2.%d\n%s"
		         "eleven.example.com MX 1 h%d.example.com\n1.2.0.192.in-addr.arpa PTR %s%d.ok.example\n%s%d.ok.example A 192.0.2.%d\n",
		         i < 10 ? "ten" : "more", i, i, i + 100, "", i, i < 10 ? "no" : "yes", i, i < 10 ? "no" : "yes", i, i < 10 ? 9 : 1);
	struct dns_zone *zone = zone_of(text);
	assert_int_equal(check_as(zone, "192.0.2.109", "x", "a@ten.example.com").verdict, SPF_PASS);
	assert_int_equal(check_as(zone, "192.0.2.109", "x", "a@eleven.example.com").verdict, SPF_PERMERROR);
	assert_int_equal(check_as(zone, "192.0.2.1", "x", "a@ptr.example.com").verdict, SPF_FAIL);
	dns_zone_free(zone);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_appendix_a), cmocka_unit_test(test_records),        cmocka_unit_test(test_macros),
		cmocka_unit_test(test_long_expansion), cmocka_unit_test(test_identities), cmocka_unit_test(test_host_limits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
