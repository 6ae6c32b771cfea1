/* mime: every cap just under and just over, and what is meant to hurt, each in linear time. */
#include "mime_check.h"

#include <time.h>

static void repeat(struct buf *b, const char *s, size_t n) {
	while (n-- > 0)
		buf_append_str(b, s);
}

static void start(struct buf *b) {
	buf_init(b, 64 << 20);
	buf_append_str(b, "From: a@b.c\r\nSubject: kept\r\n");
}

static double seconds(void) {
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* What an ordinary message of 2 MB takes on this machine: the least of three. */
static double ordinary(void) {
	double least = 1e9;
	for (int i = 0; i < 3; i++) {
		struct buf b;
		start(&b);
		buf_append_str(&b, "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=koi8-r\r\n"
		                   "Content-Transfer-Encoding: quoted-printable\r\n\r\n");
		repeat(&b, "=F0=D2=C9=D7=C5=D4 and so on =\r\n", 10000);
		buf_append_str(&b, "\r\n--b\r\nContent-Type: text/html\r\n\r\n");
		repeat(&b, "<p class=\"a\">x &amp; y</p>\r\n", 20000);
		buf_append_str(&b, "--b\r\nContent-Type: a/b\r\nContent-Transfer-Encoding: base64\r\n\r\n");
		repeat(&b, "0L/RgNC4\r\n", 100000);
		buf_append_str(&b, "--b--\r\n");
		double before = seconds();
		struct message *m = mime_parse(b.data, b.len, &MIME_LIMITS);
		least = min_of(least, seconds() - before);
		assert_int_equal(m->warnings.n, 0);
		assert_int_equal(m->parts.count, 1);
		message_free(m);
		buf_fini(&b);
	}
	return least;
}

/* Sixty times an ordinary message is ten to a hundred times what it takes, and far from what a quadratic step would. */
static struct message *parse_monster(struct buf *b, const char *warning, const char *what) {
	static double most;
	if (most == 0)
		most = 60 * ordinary();
	double before = seconds();
	struct message *m = mime_parse(b->data, b->len, &MIME_LIMITS);
	double took = seconds() - before;
	if (warning && !message_warned(m, warning))
		fail_msg("no warning %s", warning);
	if (took > most)
		fail_msg("%s: %.3f s, more than %.3f", what, took, most);
	assert_string_equal(m->from_address, "a@b.c");
	assert_string_equal(m->subject, "kept");
	check_sound(m, b->data, b->len);
	buf_fini(b);
	return m;
}

/* --- each cap, met exactly and by one --- */

static void fields(struct buf *b, unsigned n) {
	for (unsigned i = 0; i < n; i++)
		buf_printf(b, "X%u: y\r\n", i);
}

/* The two fields of start() count too. */
static void make_fields_entity(struct buf *b, unsigned n) {
	fields(b, n - 2);
	buf_append_str(b, "\r\nbody\r\n");
}

/* Parts share what the top has left over; one over the cap on the message is not shown. */
static void make_fields_message(struct buf *b, unsigned n) {
	unsigned left = n - 3;
	buf_append_str(b, "Content-Type: multipart/mixed; boundary=b\r\n\r\n");
	while (left > 0) {
		unsigned here = min_of(left, 999u);
		buf_append_str(b, "--b\r\n");
		fields(b, here);
		left -= here;
		buf_append_str(b, left > 0 ? "\r\nx\r\n" : "\r\nbody\r\n");
	}
	buf_append_str(b, "--b--\r\n");
}

static void make_field(struct buf *b, unsigned n) {
	buf_append_str(b, "X: ");
	repeat(b, "x", n);
	buf_append_str(b, "\r\n\r\nbody\r\n");
}

/* What start() wrote is part of the block. */
static void make_field_block(struct buf *b, unsigned n) {
	while (b->len < n) {
		size_t here = min_of(n - b->len, (size_t)60000);
		here = n - b->len - here < 10 && n - b->len > here ? here - 100 : here;
		buf_append_str(b, "X: ");
		repeat(b, "x", here - 5);
		buf_append_str(b, "\r\n");
	}
	buf_append_str(b, "\r\nbody\r\n");
}

static void make_depth(struct buf *b, unsigned n) {
	for (unsigned i = 0; i < n; i++)
		buf_printf(b, "Content-Type: multipart/mixed; boundary=b%u\r\n\r\n--b%u\r\n", i, i);
	buf_append_str(b, "\r\nbody\r\n");
	while (n-- > 0)
		buf_printf(b, "--b%u--\r\n", n);
}

/* The multipart counts too. */
static void make_parts(struct buf *b, unsigned n) {
	buf_append_str(b, "Content-Type: multipart/mixed; boundary=b\r\n\r\n");
	for (unsigned i = 1; i < n; i++)
		buf_append_str(b, "--b\r\nContent-Type: a/b\r\n\r\nx\r\n");
	buf_append_str(b, "--b--\r\n");
}

static void make_parameters(struct buf *b, unsigned n) {
	buf_append_str(b, "Content-Type: text/plain");
	for (unsigned i = 0; i < n; i++)
		buf_printf(b, "; a%u=b", i);
	buf_append_str(b, "\r\n\r\nbody\r\n");
}

static void make_segments(struct buf *b, unsigned n) {
	buf_append_str(b, "Content-Disposition: attachment");
	for (unsigned i = 0; i < n; i++)
		buf_printf(b, "; filename*%u=b", i);
	buf_append_str(b, "\r\n\r\nbody\r\n");
}

static void make_groups(struct buf *b, unsigned n) {
	buf_append_str(b, "Cc: ");
	repeat(b, "g:;", n);
	buf_append_str(b, "x@y\r\n\r\nbody\r\n");
}

static void make_addresses(struct buf *b, unsigned n) {
	buf_append_str(b, "Cc: x@y");
	repeat(b, ",x@y", n - 1);
	buf_append_str(b, "\r\n\r\nbody\r\n");
}

static void make_boundary(struct buf *b, unsigned n) {
	buf_append_str(b, "Content-Type: multipart/mixed; boundary=");
	repeat(b, "b", n);
	buf_append_str(b, "\r\n\r\n--");
	repeat(b, "b", n);
	buf_append_str(b, "\r\n\r\nbody\r\n--");
	repeat(b, "b", n);
	buf_append_str(b, "--\r\n");
}

static void make_text(struct buf *b, unsigned n) {
	buf_append_str(b, "\r\n");
	repeat(b, "x", n);
}

static const struct {
	const char *what;
	void (*make)(struct buf *, unsigned n);
	unsigned cap;
	const char *warning;
} edges[] = {
	{"fields of an entity", make_fields_entity, 1000, "too_many_headers"},
	{"fields of a message", make_fields_message, 10000, "too_many_headers"},
	{"a field", make_field, 64 * 1024, "header_too_long"},
	{"the fields of an entity", make_field_block, 256 * 1024, "header_block_too_long"},
	{"depth", make_depth, 32, "too_deep"},
	{"parts", make_parts, 1000, "too_many_parts"},
	{"parameters", make_parameters, 64, "too_many_parameters"},
	{"segments of a parameter", make_segments, 64, "too_many_parameters"},
	{"groups", make_groups, 50, "too_many_groups"},
	{"addresses", make_addresses, 1000, "too_many_addresses"},
	{"boundary", make_boundary, 200, "boundary_too_long"},
	{"text", make_text, 1024 * 1024, "text_cut"},
};

/* At the cap nothing is said; over it the one warning, and what was found before it stays. */
static void test_edges(void **state) {
	for (size_t i = 0; i < array_len(edges); i++)
		for (unsigned over = 0; over <= 1; over++) {
			struct buf b;
			start(&b);
			edges[i].make(&b, edges[i].cap + over);
			bool body = memmem(b.data, b.len, "body", 4);
			struct message *m = parse_monster(&b, over ? edges[i].warning : NULL, edges[i].what);
			if (m->warnings.n != over)
				fail_msg("%s, %u: %u warnings, of them %s", edges[i].what, edges[i].cap + over, m->warnings.n,
				         m->warnings.n ? m->warnings.v[0] : "none");
			if (!over && body && m->parts.count == 0 && !strstr(m->body_text, "body"))
				fail_msg("%s: the body is lost", edges[i].what);
			message_free(m);
		}
}

static void test_groups(void **state) {
	static const unsigned counts[] = {50, 51, 2000, 50000};
	for (size_t i = 0; i < array_len(counts); i++) {
		struct buf b;
		start(&b);
		buf_append_str(&b, "To: ");
		repeat(&b, "a:", counts[i]);
		buf_append_str(&b, " x@y\r\n\r\nbody\r\n");
		struct message *m = parse_monster(&b, counts[i] > 50 ? "too_many_groups" : NULL, __func__);
		assert_int_equal(m->to.n, counts[i] > 50 ? 0 : 1);
		assert_string_equal(m->body_text, "body\r\n");
		message_free(m);
	}
	/* the same inside an attached message, which nobody opens */
	struct buf b;
	start(&b);
	buf_append_str(&b, "Content-Type: message/rfc822\r\n\r\nTo: ");
	repeat(&b, "a:", 50000);
	message_free(parse_monster(&b, NULL, __func__));
}

static void test_many_parts(void **state) {
	struct buf b;
	start(&b);
	buf_append_str(&b, "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nfirst\r\n");
	repeat(&b, "--b\n\n", 200000);
	struct message *m = parse_monster(&b, "too_many_parts", __func__);
	assert_string_equal(m->body_text, "first");
	message_free(m);

	start(&b);
	buf_append_str(&b, "Content-Type: multipart/mixed; boundary=b\r\n\r\n");
	repeat(&b, "--b\r\nContent-Type: a/b\r\n\r\nx\r\n", 999);
	buf_append_str(&b, "--b--\r\n");
	m = parse_monster(&b, NULL, __func__);
	assert_int_equal(m->parts.count, 999);
	assert_int_equal(m->warnings.n, 0);
	message_free(m);
}

static void test_many_parameters(void **state) {
	static const unsigned counts[] = {64, 65, 40000};
	for (size_t i = 0; i < array_len(counts); i++) {
		struct buf b;
		start(&b);
		buf_append_str(&b, "Content-Type: text/html");
		for (unsigned k = 0; k < counts[i]; k++)
			buf_printf(&b, ";\r\n a%u=b", k);
		buf_append_str(&b, "\r\n\r\nbody\r\n");
		struct message *m = parse_monster(&b, counts[i] > 64 ? "too_many_parameters" : NULL, __func__);
		assert_string_equal(m->body_html, "body\r\n");
		message_free(m);
	}
	struct buf b;
	start(&b);
	buf_append_str(&b, "Content-Disposition: attachment");
	for (unsigned k = 0; k < 30000; k++)
		buf_printf(&b, "; filename*%u*=x''y", k);
	buf_append_str(&b, "\r\n\r\nbody\r\n");
	struct message *m = parse_monster(&b, "too_many_parameters", __func__);
	assert_int_equal(m->parts.count, 1);
	message_free(m);
}

static void test_many_headers(void **state) {
	struct buf b;
	start(&b);
	repeat(&b, "a:\r\n", 500000);
	buf_append_str(&b, "\r\nbody\r\n");
	struct message *m = parse_monster(&b, "too_many_headers", __func__);
	assert_string_equal(m->body_text, "body\r\n");
	message_free(m);

	start(&b); /* over many parts */
	buf_append_str(&b, "Content-Type: multipart/mixed; boundary=b\r\n\r\n");
	for (int i = 0; i < 100; i++) {
		buf_append_str(&b, "--b\r\n");
		repeat(&b, "a:\r\n", 900);
		buf_append_str(&b, "\r\nx\r\n");
	}
	message_free(parse_monster(&b, "too_many_headers", __func__));

	start(&b);
	buf_append_str(&b, "X: ");
	repeat(&b, "x\r\n ", 100000);
	buf_append_str(&b, "\r\nTo: x@y\r\n\r\n");
	m = parse_monster(&b, "header_too_long", __func__);
	assert_int_equal(m->to.n, 1);
	message_free(m);

	start(&b);
	for (int i = 0; i < 5; i++) {
		buf_append_str(&b, "X: ");
		repeat(&b, "x", 60000);
		buf_append_str(&b, "\r\n");
	}
	buf_append_str(&b, "To: x@y\r\n\r\nbody\r\n");
	m = parse_monster(&b, "header_block_too_long", __func__);
	assert_int_equal(m->to.n, 0);
	assert_string_equal(m->body_text, "body\r\n");
	message_free(m);
}

static void test_nesting(void **state) {
	static const char *const tails[] = {"--\r\n", "--b\r\n",
	                                    "--b0000000000000000000000000000000000000000000000000000\r\n"};
	for (size_t k = 0; k < array_len(tails); k++) {
		struct buf b;
		start(&b);
		for (unsigned i = 0; i < 1024; i++)
			buf_printf(&b, "Content-Type: multipart/mixed; boundary=b%u\r\n\r\n--b%u\r\n", i, i);
		repeat(&b, tails[k], (2 << 20) / strlen(tails[k]));
		struct message *m = parse_monster(&b, "too_deep", __func__);
		assert_int_equal(m->parts.count, 1); /* what is deeper, as one */
		message_free(m);
	}
	struct buf b;
	start(&b);
	repeat(&b, "Content-Type: message/rfc822\r\n\r\n", 1024);
	struct message *m = parse_monster(&b, NULL, __func__);
	assert_int_equal(m->parts.count, 1);
	message_free(m);

	start(&b); /* as deep as may be */
	for (unsigned i = 0; i < 32; i++)
		buf_printf(&b, "Content-Type: multipart/mixed; boundary=b%u\r\n\r\n--b%u\r\n", i, i);
	buf_append_str(&b, "\r\ndeep\r\n");
	for (unsigned i = 32; i-- > 0;)
		buf_printf(&b, "--b%u--\r\n", i);
	m = parse_monster(&b, NULL, __func__);
	assert_string_equal(m->body_text, "deep");
	assert_int_equal(m->warnings.n, 0);
	message_free(m);
}

/* Headers and bodies made of what a parser might look up again and again. */
static void test_repeated(void **state) {
	static const struct {
		const char *before, *unit, *after;
		size_t n;
	} monsters[] = {
		{"To: ", "a b,", "\r\n\r\n", 16000},
		{"To: ", "<\"", "\r\n\r\n", 30000},
		{"To: ", "(", "\r\n\r\n", 60000},
		{"To: ", "\"", "\r\n\r\n", 60001},
		{"To: ", "=?a?q?", "\r\n\r\n", 10000},
		{"To: ", "<a@b,", "\r\n\r\n", 12000},
		{"To: ", "@", "\r\n\r\n", 60000},
		{"X: x\r\nSubject: kept\r\nTo: ", "=?utf-8?q?a?=", "\r\n\r\n", 4000},
		{"Content-Type: text/html\r\n\r\n", "<a b=\"", "", 300000},
		{"Content-Type: text/html\r\n\r\n", "<a href=\"http://x\">", "", 100000},
		{"Content-Type: text/html\r\n\r\n", "<!--", "", 400000},
		{"Content-Type: text/html\r\n\r\n", "<script>", "", 200000},
		{"Content-Type: text/html\r\n\r\n", "&amp", "", 400000},
		{"Content-Type: text/html\r\n\r\n", "<a ='>", "", 300000},
		{"Content-Type: text/html\r\n\r\n", "<a ='' ='>", "", 90000}, /* each '>' is in quotes, seen from any tag */
		{"Content-Type: text/html\r\n\r\n", "<", "", 2000000},
		{"Content-Type: text/plain; charset=iso-2022-jp\r\n\r\n", "\xff", "", 2000000},
		{"Content-Type: text/plain; charset=utf-16\r\n\r\n", "\xd8", "", 2000000},
		{"Content-Transfer-Encoding: quoted-printable\r\n\r\n", "= ", "", 1000000},
		{"Content-Transfer-Encoding: base64\r\n\r\n", "=", "", 2000000},
		{"\r\n", "\r", "", 4000000},
		{"\r\n", "x", "", 30000000},
		{"Content-Type: multipart/mixed; boundary=b\r\n\r\n", "--b ", "", 500000},
		{"\r\n", "begin 644 f\n", "", 500000},
		{"\r\nbegin 644 f\n", "#0V%T\n", "", 500000},
		{"\r\n", "begin 644 f\n#0V%T\n`\nend\n", "", 100000},
	};
	for (size_t i = 0; i < array_len(monsters); i++) {
		struct buf b;
		start(&b);
		buf_append_str(&b, monsters[i].before);
		repeat(&b, monsters[i].unit, monsters[i].n);
		buf_append_str(&b, monsters[i].after);
		message_free(parse_monster(&b, NULL, monsters[i].unit));
	}
}

static void test_many_addresses(void **state) {
	struct buf b;
	start(&b);
	for (int k = 0; k < 3; k++) {
		buf_append_str(&b, "To: ");
		repeat(&b, "x@y,", 15000);
		buf_append_str(&b, "\r\n");
	}
	buf_append_str(&b, "\r\n");
	struct message *m = parse_monster(&b, "too_many_addresses", __func__);
	assert_int_equal(m->to.n, MESSAGE_ADDRESSES_MAX);
	message_free(m);
	start(&b);
	buf_append_str(&b, "To: ");
	repeat(&b, "a", 1001);
	buf_append_str(&b, "@b, c@d\r\n\r\n");
	m = parse_monster(&b, NULL, __func__);
	assert_int_equal(m->to.n, 1);
	message_free(m);
}

static void test_text_cut(void **state) {
	struct buf b;
	start(&b);
	buf_append_str(&b, "Content-Type: text/plain; charset=windows-1251\r\n\r\n");
	repeat(&b, "\xcf\xf0", 1000000);
	struct message *m = parse_monster(&b, "text_cut", __func__);
	assert_int_equal(strlen(m->body_text), MESSAGE_TEXT_MAX);
	message_free(m);

	start(&b);
	buf_append_str(&b, "Content-Type: multipart/mixed; "
	                   "boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\n");
	repeat(&b, "0L/RgNC4", 300000);
	buf_append_str(&b, "\r\n--b\r\n\r\ny\r\n--b--\r\n");
	m = parse_monster(&b, "text_cut", __func__);
	assert_true(strlen(m->body_text) >= MESSAGE_TEXT_MAX - 1 && strlen(m->body_text) <= MESSAGE_TEXT_MAX);
	message_free(m);

	start(&b); /* exactly full is not cut */
	buf_append_str(&b, "\r\n");
	repeat(&b, "x", MESSAGE_TEXT_MAX);
	m = parse_monster(&b, NULL, __func__);
	assert_int_equal(strlen(m->body_text), MESSAGE_TEXT_MAX);
	assert_int_equal(m->warnings.n, 0);
	message_free(m);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_edges),        cmocka_unit_test(test_groups),
		cmocka_unit_test(test_many_parts),   cmocka_unit_test(test_many_parameters),
		cmocka_unit_test(test_many_headers), cmocka_unit_test(test_nesting),
		cmocka_unit_test(test_repeated),     cmocka_unit_test(test_many_addresses),
		cmocka_unit_test(test_text_cut),
	};
	return cmocka_run_group_tests(tests, setup, NULL);
}
