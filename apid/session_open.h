/* Opening a console session: a row, a cookie and the answer that says who is in. For handlers that have seen a password. */
#ifndef MINUTEMAIL_APID_SESSION_OPEN_H
#define MINUTEMAIL_APID_SESSION_OPEN_H

#include "apid/api_query.h"
#include "common/token.h"

struct session_user { /* borrowed texts */
	struct id id, account_id;
	struct slice email, plan;
	bool owner;
};

struct session_new {
	struct id id;
	int64_t ends_at;
	char token[TOKEN_SIZE]; /* secret */
};

/* Adds the steps that clear away what is over of the user's sessions and make a new one. */
void session_open_steps(struct request *, struct api_tx *, const struct id *user, struct session_new *ret);
/* {"user":…,"csrfToken":…,"expiresAt":…} with the cookie; wipes the token. */
void session_open_answer(struct request *, unsigned status, const struct session_user *, struct session_new *);
/* The same for the session that asks. */
void session_answer(struct request *);
/* 204, and the browser forgets its cookie. */
void session_answer_closed(struct request *);

#endif
