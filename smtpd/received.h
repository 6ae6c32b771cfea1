/* Our trace fields: Return-Path and Received (RFC 5321 4.4), written before the message, CRLF line ends. Client text is stripped to
 * printable characters. Pure. */
#ifndef MINUTEMAIL_RECEIVED_H
#define MINUTEMAIL_RECEIVED_H

#include "common/buf.h"

struct received {
	const char *hostname, *helo, *queue_id;
	const char *mail_from;      /* raw, "" for <> */
	const char *rcpt_to;        /* NULL unless there is exactly one recipient (7.2) */
	bool esmtp, utf8;
	const char *tls;            /* version and cipher; NULL in clear */
	int64_t wall_us;
};
/* No client IP address is stored (api.md 6): the TCP-info is left out. */
void received_append(struct buf *out, const struct received *);

#endif
