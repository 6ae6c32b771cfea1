/* Text of unknown origin made safe: charsets to UTF-8 (iconv behind our own alias table), UTF-8 checked, RFC 2047
 * words joined and decoded, header fields split. Used by the MIME parser and by apid's headers view. Pure but for
 * iconv, whose descriptors are opened once and kept: one thread of a process at a time. */
#ifndef MINUTEMAIL_TEXT_H
#define MINUTEMAIL_TEXT_H

#include "common/base.h"
#include "common/buf.h"

bool text_utf8_valid(const char *p, size_t n); /* well-formed, no surrogates; NUL counts as valid here */
/* Appends p as valid UTF-8 fit for a `text` column: bad sequences and NUL become U+FFFD; C0 but TAB and LF (and CR
 * before LF) are dropped when `strip_controls`. */
int text_append_clean(struct buf *out, const char *p, size_t n, bool strip_controls);
/* The same for one line: controls (C0, C1, DEL) and line separators become blanks. */
int text_append_line(struct buf *out, const char *p, size_t n);
/* At most max of the n octets, ending between two characters. */
size_t text_cut(const char *p, size_t n, size_t max);
/* Converts from the named charset (any label of ours; case-blind) with U+FFFD for what does not convert. Unknown
 * label, or NULL: UTF-8 if valid, else text_charset_guess(). Returns whether the label was known. The output is
 * clean as above. */
bool text_append_charset(struct buf *out, const char *charset, const char *p, size_t n, bool strip_controls);
/* The same; *ret_bad: octets that the charset does not have were met (or, without a charset, the text was not
 * UTF-8; or UTF-16 did not say its byte order, and little endian was assumed). */
bool text_append_charset_check(struct buf *out, const char *charset, const char *p, size_t n, bool strip_controls,
                               bool *ret_bad);
/* The name that iconv knows the label by ("windows-31j": "CP932"), or NULL: not one of ours, or a label that is not
 * a label. */
const char *text_charset_iconv(const char *label, size_t n);
/* "windows-1251" or "windows-1252": which are these octets, which nobody declared and which are not UTF-8? One pass. */
const char *text_charset_guess(const char *p, size_t n);
/* Opens every charset once and keeps it, so that a process which may open no files afterwards can still convert. */
void text_charsets_load(void);
/* A header value: unfolded, RFC 2047 encoded words decoded (adjacent words of one charset are joined before
 * conversion), raw 8-bit octets as UTF-8, else fallback_charset (NULL, or one that cannot be: the guess). Always one line: CR, LF and
 * controls become blanks. */
int text_append_header(struct buf *out, const char *p, size_t n, const char *fallback_charset);

/* The same without decoding any encoded word: for fields that have a structure to be read first. */
int text_append_unfolded(struct buf *out, const char *p, size_t n, const char *fallback_charset);

struct text_field {
	struct slice name;  /* as written, without blanks before the colon; name.p is where the field begins */
	struct slice value; /* raw, folded lines included, without the leading blank and the final line end */
};
/* Splits the next field from *p (a header block up to and including its empty line, LF or CRLF) and advances it.
 * Returns 1, or 0 at the end of the block. A line that is no field (no colon, or blanks in the name) comes back with
 * an empty name. */
int text_next_field(struct slice *block, struct text_field *ret);
/* Where the comments and blanks at i end in a field's value (RFC 5322 3.2.2); at most value.n. */
size_t text_skip_comments(struct slice value, size_t i);

#endif
