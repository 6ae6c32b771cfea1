/* The inside of http_conn, shared by the files that make it up: http_server.c
 * (all of them together), http_conn.c (states), request.c (what came), response.c (what goes),
 * problem.c (errors). Nobody else includes it. */
#ifndef MINUTEMAIL_HTTP_SERVER_H
#define MINUTEMAIL_HTTP_SERVER_H

#include "apid/api.h"
#include "apid/apid_metrics.h"
#include "apid/audit.h"
#include "apid/auth.h"
#include "apid/forwarded.h"
#include "apid/http_conn.h"
#include "apid/http_listen.h"
#include "apid/http_parse.h"
#include "apid/quota.h"
#include "apid/router.h"
#include "common/clients.h"
#include "common/list.h"
#include "common/loop.h"
#include "common/stream.h"

#define REQUEST_ID_MAX 64
#define REQUEST_OPS_MAX 8
#define REQUEST_ARENA 2048 /* octets that come with the request; more is allocated */
#define HTTP_DATE_SIZE 32

struct http_server {
	struct http_options options;
	struct http_limits limits;
	struct api *api;
	struct list conns, idle; /* idle: those between requests, longest idle first */
	unsigned count;
	bool full, draining, drained;
	struct timer retry; /* full: when to look for room again */
	struct timer farewell; /* draining: when those that still have not asked are closed */
	size_t body_memory; /* octets of bodies being held */
	struct list spare;  /* requests kept for reuse */
	unsigned spare_count;
	struct buf head; /* an answer's head is put together here */
	char date[HTTP_DATE_SIZE];
	int64_t date_second;
	char id_prefix[12];
	uint32_t id_counter;
};

/*  TLS -handshake done-> HEAD
 *  HEAD -head whole-> AUTH -key good-> BODY -whole-> HANDLING -answered-> HEAD
 *    |                  |               |             -stream started-> STREAMING -ended-> HEAD
 *    +------------------+---------------+-- refused: answered on the spot, then closed unless the body had been read
 *  any, once answered: pending output above its mark -> WRITING -drained-> HEAD
 *  TLS, HEAD: req == NULL.  AUTH: auth_op or quota_op.  STREAMING, HANDLING, BODY: req.  any -> CLOSED: req == NULL, stream == NULL. */
enum conn_state { CONN_TLS, CONN_HEAD, CONN_AUTH, CONN_BODY, CONN_HANDLING, CONN_STREAMING, CONN_WRITING, CONN_CLOSED };

struct http_conn {
	struct list link, idle_link;
	struct http_server *server;
	const struct http_listen *listen;
	struct client place;    /* where it is counted */
	struct netaddr address; /* the connection's, or the PROXY header's */
	struct stream *stream;
	enum conn_state state;
	struct request *req;
	struct auth_op *auth_op;
	struct quota_op *quota_op;
	struct http_parse parse;
	struct deferred rerun;
	int64_t born_us, since_us; /* since_us: what the state's deadline counts from */
	unsigned requests;
	bool running;
	bool eof;         /* the client has sent its end */
	bool close_after; /* with the answer in hand */
	bool head_begun;  /* since_us is of the head's first octet */
	bool body_waited; /* the body was not all there when its head had been judged */
};

enum request_state { REQUEST_OPEN, REQUEST_STREAM, REQUEST_ANSWERED };

struct request_end {
	struct request_end *next;
	void (*fn)(void *arg);
	void *arg;
};

struct arena_block {
	struct arena_block *next;
	max_align_t data[];
};

struct request {
	struct list link; /* among the spare */
	struct http_conn *conn;
	struct api *api;
	const struct http_head *head;
	enum request_state state;
	bool cut;                  /* respond_stream_fail() */
	bool head_only;            /* HEAD: no body goes out */
	bool promised;             /* to the audit log */
	bool secure;               /* the client speaks TLS, with us or a proxy that we trust */
	struct netaddr client;     /* whom it is from, proxies that we trust left out */
	const struct route *route; /* NULL: none found */
	struct slice params[ROUTER_PARAMS_MAX];
	bool params_decoded[ROUTER_PARAMS_MAX];
	struct principal *principal; /* a reference */
	int64_t counted_us;          /* when its call was taken from the quota, wall; 0: it was not */
	char id[REQUEST_ID_MAX + 1], allow[64];
	struct buf body;
	size_t body_counted; /* of server->body_memory */
	json_t *json;
	struct pg_op *ops[REQUEST_OPS_MAX];
	struct request_end *ends; /* last in, first out */
	void (*on_abort)(void *arg);
	void *abort_arg;
	int64_t began_us; /* measured inside the turn */
	int64_t wait_us;  /* until what a 429 is about is let in again; 0: the principal's quota knows */
	unsigned status;
	uint64_t octets_out; /* of the body */
	struct {
		void (*more)(void *arg);
		void *arg;
		uint64_t left;
		bool asked; /* `more` was called, its piece has not come */
	} stream;
	struct arena_block *blocks;
	char *arena; /* free part of the current block */
	size_t arena_left;
	max_align_t first[REQUEST_ARENA / sizeof(max_align_t)];
};

/* request.c */
struct request *request_new(struct http_conn *);
void request_end(struct request *);   /* answered: at_end functions, log line, back to the spare ones */
void request_abort(struct request *); /* the client is gone: cancels, tells, ends */
void request_promise(struct request *); /* before the first octet of the answer: the audit log will have it */
void request_set_id(struct request *);
void request_set_client(struct request *); /* from the head: whom a proxy speaks for */

/* http_server.c */
struct log_line;
void http_log_client(struct log_line *, const struct http_server *, const struct netaddr *); /* if it may be logged */

/* Keys that were wrong, of the client or of his proxy's client. take: one more; false: over the limit. */
bool http_server_may_try(struct http_server *, const struct request *);
/* clients_take_address() of the request's client, for whom no limit holds where none is wanted. */
int64_t http_server_take(struct http_server *, const struct request *, enum clients_rate);
void http_server_give_back(struct http_server *, const struct request *, enum clients_rate);

/* http_conn.c */
void http_conn_open(struct http_server *, int fd, const struct http_listen *, const struct netaddr *client, const struct client *place);
/* Detaches everything; the memory goes at the end of the turn. `gently`: what is in the output still goes out. */
void http_conn_close(struct http_conn *, bool gently);
bool http_conn_closes(struct http_conn *); /* for the head: whether this answer is the last, decided here */
void http_conn_answered(struct http_conn *);     /* something was added to the output or the request's state */

/* problem.c */
void problem_for_quota(struct request *, enum quota_verdict); /* not QUOTA_OK */
void problem_for_parse_error(struct request *, const struct http_error *);

/* response.c */
bool response_preflight(struct request *); /* it was one (CORS) and is answered */

#endif
