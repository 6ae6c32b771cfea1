/* message_decode: the record of a parser process that has been taken over. What is accepted encodes back to the same
 * octets. */
#include "smtpd/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	struct message *m;
	if (message_decode(data, size, 1000, &m) < 0)
		return 0;
	struct buf b;
	buf_init(&b, size);
	if (message_encode(m, &b) < 0 || b.len != size || memcmp(b.data, data, size) != 0)
		abort();
	for (unsigned i = 0; i < m->parts.count; i++)
		if (m->parts.parts[i].offset + m->parts.parts[i].length > 1000)
			abort();
	buf_fini(&b);
	message_free(m);
	return 0;
}
