/* smtpd's metrics, in the order of enum smtpd_metric, and the replies of the catalogue. */
#include "smtpd/smtpd_metrics.h"

#define ENDS(reason) {"minutemail_smtpd_sessions_ended_total", METRICS_COUNTER, "Sessions by how they ended", "reason=\"" reason "\""}
#define GAUGE(name, help) {"minutemail_smtpd_" name, METRICS_GAUGE, help, NULL}
#define REFUSED(why) {"minutemail_smtpd_refused_total", METRICS_COUNTER, "Connections and recipients refused, by reason", "reason=\"" why "\""}
#define HANDSHAKES(version) {"minutemail_smtpd_tls_handshakes_total", METRICS_COUNTER, "TLS handshakes done, by version", "version=\"" version "\""}
#define MESSAGES(what) {"minutemail_smtpd_messages_total", METRICS_COUNTER, "Messages by outcome", "outcome=\"" what "\""}
#define AUTHENTICATION(what)                                                                                                  \
	{"minutemail_smtpd_authentications_total", METRICS_COUNTER, "Messages by what became of their authentication", "result=\"" what "\""}

static const struct metrics_def FIXED[SMTPD_METRICS_COUNT] = {
	[SMTPD_CONNECTIONS] = {"minutemail_smtpd_connections_total", METRICS_COUNTER, "Connections accepted", NULL},
	[SMTPD_SESSIONS] = {"minutemail_smtpd_sessions", METRICS_GAUGE, "Sessions open now", NULL},
	[SMTPD_ENDS_DONE] = ENDS("done"),
	[SMTPD_ENDS_LOST] = ENDS("lost"),
	[SMTPD_ENDS_ERROR] = ENDS("error"),
	[SMTPD_ENDS_STOPPED] = ENDS("stopped"),
	[SMTPD_MESSAGES_STORED] = MESSAGES("stored"),
	[SMTPD_MESSAGES_DEFERRED] = MESSAGES("deferred"),
	[SMTPD_MESSAGES_REFUSED] = MESSAGES("refused"),
	[SMTPD_OCTETS] = {"minutemail_smtpd_message_bytes_total", METRICS_COUNTER, "Octets of stored messages", NULL},
	[SMTPD_PARSE_FAILED] = {"minutemail_smtpd_parse_failed_total", METRICS_COUNTER, "Messages stored with parse_failed", NULL},
	[SMTPD_PARSER_RESTARTS] = {"minutemail_smtpd_parser_restarts_total", METRICS_COUNTER, "Parser processes replaced", NULL},
	[SMTPD_RECEIVE_TIME] = {"minutemail_smtpd_receive_seconds", METRICS_HISTOGRAM, "DATA or the first BDAT to the final dot", NULL},
	[SMTPD_PARSE_TIME] = {"minutemail_smtpd_parse_seconds", METRICS_HISTOGRAM, "Time in the parser, queue included", NULL},
	[SMTPD_STORE_TIME] = {"minutemail_smtpd_store_seconds", METRICS_HISTOGRAM, "Time to the commit, queue included", NULL},
	[SMTPD_STORE_WAIT_TIME] = {"minutemail_smtpd_store_wait_seconds", METRICS_HISTOGRAM, "A message's wait for its batch to be sent", NULL},
	[SMTPD_COMMIT_TIME] = {"minutemail_smtpd_commit_seconds", METRICS_HISTOGRAM, "A batch's transaction, from sent to committed", NULL},
	[SMTPD_BATCH_ROWS] = {"minutemail_smtpd_batch_rows", METRICS_SIZES, "Rows of a batch committed: one a message and mailbox", NULL},
	[SMTPD_STORE_QUEUE] = GAUGE("store_queue", "Messages that wait for their batch to be sent"),
	[SMTPD_MESSAGE_TIME] = {"minutemail_smtpd_message_seconds", METRICS_HISTOGRAM, "Final dot to reply", NULL},
	[SMTPD_SPOOL_MEMORY] = {"minutemail_smtpd_spool_memory_bytes", METRICS_GAUGE, "Octets of messages held in memory", NULL},
	[SMTPD_SPOOL_OCTETS] = {"minutemail_smtpd_spool_bytes", METRICS_GAUGE, "Octets of messages being received", NULL},
	[SMTPD_STRESS] = {"minutemail_smtpd_stress", METRICS_GAUGE, "Workers under stress: short deadlines, one error", NULL},
	[SMTPD_REFUSED_LIMIT] = REFUSED("client_limit"),
	[SMTPD_REFUSED_NETWORK] = REFUSED("client_refuse"),
	[SMTPD_REFUSED_PROXY] = REFUSED("proxy_header"),
	[SMTPD_REFUSED_DATABASE] = REFUSED("database_away"),
	[SMTPD_LOOKUP_TIME] = {"minutemail_smtpd_lookup_seconds", METRICS_HISTOGRAM, "RCPT to its verdict", NULL},
	[SMTPD_PAUSED] = GAUGE("workers_paused", "Workers that accept nothing, having connections_max sessions"),
	[SMTPD_DATABASE_UP] = GAUGE("database_connections", "Database connections that are ready"),
	[SMTPD_DATABASE_WAITING] = GAUGE("database_waiting", "Queries and transactions that wait for a connection"),
	[SMTPD_DATABASE_CONNECTS] = {"minutemail_smtpd_database_connects_total", METRICS_COUNTER, "Database connections made", NULL},
	[SMTPD_TLS_12] = HANDSHAKES("TLSv1.2"),
	[SMTPD_TLS_13] = HANDSHAKES("TLSv1.3"),
	[SMTPD_TLS_RESUMED] = {"minutemail_smtpd_tls_resumed_total", METRICS_COUNTER, "TLS handshakes from a ticket", NULL},
	[SMTPD_TLS_FAILED] = {"minutemail_smtpd_tls_failed_total", METRICS_COUNTER, "TLS handshakes that failed", NULL},
	[SMTPD_TLS_EXPIRY] = {"minutemail_smtpd_tls_expiry_seconds", METRICS_GAUGE, "Until the first certificate expires", NULL},
	[SMTPD_AUTH_CHECKED] = AUTHENTICATION("checked"),
	[SMTPD_AUTH_OVERLOAD] = AUTHENTICATION("overload"),
	[SMTPD_AUTH_LOST] = AUTHENTICATION("lost"),
	[SMTPD_AUTH_TIME] = {"minutemail_smtpd_authentication_seconds", METRICS_HISTOGRAM, "Time to a message's SPF, DKIM and DMARC", NULL},
};

static struct metrics_def *table; /* metrics_new() keeps it for ever */
static unsigned pair_of[REPLY_COUNT];

static bool same_pair(const struct reply *a, const struct reply *b) {
	return a->code == b->code && strcmp(a->enhanced ? a->enhanced : "", b->enhanced ? b->enhanced : "") == 0;
}

static char *labels_of(const struct reply *r) {
	if (!r->enhanced)
		return xasprintf("code=\"%u\"", r->code);
	return xasprintf("code=\"%u\",enhanced=\"%s\"", r->code, r->enhanced);
}

/* Texts that share their codes share a counter. */
static void add_replies(void) {
	unsigned n = SMTPD_METRICS_COUNT;
	for (unsigned id = 0; id < REPLY_COUNT; id++) {
		unsigned first = 0;
		while (!same_pair(reply_get(first), reply_get(id)))
			first++;
		pair_of[id] = first < id ? pair_of[first] : n;
		if (first == id)
			table[n++] = (struct metrics_def){"minutemail_smtpd_replies_total", METRICS_COUNTER, "Replies by code and enhanced code",
			                                  labels_of(reply_get(id))};
	}
}

struct metrics *smtpd_metrics_new(unsigned workers) {
	if (!table) {
		table = xcalloc(SMTPD_METRICS_COUNT + REPLY_COUNT + 1, sizeof(*table));
		memcpy(table, FIXED, sizeof(FIXED));
		add_replies();
	}
	return metrics_new(table, workers);
}

void smtpd_count_reply(struct metrics *m, enum reply_id id) {
	metrics_add(m, pair_of[id], 1);
}
