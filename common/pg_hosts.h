/* Private to pg_*.c: which of several hosts of a connection string is tried first. libpq tries them in the order in which they stand and
 * goes on to the next when one fails, but waits without end for one that says nothing (a connect_timeout is not for who polls), and
 * begins anew with the first each time. One host, or none said: libpq's affair. */
#ifndef MINUTEMAIL_PG_HOSTS_H
#define MINUTEMAIL_PG_HOSTS_H

#include "common/base.h"

#include <libpq-fe.h>

struct pg_hosts {
	char *host, *hostaddr, *port; /* lists with commas as the string has them; NULL: not said */
	unsigned count, first;
};

void pg_hosts_init(struct pg_hosts *, const char *conninfo);
void pg_hosts_fini(struct pg_hosts *);
/* The lists from the first to be tried on: for libpq, behind the string that they are of. The caller frees them; NULL: not said. */
void pg_hosts_order(const struct pg_hosts *, char **ret_host, char **ret_hostaddr, char **ret_port);
/* The host that this connection has got to is of no use now: the next attempt begins with the one behind it. */
void pg_hosts_pass(struct pg_hosts *, const PGconn *);

#endif
