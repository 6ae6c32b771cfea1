/* A MIME source (RFC 5322, 2045-2047, 2231) from what a client gave.
 *
 *   no file:  header, text
 *   files:    header, multipart/mixed of the text and each file in base64, closed by CRLF "--boundary--" CRLF
 *
 * Invariants: lines end in CRLF and have at most 998 octets; the boundary begins "=_", which neither base64 nor
 * quoted-printable can contain, and goes on with the mail's id, which nobody knew when the text was written; a
 * part's octets end where the CRLF of the next delimiter begins (RFC 2046 5.1.1), so appending moves nothing. */
#include "apid/compose.h"

#include "common/clock.h"
#include "common/sha256.h"
#include "common/text.h"
#include "common/transfer.h"

#include <stdio.h>
#include <strings.h>

#define WORD_OCTETS 39 /* in one encoded word: 64 characters in all, so "Subject: " and it fit into 76 (RFC 2047 2) */
#define PLAIN_HEADER_MAX 70
#define LINE_MAX_OCTETS 998 /* RFC 5322 2.1.1 */
#define BASE64_LINE 57      /* octets that make 76 characters (RFC 2045 6.8) */
#define QP_LINE 76          /* RFC 2045 6.7 (5) */
#define GIVEN_NAME_MAX                                                                                                 \
	1024 /* octets of a name as given that are looked at; part_safe_name() makes at most 255 of them */
#define BOUNDARY_SIZE (2 + ID_TEXT_SIZE)

/* ---- Text for headers ---- */

/* What can stand in a header as it is: short, printable ASCII, nothing that reads as an encoded word, no blanks
 * to be lost. */
static bool plain_header(struct slice s) {
	if (s.n == 0)
		return true;
	if (s.n > PLAIN_HEADER_MAX || s.p[0] == ' ' || s.p[s.n - 1] == ' ')
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < 0x20 || s.p[i] > 0x7e || (s.p[i] == '=' && i + 1 < s.n && s.p[i + 1] == '?'))
			return false;
	return true;
}

/* Whole characters in each word (RFC 2047 5). */
static void append_words(struct buf *out, struct slice s) {
	for (bool first = true; s.n > 0; first = false) {
		size_t n = text_cut(s.p, s.n, WORD_OCTETS);
		buf_append_str(out, first ? "=?UTF-8?B?" : "\r\n =?UTF-8?B?");
		transfer_base64_encode(out, s.p, n);
		buf_append_str(out, "?=");
		s = slice_of(s.p + n, s.n - n);
	}
}

static void append_unstructured(struct buf *out, struct slice s) {
	if (plain_header(s))
		buf_append(out, s.p, s.n);
	else
		append_words(out, s);
}

/* A quoted-string (RFC 5322 3.2.4) of printable ASCII. */
static void append_quoted(struct buf *out, struct slice s) {
	buf_append_char(out, '"');
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '"' || s.p[i] == '\\')
			buf_append_char(out, '\\');
		buf_append_char(out, s.p[i]);
	}
	buf_append_char(out, '"');
}

static void append_from(struct buf *out, const struct compose_mail *m) {
	buf_append_str(out, "From: ");
	if (m->from_name.n > 0) {
		if (plain_header(m->from_name))
			append_quoted(out, m->from_name);
		else
			append_words(out, m->from_name);
		buf_append_str(out, "\r\n ");
	}
	buf_printf(out, "<%s>\r\n", m->from_address);
}

/* ---- Bodies ---- */

/* The next line of *text without its end, which may be CRLF, LF or CR. */
static struct slice next_line(struct slice *text, bool *ret_ended) {
	size_t n = 0;
	while (n < text->n && text->p[n] != '\r' && text->p[n] != '\n')
		n++;
	struct slice line = slice_of(text->p, n);
	*ret_ended = n < text->n;
	if (*ret_ended)
		n += n + 1 < text->n && text->p[n] == '\r' && text->p[n + 1] == '\n' ? 2 : 1;
	*text = slice_of(text->p + n, text->n - n);
	return line;
}

static enum transfer_encoding text_encoding(struct slice text, bool *ret_seven_bit) {
	size_t high = 0, odd = 0, longest = 0, total = text.n;
	bool ended;
	while (text.n > 0) {
		struct slice line = next_line(&text, &ended);
		longest = max_of(longest, line.n);
		for (size_t i = 0; i < line.n; i++) {
			unsigned char c = (unsigned char)line.p[i];
			high += c > 0x7e;
			odd += c < 0x20 && c != '\t';
		}
	}
	*ret_seven_bit = high == 0 && odd == 0 && longest <= LINE_MAX_OCTETS;
	if (*ret_seven_bit)
		return TRANSFER_IDENTITY;
	return high > total / 4 ? TRANSFER_BASE64 : TRANSFER_QP;
}

static void append_base64(struct buf *out, const char *p, size_t n) {
	for (size_t done = 0; done < n && !out->overflow; done += BASE64_LINE) {
		if (done > 0)
			buf_append_str(out, "\r\n");
		transfer_base64_encode(out, p + done, min_of(n - done, (size_t)BASE64_LINE));
	}
}

/* One line in quoted-printable (RFC 2045 6.7): soft breaks keep it within 76, a blank at its end is escaped (3). */
static void append_qp_line(struct buf *out, struct slice line) {
	size_t column = 0;
	for (size_t i = 0; i < line.n; i++) {
		unsigned char c = (unsigned char)line.p[i];
		bool blank = c == ' ' || c == '\t';
		bool literal = (c > 0x20 && c < 0x7f && c != '=') || (blank && i + 1 < line.n);
		if (column + (literal ? 1 : 3) > QP_LINE - 1) {
			buf_append_str(out, "=\r\n");
			column = 0;
		}
		if (literal)
			buf_append_char(out, (char)c);
		else
			buf_printf(out, "=%02X", c);
		column += literal ? 1 : 3;
	}
}

/* Lines with CRLF ends, each by itself encoded or not. */
static void append_lines(struct buf *out, struct slice text, bool qp) {
	while (text.n > 0 && !out->overflow) {
		bool ended;
		struct slice line = next_line(&text, &ended);
		if (qp)
			append_qp_line(out, line);
		else
			buf_append(out, line.p, line.n);
		if (ended)
			buf_append_str(out, "\r\n");
	}
}

/* Content-Type, Content-Transfer-Encoding, the empty line and the text. */
static void append_text(struct buf *out, struct slice text) {
	bool seven_bit;
	enum transfer_encoding encoding = text_encoding(text, &seven_bit);
	const char *name = seven_bit ? "7bit" : encoding == TRANSFER_BASE64 ? "base64" : "quoted-printable";
	buf_printf(out, "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: %s\r\n\r\n", name);
	if (encoding == TRANSFER_BASE64)
		append_base64(out, text.p, text.n);
	else
		append_lines(out, text, encoding == TRANSFER_QP);
}

/* ---- Files ---- */

/* RFC 2045 5.1 tokens, less what nobody registers (RFC 6838 4.2). */
static bool type_char(char c) {
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c != '\0' && strchr("!#$&-^_.+", c));
}

/* "Image/PNG; x=y" -> "image/png". What is no type, or would open a container, is application/octet-stream. */
static char *clean_type(struct slice type) {
	char out[128];
	size_t n = 0, slash = 0;
	while (type.n > 0 && type.p[0] == ' ')
		type = slice_of(type.p + 1, type.n - 1);
	for (; n < type.n && n < sizeof out && type.p[n] != ';' && type.p[n] != ' '; n++) {
		char c = type.p[n];
		out[n] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
		if (c == '/' && slash == 0)
			slash = n;
		else if (!type_char(out[n]))
			return xstrdup("application/octet-stream");
	}
	if (n == sizeof out || slash == 0 || slash + 1 == n || memcmp(out, "multipart/", 10) == 0)
		return xstrdup("application/octet-stream");
	return xstrndup(out, n);
}

static void name_part(struct part *part, struct slice given) {
	struct buf whole;
	buf_init(&whole, 4 * GIVEN_NAME_MAX);
	text_append_line(&whole, given.p, text_cut(given.p, given.n, GIVEN_NAME_MAX));
	part->name = part_safe_name(whole.len ? whole.data : "", whole.len);
	if (*part->name == '\0') {
		free(part->name);
		part->name = part_made_name(part->number, part->type);
		part->flags |= PART_UNNAMED;
	} else if (!slice_eq(buf_slice(&whole), slice_str(part->name))) {
		part->raw_name = xstrndup(whole.data, whole.len);
	}
	buf_fini(&whole);
}

static bool ascii_only(const char *s) {
	while (*s && (unsigned char)*s < 0x7f)
		s++;
	return *s == '\0';
}

/* filename="…" or, beyond ASCII, filename*=UTF-8''… (RFC 2231 4, RFC 2183 2.3): one line of at most 3 * 255
 * octets and some. */
static void append_filename(struct buf *out, const char *name) {
	if (ascii_only(name)) {
		buf_append_str(out, "filename=");
		append_quoted(out, slice_str(name));
		return;
	}
	buf_append_str(out, "filename*=UTF-8''");
	for (const unsigned char *p = (const unsigned char *)name; *p; p++) {
		bool safe =
		    (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || strchr("-._~", *p);
		if (safe)
			buf_append_char(out, (char)*p);
		else
			buf_printf(out, "%%%02X", *p);
	}
}

static void part_fini(struct part *part) {
	free(part->name);
	free(part->raw_name);
	free(part->type);
	*part = (struct part){0};
}

/* Header and base64 of one file, after its delimiter line; fills the part. */
static void append_file(struct buf *out, const struct compose_file *file, unsigned number, struct part *part) {
	*part = (struct part){.number = (uint16_t)number, .encoding = TRANSFER_BASE64, .size = file->data.n};
	part->type = clean_type(file->type);
	name_part(part, file->name);
	sha256_of(file->data.p, file->data.n, part->sha256);
	buf_printf(out, "Content-Type: %s\r\nContent-Disposition: attachment;\r\n ", part->type);
	append_filename(out, part->name);
	buf_append_str(out, "\r\nContent-Transfer-Encoding: base64\r\n\r\n");
	part->offset = out->len;
	append_base64(out, file->data.p, file->data.n);
	part->length = out->len - part->offset;
}

/* ---- Whole sources ---- */

static void make_boundary(const struct id *mail, char ret[BOUNDARY_SIZE]) {
	memcpy(ret, "=_", 2);
	id_format(mail, ret + 2);
}

static void append_multipart_type(struct buf *out, const char *boundary) {
	buf_printf(out, "Content-Type: multipart/mixed; boundary=\"%s\"\r\n\r\n--%s\r\n", boundary, boundary);
}

static void append_close(struct buf *out, const char *boundary) {
	buf_printf(out, "\r\n--%s--\r\n", boundary);
}

int compose_source(const struct compose_mail *m, struct buf *source, struct part_table *ret_parts) {
	struct part_table parts = {0};
	char date[CLOCK_RFC5322_SIZE], id[ID_TEXT_SIZE], boundary[BOUNDARY_SIZE];
	assert(source->len == 0 && m->file_count <= PART_TABLE_MAX);
	clock_format_rfc5322(m->wall_us, date);
	id_format(&m->id, id);
	make_boundary(&m->id, boundary);
	append_from(source, m);
	buf_printf(source, "To: <%s>\r\nSubject: ", m->to_address);
	append_unstructured(source, m->subject);
	buf_printf(source, "\r\nDate: %s\r\nMessage-ID: <%s@%s>\r\nMIME-Version: 1.0\r\n", date, id, m->hostname);
	if (m->file_count > 0)
		append_multipart_type(source, boundary);
	append_text(source, m->text);
	if (m->file_count > 0)
		parts.parts = xcalloc(m->file_count, sizeof *parts.parts);
	for (; parts.count < m->file_count && !source->overflow; parts.count++) {
		buf_printf(source, "\r\n--%s\r\n", boundary);
		append_file(source, &m->files[parts.count], parts.count + 1, &parts.parts[parts.count]);
	}
	if (m->file_count > 0)
		append_close(source, boundary);
	if (source->overflow) {
		part_table_fini(&parts);
		return -ENOSPC;
	}
	*ret_parts = parts;
	return 0;
}

/* Where the two Content- fields, which come last, begin, and where the header ends (after its empty line). */
static int find_content(struct slice source, size_t *ret_fields, size_t *ret_body) {
	struct slice rest = source;
	struct text_field field;
	const char *end = source.n ? memmem(source.p, source.n, "\r\n\r\n", 4) : NULL;
	if (!end)
		return -EBADMSG;
	*ret_body = (size_t)(end - source.p) + 4;
	rest.n = *ret_body;
	while (text_next_field(&rest, &field) > 0) {
		if (field.name.n == 12 && strncasecmp(field.name.p, "Content-Type", 12) == 0) {
			*ret_fields = (size_t)(field.name.p - source.p);
			return 0;
		}
	}
	return -EBADMSG;
}

/* A source without files becomes a multipart whose first part it was: all but the last delimiter. */
static int open_multipart(struct buf *source, size_t fields, const char *boundary) {
	struct buf out;
	buf_init(&out, source->ceiling);
	buf_append(&out, source->data, fields);
	append_multipart_type(&out, boundary);
	buf_append(&out, source->data + fields, source->len - fields);
	if (out.overflow) {
		buf_fini(&out);
		return -ENOSPC;
	}
	buf_fini(source);
	*source = out;
	return 0;
}

static unsigned next_number(const struct part_table *parts) {
	unsigned highest = 0;
	for (unsigned i = 0; i < parts->count; i++)
		highest = max_of(highest, (unsigned)parts->parts[i].number);
	return highest + 1;
}

/* Leaves the source ready for the next delimiter line. */
static int reopen(struct buf *source, const char *boundary, size_t *ret_changed) {
	struct buf close;
	size_t fields = 0, body = 0;
	int r = find_content(buf_slice(source), &fields, &body);
	if (r < 0)
		return r;
	static const char plain[] = "Content-Type: text/plain";
	if (source->len - fields >= sizeof plain - 1 && memcmp(source->data + fields, plain, sizeof plain - 1) == 0) {
		*ret_changed = fields;
		return open_multipart(source, fields, boundary);
	}
	buf_init(&close, 128);
	append_close(&close, boundary);
	bool ours =
	    source->len - body >= close.len && memcmp(source->data + source->len - close.len, close.data, close.len) == 0;
	if (ours) {
		source->len -= close.len;
		source->data[source->len] = '\0';
		*ret_changed = source->len;
	}
	buf_fini(&close);
	return ours ? 0 : -EBADMSG;
}

int compose_append(struct buf *source, struct part_table *parts, const struct compose_file *file, const struct id *mail,
                   size_t *ret_changed) {
	char boundary[BOUNDARY_SIZE];
	struct part part;
	size_t changed = 0;
	unsigned number = next_number(parts);
	if (number > PART_TABLE_MAX)
		return -E2BIG;
	make_boundary(mail, boundary);
	int r = reopen(source, boundary, &changed);
	if (r < 0)
		return r;
	buf_printf(source, "\r\n--%s\r\n", boundary);
	append_file(source, file, number, &part);
	append_close(source, boundary);
	if (source->overflow) {
		part_fini(&part);
		return -ENOSPC;
	}
	parts->parts = xrealloc(parts->parts, (parts->count + 1) * sizeof *parts->parts);
	parts->parts[parts->count++] = part;
	*ret_changed = changed;
	return 0;
}
