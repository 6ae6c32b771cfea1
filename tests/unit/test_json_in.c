/* json_in: what is refused and how the error names it; members of each type. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "apid/json_in.h"
#include "common/buf.h"

static const struct {
	const char *name, *text, *says; /* says NULL: taken */
} documents[] = {
    {"empty object", "{}", NULL},
    {"white space around", " \r\n\t{ \"a\" : 1 } \n", NULL},
    {"same name in different objects", "{\"a\":{\"a\":1},\"b\":{\"a\":1}}", NULL},
    {"brackets in strings do not nest", "{\"a\":\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"}", NULL},
    {"escaped quote in a string", "{\"a\":\"\\\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\\\"}", NULL},
    {"nothing", "", "empty"},
    {"an array", "[]", "object"},
    {"a number", "1", "must be a JSON object"},
    {"null", "null", "must be a JSON object"},
    {"two scalars", "1 2", "not valid JSON"},
    {"text", "hello", "not valid JSON"},
    {"cut", "{\"a\":1", "not valid JSON"},
    {"trailing data", "{} {}", "not valid JSON"},
    {"trailing comma", "{\"a\":1,}", "not valid JSON"},
    {"single quotes", "{'a':1}", "not valid JSON"},
    {"comment", "{/* */}", "not valid JSON"},
    {"NaN", "{\"a\":NaN}", "not valid JSON"},
    {"leading zero", "{\"a\":01}", "not valid JSON"},
    {"number too large", "{\"a\":1e999}", "not valid JSON"},
    {"integer too large", "{\"a\":99999999999999999999}", "not valid JSON"},
    {"duplicate member", "{\"alias\":1,\"b\":2,\"alias\":1}", "member \"alias\" is there twice"},
    {"duplicate by escape", "{\"a\":1,\"\\u0061\":2}", "twice"},
    {"duplicate deep inside", "{\"x\":[{\"a\":1,\"a\":1}]}", "member \"a\" is there twice"},
    {"\\u0000", "{\"a\":\"\\u0000\"}", "not valid JSON"},
    {"\\u0000 in a name", "{\"a\\u0000b\":1}", "not valid JSON"},
    {"lone surrogate", "{\"a\":\"\\ud800\"}", "not valid JSON"},
    {"invalid UTF-8", "{\"a\":\"\xff\"}", "not valid JSON"},
    {"overlong UTF-8", "{\"a\":\"\xc0\xaf\"}", "not valid JSON"},
    {"raw control octet", "{\"a\":\"\n\"}", "not valid JSON"},
    {"BOM", "\xef\xbb\xbf{}", "not valid JSON"},
    {"unfinished string", "{\"a\":\"b", "not valid JSON"},
    {"backslash last", "{\"a\":\"b\\", "not valid JSON"},
};

static void test_documents(void **state) {
	for (size_t i = 0; i < array_len(documents); i++) {
		struct json_in_error error;
		size_t n = strlen(documents[i].text);
		char *text = xmemdup(documents[i].text, n + 1);
		json_t *root = json_in_parse(text, n, false, &error);
		if (documents[i].says ? root || !strstr(error.text, documents[i].says) : !root)
			fail_msg("%s: %s", documents[i].name, root ? "taken" : error.text);
		json_in_free(root);
		free(text);
	}
}

static const struct {
	const char *text, *says;
} optional_documents[] = {
    {"", NULL},
    {"null", NULL},
    {" null\r\n", NULL},
    {"{\"a\":1}", NULL},
    {"nul", "not valid JSON"},
    {"null null", "not valid JSON"},
    {"false", "must be a JSON object"},
    {"[]", "must be a JSON object"},
};

static void test_optional(void **state) {
	for (size_t i = 0; i < array_len(optional_documents); i++) {
		const char *text = optional_documents[i].text, *says = optional_documents[i].says;
		struct json_in_error error;
		json_t *root = json_in_parse(text, strlen(text), true, &error);
		struct slice string;
		if (says ? root || !strstr(error.text, says) : !root || json_in_string(root, "b", &string, &error) != 0)
			fail_msg("'%s': %s", text, root ? "taken" : error.text);
		json_in_free(root);
	}
}

static json_t *nested(unsigned depth, struct json_in_error *error) {
	struct buf b;
	buf_init(&b, 1 << 20);
	buf_append_str(&b, "{\"a\":");
	for (unsigned i = 1; i < depth; i++)
		buf_append_char(&b, '[');
	for (unsigned i = 1; i < depth; i++)
		buf_append_char(&b, ']');
	buf_append_str(&b, depth > 1 ? "}" : "1}");
	json_t *root = json_in_parse(b.data, b.len, false, error);
	buf_fini(&b);
	return root;
}

static void test_limits(void **state) {
	struct json_in_error error;
	json_t *root = nested(JSON_IN_DEPTH, &error);
	assert_non_null(root);
	json_in_free(root);
	assert_null(nested(JSON_IN_DEPTH + 1, &error));
	assert_non_null(strstr(error.text, "nested"));
	assert_null(nested(100000, &error));
	struct buf b;
	buf_init(&b, 1 << 20);
	buf_append_str(&b, "{\"a\":[0");
	for (unsigned i = 0; i < JSON_IN_VALUES; i++)
		buf_append_str(&b, ",0");
	buf_append_str(&b, "]}");
	assert_null(json_in_parse(b.data, b.len, false, &error));
	assert_non_null(strstr(error.text, "too many"));
	buf_fini(&b);
}

static json_t *parse(const char *text) {
	struct json_in_error error;
	json_t *root = json_in_parse(text, strlen(text), false, &error);
	assert_non_null(root);
	return root;
}

static void test_members(void **state) {
	json_t *o = parse("{\"s\":\"x\xc3\xa9\",\"e\":\"\",\"n\":null,\"t\":true,\"f\":false,\"i\":42,\"r\":1.5,\"a\":["
	                  "\"p\",\"q\"],\"m\":[\"p\",1],"
	                  "\"z\":[],\"o\":{}}");
	struct json_in_error error;
	struct slice s = slice_str("unset");
	bool b = false;
	int64_t i = -7;
	const json_t *array = NULL;
	size_t count = 0;
	assert_int_equal(json_in_string(o, "s", &s, &error), 1);
	assert_true(slice_eq(s, slice_str("x\xc3\xa9")));
	assert_int_equal(json_in_string(o, "e", &s, &error), 1);
	assert_int_equal(s.n, 0);
	s = slice_str("unset");
	assert_int_equal(json_in_string(o, "n", &s, &error), 0);
	assert_int_equal(json_in_string(o, "absent", &s, &error), 0);
	assert_true(slice_eq(s, slice_str("unset")));
	assert_int_equal(json_in_string(o, "i", &s, &error), -EINVAL);
	assert_string_equal(error.text, "member \"i\" must be a string");
	assert_int_equal(json_in_bool(o, "t", &b, &error), 1);
	assert_true(b);
	assert_int_equal(json_in_bool(o, "f", &b, &error), 1);
	assert_false(b);
	assert_int_equal(json_in_bool(o, "s", &b, &error), -EINVAL);
	assert_non_null(strstr(error.text, "\"s\""));
	assert_int_equal(json_in_int(o, "i", 1, 42, &i, &error), 1);
	assert_int_equal(i, 42);
	assert_int_equal(json_in_int(o, "i", 1, 41, &i, &error), -EINVAL);
	assert_int_equal(json_in_int(o, "r", 1, 41, &i, &error), -EINVAL);
	assert_int_equal(json_in_int(o, "absent", 1, 41, &i, &error), 0);
	assert_int_equal(i, 42);
	assert_int_equal(json_in_strings(o, "a", 1, 2, &array, &count, &error), 1);
	assert_int_equal(count, 2);
	assert_true(slice_eq(json_in_element(array, 1), slice_str("q")));
	assert_int_equal(json_in_strings(o, "a", 1, 1, &array, &count, &error), -EINVAL);
	assert_int_equal(json_in_strings(o, "z", 1, 2, &array, &count, &error), -EINVAL);
	assert_int_equal(json_in_strings(o, "m", 1, 2, &array, &count, &error), -EINVAL);
	assert_non_null(strstr(error.text, "\"m\""));
	assert_int_equal(json_in_strings(o, "o", 1, 2, &array, &count, &error), -EINVAL);
	assert_int_equal(json_in_strings(o, "n", 1, 2, &array, &count, &error), 0);
	assert_true(json_in_is_null(o, "n"));
	assert_false(json_in_is_null(o, "absent"));
	assert_false(json_in_is_null(o, "s"));
	json_in_free(o);
}

static void test_durations(void **state) {
	static const struct {
		const char *text;
		int r;
		int64_t us;
	} rows[] = {
	    {"{\"d\":15}", 1, 900000000},
	    {"{\"d\":90}", 1, 90000000},
	    {"{\"d\":\"20m\"}", 1, 1200000000},
	    {"{\"d\":null}", 0, -1},
	    {"{}", 0, -1},
	    {"{\"d\":0}", -EINVAL, -1},
	    {"{\"d\":4000}", -EINVAL, -1},
	    {"{\"d\":1.0}", -EINVAL, -1},
	    {"{\"d\":\"20\"}", -EINVAL, -1},
	    {"{\"d\":true}", -EINVAL, -1},
	    {"{\"d\":\"0m\"}", -EINVAL, -1},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		struct json_in_error error = {""};
		int64_t us = -1;
		json_t *o = parse(rows[i].text);
		int r = json_in_duration(o, "d", &us, &error);
		if (r != rows[i].r || us != rows[i].us || (r < 0 && !strstr(error.text, "\"d\"")))
			fail_msg("%s: %d %lld %s", rows[i].text, r, (long long)us, error.text);
		json_in_free(o);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_documents),
	    cmocka_unit_test(test_optional),
	    cmocka_unit_test(test_limits),
	    cmocka_unit_test(test_members),
	    cmocka_unit_test(test_durations),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
