/* OpenSSL over a BIO that reads and writes evbuffers. The BIO never sees an end of file: whether the wire ended is the stream's
 * to know, so that an end inside a record and one between records are treated alike there. */
#include "common/tls_pipe.h"

#include <event2/buffer.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#define RECORD 16384

struct tls_pipe {
	SSL *ssl;
	struct tls_set *set;
	struct evbuffer *in, *out;
	struct tls_info info;
	const char *error;
	bool ended;
};

static int bio_read(BIO *bio, char *p, int n) {
	struct tls_pipe *t = BIO_get_data(bio);
	BIO_clear_retry_flags(bio);
	int got = n > 0 ? evbuffer_remove(t->in, p, (size_t)n) : 0;
	if (got > 0)
		return got;
	BIO_set_retry_read(bio);
	return -1;
}

static int bio_write(BIO *bio, const char *p, int n) {
	struct tls_pipe *t = BIO_get_data(bio);
	BIO_clear_retry_flags(bio);
	return n > 0 && evbuffer_add(t->out, p, (size_t)n) == 0 ? n : -1;
}

static long bio_ctrl(BIO *bio, int what, long n, void *p) {
	(void)bio;
	(void)n;
	(void)p;
	return what == BIO_CTRL_FLUSH;
}

static int bio_create(BIO *bio) {
	BIO_set_init(bio, 1);
	return 1;
}

static BIO *new_bio(struct tls_pipe *t) {
	static BIO_METHOD *method; /* one for the life of the process, like OpenSSL's own */
	if (!method) {
		method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "evbuffers");
		if (!method)
			abort();
		BIO_meth_set_read(method, bio_read);
		BIO_meth_set_write(method, bio_write);
		BIO_meth_set_ctrl(method, bio_ctrl);
		BIO_meth_set_create(method, bio_create);
	}
	BIO *bio = BIO_new(method);
	if (!bio)
		abort();
	BIO_set_data(bio, t);
	return bio;
}

struct tls_pipe *tls_pipe_new(struct tls_set *set, struct evbuffer *wire_in, struct evbuffer *wire_out) {
	struct tls_pipe *t = xcalloc(1, sizeof(*t));
	t->in = wire_in;
	t->out = wire_out;
	t->set = tls_set_ref(set);
	t->ssl = tls_set_accept(set, &t->info);
	BIO *bio = new_bio(t);
	SSL_set_bio(t->ssl, bio, bio);
	return t;
}

struct tls_pipe *tls_pipe_free(struct tls_pipe *t) {
	if (!t)
		return NULL;
	SSL_free(t->ssl);
	tls_set_unref(t->set);
	free(t);
	return NULL;
}

static enum tls_pipe_result failed(struct tls_pipe *t) {
	const char *reason = ERR_reason_error_string(ERR_peek_error());
	t->error = reason ? reason : "TLS failed";
	ERR_clear_error();
	return TLS_PIPE_FAILED;
}

enum tls_pipe_result tls_pipe_handshake(struct tls_pipe *t) {
	ERR_clear_error();
	int r = SSL_do_handshake(t->ssl);
	if (r == 1) {
		t->info.version = SSL_get_version(t->ssl);
		t->info.cipher = SSL_get_cipher_name(t->ssl);
		t->info.resumed = SSL_session_reused(t->ssl);
		return TLS_PIPE_OK;
	}
	return SSL_get_error(t->ssl, r) == SSL_ERROR_WANT_READ ? TLS_PIPE_MORE : failed(t);
}

enum tls_pipe_result tls_pipe_read(struct tls_pipe *t, struct evbuffer *plain, size_t room) {
	char record[RECORD];
	while (room > 0 && evbuffer_get_length(t->out) < TLS_PIPE_WIRE_MARK) {
		size_t got;
		ERR_clear_error();
		int r = SSL_read_ex(t->ssl, record, min_of(room, sizeof(record)), &got);
		if (r != 1) {
			switch (SSL_get_error(t->ssl, r)) {
			case SSL_ERROR_WANT_READ:
				if (evbuffer_get_length(t->in) > 0)
					continue; /* a record without data is done; a piece of one is never left here */
				return TLS_PIPE_MORE;
			case SSL_ERROR_ZERO_RETURN:
				return TLS_PIPE_END;
			default:
				return failed(t);
			}
		}
		if (evbuffer_add(plain, record, got) < 0)
			abort();
		room -= got;
	}
	return TLS_PIPE_OK;
}

bool tls_pipe_waits(struct tls_pipe *t) {
	char octet;
	size_t got, before;
	do {
		before = evbuffer_get_length(t->in);
		ERR_clear_error();
		if (SSL_peek_ex(t->ssl, &octet, 1, &got) == 1)
			return true;
	} while (evbuffer_get_length(t->in) < before); /* a record without data is done */
	ERR_clear_error();
	return false;
}

bool tls_pipe_write(struct tls_pipe *t, struct evbuffer *plain) {
	size_t held;
	while ((held = evbuffer_get_length(plain)) > 0 && evbuffer_get_length(t->out) < TLS_PIPE_WIRE_MARK) {
		/* What stands in pieces becomes one record: small replies must not cost one each. */
		size_t n = min_of(held, (size_t)RECORD), written;
		const void *p = evbuffer_pullup(plain, (ev_ssize_t)n);
		ERR_clear_error();
		if (!p || SSL_write_ex(t->ssl, p, n, &written) != 1) {
			failed(t);
			return false;
		}
		evbuffer_drain(plain, written);
	}
	return true;
}

void tls_pipe_end(struct tls_pipe *t) {
	if (t->ended)
		return;
	t->ended = true;
	ERR_clear_error();
	SSL_shutdown(t->ssl);
	ERR_clear_error();
}

const struct tls_info *tls_pipe_info(const struct tls_pipe *t) {
	return &t->info;
}

const char *tls_pipe_error(const struct tls_pipe *t) {
	return t->error;
}
