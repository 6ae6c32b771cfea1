/* Between the kernel's accept and a session: who is it, and is there room for him? Knows the limits of client addresses and
 * turns away with one line (421) without making a session for it; the PROXY header is read by common/arrivals. */
#ifndef MINUTEMAIL_SMTPD_ACCEPT_H
#define MINUTEMAIL_SMTPD_ACCEPT_H

#include "common/base.h"

struct server;
struct sockaddr_storage;
struct smtpd_listener;

void accept_init(struct server *);   /* its arrivals */
void accept_connection(struct smtpd_listener *, int fd, const struct sockaddr_storage *peer);   /* owns fd */
/* What a listener says when descriptors have run out; NULL: nothing can be said there. Borrowed for the server's life. */
const char *accept_shortage_text(const struct smtpd_listener *);

#endif
