/* Ids of everything: UUID version 7 (RFC 9562 5.7), so they sort by time, with the bucket of mail data inside, so
 * that an id alone routes to its shard.
 *
 *   octets 0-5   milliseconds since 1970, big-endian
 *   octet 6-7    version 7, 12 bits of sub-millisecond fraction (RFC 9562 6.2, method 3), made strictly rising in a process
 *   octet 8-9    variant 10, then the 10 bits of the bucket, then 4 random bits
 *   octets 10-15 48 random bits
 *
 * bucket = the first 10 bits of SHA-256 of the canonical address (0..1023). Ids of things that have no bucket carry
 * random bits there. */
#ifndef MINUTEMAIL_ID_H
#define MINUTEMAIL_ID_H

#include "common/base.h"

struct id {
	uint8_t b[16];
};

#define ID_TEXT_SIZE 37          /* "01890a5d-ac96-774b-bcce-b302099a8057" with its NUL */
#define ID_BUCKETS 1024

void id_make(struct id *ret, int64_t wall_us);                     /* random bucket bits */
void id_make_in_bucket(struct id *ret, int64_t wall_us, unsigned bucket);
unsigned id_bucket(const struct id *);
unsigned id_bucket_of_address(const char *canonical, size_t n);    /* canonical: address.h */
void id_format(const struct id *, char ret[ID_TEXT_SIZE]);         /* lower case */
bool id_parse(const char *s, size_t n, struct id *ret);            /* the 36-character form, either case, any version */
bool id_equal(const struct id *, const struct id *);

#endif
