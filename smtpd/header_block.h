/* The header block of a message as fields over its exact octets, for what looks at the source itself: DKIM, DMARC's author, and fields
 * that claim to be ours. Pure; borrows the text. */
#ifndef MINUTEMAIL_HEADER_BLOCK_H
#define MINUTEMAIL_HEADER_BLOCK_H

#include "common/base.h"

#define HEADER_BLOCK_MAX (1024 * 1024)   /* octets; a longer one is odd */
#define HEADER_FIELDS_MAX 1000           /* as many as are read for what is shown */

struct header_field {
	struct slice raw;              /* all of it, final line end included */
	struct slice name;             /* as written, without blanks before the colon */
	struct slice value;            /* behind the colon, without leading blanks and the final line end; folds inside */
};

struct header_block {              /* zeroed: empty */
	struct header_field *fields;
	unsigned count;
	bool odd;                      /* a line that is no field, too many fields, or no end within the text: nobody can say what of
	                                * it was signed */
	size_t body;                   /* where the body begins */
};

/* `text`: the start of the message, at least its first HEADER_BLOCK_MAX octets. */
void header_block_parse(struct slice text, struct header_block *ret);
void header_block_fini(struct header_block *);
bool header_field_is(const struct header_field *, const char *name);

#endif
