/* How often somebody may try what can be guessed: a bucket for each e-mail address and each client, in a table of fixed size. Each
 * worker has one of its own. Nobody is locked out: a bucket fills up again all the time. */
#ifndef MINUTEMAIL_ATTEMPTS_H
#define MINUTEMAIL_ATTEMPTS_H

#include "common/base.h"

struct attempts;

enum attempts_kind {
	ATTEMPTS_PERSON, /* by e-mail address, whether it is known or not: 10, then one in 30 s */
	ATTEMPTS_CLIENT, /* by client address: 60, then one in 5 s */
};

struct attempts *attempts_new(void);
struct attempts *attempts_free(struct attempts *);
/* Counts one more. 0, or how many microseconds to wait; then it does not count. */
int64_t attempts_take(struct attempts *, enum attempts_kind, struct slice who);
void attempts_give_back(struct attempts *, enum attempts_kind, struct slice who); /* it was right */

#endif
