/* A byte stream on a bufferevent, which owns the socket. What libevent 2.1 does dearly is done here instead:
 *
 *   - it reads 4 KiB a call: when that was filled, the rest is read in one more call of up to 64 KiB;
 *   - it asks the kernel for writability before each write: output is written at the end of the turn first, and EV_WRITE is
 *     enabled only when the socket took less;
 *   - parking is lazy: reading is switched off when something arrives while parked, so a reply that comes first costs no
 *     epoll_ctl(2);
 *   - at the high mark it calls back again and again until input is taken: EV_READ is off while the input is full.
 *
 * Under TLS the bufferevent's buffers hold what is on the wire, and the owner has two of its own; a tls_pipe stands between. In
 * clear both pairs are the same. What was encrypted is never mixed with what was not: the clear input must be empty when TLS
 * starts, and output of the owner waits for the end of the handshake or is dropped.
 *
 * Invariants: the input never holds more than `cap` (the bufferevent's high mark, and checked here), and the wire's
 * no more than that or one read; `parked_input` says that the owner was not told of something; `stalled`, that there may be more to decrypt although the
 * wire brings nothing new; after `closed` no owner callback runs. A stream nobody owns (stream_close_after_write) is adopted by the
 * loop and ends by itself.
 *
 *   OWNED -close-> CLOSED          OWNED -close_after_write-> FLUSHING -drained, shutdown-> LINGERING -eof, time-> CLOSED
 *   CLEAR -start_tls-> HANDSHAKE -done-> SECURE;  HANDSHAKE -failed-> BROKEN
 */
#include "common/stream.h"

#include "common/clock.h"
#include "common/loop.h"
#include "common/tls_pipe.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define READ_CALL 4096 /* what libevent reads at once */
#define READ_MORE (64 * 1024)
#define WRITE_MOST (256 * 1024)
#define FLUSH_MOST_US 120000000

enum stream_state { STREAM_OWNED, STREAM_FLUSHING, STREAM_LINGERING, STREAM_CLOSED };
enum security { CLEAR, HANDSHAKE, SECURE, BROKEN };

struct stream {
	struct loop *loop;
	struct bufferevent *bev;
	struct evbuffer *in, *out;          /* the owner's; in clear the bufferevent's */
	struct evbuffer_cb_entry *input_cb; /* enabled while full */
	const struct stream_ops *ops;
	void *arg;
	enum stream_state state;
	enum security security;
	struct tls_pipe *tls; /* NULL in clear */
	bool want_read; /* the owner's wish */
	bool reading;   /* EV_READ is enabled */
	bool full;      /* the input is at its cap; on_input tells when it is not any more */
	bool writing;   /* EV_WRITE is enabled: the socket was full */
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

static void on_read(struct bufferevent *, void *);
static void on_write(struct bufferevent *, void *);
static void on_bev_event(struct bufferevent *, short, void *);
static void on_input(struct evbuffer *, const struct evbuffer_cb_info *, void *);
static void on_output(struct evbuffer *, const struct evbuffer_cb_info *, void *);
static bool write_wire(struct stream *);
static void flush_output(struct stream *);
static void on_flush(void *);
static void on_notify(void *);
static void on_timer(void *);

static struct evbuffer *wire_in(const struct stream *s) {
	return bufferevent_get_input(s->bev);
}

static struct evbuffer *wire_out(const struct stream *s) {
	return bufferevent_get_output(s->bev);
}

static size_t input_length(const struct stream *s) {
	return evbuffer_get_length(s->in);
}

static size_t output_length(const struct stream *s) {
	return evbuffer_get_length(s->out) + (s->tls ? evbuffer_get_length(wire_out(s)) : 0);
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

static void watch_buffers(struct stream *s, struct evbuffer *in, struct evbuffer *out) {
	s->in = in;
	s->out = out;
	must(evbuffer_add_cb(out, on_output, s) != NULL);
	s->input_cb = evbuffer_add_cb(in, on_input, s);
	must(s->input_cb != NULL);
	evbuffer_cb_clear_flags(in, s->input_cb, EVBUFFER_CB_ENABLED);
}

struct stream *stream_new(struct loop *loop, int fd, size_t input_cap, const struct stream_ops *ops, void *arg) {
	assert(input_cap > 0);
	struct stream *s = xcalloc(1, sizeof(*s));
	s->loop = loop;
	s->ops = ops;
	s->arg = arg;
	s->cap = input_cap;
	prepare_socket(fd);
	s->bev = bufferevent_socket_new(loop_base(loop), fd, BEV_OPT_CLOSE_ON_FREE);
	must(s->bev != NULL);
	bufferevent_setcb(s->bev, on_read, on_write, on_bev_event, s);
	bufferevent_setwatermark(s->bev, EV_READ, 0, input_cap);
	bufferevent_set_max_single_read(s->bev, READ_MORE);
	bufferevent_set_max_single_write(s->bev, WRITE_MOST);
	bufferevent_disable(s->bev, EV_READ | EV_WRITE);
	watch_buffers(s, wire_in(s), wire_out(s));
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
	bufferevent_free(s->bev);
	timer_fini(&s->timer);
	free(s);
}

static void set_reading(struct stream *s, bool on) {
	if (s->reading == on)
		return;
	s->reading = on;
	if (on)
		bufferevent_enable(s->bev, EV_READ);
	else
		bufferevent_disable(s->bev, EV_READ);
}

static void set_writing(struct stream *s, bool on) {
	if (s->writing == on)
		return;
	s->writing = on;
	if (on)
		bufferevent_enable(s->bev, EV_WRITE);
	else
		bufferevent_disable(s->bev, EV_WRITE);
}

/* What stopped decrypting may be over: go on by itself, as reading does. */
static void resume_stalled(struct stream *s) {
	if (s->stalled && !s->full && s->want_read && !s->error && evbuffer_get_length(wire_out(s)) < TLS_PIPE_WIRE_MARK)
		loop_defer(s->loop, &s->notify, on_notify, s);
}

/* The one function that arms reading. Parked streams are left reading until something comes. */
static void update_reading(struct stream *s) {
	bool full = input_length(s) >= s->cap;
	if (full && !s->full)
		evbuffer_cb_set_flags(s->in, s->input_cb, EVBUFFER_CB_ENABLED);
	else if (!full && s->full)
		evbuffer_cb_clear_flags(s->in, s->input_cb, EVBUFFER_CB_ENABLED);
	s->full = full;
	if (full || s->stalled || s->eof || s->wire_eof || s->error || s->state == STREAM_CLOSED)
		set_reading(s, false);
	else if (s->want_read || s->security == HANDSHAKE)
		set_reading(s, true);
	resume_stalled(s);
}

static void on_input(struct evbuffer *in, const struct evbuffer_cb_info *info, void *arg) {
	struct stream *s = arg;
	(void)in;
	(void)info;
	if (s->state != STREAM_CLOSED)
		update_reading(s);
}

struct stream *stream_close(struct stream *s) {
	if (!s)
		return NULL;
	assert(s->state != STREAM_CLOSED);
	s->state = STREAM_CLOSED;
	bufferevent_setcb(s->bev, NULL, NULL, NULL, NULL);
	evbuffer_remove_cb(s->out, on_output, s);
	s->stalled = false;
	set_reading(s, false);
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
static void deliver(struct stream *s, enum stream_event event) {
	if (s->state != STREAM_OWNED)
		return;
	bool wanted = s->want_read;
	size_t before = input_length(s);
	s->in_event = true;
	s->unparked = false;
	s->ops->on_event(s->arg, event);
	s->in_event = false;
	if (s->state != STREAM_OWNED)
		return;
	update_reading(s);
	/* Parked and wanted again inside the callback is news only if it took something meanwhile; else two owners' updates in
	 * one callback could keep the loop spinning over the first half of a line. */
	if (s->want_read && s->unparked && (!wanted || input_length(s) != before || s->parked_input))
		loop_defer(s->loop, &s->notify, on_notify, s);
}

static void fail(struct stream *s, int error) {
	if (s->error || s->state == STREAM_CLOSED)
		return;
	s->error = error > 0 ? -error : -EIO;
	set_reading(s, false);
	set_writing(s, false);
	deferred_cancel(&s->notify);
	timer_disarm(&s->timer);
	s->deadline = 0;
	if (s->state == STREAM_OWNED)
		deliver(s, STREAM_ERROR);
	else
		stream_close(s);
}

static void tell_eof(struct stream *s) {
	if (s->state != STREAM_OWNED || !s->eof || s->eof_told || !s->want_read || s->error || list_linked(&s->notify.link))
		return;
	s->eof_told = true;
	deliver(s, STREAM_EOF);
}

/* ---- TLS ---- */

/* What the protocol itself has to say: no owner added it, so no callback tells. */
static void flush_later(struct stream *s) {
	if (evbuffer_get_length(wire_out(s)) > 0 && !s->writing && !s->error)
		loop_defer(s->loop, &s->flush, on_flush, s);
}

/* False: the stream has failed, and its owner was told. */
static bool decrypt(struct stream *s) {
	size_t held = input_length(s);
	enum tls_pipe_result r = held < s->cap ? tls_pipe_read(s->tls, s->in, s->cap - held) : TLS_PIPE_OK;
	s->stalled = r == TLS_PIPE_OK;
	switch (r) {
	case TLS_PIPE_OK:
		break;
	case TLS_PIPE_MORE:
		s->eof = s->eof || s->wire_eof;
		break;
	case TLS_PIPE_END:
		s->eof = true;
		break;
	case TLS_PIPE_FAILED:
		write_wire(s); /* the alert, if the socket takes it */
		fail(s, EPROTO);
		return false;
	}
	flush_later(s);
	return true;
}

static void break_handshake(struct stream *s) {
	s->security = BROKEN;
	set_reading(s, false);
	flush_later(s);
	deliver(s, STREAM_TLS_FAILED);
}

static void shake_hands(struct stream *s) {
	switch (tls_pipe_handshake(s->tls)) {
	case TLS_PIPE_OK:
		s->security = SECURE;
		s->stalled = true; /* what came behind it lies in the wire's buffer */
		flush_later(s);
		deliver(s, STREAM_TLS);
		break;
	case TLS_PIPE_MORE:
		if (s->wire_eof)
			break_handshake(s);
		else
			flush_later(s);
		break;
	case TLS_PIPE_END:
	case TLS_PIPE_FAILED:
		break_handshake(s);
		break;
	}
}

int stream_start_tls(struct stream *s, struct tls_set *set) {
	assert(s->state == STREAM_OWNED && s->security == CLEAR);
	if (s->error)
		return s->error;
	if (input_length(s) > 0 || s->eof)
		return -EPROTO;
	evbuffer_remove_cb(s->in, on_input, s);
	evbuffer_remove_cb(s->out, on_output, s);
	deferred_cancel(&s->notify);
	s->parked_input = false;
	s->tls = tls_pipe_new(set, wire_in(s), wire_out(s));
	s->security = HANDSHAKE;
	struct evbuffer *in = evbuffer_new(), *out = evbuffer_new();
	must(in && out);
	watch_buffers(s, in, out);
	bufferevent_setwatermark(s->bev, EV_WRITE, 0, 0);
	bufferevent_setwatermark(s->bev, EV_READ, 0, max_of(s->cap, (size_t)READ_CALL));
	update_reading(s);
	return 0;
}

const struct tls_info *stream_tls(const struct stream *s) {
	return s->tls ? tls_pipe_info(s->tls) : NULL;
}

const char *stream_tls_error(const struct stream *s) {
	const char *error = s->tls ? tls_pipe_error(s->tls) : NULL;
	return error ? error : s->wire_eof ? "connection ended" : NULL;
}

/* ---- input ---- */

/* After parking, or when what was in the way has gone: what is unread, then the end if it was seen. */
static void on_notify(void *arg) {
	struct stream *s = arg;
	if (s->state != STREAM_OWNED || !s->want_read || s->error)
		return;
	s->parked_input = false;
	if (s->stalled && !decrypt(s))
		return;
	if (input_length(s) > 0)
		deliver(s, STREAM_READABLE);
	else
		update_reading(s);
	tell_eof(s);
}

/* Reads on past libevent's 4 KiB. The end or an error of its own it leaves for the bufferevent to meet, except that an error
 * is told once by the kernel. Returns it, 0 if none. */
static int read_more(struct stream *s) {
	struct evbuffer *in = wire_in(s);
	size_t held = evbuffer_get_length(in);
	struct evbuffer_iovec vec[2];
	ssize_t n = 0;
	int error = 0;
	if (held >= s->cap)
		return 0;
	size_t room = min_of(s->cap - held, (size_t)READ_MORE);
	evbuffer_unfreeze(in, 0);
	int count = evbuffer_reserve_space(in, (ev_ssize_t)room, vec, 2);
	if (count > 0) {
		/* More than asked for may be offered; the cap is ours to keep. */
		vec[0].iov_len = min_of(vec[0].iov_len, room);
		if (count > 1)
			vec[1].iov_len = min_of(vec[1].iov_len, room - vec[0].iov_len);
		do
			n = readv(bufferevent_getfd(s->bev), vec, count);
		while (n < 0 && errno == EINTR);
		if (n < 0 && errno != EAGAIN)
			error = errno;
		size_t left = n > 0 ? (size_t)n : 0;
		for (int i = 0; i < count; i++) {
			vec[i].iov_len = min_of(vec[i].iov_len, left);
			left -= vec[i].iov_len;
		}
		evbuffer_commit_space(in, vec, count);
	}
	evbuffer_freeze(in, 0);
	return error;
}

/* What came in while the owner wants it. */
static void take_input(struct stream *s, int error) {
	size_t before = input_length(s);
	if (s->tls && !decrypt(s))
		return;
	update_reading(s);
	s->parked_input = false;
	deferred_cancel(&s->notify);
	if (!s->tls || input_length(s) > before)
		deliver(s, STREAM_READABLE);
	else
		resume_stalled(s);
	if (error)
		fail(s, error);
	else if (s->tls)
		tell_eof(s);
}

static void on_read(struct bufferevent *bev, void *arg) {
	struct stream *s = arg;
	if (s->state != STREAM_OWNED || s->security == BROKEN) {
		evbuffer_drain(bufferevent_get_input(bev), SIZE_MAX);
		return;
	}
	if (s->security == HANDSHAKE) {
		shake_hands(s);
		return;
	}
	if (!s->want_read) {
		s->parked_input = true;
		s->stalled = s->tls != NULL;
		set_reading(s, false);
		return;
	}
	take_input(s, evbuffer_get_length(wire_in(s)) >= READ_CALL ? read_more(s) : 0);
}

static void on_wire_eof(struct stream *s) {
	s->wire_eof = true;
	set_reading(s, false);
	if (s->state != STREAM_OWNED || s->security == CLEAR)
		s->eof = true;
	if (s->state == STREAM_LINGERING)
		stream_close(s);
	else if (s->security == HANDSHAKE)
		shake_hands(s);
	else if (s->security == CLEAR)
		tell_eof(s);
	else if (s->security == SECURE && s->state == STREAM_OWNED && s->want_read)
		take_input(s, 0);
	else
		s->stalled = s->security == SECURE && s->state == STREAM_OWNED;
}

static void on_bev_event(struct bufferevent *bev, short what, void *arg) {
	struct stream *s = arg;
	int error = EVUTIL_SOCKET_ERROR();
	(void)bev;
	if (what & BEV_EVENT_ERROR)
		fail(s, error);
	else if (what & BEV_EVENT_EOF)
		on_wire_eof(s);
}

/* ---- output ---- */

/* FLUSHING: all is written, so the peer is told, and given time to take it. */
static void start_lingering(struct stream *s) {
	if (shutdown(bufferevent_getfd(s->bev), SHUT_WR) < 0 || s->eof || s->linger_us <= 0) {
		stream_close(s);
		return;
	}
	s->state = STREAM_LINGERING;
	timer_arm(&s->timer, s->linger_us);
}

/* Output was written: who waits for that? */
static void after_write(struct stream *s) {
	size_t pending = output_length(s);
	if (evbuffer_get_length(wire_out(s)) == 0)
		set_writing(s, false);
	resume_stalled(s);
	if (s->state == STREAM_FLUSHING && pending == 0) {
		start_lingering(s);
	} else if (s->above && pending <= s->low) {
		s->above = false;
		deliver(s, STREAM_DRAINED);
	}
}

static void on_write(struct bufferevent *bev, void *arg) {
	struct stream *s = arg;
	if (!s->tls) {
		after_write(s);
	} else if (evbuffer_get_length(bufferevent_get_output(bev)) == 0) {
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
static bool write_wire(struct stream *s) {
	struct evbuffer *out = wire_out(s);
	if (evbuffer_get_length(out) == 0)
		return true;
	evbuffer_unfreeze(out, 1);
	int n = evbuffer_write_atmost(out, bufferevent_getfd(s->bev), WRITE_MOST);
	int error = errno;
	evbuffer_freeze(out, 1);
	if (n >= 0 || error == EAGAIN || error == EINTR)
		return true;
	fail(s, error);
	return false;
}

/* Moves the owner's output to the wire. Nothing leaves in clear once TLS was started. False: the stream has failed. */
static bool encrypt(struct stream *s) {
	if (s->security == SECURE && !tls_pipe_write(s->tls, s->out)) {
		fail(s, EPROTO);
		return false;
	}
	if (s->tls && s->security != SECURE && (s->security == BROKEN || s->state != STREAM_OWNED))
		evbuffer_drain(s->out, SIZE_MAX);
	if (s->security == SECURE && s->state == STREAM_FLUSHING && evbuffer_get_length(s->out) == 0)
		tls_pipe_end(s->tls);
	return true;
}

/* Writes what the socket takes now; the bufferevent does the rest when it is writable again. */
static void flush_output(struct stream *s) {
	if (s->error || s->writing)
		return;
	do {
		if (!encrypt(s) || !write_wire(s))
			return;
	} while (s->security == SECURE && evbuffer_get_length(s->out) > 0 && evbuffer_get_length(wire_out(s)) == 0);
	if (evbuffer_get_length(wire_out(s)) > 0)
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
	evbuffer_drain(wire_in(s), SIZE_MAX);
	evbuffer_drain(s->in, SIZE_MAX);
	s->stalled = false;
	s->want_read = true;
	update_reading(s);
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
		deliver(s, STREAM_DEADLINE);
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
	update_reading(s);
	if (had)
		return;
	if (s->in_event)
		s->unparked = true;
	else if (input_length(s) > 0 || s->stalled || (s->eof && !s->eof_told))
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
	if (!s->tls)
		bufferevent_setwatermark(s->bev, EV_WRITE, low, 0);
}

int stream_error(const struct stream *s) {
	return s->error;
}

int stream_fd(const struct stream *s) {
	return bufferevent_getfd(s->bev);
}
