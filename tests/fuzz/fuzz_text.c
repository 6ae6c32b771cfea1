/* text: the first line names a charset, the rest is a header value, a body and a header block. All output is clean
 * UTF-8. */
#include "common/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(struct buf *b, bool one_line) {
	const char *p = b->len ? b->data : "";
	if (!text_utf8_valid(p, b->len) || memchr(p, 0, b->len))
		abort();
	for (size_t i = 0; i < b->len; i++)
		if ((uint8_t)p[i] < 0x20 && (one_line || (p[i] != '\t' && p[i] != '\n' && p[i] != '\r')))
			abort();
	buf_reset(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	const uint8_t *lf = size ? memchr(data, '\n', size) : NULL;
	cleanup(freep) char *charset = lf ? xstrndup((const char *)data, (size_t)(lf - data)) : NULL;
	const char *p = lf ? (const char *)lf + 1 : (const char *)data;
	size_t n = size - (size_t)(p - (const char *)data);
	struct buf b;
	bool bad;
	buf_init(&b, n * 8 + 256);
	text_append_header(&b, p, n, charset);
	check(&b, true);
	text_append_unfolded(&b, p, n, charset);
	check(&b, true);
	text_append_charset_check(&b, charset, p, n, true, &bad);
	check(&b, false);
	text_append_charset_check(&b, NULL, p, n, true, &bad);
	check(&b, false);
	text_append_line(&b, p, n);
	check(&b, true);

	struct slice block = slice_of(p, n);
	struct text_field f;
	while (text_next_field(&block, &f) > 0)
		if (f.value.p < p || f.value.p + f.value.n > block.p || f.name.p < p)
			abort();
	buf_fini(&b);
	return 0;
}
