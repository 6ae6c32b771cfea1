/* Rows of whole messages and what must come of them; shared by the tests of mime. Rows leave CRLF out where it does not
 * matter: "\n" is written, CRLF is parsed. Each row runs whole and in all its truncations. */
#ifndef MINUTEMAIL_TESTS_MIME_CHECK_H
#define MINUTEMAIL_TESTS_MIME_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "common/sha256.h"
#include "smtpd/mime.h"

struct row {
	const char *what, *source;
	const char *from, *name, *to, *cc, *reply_to, *subject, *text, *html; /* lists joined by " | "; text with "\n" */
	const char *parts;    /* "name type size flags[ cid]" joined by " | "; flags i(nline), u(nnamed), n: inner, or - */
	const char *warnings; /* joined by blanks */
};

#define PLAIN "From: a@b.c\n"

static inline char *crlf(const char *s, size_t *ret_n) {
	struct buf b;
	buf_init(&b, 1 << 20);
	for (; *s; s++)
		buf_append(&b, *s == '\n' ? "\r\n" : s, *s == '\n' ? 2 : 1);
	return buf_take(&b, ret_n);
}

static void check(const char *what, const char *field, const char *got, const char *want) {
	if (!got != !want || (got && strcmp(got, want) != 0))
		fail_msg("%s: %s is \"%s\", not \"%s\"", what, field, got ? got : "(null)", want ? want : "(null)");
}

static inline void check_text(const char *what, const char *field, const char *got, const char *want) {
	char *w = want ? crlf(want, NULL) : NULL, *lf = got ? xstrdup(got) : NULL, *wlf = want ? xstrdup(want) : NULL;
	/* the blank line between joined texts is ours and bare; compare without CR */
	for (char *s = lf, *d = lf; lf && (*d = *s); s++)
		d += *d != '\r';
	check(what, field, lf, wlf);
	free(w);
	free(lf);
	free(wlf);
}

static inline void check_list(const char *what, const char *field, const struct message_strings *got, const char *want,
                              const char *between) {
	struct buf b;
	buf_init(&b, 1 << 20);
	for (unsigned i = 0; i < got->n; i++) {
		buf_append_str(&b, i ? between : "");
		buf_append_str(&b, got->v[i]);
	}
	check(what, field, b.len ? b.data : NULL, want);
	buf_fini(&b);
}

static inline void check_parts(const char *what, const struct part_table *t, const char *want) {
	struct buf b;
	buf_init(&b, 1 << 20);
	for (unsigned i = 0; i < t->count; i++) {
		const struct part *p = &t->parts[i];
		buf_printf(&b, "%s%s %s %u %s%s%s%s%s%s", i ? " | " : "", p->name, p->type, (unsigned)p->size,
		           p->flags & PART_INLINE ? "i" : "", p->flags & PART_UNNAMED ? "u" : "",
		           p->flags & PART_INNER ? "n" : "", p->flags ? "" : "-", p->content_id ? " " : "",
		           p->content_id ? p->content_id : "");
	}
	check(what, "parts", b.len ? b.data : NULL, want);
	buf_fini(&b);
}

/* What holds for every message: it can cross the channel, and its digests are those of what its offsets say. */
static inline void check_sound(const struct message *m, const char *source, size_t n) {
	struct message *got;
	struct buf b;
	buf_init(&b, 16 << 20);
	assert_int_equal(message_encode(m, &b), 0);
	assert_int_equal(message_decode(b.len ? b.data : "", b.len, n, &got), 0);
	message_free(got);
	for (unsigned i = 0; i < m->parts.count; i++) {
		const struct part *p = &m->parts.parts[i];
		struct transfer t;
		uint8_t digest[SHA256_LEN];
		transfer_init(&t, p->encoding);
		uint8_t *out = xmalloc(transfer_bound(&t, (size_t)p->length) + 80);
		size_t len = transfer_run(&t, source + p->offset, (size_t)p->length, out);
		len += transfer_end(&t, out + len);
		if (p->flags & PART_INNER)
			assert_true(p->skip <= len && p->size <= len - p->skip);
		else
			assert_int_equal(len, p->size);
		sha256_of(out + p->skip, (size_t)p->size, digest);
		assert_memory_equal(digest, p->sha256, SHA256_LEN);
		free(out);
	}
	buf_fini(&b);
}

static inline void check_rows(const struct row *rows, size_t count) {
	for (size_t i = 0; i < count; i++) {
		const struct row *r = &rows[i];
		size_t n;
		char *source = crlf(r->source, &n);
		struct message *m = mime_parse(source, n, &MIME_LIMITS);
		check(r->what, "from", m->from_address, r->from);
		check(r->what, "name", m->from_name, r->name);
		check_list(r->what, "to", &m->to, r->to, " | ");
		check_list(r->what, "cc", &m->cc, r->cc, " | ");
		check_list(r->what, "reply-to", &m->reply_to, r->reply_to, " | ");
		check(r->what, "subject", m->subject, r->subject);
		check_text(r->what, "text", m->body_text, r->text);
		check_text(r->what, "html", m->body_html, r->html);
		check_parts(r->what, &m->parts, r->parts);
		check_list(r->what, "warnings", &m->warnings, r->warnings, " ");
		check_sound(m, source, n);
		message_free(m);
		free(source);
	}
}

/* Each truncation of each row, in memory of exactly its size, so that a sanitizer sees a step too far. */
static inline void check_truncations(const struct row *rows, size_t count) {
	for (size_t i = 0; i < count; i++) {
		size_t n;
		char *source = crlf(rows[i].source, &n);
		for (size_t k = 0; k < n; k++) {
			char *copy = xmemdup(source, k);
			struct message *m = mime_parse(copy, k, &MIME_LIMITS);
			check_sound(m, copy, k);
			message_free(m);
			free(copy);
		}
		free(source);
	}
}

static int setup(void **state) {
	mime_init();
	mime_init();
	return 0;
}

#endif
