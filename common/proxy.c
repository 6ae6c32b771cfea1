/* PROXY headers; see the header. Version 1 is a line of text, version 2 a signature, a length and that many octets: addresses, then
 * type-length-value fields of which only the checksum matters here. Whatever is not exactly as the specification writes it is BAD:
 * the peer is a proxy that the operator listed, so there is no reason to guess. */
#include "common/proxy.h"

#define SIGNATURE_LEN 12
#define V2_FIXED 16
#define TLV_CRC32C 0x03

static const uint8_t signature[SIGNATURE_LEN] = "\r\n\r\n\0\r\nQUIT\n";
static const char v1_prefix[] = "PROXY ";

/* ---- version 1 ---- */

/* The next word of the line, up to a blank or its end. */
static struct slice next_word(struct slice *line) {
	const char *blank = line->n ? memchr(line->p, ' ', line->n) : NULL;
	struct slice word = slice_of(line->p, blank ? (size_t)(blank - line->p) : line->n);
	size_t skip = word.n + (blank != NULL);
	*line = slice_of(line->p + skip, line->n - skip);
	return word;
}

static bool parse_address(struct slice word, enum netaddr_family family, struct netaddr *ret) {
	bool six = word.n && memchr(word.p, ':', word.n);
	/* Mapped IPv4 is IPv6 in writing and IPv4 in what it means. */
	return six == (family == NETADDR_IPV6) && netaddr_parse(word.p, word.n, ret) == 0;
}

static bool parse_port(struct slice word, uint16_t *ret) {
	unsigned v = 0;
	if (word.n == 0 || word.n > 5 || (word.n > 1 && word.p[0] == '0'))
		return false;
	for (size_t i = 0; i < word.n; i++) {
		if (word.p[i] < '0' || word.p[i] > '9')
			return false;
		v = v * 10 + (unsigned)(word.p[i] - '0');
	}
	*ret = (uint16_t)v;
	return v <= UINT16_MAX;
}

/* `line`: without CR LF and the prefix. Blanks are single and none is at the end, since an empty word parses as nothing. */
static enum proxy_result parse_v1(struct proxy_header *h, struct slice line) {
	struct slice protocol = next_word(&line);
	enum netaddr_family family;
	if (slice_eq(protocol, slice_str("UNKNOWN")))
		return PROXY_UNKNOWN; /* the rest of the line is to be ignored */
	if (slice_eq(protocol, slice_str("TCP4")))
		family = NETADDR_IPV4;
	else if (slice_eq(protocol, slice_str("TCP6")))
		family = NETADDR_IPV6;
	else
		return PROXY_BAD;
	struct slice source = next_word(&line), destination = next_word(&line), from = next_word(&line);
	if (!parse_address(source, family, &h->source) || !parse_address(destination, family, &h->destination) ||
	    !parse_port(from, &h->source_port) || !parse_port(line, &h->destination_port))
		return PROXY_BAD;
	return PROXY_CLIENT;
}

static enum proxy_result feed_v1(struct proxy_header *h, const uint8_t *p, size_t n, size_t *ret_used) {
	size_t used = 0;
	while (used < n) {
		if (h->n >= PROXY_V1_MAX)
			return PROXY_BAD;
		uint8_t c = h->octets[h->n++] = p[used++];
		*ret_used = used;
		size_t prefix = sizeof(v1_prefix) - 1;
		if (h->n <= prefix && c != (uint8_t)v1_prefix[h->n - 1])
			return PROXY_BAD;
		if (c != '\n')
			continue;
		if (h->n < prefix + 2 || h->octets[h->n - 2] != '\r')
			return PROXY_BAD;
		return parse_v1(h, slice_of((const char *)h->octets + prefix, h->n - prefix - 2));
	}
	return h->n == PROXY_V1_MAX ? PROXY_BAD : PROXY_MORE; /* no line end can come within the limit any more */
}

/* ---- version 2 ---- */

static unsigned get16(const uint8_t *p) {
	return (unsigned)p[0] << 8 | p[1];
}

static uint32_t crc32c(uint32_t crc, const uint8_t *p, size_t n) {
	for (size_t i = 0; i < n; i++) {
		crc ^= p[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
	}
	return crc;
}

/* The checksum is reckoned over the whole header with its own four octets zero. */
static bool checksum_holds(const struct proxy_header *h, size_t at) {
	static const uint8_t zero[4];
	const uint8_t *v = h->octets + at;
	uint32_t said = (uint32_t)get16(v) << 16 | get16(v + 2);
	uint32_t crc = crc32c(0xffffffff, h->octets, at);
	crc = crc32c(crc, zero, sizeof(zero));
	crc = crc32c(crc, v + 4, h->n - at - 4);
	return ~crc == said;
}

static bool check_fields(const struct proxy_header *h, size_t at) {
	while (at < h->n) {
		if (h->n - at < 3)
			return false;
		size_t n = get16(h->octets + at + 1), value = at + 3;
		if (n > h->n - value)
			return false;
		if (h->octets[at] == TLV_CRC32C && (n != 4 || !checksum_holds(h, value)))
			return false;
		at = value + n;
	}
	return true;
}

static enum proxy_result parse_v2(struct proxy_header *h) {
	uint8_t command = h->octets[12], family = h->octets[13];
	const uint8_t *p = h->octets + V2_FIXED;
	size_t addresses;
	if (command == 0x20)
		return PROXY_LOCAL; /* what follows is to be skipped, whatever it is */
	if (family == 0x00)
		return PROXY_UNKNOWN;
	if (family == 0x11) {
		addresses = 12;
		if (h->n < V2_FIXED + addresses)
			return PROXY_BAD;
		h->source = netaddr_of_octets(NETADDR_IPV4, p);
		h->destination = netaddr_of_octets(NETADDR_IPV4, p + 4);
	} else if (family == 0x21) {
		addresses = 36;
		if (h->n < V2_FIXED + addresses)
			return PROXY_BAD;
		h->source = netaddr_of_octets(NETADDR_IPV6, p);
		h->destination = netaddr_of_octets(NETADDR_IPV6, p + 16);
	} else {
		return PROXY_BAD; /* datagrams and Unix sockets carry no mail and no HTTP */
	}
	h->source_port = (uint16_t)get16(p + addresses - 4);
	h->destination_port = (uint16_t)get16(p + addresses - 2);
	return check_fields(h, V2_FIXED + addresses) ? PROXY_CLIENT : PROXY_BAD;
}

/* As soon as an octet of the fixed part is wrong. */
static bool fixed_part_fits(const struct proxy_header *h) {
	if (memcmp(h->octets, signature, min_of(h->n, (unsigned)SIGNATURE_LEN)) != 0)
		return false;
	if (h->n > 12 && h->octets[12] != 0x20 && h->octets[12] != 0x21)
		return false;
	return h->n < V2_FIXED || get16(h->octets + 14) <= PROXY_V2_PAYLOAD_MAX;
}

static size_t take(struct proxy_header *h, size_t until, const uint8_t *p, size_t n) {
	size_t k = h->n < until ? min_of(n, until - h->n) : 0;
	memcpy(h->octets + h->n, p, k);
	h->n += (unsigned)k;
	return k;
}

static enum proxy_result feed_v2(struct proxy_header *h, const uint8_t *p, size_t n, size_t *ret_used) {
	*ret_used = take(h, V2_FIXED, p, n);
	if (!fixed_part_fits(h))
		return PROXY_BAD;
	if (h->n < V2_FIXED)
		return PROXY_MORE;
	size_t whole = V2_FIXED + get16(h->octets + 14);
	*ret_used += take(h, whole, p + *ret_used, n - *ret_used);
	return h->n < whole ? PROXY_MORE : parse_v2(h);
}

enum proxy_result proxy_feed(struct proxy_header *h, const void *p, size_t n, size_t *ret_used) {
	*ret_used = 0;
	if (n == 0)
		return PROXY_MORE;
	uint8_t first = h->n ? h->octets[0] : *(const uint8_t *)p;
	return first == signature[0] ? feed_v2(h, p, n, ret_used) : feed_v1(h, p, n, ret_used);
}
