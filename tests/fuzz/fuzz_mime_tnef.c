/* mime_tnef: any octets are a TNEF stream, perhaps one of no files. What it hands out lies inside them, files one behind
 * the other, and the work grows with them and no faster. */
#include "smtpd/mime_tnef.h"
#include "smtpd/steps.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(struct slice inner, const uint8_t *data, size_t size) {
	const char *p = (const char *)data;
	if (inner.n > 0 && (inner.p < p || inner.n > size || inner.p > p + size - inner.n))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	struct mime_tnef t;
	struct mime_tnef_file f;
	uint64_t before = steps_taken;
	size_t last = 0;
	mime_tnef_begin(&t, slice_of((const char *)data, size));
	while (mime_tnef_next(&t, &f)) {
		if (t.at < last)
			abort();
		last = t.at;
		check(f.data, data, size);
		check(f.name.s, data, size);
		check(f.type.s, data, size);
		check(f.content_id.s, data, size);
	}
	if (mime_tnef_next(&t, &f) || steps_taken - before > size)
		abort();
	return 0;
}
