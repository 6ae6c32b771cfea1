/* The private listener of the metrics process: answers GET /metrics and closes. One request a connection, a few connections at a
 * time, no authentication: it belongs on loopback or a Unix socket. */
#ifndef MINUTEMAIL_METRICS_HTTP_H
#define MINUTEMAIL_METRICS_HTTP_H

#include "common/base.h"

struct buf;
struct loop;
struct metrics_http;

/* Takes the listening socket over. `print` appends the exposition text. */
struct metrics_http *metrics_http_new(struct loop *, int fd, void (*print)(void *arg, struct buf *), void *arg);
/* Connections in hand are closed. NULL is fine; returns NULL. */
struct metrics_http *metrics_http_free(struct metrics_http *);

#endif
