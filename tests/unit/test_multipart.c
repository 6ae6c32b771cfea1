/* multipart: form data as clients write it, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "apid/multipart.h"

#define TYPE "multipart/form-data; boundary=xx"
#define CD "Content-Disposition: form-data; "

static const struct {
	const char *name, *type, *body, *says; /* says NULL: taken */
	unsigned count;
	const char *first, *data;
} rows[] = {
    {"one field", TYPE, "--xx\r\n" CD "name=\"a\"\r\n\r\nhello\r\n--xx--\r\n", NULL, 1, "a", "hello"},
    {"no final CRLF", TYPE, "--xx\r\n" CD "name=\"a\"\r\n\r\nhello\r\n--xx--", NULL, 1, "a", "hello"},
    {"epilogue", TYPE, "--xx\r\n" CD "name=\"a\"\r\n\r\nhello\r\n--xx--\r\nbye", NULL, 1, "a", "hello"},
    {"empty data", TYPE, "--xx\r\n" CD "name=\"a\"\r\n\r\n\r\n--xx--\r\n", NULL, 1, "a", ""},
    {"CRLF and dashes in the data", TYPE, "--xx\r\n" CD "name=a\r\n\r\n\r\n--x\r\n-\r\n\r\n--xx--", NULL, 1, "a",
     "\r\n--x\r\n-\r\n"},
    {"quoted boundary, other parameters", "Multipart/Form-Data; charset=utf-8; Boundary=\"xx\"",
     "--xx\r\n" CD "name=\"a\"\r\n\r\nh\r\n--xx--", NULL, 1, "a", "h"},
    {"blanks after the boundary", TYPE, "--xx \t\r\n" CD "name=\"a\"\r\n\r\nh\r\n--xx--", NULL, 1, "a", "h"},
    {"other headers, any case", TYPE, "--xx\r\nX-Y: z\r\ncontent-disposition: Form-Data; NAME=\"a\"\r\n\r\nh\r\n--xx--",
     NULL, 1, "a", "h"},
    {"two parts", TYPE, "--xx\r\n" CD "name=\"a\"\r\n\r\n1\r\n--xx\r\n" CD "name=\"b\"\r\n\r\n2\r\n--xx--", NULL, 2,
     "a", "1"},
    {"no parts", TYPE, "--xx--\r\n", NULL, 0, NULL, NULL},
    {"8bit encoding", TYPE, "--xx\r\n" CD "name=\"a\"\r\nContent-Transfer-Encoding: 8bit\r\n\r\nh\r\n--xx--", NULL, 1,
     "a", "h"},
    {"not form data", "multipart/mixed; boundary=xx", "--xx--", "must be multipart/form-data", 0, NULL, NULL},
    {"JSON", "application/json", "{}", "must be multipart/form-data", 0, NULL, NULL},
    {"no boundary", "multipart/form-data", "--xx--", "boundary is missing", 0, NULL, NULL},
    {"empty boundary", "multipart/form-data; boundary=\"\"", "----", "boundary is missing", 0, NULL, NULL},
    {"boundary of 71",
     "multipart/form-data; boundary=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "--",
     "boundary is missing", 0, NULL, NULL},
    {"boundary with a quote", "multipart/form-data; boundary=\"a\\\"b\"", "--", "boundary is missing", 0, NULL, NULL},
    {"unclosed quote", "multipart/form-data; boundary=\"xx", "--xx--", "boundary is missing", 0, NULL, NULL},
    {"empty body", TYPE, "", "does not begin", 0, NULL, NULL},
    {"preamble", TYPE, "hello\r\n--xx--", "does not begin", 0, NULL, NULL},
    {"other boundary", TYPE, "--yy\r\n\r\n--yy--", "does not begin", 0, NULL, NULL},
    {"boundary with a tail", TYPE, "--xxy\r\n" CD "name=\"a\"\r\n\r\nh\r\n--xx--", "followed by", 0, NULL, NULL},
    {"inner boundary with a tail", TYPE, "--xx\r\n" CD "name=\"a\"\r\n\r\nh\r\n--xxy\r\n--xx--", "followed by", 0, NULL,
     NULL},
    {"never ends", TYPE, "--xx\r\n" CD "name=\"a\"\r\n\r\nhello\r\n", "ends before", 0, NULL, NULL},
    {"ends in the boundary", TYPE, "--xx\r\n" CD "name=\"a\"\r\n\r\nhello\r\n--xx", "followed by", 0, NULL, NULL},
    {"bare LFs", TYPE, "--xx\n" CD "name=\"a\"\n\nhello\n--xx--\n", "followed by", 0, NULL, NULL},
    {"no header, no body", TYPE, "--xx\r\n--xx--", "header does not end", 0, NULL, NULL},
    {"header does not end", TYPE, "--xx\r\n" CD "name=\"a\"\r\n--xx--", "header does not end", 0, NULL, NULL},
    {"no disposition", TYPE, "--xx\r\nX: y\r\n\r\nh\r\n--xx--", "no name", 0, NULL, NULL},
    {"no name", TYPE, "--xx\r\n" CD "filename=\"a\"\r\n\r\nh\r\n--xx--", "no name", 0, NULL, NULL},
    {"empty name", TYPE, "--xx\r\n" CD "name=\"\"\r\n\r\nh\r\n--xx--", "no name", 0, NULL, NULL},
    {"another disposition", TYPE, "--xx\r\nContent-Disposition: attachment; name=\"a\"\r\n\r\nh\r\n--xx--", "malformed",
     0, NULL, NULL},
    {"unclosed name", TYPE, "--xx\r\n" CD "name=\"a\r\n\r\nh\r\n--xx--", "malformed", 0, NULL, NULL},
    {"no colon", TYPE, "--xx\r\nabc\r\n\r\nh\r\n--xx--", "no field", 0, NULL, NULL},
    {"folded header", TYPE, "--xx\r\nContent-Disposition: form-data;\r\n name=\"a\"\r\n\r\nh\r\n--xx--", "no field", 0,
     NULL, NULL},
    {"base64", TYPE, "--xx\r\n" CD "name=\"a\"\r\nContent-Transfer-Encoding: base64\r\n\r\nh\r\n--xx--",
     "Transfer-Encoding", 0, NULL, NULL},
    {"too many parts", TYPE,
     "--xx\r\n" CD "name=a\r\n\r\n1\r\n--xx\r\n" CD "name=a\r\n\r\n2\r\n--xx\r\n" CD "name=a\r\n\r\n2\r\n--xx\r\n" CD
     "name=a\r\n\r\n2\r\n--xx--",
     "too many", 0, NULL, NULL},
};

static void test_rows(void **state) {
	for (size_t i = 0; i < array_len(rows); i++) {
		struct multipart_part parts[3];
		unsigned count = 99;
		const char *error = "";
		size_t n = strlen(rows[i].body);
		char *body = xmemdup(n ? rows[i].body : "x", n ? n : 1);
		int r = multipart_parse(slice_str(rows[i].type), slice_of(body, n), parts, 3, &count, &error);
		if (rows[i].says) {
			if (r == 0 || !strstr(error, rows[i].says))
				fail_msg("%s: %d %s", rows[i].name, r, error ? error : "");
		} else {
			if (r < 0)
				fail_msg("%s: %s", rows[i].name, error);
			assert_int_equal(count, rows[i].count);
			if (count) {
				assert_true(multipart_name_is(&parts[0], rows[i].first));
				if (!slice_eq(parts[0].data, slice_str(rows[i].data)))
					fail_msg("%s: data %.*s", rows[i].name, (int)parts[0].data.n, parts[0].data.p);
			}
		}
		free(body);
	}
}

/* Cut at any octet it is an error, never a crash. */
static void test_cut(void **state) {
	static const char body[] = "--xx\r\n" CD "name=\"a\"; filename=\"f\"\r\nContent-Type: a/b\r\n\r\n1\r\n--xx\r\n" CD
	                           "name=\"b\"\r\n\r\n2\r\n--xx--";
	for (size_t n = 0; n < sizeof(body) - 1; n++) {
		struct multipart_part parts[3];
		unsigned count;
		const char *error;
		char *copy = xmemdup(body, n + 1);
		assert_int_equal(multipart_parse(slice_str(TYPE), slice_of(copy, n), parts, 3, &count, &error), -EINVAL);
		assert_non_null(error);
		free(copy);
	}
}

static void test_long_header(void **state) {
	struct buf b;
	struct multipart_part parts[3];
	unsigned count;
	const char *error;
	buf_init(&b, 1 << 20);
	buf_append_str(&b, "--xx\r\n" CD "name=\"a\"\r\n");
	while (b.len < MULTIPART_HEADER_MAX + 100)
		buf_append_str(&b, "X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n");
	buf_append_str(&b, "\r\nh\r\n--xx--");
	assert_int_equal(multipart_parse(slice_str(TYPE), buf_slice(&b), parts, 3, &count, &error), -EINVAL);
	assert_non_null(strstr(error, "too long"));
	buf_fini(&b);
}

static const struct {
	const char *params, *filename;
	bool is_file;
} files[] = {
    {"", "", false},
    {"; filename=\"a.txt\"", "a.txt", true},
    {"; filename=a.txt", "a.txt", true},
    {"; filename=\"\"", "", true},
    {"; filename=\"a;b.txt\"", "a;b.txt", true},
    {"; filename=\"a\\\"b.txt\"", "a\"b.txt", true},
    {"; filename=\"a%22b%0D%0Ac.txt\"", "a\"b  c.txt", true},
    {"; filename=\"100%25.txt\"", "100%25.txt", true},
    {"; filename=\"\xd0\xbf\xd0\xb8.txt\"", "\xd0\xbf\xd0\xb8.txt", true},
    {"; filename=\"C:\\dir\\a.txt\"", "a.txt", true},
    {"; filename=\"../../etc/passwd\"", "passwd", true},
    {"; filename=\"x.txt\"; filename*=utf-8''%d0%bf.txt", "\xd0\xbf.txt", true},
    {"; filename*=UTF-8'en'a%20b.txt", "a b.txt", true},
    {"; filename*=utf-8''..%2f..%2fx.txt", "x.txt", true},
    {"; filename*=broken; filename=\"y.txt\"", "y.txt", true},
    {"; filename*=utf-8''%ff.txt", "\xef\xbf\xbd.txt", true},
};

static void test_files(void **state) {
	for (size_t i = 0; i < array_len(files); i++) {
		struct multipart_part parts[3];
		unsigned count;
		const char *error;
		struct buf body, name;
		buf_init(&body, 4096);
		buf_init(&name, 4096);
		buf_printf(&body, "--xx\r\n" CD "name=\"a\"%s\r\nContent-Type: image/png\r\n\r\nh\r\n--xx--", files[i].params);
		assert_int_equal(multipart_parse(slice_str(TYPE), buf_slice(&body), parts, 3, &count, &error), 0);
		assert_int_equal(parts[0].is_file, files[i].is_file);
		assert_true(slice_eq(parts[0].content_type, slice_str("image/png")));
		assert_int_equal(multipart_filename(&parts[0], &name), 0);
		if (!slice_eq(buf_slice(&name), slice_str(files[i].filename)))
			fail_msg("%s: %.*s", files[i].params, (int)name.len, name.data);
		buf_fini(&name);
		buf_fini(&body);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_rows),
	    cmocka_unit_test(test_cut),
	    cmocka_unit_test(test_long_header),
	    cmocka_unit_test(test_files),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
