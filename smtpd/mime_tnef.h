/* TNEF (MS-OXTNEF): the files in a winmail.dat, which Outlook and Exchange send in place of MIME parts. Files only: the
 * message inside, its properties and its RTF are not read. Pure, no allocation, one pass. */
#ifndef MINUTEMAIL_MIME_TNEF_H
#define MINUTEMAIL_MIME_TNEF_H

#include "common/base.h"

struct mime_tnef {               /* a reader; begin fills it */
	struct slice data;
	size_t at;
	unsigned codepage;       /* of 8-bit strings; 0: not said */
	bool bad;                /* it ended where it should not, or is no TNEF: what was found before stays */
};

/* Everything is borrowed from the data. Strings are as they came: without their NUL, of 8 bits in the codepage, or
 * UTF-16LE. */
struct mime_tnef_string {
	struct slice s;
	bool utf16;
};
struct mime_tnef_file {
	struct slice data;
	struct mime_tnef_string name, type, content_id; /* s.n == 0: none */
};

void mime_tnef_begin(struct mime_tnef *, struct slice data);
/* The next file that has data. False: no more; `bad` says whether that is the regular end. */
bool mime_tnef_next(struct mime_tnef *, struct mime_tnef_file *ret);

#endif
