/* The part table's octets, the ids of attachments, and the names that files may have. Not a MIME parser: it is told
 * where the parts are.
 *
 * Invariant: what part_table_decode() accepts, part_table_encode() writes back octet for octet. */
#include "common/part_table.h"

#include "common/id.h"
#include "common/text.h"

#include <strings.h>
#include <uninorm.h>
#include <unistr.h>

#define VERSION 1
#define NUMBER_BITS 10
#define STRING_NONE 0xffff /* length of a string that is NULL */
#define NAME_MAX_OCTETS 255
#define EXTENSION_MAX 16

static void part_fini(struct part *p) {
	free(p->name);
	free(p->raw_name);
	free(p->type);
	free(p->content_id);
}

void part_table_fini(struct part_table *t) {
	for (unsigned i = 0; i < t->count; i++)
		part_fini(&t->parts[i]);
	free(t->parts);
	*t = (struct part_table){0};
}

static int encode_string(struct buf *out, const char *s) {
	size_t n = s ? strlen(s) : STRING_NONE;
	if (s && n >= STRING_NONE)
		return -EINVAL;
	buf_append_u16(out, (uint16_t)n);
	return s ? buf_append(out, s, n) : 0;
}

int part_table_encode(const struct part_table *t, struct buf *out) {
	char version = VERSION;
	int r = buf_append(out, &version, 1);
	for (unsigned i = 0; i < t->count && r == 0; i++) {
		const struct part *p = &t->parts[i];
		buf_append_u16(out, p->number);
		buf_append_u16(out, p->flags);
		buf_append_char(out, (char)p->encoding);
		buf_append_u64(out, p->offset);
		buf_append_u64(out, p->length);
		if (p->flags & PART_INNER)
			buf_append_u64(out, p->skip);
		buf_append_u64(out, p->size);
		buf_append(out, p->sha256, sizeof p->sha256);
		const char *const strings[] = {p->name, p->raw_name, p->type, p->content_id};
		for (size_t k = 0; k < array_len(strings) && r == 0; k++)
			r = encode_string(out, strings[k]);
	}
	return r < 0 ? r : out->overflow ? -ENOSPC : 0;
}

struct reader {
	const uint8_t *p, *end;
	bool bad;
};

static uint64_t read_int(struct reader *r, unsigned octets) {
	uint64_t v = 0;
	if ((size_t)(r->end - r->p) < octets) {
		r->bad = true;
		return 0;
	}
	while (octets-- > 0)
		v = v << 8 | *r->p++;
	return v;
}

static char *read_string(struct reader *r) {
	size_t n = (size_t)read_int(r, 2);
	if (n == STRING_NONE)
		return NULL;
	if (r->bad || (size_t)(r->end - r->p) < n || memchr(r->p, 0, n) || !text_utf8_valid((const char *)r->p, n)) {
		r->bad = true;
		return NULL;
	}
	char *s = xstrndup((const char *)r->p, n);
	r->p += n;
	return s;
}

static bool decode_part(struct reader *r, struct part *p) {
	p->number = (uint16_t)read_int(r, 2);
	p->flags = (uint16_t)read_int(r, 2);
	unsigned encoding = (unsigned)read_int(r, 1);
	p->encoding = (enum transfer_encoding)encoding;
	p->offset = read_int(r, 8);
	p->length = read_int(r, 8);
	p->skip = p->flags & PART_INNER ? read_int(r, 8) : 0;
	p->size = read_int(r, 8);
	if ((size_t)(r->end - r->p) < sizeof p->sha256)
		return false;
	memcpy(p->sha256, r->p, sizeof p->sha256);
	r->p += sizeof p->sha256;
	p->name = read_string(r);
	p->raw_name = read_string(r);
	p->type = read_string(r);
	p->content_id = read_string(r);
	return !r->bad && p->number > 0 && p->number <= PART_TABLE_MAX && encoding <= TRANSFER_UU &&
	       p->length <= UINT64_MAX - p->offset && p->skip <= p->length && p->name && *p->name && p->type && *p->type;
}

int part_table_decode(const void *p, size_t n, struct part_table *ret) {
	struct reader r = {p, (const uint8_t *)p + n, false};
	struct part_table t = {0};
	unsigned room = 0, last = 0;
	if (n == 0 || read_int(&r, 1) != VERSION)
		return -EBADMSG;
	while (r.p < r.end) {
		if (t.count == PART_TABLE_MAX)
			goto bad;
		if (t.count == room) {
			room = min_of(room ? room * 2 : 4, (unsigned)PART_TABLE_MAX);
			t.parts = xrealloc(t.parts, room * sizeof *t.parts);
		}
		struct part *part = &t.parts[t.count++];
		*part = (struct part){0};
		if (!decode_part(&r, part) || part->number <= last)
			goto bad;
		last = part->number;
	}
	*ret = t;
	return 0;
bad:
	part_table_fini(&t);
	return -EBADMSG;
}

void part_id(const struct id *message, unsigned number, struct id *ret) {
	struct id id = *message;
	id.b[14] = (uint8_t)((id.b[14] & 0xfc) | (number >> 8 & 3));
	id.b[15] = (uint8_t)number;
	*ret = id;
}

unsigned part_number(const struct id *message, const struct id *part) {
	if (memcmp(message->b, part->b, 14) != 0 || ((message->b[14] ^ part->b[14]) & 0xfc) != 0)
		return 0;
	return (unsigned)(part->b[14] & 3) << 8 | part->b[15];
}

/* Not for a file's name: controls, what turns or hides text, and noncharacters. */
static bool dropped_in_names(ucs4_t c) {
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
	       (c >= 0x2060 && c <= 0x206f) || c == 0xfeff || c == 0x061c || c == 0x00ad || (c >= 0xfff9 && c <= 0xfffb) ||
	       (c >= 0xfdd0 && c <= 0xfdef) || (c & 0xfffe) == 0xfffe;
}

static size_t clean_name(const char *in, size_t n, char *out) {
	size_t len = 0;
	for (size_t i = 0; i < n;) {
		ucs4_t c;
		int step = u8_mbtoucr(&c, (const uint8_t *)in + i, n - i);
		if (step <= 0) { /* the caller promised UTF-8 */
			i++;
			continue;
		}
		if (!dropped_in_names(c)) {
			memcpy(out + len, in + i, (size_t)step);
			if (c < 0x80 && strchr(":*?\"<>|/\\", (int)c))
				out[len] = '_';
			len += (size_t)step;
		}
		i += (size_t)step;
	}
	return len;
}

/* Names that Windows takes for devices, whatever their extension. */
static bool is_device(const char *p, size_t n) {
	static const char names[][4] = {"con", "prn", "aux", "nul", "com", "lpt"};
	const char *dot = memchr(p, '.', n);
	size_t stem = dot ? (size_t)(dot - p) : n;
	while (stem > 0 && p[stem - 1] == ' ')
		stem--;
	if ((stem == 6 && strncasecmp(p, "conin$", 6) == 0) || (stem == 7 && strncasecmp(p, "conout$", 7) == 0))
		return true;
	/* "COM\u00b9" to "COM\u00b3" are devices too */
	if (stem == 5 && p[3] == '\xc2' && (p[4] == '\xb9' || p[4] == '\xb2' || p[4] == '\xb3'))
		return strncasecmp(p, "com", 3) == 0 || strncasecmp(p, "lpt", 3) == 0;
	for (size_t i = 0; i < array_len(names); i++)
		if (stem >= 3 && strncasecmp(p, names[i], 3) == 0 &&
		    (stem == 3 ? i < 4 : stem == 4 && i >= 4 && p[3] >= '0' && p[3] <= '9'))
			return true;
	return false;
}

static size_t trim_name(char *p, size_t n) {
	size_t skip = 0;
	while (n > 0 && (p[n - 1] == '.' || p[n - 1] == ' '))
		n--;
	while (skip < n && (p[skip] == '.' || p[skip] == ' '))
		skip++;
	memmove(p, p + skip, n - skip);
	return n - skip;
}

/* Too long: the stem is cut, a reasonable extension stays. */
static size_t shorten_name(char *p, size_t n) {
	if (n <= NAME_MAX_OCTETS)
		return n;
	const char *dot = memrchr(p, '.', n);
	size_t ext = dot ? n - (size_t)(dot - p) : 0;
	if (ext > EXTENSION_MAX)
		ext = 0;
	size_t stem = text_cut(p, n - ext, NAME_MAX_OCTETS - ext);
	memmove(p + stem, p + n - ext, ext);
	return stem + ext;
}

/* To NFC, after the cleaning: what stood between a letter and its accent may be gone. With room for two octets more. */
static char *compose_name(char *name, size_t *len) {
	size_t n = 0;
	bool ascii = true;
	for (size_t i = 0; i < *len && ascii; i++)
		ascii = (uint8_t)name[i] < 0x80;
	char *composed = ascii ? NULL : (char *)u8_normalize(UNINORM_NFC, (const uint8_t *)name, *len, NULL, &n);
	if (!composed)
		return xrealloc(name, *len + 2);
	free(name);
	*len = n;
	return xrealloc(composed, n + 2);
}

char *part_safe_name(const char *raw, size_t n) {
	for (size_t i = n; i-- > 0;)
		if (raw[i] == '/' || raw[i] == '\\') {
			raw += i + 1;
			n -= i + 1;
			break;
		}
	/* No name needs more; normalising it is linear but not cheap. */
	n = text_cut(raw, n, NAME_MAX_OCTETS * 16);
	char *name = xmalloc(n + 1);
	size_t len = clean_name(raw, n, name);
	name = compose_name(name, &len);
	len = trim_name(name, len);
	len = trim_name(name, shorten_name(name, len));
	if (is_device(name, len)) { /* or has become one by being shortened */
		memmove(name + 1, name, len);
		name[0] = '_';
		len = trim_name(name, shorten_name(name, len + 1));
	}
	name[len] = '\0';
	return name;
}

char *part_made_name(unsigned number, const char *type) {
	static const char *const extensions[][2] = {
		{"application/json", "json"},
		{"application/ms-tnef", "dat"},
		{"application/msword", "doc"},
		{"application/pdf", "pdf"},
		{"application/pgp-encrypted", "txt"},
		{"application/pgp-keys", "asc"},
		{"application/pgp-signature", "asc"},
		{"application/pkcs7-mime", "p7m"},
		{"application/pkcs7-signature", "p7s"},
		{"application/rtf", "rtf"},
		{"application/vnd.ms-excel", "xls"},
		{"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx"},
		{"application/vnd.openxmlformats-officedocument.wordprocessingml.document", "docx"},
		{"application/x-pkcs7-mime", "p7m"},
		{"application/x-pkcs7-signature", "p7s"},
		{"application/x-zip-compressed", "zip"},
		{"application/xml", "xml"},
		{"application/zip", "zip"},
		{"application/gzip", "gz"},
		{"audio/mpeg", "mp3"},
		{"audio/ogg", "ogg"},
		{"audio/wav", "wav"},
		{"image/bmp", "bmp"},
		{"image/gif", "gif"},
		{"image/heic", "heic"},
		{"image/jpeg", "jpg"},
		{"image/jpg", "jpg"},
		{"image/png", "png"},
		{"image/svg+xml", "svg"},
		{"image/tiff", "tif"},
		{"image/webp", "webp"},
		{"message/delivery-status", "txt"},
		{"message/disposition-notification", "txt"},
		{"message/global", "eml"},
		{"message/rfc822", "eml"},
		{"text/calendar", "ics"},
		{"text/csv", "csv"},
		{"text/html", "html"},
		{"text/vcard", "vcf"},
		{"text/x-amp-html", "html"},
		{"text/x-vcard", "vcf"},
		{"text/xml", "xml"},
		{"video/mp4", "mp4"},
		{"video/mpeg", "mpg"},
		{"video/quicktime", "mov"},
	};
	const char *extension = strncmp(type, "text/", 5) == 0 ? "txt" : "bin";
	for (size_t i = 0; i < array_len(extensions); i++)
		if (strcmp(extensions[i][0], type) == 0)
			extension = extensions[i][1];
	return xasprintf("attachment-%u.%s", number, extension);
}
