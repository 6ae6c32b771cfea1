/* One entry of a list of listening addresses: ADDRESS[;option[=value]…], as in "*:25;proxy=10.0.0.0/8+192.168.0.0/16;tls". A daemon has
 * rows for the options it knows, so that they are written the same way everywhere. No I/O: text in, settings or a fault out. */
#ifndef MINUTEMAIL_LISTEN_ENTRY_H
#define MINUTEMAIL_LISTEN_ENTRY_H

#include "common/config.h"

#define LISTEN_FAULT_SIZE 256
#define LISTEN_WHAT_SIZE 192

struct listen_option {
	struct config_key key;   /* name, type, offset in the daemon's settings, bounds; a BOOL's name alone means yes */
	/* Instead of the type, where it is not NULL; `value` is "" if none was said. -EINVAL: ret_what says what was wanted. */
	int (*set)(void *member, const char *value, char ret_what[LISTEN_WHAT_SIZE]);
};

/* For `set`: NETWORK+NETWORK, added to a struct netaddr_nets. */
int listen_set_networks(void *member, const char *value, char ret_what[LISTEN_WHAT_SIZE]);

/* Fills `settings`, which has its defaults, and *ret_address, which the caller frees in any case. -EINVAL: ret_fault names the option
 * and what is wrong. Of an option said twice the last counts. The address is judged by listener_open() later. */
int listen_entry_parse(const char *text, const struct listen_option *options, size_t count, void *settings, char **ret_address,
                       char ret_fault[LISTEN_FAULT_SIZE]);
/* What single options cannot see. Returns -EINVAL. */
int listen_entry_fault(char ret_fault[LISTEN_FAULT_SIZE], const char *option, const char *what);

#endif
