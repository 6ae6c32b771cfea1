#include "smtpd/smtpd_metrics.h"

#define REPLIES(class) {"minutemail_smtpd_replies_total", METRICS_COUNTER, "Reply lines sent, by class", "class=\"" class "\""}
#define REFUSED(why) {"minutemail_smtpd_refused_total", METRICS_COUNTER, "Connections and recipients refused, by reason", "reason=\"" why "\""}
#define MESSAGES(what) {"minutemail_smtpd_messages_total", METRICS_COUNTER, "Messages by outcome", "outcome=\"" what "\""}

const struct metrics_def SMTPD_METRICS[] = {
	[SMTPD_CONNECTIONS] = {"minutemail_smtpd_connections_total", METRICS_COUNTER, "Connections accepted", NULL},
	[SMTPD_SESSIONS] = {"minutemail_smtpd_sessions", METRICS_GAUGE, "Sessions open now", NULL},
	[SMTPD_REPLIES_2XX] = REPLIES("2xx"),
	[SMTPD_REPLIES_3XX] = REPLIES("3xx"),
	[SMTPD_REPLIES_4XX] = REPLIES("4xx"),
	[SMTPD_REPLIES_5XX] = REPLIES("5xx"),
	[SMTPD_MESSAGES_STORED] = MESSAGES("stored"),
	[SMTPD_MESSAGES_DEFERRED] = MESSAGES("deferred"),
	[SMTPD_MESSAGES_REFUSED] = MESSAGES("refused"),
	[SMTPD_OCTETS] = {"minutemail_smtpd_message_octets_total", METRICS_COUNTER, "Octets of stored messages", NULL},
	[SMTPD_PARSE_FAILED] = {"minutemail_smtpd_parse_failed_total", METRICS_COUNTER, "Messages stored with parse_failed", NULL},
	[SMTPD_PARSER_RESTARTS] = {"minutemail_smtpd_parser_restarts_total", METRICS_COUNTER, "Parser processes replaced", NULL},
	[SMTPD_PARSE_TIME] = {"minutemail_smtpd_parse_seconds", METRICS_HISTOGRAM, "Time in the parser, queue included", NULL},
	[SMTPD_STORE_TIME] = {"minutemail_smtpd_store_seconds", METRICS_HISTOGRAM, "Time to the commit, queue included", NULL},
	[SMTPD_MESSAGE_TIME] = {"minutemail_smtpd_message_seconds", METRICS_HISTOGRAM, "Final dot to reply", NULL},
	[SMTPD_SPOOL_MEMORY] = {"minutemail_smtpd_spool_memory_octets", METRICS_GAUGE, "Octets of messages held in memory", NULL},
	[SMTPD_SPOOL_OCTETS] = {"minutemail_smtpd_spool_octets", METRICS_GAUGE, "Octets of messages being received", NULL},
	[SMTPD_STRESS] = {"minutemail_smtpd_stress", METRICS_GAUGE, "Workers under stress: short deadlines, one error", NULL},
	[SMTPD_REFUSED_LIMIT] = REFUSED("client_limit"),
	[SMTPD_REFUSED_PROXY] = REFUSED("proxy_header"),
	[SMTPD_REFUSED_DATABASE] = REFUSED("database_away"),
	{NULL, METRICS_COUNTER, NULL, NULL},
};
