/* DKIM signatures of one message: read, hashed, judged. What is wrong with a signature itself is known before any key is asked for. */
#include "smtpd/dkim.h"

#include "smtpd/dkim_canon.h"
#include "smtpd/dkim_key.h"
#include "smtpd/tag_list.h"

#include <stdio.h>
#include <strings.h>

#define NAMES_MAX 256              /* in h= */
#define FUTURE_MAX 86400           /* seconds that t= may be ahead of our clock */

static bool refuse(struct dkim_signature *s, const char *reason) {
	s->verdict = DKIM_PERMERROR;
	s->reason = reason;
	return false;
}

static bool is_word(struct slice s, const char *word) {
	return s.n == strlen(word) && strncasecmp(s.p, word, s.n) == 0;
}

/* ---- the tags of a signature (3.5) ---- */

static bool read_algorithm(struct slice a, struct dkim_signature *s) {
	s->algorithm = DKIM_ALGORITHM_OTHER;
	if (is_word(a, "rsa-sha256"))
		s->algorithm = DKIM_RSA_SHA256;
	else if (is_word(a, "ed25519-sha256"))
		s->algorithm = DKIM_ED25519_SHA256;
	else
		return refuse(s, is_word(a, "rsa-sha1") ? "rsa-sha1 is not accepted" : "unknown algorithm");
	return true;
}

static bool read_form(struct slice word, bool *relaxed) {
	*relaxed = is_word(word, "relaxed");
	return *relaxed || is_word(word, "simple");
}

static bool read_canonicalisation(struct slice c, struct dkim_signature *s) {
	const char *slash = c.n ? memchr(c.p, '/', c.n) : NULL;
	if (!c.p)
		return true; /* simple/simple */
	size_t n = slash ? (size_t)(slash - c.p) : c.n;
	if (!read_form(slice_of(c.p, n), &s->relaxed_header) ||
	    (slash && !read_form(slice_of(slash + 1, c.n - n - 1), &s->relaxed_body)))
		return refuse(s, "unknown canonicalisation");
	return true;
}

/* dkim-quoted-printable (2.11): blanks count nowhere, "=40" is an octet. Returns the octets, at most s.n. */
static size_t decode_quoted(struct slice s, char *ret) {
	size_t n = 0;
	for (size_t k = 0; k < s.n; k++) {
		int high = s.p[k] == '=' && k + 2 < s.n ? hex_value(s.p[k + 1]) : -1;
		int low = high >= 0 ? hex_value(s.p[k + 2]) : -1;
		if (low >= 0) {
			ret[n++] = (char)(high << 4 | low);
			k += 2;
		} else if (!strchr(" \t\r\n", s.p[k])) {
			ret[n++] = s.p[k];
		}
	}
	return n;
}

/* i= is an address, or "@" and a domain, in d= or below. */
static bool read_identity(struct slice i, struct dkim_signature *s) {
	char domain[DNS_NAME_SIZE];
	s->same_domain = true;
	if (!i.p) {
		snprintf(s->identity, sizeof(s->identity), "@%s", s->domain);
		return true;
	}
	cleanup(freep) char *text = xmalloc(i.n + 1);
	i = slice_of(text, decode_quoted(i, text));
	const char *at = memrchr(i.p, '@', i.n);
	if (!at || dns_name_canonical(at + 1, i.n - (size_t)(at + 1 - i.p), domain) < 0)
		return refuse(s, "i= is no identity");
	if (!dns_name_within(domain, s->domain))
		return refuse(s, "i= is not in d=");
	s->same_domain = strcmp(domain, s->domain) == 0;
	bool printable = i.n < sizeof(s->identity);
	for (size_t k = 0; printable && k < i.n; k++)
		printable = i.p[k] > 0x20 && i.p[k] < 0x7f;
	if (printable)
		snprintf(s->identity, sizeof(s->identity), "%.*s", (int)i.n, i.p);
	return true;
}

static bool read_times(const struct tag_list *tags, struct dkim_signature *s) {
	struct slice t = tag_list_value(tags, "t"), x = tag_list_value(tags, "x"), l = tag_list_value(tags, "l");
	s->limit = UINT64_MAX;
	if ((t.p && !tag_value_number(t, &s->signed_at)) || (x.p && !tag_value_number(x, &s->expires_at)) ||
	    (l.p && !tag_value_number(l, &s->limit)))
		return refuse(s, "t=, x= or l= is no number");
	if (t.p && x.p && s->expires_at <= s->signed_at)
		return refuse(s, "expires before it was signed");
	s->limited = l.p != NULL;
	return true;
}

static bool signs_from(struct slice h) {
	return tag_value_has(h, "from");
}

static bool read_tags(const struct tag_list *tags, struct dkim_signature *s) {
	struct slice d = tag_list_value(tags, "d"), sel = tag_list_value(tags, "s"), b = tag_list_value(tags, "b");
	struct slice q = tag_list_value(tags, "q");
	size_t n;
	if (!d.p || dns_name_canonical(d.p, d.n, s->domain) < 0 || !strchr(s->domain, '.')) {
		s->domain[0] = '\0';
		return refuse(s, "d= is no domain");
	}
	if (!sel.p || dns_name_canonical(sel.p, sel.n, s->selector) < 0 || !s->selector[0]) {
		s->selector[0] = '\0';
		return refuse(s, "s= is no selector");
	}
	for (size_t i = 0, k = 0; i < b.n && k < sizeof(s->tag) - 1; i++)
		if (b.p[i] > 0x20)
			s->tag[k++] = b.p[i];
	if (!is_word(tag_list_value(tags, "v"), "1"))
		return refuse(s, "unknown version");
	if (!read_algorithm(tag_list_value(tags, "a"), s))
		return false;
	if (!b.p || tag_value_base64(b, s->signature, sizeof(s->signature), &s->signature_n) < 0 || s->signature_n == 0)
		return refuse(s, "b= is no signature");
	struct slice bh = tag_list_value(tags, "bh");
	if (!bh.p || tag_value_base64(bh, s->body_hash, sizeof(s->body_hash), &n) < 0 || n != SHA256_LEN)
		return refuse(s, "bh= is no hash");
	if (q.p && !tag_value_has(q, "dns/txt"))
		return refuse(s, "unknown way to the key");
	if (!signs_from(tag_list_value(tags, "h")))
		return refuse(s, "From is not signed");
	return read_canonicalisation(tag_list_value(tags, "c"), s) && read_identity(tag_list_value(tags, "i"), s) && read_times(tags, s);
}

/* ---- what is hashed ---- */

/* The lowest field of the name that was not taken yet (5.4.2); the signature itself is none of them. */
static const struct header_field *take_field(const struct header_block *b, struct slice name, const struct header_field *own,
                                             uint8_t *taken) {
	for (unsigned i = b->count; i-- > 0;) {
		const struct header_field *f = &b->fields[i];
		if (taken[i] || f == own || f->name.n != name.n || strncasecmp(f->name.p, name.p, name.n) != 0)
			continue;
		taken[i] = 1;
		return f;
	}
	return NULL; /* signed as absent */
}

/* Of fields that may stand once and decide how a message reads, one that is not signed beside one that is: it could be the one that
 * is shown (8.15). */
static bool has_unsigned_twin(const struct header_block *b, const uint8_t *taken) {
	static const char *const once[] = {"From", "Subject", "Content-Type", "Content-Transfer-Encoding"};
	for (size_t k = 0; k < array_len(once); k++) {
		bool is_signed = false, is_not = false;
		for (unsigned i = 0; i < b->count; i++) {
			if (!header_field_is(&b->fields[i], once[k]))
				continue;
			is_signed = is_signed || taken[i];
			is_not = is_not || !taken[i];
		}
		if (is_signed && is_not)
			return true;
	}
	return false;
}

static bool hash_header(const struct header_block *b, const struct header_field *own, const struct tag_list *tags,
                        struct dkim_signature *s) {
	const struct slice no_hole = {0};
	struct slice rest = tag_list_value(tags, "h"), name;
	uint8_t taken[HEADER_FIELDS_MAX] = {0};
	unsigned names = 0;
	struct sha256 *sha = sha256_new();
	sha256_reset(sha);
	while (tag_value_next(&rest, &name) && names++ < NAMES_MAX) {
		const struct header_field *f = take_field(b, name, own, taken);
		if (!f)
			continue;
		dkim_header_add(sha, s->relaxed_header, f->raw, no_hole);
		dkim_header_end(sha);
	}
	dkim_header_add(sha, s->relaxed_header, own->raw, tag_list_find(tags, "b")->room);
	sha256_final(sha, s->header_digest);
	sha256_free(sha);
	if (names > NAMES_MAX)
		return refuse(s, "too many names in h=");
	return !has_unsigned_twin(b, taken) || refuse(s, "a signed field stands twice");
}

/* Signatures that hash the body alike share the work. */
static bool choose_body(struct dkim_set *set, struct dkim_signature *s) {
	for (s->body = 0; s->body < set->body_count; s->body++)
		if (set->bodies[s->body]->relaxed == s->relaxed_body && set->bodies[s->body]->limit == s->limit)
			return true;
	if (set->body_count == DKIM_BODIES_MAX)
		return refuse(s, "too many different body hashes");
	set->bodies[set->body_count] = xmalloc(sizeof(struct dkim_body));
	dkim_body_init(set->bodies[set->body_count++], s->relaxed_body, s->limit);
	return true;
}

static void read_signature(const struct header_block *b, const struct header_field *f, struct dkim_set *set,
                           struct dkim_signature *s) {
	struct tag_list tags;
	*s = (struct dkim_signature){.verdict = DKIM_PASS, .limit = UINT64_MAX};
	if (!tag_list_parse(f->value, false, &tags))
		refuse(s, "signature cannot be read");
	else if (read_tags(&tags, s) && b->odd)
		refuse(s, "header holds lines that are no fields"); /* what is shown and what was signed may differ */
	else if (s->verdict == DKIM_PASS && hash_header(b, f, &tags, s))
		choose_body(set, s);
}

void dkim_scan(const struct header_block *b, struct dkim_set *ret) {
	*ret = (struct dkim_set){0};
	for (unsigned i = 0; i < b->count; i++) {
		if (!header_field_is(&b->fields[i], "DKIM-Signature"))
			continue;
		if (ret->count == DKIM_SIGNATURES_MAX) {
			ret->ignored++;
			continue;
		}
		if (!ret->v)
			ret->v = xcalloc(DKIM_SIGNATURES_MAX, sizeof(*ret->v));
		read_signature(b, &b->fields[i], ret, &ret->v[ret->count++]);
	}
}

void dkim_set_fini(struct dkim_set *set) {
	for (unsigned i = 0; i < set->body_count; i++) {
		dkim_body_fini(set->bodies[i]);
		free(set->bodies[i]);
	}
	free(set->v);
	*set = (struct dkim_set){0};
}

bool dkim_wants_body(const struct dkim_set *set) {
	return set->body_count > 0;
}

void dkim_feed(struct dkim_set *set, const void *p, size_t n) {
	for (unsigned i = 0; i < set->body_count; i++)
		dkim_body_feed(set->bodies[i], p, n);
}

void dkim_feed_end(struct dkim_set *set) {
	for (unsigned i = 0; i < set->body_count; i++) {
		uint8_t digest[SHA256_LEN];
		bool whole = dkim_body_end(set->bodies[i], digest);
		for (unsigned k = 0; k < set->count; k++) {
			struct dkim_signature *s = &set->v[k];
			if (s->reason || s->body != i || (whole && memcmp(s->body_hash, digest, SHA256_LEN) == 0))
				continue;
			s->verdict = DKIM_FAIL;
			s->reason = whole ? "body was changed" : "body is shorter than l=";
		}
	}
}

/* ---- keys (6.1.2) ---- */

/* Of several records the one that verifies counts; else the last says why not. */
static void judge(struct dkim_signature *s, const struct dns_answer *key) {
	switch (key->status) {
	case DNS_TEMPORARY:
		s->verdict = DKIM_TEMPERROR;
		s->reason = "no answer for the key";
		break;
	case DNS_NO_DATA:
	case DNS_NXDOMAIN:
		refuse(s, "no key");
		break;
	case DNS_FOUND:
		for (unsigned i = 0; i < min_of(key->count, 3U); i++) {
			dkim_key_verify(slice_of(key->records[i].data, key->records[i].n), s);
			if (s->verdict == DKIM_PASS)
				break;
		}
		break;
	}
}

static bool in_time(struct dkim_signature *s, uint64_t now) {
	const char *why = NULL;
	if (s->expires_at && now > s->expires_at)
		why = "signature expired";
	else if (s->signed_at > now && s->signed_at - now > FUTURE_MAX)
		why = "signed in the future";
	if (why) {
		s->verdict = DKIM_FAIL;
		s->reason = why;
	}
	return !why;
}

int dkim_verify(struct dkim_set *set, struct dns_facts *facts, int64_t now) {
	const struct dns_answer *keys[DKIM_SIGNATURES_MAX] = {0};
	bool wait = false;
	for (unsigned i = 0; i < set->count; i++) {
		struct dkim_signature *s = &set->v[i];
		char name[DNS_NAME_SIZE * 2 + 16];
		if (s->reason)
			continue;
		snprintf(name, sizeof(name), "%s._domainkey.%s", s->selector, s->domain);
		keys[i] = dns_facts_ask(facts, DNS_TXT, name);
		wait = wait || !keys[i];
	}
	if (wait)
		return -EAGAIN;
	for (unsigned i = 0; i < set->count; i++)
		if (keys[i] && in_time(&set->v[i], (uint64_t)(now / 1000000)))
			judge(&set->v[i], keys[i]);
	return 0;
}

const char *dkim_verdict_name(enum dkim_verdict v) {
	static const char *const names[] = {"pass", "fail", "temperror", "permerror"};
	return names[v];
}

const char *dkim_algorithm_name(enum dkim_algorithm a) {
	static const char *const names[] = {"rsa-sha256", "ed25519-sha256", ""};
	return names[a];
}
