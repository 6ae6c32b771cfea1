/* Our trace fields: Return-Path and Received (RFC 5321 4.4), written before the message, CRLF line ends. Client text is stripped to
 * printable characters. Read again when a message comes back. Pure. */
#ifndef MINUTEMAIL_RECEIVED_H
#define MINUTEMAIL_RECEIVED_H

#include "common/address.h"
#include "common/buf.h"

struct received {
	const char *hostname, *helo, *queue_id;
	const char *mail_from;      /* raw, "" for <> */
	const char *rcpt_to;        /* NULL unless there is exactly one recipient (7.2) */
	bool esmtp, utf8;
	const char *tls;            /* version and cipher; NULL in clear */
	int64_t wall_us;
};
/* No client IP address is stored: the TCP-info is left out. */
void received_append(struct buf *out, const struct received *);

#define RECEIVED_HEAD_MAX (256 * 1024)   /* octets of a message within which trace fields are looked for */
#define RECEIVED_ROUNDS_MAX 3

/* How often a message has been here before, for the same recipient (RFC 5321 6.3): of the fields that received_append() wrote on the
 * way, by this hostname and for that one recipient, as many as the recipient has who has most. `head`: how the message begins. */
unsigned received_rounds(struct slice head, const char *hostname, const struct address *recipients, unsigned n);

#endif
