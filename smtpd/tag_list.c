#include "smtpd/tag_list.h"

#include <sodium.h>
#include <strings.h>

static bool is_blank(char c) {
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct slice trim(struct slice s) {
	while (s.n && is_blank(s.p[0]))
		s = slice_of(s.p + 1, s.n - 1);
	while (s.n && is_blank(s.p[s.n - 1]))
		s.n--;
	return s;
}

static bool is_tag_name(struct slice s) {
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		bool alpha = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
		if (!alpha && (i == 0 || (c != '_' && (c < '0' || c > '9'))))
			return false;
	}
	return s.n > 0;
}

static bool is_tag_value(struct slice s) {
	for (size_t i = 0; i < s.n; i++)
		if (!is_blank(s.p[i]) && ((unsigned char)s.p[i] < 0x21 || s.p[i] == 0x7f))
			return false;
	return true;
}

static bool read_tag(struct slice text, struct tag *ret) {
	const char *eq = text.n ? memchr(text.p, '=', text.n) : NULL;
	if (!eq)
		return false;
	size_t n = (size_t)(eq - text.p);
	ret->name = trim(slice_of(text.p, n));
	ret->room = slice_of(eq + 1, text.n - n - 1);
	ret->value = trim(ret->room);
	return is_tag_name(ret->name) && is_tag_value(ret->value);
}

static const struct tag *find(const struct tag_list *l, struct slice name) {
	for (unsigned i = 0; i < l->count; i++)
		if (slice_eq(l->v[i].name, name))
			return &l->v[i];
	return NULL;
}

bool tag_list_parse(struct slice text, bool tolerant, struct tag_list *ret) {
	ret->count = 0;
	for (size_t at = 0; at < text.n;) {
		const char *semi = memchr(text.p + at, ';', text.n - at);
		size_t n = semi ? (size_t)(semi - text.p) - at : text.n - at;
		struct slice spec = slice_of(text.p + at, n);
		struct tag tag;
		at += n + 1;
		if (!semi && trim(spec).n == 0)
			break; /* after the last semicolon */
		bool ok = read_tag(spec, &tag) && !find(ret, tag.name) && ret->count < TAG_LIST_MAX;
		if (ok)
			ret->v[ret->count++] = tag;
		else if (!tolerant)
			return false;
	}
	return tolerant || ret->count > 0;
}

const struct tag *tag_list_find(const struct tag_list *l, const char *name) {
	return find(l, slice_str(name));
}

struct slice tag_list_value(const struct tag_list *l, const char *name) {
	const struct tag *t = tag_list_find(l, name);
	return t ? t->value : slice_of(NULL, 0);
}

bool tag_value_next(struct slice *rest, struct slice *ret) {
	if (!rest->p)
		return false;
	const char *colon = rest->n ? memchr(rest->p, ':', rest->n) : NULL;
	size_t n = colon ? (size_t)(colon - rest->p) : rest->n;
	*ret = trim(slice_of(rest->p, n));
	*rest = colon ? slice_of(colon + 1, rest->n - n - 1) : slice_of(NULL, 0);
	return true;
}

bool tag_value_has(struct slice value, const char *word) {
	struct slice s;
	while (tag_value_next(&value, &s))
		if (s.n == strlen(word) && strncasecmp(s.p, word, s.n) == 0)
			return true;
	return false;
}

int tag_value_base64(struct slice value, uint8_t *ret, size_t room, size_t *ret_n) {
	static const int variants[] = {sodium_base64_VARIANT_ORIGINAL, sodium_base64_VARIANT_ORIGINAL_NO_PADDING};
	for (size_t i = 0; i < array_len(variants); i++) {
		const char *end;
		if (sodium_base642bin(ret, room, value.p, value.n, " \t\r\n", ret_n, &end, variants[i]) == 0 && end == value.p + value.n)
			return 0;
	}
	return -EINVAL;
}

bool tag_value_number(struct slice value, uint64_t *ret) {
	uint64_t v = 0;
	for (size_t i = 0; i < value.n; i++) {
		if (value.p[i] < '0' || value.p[i] > '9')
			return false;
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(value.p[i] - '0'), &v))
			v = UINT64_MAX;
	}
	*ret = v;
	return value.n > 0;
}
