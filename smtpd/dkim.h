/* DKIM verification (RFC 6376, 8301, 8463) in three steps, so that the costly one can run on a helper thread and the one that asks the
 * DNS on the loop:
 *
 *     dkim_scan     the signatures of a header block, and the hashes of what they sign there
 *     dkim_body_*   the octets of the body, in pieces
 *     dkim_verify   keys, then the verdicts
 *
 * No I/O; OpenSSL does the arithmetic. One set is used by one thread at a time. */
#ifndef MINUTEMAIL_DKIM_H
#define MINUTEMAIL_DKIM_H

#include "common/sha256.h"
#include "smtpd/dns_facts.h"
#include "smtpd/header_block.h"

#define DKIM_SIGNATURES_MAX 10     /* the top-most; others are counted */
#define DKIM_SIGNATURE_SIZE 512    /* octets: RSA with 4096 bits */

enum dkim_verdict { DKIM_PASS, DKIM_FAIL, DKIM_TEMPERROR, DKIM_PERMERROR };
enum dkim_algorithm { DKIM_RSA_SHA256, DKIM_ED25519_SHA256, DKIM_ALGORITHM_OTHER };

struct dkim_signature {
	enum dkim_verdict verdict;     /* DKIM_PERMERROR with a reason may be known before any key */
	const char *reason;            /* fixed words; NULL on pass */
	enum dkim_algorithm algorithm;
	char domain[DNS_NAME_SIZE];    /* d=; "" if there is none to be read */
	char selector[DNS_NAME_SIZE];  /* s= */
	char identity[DNS_NAME_SIZE + 64]; /* i= decoded, or "@" and d=; printable ASCII, else "" */
	char tag[9];                   /* the first characters of b=, to tell signatures apart (RFC 6008) */
	bool limited;                  /* l= leaves a part of the body unsigned */
	uint64_t limit;                /* l= */
	bool testing;                  /* t=y in the key */
	unsigned key_bits;             /* 0: no key was read */
	/* between the steps */
	bool same_domain;              /* whether i= is in d= itself, as a key with t=s wants */
	bool relaxed_header, relaxed_body;
	uint64_t signed_at, expires_at; /* t=, x=; 0: none */
	uint8_t signature[DKIM_SIGNATURE_SIZE], body_hash[SHA256_LEN], header_digest[SHA256_LEN];
	size_t signature_n;
	unsigned body;                 /* which of the set's bodies */
};

#define DKIM_BODIES_MAX 4          /* different forms of the body that are hashed */
struct dkim_body;

struct dkim_set {                  /* zeroed: none */
	struct dkim_signature *v;
	unsigned count, ignored;
	struct dkim_body *bodies[DKIM_BODIES_MAX];
	unsigned body_count;
};

void dkim_scan(const struct header_block *, struct dkim_set *ret);
void dkim_set_fini(struct dkim_set *);
bool dkim_wants_body(const struct dkim_set *);
void dkim_feed(struct dkim_set *, const void *p, size_t n);
void dkim_feed_end(struct dkim_set *);
/* now: wall µs, for x=. 0 with every verdict set, or -EAGAIN: keys are wanted. */
int dkim_verify(struct dkim_set *, struct dns_facts *, int64_t now);

const char *dkim_verdict_name(enum dkim_verdict);
const char *dkim_algorithm_name(enum dkim_algorithm);  /* "" for another */

#endif
