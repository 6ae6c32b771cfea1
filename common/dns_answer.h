/* What the DNS says to one question, and names as it knows them. Pure: who asks is dns.h, a zone file, or a test. */
#ifndef MINUTEMAIL_DNS_ANSWER_H
#define MINUTEMAIL_DNS_ANSWER_H

#include "common/base.h"

enum dns_type { DNS_A = 1, DNS_PTR = 12, DNS_MX = 15, DNS_TXT = 16, DNS_AAAA = 28 }; /* RFC 1035 3.2.2, RFC 3596 */

enum dns_status {
	DNS_FOUND,       /* at least one record */
	DNS_NO_DATA,     /* the name exists and has none of this type */
	DNS_NXDOMAIN,    /* the name does not exist */
	DNS_TEMPORARY,   /* time-out, SERVFAIL, refused, malformed: ask again later */
};

#define DNS_RECORDS_MAX 100              /* of one answer; more are left out */
#define DNS_ANSWER_OCTETS_MAX 32768      /* of all their data; what comes after is left out */

struct dns_record {
	unsigned preference;                 /* MX */
	char *data;                          /* A: 4 octets, AAAA: 16; MX, PTR: the canonical name ("": the root); TXT: its
	                                      * strings joined. A NUL follows */
	size_t n;
};

struct dns_answer {
	enum dns_type type;
	enum dns_status status;
	uint32_t ttl;                        /* seconds; of what was not found: for how long it may be remembered */
	unsigned count;
	struct dns_record *records;
	size_t octets;
};

struct dns_answer *dns_answer_new(enum dns_type, enum dns_status);
struct dns_answer *dns_answer_free(struct dns_answer *);
define_cleanup(struct dns_answer *, dns_answer_free)
/* The data is copied; the status becomes DNS_FOUND. False: over a limit, left out. */
bool dns_answer_add(struct dns_answer *, unsigned preference, const void *data, size_t n);
struct dns_answer *dns_answer_copy(const struct dns_answer *);

#define DNS_NAME_SIZE 254                /* 253 octets and a NUL */
/* Lower case, no final dot, labels of 1..63 octets that are printable ASCII but the backslash. ".": "". -EINVAL: no name of
 * ours to ask or to show. */
int dns_name_canonical(const char *s, size_t n, char ret[DNS_NAME_SIZE]);
/* Whether `name` is `parent` or below it; both canonical. */
bool dns_name_within(const char *name, const char *parent);

/* The name whose PTR record is asked: "4.3.2.1.in-addr.arpa". octets: 4 or 16 of an address (RFC 1035 3.5, RFC 3596 2.5);
 * `suffix` instead of in-addr.arpa/ip6.arpa, for a DNSBL (RFC 5782 2.1, 2.4). False: too long for a name. */
bool dns_name_reversed(const uint8_t *address, unsigned octets, const char *suffix, char ret[DNS_NAME_SIZE]);

#endif
