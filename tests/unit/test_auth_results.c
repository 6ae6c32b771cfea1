/* The Authentication-Results field (RFC 8601): its form, and that nothing stored can end it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "apid/auth_results.h"

static void test_rows(void **state) {
	static const struct {
		const char *results, *field;
	} rows[] = {
		{"{\"spf\":{\"result\":\"pass\",\"domain\":\"a.example\",\"identity\":\"mailfrom\",\"reason\":null},\"dkim\":[{\"result\":\"fail\",\"domain\":"
		 "\"d.example\",\"selector\":\"s\",\"algorithm\":\"rsa-sha256\",\"signature\":\"Ab/+=c\",\"reason\":\"body was changed\"}],\"dmarc\":{"
		 "\"result\":\"pass\",\"domain\":\"a.example\"},\"iprev\":{\"result\":\"fail\"}}",
		 "Authentication-Results: mx.example;\r\n\tspf=pass smtp.mailfrom=a.example;\r\n\tdkim=fail reason=\"body was changed\" "
		 "header.d=d.example header.s=s header.a=rsa-sha256 header.b=\"Ab/+=c\";\r\n\tdmarc=pass header.from=a.example;\r\n\tiprev=fail\r\n"},
		{"{\"spf\":{\"result\":\"none\",\"domain\":null,\"identity\":\"helo\"},\"dkim\":[],\"dmarc\":{\"result\":\"none\",\"domain\":null}}",
		 "Authentication-Results: mx.example;\r\n\tspf=none;\r\n\tdkim=none;\r\n\tdmarc=none;\r\n\tiprev=none\r\n"},
		{"{\"spf\":{\"result\":\"fail\",\"domain\":\"x\\r\\nSubject: y\\\";(\\\\\\u0000z\",\"identity\":\"helo\"}}", NULL},
		{"{\"spf\":{\"result\":\"fail\",\"domain\":\"x\\r\\nSubject: y\\\";(\\\\\\u00e9\",\"identity\":\"helo\"}}",
		 "Authentication-Results: mx.example;\r\n\tspf=fail smtp.helo=\"x??Subject: y\\\";(\\\\??\";\r\n\tdkim=none;\r\n\tdmarc=none;\r\n\tiprev=none\r\n"},
		{"[]", "Authentication-Results: mx.example;\r\n\tspf=none;\r\n\tdkim=none;\r\n\tdmarc=none;\r\n\tiprev=none\r\n"},
		{"not JSON", NULL},
		{"", NULL},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		struct buf out;
		buf_init(&out, 10000);
		auth_results_append(&out, "mx.example", slice_str(rows[i].results));
		assert_string_equal(out.len ? out.data : "", rows[i].field ? rows[i].field : "");
		buf_fini(&out);
	}
	struct buf out;
	buf_init(&out, 10000);
	auth_results_append(&out, "two words", slice_str("{}"));
	assert_non_null(strstr(out.data, "Authentication-Results: \"two words\";"));
	buf_fini(&out);
}

int main(void) {
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
