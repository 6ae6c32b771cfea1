/* Counters of all processes in one shared mapping: a row of slots per worker and one for the master, each row on cache lines of
 * its own. Only the row's owner writes, so an update is a load, an add and a store; relaxed atomics keep readers from torn values.
 * A worker's successor goes on counting in its row, so counters never fall. Not an HTTP server: metrics_http is. */
#include "common/metrics.h"

#include "common/buf.h"

#include <inttypes.h>
#include <sys/mman.h>

#define SLOTS_PER_LINE 8

/* Upper bounds of the first and last bucket, as powers of two; behind them one bucket for what is more, and the sum. */
static const struct scale {
	unsigned first, last;
} scales[] = {[METRICS_HISTOGRAM] = {4, 26}, [METRICS_SIZES] = {0, 10}};

struct metrics {
	const struct metrics_def *defs;
	unsigned count, workers;
	size_t *slot;  /* of each def, in a row */
	size_t stride; /* slots in a row */
	int64_t *rows; /* shared */
	int64_t *own;
	size_t bytes;
};

static bool is_histogram(const struct metrics_def *d) {
	return d->kind == METRICS_HISTOGRAM || d->kind == METRICS_SIZES;
}

static unsigned buckets(const struct metrics_def *d) {
	return scales[d->kind].last - scales[d->kind].first + 2;
}

struct metrics *metrics_new(const struct metrics_def *defs, unsigned workers) {
	struct metrics *m = xcalloc(1, sizeof(*m));
	size_t slots = 0;
	m->defs = defs;
	m->workers = workers;
	while (defs[m->count].name)
		m->count++;
	m->slot = xcalloc(m->count, sizeof(*m->slot));
	for (unsigned i = 0; i < m->count; i++) {
		m->slot[i] = slots;
		slots += is_histogram(&defs[i]) ? buckets(&defs[i]) + 1 : 1;
	}
	/* A line between the rows: processors fetch lines in pairs. */
	m->stride = (slots / SLOTS_PER_LINE + 2) * SLOTS_PER_LINE;
	m->bytes = (workers + 1) * m->stride * sizeof(*m->rows);
	m->rows = xshared(m->bytes);
	metrics_attach(m, workers);
	return m;
}

struct metrics *metrics_free(struct metrics *m) {
	if (m) {
		munmap(m->rows, m->bytes);
		free(m->slot);
		free(m);
	}
	return NULL;
}

unsigned metrics_workers(const struct metrics *m) {
	return m->workers;
}

void metrics_attach(struct metrics *m, unsigned worker) {
	assert(worker <= m->workers);
	m->own = m->rows + worker * m->stride;
}

static int64_t load(const int64_t *p) {
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static void store(int64_t *p, int64_t v) {
	__atomic_store_n(p, v, __ATOMIC_RELAXED);
}

static void add(int64_t *p, int64_t n) {
	store(p, (int64_t)((uint64_t)load(p) + (uint64_t)n));
}

void metrics_add(struct metrics *m, unsigned index, int64_t n) {
	assert(index < m->count && !is_histogram(&m->defs[index]));
	add(m->own + m->slot[index], n);
}

void metrics_set(struct metrics *m, unsigned index, int64_t value) {
	assert(index < m->count && m->defs[index].kind == METRICS_GAUGE);
	store(m->own + m->slot[index], value);
}

/* The first bucket whose bound is not below: bounds are inclusive ("le"). */
static unsigned bucket_of(const struct metrics_def *d, int64_t n) {
	unsigned first = scales[d->kind].first;
	if (n <= INT64_C(1) << first)
		return 0;
	unsigned bits = 64 - (unsigned)__builtin_clzll((uint64_t)n - 1);
	return min_of(bits - first, buckets(d) - 1);
}

static void observe(struct metrics *m, unsigned index, int64_t n) {
	const struct metrics_def *d = &m->defs[index];
	int64_t *slots = m->own + m->slot[index];
	n = max_of(n, (int64_t)0);
	add(slots + bucket_of(d, n), 1);
	add(slots + buckets(d), n);
}

void metrics_observe_us(struct metrics *m, unsigned index, int64_t us) {
	assert(index < m->count && m->defs[index].kind == METRICS_HISTOGRAM);
	observe(m, index, us);
}

void metrics_observe(struct metrics *m, unsigned index, int64_t n) {
	assert(index < m->count && m->defs[index].kind == METRICS_SIZES);
	observe(m, index, n);
}

static int64_t slot_sum(const struct metrics *m, size_t slot) {
	uint64_t sum = 0;
	for (unsigned w = 0; w <= m->workers; w++)
		sum += (uint64_t)load(m->rows + w * m->stride + slot);
	return (int64_t)sum;
}

int64_t metrics_of(const struct metrics *m, unsigned index, unsigned worker) {
	assert(index < m->count && worker <= m->workers && m->defs[index].kind != METRICS_HISTOGRAM);
	return load(m->rows + worker * m->stride + m->slot[index]);
}

int64_t metrics_sum(const struct metrics *m, unsigned index) {
	assert(index < m->count);
	if (!is_histogram(&m->defs[index]))
		return slot_sum(m, m->slot[index]);
	int64_t sum = 0;
	for (unsigned i = 0; i < buckets(&m->defs[index]); i++)
		sum += slot_sum(m, m->slot[index] + i);
	return sum;
}

int64_t metrics_total(const struct metrics *m, unsigned index) {
	assert(index < m->count && is_histogram(&m->defs[index]));
	return slot_sum(m, m->slot[index] + buckets(&m->defs[index]));
}

void metrics_reset_gauges(struct metrics *m, unsigned worker) {
	assert(worker <= m->workers);
	for (unsigned i = 0; i < m->count; i++)
		if (m->defs[i].kind == METRICS_GAUGE)
			store(m->rows + worker * m->stride + m->slot[i], 0);
}

/* A bound or a sum: seconds have six places. */
static void print_value(const struct metrics_def *d, int64_t n, struct buf *out) {
	if (d->kind == METRICS_HISTOGRAM)
		buf_printf(out, "%" PRId64 ".%06" PRId64, n / 1000000, n % 1000000);
	else
		buf_printf(out, "%" PRId64, n);
}

static void print_histogram(const struct metrics *m, unsigned index, struct buf *out) {
	const struct metrics_def *d = &m->defs[index];
	const char *labels = d->labels ? d->labels : "", *comma = d->labels ? "," : "";
	unsigned n = buckets(d);
	int64_t count = 0;
	for (unsigned i = 0; i < n; i++) {
		count += slot_sum(m, m->slot[index] + i);
		buf_printf(out, "%s_bucket{%s%sle=\"", d->name, labels, comma);
		if (i < n - 1)
			print_value(d, INT64_C(1) << (scales[d->kind].first + i), out);
		else
			buf_append_str(out, "+Inf");
		buf_printf(out, "\"} %" PRId64 "\n", count);
	}
	const char *open = d->labels ? "{" : "", *close = d->labels ? "}" : "";
	buf_printf(out, "%s_sum%s%s%s ", d->name, open, labels, close);
	print_value(d, slot_sum(m, m->slot[index] + n), out);
	buf_printf(out, "\n%s_count%s%s%s %" PRId64 "\n", d->name, open, labels, close, count);
}

void metrics_print(const struct metrics *m, struct buf *out) {
	static const char *const kinds[] = {
	    [METRICS_COUNTER] = "counter", [METRICS_GAUGE] = "gauge", [METRICS_HISTOGRAM] = "histogram", [METRICS_SIZES] = "histogram"};
	for (unsigned i = 0; i < m->count; i++) {
		const struct metrics_def *d = &m->defs[i];
		if (i == 0 || strcmp(d->name, m->defs[i - 1].name) != 0)
			buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", d->name, d->help, d->name, kinds[d->kind]);
		if (is_histogram(d))
			print_histogram(m, i, out);
		else if (d->labels)
			buf_printf(out, "%s{%s} %" PRId64 "\n", d->name, d->labels, metrics_sum(m, i));
		else
			buf_printf(out, "%s %" PRId64 "\n", d->name, metrics_sum(m, i));
	}
}
