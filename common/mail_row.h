/* What both daemons must agree on when they write a mail's rows: how its source is cut into chunks and
 * compressed, and in which hour's partition it lies (sql/migrations/0001_mail.sql). Pure. */
#ifndef MINUTEMAIL_MAIL_ROW_H
#define MINUTEMAIL_MAIL_ROW_H

#include "common/base.h"

#define MAIL_CHUNK (256 * 1024)   /* raw octets of a message_source row; every chunk but the last is full */
#define MAIL_NEVER_HOUR INT32_MAX /* expiry_hour of what never expires */

/* Whole hours since 1970 of the instant; INT64_MAX: MAIL_NEVER_HOUR. */
int32_t mail_expiry_hour(int64_t expires_at);

enum mail_codec { MAIL_CODEC_PLAIN = 0, MAIL_CODEC_ZSTD = 1 }; /* message_source.codec */

/* zstd's working memory, kept for many chunks. */
struct mail_zstd;
struct mail_zstd *mail_zstd_new(void);
struct mail_zstd *mail_zstd_free(struct mail_zstd *);
define_cleanup(struct mail_zstd *, mail_zstd_free)

/* What to store for n (<= MAIL_CHUNK) octets: one zstd frame of level 1, or, where that is no shorter, the octets
 * themselves. *ret_data points into `p` or into memory of the mail_zstd that the next call overwrites. */
enum mail_codec mail_chunk_compress(struct mail_zstd *, const void *p, size_t n, struct slice *ret_data);
/* The opposite. `size`: the row's. -EBADMSG: unknown codec, damaged frame, or not exactly `size` octets, at most
 * MAIL_CHUNK. The result lives as above. */
int mail_chunk_decompress(struct mail_zstd *, int64_t codec, int64_t size, struct slice data, struct slice *ret);

#endif
