/* apid's metrics, in the order of enum apid_metric. */
#include "apid/apid_metrics.h"

#define REQUESTS "minutemail_apid_requests_total"
#define REQUESTS_HELP "Requests answered, by class of status."
#define AUTH "minutemail_apid_auth_total"
#define AUTH_HELP "Keys judged, by how."
#define OCTETS "minutemail_apid_body_bytes_total"
#define OCTETS_HELP "Octets of bodies, by direction."

const struct metrics_def APID_METRICS[] = {
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
    [APID_BODY_OCTETS_IN] = {OCTETS, METRICS_COUNTER, OCTETS_HELP, "direction=\"in\""},
    [APID_BODY_OCTETS_OUT] = {OCTETS, METRICS_COUNTER, OCTETS_HELP, "direction=\"out\""},
    [APID_BODY_MEMORY] = {"minutemail_apid_body_memory_bytes", METRICS_GAUGE, "Memory promised to request bodies.",
                          NULL},
    [APID_AUTH_CACHED] = {AUTH, METRICS_COUNTER, AUTH_HELP, "how=\"cached\""},
    [APID_AUTH_QUERIED] = {AUTH, METRICS_COUNTER, AUTH_HELP, "how=\"queried\""},
    [APID_AUTH_REFUSED] = {"minutemail_apid_auth_refused_total", METRICS_COUNTER, "Requests without a valid key.",
                           NULL},
    [APID_DATABASE_UP] = {"minutemail_apid_database_up", METRICS_GAUGE, "Workers whose database is reachable.", NULL},
    {NULL},
};
