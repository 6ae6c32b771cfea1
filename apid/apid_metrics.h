/* apid's metrics: an index into the table that metrics_new() gets. */
#ifndef MINUTEMAIL_APID_METRICS_H
#define MINUTEMAIL_APID_METRICS_H

#include "common/metrics.h"

enum apid_metric {
	APID_REQUESTS_2XX,
	APID_REQUESTS_3XX,
	APID_REQUESTS_4XX,
	APID_REQUESTS_5XX,
	APID_REQUEST_US,         /* histogram: head whole to answer queued */
	APID_REQUESTS_ABORTED,   /* the client left before its answer */
	APID_REQUESTS_MALFORMED, /* refused by the HTTP parser */
	APID_CONNECTIONS,        /* gauge */
	APID_CONNECTIONS_TOTAL,
	APID_CONNECTIONS_EVICTED,   /* idle, closed to make room */
	APID_CONNECTIONS_TIMED_OUT, /* head, body, handler or write deadline */
	APID_CONNECTIONS_REFUSED_PROXY, /* no PROXY header, or not from a proxy of ours */
	APID_CONNECTIONS_REFUSED_LIMIT, /* over a limit of client addresses */
	APID_TLS_12,                    /* handshakes done */
	APID_TLS_13,
	APID_TLS_RESUMED,
	APID_TLS_FAILED,
	APID_TLS_EXPIRY, /* gauge: seconds until the first certificate expires */
	APID_BODY_OCTETS_IN,
	APID_BODY_OCTETS_OUT,
	APID_BODY_MEMORY, /* gauge: octets of request bodies held */
	APID_AUTH_CACHED, /* keys judged without a query */
	APID_AUTH_QUERIED,
	APID_AUTH_REFUSED,
	APID_AUTH_LIMITED, /* not judged: too many wrong keys from this address */
	APID_AUDIT_WRITTEN,
	APID_AUDIT_DROPPED,
	APID_AUDIT_LOST,    /* counted by the master, for a worker that died */
	APID_AUDIT_WAITING, /* gauge: requests that are answered, or being so, and not written yet */
	APID_DATABASE_UP, /* gauge: workers whose database connection is up */
	APID_DATABASE_CONNECTIONS, /* gauges, of the connections that requests share: ready; queries that wait for one */
	APID_DATABASE_WAITING,
	APID_DATABASE_CONNECTS, /* made, the first ones too */
	APID_METRICS_COUNT,
};

/* And then, for each route, a counter a class of status and a histogram. */
struct route;
struct metrics *apid_metrics_new(const struct route *routes, unsigned workers);
/* A request has been answered; `route` is its index among the routes, -1: none matched. `metrics` may be NULL. */
void apid_count_answer(struct metrics *, ptrdiff_t route, unsigned status, int64_t us);

/* Tests run without metrics: `metrics` may be NULL. */
static inline void apid_count(struct metrics *metrics, enum apid_metric index, int64_t n) {
	if (metrics)
		metrics_add(metrics, index, n);
}

#endif
