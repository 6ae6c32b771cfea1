/* The master's private listener: answers GET /metrics and closes. One request a connection, a few connections at a time, no
 * authentication: it belongs on loopback or a Unix socket. */
#ifndef MINUTEMAIL_METRICS_HTTP_H
#define MINUTEMAIL_METRICS_HTTP_H

#include "common/base.h"

struct buf;
struct loop;
struct metrics_http;

/* `print` appends the exposition text. -errno with *ret_error as listener_open(). */
int metrics_http_new(struct loop *, const char *address, void (*print)(void *arg, struct buf *), void *arg,
                     struct metrics_http **ret, const char **ret_error);
/* Connections in hand are closed. NULL is fine; returns NULL. */
struct metrics_http *metrics_http_free(struct metrics_http *);
int metrics_http_fd(const struct metrics_http *);   /* for listener_name() */

#endif
