/* What one worker has for authenticating mail: resolver, helper thread, block lists, the checks and their connection to the database. */
#ifndef MINUTEMAIL_SMTPD_SERVER_AUTH_H
#define MINUTEMAIL_SMTPD_SERVER_AUTH_H

#include "common/base.h"

struct dns;
struct dnsbl;
struct mail_auth;
struct pg;
struct server;
struct work;

struct server_auth {
	struct dns *dns;
	struct work *work;
	struct pg *pg;
	struct mail_auth *checks;     /* NULL: mail is not authenticated */
	struct dnsbl *dnsbl;          /* NULL: no zones */
	bool before_commit;           /* a policy can refuse */
	bool dnsbl_rejects;
};

/* After the parser's zygote was forked, before the sandbox: reads resolv.conf or the zone file. -errno, logged. */
int server_auth_start(struct server *);
/* After the connections are gone. */
void server_auth_stop(struct server *);

#endif
