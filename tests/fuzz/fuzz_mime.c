/* mime: any octets are a message. It must be sound: it crosses the channel, and what its part table says of the
 * source is so. */
#include "common/text.h"
#include "smtpd/mime.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	/* Low caps, so that small inputs meet them too. */
	static const struct mime_limits small = {
		.fields_entity = 20,
		.fields_message = 60,
		.field = 512,
		.field_block = 2048,
		.depth = 4,
		.parts = 20,
		.parameters = 6,
		.groups = 4,
		.addresses = 10,
		.boundary = 40,
		.text = 1024,
	};
	const struct mime_limits *const limits[] = {&MIME_LIMITS, &small};
	mime_init();
	for (size_t i = 0; i < array_len(limits); i++) {
		struct message *m = mime_parse(data, size, limits[i]), *got = NULL;
		struct buf record, again;
		buf_init(&record, 32 << 20);
		buf_init(&again, 32 << 20);
		if (message_encode(m, &record) < 0 || message_decode(record.data, record.len, size, &got) < 0)
			abort();
		if (message_encode(got, &again) < 0 || !slice_eq(buf_slice(&record), buf_slice(&again)))
			abort();
		if (!m->body_text && m->body_html)
			abort();
		message_free(got);
		message_free(m);
		buf_fini(&record);
		buf_fini(&again);
	}
	return 0;
}
