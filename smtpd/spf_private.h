/* What spf.c, spf_record.c and spf_macro.c share, and nobody else includes but fuzzers. */
#ifndef MINUTEMAIL_SPF_PRIVATE_H
#define MINUTEMAIL_SPF_PRIVATE_H

#include "common/buf.h"
#include "smtpd/spf.h"

#define SPF_TERMS_MAX 256          /* of one record; more is a permanent error */

enum spf_mechanism { SPF_ALL, SPF_INCLUDE, SPF_A, SPF_MX, SPF_PTR, SPF_IP4, SPF_IP6, SPF_EXISTS, SPF_MECHANISMS };

struct spf_term {
	enum spf_mechanism mechanism;
	enum spf_verdict qualifier;    /* what a match means */
	struct slice domain;           /* domain-spec, checked; p NULL: none */
	struct netaddr_net net;        /* ip4, ip6 */
	unsigned bits4, bits6;         /* a, mx: prefix lengths */
};

struct spf_record {                /* borrows the text */
	struct spf_term terms[SPF_TERMS_MAX];
	unsigned count;
	bool has_all;
	struct slice redirect, exp;    /* p NULL: none */
};

/* Whether the TXT record is an SPF record at all (RFC 7208 4.5). */
bool spf_record_is(struct slice text);
/* The whole of it, syntax errors anywhere included (4.6). False: a permanent error. */
bool spf_record_parse(struct slice text, struct spf_record *ret);
const char *spf_mechanism_name(enum spf_mechanism);

/* What macros stand for (7.2). */
struct spf_macros {
	const struct spf_request *request;
	const char *local, *sender_domain;   /* of <sender> */
	const char *helo;
	const char *domain;                  /* <domain>, the current one */
	const char *validated;               /* %{p}; NULL: not known, see spf_macro_needs_p() */
};

/* Checks the syntax of a macro-string; `domain`: as a domain-spec, which ends in a top label or a macro. */
bool spf_macro_valid(struct slice text, bool domain);
bool spf_macro_needs_p(struct slice text);
/* Expands a valid one. `explain`: c, r and t may stand in it (else they are kept out by the check). A result past the ceiling of
 * `out` sets its overflow. */
void spf_macro_expand(struct slice text, const struct spf_macros *, struct buf *out);
/* Expands to a name of at most 253 octets, left labels dropped for that (7.3). */
void spf_macro_expand_domain(struct slice text, const struct spf_macros *, char ret[DNS_NAME_SIZE]);
/* c, r or t: only in an explanation (7.2). */
bool spf_macro_explains(struct slice text);

#endif
