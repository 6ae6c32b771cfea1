/* What each command does once its form is judged: const rows {act, after_helo, alone}. The moves they make are
 * session.c's. */
#include "smtpd/session_impl.h"

#include <inttypes.h>
#include <strings.h>

/* `waiting`: octets that follow in the input. */
typedef void command_act(struct session *, const struct command *, size_t waiting);

static void greet(struct session *s, const struct command *c, bool esmtp) {
	session_end_transaction(s); /* RFC 5321 4.1.4 */
	free(s->helo);
	s->helo = xstrndup(c->text.p, c->text.n);
	s->esmtp = esmtp;
	session_set_state(s, STATE_READY);
}

/* Whether the client has said more than it may, here or on the way to here. */
static bool talks_on(const struct session *s, size_t waiting) {
	return waiting || (s->ops->input_waits && s->ops->input_waits(s->ops_arg));
}

static void act_helo(struct session *s, const struct command *c, size_t waiting) {
	if (talks_on(s, waiting)) { /* no PIPELINING without EHLO */
		session_close_fault(s, REPLY_UNSYNCHRONISED);
		return;
	}
	greet(s, c, false);
	session_reply(s, REPLY_HELO);
	session_count_junk(s);
}

static void act_ehlo(struct session *s, const struct command *c, size_t waiting) {
	const struct session_options *o = s->options;
	greet(s, c, true);
	buf_printf(&s->out, "250-%s\r\n250-PIPELINING\r\n250-SIZE %" PRIu64 "\r\n", o->hostname, o->size_max);
	buf_append_str(&s->out, "250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n");
	if (o->chunking)
		buf_append_str(&s->out, "250-CHUNKING\r\n250-BINARYMIME\r\n");
	if (o->starttls && !o->starttls_broken && !s->tls)
		buf_append_str(&s->out, "250-STARTTLS\r\n");
	buf_printf(&s->out, "250-LIMITS RCPTMAX=%u", o->recipients_max); /* RFC 9422 */
	if (o->transactions_max)
		buf_printf(&s->out, " MAILMAX=%u", o->transactions_max);
	buf_append_str(&s->out, "\r\n250 HELP\r\n");
	session_count_reply(s, REPLY_HELO);
	session_count_junk(s);
}

static void act_mail(struct session *s, const struct command *c, size_t waiting) {
	const struct session_options *o = s->options;
	struct address from;
	if (s->tx) {
		session_fault(s, REPLY_NESTED_MAIL);
		return;
	}
	if (o->transactions_max && s->transactions >= o->transactions_max) {
		session_close_with(s, REPLY_TOO_MANY_MESSAGES);
		return;
	}
	if (c->body == COMMAND_BODY_BINARYMIME && !o->chunking) {
		session_fault(s, REPLY_BAD_PARAMETER);
		return;
	}
	switch (address_parse(c->text.p, c->text.n, c->smtputf8, false, &from)) {
	case ADDRESS_OK:
		break;
	case ADDRESS_BAD_SYNTAX:
	case ADDRESS_TOO_LONG:
		session_fault(s, REPLY_BAD_SENDER);
		return;
	case ADDRESS_NON_ASCII:
		session_fault(s, REPLY_NEED_SMTPUTF8);
		return;
	case ADDRESS_BAD_IDNA:
		session_fault(s, REPLY_BAD_SENDER_IDNA);
		return;
	}
	if (c->has_size && c->size > o->size_max) {
		session_fault(s, REPLY_TOO_BIG);
		return;
	}
	s->tx = xcalloc(1, sizeof(*s->tx));
	s->tx->pub.mail_from = from;
	s->tx->pub.smtputf8 = c->smtputf8;
	s->tx->pub.declared_size = c->size;
	s->tx->binary = c->body == COMMAND_BODY_BINARYMIME;
	s->tx->failure = REPLY_CHUNK_OK;
	s->transactions++;
	session_set_state(s, STATE_MAIL);
	session_reply(s, REPLY_MAIL_OK);
}

/* The place of the next recipient, behind the accepted ones; recipients_max bounds it. */
static struct address *next_recipient(struct transaction *tx) {
	if (tx->pub.recipient_count == tx->room) {
		tx->room = tx->room ? tx->room * 2 : 1;
		tx->recipients = xrealloc(tx->recipients, tx->room * sizeof(*tx->recipients));
		tx->tags = xrealloc(tx->tags, tx->room * sizeof(*tx->tags));
		tx->pub.recipients = tx->recipients;
		tx->pub.tags = (const uint8_t(*)[16])tx->tags;
	}
	return &tx->recipients[tx->pub.recipient_count];
}

/* A host takes mail for its postmaster by its address too (RFC 5321 4.5.1); no other mailbox of ours is known by it. */
static void judge_literal(struct session *s, struct address *to) {
	char local[ADDRESS_LITERAL_SIZE] = "";
	if (s->ops->local_literal)
		s->ops->local_literal(s->ops_arg, local);
	if (!local[0] || strcmp(to->domain, local) != 0) {
		session_refuse_guess(s, REPLY_FOREIGN_DOMAIN);
	} else if (strcasecmp(to->local, "postmaster") != 0) {
		session_refuse_guess(s, REPLY_UNKNOWN_MAILBOX);
	} else {
		to->kind = ADDRESS_POSTMASTER;
		stpcpy(to->canonical, "postmaster");
		session_set_state(s, STATE_RCPT_WAIT);
	}
}

static void act_rcpt(struct session *s, const struct command *c, size_t waiting) {
	struct transaction *tx = s->tx;
	if (!tx || tx->chunked) {
		session_fault(s, tx ? REPLY_BAD_SEQUENCE : REPLY_NEED_MAIL);
		return;
	}
	if (tx->accepted >= s->options->recipients_max) {
		session_reply(s, REPLY_TOO_MANY_RECIPIENTS); /* 452, not 552: RFC 5321 4.5.3.1.10 */
		return;
	}
	if (s->options->null_sender_single && tx->pub.mail_from.kind == ADDRESS_NULL && tx->accepted > 0) {
		session_reply(s, REPLY_BOUNCE_TO_MANY); /* a bounce answers one message, which had one sender */
		return;
	}
	struct address *to = next_recipient(tx);
	switch (address_parse(c->text.p, c->text.n, tx->pub.smtputf8, true, to)) {
	case ADDRESS_OK:
		break;
	case ADDRESS_BAD_SYNTAX:
	case ADDRESS_TOO_LONG:
		session_fault(s, REPLY_BAD_RECIPIENT);
		return;
	case ADDRESS_NON_ASCII:
		session_fault(s, REPLY_NEED_SMTPUTF8);
		return;
	case ADDRESS_BAD_IDNA:
		session_fault(s, REPLY_BAD_RECIPIENT_IDNA);
		return;
	}
	if (to->kind == ADDRESS_NULL)
		session_fault(s, REPLY_BAD_RECIPIENT);
	else if (to->kind == ADDRESS_LITERAL)
		judge_literal(s, to);
	else
		session_set_state(s, STATE_RCPT_WAIT);
}

/* RFC 5321 3.3. Where a recipient was only put off so is the message: a sender that pipelines may look no further. */
static enum reply_id no_recipients(const struct transaction *tx) {
	return tx->put_off ? REPLY_UNAVAILABLE : REPLY_NO_RECIPIENTS;
}

static void act_data(struct session *s, const struct command *c, size_t waiting) {
	struct transaction *tx = s->tx;
	if (talks_on(s, waiting)) {
		/* RFC 2920 3.1: the last of its group. A body sent too early must not be read as commands. */
		session_close_fault(s, REPLY_UNSYNCHRONISED);
	} else if (!tx) {
		session_fault(s, REPLY_NEED_MAIL);
	} else if (tx->chunked || tx->binary) {
		session_fault(s, tx->chunked ? REPLY_BAD_SEQUENCE : REPLY_CHUNKS_ONLY); /* RFC 3030 2, 3 */
	} else if (tx->pub.recipient_count == 0) {
		session_refuse(s, no_recipients(tx));
	} else {
		session_start_body(s);
		if (tx->error) {
			enum reply_id id = session_error_reply(tx->error);
			session_end_transaction(s);
			session_reply(s, id);
			return;
		}
		session_set_state(s, STATE_DATA);
		session_reply(s, REPLY_SEND_DATA);
	}
}

static bool tls_missing(const struct session *s) {
	return s->options->require_tls && !s->tls;
}

/* Whether and why the chunk is only swallowed. */
static enum reply_id judge_chunk(struct session *s) {
	struct transaction *tx = s->tx;
	if (s->refused)
		return REPLY_REFUSED_SESSION;
	if (tls_missing(s))
		return REPLY_TLS_REQUIRED;
	if (!tx)
		return s->helo ? REPLY_NEED_MAIL : REPLY_NEED_HELO;
	if (tx->failure != REPLY_CHUNK_OK)
		return tx->failure;
	if (tx->pub.recipient_count == 0)
		return no_recipients(tx);
	return REPLY_CHUNK_OK;
}

static void act_bdat(struct session *s, const struct command *c, size_t waiting) {
	struct transaction *tx = s->tx;
	if (!s->options->chunking) {
		session_close_fault(s, REPLY_UNFRAMEABLE);
		return;
	}
	s->chunk_refusal = judge_chunk(s);
	bool refused = s->chunk_refusal != REPLY_CHUNK_OK;
	uint64_t *total = tx ? &tx->received : &s->swallowed;
	uint64_t bound = s->options->size_max + min_of((uint64_t)SESSION_EXCESS_MAX, UINT64_MAX - s->options->size_max);
	if (c->size > bound || *total > bound - c->size) {
		session_close_fault(s, REPLY_TOO_BIG); /* as much as that is not even read */
		return;
	}
	if (refused)
		*total += c->size;
	if (tx) {
		if (!tx->chunked && !refused)
			session_start_body(s);
		tx->chunked = true;
		tx->failure = s->chunk_refusal;
	}
	s->chunk = (struct data_chunk){.left = c->size, .last = c->last};
	s->chunk_size = c->size;
	session_set_state(s, STATE_BDAT);
	if (c->size > 0)
		return;
	session_finish_chunk(s);
	if (!c->last)
		session_count_junk(s); /* carries nothing */
}

static void act_rset(struct session *s, const struct command *c, size_t waiting) {
	session_end_transaction(s);
	session_reply(s, REPLY_OK);
	session_count_junk(s);
}

static void act_noop(struct session *s, const struct command *c, size_t waiting) {
	session_reply(s, REPLY_OK);
	session_count_junk(s);
}

static void act_vrfy(struct session *s, const struct command *c, size_t waiting) {
	session_reply(s, REPLY_CANNOT_VERIFY); /* RFC 5321 7.3: no oracle */
	session_count_junk(s);
}

static void act_help(struct session *s, const struct command *c, size_t waiting) {
	session_reply(s, REPLY_HELP);
	session_count_junk(s);
}

static void act_quit(struct session *s, const struct command *c, size_t waiting) {
	session_close_with(s, REPLY_BYE);
}

static void act_starttls(struct session *s, const struct command *c, size_t waiting) {
	if (s->tls) {
		session_fault(s, REPLY_TLS_ACTIVE);
	} else if (s->options->starttls_broken) {
		session_reply(s, REPLY_TLS_UNAVAILABLE); /* RFC 3207 4 */
		session_count_junk(s);
	} else if (!s->options->starttls) {
		session_fault(s, REPLY_NOT_OFFERED);
	} else if (talks_on(s, waiting)) {
		session_close_fault(s, REPLY_UNSYNCHRONISED); /* commands injected in clear must not be run inside TLS */
	} else if (s->ops->may_start_tls && !s->ops->may_start_tls(s->ops_arg)) {
		session_reply(s, REPLY_TLS_UNAVAILABLE); /* mail in clear is better than none */
		session_count_junk(s);
	} else {
		session_end_transaction(s);
		session_reply(s, REPLY_START_TLS);
		session_set_state(s, STATE_TLS_WAIT);
	}
}

static void act_not_offered(struct session *s, const struct command *c, size_t waiting) {
	session_fault(s, REPLY_NOT_OFFERED);
}

static void act_unknown(struct session *s, const struct command *c, size_t waiting) {
	session_fault(s, REPLY_UNKNOWN_COMMAND);
}

static void act_foreign(struct session *s, const struct command *c, size_t waiting) {
	session_close_fault(s, REPLY_NOT_SMTP);
}

struct action {
	command_act *act;
	bool after_helo;     /* 503 before EHLO or HELO */
	bool alone;          /* in a session without PIPELINING nothing may follow it unasked */
	bool before_tls;     /* allowed in clear where TLS is required (RFC 3207 4) */
};

static const struct action actions[] = {
	[COMMAND_UNKNOWN] = {act_unknown, false, false, false},
	[COMMAND_EHLO] = {act_ehlo, false, false, true},
	[COMMAND_HELO] = {act_helo, false, false, false},
	[COMMAND_MAIL] = {act_mail, true, true, false},
	[COMMAND_RCPT] = {act_rcpt, true, true, false},
	[COMMAND_DATA] = {act_data, true, true, false},
	[COMMAND_BDAT] = {act_bdat, false, false, true}, /* it judges for itself, once the octets are taken */
	[COMMAND_RSET] = {act_rset, false, true, false},
	[COMMAND_NOOP] = {act_noop, false, true, true},
	[COMMAND_QUIT] = {act_quit, false, false, true},
	[COMMAND_VRFY] = {act_vrfy, false, true, false},
	[COMMAND_HELP] = {act_help, false, true, false},
	[COMMAND_STARTTLS] = {act_starttls, false, true, true},
	[COMMAND_NOT_OFFERED] = {act_not_offered, false, false, false},
	[COMMAND_FOREIGN_PROTOCOL] = {act_foreign, false, false, true},
};

static void answer_fault(struct session *s, const struct command *c) {
	switch (c->fault) {
	case COMMAND_FINE:
		break;
	case COMMAND_BAD_OCTETS:
		session_fault(s, REPLY_BAD_OCTETS);
		break;
	case COMMAND_BAD_ARGUMENTS:
		session_fault(s, REPLY_BAD_ARGUMENTS);
		break;
	case COMMAND_BAD_PARAMETER:
		session_fault(s, REPLY_BAD_PARAMETER);
		break;
	case COMMAND_UNKNOWN_PARAMETER:
		session_fault_about(s, REPLY_UNKNOWN_PARAMETER, c->text.p, c->text.n);
		break;
	case COMMAND_NON_ASCII:
		session_fault(s, REPLY_NEED_SMTPUTF8);
		break;
	}
}

void session_execute(struct session *s, const char *line, size_t n, bool ended, size_t waiting) {
	struct command c;
	command_parse(line, n, &c);
	const struct action *action = &actions[c.verb];
	s->counts.commands++;
	s->counts.odd += c.odd;
	s->counts.stage = command_name(c.verb);
	if (c.verb == COMMAND_FOREIGN_PROTOCOL)
		act_foreign(s, &c, waiting);
	else if (c.verb == COMMAND_BDAT && (c.fault != COMMAND_FINE || !ended))
		session_close_fault(s, REPLY_UNFRAMEABLE); /* what follows could be a body read as commands */
	else if (!ended)
		session_fault(s, REPLY_BARE_NEWLINE);
	else if (action->alone && s->helo && !s->esmtp && talks_on(s, waiting))
		session_close_fault(s, REPLY_UNSYNCHRONISED);
	else if (s->refused && c.verb != COMMAND_QUIT && c.verb != COMMAND_BDAT)
		session_fault(s, REPLY_REFUSED_SESSION);
	else if (tls_missing(s) && !action->before_tls)
		session_fault(s, REPLY_TLS_REQUIRED);
	else if (c.fault == COMMAND_BAD_OCTETS)
		answer_fault(s, &c);
	else if (action->after_helo && !s->helo)
		session_fault(s, REPLY_NEED_HELO);
	else if (c.fault != COMMAND_FINE)
		answer_fault(s, &c);
	else if (c.odd && s->options->strict_syntax)
		session_fault(s, REPLY_BAD_ARGUMENTS);
	else
		action->act(s, &c, waiting);
	session_settle(s);
}
