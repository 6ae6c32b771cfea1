/* Canonical forms of DKIM (RFC 6376 3.4), hashed as they are made. Pure. */
#ifndef MINUTEMAIL_DKIM_CANON_H
#define MINUTEMAIL_DKIM_CANON_H

#include "common/sha256.h"

/* One header field, its final line end included when it has one. `hole`: octets left out (the value of b=); {NULL,0}: none.
 * Without a CRLF at the end, which follows by dkim_header_end() for every field but the signature's own. */
void dkim_header_add(struct sha256 *, bool relaxed, struct slice field, struct slice hole);
void dkim_header_end(struct sha256 *);

struct dkim_body {
	bool relaxed;
	uint64_t limit;                /* l=, octets of the canonical body; UINT64_MAX: all */
	uint64_t length;               /* canonical octets so far, at the limit it stops counting */
	struct sha256 *sha;
	uint64_t newlines;             /* CRLFs held back: at the end they do not count */
	bool cr, blank, any;           /* a CR, a blank held back; something was given out */
	size_t held;
	char out[2048];
};

void dkim_body_init(struct dkim_body *, bool relaxed, uint64_t limit);
void dkim_body_fini(struct dkim_body *);
void dkim_body_feed(struct dkim_body *, const void *p, size_t n);
/* False: the body is shorter than the limit says (then something was cut off). */
bool dkim_body_end(struct dkim_body *, uint8_t ret[SHA256_LEN]);

#endif
