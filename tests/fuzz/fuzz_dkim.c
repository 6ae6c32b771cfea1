/* Before the first NUL a key record, behind it a message. The body goes in whole and in pieces, and both must come to the same. */
#include "smtpd/dkim.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void require(bool ok) {
	if (!ok)
		abort();
}

static void run(struct slice key, struct slice message, size_t step, struct dkim_set *ret) {
	struct header_block block;
	struct dns_facts facts = {0};
	struct dns_fact *f;
	header_block_parse(message, &block);
	require(block.body <= message.n);
	dkim_scan(&block, ret);
	for (size_t at = block.body; at < message.n; at += step)
		dkim_feed(ret, message.p + at, min_of(step, message.n - at));
	dkim_feed_end(ret);
	while (dkim_verify(ret, &facts, 1600000000000000) == -EAGAIN) {
		while ((f = dns_facts_next(&facts))) {
			struct dns_answer *a = dns_answer_new(f->type, DNS_NO_DATA);
			dns_answer_add(a, 0, key.p, key.n);
			dns_facts_tell(f, a);
			dns_answer_free(a);
		}
	}
	dns_facts_fini(&facts);
	header_block_fini(&block);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
	char *text = xmemdup(p, n ? n : 1);
	const char *nul = n ? memchr(text, '\0', n) : NULL;
	size_t key = nul ? (size_t)(nul - text) : 0, start = nul ? key + 1 : 0;
	struct dkim_set whole, pieces;
	run(slice_of(text, key), slice_of(text + start, n - start), n + 1, &whole);
	run(slice_of(text, key), slice_of(text + start, n - start), 3, &pieces);
	require(whole.count == pieces.count && whole.count <= DKIM_SIGNATURES_MAX);
	for (unsigned i = 0; i < whole.count; i++)
		require(whole.v[i].verdict == pieces.v[i].verdict && (whole.v[i].verdict == DKIM_PASS) == (whole.v[i].reason == NULL));
	dkim_set_fini(&whole);
	dkim_set_fini(&pieces);
	free(text);
	return 0;
}
