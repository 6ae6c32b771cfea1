/* Private to auth: the listener's side of the key notices (common/keys_sync.h). One connection of its own; tells
 * what to forget, and whether the cache may be used at this moment. */
#ifndef MINUTEMAIL_AUTH_LISTEN_H
#define MINUTEMAIL_AUTH_LISTEN_H

#include "common/base.h"
#include "common/id.h"

struct auth_listen;
struct loop;

/* `of`: a key, session, user or account; NULL: everything. Also called when the connection comes or goes, because notices may have been
 * missed. What it forgets must be out of use when it returns: the notice is confirmed right after. */
typedef void auth_listen_forget(void *arg, const struct id *of);
/* Somebody has confirmed a notice: "<its backend pid> <nonce>". */
typedef void auth_listen_answer(void *arg, const char *payload);

/* `timeline`: pg_options'. */
struct auth_listen *auth_listen_new(struct loop *, const char *conninfo, _Atomic uint32_t *timeline, auth_listen_forget *,
                                    auth_listen_answer *, void *arg);
struct auth_listen *auth_listen_free(struct auth_listen *);
/* At the end of a worker's life: the cache is not used from here on, and nobody need wait for us. `done` may run at once; not after
 * auth_listen_free(). */
void auth_listen_leave(struct auth_listen *, void (*done)(void *arg), void *arg);
bool auth_listen_up(const struct auth_listen *);
/* Before each use of what is cached: has a round trip that began within the lease come back? Starts the next one in
 * time. */
bool auth_listen_valid(struct auth_listen *);

#endif
