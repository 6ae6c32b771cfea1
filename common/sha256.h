/* SHA-256 (FIPS 180-4), incremental; OpenSSL does the work behind this header. */
#ifndef MINUTEMAIL_SHA256_H
#define MINUTEMAIL_SHA256_H

#include "common/base.h"

#define SHA256_LEN 32

struct sha256;
struct sha256 *sha256_new(void);
struct sha256 *sha256_free(struct sha256 *);
void sha256_reset(struct sha256 *);                          /* starts over; so one object serves many digests */
void sha256_update(struct sha256 *, const void *p, size_t n);
void sha256_final(struct sha256 *, uint8_t ret[SHA256_LEN]); /* reset before the next use */
void sha256_of(const void *p, size_t n, uint8_t ret[SHA256_LEN]);

#endif
