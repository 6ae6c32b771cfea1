/* Ids: UUID version 7 with the bucket in its random part (layout in id.h). Not a generator for several threads: a
 * process makes its ids on its loop, and the counter that keeps them rising is plain static memory.
 *
 * Invariant: within a process every id made is greater than the one before, whatever the clock does. */
#include "common/id.h"

#include "common/sha256.h"

#include <sodium.h>
#include <sys/mman.h>

#define FRACTION_BITS 12

/* Milliseconds and their 4096ths as one rising number of 60 bits (RFC 9562 6.2, method 3: the fraction is as fine as
 * the clock and advances by one where two ids fall into the same one, or where the clock has stepped back). */
static uint64_t next_tick(int64_t wall_us) {
	static uint64_t last;
	if (wall_us < 0)
		wall_us = 0;
	uint64_t ms = (uint64_t)wall_us / 1000, us = (uint64_t)wall_us % 1000;
	uint64_t tick = ms << FRACTION_BITS | (us << FRACTION_BITS) / 1000;
	if (tick <= last)
		tick = last + 1;
	last = tick;
	return tick;
}

/* Random octets in stock, since each question to the kernel is a call. They lie in a page that is zero in a child after a fork,
 * so that no two processes deal out the same ones. */
struct stock {
	uint32_t left;
	uint8_t octets[1024];
};

/* NULL where the kernel does not promise that (Linux before 4.14, some sandboxes). */
static struct stock *stock_new(void) {
	struct stock *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (s == MAP_FAILED)
		return NULL;
	if (madvise(s, sizeof(*s), MADV_WIPEONFORK) == 0)
		return s;
	munmap(s, sizeof(*s));
	return NULL;
}

static void random_octets(uint8_t *p, size_t n) {
	static struct stock *stock;
	static bool tried;
	if (!tried)
		stock = stock_new();
	tried = true;
	if (!stock) {
		randombytes_buf(p, n);
		return;
	}
	if (stock->left < n) {
		randombytes_buf(stock->octets, sizeof(stock->octets));
		stock->left = sizeof(stock->octets);
	}
	stock->left -= (uint32_t)n;
	memcpy(p, stock->octets + stock->left, n);
	sodium_memzero(stock->octets + stock->left, n);
}

static void make(struct id *ret, int64_t wall_us) {
	uint64_t tick = next_tick(wall_us), ms = tick >> FRACTION_BITS;
	random_octets(ret->b + 8, 8);
	for (unsigned i = 0; i < 6; i++)
		ret->b[i] = (uint8_t)(ms >> (40 - 8 * i));
	ret->b[6] = (uint8_t)(0x70 | (tick >> 8 & 0x0f)); /* version, RFC 9562 4.2 */
	ret->b[7] = (uint8_t)tick;
	ret->b[8] = (uint8_t)(0x80 | (ret->b[8] & 0x3f)); /* variant, RFC 9562 4.1 */
}

void id_make(struct id *ret, int64_t wall_us) {
	make(ret, wall_us);
}

void id_make_in_bucket(struct id *ret, int64_t wall_us, unsigned bucket) {
	assert(bucket < ID_BUCKETS);
	make(ret, wall_us);
	ret->b[8] = (uint8_t)(0x80 | bucket >> 4);
	ret->b[9] = (uint8_t)((bucket & 0x0f) << 4 | (ret->b[9] & 0x0f));
}

unsigned id_bucket(const struct id *id) {
	return (unsigned)(id->b[8] & 0x3f) << 4 | id->b[9] >> 4;
}

unsigned id_bucket_of_address(const char *canonical, size_t n) {
	uint8_t digest[SHA256_LEN];
	sha256_of(canonical, n, digest);
	return (unsigned)digest[0] << 2 | digest[1] >> 6;
}

/* Where RFC 9562 4 puts its hyphens: before these octets. */
static bool hyphen_before(unsigned octet) {
	return octet == 4 || octet == 6 || octet == 8 || octet == 10;
}

void id_format(const struct id *id, char ret[ID_TEXT_SIZE]) {
	static const char digits[] = "0123456789abcdef";
	char *out = ret;
	for (unsigned i = 0; i < sizeof(id->b); i++) {
		if (hyphen_before(i))
			*out++ = '-';
		*out++ = digits[id->b[i] >> 4];
		*out++ = digits[id->b[i] & 0x0f];
	}
	*out = '\0';
}

bool id_parse(const char *s, size_t n, struct id *ret) {
	if (n != ID_TEXT_SIZE - 1)
		return false;
	struct id id;
	for (unsigned i = 0; i < sizeof(id.b); i++) {
		if (hyphen_before(i) && *s++ != '-')
			return false;
		int high = hex_value(s[0]), low = hex_value(s[1]);
		if (high < 0 || low < 0)
			return false;
		id.b[i] = (uint8_t)(high << 4 | low);
		s += 2;
	}
	*ret = id;
	return true;
}

bool id_equal(const struct id *a, const struct id *b) {
	return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}
