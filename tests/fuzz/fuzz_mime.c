/* mime: any octets are a message. It must be sound: it crosses the channel, what its part table says of the source is
 * so (decoded in pieces too), and the work grows with the source and no faster. */
#include "common/sha256.h"
#include "smtpd/mime.h"
#include "smtpd/steps.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Of n octets those behind `skip`, up to `most` in all. */
static void take(struct sha256 *sha, const uint8_t *p, size_t n, uint64_t *skip, uint64_t most, uint64_t *total) {
	size_t left_out = (size_t)min_of(*skip, (uint64_t)n);
	size_t taken = (size_t)min_of((uint64_t)(n - left_out), most - *total);
	*skip -= left_out;
	sha256_update(sha, p + left_out, taken);
	*total += taken;
}

/* As apid reads it: a piece at a time. */
static void check_part(const struct part *p, const uint8_t *source, size_t size) {
	struct transfer t;
	uint8_t out[7 + sizeof t.held], digest[SHA256_LEN];
	struct sha256 *sha = sha256_new();
	uint64_t total = 0, skip = p->skip, most = p->flags & PART_INNER ? p->size : UINT64_MAX;
	if (p->offset > size || p->length > size - p->offset || !*p->name || !*p->type)
		abort();
	transfer_init(&t, p->encoding);
	for (uint64_t at = 0, run; at < p->length; at += run) {
		run = min_of(p->length - at, UINT64_C(7));
		size_t n = transfer_run(&t, source + p->offset + at, (size_t)run, out);
		take(sha, out, n, &skip, most, &total);
	}
	size_t n = transfer_end(&t, out);
	take(sha, out, n, &skip, most, &total);
	sha256_final(sha, digest);
	sha256_free(sha);
	if (total != p->size || memcmp(digest, p->sha256, sizeof digest) != 0)
		abort();
}

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
		uint64_t before = steps_taken;
		struct message *m = mime_parse(data, size, limits[i]), *got = NULL;
		if (steps_taken - before > 400 * (uint64_t)(size + 100))
			abort();
		uint64_t decoded = 0;
		for (unsigned k = 0; k < m->parts.count; k++) {
			check_part(&m->parts.parts[k], data, size);
			decoded += m->parts.parts[k].size;
		}
		if (decoded > 2 * (uint64_t)size) /* once as it is, once more inside a winmail.dat */
			abort();
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
