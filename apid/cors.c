/* CORS: origins as browsers write them, compared octet for octet. */
#include "apid/cors.h"

bool cors_origin_valid(const char *s) {
	static const char host[] = "abcdefghijklmnopqrstuvwxyz0123456789-._[]:";
	if (strcmp(s, "*") == 0)
		return true;
	const char *scheme = strstr(s, "://");
	if (!scheme || (strncmp(s, "https:", 6) != 0 && strncmp(s, "http:", 5) != 0))
		return false;
	return scheme[3] != '\0' && strspn(scheme + 3, host) == strlen(scheme + 3);
}

const char *cors_allows(char *const *origins, struct slice origin) {
	if (origin.n == 0)
		return NULL;
	for (; origins && *origins; origins++)
		if (strcmp(*origins, "*") == 0 || slice_eq(origin, slice_str(*origins)))
			return *origins;
	return NULL;
}

bool cors_method(struct slice name, enum request_method *ret) {
	static const char *const names[] = {
	    [METHOD_GET] = "GET", [METHOD_HEAD] = "HEAD",     [METHOD_POST] = "POST",
	    [METHOD_PUT] = "PUT", [METHOD_PATCH] = "PATCH",   [METHOD_DELETE] = "DELETE",
	};
	for (size_t i = 0; i < array_len(names); i++) {
		if (!slice_eq(name, slice_str(names[i])))
			continue;
		*ret = (enum request_method)i;
		return true;
	}
	return false;
}
