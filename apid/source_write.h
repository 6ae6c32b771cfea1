/* Writing a mail's source in one transaction, a chunk a round trip, so that compressing 25 MB never holds the
 * loop for long. What goes before it in the transaction is the caller's. */
#ifndef MINUTEMAIL_SOURCE_WRITE_H
#define MINUTEMAIL_SOURCE_WRITE_H

#include "apid/api_query.h"

struct source_writer {
	struct api_tx *tx;
	struct id mail, user; /* user: whose it is */
	int32_t expiry_hour;
	struct buf source;
	struct mail_zstd *zstd; /* made when needed */
	size_t chunk;           /* the next one to write; those before it are there already */
	api_tx_done *committed;
	void *arg; /* of `committed` */
};

/* Writes what is left of the source and commits. */
void source_writer_run(struct request *, struct source_writer *);
void source_writer_fini(struct source_writer *);
/* 413: over the configured size of a mail. */
void source_answer_too_large(struct request *);

#endif
