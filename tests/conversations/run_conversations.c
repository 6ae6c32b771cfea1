/* Runs transcripts on the real session: each conversation twice, with what the client says in one piece and octet by
 * octet, with the same replies both times. Arguments are transcript files; --replies before them asks that together they
 * pin every reply of the catalogue, that is at least its code and enhanced code. Not a network test: conn is played by
 * this file.
 *
 * A file holds conversations, each begun by a line "== title" and on a session of its own. Lines of one:
 *   # text              comment (so is an empty line)
 *   O: key=value …      options of the session; at the top of the conversation
 *   M: whole | octets   only run in this mode (synchronisation is a matter of what waits in one segment)
 *   C: text             the client sends text and CRLF           C- text   without CRLF
 *   C*n: text           n times
 *   S: text             the next reply line; a '*' at the end stands for any rest         S*n: text
 *   X: closed           the session has ended and there is no more output;   X: open   it has not
 *   LOCAL: address      that the client connected to; at the top too
 *   REFUSED:            the session begins with a refusal; at the top too
 *   LF:                 commands of this client may end with LF alone; at the top too
 *   V: verdict [tag]    of the next unanswered RCPT: ok, unknown, foreign, unavailable, disabled, disabled_now,
 *                       or a policy; without one: ok. The tag (a word) names the mailbox, by default the
 *                       canonical address does
 *   STORE: verdict      of the next message: ok, unavailable, full, loop, or a policy; without one: ok. Queue ids are
 *                       Q1, Q2, … Policies: local, null_mx, unchecked, spf_fail, spf_permerror, spf_temperror, dmarc
 *   SINK: start|write full|broken     the sink fails so at the next call
 *   TLS: ok | failed | not now        the next handshake; without one: ok
 *   WAITS:              more has come than the session was given, when it asks next
 *   HOLD: rcpt|store|tls              the answer is kept back until   GO:
 *   A: idle|shutdown|overload|rate|unsynchronised                     session_abort
 *   BODY: text          what the sink got of the next message handed over
 *   FLAGS: …            of that message, in this order: bare_newline bare_cr smtputf8; or "none"
 *   RCPTS: n   SIZE: n   FROM: text                                   of that message
 *   HELO: text   ODD: n   ERRORS: n   STAGE: text   DROPPED: n   STORED: n   PAUSES: n   of the session now
 * Escapes in text: \r \n \t \0 \\ \xHH, and \{n:text} for n times text. Consecutive client lines travel in one
 * segment. */
#include "common/netaddr.h"
#include "smtpd/reply.h"
#include "smtpd/session.h"

#include <ctype.h>
#include <stdio.h>

#define DELIVERED_MAX 16
#define QUEUE_MAX 64

struct delivered {
	char *body;
	size_t n;
	char flags[64];
	unsigned rcpts;
	uint64_t size;
	char from[ADDRESS_MAX + 4];
};

/* Policies follow the verdicts of a recipient or a message. */
#define POLICY_NAMES "local", "null_mx", "unchecked", "spf_fail", "spf_permerror", "spf_temperror", "dmarc"
#define RECIPIENT_VERDICTS 6
#define STORE_VERDICTS 4

struct verdict {
	unsigned verdict;
	char tag[16];
};

struct run {
	const char *file;
	unsigned line;
	const char *title;
	bool octets, started;
	struct session_options options;
	struct session *session;
	struct buf pending;          /* sent */
	size_t at;                   /* consumed of it */
	size_t visible;              /* behind that, arrived at the session */
	struct buf replies;          /* said, not expected yet */
	struct buf body;
	int start_error, write_error;
	struct verdict verdicts[QUEUE_MAX];
	unsigned verdict_head, verdict_tail;
	unsigned stores[QUEUE_MAX];
	unsigned store_head, store_tail;
	char local[ADDRESS_LITERAL_SIZE];
	bool more_waits, tls_failed, tls_not_now, hold_rcpt, hold_store, hold_tls;
	unsigned queue_ids, dropped, stored, pauses;
	struct delivered delivered[DELIVERED_MAX];
	unsigned delivered_count, looked_at;   /* the message BODY named last is looked_at - 1 */
	unsigned failures;
};

/* ---- saying what is wrong ---- */

static void printable(FILE *f, const char *p, size_t n) {
	for (size_t i = 0; i < n && i < 300; i++) {
		if (isprint((unsigned char)p[i]))
			fputc(p[i], f);
		else
			fprintf(f, "\\x%02x", (unsigned char)p[i]);
	}
}

static void fail(struct run *r, const char *what, struct slice want, struct slice got) {
	const char *mode = r->octets ? "octet by octet" : "whole";
	fprintf(stderr, "%s:%u: %s (%s): %s\n  expected: ", r->file, r->line, r->title, mode, what);
	printable(stderr, want.p, want.n);
	fprintf(stderr, "\n  got:      ");
	printable(stderr, got.p, got.n);
	fputc('\n', stderr);
	r->failures++;
}

static void broken(const struct run *r, const char *what) {
	fprintf(stderr, "%s:%u: %s\n", r->file, r->line, what);
	exit(2);
}

/* ---- the sink ---- */

static int sink_start(void *arg) {
	struct run *r = arg;
	int e = r->start_error;
	r->start_error = 0;
	buf_reset(&r->body);
	return e;
}

static int sink_write(void *arg, const void *p, size_t n) {
	struct run *r = arg;
	int e = r->write_error;
	r->write_error = 0;
	return e ? e : buf_append(&r->body, p, n);
}

static void sink_drop(void *arg) {
	struct run *r = arg;
	r->dropped++;
	buf_reset(&r->body);
}

/* ---- what it is asked in passing ---- */

static bool more_waits(void *arg) {
	struct run *r = arg;
	bool more = r->more_waits;
	r->more_waits = false;
	return more;
}

static bool may_start_tls(void *arg) {
	struct run *r = arg;
	bool may = !r->tls_not_now;
	r->tls_not_now = false;
	return may;
}

static void local_literal(void *arg, char ret[ADDRESS_LITERAL_SIZE]) {
	struct run *r = arg;
	stpcpy(ret, r->local);
}

/* ---- the part of conn ---- */

static void answer_recipient(struct run *r) {
	struct verdict v = {.verdict = SESSION_RECIPIENT_OK};
	uint8_t tag[16] = {0};
	if (r->verdict_head < r->verdict_tail)
		v = r->verdicts[r->verdict_head++];
	const char *name = v.tag[0] ? v.tag : session_recipient(r->session)->canonical;
	for (size_t i = 0; name[i]; i++)
		tag[i % 16] = (uint8_t)(tag[i % 16] * 31 + (uint8_t)name[i]);
	if (v.verdict >= RECIPIENT_VERDICTS)
		session_on_policy(r->session, (enum session_policy)(v.verdict - RECIPIENT_VERDICTS));
	else
		session_on_recipient(r->session, (enum session_recipient_verdict)v.verdict, tag);
}

static void answer_store(struct run *r) {
	const struct session_transaction *tx = session_transaction(r->session);
	unsigned v = r->store_head < r->store_tail ? r->stores[r->store_head++] : SESSION_STORE_OK;
	if (r->delivered_count == DELIVERED_MAX)
		broken(r, "too many messages in one conversation");
	struct delivered *d = &r->delivered[r->delivered_count++];
	d->body = xmemdup(r->body.data ? r->body.data : "", r->body.len + 1);
	d->n = r->body.len;
	d->rcpts = tx->recipient_count;
	d->size = tx->size;
	stpcpy(d->from, tx->mail_from.raw);
	snprintf(d->flags, sizeof(d->flags), "%s%s%s", tx->bare_newline ? " bare_newline" : "",
	         tx->bare_cr ? " bare_cr" : "", tx->smtputf8 ? " smtputf8" : "");
	char id[16];
	snprintf(id, sizeof(id), "Q%u", ++r->queue_ids);
	r->stored += v == SESSION_STORE_OK;
	if (v >= STORE_VERDICTS)
		session_on_policy(r->session, (enum session_policy)(v - STORE_VERDICTS));
	else
		session_on_stored(r->session, (enum session_store_verdict)v, id);
}

/* Hands octets over; false when there is nothing more to do with what has been sent. */
static bool hand_over(struct run *r) {
	size_t left = r->pending.len - r->at;
	if (left == 0)
		return false;
	if (!r->octets)
		r->visible = left;
	else if (r->visible == 0)
		r->visible = 1;
	size_t used = session_input(r->session, r->pending.data + r->at, r->visible);
	r->at += used;
	r->visible -= used;
	struct buf *out = session_output(r->session);
	bool backed_up = out->len > SESSION_OUTPUT_MARK;
	buf_append(&r->replies, out->data, out->len);
	buf_reset(out);
	if (used || backed_up)
		return true;
	if (!r->octets || r->visible == left)
		return false;
	r->visible++;
	return true;
}

static void pump(struct run *r) {
	bool more = true;
	while (more) {
		enum session_want want = session_wants(r->session);
		if (want == SESSION_WANT_RECIPIENT && !r->hold_rcpt) {
			answer_recipient(r);
		} else if (want == SESSION_WANT_STORE && !r->hold_store) {
			answer_store(r);
		} else if (want == SESSION_WANT_TLS && !r->hold_tls) {
			session_on_tls(r->session, r->tls_failed ? NULL : "TLSv1.3 TLS_AES_256_GCM_SHA384");
			r->tls_failed = false;
		} else if (want == SESSION_WANT_PAUSE) {
			r->pauses++;
			session_on_pause(r->session);
		} else {
			more = hand_over(r);
		}
	}
	struct buf *out = session_output(r->session);
	buf_append(&r->replies, out->data, out->len);
	buf_reset(out);
}

/* ---- lines of a transcript ---- */

static void unescape(const struct run *r, const char *s, size_t n, struct buf *out) {
	for (size_t i = 0; i < n; i++) {
		if (s[i] != '\\') {
			buf_append_char(out, s[i]);
			continue;
		}
		if (++i == n)
			broken(r, "a backslash at the end");
		unsigned v;
		if (s[i] == 'x' && i + 2 < n && sscanf(s + i + 1, "%2x", &v) == 1) {
			buf_append_char(out, (char)v);
			i += 2;
		} else if (s[i] == '{') {
			char *colon;
			unsigned long times = strtoul(s + i + 1, &colon, 10);
			const char *close = strchr(colon, '}');
			if (*colon != ':' || !close || times > 4000000)
				broken(r, "bad repetition");
			while (times--)
				unescape(r, colon + 1, (size_t)(close - colon - 1), out);
			i = (size_t)(close - s);
		} else {
			const char *from = "rnt0\\", *to = "\r\n\t\0\\", *at = strchr(from, s[i]);
			if (!at)
				broken(r, "unknown escape");
			buf_append_char(out, to[at - from]);
		}
	}
}

static struct slice text_of(const struct run *r, const char *s, struct buf *b) {
	buf_init(b, 8 << 20);
	unescape(r, s, strlen(s), b);
	if (b->overflow)
		broken(r, "text too long");
	return slice_of(b->data ? b->data : "", b->len);
}

static unsigned index_of(const struct run *r, const char *word, const char *const *words, unsigned n) {
	for (unsigned i = 0; i < n; i++) {
		if (strcmp(word, words[i]) == 0)
			return i;
	}
	broken(r, "unknown word");
	return 0;
}

/* What is consumed need not be kept. */
static size_t take_at(struct run *r) {
	size_t at = r->at;
	r->at = 0;
	return at;
}

static void send_line(struct run *r, const char *s, bool crlf) {
	struct buf b;
	buf_consume(&r->pending, take_at(r));
	struct slice text = text_of(r, s, &b);
	buf_append(&r->pending, text.p, text.n);
	if (crlf)
		buf_append_str(&r->pending, "\r\n");
	buf_fini(&b);
}

/* Which reply of the catalogue a line is: the longest text that fits; REPLY_COUNT: none, as in the answer to EHLO. */
static unsigned reply_of(struct slice line) {
	unsigned best = REPLY_COUNT;
	size_t best_n = 0;
	for (unsigned i = 0; i < REPLY_COUNT; i++) {
		const struct reply *reply = reply_get((enum reply_id)i);
		const char *hole = strstr(reply->text, "%s"), *tail = hole ? hole + 2 : "";
		char head[REPLY_LINE_MAX];
		int n = snprintf(head, sizeof(head), "%u %s%s%.*s", reply->code, reply->enhanced ? reply->enhanced : "",
		                 reply->enhanced ? " " : "", hole ? (int)(hole - reply->text) : 256, reply->text);
		size_t head_n = (size_t)n, tail_n = strlen(tail);
		if (line.n < head_n + tail_n || (!hole && line.n != head_n) || memcmp(line.p, head, head_n) != 0 ||
		    memcmp(line.p + line.n - tail_n, tail, tail_n) != 0 || head_n + tail_n < best_n)
			continue;
		best = i;
		best_n = head_n + tail_n;
	}
	return best;
}

static bool pinned[REPLY_COUNT];

static void note_reply(struct slice got, size_t fixed) {
	unsigned id = reply_of(got);
	if (id < REPLY_COUNT)
		pinned[id] |= fixed >= (reply_get((enum reply_id)id)->enhanced ? strlen("250 2.0.0") : strlen("250"));
}

static unsigned missing_replies(void) {
	unsigned missing = 0;
	for (unsigned i = 0; i < REPLY_COUNT; i++) {
		const struct reply *reply = reply_get((enum reply_id)i);
		if (pinned[i])
			continue;
		fprintf(stderr, "no conversation has: %u %s %s\n", reply->code, reply->enhanced ? reply->enhanced : "", reply->text);
		missing++;
	}
	return missing;
}

static void expect_reply(struct run *r, const char *s) {
	struct buf b;
	struct slice want = text_of(r, s, &b);
	const char *lf = r->replies.len ? memchr(r->replies.data, '\n', r->replies.len) : NULL;
	size_t n = lf ? (size_t)(lf - r->replies.data) + 1 : 0;
	struct slice got = {n ? r->replies.data : "(nothing)", n ? n - 2 : 9};
	bool rest = want.n && want.p[want.n - 1] == '*';
	size_t fixed = rest ? want.n - 1 : want.n;
	if (n == 0 || got.n < fixed || (!rest && got.n != fixed) || memcmp(got.p, want.p, fixed) != 0)
		fail(r, "reply", want, got);
	else
		note_reply(got, fixed);
	buf_consume(&r->replies, n);
	buf_fini(&b);
}

static void nothing_unexpected(struct run *r) {
	if (r->replies.len)
		fail(r, "more was said", slice_str("(nothing)"), buf_slice(&r->replies));
	buf_reset(&r->replies);
}

static void equal_text(struct run *r, const char *what, const char *escaped, struct slice got) {
	struct buf b;
	struct slice want = text_of(r, escaped, &b);
	if (!slice_eq(want, got))
		fail(r, what, want, got);
	buf_fini(&b);
}

static void equal_number(struct run *r, const char *what, const char *want, uint64_t got) {
	char text[24];
	snprintf(text, sizeof(text), "%llu", (unsigned long long)got);
	equal_text(r, what, want, slice_str(text));
}

static void set_options(struct run *r, char *s) {
	struct session_options *o = &r->options;
	for (char *word = strtok(s, " "); word; word = strtok(NULL, " ")) {
		char *equals = strchr(word, '=');
		if (!equals)
			broken(r, "option without a value");
		*equals = '\0';
		unsigned v = (unsigned)strtoul(equals + 1, NULL, 10);
		static const char *const names[] = {"size_max", "recipients_max", "transactions_max", "errors_max",
		                                    "junk_max", "bad_recipients_max", "starttls", "chunking",
		                                    "require_tls", "strict_syntax", "reject_bare_newline", "null_sender_single",
		                                    "starttls_broken", "errors_slow"};
		switch (index_of(r, word, names, array_len(names))) {
		case 0: o->size_max = v; break;
		case 1: o->recipients_max = v; break;
		case 2: o->transactions_max = v; break;
		case 3: o->errors_max = v; break;
		case 4: o->junk_max = v; break;
		case 5: o->bad_recipients_max = v; break;
		case 6: o->starttls = v; break;
		case 7: o->chunking = v; break;
		case 8: o->require_tls = v; break;
		case 9: o->strict_syntax = v; break;
		case 10: o->reject_bare_newline = v; break;
		case 11: o->null_sender_single = v; break;
		case 12: o->starttls_broken = v; break;
		case 13: o->errors_slow = v; break;
		}
	}
}

static void queue_verdict(struct run *r, const char *s) {
	static const char *const names[RECIPIENT_VERDICTS + 7] = {
		"ok", "unknown", "foreign", "unavailable", "disabled", "disabled_now", POLICY_NAMES};
	char word[16] = "", tag[16] = "";
	if (sscanf(s, "%15s %15s", word, tag) < 1 || r->verdict_tail == QUEUE_MAX)
		broken(r, "bad verdict");
	struct verdict *v = &r->verdicts[r->verdict_tail++];
	v->verdict = index_of(r, word, names, array_len(names));
	stpcpy(v->tag, tag);
}

static void queue_store(struct run *r, const char *s) {
	static const char *const names[STORE_VERDICTS + 7] = {"ok", "unavailable", "full", "loop", POLICY_NAMES};
	if (r->store_tail == QUEUE_MAX)
		broken(r, "too many verdicts");
	r->stores[r->store_tail++] = index_of(r, s, names, array_len(names));
}

static void break_sink(struct run *r, const char *s) {
	static const char *const names[] = {"start full", "start broken", "write full", "write broken"};
	unsigned i = index_of(r, s, names, array_len(names));
	*(i < 2 ? &r->start_error : &r->write_error) = i % 2 ? -EIO : -ENOSPC;
}

static void set_handshake(struct run *r, const char *s) {
	static const char *const names[] = {"ok", "failed", "not now"};
	unsigned i = index_of(r, s, names, array_len(names));
	r->tls_failed = i == 1;
	r->tls_not_now = i == 2;
}

static void hold(struct run *r, const char *s) {
	static const char *const names[] = {"rcpt", "store", "tls"};
	bool *flags[] = {&r->hold_rcpt, &r->hold_store, &r->hold_tls};
	*flags[index_of(r, s, names, array_len(names))] = true;
}

static void take_message(struct run *r, const char *text) {
	if (r->looked_at == r->delivered_count) {
		fail(r, "message", slice_str(text), slice_str("(none)"));
		return;
	}
	const struct delivered *d = &r->delivered[r->looked_at++];
	equal_text(r, "body", text, slice_of(d->body, d->n));
}

static void set_local(struct run *r, const char *text) {
	struct netaddr local;
	if (netaddr_parse(text, strlen(text), &local) < 0)
		broken(r, "bad address");
	address_format_literal(&local, r->local);
}

static void start(struct run *r, bool refused) {
	if (r->started)
		return;
	r->started = true;
	if (refused)
		session_start_refused(r->session);
	else
		session_start(r->session);
}

/* Directives that only prepare. */
static bool prepare(struct run *r, const char *key, char *text) {
	if (strcmp(key, "O") == 0)
		set_options(r, text);
	else if (strcmp(key, "V") == 0)
		queue_verdict(r, text);
	else if (strcmp(key, "STORE") == 0)
		queue_store(r, text);
	else if (strcmp(key, "SINK") == 0)
		break_sink(r, text);
	else if (strcmp(key, "TLS") == 0)
		set_handshake(r, text);
	else if (strcmp(key, "WAITS") == 0)
		r->more_waits = true;
	else if (strcmp(key, "HOLD") == 0)
		hold(r, text);
	else if (strcmp(key, "LOCAL") == 0)
		set_local(r, text);
	else if (strcmp(key, "LF") == 0)
		session_allow_bare_newline(r->session);
	else if (strcmp(key, "REFUSED") == 0)
		start(r, true);
	else
		return false;
	return true;
}

static void look(struct run *r, const char *key, const char *text) {
	static const char *const aborts[] = {"idle", "shutdown", "overload", "rate", "unsynchronised"};
	const struct session_counts *counts = session_counts(r->session);
	const struct delivered none = {.body = NULL}, *d = r->looked_at ? &r->delivered[r->looked_at - 1] : &none;
	if (strcmp(key, "S") == 0) {
		expect_reply(r, text);
		return;
	}
	nothing_unexpected(r);
	if (strcmp(key, "X") == 0)
		equal_text(r, "session", text, slice_str(session_wants(r->session) == SESSION_WANT_CLOSE ? "closed" : "open"));
	else if (strcmp(key, "A") == 0)
		session_abort(r->session, (enum session_abort)index_of(r, text, aborts, array_len(aborts)));
	else if (strcmp(key, "GO") == 0)
		r->hold_rcpt = r->hold_store = r->hold_tls = false;
	else if (strcmp(key, "BODY") == 0)
		take_message(r, text);
	else if (strcmp(key, "FLAGS") == 0)
		equal_text(r, "flags", text, slice_str(d->flags[0] ? d->flags + 1 : "none"));
	else if (strcmp(key, "RCPTS") == 0)
		equal_number(r, "recipients", text, d->rcpts);
	else if (strcmp(key, "SIZE") == 0)
		equal_number(r, "size", text, d->size);
	else if (strcmp(key, "FROM") == 0)
		equal_text(r, "sender", text, slice_str(d->from));
	else if (strcmp(key, "HELO") == 0)
		equal_text(r, "helo", text, slice_str(session_helo(r->session)));
	else if (strcmp(key, "ODD") == 0)
		equal_number(r, "odd commands", text, counts->odd);
	else if (strcmp(key, "ERRORS") == 0)
		equal_number(r, "errors", text, counts->errors);
	else if (strcmp(key, "STAGE") == 0)
		equal_text(r, "stage", text, slice_str(counts->stage));
	else if (strcmp(key, "DROPPED") == 0)
		equal_number(r, "dropped bodies", text, r->dropped);
	else if (strcmp(key, "STORED") == 0)
		equal_number(r, "stored messages", text, r->stored);
	else if (strcmp(key, "PAUSES") == 0)
		equal_number(r, "pauses", text, r->pauses);
	else
		broken(r, "unknown directive");
}

static void directive(struct run *r, char *line) {
	char key[16] = "";
	unsigned times = 1;
	int at = 0;
	if (sscanf(line, "%15[A-Z]%n", key, &at) < 1)
		broken(r, "not a directive");
	if (line[at] == '*') {
		char *end;
		times = (unsigned)strtoul(line + at + 1, &end, 10);
		at = (int)(end - line);
	}
	bool raw = line[at] == '-';
	if (line[at] != ':' && !(raw && strcmp(key, "C") == 0))
		broken(r, "not a directive");
	char *text = line + at + 1;
	if (*text == ' ')
		text++;
	if (prepare(r, key, text))
		return;
	start(r, false);
	if (strcmp(key, "C") != 0)
		pump(r);
	while (times--) {
		if (strcmp(key, "C") == 0) {
			if (r->at == r->pending.len)
				nothing_unexpected(r);
			send_line(r, text, !raw);
		} else {
			look(r, key, text);
		}
	}
	if (strcmp(key, "A") == 0 || strcmp(key, "GO") == 0)
		pump(r);
}

/* ---- conversations ---- */

struct conversation {
	char **lines;        /* of the file */
	unsigned first, end; /* the title's line, and the line after the last */
};

static void finish(struct run *r) {
	pump(r);
	nothing_unexpected(r);
	session_free(r->session);
	for (unsigned i = 0; i < r->delivered_count; i++)
		free(r->delivered[i].body);
	buf_fini(&r->pending);
	buf_fini(&r->replies);
	buf_fini(&r->body);
}

static unsigned run_one(const char *file, const struct conversation *c, bool octets) {
	static const struct session_ops ops = {sink_start, sink_write, sink_drop, NULL, more_waits, may_start_tls, local_literal};
	struct run r = {
		.file = file,
		.title = c->lines[c->first] + 3,
		.octets = octets,
		.options = {.hostname = "mx.example.org", .size_max = 10000, .recipients_max = 100},
	};
	buf_init(&r.pending, 16 << 20);
	buf_init(&r.replies, 16 << 20);
	buf_init(&r.body, 16 << 20);
	r.session = session_new(&r.options, &ops, &r);
	for (unsigned i = c->first + 1; i < c->end; i++) {
		const char *line = c->lines[i];
		r.line = i + 1;
		if (line[0] == '\0' || line[0] == '#' || strncmp(line, "M:", 2) == 0)
			continue;
		char *copy = xstrdup(line);
		directive(&r, copy);
		free(copy);
	}
	finish(&r);
	return r.failures;
}

/* Which modes a conversation asks for: bit 0 whole, bit 1 octets. */
static unsigned modes_of(const struct conversation *c) {
	for (unsigned i = c->first; i < c->end; i++) {
		if (strcmp(c->lines[i], "M: whole") == 0)
			return 1;
		if (strcmp(c->lines[i], "M: octets") == 0)
			return 2;
	}
	return 3;
}

static unsigned run_conversation(const char *file, const struct conversation *c, unsigned *total) {
	unsigned failures = 0, modes = modes_of(c);
	for (unsigned octets = 0; octets < 2; octets++) {
		if (!(modes & 1u << octets))
			continue;
		bool ok = run_one(file, c, octets) == 0;
		failures += !ok;
		++*total;
	}
	return failures;
}

static char **read_lines(const char *file, unsigned *ret_count) {
	FILE *f = fopen(file, "r");
	if (!f) {
		fprintf(stderr, "%s: %s\n", file, strerror(errno));
		exit(2);
	}
	char **lines = NULL, *line = NULL;
	size_t cap = 0;
	ssize_t n;
	unsigned count = 0;
	while ((n = getline(&line, &cap, f)) >= 0) {
		if (n && line[n - 1] == '\n')
			line[--n] = '\0';
		lines = xrealloc(lines, (count + 1) * sizeof(*lines));
		lines[count++] = xstrdup(line);
	}
	free(line);
	fclose(f);
	*ret_count = count;
	return lines;
}

static unsigned run_file(const char *file, unsigned *total) {
	unsigned count, failures = 0;
	char **lines = read_lines(file, &count);
	for (unsigned i = 0; i < count;) {
		unsigned end = i + 1;
		while (end < count && strncmp(lines[end], "== ", 3) != 0)
			end++;
		if (strncmp(lines[i], "== ", 3) == 0) {
			const struct conversation c = {lines, i, end};
			failures += run_conversation(file, &c, total);
		}
		i = end;
	}
	for (unsigned i = 0; i < count; i++)
		free(lines[i]);
	free(lines);
	return failures;
}

int main(int argc, char **argv) {
	unsigned total = 0, failures = 0;
	bool replies = argc > 1 && strcmp(argv[1], "--replies") == 0;
	for (int i = replies ? 2 : 1; i < argc; i++)
		failures += run_file(argv[i], &total);
	printf("%u conversations, %u failed\n", total, failures);
	return failures || total == 0 || (replies && missing_replies());
}
