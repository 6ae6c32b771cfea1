/* prescan: any line; the first octet chooses how many parameters may be. What GMime is given has no more of them, no
 * encoded word, and is UTF-8; nothing takes more room than the names of charsets need. */
#include "common/text.h"
#include "smtpd/prescan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parameters(struct slice line, unsigned max) {
	struct prescan_parameters seen;
	struct buf out;
	buf_init(&out, line.n * 17 + 256);
	enum prescan_verdict verdict = prescan_parameters(line.p, line.n, max, &out, &seen);
	const char *p = out.len ? out.data : "";
	if (out.overflow || !text_utf8_valid(p, out.len) || seen.count > max)
		abort();
	if (verdict == PRESCAN_BARE && memchr(p, ';', out.len))
		abort();
	/* "name=" may be followed by '?'; a value never has the beginning of a word. */
	if (verdict == PRESCAN_OK && memmem(p, out.len, "==?", 3))
		abort();
	if (out.len)
		prescan_unmask(out.data);
	if (out.len && strlen(out.data) != out.len)
		abort();
	buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	struct prescan_source seen;
	struct buf line;
	if (size == 0)
		return 0;
	const char *p = (const char *)data + 1;
	prescan_source(p, size - 1, &seen);
	if (seen.nul != (memchr(p, 0, size - 1) != NULL) || (seen.bare_newline && !memchr(p, '\n', size - 1)))
		abort();
	buf_init(&line, size * 3 + 16);
	text_append_line(&line, p, size - 1);
	struct slice s = line.len ? buf_slice(&line) : slice_str("");
	size_t colons = 0;
	for (size_t i = 0; i < s.n; i++)
		colons += s.p[i] == ':';
	if (prescan_groups(s.p, s.n) > colons)
		abort();
	parameters(s, data[0] & 15);
	parameters(s, 1000);
	buf_fini(&line);
	return 0;
}
