/* A mail of the server's own: a link for somebody who has no other mailbox than one of ours. */
#ifndef MINUTEMAIL_API_INJECT_H
#define MINUTEMAIL_API_INJECT_H

#include "apid/request.h"

/* Puts it into whichever live mailbox has the address; `delivered` false: there is none, or it did not work. The texts are copied.
 * `done` may run inside the call; what fails in the database is answered there as for any transaction. */
typedef void api_inject_done(struct request *, void *arg, bool delivered);
void api_inject_notice(struct request *, const char *to, const char *subject, const char *text, api_inject_done *, void *arg);

#endif
