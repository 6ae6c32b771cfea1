/* JSON bodies, read under limits. jansson parses; what it does not bound (depth, number of values) is counted in one
 * pass before. */
#include "apid/json_in.h"
#include "apid/duration.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include <jansson.h>

static int fail(struct json_in_error *error, const char *fmt, ...) printf_like(2, 3);

static int fail(struct json_in_error *error, const char *fmt, ...) {
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(error->text, sizeof(error->text), fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* Steps over a string; `i` is just after its opening quote. Returns the index after the closing one, or n. */
static size_t skip_string(const char *p, size_t n, size_t i) {
	while (i < n) {
		const char *quote = memchr(p + i, '"', n - i);
		size_t end = quote ? (size_t)(quote - p) : n;
		const char *escape = memchr(p + i, '\\', end - i);
		if (!escape)
			return quote ? end + 1 : n;
		i = (size_t)(escape - p) + 2;
	}
	return n;
}

/* Counts, does not judge syntax: jansson's tree costs some 100 octets a value and its parser recurses once a level. */
static int check_size(const char *p, size_t n, struct json_in_error *error) {
	unsigned depth = 0, values = 0;
	for (size_t i = 0; i < n;) {
		char c = p[i++];
		if (c == '"') {
			i = skip_string(p, n, i);
			continue;
		}
		if (c == '[' || c == '{') {
			if (++depth > JSON_IN_DEPTH)
				return fail(error, "the body's JSON is nested more than %d deep", JSON_IN_DEPTH);
		} else if ((c == ']' || c == '}') && depth > 0) {
			depth--;
		} else if (c != ',' && c != ':') {
			continue;
		}
		if (++values > JSON_IN_VALUES)
			return fail(error, "the body's JSON has too many values");
	}
	return 0;
}

/* jansson tells duplicates as: duplicate object key near '"name"'. */
static void describe(const json_error_t *why, struct json_in_error *error) {
	if (json_error_code(why) != json_error_duplicate_key) {
		fail(error, "the body is not valid JSON: line %d, column %d: %s", why->line, why->column, why->text);
		return;
	}
	const char *open = strchr(why->text, '"');
	const char *close = open ? strrchr(why->text, '"') : NULL;
	if (open && close > open)
		fail(error, "member %.*s is there twice", (int)(close - open + 1), open);
	else
		fail(error, "a member is there twice: %s", why->text);
}

json_t *json_in_parse(const char *p, size_t n, bool optional, struct json_in_error *ret) {
	ret->text[0] = '\0';
	if (n == 0 && optional)
		return json_object();
	if (n == 0) {
		fail(ret, "the body is empty; a JSON object is needed");
		return NULL;
	}
	if (check_size(p, n, ret) < 0)
		return NULL;
	json_error_t why;
	json_t *root = json_loadb(p, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
	if (!root) {
		describe(&why, ret);
		return NULL;
	}
	if (optional && json_is_null(root)) /* jansson has one null for all, which nobody frees */
		return json_object();
	if (!json_is_object(root)) {
		fail(ret, "the body must be a JSON object");
		return json_in_free(root);
	}
	return root;
}

json_t *json_in_free(json_t *root) {
	json_decref(root);
	return NULL;
}

/* NULL: absent or null. */
static const json_t *member(const json_t *object, const char *name) {
	const json_t *value = json_object_get(object, name);
	return value && json_is_null(value) ? NULL : value;
}

int json_in_string(const json_t *object, const char *name, struct slice *ret, struct json_in_error *error) {
	const json_t *value = member(object, name);
	if (!value)
		return 0;
	if (!json_is_string(value))
		return fail(error, "member \"%s\" must be a string", name);
	*ret = slice_of(json_string_value(value), json_string_length(value));
	return 1;
}

int json_in_bool(const json_t *object, const char *name, bool *ret, struct json_in_error *error) {
	const json_t *value = member(object, name);
	if (!value)
		return 0;
	if (!json_is_boolean(value))
		return fail(error, "member \"%s\" must be true or false", name);
	*ret = json_is_true(value);
	return 1;
}

int json_in_int(const json_t *object, const char *name, int64_t least, int64_t most, int64_t *ret,
                struct json_in_error *error) {
	const json_t *value = member(object, name);
	if (!value)
		return 0;
	if (!json_is_integer(value))
		return fail(error, "member \"%s\" must be an integer", name);
	int64_t n = json_integer_value(value);
	if (n < least || n > most)
		return fail(error, "member \"%s\" must be from %" PRId64 " to %" PRId64, name, least, most);
	*ret = n;
	return 1;
}

int json_in_duration(const json_t *object, const char *name, int64_t *ret_us, struct json_in_error *error) {
	const json_t *value = member(object, name);
	int r;
	if (!value)
		return 0;
	if (json_is_integer(value))
		r = duration_from_int(json_integer_value(value), ret_us);
	else if (json_is_string(value))
		r = duration_from_text(slice_of(json_string_value(value), json_string_length(value)), ret_us);
	else
		r = -EINVAL;
	if (r == -ERANGE)
		return fail(error, "member \"%s\" is out of range: 1 to 60 are minutes, 61 to 3600 seconds", name);
	if (r < 0)
		return fail(error,
		            "member \"%s\" must be an integer (1 to 60 minutes, 61 to 3600 seconds) or text such as \"20m\"",
		            name);
	return 1;
}

int json_in_strings(const json_t *object, const char *name, size_t least, size_t most, const json_t **ret_array,
                    size_t *ret_count, struct json_in_error *error) {
	const json_t *value = member(object, name);
	if (!value)
		return 0;
	if (!json_is_array(value))
		return fail(error, "member \"%s\" must be an array of strings", name);
	size_t n = json_array_size(value);
	if (n < least || n > most)
		return fail(error, "member \"%s\" must have %zu to %zu elements", name, least, most);
	for (size_t i = 0; i < n; i++) {
		if (!json_is_string(json_array_get(value, i)))
			return fail(error, "member \"%s\" must be an array of strings; element %zu is not one", name, i);
	}
	*ret_array = value;
	*ret_count = n;
	return 1;
}

struct slice json_in_element(const json_t *array, size_t i) {
	const json_t *value = json_array_get(array, i);
	return slice_of(json_string_value(value), json_string_length(value));
}

bool json_in_is_null(const json_t *object, const char *name) {
	return json_is_null(json_object_get(object, name));
}
