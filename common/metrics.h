/* Counters, gauges and histograms of all workers, in one anonymous shared mapping made before the fork; the master prints
 * their sums as Prometheus text (exposition format 0.0.4). Updates are plain adds to the worker's own slots (no locks). */
#ifndef MINUTEMAIL_METRICS_H
#define MINUTEMAIL_METRICS_H

#include "common/base.h"

struct buf;
struct metrics;

enum metrics_kind {
	METRICS_COUNTER,
	METRICS_GAUGE,
	METRICS_HISTOGRAM, /* of microseconds: buckets are powers of two from 16 us to 67 s, printed in seconds */
	METRICS_SIZES,     /* a histogram of numbers: powers of two from 1 to 1024 */
};

struct metrics_def {
	const char *name;   /* "minutemail_smtpd_messages_total" */
	enum metrics_kind kind;
	const char *help;
	const char *labels; /* e.g. `code="250"`; NULL: none. Rows of one name stand together. */
};

/* `defs` ends with a NULL name and is borrowed for ever; an index into it is how a metric is named in code (an enum). */
struct metrics *metrics_new(const struct metrics_def *defs, unsigned workers);
struct metrics *metrics_free(struct metrics *);
void metrics_attach(struct metrics *, unsigned worker);  /* in the worker: which slots are ours */
void metrics_add(struct metrics *, unsigned index, int64_t n);
void metrics_set(struct metrics *, unsigned index, int64_t value);   /* gauges */
void metrics_observe_us(struct metrics *, unsigned index, int64_t us);
int64_t metrics_of(const struct metrics *, unsigned index, unsigned worker); /* one worker's; no histogram */
void metrics_observe(struct metrics *, unsigned index, int64_t n);   /* METRICS_SIZES */
int64_t metrics_sum(const struct metrics *, unsigned index);         /* over workers; for a histogram: count */
int64_t metrics_total(const struct metrics *, unsigned index);       /* of a histogram over workers: the sum of what was observed */
unsigned metrics_workers(const struct metrics *);                    /* as many as metrics_new() was told */
void metrics_reset_gauges(struct metrics *, unsigned worker);        /* the master, when a worker died */
void metrics_print(const struct metrics *, struct buf *);

#endif
