/* What one evaluation knows of the DNS so far. Pure: SPF, DKIM and DMARC ask here; a question without an answer yet is noted as
 * wanted and the evaluation ends with -EAGAIN; who drives it fetches what is wanted and evaluates again, from the start. Evaluations
 * are cheap and their questions few, so nothing has to remember where it was; and a test answers from a zone file. */
#ifndef MINUTEMAIL_DNS_FACTS_H
#define MINUTEMAIL_DNS_FACTS_H

#include "common/dns_answer.h"

#define DNS_FACTS_MAX 256          /* questions of one evaluation; more get DNS_TEMPORARY */

struct dns_fact {
	enum dns_type type;
	char name[DNS_NAME_SIZE];
	bool asked;                    /* by the driver */
	struct dns_answer *answer;     /* NULL: wanted */
};

struct dns_facts {                 /* zeroed: nothing known */
	struct dns_fact **v;
	unsigned count;
	bool closed;                   /* time is up: whatever is not known is DNS_TEMPORARY */
};

void dns_facts_fini(struct dns_facts *);
/* The answer, borrowed for the life of the facts; NULL: not known yet, wanted from now on. A name that is none does not exist. */
const struct dns_answer *dns_facts_ask(struct dns_facts *, enum dns_type, const char *name);
/* The next wanted question that was not handed out yet, or NULL. The pointer stays valid; answer it with dns_facts_tell(). */
struct dns_fact *dns_facts_next(struct dns_facts *);
void dns_facts_tell(struct dns_fact *, const struct dns_answer *);   /* copies */

#endif
