/* A zone file that stands in for the DNS: tests and users' CI get the same answers everywhere. Pure.
 *
 * A subset of RFC 1035 5.1, one record a line:
 *
 *     name [TTL] [IN] type rdata      ; comment
 *
 * Names are whole (no $ORIGIN; the final dot may be missing). A line that begins with a blank goes on with the name before. Types:
 * A, AAAA, PTR, MX (preference name), CNAME, and TXT, whose strings are quoted ("…", with \" \\ \DDD) or bare and are joined.
 * Beyond RFC 1035, instead of a type: SERVFAIL, the name answers with a temporary failure; TIMEOUT, it never answers.
 * A name that is not there, nor any below it, does not exist. */
#ifndef MINUTEMAIL_DNS_ZONE_H
#define MINUTEMAIL_DNS_ZONE_H

#include "common/dns_answer.h"

struct dns_zone;

#define DNS_ZONE_FAULT_SIZE 160
/* -EINVAL: ret_fault names the line and what is wrong there. */
int dns_zone_parse(const char *text, size_t n, struct dns_zone **ret, char ret_fault[DNS_ZONE_FAULT_SIZE]);
struct dns_zone *dns_zone_free(struct dns_zone *);
define_cleanup(struct dns_zone *, dns_zone_free)
/* The answer, the caller's to free; NULL: none ever comes (TIMEOUT). CNAMEs are followed. `name` is canonical. */
struct dns_answer *dns_zone_lookup(const struct dns_zone *, enum dns_type, const char *name);

#endif
