/* Passwords of people: which are taken, Argon2id by libsodium. Slow and large by design: the daemons hash on a helper thread
 * (apid/passwords.h). Pure. */
#ifndef MINUTEMAIL_PASSWORD_H
#define MINUTEMAIL_PASSWORD_H

#include "common/base.h"

#define PASSWORD_LEAST 12   /* octets */
#define PASSWORD_MOST 1024
#define PASSWORD_HASH_SIZE 128 /* "$argon2id$v=19$m=65536,t=2,p=1$…", with its NUL */

struct password_cost {
	size_t memory;   /* octets, at least 8,192 */
	unsigned passes;
};
#define PASSWORD_MEMORY (64 * 1024 * 1024) /* crypto_pwhash_MEMLIMIT_INTERACTIVE */
#define PASSWORD_PASSES 2

/* What is wrong with it as a new password of this user, for people to read; NULL: nothing. */
const char *password_fault(struct slice password, const char *email);
/* -ENOMEM. */
int password_hash(struct slice password, const struct password_cost *, char ret[PASSWORD_HASH_SIZE]);
/* `hash` NULL: nobody's, which takes as long and is false. */
bool password_verify(struct slice password, const char *hash, const struct password_cost *);
bool password_hash_is_old(const char *hash, const struct password_cost *); /* made with other parameters */

#endif
