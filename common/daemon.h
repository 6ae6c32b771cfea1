/* What the daemons' main.c have in common besides the master (process.h): how configuration becomes an exit status or a daemon, the
 * listening sockets of all workers, and our name. */
#ifndef MINUTEMAIL_DAEMON_H
#define MINUTEMAIL_DAEMON_H

#include "common/base.h"

struct config_key;
struct sandbox;

struct daemon_configuration {
	const struct config_key *keys;
	void *config;           /* the daemon's struct, zeroed */
	char *const *log_level; /* its member */
	const char *about;      /* the first line of --help */
	/* What a row of the table cannot say (config_check.h). `only`: nothing will be run. False: faults were told. */
	bool (*check)(void *arg, bool only);
	void *arg;
};

/* Reads and judges the configuration, and does what --help, --version and --check-config ask for. -1: run, with the log at its level. Else
 * the exit status: 0, or 2 for a fault. The caller calls config_fini() in any case. */
int daemon_configure(const struct daemon_configuration *, int argc, char **argv);

struct daemon_socket {
	int fd;
	unsigned address; /* which of the addresses: an index */
};

/* Every socket has at least one worker that accepts from it. As many as workers are opened at an address; what came with us
 * (inherit.h) may be fewer or more: then several workers share a socket, or a worker serves several. Opening one more would not do
 * in an upgrade: its queue would die with the new master if that one cannot start. */
struct daemon_sockets {
	unsigned workers, count;
	struct daemon_socket *v;
};

/* Takes or opens the sockets of each address and logs the addresses; `addresses` ends with NULL. -errno after logging why; close
 * in any case. */
int daemon_sockets_open(struct daemon_sockets *, char *const *addresses, unsigned workers);
/* In a worker: closes those that it does not serve (the master keeps them); what is left in `v` is its own. */
void daemon_sockets_keep(struct daemon_sockets *, unsigned worker);
void daemon_sockets_close(struct daemon_sockets *);

/* In a worker that has started: forgets the environment's secrets and enters the sandbox, which may read what a reload reads:
 * the directory of the configuration file, since editors replace the file in it. -errno, logged: the worker must end. */
int daemon_confine(const struct config_key *, struct sandbox *);

/* `configured`, or else the host's name, kept in `room`. Apart from the configuration, which a reload compares. */
const char *daemon_hostname(const char *configured, char room[256]);
/* False: not a level (debug, info, warning, error); nothing changed. */
bool daemon_set_log_level(const char *level);
/* config_reload(), and the level that is configured then (`log_level` is the member's address). */
void daemon_reload(const struct config_key *, void *config, char *const *log_level);

/* As many descriptors as the system lets us have: each connection takes one. */
void daemon_raise_descriptors(void);

#endif
