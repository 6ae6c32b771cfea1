/* Reads a connection string the way libpq does: what it does not say, the environment says, and then the defaults. */
#include "common/sandbox_database.h"

#include "common/sandbox.h"

#include <arpa/inet.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <stdio.h>
#include <unistd.h>

#define DEFAULT_PORT "5432"

/* NULL: nowhere. */
static const char *value_of(const PQconninfoOption *options, const char *keyword) {
	for (const PQconninfoOption *o = options; o->keyword; o++) {
		if (strcmp(o->keyword, keyword) != 0)
			continue;
		const char *v = o->val && *o->val ? o->val : o->envvar ? getenv(o->envvar) : NULL;
		return v && *v ? v : NULL;
	}
	return NULL;
}

static void add_files(struct sandbox *s, const PQconninfoOption *options) {
	static const char *const keywords[] = {"sslcert", "sslkey", "sslrootcert", "sslcrl", "sslcrldir", "passfile"};
	static const char *const at_home[] = {".postgresql", ".pgpass", ".pg_service.conf"};
	const char *home = getenv("HOME"), *service_file = getenv("PGSERVICEFILE");
	for (size_t i = 0; i < array_len(keywords); i++) {
		const char *path = value_of(options, keywords[i]);
		if (path && *path == '/')
			sandbox_may_read(s, path);
	}
	if (!home || *home != '/') {
		const struct passwd *pw = getpwuid(geteuid());
		home = pw ? pw->pw_dir : NULL;
	}
	for (size_t i = 0; home && i < array_len(at_home); i++) {
		cleanup(freep) char *path = xasprintf("%s/%s", home, at_home[i]);
		sandbox_may_read(s, path);
	}
	if (service_file)
		sandbox_may_read(s, service_file);
	sandbox_may_read(s, "/etc/postgresql-common");
	if (!value_of(options, "user"))
		sandbox_may_read(s, "/etc/passwd"); /* our own name is the default */
}

static bool is_numeric(const char *host) {
	struct in6_addr room;
	return inet_pton(AF_INET, host, &room) == 1 || inet_pton(AF_INET6, host, &room) == 1;
}

/* Lists with commas, one item a server. */
static void add_hosts(struct sandbox *s, const PQconninfoOption *options) {
	const char *hosts = value_of(options, "host");
	cleanup(freep) char *list = xstrdup(hosts ? hosts : "/");
	char *rest;
	bool tcp = value_of(options, "hostaddr") != NULL;
	for (char *host = strtok_r(list, ",", &rest); host; host = strtok_r(NULL, ",", &rest)) {
		if (*host == '/' || *host == '@')
			continue;
		tcp = true;
		if (!is_numeric(host) && !value_of(options, "hostaddr"))
			sandbox_may_read(s, "/etc");
	}
	if (!tcp)
		return;
	const char *port_list = value_of(options, "port");
	cleanup(freep) char *ports = xstrdup(port_list ? port_list : DEFAULT_PORT);
	for (char *port = strtok_r(ports, ",", &rest); port; port = strtok_r(NULL, ",", &rest))
		sandbox_may_connect(s, (uint16_t)strtoul(port, NULL, 10));
	if (port_list && (*port_list == ',' || port_list[strlen(port_list) - 1] == ',' || strstr(port_list, ",,")))
		sandbox_may_connect(s, (uint16_t)strtoul(DEFAULT_PORT, NULL, 10));
}

void sandbox_may_use_database(struct sandbox *s, const char *conninfo) {
	PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
	if (!options)
		return; /* libpq will not connect with it either */
	add_files(s, options);
	if (value_of(options, "service")) {
		/* The rest stands in a file that may change. */
		sandbox_may_read(s, "/etc");
		sandbox_may_connect_anywhere(s);
	} else {
		add_hosts(s, options);
	}
	PQconninfoFree(options);
}
