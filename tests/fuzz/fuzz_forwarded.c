/* Any octets as the fields that a proxy adds: a stranger's are never believed; who comes out is an address, and is not one of our
 * proxies unless the list ended there; what a client writes in front of the list changes nothing once a stranger was found. */
#include "apid/forwarded.h"

#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void require(bool ok) {
	if (!ok)
		abort();
}

static bool read_head(const char *list, size_t n, const char *before, const struct http_listen *listen, const struct netaddr *peer,
                      struct forwarded *ret) {
	char head[4096];
	size_t used;
	struct http_parse parse;
	int len = snprintf(head, sizeof(head), "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: %s", before);
	if (n > sizeof(head) - 200)
		return false;
	memcpy(head + len, list, n);
	memcpy(head + len + n, "\r\n\r\n", 4);
	http_parse_init(&parse);
	bool whole = http_parse_feed(&parse, head, (size_t)len + n + 4, &used) == HTTP_PARSE_HEAD;
	if (whole)
		forwarded_read(listen, peer, &parse.head, ret);
	http_parse_fini(&parse);
	return whole;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
	struct http_listen listen;
	char fault[LISTEN_FAULT_SIZE];
	struct netaddr proxy, stranger;
	struct forwarded f, g;
	require(http_listen_parse("*:80;forwarded=10.0.0.0/8+2001:db8::/32", &listen, fault) == 0);
	require(netaddr_parse("10.0.0.1", 8, &proxy) == 0 && netaddr_parse("192.0.2.1", 9, &stranger) == 0);
	if (read_head((const char *)p, n, "", &listen, &stranger, &f))
		require(netaddr_equal(&f.client, &stranger) && !f.secure);
	if (read_head((const char *)p, n, "", &listen, &proxy, &f)) {
		require(f.client.family != NETADDR_NONE);
		if (!netaddr_nets_have(&listen.forwarded, &f.client) && read_head((const char *)p, n, "203.0.113.77, ", &listen, &proxy, &g))
			require(netaddr_equal(&f.client, &g.client));
	}
	http_listen_fini(&listen);
	return 0;
}
