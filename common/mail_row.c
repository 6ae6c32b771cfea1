/* Chunks of a source, to and from their stored form. Not the statements that carry them: those are each daemon's own.
 *
 * Invariant: a chunk and a frame of a chunk fit into `room`, so nothing here grows with what a peer sent. */
#include "common/mail_row.h"

#include <zstd.h>

#define HOUR_US (INT64_C(3600) * 1000000)
#define LEVEL 1 /* real mail: 2.5 times smaller at some 200 MB/s; more costs more than the disk it saves */

int32_t mail_expiry_hour(int64_t expires_at) {
	if (expires_at == INT64_MAX)
		return MAIL_NEVER_HOUR;
	if (expires_at < 0)
		return 0;
	int64_t hour = expires_at / HOUR_US;
	return hour < MAIL_NEVER_HOUR ? (int32_t)hour : MAIL_NEVER_HOUR - 1;
}

struct mail_zstd {
	ZSTD_CCtx *in;
	ZSTD_DCtx *out;
	char room[ZSTD_COMPRESSBOUND(MAIL_CHUNK)];
};

struct mail_zstd *mail_zstd_new(void) {
	struct mail_zstd *z = xmalloc(sizeof *z); /* not zeroed: `room` is large and written before it is read */
	z->in = NULL;
	z->out = NULL;
	return z;
}

struct mail_zstd *mail_zstd_free(struct mail_zstd *z) {
	if (!z)
		return NULL;
	ZSTD_freeCCtx(z->in);
	ZSTD_freeDCtx(z->out);
	free(z);
	return NULL;
}

enum mail_codec mail_chunk_compress(struct mail_zstd *z, const void *p, size_t n, struct slice *ret_data) {
	assert(n <= MAIL_CHUNK);
	if (!z->in)
		z->in = ZSTD_createCCtx();
	size_t got = z->in ? ZSTD_compressCCtx(z->in, z->room, sizeof z->room, p, n, LEVEL) : n;
	/* An error code is a huge number, so it also says: as they are. */
	if (got >= n) {
		*ret_data = slice_of(p, n);
		return MAIL_CODEC_PLAIN;
	}
	*ret_data = slice_of(z->room, got);
	return MAIL_CODEC_ZSTD;
}

int mail_chunk_decompress(struct mail_zstd *z, int64_t codec, int64_t size, struct slice data, struct slice *ret) {
	if (size < 0 || size > MAIL_CHUNK)
		return -EBADMSG;
	if (codec == MAIL_CODEC_PLAIN) {
		if (data.n != (size_t)size)
			return -EBADMSG;
		*ret = data;
		return 0;
	}
	if (codec != MAIL_CODEC_ZSTD)
		return -EBADMSG;
	if (!z->out)
		z->out = ZSTD_createDCtx();
	if (!z->out)
		return -ENOMEM;
	size_t got = ZSTD_decompressDCtx(z->out, z->room, MAIL_CHUNK, data.p, data.n);
	if (ZSTD_isError(got) || got != (size_t)size)
		return -EBADMSG;
	*ret = slice_of(z->room, got);
	return 0;
}
