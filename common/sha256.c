/* SHA-256 through OpenSSL's EVP. The algorithm is fetched once per process: fetching by name costs more than digesting a
 * small input. What can fail here is memory or a broken library; both end the process. */
#include "common/sha256.h"

#include <openssl/evp.h>
#include <pthread.h>

struct sha256 {
	EVP_MD_CTX *ctx;
};

static EVP_MD *algorithm;
static pthread_once_t fetched = PTHREAD_ONCE_INIT;

/* Outside assert(), which a release build may drop together with the call. */
static void must(bool ok) {
	if (!ok)
		abort();
}

static void fetch(void) {
	algorithm = EVP_MD_fetch(NULL, "SHA256", NULL);
	must(algorithm != NULL);
}

static const EVP_MD *sha256_algorithm(void) {
	pthread_once(&fetched, fetch);
	return algorithm;
}

struct sha256 *sha256_new(void) {
	struct sha256 *s = xmalloc(sizeof(*s));
	s->ctx = EVP_MD_CTX_new();
	must(s->ctx != NULL);
	sha256_reset(s);
	return s;
}

struct sha256 *sha256_free(struct sha256 *s) {
	if (s) {
		EVP_MD_CTX_free(s->ctx);
		free(s);
	}
	return NULL;
}

void sha256_reset(struct sha256 *s) {
	must(EVP_DigestInit_ex2(s->ctx, sha256_algorithm(), NULL) == 1);
}

void sha256_update(struct sha256 *s, const void *p, size_t n) {
	must(EVP_DigestUpdate(s->ctx, p, n) == 1);
}

void sha256_final(struct sha256 *s, uint8_t ret[SHA256_LEN]) {
	must(EVP_DigestFinal_ex(s->ctx, ret, NULL) == 1);
}

void sha256_of(const void *p, size_t n, uint8_t ret[SHA256_LEN]) {
	must(EVP_Digest(p, n, ret, NULL, sha256_algorithm(), NULL) == 1);
}
