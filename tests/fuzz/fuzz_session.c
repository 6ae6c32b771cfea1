/* A whole session: the first octets choose options and the world's answers, the rest is what the client sends, in
 * pieces of the world's choosing. Checked at every step: what the session wants, the order of calls on the sink, that
 * every reply is a well-formed line, and that a message which DATA brought is what a decoder that is obviously right
 * makes of the same octets. */
#include "smtpd/command.h"
#include "smtpd/reply.h"
#include "smtpd/session.h"

#define HEADER 5     /* octets: two of the world's chance, SIZE / 16, limits and offers, policies */

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

struct world {
	uint64_t random;
	bool body;           /* between body_start and drop or hand-over */
	bool write_failed;
	uint64_t octets;
	struct buf got;      /* those octets */
	const uint8_t *data; /* where the octets behind DATA begin; NULL: not inside, or BDAT */
	unsigned replies;
	bool handshake_failed;
	bool more_comes;     /* now and then more than was given is on its way */
};

static void require(bool ok) {
	if (!ok)
		abort();
}

/* xorshift64: the same input gives the same run. */
static unsigned pick(struct world *w, unsigned bound) {
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return (unsigned)(w->random >> 33) % bound;
}

static int body_start(void *arg) {
	struct world *w = arg;
	require(!w->body);
	if (pick(w, 16) == 0)
		return pick(w, 2) ? -ENOSPC : -EIO;
	w->body = true;
	w->write_failed = false;
	w->octets = 0;
	buf_reset(&w->got);
	return 0;
}

static int body_write(void *arg, const void *p, size_t n) {
	struct world *w = arg;
	require(w->body && !w->write_failed && p && n > 0);
	if (pick(w, 64) == 0) {
		w->write_failed = true;
		return -ENOSPC;
	}
	w->octets += n;
	return buf_append(&w->got, p, n);
}

static void body_drop(void *arg) {
	struct world *w = arg;
	require(w->body);
	w->body = false;
}

static void on_reply(void *arg, enum reply_id id) {
	struct world *w = arg;
	require(id < REPLY_COUNT);
	w->replies++;
}

/* Whole lines "ddd text" or "ddd-text", printable, at most 512 octets. */
static void check_output(struct session *s) {
	struct buf *out = session_output(s);
	require(!out->overflow);
	for (size_t at = 0; at < out->len;) {
		const char *line = out->data + at, *lf = memchr(line, '\n', out->len - at);
		require(lf != NULL && lf - line >= 5 && lf[-1] == '\r');
		size_t n = (size_t)(lf - line) + 1;
		require(n <= REPLY_LINE_MAX);
		require(line[0] >= '2' && line[0] <= '5' && (line[3] == ' ' || line[3] == '-'));
		for (size_t i = 0; i < n - 2; i++)
			require(line[i] >= 0x20 && line[i] < 0x7f);
		at += n;
	}
}

static void answer_recipient(struct world *w, struct session *s) {
	const struct address *to = session_recipient(s);
	uint8_t tag[16] = {(uint8_t)pick(w, 4)};
	require(to != NULL && (to->kind == ADDRESS_DOMAIN || to->kind == ADDRESS_POSTMASTER));
	unsigned v = pick(w, 16);
	if (v == 15)
		session_on_policy(s, (enum session_policy)pick(w, SESSION_POLICY_DMARC_REJECT + 1));
	else
		session_on_recipient(s, v < 8 ? SESSION_RECIPIENT_OK : (enum session_recipient_verdict)(1 + (v - 8) % SESSION_RECIPIENT_DISABLED_NOW), tag);
}

static void answer_store(struct world *w, struct session *s) {
	const struct session_transaction *tx = session_transaction(s);
	require(w->body && tx->size == w->octets && tx->recipient_count > 0);
	for (unsigned i = 1; i < tx->recipient_count; i++)
		require(memcmp(tx->tags[i - 1], tx->tags[i], sizeof(tx->tags[i])) != 0);
	w->body = false;
	unsigned v = pick(w, 9);
	if (v == 8)
		session_on_policy(s, (enum session_policy)pick(w, SESSION_POLICY_DMARC_REJECT + 1));
	else
		session_on_stored(s, v < 5 ? SESSION_STORE_OK : (enum session_store_verdict)(v - 4), "0190-q");
}

/* The message is [data, end): its end is the first CRLF.CRLF, or ".CRLF" to begin with, and each line that CRLF began
 * has lost one leading dot. */
static void check_data(const struct world *w, const uint8_t *end) {
	const uint8_t *p = w->data;
	size_t n = (size_t)(end - p), at = 0;
	require(n >= 3 && memcmp(end - 3, ".\r\n", 3) == 0);
	n -= 3;
	require(n == 0 || (n >= 2 && p[n - 2] == '\r' && p[n - 1] == '\n'));
	for (size_t i = 0; i < n; i++) {
		bool line_start = i == 0 || (i >= 2 && p[i - 2] == '\r' && p[i - 1] == '\n');
		if (line_start && p[i] == '.') {
			require(p[i + 1] != '\r' || p[i + 2] != '\n');
			continue;
		}
		require(at < w->got.len && (uint8_t)w->got.data[at] == p[i]);
		at++;
	}
	require(at == w->got.len);
}

/* Follows where DATA begins and ends in the input, of which [from, to) was just taken. */
static void follow_data(struct world *w, struct session *s, const uint8_t *to) {
	enum session_want want = session_wants(s);
	if (want == SESSION_WANT_STORE && w->data)
		check_data(w, to);
	if (!session_receiving(s))
		w->data = NULL;
	else if (!w->data && strcmp(session_counts(s)->stage, "DATA") == 0)
		w->data = to; /* nothing may wait behind DATA, so nothing of the message was taken yet */
}

/* Answers until the session wants input or is over. */
static void answer(struct world *w, struct session *s) {
	for (;;) {
		switch (session_wants(s)) {
		case SESSION_WANT_INPUT:
		case SESSION_WANT_CLOSE:
			return;
		case SESSION_WANT_PAUSE:
			session_on_pause(s);
			break;
		case SESSION_WANT_RECIPIENT:
			answer_recipient(w, s);
			break;
		case SESSION_WANT_STORE:
			answer_store(w, s);
			break;
		case SESSION_WANT_TLS:
			w->handshake_failed = pick(w, 4) == 0;
			session_on_tls(s, w->handshake_failed ? NULL : "TLSv1.3 TLS_AES_128_GCM_SHA256");
			break;
		}
		if (pick(w, 256) == 0)
			session_abort(s, (enum session_abort)pick(w, 5));
	}
}

static void feed(struct world *w, struct session *s, const uint8_t *p, size_t n) {
	size_t have = 0; /* octets of p that have arrived */
	answer(w, s);
	while (n > 0 && session_wants(s) == SESSION_WANT_INPUT) {
		size_t more = 1 + pick(w, pick(w, 4) ? 64 : 4096);
		have = min_of(n, have + more);
		size_t used = session_input(s, p, have);
		require(used <= have);
		follow_data(w, s, p + used);
		check_output(s);
		session_should_flush(s, p + used, have - used);
		if (pick(w, 4))
			buf_reset(session_output(s));
		/* A session that wants input and took none has an incomplete line, or more output than it likes. */
		if (used == 0 && session_wants(s) == SESSION_WANT_INPUT && !session_receiving(s))
			require(have < COMMAND_LINE_MAX || session_output(s)->len > SESSION_OUTPUT_MARK);
		bool backed_up = session_output(s)->len > SESSION_OUTPUT_MARK;
		if (used == 0 && have == n && !backed_up && session_wants(s) == SESSION_WANT_INPUT)
			break;
		if (backed_up)
			buf_reset(session_output(s));
		p += used;
		n -= used;
		have -= used;
		answer(w, s);
	}
}

static bool may_start_tls(void *arg) {
	struct world *w = arg;
	return pick(w, 8) != 0;
}

static bool input_waits(void *arg) {
	struct world *w = arg;
	return w->more_comes && pick(w, 8) == 0;
}

static void local_literal(void *arg, char ret[ADDRESS_LITERAL_SIZE]) {
	strcpy(ret, "[192.0.2.1]");
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
	static const struct session_ops ops = {.body_start = body_start,
	                                       .body_write = body_write,
	                                       .body_drop = body_drop,
	                                       .input_waits = input_waits,
	                                       .may_start_tls = may_start_tls,
	                                       .local_literal = local_literal};
	if (n < HEADER)
		return 0;
	struct world w = {.random = 0x9e3779b97f4a7c15u ^ ((uint64_t)p[0] << 8 | p[1]), .more_comes = p[4] & 128};
	const struct session_options options = {
		.hostname = "mx.example.org",
		.size_max = (uint64_t)p[2] * 16,
		.recipients_max = 1 + p[3] % 8,
		.transactions_max = p[3] & 16 ? 3 : 0,
		.errors_max = p[3] & 32 ? 5 : 0,
		.errors_slow = p[3] & 32 ? 2 : 0,
		.junk_max = p[3] & 32 ? 5 : 0,
		.bad_recipients_max = p[3] & 32 ? 3 : 0,
		.starttls = p[3] & 64,
		.chunking = p[3] & 128,
		.starttls_broken = p[4] & 1,
		.require_tls = p[4] & 2,
		.strict_syntax = p[4] & 4,
		.reject_bare_newline = p[4] & 8,
		.null_sender_single = p[4] & 16,
	};
	buf_init(&w.got, 1 << 20);
	struct session *s = session_new(&options, &ops, &w);
	session_on_reply(s, on_reply, &w);
	if (p[4] & 64)
		session_allow_bare_newline(s);
	if (p[4] & 32)
		session_start_refused(s);
	else
		session_start(s);
	feed(&w, s, p + HEADER, n - HEADER);
	check_output(s);
	session_free(s);
	buf_fini(&w.got);
	require(!w.body);
	return 0;
}
