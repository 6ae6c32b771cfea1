/* What a row of the configuration's table cannot say about a value: whether an address, a network, a connection string is one. Every
 * fault is one line on standard error, "PROGRAM: KEY: what is wrong with which part", and all of them are found before the program goes
 * on, so that one --check-config tells everything. */
#ifndef MINUTEMAIL_CONFIG_CHECK_H
#define MINUTEMAIL_CONFIG_CHECK_H

#include "common/listen_entry.h"

struct netaddr_nets;

struct config_check {
	const char *program;
	unsigned faults;
};

printf_like(3, 4) void config_check_fault(struct config_check *, const char *key, const char *format, ...);
/* One of `words`, which ends with NULL. */
void config_check_word(struct config_check *, const char *key, const char *value, const char *const *words);
/* As listener_open() takes it. */
void config_check_address(struct config_check *, const char *key, const char *address);
/* Reads an entry into one of the daemon's elements; *ret_address is borrowed from it. -EINVAL: ret_fault says why, the element holds nothing. */
typedef int config_check_entry(const char *text, void *element, char **ret_address, char ret_fault[LISTEN_FAULT_SIZE]);
/* A list of listening addresses with options, which may not be empty. What is right of it fills elements of `size` octets, in order; the caller
 * frees what they hold and then the array. Returns their addresses as daemon_sockets_open() takes them: that array is the caller's, too. */
char **config_check_listeners(struct config_check *, const char *key, char *const *list, size_t size, config_check_entry *,
                              void **ret_elements, unsigned *ret_count);
/* A list of networks, added to *nets. */
void config_check_networks(struct config_check *, const char *key, char *const *list, struct netaddr_nets *nets);
/* A libpq connection string or URI. */
void config_check_database(struct config_check *, const char *key, const char *text);
/* What tls_load() takes. Reads private keys: not for a process that goes on to serve. */
void config_check_certificates(struct config_check *, const char *key, char *const *list);
void config_check_directory(struct config_check *, const char *key, const char *path);   /* there, and one */
/* Host names, as the DNS has them. */
void config_check_name(struct config_check *, const char *key, const char *name);
void config_check_user(struct config_check *, const char *key, const char *name);        /* "": none */
/* dns_servers and dns_zone_file, which dns_new() takes. */
void config_check_dns(struct config_check *, char *const *servers, const char *zone_file);

#endif
