/* Answers of the DNS as data, and its names in one form. Limits hold here, so that whoever builds an answer cannot forget them. */
#include "common/dns_answer.h"

#include <stdio.h>

struct dns_answer *dns_answer_new(enum dns_type type, enum dns_status status) {
	struct dns_answer *a = xcalloc(1, sizeof(*a));
	a->type = type;
	a->status = status;
	return a;
}

struct dns_answer *dns_answer_free(struct dns_answer *a) {
	if (!a)
		return NULL;
	for (unsigned i = 0; i < a->count; i++)
		free(a->records[i].data);
	free(a->records);
	free(a);
	return NULL;
}

static char *copy_octets(const void *p, size_t n) {
	char *copy = xmalloc(n + 1);
	if (n)
		memcpy(copy, p, n);
	copy[n] = '\0';
	return copy;
}

bool dns_answer_add(struct dns_answer *a, unsigned preference, const void *data, size_t n) {
	if (a->count >= DNS_RECORDS_MAX || n > DNS_ANSWER_OCTETS_MAX - a->octets)
		return false;
	if ((a->count & (a->count - 1)) == 0) /* grows at 0, 1, 2, 4, … */
		a->records = xrealloc(a->records, max_of(a->count * 2, 1U) * sizeof(*a->records));
	a->records[a->count++] = (struct dns_record){preference, copy_octets(data, n), n};
	a->octets += n;
	a->status = DNS_FOUND;
	return true;
}

struct dns_answer *dns_answer_copy(const struct dns_answer *from) {
	struct dns_answer *a = dns_answer_new(from->type, from->status);
	a->ttl = from->ttl;
	for (unsigned i = 0; i < from->count; i++)
		dns_answer_add(a, from->records[i].preference, from->records[i].data, from->records[i].n);
	return a;
}

int dns_name_canonical(const char *s, size_t n, char ret[DNS_NAME_SIZE]) {
	size_t label = 0;
	if (n > 0 && s[n - 1] == '.')
		n--;
	else if (n == 0)
		return -EINVAL;
	if (n >= DNS_NAME_SIZE)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		char c = s[i];
		if (c == '.') {
			if (label == 0)
				return -EINVAL;
			label = 0;
		} else if (c <= 0x20 || c >= 0x7f || c == '\\' || ++label > 63) {
			return -EINVAL;
		}
		ret[i] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
	}
	if (n > 0 && label == 0)
		return -EINVAL;
	ret[n] = '\0';
	return 0;
}

bool dns_name_within(const char *name, const char *parent) {
	size_t n = strlen(name), p = strlen(parent);
	return n >= p && strcmp(name + n - p, parent) == 0 && (n == p || p == 0 || name[n - p - 1] == '.');
}

bool dns_name_reversed(const uint8_t *address, unsigned octets, const char *suffix, char ret[DNS_NAME_SIZE]) {
	char text[DNS_NAME_SIZE];
	size_t n = 0;
	for (unsigned i = octets; i-- > 0;) {
		if (octets == 4)
			n += (size_t)snprintf(text + n, sizeof(text) - n, "%u.", address[i]);
		else
			n += (size_t)snprintf(text + n, sizeof(text) - n, "%x.%x.", address[i] & 15U, address[i] >> 4);
	}
	if (!suffix)
		suffix = octets == 4 ? "in-addr.arpa" : "ip6.arpa";
	if (n + strlen(suffix) >= sizeof(text))
		return false;
	memcpy(ret, text, n);
	memcpy(ret + n, suffix, strlen(suffix) + 1);
	return true;
}
