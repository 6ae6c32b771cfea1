/* The domain of the From field, read only as far as that needs: comments and quoted strings are stepped over, what stands before an
 * angle bracket is a name and no address, however much it looks like one. */
#include "common/address.h"
#include "smtpd/dmarc.h"


struct scan {
	char domain[DNS_NAME_SIZE];    /* of the address being read */
	size_t n;
	bool collecting, closed;       /* behind an '@'; behind a '>' */
	enum dmarc_author author;
	char *found;
};

static void finish(struct scan *s) {
	char name[DNS_NAME_SIZE], label[ADDRESS_DOMAIN_MAX + 1];
	if (!s->collecting || s->n == 0)
		return;
	s->collecting = false;
	bool ok = dns_name_canonical(s->domain, s->n, name) == 0 ||
	          (address_canonical_domain(s->domain, s->n, label) == 0 && dns_name_canonical(label, strlen(label), name) == 0);
	if (!ok || name[0] == '\0')
		memcpy(name, "?", 2); /* no name, or the root: counts as another domain, nothing can be said of it */
	if (s->author == DMARC_AUTHOR_NONE) {
		s->author = DMARC_AUTHOR_ONE;
		memcpy(s->found, name, strlen(name) + 1);
	} else if (strcmp(s->found, name) != 0) {
		s->author = DMARC_AUTHOR_SEVERAL;
	}
}

/* Where a quoted string or a comment that begins at i ends (its last octet). */
static size_t skip_quoted(struct slice v, size_t i) {
	for (i++; i < v.n && v.p[i] != '"'; i++)
		if (v.p[i] == '\\')
			i++;
	return i;
}

static size_t skip_comment(struct slice v, size_t i) {
	unsigned depth = 0;
	for (; i < v.n; i++) {
		if (v.p[i] == '\\')
			i++;
		else if (v.p[i] == '(')
			depth++;
		else if (v.p[i] == ')' && --depth == 0)
			break;
	}
	return i;
}

static void take(struct scan *s, char c) {
	if (!s->collecting)
		return;
	if (s->n < sizeof(s->domain) - 1)
		s->domain[s->n++] = c;
}

static void read_addresses(struct scan *s, struct slice v) {
	bool angle = false;
	s->collecting = s->closed = false;
	for (size_t i = 0; i < v.n; i++) {
		char c = v.p[i];
		switch (c) {
		case '"':
			i = skip_quoted(v, i);
			break;
		case '(':
			i = skip_comment(v, i);
			break;
		case '<':
			angle = true;
			s->collecting = false;
			break;
		case '>':
			finish(s);
			angle = false;
			s->closed = true;
			break;
		case ':': /* the end of a route, or of a group's name; inside [IPv6:…] it is the domain's */
			if (s->collecting && s->n > 0 && s->domain[0] == '[')
				take(s, c);
			else
				s->collecting = false;
			break;
		case ',':
		case ';':
			if (angle)
				break; /* in a route */
			finish(s);
			s->collecting = s->closed = false;
			break;
		case '@':
			s->collecting = !s->closed;
			s->n = 0;
			break;
		case ' ':
		case '\t':
		case '\r':
		case '\n':
			if (s->n > 0 && !angle && s->collecting && memchr(v.p + i, '<', v.n - i) == NULL)
				finish(s);
			break;
		default:
			take(s, c);
		}
	}
	finish(s);
}

enum dmarc_author dmarc_author_domain(const struct header_block *b, char ret[DNS_NAME_SIZE]) {
	struct scan s = {.author = DMARC_AUTHOR_NONE, .found = ret};
	unsigned fields = 0;
	ret[0] = '\0';
	for (unsigned i = 0; i < b->count; i++) {
		if (!header_field_is(&b->fields[i], "From"))
			continue;
		fields++;
		read_addresses(&s, b->fields[i].value);
	}
	if (fields > 1 || (s.author == DMARC_AUTHOR_ONE && ret[0] == '?'))
		s.author = DMARC_AUTHOR_SEVERAL;
	if (s.author != DMARC_AUTHOR_ONE)
		ret[0] = '\0';
	return s.author;
}
