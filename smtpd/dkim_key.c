/* A DKIM key: the record's tags, the key itself, the arithmetic. */
#include "smtpd/dkim_key.h"

#include "smtpd/tag_list.h"

#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <strings.h>

#define KEY_MAX 2048               /* octets of p= */
#define RSA_BITS_MIN 1024          /* RFC 8301 3.2 */
#define RSA_BITS_MAX 4096
#define EXPONENT_BITS_MAX 64       /* a huge public exponent only makes us work */

static void conclude(struct dkim_signature *s, enum dkim_verdict verdict, const char *reason) {
	s->verdict = verdict;
	s->reason = reason;
}

static bool is_word(struct slice s, const char *word) {
	return s.n == strlen(word) && strncasecmp(s.p, word, s.n) == 0;
}

/* NULL, or why the record does not serve for this signature. */
static const char *refusal(const struct tag_list *tags, const struct dkim_signature *s) {
	struct slice v = tag_list_value(tags, "v"), k = tag_list_value(tags, "k"), h = tag_list_value(tags, "h");
	struct slice service = tag_list_value(tags, "s"), flags = tag_list_value(tags, "t"), p = tag_list_value(tags, "p");
	bool wants_rsa = s->algorithm == DKIM_RSA_SHA256;
	if (v.p && (!is_word(v, "DKIM1") || !slice_eq(tags->v[0].name, slice_str("v"))))
		return "key record of another version";
	if (!p.p)
		return "key record without a key";
	if (p.n == 0)
		return "key revoked";
	if (!(k.p ? is_word(k, wants_rsa ? "rsa" : "ed25519") : wants_rsa))
		return "key of another type";
	if (h.p && !tag_value_has(h, "sha256"))
		return "key is not for sha256";
	if (service.p && !tag_value_has(service, "*") && !tag_value_has(service, "email"))
		return "key is not for mail";
	if (flags.p && tag_value_has(flags, "s") && !s->same_domain)
		return "key is not for subdomains";
	return NULL;
}

/* SubjectPublicKeyInfo, as everybody has it, or the bare RSAPublicKey that RFC 6376 seems to say. */
static EVP_PKEY *read_rsa(const uint8_t *p, size_t n) {
	const unsigned char *at = p;
	EVP_PKEY *key = d2i_PUBKEY(NULL, &at, (long)n);
	if (!key) {
		at = p;
		key = d2i_PublicKey(EVP_PKEY_RSA, NULL, &at, (long)n);
	}
	if (key && EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA) {
		EVP_PKEY_free(key);
		key = NULL;
	}
	return key;
}

static bool exponent_is_sane(const EVP_PKEY *key) {
	BIGNUM *e = NULL;
	bool sane = EVP_PKEY_get_bn_param(key, "e", &e) == 1 && BN_num_bits(e) <= EXPONENT_BITS_MAX;
	BN_free(e);
	return sane;
}

static bool rsa_verifies(EVP_PKEY *key, const struct dkim_signature *s) {
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
	bool ok = ctx && EVP_PKEY_verify_init(ctx) == 1 && EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1 &&
	          EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256()) == 1 &&
	          EVP_PKEY_verify(ctx, s->signature, s->signature_n, s->header_digest, SHA256_LEN) == 1;
	EVP_PKEY_CTX_free(ctx);
	return ok;
}

static void verify_rsa(const uint8_t *p, size_t n, struct dkim_signature *s) {
	EVP_PKEY *key = read_rsa(p, n);
	s->key_bits = key ? (unsigned)EVP_PKEY_get_bits(key) : 0;
	if (!key)
		conclude(s, DKIM_PERMERROR, "key cannot be read");
	else if (s->key_bits < RSA_BITS_MIN)
		conclude(s, DKIM_PERMERROR, "key shorter than 1024 bits");
	else if (s->key_bits > RSA_BITS_MAX || !exponent_is_sane(key))
		conclude(s, DKIM_PERMERROR, "key larger than we verify with");
	else if (rsa_verifies(key, s))
		conclude(s, DKIM_PASS, NULL);
	else
		conclude(s, DKIM_FAIL, "signature does not verify");
	EVP_PKEY_free(key);
}

/* Ed25519 over the SHA-256 of what is signed (RFC 8463 3). */
static void verify_ed25519(const uint8_t *p, size_t n, struct dkim_signature *s) {
	EVP_PKEY *key = n == 32 ? EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, p, n) : NULL;
	EVP_MD_CTX *ctx = key ? EVP_MD_CTX_new() : NULL;
	if (!ctx) {
		conclude(s, DKIM_PERMERROR, "key cannot be read");
	} else {
		s->key_bits = 256;
		if (EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) == 1 &&
		    EVP_DigestVerify(ctx, s->signature, s->signature_n, s->header_digest, SHA256_LEN) == 1)
			conclude(s, DKIM_PASS, NULL);
		else
			conclude(s, DKIM_FAIL, "signature does not verify");
	}
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(key);
}

void dkim_key_verify(struct slice record, struct dkim_signature *s) {
	struct tag_list tags;
	uint8_t key[KEY_MAX];
	size_t n;
	if (!tag_list_parse(record, false, &tags)) {
		conclude(s, DKIM_PERMERROR, "key record cannot be read");
		return;
	}
	struct slice flags = tag_list_value(&tags, "t");
	s->testing = flags.p && tag_value_has(flags, "y");
	const char *why = refusal(&tags, s);
	if (why)
		conclude(s, DKIM_PERMERROR, why);
	else if (tag_value_base64(tag_list_value(&tags, "p"), key, sizeof(key), &n) < 0)
		conclude(s, DKIM_PERMERROR, "key cannot be read");
	else if (s->algorithm == DKIM_RSA_SHA256)
		verify_rsa(key, n, s);
	else
		verify_ed25519(key, n, s);
}
