/* The table of clients. Places are found by a keyed hash of address and width, eight to a set; the hash is the identity, so that a place
 * changes hands by one compare-and-swap.
 *
 * Rates are kept as the time at which all that was done would have been fair (the generic cell rate algorithm): one word, no windows
 * with edges. What is over the limit is refused and not counted, so a client that keeps trying gets exactly its rate.
 *
 * Connections at once are counted in a row per worker that only this worker writes (clients_table.h); a client's number is the sum over
 * the rows. Own count first, sum second: two workers can refuse one too many at the line, never let one too many in.
 *
 * A place is taken from a client without connections only. Its taker marks it TAKEN, then looks at the counts again; whoever counts
 * himself in looks at the key again. One of the two sees the other, in whatever order. */
#include "common/clients_table.h"

#include "common/clock.h"

#include <sys/mman.h>

#define PLACES CLIENTS_PLACES
#define FREE UINT64_C(0)
#define TAKEN UINT64_C(1)
#define DEBT_MAX_US (CLIENTS_MINUTES_MAX * MINUTE_US)   /* one huge message must not shut a client out for an hour */

struct clients {
	struct clients_limits limits;
	struct clients_table *table;      /* shared */
	int fd;
	uint32_t *own;                    /* this worker's row; NULL: none */
};

struct clients *clients_new(const struct clients_limits *limits, int inherited) {
	struct clients *c = xcalloc(1, sizeof(*c));
	c->limits = *limits;
	c->table = clients_table_open(inherited, &c->fd);
	return c;
}

struct clients *clients_free(struct clients *c) {
	if (c) {
		clients_table_close(c->table, c->fd);
		free(c);
	}
	return NULL;
}

int clients_fd(const struct clients *c) {
	return c->fd;
}

void clients_attach(struct clients *c) {
	/* Nobody that this worker forks has a use for it. */
	madvise(c->table, sizeof(*c->table), MADV_DONTFORK);
	c->own = clients_table_take_row(c->table, c->fd);
}

void clients_sweep(struct clients *c) {
	clients_table_sweep(c->table, c->fd);
}

static uint64_t key_of_octets(const struct clients *c, const void *p, size_t n) {
	uint8_t hash[crypto_shorthash_BYTES];
	uint64_t key;
	crypto_shorthash(hash, p, n, c->table->secret);
	memcpy(&key, hash, sizeof(key));
	return key <= TAKEN ? key + 2 : key;
}

static uint64_t key_of(const struct clients *c, const struct netaddr *prefix, bool wide) {
	uint8_t in[18] = {(uint8_t)prefix->family, wide};
	memcpy(in + 2, prefix->b, sizeof(prefix->b));
	return key_of_octets(c, in, sizeof(in));
}

static uint64_t key_at(const struct clients *c, size_t i) {
	return __atomic_load_n(&c->table->places[i].key, __ATOMIC_SEQ_CST);
}

static unsigned held(const struct clients *c, size_t i) {
	unsigned sum = 0;
	unsigned rows = min_of(__atomic_load_n(&c->table->rows_used, __ATOMIC_SEQ_CST), (uint32_t)CLIENTS_ROWS);
	for (unsigned row = 0; row < rows; row++)
		sum += __atomic_load_n(&c->table->held[row][i], __ATOMIC_SEQ_CST);
	return sum;
}

static void hold(struct clients *c, size_t i, int n) {
	/* Only this worker writes its row. */
	__atomic_store_n(&c->own[i], c->own[i] + (uint32_t)n, __ATOMIC_SEQ_CST);
}

static size_t set_of(uint64_t key) {
	return (size_t)(key >> 2) % CLIENTS_SETS * CLIENTS_WAYS;
}

/* PLACES: not there. The first of the set counts, should two workers have made it at once. */
static size_t find(const struct clients *c, uint64_t key) {
	size_t first = set_of(key);
	for (size_t i = first; i < first + CLIENTS_WAYS; i++)
		if (key_at(c, i) == key)
			return i;
	return PLACES;
}

static int64_t latest(const struct clients_place *p) {
	int64_t t = 0;
	for (int r = 0; r < CLIENTS_RATES; r++)
		t = max_of(t, __atomic_load_n(&p->fair[r], __ATOMIC_RELAXED));
	return t;
}

/* The place of the set that is missed least. */
static size_t choose(const struct clients *c, uint64_t key) {
	size_t first = set_of(key), best = PLACES;
	int64_t best_time = INT64_MAX;
	for (size_t i = first; i < first + CLIENTS_WAYS; i++) {
		int64_t t = key_at(c, i) <= TAKEN ? -1 : latest(&c->table->places[i]);
		if (t < best_time && held(c, i) == 0) {
			best = i;
			best_time = t;
		}
	}
	return best;
}

static bool swap(struct clients *c, size_t i, uint64_t from, uint64_t to) {
	return __atomic_compare_exchange_n(&c->table->places[i].key, &from, to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static void claim(struct clients *c, uint64_t key) {
	size_t i = choose(c, key);
	if (i == PLACES)
		return;
	uint64_t old = key_at(c, i);
	if (!swap(c, i, old, TAKEN))
		return;
	if (held(c, i)) {
		swap(c, i, TAKEN, old);
		return;
	}
	for (int r = 0; r < CLIENTS_RATES; r++)
		__atomic_store_n(&c->table->places[i].fair[r], 0, __ATOMIC_RELAXED);
	swap(c, i, TAKEN, key);
}

/* Counts one connection in. PLACES: there was no room. */
static size_t enter(struct clients *c, uint64_t key) {
	for (int attempt = 0; attempt < 4; attempt++) {
		size_t i = find(c, key);
		if (i == PLACES) {
			claim(c, key);
			i = find(c, key);
		}
		if (i == PLACES)
			continue;
		hold(c, i, 1);
		if (key_at(c, i) == key)
			return i;
		hold(c, i, -1);
	}
	return PLACES;
}

static int64_t limit_of(const struct clients *c, int64_t limit, int which) {
	return which == 0 ? limit : limit * c->limits.wide_factor;
}

/* How far `n` units move the fair time on. */
static int64_t cost(int64_t n, int64_t limit) {
	int64_t us;
	if (__builtin_mul_overflow(n, MINUTE_US, &us))
		return DEBT_MAX_US;
	return us / limit;
}

/* How far ahead of the clock the fair time may be. */
static int64_t ahead_max(const struct clients *c, enum clients_rate rate) {
	return max_of(c->limits.minutes[rate], (int64_t)1) * MINUTE_US;
}

static bool within(const struct clients *c, size_t i, enum clients_rate rate, int64_t limit) {
	int64_t ahead = __atomic_load_n(&c->table->places[i].fair[rate], __ATOMIC_RELAXED) - clock_mono_us();
	return ahead <= ahead_max(c, rate) - cost(1, limit);
}

bool clients_may(const struct clients *c, const struct client *client, enum clients_rate rate) {
	for (int which = 0; which < 2; which++) {
		int64_t limit = limit_of(c, c->limits.a_minute[rate], which);
		if (client->place[which] && limit && !within(c, client->place[which] - 1, rate, limit))
			return false;
	}
	return true;
}

static void charge(struct clients_place *p, enum clients_rate rate, int64_t us) {
	int64_t now = clock_mono_us(), old = __atomic_load_n(&p->fair[rate], __ATOMIC_RELAXED), fair;
	do
		fair = min_of(max_of(old, now) + us, now + DEBT_MAX_US);
	while (!__atomic_compare_exchange_n(&p->fair[rate], &old, fair, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

void clients_count(struct clients *c, const struct client *client, enum clients_rate rate, int64_t n) {
	for (int which = 0; which < 2; which++) {
		int64_t limit = limit_of(c, c->limits.a_minute[rate], which);
		if (client->place[which] && limit && n > 0)
			charge(&c->table->places[client->place[which] - 1], rate, cost(n, limit));
	}
}

static bool crowded(const struct clients *c, const struct client *client) {
	for (int which = 0; which < 2; which++) {
		int64_t limit = limit_of(c, c->limits.at_once, which);
		if (client->place[which] && limit && held(c, client->place[which] - 1) > limit)
			return true;
	}
	return false;
}

static struct netaddr prefix_of(const struct netaddr *a, bool wide) {
	if (a->family == NETADDR_IPV4)
		return netaddr_prefix(a, wide ? 24 : 32);
	return netaddr_prefix(a, wide ? 48 : 64);
}

static struct client enter_address(struct clients *c, const struct netaddr *address) {
	struct client client = {0};
	for (int which = 0; which < 2 && address->family != NETADDR_NONE && c->own; which++) {
		struct netaddr prefix = prefix_of(address, which == 1);
		size_t i = enter(c, key_of(c, &prefix, which == 1));
		client.place[which] = i == PLACES ? 0 : (uint32_t)i + 1;
	}
	return client;
}

enum clients_verdict clients_enter(struct clients *c, const struct netaddr *address, struct client *ret) {
	enum clients_verdict verdict = CLIENTS_WELCOME;
	*ret = enter_address(c, address);
	if (crowded(c, ret))
		verdict = CLIENTS_TOO_MANY;
	else if (!clients_may(c, ret, CLIENTS_CONNECTIONS) || !clients_may(c, ret, CLIENTS_ERRORS))
		verdict = CLIENTS_TOO_FAST;
	if (verdict == CLIENTS_WELCOME)
		clients_count(c, ret, CLIENTS_CONNECTIONS, 1);
	else
		clients_leave(c, ret);
	return verdict;
}

void clients_leave(struct clients *c, struct client *client) {
	for (int which = 0; which < 2; which++)
		if (client->place[which])
			hold(c, client->place[which] - 1, -1);
	*client = (struct client){0};
}

bool clients_may_address(struct clients *c, const struct netaddr *address, enum clients_rate rate) {
	struct client client = enter_address(c, address);
	bool may = clients_may(c, &client, rate);
	clients_leave(c, &client);
	return may;
}

/* Judged and counted in one step, so that workers who ask at once do not all get the last one. 0, or the time to wait. */
static int64_t take(struct clients *c, uint32_t place, enum clients_rate rate, int64_t limit) {
	if (!place || !limit)
		return 0;
	int64_t *at = &c->table->places[place - 1].fair[rate], now = clock_mono_us(), old = __atomic_load_n(at, __ATOMIC_RELAXED), fair;
	do {
		fair = max_of(old, now) + cost(1, limit);
		if (fair - now > ahead_max(c, rate))
			return fair - now - ahead_max(c, rate);
	} while (!__atomic_compare_exchange_n(at, &old, fair, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	return 0;
}

static void give_back(struct clients *c, uint32_t place, enum clients_rate rate, int64_t limit) {
	if (place && limit)
		__atomic_sub_fetch(&c->table->places[place - 1].fair[rate], cost(1, limit), __ATOMIC_RELAXED);
}

int64_t clients_take_address(struct clients *c, const struct netaddr *address, enum clients_rate rate) {
	struct client client = enter_address(c, address);
	int64_t limit = c->limits.a_minute[rate], wait_us = take(c, client.place[0], rate, limit);
	if (wait_us == 0 && (wait_us = take(c, client.place[1], rate, limit_of(c, limit, 1))) > 0)
		give_back(c, client.place[0], rate, limit);
	clients_leave(c, &client);
	return wait_us;
}

void clients_give_back_address(struct clients *c, const struct netaddr *address, enum clients_rate rate) {
	struct client client = enter_address(c, address);
	for (int which = 0; which < 2; which++)
		give_back(c, client.place[which], rate, limit_of(c, c->limits.a_minute[rate], which));
	clients_leave(c, &client);
}

static struct client enter_name(struct clients *c, struct slice name) {
	size_t i = c->own ? enter(c, key_of_octets(c, name.n ? name.p : "", name.n)) : PLACES;
	return (struct client){{i == PLACES ? 0 : (uint32_t)i + 1, 0}};
}

int64_t clients_take_name(struct clients *c, struct slice name, enum clients_rate rate) {
	struct client client = enter_name(c, name);
	int64_t wait_us = take(c, client.place[0], rate, c->limits.a_minute[rate]);
	clients_leave(c, &client);
	return wait_us;
}

void clients_give_back_name(struct clients *c, struct slice name, enum clients_rate rate) {
	struct client client = enter_name(c, name);
	give_back(c, client.place[0], rate, c->limits.a_minute[rate]);
	clients_leave(c, &client);
}

unsigned clients_at_once(const struct clients *c, const struct netaddr *address) {
	struct netaddr prefix = prefix_of(address, false);
	size_t i = find(c, key_of(c, &prefix, false));
	return i == PLACES ? 0 : held(c, i);
}
