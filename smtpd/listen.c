/* Options of a listening address. Those that are a plain value are rows as in the daemon's own table, so that sizes and yes or no
 * are written the same way in both; a row's name alone means yes. */
#include "smtpd/listen.h"

#include "common/config_value.h"

#include <stdio.h>

#define KEY(name, type, member, ...) {name, type, offsetof(struct listen_settings, member), __VA_ARGS__}

static const struct config_key values[] = {
	KEY("message_size_max", CONFIG_SIZE, message_size_max, NULL, 1024, 2048 * 1024 * 1024LL - 1, false, NULL),
	KEY("limits", CONFIG_BOOL, limits, NULL, 0, 0, false, NULL),
	KEY("tls", CONFIG_BOOL, tls, NULL, 0, 0, false, NULL),
	KEY("starttls", CONFIG_BOOL, starttls, NULL, 0, 0, false, NULL),
	KEY("require_tls", CONFIG_BOOL, require_tls, NULL, 0, 0, false, NULL),
};

#define OTHERS "message_size_max, limits, tls, starttls, require_tls, proxy or bare_newline"

static int fault(char ret_fault[LISTEN_FAULT_SIZE], const char *name, const char *what) {
	snprintf(ret_fault, LISTEN_FAULT_SIZE, "option %s: %s", name, what);
	return -EINVAL;
}

static int set_proxy(struct listen_settings *s, const char *value, char ret_fault[LISTEN_FAULT_SIZE]) {
	char what[96];
	for (const char *p = value;; p++) {
		size_t n = strcspn(p, "+");
		int r = netaddr_nets_add(&s->proxy, p, n);
		if (r < 0) {
			snprintf(what, sizeof(what), "'%.*s' %s", (int)min_of(n, (size_t)45), p,
			         r == -ERANGE ? "has bits set behind its prefix"
			                      : "is not a network (want 10.0.0.0/8 or 2001:db8::/32)");
			return fault(ret_fault, "proxy", what);
		}
		p += n;
		if (!*p)
			return 0;
	}
}

static int set_bare_newline(struct listen_settings *s, const char *value, char ret_fault[LISTEN_FAULT_SIZE]) {
	s->bare_newline_reject = strcmp(value, "reject") == 0;
	if (!s->bare_newline_reject && strcmp(value, "accept") != 0)
		return fault(ret_fault, "bare_newline", "want accept or reject");
	return 0;
}

static int set_value(struct listen_settings *s, const struct config_key *key, const char *value,
                     char ret_fault[LISTEN_FAULT_SIZE]) {
	char what[CONFIG_FAULT_SIZE];
	if (!value && key->type == CONFIG_BOOL)
		value = "yes";
	if (config_value_parse(key, value ? value : "", (char *)s + key->offset, what) < 0)
		return fault(ret_fault, key->name, what);
	return 0;
}

/* `option` is "name" or "name=value"; cut in place. */
static int set_option(struct listen_settings *s, char *option, char ret_fault[LISTEN_FAULT_SIZE]) {
	char *value = strchr(option, '=');
	if (value)
		*value++ = '\0';
	for (size_t i = 0; i < array_len(values); i++)
		if (strcmp(option, values[i].name) == 0)
			return set_value(s, &values[i], value, ret_fault);
	if (strcmp(option, "proxy") == 0)
		return set_proxy(s, value ? value : "", ret_fault);
	if (strcmp(option, "bare_newline") == 0)
		return set_bare_newline(s, value ? value : "", ret_fault);
	snprintf(ret_fault, LISTEN_FAULT_SIZE, "unknown option '%.60s' (want " OTHERS ")", option);
	return -EINVAL;
}

/* What single options cannot see. */
static int check(const struct listen_settings *s, char ret_fault[LISTEN_FAULT_SIZE]) {
	if (s->require_tls && !s->tls && !s->starttls)
		return fault(ret_fault, "require_tls", "with starttls=no nobody could send mail");
	if (s->proxy.n && strncmp(s->address, "unix:", 5) == 0)
		return fault(ret_fault, "proxy", "a Unix socket's clients have no address that could be listed");
	return 0;
}

int listen_parse(const char *text, struct listen_settings *ret, char ret_fault[LISTEN_FAULT_SIZE]) {
	struct listen_settings s = {.limits = true, .starttls = true};
	cleanup(freep) char *copy = xstrdup(text);
	char *rest = strchr(copy, ';');
	int r = 0;
	if (rest)
		*rest++ = '\0';
	s.address = xstrdup(copy);
	while (r == 0 && rest) {
		char *option = rest;
		rest = strchr(option, ';');
		if (rest)
			*rest++ = '\0';
		r = set_option(&s, option, ret_fault);
	}
	if (r == 0)
		r = check(&s, ret_fault);
	if (r < 0)
		listen_fini(&s);
	*ret = s;
	return r;
}

void listen_fini(struct listen_settings *s) {
	free(s->address);
	netaddr_nets_fini(&s->proxy);
	*s = (struct listen_settings){0};
}
