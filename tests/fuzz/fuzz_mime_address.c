/* mime_address: any line is a list of mailboxes, perhaps of none. Each is local@domain in clean UTF-8; the work grows
 * with the line and no faster. */
#include "common/text.h"
#include "smtpd/mime_address.h"
#include "smtpd/steps.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(struct slice s) {
	if (!text_utf8_valid(s.p, s.n) || memchr(s.p, 0, s.n) || memchr(s.p, '\n', s.n) || memchr(s.p, '\r', s.n))
		abort();
}

static bool check(void *arg, struct slice address, struct slice name) {
	unsigned *left = arg;
	const char *at = memrchr(address.p, '@', address.n);
	if (!at || at == address.p || at + 1 == address.p + address.n || address.n > MIME_ADDRESS_MAX)
		abort();
	check_text(address);
	check_text(name);
	return --*left > 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	struct buf line;
	buf_init(&line, size * 4 + 64);
	text_append_unfolded(&line, (const char *)data, size, NULL);
	static const unsigned stops[] = {1, 1000000};
	for (size_t i = 0; i < array_len(stops); i++) {
		unsigned left = stops[i];
		uint64_t before = steps_taken;
		mime_address_list(line.len ? buf_slice(&line) : slice_str(""), check, &left);
		if (steps_taken - before > 300 * (uint64_t)(line.len + 10)) /* a word's length is the largest factor */
			abort();
	}
	buf_fini(&line);
	return 0;
}
