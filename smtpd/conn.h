/* One SMTP connection: joins stream and session. Feeds octets, carries out what the session wants, logs how it ended. Frees
 * itself when the connection is over; the server only ever asks it to drain. */
#ifndef MINUTEMAIL_CONN_H
#define MINUTEMAIL_CONN_H

#include "common/list.h"

#include <sys/socket.h>

struct conn;
struct smtpd_listener;

void conn_start(const struct smtpd_listener *, int fd, const struct sockaddr_storage *peer);   /* owns fd */
void conn_drain(struct list *link);   /* 421 when idle, after the reply owed otherwise */
void conn_kill(struct list *link);    /* tear-down: closes at once */

#endif
