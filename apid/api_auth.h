/* What the handlers of passwords share: members of their bodies, and trying a password. "Answers" as in api_common.h. */
#ifndef MINUTEMAIL_API_AUTH_H
#define MINUTEMAIL_API_AUTH_H

#include "apid/json_in.h"
#include "apid/session_open.h"
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

struct api_auth_proof { /* of who knows the password */
	struct id account, user;
	int64_t set_at;   /* when it was set: what it must still be */
	const char *made; /* passwords.h */
};
/* `proof` NULL: wrong, unknown or suspended. */
typedef void api_auth_tried(struct request *, void *arg, const struct api_auth_proof *);
/* Within the limit of attempts (else answers 429). `next`: hashed as well if the password is right; may be {NULL,0}. Wipes both. */
void api_auth_try(struct request *, const char *email, struct slice password, struct slice next, api_auth_tried *, void *arg);

#endif
