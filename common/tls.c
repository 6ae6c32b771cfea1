/* The certificates of a daemon behind one SSL_CTX for each combination that is served. A name leads to a context that holds at
 * most one certificate of each key type; OpenSSL chooses between them by what the client offers. Contexts share everything but
 * their certificates, tickets included.
 *
 * Invariants: names are sorted and unique; contexts[0] is the default; nothing changes after tls_set_new(). */
#include "common/clock.h"
#include "common/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <time.h>

/* ECDHE only, AEAD first. CBC stays for senders as old as Windows Server 2012, which would else fall back to clear text. */
#define CIPHERS_12 "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:!aNULL:!PSK:!SRP"
#define TYPES 2

/* A name and the first pair of each key type that has it. */
struct served {
	char *name;                    /* "*.example.org" stays as it is */
	const struct tls_pair *pairs[TYPES];
	SSL_CTX *ctx;                  /* counted */
};

struct tls_set {
	unsigned refs;
	struct served *names;
	size_t count;
	SSL_CTX *fallback;
	struct tls_tickets *tickets;
	const char *alpn;
	int64_t expires;
	char *expires_name;
};

void tls_pair_fini(struct tls_pair *p) {
	X509_free(p->leaf);
	sk_X509_pop_free(p->chain, X509_free);
	EVP_PKEY_free(p->key);
	*p = (struct tls_pair){0};
}

/* ---- names ---- */

/* Into lower case; false if it is not a host name that a certificate or a log may carry. */
static bool copy_name(const char *s, size_t n, char ret[TLS_NAME_MAX + 1]) {
	if (n > 0 && s[n - 1] == '.')
		n--;
	if (n == 0 || n > TLS_NAME_MAX)
		return false;
	for (size_t i = 0; i < n; i++) {
		char c = s[i];
		if (c >= 'A' && c <= 'Z')
			c = (char)(c | 0x20);
		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c && strchr("-._*", c))))
			return false;
		ret[i] = c;
	}
	ret[n] = '\0';
	return true;
}

static void common_name(const X509 *x, void (*each)(void *arg, const char *name), void *arg) {
	char name[TLS_NAME_MAX + 1];
	X509_NAME *subject = X509_get_subject_name(x);
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	if (at < 0)
		return;
	const ASN1_STRING *text = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));
	if (copy_name((const char *)ASN1_STRING_get0_data(text), (size_t)ASN1_STRING_length(text), name))
		each(arg, name);
}

void tls_names(const X509 *x, void (*each)(void *arg, const char *name), void *arg) {
	char name[TLS_NAME_MAX + 1];
	unsigned found = 0;
	GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
		if (g->type != GEN_DNS)
			continue;
		found++;
		if (copy_name((const char *)ASN1_STRING_get0_data(g->d.dNSName), (size_t)ASN1_STRING_length(g->d.dNSName), name))
			each(arg, name);
	}
	GENERAL_NAMES_free(names);
	if (!found)
		common_name(x, each, arg);
}

static struct served *exact(const struct tls_set *s, const char *name) {
	size_t from = 0, to = s->count;
	while (from < to) {
		size_t middle = from + (to - from) / 2;
		int order = strcmp(name, s->names[middle].name);
		if (order == 0)
			return &s->names[middle];
		if (order < 0)
			to = middle;
		else
			from = middle + 1;
	}
	return NULL;
}

/* Exact name, then the wildcard that stands for its first label (RFC 6125 6.4.3). */
static struct served *find_name(const struct tls_set *s, const char *name) {
	char wild[TLS_NAME_MAX + 2];
	struct served *found = exact(s, name);
	const char *dot = strchr(name, '.');
	if (found || !dot || dot == name)
		return found;
	snprintf(wild, sizeof(wild), "*%s", dot);
	return exact(s, wild);
}

/* ---- building ---- */

struct building {
	struct tls_set *set;
	const struct tls_pair *pair;
	unsigned type;
};

static unsigned type_of(const struct tls_pair *p) {
	return EVP_PKEY_get_base_id(p->key) == EVP_PKEY_RSA ? 1 : 0;
}

static void add_name(void *arg, const char *name) {
	struct building *b = arg;
	struct tls_set *s = b->set;
	struct served *at = exact(s, name);
	if (!at) {
		size_t i = s->count;
		s->names = xrealloc(s->names, (s->count + 1) * sizeof(*s->names));
		while (i > 0 && strcmp(s->names[i - 1].name, name) > 0)
			i--;
		memmove(s->names + i + 1, s->names + i, (s->count - i) * sizeof(*s->names));
		s->count++;
		at = &s->names[i];
		*at = (struct served){.name = xstrdup(name)};
	}
	if (!at->pairs[b->type])
		at->pairs[b->type] = b->pair;
}

static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int issue) {
	struct tls_set *s = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	return tls_tickets_use(s->tickets, name, iv, cipher, mac, issue);
}

/* Runs for every ClientHello, with or without a name. */
static int on_name(SSL *ssl, int *alert, void *arg) {
	struct tls_set *s = arg;
	struct tls_info *info = SSL_get_app_data(ssl);
	const char *asked = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	char name[TLS_NAME_MAX + 1];
	(void)alert;
	if (!asked || !copy_name(asked, strlen(asked), name))
		return SSL_TLSEXT_ERR_NOACK;
	memcpy(info->sni, name, sizeof(name));
	const struct served *found = find_name(s, name);
	if (!found)
		return SSL_TLSEXT_ERR_NOACK; /* the default completes */
	SSL_set_SSL_CTX(ssl, found->ctx);
	return SSL_TLSEXT_ERR_OK;
}

/* The client's list: each an octet of length and so many octets. */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in, unsigned n, void *arg) {
	const struct tls_set *s = arg;
	size_t wanted = s->alpn ? strlen(s->alpn) : 0;
	(void)ssl;
	if (!s->alpn)
		return SSL_TLSEXT_ERR_NOACK;
	for (unsigned i = 0; i < n && in[i] < n - i; i += 1u + in[i]) {
		if (in[i] != wanted || memcmp(in + i + 1, s->alpn, wanted) != 0)
			continue;
		*out = in + i + 1;
		*out_len = in[i];
		return SSL_TLSEXT_ERR_OK;
	}
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static SSL_CTX *new_context(struct tls_set *s) {
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	if (!ctx)
		return NULL;
	SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
	                             SSL_OP_PRIORITIZE_CHACHA | SSL_OP_NO_ANTI_REPLAY);
	/* Moving: what is written stands in an evbuffer, whose memory may be another at the next try. */
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
	/* Else one SSL_read() may answer any number of KeyUpdates, and memory grows by the answers. */
	SSL_CTX_clear_mode(ctx, SSL_MODE_AUTO_RETRY);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
	/* Sessions live in tickets: a cache of one worker would miss at the next. */
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"minutemail", 10);
	SSL_CTX_set_app_data(ctx, s);
	SSL_CTX_set_tlsext_servername_callback(ctx, on_name);
	SSL_CTX_set_tlsext_servername_arg(ctx, s);
	SSL_CTX_set_alpn_select_cb(ctx, on_alpn, s);
	if (s->tickets)
		SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket);
	else
		SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
	if (SSL_CTX_set_cipher_list(ctx, CIPHERS_12) != 1) {
		SSL_CTX_free(ctx);
		return NULL;
	}
	return ctx;
}

static SSL_CTX *fill_context(struct tls_set *s, const struct served *name) {
	SSL_CTX *ctx = new_context(s);
	for (unsigned t = 0; t < TYPES && ctx; t++) {
		const struct tls_pair *p = name->pairs[t];
		if (p && SSL_CTX_use_cert_and_key(ctx, p->leaf, p->key, p->chain, 1) != 1) {
			SSL_CTX_free(ctx);
			ctx = NULL;
		}
	}
	return ctx;
}

/* One for each combination of pairs, however many names it has. */
static bool make_context(struct tls_set *s, struct served *name) {
	for (size_t i = 0; i < s->count && !name->ctx; i++) {
		if (s->names[i].ctx && memcmp(s->names[i].pairs, name->pairs, sizeof(name->pairs)) == 0) {
			SSL_CTX_up_ref(s->names[i].ctx);
			name->ctx = s->names[i].ctx;
		}
	}
	if (!name->ctx)
		name->ctx = fill_context(s, name);
	return name->ctx != NULL;
}

/* The pair that clients without a name get: the first, with what else its first name has. */
static void keep_first(void *arg, const char *name) {
	const char **first = arg;
	if (!*first)
		*first = xstrdup(name);
}

static bool make_fallback(struct tls_set *s, const struct tls_pair *pair) {
	cleanup(freep) char *first = NULL;
	tls_names(pair->leaf, keep_first, &first);
	const struct served *name = first ? exact(s, first) : NULL;
	if (name && (name->pairs[type_of(pair)] == pair)) {
		SSL_CTX_up_ref(name->ctx);
		s->fallback = name->ctx;
	} else {
		struct served nameless = {0};
		nameless.pairs[type_of(pair)] = pair;
		s->fallback = fill_context(s, &nameless);
	}
	return s->fallback != NULL;
}

static void note_expiry(struct tls_set *s, const struct tls_pair *pair) {
	int64_t at = tls_not_after(pair->leaf);
	if (s->expires_name && at >= s->expires)
		return;
	free(s->expires_name);
	s->expires_name = NULL;
	s->expires = at;
	tls_names(pair->leaf, keep_first, &s->expires_name);
	if (!s->expires_name)
		s->expires_name = xstrdup("unnamed");
}

int tls_set_new(const struct tls_pair *pairs, size_t count, struct tls_tickets *tickets, struct tls_set **ret) {
	assert(count > 0);
	struct tls_set *s = xcalloc(1, sizeof(*s));
	bool ok = true;
	s->refs = 1;
	s->tickets = tickets;
	for (size_t i = 0; i < count; i++) {
		struct building b = {s, &pairs[i], type_of(&pairs[i])};
		tls_names(pairs[i].leaf, add_name, &b);
		note_expiry(s, &pairs[i]);
	}
	for (size_t i = 0; i < s->count && ok; i++)
		ok = make_context(s, &s->names[i]);
	ok = ok && make_fallback(s, &pairs[0]);
	for (size_t i = 0; i < s->count; i++) /* borrowed */
		memset(s->names[i].pairs, 0, sizeof(s->names[i].pairs));
	if (!ok) {
		tls_set_unref(s);
		return -EINVAL;
	}
	*ret = s;
	return 0;
}

void tls_set_alpn(struct tls_set *s, const char *protocol) {
	s->alpn = protocol;
}

struct tls_set *tls_set_ref(struct tls_set *s) {
	s->refs++;
	return s;
}

struct tls_set *tls_set_unref(struct tls_set *s) {
	if (!s || --s->refs > 0)
		return NULL;
	for (size_t i = 0; i < s->count; i++) {
		SSL_CTX_free(s->names[i].ctx);
		free(s->names[i].name);
	}
	SSL_CTX_free(s->fallback);
	free(s->names);
	free(s->expires_name);
	free(s);
	return NULL;
}

/* ---- using ---- */

SSL *tls_set_accept(struct tls_set *s, struct tls_info *info) {
	SSL *ssl = SSL_new(s->fallback);
	if (!ssl)
		abort();
	SSL_set_app_data(ssl, info);
	SSL_set_accept_state(ssl);
	return ssl;
}

const X509 *tls_set_find(struct tls_set *s, const char *name) {
	char clean[TLS_NAME_MAX + 1];
	const struct served *found = name && copy_name(name, strlen(name), clean) ? find_name(s, clean) : NULL;
	return SSL_CTX_get0_certificate(found ? found->ctx : s->fallback);
}

int64_t tls_set_expires(const struct tls_set *s, const char **ret_name) {
	*ret_name = s->expires_name;
	return s->expires;
}

int64_t tls_not_after(const X509 *x) {
	struct tm tm;
	if (ASN1_TIME_to_tm(X509_get0_notAfter(x), &tm) != 1)
		return 0;
	return (int64_t)timegm(&tm) * 1000000;
}

int tls_days_class(int64_t left_us) {
	static const int days[] = {1, 7, 21};
	if (left_us <= 0)
		return 0;
	for (size_t i = 0; i < array_len(days); i++)
		if (left_us < days[i] * DAY_US)
			return days[i];
	return 999;
}
