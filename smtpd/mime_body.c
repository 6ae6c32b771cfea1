/* The parts without parts: text goes into the message's body, everything else into the part table with its place,
 * size and digest.
 *
 * Invariants: the table's offsets and lengths are those of the encoded octets in the source; text is kept up to
 * limits->text, and what is over is not even decoded. */
#include "smtpd/html_text.h"
#include "smtpd/mime_private.h"
#include "smtpd/mime_tnef.h"
#include "smtpd/mime_uu.h"
#include "smtpd/steps.h"

#include <stdio.h>
#include <strings.h>

#define RUN (16 * 1024)
#define RAW_NAME_MAX 1024
#define SNIFF_MAX 1024
#define TNEF_STRING_MAX 998 /* octets of a name, type or content id that are read */

static void warn_if_odd(struct mime_walk *w, const struct transfer *t) {
	if (!t->odd)
		return;
	message_warn(w->msg, t->encoding == TRANSFER_BASE64 ? "bad_base64"
	                     : t->encoding == TRANSFER_QP   ? "bad_quoted_printable"
	                                                    : "bad_uuencode");
}

/* --- attachments --- */

static void digest_part(struct mime_walk *w, struct part *p) {
	const char *in = w->source + p->offset;
	size_t left = (size_t)p->length;
	uint8_t out[RUN + sizeof(((struct transfer *)0)->held)];
	struct transfer t;
	if (!w->sha)
		w->sha = sha256_new();
	sha256_reset(w->sha);
	transfer_init(&t, p->encoding);
	steps_add(left);
	if (p->encoding == TRANSFER_IDENTITY) {
		sha256_update(w->sha, in, left);
		p->size = left;
	}
	while (p->encoding != TRANSFER_IDENTITY && left > 0) {
		size_t run = min_of(left, (size_t)RUN), n = transfer_run(&t, in, run, out);
		sha256_update(w->sha, out, n);
		p->size += n;
		in += run;
		left -= run;
	}
	size_t n = transfer_end(&t, out);
	sha256_update(w->sha, out, n);
	p->size += n;
	sha256_final(w->sha, p->sha256);
	warn_if_odd(w, &t);
}

/* Room doubles: the count is a power of two whenever there is none left. */
static struct part *new_part(struct part_table *t) {
	if ((t->count & (t->count - 1)) == 0)
		t->parts = xrealloc(t->parts, max_of(t->count * 2, 1u) * sizeof *t->parts);
	struct part *p = &t->parts[t->count++];
	*p = (struct part){.number = (uint16_t)t->count};
	return p;
}

static void name_part(struct part *p, char *raw) {
	p->name = raw ? part_safe_name(raw, strlen(raw)) : NULL;
	if (!p->name || !*p->name) {
		free(p->name);
		p->name = part_made_name(p->number, p->type);
		p->flags |= PART_UNNAMED;
	}
	if (!raw || strcmp(raw, p->name) == 0) {
		free(raw);
		return;
	}
	raw[text_cut(raw, strlen(raw), RAW_NAME_MAX)] = '\0';
	p->raw_name = raw;
}

static void add_part(struct mime_walk *w, struct mime_entity *e, enum container in, size_t start, size_t end) {
	if (w->msg->parts.count >= PART_TABLE_MAX) {
		message_warn(w->msg, "too_many_parts");
		return;
	}
	struct part *p = new_part(&w->msg->parts);
	if (e->is_inline || (in == CONTAINER_RELATED && e->content_id))
		p->flags |= PART_INLINE;
	p->encoding = e->encoding;
	p->offset = start;
	p->length = end - start;
	p->type = take_ptr(e->type);
	p->content_id = take_ptr(e->content_id);
	name_part(p, take_ptr(e->name));
	digest_part(w, p);
}

/* --- files in a winmail.dat --- */

static bool is_tnef(const struct part *p) {
	return strcmp(p->type, "application/ms-tnef") == 0 || strcmp(p->type, "application/vnd.ms-tnef") == 0 ||
	       (strcmp(p->type, "application/octet-stream") == 0 && strcasecmp(p->name, "winmail.dat") == 0);
}

/* One line of text from a string of the TNEF's; borrowed until w->raw is used again. */
static struct slice tnef_string(struct mime_walk *w, const struct mime_tnef *t, const struct mime_tnef_string *s) {
	char charset[32];
	struct buf text;
	snprintf(charset, sizeof charset, "cp%u", t->codepage);
	buf_init(&text, TNEF_STRING_MAX * 4);
	text_append_charset(&text, s->utf16 ? "utf-16le" : charset, s->s.p, min_of(s->s.n, (size_t)TNEF_STRING_MAX), false);
	buf_reset(&w->raw);
	text_append_line(&w->raw, text.data, text.len);
	buf_fini(&text);
	return w->raw.len ? buf_slice(&w->raw) : slice_str("");
}

/* In the source it lies where the winmail.dat does. */
static void add_tnef_file(struct mime_walk *w, const struct mime_tnef *t, const struct mime_tnef_file *file,
                          const struct part *outer) {
	struct part *p = new_part(&w->msg->parts);
	p->flags = PART_INNER;
	p->encoding = outer->encoding;
	p->offset = outer->offset;
	p->length = outer->length;
	p->skip = file->data.n ? (uint64_t)(file->data.p - t->data.p) : 0;
	p->size = file->data.n;
	sha256_of(file->data.n ? file->data.p : "", file->data.n, p->sha256);
	if (mime_read_type(tnef_string(w, t, &file->type), &p->type) == 0)
		p->type = xstrdup("application/octet-stream");
	struct slice id = tnef_string(w, t, &file->content_id), name;
	p->content_id = id.n ? xstrndup(id.p, text_cut(id.p, id.n, TNEF_STRING_MAX)) : NULL;
	name = tnef_string(w, t, &file->name);
	name_part(p, name.n ? xstrndup(name.p, name.n) : NULL);
}

static void add_tnef_files(struct mime_walk *w, const struct part *outer, struct slice data) {
	struct mime_tnef t;
	struct mime_tnef_file file;
	mime_tnef_begin(&t, data);
	while (mime_tnef_next(&t, &file)) {
		if (w->msg->parts.count >= PART_TABLE_MAX) {
			message_warn(w->msg, "too_many_parts");
			return;
		}
		add_tnef_file(w, &t, &file, outer);
	}
	if (t.bad)
		message_warn(w->msg, "bad_tnef");
}

/* Decodes the part a second time, into memory: never more than it takes in the source. */
static void open_tnef(struct mime_walk *w, struct part outer) {
	const char *in = w->source + outer.offset;
	struct transfer t;
	struct buf data;
	if (outer.encoding == TRANSFER_IDENTITY) {
		add_tnef_files(w, &outer, slice_of(in, (size_t)outer.length));
		return;
	}
	transfer_init(&t, outer.encoding);
	buf_init(&data, (size_t)outer.length + 2 * sizeof t.held);
	char *out = buf_reserve(&data, transfer_bound(&t, (size_t)outer.length) + sizeof t.held);
	if (!out)
		return;
	size_t n = transfer_run(&t, in, (size_t)outer.length, out);
	buf_commit(&data, n + transfer_end(&t, out + n));
	add_tnef_files(w, &outer, data.len ? buf_slice(&data) : slice_str(""));
	buf_fini(&data);
}

/* A part that is no text. */
static void add_file(struct mime_walk *w, struct mime_entity *e, enum container in, size_t start, size_t end) {
	unsigned before = w->msg->parts.count;
	add_part(w, e, in, start, end);
	if (w->msg->parts.count > before && is_tnef(&w->msg->parts.parts[before]))
		open_tnef(w, w->msg->parts.parts[before]);
}

/* --- text --- */

static bool may_be_base64(char c) {
	return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || (c && strchr("+/=\r\n", c));
}

/* Where base64 text ends: behind its padding lists and scanners put plain lines, which would decode to noise. More base64 there
 * is read on. */
static size_t base64_text_end(const char *p, size_t n) {
	const char *padding = n ? memchr(p, '=', n) : NULL;
	size_t end = padding ? (size_t)(padding - p) : n;
	while (end < n && p[end] && strchr("= \t\r\n", p[end]))
		end++;
	for (size_t i = end; i < n; i++)
		if (!may_be_base64(p[i]))
			return end;
	return n;
}

/* The part's octets without their transfer encoding: all of them, or the first `most`. *ret_cut: there were more. */
static struct slice decode_text(struct mime_walk *w, const struct mime_entity *e, size_t start, size_t end, size_t most,
                                bool *ret_cut) {
	const char *in = w->source + start;
	size_t left = end - start;
	steps_add(e->encoding == TRANSFER_BASE64 ? left : min_of(left, most));
	if (e->encoding == TRANSFER_IDENTITY) {
		*ret_cut = left > most;
		return slice_of(in, min_of(left, most));
	}
	struct transfer t;
	transfer_init(&t, e->encoding);
	if (e->encoding == TRANSFER_BASE64) {
		left = base64_text_end(in, left);
		t.odd = left < end - start;
	}
	buf_reset(&w->raw);
	while (left > 0 && w->raw.len <= most) {
		size_t run = min_of(left, (size_t)RUN);
		char *out = buf_reserve(&w->raw, transfer_bound(&t, run));
		if (!out)
			break;
		buf_commit(&w->raw, transfer_run(&t, in, run, out));
		in += run;
		left -= run;
	}
	if (left == 0) {
		char *out = buf_reserve(&w->raw, sizeof t.held);
		if (out)
			buf_commit(&w->raw, transfer_end(&t, out));
	}
	warn_if_odd(w, &t);
	*ret_cut = left > 0 || w->raw.len > most;
	return slice_of(w->raw.data, min_of(w->raw.len, most));
}

/* <meta charset=…> or <meta http-equiv content="…; charset=…"> near the beginning, for HTML whose Content-Type names
 * none. */
static bool sniff_charset(struct slice html, char *ret, size_t size) {
	static const char key[] = "charset=";
	size_t n = min_of(html.n, (size_t)SNIFF_MAX);
	for (size_t i = 0; i + sizeof key - 1 < n; i++) {
		if (strncasecmp(html.p + i, key, sizeof key - 1) != 0)
			continue;
		size_t len = 0;
		i += sizeof key - 1;
		while (i < n && (html.p[i] == '"' || html.p[i] == '\'' || html.p[i] == ' '))
			i++;
		while (i + len < n && len + 1 < size && !strchr("\"' />;\r\n\t", html.p[i + len]))
			len++;
		memcpy(ret, html.p + i, len);
		ret[len] = '\0';
		return len > 0 && text_charset_iconv(ret, len);
	}
	return false;
}

/* UTF-7 in HTML has only ever been used to smuggle markup past filters. */
static bool is_utf7(const char *charset) {
	const char *name = text_charset_iconv(charset, strlen(charset));
	return name && strcmp(name, "UTF-7") == 0;
}

static void convert_text(struct mime_walk *w, struct mime_entity *e, struct slice octets, struct buf *out) {
	char sniffed[64];
	const char *charset = e->charset;
	bool bad = false;
	if (e->media == MEDIA_HTML && !charset && sniff_charset(octets, sniffed, sizeof sniffed))
		charset = sniffed;
	if (e->media == MEDIA_HTML && charset && is_utf7(charset))
		charset = "";
	bool known = text_append_charset_check(out, charset, octets.p, octets.n, true, &bad);
	if (charset && !known)
		message_warn(w->msg, "unknown_charset");
	if (bad)
		message_warn(w->msg, "bad_charset_data");
}

/* Puts an empty line between what is there and what was appended at `start`. */
static void join_text(struct buf *b, size_t start) {
	if (start == 0 || b->len == start)
		return;
	size_t gap = b->data[start - 1] == '\n' ? 1 : 2;
	if (!buf_reserve(b, gap))
		return;
	steps_add(b->len - start);
	memmove(b->data + start + gap, b->data + start, b->len - start);
	memset(b->data + start, '\n', gap);
	buf_commit(b, gap);
}

/* A piece of a part's text; what `body` had before the part ends at part_start. The body's ceiling is above the cap by
 * what the most expanding charset makes of twice the cap (UTF-16 halves), so that the cut is made here, between two
 * characters, and never by the buffer. */
static void append_text(struct mime_walk *w, struct mime_entity *e, struct buf *body, size_t part_start, size_t start,
                        size_t end) {
	bool cut = false;
	size_t before = body->len, room = w->limits->text - min_of(before, w->limits->text);
	if (start == end)
		return;
	if (room == 0) {
		message_warn(w->msg, "text_cut");
		return;
	}
	struct slice octets = decode_text(w, e, start, end, room * 2, &cut);
	convert_text(w, e, octets, body);
	if (before == part_start)
		join_text(body, before);
	if (body->len > w->limits->text) {
		buf_cut(body, text_cut(body->data, body->len, w->limits->text));
		cut = true;
	}
	if (cut)
		message_warn(w->msg, "text_cut");
}

static void add_uuencoded(struct mime_walk *w, const struct mime_uu *uu) {
	struct mime_entity e = {.type = xstrdup("application/octet-stream"), .encoding = TRANSFER_UU, .media = MEDIA_OTHER};
	buf_reset(&w->raw);
	text_append_header(&w->raw, uu->name.p, uu->name.n, w->charset);
	e.name = w->raw.len ? xstrndup(w->raw.data, w->raw.len) : NULL;
	message_warn(w->msg, "uuencoded_attachment");
	add_part(w, &e, CONTAINER_NONE, uu->start, uu->end);
	mime_entity_fini(&e);
}

/* Files in the text become attachments and leave it. Only where the text stands as it is in the source, since the
 * part table has one encoding a part. */
static void add_plain_text(struct mime_walk *w, struct mime_entity *e, size_t start, size_t end) {
	size_t part_start = w->text.len;
	struct mime_uu uu;
	while (e->encoding == TRANSFER_IDENTITY && w->msg->parts.count < PART_TABLE_MAX &&
	       mime_uu_find(slice_of(w->source, end), start, &uu)) {
		append_text(w, e, &w->text, part_start, start, uu.start);
		add_uuencoded(w, &uu);
		start = uu.end;
	}
	append_text(w, e, &w->text, part_start, start, end);
}

static void add_text(struct mime_walk *w, struct mime_entity *e, size_t start, size_t end) {
	if (!w->charset && e->charset && text_charset_iconv(e->charset, strlen(e->charset)))
		w->charset = xstrdup(e->charset);
	if (e->media == MEDIA_HTML) {
		w->has_html = true;
		append_text(w, e, &w->html, w->html.len, start, end);
	} else {
		w->has_text = true;
		add_plain_text(w, e, start, end);
	}
}

void mime_text_from_html(struct mime_walk *w) {
	struct buf text;
	buf_init(&text, w->limits->text);
	message_warn(w->msg, "text_from_html");
	if (html_text(&text, w->html.data, w->html.len) < 0)
		message_warn(w->msg, "text_cut");
	w->has_text = true;
	buf_fini(&w->text);
	w->text = text;
}

/* Text that is no attachment is shown; other kinds than plain and HTML only where they do not stand beside text that
 * is meant for reading. */
static bool is_shown(const struct mime_entity *e, enum container in) {
	if (e->attachment || e->name || e->media > MEDIA_OTHER_TEXT)
		return false;
	return e->media != MEDIA_OTHER_TEXT || (in != CONTAINER_ALTERNATIVE && in != CONTAINER_RELATED);
}

void mime_add_leaf(struct mime_walk *w, struct mime_entity *e, enum container in, size_t start, size_t end) {
	if (e->malformed_type && (e->encoding != TRANSFER_IDENTITY || !text_utf8_valid(w->source + start, end - start) ||
	                          memchr(w->source + start, 0, end - start))) {
		e->media = MEDIA_OTHER;
		free(e->type);
		e->type = xstrdup("application/octet-stream");
	}
	if (is_shown(e, in))
		add_text(w, e, start, end);
	else
		add_file(w, e, in, start, end);
}
