/* The end of a transaction that changes what workers have cached: of a key, a session, a user, a member's role, a domain's status,
 * an account's plan. Once the answer is out, no worker of any instance lets anybody do what the change has taken away. */
#ifndef MINUTEMAIL_API_CHANGE_H
#define MINUTEMAIL_API_CHANGE_H

#include "apid/api_query.h"

/* Like api_tx_commit(), but `done` runs only when every live worker has confirmed that it has forgotten what it knew of `of` (a key,
 * a session, a user or an account: what is cached of it; NULL: everything), or when the lease on what a silent one has cached has
 * run out. A client that goes away meanwhile takes nothing back. */
void api_change_commit(struct request *, struct api_tx *, const struct id *of, api_tx_done *done, void *arg);

#endif
