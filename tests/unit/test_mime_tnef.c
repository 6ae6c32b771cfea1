/* mime_tnef and what mime makes of it: files in a winmail.dat, in streams made here (MS-OXTNEF 2.1), whole, cut and
 * damaged. */
#include "mime_check.h"

#include "smtpd/mime_tnef.h"

static void put_int(struct buf *b, uint32_t v, unsigned octets) {
	for (; octets > 0; octets--, v >>= 8)
		buf_append_char(b, (char)v);
}

static void attribute(struct buf *b, unsigned level, uint32_t id, const void *p, size_t n) {
	unsigned sum = 0;
	put_int(b, level, 1);
	put_int(b, id, 4);
	put_int(b, (uint32_t)n, 4);
	buf_append(b, p, n);
	for (size_t i = 0; i < n; i++)
		sum += ((const uint8_t *)p)[i];
	put_int(b, sum, 2);
}

static void counted(struct buf *b, const void *p, size_t n) {
	put_int(b, (uint32_t)n, 4);
	buf_append(b, p, n);
	buf_append(b, "\0\0\0", -n & 3);
}

static void string_property(struct buf *b, unsigned type, unsigned id, const void *p, size_t n) {
	put_int(b, type, 2);
	put_int(b, id, 2);
	put_int(b, 1, 4);
	counted(b, p, n);
}

static void stream_begin(struct buf *b) {
	buf_init(b, 1 << 20);
	put_int(b, 0x223e9f78, 4);
	put_int(b, 0x1234, 2);
	attribute(b, 1, 0x00089006, "\0\0\1\0", 4);           /* attTnefVersion */
	attribute(b, 1, 0x00069007, "\xe3\4\0\0\0\0\0\0", 8); /* attOemCodepage: 1251 */
}

/* The first has an 8-bit title; the second everything a property can say, among all kinds of others; the third is a message, with its
 * data in a property; the fourth is only opened. */
static void make_stream(struct buf *b) {
	struct buf props;
	stream_begin(b);
	attribute(b, 2, 0x00069002, "\1\0\0\0\0\0\0\0\0\0\0\0\0\0", 14);
	attribute(b, 2, 0x00018010, "\xcf\xf0\xe8.txt\0", 8);
	attribute(b, 2, 0x0006800f, "first", 5);
	attribute(b, 2, 0x00069002, "", 0);
	attribute(b, 2, 0x00018010, "SHORT~1.PNG\0", 12);
	attribute(b, 2, 0x0006800f, "second\0x", 8);
	buf_init(&props, 10000);
	put_int(&props, 9, 4);
	put_int(&props, 0x0003, 2), put_int(&props, 0x3705, 2), put_int(&props, 1, 4);
	put_int(&props, 0x000b, 2), put_int(&props, 0x0e1b, 2), put_int(&props, 1, 4);
	put_int(&props, 0x0040, 2), put_int(&props, 0x3007, 2), put_int(&props, 1, 4), put_int(&props, 2, 4);
	put_int(&props, 0x1003, 2), put_int(&props, 0x8001, 2),
		buf_append(&props, "0123456789abcdef", 16); /* named by number */
	put_int(&props, 0, 4), put_int(&props, 7, 4), put_int(&props, 2, 4), put_int(&props, 1, 4), put_int(&props, 2, 4);
	put_int(&props, 0x0102, 2), put_int(&props, 0x8002, 2),
		buf_append(&props, "0123456789abcdef", 16); /* by a string */
	put_int(&props, 1, 4), counted(&props, "n\0a\0\0\0", 6), put_int(&props, 1, 4), counted(&props, "xyz", 3);
	string_property(&props, 0x001e, 0x3704, "SHORT~1.PNG\0", 12);
	string_property(&props, 0x001f, 0x3707, "\x2f\x04 \0l\0o\0n\0g\0.\0p\0n\0g\0\0\0", 22);
	string_property(&props, 0x001e, 0x370e, "Image/PNG\0", 10);
	string_property(&props, 0x001e, 0x3712, "i@x\0", 4);
	attribute(b, 2, 0x00069005, props.data, props.len);
	buf_fini(&props);
	buf_init(&props, 10000);
	put_int(&props, 3, 4);
	string_property(&props, 0x001e, 0x3001, "A message\0", 10);
	string_property(&props, 0x000d, 0x3701, "0123456789abcdefobject", 22);
	put_int(&props, 0x0003, 2), put_int(&props, 0x3705, 2), put_int(&props, 5, 4);
	attribute(b, 2, 0x00069002, "", 0);
	attribute(b, 2, 0x0006800f, "embedded message", 16);
	attribute(b, 2, 0x00069005, props.data, props.len);
	buf_fini(&props);
	attribute(b, 2, 0x00069002, "", 0);
	attribute(b, 2, 0x00018010, "never.txt\0", 10);
}

static void test_reader(void **state) {
	struct buf b;
	struct mime_tnef t;
	struct mime_tnef_file f;
	make_stream(&b);
	mime_tnef_begin(&t, buf_slice(&b));
	assert_true(mime_tnef_next(&t, &f));
	assert_int_equal(t.codepage, 1251);
	assert_true(slice_eq(f.data, slice_str("first")) && slice_eq(f.name.s, slice_str("\xcf\xf0\xe8.txt")));
	assert_int_equal(f.type.s.n + f.content_id.s.n, 0);
	assert_true(mime_tnef_next(&t, &f));
	assert_true(slice_eq(f.data, slice_of("second\0x", 8)) && f.name.utf16 && f.name.s.n == 20);
	assert_true(slice_eq(f.type.s, slice_str("Image/PNG")) && slice_eq(f.content_id.s, slice_str("i@x")));
	assert_true(mime_tnef_next(&t, &f));
	assert_true(slice_eq(f.data, slice_str("object")) && slice_eq(f.name.s, slice_str("A message")));
	assert_false(mime_tnef_next(&t, &f));
	assert_false(mime_tnef_next(&t, &f));
	assert_false(t.bad);
	buf_fini(&b);
}

/* An object beside the file's own data is how it looks, not what it is; and attributes may come without their types. */
static void test_data_first(void **state) {
	struct buf b, props;
	struct mime_tnef t;
	struct mime_tnef_file f;
	stream_begin(&b);
	attribute(&b, 2, 0x9002, "", 0);
	attribute(&b, 2, 0x800f, "own", 3);
	buf_init(&props, 10000);
	put_int(&props, 1, 4);
	string_property(&props, 0x000d, 0x3701, "0123456789abcdefobject", 22);
	attribute(&b, 2, 0x9005, props.data, props.len);
	mime_tnef_begin(&t, buf_slice(&b));
	assert_true(mime_tnef_next(&t, &f));
	assert_true(slice_eq(f.data, slice_str("own")));
	assert_false(mime_tnef_next(&t, &f) || t.bad);
	buf_fini(&props);
	buf_fini(&b);
}

/* What is cut or damaged gives fewer files, never a step outside; memory is of exactly the size. */
static void test_damage(void **state) {
	struct buf b;
	make_stream(&b);
	for (size_t n = 0; n < b.len; n++)
		for (unsigned damage = 0; damage < 3; damage++) {
			char *copy = xmemdup(b.data, damage ? b.len : n);
			size_t len = damage ? b.len : n;
			if (damage)
				copy[n] = damage == 1 ? '\xff' : (char)(copy[n] ^ 1);
			struct mime_tnef t;
			struct mime_tnef_file f;
			unsigned files = 0;
			mime_tnef_begin(&t, slice_of(copy, len));
			while (mime_tnef_next(&t, &f)) {
				assert_true(f.data.n == 0 || (f.data.p >= copy && f.data.p + f.data.n <= copy + len));
				files++;
			}
			assert_true(files <= 4);
			free(copy);
		}
	buf_fini(&b);
}

static void test_message(void **state) {
	static const char *const types[] = {"application/ms-tnef; name=winmail.dat",
	                                    "application/octet-stream; name=WINMAIL.DAT"};
	for (size_t i = 0; i < 2 * array_len(types); i++) {
		struct buf b, stream;
		bool coded = i % 2;
		make_stream(&stream);
		buf_init(&b, 1 << 20);
		buf_printf(&b,
		           "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n--b\r\nContent-Type: %s\r\n"
		           "Content-Transfer-Encoding: %s\r\n\r\n",
		           types[i / 2], coded ? "base64" : "binary");
		if (coded)
			transfer_base64_encode(&b, stream.data, stream.len);
		else
			buf_append(&b, stream.data, stream.len);
		buf_append_str(&b, "\r\n--b\r\nContent-Type: a/b; name=after\r\n\r\nx\r\n--b--\r\n");
		struct message *m = mime_parse(b.data, b.len, &MIME_LIMITS);
		char want[300];
		snprintf(want, sizeof want,
		         "%s %s %zu - | При.txt application/octet-stream 5 n | Я long.png image/png 8 n i@x | "
		         "A message application/octet-stream 6 n | after a/b 1 -",
		         i / 2 ? "WINMAIL.DAT" : "winmail.dat", i / 2 ? "application/octet-stream" : "application/ms-tnef",
		         stream.len);
		check_parts("tnef", &m->parts, want);
		check("tnef", "text", m->body_text, "text");
		assert_false(message_warned(m, "bad_tnef"));
		check_sound(m, b.data, b.len);
		message_free(m);
		buf_fini(&stream);
		buf_fini(&b);
	}
	struct message *m = mime_parse("Content-Type: application/ms-tnef\r\n\r\nnone", 41, &MIME_LIMITS);
	check_parts("no tnef", &m->parts, "attachment-1.dat application/ms-tnef 4 u");
	check_list("no tnef", "warnings", &m->warnings, "bad_tnef", " ");
	message_free(m);
}

/* Files are counted like parts. */
static void test_many(void **state) {
	struct buf b;
	buf_init(&b, 1 << 20);
	buf_append_str(&b, "Content-Type: application/ms-tnef\r\n\r\n");
	put_int(&b, 0x223e9f78, 4);
	put_int(&b, 0, 2);
	for (unsigned i = 0; i < 1001; i++) {
		attribute(&b, 2, 0x00069002, "", 0);
		attribute(&b, 2, 0x0006800f, "x", 1);
	}
	struct message *m = mime_parse(b.data, b.len, &MIME_LIMITS);
	assert_int_equal(m->parts.count, PART_TABLE_MAX);
	assert_true(message_warned(m, "too_many_parts"));
	check_sound(m, b.data, b.len);
	message_free(m);
	buf_fini(&b);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reader), cmocka_unit_test(test_data_first),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_message),
		cmocka_unit_test(test_many),
	};
	return cmocka_run_group_tests(tests, setup, NULL);
}
