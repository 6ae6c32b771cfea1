/* Dot decoder and chunk counter; see the header. Only the few octets around a line end are looked at one by one, the
 * rest is found by memchr and given out in place.
 *
 *   LINE_START -'.'-> DOT -CR-> DOT_CR -LF-> done        any other octet: TEXT, or TEXT_CR after CR
 *   TEXT -CR-> TEXT_CR -LF-> LINE_START */
#include "smtpd/data.h"

void data_init(struct data_decoder *d) {
	*d = (struct data_decoder){.state = DATA_LINE_START};
}

/* Text of one line from p: through its LF, or all of it when there is none. The line may begin in the middle. */
static const char *scan_line(struct data_decoder *d, const char *p, const char *end) {
	const char *lf = memchr(p, '\n', (size_t)(end - p));
	const char *stop = lf ? lf : end;
	bool cr_before = stop == p ? d->state == DATA_TEXT_CR : stop[-1] == '\r';
	if (!d->bare_cr) {
		/* The one CR that may stand here is the last octet: before the LF, or undecided at the end of the input. */
		const char *cr = stop > p ? memchr(p, '\r', (size_t)(stop - p)) : NULL;
		d->bare_cr = (cr && cr + 1 < stop) || (d->state == DATA_TEXT_CR && stop > p);
	}
	if (!lf) {
		d->state = cr_before ? DATA_TEXT_CR : DATA_TEXT;
		return end;
	}
	if (!cr_before)
		d->bare_newline = true;
	d->state = cr_before ? DATA_LINE_START : DATA_TEXT;
	return lf + 1;
}

static void emit_run(data_emit *emit, void *arg, const char *from, const char *to) {
	if (to > from)
		emit(arg, from, (size_t)(to - from));
}

enum data_result data_decode(struct data_decoder *d, const char *p, size_t n, size_t *ret_used, data_emit *emit,
                             void *arg) {
	const char *const start = p, *const end = p + n;
	const char *run = p; /* not given out yet */
	while (p < end) {
		switch (d->state) {
		case DATA_LINE_START:
			if (*p != '.') {
				d->nul_start |= *p == '\0';
				p = scan_line(d, p, end);
				break;
			}
			emit_run(emit, arg, run, p);
			run = ++p;
			d->state = DATA_DOT;
			break;
		case DATA_DOT:
			if (*p == '\r') {
				run = ++p;
				d->state = DATA_DOT_CR;
				break;
			}
			run = p;
			d->state = DATA_TEXT;
			break;
		case DATA_DOT_CR:
			if (*p == '\n') {
				*ret_used = (size_t)(p + 1 - start);
				return DATA_DONE;
			}
			emit(arg, "\r", 1);
			run = p;
			d->state = DATA_TEXT_CR;
			break;
		case DATA_TEXT:
		case DATA_TEXT_CR:
			p = scan_line(d, p, end);
			break;
		}
	}
	emit_run(emit, arg, run, p);
	*ret_used = n;
	return DATA_MORE;
}

void data_scan(struct data_decoder *d, const char *p, size_t n) {
	for (const char *end = p + n; p < end; p = scan_line(d, p, end))
		d->nul_start |= d->state == DATA_LINE_START && *p == '\0';
}

size_t data_chunk_take(struct data_chunk *c, size_t n) {
	size_t take = c->left < n ? (size_t)c->left : n;
	c->left -= take;
	return take;
}
