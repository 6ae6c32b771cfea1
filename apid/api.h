/* What a worker's handlers share: made once in server.c, borrowed by every request. */
#ifndef MINUTEMAIL_API_H
#define MINUTEMAIL_API_H

#include "common/base.h"

struct audit;
struct auth;
struct clients;
struct dns;
struct loop;
struct metrics;
struct passwords;
struct pg;
struct quota;

struct api_config {              /* the part of the daemon's configuration that handlers need */
	const char *hostname;
	const char *environment;     /* live or test */
	const char *authserv_id;     /* ours in Authentication-Results */
	const uint8_t *secret;       /* key_secret, 32 octets */
	int64_t session_idle_us, session_max_us;
	const char *signup;          /* closed, invitation or open */
	const char *signup_plan;     /* of a new account */
	char *const *mx_hosts;       /* to which the MX of a domain of ours may point, canonical, the first one recommended; NULL-terminated */
	int64_t domain_check_us;
	int64_t mailbox_lifetime_default_us, mailbox_lifetime_min_us, mailbox_lifetime_max_us;
	int64_t source_max;          /* octets of an injected mail */
};

struct api {
	struct loop *loop;
	struct pg *pg;
	struct auth *auth;
	struct audit *audit; /* NULL: nothing is written down */
	struct quota *quota; /* NULL: nothing is counted */
	struct passwords *passwords;
	struct clients *clients; /* of all workers */
	struct dns *dns;
	struct metrics *metrics;
	const struct api_config *config;
	bool draining;
};

#endif
