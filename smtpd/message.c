/* The parsed message as memory and as a record of the parser's channel. The record is written by a process that has
 * just read hostile mail, so the decoder believes nothing: every count, length, string and offset is checked as if a
 * peer had sent it.
 *
 * Invariant: what message_decode() returns satisfies every bound that message.h and part_table.h name. */
#include "smtpd/message.h"

#include "common/text.h"

#define VERSION 1
#define WARNINGS_MAX 32
#define LINE_MAX_OCTETS (512 * 1024) /* of a decoded header value: the field's cap, as large as decoding can make it */
#define NO_STRING UINT32_MAX

struct message *message_new(void) {
	return xcalloc(1, sizeof(struct message));
}

static void strings_fini(struct message_strings *s) {
	for (unsigned i = 0; i < s->n; i++)
		free(s->v[i]);
	free(s->v);
	*s = (struct message_strings){0};
}

/* Room doubles: it is a power of two from 4 on, so it need not be kept. */
void message_strings_add(struct message_strings *s, const char *p, size_t n) {
	if (s->n == 0)
		s->v = xmalloc(4 * sizeof *s->v);
	else if (s->n >= 4 && (s->n & (s->n - 1)) == 0)
		s->v = xrealloc(s->v, (size_t)s->n * 2 * sizeof *s->v);
	s->v[s->n++] = xstrndup(p, n);
}

struct message *message_free(struct message *m) {
	if (!m)
		return NULL;
	free(m->from_address);
	free(m->from_name);
	free(m->subject);
	free(m->body_text);
	free(m->body_html);
	strings_fini(&m->to);
	strings_fini(&m->cc);
	strings_fini(&m->reply_to);
	strings_fini(&m->warnings);
	part_table_fini(&m->parts);
	free(m);
	return NULL;
}

bool message_warned(const struct message *m, const char *warning) {
	for (unsigned i = 0; i < m->warnings.n; i++)
		if (strcmp(m->warnings.v[i], warning) == 0)
			return true;
	return false;
}

void message_warn(struct message *m, const char *warning) {
	if (m->warnings.n < WARNINGS_MAX && !message_warned(m, warning))
		message_strings_add(&m->warnings, warning, strlen(warning));
}

static void put_string(struct buf *out, const char *s) {
	size_t n = s ? strlen(s) : NO_STRING;
	buf_append_u32(out, (uint32_t)n);
	if (s)
		buf_append(out, s, n);
}

static void put_strings(struct buf *out, const struct message_strings *s) {
	buf_append_u32(out, s->n);
	for (unsigned i = 0; i < s->n; i++)
		put_string(out, s->v[i]);
}

int message_encode(const struct message *m, struct buf *out) {
	buf_append_char(out, VERSION);
	put_string(out, m->from_address);
	put_string(out, m->from_name);
	put_string(out, m->subject);
	put_string(out, m->body_text);
	put_string(out, m->body_html);
	put_strings(out, &m->to);
	put_strings(out, &m->cc);
	put_strings(out, &m->reply_to);
	put_strings(out, &m->warnings);
	buf_append_u32(out, m->received_count);
	int r = part_table_encode(&m->parts, out); /* to the end: needs no length */
	return r < 0 ? r : out->overflow ? -ENOSPC : 0;
}

struct reader {
	const uint8_t *p, *end;
	bool bad;
};

static uint32_t get_u32(struct reader *r) {
	if (r->end - r->p < 4) {
		r->bad = true;
		return 0;
	}
	uint32_t v = (uint32_t)r->p[0] << 24 | (uint32_t)r->p[1] << 16 | (uint32_t)r->p[2] << 8 | r->p[3];
	r->p += 4;
	return v;
}

static char *get_string(struct reader *r, size_t max) {
	size_t n = get_u32(r);
	if (r->bad || n == NO_STRING)
		return NULL;
	if (n > max || (size_t)(r->end - r->p) < n || memchr(r->p, 0, n) || !text_utf8_valid((const char *)r->p, n)) {
		r->bad = true;
		return NULL;
	}
	char *s = xstrndup((const char *)r->p, n);
	r->p += n;
	return s;
}

static void get_strings(struct reader *r, struct message_strings *ret, unsigned max) {
	unsigned n = get_u32(r);
	if (n > max)
		r->bad = true;
	for (unsigned i = 0; i < n && !r->bad; i++) {
		char *s = get_string(r, LINE_MAX_OCTETS);
		if (s)
			message_strings_add(ret, s, strlen(s));
		else
			r->bad = true;
		free(s);
	}
}

/* Each part lies inside the source, and decoding never makes more than there was. */
static bool parts_fit(const struct part_table *t, uint64_t source_size) {
	for (unsigned i = 0; i < t->count; i++) {
		const struct part *p = &t->parts[i];
		if (p->offset > source_size || p->length > source_size - p->offset || p->skip > p->length ||
		    p->size > p->length - p->skip)
			return false;
	}
	return true;
}

int message_decode(const void *p, size_t n, uint64_t source_size, struct message **ret) {
	cleanup(message_freep) struct message *m = message_new();
	struct reader r = {p, (const uint8_t *)p + n, false};
	if (n == 0 || *r.p++ != VERSION)
		return -EBADMSG;
	m->from_address = get_string(&r, LINE_MAX_OCTETS);
	m->from_name = get_string(&r, LINE_MAX_OCTETS);
	m->subject = get_string(&r, LINE_MAX_OCTETS);
	m->body_text = get_string(&r, MESSAGE_TEXT_MAX);
	m->body_html = get_string(&r, MESSAGE_TEXT_MAX);
	get_strings(&r, &m->to, MESSAGE_ADDRESSES_MAX);
	get_strings(&r, &m->cc, MESSAGE_ADDRESSES_MAX);
	get_strings(&r, &m->reply_to, MESSAGE_ADDRESSES_MAX);
	get_strings(&r, &m->warnings, WARNINGS_MAX);
	m->received_count = get_u32(&r);
	if (r.bad)
		return -EBADMSG;
	int e = part_table_decode(r.p, (size_t)(r.end - r.p), &m->parts);
	if (e < 0)
		return e;
	if (!parts_fit(&m->parts, source_size))
		return -EBADMSG;
	*ret = take_ptr(m);
	return 0;
}
