/* What each client address has done lately, counted over all workers of the daemon in one shared mapping of fixed size, made before the
 * fork, and handed over to the next master in an upgrade, so that for as long as both have workers these count together. A client is an
 * IPv4 address or an IPv6 /64, and counted again as part of its wider network (/24, /48), which may do `wide_factor` times as much.
 * Nothing here is ever locked: a worker killed at any instant leaves nothing behind but its own counts, which the master or the next
 * worker clears. */
#ifndef MINUTEMAIL_CLIENTS_H
#define MINUTEMAIL_CLIENTS_H

#include "common/netaddr.h"

struct clients;

enum clients_rate {          /* what is counted by the minute */
	CLIENTS_CONNECTIONS,
	CLIENTS_MESSAGES,
	CLIENTS_OCTETS,
	CLIENTS_BAD_RECIPIENTS,
	CLIENTS_HANDSHAKES,
	CLIENTS_ERRORS,          /* over it no new connection is welcome */
	CLIENTS_BAD_KEYS,
	CLIENTS_RATES,
	/* apid's, in the places of what only smtpd counts: a client is to be one cache line. */
	CLIENTS_LOGINS = CLIENTS_MESSAGES,            /* passwords and links tried */
	CLIENTS_NAME_LOGINS = CLIENTS_BAD_RECIPIENTS, /* the same for one person, from wherever (clients_take_name) */
};

struct clients_limits {      /* 0: no limit */
	int64_t at_once;         /* connections */
	int64_t a_minute[CLIENTS_RATES];
	int64_t minutes[CLIENTS_RATES]; /* of how many minutes all may be done at once, CLIENTS_MINUTES_MAX at the most; 0: of one */
#define CLIENTS_MINUTES_MAX 5
	int64_t wide_factor;     /* 0: wider networks have no limit */
};

/* Where a connection's client is counted; the places stay its own while it is held. Zeroed: nowhere, and never limited. */
struct client {
	uint32_t place[2];       /* address, network; 0: none */
};

enum clients_verdict {
	CLIENTS_WELCOME,
	CLIENTS_TOO_MANY,        /* connections at once */
	CLIENTS_TOO_FAST,        /* new connections a minute, or over another limit that closes connections (errors) */
};

/* inherited: the table of the master before us (its clients_fd()), taken over; -1, or it has another form: a new one. */
struct clients *clients_new(const struct clients_limits *, int inherited);
struct clients *clients_free(struct clients *);
int clients_fd(const struct clients *);                   /* for the next master; stays ours */
/* In a worker, once, before its sandbox. Until then, or if there is no row for it (logged), every client is welcome and not counted. */
void clients_attach(struct clients *);
void clients_sweep(struct clients *);                     /* in the master: a worker has ended, its connections are gone */

/* A connection begins. *ret is zeroed unless WELCOME; then clients_leave() ends it. When the table is full of other clients'
 * connections a new one is welcome and not counted. */
enum clients_verdict clients_enter(struct clients *, const struct netaddr *, struct client *ret);
void clients_leave(struct clients *, struct client *);    /* zeroes it */
bool clients_may(const struct clients *, const struct client *, enum clients_rate);   /* one more */
void clients_count(struct clients *, const struct client *, enum clients_rate, int64_t n);
/* The same for a client that has no connection of its own, because a proxy asks for it. */
bool clients_may_address(struct clients *, const struct netaddr *, enum clients_rate);
/* Counts one more, exactly, however many workers do: 0. Or how many microseconds to wait for it; then it was not counted. give_back: it
 * does not count after all. */
int64_t clients_take_address(struct clients *, const struct netaddr *, enum clients_rate);
void clients_give_back_address(struct clients *, const struct netaddr *, enum clients_rate);
/* The same for whatever has a name, which has no wider network. */
int64_t clients_take_name(struct clients *, struct slice name, enum clients_rate);
void clients_give_back_name(struct clients *, struct slice name, enum clients_rate);
unsigned clients_at_once(const struct clients *, const struct netaddr *);   /* connections of this address now */

#endif
