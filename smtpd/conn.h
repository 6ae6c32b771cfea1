/* One SMTP connection: joins stream and session. Feeds octets, carries out what the session wants, logs how it ended. Frees
 * itself when the connection is over; the server only ever asks it to drain. */
#ifndef MINUTEMAIL_CONN_H
#define MINUTEMAIL_CONN_H

#include "common/list.h"
#include "common/clients.h"

struct conn;
struct smtpd_listener;

struct conn_client {
	struct netaddr address;   /* as limits and logs know it: behind a proxy, what its header said */
	struct netaddr peer;      /* of the socket */
	struct netaddr local;     /* that it connected to, if a proxy has said so; else the socket knows */
	struct client place;      /* where it is counted; the connection leaves it in the end */
};

void conn_start(const struct smtpd_listener *, int fd, const struct conn_client *);   /* owns fd */
void conn_drain(struct list *link);   /* 421 when idle, after the reply owed otherwise */
void conn_hurry(struct list *link);   /* stress has begun: its deadlines are shorter now */
void conn_kill(struct list *link);    /* tear-down: closes at once */

#endif
