/* Looks at the DNS of verified domains again, now and then, and takes away what domains that were given up have left behind. One
 * worker of each instance does it (worker 0); a domain is taken by one at a time, in the database. A verified domain stays so
 * whatever is found: mx_lost_since says since when its mail has gone elsewhere. */
#ifndef MINUTEMAIL_DOMAIN_CHECK_H
#define MINUTEMAIL_DOMAIN_CHECK_H

#include "common/base.h"
#include "common/id.h"

struct dns;
struct domain_check;
struct domain_proof;
struct loop;
struct pg;
struct pg_params;

struct domain_check_options { /* all borrowed */
	struct pg *pg;
	struct dns *dns;
	char *const *mx_hosts;
	int64_t interval_us; /* between two looks at a domain, on the average */
	int64_t pause_us;    /* between two runs, likewise */
};

struct domain_check *domain_check_new(struct loop *, const struct domain_check_options *);
struct domain_check *domain_check_free(struct domain_check *);
uint64_t domain_check_runs(const struct domain_check *); /* completed, for tests */

/* When a domain that was looked at now is to be looked at again: half to one and a half intervals from now, so that domains
 * made at once do not stay together. Wall. */
int64_t domain_check_due(int64_t interval_us);
/* The parameters of domain_found. */
void domain_check_param_found(struct pg_params *, const struct id *account, const struct id *domain, const struct domain_proof *);

#endif
