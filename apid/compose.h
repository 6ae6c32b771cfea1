/* Test mails that a client injects: from a sender, a subject, a text and files to a MIME source as a
 * mail program would write it, and the part table that goes with it. Not a parser: of sources it reads only its
 * own. Pure. */
#ifndef MINUTEMAIL_COMPOSE_H
#define MINUTEMAIL_COMPOSE_H

#include "common/buf.h"
#include "common/id.h"
#include "common/part_table.h"

struct compose_file {
	struct slice name; /* as the client gave it; may be empty */
	struct slice type; /* "image/png"; parameters are dropped; empty or no type: application/octet-stream */
	struct slice data;
};

struct compose_mail {
	struct slice from_name; /* UTF-8, one line; empty: none */
	const char *from_address, *to_address;
	struct slice subject, text; /* UTF-8; the subject on one line */
	const struct compose_file *files;
	unsigned file_count; /* at most PART_TABLE_MAX */
	struct id id;        /* of the mail: makes Message-ID and boundary */
	const char *hostname;
	int64_t wall_us;
};

/* Appends the source to an empty buf and fills *ret_parts, whose offsets are exact. -ENOSPC: over the buf's
 * ceiling. */
int compose_source(const struct compose_mail *, struct buf *source, struct part_table *ret_parts);

/* Adds a file to a source that compose_source() made: `source` and `parts` are changed in place, existing parts
 * keep their numbers and, unless the source had no file yet, their places. *ret_changed: the offset up to which
 * the source stayed as it was. -ENOSPC: over the ceiling; -E2BIG: the table is full; -EBADMSG: not a source of
 * ours. On failure `parts` is unchanged. */
int compose_append(struct buf *source, struct part_table *parts, const struct compose_file *, const struct id *mail,
                   size_t *ret_changed);

#endif
