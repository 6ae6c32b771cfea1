/* The HTTP connections of one worker: octets in, requests to their handlers one at a time, answers out in order.
 * Every wait has a deadline and everything a client can make grow has a bound. What may be cut off mid-way is
 * decided here and nowhere else.
 *
 * In a request's way: head -> router (404, 405) -> key (401, before the body is read) -> quota (429) -> body up to the route's cap
 * (413) -> handler; a body that had to be waited for: the key again. */
#ifndef MINUTEMAIL_HTTP_CONN_H
#define MINUTEMAIL_HTTP_CONN_H

#include "common/base.h"

struct api;
struct clients;
struct http_listen;
struct http_server;
struct netaddr;
struct netaddr_nets;
struct route;
struct tls;

struct http_limits {
	unsigned connections;           /* at once; the longest idle one makes room for a new one */
	unsigned requests;              /* on one connection, then it is closed */
	int64_t connection_us;          /* age after which the next answer closes it */
	int64_t idle_us;                /* between requests */
	int64_t head_us;                /* from the first octet of a head to its last; a TLS handshake */
	int64_t body_us;                /* grace for a body, beyond received / body_rate */
	int64_t handler_us;             /* from the handler's start to its answer, and between pieces */
	int64_t write_us;               /* grace for the client to take what is pending, beyond pending / write_rate */
	int64_t linger_us;              /* after the last answer, for the client to take it */
	int64_t farewell_us;            /* draining: for one more request of an idle client */
	int64_t body_rate, write_rate;  /* octets a second */
	size_t body_memory;             /* octets of all bodies together, half of it for one account; over it: 503 */
	size_t body_small;              /* but a body of so few is always let in: nobody can shut out the others */
	size_t output_low, output_high; /* pending output: below low more is made, above high nothing new is begun */
};
extern const struct http_limits HTTP_LIMITS; /* what apid starts from */

struct http_options {
	struct api *api;                  /* borrowed; api->auth answers for ROUTE_KEY rows */
	const struct route *routes;       /* borrowed, NULL pattern last */
	const struct http_limits *limits; /* copied */
	struct tls *tls;                  /* borrowed; NULL: no listener has TLS */
	char *const *cors_origins;        /* borrowed, NULL last; NULL: none (cors.h) */
	struct clients *clients;          /* borrowed; NULL: no limits by client address */
	const struct netaddr_nets *exempt; /* borrowed; whom they are not for */
	bool log_client;                  /* its address in the lines of requests */
	/* All places are taken and none is idle (true), or there is room again (false). May be NULL. */
	void (*on_full)(void *arg, bool full);
	/* After http_server_drain(), once: the last connection is gone. Must not free the server. */
	void (*on_drained)(void *arg);
	void *arg;
};

struct http_server *http_server_new(const struct http_options *);
/* Connections still there are cut, their requests aborted. */
struct http_server *http_server_free(struct http_server *);
/* Owns fd. How its listener treats it is borrowed for as long as there are connections. `client`: its own address, or the PROXY
 * header's. */
void http_server_accept(struct http_server *, int fd, const struct http_listen *, const struct netaddr *client);
/* A place for a connection that is to be one only later; full and drained are told as for the others. */
void http_server_place_taken(struct http_server *);
void http_server_place_left(struct http_server *); /* may tell that all have; the server lives on */
/* Idle connections are closed after farewell_us or the one answer that is asked for until then, the others after the answer in hand. */
void http_server_drain(struct http_server *);
unsigned http_server_connections(const struct http_server *);

#endif
