/* The octets of one message while it is received. Not a parser and not a store: exact octets in, the same octets out.
 *
 * Invariants: `memory` holds all octets until they exceed SPOOL_MEMORY_MAX or all spools' memory its bound, then the file does and
 * `memory` is gone; octets in
 * the file past `size` are the rest of a failed append and nobody reads them. */
#include "smtpd/spool.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

struct spool {
	const char *dir;
	char *memory;
	size_t cap;
	uint64_t size;
	int fd;
	int shown;              /* the same file, opened again for reading only */
	struct sha256 *sha256;
	bool digested;
	uint8_t digest[SHA256_LEN];
};

static size_t memory_in_use, memory_max = SIZE_MAX;
static uint64_t octets_in_use;

size_t spool_memory_in_use(void) {
	return memory_in_use;
}

void spool_bound_memory(size_t octets) {
	memory_max = octets;
}

uint64_t spool_octets_in_use(void) {
	return octets_in_use;
}

struct spool *spool_new(const char *dir) {
	struct spool *s = xcalloc(1, sizeof(*s));
	s->dir = dir;
	s->fd = s->shown = -1;
	s->sha256 = sha256_new();
	sha256_reset(s->sha256);
	return s;
}

static void drop_memory(struct spool *s) {
	free(s->memory);
	s->memory = NULL;
	memory_in_use -= s->cap;
	s->cap = 0;
}

struct spool *spool_free(struct spool *s) {
	if (!s)
		return NULL;
	drop_memory(s);
	octets_in_use -= s->size;
	if (s->fd >= 0) {
		close(s->fd);
		close(s->shown);
	}
	sha256_free(s->sha256);
	free(s);
	return NULL;
}

/* A file without a name, so that nothing is left behind whatever happens to us. Where the file system has no O_TMPFILE it has
 * a name for the moment between the two calls. */
static int open_unlinked(const char *dir) {
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC | O_EXCL, S_IRUSR | S_IWUSR);
	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT && errno != EINVAL))
		return fd >= 0 ? fd : -errno;
	cleanup(freep) char *path = xasprintf("%s/spool.XXXXXX", dir);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	unlink(path);
	return fd;
}

/* A descriptor of its own: who gets it can neither write the file nor move our offset. */
static int open_for_reading(int fd) {
	char path[32];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int shown = open(path, O_RDONLY | O_CLOEXEC);
	return shown >= 0 ? shown : -errno;
}

static int write_all(int fd, const char *p, size_t n, uint64_t offset) {
	while (n > 0) {
		ssize_t r = pwrite(fd, p, n, (off_t)offset);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r < 0 ? -errno : -ENOSPC;
		p += r;
		n -= (size_t)r;
		offset += (uint64_t)r;
	}
	return 0;
}

static int move_to_file(struct spool *s) {
	int fd = open_unlinked(s->dir);
	if (fd < 0)
		return fd;
	int shown = open_for_reading(fd);
	int r = shown < 0 ? shown : write_all(fd, s->memory, s->size, 0);
	if (r < 0) {
		if (shown >= 0)
			close(shown);
		close(fd);
		return r;
	}
	s->fd = fd;
	s->shown = shown;
	drop_memory(s);
	return 0;
}

/* For n more octets, which fit. */
static size_t grown_cap(const struct spool *s, size_t n) {
	size_t cap = max_of(s->cap, (size_t)8192);
	while (cap < s->size + n)
		cap *= 2;
	return min_of(cap, (size_t)SPOOL_MEMORY_MAX);
}

static bool fits_memory(const struct spool *s, size_t n) {
	return s->fd < 0 && n <= SPOOL_MEMORY_MAX - s->size && memory_in_use - s->cap + grown_cap(s, n) <= memory_max;
}

static int append_memory(struct spool *s, const void *p, size_t n) {
	size_t cap = grown_cap(s, n);
	if (cap > s->cap) {
		char *memory = realloc(s->memory, cap);
		if (!memory)
			return -ENOMEM;
		memory_in_use += cap - s->cap;
		s->memory = memory;
		s->cap = cap;
	}
	memcpy(s->memory + s->size, p, n);
	return 0;
}

int spool_append(struct spool *s, const void *p, size_t n) {
	int r = 0;
	assert(!s->digested);
	if (n == 0)
		return 0;
	if (fits_memory(s, n)) {
		r = append_memory(s, p, n);
	} else {
		if (s->fd < 0)
			r = move_to_file(s);
		if (r == 0)
			r = write_all(s->fd, p, n, s->size);
	}
	if (r < 0)
		return r;
	s->size += n;
	octets_in_use += n;
	sha256_update(s->sha256, p, n);
	return 0;
}

uint64_t spool_size(const struct spool *s) {
	return s->size;
}

const void *spool_memory(const struct spool *s) {
	if (s->fd >= 0)
		return NULL;
	return s->memory ? s->memory : "";
}

int spool_fd(const struct spool *s) {
	return s->shown;
}

ssize_t spool_read(struct spool *s, uint64_t offset, void *p, size_t n) {
	if (offset >= s->size)
		return 0;
	n = (size_t)min_of((uint64_t)n, s->size - offset);
	if (s->fd < 0) {
		memcpy(p, s->memory + offset, n);
		return (ssize_t)n;
	}
	for (;;) {
		ssize_t r = pread(s->fd, p, n, (off_t)offset);
		if (r >= 0 || errno != EINTR)
			return r < 0 ? -errno : r;
	}
}

void spool_digest(struct spool *s, uint8_t ret[SHA256_LEN]) {
	if (!s->digested)
		sha256_final(s->sha256, s->digest);
	s->digested = true;
	memcpy(ret, s->digest, SHA256_LEN);
}
