/* Which handler answers: const rows, matched on the path's segments. The same rows answer under /v1, /api and with
 * no prefix. Pure but for the handlers' addresses. */
#ifndef MINUTEMAIL_ROUTER_H
#define MINUTEMAIL_ROUTER_H

#include "apid/request.h"

enum route_access {
	ROUTE_OPEN,    /* no key: /health, /ready, /openapi.json */
	ROUTE_KEY,     /* a valid API key, or a console session */
	ROUTE_CONSOLE, /* a console session; a key gets 403 */
};

struct route {
	enum request_method method; /* HEAD is answered by the GET row */
	const char *pattern;        /* "/mailboxes/{}/mails/{}" */
	enum route_access access;
	size_t body_max; /* octets; over it: 413 */
	void (*handler)(struct request *);
	bool bare; /* answers only without prefix: /health */
	const char *scope; /* what a key needs for it, or 403; NULL: nothing */
	bool owners_only;  /* members of an account get 403 */
};

/* All rows, NULL pattern last; put together from the api_*.c files in routes.c. */
extern const struct route ROUTES[];

enum router_result { ROUTER_FOUND, ROUTER_NO_PATH, ROUTER_NO_METHOD };
#define ROUTER_PARAMS_MAX 4
/* `path`: as in the request line without the query, still percent-encoded. Parameters come as they stand there,
 * borrowed from it (request_param() decodes); literal segments match octet for octet. Paths with empty or dot
 * segments, %00, %2f or %5c match nothing. ret_allow: for 405, "GET, HEAD, POST"; asked for with allow_size > 0. */
enum router_result router_find(const struct route *rows, enum request_method, struct slice path,
                               const struct route **ret, struct slice ret_params[ROUTER_PARAMS_MAX], char *ret_allow,
                               size_t allow_size);

#endif
