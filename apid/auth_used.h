/* Private to auth: when keys, or sessions, were last used. A hint for people: gathered, written in batches off the path of
 * requests, at most once a minute for each of them and worker; what a crash or a full database loses is a minute of it. */
#ifndef MINUTEMAIL_AUTH_USED_H
#define MINUTEMAIL_AUTH_USED_H

#include "common/id.h"

struct auth_used;
struct loop;
struct pg;
struct pg_stmt;

/* Borrows pg. The statement takes ids and times, two arrays. */
struct auth_used *auth_used_new(struct loop *, struct pg *, const struct pg_stmt *);
struct auth_used *auth_used_free(struct auth_used *);
void auth_used_note(struct auth_used *, const struct id *);

#endif
