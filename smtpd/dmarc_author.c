/* The domain of the From field, read as the field is shown (mime_address): what stands before an angle bracket is a name and no
 * address, however much it looks like one. */
#include "common/address.h"
#include "common/buf.h"
#include "common/text.h"
#include "smtpd/dmarc.h"
#include "smtpd/mime_address.h"

struct authors {
	enum dmarc_author author;
	char *domain;                  /* of all so far */
};

/* What is no name, or the root, counts as a domain of its own ("?"): nothing can be said of it. */
static void domain_of(struct slice address, char ret[DNS_NAME_SIZE]) {
	char label[ADDRESS_DOMAIN_MAX + 1];
	const char *at = memrchr(address.p, '@', address.n), *name = at ? at + 1 : address.p;
	size_t n = (size_t)(address.p + address.n - name);
	bool ok = dns_name_canonical(name, n, ret) == 0 ||
	          (address_canonical_domain(name, n, label) == 0 && dns_name_canonical(label, strlen(label), ret) == 0);
	if (!ok || ret[0] == '\0')
		memcpy(ret, "?", 2);
}

static bool add_author(void *arg, struct slice address, struct slice name) {
	struct authors *a = arg;
	char domain[DNS_NAME_SIZE];
	domain_of(address, domain);
	if (a->author == DMARC_AUTHOR_NONE) {
		a->author = DMARC_AUTHOR_ONE;
		memcpy(a->domain, domain, strlen(domain) + 1);
	} else if (strcmp(a->domain, domain) != 0) {
		a->author = DMARC_AUTHOR_SEVERAL;
	}
	return true;
}

static void read_addresses(struct authors *a, struct slice value) {
	struct buf line;
	buf_init(&line, value.n * 4 + 64);
	text_append_line(&line, value.p, value.n);
	if (line.len)
		mime_address_list(buf_slice(&line), add_author, a);
	buf_fini(&line);
}

enum dmarc_author dmarc_author_domain(const struct header_block *b, char ret[DNS_NAME_SIZE]) {
	struct authors a = {DMARC_AUTHOR_NONE, ret};
	unsigned fields = 0;
	ret[0] = '\0';
	for (unsigned i = 0; i < b->count; i++) {
		if (!header_field_is(&b->fields[i], "From"))
			continue;
		fields++;
		read_addresses(&a, b->fields[i].value);
	}
	if (fields > 1 || (a.author == DMARC_AUTHOR_ONE && ret[0] == '?'))
		a.author = DMARC_AUTHOR_SEVERAL;
	if (a.author != DMARC_AUTHOR_ONE)
		ret[0] = '\0';
	return a.author;
}

bool dmarc_author_is(const char *address, const char *domain) {
	char own[DNS_NAME_SIZE];
	domain_of(slice_str(address), own);
	return strcmp(own, domain) == 0;
}
