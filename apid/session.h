/* The console's session on the wire: its cookies, its CSRF token, and whether a request came from our own pages. Whose
 * session it is, auth knows. Pure.
 *
 * The cookie is `__Host-mm_session` over TLS, where a browser takes it only with Secure, Path=/ and without Domain, so that no
 * neighbour of our name can plant one; else `mm_session`. The one is not taken for the other.
 *
 * A second one, mm_known, says that somebody signed in as this person in this browser before. It opens nothing; but wrong passwords
 * from elsewhere do not count against who has it, so that nobody can be kept out by others who guess. */
#ifndef MINUTEMAIL_APID_SESSION_H
#define MINUTEMAIL_APID_SESSION_H

#include "common/base.h"
#include "common/id.h"
#include "common/token.h"

#define SESSION_COOKIE_SIZE 160

/* The session's token in a Cookie field (RFC 6265 4.2.1). {NULL,0}: there is none, or there are two of the name, which only
 * somebody else can have set. */
struct slice session_cookie(struct slice field, bool secure);
/* Whether the known browser's cookie is there and is this person's. */
bool session_is_known(struct slice field, bool secure, const char *email, const uint8_t secret[32]);
/* The value of a Set-Cookie field that makes it so, for a year. */
void session_set_known(const char *email, const uint8_t secret[32], bool secure, char ret[SESSION_COOKIE_SIZE]);
/* The value of a Set-Cookie field. `token` NULL: the browser shall forget it. */
void session_set_cookie(const char *token, bool secure, char ret[SESSION_COOKIE_SIZE]);
/* The token that goes with a session; nothing is stored for it. */
void session_csrf(const struct id *session, const uint8_t secret[32], char ret[TOKEN_SIZE]);
/* What the browser says about where a request comes from: Origin, if it is there, has our Host's name and port (and https, over
 * TLS), and Sec-Fetch-Site, if it is there, says same-origin or none. */
bool session_same_origin(struct slice origin, struct slice fetch_site, struct slice host, bool secure);

#endif
