/* How certificates travel from the loader by the signer to the workers: a sealed memory file, since chains may be longer than a message and
 * workers read no files. Written by the signer, whom workers trust; read with checks all the same. */
#include "common/buf.h"
#include "common/fd_pass.h"
#include "common/tls_keys_impl.h"

#include <fcntl.h>
#include <openssl/x509.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define PUBLIC_MAX (4 * 1024 * 1024)
#define PAIRS_MAX 1000

static void append_certificate(struct buf *b, X509 *x) {
	unsigned char *der = NULL;
	int n = i2d_X509(x, &der);
	if (n < 0)
		abort();
	buf_append_u32(b, (uint32_t)n);
	buf_append(b, der, (size_t)n);
	OPENSSL_free(der);
}

static int write_all(int fd, const char *p, size_t n) {
	while (n > 0) {
		ssize_t k = write(fd, p, n);
		if (k < 0)
			return -errno;
		p += k;
		n -= (size_t)k;
	}
	return 0;
}

int tls_public_write(const struct tls_pair *pairs, size_t count, uint64_t generation) {
	struct buf b;
	buf_init(&b, PUBLIC_MAX);
	buf_append_u64(&b, generation);
	buf_append_u32(&b, (uint32_t)count);
	for (size_t i = 0; i < count; i++) {
		int more = sk_X509_num(pairs[i].chain);
		buf_append_u32(&b, 1 + (uint32_t)max_of(more, 0));
		append_certificate(&b, pairs[i].leaf);
		for (int k = 0; k < more; k++)
			append_certificate(&b, sk_X509_value(pairs[i].chain, k));
	}
	int r = b.overflow ? -E2BIG : 0, fd = memfd_create("certificates", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		r = -errno;
	if (r == 0)
		r = write_all(fd, b.data, b.len);
	if (r == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		r = -errno;
	buf_fini(&b);
	if (r < 0 && fd >= 0)
		close(fd);
	return r < 0 ? r : fd;
}

static bool take_u32(struct slice *s, uint32_t *ret) {
	const unsigned char *p = (const unsigned char *)s->p;
	if (s->n < 4)
		return false;
	*ret = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
	s->p += 4;
	s->n -= 4;
	return true;
}

static X509 *take_certificate(struct slice *s) {
	uint32_t n;
	if (!take_u32(s, &n) || n > s->n)
		return NULL;
	const unsigned char *p = (const unsigned char *)s->p;
	s->p += n;
	s->n -= n;
	return d2i_X509(NULL, &p, (long)n);
}

static bool take_pair(struct slice *s, struct tls_pair *ret) {
	uint32_t count;
	if (!take_u32(s, &count) || count == 0 || !(ret->leaf = take_certificate(s)))
		return false;
	ret->chain = sk_X509_new_null();
	while (--count > 0) {
		X509 *x = take_certificate(s);
		if (!x || sk_X509_push(ret->chain, x) <= 0)
			return false;
	}
	return true;
}

static int take_all(struct slice s, uint64_t *ret_generation, struct tls_pair **ret, size_t *ret_count) {
	uint32_t high, low, count;
	if (!take_u32(&s, &high) || !take_u32(&s, &low) || !take_u32(&s, &count) || count == 0 || count > PAIRS_MAX)
		return -EBADMSG;
	struct tls_pair *pairs = xcalloc(count, sizeof(*pairs));
	for (uint32_t i = 0; i < count; i++) {
		if (take_pair(&s, &pairs[i]))
			continue;
		for (uint32_t k = 0; k <= i; k++)
			tls_pair_fini(&pairs[k]);
		free(pairs);
		return -EBADMSG;
	}
	*ret_generation = (uint64_t)high << 32 | low;
	*ret = pairs;
	*ret_count = count;
	return 0;
}

int tls_public_read(int fd, uint64_t *ret_generation, struct tls_pair **ret, size_t *ret_count) {
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size <= 0 || st.st_size > PUBLIC_MAX)
		return -EBADMSG;
	void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	int r = take_all(slice_of(p, (size_t)st.st_size), ret_generation, ret, ret_count);
	munmap(p, (size_t)st.st_size);
	return r;
}

bool tls_send_with_fd(int sock, const void *p, size_t n, int fd) {
	union fd_room room;
	struct iovec v = {(void *)p, n};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	if (fd >= 0)
		fd_attach(&m, &room, fd);
	return sendmsg(sock, &m, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)n;
}

ssize_t tls_receive_with_fd(int sock, void *p, size_t n, int *ret_fd) {
	union fd_room room;
	struct iovec v = {p, n};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	fd_expect(&m, &room);
	ssize_t got = recvmsg(sock, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	*ret_fd = got > 0 ? fd_received(&m) : -1;
	return got;
}
