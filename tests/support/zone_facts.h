/* Answers what an evaluation wants from a zone file's text. */
#ifndef MINUTEMAIL_TESTS_ZONE_FACTS_H
#define MINUTEMAIL_TESTS_ZONE_FACTS_H

#include "common/dns_zone.h"
#include "smtpd/dns_facts.h"

#include <stdio.h>

static inline struct dns_zone *zone_of(const char *text) {
	struct dns_zone *zone = NULL;
	char fault[DNS_ZONE_FAULT_SIZE];
	if (dns_zone_parse(text, strlen(text), &zone, fault) < 0) {
		fprintf(stderr, "zone: %s\n", fault);
		abort();
	}
	return zone;
}

/* What never answers is a temporary failure. False: nothing was wanted. */
static inline bool zone_tell(const struct dns_zone *zone, struct dns_facts *facts) {
	struct dns_fact *fact;
	bool any = false;
	while ((fact = dns_facts_next(facts))) {
		struct dns_answer *a = dns_zone_lookup(zone, fact->type, fact->name);
		if (!a)
			a = dns_answer_new(fact->type, DNS_TEMPORARY);
		dns_facts_tell(fact, a);
		dns_answer_free(a);
		any = true;
	}
	return any;
}

#endif
