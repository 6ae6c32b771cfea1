/* Content-Transfer-Encoding decoders: base64 (RFC 2045 6.8), quoted-printable (6.7), uuencode, and identity.
 * Resumable at any octet, lenient as mail demands: base64 skips foreign characters and goes on after inner padding,
 * a bad =XX is literal. Used on receipt for sizes and digests and by apid for the range it serves. Pure. */
#ifndef MINUTEMAIL_TRANSFER_H
#define MINUTEMAIL_TRANSFER_H

#include "common/base.h"
#include "common/buf.h"

enum transfer_encoding { TRANSFER_IDENTITY, TRANSFER_BASE64, TRANSFER_QP, TRANSFER_UU };

/* From the header's token, any case, blanks around ignored ("7bit", "8bit", "binary": identity); unknown: identity and
 * *ret_unknown set. */
enum transfer_encoding transfer_parse(const char *s, size_t n, bool *ret_unknown);

struct transfer {
	enum transfer_encoding encoding;
	uint32_t acc;           /* base64 bits held */
	uint8_t acc_bits;
	uint8_t state;
	uint8_t held_n;
	char held[80];          /* QP: trailing blanks or a cut escape; uu: the line so far */
	bool odd;               /* something outside the encoding was met */
};

void transfer_init(struct transfer *, enum transfer_encoding);
/* Decoded octets of this run at the most, for sizing `out`. */
size_t transfer_bound(const struct transfer *, size_t n);
/* Decodes n octets; returns how many were written to out (room for transfer_bound()). */
size_t transfer_run(struct transfer *, const void *in, size_t n, void *out);
/* What is still held at the end (at most 80 octets). */
size_t transfer_end(struct transfer *, void *out);

/* Standard base64 of n octets appended to out, one line, padded; for the API's `data`. */
int transfer_base64_encode(struct buf *out, const void *p, size_t n);
/* Strict standard base64 with optional padding; -EINVAL. */
int transfer_base64_decode(struct buf *out, const char *p, size_t n);

#endif
