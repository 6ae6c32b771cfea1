/* JSON onto buf (RFC 8259). On the path of every answer, so a string is copied in runs: what needs no escape and is valid
 * UTF-8 goes over in one piece. An overflow of the buf is sticky there; the writer does not look.
 *
 * Invariant: has_member bit d-1 says that the container at depth d has a member already; after_key, that a value is owed. */
#include "common/json_out.h"

#include "common/clock.h"

#define JSON_DEPTH_MAX 32
#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

void json_out_init(struct json_out *j, struct buf *out) {
	*j = (struct json_out){.out = out};
}

/* What stands before a value or a key: a comma unless it is the first in its container. */
static inline void separate(struct json_out *j) {
	if (j->after_key) {
		j->after_key = false;
		return;
	}
	if (j->depth == 0)
		return;
	uint32_t bit = UINT32_C(1) << (j->depth - 1);
	if (j->has_member & bit)
		buf_append_char(j->out, ',');
	j->has_member |= bit;
}

static void open_container(struct json_out *j, char c) {
	separate(j);
	assert(j->depth < JSON_DEPTH_MAX);
	j->has_member &= ~(UINT32_C(1) << j->depth);
	j->depth++;
	buf_append_char(j->out, c);
}

static void close_container(struct json_out *j, char c) {
	assert(j->depth > 0 && !j->after_key);
	j->depth--;
	buf_append_char(j->out, c);
}

void json_out_object(struct json_out *j) {
	open_container(j, '{');
}

void json_out_object_end(struct json_out *j) {
	close_container(j, '}');
}

void json_out_array(struct json_out *j) {
	open_container(j, '[');
}

void json_out_array_end(struct json_out *j) {
	close_container(j, ']');
}

/* How many octets of the well-formed UTF-8 sequence at p (first octet >= 0x80); 0 if it is not one. *ret_bad: how many octets
 * one U+FFFD stands for then, the longest run that could have begun a sequence (Unicode 3.9, table 3-7). */
static size_t utf8_sequence(const unsigned char *p, size_t n, size_t *ret_bad) {
	unsigned char lead = p[0], low = 0x80, high = 0xbf;
	size_t need;
	*ret_bad = 1;
	if (lead >= 0xc2 && lead <= 0xdf)
		need = 2;
	else if (lead >= 0xe0 && lead <= 0xef)
		need = 3;
	else if (lead >= 0xf0 && lead <= 0xf4)
		need = 4;
	else
		return 0;
	if (lead == 0xe0)
		low = 0xa0; /* shorter forms exist */
	else if (lead == 0xed)
		high = 0x9f; /* surrogates */
	else if (lead == 0xf0)
		low = 0x90;
	else if (lead == 0xf4)
		high = 0x8f; /* over U+10FFFF */
	for (size_t i = 1; i < need; i++) {
		if (i >= n || p[i] < low || p[i] > high) {
			*ret_bad = i;
			return 0;
		}
		low = 0x80;
		high = 0xbf;
	}
	return need;
}

/* Whether all eight octets are ASCII that JSON takes as it is: no control, no quote, no backslash. A borrow can only run
 * upwards out of an octet that is itself reported, so the answer "clean" is exact. */
static inline bool eight_clean(const unsigned char *p) {
	const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones << 7;
	uint64_t v;
	memcpy(&v, p, sizeof(v));
	uint64_t quote = v ^ (ones * '"'), slash = v ^ (ones * '\\');
	uint64_t hit = (v - ones * 0x20) | (quote - ones) | (slash - ones) | v;
	return (hit & tops) == 0;
}

/* The octets from p on that may be copied as they are. */
static size_t clean_run(const unsigned char *p, size_t n) {
	size_t i = 0, bad;
	while (i < n) {
		if (n - i >= 8 && eight_clean(p + i)) {
			i += 8;
			continue;
		}
		if (p[i] >= 0x80) {
			size_t len = utf8_sequence(p + i, n - i, &bad);
			if (len == 0)
				break;
			i += len;
		} else if (p[i] < 0x20 || p[i] == '"' || p[i] == '\\') {
			break;
		} else {
			i++;
		}
	}
	return i;
}

/* Writes the one octet or broken sequence at p; returns how many octets of input it was. */
static size_t append_escaped(struct buf *out, const unsigned char *p, size_t n) {
	static const char hex[] = "0123456789abcdef";
	size_t bad;
	char text[6] = {'\\', 'u', '0', '0', hex[p[0] >> 4 & 15], hex[p[0] & 15]};
	if (p[0] >= 0x80) {
		utf8_sequence(p, n, &bad);
		buf_append(out, REPLACEMENT, 3);
		return bad;
	}
	switch (p[0]) {
	case '"':
	case '\\':
		text[1] = (char)p[0];
		break;
	case '\n':
		text[1] = 'n';
		break;
	case '\r':
		text[1] = 'r';
		break;
	case '\t':
		text[1] = 't';
		break;
	default:
		buf_append(out, text, sizeof(text));
		return 1;
	}
	buf_append(out, text, 2);
	return 1;
}

static void append_quoted(struct buf *out, const char *s, size_t n) {
	const unsigned char *p = (const unsigned char *)s;
	buf_append_char(out, '"');
	while (n) {
		size_t run = clean_run(p, n);
		buf_append(out, p, run);
		p += run;
		n -= run;
		/* Once over the ceiling nothing else fits: an unbounded string must not cost its whole length. */
		if (n == 0 || out->overflow)
			break;
		run = append_escaped(out, p, n);
		p += run;
		n -= run;
	}
	buf_append_char(out, '"');
}

void json_out_key(struct json_out *j, const char *key) {
	assert(j->depth > 0 && !j->after_key);
	separate(j);
	append_quoted(j->out, key, strlen(key));
	buf_append_char(j->out, ':');
	j->after_key = true;
}

void json_out_string(struct json_out *j, const char *s, size_t n) {
	if (!s) {
		json_out_null(j);
		return;
	}
	separate(j);
	append_quoted(j->out, s, n);
}

void json_out_cstring(struct json_out *j, const char *s) {
	json_out_string(j, s, s ? strlen(s) : 0);
}

void json_out_int(struct json_out *j, int64_t v) {
	char text[DECIMAL_SIZE];
	json_out_raw(j, text, decimal(v, text));
}

void json_out_bool(struct json_out *j, bool v) {
	if (v)
		json_out_raw(j, "true", 4);
	else
		json_out_raw(j, "false", 5);
}

void json_out_null(struct json_out *j) {
	json_out_raw(j, "null", 4);
}

void json_out_raw(struct json_out *j, const char *p, size_t n) {
	separate(j);
	buf_append(j->out, p, n);
}

void json_out_time(struct json_out *j, int64_t wall_us) {
	char text[CLOCK_RFC3339_SIZE + 2] = "\"";
	size_t n = clock_format_rfc3339(wall_us, text + 1);
	text[n + 1] = '"';
	json_out_raw(j, text, n + 2);
}

void json_out_member_string(struct json_out *j, const char *key, const char *s, size_t n) {
	json_out_key(j, key);
	json_out_string(j, s, n);
}

void json_out_member_cstring(struct json_out *j, const char *key, const char *s) {
	json_out_key(j, key);
	json_out_cstring(j, s);
}

void json_out_member_int(struct json_out *j, const char *key, int64_t v) {
	json_out_key(j, key);
	json_out_int(j, v);
}

void json_out_member_bool(struct json_out *j, const char *key, bool v) {
	json_out_key(j, key);
	json_out_bool(j, v);
}
