/* The catalogue; see the header. 4xx says the fault is ours or passing, 5xx states a fact about the message, the
 * address or the client. */
#include "smtpd/reply.h"

#include <stdio.h>

static const struct reply replies[REPLY_COUNT] = {
	[REPLY_GREETING] = {220, NULL, "%s ESMTP"},
	[REPLY_HELO] = {250, NULL, "%s"},
	[REPLY_BYE] = {221, "2.0.0", "Bye"},
	[REPLY_MAIL_OK] = {250, "2.1.0", "Sender ok"},
	[REPLY_RCPT_OK] = {250, "2.1.5", "Recipient ok"},
	[REPLY_OK] = {250, "2.0.0", "Ok"},
	[REPLY_CANNOT_VERIFY] = {252, "2.0.0", "Cannot verify, but will accept the message and try"},
	[REPLY_HELP] = {214, "2.0.0", "Commands: EHLO HELO MAIL RCPT DATA BDAT RSET NOOP QUIT VRFY HELP STARTTLS"},
	[REPLY_SEND_DATA] = {354, NULL, "End data with <CR><LF>.<CR><LF>"},
	[REPLY_CHUNK_OK] = {250, "2.0.0", "%s octets received"},
	[REPLY_STORED] = {250, "2.0.0", "Ok: queued as %s"},
	[REPLY_START_TLS] = {220, "2.0.0", "Ready to start TLS"},

	[REPLY_UNKNOWN_COMMAND] = {500, "5.5.2", "Command not recognised"},
	[REPLY_BARE_NEWLINE] = {500, "5.5.2", "Lines end with CR LF"},
	[REPLY_BAD_OCTETS] = {500, "5.5.2", "Command holds octets that are not allowed in it"},
	[REPLY_LINE_TOO_LONG] = {500, "5.5.2", "Line too long, closing"},
	[REPLY_NOT_SMTP] = {221, "2.7.0", "This is SMTP, not HTTP, closing"},
	[REPLY_NOT_A_COMMAND] = {500, "5.5.2", "This is not SMTP, closing"},
	[REPLY_BAD_ARGUMENTS] = {501, "5.5.4", "Syntax error in arguments"},
	[REPLY_BAD_PARAMETER] = {501, "5.5.4", "Bad or repeated parameter"},
	[REPLY_UNKNOWN_PARAMETER] = {555, "5.5.4", "Unsupported parameter: %s"},
	[REPLY_NOT_OFFERED] = {502, "5.5.1", "Command not implemented"},
	[REPLY_NEED_HELO] = {503, "5.5.1", "Send EHLO first"},
	[REPLY_NEED_MAIL] = {503, "5.5.1", "Send MAIL first"},
	[REPLY_NESTED_MAIL] = {503, "5.5.1", "A transaction is under way"},
	[REPLY_NO_RECIPIENTS] = {554, "5.5.1", "No valid recipients"},
	[REPLY_BAD_SEQUENCE] = {503, "5.5.1", "Not allowed once BDAT has begun"},
	[REPLY_CHUNKS_ONLY] = {503, "5.5.1", "BINARYMIME needs BDAT"},
	[REPLY_TLS_ACTIVE] = {503, "5.5.1", "TLS is active already"},
	[REPLY_UNFRAMEABLE] = {521, "5.5.4", "Cannot tell where this chunk ends, closing"},
	[REPLY_UNSYNCHRONISED] = {554, "5.5.0", "SMTP protocol synchronisation, closing"},

	[REPLY_BAD_SENDER] = {501, "5.1.7", "Bad sender address syntax"},
	[REPLY_BAD_SENDER_IDNA] = {553, "5.1.7", "Sender domain is not a valid internationalised name"},
	[REPLY_BAD_RECIPIENT] = {501, "5.1.3", "Bad recipient address syntax"},
	[REPLY_BAD_RECIPIENT_IDNA] = {553, "5.1.3", "Recipient domain is not a valid internationalised name"},
	[REPLY_NEED_SMTPUTF8] = {553, "5.6.7", "Non-ASCII address needs SMTPUTF8"},
	[REPLY_UNKNOWN_MAILBOX] = {550, "5.1.1", "No such mailbox: %s"},
	[REPLY_FOREIGN_DOMAIN] = {550, "5.7.1", "Relaying denied: %s"},
	[REPLY_MAILBOX_DISABLED] = {550, "5.2.1", "Mailbox disabled"},
	[REPLY_MAILBOX_DISABLED_NOW] = {450, "4.2.1", "Mailbox disabled for now, try again later"},
	[REPLY_TOO_MANY_RECIPIENTS] = {452, "4.5.3", "Too many recipients"},
	[REPLY_BOUNCE_TO_MANY] = {452, "4.5.3", "One recipient at a time from the null sender"},

	[REPLY_TOO_BIG] = {552, "5.3.4", "Message too big"},
	[REPLY_LOOP] = {554, "5.4.6", "Too many hops, mail is looping"},
	[REPLY_BARE_NEWLINE_DATA] = {550, "5.5.2", "Lines of a message end with CR LF, closing"},
	[REPLY_UNAVAILABLE] = {451, "4.3.0", "Temporary failure, try again later"},
	[REPLY_STORAGE_FULL] = {452, "4.3.1", "Insufficient storage, try again later"},

	[REPLY_IDLE] = {421, "4.4.2", "%s timeout, closing"},
	[REPLY_SHUTDOWN] = {421, "4.3.2", "%s shutting down, closing"},
	[REPLY_OVERLOAD] = {421, "4.3.2", "%s too busy, try again later"},
	[REPLY_RATE] = {421, "4.7.0", "%s too much too fast, try again later"},
	[REPLY_TOO_MANY_ERRORS] = {421, "4.7.0", "%s too many errors, closing"},
	[REPLY_TOO_MANY_MESSAGES] = {421, "4.7.0", "%s too many messages in one session, closing"},

	[REPLY_TLS_UNAVAILABLE] = {454, "4.7.0", "TLS not available now"},
	[REPLY_TLS_REQUIRED] = {530, "5.7.0", "Send STARTTLS first"},
	[REPLY_POLICY] = {554, "5.7.1", "Refused by policy"},
	[REPLY_REFUSED_SESSION] = {503, "5.5.1", "Refused, only QUIT is left"},
	[REPLY_SENDER_NULL_MX] = {550, "5.7.27", "Sender domain accepts no mail"},
	[REPLY_SENDER_UNCHECKED] = {451, "4.4.3", "Sender domain cannot be looked up for now, try again later"},
	[REPLY_SPF_FAIL] = {550, "5.7.23", "SPF validation failed"},
	[REPLY_SPF_PERMERROR] = {550, "5.7.24", "SPF record of the sender domain is broken"},
	[REPLY_SPF_TEMPERROR] = {451, "4.7.24", "SPF check failed for now, try again later"},
	[REPLY_DMARC_REJECT] = {550, "5.7.1", "Refused by the DMARC policy of the author domain"},
};

const struct reply *reply_get(enum reply_id id) {
	return &replies[id];
}

static void append_detail(struct buf *out, const char *detail, size_t n) {
	size_t shown = min_of(n, (size_t)REPLY_DETAIL_MAX);
	for (size_t i = 0; i < shown; i++)
		buf_append_char(out, detail[i] >= 0x20 && detail[i] < 0x7f ? detail[i] : '?');
	if (shown < n)
		buf_append_str(out, "...");
}

void reply_append(struct buf *out, enum reply_id id, const char *detail, size_t n) {
	const struct reply *r = &replies[id];
	const char *hole = strstr(r->text, "%s");
	buf_printf(out, "%03u ", r->code);
	if (r->enhanced)
		buf_printf(out, "%s ", r->enhanced);
	if (hole) {
		buf_append(out, r->text, (size_t)(hole - r->text));
		append_detail(out, detail, n);
		buf_append_str(out, hole + 2);
	} else {
		buf_append_str(out, r->text);
	}
	buf_append_str(out, "\r\n");
}
