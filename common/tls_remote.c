/* A private key that is somewhere else. By methods of the key types (RSA_METHOD, EC_KEY_METHOD) rather than by a provider: OpenSSL
 * 3.0 to 3.x take the methods' way for every key whose method is not their own, in libssl too, and it is two functions where a
 * provider is a key manager and two signature algorithms. It is deprecated; once a release drops it, this file becomes a provider
 * and nothing else changes. The method must be set before the key goes into an EVP_PKEY, which looks at it only then. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "common/tls_keys_impl.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

static int rsa_slot = -1, ec_slot = -1;
static RSA_METHOD *rsa_method;
static EC_KEY_METHOD *ec_method;

static void free_remote(void *parent, void *p, CRYPTO_EX_DATA *ad, int index, long argl, void *argp) {
	free(p);
}

/* RSA_PKCS1_PADDING: 1.2 with a DigestInfo; RSA_NO_PADDING: PSS, whose padding OpenSSL has made already. */
static int rsa_sign(int n, const unsigned char *from, unsigned char *to, RSA *rsa, int padding) {
	const struct tls_remote *r = RSA_get_ex_data(rsa, rsa_slot);
	uint8_t signature[TLS_SIGN_MAX];
	size_t len;
	if (!r || n < 0 || (padding != RSA_PKCS1_PADDING && padding != RSA_NO_PADDING))
		return -1;
	if (r->sign(r, padding == RSA_PKCS1_PADDING ? TLS_OP_RSA_PKCS1 : TLS_OP_RSA_PSS, from, (size_t)n, signature, &len) < 0 ||
	    len != (size_t)RSA_size(rsa))
		return -1;
	memcpy(to, signature, len);
	return (int)len;
}

static int rsa_never(int n, const unsigned char *from, unsigned char *to, RSA *rsa, int padding) {
	return -1;
}

static int ec_sign(int type, const unsigned char *digest, int n, unsigned char *to, unsigned int *ret_len, const BIGNUM *kinv,
                   const BIGNUM *r, EC_KEY *ec) {
	const struct tls_remote *remote = EC_KEY_get_ex_data(ec, ec_slot);
	uint8_t signature[TLS_SIGN_MAX];
	size_t len;
	if (!remote || n < 0 || remote->sign(remote, TLS_OP_ECDSA, digest, (size_t)n, signature, &len) < 0 || len > (size_t)ECDSA_size(ec))
		return 0;
	memcpy(to, signature, len);
	*ret_len = (unsigned)len;
	return 1;
}

static void make_methods(void) {
	if (rsa_method)
		return;
	rsa_slot = RSA_get_ex_new_index(0, NULL, NULL, NULL, free_remote);
	ec_slot = EC_KEY_get_ex_new_index(0, NULL, NULL, NULL, free_remote);
	rsa_method = RSA_meth_dup(RSA_PKCS1_OpenSSL());
	ec_method = EC_KEY_METHOD_new(EC_KEY_OpenSSL());
	if (rsa_slot < 0 || ec_slot < 0 || !rsa_method || !ec_method)
		abort();
	RSA_meth_set1_name(rsa_method, "key process");
	RSA_meth_set_priv_enc(rsa_method, rsa_sign);
	RSA_meth_set_priv_dec(rsa_method, rsa_never);
	EC_KEY_METHOD_set_sign(ec_method, ec_sign, NULL, NULL);
}

static EVP_PKEY *remote_rsa(EVP_PKEY *public, struct tls_remote *remote) {
	const RSA *theirs = EVP_PKEY_get0_RSA(public);
	EVP_PKEY *key = EVP_PKEY_new();
	RSA *ours = RSA_new();
	if (!theirs || !key || !ours)
		abort();
	const BIGNUM *n, *e;
	RSA_get0_key(theirs, &n, &e, NULL);
	if (RSA_set0_key(ours, BN_dup(n), BN_dup(e), NULL) != 1 || RSA_set_method(ours, rsa_method) != 1 ||
	    RSA_set_ex_data(ours, rsa_slot, remote) != 1 || EVP_PKEY_assign_RSA(key, ours) != 1)
		abort();
	return key;
}

static EVP_PKEY *remote_ec(EVP_PKEY *public, struct tls_remote *remote) {
	const EC_KEY *theirs = EVP_PKEY_get0_EC_KEY(public);
	EVP_PKEY *key = EVP_PKEY_new();
	EC_KEY *ours = EC_KEY_new();
	if (!theirs || !key || !ours)
		abort();
	if (EC_KEY_set_group(ours, EC_KEY_get0_group(theirs)) != 1 || EC_KEY_set_public_key(ours, EC_KEY_get0_public_key(theirs)) != 1 ||
	    EC_KEY_set_method(ours, ec_method) != 1 || EC_KEY_set_ex_data(ours, ec_slot, remote) != 1 ||
	    EVP_PKEY_assign_EC_KEY(key, ours) != 1)
		abort();
	return key;
}

EVP_PKEY *tls_remote_key(EVP_PKEY *public, const struct tls_remote *remote) {
	make_methods();
	switch (EVP_PKEY_get_base_id(public)) {
	case EVP_PKEY_RSA:
		return remote_rsa(public, xmemdup(remote, sizeof(*remote)));
	case EVP_PKEY_EC:
		return remote_ec(public, xmemdup(remote, sizeof(*remote)));
	default:
		return NULL;
	}
}
