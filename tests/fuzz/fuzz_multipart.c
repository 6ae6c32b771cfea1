/* First line: the Content-Type; the rest: the body. Parts lie inside the body, in order, and do not overlap; names
 * come out as UTF-8 on one line. */
#include "apid/multipart.h"
#include "common/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void require(bool ok) {
	if (!ok)
		abort();
}

static void check_part(const struct multipart_part *part, struct slice body, const char **from) {
	struct buf name;
	require(part->name.n > 0);
	require(part->data.p >= *from && part->data.p + part->data.n <= body.p + body.n);
	require(part->name.p >= body.p && part->name.p < part->data.p);
	*from = part->data.p + part->data.n;
	buf_init(&name, 4 * MULTIPART_HEADER_MAX);
	require(multipart_filename(part, &name) == 0);
	require(name.len == 0 || text_utf8_valid(name.data, name.len));
	require(name.len == 0 || part->is_file);
	for (size_t i = 0; i < name.len; i++)
		require((unsigned char)name.data[i] >= ' ' && name.data[i] != '/' && name.data[i] != 0x7f);
	buf_fini(&name);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
	struct multipart_part parts[8];
	unsigned count = 0;
	const char *error = NULL;
	const uint8_t *lf = n ? memchr(p, '\n', n) : NULL;
	size_t line = lf ? (size_t)(lf - p) : 0;
	if (!lf)
		return 0;
	char *text = xmemdup(p, n);
	struct slice body = slice_of(text + line + 1, n - line - 1);
	const char *from = body.p;
	if (multipart_parse(slice_of(text, line), body, parts, array_len(parts), &count, &error) == 0) {
		require(count <= array_len(parts));
		for (unsigned i = 0; i < count; i++)
			check_part(&parts[i], body, &from);
	} else {
		require(error != NULL);
	}
	free(text);
	return 0;
}
