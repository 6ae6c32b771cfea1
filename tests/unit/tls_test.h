/* For tests of TLS: pairs made in memory, and a client that is driven by hand, octets in memory BIOs. */
#ifndef MINUTEMAIL_TLS_TEST_H
#define MINUTEMAIL_TLS_TEST_H

#include "common/clock.h"
#include "common/tls_files.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>

#define DAY_US (86400 * 1000000LL)

static inline struct tls_pair make_pair(const char *name, bool rsa, int64_t days) {
	struct tls_pair p = {.key = rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256")};
	clock_update();
	int64_t now = clock_wall_us();
	assert_int_equal(tls_make_self_signed(name, p.key, now - 400 * DAY_US, now + days * DAY_US, &p.leaf), 0);
	return p;
}

/* A set of one ECDSA certificate for mx.example.org. */
static inline struct tls_set *make_set(struct tls_tickets *tickets) {
	struct tls_pair p = make_pair("mx.example.org", false, 100);
	struct tls_set *set;
	assert_int_equal(tls_set_new(&p, 1, tickets, &set), 0);
	tls_pair_fini(&p);
	return set;
}

struct client {
	SSL_CTX *ctx;
	SSL *ssl;
	BIO *in, *out; /* owned by ssl */
};

static inline SSL_CTX *client_context(int version) {
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	if (version) {
		SSL_CTX_set_security_level(ctx, 0); /* 1.1 is refused by the client's own library otherwise */
		SSL_CTX_set_min_proto_version(ctx, version);
		SSL_CTX_set_max_proto_version(ctx, version);
	}
	return ctx;
}

static inline void client_init(struct client *c, int version, const char *sni) {
	c->ctx = client_context(version);
	c->ssl = SSL_new(c->ctx);
	c->in = BIO_new(BIO_s_mem());
	c->out = BIO_new(BIO_s_mem());
	BIO_set_mem_eof_return(c->in, -1);
	SSL_set_bio(c->ssl, c->in, c->out);
	SSL_set_connect_state(c->ssl);
	if (sni)
		assert_int_equal(SSL_set_tlsext_host_name(c->ssl, sni), 1);
}

static inline void client_fini(struct client *c) {
	SSL_set_shutdown(c->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); /* or its session would count as broken */
	SSL_free(c->ssl);
	SSL_CTX_free(c->ctx);
}

#endif
