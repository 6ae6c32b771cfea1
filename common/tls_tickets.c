/* Session ticket keys (RFC 5077, RFC 8446 4.6.1) in a mapping that the workers share. Whoever first notices that a key's time is
 * over wins the right to make the next by moving `next_at` on; it fills the slot used longest ago, which nobody reads any more, and
 * then publishes it. No lock: a winner that dies in between costs one rotation. */
#include "common/clock.h"
#include "common/tls.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdatomic.h>
#include <sys/mman.h>

#define SLOTS 4
#define ISSUE_US (12 * 3600 * 1000000LL)

struct ticket_key {
	unsigned char name[16], aes[32], hmac[32];
};

struct tls_tickets {
	_Atomic int64_t next_at;    /* monotonic, microseconds */
	_Atomic unsigned made;      /* keys so far; the current is slot (made - 1) % SLOTS */
	struct ticket_key keys[SLOTS];
};

static bool make_key(struct tls_tickets *t) {
	unsigned made = atomic_load(&t->made);
	struct ticket_key *key = &t->keys[made % SLOTS];
	if (RAND_bytes((unsigned char *)key, (int)sizeof(*key)) != 1)
		return false;
	atomic_store(&t->made, made + 1);
	return true;
}

static void rotate(struct tls_tickets *t) {
	int64_t now = clock_mono_us(), due = atomic_load(&t->next_at);
	if (now >= due && atomic_compare_exchange_strong(&t->next_at, &due, now + ISSUE_US))
		make_key(t);
}

struct tls_tickets *tls_tickets_new(void) {
	struct tls_tickets *t = xshared(sizeof(*t));
	madvise(t, sizeof(*t), MADV_DONTDUMP);
	clock_update();
	atomic_store(&t->next_at, clock_mono_us() + ISSUE_US);
	if (!make_key(t))
		abort();
	return t;
}

struct tls_tickets *tls_tickets_free(struct tls_tickets *t) {
	if (t)
		munmap(t, sizeof(*t));
	return NULL;
}

void tls_tickets_keep(struct tls_tickets *t) {
	madvise(t, sizeof(*t), MADV_DONTFORK);
}

/* The current key, and the one before it. */
static const struct ticket_key *find(const struct tls_tickets *t, const unsigned char name[16], bool *ret_old) {
	unsigned made = atomic_load(&t->made);
	for (unsigned back = 1; back <= 2 && back <= made; back++) {
		const struct ticket_key *key = &t->keys[(made - back) % SLOTS];
		*ret_old = back > 1;
		if (memcmp(key->name, name, sizeof(key->name)) == 0)
			return key;
	}
	return NULL;
}

static bool set_keys(const struct ticket_key *key, const unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int issue) {
	unsigned char secret[sizeof(key->hmac)];
	memcpy(secret, key->hmac, sizeof(secret));
	const OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, secret, sizeof(secret)),
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){"sha256"}, 0),
		OSSL_PARAM_construct_end(),
	};
	bool ok = EVP_MAC_CTX_set_params(mac, params) == 1 && EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->aes, iv, issue) == 1;
	explicit_bzero(secret, sizeof(secret));
	return ok;
}

int tls_tickets_use(struct tls_tickets *t, unsigned char name[16], unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
                    int issue) {
	bool old = false;
	rotate(t);
	if (issue) {
		const struct ticket_key *key = &t->keys[(atomic_load(&t->made) - 1) % SLOTS];
		if (RAND_bytes(iv, EVP_MAX_IV_LENGTH) != 1 || !set_keys(key, iv, cipher, mac, 1))
			return -1;
		memcpy(name, key->name, sizeof(key->name));
		return 1;
	}
	const struct ticket_key *key = find(t, name, &old);
	if (!key)
		return 0; /* a full handshake instead */
	if (!set_keys(key, iv, cipher, mac, 0))
		return -1;
	return old ? 2 : 1;
}
