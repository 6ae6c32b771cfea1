/* mail_auth's pure ends: what claims to be ours, the stored text, the answers of block lists; and the check itself on a loop with a zone
 * for DNS: the bound, the cancel, who gets the spool back. What is stored is test_authentication.py's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/dns.h"
#include "common/loop.h"
#include "common/metrics.h"
#include "common/work.h"
#include "smtpd/dnsbl.h"
#include "smtpd/mail_auth.h"
#include "smtpd/mail_auth_scan.h"
#include "smtpd/smtpd_metrics.h"

#include <stdio.h>
#include <unistd.h>

static void test_claims(void **state) {
	static const struct {
		const char *header;
		bool claims;
	} rows[] = {
		{"Authentication-Results: mx.example; spf=pass\r\n", true},
		{"AUTHENTICATION-RESULTS:MX.Example;none\r\n", true},
		{"Authentication-Results:\r\n (a (b\\) c) d) \"mx.\\example\" 1; none\r\n", true},
		{"Authentication-Results: mx.example\r\n", true},
		{"X: y\r\nAuthentication-Results: mx.example(c); none\r\n", true},
		{"Authentication-Results: mx.example.org; none\r\n", false},
		{"Authentication-Results: mx.exampl; none\r\n", false},
		{"Authentication-Results: (mx.example) other; none\r\n", false},
		{"Authentication-Results: \"mx.example\r\n", true},
		{"Authentication-Results: (open mx.example\r\n", false},
		{"Authentication-Results:\r\n", false},
		{"X-Authentication-Results: mx.example; none\r\n", false},
		{"\r\nAuthentication-Results: mx.example; none\r\n", false},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		struct header_block b;
		header_block_parse(slice_str(rows[i].header), &b);
		if (mail_auth_claims(&b, "mx.example") != rows[i].claims)
			fail_msg("%s", rows[i].header);
		header_block_fini(&b);
	}
}

static void test_text(void **state) {
	struct dkim_signature signature = {.verdict = DKIM_FAIL, .reason = "body was changed", .domain = "d.example", .selector = "s", .tag = "AbC"};
	struct dkim_set set = {.v = &signature, .count = 1, .ignored = 2};
	struct dnsbl_results listings = {.v = {{"bl.example", DNSBL_LISTED, {{127, 0, 0, 2}}, 1}}, .count = 1};
	struct mail_auth_result r = {
		.spf = {.verdict = SPF_PASS, .domain = "s.example", .mechanism = "ip4"},
		.dkim = &set,
		.dmarc = {.verdict = DMARC_FAIL, .policy = DMARC_POLICY_REJECT, .record_domain = "a.example"},
		.author_domain = "a.example",
		.iprev = IPREV_PASS,
		.dnsbl = &listings,
	};
	struct buf out;
	buf_init(&out, 10000);
	mail_auth_result_write(&r, &out);
	assert_string_equal(
		out.data,
		"{\"spf\":{\"result\":\"pass\",\"domain\":\"s.example\",\"identity\":\"mailfrom\",\"mechanism\":\"ip4\",\"reason\":null},"
		"\"dkim\":[{\"result\":\"fail\",\"domain\":\"d.example\",\"selector\":\"s\",\"identity\":null,\"algorithm\":\"rsa-sha256\","
		"\"keyBits\":null,\"signature\":\"AbC\",\"bodyLimited\":false,\"testing\":false,\"reason\":\"body was changed\"}],\"dkimIgnored\":2,"
		"\"dmarc\":{\"result\":\"fail\",\"domain\":\"a.example\",\"policy\":\"reject\",\"recordDomain\":\"a.example\","
		"\"organizationalDomain\":null,\"spfAligned\":false,\"dkimAligned\":false,\"testing\":false,\"reason\":null},"
		"\"iprev\":{\"result\":\"pass\"},\"dnsbl\":[{\"zone\":\"bl.example\",\"result\":\"listed\",\"codes\":[\"127.0.0.2\"]}]}");
	buf_fini(&out);
}

/* ---- on the loop ---- */

static const char ZONE[] = "example.org TXT \"v=spf1 ip4:192.0.2.1 -all\"\n"
						   "silent.example TIMEOUT\n"
						   "1.2.0.192.bl.example A 127.0.0.2\n"
						   "1.2.0.192.codes.example A 127.0.0.5\n"
						   "1.2.0.192.codes.example A 127.0.0.9\n"
						   "1.2.0.192.one.example A 127.0.0.1\n"
						   "1.2.0.192.odd.example A 192.0.2.9\n"
						   "1.2.0.192.errors.example A 127.255.255.252\n"
						   "1.2.0.192.fails.example SERVFAIL\n"
						   "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bl.example A 127.0.0.3\n";

struct fixture {
	struct loop *loop;
	struct dns *dns;
	struct work *work;
	struct metrics *metrics;
	struct mail_auth *auth;
	char path[32];
	int done;
};

static int setup(void **state) {
	struct fixture *f = xcalloc(1, sizeof(*f));
	char fault[DNS_FAULT_SIZE];
	snprintf(f->path, sizeof(f->path), "/tmp/test_mail_auth.XXXXXX");
	int fd = mkstemp(f->path);
	assert_int_equal(write(fd, ZONE, sizeof(ZONE) - 1), sizeof(ZONE) - 1);
	close(fd);
	const struct dns_options dns = {.zone_file = f->path};
	const struct mail_auth_options options = {
		.hostname = "mx.example", .authserv_id = "mx.example", .budget_us = 200000, .checks_max = 2, .octets_max = 100000};
	f->loop = loop_new();
	assert_int_equal(dns_new(f->loop, &dns, &f->dns, fault), 0);
	f->work = work_new(f->loop, 1, 10);
	f->metrics = smtpd_metrics_new(1);
	metrics_attach(f->metrics, 0);
	f->auth = mail_auth_new(f->loop, f->dns, f->work, NULL, f->metrics, &options);
	*state = f;
	return 0;
}

static int teardown(void **state) {
	struct fixture *f = *state;
	work_free(f->work);
	mail_auth_free(f->auth);
	dns_free(f->dns);
	metrics_free(f->metrics);
	loop_free(f->loop);
	unlink(f->path);
	free(f);
	assert_int_equal(spool_memory_in_use(), 0);
	return 0;
}

static void on_done(void *arg) {
	struct fixture *f = arg;
	f->done++;
}

#define LONG 40000 /* the helper thread's */

static struct spool *message(size_t body) {
	static const char head[] = "From: a@example.org\r\n\r\n";
	struct spool *s = spool_new("/tmp");
	char *text = xcalloc(1, body);
	memset(text, 'x', body);
	assert_int_equal(spool_append(s, head, sizeof(head) - 1), 0);
	assert_int_equal(spool_append(s, text, body), 0);
	free(text);
	return s;
}

static struct mail_auth_request request(const char *from, struct spool *spool) {
	return (struct mail_auth_request){{NETADDR_IPV4, {192, 0, 2, 1}}, "client.example", from, NULL, spool, NULL};
}

static void test_waited_for(void **state) {
	struct fixture *f = *state;
	struct mail_auth_request q = request("a@example.org", message(LONG));
	assert_false(mail_auth_is_short(q.spool));
	struct mail_auth_op *op = mail_auth_start(f->auth, &q, on_done, f);
	assert_non_null(op);
	assert_false(mail_auth_concluded(op));
	assert_false(mail_auth_idle(f->auth));
	while (!f->done)
		loop_turn(f->loop);
	const struct mail_auth_result *r = mail_auth_get(op);
	assert_int_equal(r->spf.verdict, SPF_PASS);
	assert_int_equal(r->dmarc.verdict, DMARC_NONE);
	assert_string_equal(r->author_domain, "example.org");
	struct spool *back = mail_auth_take_spool(op);
	assert_ptr_equal(back, q.spool);
	spool_free(back);
	mail_auth_cancel(op);
	assert_true(mail_auth_idle(f->auth));
}

/* Another author is shown than the one whose domain was checked. */
static void test_author_shown(void **state) {
	struct fixture *f = *state;
	static const struct {
		const char *from;
		enum dmarc_verdict verdict;
		const char *reason, *domain;
	} rows[] = {
		{NULL, DMARC_NONE, NULL, "example.org"},
		{"x@Example.org", DMARC_NONE, NULL, "example.org"},
		{"x@victim.example", DMARC_FAIL, "several author domains", ""},
		{"", DMARC_FAIL, "no author domain", ""},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		struct mail_auth_request q = request("a@example.org", message(10));
		q.from = rows[i].from;
		struct mail_auth_op *op = mail_auth_start(f->auth, &q, NULL, NULL);
		const struct mail_auth_result *r = mail_auth_get(op);
		assert_int_equal(r->dmarc.verdict, rows[i].verdict);
		assert_true(r->dmarc.reason == rows[i].reason || strcmp(r->dmarc.reason, rows[i].reason) == 0);
		assert_string_equal(r->author_domain, rows[i].domain);
		mail_auth_cancel(op);
		spool_free(q.spool);
	}
}

/* A short message whose answers are known: nothing is left to wait for, and the spool was never taken. */
static void test_at_once(void **state) {
	struct fixture *f = *state;
	struct mail_auth_request q = request("a@example.org", message(10));
	assert_true(mail_auth_is_short(q.spool));
	struct mail_auth_op *op = mail_auth_start(f->auth, &q, on_done, f);
	assert_true(mail_auth_concluded(op));
	assert_int_equal(mail_auth_get(op)->spf.verdict, SPF_PASS);
	assert_string_equal(mail_auth_get(op)->author_domain, "example.org");
	assert_null(mail_auth_take_spool(op));
	bool forged = true;
	assert_non_null(strstr(mail_auth_text(op, &forged), "\"spf\":{\"result\":\"pass\""));
	assert_false(forged);
	struct mail_auth_request other = request("a@example.org", message(LONG));
	struct mail_auth_op *second = mail_auth_start(f->auth, &other, on_done, f);
	while (!f->done)
		loop_turn(f->loop);
	assert_true(mail_auth_concluded(second));
	assert_int_equal(f->done, 1); /* the second's; nothing was to come of the first */
	mail_auth_cancel(second);
	mail_auth_cancel(op);
	assert_true(mail_auth_idle(f->auth));
	spool_free(q.spool);
}

static void test_silence(void **state) {
	struct fixture *f = *state;
	static const size_t sizes[] = {10, LONG};
	for (size_t i = 0; i < array_len(sizes); i++) {
		struct mail_auth_request q = request("a@silent.example", message(sizes[i]));
		struct mail_auth_op *op = mail_auth_start(f->auth, &q, on_done, f);
		assert_false(mail_auth_concluded(op));
		bool forged;
		assert_null(mail_auth_text(op, &forged));
		for (f->done = 0; !f->done;)
			loop_turn(f->loop);
		assert_int_equal(mail_auth_get(op)->spf.verdict, SPF_TEMPERROR);
		mail_auth_cancel(op); /* with the spool, if it has it */
		if (i == 0)
			spool_free(q.spool);
	}
}

static void test_kept(void **state) {
	struct fixture *f = *state;
	const struct mail_auth_row row = {.message = {{1}}};
	struct mail_auth_request q = request("a@example.org", message(LONG));
	mail_auth_on_idle(f->auth, on_done, f);
	mail_auth_keep(mail_auth_start(f->auth, &q, NULL, NULL), &row, 1);
	while (!mail_auth_idle(f->auth))
		loop_turn(f->loop);
	assert_int_equal(f->done, 1);
	assert_int_equal(metrics_sum(f->metrics, SMTPD_AUTH_CHECKED), 1);
}

/* Two at a time, and 100,000 octets of sources; what is refused stays the caller's. */
static void test_bounds(void **state) {
	struct fixture *f = *state;
	struct mail_auth_request big = request("a@silent.example", message(200000)), small = request("a@silent.example", message(LONG));
	struct mail_auth_op *first = mail_auth_start(f->auth, &big, on_done, f);
	assert_non_null(first); /* alone it may be larger */
	assert_null(mail_auth_start(f->auth, &small, on_done, f));
	mail_auth_cancel(first); /* scanned or not */
	while (!mail_auth_idle(f->auth))
		loop_turn(f->loop);
	struct mail_auth_request second = request("a@silent.example", message(LONG)), third = request("a@silent.example", message(10));
	assert_non_null(mail_auth_start(f->auth, &small, on_done, f));
	assert_non_null(mail_auth_start(f->auth, &second, on_done, f));
	assert_null(mail_auth_start(f->auth, &third, on_done, f));
	assert_int_equal(metrics_sum(f->metrics, SMTPD_AUTH_OVERLOAD), 2);
	spool_free(third.spool);
	/* freed with two under way */
}

/* ---- block lists ---- */

static void test_zones(void **state) {
	struct fixture *f = *state;
	static const char *const bad[] = {"", "a..b", "bl.example=", "bl.example=127.0.0.2-", "bl.example=128.0.0.2", "bl.example=127.0.0.3-127.0.0.2",
	                                  "bl.example=127.0.0.2/x", "bl.example=::1"};
	char fault[DNSBL_FAULT_SIZE];
	for (size_t i = 0; i < array_len(bad); i++) {
		char *zones[] = {(char *)(uintptr_t)bad[i], NULL};
		struct dnsbl *b = NULL;
		assert_int_equal(dnsbl_new(f->loop, f->dns, zones, &b, fault), -EINVAL);
		assert_null(b);
	}
}

static void test_listings(void **state) {
	struct fixture *f = *state;
	static const struct {
		const char *zone, *client;
		enum dnsbl_verdict verdict;
		unsigned codes;
	} rows[] = {
		{"bl.example", "192.0.2.1", DNSBL_LISTED, 1},
		{"bl.example", "192.0.2.2", DNSBL_UNLISTED, 0},
		{"BL.example.", "2001:db8::1", DNSBL_LISTED, 1},
		{"codes.example", "192.0.2.1", DNSBL_LISTED, 2},
		{"codes.example=127.0.0.2-127.0.0.5", "192.0.2.1", DNSBL_LISTED, 1},
		{"codes.example=127.0.0.2/127.0.0.6-127.0.0.8", "192.0.2.1", DNSBL_UNLISTED, 0},
		{"one.example", "192.0.2.1", DNSBL_UNLISTED, 0},
		{"odd.example", "192.0.2.1", DNSBL_UNLISTED, 0},
		{"errors.example", "192.0.2.1", DNSBL_ERROR, 0},
		{"errors.example=127.255.255.252", "192.0.2.1", DNSBL_ERROR, 0},
		{"fails.example", "192.0.2.1", DNSBL_ERROR, 0},
	};
	char fault[DNSBL_FAULT_SIZE];
	for (size_t i = 0; i < array_len(rows); i++) {
		char *zones[] = {(char *)(uintptr_t)rows[i].zone, NULL};
		struct dnsbl *b;
		struct netaddr client;
		netaddr_parse(rows[i].client, strlen(rows[i].client), &client);
		assert_int_equal(dnsbl_new(f->loop, f->dns, zones, &b, fault), 0);
		f->done = 0;
		struct dnsbl_op *op = dnsbl_start(b, &client, on_done, f);
		assert_false(dnsbl_is_done(op));
		while (!f->done)
			loop_turn(f->loop);
		const struct dnsbl_result *r = &dnsbl_results(op)->v[0];
		if (r->verdict != rows[i].verdict || r->code_count != rows[i].codes || dnsbl_listed(op) != (r->verdict == DNSBL_LISTED))
			fail_msg("%s %s: %d %u", rows[i].zone, rows[i].client, r->verdict, r->code_count);
		dnsbl_cancel(op);
		dnsbl_cancel(dnsbl_start(b, &client, on_done, f)); /* no callback */
		dnsbl_free(b);
	}
	loop_turn(f->loop);
	assert_int_equal(f->done, 1);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_claims),
		cmocka_unit_test(test_text),
		cmocka_unit_test_setup_teardown(test_waited_for, setup, teardown),
		cmocka_unit_test_setup_teardown(test_author_shown, setup, teardown),
		cmocka_unit_test_setup_teardown(test_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_silence, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bounds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_zones, setup, teardown),
		cmocka_unit_test_setup_teardown(test_listings, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
