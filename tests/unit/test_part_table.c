/* part_table: octets there and back, a decoder that trusts nothing, ids of attachments, and the names files get. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/id.h"
#include "common/part_table.h"

static struct part parts[] = {
	{.number = 1,
     .flags = PART_INLINE,
     .encoding = TRANSFER_BASE64,
     .offset = 100,
     .length = 400,
     .size = 300,
     .sha256 = {1, 2, 255},
     .name = (char *)"a.png",
     .raw_name = NULL,
     .type = (char *)"image/png",
     .content_id = (char *)"x@y"},
	{.number = 3,
     .flags = PART_UNNAMED | PART_DELETED,
     .encoding = TRANSFER_UU,
     .offset = UINT64_C(1) << 40,
     .length = 5,
     .name = (char *)"attachment-3.bin",
     .raw_name = (char *)"../Отчёт",
     .type = (char *)"a/b"},
	{.number = 4,
     .flags = PART_INNER,
     .encoding = TRANSFER_BASE64,
     .offset = 100,
     .length = 400,
     .skip = 290,
     .size = 10,
     .name = (char *)"inner.txt",
     .type = (char *)"a/b"},
};

static void encode(struct buf *out) {
	const struct part_table t = {parts, array_len(parts)};
	buf_init(out, 10000);
	assert_int_equal(part_table_encode(&t, out), 0);
}

static void test_round_trip(void **state) {
	struct buf b, again;
	struct part_table t;
	encode(&b);
	assert_int_equal(b.data[0], 1);
	assert_int_equal(part_table_decode(b.data, b.len, &t), 0);
	assert_int_equal(t.count, 3);
	for (unsigned i = 0; i < t.count; i++) {
		assert_int_equal(t.parts[i].number, parts[i].number);
		assert_int_equal(t.parts[i].flags, parts[i].flags);
		assert_int_equal(t.parts[i].encoding, parts[i].encoding);
		assert_int_equal(t.parts[i].offset, parts[i].offset);
		assert_int_equal(t.parts[i].length, parts[i].length);
		assert_int_equal(t.parts[i].skip, parts[i].skip);
		assert_int_equal(t.parts[i].size, parts[i].size);
		assert_memory_equal(t.parts[i].sha256, parts[i].sha256, 32);
		assert_string_equal(t.parts[i].name, parts[i].name);
		assert_string_equal(t.parts[i].type, parts[i].type);
	}
	assert_null(t.parts[0].raw_name);
	assert_string_equal(t.parts[0].content_id, "x@y");
	assert_string_equal(t.parts[1].raw_name, "../Отчёт");
	assert_null(t.parts[1].content_id);
	buf_init(&again, 10000);
	assert_int_equal(part_table_encode(&t, &again), 0);
	assert_true(slice_eq(buf_slice(&b), buf_slice(&again)));
	part_table_fini(&t);
	buf_fini(&b);
	buf_fini(&again);

	struct part_table none = {0};
	buf_init(&b, 10);
	assert_int_equal(part_table_encode(&none, &b), 0);
	assert_int_equal(b.len, 1);
	assert_int_equal(part_table_decode(b.data, b.len, &t), 0);
	assert_int_equal(t.count, 0);
	buf_fini(&b);
	const struct part_table full = {parts, 2};
	buf_init(&b, 100);
	assert_int_equal(part_table_encode(&full, &b), -ENOSPC);
	buf_fini(&b);
}

/* Every truncation is refused, but where a part ends; every changed octet gives an error or a table that encodes to
 * itself. */
static void test_damage(void **state) {
	struct buf b;
	encode(&b);
	unsigned whole = 0;
	for (size_t n = 0; n < b.len; n++) {
		struct part_table t = {0};
		char *copy = xmemdup(b.data, n);
		if (part_table_decode(copy, n, &t) == 0) {
			whole++;
			part_table_fini(&t);
		}
		free(copy);
	}
	assert_int_equal(whole, 3); /* no part, one, two */
	for (size_t i = 0; i < b.len; i++)
		for (unsigned v = 0; v < 256; v += 5) {
			struct part_table t;
			struct buf again;
			char *copy = xmemdup(b.data, b.len);
			copy[i] = (char)v;
			if (part_table_decode(copy, b.len, &t) == 0) {
				buf_init(&again, 10000);
				assert_int_equal(part_table_encode(&t, &again), 0);
				assert_int_equal(again.len, b.len);
				assert_memory_equal(again.data, copy, b.len);
				buf_fini(&again);
				part_table_fini(&t);
			}
			free(copy);
		}
	buf_fini(&b);
}

static void refuse(struct part p) {
	struct part_table t = {&p, 1}, got;
	struct buf b;
	buf_init(&b, 10000);
	assert_int_equal(part_table_encode(&t, &b), 0);
	assert_int_equal(part_table_decode(b.data, b.len, &got), -EBADMSG);
	buf_fini(&b);
}

static void test_refused(void **state) {
	struct part p = parts[0];
	p.number = 0;
	refuse(p);
	p.number = PART_TABLE_MAX + 1;
	refuse(p);
	p = parts[0];
	p.name = NULL;
	refuse(p);
	p.name = (char *)"";
	refuse(p);
	p.name = (char *)"\xff";
	refuse(p);
	p = parts[0];
	p.type = NULL;
	refuse(p);
	p = parts[0];
	p.offset = UINT64_MAX;
	refuse(p);

	/* numbers rise */
	struct part two[] = {parts[1], parts[0]};
	struct part_table t = {two, 2}, got;
	struct buf b;
	buf_init(&b, 10000);
	assert_int_equal(part_table_encode(&t, &b), 0);
	assert_int_equal(part_table_decode(b.data, b.len, &got), -EBADMSG);
	b.data[0] = 2;
	assert_int_equal(part_table_decode(b.data, 1, &got), -EBADMSG);
	buf_fini(&b);
}

static void test_ids(void **state) {
	struct id message, part, other;
	for (size_t i = 0; i < sizeof message.b; i++)
		message.b[i] = (uint8_t)(0xff - i);
	for (unsigned n = 1; n <= PART_TABLE_MAX; n++) {
		part_id(&message, n, &part);
		assert_int_equal(part_number(&message, &part), n);
	}
	part_id(&message, 1, &part);
	assert_int_equal(part.b[14] & 0xfc, message.b[14] & 0xfc);
	for (size_t i = 0; i < 14; i++) {
		other = part;
		other.b[i] ^= 1;
		assert_int_equal(part_number(&message, &other), 0);
	}
	other = part;
	other.b[14] ^= 4;
	assert_int_equal(part_number(&message, &other), 0);
	part_id(&message, 0, &part);
	assert_int_equal(part_number(&message, &part), 0);
}

static const struct {
	const char *raw, *safe;
} names[] = {
	{"report.pdf", "report.pdf"},
	{"Отчёт за год.pdf", "Отчёт за год.pdf"},
	{"../../etc/passwd", "passwd"},
	{"C:\\Users\\x\\a.doc", "a.doc"},
	{"/", ""},
	{"", ""},
	{"..", ""},
	{"...hidden", "hidden"},
	{".htaccess", "htaccess"},
	{"a. . ", "a"},
	{" a b ", "a b"},
	{"a:b*c?d\"e<f>g|h", "a_b_c_d_e_f_g_h"},
	{"a\r\nX-Header: y\x01.txt", "aX-Header_ y.txt"},
	/* text that runs backwards, text that hides (Unicode TR 36) */
	{"x\u202egnp.exe", "xgnp.exe"},
	{"\u2066a\u2069\u200b\u200e\ufeff.txt", "a.txt"},
	{"a\xc2\x85.txt", "a.txt"},
	{"e\u0301.txt", "\u00e9.txt"}, /* NFC */
	{"CON", "_CON"},
	{"con.txt", "_con.txt"},
	{"nul .txt", "_nul .txt"},
	{"Lpt1.log", "_Lpt1.log"},
	{"com\u00b9.txt", "_com\u00b9.txt"},
	{"LPT\u00b3", "_LPT\u00b3"},
	{"com\u00e9", "com\u00e9"},
	{"CONOUT$", "_CONOUT$"},
	{"conin$.txt", "_conin$.txt"},
	{"com", "com"},
	{"console.txt", "console.txt"},
	{"com10.txt", "com10.txt"},
};

static void test_names(void **state) {
	for (size_t i = 0; i < array_len(names); i++) {
		char *name = part_safe_name(names[i].raw, strlen(names[i].raw));
		if (strcmp(name, names[i].safe) != 0)
			fail_msg("\"%s\" gave \"%s\"", names[i].raw, name);
		char *again = part_safe_name(name, strlen(name));
		assert_string_equal(again, name);
		free(again);
		free(name);
	}
}

static void test_long_names(void **state) {
	char raw[2000];
	for (size_t i = 0; i + 2 < 1000; i += 2)
		memcpy(raw + i, "я", 2);
	strcpy(raw + 900, ".pdf");
	char *name = part_safe_name(raw, strlen(raw));
	assert_true(strlen(name) <= 255 && strlen(name) > 250);
	assert_string_equal(name + strlen(name) - 4, ".pdf");
	free(name);
	strcpy(raw + 900, ".an extension that is none");
	name = part_safe_name(raw, strlen(raw));
	assert_true(strlen(name) <= 255 && strlen(name) > 250);
	free(name);
	memset(raw, 'a', sizeof raw);
	memcpy(raw, "con.", 4);
	name = part_safe_name(raw, sizeof raw);
	assert_int_equal(strlen(name), 255);
	free(name);
	/* a device only once it is cut */
	memset(raw, ' ', sizeof raw);
	memcpy(raw, "con", 3);
	raw[sizeof raw - 1] = 'x';
	name = part_safe_name(raw, sizeof raw);
	assert_string_equal(name, "_con");
	free(name);
}

static void test_made_names(void **state) {
	static const char *const made[][2] = {
		{"image/png", "attachment-7.png"},          {"message/rfc822", "attachment-7.eml"},
		{"text/calendar", "attachment-7.ics"},      {"text/x-what", "attachment-7.txt"},
		{"application/x-what", "attachment-7.bin"},
	};
	for (size_t i = 0; i < array_len(made); i++) {
		char *name = part_made_name(7, made[i][0]);
		assert_string_equal(name, made[i][1]);
		free(name);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_damage), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_ids),        cmocka_unit_test(test_names),  cmocka_unit_test(test_long_names),
		cmocka_unit_test(test_made_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
