/* For tests of TLS: pairs made in memory, and a client that is driven by hand, octets in memory BIOs. */
#ifndef MINUTEMAIL_TLS_TEST_H
#define MINUTEMAIL_TLS_TEST_H

#include "common/clock.h"
#include "common/tls_files.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <stdio.h>

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

/* ---- a handshake without a network ---- */

struct outcome {
	bool done;
	bool rsa;             /* the certificate served */
	char alpn[16];
	char cn[64];
	struct tls_info info;
	SSL_SESSION *session;
};

static inline void move(BIO *from, BIO *to) {
	char block[16384];
	int n;
	while ((n = BIO_read(from, block, sizeof(block))) > 0)
		assert_int_equal(BIO_write(to, block, n), n);
}

struct offer {
	const char *sni, *sigalgs, *ciphers;
	int version;
	SSL_SESSION *session;
	const char *alpn;     /* as in the hello: each with its length in front */
};

static inline void describe(const struct client *c, struct outcome *o) {
	X509 *x = SSL_get1_peer_certificate(c->ssl);
	if (!x)
		return;
	o->rsa = EVP_PKEY_get_base_id(X509_get0_pubkey(x)) == EVP_PKEY_RSA;
	X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, o->cn, sizeof(o->cn));
	X509_free(x);
}

static inline struct outcome meet(struct tls_set *set, const struct offer *offer) {
	struct outcome o = {0};
	struct client c;
	client_init(&c, offer->version, offer->sni);
	if (offer->sigalgs)
		assert_int_equal(SSL_set1_sigalgs_list(c.ssl, offer->sigalgs), 1);
	if (offer->ciphers)
		assert_int_equal(SSL_set_cipher_list(c.ssl, offer->ciphers), 1);
	if (offer->alpn)
		assert_int_equal(SSL_set_alpn_protos(c.ssl, (const unsigned char *)offer->alpn, (unsigned)strlen(offer->alpn)), 0);
	if (offer->session)
		SSL_set_session(c.ssl, offer->session);
	SSL *server = tls_set_accept(set, &o.info);
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
	SSL_set_bio(server, in, out);
	int there = 0, here = 0;
	for (int i = 0; i < 10 && !(there == 1 && here == 1); i++) {
		there = SSL_do_handshake(c.ssl);
		move(c.out, in);
		here = SSL_do_handshake(server);
		move(out, c.in);
	}
	o.done = there == 1 && here == 1;
	const unsigned char *agreed;
	unsigned agreed_len;
	SSL_get0_alpn_selected(c.ssl, &agreed, &agreed_len);
	if (agreed) /* none: NULL, which memcpy may not be given, not even for no octets */
		memcpy(o.alpn, agreed, min_of((size_t)agreed_len, sizeof(o.alpn) - 1));
	o.info.resumed = SSL_session_reused(server);
	describe(&c, &o);
	if (o.done) { /* 1.3: tickets come behind the handshake */
		char octet;
		SSL_read(c.ssl, &octet, 1);
		o.session = SSL_get1_session(c.ssl);
	}
	ERR_clear_error();
	SSL_free(server);
	client_fini(&c);
	return o;
}

static inline struct outcome meet_once(struct tls_set *set, const struct offer *offer) {
	struct outcome o = meet(set, offer);
	SSL_SESSION_free(o.session);
	return o;
}

#endif
