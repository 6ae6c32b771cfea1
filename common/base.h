/* What every file may use: attributes, scope cleanup and array helpers. No I/O, no allocation policy beyond xalloc. */
#ifndef MINUTEMAIL_BASE_H
#define MINUTEMAIL_BASE_H

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define array_len(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define must_check __attribute__((warn_unused_result))
#define printf_like(fmt, args) __attribute__((format(printf, fmt, args)))
#define cleanup(fn) __attribute__((cleanup(fn)))
#define min_of(a, b) ((a) < (b) ? (a) : (b))
#define max_of(a, b) ((a) > (b) ? (a) : (b))

/* Hands the pointer over: yields its value and leaves NULL behind, so a cleanup attribute does nothing. */
#define take_ptr(p)             \
	({                          \
		__typeof__(p) *pp_ = &(p); \
		__typeof__(p) v_ = *pp_;   \
		*pp_ = NULL;            \
		v_;                     \
	})

/* Defines a function for cleanup(): `static inline void NAMEp(TYPE **p)` calling NAME(*p). */
#define define_cleanup(type, name)             \
	static inline void name##p(type *p) {      \
		if (*p)                                \
			name(*p);                          \
	}

static inline void freep(void *p) {
	free(*(void **)p);
}

/* A borrowed run of octets; not NUL-terminated, may contain NUL. `p` may be NULL only when n == 0. */
struct slice {
	const char *p;
	size_t n;
};

static inline struct slice slice_of(const char *p, size_t n) {
	return (struct slice){p, n};
}

static inline struct slice slice_str(const char *s) {
	return (struct slice){s, s ? strlen(s) : 0};
}

/* Digits onto ret, no NUL; returns how many. On the path of every request, where snprintf() would be dear. */
#define DECIMAL_SIZE 20
static inline size_t decimal(int64_t v, char ret[DECIMAL_SIZE]) {
	char text[DECIMAL_SIZE], *p = text + sizeof(text);
	uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
	do
		*--p = (char)('0' + u % 10);
	while (u /= 10);
	if (v < 0)
		*--p = '-';
	size_t n = (size_t)(text + sizeof(text) - p);
	memcpy(ret, p, n);
	return n;
}

/* The last `digits` hex digits of v, no NUL. Returns what is behind them. */
static inline char *hexadecimal(uint64_t v, unsigned digits, char *ret) {
	for (unsigned i = digits; i > 0; i--, v >>= 4)
		ret[i - 1] = "0123456789abcdef"[v & 15];
	return ret + digits;
}

/* The value of a hex digit, of either case; negative: it is none. */
static inline int hex_value(char c) {
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Without spaces and tabs at both ends (the OWS of RFC 9110 5.6.3). */
static inline struct slice slice_trim(struct slice s) {
	while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
		s = slice_of(s.p + 1, s.n - 1);
	while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

static inline bool slice_eq(struct slice a, struct slice b) {
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* For small fixed allocations only: they end the process when memory is out. What a peer sizes goes through buf. */
void *xmalloc(size_t n);
void *xcalloc(size_t n, size_t size);
void *xshared(size_t n); /* zeroed, and shared with the processes that are forked from here on; munmap() frees it */
void *xrealloc(void *p, size_t n);
void *xmemdup(const void *p, size_t n);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);                     /* always NUL-terminated */
char *xasprintf(const char *fmt, ...) printf_like(1, 2);

#endif
