/* Buckets as instants: `full_at` is when the bucket will be full again (the generic cell rate algorithm), so an old entry is
 * the same as none, and the table needs no clean-up. A set of four that is full of live ones loses the one that is full
 * soonest, which has done the least. */
#include "apid/attempts.h"

#include "common/clock.h"

#include <sodium.h>

#define SETS 1024
#define WAYS 4

struct bucket {
	uint64_t who; /* 0: none */
	int64_t full_at;
};

struct attempts {
	uint8_t key[crypto_shorthash_KEYBYTES]; /* so that nobody can choose whom to collide with */
	struct bucket sets[SETS][WAYS];
};

static const struct {
	int64_t burst, interval_us;
} RATES[] = {
    [ATTEMPTS_PERSON] = {10, 30000000},
    [ATTEMPTS_CLIENT] = {60, 5000000},
};

struct attempts *attempts_new(void) {
	struct attempts *a = xcalloc(1, sizeof(*a));
	randombytes_buf(a->key, sizeof(a->key));
	return a;
}

struct attempts *attempts_free(struct attempts *a) {
	free(a);
	return NULL;
}

static uint64_t hash_of(const struct attempts *a, enum attempts_kind kind, struct slice who) {
	uint64_t h;
	crypto_shorthash((unsigned char *)&h, (const unsigned char *)(who.n ? who.p : ""), who.n, a->key);
	h += (uint64_t)kind * SETS;
	return h ? h : 1;
}

static struct bucket *find(struct attempts *a, uint64_t who, bool make) {
	struct bucket *set = a->sets[who % SETS], *least = set;
	for (unsigned i = 0; i < WAYS; i++) {
		if (set[i].who == who)
			return &set[i];
		if (set[i].full_at < least->full_at)
			least = &set[i];
	}
	if (make)
		*least = (struct bucket){who, 0};
	return make ? least : NULL;
}

int64_t attempts_take(struct attempts *a, enum attempts_kind kind, struct slice who) {
	int64_t now = clock_mono_us(), interval = RATES[kind].interval_us;
	struct bucket *b = find(a, hash_of(a, kind, who), true);
	int64_t full_at = max_of(b->full_at, now) + interval, over = full_at - now - RATES[kind].burst * interval;
	if (over > 0)
		return over;
	b->full_at = full_at;
	return 0;
}

void attempts_give_back(struct attempts *a, enum attempts_kind kind, struct slice who) {
	struct bucket *b = find(a, hash_of(a, kind, who), false);
	if (b)
		b->full_at -= RATES[kind].interval_us;
}
