/* What the handlers of domains share (api_domains.c, api_domain_verify.c). */
#ifndef MINUTEMAIL_API_DOMAINS_H
#define MINUTEMAIL_API_DOMAINS_H

#include "apid/api_query.h"

struct domain_proof;

/* How long a domain may have had its MX elsewhere before it is flagged: a change of the DNS takes its time. */
#define API_DOMAIN_LOST_US (48 * 3600 * 1000000LL)

/* Answers with the domain as it is now. `proof`: what a look at the DNS has found, explained in the answer; NULL: there was none.
 * 404 if the account has no such domain. */
void api_domain_answer(struct request *, unsigned status, const struct id *, const struct domain_proof *);
void api_domain_refuse(struct request *, const struct id *); /* 404 */

#endif
