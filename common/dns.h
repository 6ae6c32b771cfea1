/* Questions to the DNS on the loop: c-ares, or a zone file that stands in for it. One resolver a process.
 *
 * A question names its type, its name and how long it may take. Equal questions under way share one query; answers are remembered
 * for their TTL, at most five minutes, in a cache of bounded size. Over UDP, and over TCP when an answer was cut. No search domain and
 * no hosts file: the name is what is asked. CNAMEs are followed as the resolver gives them.
 *
 * The resolver is trusted: it should be on this machine or on a network of ours (no DNSSEC is checked here). */
#ifndef MINUTEMAIL_DNS_H
#define MINUTEMAIL_DNS_H

#include "common/dns_answer.h"

struct loop;
struct dns;
struct dns_op;

struct dns_options {
	char *const *servers;        /* "192.0.2.1", "192.0.2.1:53", "[2001:db8::1]:53"; NULL-terminated; empty: the system's */
	const char *zone_file;       /* "": none; else no server is ever asked (dns_zone.h) */
	unsigned in_flight;          /* queries under way at the most; 256 when 0 */
	unsigned waiting;            /* questions waiting for room; more fail at once; 4096 when 0 */
	unsigned cached;             /* answers remembered; 1024 when 0 */
};

/* The port of one of `servers`: a sandbox must let TCP to it pass. */
uint16_t dns_server_port(const char *server);

/* Whether it is one of `servers`. -EINVAL. */
int dns_server_check(const char *server);

#define DNS_FAULT_SIZE 256
/* Whether it is a `zone_file`. -errno; ret_fault says why, naming its line. */
int dns_zone_check(const char *zone_file, char ret_fault[DNS_FAULT_SIZE]);
/* -errno; ret_fault says why, naming the server or the zone file's line. */
int dns_new(struct loop *, const struct dns_options *, struct dns **ret, char ret_fault[DNS_FAULT_SIZE]);
/* Outstanding operations are cancelled without a callback; their pointers are dead. */
struct dns *dns_free(struct dns *);
define_cleanup(struct dns *, dns_free)

/* The answer is borrowed for the call; DNS_TEMPORARY when the deadline passed. Runs once on a later turn of the loop, never inside
 * the start and never after the cancel. */
typedef void dns_done(void *arg, const struct dns_answer *);
/* A name that is none (dns_name_canonical) does not exist. */
struct dns_op *dns_start(struct dns *, enum dns_type, const char *name, int64_t within_us, dns_done *, void *arg);
/* What is known already, from the cache or a zone: borrowed until the next call of any of these. NULL: it must be asked. */
const struct dns_answer *dns_known(struct dns *, enum dns_type, const char *name);
/* NULL is fine; returns NULL. */
struct dns_op *dns_cancel(struct dns_op *);

#endif
