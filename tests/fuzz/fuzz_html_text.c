/* html_text: any clean text is HTML. Its text is clean UTF-8 too and not much longer, what has no room is left out
 * whole, and the work grows with the input and no faster. */
#include "smtpd/html_text.h"

#include "common/text.h"
#include "smtpd/steps.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	struct buf html, text, little;
	buf_init(&html, size * 3 + 16);
	buf_init(&text, size * 12 + 64);
	buf_init(&little, size / 4 + 16);
	text_append_clean(&html, (const char *)data, size, true);
	uint64_t before = steps_taken;
	if (html_text(&text, html.data, html.len) < 0)
		abort();
	if (steps_taken - before > 20 * (uint64_t)(html.len + 10))
		abort();
	const char *p = text.len ? text.data : "";
	if (!text_utf8_valid(p, text.len) || memchr(p, 0, text.len) || text.len > html.len * 3 + 16)
		abort();
	html_text(&little, html.data, html.len);
	if (!text_utf8_valid(little.len ? little.data : "", little.len))
		abort();
	buf_fini(&html);
	buf_fini(&text);
	buf_fini(&little);
	return 0;
}
