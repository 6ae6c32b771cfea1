#include "smtpd/mail_auth_result.h"

#include "common/json_out.h"

#include <stdio.h>

int iprev_check(const struct netaddr *client, struct dns_facts *facts, enum iprev_verdict *ret) {
	char reverse[DNS_NAME_SIZE];
	bool wait = false, temporary = false;
	*ret = IPREV_NONE;
	if (client->family == NETADDR_NONE)
		return 0;
	bool v4 = client->family == NETADDR_IPV4;
	dns_name_reversed(client->b, v4 ? 4 : 16, NULL, reverse);
	const struct dns_answer *names = dns_facts_ask(facts, DNS_PTR, reverse);
	if (!names)
		return -EAGAIN;
	*ret = names->status == DNS_TEMPORARY ? IPREV_TEMPERROR : IPREV_FAIL;
	for (unsigned i = 0; i < min_of(names->count, 10U); i++) {
		const struct dns_answer *a = dns_facts_ask(facts, v4 ? DNS_A : DNS_AAAA, names->records[i].data);
		wait = wait || !a;
		temporary = temporary || (a && a->status == DNS_TEMPORARY);
		for (unsigned k = 0; a && k < a->count; k++) {
			if (memcmp(a->records[k].data, client->b, v4 ? 4 : 16) == 0) {
				*ret = IPREV_PASS;
				return 0;
			}
		}
	}
	if (temporary)
		*ret = IPREV_TEMPERROR;
	return wait ? -EAGAIN : 0;
}

static void write_spf(struct json_out *j, const struct spf_result *r) {
	json_out_key(j, "spf");
	json_out_object(j);
	json_out_member_cstring(j, "result", spf_verdict_name(r->verdict));
	json_out_member_cstring(j, "domain", r->domain[0] ? r->domain : NULL);
	json_out_member_cstring(j, "identity", r->helo ? "helo" : "mailfrom");
	json_out_member_cstring(j, "mechanism", r->mechanism);
	json_out_member_cstring(j, "reason", r->reason);
	json_out_object_end(j);
}

static void write_signature(struct json_out *j, const struct dkim_signature *s) {
	const char *algorithm = dkim_algorithm_name(s->algorithm);
	json_out_object(j);
	json_out_member_cstring(j, "result", dkim_verdict_name(s->verdict));
	json_out_member_cstring(j, "domain", s->domain[0] ? s->domain : NULL);
	json_out_member_cstring(j, "selector", s->selector[0] ? s->selector : NULL);
	json_out_member_cstring(j, "identity", s->identity[0] ? s->identity : NULL);
	json_out_member_cstring(j, "algorithm", algorithm[0] ? algorithm : NULL);
	json_out_key(j, "keyBits");
	if (s->key_bits)
		json_out_int(j, s->key_bits);
	else
		json_out_null(j);
	json_out_member_cstring(j, "signature", s->tag);
	json_out_member_bool(j, "bodyLimited", s->limited);
	json_out_member_bool(j, "testing", s->testing);
	json_out_member_cstring(j, "reason", s->reason);
	json_out_object_end(j);
}

static void write_dkim(struct json_out *j, const struct dkim_set *set) {
	json_out_key(j, "dkim");
	json_out_array(j);
	for (unsigned i = 0; i < set->count; i++)
		write_signature(j, &set->v[i]);
	json_out_array_end(j);
	json_out_member_int(j, "dkimIgnored", set->ignored);
}

static void write_dmarc(struct json_out *j, const struct mail_auth_result *r) {
	const struct dmarc_result *d = &r->dmarc;
	json_out_key(j, "dmarc");
	json_out_object(j);
	json_out_member_cstring(j, "result", r->scan_failed ? "temperror" : dmarc_verdict_name(d->verdict));
	json_out_member_cstring(j, "domain", r->author_domain[0] ? r->author_domain : NULL);
	json_out_member_cstring(j, "policy", d->record_domain[0] ? dmarc_policy_name(d->policy) : NULL);
	json_out_member_cstring(j, "recordDomain", d->record_domain[0] ? d->record_domain : NULL);
	json_out_member_cstring(j, "organizationalDomain", d->organizational_domain[0] ? d->organizational_domain : NULL);
	json_out_member_bool(j, "spfAligned", d->spf_aligned);
	json_out_member_bool(j, "dkimAligned", d->dkim_aligned);
	json_out_member_bool(j, "testing", d->testing);
	json_out_member_cstring(j, "reason", r->scan_failed ? "message could not be read" : d->reason);
	json_out_object_end(j);
}

static void write_listing(struct json_out *j, const struct dnsbl_result *d) {
	static const char *const names[] = {"unlisted", "listed", "error"};
	json_out_object(j);
	json_out_member_cstring(j, "zone", d->zone);
	json_out_member_cstring(j, "result", names[d->verdict]);
	json_out_key(j, "codes");
	json_out_array(j);
	for (unsigned i = 0; i < d->code_count; i++) {
		char text[16];
		snprintf(text, sizeof(text), "%u.%u.%u.%u", d->codes[i][0], d->codes[i][1], d->codes[i][2], d->codes[i][3]);
		json_out_cstring(j, text);
	}
	json_out_array_end(j);
	json_out_object_end(j);
}

void mail_auth_result_write(const struct mail_auth_result *r, struct buf *out) {
	static const char *const iprev[] = {"pass", "fail", "temperror", "none"};
	struct json_out j;
	json_out_init(&j, out);
	json_out_object(&j);
	write_spf(&j, &r->spf);
	write_dkim(&j, r->dkim);
	write_dmarc(&j, r);
	json_out_key(&j, "iprev");
	json_out_object(&j);
	json_out_member_cstring(&j, "result", iprev[r->iprev]);
	json_out_object_end(&j);
	json_out_key(&j, "dnsbl");
	json_out_array(&j);
	for (unsigned i = 0; r->dnsbl && i < r->dnsbl->count; i++)
		write_listing(&j, &r->dnsbl->v[i]);
	json_out_array_end(&j);
	json_out_object_end(&j);
}
