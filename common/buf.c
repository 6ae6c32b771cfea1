/* A growing run of octets with a ceiling. Not a stream: buf_consume() moves the rest to the front.
 *
 * Invariants: len <= ceiling; cap <= ceiling + 1; data == NULL implies len == 0 and cap == 0; data != NULL implies len < cap and data[len] == 0.
 * When the system has no memory an append is refused like one over the ceiling, since peers size what is held here. */
#include "common/buf.h"

#include <stdarg.h>
#include <stdio.h>

#define BUF_FIRST 64

void buf_init(struct buf *b, size_t ceiling) {
	/* One octet is kept for the NUL, so that len + 1 never wraps. */
	*b = (struct buf){.ceiling = min_of(ceiling, SIZE_MAX / 2)};
}

void buf_fini(struct buf *b) {
	free(b->data);
	buf_init(b, b->ceiling);
}

void buf_reset(struct buf *b) {
	b->len = 0;
	b->overflow = false;
	if (b->data)
		b->data[0] = '\0';
}

/* Makes room for n more octets and the NUL. */
static int buf_grow(struct buf *b, size_t n) {
	if (b->len > b->ceiling || n > b->ceiling - b->len) {
		b->overflow = true;
		return -ENOSPC;
	}
	size_t need = b->len + n + 1;
	if (need <= b->cap)
		return 0;
	size_t cap = max_of(b->cap * 2, (size_t)BUF_FIRST);
	cap = min_of(max_of(cap, need), b->ceiling + 1);
	char *data = realloc(b->data, cap);
	if (!data) {
		b->overflow = true;
		return -ENOMEM;
	}
	b->data = data;
	b->cap = cap;
	b->data[b->len] = '\0';
	return 0;
}

int buf_append_growing(struct buf *b, const void *p, size_t n) {
	if (n == 0)
		return 0;
	int r = buf_grow(b, n);
	if (r < 0)
		return r;
	memcpy(b->data + b->len, p, n);
	b->len += n;
	b->data[b->len] = '\0';
	return 0;
}

int buf_append_decimal(struct buf *b, int64_t v) {
	char text[DECIMAL_SIZE];
	return buf_append(b, text, decimal(v, text));
}

int buf_printf(struct buf *b, const char *fmt, ...) {
	va_list ap, again;
	va_start(ap, fmt);
	va_copy(again, ap);
	size_t room = b->data ? b->cap - b->len : 0;
	int n = vsnprintf(room ? b->data + b->len : NULL, room, fmt, ap);
	int r = n < 0 ? -EINVAL : 0;
	if (r == 0 && (size_t)n >= room) {
		if (room)
			b->data[b->len] = '\0';
		r = buf_grow(b, (size_t)n);
		if (r == 0)
			vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
	}
	va_end(again);
	va_end(ap);
	if (r == 0)
		b->len += (size_t)n;
	else if (n < 0)
		b->overflow = true;
	return r;
}

char *buf_reserve(struct buf *b, size_t n) {
	return buf_grow(b, n) < 0 ? NULL : b->data + b->len;
}

void buf_commit(struct buf *b, size_t n) {
	if (n == 0)
		return;
	assert(n < b->cap - b->len);
	b->len += n;
	b->data[b->len] = '\0';
}

void buf_consume(struct buf *b, size_t n) {
	assert(n <= b->len);
	if (n == 0)
		return;
	b->len -= n;
	memmove(b->data, b->data + n, b->len + 1);
}

char *buf_take(struct buf *b, size_t *ret_len) {
	char *p = b->data ? take_ptr(b->data) : xstrdup("");
	if (ret_len)
		*ret_len = b->len;
	buf_init(b, b->ceiling);
	return p;
}

int buf_append_u16(struct buf *b, uint16_t v) {
	uint8_t p[2] = {(uint8_t)(v >> 8), (uint8_t)v};
	return buf_append(b, p, sizeof(p));
}

int buf_append_u32(struct buf *b, uint32_t v) {
	uint8_t p[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
	return buf_append(b, p, sizeof(p));
}

int buf_append_u64(struct buf *b, uint64_t v) {
	uint8_t p[8];
	for (int i = 0; i < 8; i++)
		p[i] = (uint8_t)(v >> (56 - 8 * i));
	return buf_append(b, p, sizeof(p));
}
