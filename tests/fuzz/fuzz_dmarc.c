/* Before the first NUL a DMARC record, behind it a header block: record, author, and a check in which every name has the record. */
#include "smtpd/dmarc.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void require(bool ok) {
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
	char *text = xmemdup(p, n ? n : 1), domain[DNS_NAME_SIZE];
	const char *nul = n ? memchr(text, '\0', n) : NULL;
	size_t key = nul ? (size_t)(nul - text) : n, start = nul ? key + 1 : n;
	struct header_block block;
	struct dmarc_record record;
	struct dns_facts facts = {0};
	struct dmarc_result result;
	struct dns_fact *f;
	dmarc_record_parse(slice_of(text, key), &record);
	header_block_parse(slice_of(text + start, n - start), &block);
	struct dmarc_request q = {.author = dmarc_author_domain(&block, domain), .domain = domain, .spf_domain = "a.b.example"};
	require((q.author == DMARC_AUTHOR_ONE) == (domain[0] != '\0'));
	q.signers[q.signer_count++] = "x.example";
	while (dmarc_check(&q, &facts, &result) == -EAGAIN) {
		while ((f = dns_facts_next(&facts))) {
			struct dns_answer *a = dns_answer_new(f->type, DNS_NXDOMAIN);
			if (f->type == DNS_TXT && f->name[7] % 3)
				dns_answer_add(a, 0, text, key);
			dns_facts_tell(f, a);
			dns_answer_free(a);
		}
	}
	require(facts.count <= 8 * 3 + 1);
	require((result.verdict == DMARC_PASS) == (result.spf_aligned || result.dkim_aligned));
	dns_facts_fini(&facts);
	header_block_fini(&block);
	free(text);
	return 0;
}
