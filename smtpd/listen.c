/* The options that smtpd knows; how they are written is listen_entry's. */
#include "smtpd/listen.h"

static int set_bare_newline(void *member, const char *value, char ret_what[LISTEN_WHAT_SIZE]) {
	bool *reject = member;
	*reject = strcmp(value, "reject") == 0;
	if (*reject || strcmp(value, "accept") == 0)
		return 0;
	memcpy(ret_what, "want accept or reject", sizeof("want accept or reject"));
	return -EINVAL;
}

#define KEY(name, type, member, ...) {name, type, offsetof(struct listen_settings, member), __VA_ARGS__}

static const struct listen_option OPTIONS[] = {
	{KEY("message_size_max", CONFIG_SIZE, message_size_max, NULL, 1024, 2048 * 1024 * 1024LL - 1, false, NULL), NULL},
	{KEY("limits", CONFIG_BOOL, limits, NULL, 0, 0, false, NULL), NULL},
	{KEY("tls", CONFIG_BOOL, tls, NULL, 0, 0, false, NULL), NULL},
	{KEY("starttls", CONFIG_BOOL, starttls, NULL, 0, 0, false, NULL), NULL},
	{KEY("require_tls", CONFIG_BOOL, require_tls, NULL, 0, 0, false, NULL), NULL},
	{KEY("proxy", CONFIG_STRING, proxy, NULL, 0, 0, false, NULL), listen_set_networks},
	{KEY("bare_newline", CONFIG_BOOL, bare_newline_reject, NULL, 0, 0, false, NULL), set_bare_newline},
};

/* What single options cannot see. */
static int check(const struct listen_settings *s, char ret_fault[LISTEN_FAULT_SIZE]) {
	if (s->require_tls && !s->tls && !s->starttls)
		return listen_entry_fault(ret_fault, "require_tls", "with starttls=no nobody could send mail");
	if (s->proxy.n && strncmp(s->address, "unix:", 5) == 0)
		return listen_entry_fault(ret_fault, "proxy", "a Unix socket's clients have no address that could be listed");
	return 0;
}

int listen_parse(const char *text, struct listen_settings *ret, char ret_fault[LISTEN_FAULT_SIZE]) {
	struct listen_settings s = {.limits = true, .starttls = true};
	int r = listen_entry_parse(text, OPTIONS, array_len(OPTIONS), &s, &s.address, ret_fault);
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
