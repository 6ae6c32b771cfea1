/* Between the kernel's accept and an HTTP connection: who is it? Reads the PROXY header where a listener wants one. */
#ifndef MINUTEMAIL_APID_ACCEPT_H
#define MINUTEMAIL_APID_ACCEPT_H

#include "common/base.h"

struct apid_listener;
struct server;
struct sockaddr_storage;

void accept_connection(const struct apid_listener *, int fd, const struct sockaddr_storage *peer); /* owns fd */
/* Those that have not said who they are yet are closed. */
void accept_cancel(struct server *);

#endif
