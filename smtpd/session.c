/* The SMTP state machine: states, replies, input and outcomes; contract in session.h, what the commands do in
 * session_act.c. Not here: what a line means (command), where a message ends (data), the words of the replies
 * (reply), and anything that waits.
 *
 * Invariants: tx != NULL exactly in MAIL, RCPT_WAIT, DATA, STORE_WAIT, and in BDAT unless the chunk is only
 * swallowed. tx->body: the sink holds octets that it has not been told to drop and that are not handed over. CLOSING
 * is final. */
#include "smtpd/session_impl.h"

#include <inttypes.h>
#include <stdio.h>

#define OUTPUT_MAX (64 * 1024)
#define SKIP_MAX (64 * 1024)       /* of a command line that is too long anyway */
#define GATHER_MAX 4096

void session_set_state(struct session *s, enum state to) {
	if (s->state == STATE_CLOSING)
		return;
	if (to == STATE_GREET || to == STATE_READY || to == STATE_TLS_WAIT || to == STATE_CLOSING)
		assert(!s->tx);
	if (to == STATE_MAIL || to == STATE_RCPT_WAIT || to == STATE_DATA || to == STATE_STORE_WAIT)
		assert(s->tx);
	if (to == STATE_STORE_WAIT)
		assert(s->tx->pub.recipient_count > 0 && !s->tx->body);
	s->state = to;
}

/* ---- transactions ---- */

static void drop_body(struct session *s) {
	if (s->tx && s->tx->body) {
		s->tx->body = false;
		s->ops->body_drop(s->ops_arg);
	}
}

static void free_transaction(struct session *s) {
	struct transaction *tx = take_ptr(s->tx);
	if (!tx)
		return;
	free(tx->recipients);
	free(tx->tags);
	free(tx);
}

void session_end_transaction(struct session *s) {
	drop_body(s);
	free_transaction(s);
	session_set_state(s, s->helo ? STATE_READY : STATE_GREET);
}

/* The state between commands. */
void session_resume(struct session *s) {
	session_set_state(s, s->tx ? STATE_MAIL : s->helo ? STATE_READY : STATE_GREET);
}

/* ---- replies ---- */

void session_count_reply(struct session *s, enum reply_id id) {
	s->counts.last_code = reply_get(id)->code;
	if (s->counts.last_code >= 400)
		s->counts.last_refusal = id;
	if (s->on_reply)
		s->on_reply(s->on_reply_arg, id);
}

void session_reply_about(struct session *s, enum reply_id id, const char *detail, size_t n) {
	reply_append(&s->out, id, detail, n);
	session_count_reply(s, id);
}

/* The hostname is the detail of those texts that have one and concern no client text. */
void session_reply(struct session *s, enum reply_id id) {
	session_reply_about(s, id, s->options->hostname, strlen(s->options->hostname));
}

void session_close_with(struct session *s, enum reply_id id) {
	session_reply(s, id);
	drop_body(s);
	free_transaction(s);
	session_set_state(s, STATE_CLOSING);
}

/* A reply to something the client should not have sent. */
void session_fault_about(struct session *s, enum reply_id id, const char *detail, size_t n) {
	session_reply_about(s, id, detail, n);
	s->counts.errors++;
	s->penalty_errors++;
	s->slow |= s->options->errors_slow && s->penalty_errors >= s->options->errors_slow;
	if (s->options->errors_max && s->penalty_errors >= s->options->errors_max)
		session_close_with(s, REPLY_TOO_MANY_ERRORS);
}

void session_fault(struct session *s, enum reply_id id) {
	session_fault_about(s, id, s->options->hostname, strlen(s->options->hostname));
}

void session_refuse(struct session *s, enum reply_id id) {
	if (reply_get(id)->code < 500)
		session_reply(s, id);
	else
		session_fault(s, id);
}

void session_close_fault(struct session *s, enum reply_id id) {
	s->counts.errors++;
	session_close_with(s, id);
}

void session_count_junk(struct session *s) {
	s->counts.junk++;
	s->penalty_junk++;
	if (s->options->junk_max && s->penalty_junk >= s->options->junk_max)
		session_close_with(s, REPLY_TOO_MANY_ERRORS);
}

void session_refuse_recipient(struct session *s, enum reply_id id) {
	const char *raw = session_recipient(s)->raw;
	s->counts.recipients_refused++;
	s->tx->put_off |= reply_get(id)->code < 500;
	session_reply_about(s, id, raw, strlen(raw));
}

/* Too many of them are a search for addresses that exist. */
void session_refuse_guess(struct session *s, enum reply_id id) {
	session_refuse_recipient(s, id);
	s->guesses++;
	if (s->options->bad_recipients_max && s->guesses >= s->options->bad_recipients_max)
		session_close_with(s, REPLY_TOO_MANY_ERRORS);
}

/* Inside a message, or with an answer owed: a shut-down waits (RFC 5321 3.8 wants the true result told). */
static bool engaged(const struct session *s) {
	switch (s->state) {
	case STATE_GREET:
	case STATE_READY:
	case STATE_SKIP:
	case STATE_CLOSING:
		return false;
	case STATE_MAIL:
		return s->tx->chunked;
	case STATE_RCPT_WAIT:
	case STATE_DATA:
	case STATE_BDAT:
	case STATE_STORE_WAIT:
	case STATE_TLS_WAIT:
		return true;
	}
	return false;
}

void session_settle(struct session *s) {
	if (s->shutdown && s->state != STATE_CLOSING && !engaged(s))
		session_close_with(s, REPLY_SHUTDOWN);
}

/* ---- the body ---- */

enum reply_id session_error_reply(int error) {
	return error == -ENOSPC ? REPLY_STORAGE_FULL : REPLY_UNAVAILABLE;
}

void session_start_body(struct session *s) {
	struct transaction *tx = s->tx;
	int r = s->ops->body_start(s->ops_arg);
	tx->body = r >= 0;
	tx->error = r < 0 ? r : 0;
	data_init(&tx->decoder);
}

static void body_octets(struct session *s, const char *p, size_t n) {
	struct transaction *tx = s->tx;
	tx->received += n;
	if (tx->received > s->options->size_max) {
		tx->too_big = true;
		drop_body(s);
	}
	if (!tx->body)
		return;
	int r = s->ops->body_write(s->ops_arg, p, n);
	if (r < 0) {
		tx->error = r;
		drop_body(s);
		return;
	}
	tx->pub.size += n;
}

static void tell_refused(struct session *s, enum reply_id id) {
	if (s->ops->body_refused)
		s->ops->body_refused(s->ops_arg, id, s->tx->received);
}

static enum reply_id body_failure(const struct transaction *tx) {
	return tx->too_big ? REPLY_TOO_BIG : session_error_reply(tx->error);
}

/* All of the message is here: to be stored, or to be refused for what went wrong on the way. What is wrong with its
 * line ends is told at its true end, and nothing behind it is read. */
static void complete_message(struct session *s) {
	struct transaction *tx = s->tx;
	s->counts.stage = "end of message";
	if (tx->too_big || tx->error) {
		enum reply_id id = body_failure(tx);
		tell_refused(s, id);
		session_end_transaction(s);
		session_reply(s, id);
		return;
	}
	/* Every way to end a line wrong is one of the three, or two. */
	tx->pub.bare_newline = tx->decoder.bare_newline || tx->decoder.bare_cr || tx->decoder.nul_start;
	tx->pub.bare_cr = tx->decoder.bare_cr;
	if (s->options->reject_bare_newline && tx->pub.bare_newline) {
		tell_refused(s, REPLY_BARE_NEWLINE_DATA);
		session_close_fault(s, REPLY_BARE_NEWLINE_DATA);
		return;
	}
	tx->body = false; /* the octets are the connection's from here */
	session_set_state(s, STATE_STORE_WAIT);
}

static bool excess(const struct session *s) {
	return s->tx->received > s->options->size_max && s->tx->received - s->options->size_max > SESSION_EXCESS_MAX;
}

/* Undone dots cut a body into runs, in the worst case of a few octets: what is short goes to the sink together. */
struct gathered {
	struct session *session;
	size_t n;
	char octets[GATHER_MAX];
};

static void hand_on(struct gathered *g) {
	if (g->n)
		body_octets(g->session, g->octets, g->n);
	g->n = 0;
}

static void gather(void *arg, const char *p, size_t n) {
	struct gathered *g = arg;
	if (n > sizeof(g->octets) - g->n)
		hand_on(g);
	if (n > sizeof(g->octets)) {
		body_octets(g->session, p, n);
		return;
	}
	memcpy(g->octets + g->n, p, n);
	g->n += n;
}

static size_t feed_data(struct session *s, const char *p, size_t n) {
	size_t used;
	struct gathered g;
	g.session = s;
	g.n = 0;
	enum data_result r = data_decode(&s->tx->decoder, p, n, &used, gather, &g);
	hand_on(&g);
	s->counts.octets += used;
	if (r == DATA_DONE) {
		complete_message(s);
	} else if (excess(s)) {
		tell_refused(s, REPLY_TOO_BIG);
		session_close_with(s, REPLY_TOO_BIG);
	}
	session_settle(s);
	return used;
}

void session_finish_chunk(struct session *s) {
	struct transaction *tx = s->tx;
	if (s->chunk_refusal != REPLY_CHUNK_OK) {
		if (tx && s->chunk.last)
			session_end_transaction(s);
		session_resume(s);
		session_refuse(s, s->chunk_refusal);
	} else if (s->chunk.last) {
		complete_message(s);
	} else if (tx->too_big || tx->error) {
		tx->failure = body_failure(tx);
		tell_refused(s, tx->failure);
		session_resume(s);
		session_reply(s, tx->failure);
	} else {
		char count[24];
		int n = snprintf(count, sizeof(count), "%" PRIu64, s->chunk_size);
		session_resume(s);
		session_reply_about(s, REPLY_CHUNK_OK, count, (size_t)n);
	}
}

static size_t feed_chunk(struct session *s, const char *p, size_t n) {
	size_t used = data_chunk_take(&s->chunk, n);
	s->counts.octets += used;
	if (used && s->chunk_refusal == REPLY_CHUNK_OK) {
		if (!s->tx->binary)
			data_scan(&s->tx->decoder, p, used);
		body_octets(s, p, used);
	}
	if (s->chunk.left == 0)
		session_finish_chunk(s);
	session_settle(s);
	return used;
}

/* ---- input ---- */

static bool may_start_line(char c) {
	return ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '\r' || c == '\n';
}

/* One command line if it is complete; returns what it took. */
static size_t feed_line(struct session *s, const char *p, size_t n) {
	if (!may_start_line(*p)) { /* a TLS ClientHello, say: waiting for its LF would be long */
		session_close_fault(s, REPLY_NOT_A_COMMAND);
		return n;
	}
	const char *lf = memchr(p, '\n', min_of(n, (size_t)COMMAND_LINE_MAX));
	if (!lf) {
		if (n >= COMMAND_LINE_MAX) {
			s->skipped = 0;
			drop_body(s);
			free_transaction(s);
			session_set_state(s, STATE_SKIP);
		}
		return 0;
	}
	size_t len = (size_t)(lf - p) + 1;
	bool crlf = len > 1 && lf[-1] == '\r';
	session_execute(s, p, len - (crlf ? 2 : 1), crlf || s->bare_newline, n - len);
	return len;
}

/* The tail of a line too long must not be read as a command. */
static size_t skip_line(struct session *s, const char *p, size_t n) {
	const char *lf = memchr(p, '\n', n);
	size_t used = lf ? (size_t)(lf - p) + 1 : n;
	s->skipped += used;
	if (lf || s->skipped > SKIP_MAX) {
		s->counts.stage = "UNKNOWN";
		session_close_fault(s, REPLY_LINE_TOO_LONG);
	}
	return used;
}

/* One step; *ret_used == 0 in the same state means that there is nothing to do with these octets now. */
static size_t step(struct session *s, const char *p, size_t n) {
	switch (s->state) {
	case STATE_GREET:
	case STATE_READY:
	case STATE_MAIL:
		return s->slow || s->out.len > SESSION_OUTPUT_MARK ? 0 : feed_line(s, p, n);
	case STATE_DATA:
		return feed_data(s, p, n);
	case STATE_BDAT:
		return feed_chunk(s, p, n);
	case STATE_SKIP:
		return skip_line(s, p, n);
	case STATE_RCPT_WAIT:
	case STATE_STORE_WAIT:
	case STATE_TLS_WAIT:
		return 0;
	case STATE_CLOSING:
		return n;
	}
	return 0;
}

size_t session_input(struct session *s, const void *p, size_t n) {
	const char *in = p;
	size_t used = 0;
	while (used < n) {
		enum state before = s->state;
		size_t k = step(s, in + used, n - used);
		used += k;
		if (k == 0 && s->state == before)
			break;
	}
	return used;
}

/* ---- outcomes ---- */

void session_on_recipient(struct session *s, enum session_recipient_verdict verdict, const uint8_t tag[16]) {
	struct transaction *tx = s->tx;
	if (s->state == STATE_CLOSING)
		return;
	assert(s->state == STATE_RCPT_WAIT);
	switch (verdict) {
	case SESSION_RECIPIENT_OK: {
		unsigned i = 0;
		while (i < tx->pub.recipient_count && memcmp(tx->tags[i], tag, sizeof(tx->tags[i])) != 0)
			i++;
		if (i == tx->pub.recipient_count) {
			memcpy(tx->tags[i], tag, sizeof(tx->tags[i]));
			tx->pub.recipient_count++;
		}
		tx->accepted++;
		s->counts.recipients_accepted++;
		session_reply(s, REPLY_RCPT_OK);
		break;
	}
	case SESSION_RECIPIENT_UNKNOWN:
		session_refuse_guess(s, REPLY_UNKNOWN_MAILBOX);
		break;
	case SESSION_RECIPIENT_FOREIGN_DOMAIN:
		session_refuse_guess(s, REPLY_FOREIGN_DOMAIN);
		break;
	case SESSION_RECIPIENT_UNAVAILABLE:
		tx->put_off = true;
		session_reply(s, REPLY_UNAVAILABLE);
		break;
	case SESSION_RECIPIENT_DISABLED:
		session_refuse_recipient(s, REPLY_MAILBOX_DISABLED);
		break;
	case SESSION_RECIPIENT_DISABLED_NOW:
		session_refuse_recipient(s, REPLY_MAILBOX_DISABLED_NOW);
		break;
	}
	session_resume(s);
	session_settle(s);
}

void session_on_stored(struct session *s, enum session_store_verdict verdict, const char *queue_id) {
	if (s->state == STATE_CLOSING)
		return;
	assert(s->state == STATE_STORE_WAIT);
	switch (verdict) {
	case SESSION_STORE_OK:
		s->counts.messages++;
		s->penalty_errors = s->penalty_junk = 0;
		session_reply_about(s, REPLY_STORED, queue_id, strlen(queue_id));
		break;
	case SESSION_STORE_UNAVAILABLE:
		session_reply(s, REPLY_UNAVAILABLE);
		break;
	case SESSION_STORE_FULL:
		session_reply(s, REPLY_STORAGE_FULL);
		break;
	case SESSION_STORE_LOOP:
		session_reply(s, REPLY_LOOP);
		break;
	}
	session_end_transaction(s);
	session_settle(s);
}

void session_on_policy(struct session *s, enum session_policy why) {
	static const enum reply_id replies[] = {
		[SESSION_POLICY_LOCAL] = REPLY_POLICY,
		[SESSION_POLICY_SENDER_NULL_MX] = REPLY_SENDER_NULL_MX,
		[SESSION_POLICY_SENDER_UNCHECKED] = REPLY_SENDER_UNCHECKED,
		[SESSION_POLICY_SPF_FAIL] = REPLY_SPF_FAIL,
		[SESSION_POLICY_SPF_PERMERROR] = REPLY_SPF_PERMERROR,
		[SESSION_POLICY_SPF_TEMPERROR] = REPLY_SPF_TEMPERROR,
		[SESSION_POLICY_DMARC_REJECT] = REPLY_DMARC_REJECT,
	};
	if (s->state == STATE_CLOSING)
		return;
	assert(s->state == STATE_RCPT_WAIT || s->state == STATE_STORE_WAIT);
	if (s->state == STATE_RCPT_WAIT) {
		session_refuse_recipient(s, replies[why]);
		session_resume(s);
	} else {
		session_end_transaction(s);
		session_reply(s, replies[why]);
	}
	session_settle(s);
}

void session_set_tls(struct session *s, const char *version_cipher) {
	assert(!s->tls && s->state == STATE_GREET);
	s->tls = xstrdup(version_cipher);
}

void session_allow_bare_newline(struct session *s) {
	s->bare_newline = true;
}

void session_on_tls(struct session *s, const char *version_cipher) {
	if (s->state == STATE_CLOSING)
		return;
	assert(s->state == STATE_TLS_WAIT);
	if (!version_cipher) {
		session_set_state(s, STATE_CLOSING);
		return;
	}
	free(s->helo); /* RFC 3207 4.2 */
	s->helo = NULL;
	s->esmtp = false;
	s->tls = xstrdup(version_cipher);
	session_set_state(s, STATE_GREET);
	session_settle(s);
}

void session_on_pause(struct session *s) {
	s->slow = false;
}

void session_abort(struct session *s, enum session_abort why) {
	static const enum reply_id replies[] = {
		[SESSION_ABORT_IDLE] = REPLY_IDLE,
		[SESSION_ABORT_SHUTDOWN] = REPLY_SHUTDOWN,
		[SESSION_ABORT_OVERLOAD] = REPLY_OVERLOAD,
		[SESSION_ABORT_RATE] = REPLY_RATE,
		[SESSION_ABORT_UNSYNCHRONISED] = REPLY_UNSYNCHRONISED,
	};
	if (s->state == STATE_CLOSING)
		return;
	if (why == SESSION_ABORT_SHUTDOWN && engaged(s))
		s->shutdown = true;
	else
		session_close_with(s, replies[why]);
}

/* ---- life and questions ---- */

struct session *session_new(const struct session_options *options, const struct session_ops *ops, void *ops_arg) {
	struct session *s = xcalloc(1, sizeof(*s));
	s->options = options;
	s->ops = ops;
	s->ops_arg = ops_arg;
	s->counts.stage = "CONNECT";
	buf_init(&s->out, OUTPUT_MAX);
	return s;
}

struct session *session_free(struct session *s) {
	if (!s)
		return NULL;
	drop_body(s);
	free_transaction(s);
	free(s->helo);
	free(s->tls);
	buf_fini(&s->out);
	free(s);
	return NULL;
}

void session_start(struct session *s) {
	if (s->state != STATE_CLOSING)
		session_reply(s, REPLY_GREETING);
}

void session_start_refused(struct session *s) {
	s->refused = true;
	if (s->state != STATE_CLOSING)
		session_reply(s, REPLY_POLICY);
}

enum session_want session_wants(const struct session *s) {
	switch (s->state) {
	case STATE_GREET:
	case STATE_READY:
	case STATE_MAIL:
		return s->slow ? SESSION_WANT_PAUSE : SESSION_WANT_INPUT;
	case STATE_DATA:
	case STATE_BDAT:
	case STATE_SKIP:
		return SESSION_WANT_INPUT;
	case STATE_RCPT_WAIT:
		return SESSION_WANT_RECIPIENT;
	case STATE_STORE_WAIT:
		return SESSION_WANT_STORE;
	case STATE_TLS_WAIT:
		return SESSION_WANT_TLS;
	case STATE_CLOSING:
		break;
	}
	return SESSION_WANT_CLOSE;
}

struct buf *session_output(struct session *s) {
	return &s->out;
}

bool session_should_flush(const struct session *s, const void *unread, size_t n) {
	switch (s->state) {
	case STATE_GREET:
	case STATE_READY:
	case STATE_MAIL:
	case STATE_RCPT_WAIT:
		return s->slow || s->out.len > SESSION_OUTPUT_MARK || n == 0 || !memchr(unread, '\n', n);
	case STATE_DATA:
	case STATE_BDAT:
	case STATE_STORE_WAIT:
	case STATE_TLS_WAIT:
	case STATE_SKIP:
	case STATE_CLOSING:
		break;
	}
	return true;
}

bool session_receiving(const struct session *s) {
	return s->state == STATE_DATA || s->state == STATE_BDAT;
}

bool session_in_message(const struct session *s) {
	return session_receiving(s) || (s->state == STATE_MAIL && s->tx->chunked);
}

const struct address *session_recipient(const struct session *s) {
	return s->tx && s->tx->recipients ? &s->tx->recipients[s->tx->pub.recipient_count] : NULL;
}

const struct session_transaction *session_transaction(const struct session *s) {
	return s->tx ? &s->tx->pub : NULL;
}

const char *session_helo(const struct session *s) {
	return s->helo ? s->helo : "";
}

bool session_esmtp(const struct session *s) {
	return s->esmtp;
}

const char *session_tls(const struct session *s) {
	return s->tls;
}

const struct session_counts *session_counts(const struct session *s) {
	return &s->counts;
}

void session_on_reply(struct session *s, void (*fn)(void *arg, enum reply_id), void *arg) {
	s->on_reply = fn;
	s->on_reply_arg = arg;
}
