/* The signer: answers its workers one request at a time until the last of them has gone. It parses fixed structures only and has
 * neither files nor network nor rights; whoever takes a worker over can have things signed while he is there, and no key. */
#include "common/buf.h"
#include "common/sandbox.h"
#include "common/tls_keys_impl.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- signatures ---- */

/* Raw RSA would be a tool for more than TLS: only what looks like a DigestInfo, or like the outcome of PSS. */
static bool plausible(const struct tls_request *q, size_t size) {
	switch ((enum tls_op)q->op) {
	case TLS_OP_RSA_PKCS1:
		return q->len > 0 && q->len <= 128 && q->data[0] == 0x30;
	case TLS_OP_RSA_PSS:
		return q->len > 0 && q->len == size && q->data[q->len - 1] == 0xbc;
	case TLS_OP_ECDSA:
		return q->len > 0 && q->len <= 64;
	case TLS_OP_CERTIFICATES:
		break;
	}
	return false;
}

int tls_signer_sign(EVP_PKEY *key, const struct tls_request *q, uint8_t ret[TLS_SIGN_MAX], uint32_t *ret_len) {
	bool rsa = EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA;
	size_t len = TLS_SIGN_MAX;
	if (rsa == (q->op == TLS_OP_ECDSA) || !plausible(q, (size_t)EVP_PKEY_get_size(key)))
		return -EINVAL;
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
	bool ok = ctx && EVP_PKEY_sign_init(ctx) == 1;
	if (ok && rsa)
		ok = EVP_PKEY_CTX_set_rsa_padding(ctx, q->op == TLS_OP_RSA_PSS ? RSA_NO_PADDING : RSA_PKCS1_PADDING) == 1;
	ok = ok && EVP_PKEY_sign(ctx, ret, &len, q->data, q->len) == 1;
	EVP_PKEY_CTX_free(ctx);
	ERR_clear_error();
	if (!ok)
		return -EINVAL;
	*ret_len = (uint32_t)len;
	return 0;
}

/* ---- answering ---- */

/* The load in use and the one before it: a handshake may have begun with certificates that were replaced before it signs. */
struct serving {
	struct tls_load now, before;
};

static void send_reply(int fd, const struct tls_reply *a, int certificates) {
	/* A worker that does not read loses its answer, and gives up waiting for it. */
	tls_send_with_fd(fd, a, offsetof(struct tls_reply, data) + a->len, certificates);
}

static const struct tls_load *find_load(const struct serving *s, uint64_t generation) {
	if (generation == s->now.generation)
		return &s->now;
	return s->before.pairs && generation == s->before.generation ? &s->before : NULL;
}

static void answer(const struct serving *s, int fd, const struct tls_request *q, size_t n) {
	struct tls_reply a = {.seq = q->seq};
	if (n < offsetof(struct tls_request, data) || q->len > n - offsetof(struct tls_request, data))
		return;
	if (q->op == TLS_OP_CERTIFICATES) {
		send_reply(fd, &a, s->now.certificates);
		return;
	}
	const struct tls_load *load = find_load(s, q->generation);
	if (!load)
		a.result = -ESTALE;
	else if (q->pair >= load->count)
		a.result = -EINVAL;
	else
		a.result = tls_signer_sign(load->pairs[q->pair].key, q, a.data, &a.len);
	send_reply(fd, &a, -1);
}

/* False: the other end has gone. */
static bool serve_one(const struct serving *s, int fd) {
	struct tls_request q;
	ssize_t n = recv(fd, &q, sizeof(q), MSG_DONTWAIT);
	if (n > 0)
		answer(s, fd, &q, (size_t)n);
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

/* ---- loads ---- */

#define LOAD_MAX (192 * 1024) /* less than a socket's buffer */

int tls_signer_hand_over(int loads, const struct tls_load *load) {
	struct buf b;
	buf_init(&b, LOAD_MAX);
	buf_append_u64(&b, load->generation);
	buf_append_u32(&b, (uint32_t)load->count);
	for (size_t i = 0; i < load->count; i++) {
		unsigned char *der = NULL;
		int n = i2d_PrivateKey(load->pairs[i].key, &der);
		if (n < 0)
			abort();
		buf_append_u32(&b, (uint32_t)n);
		buf_append(&b, der, (size_t)n);
		OPENSSL_clear_free(der, (size_t)n);
	}
	bool ok = !b.overflow && tls_send_with_fd(loads, b.data, b.len, load->certificates);
	explicit_bzero(b.data, b.len);
	buf_fini(&b);
	return ok ? 0 : -EMSGSIZE;
}

static uint64_t take_number(const unsigned char **p, const unsigned char *end, size_t octets) {
	uint64_t n = 0;
	while (octets-- > 0 && *p < end)
		n = n << 8 | *(*p)++;
	return n;
}

/* What the loader sent; it is trusted, and what is wrong all the same ends the process. */
static struct tls_load parse_load(const unsigned char *p, size_t n) {
	const unsigned char *end = p + n;
	struct tls_load load = {.generation = take_number(&p, end, 8)};
	load.count = (size_t)take_number(&p, end, 4);
	if (load.count == 0 || load.count > n)
		_exit(1);
	load.pairs = xcalloc(load.count, sizeof(*load.pairs));
	for (size_t i = 0; i < load.count; i++) {
		uint64_t len = take_number(&p, end, 4);
		const unsigned char *at = p;
		if (len > (uint64_t)(end - p) || !(load.pairs[i].key = d2i_AutoPrivateKey(NULL, &at, (long)len)))
			_exit(1);
		p += len;
	}
	return load;
}

static void drop_load(struct tls_load *load) {
	for (size_t i = 0; i < load->count; i++)
		tls_pair_fini(&load->pairs[i]);
	free(load->pairs);
	if (load->certificates >= 0)
		close(load->certificates);
	*load = (struct tls_load){.certificates = -1};
}

/* False: the keeper has gone. */
static bool take_load(struct serving *s, int loads) {
	static unsigned char message[LOAD_MAX];
	int fd;
	ssize_t n = tls_receive_with_fd(loads, message, sizeof(message), &fd);
	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR);
	drop_load(&s->before);
	s->before = s->now;
	s->now = parse_load(message, (size_t)n);
	s->now.certificates = fd;
	explicit_bzero(message, (size_t)n);
	return true;
}

static void tell_workers(const struct serving *s, const struct pollfd *fds, unsigned n) {
	const struct tls_reply news = {0};
	for (unsigned i = 0; i < n; i++)
		if (fds[i].fd >= 0)
			send_reply(fds[i].fd, &news, s->now.certificates);
}

_Noreturn void tls_signer_serve(struct tls_keys *k, const struct tls_load *load, int loads) {
	struct serving s = {.now = *load, .before = {.certificates = -1}};
	unsigned n = k->options->workers, left = n;
	struct pollfd *fds = xcalloc(n + 1, sizeof(*fds));
	for (unsigned i = 0; i < n; i++)
		fds[i] = (struct pollfd){.fd = k->signer_fds[i], .events = POLLIN};
	fds[n] = (struct pollfd){.fd = loads, .events = POLLIN};
	tell_workers(&s, fds, n);
	while (left > 0) {
		if (poll(fds, n + 1, -1) < 0 && errno != EINTR)
			_exit(1);
		if (fds[n].revents) {
			if (take_load(&s, fds[n].fd))
				tell_workers(&s, fds, n);
			else
				fds[n].fd = -1;
		}
		for (unsigned i = 0; i < n; i++) {
			if (fds[i].revents && !serve_one(&s, fds[i].fd)) {
				fds[i].fd = -1;
				left--;
			}
		}
	}
	_exit(0);
}

/* ---- the lock ---- */

int tls_signer_lock_up(void) {
	struct sandbox sandbox;
	sandbox_init(&sandbox, SANDBOX_KEYS);
	return sandbox_enter(&sandbox);
}
