/* A zone file as DNS. Lines become rows in the order of the file; a look-up goes through all of them: zones of tests are short. */
#include "common/dns_zone.h"

#include "common/buf.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <strings.h>

#define CHAIN_MAX 8        /* CNAMEs followed */
#define DEFAULT_TTL 300
#define TXT_MAX 4096       /* octets of one TXT record */

enum row_kind { ROW_RECORD, ROW_CNAME, ROW_SERVFAIL, ROW_TIMEOUT };

struct row {
	enum row_kind kind;
	enum dns_type type;
	char name[DNS_NAME_SIZE];
	uint32_t ttl;
	unsigned preference;
	char *data;
	size_t n;
};

struct dns_zone {
	struct row *rows;
	size_t count;
};

static const struct {
	const char *name;
	enum row_kind kind;
	enum dns_type type;
} TYPES[] = {
	{"A", ROW_RECORD, DNS_A},       {"AAAA", ROW_RECORD, DNS_AAAA}, {"MX", ROW_RECORD, DNS_MX},
	{"PTR", ROW_RECORD, DNS_PTR},   {"TXT", ROW_RECORD, DNS_TXT},   {"CNAME", ROW_CNAME, DNS_A},
	{"SERVFAIL", ROW_SERVFAIL, DNS_A}, {"TIMEOUT", ROW_TIMEOUT, DNS_A},
};

struct dns_zone *dns_zone_free(struct dns_zone *z) {
	if (!z)
		return NULL;
	for (size_t i = 0; i < z->count; i++)
		free(z->rows[i].data);
	free(z->rows);
	free(z);
	return NULL;
}

/* ---- words of a line ---- */

static bool blank(char c) {
	return c == ' ' || c == '\t' || c == '\r';
}

static void skip_blanks(struct slice *s) {
	while (s->n && blank(*s->p))
		*s = slice_of(s->p + 1, s->n - 1);
}

/* The next bare word; empty at the end of the line or before a comment. */
static struct slice next_word(struct slice *s) {
	size_t n = 0;
	skip_blanks(s);
	while (n < s->n && !blank(s->p[n]) && s->p[n] != ';')
		n++;
	struct slice word = slice_of(s->p, n);
	*s = slice_of(s->p + n, s->n - n);
	return word;
}

static bool is_word(struct slice word, const char *text) {
	return word.n == strlen(text) && strncasecmp(word.p, text, word.n) == 0;
}

static bool is_number(struct slice word, unsigned long max, unsigned *ret) {
	unsigned long v = 0;
	for (size_t i = 0; i < word.n; i++) {
		if (word.p[i] < '0' || word.p[i] > '9')
			return false;
		v = v * 10 + (unsigned long)(word.p[i] - '0');
		if (v > max)
			return false;
	}
	*ret = (unsigned)v;
	return word.n > 0;
}

/* One octet of a quoted string: \DDD, \X or itself (RFC 1035 5.1). */
static bool take_octet(struct slice *s, char *ret) {
	unsigned code;
	if (*s->p != '\\') {
		*ret = *s->p;
		*s = slice_of(s->p + 1, s->n - 1);
		return true;
	}
	if (s->n >= 4 && is_number(slice_of(s->p + 1, 3), 255, &code)) {
		*ret = (char)code;
		*s = slice_of(s->p + 4, s->n - 4);
		return true;
	}
	if (s->n < 2 || (s->p[1] >= '0' && s->p[1] <= '9'))
		return false;
	*ret = s->p[1];
	*s = slice_of(s->p + 2, s->n - 2);
	return true;
}

static const char *take_string(struct slice *s, struct buf *out) {
	size_t before = out->len;
	char c;
	*s = slice_of(s->p + 1, s->n - 1);
	while (s->n && *s->p != '"') {
		if (!take_octet(s, &c))
			return "bad \\ in a string";
		buf_append_char(out, c);
	}
	if (s->n == 0)
		return "a string without its closing quote";
	*s = slice_of(s->p + 1, s->n - 1);
	return out->len - before > 255 ? "a string longer than 255 octets" : NULL;
}

/* ---- rdata ---- */

static const char *read_txt(struct slice *s, struct row *row) {
	struct buf text;
	const char *fault = NULL;
	bool any = false;
	buf_init(&text, TXT_MAX);
	for (skip_blanks(s); !fault && s->n && *s->p != ';'; skip_blanks(s)) {
		any = true;
		if (*s->p == '"') {
			fault = take_string(s, &text);
		} else {
			struct slice word = next_word(s);
			buf_append(&text, word.p, word.n);
		}
	}
	if (!fault && (!any || text.overflow))
		fault = any ? "a TXT record longer than 4096 octets" : "TXT needs a string";
	if (!fault)
		row->data = buf_take(&text, &row->n);
	buf_fini(&text);
	return fault;
}

static const char *read_address(struct slice *s, struct row *row) {
	struct slice word = next_word(s);
	char text[64];
	uint8_t octets[16];
	bool v4 = row->type == DNS_A;
	snprintf(text, sizeof(text), "%.*s", (int)word.n, word.p);
	if (inet_pton(v4 ? AF_INET : AF_INET6, text, octets) != 1)
		return v4 ? "not an IPv4 address" : "not an IPv6 address";
	row->n = v4 ? 4 : 16;
	row->data = xmemdup(octets, row->n);
	return NULL;
}

static const char *read_target(struct slice *s, struct row *row) {
	char name[DNS_NAME_SIZE];
	struct slice word;
	if (row->kind == ROW_RECORD && row->type == DNS_MX && !is_number(next_word(s), 65535, &row->preference))
		return "MX needs a preference, 0 to 65535";
	word = next_word(s);
	if (dns_name_canonical(word.p, word.n, name) < 0)
		return "not a name";
	row->n = strlen(name);
	row->data = xstrdup(name);
	return NULL;
}

static const char *read_rdata(struct slice *s, struct row *row) {
	if (row->kind == ROW_SERVFAIL || row->kind == ROW_TIMEOUT)
		return NULL;
	if (row->kind == ROW_CNAME)
		return read_target(s, row);
	switch (row->type) {
	case DNS_A:
	case DNS_AAAA:
		return read_address(s, row);
	case DNS_TXT:
		return read_txt(s, row);
	case DNS_MX:
	case DNS_PTR:
		return read_target(s, row);
	}
	return "unknown type";
}

static const char *read_type(struct slice *s, struct row *row) {
	struct slice word = next_word(s);
	unsigned ttl;
	if (is_number(word, INT32_MAX, &ttl)) {
		row->ttl = ttl;
		word = next_word(s);
	}
	if (is_word(word, "IN"))
		word = next_word(s);
	for (size_t i = 0; i < array_len(TYPES); i++) {
		if (is_word(word, TYPES[i].name)) {
			row->kind = TYPES[i].kind;
			row->type = TYPES[i].type;
			return NULL;
		}
	}
	return "unknown type";
}

/* One line that is not empty; NULL, or what is wrong. */
static const char *read_line(struct dns_zone *z, struct slice s) {
	struct row row = {.ttl = DEFAULT_TTL};
	const char *fault;
	if (!blank(*s.p)) {
		struct slice word = next_word(&s);
		if (dns_name_canonical(word.p, word.n, row.name) < 0)
			return "not a name";
	} else if (z->count == 0) {
		return "no name before this line";
	} else {
		memcpy(row.name, z->rows[z->count - 1].name, sizeof(row.name));
	}
	fault = read_type(&s, &row);
	if (!fault)
		fault = read_rdata(&s, &row);
	if (!fault && next_word(&s).n)
		fault = "something follows the record";
	if (fault) {
		free(row.data);
		return fault;
	}
	if ((z->count & (z->count - 1)) == 0)
		z->rows = xrealloc(z->rows, max_of(z->count * 2, (size_t)1) * sizeof(*z->rows));
	z->rows[z->count++] = row;
	return NULL;
}

static bool has_content(struct slice line) {
	skip_blanks(&line);
	return line.n && *line.p != ';';
}

int dns_zone_parse(const char *text, size_t n, struct dns_zone **ret, char ret_fault[DNS_ZONE_FAULT_SIZE]) {
	cleanup(dns_zone_freep) struct dns_zone *z = xcalloc(1, sizeof(*z));
	unsigned number = 0;
	for (size_t at = 0; at < n;) {
		const char *end = memchr(text + at, '\n', n - at);
		size_t len = end ? (size_t)(end - text) - at : n - at;
		struct slice line = slice_of(text + at, len);
		const char *fault = has_content(line) ? read_line(z, line) : NULL;
		number++;
		if (fault) {
			snprintf(ret_fault, DNS_ZONE_FAULT_SIZE, "line %u: %s", number, fault);
			return -EINVAL;
		}
		at += len + 1;
	}
	*ret = take_ptr(z);
	return 0;
}

/* ---- look-ups ---- */

static const struct row *find(const struct dns_zone *z, const char *name, enum row_kind kind) {
	for (size_t i = 0; i < z->count; i++)
		if (z->rows[i].kind == kind && strcmp(z->rows[i].name, name) == 0)
			return &z->rows[i];
	return NULL;
}

static bool exists(const struct dns_zone *z, const char *name) {
	for (size_t i = 0; i < z->count; i++)
		if (dns_name_within(z->rows[i].name, name))
			return true;
	return false;
}

static struct dns_answer *collect(const struct dns_zone *z, enum dns_type type, const char *name) {
	struct dns_answer *a = dns_answer_new(type, DNS_NO_DATA);
	a->ttl = DEFAULT_TTL;
	for (size_t i = 0; i < z->count; i++) {
		const struct row *row = &z->rows[i];
		if (row->kind != ROW_RECORD || row->type != type || strcmp(row->name, name) != 0)
			continue;
		a->ttl = a->count ? min_of(a->ttl, row->ttl) : row->ttl;
		dns_answer_add(a, row->preference, row->data, row->n);
	}
	if (a->count == 0 && !exists(z, name))
		a->status = DNS_NXDOMAIN;
	return a;
}

struct dns_answer *dns_zone_lookup(const struct dns_zone *z, enum dns_type type, const char *name) {
	const struct row *alias;
	for (unsigned i = 0; i < CHAIN_MAX; i++) {
		if (find(z, name, ROW_TIMEOUT))
			return NULL;
		if (find(z, name, ROW_SERVFAIL))
			return dns_answer_new(type, DNS_TEMPORARY);
		alias = find(z, name, ROW_CNAME);
		if (!alias)
			return collect(z, type, name);
		name = alias->data;
	}
	return dns_answer_new(type, DNS_TEMPORARY); /* they go in a circle */
}
