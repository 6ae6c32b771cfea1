/* IP addresses and networks; see the header. Not a resolver: names are nobody's business here. */
#include "common/netaddr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}; /* RFC 4291 2.5.5.2 */

static unsigned width(enum netaddr_family family) {
	return family == NETADDR_IPV4 ? 32 : family == NETADDR_IPV6 ? 128 : 0;
}

struct netaddr netaddr_of_octets(enum netaddr_family family, const uint8_t *octets) {
	struct netaddr a = {.family = family};
	if (family == NETADDR_IPV6 && memcmp(octets, mapped, sizeof(mapped)) == 0) {
		a.family = NETADDR_IPV4;
		octets += sizeof(mapped);
	}
	memcpy(a.b, octets, width(a.family) / 8);
	return a;
}

struct netaddr netaddr_of(const struct sockaddr *sa) {
	if (sa->sa_family == AF_INET) {
		struct sockaddr_in in;
		memcpy(&in, sa, sizeof(in));
		return netaddr_of_octets(NETADDR_IPV4, (const uint8_t *)&in.sin_addr);
	}
	if (sa->sa_family == AF_INET6) {
		struct sockaddr_in6 in6;
		memcpy(&in6, sa, sizeof(in6));
		return netaddr_of_octets(NETADDR_IPV6, in6.sin6_addr.s6_addr);
	}
	return (struct netaddr){.family = NETADDR_NONE};
}

int netaddr_parse(const char *text, size_t n, struct netaddr *ret) {
	char copy[INET6_ADDRSTRLEN];
	uint8_t octets[16];
	if (n == 0 || n >= sizeof(copy) || memchr(text, '\0', n))
		return -EINVAL;
	memcpy(copy, text, n);
	copy[n] = '\0';
	/* inet_pton wants four decimal numbers without leading zeros, so no octal or short forms. */
	if (inet_pton(AF_INET, copy, octets) == 1)
		*ret = netaddr_of_octets(NETADDR_IPV4, octets);
	else if (inet_pton(AF_INET6, copy, octets) == 1)
		*ret = netaddr_of_octets(NETADDR_IPV6, octets);
	else
		return -EINVAL;
	return 0;
}

void netaddr_format(const struct netaddr *a, char ret[NETADDR_TEXT_SIZE]) {
	char *p = ret;
	if (a->family == NETADDR_IPV6)
		inet_ntop(AF_INET6, a->b, ret, NETADDR_TEXT_SIZE);
	if (a->family != NETADDR_IPV4) {
		ret[a->family == NETADDR_NONE ? 0 : strlen(ret)] = '\0';
		return;
	}
	/* Not by inet_ntop(), which goes by way of snprintf(): every line of the log has one. */
	for (unsigned i = 0; i < 4; i++) {
		p += decimal(a->b[i], p);
		*p++ = i < 3 ? '.' : '\0';
	}
}

bool netaddr_equal(const struct netaddr *a, const struct netaddr *b) {
	return a->family == b->family && memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

struct netaddr netaddr_prefix(const struct netaddr *a, unsigned bits) {
	struct netaddr p = {.family = a->family};
	bits = min_of(bits, width(a->family));
	memcpy(p.b, a->b, bits / 8);
	if (bits % 8)
		p.b[bits / 8] = a->b[bits / 8] & (uint8_t)(0xff00 >> bits % 8);
	return p;
}

/* Decimal, no leading zeros, at most `most`. */
static int parse_bits(const char *p, size_t n, unsigned most, unsigned *ret) {
	unsigned v = 0;
	if (n == 0 || n > 3 || (n > 1 && p[0] == '0'))
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (p[i] < '0' || p[i] > '9')
			return -EINVAL;
		v = v * 10 + (unsigned)(p[i] - '0');
	}
	if (v > most)
		return -EINVAL;
	*ret = v;
	return 0;
}

int netaddr_net_parse(const char *text, size_t n, struct netaddr_net *ret) {
	const char *slash = n ? memchr(text, '/', n) : NULL;
	struct netaddr_net net;
	int r = netaddr_parse(text, slash ? (size_t)(slash - text) : n, &net.address);
	if (r < 0)
		return r;
	unsigned most = width(net.address.family);
	net.bits = most;
	if (slash) {
		/* A mapped address is IPv4 by now, its prefix was counted in IPv6. */
		bool was_mapped = net.address.family == NETADDR_IPV4 && memchr(text, ':', (size_t)(slash - text));
		r = parse_bits(slash + 1, n - (size_t)(slash + 1 - text), was_mapped ? 128 : most, &net.bits);
		if (r < 0 || (was_mapped && net.bits < 96))
			return -EINVAL;
		net.bits -= was_mapped ? 96 : 0;
	}
	struct netaddr base = netaddr_prefix(&net.address, net.bits);
	if (!netaddr_equal(&base, &net.address))
		return -ERANGE;
	*ret = net;
	return 0;
}

bool netaddr_net_has(const struct netaddr_net *net, const struct netaddr *a) {
	struct netaddr base = netaddr_prefix(a, net->bits);
	return a->family == net->address.family && netaddr_equal(&base, &net->address);
}

const char *netaddr_net_fault(int error) {
	return error == -ERANGE ? "has bits set behind its prefix" : "is not a network (want 10.0.0.0/8 or 2001:db8::/32)";
}

int netaddr_nets_add(struct netaddr_nets *nets, const char *text, size_t n) {
	struct netaddr_net net;
	int r = netaddr_net_parse(text, n, &net);
	if (r < 0)
		return r;
	nets->v = xrealloc(nets->v, (nets->n + 1) * sizeof(*nets->v));
	nets->v[nets->n++] = net;
	return 0;
}

bool netaddr_nets_have(const struct netaddr_nets *nets, const struct netaddr *a) {
	for (size_t i = 0; i < nets->n; i++)
		if (netaddr_net_has(&nets->v[i], a))
			return true;
	return false;
}

void netaddr_nets_fini(struct netaddr_nets *nets) {
	free(nets->v);
	*nets = (struct netaddr_nets){0};
}
