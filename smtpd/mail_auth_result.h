/* What authentication found out about one message, and its text in message_authentication.results: the API's `authentication` object.
 * Nothing in it is the client's address. Pure. */
#ifndef MINUTEMAIL_MAIL_AUTH_RESULT_H
#define MINUTEMAIL_MAIL_AUTH_RESULT_H

#include "common/buf.h"
#include "smtpd/dkim.h"
#include "smtpd/dmarc.h"
#include "smtpd/spf.h"

#define DNSBL_ZONES_MAX 16
#define DNSBL_CODES_MAX 8

enum dnsbl_verdict { DNSBL_UNLISTED, DNSBL_LISTED, DNSBL_ERROR };

struct dnsbl_result {
	const char *zone;              /* the configuration's */
	enum dnsbl_verdict verdict;
	uint8_t codes[DNSBL_CODES_MAX][4]; /* the answers that count */
	unsigned code_count;
};

struct dnsbl_results {
	struct dnsbl_result v[DNSBL_ZONES_MAX];
	unsigned count;
};

enum iprev_verdict { IPREV_PASS, IPREV_FAIL, IPREV_TEMPERROR, IPREV_NONE }; /* RFC 8601 2.7.3; none: the client has no address */

/* Does a name of the client have its address? 0, or -EAGAIN. */
int iprev_check(const struct netaddr *client, struct dns_facts *, enum iprev_verdict *ret);

struct mail_auth_result {
	struct spf_result spf;
	const struct dkim_set *dkim;
	bool scan_failed;              /* the message could not be read for DKIM and DMARC */
	struct dmarc_result dmarc;
	const char *author_domain;
	enum iprev_verdict iprev;
	bool null_mx;                  /* the sender's domain says that it takes no mail (RFC 7505); false where nobody asked */
	const struct dnsbl_results *dnsbl; /* NULL: not looked up */
};

void mail_auth_result_write(const struct mail_auth_result *, struct buf *out);

#endif
