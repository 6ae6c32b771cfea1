/* The PROXY protocol's header, versions 1 and 2 (haproxy's proxy-protocol.txt), as it comes in front of a proxied connection. Pure,
 * and resumable at any octet. Takes no octet beyond the header. */
#ifndef MINUTEMAIL_PROXY_H
#define MINUTEMAIL_PROXY_H

#include "common/netaddr.h"

#define PROXY_V1_MAX 107       /* octets with CR LF */
#define PROXY_V2_PAYLOAD_MAX 4096   /* addresses and TLVs; the protocol would allow 65,535 */
#define PROXY_HEADER_MAX (16 + PROXY_V2_PAYLOAD_MAX)

enum proxy_result {
	PROXY_MORE,
	PROXY_CLIENT,            /* source and ports are set */
	PROXY_LOCAL,             /* the proxy speaks for itself (a health check): the socket's addresses hold */
	PROXY_UNKNOWN,           /* "UNKNOWN" or AF_UNSPEC: well formed, but whom it speaks for is not said */
	PROXY_BAD,               /* not a header, or one that contradicts itself */
};

struct proxy_header {        /* zeroed to start with */
	struct netaddr source, destination;   /* CLIENT; IPv4 mapped into IPv6 is IPv4 */
	uint16_t source_port, destination_port;
	unsigned n;
	uint8_t octets[PROXY_HEADER_MAX];
};

/* Feeds what has come since; *ret_used says how many octets of it belong to the header: all with MORE, none that matters with BAD.
 * Not called again after anything but MORE. */
enum proxy_result proxy_feed(struct proxy_header *, const void *p, size_t n, size_t *ret_used);

#endif
