/* The dot decoder (RFC 5321 4.5.2) and the arrangements that smuggle. Each row whole, octet by octet, and split at
 * every place. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include "smtpd/data.h"

struct row {
	const char *name, *in;
	size_t n;               /* 0: strlen */
	enum data_result result;
	const char *out;
	size_t out_n;           /* 0: strlen */
	size_t rest;            /* octets behind the end */
	bool bare_newline, bare_cr, nul_start;
};

static const struct row rows[] = {
	{"text", "a\r\nb\r\n.\r\n", 0, DATA_DONE, "a\r\nb\r\n"},
	{"empty message", ".\r\n", 0, DATA_DONE, ""},
	{"what follows is left", "a\r\n.\r\nQUIT\r\n", 0, DATA_DONE, "a\r\n", 0, 6},
	{"leading dot removed", "..a\r\n.\r\n", 0, DATA_DONE, ".a\r\n"},
	{"only one dot removed", "...\r\n..\r\n.\r\n", 0, DATA_DONE, "..\r\n.\r\n"},
	{"any octet behind a dot loses the dot", ".a\r\n.\r\n", 0, DATA_DONE, "a\r\n"},
	{"a dot inside a line stays", "a.\r\nb.c\r\n.\r\n", 0, DATA_DONE, "a.\r\nb.c\r\n"},
	{"no end", "a\r\n", 0, DATA_MORE, "a\r\n"},
	{"no line end", "abc", 0, DATA_MORE, "abc"},
	{"an open CR is given out", "a\r", 0, DATA_MORE, "a\r"},
	{"a dot at the end is held", "a\r\n.", 0, DATA_MORE, "a\r\n"},
	{"dot CR at the end is held", "a\r\n.\r", 0, DATA_MORE, "a\r\n"},
	{"empty lines", "\r\n\r\n.\r\n", 0, DATA_DONE, "\r\n\r\n"},
	{"LF.LF", "a\n.\nb\r\n.\r\n", 0, DATA_DONE, "a\n.\nb\r\n", 0, 0, true, false},
	{"LF.CRLF", "a\n.\r\nb\r\n.\r\n", 0, DATA_DONE, "a\n.\r\nb\r\n", 0, 0, true, false},
	{"CRLF.LF", "a\r\n.\nb\r\n.\r\n", 0, DATA_DONE, "a\r\n\nb\r\n", 0, 0, true, false},
	{"CR.CR", "a\r.\rb\r\n.\r\n", 0, DATA_DONE, "a\r.\rb\r\n", 0, 0, false, true},
	{"CR.CRLF", "a\r.\r\nb\r\n.\r\n", 0, DATA_DONE, "a\r.\r\nb\r\n", 0, 0, false, true},
	{"CRLF.CR", "a\r\n.\rb\r\n.\r\n", 0, DATA_DONE, "a\r\n\rb\r\n", 0, 0, false, true},
	{"CRLF.CRCRLF", "a\r\n.\r\r\nb\r\n.\r\n", 0, DATA_DONE, "a\r\n\r\r\nb\r\n", 0, 0, false, true},
	{"LF.CRCRLF", "a\n.\r\r\nb\r\n.\r\n", 0, DATA_DONE, "a\n.\r\r\nb\r\n", 0, 0, true, true},
	{"CRLF NUL .CRLF", "a\r\n\0.\r\nb\r\n.\r\n", 13, DATA_DONE, "a\r\n\0.\r\nb\r\n", 10, 0, false, false, true},
	{"NUL first", "\0.\r\n.\r\n", 7, DATA_DONE, "\0.\r\n", 4, 0, false, false, true},
	{"NUL inside a line", "a\0.\r\n.\r\n", 8, DATA_DONE, "a\0.\r\n", 5},
	{"CRCRLF.CRLF ends, with a stray CR", "a\r\r\n.\r\n", 0, DATA_DONE, "a\r\r\n", 0, 0, false, true},
	{"LF first", "\n.\r\n", 0, DATA_MORE, "\n.\r\n", 0, 0, true, false},
	{"CR first", "\r.\r\n", 0, DATA_MORE, "\r.\r\n", 0, 0, false, true},
	{"CRs", "\r\r\r\r\n.\r\n", 0, DATA_DONE, "\r\r\r\r\n", 0, 0, false, true},
	{"dot, CRs", ".\r\r\r\n.\r\n", 0, DATA_DONE, "\r\r\r\n", 0, 0, false, true},
	{"dot dot CRLF", "..\r\n.\r\n", 0, DATA_DONE, ".\r\n"},
	{"8-bit", "\200\377\r\n.\r\n", 0, DATA_DONE, "\200\377\r\n"},
};

struct sink {
	char p[64];
	size_t n;
	unsigned runs;
};

static void emit(void *arg, const char *p, size_t n) {
	struct sink *s = arg;
	assert_true(n > 0 && s->n + n <= sizeof(s->p));
	memcpy(s->p + s->n, p, n);
	s->n += n;
	s->runs++;
}

/* Pieces of `first` octets, then of `then`. */
static void run(const struct row *r, size_t first, size_t then) {
	size_t n = r->n ? r->n : strlen(r->in), out_n = r->out_n ? r->out_n : strlen(r->out), at = 0;
	struct sink s = {.n = 0};
	struct data_decoder d;
	enum data_result result = DATA_MORE;
	data_init(&d);
	for (size_t piece = first; at < n && result == DATA_MORE; piece = then) {
		size_t used, take = min_of(piece, n - at);
		char *copy = xmemdup(r->in + at, take);
		result = data_decode(&d, copy, take, &used, emit, &s);
		free(copy);
		at += used;
	}
	bool same = result == r->result && s.n == out_n && memcmp(s.p, r->out, out_n) == 0 && n - at == r->rest &&
	            d.bare_newline == r->bare_newline && d.bare_cr == r->bare_cr && d.nul_start == r->nul_start;
	if (!same)
		fail_msg("%s in pieces of %zu, %zu: result %d, %zu octets, rest %zu, newline %d, cr %d", r->name, first, then,
		         result, s.n, n - at, d.bare_newline, d.bare_cr);
}

static void test_rows(void **state) {
	for (size_t i = 0; i < array_len(rows); i++) {
		size_t n = rows[i].n ? rows[i].n : strlen(rows[i].in);
		run(&rows[i], n, n);
		run(&rows[i], 1, 1);
		for (size_t split = 1; split < n; split++)
			run(&rows[i], split, n);
	}
}

/* A large body must reach the sink in large pieces: one call between two stuffed dots. */
static void test_runs(void **state) {
	struct sink s = {.n = 0};
	struct data_decoder d;
	size_t used;
	static const char in[] = "one\r\ntwo\r\n\r\nthree\r\n..four\r\nfive\r\n.\r\n";
	data_init(&d);
	assert_int_equal(data_decode(&d, in, strlen(in), &used, emit, &s), DATA_DONE);
	assert_int_equal(s.runs, 2);
}

/* Of octets without dot rules the same is noted, however they are cut. */
static void test_scan(void **state) {
	static const struct {
		const char *p;
		size_t n;
		bool bare_newline, bare_cr, nul_start;
	} octets[] = {
		{"a\r\n.\r\nb", 8, false, false, false},
		{"a\nb", 3, true, false, false},
		{"a\rb", 3, false, true, false},
		{"a\r\r\n", 4, false, true, false},
		{"a\r\n\0", 4, false, false, true},
		{"a\n\0", 3, true, false, false},
	};
	for (size_t i = 0; i < array_len(octets); i++) {
		for (size_t split = 0; split <= octets[i].n; split++) {
			struct data_decoder d = {0};
			data_scan(&d, octets[i].p, split);
			data_scan(&d, octets[i].p + split, octets[i].n - split);
			assert_int_equal(d.bare_newline, octets[i].bare_newline);
			assert_int_equal(d.bare_cr, octets[i].bare_cr);
			assert_int_equal(d.nul_start, octets[i].nul_start);
		}
	}
}

static void test_zeroed(void **state) {
	struct sink s = {.n = 0};
	struct data_decoder d = {0};
	size_t used;
	assert_int_equal(data_decode(&d, ".\r\n", 3, &used, emit, &s), DATA_DONE);
	assert_int_equal(s.n, 0);
}

static void test_chunk(void **state) {
	struct data_chunk c = {.left = 10};
	assert_int_equal(data_chunk_take(&c, 0), 0);
	assert_int_equal(data_chunk_take(&c, 4), 4);
	assert_int_equal(data_chunk_take(&c, 100), 6);
	assert_int_equal(c.left, 0);
	assert_int_equal(data_chunk_take(&c, 1), 0);
	c.left = UINT64_MAX;
	assert_int_equal(data_chunk_take(&c, 7), 7);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_scan),
		cmocka_unit_test(test_zeroed),
		cmocka_unit_test(test_chunk),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
