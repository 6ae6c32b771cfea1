/* SPF (RFC 7208): may this client send for this domain? Pure: questions go through dns_facts. */
#ifndef MINUTEMAIL_SPF_H
#define MINUTEMAIL_SPF_H

#include "common/netaddr.h"
#include "smtpd/dns_facts.h"

enum spf_verdict { /* RFC 7208 2.6 */
	SPF_NONE,
	SPF_NEUTRAL,
	SPF_PASS,
	SPF_FAIL,
	SPF_SOFTFAIL,
	SPF_TEMPERROR,
	SPF_PERMERROR,
};

struct spf_request {               /* borrowed for the call */
	struct netaddr client;         /* NONE (a Unix socket): the verdict is none */
	const char *helo;              /* as the client said it */
	const char *mail_from;         /* "" for the null sender: then HELO is checked (RFC 7208 2.4) */
	const char *hostname;          /* ours, %{r} */
	int64_t now;                   /* wall µs, %{t} */
};

#define SPF_EXPLANATION_MAX 255

struct spf_result {
	enum spf_verdict verdict;
	bool helo;                     /* whose identity: HELO's, else MAIL FROM's */
	char domain[DNS_NAME_SIZE];    /* that was checked; "" if it is no domain */
	const char *mechanism;         /* the name of what matched at the top ("ip4", "include", …); NULL: none did. Never its
	                                * argument, which may hold the client's address */
	const char *reason;            /* for the errors, fixed words; else NULL */
	char explanation[SPF_EXPLANATION_MAX + 1]; /* exp= of a fail, printable ASCII (RFC 7208 6.2); "" if none. May hold the client's
	                                            * address: for a reply, never to be stored */
};

/* 0, or -EAGAIN: answers are wanted. */
int spf_check(const struct spf_request *, struct dns_facts *, struct spf_result *ret);
const char *spf_verdict_name(enum spf_verdict);   /* "temperror" */

#endif
