/* A message as parsed: what goes into the row of `messages`. Made by the parser process (mime), carried over its
 * channel, checked again by the worker, written by store. Every string is valid UTF-8 without NUL. Pure. */
#ifndef MINUTEMAIL_MESSAGE_H
#define MINUTEMAIL_MESSAGE_H

#include "common/base.h"
#include "common/buf.h"
#include "common/part_table.h"

#define MESSAGE_ADDRESSES_MAX 1000
#define MESSAGE_TEXT_MAX (1024 * 1024) /* octets of body_text and of body_html that are kept */

struct message_strings {
	char **v;
	unsigned n;
};

struct message {
	char *from_address;            /* of the first From mailbox; NULL if there is none */
	char *from_name;               /* decoded; NULL if none */
	struct message_strings to, cc, reply_to; /* addresses as the headers have them, in order */
	char *subject;                 /* decoded, one line; NULL if there is no Subject */
	char *body_text;               /* text parts that are no attachments, joined by an empty line; NULL if none */
	char *body_html;               /* the same for text/html; NULL if none */
	struct part_table parts;
	struct message_strings warnings; /* fixed words of ours, listed in mime.h: "parse_failed", "bad_base64", … */
	unsigned received_count;       /* Received fields at the top level, for loop detection */
};

struct message *message_new(void);
struct message *message_free(struct message *);
define_cleanup(struct message *, message_free)
void message_strings_add(struct message_strings *, const char *p, size_t n);
void message_warn(struct message *, const char *warning);  /* once each, at most 32 */
bool message_warned(const struct message *, const char *warning);

/* The channel record: length-prefixed fields, big-endian. The decoder re-validates everything: lengths, UTF-8,
 * counts, part offsets within source_size. -EBADMSG. */
int message_encode(const struct message *, struct buf *out);
int message_decode(const void *p, size_t n, uint64_t source_size, struct message **ret);

#endif
