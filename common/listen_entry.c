/* Options of a listening address: rows as in the daemon's own table, so that sizes and yes or no are written the same way in both. */
#include "common/listen_entry.h"

#include "common/config_value.h"
#include "common/netaddr.h"

#include <stdio.h>

int listen_entry_fault(char ret_fault[LISTEN_FAULT_SIZE], const char *option, const char *what) {
	snprintf(ret_fault, LISTEN_FAULT_SIZE, "option %s: %s", option, what);
	return -EINVAL;
}

int listen_set_networks(void *member, const char *value, char ret_what[LISTEN_WHAT_SIZE]) {
	for (const char *p = value;; p++) {
		size_t n = strcspn(p, "+");
		int r = netaddr_nets_add(member, p, n);
		if (r < 0) {
			snprintf(ret_what, LISTEN_WHAT_SIZE, "'%.*s' %s", (int)min_of(n, (size_t)45), p, netaddr_net_fault(r));
			return -EINVAL;
		}
		p += n;
		if (!*p)
			return 0;
	}
}

static int set_value(const struct listen_option *option, const char *value, void *settings, char ret_fault[LISTEN_FAULT_SIZE]) {
	void *member = (char *)settings + option->key.offset;
	char what[LISTEN_WHAT_SIZE];
	_Static_assert(LISTEN_WHAT_SIZE >= CONFIG_FAULT_SIZE, "one buffer for both");
	if (!value && !option->set && option->key.type == CONFIG_BOOL)
		value = "yes";
	if (!value)
		value = "";
	int r = option->set ? option->set(member, value, what) : config_value_parse(&option->key, value, member, what);
	return r < 0 ? listen_entry_fault(ret_fault, option->key.name, what) : 0;
}

static int fault_unknown(char ret_fault[LISTEN_FAULT_SIZE], const char *name, const struct listen_option *options, size_t count) {
	size_t n = (size_t)snprintf(ret_fault, LISTEN_FAULT_SIZE, "unknown option '%.60s' (want ", name);
	for (size_t i = 0; i < count && n < LISTEN_FAULT_SIZE; i++)
		n += (size_t)snprintf(ret_fault + n, LISTEN_FAULT_SIZE - n, "%s%s", options[i].key.name,
		                      i + 1 == count ? ")" : i + 2 == count ? " or " : ", ");
	return -EINVAL;
}

/* `text` is "name" or "name=value"; cut in place. */
static int set_option(char *text, const struct listen_option *options, size_t count, void *settings, char ret_fault[LISTEN_FAULT_SIZE]) {
	char *value = strchr(text, '=');
	if (value)
		*value++ = '\0';
	for (size_t i = 0; i < count; i++)
		if (strcmp(text, options[i].key.name) == 0)
			return set_value(&options[i], value, settings, ret_fault);
	return fault_unknown(ret_fault, text, options, count);
}

int listen_entry_parse(const char *text, const struct listen_option *options, size_t count, void *settings, char **ret_address,
                       char ret_fault[LISTEN_FAULT_SIZE]) {
	cleanup(freep) char *copy = xstrdup(text);
	char *rest = strchr(copy, ';');
	int r = 0;
	if (rest)
		*rest++ = '\0';
	*ret_address = xstrdup(copy);
	while (r == 0 && rest) {
		char *option = rest;
		rest = strchr(option, ';');
		if (rest)
			*rest++ = '\0';
		r = set_option(option, options, count, settings, ret_fault);
	}
	return r;
}
