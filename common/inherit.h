/* Listening sockets that come with us into the world: from systemd (sd_listen_fds(3)), or from the master that this one
 * replaces, which speaks the same protocol. Whoever is about to listen asks here first, by address. One table a process, filled
 * at start-up. */
#ifndef MINUTEMAIL_INHERIT_H
#define MINUTEMAIL_INHERIT_H

#include "common/base.h"

/* Reads LISTEN_FDS, once, and clears it from the environment. What is not a listening stream socket is left out, with a
 * warning. */
void inherit_init(void);
/* Hands over those that `match` says yes to, made close-on-exec and non-blocking, `max` at the most; how many. */
unsigned inherit_take(bool (*match)(int fd, const void *arg), const void *arg, int *ret_fds, unsigned max);
/* Closes what nobody took, with a line in the log each. */
void inherit_close_rest(void);

/* In a child that is about to exec, single-threaded: puts `from` where the protocol wants them (3 and up), and `more` (descriptors of
 * another use) right behind; everything above is closed. Returns where the first of `more` is now, or -errno. */
int inherit_pass(const int *from, unsigned n, const int *more, unsigned more_n);

#endif
