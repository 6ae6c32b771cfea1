/* multipart/form-data bodies, read whole. Line ends are CRLF and nothing else: a body with bare LFs is refused,
 * because HTTP clients never make one and two readings of one body are how checks are slipped past. */
#include "apid/multipart.h"

#include "common/text.h"

#include <strings.h>

#define BOUNDARY_MAX 70 /* RFC 2046 5.1.1 */

static bool is_blank(char c) {
	return c == ' ' || c == '\t';
}

static bool is_word(struct slice s, const char *word) {
	return s.n == strlen(word) && strncasecmp(s.p, word, s.n) == 0;
}

/* ---- parameters of a header's value: `form-data; name="a"; filename="b"` ---- */

static struct slice up_to(struct slice s, char c) {
	const char *at = s.n ? memchr(s.p, c, s.n) : NULL;
	return at ? slice_of(s.p, (size_t)(at - s.p)) : s;
}

static void skip(struct slice *s, size_t n) {
	n = min_of(n, s->n);
	s->p += n;
	s->n -= n;
}

/* What stands between the quotes, still escaped; `rest` begins after the opening one. False: no closing quote. */
static bool quoted(struct slice *rest, struct slice *ret) {
	for (size_t i = 0; i < rest->n; i++) {
		if (rest->p[i] == '"') {
			*ret = slice_of(rest->p, i);
			skip(rest, i + 1);
			return true;
		}
		if (rest->p[i] == '\\' && i + 1 < rest->n && (rest->p[i + 1] == '"' || rest->p[i + 1] == '\\'))
			i++;
	}
	return false;
}

/* The next `; name=value`. 1, 0 at the end, -EINVAL. */
static int next_param(struct slice *rest, struct slice *ret_name, struct slice *ret_value) {
	*rest = slice_trim(*rest);
	if (rest->n == 0)
		return 0;
	if (rest->p[0] != ';')
		return -EINVAL;
	skip(rest, 1);
	*rest = slice_trim(*rest);
	if (rest->n == 0)
		return 0;
	struct slice name = up_to(*rest, '=');
	if (name.n == rest->n)
		return -EINVAL;
	skip(rest, name.n + 1);
	*ret_name = slice_trim(name);
	*rest = slice_trim(*rest);
	if (rest->n > 0 && rest->p[0] == '"') {
		skip(rest, 1);
		return quoted(rest, ret_value) ? 1 : -EINVAL;
	}
	struct slice value = up_to(*rest, ';');
	skip(rest, value.n);
	*ret_value = slice_trim(value);
	return 1;
}

/* The value before its parameters; *rest is left at the first `;`. */
static struct slice main_value(struct slice *rest) {
	struct slice value = up_to(*rest, ';');
	skip(rest, value.n);
	return slice_trim(value);
}

bool multipart_is_form_data(struct slice content_type) {
	return is_word(main_value(&content_type), "multipart/form-data");
}

/* RFC 2046 5.1.1: 1 to 70 of these, not ending in a blank. */
static bool boundary_ok(struct slice b) {
	if (b.n == 0 || b.n > BOUNDARY_MAX || b.p[b.n - 1] == ' ')
		return false;
	for (size_t i = 0; i < b.n; i++) {
		char c = b.p[i];
		bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
		if (!alnum && (c == '\0' || !strchr("'()+_,-./:=? ", c)))
			return false;
	}
	return true;
}

static int find_boundary(struct slice content_type, struct slice *ret, const char **ret_error) {
	struct slice name, value;
	*ret_error = "the Content-Type must be multipart/form-data";
	if (!multipart_is_form_data(content_type))
		return -EINVAL;
	main_value(&content_type);
	*ret_error = "the Content-Type's boundary is missing or malformed";
	while (next_param(&content_type, &name, &value) > 0) {
		if (!is_word(name, "boundary"))
			continue;
		*ret = value;
		return boundary_ok(value) ? 0 : -EINVAL;
	}
	return -EINVAL;
}

/* ---- one part's headers ---- */

static int read_disposition(struct slice value, struct multipart_part *part, const char **ret_error) {
	struct slice name, text;
	int r;
	*ret_error = "a part's Content-Disposition is malformed";
	if (!is_word(main_value(&value), "form-data"))
		return -EINVAL;
	while ((r = next_param(&value, &name, &text)) > 0) {
		if (is_word(name, "name") && !part->name.p) {
			part->name = text;
		} else if (is_word(name, "filename") && !part->filename.p) {
			part->filename = text;
			part->is_file = true;
		} else if (is_word(name, "filename*") && !part->filename_ext.p) {
			part->filename_ext = text;
			part->is_file = true;
		}
	}
	return r;
}

/* RFC 7578 4.7 has done away with transfer encodings; those that change nothing pass. */
static bool encoding_ok(struct slice value) {
	return is_word(value, "7bit") || is_word(value, "8bit") || is_word(value, "binary");
}

static int read_field(struct slice line, struct multipart_part *part, const char **ret_error) {
	struct slice name = up_to(line, ':');
	*ret_error = "a part's header has a line that is no field";
	if (name.n == 0 || name.n == line.n || is_blank(line.p[0]) || is_blank(name.p[name.n - 1]))
		return -EINVAL;
	struct slice value = slice_trim(slice_of(line.p + name.n + 1, line.n - name.n - 1));
	if (is_word(name, "content-disposition"))
		return read_disposition(value, part, ret_error);
	if (is_word(name, "content-type"))
		part->content_type = value;
	*ret_error = "a part's Content-Transfer-Encoding is not supported in form data";
	return is_word(name, "content-transfer-encoding") && !encoding_ok(value) ? -EINVAL : 0;
}

/* `text`: from after the delimiter's line to the next delimiter. */
static int read_part(struct slice text, struct multipart_part *part, const char **ret_error) {
	const char *end = text.p + text.n;
	size_t header = 0;
	for (;;) {
		const char *eol = memmem(text.p, text.n, "\r\n", 2);
		size_t n = eol ? (size_t)(eol - text.p) : 0;
		*ret_error = "a part's header does not end";
		if (!eol)
			return -EINVAL;
		header += n + 2;
		*ret_error = "a part's header is too long";
		if (header > MULTIPART_HEADER_MAX)
			return -EINVAL;
		struct slice line = slice_of(text.p, n);
		skip(&text, n + 2);
		if (n == 0)
			break;
		if (read_field(line, part, ret_error) < 0)
			return -EINVAL;
	}
	part->data = slice_of(text.p, (size_t)(end - text.p));
	*ret_error = "a part has no name";
	return part->name.n > 0 ? 0 : -EINVAL;
}

/* ---- the body ---- */

/* What follows a delimiter: 1 another part (body moved past the line), 0 the end, -EINVAL neither. */
static int after_delimiter(struct slice *body) {
	if (body->n >= 2 && body->p[0] == '-' && body->p[1] == '-')
		return 0;
	while (body->n > 0 && is_blank(body->p[0]))
		skip(body, 1);
	if (body->n < 2 || body->p[0] != '\r' || body->p[1] != '\n')
		return -EINVAL;
	skip(body, 2);
	return 1;
}

/* A part ends at CRLF "--" boundary; of a part without header and body the delimiter's own CRLF is the one just
 * read. */
static const char *find_delimiter(struct slice body, const char *delimiter, size_t n) {
	if (body.n >= n - 2 && memcmp(body.p, delimiter + 2, n - 2) == 0)
		return body.p - 2;
	return memmem(body.p, body.n, delimiter, n);
}

int multipart_parse(struct slice content_type, struct slice body, struct multipart_part *parts, unsigned max,
                    unsigned *ret_count, const char **ret_error) {
	struct slice boundary;
	char delimiter[4 + BOUNDARY_MAX] = "\r\n--";
	unsigned count = 0;
	int r = find_boundary(content_type, &boundary, ret_error);
	if (r < 0)
		return r;
	size_t n = 4 + boundary.n;
	memcpy(delimiter + 4, boundary.p, boundary.n);
	*ret_error = "the body does not begin with the boundary that the Content-Type names";
	if (body.n < n - 2 || memcmp(body.p, delimiter + 2, n - 2) != 0)
		return -EINVAL;
	skip(&body, n - 2);
	for (;;) {
		*ret_error = "a boundary is followed by something that is neither a part nor the end";
		if ((r = after_delimiter(&body)) < 0)
			return r;
		if (r == 0)
			break;
		const char *end = find_delimiter(body, delimiter, n);
		*ret_error = "the body ends before its last boundary";
		if (!end)
			return -EINVAL;
		*ret_error = "the body has too many parts";
		if (count == max)
			return -E2BIG;
		size_t len = end > body.p ? (size_t)(end - body.p) : 0;
		parts[count] = (struct multipart_part){0};
		if (read_part(slice_of(body.p, len), &parts[count], ret_error) < 0)
			return -EINVAL;
		count++;
		skip(&body, (size_t)(end + n - body.p));
	}
	*ret_error = NULL;
	*ret_count = count;
	return 0;
}

/* ---- names ---- */

bool multipart_name_is(const struct multipart_part *part, const char *name) {
	return slice_eq(part->name, slice_str(name));
}

static int hex_digit(char c) {
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One %XX at s, or -1. */
static int percent(struct slice s) {
	if (s.n < 3 || s.p[0] != '%' || hex_digit(s.p[1]) < 0 || hex_digit(s.p[2]) < 0)
		return -1;
	return hex_digit(s.p[1]) * 16 + hex_digit(s.p[2]);
}

/* charset'language'%-encoded text (RFC 5987 3.2); only UTF-8 is in use. */
static void decode_ext(struct slice s, struct buf *out) {
	struct slice charset = up_to(s, '\'');
	skip(&s, charset.n + 1);
	struct slice language = up_to(s, '\'');
	if (language.n == s.n)
		return;
	skip(&s, language.n + 1);
	while (s.n > 0) {
		int c = percent(s);
		buf_append_char(out, c >= 0 ? (char)c : s.p[0]);
		skip(&s, c >= 0 ? 3 : 1);
	}
}

/* As browsers write it: %22, %0D and %0A for what would break the line (WHATWG), others with backslashes. */
static void decode_plain(struct slice s, struct buf *out) {
	while (s.n > 0) {
		int c = percent(s);
		if (c == '"' || c == '\r' || c == '\n') {
			buf_append_char(out, (char)c);
			skip(&s, 3);
			continue;
		}
		if (s.n > 1 && s.p[0] == '\\' && (s.p[1] == '"' || s.p[1] == '\\'))
			skip(&s, 1);
		buf_append_char(out, s.p[0]);
		skip(&s, 1);
	}
}

int multipart_filename(const struct multipart_part *part, struct buf *out) {
	struct buf raw;
	buf_init(&raw, MULTIPART_HEADER_MAX);
	if (part->filename_ext.n > 0)
		decode_ext(part->filename_ext, &raw);
	if (raw.len == 0)
		decode_plain(part->filename, &raw);
	size_t base = 0;
	for (size_t i = 0; i < raw.len; i++) {
		if (raw.data[i] == '/' || raw.data[i] == '\\')
			base = i + 1;
		else if ((unsigned char)raw.data[i] < ' ' || raw.data[i] == 0x7f)
			raw.data[i] = ' ';
	}
	int r = raw.len > base ? text_append_clean(out, raw.data + base, raw.len - base, true) : 0;
	buf_fini(&raw);
	return r;
}
