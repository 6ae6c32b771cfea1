/* What the files of the key process share: the sockets, the messages on them, who is alive. Nobody else includes it. */
#ifndef MINUTEMAIL_TLS_KEYS_IMPL_H
#define MINUTEMAIL_TLS_KEYS_IMPL_H

#include "common/tls.h"
#include "common/tls_keys.h"

#include <stdatomic.h>
#include <sys/types.h>

/* Shared by all. Written by the keeper. */
struct tls_status {
	_Atomic uint64_t serving;      /* a number of the signer process that answers; 0: none */
};

struct tls_keys {
	const struct tls_keys_options *options;
	struct tls_status *status;
	struct tls_tickets *tickets;   /* not in keeper and signer */
	int control;                   /* master's end to the keeper */
	pid_t master, keeper;
	int *worker_fds, *signer_fds;  /* a pair for each worker; -1: closed here */
};

/* SOCK_SEQPACKET: one message, one request or reply. Only `len` octets of data are sent. */
#define TLS_SIGN_MAX 1024          /* an RSA key of 8192 bits */

enum tls_op {
	TLS_OP_CERTIFICATES,           /* the reply carries a descriptor (struct tls_public in it) */
	TLS_OP_RSA_PKCS1,              /* data: DigestInfo */
	TLS_OP_RSA_PSS,                /* data: encoded message, as long as the modulus */
	TLS_OP_ECDSA,                  /* data: digest; reply: DER */
};

struct tls_request {
	uint64_t seq, generation;
	uint32_t op, pair, len;
	uint8_t data[TLS_SIGN_MAX];
};

struct tls_reply {
	uint64_t seq;                  /* 0: not asked for: new certificates */
	int32_t result;                /* 0 or -errno; -ESTALE: another generation serves now */
	uint32_t len;
	uint8_t data[TLS_SIGN_MAX];
};

/* What one load brought. */
struct tls_load {
	struct tls_pair *pairs;        /* the signer needs the keys only */
	size_t count;
	int certificates;              /* tls_public_write() */
	uint64_t generation;
};

/* In the signer: never returns. Later loads come from `loads`, one message each. */
_Noreturn void tls_signer_serve(struct tls_keys *, const struct tls_load *, int loads);
/* To a signer's `loads`, in the loader, which has them checked. -EMSGSIZE: too many keys for a message. */
int tls_signer_hand_over(int loads, const struct tls_load *);
/* A message with a descriptor (-1: without), which stays the caller's. False: not sent. */
bool tls_send_with_fd(int sock, const void *p, size_t n, int fd);
/* The other end of it: recvmsg(2)'s result, *ret_fd -1 if there is none. */
ssize_t tls_receive_with_fd(int sock, void *p, size_t n, int *ret_fd);
/* Nothing from here on but answering. -errno. */
int tls_signer_lock_up(void);
/* One signature; what workers get. -EINVAL: not something that TLS signs. */
int tls_signer_sign(EVP_PKEY *, const struct tls_request *, uint8_t ret[TLS_SIGN_MAX], uint32_t *ret_len);

/* A sealed memory file: generation, then each pair's certificates in DER with their lengths. -errno. */
int tls_public_write(const struct tls_pair *pairs, size_t count, uint64_t generation);
/* The fd stays the caller's; the keys of the pairs are NULL. -EBADMSG: not what the signer writes. */
int tls_public_read(int fd, uint64_t *ret_generation, struct tls_pair **ret, size_t *ret_count);

/* A public key whose private operations are done by `sign`. RSA or EC; NULL on failure. */
struct tls_remote {
	int (*sign)(const struct tls_remote *, enum tls_op, const void *p, size_t n, uint8_t ret[TLS_SIGN_MAX], size_t *ret_len); /* -errno */
	void *arg;
	uint64_t generation;
	uint32_t pair;
};
EVP_PKEY *tls_remote_key(EVP_PKEY *public, const struct tls_remote *);

#endif
