/* The changer's side of the key notices (common/keys_sync.h) on the loop: waits until no worker uses what was before a change.
 * Answers come in on the worker's own listening connection (auth_listen); while that is down nothing is heard and each change
 * waits for the lease. Handlers use api_change.h. */
#ifndef MINUTEMAIL_AUTH_CHANGE_H
#define MINUTEMAIL_AUTH_CHANGE_H

#include "common/keys_sync.h"

struct auth_change;
struct auth_changes;
struct loop;
struct pg;

struct auth_changes *auth_changes_new(struct loop *, struct pg *); /* borrows both */
struct auth_changes *auth_changes_free(struct auth_changes *);
void auth_changes_answered(struct auth_changes *, const char *payload); /* of KEYS_ACK_CHANNEL */

/* Before the transaction's notice, which carries the nonce: answers count from here on. */
struct auth_change *auth_change_start(struct auth_changes *, char ret_nonce[KEYS_NONCE_SIZE]);
/* After the COMMIT. `in_doubt`: whether that happened is not known, so nobody need have heard of it: the whole lease is waited for.
 * `done` runs once on a later turn of the loop, and the change is gone. */
void auth_change_wait(struct auth_change *, bool in_doubt, void (*done)(void *arg), void *arg);
/* `done` will not run. NULL is fine; returns NULL. */
struct auth_change *auth_change_cancel(struct auth_change *);

#endif
