#include "apid/auth_results.h"

#include <jansson.h>

static bool is_token_char(char c) {
	return c > 0x20 && c < 0x7f && !strchr("()<>@,;:\\\"/[]?=", c); /* RFC 2045 5.1 */
}

/* A token where it is one, else quoted; what is not printable ASCII becomes '?'. */
static void append_value(struct buf *out, const char *s) {
	bool token = *s != '\0';
	for (const char *p = s; *p; p++)
		token = token && is_token_char(*p);
	if (token) {
		buf_append_str(out, s);
		return;
	}
	buf_append_char(out, '"');
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			buf_append_char(out, '\\');
		buf_append_char(out, *s >= 0x20 && *s < 0x7f ? *s : '?');
	}
	buf_append_char(out, '"');
}

static const char *text_of(const json_t *object, const char *key) {
	return json_string_value(json_object_get(object, key));
}

static void append_method(struct buf *out, const char *method, const json_t *result) {
	buf_printf(out, ";\r\n\t%s=", method);
	append_value(out, text_of(result, "result") ? text_of(result, "result") : "none");
	if (text_of(result, "reason")) {
		buf_append_str(out, " reason=");
		append_value(out, text_of(result, "reason"));
	}
}

static void append_property(struct buf *out, const char *name, const char *value) {
	if (!value || !*value)
		return;
	buf_printf(out, " %s=", name);
	append_value(out, value);
}

static void append_dkim(struct buf *out, const json_t *signatures) {
	size_t i;
	json_t *s;
	if (json_array_size(signatures) == 0)
		buf_append_str(out, ";\r\n\tdkim=none");
	json_array_foreach(signatures, i, s) {
		append_method(out, "dkim", s);
		append_property(out, "header.d", text_of(s, "domain"));
		append_property(out, "header.s", text_of(s, "selector"));
		append_property(out, "header.a", text_of(s, "algorithm"));
		append_property(out, "header.b", text_of(s, "signature"));
	}
}

void auth_results_append(struct buf *out, const char *authserv_id, struct slice results) {
	json_t *root = json_loadb(results.p ? results.p : "", results.n, 0, NULL);
	if (!root)
		return;
	const json_t *spf = json_object_get(root, "spf"), *dmarc = json_object_get(root, "dmarc");
	const char *identity = text_of(spf, "identity");
	buf_append_str(out, "Authentication-Results: ");
	append_value(out, authserv_id);
	append_method(out, "spf", spf);
	append_property(out, identity && strcmp(identity, "helo") == 0 ? "smtp.helo" : "smtp.mailfrom", text_of(spf, "domain"));
	append_dkim(out, json_object_get(root, "dkim"));
	append_method(out, "dmarc", dmarc);
	append_property(out, "header.from", text_of(dmarc, "domain"));
	append_method(out, "iprev", json_object_get(root, "iprev"));
	buf_append_str(out, "\r\n");
	json_decref(root);
}
