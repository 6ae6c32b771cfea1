/* Which pages of other origins may read our answers in a browser (fetch.spec.whatwg.org, "CORS protocol"). By keys only: credentials are
 * never allowed, so a page never acts with a console session. Pure. */
#ifndef MINUTEMAIL_CORS_H
#define MINUTEMAIL_CORS_H

#include "apid/request.h"

/* "https://app.example.org", "http://localhost:3000", or "*". An origin has no path, no slash at its end and no capitals. */
bool cors_origin_valid(const char *);
/* What Access-Control-Allow-Origin says to this Origin, borrowed from the list; NULL: nothing. The list ends with NULL and may be NULL. */
const char *cors_allows(char *const *origins, struct slice origin);
/* The method that a preflight asks for. False: none that we speak. */
bool cors_method(struct slice name, enum request_method *ret);

#endif
