/* transfer: the first octet chooses the encoding and where the input is cut; cut or whole, the output is the same,
 * never longer than promised, and strict base64 accepts only what encodes back to itself. */
#include "common/transfer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t run(struct transfer *t, const uint8_t *in, size_t n, uint8_t *out) {
	/* Exactly the room that was promised, so that a sanitizer sees a step too far. */
	size_t bound = transfer_bound(t, n);
	uint8_t *room = xmalloc(bound);
	size_t got = transfer_run(t, in, n, room);
	if (got > bound)
		abort();
	memcpy(out, room, got);
	free(room);
	return got;
}

static void strict(const uint8_t *data, size_t size) {
	struct buf out, back;
	buf_init(&out, size + 16);
	buf_init(&back, size * 2 + 16);
	if (transfer_base64_decode(&out, (const char *)data, size) == 0) {
		if (transfer_base64_encode(&back, out.len ? out.data : "", out.len) < 0 || back.len < size ||
		    (size && memcmp(back.data, data, size) != 0))
			abort();
	}
	buf_fini(&out);
	buf_fini(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	if (size < 2)
		return 0;
	enum transfer_encoding encoding = (enum transfer_encoding)(data[0] & 3);
	size_t step = 1 + (data[0] >> 2), n = size - 1, a = 0, b = 0;
	const uint8_t *in = data + 1;
	uint8_t *whole = xmalloc(n + 200), *cut = xmalloc(n + 200);
	struct transfer t;
	transfer_init(&t, encoding);
	a = run(&t, in, n, whole);
	a += transfer_end(&t, whole + a);
	bool odd = t.odd;
	transfer_init(&t, encoding);
	for (size_t i = 0; i < n; i += step)
		b += run(&t, in + i, min_of(step, n - i), cut + b);
	b += transfer_end(&t, cut + b);
	if (a != b || odd != t.odd || memcmp(whole, cut, a) != 0 || a > n)
		abort();
	free(whole);
	free(cut);
	strict(in, n);
	return 0;
}
