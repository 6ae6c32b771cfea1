/* One SMTP connection. Not the protocol (session.h), not the bytes on the wire (stream.h): this file only moves octets between
 * the two, runs the look-up, the parse and the store that the session asks for, and accounts for the result.
 *
 * Invariants:
 *   - at most one of lookup, parse, commit and a wait for authentication is under way, and exactly while the session wants
 *     RECIPIENT or STORE;
 *   - input is read only while the session wants input and the output is below its mark (conn_update is the one place that
 *     arms anything);
 *   - the spool belongs to the transaction: made at body_start, gone at body_drop or after the verdict.
 * How long a client may take and how much it may ask is in conn_limits.c. */
#include "smtpd/conn_impl.h"

#include "common/tls.h"
#include "common/tls_keys.h"
#include "smtpd/received.h"

#include <event2/buffer.h>

#define INPUT_CAP (64 * 1024)
#define OUTPUT_MARK (16 * 1024)    /* above it a client that does not read its replies is not read either */
#define LINE_PEEK 4096             /* more than the longest command line, so a whole one is contiguous */
#define LINGER_US 2000000
#define PAUSE_US 1000000
#define RECEIVED_MAX 100           /* RFC 5321 6.3 */

static void conn_run(struct conn *);

/* ---- the end ---- */

static void conn_drop_transaction(struct conn *c) {
	c->spool = spool_free(c->spool);
	c->message = message_free(c->message);
	free(c->recipients);
	c->recipients = NULL;
	buf_fini(&c->trace);
	free(c->accepted);
	c->accepted = NULL;
	c->accepted_count = c->accepted_cap = 0;
	free(c->log_from);
	c->log_from = NULL;
}

static void conn_free(void *obj) {
	free(obj);
}

static enum smtpd_metric ended_how(const char *reason) {
	static const struct {
		const char *reason;
		enum smtpd_metric metric;
	} rows[] = {{"done", SMTPD_ENDS_DONE}, {"lost connection", SMTPD_ENDS_LOST}, {"stopped", SMTPD_ENDS_STOPPED}};
	for (size_t i = 0; i < array_len(rows); i++)
		if (strcmp(reason, rows[i].reason) == 0)
			return rows[i].metric;
	return SMTPD_ENDS_ERROR;
}

/* Everything goes but the memory itself, which the graveyard frees when no callback can be on the stack. */
static void conn_close(struct conn *c, const char *reason) {
	c->lookup = recipient_cancel(c->lookup);
	c->parse = parser_cancel(c->parse);
	c->commit = store_cancel(c->commit);
	conn_auth_end(&c->auth);
	timer_fini(&c->pause);
	conn_log_end(c, reason);
	c->stream = stream_close(c->stream);
	free(c->tls);
	conn_drop_transaction(c);
	c->session = session_free(c->session);
	conn_limits_end(c);
	conn_spool_count(c);
	metrics_add(c->server->metrics, SMTPD_SESSIONS, -1);
	metrics_add(c->server->metrics, ended_how(reason), 1);
	server_conn_closed(c->server, &c->link);
	loop_bury(c->server->loop, c, conn_free);
}

/* ---- recipients ---- */

static void remember(struct conn *c, const struct recipient *found) {
	for (unsigned i = 0; i < c->accepted_count; i++) {
		if (id_equal(&c->accepted[i].mailbox, &found->mailbox)) {
			c->accepted[i].expires_at = found->expires_at;
			c->accepted[i].user = found->user;
			return;
		}
	}
	if (c->accepted_count == c->accepted_cap) {
		c->accepted_cap = c->accepted_cap ? c->accepted_cap * 2 : 2;
		c->accepted = xrealloc(c->accepted, c->accepted_cap * sizeof(*c->accepted));
	}
	c->accepted[c->accepted_count++] = (struct accepted){found->mailbox, found->user, found->expires_at};
}

static const struct accepted *accepted_of(const struct conn *c, const struct id *mailbox) {
	for (unsigned i = 0; i < c->accepted_count; i++) {
		if (id_equal(&c->accepted[i].mailbox, mailbox))
			return &c->accepted[i];
	}
	assert(!"an accepted recipient that was never looked up");
	return NULL;
}

static enum session_recipient_verdict verdict_of(enum recipient_verdict v) {
	switch (v) {
	case RECIPIENT_OK:
		return SESSION_RECIPIENT_OK;
	case RECIPIENT_UNKNOWN:
		return SESSION_RECIPIENT_UNKNOWN;
	case RECIPIENT_FOREIGN_DOMAIN:
		return SESSION_RECIPIENT_FOREIGN_DOMAIN;
	case RECIPIENT_DISABLED:
		return SESSION_RECIPIENT_DISABLED;
	case RECIPIENT_DISABLED_NOW:
		return SESSION_RECIPIENT_DISABLED_NOW;
	case RECIPIENT_UNAVAILABLE:
		return SESSION_RECIPIENT_UNAVAILABLE;
	}
	return SESSION_RECIPIENT_UNAVAILABLE;
}

static void on_recipient(void *arg, enum recipient_verdict verdict, const struct recipient *found) {
	struct conn *c = arg;
	c->lookup = NULL;
	metrics_observe_us(c->server->metrics, SMTPD_LOOKUP_TIME, clock_mono_us_now() - c->asked_us);
	if (verdict == RECIPIENT_OK) {
		if (session_transaction(c->session)->recipient_count == 0)
			c->accepted_count = 0; /* the first of a transaction: what an earlier one remembered is void */
		remember(c, found);
	} else if (verdict == RECIPIENT_UNKNOWN || verdict == RECIPIENT_FOREIGN_DOMAIN) {
		conn_limits_refused_recipient(c);
	}
	session_on_recipient(c->session, verdict_of(verdict), found ? found->mailbox.b : NULL);
	conn_run(c);
}

/* ---- storing ---- */

/* After the reply to it. */
static void end_message(struct conn *c, enum smtpd_metric outcome, uint64_t size, unsigned recipients) {
	bool stored = outcome == SMTPD_MESSAGES_STORED;
	struct metrics *m = c->server->metrics;
	metrics_add(m, outcome, 1);
	metrics_observe_us(m, SMTPD_MESSAGE_TIME, clock_mono_us_now() - c->dot_us);
	if (stored)
		metrics_add(m, SMTPD_OCTETS, (int64_t)size);
	if (c->message && message_warned(c->message, "parse_failed"))
		metrics_add(m, SMTPD_PARSE_FAILED, 1);
	c->messages++;
	conn_limits_message(c);
	conn_log_message(c, stored ? "message stored" : "message not stored", stored ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, size, recipients,
	                 session_counts(c->session)->last_code);
	conn_auth_drop(&c->auth);
	conn_drop_transaction(c);
	conn_spool_count(c);
	conn_run(c);
}

static void finish_message(struct conn *c, enum session_store_verdict verdict) {
	static const enum smtpd_metric outcome[] = {
		[SESSION_STORE_OK] = SMTPD_MESSAGES_STORED,
		[SESSION_STORE_UNAVAILABLE] = SMTPD_MESSAGES_DEFERRED,
		[SESSION_STORE_FULL] = SMTPD_MESSAGES_DEFERRED,
		[SESSION_STORE_LOOP] = SMTPD_MESSAGES_REFUSED,
	};
	bool stored = verdict == SESSION_STORE_OK;
	uint64_t size = spool_size(c->spool);
	unsigned recipients = session_transaction(c->session)->recipient_count;
	if (stored)
		conn_auth_stored(&c->auth, c->session, c->message, &c->spool, c->recipients, recipients);
	session_on_stored(c->session, verdict, c->queue_id);
	end_message(c, outcome[verdict], size, recipients);
}

/* Policy says no to what could have been stored. */
static void refuse_message(struct conn *c, enum session_policy policy) {
	uint64_t size = spool_size(c->spool);
	unsigned recipients = session_transaction(c->session)->recipient_count;
	session_on_policy(c->session, policy);
	end_message(c, session_counts(c->session)->last_code < 500 ? SMTPD_MESSAGES_DEFERRED : SMTPD_MESSAGES_REFUSED, size, recipients);
}

static void on_stored(void *arg, enum store_verdict verdict) {
	struct conn *c = arg;
	c->commit = NULL;
	int64_t us = clock_mono_us_now() - c->parsed_us;
	metrics_observe_us(c->server->metrics, SMTPD_STORE_TIME, us);
	switch (verdict) {
	case STORE_COMMITTED:
		finish_message(c, SESSION_STORE_OK);
		break;
	case STORE_UNAVAILABLE:
		finish_message(c, SESSION_STORE_UNAVAILABLE);
		break;
	case STORE_FULL:
		finish_message(c, SESSION_STORE_FULL);
		break;
	}
}

/* Ids are made here, before the first attempt, so that a retry names the same rows. */
static void make_recipients(struct conn *c, const struct session_transaction *tx) {
	c->recipients = xcalloc(tx->recipient_count, sizeof(*c->recipients));
	for (unsigned i = 0; i < tx->recipient_count; i++) {
		struct store_recipient *r = &c->recipients[i];
		memcpy(r->mailbox.b, tx->tags[i], sizeof(r->mailbox.b));
		const struct accepted *accepted = accepted_of(c, &r->mailbox);
		r->user = accepted->user;
		r->expires_at = accepted->expires_at;
		r->rcpt_to = tx->recipients[i].raw;
		id_make_in_bucket(&r->id, c->received_at, id_bucket(&r->mailbox));
	}
	id_format(&c->recipients[0].id, c->queue_id);
}

static void make_trace(struct conn *c, const struct session_transaction *tx) {
	const struct received r = {
		.hostname = c->server->config->name,
		.helo = session_helo(c->session),
		.queue_id = c->queue_id,
		.mail_from = tx->mail_from.raw,
		.rcpt_to = tx->recipient_count == 1 ? tx->recipients[0].raw : NULL,
		.esmtp = session_esmtp(c->session),
		.utf8 = tx->smtputf8,
		.tls = session_tls(c->session),
		.wall_us = c->received_at,
	};
	buf_init(&c->trace, 8192);
	received_append(&c->trace, &r);
	/* A message that begins with a blank would go on with our Received: its header ends before it, as with Postfix. */
	char first = '\0';
	if (spool_read(c->spool, 0, &first, 1) == 1 && (first == ' ' || first == '\t'))
		buf_append_str(&c->trace, "\r\n");
}

static void store_message(struct conn *c) {
	const struct session_transaction *tx = session_transaction(c->session);
	enum session_policy policy;
	switch (conn_auth_message(&c->auth, c->session, c->message, &c->spool, &policy)) {
	case CONN_AUTH_GO:
		break;
	case CONN_AUTH_WAIT:
		return;
	case CONN_AUTH_REFUSE:
		refuse_message(c, policy);
		return;
	}
	bool forged = false;
	const char *authentication = conn_auth_text(&c->auth, &forged);
	if (forged)
		message_warn(c->message, "forged_authentication_results");
	const struct store_request request = {
		.recipients = c->recipients,
		.recipient_count = tx->recipient_count,
		.received_at = c->received_at,
		.mail_from = tx->mail_from.raw,
		.helo = session_helo(c->session),
		.tls = c->tls,
		.trace = c->trace.data,
		.message = c->message,
		.authentication = authentication,
		.spool = c->spool,
	};
	c->commit = store_start(c->server->store, &request, on_stored, c);
}

/* Whether it has been here too often. */
static bool comes_round(const struct conn *c, const struct session_transaction *tx) {
	size_t n = (size_t)min_of(spool_size(c->spool), (uint64_t)RECEIVED_HEAD_MAX);
	const char *head = spool_memory(c->spool);
	cleanup(freep) char *copy = NULL;
	if (!head) {
		ssize_t got = spool_read(c->spool, 0, copy = xmalloc(n), n);
		head = copy;
		n = (size_t)max_of(got, (ssize_t)0);
	}
	return received_rounds(slice_of(head, n), c->server->config->name, tx->recipients, tx->recipient_count) >= RECEIVED_ROUNDS_MAX;
}

static void on_parsed(void *arg, struct message *message) {
	struct conn *c = arg;
	const struct session_transaction *tx = session_transaction(c->session);
	c->parse = NULL;
	c->message = message;
	c->parsed_us = clock_mono_us_now();
	metrics_observe_us(c->server->metrics, SMTPD_PARSE_TIME, c->parsed_us - c->dot_us);
	if (tx->bare_newline)
		message_warn(message, "bare_newline");
	if (tx->bare_cr)
		message_warn(message, "bare_cr");
	if (message->received_count > RECEIVED_MAX || comes_round(c, tx)) {
		finish_message(c, SESSION_STORE_LOOP);
		return;
	}
	store_message(c);
}

static void start_message(struct conn *c) {
	const struct session_transaction *tx = session_transaction(c->session);
	c->dot_us = c->parsed_us = clock_mono_us_now();
	metrics_observe_us(c->server->metrics, SMTPD_RECEIVE_TIME, c->dot_us - c->body_us);
	c->received_at = clock_wall_us();
	make_recipients(c, tx);
	make_trace(c, tx);
	conn_log_sender(c, tx->mail_from.raw);
	c->parse = parser_start(c->server->parser, c->spool, on_parsed, c);
}

/* What authentication had to find out has come. */
static void on_auth(void *arg) {
	struct conn *c = arg;
	if (c->message)
		store_message(c);
	else
		conn_run(c);
}

static void start_recipient(struct conn *c) {
	if (!conn_limits_recipient(c))
		return;
	switch (conn_auth_recipient(&c->auth, session_recipient(c->session))) {
	case CONN_AUTH_GO:
		c->asked_us = clock_mono_us_now();
		c->lookup = recipient_start(c->server->recipients, session_recipient(c->session), on_recipient, c);
		break;
	case CONN_AUTH_WAIT:
		break;
	case CONN_AUTH_REFUSE:
		session_on_policy(c->session, SESSION_POLICY_LOCAL);
		break;
	}
}

/* ---- feeding ---- */

/* Hands unread octets to the session; returns whether it took any. Commands must lie in one piece; a body goes run by run. */
static bool feed(struct conn *c) {
	struct evbuffer *in = stream_input(c->stream);
	size_t n = evbuffer_get_contiguous_space(in);
	const void *p;
	bool body = session_receiving(c->session);
	if (body)
		p = evbuffer_pullup(in, (ev_ssize_t)n);
	else {
		n = min_of(evbuffer_get_length(in), max_of((size_t)LINE_PEEK, n));
		p = evbuffer_pullup(in, (ev_ssize_t)n);
	}
	if (n == 0)
		return false;
	size_t used = session_input(c->session, p, n);
	evbuffer_drain(in, used);
	conn_limits_used(c);
	return used > 0;
}

static void flush(struct conn *c) {
	struct buf *out = session_output(c->session);
	if (out->len == 0)
		return;
	evbuffer_add(stream_output(c->stream), out->data, out->len);
	buf_reset(out);
}

static bool should_flush(struct conn *c) {
	struct evbuffer *in = stream_input(c->stream);
	size_t n = min_of(evbuffer_get_length(in), (size_t)LINE_PEEK);
	if (session_output(c->session)->len > OUTPUT_MARK / 2)
		return true;
	return session_should_flush(c->session, n ? evbuffer_pullup(in, (ev_ssize_t)n) : NULL, n);
}

static bool busy(const struct conn *c) {
	return c->lookup || c->parse || c->commit || c->shaking || conn_auth_busy(&c->auth) || timer_armed(&c->pause);
}

static void on_paused(void *arg) {
	struct conn *c = arg;
	session_on_pause(c->session);
	conn_run(c);
}

/* The one function that arms anything. */
static void conn_update(struct conn *c, bool progress) {
	bool backed_up = stream_output_pending(c->stream) > OUTPUT_MARK;
	stream_want_read(c->stream, session_wants(c->session) == SESSION_WANT_INPUT && !busy(c) && !backed_up && !c->eof);
	if (!c->shaking) /* it has one deadline for all of it */
		conn_limits_arm(c, !busy(c), progress);
}

/* ---- TLS ---- */

/* Whatever was to be said before it is in front of the handshake; nothing else is until it is done. */
static void start_tls(struct conn *c) {
	struct tls_set *set = tls_usable(c->server->tls);
	flush(c);
	c->shaking = true;
	stream_set_deadline(c->stream, conn_limits_handshake_us(c));
	if (!set)
		c->tls_error = "no certificate or key can be used";
	else if (stream_start_tls(c->stream, set) < 0)
		c->tls_error = "input in clear";
}

/* Never back to clear (RFC 3207 4.1): an alert is all that may still leave. */
static void tls_failed(struct conn *c, const char *why) {
	c->tls_error = why;
	metrics_add(c->server->metrics, SMTPD_TLS_FAILED, 1);
	c->stream = stream_close_after_write(c->stream, LINGER_US);
	conn_close(c, "TLS handshake failed");
}

/* A client that talks before the banner does not speak SMTP, or speaks it for another (RFC 5321 4.3.1). */
static void start_session(struct conn *c) {
	if (evbuffer_get_length(stream_input(c->stream)) > 0 || stream_input_waits(c->stream))
		session_abort(c->session, SESSION_ABORT_UNSYNCHRONISED);
	if (netaddr_nets_have(&c->server->config->bare_newline, &c->client.address))
		session_allow_bare_newline(c->session);
	if (netaddr_nets_have(&c->server->config->refused, &c->client.address)) {
		metrics_add(c->server->metrics, SMTPD_REFUSED_NETWORK, 1);
		session_start_refused(c->session);
	} else {
		session_start(c->session);
	}
}

static void tls_done(struct conn *c) {
	const struct tls_info *info = stream_tls(c->stream);
	struct metrics *m = c->server->metrics;
	cleanup(freep) char *agreed = xasprintf("%s %s", info->version, info->cipher);
	c->shaking = false;
	c->tls = *info->sni ? xasprintf("%s sni=%s", agreed, info->sni) : xstrdup(agreed);
	metrics_add(m, strcmp(info->version, "TLSv1.2") == 0 ? SMTPD_TLS_12 : SMTPD_TLS_13, 1);
	if (info->resumed)
		metrics_add(m, SMTPD_TLS_RESUMED, 1);
	if (session_wants(c->session) == SESSION_WANT_TLS) {
		session_on_tls(c->session, agreed);
	} else {
		session_set_tls(c->session, agreed);
		start_session(c);
	}
	conn_run(c);
}

/* Goes on until input runs out or the session waits for an answer. */
static void conn_run(struct conn *c) {
	bool progress = false; /* half a line is none */
	if (!c->tls)
		server_look_at_tls(c->server);
	for (;;) {
		if (busy(c))
			break;
		enum session_want want = session_wants(c->session);
		if (want == SESSION_WANT_RECIPIENT) {
			start_recipient(c);
		} else if (want == SESSION_WANT_STORE) {
			start_message(c);
		} else if (want == SESSION_WANT_PAUSE) {
			timer_arm(&c->pause, PAUSE_US);
		} else if (want == SESSION_WANT_TLS) {
			start_tls(c);
		} else if (want == SESSION_WANT_INPUT && stream_output_pending(c->stream) <= OUTPUT_MARK && feed(c)) {
			progress = true;
		} else {
			break;
		}
	}
	enum session_want want = session_wants(c->session);
	if (c->tls_error) {
		tls_failed(c, c->tls_error);
		return;
	}
	if (want == SESSION_WANT_CLOSE) {
		flush(c);
		c->stream = stream_close_after_write(c->stream, LINGER_US);
		conn_close(c, "done");
		return;
	}
	if (should_flush(c))
		flush(c);
	if (c->eof && want == SESSION_WANT_INPUT && !busy(c) && stream_output_pending(c->stream) <= OUTPUT_MARK) {
		c->stream = stream_close_after_write(c->stream, LINGER_US); /* a client that has said all may still listen */
		conn_close(c, "lost connection");
		return;
	}
	conn_update(c, progress);
}

static void on_event(void *arg, enum stream_event event) {
	struct conn *c = arg;
	switch (event) {
	case STREAM_EOF:
		c->eof = true;
		conn_run(c);
		break;
	case STREAM_READABLE:
	case STREAM_DRAINED:
		conn_run(c);
		break;
	case STREAM_DEADLINE:
		if (c->shaking) {
			tls_failed(c, "deadline passed");
			break;
		}
		session_abort(c->session, SESSION_ABORT_IDLE);
		conn_run(c);
		break;
	case STREAM_TLS:
		tls_done(c);
		break;
	case STREAM_TLS_FAILED:
		tls_failed(c, stream_tls_error(c->stream));
		break;
	case STREAM_ERROR:
		c->tls_error = stream_tls_error(c->stream);
		conn_close(c, "connection error");
		break;
	}
}

static void on_reply(void *arg, enum reply_id id) {
	smtpd_count_reply(((struct conn *)arg)->server->metrics, id);
}

void conn_start(const struct smtpd_listener *listener, int fd, const struct conn_client *client) {
	static const struct stream_ops ops = {on_event};
	struct server *server = listener->server;
	struct conn *c = xcalloc(1, sizeof(*c));
	c->server = server;
	c->listener = listener;
	c->client = *client;
	c->opened_us = clock_mono_us();
	c->stream = stream_new(server->loop, fd, INPUT_CAP, &ops, c);
	c->session = session_new(&listener->session, &CONN_OPS, c);
	session_on_reply(c->session, on_reply, c);
	timer_init(&c->pause, server->loop, on_paused, c);
	conn_auth_start(&c->auth, server, &client->address, on_auth, c);
	server_conn_opened(server, &c->link);
	metrics_add(server->metrics, SMTPD_SESSIONS, 1);
	if (listener->settings->tls) {
		if (conn_limits_handshake(c))
			start_tls(c); /* the banner comes after it */
		else
			c->tls_error = "too many handshakes"; /* nothing can be said to it */
	} else {
		start_session(c);
		flush(c);
	}
	conn_run(c);
}

void conn_drain(struct list *link) {
	struct conn *c = list_entry(link, struct conn, link);
	session_abort(c->session, SESSION_ABORT_SHUTDOWN);
	conn_run(c);
}

void conn_hurry(struct list *link) {
	conn_update(list_entry(link, struct conn, link), false);
}

void conn_kill(struct list *link) {
	conn_close(list_entry(link, struct conn, link), "stopped");
}
