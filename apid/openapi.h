/* What the build makes of apid/openapi.json (apid/openapi.py): files that are served as they are, and the rows that
 * ROUTES is compared with (openapi_check.c). */
#ifndef MINUTEMAIL_OPENAPI_H
#define MINUTEMAIL_OPENAPI_H

#include "apid/router.h"

struct openapi_file {
	const char *type, *etag; /* etag: quotes included */
	const char *policy;      /* Content-Security-Policy; NULL: the default one */
	size_t size;
	const char *data;
};

extern const struct openapi_file OPENAPI_JSON, OPENAPI_HTML;
/* No handlers and body caps; a row with a NULL pattern last. */
extern const struct route OPENAPI_ROWS[];

#endif
