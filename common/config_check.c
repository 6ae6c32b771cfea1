#include "common/config_check.h"

#include "common/dns.h"
#include "common/dns_answer.h"
#include "common/listener.h"
#include "common/netaddr.h"
#include "common/tls_files.h"

#include <libpq-fe.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

void config_check_fault(struct config_check *c, const char *key, const char *format, ...) {
	va_list arguments;
	va_start(arguments, format);
	fprintf(stderr, "%s: %s: ", c->program, key);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	va_end(arguments);
	c->faults++;
}

void config_check_word(struct config_check *c, const char *key, const char *value, const char *const *words) {
	char want[128];
	size_t n = 0;
	for (size_t i = 0; words[i]; i++) {
		if (strcmp(value, words[i]) == 0)
			return;
		n += (size_t)snprintf(want + n, sizeof(want) - n, "%s%s", i == 0 ? "" : words[i + 1] ? ", " : " or ", words[i]);
		assert(n < sizeof(want));
	}
	config_check_fault(c, key, "'%s' is not %s", value, want);
}

void config_check_address(struct config_check *c, const char *key, const char *address) {
	if (listener_check(address) < 0)
		config_check_fault(c, key, "'%s' is not an address to listen on (want 127.0.0.1:25, [::1]:25, *:25 or unix:/path)", address);
}

char **config_check_listeners(struct config_check *c, const char *key, char *const *list, size_t size, config_check_entry *read,
                              void **ret_elements, unsigned *ret_count) {
	char fault[LISTEN_FAULT_SIZE];
	unsigned n = 0, count = 0;
	while (list[n])
		n++;
	if (n == 0)
		config_check_fault(c, key, "is empty");
	char *elements = xcalloc(n, size), **addresses = xcalloc(n + 1, sizeof(*addresses));
	for (unsigned i = 0; i < n; i++) {
		if (read(list[i], elements + count * size, &addresses[count], fault) < 0)
			config_check_fault(c, key, "%s: %s", list[i], fault);
		else
			config_check_address(c, key, addresses[count++]);
	}
	addresses[count] = NULL;
	*ret_elements = elements;
	*ret_count = count;
	return addresses;
}

void config_check_networks(struct config_check *c, const char *key, char *const *list, struct netaddr_nets *nets) {
	for (; *list; list++) {
		int r = netaddr_nets_add(nets, *list, strlen(*list));
		if (r < 0)
			config_check_fault(c, key, "'%s' %s", *list, netaddr_net_fault(r));
	}
}

void config_check_database(struct config_check *c, const char *key, const char *text) {
	char *error = NULL;
	PQconninfoOption *options = PQconninfoParse(text, &error);
	if (!options)
		config_check_fault(c, key, "not a connection string: %.*s", error ? (int)strcspn(error, "\n") : 0, error ? error : "");
	PQfreemem(error);
	PQconninfoFree(options);
}

void config_check_certificates(struct config_check *c, const char *key, char *const *list) {
	for (; *list; list++) {
		struct tls_pair pair = {0};
		cleanup(freep) char *error = NULL;
		if (tls_load(*list, true, &pair, &error) < 0)
			config_check_fault(c, key, "%s", error);
		tls_pair_fini(&pair);
	}
}

void config_check_directory(struct config_check *c, const char *key, const char *path) {
	struct stat st;
	if (stat(path, &st) < 0)
		config_check_fault(c, key, "%s: %s", path, strerror(errno));
	else if (!S_ISDIR(st.st_mode))
		config_check_fault(c, key, "%s: not a directory", path);
}

void config_check_name(struct config_check *c, const char *key, const char *name) {
	char canonical[DNS_NAME_SIZE];
	if (dns_name_canonical(name, strlen(name), canonical) < 0)
		config_check_fault(c, key, "'%s' is not a host name", name);
}

void config_check_user(struct config_check *c, const char *key, const char *name) {
	if (*name && !getpwnam(name))
		config_check_fault(c, key, "there is no user '%s'", name);
}

void config_check_dns(struct config_check *c, char *const *servers, const char *zone_file) {
	char fault[DNS_FAULT_SIZE];
	for (; *servers; servers++)
		if (dns_server_check(*servers) < 0)
			config_check_fault(c, "dns_servers", "'%s' is not a DNS server's address (want 127.0.0.1, [::1]:53)", *servers);
	if (*zone_file && dns_zone_check(zone_file, fault) < 0)
		config_check_fault(c, "dns_zone_file", "%s", fault);
}
