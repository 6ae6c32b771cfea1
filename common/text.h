/* Text of unknown origin made safe: charsets to UTF-8 (iconv behind our own alias table, smtp.md 2.3), UTF-8 checked, RFC 2047
 * words joined and decoded, header fields split. Used by the MIME parser and by apid's headers view. Pure but for iconv. */
#ifndef MINUTEMAIL_TEXT_H
#define MINUTEMAIL_TEXT_H

#include "common/base.h"
#include "common/buf.h"

bool text_utf8_valid(const char *p, size_t n);                   /* well-formed, no surrogates; NUL counts as valid here */
/* Appends p as valid UTF-8 fit for a `text` column: bad sequences and NUL become U+FFFD; C0 but TAB and LF (and CR before LF)
 * are dropped when `strip_controls`. */
int text_append_clean(struct buf *out, const char *p, size_t n, bool strip_controls);
/* Converts from the named charset (any label of ours; case-blind) with U+FFFD for what does not convert. Unknown label, or
 * NULL: UTF-8 if valid, else windows-1252. Returns whether the label was known. The output is clean as above. */
bool text_append_charset(struct buf *out, const char *charset, const char *p, size_t n, bool strip_controls);
/* A header value: unfolded, RFC 2047 encoded words decoded (adjacent words of one charset are joined before conversion), raw
 * 8-bit octets as UTF-8, else fallback_charset (NULL: windows-1252). Always one line: CR, LF and controls become blanks. */
int text_append_header(struct buf *out, const char *p, size_t n, const char *fallback_charset);

struct text_field {
	struct slice name;       /* as written */
	struct slice value;      /* raw, folded lines included, without the leading blank and the final line end */
	size_t offset;           /* of the field in the block */
};
/* Splits the next field from *p (a header block up to and including its empty line, LF or CRLF) and advances it. Returns 1, or
 * 0 at the end of the block. A line that is no field (no colon, or blanks in the name) comes back with an empty name. */
int text_next_field(struct slice *block, struct text_field *ret);

#endif
