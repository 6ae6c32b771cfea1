/* What one connection may cost: time, errors, and what its client's address may do by the minute (clients.h). Not who may connect:
 * accept.h.
 *
 * Time. A command is owed within command_deadline, whole: half of one buys nothing. A body is owed like a loan: data_deadline to begin
 * with, and each octet buys 1/data_rate_min of a second, never more than the deadline itself. So a sender at that rate is never cut off,
 * and one that drips is, soon. Between its chunks a message goes on: no number of little BDATs buys more than their octets do. Nothing
 * outlives session_deadline. Under stress both deadlines are STRESS_DEADLINE_US. */
#include "smtpd/conn_impl.h"

#define STRESS_DEADLINE_US 10000000
#define HANDSHAKE_US 30000000

void conn_limits_end(struct conn *c) {
	clients_leave(c->server->clients, &c->client.place);
}

/* ---- by the minute ---- */

bool conn_limits_recipient(struct conn *c) {
	static const enum clients_rate rates[] = {CLIENTS_MESSAGES, CLIENTS_OCTETS, CLIENTS_BAD_RECIPIENTS, CLIENTS_ERRORS};
	for (size_t i = 0; i < array_len(rates); i++) {
		if (clients_may(c->server->clients, &c->client.place, rates[i]) || address_is_role(session_recipient(c->session)))
			continue; /* roles are for somebody who has a complaint about just this */
		metrics_add(c->server->metrics, SMTPD_REFUSED_LIMIT, 1);
		session_abort(c->session, SESSION_ABORT_RATE);
		return false;
	}
	return true;
}

bool conn_limits_handshake(struct conn *c) {
	if (!clients_may(c->server->clients, &c->client.place, CLIENTS_HANDSHAKES)) {
		metrics_add(c->server->metrics, SMTPD_REFUSED_LIMIT, 1);
		return false;
	}
	clients_count(c->server->clients, &c->client.place, CLIENTS_HANDSHAKES, 1);
	return true;
}

int64_t conn_limits_handshake_us(const struct conn *c) {
	return c->server->stress.on ? STRESS_DEADLINE_US : HANDSHAKE_US;
}

void conn_limits_refused_recipient(struct conn *c) {
	clients_count(c->server->clients, &c->client.place, CLIENTS_BAD_RECIPIENTS, 1);
}

void conn_limits_message(struct conn *c) {
	clients_count(c->server->clients, &c->client.place, CLIENTS_MESSAGES, 1);
}

/* ---- errors and time ---- */

static int64_t patience(const struct conn *c, bool message) {
	const struct smtpd_config *config = c->server->config;
	int64_t us = message ? config->data_deadline : config->command_deadline;
	return c->server->stress.on ? min_of(us, (int64_t)STRESS_DEADLINE_US) : us;
}

static void count_errors(struct conn *c) {
	unsigned errors = session_counts(c->session)->errors;
	clients_count(c->server->clients, &c->client.place, CLIENTS_ERRORS, errors - c->errors_seen);
	c->errors_seen = errors;
}

void conn_limits_used(struct conn *c) {
	int64_t rate = c->server->config->data_rate_min;
	uint64_t octets = session_counts(c->session)->octets;
	if (octets > c->octets_seen && rate && c->in_message && c->due)
		c->due = min_of(c->due + (int64_t)(octets - c->octets_seen) * 1000000 / rate, clock_mono_us() + patience(c, true));
	clients_count(c->server->clients, &c->client.place, CLIENTS_OCTETS, (int64_t)(octets - c->octets_seen)); /* refused ones cost as much */
	c->octets_seen = octets;
	count_errors(c);
}

void conn_limits_arm(struct conn *c, bool owing, bool progress) {
	const struct smtpd_config *config = c->server->config;
	bool message = session_in_message(c->session);
	int64_t now = clock_mono_us();
	if (!owing) {
		c->due = 0;
		stream_set_deadline(c->stream, 0); /* the operation has its own */
		return;
	}
	if (!c->due || message != c->in_message || (progress && (!message || !config->data_rate_min)))
		c->due = now + patience(c, message);
	c->in_message = message;
	/* Stress may have begun, the session's end may be near. */
	int64_t until = min_of(c->due, now + patience(c, message));
	if (config->session_deadline)
		until = min_of(until, c->opened_us + config->session_deadline);
	c->due = until;
	stream_set_deadline(c->stream, max_of(until - now, INT64_C(1)));
}
