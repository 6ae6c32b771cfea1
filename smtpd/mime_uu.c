/* Finds uuencoded files in text; decoding is transfer.c's. Not a parser of the damaged: a file must be whole, since it
 * is taken out of the text.
 *
 * Invariant: the cursor never moves back. A line that breaks a file may begin the next one, and no line of data can:
 * "begin" has letters that uuencode does not use. */
#include "smtpd/mime_uu.h"

#include "smtpd/steps.h"

#define LINE_OCTETS_MAX 45 /* of data in a line, by custom and by POSIX */
#define CHECKSUM_MAX 2

/* The line at p without its end; *ret_next is behind that. */
static struct slice line_at(struct slice text, size_t at, size_t *ret_next) {
	const char *p = text.p + at, *lf = memchr(p, '\n', text.n - at);
	size_t n = lf ? (size_t)(lf - p) : text.n - at;
	*ret_next = at + n + (lf != NULL);
	steps_add(n + 1);
	if (n > 0 && p[n - 1] == '\r')
		n--;
	return slice_of(p, n);
}

/* "begin 644 name": a mode of three or four octal digits. */
static bool is_begin(struct slice line, struct slice *ret_name) {
	static const char word[] = "begin ";
	size_t i = sizeof word - 1, digits = 0;
	if (line.n < i || memcmp(line.p, word, i) != 0)
		return false;
	while (i < line.n && line.p[i] >= '0' && line.p[i] <= '7')
		i++, digits++;
	if (digits < 3 || digits > 4 || i == line.n || line.p[i] != ' ')
		return false;
	while (i < line.n && line.p[i] == ' ')
		i++;
	*ret_name = slice_of(line.p + i, line.n - i);
	return true;
}

static bool is_data(struct slice line) {
	if (line.n == 0 || line.p[0] <= ' ' || line.p[0] > ' ' + LINE_OCTETS_MAX)
		return false;
	size_t want = ((size_t)(line.p[0] - ' ') + 2) / 3 * 4 + 1;
	if (line.n < want || line.n > want + CHECKSUM_MAX)
		return false;
	for (size_t i = 1; i < line.n; i++)
		if (line.p[i] < ' ' || line.p[i] > '`')
			return false;
	return true;
}

/* The line of no octets before "end": "`", or a blank, which may have been lost on the way. */
static bool is_last(struct slice line) {
	return line.n == 0 || (line.n == 1 && (line.p[0] == '`' || line.p[0] == ' '));
}

enum where { WHERE_TEXT, WHERE_DATA, WHERE_END };

bool mime_uu_find(struct slice text, size_t from, struct mime_uu *ret) {
	enum where where = WHERE_TEXT;
	struct mime_uu found = {0};
	size_t next;
	for (size_t at = from; at < text.n; at = next) {
		struct slice line = line_at(text, at, &next);
		if (where == WHERE_DATA && is_data(line))
			continue;
		if (where == WHERE_DATA && is_last(line)) {
			where = WHERE_END;
			continue;
		}
		if (where == WHERE_END && line.n == 3 && memcmp(line.p, "end", 3) == 0) {
			found.end = next;
			*ret = found;
			return true;
		}
		where = is_begin(line, &found.name) ? WHERE_DATA : WHERE_TEXT;
		found.start = at;
	}
	return false;
}
