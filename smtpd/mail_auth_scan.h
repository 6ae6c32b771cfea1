/* The part of authentication that reads the message: one pass over its source, which may be long, so it runs on a helper thread. Uses
 * nothing but the spool's octets. */
#ifndef MINUTEMAIL_MAIL_AUTH_SCAN_H
#define MINUTEMAIL_MAIL_AUTH_SCAN_H

#include "smtpd/dkim.h"
#include "smtpd/dmarc.h"
#include "smtpd/spool.h"

struct mail_auth_scan {
	struct dkim_set dkim;
	enum dmarc_author author;
	char author_domain[DNS_NAME_SIZE];
	bool forged;                   /* an Authentication-Results field claims to be ours (RFC 8601 5) */
	bool failed;                   /* the source could not be read */
};

void mail_auth_scan(struct spool *, const char *authserv_id, struct mail_auth_scan *ret);
void mail_auth_scan_fini(struct mail_auth_scan *);
/* Pure half, for tests: whether a field of the block claims the id. */
bool mail_auth_claims(const struct header_block *, const char *authserv_id);

#endif
