/* part_table: what decodes encodes back octet for octet; any octets, as UTF-8, make a file name that is stable. */
#include "common/part_table.h"
#include "common/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void names(const uint8_t *data, size_t size) {
	struct buf b;
	buf_init(&b, size * 3 + 16);
	text_append_clean(&b, (const char *)data, size, false);
	char *name = part_safe_name(b.len ? b.data : "", b.len), *again = part_safe_name(name, strlen(name));
	size_t n = strlen(name);
	if (n > 255 || !text_utf8_valid(name, n) || strpbrk(name, "/\\:*?\"<>|\r\n") || name[0] == '.' ||
	    (n && name[n - 1] == '.') || strcmp(name, again) != 0)
		abort();
	free(name);
	free(again);
	buf_fini(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	struct part_table t;
	if (part_table_decode(data, size, &t) == 0) {
		struct buf b;
		for (unsigned i = 0; i < t.count; i++)
			if (t.parts[i].skip > t.parts[i].length || t.parts[i].length > UINT64_MAX - t.parts[i].offset)
				abort();
		buf_init(&b, size);
		if (part_table_encode(&t, &b) < 0 || b.len != size || memcmp(b.data, data, size) != 0)
			abort();
		buf_fini(&b);
		part_table_fini(&t);
	}
	names(data, size);
	return 0;
}
