/* apid's metrics, in the order of enum apid_metric. */
#include "apid/apid_metrics.h"

#include "apid/router.h"

#define REQUESTS "minutemail_apid_requests_total"
#define REQUESTS_HELP "Requests answered, by class of status."
#define AUTH "minutemail_apid_auth_total"
#define AUTH_HELP "Keys judged, by how."
#define HANDSHAKES "minutemail_apid_tls_handshakes_total"
#define HANDSHAKES_HELP "TLS handshakes done, by version."
#define OCTETS "minutemail_apid_body_bytes_total"
#define OCTETS_HELP "Octets of bodies, by direction."

static const struct metrics_def FIXED[APID_METRICS_COUNT] = {
    [APID_REQUESTS_2XX] = {REQUESTS, METRICS_COUNTER, REQUESTS_HELP, "class=\"2xx\""},
    [APID_REQUESTS_3XX] = {REQUESTS, METRICS_COUNTER, REQUESTS_HELP, "class=\"3xx\""},
    [APID_REQUESTS_4XX] = {REQUESTS, METRICS_COUNTER, REQUESTS_HELP, "class=\"4xx\""},
    [APID_REQUESTS_5XX] = {REQUESTS, METRICS_COUNTER, REQUESTS_HELP, "class=\"5xx\""},
    [APID_REQUEST_US] = {"minutemail_apid_request_seconds", METRICS_HISTOGRAM, "From a request's head to its answer.",
                         NULL},
    [APID_REQUESTS_ABORTED] = {"minutemail_apid_requests_aborted_total", METRICS_COUNTER,
                               "Requests whose client left before the answer.", NULL},
    [APID_REQUESTS_MALFORMED] = {"minutemail_apid_requests_malformed_total", METRICS_COUNTER,
                                 "Requests refused by the HTTP parser.", NULL},
    [APID_CONNECTIONS] = {"minutemail_apid_connections", METRICS_GAUGE, "Open connections.", NULL},
    [APID_CONNECTIONS_TOTAL] = {"minutemail_apid_connections_total", METRICS_COUNTER, "Connections accepted.", NULL},
    [APID_CONNECTIONS_EVICTED] = {"minutemail_apid_connections_evicted_total", METRICS_COUNTER,
                                  "Idle connections closed to make room.", NULL},
    [APID_CONNECTIONS_TIMED_OUT] = {"minutemail_apid_connections_timed_out_total", METRICS_COUNTER,
                                    "Connections whose head, body, answer or reading took too long.", NULL},
    [APID_CONNECTIONS_REFUSED_PROXY] = {"minutemail_apid_connections_refused_total", METRICS_COUNTER,
                                        "Connections refused, by reason.", "reason=\"proxy_header\""},
    [APID_CONNECTIONS_REFUSED_LIMIT] = {"minutemail_apid_connections_refused_total", METRICS_COUNTER,
                                        "Connections refused, by reason.", "reason=\"client_limit\""},
    [APID_TLS_12] = {HANDSHAKES, METRICS_COUNTER, HANDSHAKES_HELP, "version=\"TLSv1.2\""},
    [APID_TLS_13] = {HANDSHAKES, METRICS_COUNTER, HANDSHAKES_HELP, "version=\"TLSv1.3\""},
    [APID_TLS_RESUMED] = {"minutemail_apid_tls_resumed_total", METRICS_COUNTER, "TLS handshakes from a ticket.", NULL},
    [APID_TLS_FAILED] = {"minutemail_apid_tls_failed_total", METRICS_COUNTER, "TLS handshakes that failed.", NULL},
    [APID_TLS_EXPIRY] = {"minutemail_apid_tls_expiry_seconds", METRICS_GAUGE, "Until the first certificate expires.",
                         NULL},
    [APID_BODY_OCTETS_IN] = {OCTETS, METRICS_COUNTER, OCTETS_HELP, "direction=\"in\""},
    [APID_BODY_OCTETS_OUT] = {OCTETS, METRICS_COUNTER, OCTETS_HELP, "direction=\"out\""},
    [APID_BODY_MEMORY] = {"minutemail_apid_body_memory_bytes", METRICS_GAUGE, "Memory promised to request bodies.",
                          NULL},
    [APID_AUTH_CACHED] = {AUTH, METRICS_COUNTER, AUTH_HELP, "how=\"cached\""},
    [APID_AUTH_QUERIED] = {AUTH, METRICS_COUNTER, AUTH_HELP, "how=\"queried\""},
    [APID_AUTH_REFUSED] = {"minutemail_apid_auth_refused_total", METRICS_COUNTER, "Requests without a valid key.",
                           NULL},
    [APID_AUTH_LIMITED] = {"minutemail_apid_auth_limited_total", METRICS_COUNTER,
                           "Requests refused since their address sent too many wrong keys.", NULL},
    [APID_AUDIT_WRITTEN] = {"minutemail_apid_audit_written_total", METRICS_COUNTER, "Requests written to the audit log.",
                            NULL},
    [APID_AUDIT_DROPPED] = {"minutemail_apid_audit_dropped_total", METRICS_COUNTER,
                            "Requests that are missing in the audit log: too many waited for the database.", NULL},
    [APID_AUDIT_LOST] = {"minutemail_apid_audit_lost_total", METRICS_COUNTER,
                         "Requests that may be missing in the audit log: a worker died with them. Some may have been written.", NULL},
    [APID_AUDIT_WAITING] = {"minutemail_apid_audit_waiting", METRICS_GAUGE, "Requests that the audit log does not have yet.", NULL},
    [APID_DATABASE_UP] = {"minutemail_apid_database_up", METRICS_GAUGE, "Workers whose database is reachable.", NULL},
    [APID_DATABASE_CONNECTIONS] = {"minutemail_apid_database_connections", METRICS_GAUGE,
                                   "Database connections for requests that are ready.", NULL},
    [APID_DATABASE_WAITING] = {"minutemail_apid_database_waiting", METRICS_GAUGE,
                               "Queries and transactions that wait for a connection.", NULL},
    [APID_DATABASE_CONNECTS] = {"minutemail_apid_database_connects_total", METRICS_COUNTER,
                                "Database connections for requests made.", NULL},
};

#define CLASSES 4 /* 2xx to 5xx */

static struct metrics_def *table; /* metrics_new() keeps it for ever */
static unsigned route_count;

static const char *method_text(enum request_method method) {
	static const char *const texts[] = {[METHOD_GET] = "GET",
	                                    [METHOD_POST] = "POST",
	                                    [METHOD_PUT] = "PUT",
	                                    [METHOD_PATCH] = "PATCH",
	                                    [METHOD_DELETE] = "DELETE"};
	return (size_t)method < array_len(texts) && texts[method] ? texts[method] : "other";
}

/* Rows of one name stand together: all counters, then all histograms. */
struct metrics *apid_metrics_new(const struct route *routes, unsigned workers) {
	assert(!table);
	while (routes[route_count].pattern)
		route_count++;
	table = xcalloc(APID_METRICS_COUNT + route_count * (CLASSES + 1) + 1, sizeof(*table));
	memcpy(table, FIXED, sizeof(FIXED));
	struct metrics_def *counters = table + APID_METRICS_COUNT, *histograms = counters + route_count * CLASSES;
	for (unsigned i = 0; i < route_count; i++) {
		const char *method = method_text(routes[i].method), *pattern = routes[i].pattern;
		for (unsigned c = 0; c < CLASSES; c++)
			counters[i * CLASSES + c] = (struct metrics_def){
			    "minutemail_apid_route_requests_total", METRICS_COUNTER, "Requests answered, by route and class of status.",
			    xasprintf("method=\"%s\",route=\"%s\",class=\"%uxx\"", method, pattern, c + 2)};
		histograms[i] = (struct metrics_def){"minutemail_apid_route_seconds", METRICS_HISTOGRAM,
		                                     "From a request's head to its answer, by route.",
		                                     xasprintf("method=\"%s\",route=\"%s\"", method, pattern)};
	}
	return metrics_new(table, workers);
}

void apid_count_answer(struct metrics *metrics, ptrdiff_t route, unsigned status, int64_t us) {
	unsigned class = min_of(max_of(status / 100, 2u), CLASSES + 1u) - 2;
	if (!metrics)
		return;
	metrics_add(metrics, APID_REQUESTS_2XX + class, 1);
	metrics_observe_us(metrics, APID_REQUEST_US, us);
	if (route < 0)
		return;
	assert((unsigned)route < route_count);
	metrics_add(metrics, APID_METRICS_COUNT + (unsigned)route * CLASSES + class, 1);
	metrics_observe_us(metrics, APID_METRICS_COUNT + route_count * CLASSES + (unsigned)route, us);
}
