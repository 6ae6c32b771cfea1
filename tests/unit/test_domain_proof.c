/* common/domain_proof: what answers of the DNS prove, and both questions asked of a zone file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/dns.h"
#include "common/domain_proof.h"
#include "common/loop.h"

#include <stdio.h>
#include <unistd.h>

#define TOKEN "minutemail-abcdefgh234567xy"

static char mx1[] = "mx.platform.example", mx2[] = "mx2.platform.example";
static char *const hosts[] = {mx1, mx2, NULL};

static const char zone_text[] =
	"good.example TXT \"v=spf1 -all\"\n"
	"good.example TXT \"" TOKEN "\"\n"
	"good.example MX 10 MX.platform.example.\n"
	"good.example MX 20 mx2.platform.example\n"
	"blanks.example TXT \" \\009" TOKEN "\\009 \"\n"
	"blanks.example MX 10 mx.platform.example\n"
	"part.example TXT \"x" TOKEN "\" \n"
	"part.example TXT \"" TOKEN "x\" \n"
	"part.example MX 10 mx.platform.example\n"
	"part.example MX 20 backup.elsewhere.example\n"
	"case.example TXT \"MINUTEMAIL-ABCDEFGH234567XY\"\n"
	"case.example MX 0 .\n"
	"address.example A 192.0.2.1\n"
	"split.example TXT \"minutemail-\" \"abcdefgh234567xy\"\n"
	"broken.example SERVFAIL\n"
	"silent.example TIMEOUT\n";

static const struct row {
	const char *name;
	enum domain_proof_fact txt, mx;
	const char *says; /* a piece of the explanation */
} rows[] = {
	{"good.example", DOMAIN_PROOF_VALID, DOMAIN_PROOF_VALID, ""},
	{"blanks.example", DOMAIN_PROOF_VALID, DOMAIN_PROOF_VALID, ""},
	{"part.example", DOMAIN_PROOF_WRONG, DOMAIN_PROOF_WRONG, "\"backup.elsewhere.example\""},
	{"case.example", DOMAIN_PROOF_WRONG, DOMAIN_PROOF_WRONG, "names \".\""},
	{"address.example", DOMAIN_PROOF_MISSING, DOMAIN_PROOF_MISSING, "has no MX record; add one that names mx.platform.example"},
	{"nothing.example", DOMAIN_PROOF_MISSING, DOMAIN_PROOF_MISSING, "has no TXT record; add \"" TOKEN "\""},
	{"split.example", DOMAIN_PROOF_VALID, DOMAIN_PROOF_MISSING, "has no MX record"},
	{"broken.example", DOMAIN_PROOF_UNKNOWN, DOMAIN_PROOF_UNKNOWN, "could not be asked for TXT"},
	{"silent.example", DOMAIN_PROOF_UNKNOWN, DOMAIN_PROOF_UNKNOWN, "could not be asked for MX"},
};

static void test_token(void **state) {
	char a[DOMAIN_PROOF_TOKEN_SIZE], b[DOMAIN_PROOF_TOKEN_SIZE];
	domain_proof_token(a);
	domain_proof_token(b);
	assert_int_equal(strlen(a), 27);
	assert_memory_equal(a, "minutemail-", 11);
	assert_int_equal(strspn(a + 11, "abcdefghijklmnopqrstuvwxyz234567"), 16);
	assert_string_not_equal(a, b);
}

static void test_without_token_nothing_is_proved(void **state) {
	cleanup(dns_answer_freep) struct dns_answer *answer = dns_answer_new(DNS_TXT, DNS_NO_DATA);
	assert_true(dns_answer_add(answer, 0, TOKEN, sizeof(TOKEN) - 1));
	assert_int_equal(domain_proof_txt(answer, NULL), DOMAIN_PROOF_WRONG);
	assert_int_equal(domain_proof_txt(answer, TOKEN), DOMAIN_PROOF_VALID);
}

static void on_proof(void *arg, const struct domain_proof *proof) {
	struct domain_proof *to = arg;
	*to = *proof;
}

static struct dns *zone_open(struct loop *loop) {
	char path[] = "/tmp/minutemail-zone-XXXXXX", fault[DNS_FAULT_SIZE];
	int fd = mkstemp(path);
	FILE *f = fdopen(fd, "w");
	fputs(zone_text, f);
	fclose(f);
	const struct dns_options options = {.servers = (char *const[]){NULL}, .zone_file = path};
	struct dns *dns = NULL;
	if (dns_new(loop, &options, &dns, fault) < 0)
		fail_msg("%s", fault);
	unlink(path);
	return dns;
}

static void test_asking(void **state) {
	struct loop *loop = loop_new();
	struct dns *dns = zone_open(loop);
	for (size_t i = 0; i < array_len(rows); i++) {
		const struct row *row = &rows[i];
		struct domain_proof proof = {.txt = (enum domain_proof_fact)99};
		char text[DOMAIN_PROOF_TEXT_SIZE];
		domain_proof_start(dns, row->name, TOKEN, hosts, 50000, on_proof, &proof);
		assert_int_equal((int)proof.txt, 99); /* never inside the start */
		for (int turn = 0; turn < 1000 && (int)proof.txt == 99; turn++)
			loop_turn(loop);
		if (proof.txt != row->txt || proof.mx != row->mx)
			fail_msg("%s: txt %d, mx %d", row->name, proof.txt, proof.mx);
		domain_proof_explain(&proof, row->name, TOKEN, mx1, text);
		if (!strstr(text, row->says) || (*row->says == '\0') != (*text == '\0'))
			fail_msg("%s: %s", row->name, text);
	}
	struct domain_proof never = {.txt = (enum domain_proof_fact)99};
	struct domain_proof_op *op = domain_proof_start(dns, "good.example", TOKEN, hosts, 50000, on_proof, &never);
	assert_null(domain_proof_cancel(op));
	for (int turn = 0; turn < 5; turn++)
		loop_turn(loop);
	assert_int_equal((int)never.txt, 99);
	dns_free(dns);
	loop_free(loop);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_token),
		cmocka_unit_test(test_without_token_nothing_is_proved),
		cmocka_unit_test(test_asking),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
