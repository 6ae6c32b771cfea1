#include "apid/session.h"

#include <stdio.h>
#include <strings.h>

static const char *cookie_name(bool secure) {
	return secure ? "__Host-mm_session" : "mm_session";
}

static const char *known_name(bool secure) {
	return secure ? "__Host-mm_known" : "mm_known";
}

static struct slice cookie(struct slice field, struct slice name) {
	struct slice found = {NULL, 0}, rest = field;
	while (rest.n > 0) {
		const char *end = memchr(rest.p, ';', rest.n);
		size_t len = end ? (size_t)(end - rest.p) : rest.n;
		struct slice pair = slice_trim(slice_of(rest.p, len));
		const char *equals = pair.n ? memchr(pair.p, '=', pair.n) : NULL;
		if (equals && slice_eq(slice_of(pair.p, (size_t)(equals - pair.p)), name)) {
			if (found.p)
				return slice_of(NULL, 0);
			found = slice_of(equals + 1, (size_t)(pair.p + pair.n - equals) - 1);
		}
		rest = end ? slice_of(end + 1, rest.n - len - 1) : slice_of(NULL, 0);
	}
	return found;
}

struct slice session_cookie(struct slice field, bool secure) {
	return cookie(field, slice_str(cookie_name(secure)));
}

bool session_is_known(struct slice field, bool secure, const char *email, const uint8_t secret[32]) {
	char token[TOKEN_SIZE];
	token_derive(TOKEN_KNOWN, email, strlen(email), secret, token);
	return token_equal(cookie(field, slice_str(known_name(secure))), token);
}

void session_set_known(const char *email, const uint8_t secret[32], bool secure, char ret[SESSION_COOKIE_SIZE]) {
	char token[TOKEN_SIZE];
	token_derive(TOKEN_KNOWN, email, strlen(email), secret, token);
	int n = snprintf(ret, SESSION_COOKIE_SIZE, "%s=%s; Path=/; HttpOnly; SameSite=Lax; Max-Age=31536000%s", known_name(secure), token,
	                 secure ? "; Secure" : "");
	assert(n < SESSION_COOKIE_SIZE);
	(void)n;
}

void session_set_cookie(const char *token, bool secure, char ret[SESSION_COOKIE_SIZE]) {
	int n = snprintf(ret, SESSION_COOKIE_SIZE, "%s=%s; Path=/; HttpOnly; SameSite=Lax%s%s", cookie_name(secure),
	                 token ? token : "", secure ? "; Secure" : "", token ? "" : "; Max-Age=0");
	assert(n < SESSION_COOKIE_SIZE);
	(void)n;
}

void session_csrf(const struct id *session, const uint8_t secret[32], char ret[TOKEN_SIZE]) {
	token_derive(TOKEN_CSRF, session->b, sizeof(session->b), secret, ret);
}

/* Without TLS of ours the scheme proves nothing: a proxy that we were not told of may speak TLS for us. */
static bool is_our_origin(struct slice origin, struct slice host, bool secure) {
	static const char https[] = "https://", http[] = "http://";
	size_t n = sizeof(https) - 1;
	if (origin.n < n || strncasecmp(origin.p, https, n) != 0) {
		n = sizeof(http) - 1;
		if (secure || origin.n < n || strncasecmp(origin.p, http, n) != 0)
			return false;
	}
	return origin.n - n == host.n && host.n > 0 && strncasecmp(origin.p + n, host.p, host.n) == 0;
}

bool session_same_origin(struct slice origin, struct slice fetch_site, struct slice host, bool secure) {
	if (fetch_site.p && !slice_eq(fetch_site, slice_str("same-origin")) && !slice_eq(fetch_site, slice_str("none")))
		return false;
	return !origin.p || is_our_origin(origin, host, secure);
}
