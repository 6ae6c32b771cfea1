/* One request, from its head to its last octet. http_conn makes it, the router finds its row, auth its principal, a
 * handler answers it. A handler finishes its request exactly once: with a respond_ call, now or from a later
 * completion. If the client goes away first, request_on_abort's function runs and the request must not be touched
 * again. */
#ifndef MINUTEMAIL_REQUEST_H
#define MINUTEMAIL_REQUEST_H

#include "common/base.h"
#include "common/buf.h"
#include "common/clients.h"
#include "common/id.h"

/* jansson's; read it with json_in.h. */
typedef struct json_t json_t;

struct api; /* the worker's services, api.h */
struct principal;
struct request;
struct route;
struct pg_op;

enum request_method { METHOD_GET, METHOD_HEAD, METHOD_POST, METHOD_PUT, METHOD_PATCH, METHOD_DELETE, METHOD_OPTIONS };

/* What came */
enum request_method request_method(const struct request *);
struct api *request_api(const struct request *);
const struct principal *request_principal(const struct request *); /* NULL on open routes */
const char *request_id_text(const struct request *);               /* X-Request-Id */
bool request_secure(const struct request *);                       /* the client speaks TLS, with us or a proxy that we trust */
/* One more of what this client may do only so often (common/clients.h): 0, or microseconds to wait for it; then it was not counted. */
int64_t request_take(struct request *, enum clients_rate);
void request_give_back(struct request *, enum clients_rate); /* it does not count after all */
/* False, answered with 403: a browser says that the request comes from another site's page. */
bool request_same_origin(struct request *);
struct slice request_param(const struct request *, unsigned i);    /* i-th {} of the route's pattern, decoded */
/* First value of a query parameter, decoded; {NULL,0}: absent. */
struct slice request_query(const struct request *, const char *name);
/* {NULL,0}: absent. Name in lower case. */
struct slice request_header(const struct request *, const char *name);
struct slice request_body(const struct request *); /* whole: routes state their cap */

/* Memory that lives as long as the request. */
void *request_alloc(struct request *, size_t n); /* zeroed */
char *request_strndup(struct request *, const char *s, size_t n);
/* Runs when the request ends, however it ends (answered and written, or aborted). */
void request_at_end(struct request *, void (*fn)(void *arg), void *arg);
/* Operations the request has under way, cancelled if the client goes away; forget it when its completion runs. At
 * most 8. */
void request_track(struct request *, struct pg_op *);
void request_untrack(struct request *, struct pg_op *);
void request_on_abort(struct request *, void (*fn)(void *arg), void *arg);

/* Helpers for handlers that answer 400/404 themselves: false means answered. */
bool request_param_id(struct request *, unsigned i, struct id *ret); /* not a UUID in the path: 404 */
/* The body as a JSON object, or NULL after answering 400 or 415. `optional`: json_in_parse()'s.
 * Borrowed until the request's end. Duplicate members and trailing data are 400 (RFC 8259 4). */
json_t *request_json(struct request *, bool optional);

/* Answers. Each finishes the request; its memory stays until the end of the loop's turn. `body` is taken over
 * (buf_take'n); content type application/json unless said. */
void respond_json(struct request *, unsigned status, struct buf *body); /* adds ETag on 200 to GET/HEAD, answers 304 */
void respond_empty(struct request *, unsigned status);                  /* 204 */
/* `etag` as it goes out, quotes included. If the client's If-None-Match has it: 304, and true means answered. For
 * GET and HEAD. */
bool respond_not_modified(struct request *, const char *etag);
struct respond_header {
	const char *name, *value; /* value: no CR, LF, NUL (asserted) */
};
/* Extra headers; rows that end with a NULL name, or NULL; copied. One that is sent by default (Cache-Control,
 * Content-Security-Policy, …) takes its place. `type` NULL: no body headers. */
void respond_bytes(struct request *, unsigned status, const char *type, const struct respond_header *,
                   struct buf *body);

/* A body that comes in pieces, under back-pressure: after respond_stream_start() the connection calls `more`
 * whenever it has room; `more` (or a later completion of its own) hands pieces over with respond_stream_write() and
 * ends with respond_stream_end(). `length`: exact; writing another amount is our bug (assert). HEAD: headers go out
 * and `more` is never called. */
void respond_stream_start(struct request *, unsigned status, const char *type, const struct respond_header *,
                          uint64_t length, void (*more)(void *arg), void *arg);
void respond_stream_write(struct request *, const void *p, size_t n);
void respond_stream_end(struct request *);
void respond_stream_fail(struct request *); /* cannot go on: the connection is cut, so the client sees a short body */

/* Errors: application/problem+json. */
enum problem {
	PROBLEM_BAD_REQUEST,            /* 400 bad_request */
	PROBLEM_UNAUTHORIZED,           /* 401 */
	PROBLEM_FORBIDDEN,              /* 403 */
	PROBLEM_NOT_FOUND,              /* 404 */
	PROBLEM_METHOD_NOT_ALLOWED,     /* 405 method_not_allowed; Allow is added from the router */
	PROBLEM_CONFLICT,               /* 409 */
	PROBLEM_PAYLOAD_TOO_LARGE,      /* 413 */
	PROBLEM_URI_TOO_LONG,           /* 414 */
	PROBLEM_UNSUPPORTED_MEDIA_TYPE, /* 415 */
	PROBLEM_RANGE_NOT_SATISFIABLE,  /* 416 */
	PROBLEM_HEADER_TOO_LARGE,       /* 431 */
	PROBLEM_RATE_LIMIT,             /* 429 rate_limit_exceeded */
	PROBLEM_QUOTA,                  /* 429 quota_exceeded */
	PROBLEM_INTERNAL,               /* 500: detail is never shown */
	PROBLEM_UNAVAILABLE,            /* 503, Retry-After: 1 */
	PROBLEM_TIMEOUT,                /* 408 request_timeout */
	PROBLEM_EXPECTATION_FAILED,     /* 417 */
	PROBLEM_NOT_IMPLEMENTED,        /* 501 */
	PROBLEM_HTTP_VERSION,           /* 505 */
};
void respond_problem(struct request *, enum problem, const char *detail, ...) printf_like(3, 4);
/* 429 for what an address or a person did too often; Retry-After and the text say when once more is let in. */
void respond_too_many(struct request *, int64_t wait_us, const char *what);
void respond_range_problem(struct request *, uint64_t length);   /* 416, with the length there is */

#endif
