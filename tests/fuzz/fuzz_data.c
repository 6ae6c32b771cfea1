/* The dot decoder beside a decoder that is obviously right and slow: the same octets, the same end, the same flags,
 * in one piece, octet by octet and in pieces that the input chooses (its first octet). */
#include "smtpd/data.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

struct sink {
	char *p;
	size_t n;
};

static void require(bool ok) {
	if (!ok)
		abort();
}

static void emit(void *arg, const char *p, size_t n) {
	struct sink *s = arg;
	require(n > 0);
	memcpy(s->p + s->n, p, n);
	s->n += n;
}

/* Looks for the end first, then takes the dots out. Returns the octets used, SIZE_MAX without an end. */
static size_t reference(const char *p, size_t n, struct sink *out, bool *bare_newline, bool *bare_cr, bool *nul_start) {
	size_t end = SIZE_MAX, stop = n;
	if (n >= 3 && memcmp(p, ".\r\n", 3) == 0)
		end = 3;
	for (size_t i = 0; i + 5 <= n && end == SIZE_MAX; i++) {
		if (memcmp(p + i, "\r\n.\r\n", 5) == 0)
			end = i + 5;
	}
	if (end != SIZE_MAX)
		stop = end - 3;
	*bare_newline = *bare_cr = *nul_start = false;
	for (size_t i = 0; i < stop; i++) {
		bool line_start = i == 0 || (i >= 2 && p[i - 2] == '\r' && p[i - 1] == '\n');
		if (p[i] == '\n' && (i == 0 || p[i - 1] != '\r'))
			*bare_newline = true;
		if (p[i] == '\r' && i + 1 < n && p[i + 1] != '\n')
			*bare_cr = true;
		if (line_start && p[i] == '\0')
			*nul_start = true;
		if (!(line_start && p[i] == '.'))
			out->p[out->n++] = p[i];
	}
	return end;
}

static void compare(const char *p, size_t n, size_t piece, const struct sink *want, size_t end, bool bare_newline,
                    bool bare_cr, bool nul_start) {
	struct sink got = {malloc(n + 1), 0};
	struct data_decoder d;
	size_t at = 0;
	enum data_result r = DATA_MORE;
	data_init(&d);
	while (at < n && r == DATA_MORE) {
		size_t used, take = min_of(piece, n - at);
		r = data_decode(&d, p + at, take, &used, emit, &got);
		require(r == DATA_DONE || used == take);
		at += used;
	}
	require((r == DATA_DONE) == (end != SIZE_MAX));
	if (r == DATA_DONE)
		require(at == end);
	/* "." and ".CR" at the very end are held back; the reference has given the CR out. */
	size_t held = d.state == DATA_DOT_CR && r == DATA_MORE ? 1 : 0;
	require(got.n + held == want->n && memcmp(got.p, want->p, got.n) == 0);
	require(d.bare_newline == bare_newline && d.bare_cr == bare_cr && d.nul_start == nul_start);
	free(got.p);
}

/* What is noted of octets without dot rules does not depend on how they are cut. */
static void compare_scan(const char *p, size_t n, size_t piece) {
	struct data_decoder whole = {0}, cut = {0};
	data_scan(&whole, p, n);
	for (size_t at = 0; at < n; at += piece)
		data_scan(&cut, p + at, min_of(piece, n - at));
	require(whole.bare_newline == cut.bare_newline && whole.bare_cr == cut.bare_cr && whole.nul_start == cut.nul_start);
	require(whole.state == cut.state);
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t n) {
	if (n < 1 || n > 1 << 16)
		return 0;
	size_t piece = in[0] % 32 + 2;
	const char *p = (const char *)in + 1;
	bool bare_newline, bare_cr, nul_start;
	n--;
	struct sink want = {malloc(n + 1), 0};
	size_t end = reference(p, n, &want, &bare_newline, &bare_cr, &nul_start);
	compare(p, n, n ? n : 1, &want, end, bare_newline, bare_cr, nul_start);
	compare(p, n, 1, &want, end, bare_newline, bare_cr, nul_start);
	compare(p, n, piece, &want, end, bare_newline, bare_cr, nul_start);
	compare_scan(p, n, 1);
	compare_scan(p, n, piece);
	free(want.p);
	return 0;
}
