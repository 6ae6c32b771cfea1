/* What the daemons' main.c have in common besides the master (process.h): the listening sockets of all workers, and our name. */
#ifndef MINUTEMAIL_DAEMON_H
#define MINUTEMAIL_DAEMON_H

#include "common/base.h"

struct daemon_sockets {
	unsigned addresses, workers;
	int *fds;   /* addresses × workers; -1: closed */
};

/* Opens a socket per address and worker and logs the addresses; `addresses` ends with NULL. -errno after logging why; close in
 * any case. */
int daemon_sockets_open(struct daemon_sockets *, char *const *addresses, unsigned workers);
/* In a worker: closes the others' (the master keeps them for their own worker) and fills ours, one an address. */
void daemon_sockets_keep(struct daemon_sockets *, unsigned worker, int *ret_fds);
void daemon_sockets_close(struct daemon_sockets *);

/* `configured`, or else the host's name, kept in `room`. Apart from the configuration, which a reload compares. */
const char *daemon_hostname(const char *configured, char room[256]);
/* False: not a level (debug, info, warning, error); nothing changed. */
bool daemon_set_log_level(const char *level);

#endif
