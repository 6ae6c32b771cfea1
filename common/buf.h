/* A growing run of octets with a ceiling given at birth. */
#ifndef MINUTEMAIL_BUF_H
#define MINUTEMAIL_BUF_H

#include "common/base.h"

struct buf {
	char *data;   /* NULL until the first octet; kept NUL-terminated at data[len] once non-NULL */
	size_t len;
	size_t cap;
	size_t ceiling; /* octets that may be held */
	bool overflow;  /* sticky: an append was refused whole; cleared by buf_reset() */
};

void buf_init(struct buf *, size_t ceiling);
void buf_fini(struct buf *);                                  /* frees; leaves an empty buf that may be used again */
void buf_reset(struct buf *);                                 /* empties, keeps the memory */
int buf_append_growing(struct buf *, const void *p, size_t n); /* buf_append() where there may be no room yet */
/* Appends all of it or, over the ceiling, nothing: -ENOSPC and `overflow` set. Callers may append many times and look
 * at `overflow` once. Inline, because answers are made of a hundred small pieces. */
static inline int buf_append(struct buf *b, const void *p, size_t n) {
	if (n == 0 || n >= b->cap - b->len) /* cap is never more than ceiling + 1 */
		return buf_append_growing(b, p, n);
	memcpy(b->data + b->len, p, n);
	b->len += n;
	b->data[b->len] = '\0';
	return 0;
}
static inline int buf_append_str(struct buf *b, const char *s) {
	return buf_append(b, s, strlen(s));
}
static inline int buf_append_char(struct buf *b, char c) {
	return buf_append(b, &c, 1);
}
int buf_append_decimal(struct buf *, int64_t);
int buf_printf(struct buf *, const char *fmt, ...) printf_like(2, 3);
/* Room for n more octets: returns where to write (then buf_commit), or NULL over the ceiling. */
char *buf_reserve(struct buf *, size_t n);
void buf_commit(struct buf *, size_t n);
void buf_consume(struct buf *, size_t n);                     /* drops n octets from the front; n <= len */
/* Drops what is behind the first n octets. */
static inline void buf_cut(struct buf *b, size_t n) {
	if (n < b->len) {
		b->len = n;
		b->data[n] = '\0';
	}
}
char *buf_take(struct buf *, size_t *ret_len);                /* hands the memory over; "" (allocated) if empty */
/* Big-endian integers, as the wire and PostgreSQL have them. */
int buf_append_u16(struct buf *, uint16_t);
int buf_append_u32(struct buf *, uint32_t);
int buf_append_u64(struct buf *, uint64_t);

static inline struct slice buf_slice(const struct buf *b) {
	return (struct slice){b->data, b->len};
}

#endif
