/* Listening sockets. The master opens one SO_REUSEPORT socket per worker and address before it forks and keeps all of them
 * open, so connections queued at a worker that died wait for its successor. */
#ifndef MINUTEMAIL_LISTENER_H
#define MINUTEMAIL_LISTENER_H

#include "common/base.h"

#include <sys/socket.h>

struct loop;

/* Whether it has the form that listener_open() wants. -EINVAL, -ENAMETOOLONG. */
int listener_check(const char *address);
/* "127.0.0.1:1025", "[::1]:25", "*:25" (both families, one dual-stack socket), "unix:/run/x.sock". Port 0 picks one; the others
 * of the set then use the same. Fills `count` descriptors, close-on-exec and non-blocking. -errno, with *ret_error (static
 * or allocated once at start-up) naming the address. */
int listener_open(const char *address, unsigned count, int *ret_fds, const char **ret_error);
/* Of what came with us (inherit.h) all sockets at exactly this address, `max` at the most; how many. */
unsigned listener_take(const char *address, int *ret_fds, unsigned max);
/* "127.0.0.1:1025" as bound, into ret (size octets). */
void listener_name(int fd, char *ret, size_t size);

struct listener;

/* Accepts up to 16 connections a turn. The callback owns fd (non-blocking, close-on-exec). */
typedef void listener_accept(void *arg, int fd, const struct sockaddr_storage *peer, socklen_t peer_len);
struct listener *listener_new(struct loop *, int fd, listener_accept *, void *arg);   /* borrows fd */
struct listener *listener_free(struct listener *);
/* Pausing leaves connections in the kernel's queue. EMFILE/ENFILE/ENOMEM pause by themselves for 1 s (one log line). */
void listener_set_paused(struct listener *, bool paused); /* NULL is fine */
/* What a client is told, at most one a second, while descriptors have run out: a spare one is kept for that. Else it waits in the
 * kernel's queue. NULL: nothing. Borrowed. */
void listener_set_refusal(struct listener *, const char *text);

#endif
