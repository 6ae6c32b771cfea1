#include "smtpd/conn_auth.h"

#include "smtpd/dnsbl.h"
#include "smtpd/mail_auth.h"
#include "smtpd/message.h"
#include "smtpd/server.h"
#include "smtpd/store.h"

/* ---- block lists ---- */

static void on_listing(void *arg) {
	struct conn_auth *a = arg;
	if (!a->listing_awaited)
		return;
	a->listing_awaited = false;
	a->resume(a->arg);
}

void conn_auth_start(struct conn_auth *a, struct server *server, const struct netaddr *client, void (*resume)(void *arg), void *arg) {
	*a = (struct conn_auth){.server = server, .client = *client, .resume = resume, .arg = arg};
	if (server->auth.dnsbl)
		a->listing = dnsbl_start(server->auth.dnsbl, client, on_listing, a);
}

void conn_auth_end(struct conn_auth *a) {
	a->listing = dnsbl_cancel(a->listing);
	conn_auth_drop(a);
}

bool conn_auth_busy(const struct conn_auth *a) {
	return a->listing_awaited || a->check_awaited;
}

enum conn_auth_answer conn_auth_recipient(struct conn_auth *a, const struct address *rcpt) {
	if (!a->listing || !a->server->auth.dnsbl_rejects || address_is_role(rcpt))
		return CONN_AUTH_GO; /* who is listed by mistake must reach somebody */
	if (!dnsbl_is_done(a->listing)) {
		a->listing_awaited = true;
		return CONN_AUTH_WAIT;
	}
	return dnsbl_listed(a->listing) ? CONN_AUTH_REFUSE : CONN_AUTH_GO;
}

/* ---- checks ---- */

/* See mail_auth_request. */
static const char *author_shown(const struct message *m) {
	if (message_warned(m, "parse_failed") || message_warned(m, "not_parsed"))
		return NULL;
	return m->from_address ? m->from_address : "";
}

static struct mail_auth_op *start(struct conn_auth *a, const struct session *session, const struct message *message, struct spool *spool,
                                  mail_auth_done *done) {
	const struct mail_auth_request request = {
		.client = a->client,
		.helo = session_helo(session),
		.mail_from = session_transaction(session)->mail_from.raw,
		.from = author_shown(message),
		.spool = spool,
		.dnsbl = a->listing ? dnsbl_results(a->listing) : NULL,
	};
	return mail_auth_start(a->server->auth.checks, &request, done, a);
}

static void on_checked(void *arg) {
	struct conn_auth *a = arg;
	a->check_awaited = false;
	a->resume(a->arg);
}

/* What the operator wants refused; the order is that of the envelope, then the author. */
static bool refuses(const struct smtpd_config *config, const struct mail_auth_result *r, enum session_policy *ret) {
	if (config->null_mx_reject && r->null_mx) {
		*ret = SESSION_POLICY_SENDER_NULL_MX;
		return true;
	}
	if (config->spf_reject && (r->spf.verdict == SPF_FAIL || r->spf.verdict == SPF_PERMERROR || r->spf.verdict == SPF_TEMPERROR)) {
		*ret = r->spf.verdict == SPF_FAIL        ? SESSION_POLICY_SPF_FAIL
		       : r->spf.verdict == SPF_PERMERROR ? SESSION_POLICY_SPF_PERMERROR
		                                         : SESSION_POLICY_SPF_TEMPERROR;
		return true;
	}
	*ret = SESSION_POLICY_DMARC_REJECT;
	return config->dmarc_reject && r->dmarc.verdict == DMARC_FAIL && r->dmarc.policy == DMARC_POLICY_REJECT;
}

/* NULL: overload; unchecked mail is taken, as where there is no policy. */
static struct mail_auth_op *start_before_commit(struct conn_auth *a, const struct session *session, const struct message *message,
                                                struct spool **spool) {
	bool is_short = mail_auth_is_short(*spool);
	struct mail_auth_op *op = start(a, session, message, *spool, a->server->auth.before_commit ? on_checked : NULL);
	if (op && !is_short)
		*spool = NULL;
	return op;
}

enum conn_auth_answer conn_auth_message(struct conn_auth *a, const struct session *session, const struct message *message,
                                        struct spool **spool, enum session_policy *ret_policy) {
	const struct server_auth *auth = &a->server->auth;
	if (!auth->checks || (!auth->before_commit && !mail_auth_is_short(*spool)))
		return CONN_AUTH_GO;
	if (!a->check) {
		a->check = start_before_commit(a, session, message, spool);
		a->check_awaited = a->check && auth->before_commit && !mail_auth_concluded(a->check);
		if (a->check_awaited)
			return CONN_AUTH_WAIT;
	}
	if (!a->check || !auth->before_commit)
		return CONN_AUTH_GO;
	if (!*spool)
		*spool = mail_auth_take_spool(a->check);
	if (!refuses(a->server->config, mail_auth_get(a->check), ret_policy))
		return CONN_AUTH_GO;
	conn_auth_drop(a);
	return CONN_AUTH_REFUSE;
}

const char *conn_auth_text(struct conn_auth *a, bool *ret_forged) {
	return a->check ? mail_auth_text(a->check, ret_forged) : NULL;
}

void conn_auth_stored(struct conn_auth *a, const struct session *session, const struct message *message, struct spool **spool,
                      const struct store_recipient *recipients, unsigned n) {
	if (!a->server->auth.checks)
		return;
	if (!a->check && !a->server->auth.before_commit && !mail_auth_is_short(*spool)) {
		a->check = start(a, session, message, *spool, NULL);
		if (a->check)
			*spool = NULL;
	}
	if (!a->check)
		return;
	struct mail_auth_row *rows = xcalloc(n, sizeof(*rows));
	for (unsigned i = 0; i < n; i++)
		rows[i] = (struct mail_auth_row){recipients[i].id, recipients[i].user};
	mail_auth_keep(take_ptr(a->check), rows, n);
	free(rows);
}

void conn_auth_drop(struct conn_auth *a) {
	a->check = mail_auth_cancel(a->check);
	a->check_awaited = false;
}
