/* Passwords on a helper thread: one at a time in a worker, so all of them together take the configured memory once a worker, and a
 * bounded queue. What was handed over is copied, and wiped afterwards. */
#ifndef MINUTEMAIL_PASSWORDS_H
#define MINUTEMAIL_PASSWORDS_H

#include "common/password.h"

struct loop;
struct passwords;
struct passwords_op;

struct passwords *passwords_new(struct loop *, const struct password_cost *);
struct passwords *passwords_free(struct passwords *);

struct passwords_result {
	bool right;       /* `password` is that of `hash` */
	const char *made; /* hash of `next`; or, if right, a new one of `password` where the old one was made with less cost; NULL: none */
};
typedef void passwords_done(void *arg, const struct passwords_result *); /* borrowed */

/* Is it the password of `hash` (NULL: of nobody, which takes as long)? If so and `next` is not {NULL,0}, hashes that.
 * `done` runs once, on a later turn of the loop. NULL: too many are waiting. */
struct passwords_op *passwords_check(struct passwords *, struct slice password, const char *hash, struct slice next,
                                     passwords_done *, void *arg);
struct passwords_op *passwords_make(struct passwords *, struct slice next, passwords_done *, void *arg);
struct passwords_op *passwords_cancel(struct passwords_op *); /* NULL is fine; returns NULL */

#endif
