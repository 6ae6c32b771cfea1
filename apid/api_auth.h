/* What the handlers of passwords share: members of their bodies, and how often they may try. "Answers" as in api_common.h. */
#ifndef MINUTEMAIL_API_AUTH_H
#define MINUTEMAIL_API_AUTH_H

#include "apid/json_in.h"
#include "apid/request.h"
#include "common/address.h"

#define API_AUTH_WRONG "The e-mail address or the password is wrong"

/* A required member: a password or a link's token. -EINVAL: answered. */
int api_auth_secret(struct request *, const json_t *body, const char *name, struct slice *ret);
/* "email", in its one spelling. -EINVAL: answered. */
int api_auth_email(struct request *, const json_t *body, char ret[ADDRESS_MAX + 1]);
/* Overwrites what came in a body. */
void api_auth_wipe(struct slice);
void api_auth_answer_busy(struct request *);
/* Counts an attempt of the request's client, whatever it tries: false, answered with 429: too many. Clients on this host are not
 * counted. */
bool api_auth_may_try(struct request *);

#endif
