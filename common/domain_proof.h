/* Whether whoever claims a domain can write into its DNS, and whether its mail comes to us: a TXT record with the claim's token
 * at the name itself, and MX records that all name hosts of ours. Judging is pure; asking is one operation on dns.h. */
#ifndef MINUTEMAIL_DOMAIN_PROOF_H
#define MINUTEMAIL_DOMAIN_PROOF_H

#include "common/dns_answer.h"

struct dns;
struct loop;
struct domain_proof_op;

enum domain_proof_fact {
	DOMAIN_PROOF_VALID,
	DOMAIN_PROOF_MISSING,  /* no record of this type */
	DOMAIN_PROOF_WRONG,    /* records, but no token among them; or a host that is not ours */
	DOMAIN_PROOF_UNKNOWN,  /* the DNS did not say: ask again */
};

struct domain_proof {
	enum domain_proof_fact txt, mx;
	char foreign_mx[DNS_NAME_SIZE];  /* mx DOMAIN_PROOF_WRONG: one that is not ours ("": a null MX, RFC 7505) */
};

/* "minutemail-" and 16 characters of a-z2-7: 80 random bits, so that nobody's record proves another's claim. */
#define DOMAIN_PROOF_TOKEN_SIZE 28
void domain_proof_token(char ret[DOMAIN_PROOF_TOKEN_SIZE]);

/* `token` NULL: never valid. A record may have blanks around the token; web forms add them. */
enum domain_proof_fact domain_proof_txt(const struct dns_answer *, const char *token);
/* `hosts`: canonical names, NULL-terminated. `ret_foreign` is set for DOMAIN_PROOF_WRONG. */
enum domain_proof_fact domain_proof_mx(const struct dns_answer *, char *const *hosts, char ret_foreign[DNS_NAME_SIZE]);
/* A sentence about what is not valid, naming the record that is wanted; "" when both are. */
#define DOMAIN_PROOF_TEXT_SIZE 1804
void domain_proof_explain(const struct domain_proof *, const char *name, const char *token, const char *mx_target,
                          char ret[DOMAIN_PROOF_TEXT_SIZE]);

/* Asks both at once. All is borrowed until `done`, which runs once on a later turn; the proof is borrowed for the call. */
typedef void domain_proof_done(void *arg, const struct domain_proof *);
struct domain_proof_op *domain_proof_start(struct dns *, const char *name, const char *token, char *const *hosts, int64_t within_us,
                                           domain_proof_done *, void *arg);
/* NULL is fine; returns NULL. */
struct domain_proof_op *domain_proof_cancel(struct domain_proof_op *);

#endif
