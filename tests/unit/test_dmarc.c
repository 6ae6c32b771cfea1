/* DMARC (RFC 9989): records, the author, the tree walk, alignment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "smtpd/dmarc.h"
#include "tests/support/zone_facts.h"

#define NONE DMARC_POLICY_NONE
#define QUAR DMARC_POLICY_QUARANTINE
#define REJ DMARC_POLICY_REJECT

static void test_records(void **state) {
	static const struct {
		const char *text;
		bool is, effective;
		enum dmarc_policy p, sp, np;
	} rows[] = {
		{"v=DMARC1; p=reject", true, true, REJ, REJ, REJ},
		{"v=DMARC1;p=Quarantine;sp=none;", true, true, QUAR, NONE, NONE},
		{"v=DMARC1; p=none; np=reject", true, true, NONE, NONE, REJ},
		{" v = DMARC1 ; p = reject ; x=y; pct=0; rf=afrf; junk ;;", true, true, REJ, REJ, REJ},
		{"v=DMARC1; p=reject; p=none", true, true, REJ, REJ, REJ},
		{"v=DMARC1", true, false, NONE, NONE, NONE},
		{"v=DMARC1; p=bad", true, false, NONE, NONE, NONE},
		{"v=DMARC1; p=bad; rua=mailto:x@example.org", true, true, NONE, NONE, NONE},
		{"v=DMARC1; p=reject; sp=bad", true, false, NONE, NONE, NONE},
		{"v=DMARC1; p=reject; np=bad; rua=mailto:x@example.org", true, true, NONE, NONE, NONE},
		{"v=dmarc1; p=reject", false, false, NONE, NONE, NONE},
		{"p=reject; v=DMARC1", false, false, NONE, NONE, NONE},
		{"v=DMARC12; p=reject", false, false, NONE, NONE, NONE},
		{"", false, false, NONE, NONE, NONE},
	};
	struct dmarc_record r;
	for (size_t i = 0; i < array_len(rows); i++) {
		bool is = dmarc_record_parse(slice_str(rows[i].text), &r);
		assert_int_equal(is, rows[i].is);
		if (is && (r.effective != rows[i].effective || r.policy != rows[i].p || r.sub_policy != rows[i].sp || r.np_policy != rows[i].np))
			fail_msg("%s", rows[i].text);
	}
	assert_true(dmarc_record_parse(slice_str("v=DMARC1; p=none; adkim=s; aspf=S; t=y; psd=n"), &r));
	assert_true(r.strict_dkim && r.strict_spf && r.testing && r.psd == DMARC_PSD_NO);
	assert_true(dmarc_record_parse(slice_str("v=DMARC1; p=none; adkim=r; aspf=x; t=n; psd=u"), &r));
	assert_true(!r.strict_dkim && !r.strict_spf && !r.testing && r.psd == DMARC_PSD_UNKNOWN);
}

static void test_authors(void **state) {
	static const struct {
		const char *header;
		enum dmarc_author author;
		const char *domain;
	} rows[] = {
		{"From: a@Example.ORG\r\n", DMARC_AUTHOR_ONE, "example.org"},
		{"FROM : <a@example.org>\r\n", DMARC_AUTHOR_ONE, "example.org"},
		{"From: \"x@evil.example\" <a@example.org>\r\n", DMARC_AUTHOR_ONE, "example.org"},
		{"From: x@evil.example <a@example.org>\r\n", DMARC_AUTHOR_ONE, "example.org"},
		{"From: A (c@evil.example (nested \\) ) ) <a@example.org> (d@evil.example)\r\n", DMARC_AUTHOR_ONE, "example.org"},
		{"From: a@example.org (me)\r\n", DMARC_AUTHOR_ONE, "example.org"},
		{"From: <@r.example,@s.example:a@example.org>\r\n", DMARC_AUTHOR_ONE, "example.org"},
		{"From: \"a@b\"@example.org\r\n", DMARC_AUTHOR_ONE, "example.org"},
		{"From: A\r\n <a@example.org>\r\n", DMARC_AUTHOR_ONE, "example.org"},
		{"From: a@example.org,\r\n b@EXAMPLE.org\r\n", DMARC_AUTHOR_ONE, "example.org"},
		{"From: team: a@example.org, b@example.org;\r\n", DMARC_AUTHOR_ONE, "example.org"},
		{"From: a@b\xc3\xbc" "cher.example\r\n", DMARC_AUTHOR_ONE, "xn--bcher-kva.example"},
		{"From: a@[IPv6:2001:db8::1]\r\n", DMARC_AUTHOR_ONE, "[ipv6:2001:db8::1]"},
		{"From: \"A\" <a@example.net>:<b@example.org>\r\n", DMARC_AUTHOR_ONE, "example.org"},
		{"From: <a@example.org> b@example.net\r\n", DMARC_AUTHOR_SEVERAL, ""},
		{"From: a@example.org, b@example.net\r\n", DMARC_AUTHOR_SEVERAL, ""},
		{"From: a@example.org\r\nFrom: a@example.org\r\n", DMARC_AUTHOR_SEVERAL, ""},
		{"From: a@example..org\r\n", DMARC_AUTHOR_SEVERAL, ""},
		{"From: a@.\r\n", DMARC_AUTHOR_SEVERAL, ""},
		{"From: a@example.org, b@x..y\r\n", DMARC_AUTHOR_SEVERAL, ""},
		{"From: nobody\r\n", DMARC_AUTHOR_NONE, ""},
		{"From:\r\n", DMARC_AUTHOR_NONE, ""},
		{"From: \"open\r\n", DMARC_AUTHOR_NONE, ""},
		{"To: a@example.org\r\n", DMARC_AUTHOR_NONE, ""},
		{"", DMARC_AUTHOR_NONE, ""},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		struct header_block b;
		char domain[DNS_NAME_SIZE];
		header_block_parse(slice_str(rows[i].header), &b);
		enum dmarc_author author = dmarc_author_domain(&b, domain);
		if (author != rows[i].author || strcmp(domain, rows[i].domain) != 0)
			fail_msg("%s: %d %s", rows[i].header, author, domain);
		header_block_fini(&b);
	}
}

static void test_author_is(void **state) {
	assert_true(dmarc_author_is("a@Example.ORG", "example.org"));
	assert_true(dmarc_author_is("a@b\xc3\xbc" "cher.example", "xn--bcher-kva.example"));
	assert_true(dmarc_author_is("\"a@example.net\"@example.org", "example.org"));
	assert_false(dmarc_author_is("a@example.net", "example.org"));
	assert_false(dmarc_author_is("", "example.org"));
	assert_false(dmarc_author_is("a@b..c", "example.org"));
}

static const char ZONE[] =
	"_dmarc.example.com TXT \"v=DMARC1; p=reject; sp=quarantine; np=reject\"\n"
	"example.com A 192.0.2.1\n"
	"www.example.com A 192.0.2.1\n"
	"_dmarc.strict.example TXT \"v=DMARC1; p=reject; adkim=s; aspf=s\"\n"
	"_dmarc.test.example TXT \"v=DMARC1; p=reject; t=y\"\n"
	"_dmarc.two.example TXT \"v=DMARC1; p=reject\"\n"
	"_dmarc.two.example TXT \"v=DMARC1; p=none\"\n"
	"_dmarc.text.example TXT \"hello\"\n"
	"_dmarc.idle.example TXT \"v=DMARC1\"\n"
	"_dmarc.suffix.example TXT \"v=DMARC1; p=none; sp=quarantine; psd=y\"\n"
	"_dmarc.own.suffix.example TXT \"v=DMARC1; p=reject\"\n"
	"_dmarc.unit.example.com TXT \"v=DMARC1; p=none; psd=n\"\n"
	"_dmarc.dead.example TIMEOUT\n"
	"_dmarc.c.d.e.f.g.h.deep.example TXT \"v=DMARC1; p=reject\"\n"
	"_dmarc.d.e.f.g.h.deep.example TXT \"v=DMARC1; p=quarantine\"\n";

static void test_checks(void **state) {
	static const struct {
		const char *author, *spf, *signer;
		enum dmarc_verdict verdict;
		enum dmarc_policy policy;
		const char *record, *organizational;
		bool spf_aligned, dkim_aligned;
	} rows[] = {
		{"example.com", "example.com", NULL, DMARC_PASS, REJ, "example.com", "example.com", true, false},
		{"example.com", NULL, "example.com", DMARC_PASS, REJ, "example.com", "example.com", false, true},
		{"example.com", "bounce.example.com", "mail.example.com", DMARC_PASS, REJ, "example.com", "example.com", true, true},
		{"example.com", "example.net", "badexample.com", DMARC_FAIL, REJ, "example.com", "example.com", false, false},
		{"example.com", NULL, NULL, DMARC_FAIL, REJ, "example.com", "example.com", false, false},
		{"www.example.com", NULL, "example.com", DMARC_PASS, QUAR, "example.com", "example.com", false, true},
		{"nobody.example.com", NULL, NULL, DMARC_FAIL, REJ, "example.com", "example.com", false, false},
		{"strict.example", "a.strict.example", "a.strict.example", DMARC_FAIL, REJ, "strict.example", "strict.example", false, false},
		{"strict.example", NULL, "strict.example", DMARC_PASS, REJ, "strict.example", "strict.example", false, true},
		{"test.example", NULL, NULL, DMARC_FAIL, QUAR, "test.example", "test.example", false, false},
		{"two.example", "two.example", NULL, DMARC_NONE, NONE, "", "two.example", false, false},
		{"text.example", NULL, NULL, DMARC_NONE, NONE, "", "text.example", false, false},
		{"idle.example", NULL, NULL, DMARC_NONE, NONE, "", "idle.example", false, false},
		{"nothing.example", "nothing.example", NULL, DMARC_NONE, NONE, "", "nothing.example", false, false},
		/* psd=y: the organisational domain is one below; the suffix's policy counts where there is no nearer one */
		{"a.b.suffix.example", NULL, "c.b.suffix.example", DMARC_PASS, QUAR, "suffix.example", "b.suffix.example", false, true},
		{"a.b.suffix.example", NULL, "c.suffix.example", DMARC_FAIL, QUAR, "suffix.example", "b.suffix.example", false, false},
		{"own.suffix.example", NULL, "x.own.suffix.example", DMARC_PASS, REJ, "own.suffix.example", "own.suffix.example", false, true},
		{"suffix.example", NULL, NULL, DMARC_FAIL, NONE, "suffix.example", "suffix.example", false, false},
		/* psd=n: an organisation of its own below another */
		{"x.unit.example.com", NULL, "example.com", DMARC_FAIL, NONE, "unit.example.com", "unit.example.com", false, false},
		{"www.example.com", NULL, "x.unit.example.com", DMARC_FAIL, QUAR, "example.com", "example.com", false, false},
		{"x.unit.example.com", NULL, "y.unit.example.com", DMARC_PASS, NONE, "unit.example.com", "unit.example.com", false, true},
		{"dead.example", NULL, NULL, DMARC_TEMPERROR, NONE, "", "", false, false},
		/* ten labels: after the name itself only the last seven are asked, so c.d.… is not seen */
		{"a.b.c.d.e.f.g.h.deep.example", NULL, NULL, DMARC_FAIL, QUAR, "d.e.f.g.h.deep.example", "d.e.f.g.h.deep.example", false, false},
		{"b.c.d.e.f.g.h.deep.example", NULL, "x.d.e.f.g.h.deep.example", DMARC_PASS, QUAR, "d.e.f.g.h.deep.example",
		 "d.e.f.g.h.deep.example", false, true},
	};
	struct dns_zone *zone = zone_of(ZONE);
	for (size_t i = 0; i < array_len(rows); i++) {
		struct dmarc_request q = {.domain = rows[i].author, .spf_domain = rows[i].spf};
		struct dns_facts facts = {0};
		struct dmarc_result r;
		if (rows[i].signer)
			q.signers[q.signer_count++] = rows[i].signer;
		while (dmarc_check(&q, &facts, &r) == -EAGAIN)
			assert_true(zone_tell(zone, &facts));
		assert_true(facts.count <= 8 * 3 + 1);
		if (r.verdict != rows[i].verdict || r.policy != rows[i].policy || strcmp(r.record_domain, rows[i].record) != 0 ||
		    strcmp(r.organizational_domain, rows[i].organizational) != 0 || r.spf_aligned != rows[i].spf_aligned ||
		    r.dkim_aligned != rows[i].dkim_aligned)
			fail_msg("row %zu: %s %s record %s org %s %d %d", i, dmarc_verdict_name(r.verdict), dmarc_policy_name(r.policy),
			         r.record_domain, r.organizational_domain, r.spf_aligned, r.dkim_aligned);
		dns_facts_fini(&facts);
	}
	dns_zone_free(zone);
}

static void test_without_author(void **state) {
	struct dns_facts facts = {0};
	struct dmarc_request q = {.author = DMARC_AUTHOR_SEVERAL, .domain = "", .spf_domain = "example.com"};
	struct dmarc_result r;
	assert_int_equal(dmarc_check(&q, &facts, &r), 0);
	assert_int_equal(r.verdict, DMARC_FAIL);
	assert_string_equal(r.reason, "several author domains");
	q.author = DMARC_AUTHOR_NONE;
	assert_int_equal(dmarc_check(&q, &facts, &r), 0);
	assert_string_equal(r.reason, "no author domain");
	assert_int_equal(facts.count, 0);
}

/* What failed for now could have aligned, so the failure is not for ever. */
static void test_temporary(void **state) {
	struct dns_zone *zone = zone_of(ZONE);
	struct dns_facts facts = {0};
	struct dmarc_request q = {.domain = "example.com", .dkim_temporary = true};
	struct dmarc_result r;
	while (dmarc_check(&q, &facts, &r) == -EAGAIN)
		zone_tell(zone, &facts);
	assert_int_equal(r.verdict, DMARC_TEMPERROR);
	q.spf_domain = "example.com";
	while (dmarc_check(&q, &facts, &r) == -EAGAIN)
		zone_tell(zone, &facts);
	assert_int_equal(r.verdict, DMARC_PASS);
	dns_facts_fini(&facts);
	dns_zone_free(zone);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_records), cmocka_unit_test(test_authors), cmocka_unit_test(test_author_is),   cmocka_unit_test(test_checks),
		cmocka_unit_test(test_without_author), cmocka_unit_test(test_temporary),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
