/* The lines that a connection leaves in the log: one for each message, and one when it ends. What names a person is left out of them: of
 * recipients there is the number, of the sender a digest, so that who knows the address finds its lines. */
#include "smtpd/conn_impl.h"

#include "common/sha256.h"

#include <stdio.h>

#define DIGEST_SHOWN 8 /* octets of it */

/* The API never stores or shows it; the operator may not want it here either. */
static void log_client(struct log_line *line, const struct conn *c) {
	char text[NETADDR_TEXT_SIZE];
	if (!c->server->config->log_client || c->client.address.family == NETADDR_NONE)
		return;
	netaddr_format(&c->client.address, text);
	log_str(line, "client", text);
	if (netaddr_equal(&c->client.address, &c->client.peer))
		return;
	netaddr_format(&c->client.peer, text);
	log_str(line, "proxy", text);
}

/* Some send their address instead of a name. */
static void log_helo(struct log_line *line, const struct conn *c) {
	const char *helo = session_helo(c->session);
	struct netaddr address;
	if (c->server->config->log_client || (*helo != '[' && netaddr_parse(helo, strlen(helo), &address) < 0))
		log_str(line, "helo", helo);
}

void conn_log_sender(struct conn *c, const char *mail_from) {
	uint8_t digest[SHA256_LEN];
	char lower[ADDRESS_MAX + 4];
	size_t n = strnlen(mail_from, sizeof(lower));
	free(c->log_from);
	c->log_from = NULL;
	if (!log_enabled(LOG_LEVEL_INFO))
		return;
	if (n == 0 || c->server->config->log_sender) {
		c->log_from = xasprintf("<%s>", mail_from);
		return;
	}
	for (size_t i = 0; i < n; i++)
		lower[i] = mail_from[i] >= 'A' && mail_from[i] <= 'Z' ? (char)(mail_from[i] + 32) : mail_from[i];
	sha256_of(lower, n, digest);
	c->log_from = xcalloc(2 * DIGEST_SHOWN + 1, 1);
	for (size_t i = 0; i < DIGEST_SHOWN; i++)
		snprintf(c->log_from + 2 * i, 3, "%02x", digest[i]);
}

/* Why mail did not come, for who looks for it: the code tells, and names nobody. */
static void log_refusal(struct log_line *line, const struct conn *c) {
	const struct reply *reply = reply_get(session_counts(c->session)->last_refusal);
	char text[16];
	if (reply->code < 400)
		return;
	snprintf(text, sizeof(text), "%u%s%s", reply->code, reply->enhanced ? " " : "", reply->enhanced ? reply->enhanced : "");
	log_str(line, "refusal", text);
}

void conn_log_end(const struct conn *c, const char *reason) {
	const struct session_counts *counts = session_counts(c->session);
	static struct log_limit limit = {.what = "session ended", .per_second = 100};
	if (!c->messages && !log_enabled(LOG_LEVEL_DEBUG) && !log_limit_pass(&limit))
		return;
	struct log_line line;
	log_begin(&line, LOG_LEVEL_INFO, "session ended");
	log_client(&line, c);
	log_str(&line, "reason", reason);
	log_str(&line, "after", counts->stage);
	log_helo(&line, c);
	log_str(&line, "tls", c->tls);
	log_str(&line, "tls_error", c->tls_error);
	log_int(&line, "commands", counts->commands);
	log_int(&line, "errors", counts->errors);
	log_int(&line, "refused", counts->recipients_refused);
	log_refusal(&line, c);
	log_int(&line, "messages", c->messages);
	log_int(&line, "code", counts->last_code);
	log_int(&line, "ms", (clock_mono_us() - c->opened_us) / 1000);
	log_end(&line);
}

void conn_log_message(const struct conn *c, const char *event, enum log_level level, uint64_t size, unsigned recipients,
                      unsigned code) {
	struct log_line line;
	int64_t now = clock_mono_us_now();
	log_begin(&line, level, event);
	log_client(&line, c);
	log_str(&line, "id", c->queue_id[0] ? c->queue_id : NULL);
	log_helo(&line, c);
	log_str(&line, "from", c->log_from);
	log_str(&line, "tls", c->tls);
	log_int(&line, "size", (int64_t)size);
	log_int(&line, "recipients", recipients);
	log_int(&line, "parts", c->message ? c->message->parts.count : 0);
	if (c->message && c->message->warnings.n)
		log_str(&line, "warning", c->message->warnings.v[0]);
	log_int(&line, "code", code);
	log_int(&line, "parse_us", c->parsed_us - c->dot_us);
	log_int(&line, "us", now - c->dot_us);
	log_end(&line);
}
