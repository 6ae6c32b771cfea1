/* Lists of hosts as libpq reads them: hostaddr, where it is said, has an item a server, and else host; port has as many or one; items may
 * be empty. */
#include "common/pg_hosts.h"

static char *value_of(const PQconninfoOption *options, const char *keyword) {
	for (const PQconninfoOption *o = options; o->keyword; o++) {
		if (strcmp(o->keyword, keyword) == 0)
			return o->val && *o->val ? xstrdup(o->val) : NULL;
	}
	return NULL;
}

static unsigned count_items(const char *list) {
	unsigned n = 1;
	if (!list)
		return 0;
	for (const char *p = list; *p; p++)
		n += *p == ',';
	return n;
}

void pg_hosts_init(struct pg_hosts *h, const char *conninfo) {
	PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
	*h = (struct pg_hosts){0};
	if (!options)
		return; /* libpq will say so */
	h->host = value_of(options, "host");
	h->hostaddr = value_of(options, "hostaddr");
	h->port = value_of(options, "port");
	h->count = count_items(h->hostaddr ? h->hostaddr : h->host);
	PQconninfoFree(options);
}

void pg_hosts_fini(struct pg_hosts *h) {
	free(h->host);
	free(h->hostaddr);
	free(h->port);
	*h = (struct pg_hosts){0};
}

/* {NULL, 0}: there is no such item. */
static struct slice item(const char *list, unsigned i) {
	if (i >= count_items(list))
		return (struct slice){0};
	while (i-- > 0)
		list = strchr(list, ',') + 1;
	return slice_of(list, strcspn(list, ","));
}

static char *from_item(const char *list, unsigned first) {
	struct slice start = item(list, first);
	if (!list)
		return NULL;
	if (first == 0 || !start.p)
		return xstrdup(list);
	return xasprintf("%s,%.*s", start.p, (int)(start.p - 1 - list), list);
}

void pg_hosts_order(const struct pg_hosts *h, char **ret_host, char **ret_hostaddr, char **ret_port) {
	*ret_host = from_item(h->host, h->first);
	*ret_hostaddr = from_item(h->hostaddr, h->first);
	*ret_port = from_item(h->port, h->first);
}

static bool at(const struct pg_hosts *h, unsigned i, const PGconn *pq) {
	struct slice host = item(h->host, i), port = item(h->port, i);
	if (host.n == 0)
		host = item(h->hostaddr, i);
	return host.n > 0 && slice_eq(host, slice_str(PQhost(pq))) && (port.n == 0 || slice_eq(port, slice_str(PQport(pq))));
}

void pg_hosts_pass(struct pg_hosts *h, const PGconn *pq) {
	unsigned i = 0;
	if (h->count < 2)
		return;
	while (i < h->count && !at(h, i, pq))
		i++;
	/* One that libpq calls otherwise, as the default directory of sockets: then it was the first, or is passed next time. */
	h->first = ((i < h->count ? i : h->first) + 1) % h->count;
}
