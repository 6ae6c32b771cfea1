/* Private to auth: when keys, or sessions, were last used. A hint for people: gathered, written in batches off the path of
 * requests, at most once a minute for each of them and worker; what a crash or a full database loses is a minute of it. A clean stop loses
 * nothing. */
#ifndef MINUTEMAIL_AUTH_USED_H
#define MINUTEMAIL_AUTH_USED_H

#include "common/id.h"

struct auth_used;
struct loop;
struct pg;
struct pg_stmt;

/* Borrows pg. The statements take ids and times, two arrays; `last` is for the close, when other workers write the same keys. */
struct auth_used *auth_used_new(struct loop *, struct pg *, const struct pg_stmt *, const struct pg_stmt *last);
struct auth_used *auth_used_free(struct auth_used *);
void auth_used_note(struct auth_used *, const struct id *);
/* Writes what is not written yet; `done` runs once on a later turn. If the database is away it gives up. Nothing is noted any more. */
void auth_used_close(struct auth_used *, void (*done)(void *arg), void *arg);

#endif
