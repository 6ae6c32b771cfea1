/* Results -> rows of message_authentication, many in one statement. Private to mail_auth.c and its tests. The rows are worth less than
 * mail: nobody waits for them, a message that is gone meanwhile needs none, and what cannot be written after a few tries is
 * given up and counted. */
#ifndef MINUTEMAIL_MAIL_AUTH_STORE_H
#define MINUTEMAIL_MAIL_AUTH_STORE_H

#include "smtpd/mail_auth.h"

struct loop;
struct mail_auth_store;
struct metrics;
struct pg;

/* idle: called whenever the last row is gone; may be NULL. */
struct mail_auth_store *mail_auth_store_new(struct loop *, struct pg *, struct metrics *, void (*idle)(void *arg), void *arg);
struct mail_auth_store *mail_auth_store_free(struct mail_auth_store *);
bool mail_auth_store_idle(const struct mail_auth_store *);
/* results: JSON, copied. */
void mail_auth_store_add(struct mail_auth_store *, const struct mail_auth_row *, const char *results, size_t n, bool forged);

#endif
