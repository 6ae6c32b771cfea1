/* Private to auth: when keys were last used. A hint for people: gathered, written in batches off the path of
 * requests, at most once a minute for a key and worker; what a crash or a full database loses is a minute of it. */
#ifndef MINUTEMAIL_AUTH_USED_H
#define MINUTEMAIL_AUTH_USED_H

#include "common/id.h"

struct auth_used;
struct loop;
struct pg;

struct auth_used *auth_used_new(struct loop *, struct pg *); /* borrows pg */
struct auth_used *auth_used_free(struct auth_used *);
void auth_used_note(struct auth_used *, const struct id *key);

#endif
