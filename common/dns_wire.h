/* A DNS message's answer section read into struct dns_answer. Private to dns.c and its tests. */
#ifndef MINUTEMAIL_DNS_WIRE_H
#define MINUTEMAIL_DNS_WIRE_H

#include "common/dns_answer.h"

/* Records of the type at `name` or where its CNAMEs in this message lead; in the order of the message. No record: DNS_NO_DATA or, by
 * its RCODE, DNS_NXDOMAIN. Malformed, or another RCODE: DNS_TEMPORARY. Never NULL. `name` is canonical. */
struct dns_answer *dns_wire_read(const uint8_t *p, size_t n, enum dns_type, const char *name);

#endif
