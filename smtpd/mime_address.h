/* Address headers (RFC 5322 3.4, with its obsolete forms and what RFC 7103 7.1 has seen in the wild) -> mailboxes.
 * Ours, not GMime's: see mime.c for why. Pure. */
#ifndef MINUTEMAIL_MIME_ADDRESS_H
#define MINUTEMAIL_MIME_ADDRESS_H

#include "common/base.h"

#define MIME_ADDRESS_MAX 1000    /* octets; what is longer is no address */

/* One mailbox of the list. `address` is local@domain as written, without comments and blanks; `name` is decoded, ""
 * if there is none. Both are clean UTF-8 and borrowed. False: no more, please. */
typedef bool mime_address_fn(void *arg, struct slice address, struct slice name);

/* `line`: text_append_unfolded() has made it one line. Groups are flattened; what has no '@' is no mailbox. */
void mime_address_list(struct slice line, mime_address_fn *fn, void *arg);

#endif
