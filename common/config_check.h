/* What a row of the configuration's table cannot say about a value: whether an address, a network, a connection string is one. Every
 * fault is one line on standard error, "PROGRAM: KEY: what is wrong with which part", and all of them are found before the program goes
 * on, so that one --check-config tells everything. */
#ifndef MINUTEMAIL_CONFIG_CHECK_H
#define MINUTEMAIL_CONFIG_CHECK_H

#include "common/base.h"

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
