/* Files that were uuencoded into the text of a message (POSIX uuencode; the form before MIME). Pure. */
#ifndef MINUTEMAIL_MIME_UU_H
#define MINUTEMAIL_MIME_UU_H

#include "common/base.h"

struct mime_uu {
	size_t start, end;       /* in the text: from "begin " to behind the line "end" */
	struct slice name;       /* as written, borrowed; perhaps empty */
};

/* The first whole file at or behind `from`, which is where a line begins: "begin MODE NAME", lines that are exactly as
 * long as they say (or two octets longer: checksums), an empty one, "end". False: none. What only resembles one (mail
 * about uuencode, a file that was cut) is left alone. One pass: what was searched is not searched again when the next
 * call starts at `end`. */
bool mime_uu_find(struct slice text, size_t from, struct mime_uu *ret);

#endif
