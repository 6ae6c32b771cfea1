/* TLS in a stream: what stands between the wire's buffers and the owner's. What was encrypted is never mixed with what was not: the
 * clear input must be empty when TLS starts, and output of the owner waits for the end of the handshake or is dropped.
 *
 *   CLEAR -start_tls-> HANDSHAKE -done-> SECURE;  HANDSHAKE -failed-> BROKEN
 */
#include "common/stream_impl.h"
#include "common/tls_pipe.h"

/* False: the stream has failed, and its owner was told. */
bool stream_decrypt(struct stream *s) {
	size_t held = stream_input_length(s);
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
		stream_write_wire(s); /* the alert, if the socket takes it */
		stream_fail(s, EPROTO);
		return false;
	}
	stream_flush_later(s);
	return true;
}

static void break_handshake(struct stream *s) {
	s->security = BROKEN;
	stream_set_reading(s, false);
	stream_flush_later(s);
	stream_deliver(s, STREAM_TLS_FAILED);
}

void stream_shake_hands(struct stream *s) {
	switch (tls_pipe_handshake(s->tls)) {
	case TLS_PIPE_OK:
		s->security = SECURE;
		s->stalled = true; /* what came behind it lies in the wire's buffer */
		stream_flush_later(s);
		stream_deliver(s, STREAM_TLS);
		break;
	case TLS_PIPE_MORE:
		if (s->wire_eof)
			break_handshake(s);
		else
			stream_flush_later(s);
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
	if (stream_input_length(s) > 0 || s->eof)
		return -EPROTO;
	stream_unwatch_buffers(s);
	deferred_cancel(&s->notify);
	s->parked_input = false;
	s->tls = tls_pipe_new(set, s->wire_in, s->wire_out);
	s->security = HANDSHAKE;
	struct evbuffer *in = evbuffer_new(), *out = evbuffer_new();
	if (!in || !out)
		abort();
	stream_watch_buffers(s, in, out);
	stream_update_reading(s);
	return 0;
}

/* Moves the owner's output to the wire. Nothing leaves in clear once TLS was started. False: the stream has failed. */
bool stream_encrypt(struct stream *s) {
	if (s->security == SECURE && !tls_pipe_write(s->tls, s->out)) {
		stream_fail(s, EPROTO);
		return false;
	}
	if (s->tls && s->security != SECURE && (s->security == BROKEN || s->state != STREAM_OWNED))
		evbuffer_drain(s->out, SIZE_MAX);
	if (s->security == SECURE && s->state == STREAM_FLUSHING && evbuffer_get_length(s->out) == 0)
		tls_pipe_end(s->tls);
	return true;
}

const struct tls_info *stream_tls(const struct stream *s) {
	return s->tls ? tls_pipe_info(s->tls) : NULL;
}

const char *stream_tls_error(const struct stream *s) {
	const char *error = s->tls ? tls_pipe_error(s->tls) : NULL;
	return error ? error : s->wire_eof ? "connection ended" : NULL;
}
