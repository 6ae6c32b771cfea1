/* A byte stream on a socket: its two events, the owner's callbacks, its deadlines and its end. TLS is in stream_tls.c. libevent's
 * bufferevents are not used, because of what they do dearly:
 *
 *   - they ask how much there is before they read, and read 4 KiB at most: here one recv(2) takes what there is, up to 64 KiB, into
 *     memory that all streams share, and what came is kept in just as much of it;
 *   - they ask the kernel for writability before each write: here output is written at the end of the turn first, and is waited
 *     for only when the socket took less;
 *   - parking is lazy: reading is switched off when something arrives while parked, so a reply that comes first costs no
 *     epoll_ctl(2).
 *
 * Under TLS the wire has two buffers and the owner two of its own; in clear both pairs are the same.
 *
 * Invariants: the input never holds more than `cap`, and the wire's no more than that or STREAM_READ_LEAST; reading is off while the
 * input is full; `parked_input` says that the owner was not told of something; `stalled`, that there may be more to decrypt although the
 * wire brings nothing new; after `closed` no owner callback runs. A stream nobody owns (stream_close_after_write) is adopted by the
 * loop and ends by itself.
 *
 *   OWNED -close-> CLOSED          OWNED -close_after_write-> FLUSHING -drained, shutdown-> LINGERING -eof, time-> CLOSED
 */
#include "common/stream_impl.h"

#include "common/clock.h"
#include "common/tls_pipe.h"

#include <event2/event.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_MOST (64 * 1024)
#define READ_PARKED 4096 /* of what nobody wants yet */
#define WRITE_MOST (256 * 1024)
#define FLUSH_MOST_US 120000000

static char passing[READ_MOST]; /* what came, only until it is where it belongs */

static void on_readable(evutil_socket_t, short, void *);
static void on_writable(evutil_socket_t, short, void *);
static void on_input(struct evbuffer *, const struct evbuffer_cb_info *, void *);
static void on_output(struct evbuffer *, const struct evbuffer_cb_info *, void *);
static void flush_output(struct stream *);
static void on_flush(void *);
static void on_notify(void *);
static void on_timer(void *);

static size_t output_length(const struct stream *s) {
	return evbuffer_get_length(s->out) + (s->tls ? evbuffer_get_length(s->wire_out) : 0);
}

static void must(bool ok) {
	if (!ok)
		abort();
}

static void prepare_socket(int fd) {
	int one = 1, flags = fcntl(fd, F_GETFL);
	if (flags >= 0 && !(flags & O_NONBLOCK))
		fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	/* Fails on a Unix socket, which has no such delay. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

void stream_watch_buffers(struct stream *s, struct evbuffer *in, struct evbuffer *out) {
	s->in = in;
	s->out = out;
	must(evbuffer_add_cb(out, on_output, s) != NULL);
	s->input_cb = evbuffer_add_cb(in, on_input, s);
	must(s->input_cb != NULL);
	evbuffer_cb_clear_flags(in, s->input_cb, EVBUFFER_CB_ENABLED);
}

void stream_unwatch_buffers(struct stream *s) {
	evbuffer_remove_cb(s->in, on_input, s);
	evbuffer_remove_cb(s->out, on_output, s);
}

struct stream *stream_new(struct loop *loop, int fd, size_t input_cap, const struct stream_ops *ops, void *arg) {
	assert(input_cap > 0);
	struct stream *s = xcalloc(1, sizeof(*s));
	s->loop = loop;
	s->ops = ops;
	s->arg = arg;
	s->cap = input_cap;
	prepare_socket(fd);
	s->fd = fd;
	s->readable = event_new(loop_base(loop), fd, EV_READ | EV_PERSIST, on_readable, s);
	s->writable = event_new(loop_base(loop), fd, EV_WRITE | EV_PERSIST, on_writable, s);
	s->wire_in = evbuffer_new();
	s->wire_out = evbuffer_new();
	must(s->readable && s->writable && s->wire_in && s->wire_out);
	stream_watch_buffers(s, s->wire_in, s->wire_out);
	timer_init(&s->timer, loop, on_timer, s);
	return s;
}

static void stream_destroy(void *obj) {
	struct stream *s = obj;
	if (s->tls) {
		tls_pipe_free(s->tls);
		evbuffer_free(s->in);
		evbuffer_free(s->out);
	}
	event_free(s->readable);
	event_free(s->writable);
	evbuffer_free(s->wire_in);
	evbuffer_free(s->wire_out);
	close(s->fd);
	timer_fini(&s->timer);
	free(s);
}

static void set_event(struct event *event, bool *was, bool on) {
	if (*was == on)
		return;
	*was = on;
	must((on ? event_add(event, NULL) : event_del(event)) == 0);
}

void stream_set_reading(struct stream *s, bool on) {
	set_event(s->readable, &s->reading, on);
}

static void set_writing(struct stream *s, bool on) {
	set_event(s->writable, &s->writing, on);
}

/* What stopped decrypting may be over: go on by itself, as reading does. */
static void resume_stalled(struct stream *s) {
	if (s->stalled && !s->full && s->want_read && !s->error && evbuffer_get_length(s->wire_out) < TLS_PIPE_WIRE_MARK)
		loop_defer(s->loop, &s->notify, on_notify, s);
}

/* The one function that arms reading. Parked streams are left reading until something comes. */
void stream_update_reading(struct stream *s) {
	bool full = stream_input_length(s) >= s->cap;
	if (full && !s->full)
		evbuffer_cb_set_flags(s->in, s->input_cb, EVBUFFER_CB_ENABLED);
	else if (!full && s->full)
		evbuffer_cb_clear_flags(s->in, s->input_cb, EVBUFFER_CB_ENABLED);
	s->full = full;
	if (full || s->stalled || s->eof || s->wire_eof || s->error || s->state == STREAM_CLOSED)
		stream_set_reading(s, false);
	else if (s->want_read || s->security == HANDSHAKE)
		stream_set_reading(s, true);
	resume_stalled(s);
}

static void on_input(struct evbuffer *in, const struct evbuffer_cb_info *info, void *arg) {
	struct stream *s = arg;
	(void)in;
	(void)info;
	if (s->state != STREAM_CLOSED)
		stream_update_reading(s);
}

struct stream *stream_close(struct stream *s) {
	if (!s)
		return NULL;
	assert(s->state != STREAM_CLOSED);
	s->state = STREAM_CLOSED;
	evbuffer_remove_cb(s->out, on_output, s);
	s->stalled = false;
	stream_set_reading(s, false);
	set_writing(s, false);
	timer_disarm(&s->timer);
	deferred_cancel(&s->flush);
	deferred_cancel(&s->notify);
	adopted_leave(&s->adopted);
	loop_bury(s->loop, s, stream_destroy);
	return NULL;
}

static void end_adopted(void *arg) {
	stream_close(arg);
}

/* Runs the owner's callback. Afterwards the stream may be closed or disowned, but is still there: the graveyard is later. */
void stream_deliver(struct stream *s, enum stream_event event) {
	if (s->state != STREAM_OWNED)
		return;
	bool wanted = s->want_read;
	size_t before = stream_input_length(s);
	s->in_event = true;
	s->unparked = false;
	s->ops->on_event(s->arg, event);
	s->in_event = false;
	if (s->state != STREAM_OWNED)
		return;
	stream_update_reading(s);
	/* Parked and wanted again inside the callback is news only if it took something meanwhile; else two owners' updates in
	 * one callback could keep the loop spinning over the first half of a line. */
	if (s->want_read && s->unparked && (!wanted || stream_input_length(s) != before || s->parked_input))
		loop_defer(s->loop, &s->notify, on_notify, s);
}

void stream_fail(struct stream *s, int error) {
	if (s->error || s->state == STREAM_CLOSED)
		return;
	s->error = error > 0 ? -error : -EIO;
	stream_set_reading(s, false);
	set_writing(s, false);
	deferred_cancel(&s->notify);
	timer_disarm(&s->timer);
	s->deadline = 0;
	if (s->state == STREAM_OWNED)
		stream_deliver(s, STREAM_ERROR);
	else
		stream_close(s);
}

static void tell_eof(struct stream *s) {
	if (s->state != STREAM_OWNED || !s->eof || s->eof_told || !s->want_read || s->error || list_linked(&s->notify.link))
		return;
	s->eof_told = true;
	stream_deliver(s, STREAM_EOF);
}

/* ---- input ---- */

/* After parking, or when what was in the way has gone: what is unread, then the end if it was seen. */
static void on_notify(void *arg) {
	struct stream *s = arg;
	if (s->state != STREAM_OWNED || !s->want_read || s->error)
		return;
	s->parked_input = false;
	if (s->stalled && !stream_decrypt(s))
		return;
	if (stream_input_length(s) > 0)
		stream_deliver(s, STREAM_READABLE);
	else
		stream_update_reading(s);
	tell_eof(s);
}

/* What came in while the owner wants it. */
static void take_input(struct stream *s) {
	size_t before = stream_input_length(s);
	if (s->tls && !stream_decrypt(s))
		return;
	stream_update_reading(s);
	s->parked_input = false;
	deferred_cancel(&s->notify);
	if (!s->tls || stream_input_length(s) > before)
		stream_deliver(s, STREAM_READABLE);
	else
		resume_stalled(s);
	if (s->tls)
		tell_eof(s);
}

static bool drops_input(const struct stream *s) {
	return s->state != STREAM_OWNED || s->security == BROKEN;
}

static void on_octets(struct stream *s, const char *p, size_t n) {
	if (drops_input(s))
		return;
	must(evbuffer_add(s->wire_in, p, n) == 0);
	if (s->security == HANDSHAKE) {
		stream_shake_hands(s);
	} else if (!s->want_read) {
		s->parked_input = true;
		s->stalled = s->tls != NULL;
		stream_set_reading(s, false);
	} else {
		take_input(s);
	}
}

static void on_wire_eof(struct stream *s) {
	s->wire_eof = true;
	stream_set_reading(s, false);
	if (s->state != STREAM_OWNED || s->security == CLEAR)
		s->eof = true;
	if (s->state == STREAM_LINGERING)
		stream_close(s);
	else if (s->security == HANDSHAKE)
		stream_shake_hands(s);
	else if (s->security == CLEAR)
		tell_eof(s);
	else if (s->security == SECURE && s->state == STREAM_OWNED && s->want_read)
		take_input(s);
	else
		s->stalled = s->security == SECURE && s->state == STREAM_OWNED;
}

/* How much may be read now. */
static size_t room_for_input(const struct stream *s) {
	size_t held = evbuffer_get_length(s->wire_in), cap = s->tls ? max_of(s->cap, (size_t)STREAM_READ_LEAST) : s->cap;
	if (drops_input(s))
		return READ_MOST;
	return held < cap ? min_of(cap - held, (size_t)(s->want_read || s->security == HANDSHAKE ? READ_MOST : READ_PARKED)) : 0;
}

static void on_readable(evutil_socket_t fd, short what, void *arg) {
	struct stream *s = arg;
	size_t room = room_for_input(s);
	(void)what;
	if (room == 0) { /* TLS makes nothing of what it has, or an owner has added to its own input */
		s->stalled = s->tls != NULL;
		stream_update_reading(s);
		return;
	}
	ssize_t n = recv(fd, passing, room, 0);
	if (n > 0)
		on_octets(s, passing, (size_t)n);
	else if (n == 0)
		on_wire_eof(s);
	else if (errno != EAGAIN && errno != EINTR)
		stream_fail(s, errno);
}

bool stream_input_waits(struct stream *s) {
	if (s->state != STREAM_OWNED || s->error || s->security == HANDSHAKE || s->security == BROKEN)
		return false;
	if (!s->tls)
		return recv(s->fd, passing, 1, MSG_PEEK) > 0;
	size_t room = room_for_input(s);
	ssize_t n = room > 0 ? recv(s->fd, passing, room, 0) : 0;
	if (n > 0)
		must(evbuffer_add(s->wire_in, passing, (size_t)n) == 0);
	bool more = tls_pipe_waits(s->tls);
	s->stalled |= n > 0 || more; /* a failure or an end that came along is told when it is read */
	stream_flush_later(s);
	stream_update_reading(s);
	return more;
}

/* ---- output ---- */

void stream_flush_later(struct stream *s) {
	if (evbuffer_get_length(s->wire_out) > 0 && !s->writing && !s->error)
		loop_defer(s->loop, &s->flush, on_flush, s);
}

/* FLUSHING: all is written, so the peer is told, and given time to take it. */
static void start_lingering(struct stream *s) {
	if (shutdown(s->fd, SHUT_WR) < 0 || s->eof || s->linger_us <= 0) {
		stream_close(s);
		return;
	}
	s->state = STREAM_LINGERING;
	timer_arm(&s->timer, s->linger_us);
}

/* Output was written: who waits for that? */
static void after_write(struct stream *s) {
	size_t pending = output_length(s);
	if (evbuffer_get_length(s->wire_out) == 0)
		set_writing(s, false);
	resume_stalled(s);
	if (s->state == STREAM_FLUSHING && pending == 0) {
		start_lingering(s);
	} else if (s->above && pending <= s->low) {
		s->above = false;
		stream_deliver(s, STREAM_DRAINED);
	}
}

static void on_writable(evutil_socket_t fd, short what, void *arg) {
	struct stream *s = arg;
	(void)fd;
	(void)what;
	if (!stream_write_wire(s))
		return;
	if (!s->tls) {
		after_write(s);
	} else if (evbuffer_get_length(s->wire_out) == 0) {
		set_writing(s, false);
		flush_output(s); /* the next of it is encrypted only now */
	}
}

static void on_output(struct evbuffer *out, const struct evbuffer_cb_info *info, void *arg) {
	struct stream *s = arg;
	if (info->n_added == 0 || s->error)
		return;
	(void)out;
	if (output_length(s) > s->low)
		s->above = true;
	if (!s->writing)
		loop_defer(s->loop, &s->flush, on_flush, s);
}

static void on_flush(void *arg) {
	flush_output(arg);
}

/* Gives the socket what it takes now. False: the stream has failed. */
bool stream_write_wire(struct stream *s) {
	if (evbuffer_get_length(s->wire_out) == 0 || evbuffer_write_atmost(s->wire_out, s->fd, WRITE_MOST) >= 0 || errno == EAGAIN ||
	    errno == EINTR)
		return true;
	stream_fail(s, errno);
	return false;
}

/* Writes what the socket takes now; the rest goes when it is writable again. */
static void flush_output(struct stream *s) {
	if (s->error || s->writing)
		return;
	do {
		if (!stream_encrypt(s) || !stream_write_wire(s))
			return;
	} while (s->security == SECURE && evbuffer_get_length(s->out) > 0 && evbuffer_get_length(s->wire_out) == 0);
	if (evbuffer_get_length(s->wire_out) > 0)
		set_writing(s, true);
	after_write(s);
}

struct stream *stream_close_after_write(struct stream *s, int64_t linger_us) {
	if (!s || s->error)
		return stream_close(s);
	s->state = STREAM_FLUSHING;
	s->linger_us = linger_us;
	int64_t now = clock_mono_us();
	s->flush_limit = s->deadline ? s->deadline : now + FLUSH_MOST_US;
	deferred_cancel(&s->notify);
	deferred_cancel(&s->flush);
	loop_adopt(s->loop, &s->adopted, end_adopted, s);
	/* A peer that is blocked in its own write would never read ours: input is taken and dropped from now on. */
	evbuffer_drain(s->wire_in, SIZE_MAX);
	evbuffer_drain(s->in, SIZE_MAX);
	s->stalled = false;
	s->want_read = true;
	stream_update_reading(s);
	s->flush_pending = output_length(s);
	timer_arm(&s->timer, min_of(linger_us, s->flush_limit - now));
	flush_output(s);
	return NULL;
}

/* FLUSHING goes on while the peer takes something; see the header for how long. */
static void flush_late(struct stream *s) {
	size_t pending = output_length(s);
	int64_t left = s->flush_limit - clock_mono_us();
	if (pending >= s->flush_pending || left <= 0) {
		stream_close(s);
		return;
	}
	s->flush_pending = pending;
	timer_arm(&s->timer, min_of(s->linger_us, left));
}

/* The timer is moved only to come earlier: most deadlines are replaced by later ones long before they pass. What is left is
 * reckoned from what the timer was armed for, not from the clock, so it fires also where a test has frozen the clock. */
static void on_timer(void *arg) {
	struct stream *s = arg;
	if (s->state == STREAM_FLUSHING) {
		flush_late(s);
	} else if (s->state == STREAM_LINGERING) {
		stream_close(s);
	} else if (s->deadline > s->armed_for) {
		timer_arm(&s->timer, s->deadline - s->armed_for);
		s->armed_for = s->deadline;
	} else if (s->deadline) {
		s->deadline = 0;
		stream_deliver(s, STREAM_DEADLINE);
	}
}

void stream_set_deadline(struct stream *s, int64_t after_us) {
	if (s->error || after_us <= 0) {
		s->deadline = 0;
		return;
	}
	s->deadline = clock_mono_us() + after_us;
	if (timer_armed(&s->timer) && s->armed_for <= s->deadline)
		return;
	s->armed_for = s->deadline;
	timer_arm(&s->timer, after_us);
}

void stream_want_read(struct stream *s, bool want) {
	bool had = s->want_read;
	if (s->error)
		return;
	s->want_read = want;
	if (!want) {
		deferred_cancel(&s->notify);
		return;
	}
	stream_update_reading(s);
	if (had)
		return;
	if (s->in_event)
		s->unparked = true;
	else if (stream_input_length(s) > 0 || s->stalled || (s->eof && !s->eof_told))
		loop_defer(s->loop, &s->notify, on_notify, s);
}

struct evbuffer *stream_input(struct stream *s) {
	return s->in;
}

struct evbuffer *stream_output(struct stream *s) {
	return s->out;
}

size_t stream_output_pending(struct stream *s) {
	return output_length(s);
}

void stream_set_output_low(struct stream *s, size_t low) {
	s->low = low;
}

int stream_error(const struct stream *s) {
	return s->error;
}

int stream_fd(const struct stream *s) {
	return s->fd;
}
