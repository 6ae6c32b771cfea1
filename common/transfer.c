/* Decoders for Content-Transfer-Encoding, one octet of state machine each, with fast paths for the runs that real
 * mail is made of. Not a validator: whatever comes in, something comes out, and `odd` says that it was not all in
 * the encoding.
 *
 * Invariants: the output does not depend on how the input was cut into runs; no run writes more than
 * transfer_bound() octets, which is never more than the input and what was held. */
#include "common/transfer.h"

#include <strings.h>

/* The base64 alphabet (RFC 4648 4): 1 + value; 0 is a foreign octet. */
enum { B64_FOREIGN = 0, B64_LETTERS = 64, B64_PAD, B64_BLANK };

static const uint8_t b64_table[256] = {
	['='] = B64_PAD, [' '] = B64_BLANK, ['\t'] = B64_BLANK, ['\r'] = B64_BLANK, ['\n'] = B64_BLANK, ['A'] = 1,
	['B'] = 2,       ['C'] = 3,         ['D'] = 4,          ['E'] = 5,          ['F'] = 6,          ['G'] = 7,
	['H'] = 8,       ['I'] = 9,         ['J'] = 10,         ['K'] = 11,         ['L'] = 12,         ['M'] = 13,
	['N'] = 14,      ['O'] = 15,        ['P'] = 16,         ['Q'] = 17,         ['R'] = 18,         ['S'] = 19,
	['T'] = 20,      ['U'] = 21,        ['V'] = 22,         ['W'] = 23,         ['X'] = 24,         ['Y'] = 25,
	['Z'] = 26,      ['a'] = 27,        ['b'] = 28,         ['c'] = 29,         ['d'] = 30,         ['e'] = 31,
	['f'] = 32,      ['g'] = 33,        ['h'] = 34,         ['i'] = 35,         ['j'] = 36,         ['k'] = 37,
	['l'] = 38,      ['m'] = 39,        ['n'] = 40,         ['o'] = 41,         ['p'] = 42,         ['q'] = 43,
	['r'] = 44,      ['s'] = 45,        ['t'] = 46,         ['u'] = 47,         ['v'] = 48,         ['w'] = 49,
	['x'] = 50,      ['y'] = 51,        ['z'] = 52,         ['0'] = 53,         ['1'] = 54,         ['2'] = 55,
	['3'] = 56,      ['4'] = 57,        ['5'] = 58,         ['6'] = 59,         ['7'] = 60,         ['8'] = 61,
	['9'] = 62,      ['+'] = 63,        ['/'] = 64,
};

/* 0..63, or more for what is no letter. */
static inline uint32_t b64_value(uint8_t c) {
	return (uint32_t)b64_table[c] - 1;
}

enum b64_state { B64_DATA, B64_PADDED };
enum qp_state { QP_TEXT, QP_BLANKS, QP_ESCAPE, QP_ESCAPE_HEX, QP_SOFT };
enum uu_state { UU_SEEK, UU_SEEK_SKIP, UU_LENGTH, UU_DATA, UU_SKIP, UU_END };

enum transfer_encoding transfer_parse(const char *s, size_t n, bool *ret_unknown) {
	static const struct {
		const char *name;
		enum transfer_encoding encoding;
	} names[] = {
		{"7bit", TRANSFER_IDENTITY}, {"8bit", TRANSFER_IDENTITY},       {"binary", TRANSFER_IDENTITY},
		{"base64", TRANSFER_BASE64}, {"quoted-printable", TRANSFER_QP}, {"x-uuencode", TRANSFER_UU},
		{"x-uue", TRANSFER_UU},      {"uuencode", TRANSFER_UU},
	};
	while (n > 0 && (*s == ' ' || *s == '\t' || *s == '\r' || *s == '\n'))
		s++, n--;
	while (n > 0 && (s[n - 1] == ' ' || s[n - 1] == '\t' || s[n - 1] == '\r' || s[n - 1] == '\n'))
		n--;
	for (size_t i = 0; i < array_len(names); i++)
		if (strlen(names[i].name) == n && strncasecmp(names[i].name, s, n) == 0) {
			*ret_unknown = false;
			return names[i].encoding;
		}
	*ret_unknown = true;
	return TRANSFER_IDENTITY;
}

void transfer_init(struct transfer *t, enum transfer_encoding encoding) {
	*t = (struct transfer){.encoding = encoding};
}

size_t transfer_bound(const struct transfer *t, size_t n) {
	return n + sizeof t->held;
}

/* Whole quanta of four letters, while nothing is pending and nothing else turns up. */
static const uint8_t *base64_quanta(const uint8_t *in, const uint8_t *end, uint8_t **out) {
	uint8_t *o = *out;
	while (end - in >= 4) {
		uint32_t a = b64_value(in[0]), b = b64_value(in[1]), c = b64_value(in[2]), d = b64_value(in[3]);
		if ((a | b | c | d) > 63)
			break;
		uint32_t v = a << 18 | b << 12 | c << 6 | d;
		o[0] = (uint8_t)(v >> 16);
		o[1] = (uint8_t)(v >> 8);
		o[2] = (uint8_t)v;
		o += 3;
		in += 4;
	}
	*out = o;
	return in;
}

static size_t base64_run(struct transfer *t, const uint8_t *in, size_t n, uint8_t *out) {
	const uint8_t *end = in + n;
	uint8_t *o = out;
	while (in < end) {
		if (t->acc_bits == 0 && t->state == B64_DATA) {
			in = base64_quanta(in, end, &o);
			if (in == end)
				break;
		}
		uint8_t kind = b64_table[*in++];
		if (kind - 1u < B64_LETTERS) {
			/* Letters after padding: a new run was put behind the old one ("chunked base64"), not trailing junk. */
			if (t->state == B64_PADDED)
				t->odd = true;
			t->state = B64_DATA;
			t->acc = (t->acc << 6 | (kind - 1u)) & 0xffffff;
			t->acc_bits = (uint8_t)(t->acc_bits + 6);
			if (t->acc_bits >= 8) {
				t->acc_bits = (uint8_t)(t->acc_bits - 8);
				*o++ = (uint8_t)(t->acc >> t->acc_bits);
			}
		} else if (kind == B64_PAD) {
			if (t->acc_bits == 6 || (t->acc_bits == 0 && t->state == B64_DATA))
				t->odd = true;
			t->state = B64_PADDED;
			t->acc_bits = 0;
		} else if (kind == B64_FOREIGN) {
			t->odd = true;
		}
	}
	return (size_t)(o - out);
}

/* Writes what is held as it stood. */
static uint8_t *qp_flush(struct transfer *t, uint8_t *o) {
	memcpy(o, t->held, t->held_n);
	o += t->held_n;
	t->held_n = 0;
	return o;
}

static uint8_t *qp_text(struct transfer *t, uint8_t c, uint8_t *o) {
	if (c == '=') {
		t->held[t->held_n++] = '=';
		t->state = QP_ESCAPE;
	} else if (c == ' ' || c == '\t') {
		t->held[t->held_n++] = (char)c;
		t->state = QP_BLANKS;
	} else {
		*o++ = c;
		t->state = QP_TEXT;
	}
	return o;
}

/* Blanks before a line end were added on the way and go (RFC 2045 6.7 rule 3). Lines have 76 octets at the most; of
 * a longer run of blanks what does not fit is taken for text. */
static uint8_t *qp_blanks(struct transfer *t, uint8_t c, uint8_t *o) {
	if (c == '\n' || c == '\r') {
		t->held_n = 0;
	} else if ((c != ' ' && c != '\t') || t->held_n == sizeof t->held - 2) {
		o = qp_flush(t, o);
	}
	return qp_text(t, c, o);
}

/* After "=": two hex digits, or a soft line break, perhaps with blanks before its line end. Anything else is
 * literal. */
static uint8_t *qp_escape(struct transfer *t, uint8_t c, uint8_t *o) {
	if (t->state == QP_ESCAPE && hex_value((char)c) >= 0) {
		t->held[t->held_n++] = (char)c;
		t->state = QP_ESCAPE_HEX;
		return o;
	}
	if (t->state == QP_ESCAPE_HEX && hex_value((char)c) >= 0) {
		*o++ = (uint8_t)(hex_value(t->held[t->held_n - 1]) * 16 + hex_value((char)c));
		t->held_n = 0;
		t->state = QP_TEXT;
		return o;
	}
	if (t->state != QP_ESCAPE_HEX) {
		if (c == '\n') {
			t->held_n = 0;
			t->state = QP_TEXT;
			return o;
		}
		bool after_cr = t->held_n > 1 && t->held[t->held_n - 1] == '\r';
		if ((c == ' ' || c == '\t' || c == '\r') && !after_cr && t->held_n < sizeof t->held - 2) {
			t->held[t->held_n++] = (char)c;
			t->state = QP_SOFT;
			return o;
		}
	}
	t->odd = true;
	return qp_text(t, c, qp_flush(t, o));
}

static size_t qp_run(struct transfer *t, const uint8_t *in, size_t n, uint8_t *out) {
	const uint8_t *end = in + n;
	uint8_t *o = out;
	while (in < end) {
		if (t->state == QP_TEXT) {
			while (in < end && *in != '=' && *in != ' ' && *in != '\t')
				*o++ = *in++;
			if (in == end)
				break;
		}
		uint8_t c = *in++;
		if (t->state == QP_TEXT)
			o = qp_text(t, c, o);
		else if (t->state == QP_BLANKS)
			o = qp_blanks(t, c, o);
		else
			o = qp_escape(t, c, o);
	}
	return (size_t)(o - out);
}

static void uu_length(struct transfer *t, uint8_t c) {
	if (c == '\n' || c == '\r')
		return;
	if (c == 'e') { /* "end": as a length it would be above the range */
		t->state = UU_END;
		return;
	}
	if (c < ' ' || c > '`') {
		t->odd = true;
		t->state = UU_SKIP;
		return;
	}
	t->held[0] = (char)((c - ' ') & 63);
	t->acc = 0;
	t->acc_bits = 0;
	t->state = t->held[0] ? UU_DATA : UU_SKIP;
}

static uint8_t *uu_data(struct transfer *t, uint8_t c, uint8_t *o) {
	if (c < ' ' || c > '`') {
		t->odd = true; /* a line shorter than it says, or a foreign character: the rest of it is lost */
		t->state = c == '\n' ? UU_LENGTH : UU_SKIP;
		return o;
	}
	t->acc = (t->acc << 6 | ((c - ' ') & 63)) & 0xffffff;
	t->acc_bits = (uint8_t)(t->acc_bits + 6);
	if (t->acc_bits >= 8) {
		t->acc_bits = (uint8_t)(t->acc_bits - 8);
		*o++ = (uint8_t)(t->acc >> t->acc_bits);
		if (--t->held[0] == 0)
			t->state = UU_SKIP;
	}
	return o;
}

static size_t uu_run(struct transfer *t, const uint8_t *in, size_t n, uint8_t *out) {
	static const char begin[] = "begin ";
	uint8_t *o = out;
	for (size_t i = 0; i < n; i++) {
		uint8_t c = in[i];
		switch ((enum uu_state)t->state) {
		case UU_SEEK:
			if (c == (uint8_t)begin[t->held_n])
				t->held_n++;
			else
				t->held_n = 0, t->state = c == '\n' ? UU_SEEK : UU_SEEK_SKIP;
			if (t->held_n == sizeof begin - 1)
				t->held_n = 0, t->state = UU_SKIP;
			break;
		case UU_SEEK_SKIP:
			if (c == '\n')
				t->state = UU_SEEK;
			break;
		case UU_LENGTH:
			uu_length(t, c);
			break;
		case UU_DATA:
			o = uu_data(t, c, o);
			break;
		case UU_SKIP:
			if (c == '\n')
				t->state = UU_LENGTH;
			break;
		case UU_END:
			break;
		}
	}
	return (size_t)(o - out);
}

size_t transfer_run(struct transfer *t, const void *in, size_t n, void *out) {
	if (n == 0)
		return 0;
	switch (t->encoding) {
	case TRANSFER_IDENTITY:
		memcpy(out, in, n);
		return n;
	case TRANSFER_BASE64:
		return base64_run(t, in, n, out);
	case TRANSFER_QP:
		return qp_run(t, in, n, out);
	case TRANSFER_UU:
		return uu_run(t, in, n, out);
	}
	return 0;
}

size_t transfer_end(struct transfer *t, void *out) {
	size_t n = 0;
	switch (t->encoding) {
	case TRANSFER_IDENTITY:
		break;
	case TRANSFER_BASE64:
		if (t->acc_bits != 0)
			t->odd = true;
		break;
	case TRANSFER_QP:
		/* The end is a line end: blanks before it go, and "=" there is a soft break. A cut escape is literal. */
		if (t->state == QP_ESCAPE_HEX) {
			n = t->held_n;
			memcpy(out, t->held, n);
			t->odd = true;
		}
		break;
	case TRANSFER_UU:
		if (t->state == UU_SEEK || t->state == UU_SEEK_SKIP || t->state == UU_DATA)
			t->odd = true;
		break;
	}
	t->held_n = 0;
	t->state = 0;
	t->acc_bits = 0;
	return n;
}

int transfer_base64_encode(struct buf *out, const void *p, size_t n) {
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const uint8_t *in = p;
	if (n > SIZE_MAX / 2)
		return -ENOSPC;
	size_t len = (n + 2) / 3 * 4;
	char *o = buf_reserve(out, len);
	if (!o)
		return -ENOSPC;
	for (; n >= 3; n -= 3, in += 3) {
		*o++ = letters[in[0] >> 2];
		*o++ = letters[(in[0] & 3) << 4 | in[1] >> 4];
		*o++ = letters[(in[1] & 15) << 2 | in[2] >> 6];
		*o++ = letters[in[2] & 63];
	}
	if (n > 0) {
		uint8_t second = n == 2 ? in[1] : 0;
		*o++ = letters[in[0] >> 2];
		*o++ = letters[(in[0] & 3) << 4 | second >> 4];
		*o++ = n == 2 ? letters[(second & 15) << 2] : '=';
		*o++ = '=';
	}
	buf_commit(out, len);
	return 0;
}

int transfer_base64_decode(struct buf *out, const char *p, size_t n) {
	const uint8_t *in = (const uint8_t *)p;
	if (n % 4 == 0 && n > 0 && in[n - 1] == '=')
		n -= in[n - 2] == '=' ? 2 : 1;
	if (n % 4 == 1)
		return -EINVAL;
	size_t len = n / 4 * 3 + (n % 4 ? n % 4 - 1 : 0);
	uint8_t *start = (uint8_t *)buf_reserve(out, len);
	if (!start)
		return -ENOSPC;
	uint8_t *o = start;
	const uint8_t *end = in + n;
	if (n > 0)
		in = base64_quanta(in, end, &o);
	uint32_t acc = 0;
	unsigned bits = 0;
	if (end - in >= 4)
		return -EINVAL;
	for (; in < end; in++) {
		uint32_t v = b64_value(*in);
		if (v > 63)
			return -EINVAL;
		acc = acc << 6 | v;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			*o++ = (uint8_t)(acc >> bits);
		}
	}
	if (acc & ((1u << bits) - 1)) /* bits that no octet has: not the canonical form (RFC 4648 3.5) */
		return -EINVAL;
	buf_commit(out, len);
	return 0;
}
