/* Small fixed allocations that cannot fail: when memory is out, one line is printed and the process ends. Not for anything a
 * peer sizes; that goes through buf. */
#include "common/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

/* write(2), because stdio may want memory itself. */
__attribute__((noreturn)) static void out_of_memory(void) {
	static const char line[] = "level=error event=\"out of memory\"\n";
	ssize_t n = write(STDERR_FILENO, line, sizeof(line) - 1);
	(void)n;
	abort();
}

void *xmalloc(size_t n) {
	void *p = malloc(n ? n : 1);
	if (!p)
		out_of_memory();
	return p;
}

void *xcalloc(size_t n, size_t size) {
	void *p = n && size ? calloc(n, size) : calloc(1, 1);
	if (!p)
		out_of_memory();
	return p;
}

void *xshared(size_t n) {
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		out_of_memory();
	return p;
}

void *xrealloc(void *p, size_t n) {
	void *q = realloc(p, n ? n : 1);
	if (!q)
		out_of_memory();
	return q;
}

void *xmemdup(const void *p, size_t n) {
	void *q = xmalloc(n);
	if (n)
		memcpy(q, p, n);
	return q;
}

char *xstrdup(const char *s) {
	return xstrndup(s, strlen(s));
}

char *xstrndup(const char *s, size_t n) {
	size_t len = n ? strnlen(s, n) : 0;
	char *p = xmalloc(len + 1);
	if (len)
		memcpy(p, s, len);
	p[len] = '\0';
	return p;
}

char *xasprintf(const char *fmt, ...) {
	va_list ap;
	char *p = NULL;
	va_start(ap, fmt);
	int n = vasprintf(&p, fmt, ap);
	va_end(ap);
	if (n < 0)
		out_of_memory();
	return p;
}
