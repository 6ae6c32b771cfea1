/* Private to stream*.c: a stream's memory, and what its two halves call of each other. stream.c has the socket, the owner and time;
 * stream_tls.c what stands between the owner's buffers and those of the wire. */
#ifndef MINUTEMAIL_STREAM_IMPL_H
#define MINUTEMAIL_STREAM_IMPL_H

#include "common/loop.h"
#include "common/stream.h"

#include <event2/buffer.h>

struct event;
struct tls_pipe;

#define STREAM_READ_LEAST 4096 /* of the wire under TLS, however small the cap is */

enum stream_state { STREAM_OWNED, STREAM_FLUSHING, STREAM_LINGERING, STREAM_CLOSED };
enum security { CLEAR, HANDSHAKE, SECURE, BROKEN };

struct stream {
	struct loop *loop;
	int fd;
	struct event *readable, *writable;
	struct evbuffer *wire_in, *wire_out; /* what is on the wire */
	struct evbuffer *in, *out;          /* the owner's; in clear the same */
	struct evbuffer_cb_entry *input_cb; /* enabled while full */
	const struct stream_ops *ops;
	void *arg;
	enum stream_state state;
	enum security security;
	struct tls_pipe *tls; /* NULL in clear */
	bool want_read; /* the owner's wish */
	bool reading;   /* `readable` is added */
	bool full;      /* the input is at its cap; on_input tells when it is not any more */
	bool writing;   /* `writable` is added: the socket was full */
	bool wire_eof;  /* the socket has ended */
	bool eof;       /* and all input before that was seen; under TLS also at close_notify */
	bool stalled;   /* decrypting stopped for want of room */
	bool eof_told;
	bool parked_input; /* input came, or was left, while parked */
	bool unparked;     /* want_read rose since the callback began */
	bool above;        /* output was above the low mark since the last STREAM_DRAINED */
	bool in_event;
	int error;
	size_t cap, low;
	int64_t deadline;  /* monotonic; 0: none */
	int64_t armed_for; /* what the timer waits for; it may be earlier than the deadline */
	struct timer timer;
	struct deferred flush, notify;
	struct adopted adopted;
	int64_t linger_us, flush_limit;
	size_t flush_pending;
};

static inline size_t stream_input_length(const struct stream *s) {
	return evbuffer_get_length(s->in);
}

/* ---- stream.c ---- */

void stream_watch_buffers(struct stream *, struct evbuffer *in, struct evbuffer *out);
void stream_unwatch_buffers(struct stream *);
void stream_set_reading(struct stream *, bool);
void stream_update_reading(struct stream *);
void stream_deliver(struct stream *, enum stream_event);   /* afterwards it may be closed or disowned, but is still there */
void stream_fail(struct stream *, int error);              /* tells the owner, once */
void stream_flush_later(struct stream *);                  /* what the protocol itself has to say: no owner added it */
bool stream_write_wire(struct stream *);                   /* gives the socket what it takes now; false: failed */

/* ---- stream_tls.c ---- */

bool stream_decrypt(struct stream *);                      /* false: failed, and the owner was told */
bool stream_encrypt(struct stream *);                      /* moves the owner's output to the wire; false: failed. In clear nothing */
void stream_shake_hands(struct stream *);                  /* goes on with the handshake: the wire has brought something, or ended */

#endif
