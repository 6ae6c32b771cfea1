/* A TLS server connection between buffers: what came from the wire, what goes to it. No socket, no events, no deadlines: stream
 * has those. libevent's own (bufferevent_openssl) is not used: there the input mark is only a hint, the end of a connection
 * comes in several shapes, and what is encrypted but not yet written cannot be asked for. */
#ifndef MINUTEMAIL_TLS_PIPE_H
#define MINUTEMAIL_TLS_PIPE_H

#include "common/tls.h"

struct evbuffer;
struct tls_pipe;

enum tls_pipe_result {
	TLS_PIPE_OK,       /* handshake: it is done; read: there may be more to read at once */
	TLS_PIPE_MORE,     /* the wire must bring more first */
	TLS_PIPE_END,      /* the peer said close_notify: nothing more comes */
	TLS_PIPE_FAILED,   /* tls_pipe_error(); an alert may lie in the output */
};

/* Keeps a reference to the set. The buffers are borrowed for the life of the pipe: its input is drained at the front, its output
 * added to at the end. */
struct tls_pipe *tls_pipe_new(struct tls_set *, struct evbuffer *wire_in, struct evbuffer *wire_out);
struct tls_pipe *tls_pipe_free(struct tls_pipe *);

enum tls_pipe_result tls_pipe_handshake(struct tls_pipe *);
/* Decrypts until `room` octets were added to `plain` (then OK), the wire is empty, or an answer that the protocol itself owes
 * (KeyUpdate) cannot go out because `wire_out` holds TLS_PIPE_WIRE_MARK (then OK as well). */
enum tls_pipe_result tls_pipe_read(struct tls_pipe *, struct evbuffer *plain, size_t room);
/* Whether a read would bring something. Fails only in the read. */
bool tls_pipe_waits(struct tls_pipe *);
/* Encrypts from the front of `plain` until it is empty or `wire_out` holds the mark. False: failed. */
#define TLS_PIPE_WIRE_MARK (64 * 1024)
bool tls_pipe_write(struct tls_pipe *, struct evbuffer *plain);
void tls_pipe_end(struct tls_pipe *);              /* adds close_notify to the output; once */

const struct tls_info *tls_pipe_info(const struct tls_pipe *);
const char *tls_pipe_error(const struct tls_pipe *);   /* static text; NULL: none */

#endif
