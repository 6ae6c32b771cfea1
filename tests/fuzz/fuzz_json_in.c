/* Any octets as a body: an object or an error with a text; members read as every type. */
#include "apid/json_in.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void require(bool ok) {
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
	struct json_in_error error;
	struct slice s;
	bool b;
	int64_t i;
	const json_t *array;
	size_t count;
	char *text = xmemdup(p, n ? n : 1);
	json_t *root = json_in_parse(text, n, n % 2, &error);
	require(root || error.text[0]);
	if (root) {
		if (json_in_string(root, "a", &s, &error) == 1)
			require(s.n == 0 || !memchr(s.p, '\0', s.n));
		json_in_bool(root, "a", &b, &error);
		if (json_in_int(root, "a", -5, 5, &i, &error) == 1)
			require(i >= -5 && i <= 5);
		if (json_in_duration(root, "a", &i, &error) == 1)
			require(i > 0);
		if (json_in_strings(root, "ids", 1, 1000, &array, &count, &error) == 1) {
			require(count >= 1 && count <= 1000);
			for (size_t k = 0; k < count; k++)
				require(json_in_element(array, k).p != NULL);
		}
		json_in_free(root);
	}
	free(text);
	return 0;
}
