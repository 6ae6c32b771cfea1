#include "smtpd/smtpd_metrics.h"

#define REPLY(code) {"minutemail_smtpd_replies_total", METRICS_COUNTER, "Replies by code", "code=\"" code "\""}
#define ENDS(reason) {"minutemail_smtpd_sessions_ended_total", METRICS_COUNTER, "Sessions by how they ended", "reason=\"" reason "\""}
#define GAUGE(name, help) {"minutemail_smtpd_" name, METRICS_GAUGE, help, NULL}
#define REFUSED(why) {"minutemail_smtpd_refused_total", METRICS_COUNTER, "Connections and recipients refused, by reason", "reason=\"" why "\""}
#define HANDSHAKES(version) {"minutemail_smtpd_tls_handshakes_total", METRICS_COUNTER, "TLS handshakes done, by version", "version=\"" version "\""}
#define MESSAGES(what) {"minutemail_smtpd_messages_total", METRICS_COUNTER, "Messages by outcome", "outcome=\"" what "\""}
#define AUTHENTICATION(what)                                                                                                  \
	{"minutemail_smtpd_authentications_total", METRICS_COUNTER, "Messages by what became of their authentication", "result=\"" what "\""}

const struct metrics_def SMTPD_METRICS[] = {
	[SMTPD_CONNECTIONS] = {"minutemail_smtpd_connections_total", METRICS_COUNTER, "Connections accepted", NULL},
	[SMTPD_SESSIONS] = {"minutemail_smtpd_sessions", METRICS_GAUGE, "Sessions open now", NULL},
	[SMTPD_REPLIES + 0] = REPLY("214"),
	[SMTPD_REPLIES + 1] = REPLY("220"),
	[SMTPD_REPLIES + 2] = REPLY("221"),
	[SMTPD_REPLIES + 3] = REPLY("250"),
	[SMTPD_REPLIES + 4] = REPLY("252"),
	[SMTPD_REPLIES + 5] = REPLY("354"),
	[SMTPD_REPLIES + 6] = REPLY("421"),
	[SMTPD_REPLIES + 7] = REPLY("450"),
	[SMTPD_REPLIES + 8] = REPLY("451"),
	[SMTPD_REPLIES + 9] = REPLY("452"),
	[SMTPD_REPLIES + 10] = REPLY("454"),
	[SMTPD_REPLIES + 11] = REPLY("500"),
	[SMTPD_REPLIES + 12] = REPLY("501"),
	[SMTPD_REPLIES + 13] = REPLY("502"),
	[SMTPD_REPLIES + 14] = REPLY("503"),
	[SMTPD_REPLIES + 15] = REPLY("504"),
	[SMTPD_REPLIES + 16] = REPLY("521"),
	[SMTPD_REPLIES + 17] = REPLY("523"),
	[SMTPD_REPLIES + 18] = REPLY("550"),
	[SMTPD_REPLIES + 19] = REPLY("551"),
	[SMTPD_REPLIES + 20] = REPLY("552"),
	[SMTPD_REPLIES + 21] = REPLY("553"),
	[SMTPD_REPLIES + 22] = REPLY("554"),
	[SMTPD_REPLIES + 23] = REPLY("555"),
	[SMTPD_REPLIES_OTHER] = REPLY("other"),
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
	[SMTPD_PARSE_TIME] = {"minutemail_smtpd_parse_seconds", METRICS_HISTOGRAM, "Time in the parser, queue included", NULL},
	[SMTPD_STORE_TIME] = {"minutemail_smtpd_store_seconds", METRICS_HISTOGRAM, "Time to the commit, queue included", NULL},
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
	{NULL, METRICS_COUNTER, NULL, NULL},
};

static const uint16_t CODES[] = {214, 220, 221, 250, 252, 354, 421, 450, 451, 452, 454, 500, 501, 502,
                                 503, 504, 521, 523, 550, 551, 552, 553, 554, 555};
_Static_assert(array_len(CODES) == SMTPD_REPLIES_OTHER - SMTPD_REPLIES, "a row for each code");

enum smtpd_metric smtpd_reply_metric(unsigned code) {
	for (unsigned i = 0; i < array_len(CODES); i++)
		if (CODES[i] == code)
			return SMTPD_REPLIES + i;
	return SMTPD_REPLIES_OTHER;
}
