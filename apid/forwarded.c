/* X-Forwarded-For is read from its end, where our own proxy wrote, leftwards for as long as proxies of ours wrote. Fields of one name are
 * one list, in their order (RFC 9110 5.3). */
#include "apid/forwarded.h"

#include <strings.h>

#define HOPS_MOST 32 /* proxies of our own; a longer list is somebody's joke */

bool forwarded_trusts(const struct http_listen *listen, const struct netaddr *peer) {
	return peer->family == NETADDR_NONE ? listen->forwarded.n > 0 : netaddr_nets_have(&listen->forwarded, peer);
}

/* "192.0.2.1", "192.0.2.1:1234", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:1234": proxies write all of these. */
static bool read_hop(struct slice s, struct netaddr *ret) {
	const char *end;
	s = slice_trim(s);
	if (s.n > 0 && s.p[0] == '[') {
		end = memchr(s.p, ']', s.n);
		return end && netaddr_parse(s.p + 1, (size_t)(end - s.p - 1), ret) == 0 && ret->family == NETADDR_IPV6;
	}
	end = s.n ? memchr(s.p, ':', s.n) : NULL;
	if (end && !memchr(end + 1, ':', s.n - (size_t)(end + 1 - s.p)))
		s.n = (size_t)(end - s.p);
	return netaddr_parse(s.p, s.n, ret) == 0;
}

/* Walks one field from its end. False: the client is found. */
static bool walk(const struct http_listen *listen, struct slice list, struct netaddr *client, unsigned *hops) {
	for (;;) {
		size_t at = list.n;
		struct netaddr hop;
		while (at > 0 && list.p[at - 1] != ',')
			at--;
		if (++*hops > HOPS_MOST || !read_hop(slice_of(list.p + at, list.n - at), &hop))
			return false;
		*client = hop;
		if (!forwarded_trusts(listen, client))
			return false;
		if (at == 0)
			return true;
		list.n = at - 1;
	}
}

static bool is(const struct http_head *head, const struct http_field *f, const char *name) {
	return f->name_len == strlen(name) && memcmp(head->text.data + f->name_at, name, f->name_len) == 0;
}

static struct slice value(const struct http_head *head, const struct http_field *f) {
	return slice_of(head->text.data + f->value_at, f->value_len);
}

static struct netaddr client_of(const struct http_listen *listen, const struct netaddr *peer, const struct http_head *head) {
	struct netaddr client = *peer;
	unsigned hops = 0;
	for (unsigned i = head->field_count; i > 0; i--) {
		const struct http_field *f = &head->fields[i - 1];
		if (is(head, f, "x-forwarded-for") && !walk(listen, value(head, f), &client, &hops))
			break;
	}
	return client;
}

static bool secure_of(const struct http_listen *listen, const struct http_head *head) {
	bool secure = listen->tls;
	unsigned seen = 0;
	for (unsigned i = 0; i < head->field_count; i++) {
		const struct http_field *f = &head->fields[i];
		if (!is(head, f, "x-forwarded-proto"))
			continue;
		secure = ++seen == 1 && f->value_len == 5 && strncasecmp(value(head, f).p, "https", 5) == 0;
	}
	return secure;
}

void forwarded_read(const struct http_listen *listen, const struct netaddr *peer, const struct http_head *head,
                    struct forwarded *ret) {
	*ret = (struct forwarded){.client = *peer, .secure = listen->tls};
	if (!forwarded_trusts(listen, peer))
		return;
	ret->client = client_of(listen, peer, head);
	ret->secure = secure_of(listen, head);
}
