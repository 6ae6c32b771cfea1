/* Any octets as the SPF record of a domain, checked for an IPv4 and an IPv6 client. The verdict comes after finitely many questions,
 * whose answers are made up from the name. */
#include "smtpd/spf_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void require(bool ok) {
	if (!ok)
		abort();
}

/* What the record's own domain has is the input; other names have something or nothing by their first letter. */
static struct dns_answer *answer_for(const struct dns_fact *f, const uint8_t *p, size_t n) {
	struct dns_answer *a = dns_answer_new(f->type, f->name[0] % 2 ? DNS_NO_DATA : DNS_NXDOMAIN);
	if (f->type == DNS_TXT && (strcmp(f->name, "example.com") == 0 || f->name[0] == 'r'))
		dns_answer_add(a, 0, p, n);
	else if (f->type == DNS_A || f->type == DNS_AAAA)
		(void)(f->name[0] == 'h' && dns_answer_add(a, 0, "\xc0\0\2\1\0\0\0\0\0\0\0\0\0\0\0", f->type == DNS_A ? 4 : 16));
	else if (f->type == DNS_MX || f->type == DNS_PTR)
		dns_answer_add(a, 1, "h.example.com", 13);
	return a;
}

static void check(const char *ip, const uint8_t *p, size_t n) {
	struct spf_request request = {.helo = "helo.example", .mail_from = "x.y@example.com", .hostname = "mx.example"};
	struct dns_facts facts = {0};
	struct spf_result result;
	struct dns_fact *f;
	unsigned asked = 0;
	netaddr_parse(ip, strlen(ip), &request.client);
	while (spf_check(&request, &facts, &result) == -EAGAIN) {
		unsigned before = asked;
		for (; (f = dns_facts_next(&facts)); asked++) {
			struct dns_answer *a = answer_for(f, p, n);
			dns_facts_tell(f, a);
			dns_answer_free(a);
		}
		require(asked > before && asked <= DNS_FACTS_MAX);
	}
	require(strlen(result.explanation) <= SPF_EXPLANATION_MAX);
	dns_facts_fini(&facts);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
	if (n > 4096)
		return 0;
	uint8_t *text = xmemdup(p, n ? n : 1); /* its end is the memory's */
	check("192.0.2.1", text, n);
	check("2001:db8::1", text, n);
	free(text);
	return 0;
}
