/* apid/compose: sources of injected mails. Each is checked as its readers see it: the part table's offsets decode
 * to the file, the text decodes to the text, no line is longer than it may be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "apid/compose.h"
#include "common/sha256.h"
#include "common/text.h"
#include "common/transfer.h"

#define CEILING (4 << 20)

static const struct id MAIL = {
    {0x01, 0x89, 0x0a, 0x5d, 0xac, 0x96, 0x77, 0x4b, 0xbc, 0xce, 0xb3, 0x02, 0x09, 0x9a, 0x80, 0x57}};

static struct compose_mail mail_of(const char *subject, struct slice text, const struct compose_file *files,
                                   unsigned n) {
	return (struct compose_mail){
	    .from_name = slice_str("Анна"),
	    .from_address = "anna@example.org",
	    .to_address = "box@minutemail.cc",
	    .subject = slice_str(subject),
	    .text = text,
	    .files = files,
	    .file_count = n,
	    .id = MAIL,
	    .hostname = "mx.example",
	    .wall_us = INT64_C(1795532400000000),
	};
}

/* RFC 5322 2.1: CRLF only, at most 998 octets a line, ASCII only (we never write 8-bit). */
static void check_lines(const struct buf *source) {
	size_t column = 0;
	for (size_t i = 0; i < source->len; i++) {
		unsigned char c = (unsigned char)source->data[i];
		assert_true(c < 0x80);
		if (c == '\n')
			assert_true(i > 0 && source->data[i - 1] == '\r');
		if (c == '\r')
			assert_true(i + 1 < source->len && source->data[i + 1] == '\n');
		column = c == '\n' ? 0 : column + 1;
		assert_true(column <= 999);
	}
}

static void decode(enum transfer_encoding encoding, struct slice s, struct buf *out) {
	struct transfer t;
	transfer_init(&t, encoding);
	char *room = xmalloc(transfer_bound(&t, s.n) + 160);
	size_t n = transfer_run(&t, s.p, s.n, room);
	n += transfer_end(&t, room + n);
	buf_append(out, room, n);
	free(room);
}

static void check_part(const struct buf *source, const struct part *part, struct slice data) {
	struct buf out;
	uint8_t digest[SHA256_LEN];
	buf_init(&out, CEILING);
	assert_true(part->offset + part->length <= source->len);
	decode(part->encoding, slice_of(source->data + part->offset, part->length), &out);
	assert_int_equal(out.len, data.n);
	assert_int_equal(part->size, data.n);
	assert_memory_equal(out.len ? out.data : "", data.p, data.n);
	sha256_of(data.p, data.n, digest);
	assert_memory_equal(digest, part->sha256, sizeof digest);
	/* The octets end where the next delimiter's CRLF begins (RFC 2046 5.1.1). */
	assert_memory_equal(source->data + part->offset + part->length, "\r\n--=_", 6);
	buf_fini(&out);
}

/* The value of a field, decoded. */
static void header(const struct buf *source, const char *name, struct buf *out) {
	const char *end = memmem(source->data, source->len, "\r\n\r\n", 4);
	struct slice block = slice_of(source->data, (size_t)(end + 4 - source->data));
	struct text_field field;
	buf_reset(out);
	while (text_next_field(&block, &field) > 0) {
		if (slice_eq(field.name, slice_str(name))) {
			text_append_header(out, field.value.p, field.value.n, NULL);
			return;
		}
	}
	fail_msg("no field %s", name);
}

static void test_subjects(void **state) {
	static const char *const rows[] = {
	    "Hello",
	    "",
	    "Привет, мир! Это довольно длинная тема, которая не помещается в одно закодированное слово",
	    "=?UTF-8?Q?looks_encoded?=",
	    "two  blanks  inside",
	    "an ASCII subject that is so long that it would not fit on one line of seventy-eight characters, so what",
	    "\xf0\x9f\x93\xa7\xf0\x9f\x93\xa7\xf0\x9f\x93\xa7\xf0\x9f\x93\xa7\xf0\x9f\x93\xa7\xf0\x9f\x93\xa7\xf0\x9f\x93"
	    "\xa7"
	    "\xf0\x9f\x93\xa7\xf0\x9f\x93\xa7\xf0\x9f\x93\xa7\xf0\x9f\x93\xa7\xf0\x9f\x93\xa7",
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		struct buf source, value;
		struct part_table parts = {0};
		buf_init(&source, CEILING);
		buf_init(&value, 4096);
		struct compose_mail m = mail_of(rows[i], slice_str("text"), NULL, 0);
		assert_int_equal(compose_source(&m, &source, &parts), 0);
		check_lines(&source);
		header(&source, "Subject", &value);
		assert_string_equal(value.data ? value.data : "", rows[i]);
		header(&source, "From", &value);
		assert_string_equal(value.data, "Анна <anna@example.org>");
		header(&source, "To", &value);
		assert_string_equal(value.data, "<box@minutemail.cc>");
		header(&source, "Message-ID", &value);
		assert_string_equal(value.data, "<01890a5d-ac96-774b-bcce-b302099a8057@mx.example>");
		assert_int_equal(parts.count, 0);
		buf_fini(&source);
		buf_fini(&value);
	}
}

static void test_encoded_words_are_short(void **state) {
	struct buf source;
	struct part_table parts;
	buf_init(&source, CEILING);
	struct compose_mail m =
	    mail_of("Ђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђђ", slice_str(""), NULL, 0);
	assert_int_equal(compose_source(&m, &source, &parts), 0);
	/* RFC 2047 2: a line with an encoded word has at most 76 characters. */
	for (const char *p = source.data, *end; (end = strstr(p, "\r\n")); p = end + 2)
		if (memmem(p, (size_t)(end - p), "=?", 2))
			assert_true(end - p <= 76);
	buf_fini(&source);
}

static void test_texts(void **state) {
	static char long_line[3000];
	memset(long_line, 'x', sizeof long_line - 1);
	const struct {
		const char *name, *text, *decoded, *encoding;
	} rows[] = {
	    {"ASCII", "hello\r\n", "hello\r\n", "7bit"},
	    {"no end of line", "hello", "hello", "7bit"},
	    {"LF and CR become CRLF", "a\nb\rc\r\nd", "a\r\nb\r\nc\r\nd", "7bit"},
	    {"empty lines", "\n\na\n\n", "\r\n\r\na\r\n\r\n", "7bit"},
	    {"a few letters beyond ASCII", "Grüße aus Köln und so weiter und so fort = gut \n x\t\n",
	     "Grüße aus Köln und so weiter und so fort = gut \r\n x\t\r\n", "quoted-printable"},
	    {"mostly beyond ASCII", "Привет\nмир", "Привет\nмир", "base64"},
	    {"control characters",
	     "a\x01"
	     "b",
	     "a\x01"
	     "b",
	     "quoted-printable"},
	    {"a line too long", long_line, long_line, "quoted-printable"},
	    {"nothing", "", "", "7bit"},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		struct buf source, value, text;
		struct part_table parts;
		buf_init(&source, CEILING);
		buf_init(&value, 4096);
		buf_init(&text, CEILING);
		struct compose_mail m = mail_of("s", slice_str(rows[i].text), NULL, 0);
		assert_int_equal(compose_source(&m, &source, &parts), 0);
		check_lines(&source);
		header(&source, "Content-Transfer-Encoding", &value);
		if (strcmp(value.data, rows[i].encoding) != 0)
			fail_msg("%s: encoding %s", rows[i].name, value.data);
		const char *body = strstr(source.data, "\r\n\r\n") + 4;
		decode(transfer_parse(value.data, value.len, &(bool){false}),
		       slice_of(body, source.len - (size_t)(body - source.data)), &text);
		if (text.len != strlen(rows[i].decoded) || memcmp(text.data ? text.data : "", rows[i].decoded, text.len) != 0)
			fail_msg("%s: decodes to %zu octets: %s", rows[i].name, text.len, text.data);
		if (strcmp(rows[i].encoding, "quoted-printable") == 0) /* RFC 2045 6.7 (5) */
			for (const char *p = body, *end; (end = strstr(p, "\r\n")); p = end + 2)
				assert_true(end - p <= 76);
		buf_fini(&source);
		buf_fini(&value);
		buf_fini(&text);
	}
}

static void test_names(void **state) {
	static const struct {
		const char *given, *name, *raw;
		bool unnamed;
	} rows[] = {
	    {"report.pdf", "report.pdf", NULL, false},
	    {"Отчёт за июнь.pdf", "Отчёт за июнь.pdf", NULL, false},
	    {"C:\\Users\\me\\cv.doc", "cv.doc", "C:\\Users\\me\\cv.doc", false},
	    {"../../etc/passwd", "passwd", "../../etc/passwd", false},
	    {"..hidden", "hidden", "..hidden", false},
	    {"dots.. ", "dots", "dots.. ", false},
	    {"a:b*c?.txt", "a_b_c_.txt", "a:b*c?.txt", false},
	    {"fdp.\xe2\x80\xae"
	     "exe",
	     "fdp.exe",
	     "fdp.\xe2\x80\xae"
	     "exe",
	     false},
	    {"line\r\nbreak", "line  break", NULL, false},
	    {"", "attachment-1.bin", NULL, true},
	    {"///", "attachment-1.bin", NULL, true},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		struct buf source;
		struct part_table parts;
		const struct compose_file file = {.name = slice_str(rows[i].given), .data = slice_str("x")};
		buf_init(&source, CEILING);
		struct compose_mail m = mail_of("s", slice_str("t"), &file, 1);
		assert_int_equal(compose_source(&m, &source, &parts), 0);
		check_lines(&source);
		assert_string_equal(parts.parts[0].name, rows[i].name);
		assert_int_equal(!!(parts.parts[0].flags & PART_UNNAMED), rows[i].unnamed);
		if (rows[i].raw)
			assert_string_equal(parts.parts[0].raw_name, rows[i].raw);
		else
			assert_null(parts.parts[0].raw_name);
		part_table_fini(&parts);
		buf_fini(&source);
	}
}

static void test_long_name_is_cut_between_characters(void **state) {
	char given[601], *p = given;
	struct buf source;
	struct part_table parts;
	for (int i = 0; i < 200; i++, p += 3)
		memcpy(p, "\xe2\x82\xac", 3);
	*p = '\0';
	const struct compose_file file = {.name = slice_of(given, 600), .data = slice_str("x")};
	buf_init(&source, CEILING);
	struct compose_mail m = mail_of("s", slice_str("t"), &file, 1);
	assert_int_equal(compose_source(&m, &source, &parts), 0);
	check_lines(&source);
	assert_int_equal(strlen(parts.parts[0].name), 255);
	assert_true(text_utf8_valid(parts.parts[0].name, 255));
	part_table_fini(&parts);
	buf_fini(&source);
}

static void test_types(void **state) {
	static const struct {
		const char *given, *type;
	} rows[] = {
	    {"image/png", "image/png"},
	    {"Text/HTML; charset=utf-8", "text/html"},
	    {"application/vnd.ms-excel.sheet.macroEnabled.12", "application/vnd.ms-excel.sheet.macroenabled.12"},
	    {"", "application/octet-stream"},
	    {"nonsense", "application/octet-stream"},
	    {"a/", "application/octet-stream"},
	    {"/b", "application/octet-stream"},
	    {"a/b/c", "application/octet-stream"},
	    {"a/b\r\nX: y", "application/octet-stream"},
	    {"multipart/mixed", "application/octet-stream"},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		struct buf source;
		struct part_table parts;
		const struct compose_file file = {
		    .name = slice_str("f"), .type = slice_str(rows[i].given), .data = slice_str("x")};
		buf_init(&source, CEILING);
		struct compose_mail m = mail_of("s", slice_str("t"), &file, 1);
		assert_int_equal(compose_source(&m, &source, &parts), 0);
		if (strcmp(parts.parts[0].type, rows[i].type) != 0)
			fail_msg("%s: %s", rows[i].given, parts.parts[0].type);
		part_table_fini(&parts);
		buf_fini(&source);
	}
}

static struct slice noise(size_t n) {
	static char data[300000];
	uint32_t x = (uint32_t)n;
	for (size_t i = 0; i < n; i++) {
		x = x * 1664525 + 1013904223;
		data[i] = (char)(x >> 24);
	}
	return slice_of(data, n);
}

static void test_files_of_each_size(void **state) {
	static const size_t sizes[] = {0, 1, 2, 3, 56, 57, 58, 113, 114, 115, 1000, 300000};
	for (size_t i = 0; i < array_len(sizes); i++) {
		struct buf source;
		struct part_table parts;
		const struct compose_file files[] = {
		    {.name = slice_str("first"), .data = slice_str("first file")},
		    {.name = slice_str("second"), .type = slice_str("image/png"), .data = noise(sizes[i])},
		    {.name = slice_str("third"), .data = slice_str("third file")},
		};
		buf_init(&source, CEILING);
		struct compose_mail m = mail_of("s", slice_str("text"), files, array_len(files));
		assert_int_equal(compose_source(&m, &source, &parts), 0);
		check_lines(&source);
		assert_int_equal(parts.count, 3);
		for (unsigned k = 0; k < 3; k++) {
			assert_int_equal(parts.parts[k].number, k + 1);
			check_part(&source, &parts.parts[k], files[k].data);
		}
		part_table_fini(&parts);
		buf_fini(&source);
	}
}

static void test_ceiling(void **state) {
	const struct compose_file file = {.name = slice_str("f"), .data = noise(10000)};
	struct compose_mail m = mail_of("s", slice_str("text"), &file, 1);
	struct buf source;
	struct part_table parts;
	buf_init(&source, 10000);
	assert_int_equal(compose_source(&m, &source, &parts), -ENOSPC);
	buf_fini(&source);
}

/* Appends twice, to a mail with `files` files; earlier parts must decode as before, later chunks alone may change. */
static void append_to(unsigned files) {
	const struct compose_file given = {.name = slice_str("given.txt"), .data = slice_str("given")};
	const struct compose_file added[] = {
	    {.name = slice_str("added.bin"), .data = noise(5000)},
	    {.name = slice_str("ещё.txt"), .type = slice_str("text/plain"), .data = slice_str("another")},
	};
	struct buf source, before;
	struct part_table parts;
	size_t changed = 0;
	buf_init(&source, CEILING);
	struct compose_mail m = mail_of("s", slice_str("Grüße aus einem langen Text\n"), &given, files);
	assert_int_equal(compose_source(&m, &source, &parts), 0);
	for (unsigned k = 0; k < 2; k++) {
		buf_init(&before, CEILING);
		buf_append(&before, source.data, source.len);
		assert_int_equal(compose_append(&source, &parts, &added[k], &MAIL, &changed), 0);
		check_lines(&source);
		assert_int_equal(parts.count, files + k + 1);
		assert_int_equal(parts.parts[files + k].number, files + k + 1);
		assert_true(changed > 0 && changed <= before.len);
		assert_memory_equal(source.data, before.data, changed);
		buf_fini(&before);
	}
	if (files)
		check_part(&source, &parts.parts[0], given.data);
	check_part(&source, &parts.parts[files], added[0].data);
	check_part(&source, &parts.parts[files + 1], added[1].data);
	/* One header, one way to close, the text still the first part. */
	const char *end = "\r\n--=_01890a5d-ac96-774b-bcce-b302099a8057--\r\n";
	assert_string_equal(source.data + source.len - strlen(end), end);
	assert_ptr_equal(strstr(source.data, end), source.data + source.len - strlen(end));
	assert_non_null(strstr(
	    source.data, "\r\n\r\n--=_01890a5d-ac96-774b-bcce-b302099a8057\r\nContent-Type: text/plain; charset=utf-8\r\n"
	                 "Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe aus einem langen Text\r\n"));
	part_table_fini(&parts);
	buf_fini(&source);
}

static void test_append(void **state) {
	append_to(0);
	append_to(1);
}

static void test_append_refuses(void **state) {
	const struct compose_file file = {.name = slice_str("f"), .data = noise(3000)};
	static const struct {
		const char *name, *source;
	} rows[] = {
	    {"nothing", ""},
	    {"no header end", "From: x\r\n"},
	    {"no type", "From: x\r\n\r\ntext"},
	    {"another's multipart", "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nt\r\n--x--\r\n"},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		struct buf source;
		struct part_table parts = {0};
		size_t changed;
		buf_init(&source, CEILING);
		buf_append_str(&source, rows[i].source);
		if (compose_append(&source, &parts, &file, &MAIL, &changed) != -EBADMSG)
			fail_msg("%s: taken", rows[i].name);
		assert_int_equal(parts.count, 0);
		buf_fini(&source);
	}
}

static void test_append_bounds(void **state) {
	const struct compose_file file = {.name = slice_str("f"), .data = noise(3000)};
	struct buf source;
	struct part_table parts;
	size_t changed;
	buf_init(&source, 2000);
	struct compose_mail m = mail_of("s", slice_str("text"), NULL, 0);
	assert_int_equal(compose_source(&m, &source, &parts), 0);
	assert_int_equal(compose_append(&source, &parts, &file, &MAIL, &changed), -ENOSPC);
	assert_int_equal(parts.count, 0);
	buf_fini(&source);

	struct part last = {.number = PART_TABLE_MAX};
	struct part_table full = {.parts = &last, .count = 1};
	buf_init(&source, CEILING);
	assert_int_equal(compose_append(&source, &full, &file, &MAIL, &changed), -E2BIG);
	buf_fini(&source);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_subjects),
	    cmocka_unit_test(test_encoded_words_are_short),
	    cmocka_unit_test(test_texts),
	    cmocka_unit_test(test_names),
	    cmocka_unit_test(test_long_name_is_cut_between_characters),
	    cmocka_unit_test(test_types),
	    cmocka_unit_test(test_files_of_each_size),
	    cmocka_unit_test(test_ceiling),
	    cmocka_unit_test(test_append),
	    cmocka_unit_test(test_append_refuses),
	    cmocka_unit_test(test_append_bounds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
