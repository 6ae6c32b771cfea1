/* A set of certificates that a daemon serves, and what a TLS connection turned out to be. TLS 1.2 and 1.3, ECDHE only, no
 * renegotiation, no compression, no client certificates, ALPN ignored unless asked for (RFC 9325). Not the files (tls_files.h), not
 * the processes that keep private keys (tls_keys.h), not the octets (tls_pipe.h). */
#ifndef MINUTEMAIL_TLS_H
#define MINUTEMAIL_TLS_H

#include "common/base.h"

#include <openssl/types.h>

struct stack_st_X509;
struct tls_set;
struct tls_tickets;

#define TLS_NAME_MAX 253

/* What was agreed; complete once the handshake is done. */
struct tls_info {
	const char *version;           /* "TLSv1.3" */
	const char *cipher;            /* "TLS_AES_256_GCM_SHA384" */
	char sni[TLS_NAME_MAX + 1];    /* the name asked for, in lower case; "": none, or not a host name */
	bool resumed;                  /* from a ticket, without a signature */
};

/* A certificate, what comes between it and the root, and its private key or a stand-in that has the key's work done elsewhere. */
struct tls_pair {
	X509 *leaf;
	struct stack_st_X509 *chain;   /* without the leaf; may be NULL */
	EVP_PKEY *key;
};
void tls_pair_fini(struct tls_pair *);

/* Immutable, counted. The first pair is the default. Several pairs may have one name: of each key type the first wins, and the
 * client's offer chooses between ECDSA and RSA. The pairs are borrowed, their parts are counted by OpenSSL. `tickets` is
 * borrowed for the life of the set and of all its connections; NULL: no resumption. -EINVAL: OpenSSL refused a pair. */
int tls_set_new(const struct tls_pair *pairs, size_t count, struct tls_tickets *tickets, struct tls_set **ret);
/* Before its first connection. A client that offers protocols, and not this one, is refused (RFC 7301 3.2). Borrowed. */
void tls_set_alpn(struct tls_set *, const char *protocol);
struct tls_set *tls_set_ref(struct tls_set *);
struct tls_set *tls_set_unref(struct tls_set *);   /* NULL is fine; returns NULL */

/* A server's connection without its octets; the caller owns it and keeps a reference to the set for as long. The name that the
 * client asks for goes to `info`. Choice: exact name, then wildcard (one label), then the default; an unknown name completes. */
SSL *tls_set_accept(struct tls_set *, struct tls_info *info);
/* Which pair a client without preference would get by this name; NULL or unknown: the default. For tests and logs. */
const X509 *tls_set_find(struct tls_set *, const char *name);
/* The first end of validity in the set, microseconds since 1970, and the subject's name it belongs to. */
int64_t tls_set_expires(const struct tls_set *, const char **ret_name);

/* 21, 7, 1 or 0: so many days or less are left (0: it has expired); 999: more. */
int tls_days_class(int64_t left_us);
int64_t tls_not_after(const X509 *);               /* microseconds since 1970 */

/* The names a certificate is for, in lower case: its DNS names, or without any its common name. Calls `each` for every one. */
void tls_names(const X509 *, void (*each)(void *arg, const char *name), void *arg);

/* Keys for session tickets, in memory that all workers of a master share (made before the fork): a session is resumed by any of
 * them. A key issues tickets for 12 hours and opens them for 12 more; it is written nowhere. */
struct tls_tickets *tls_tickets_new(void);
struct tls_tickets *tls_tickets_free(struct tls_tickets *);
/* In a worker: a process it forks shall not have the keys. */
void tls_tickets_keep(struct tls_tickets *);
/* For SSL_CTX_set_tlsext_ticket_key_evp_cb(); private to tls.c. */
int tls_tickets_use(struct tls_tickets *, unsigned char name[16], unsigned char *iv, EVP_CIPHER_CTX *, EVP_MAC_CTX *, int issue);

#endif
