/* What smtpd counts; an index of SMTPD_METRICS names one. */
#ifndef MINUTEMAIL_SMTPD_METRICS_H
#define MINUTEMAIL_SMTPD_METRICS_H

#include "common/metrics.h"
#include "smtpd/reply.h"

enum smtpd_metric {
	SMTPD_CONNECTIONS,        /* counter: accepted */
	SMTPD_SESSIONS,           /* gauge */
	SMTPD_ENDS_DONE,          /* counters: sessions by how they ended */
	SMTPD_ENDS_LOST,
	SMTPD_ENDS_ERROR,
	SMTPD_ENDS_STOPPED,
	SMTPD_MESSAGES_STORED,
	SMTPD_MESSAGES_DEFERRED,  /* 4xx at the end of data */
	SMTPD_MESSAGES_REFUSED,   /* 5xx at the end of data */
	SMTPD_OCTETS,             /* of stored messages */
	SMTPD_PARSE_FAILED,
	SMTPD_PARSER_RESTARTS,
	SMTPD_RECEIVE_TIME,       /* histogram: DATA or the first BDAT .. final dot */
	SMTPD_PARSE_TIME,         /* histogram: handed to the parser .. record back */
	SMTPD_STORE_TIME,         /* histogram: handed to the store .. verdict; stress is judged by it */
	SMTPD_STORE_WAIT_TIME,    /* histogram: handed to the store .. sent, a message */
	SMTPD_COMMIT_TIME,        /* histogram: sent .. committed, a batch */
	SMTPD_BATCH_ROWS,         /* histogram: rows of a batch that was committed */
	SMTPD_STORE_QUEUE,        /* gauge: messages handed to the store and not sent yet */
	SMTPD_MESSAGE_TIME,       /* histogram: final dot .. reply */
	SMTPD_SPOOL_MEMORY,       /* gauge: octets */
	SMTPD_SPOOL_OCTETS,       /* gauge: of messages under way, in memory and files; also what spool_max is held against */
	SMTPD_STRESS,             /* gauge: workers under stress */
	SMTPD_REFUSED_LIMIT,      /* connections and recipients that a client's limit refused */
	SMTPD_REFUSED_NETWORK,    /* sessions that client_refuse gave a 554 */
	SMTPD_REFUSED_PROXY,      /* connections closed for the PROXY header or its lack */
	SMTPD_REFUSED_DATABASE,   /* connections turned away while the database was away */
	SMTPD_LOOKUP_TIME,        /* histogram: RCPT .. its verdict from the database */
	SMTPD_PAUSED,             /* gauge: workers that accept nothing, having connections_max sessions */
	SMTPD_DATABASE_UP,        /* gauges: connections ready; waiting for one */
	SMTPD_DATABASE_WAITING,
	SMTPD_DATABASE_CONNECTS,  /* counter: connections made, the first ones too */
	SMTPD_TLS_12,             /* counters: handshakes done, by version */
	SMTPD_TLS_13,
	SMTPD_TLS_RESUMED,        /* of these: from a ticket */
	SMTPD_TLS_FAILED,
	SMTPD_TLS_EXPIRY,         /* gauge: seconds */
	SMTPD_AUTH_CHECKED,       /* messages whose authentication was concluded */
	SMTPD_AUTH_OVERLOAD,      /* messages not checked: too many under way */
	SMTPD_AUTH_LOST,          /* results that could not be written */
	SMTPD_AUTH_TIME,          /* histogram: handed over .. concluded */
	SMTPD_METRICS_COUNT,
};

/* And then a counter for each pair of basic and enhanced code in the catalogue of replies. */
struct metrics *smtpd_metrics_new(unsigned workers);
void smtpd_count_reply(struct metrics *, enum reply_id);

#endif
