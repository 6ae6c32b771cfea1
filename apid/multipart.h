/* multipart/form-data bodies (RFC 7578, RFC 2046 5.1), read whole: fields and files come as slices of the body,
 * nothing is copied. Pure. */
#ifndef MINUTEMAIL_MULTIPART_H
#define MINUTEMAIL_MULTIPART_H

#include "common/base.h"
#include "common/buf.h"

#define MULTIPART_PARTS 100       /* the most that callers should ask for */
#define MULTIPART_HEADER_MAX 4096 /* octets of one part's headers */

struct multipart_part {
	struct slice name;         /* as written between the quotes; never empty */
	struct slice filename;     /* {NULL,0}: none. As written: multipart_filename() decodes */
	struct slice filename_ext; /* filename* (RFC 5987), which some clients send beside or instead */
	struct slice content_type; /* {NULL,0}: none */
	struct slice data;
	bool is_file; /* had a filename of either kind, even an empty one */
};

/* Whether the Content-Type is multipart/form-data (parameters aside, case-blind). */
bool multipart_is_form_data(struct slice content_type);
/* `parts` has room for `max`; 0 and *ret_count set, or -EINVAL (malformed) or -E2BIG (more parts than max) with
 * *ret_error a fixed text that says what was wrong. */
int multipart_parse(struct slice content_type, struct slice body, struct multipart_part *parts, unsigned max,
                    unsigned *ret_count, const char **ret_error);
/* Appends the file's name as valid UTF-8 on one line (filename* wins; backslash and %22 %0D %0A escapes undone);
 * directories that some browsers send are cut off. Nothing appended: it had none. */
int multipart_filename(const struct multipart_part *, struct buf *out);
bool multipart_name_is(const struct multipart_part *, const char *name);

#endif
