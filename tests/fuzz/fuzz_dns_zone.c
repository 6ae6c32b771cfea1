/* Any octets as a zone file; what is accepted answers every question about its own names within the limits of dns_answer.h. */
#include "common/dns_zone.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void require(bool ok) {
	if (!ok)
		abort();
}

static void look(const struct dns_zone *z, const char *name) {
	static const enum dns_type types[] = {DNS_A, DNS_AAAA, DNS_MX, DNS_PTR, DNS_TXT};
	for (size_t i = 0; i < array_len(types); i++) {
		struct dns_answer *a = dns_zone_lookup(z, types[i], name);
		if (!a)
			continue;
		require(a->count <= DNS_RECORDS_MAX && a->octets <= DNS_ANSWER_OCTETS_MAX && (a->status == DNS_FOUND) == (a->count > 0));
		dns_answer_free(a);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
	struct dns_zone *z = NULL;
	char fault[DNS_ZONE_FAULT_SIZE] = "", name[DNS_NAME_SIZE];
	char *text = xmemdup(p, n ? n : 1);
	int r = dns_zone_parse(text, n, &z, fault);
	require((r == 0) == (z != NULL) && (r == 0 || fault[0] != '\0'));
	for (size_t at = 0; z && at < n; at++) {
		size_t len = 0;
		while (at + len < n && (unsigned char)text[at + len] > ' ')
			len++;
		if (len && dns_name_canonical(text + at, len, name) == 0)
			look(z, name);
		at += len;
	}
	dns_zone_free(z);
	free(text);
	return 0;
}
