/* Chunks of a source, to and from their stored form. Not the statements that carry them: those are each daemon's own.
 *
 * Invariant: a chunk and a frame of a chunk fit into `room`, so nothing here grows with what a peer sent. */
#include "common/clock.h"
#include "common/mail_row.h"

#include <zstd.h>

/* Real mail: 2.5 times smaller at some 200 MB/s; more costs more than the disk it saves. Level 1 looks for matches of 5 octets in a
 * table of 64 KiB. Text loses 1 % in size by 6 octets and, where it is short, a table that stays in the processor's first cache
 * among all that a worker does between two messages; it is 8 % faster on pages of 5 KB from the Web, more on plainer text. */
#define LEVEL 1
#define MATCH_MIN 6
#define SHORT_MAX (64 * 1024)
#define SHORT_HASH_LOG 12 /* 16 KiB */

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

static ZSTD_CCtx *compressor_new(void) {
	ZSTD_CCtx *c = ZSTD_createCCtx();
	if (!c)
		return NULL;
	ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, LEVEL);
	ZSTD_CCtx_setParameter(c, ZSTD_c_minMatch, MATCH_MIN);
	return c;
}

enum mail_codec mail_chunk_compress(struct mail_zstd *z, const void *p, size_t n, struct slice *ret_data) {
	assert(n <= MAIL_CHUNK);
	if (!z->in)
		z->in = compressor_new();
	if (z->in)
		ZSTD_CCtx_setParameter(z->in, ZSTD_c_hashLog, n <= SHORT_MAX ? SHORT_HASH_LOG : 0);
	size_t got = z->in ? ZSTD_compress2(z->in, z->room, sizeof z->room, p, n) : n;
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
