/* The one catalogue of what we say: {code, enhanced code, text} (RFC 5321 4.2, RFC 3463, RFC 2034). Texts are
 * stable, people grep for them. Pure. */
#ifndef MINUTEMAIL_REPLY_H
#define MINUTEMAIL_REPLY_H

#include "common/buf.h"

enum reply_id {
	/* success */
	REPLY_GREETING,
	REPLY_HELO,
	REPLY_BYE,
	REPLY_MAIL_OK,
	REPLY_RCPT_OK,
	REPLY_OK,
	REPLY_CANNOT_VERIFY,
	REPLY_HELP,
	REPLY_SEND_DATA,
	REPLY_CHUNK_OK,
	REPLY_STORED,
	REPLY_START_TLS,
	/* syntax and sequence */
	REPLY_UNKNOWN_COMMAND,
	REPLY_BARE_NEWLINE,
	REPLY_BAD_OCTETS,
	REPLY_LINE_TOO_LONG,
	REPLY_NOT_SMTP,
	REPLY_NOT_A_COMMAND,
	REPLY_BAD_ARGUMENTS,
	REPLY_BAD_PARAMETER,
	REPLY_UNKNOWN_PARAMETER,
	REPLY_NOT_OFFERED,
	REPLY_NEED_HELO,
	REPLY_NEED_MAIL,
	REPLY_NESTED_MAIL,
	REPLY_NO_RECIPIENTS,
	REPLY_BAD_SEQUENCE,
	REPLY_CHUNKS_ONLY,
	REPLY_TLS_ACTIVE,
	REPLY_UNFRAMEABLE,
	REPLY_UNSYNCHRONISED,
	/* addresses */
	REPLY_BAD_SENDER,
	REPLY_BAD_SENDER_IDNA,
	REPLY_BAD_RECIPIENT,
	REPLY_BAD_RECIPIENT_IDNA,
	REPLY_NEED_SMTPUTF8,
	REPLY_UNKNOWN_MAILBOX,
	REPLY_FOREIGN_DOMAIN,
	REPLY_MAILBOX_DISABLED,
	REPLY_MAILBOX_DISABLED_NOW,
	REPLY_TOO_MANY_RECIPIENTS,
	REPLY_BOUNCE_TO_MANY,
	/* the message */
	REPLY_TOO_BIG,
	REPLY_LOOP,
	REPLY_BARE_NEWLINE_DATA,
	REPLY_UNAVAILABLE,
	REPLY_STORAGE_FULL,
	/* the session */
	REPLY_IDLE,
	REPLY_SHUTDOWN,
	REPLY_OVERLOAD,
	REPLY_RATE,
	REPLY_TOO_MANY_ERRORS,
	REPLY_TOO_MANY_MESSAGES,
	/* policy and TLS */
	REPLY_TLS_UNAVAILABLE,
	REPLY_TLS_REQUIRED,
	REPLY_POLICY,
	REPLY_REFUSED_SESSION,
	REPLY_SENDER_NULL_MX,
	REPLY_SENDER_UNCHECKED,
	REPLY_SPF_FAIL,
	REPLY_SPF_PERMERROR,
	REPLY_SPF_TEMPERROR,
	REPLY_DMARC_REJECT,
	REPLY_COUNT,
};

struct reply {
	unsigned code;
	const char *enhanced;   /* NULL on greetings, HELO/EHLO replies and 3xx (RFC 2034 4) */
	const char *text;       /* a "%s" takes the detail */
};

#define REPLY_LINE_MAX 512      /* with CRLF, RFC 5321 4.5.3.1.5 */
#define REPLY_DETAIL_MAX 255    /* octets of the detail that are shown; a host name or an address fits */

const struct reply *reply_get(enum reply_id);
/* Appends one line with CRLF. `detail` replaces the "%s" of the text: cut, and what is not printable ASCII becomes
 * '?', since clients choose some of it. NULL when the text has none. */
void reply_append(struct buf *out, enum reply_id, const char *detail, size_t n);

#endif
