/* A mail's source as an answer: read chunk by chunk, decompressed, cut to a range, decoded from its transfer
 * encoding, dressed in base64 if wanted, and written under back-pressure. One chunk at a time is in memory,
 * besides what the connection has not sent. */
#ifndef MINUTEMAIL_API_SOURCE_H
#define MINUTEMAIL_API_SOURCE_H

#include "apid/request.h"
#include "common/mail_row.h"
#include "common/pg.h"
#include "common/transfer.h"

struct source_plan {
	struct id mail;
	uint64_t offset, length;         /* octets of the source to read */
	enum transfer_encoding encoding; /* and decode */
	uint64_t skip, take;             /* of the decoded octets: leave so many out, then give so many */
	bool base64;                     /* give them in base64 */
	struct slice before, after;      /* go around; copied */
};

/* Answers. Content-Length is what the plan says; a source that holds less cuts the connection. */
void source_stream(struct request *, unsigned status, const char *type, const struct respond_header *,
                   const struct source_plan *);

/* The chunk in a row of source_chunk; the slice lives until the mail_zstd or the rows go. -EBADMSG: none, or
 * damaged. */
int source_chunk_read(struct mail_zstd *, const struct pg_rows *, struct slice *ret);
/* Parameters of source_chunk. */
void source_chunk_params(struct pg_params *, const struct id *mail, uint64_t chunk);

#endif
