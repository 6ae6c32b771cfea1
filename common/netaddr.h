/* IP addresses and networks as values: parse, match, cut to a prefix, print. Pure. An IPv4 address mapped into IPv6 is that IPv4
 * address, so that one client has one address whatever socket it comes through. */
#ifndef MINUTEMAIL_NETADDR_H
#define MINUTEMAIL_NETADDR_H

#include "common/base.h"

struct sockaddr;

enum netaddr_family {
	NETADDR_NONE, /* a Unix socket has none */
	NETADDR_IPV4,
	NETADDR_IPV6,
};

struct netaddr {
	enum netaddr_family family;
	uint8_t b[16]; /* network order; IPv4: the first four, the rest 0 */
};

#define NETADDR_TEXT_SIZE 48

struct netaddr netaddr_of(const struct sockaddr *);
struct netaddr netaddr_of_octets(enum netaddr_family, const uint8_t *); /* 4 or 16 octets */
/* A numeric address, whole text. -EINVAL. */
int netaddr_parse(const char *text, size_t n, struct netaddr *ret);
/* "192.0.2.1", "2001:db8::1", "" for NONE. */
void netaddr_format(const struct netaddr *, char ret[NETADDR_TEXT_SIZE]);
bool netaddr_equal(const struct netaddr *, const struct netaddr *);
/* The first `bits` bits of it, the rest 0; more bits than there are is all of it. */
struct netaddr netaddr_prefix(const struct netaddr *, unsigned bits);

struct netaddr_net {
	struct netaddr address;
	unsigned bits;
};

/* "10.0.0.0/8", "2001:db8::/32", or an address alone. -EINVAL: not one; -ERANGE: bits are set behind the prefix, which is a slip. */
int netaddr_net_parse(const char *text, size_t n, struct netaddr_net *ret);
/* What such an error says of the text: "is not …". */
const char *netaddr_net_fault(int error);
bool netaddr_net_has(const struct netaddr_net *, const struct netaddr *);

struct netaddr_nets { /* zeroed: none */
	struct netaddr_net *v;
	size_t n;
};

/* Adds one; errors as of netaddr_net_parse(), then nothing was added. */
int netaddr_nets_add(struct netaddr_nets *, const char *text, size_t n);
bool netaddr_nets_have(const struct netaddr_nets *, const struct netaddr *);
void netaddr_nets_fini(struct netaddr_nets *);

#endif
