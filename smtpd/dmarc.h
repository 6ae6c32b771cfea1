/* DMARC (RFC 9989): whether the author's domain stands behind a message, and what that domain asks for when it does not. Pure: questions
 * go through dns_facts. Policies and organisational domains are found by walking up the DNS tree (4.10), without any list of suffixes. */
#ifndef MINUTEMAIL_DMARC_H
#define MINUTEMAIL_DMARC_H

#include "smtpd/dns_facts.h"
#include "smtpd/header_block.h"

enum dmarc_verdict {
	DMARC_NONE,                    /* no policy */
	DMARC_PASS,
	DMARC_FAIL,                    /* also without an author or with several: nothing can be aligned */
	DMARC_TEMPERROR,
};

enum dmarc_policy { DMARC_POLICY_NONE, DMARC_POLICY_QUARANTINE, DMARC_POLICY_REJECT };

/* ---- the record (4.7) ---- */

enum dmarc_psd { DMARC_PSD_UNKNOWN, DMARC_PSD_YES, DMARC_PSD_NO };

struct dmarc_record {
	enum dmarc_policy policy, sub_policy, np_policy; /* p; sp or p; np or sp or p */
	bool has_np;
	bool effective;                /* false: no valid p=, sp= or np= and no rua=: it asks for nothing (4.7) */
	bool strict_dkim, strict_spf;
	bool testing;                  /* t=y */
	enum dmarc_psd psd;
};

/* False: no DMARC record. Unknown tags and values are passed over. */
bool dmarc_record_parse(struct slice text, struct dmarc_record *ret);

/* ---- the author ---- */

enum dmarc_author {
	DMARC_AUTHOR_ONE,
	DMARC_AUTHOR_NONE,             /* no From field, or no address in it */
	DMARC_AUTHOR_SEVERAL,          /* several From fields, or addresses of different domains, or another is shown */
};

/* The domain of the From field, canonical. */
enum dmarc_author dmarc_author_domain(const struct header_block *, char ret[DNS_NAME_SIZE]);
/* Whether this is the address's domain. */
bool dmarc_author_is(const char *address, const char *domain);

/* ---- the check ---- */

#define DMARC_SIGNERS_MAX 10

struct dmarc_request {             /* borrowed */
	enum dmarc_author author;
	const char *domain;            /* the author's, for DMARC_AUTHOR_ONE */
	const char *spf_domain;        /* for which SPF said pass; NULL: it did not */
	bool spf_temporary;            /* SPF ended in a temporary error */
	const char *signers[DMARC_SIGNERS_MAX]; /* d= of the signatures that verified */
	unsigned signer_count;
	bool dkim_temporary;
};

struct dmarc_result {
	enum dmarc_verdict verdict;
	enum dmarc_policy policy;      /* that applies to this message; t=y has lowered it (4.7) */
	char record_domain[DNS_NAME_SIZE];      /* where the record was found; "": none */
	char organizational_domain[DNS_NAME_SIZE]; /* of the author; "" when not found out */
	bool spf_aligned, dkim_aligned;
	bool testing;
	const char *reason;            /* fixed words for a failure other than of alignment, else NULL */
};

/* 0, or -EAGAIN: answers are wanted. */
int dmarc_check(const struct dmarc_request *, struct dns_facts *, struct dmarc_result *ret);
const char *dmarc_verdict_name(enum dmarc_verdict);
const char *dmarc_policy_name(enum dmarc_policy);

#endif
