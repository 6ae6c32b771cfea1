/* The options that apid knows; how they are written is listen_entry's. */
#include "apid/http_listen.h"

#define KEY(name, type, member) {name, type, offsetof(struct http_listen, member), NULL, 0, 0, false, NULL}

static const struct listen_option OPTIONS[] = {
    {KEY("tls", CONFIG_BOOL, tls), NULL},
    {KEY("limits", CONFIG_BOOL, limits), NULL},
    {KEY("proxy", CONFIG_STRING, proxy), listen_set_networks},
    {KEY("forwarded", CONFIG_STRING, forwarded), listen_set_networks},
};

int http_listen_parse(const char *text, struct http_listen *ret, char ret_fault[LISTEN_FAULT_SIZE]) {
	struct http_listen s = {.limits = true};
	int r = listen_entry_parse(text, OPTIONS, array_len(OPTIONS), &s, &s.address, ret_fault);
	if (r == 0 && s.proxy.n && strncmp(s.address, "unix:", 5) == 0)
		r = listen_entry_fault(ret_fault, "proxy", "a Unix socket's clients have no address that could be listed");
	if (r < 0)
		http_listen_fini(&s);
	*ret = s;
	return r;
}

void http_listen_fini(struct http_listen *s) {
	free(s->address);
	netaddr_nets_fini(&s->proxy);
	netaddr_nets_fini(&s->forwarded);
	*s = (struct http_listen){0};
}
