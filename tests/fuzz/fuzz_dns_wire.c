/* Any octets as a server's reply. The first octet chooses the type; the name is fixed. */
#include "common/dns_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void require(bool ok) {
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
	static const enum dns_type types[] = {DNS_A, DNS_AAAA, DNS_MX, DNS_PTR, DNS_TXT};
	if (n == 0)
		return 0;
	uint8_t *message = n > 1 ? xmemdup(p + 1, n - 1) : NULL;
	struct dns_answer *a = dns_wire_read(message, n - 1, types[p[0] % array_len(types)], "a.example");
	require(a->count <= DNS_RECORDS_MAX && a->octets <= DNS_ANSWER_OCTETS_MAX && (a->status == DNS_FOUND) == (a->count > 0));
	for (unsigned i = 0; i < a->count; i++)
		require(a->type == DNS_TXT || a->records[i].n < DNS_NAME_SIZE);
	dns_answer_free(a);
	free(message);
	return 0;
}
