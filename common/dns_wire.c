/* RFC 1035 4.1: header, question, answers. Names come through ares_expand_name(), which checks compression and bounds; everything
 * else is checked here. */
#include "common/dns_wire.h"

#include "common/buf.h"

#include <ares.h>

#define CNAME 5
#define CLASS_IN 1
#define CHAIN_MAX 12           /* CNAMEs followed in one message */
#define NEGATIVE_TTL 30

struct wire {
	const uint8_t *p;
	size_t n, at;
};

struct rr {
	char name[DNS_NAME_SIZE];  /* "?": not a name of ours */
	unsigned type, class;
	uint32_t ttl;
	size_t at, n;              /* rdata */
};

static unsigned u16(const uint8_t *p) {
	return (unsigned)p[0] << 8 | p[1];
}

/* Names that are no host names (an underscore is fine, an escaped octet is not) are kept as "?", which equals nothing. */
static bool read_name(const struct wire *w, size_t at, char ret[DNS_NAME_SIZE], size_t *ret_len) {
	char *text;
	long len;
	if (at >= w->n || ares_expand_name(w->p + at, w->p, (int)w->n, &text, &len) != ARES_SUCCESS)
		return false;
	if (*text == '\0')
		ret[0] = '\0';
	else if (dns_name_canonical(text, strlen(text), ret) < 0)
		memcpy(ret, "?", 2);
	ares_free_string(text);
	*ret_len = (size_t)len;
	return true;
}

static bool read_rr(struct wire *w, struct rr *ret) {
	size_t len;
	if (!read_name(w, w->at, ret->name, &len) || w->n - w->at < len + 10)
		return false;
	const uint8_t *p = w->p + w->at + len;
	ret->type = u16(p);
	ret->class = u16(p + 2);
	ret->ttl = (uint32_t)u16(p + 4) << 16 | u16(p + 6);
	ret->n = u16(p + 8);
	ret->at = w->at + len + 10;
	if (ret->n > w->n - ret->at)
		return false;
	w->at = ret->at + ret->n;
	return true;
}

static bool add_txt(struct dns_answer *a, const uint8_t *p, size_t n) {
	struct buf text;
	buf_init(&text, DNS_ANSWER_OCTETS_MAX);
	for (size_t at = 0; at < n; at += (size_t)p[at] + 1) {
		if (p[at] >= n - at) {
			buf_fini(&text);
			return false;
		}
		buf_append(&text, p + at + 1, p[at]);
	}
	dns_answer_add(a, 0, text.data ? text.data : "", text.len);
	buf_fini(&text);
	return true;
}

static bool add_target(struct dns_answer *a, const struct wire *w, size_t at, unsigned preference) {
	char name[DNS_NAME_SIZE];
	size_t len;
	if (!read_name(w, at, name, &len))
		return false;
	dns_answer_add(a, preference, name, strlen(name));
	return true;
}

static bool add_record(struct dns_answer *a, const struct wire *w, const struct rr *rr) {
	const uint8_t *p = w->p + rr->at;
	switch (a->type) {
	case DNS_A:
	case DNS_AAAA:
		if (rr->n != (a->type == DNS_A ? 4 : 16))
			return false;
		dns_answer_add(a, 0, p, rr->n);
		return true;
	case DNS_TXT:
		return add_txt(a, p, rr->n);
	case DNS_MX:
		return rr->n >= 3 && add_target(a, w, rr->at + 2, u16(p));
	case DNS_PTR:
		return add_target(a, w, rr->at, 0);
	}
	return false;
}

/* One pass over the answers: collects what `name` has, or says where its CNAME leads. False: malformed. */
static bool pass(const struct wire *start, unsigned answers, struct dns_answer *a, const char *name, char ret_alias[DNS_NAME_SIZE]) {
	struct wire w = *start;
	struct rr rr;
	size_t len;
	ret_alias[0] = '\0';
	while (answers-- > 0) {
		if (!read_rr(&w, &rr))
			return false;
		if (rr.class != CLASS_IN || strcmp(rr.name, name) != 0 || (rr.type != CNAME && rr.type != (unsigned)a->type))
			continue;
		a->ttl = min_of(a->ttl, rr.ttl);
		if (rr.type == CNAME) {
			if (!read_name(&w, rr.at, ret_alias, &len))
				return false;
		} else if (!add_record(a, &w, &rr)) {
			return false;
		}
	}
	return true;
}

static struct dns_answer *failed(enum dns_type type) {
	return dns_answer_new(type, DNS_TEMPORARY);
}

struct dns_answer *dns_wire_read(const uint8_t *p, size_t n, enum dns_type type, const char *name) {
	struct wire w = {p, n, 12};
	char at[DNS_NAME_SIZE], alias[DNS_NAME_SIZE];
	size_t len;
	if (n < 12 || u16(p + 4) > 1)
		return failed(type);
	unsigned rcode = p[3] & 15U;
	if (rcode != 0 && rcode != 3)
		return failed(type);
	if (u16(p + 4) == 1) {
		if (!read_name(&w, w.at, at, &len) || w.n - w.at < len + 4)
			return failed(type);
		w.at += len + 4;
	}
	cleanup(dns_answer_freep) struct dns_answer *a = dns_answer_new(type, rcode == 3 ? DNS_NXDOMAIN : DNS_NO_DATA);
	a->ttl = UINT32_MAX;
	memcpy(at, name, strlen(name) + 1);
	for (unsigned i = 0; i < CHAIN_MAX; i++) {
		if (!pass(&w, u16(p + 6), a, at, alias))
			return failed(type);
		if (a->count > 0 || alias[0] == '\0')
			break;
		memcpy(at, alias, sizeof(at));
	}
	if (a->count == 0)
		a->ttl = NEGATIVE_TTL;
	return take_ptr(a);
}
