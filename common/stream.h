/* A byte stream on a connected socket: buffers with deadlines and a cap that holds. TLS comes in place: everything below
 * then speaks of what is inside. One owner; no callback runs after stream_close(). */
#ifndef MINUTEMAIL_STREAM_H
#define MINUTEMAIL_STREAM_H

#include "common/base.h"

struct loop;
struct evbuffer;
struct stream;
struct tls_info;
struct tls_set;

enum stream_event {
	STREAM_READABLE, /* input grew, or input was unread when reading was wanted again after parking; never while parked */
	STREAM_DRAINED,  /* output fell from above the low mark to it (default 0) */
	STREAM_EOF,      /* the peer sent its end; output still works. Once, not while parked, after all input was READABLE */
	STREAM_DEADLINE, /* the deadline set last has passed; it is disarmed. May come some milliseconds early (coarse clock) */
	STREAM_ERROR,    /* the connection is gone; stream_error() says why. Once, also while parked; nothing comes after it */
	STREAM_TLS,      /* the handshake is done: stream_tls() tells what was agreed. Also while parked */
	STREAM_TLS_FAILED, /* it is not, or the peer left: stream_tls_error(). All that is left to do is to close; an alert may wait
	                      to be written, so stream_close_after_write() is the better way. Also while parked */
};

struct stream_ops {
	void (*on_event)(void *arg, enum stream_event);
};

/* Owns fd. Events come from the loop only, never inside a call of these functions. `input_cap`: octets held unread at the most; past it
 * reading stops by itself (the kernel's window does the back-pressure) and goes on when input is consumed. Reading starts off. */
struct stream *stream_new(struct loop *, int fd, size_t input_cap, const struct stream_ops *, void *arg);
/* Detaches the callbacks at once, frees at the end of the turn. Output not yet written is lost. NULL is fine; returns NULL. */
struct stream *stream_close(struct stream *);
/* Shuts output down once all of it is written, discards input for at most `linger_us`, then closes and frees by itself; the
 * caller must forget the pointer. So that a last reply is not lost to a RST (RFC 9112 9.6). Returns NULL. Writing is given up
 * when it makes no progress for `linger_us`, or at the stream's deadline (none set: 120 s). NULL is fine. */
struct stream *stream_close_after_write(struct stream *, int64_t linger_us);

/* Makes this end a TLS server. Output that was added before leaves in clear, in front of the handshake; what is added during it
 * waits for its end, and is dropped if it fails: a stream never goes back. The handshake reads by itself, wanted or not; its
 * deadline is the stream's. stream_input() and stream_output() are others afterwards. At the peer's close_notify, or at an end of
 * the connection without one, comes STREAM_EOF: who needs to know a cut from an end must frame what it sends, as SMTP and HTTP do.
 * After a breach of the protocol the stream ends with STREAM_ERROR, -EPROTO. A reference to the set is kept. -EPROTO now: there
 * is input in clear that nobody has read (CVE-2011-0411), or its end was seen; nothing has changed. */
int stream_start_tls(struct stream *, struct tls_set *);
const struct tls_info *stream_tls(const struct stream *);     /* NULL in clear; complete after STREAM_TLS */
const char *stream_tls_error(const struct stream *);          /* static text; NULL: none */

void stream_want_read(struct stream *, bool);                 /* arm or park input */
struct evbuffer *stream_input(struct stream *);               /* borrowed: drain what you used */
/* Whether the peer has said more than stream_input() holds, as far as it has come: for those before whom nothing may have been said.
 * Under TLS what cannot be decrypted yet, or says nothing, as a change of keys, does not count. stream_input() stays as it is. */
bool stream_input_waits(struct stream *);
/* Borrowed: add to it. Writing starts by itself at the end of the turn, so replies of one turn leave in one packet. */
struct evbuffer *stream_output(struct stream *);
size_t stream_output_pending(struct stream *);
void stream_set_output_low(struct stream *, size_t low);      /* STREAM_DRAINED when pending falls to this */
void stream_set_deadline(struct stream *, int64_t after_us);  /* absolute from now; 0 disarms */
int stream_error(const struct stream *);                      /* -errno; 0 if none */
int stream_fd(const struct stream *);

#endif
