/* One entry of apid_listen: ADDRESS[;option[=value]…], as in "*:443;tls" or "127.0.0.1:8025;forwarded=127.0.0.0/8". Pure. */
#ifndef MINUTEMAIL_HTTP_LISTEN_H
#define MINUTEMAIL_HTTP_LISTEN_H

#include "common/listen_entry.h"
#include "common/netaddr.h"

struct http_listen {
	char *address;                 /* as listener_open() takes it */
	bool tls;                      /* from the first octet */
	bool limits;                   /* by client address; default yes */
	struct netaddr_nets proxy;     /* who must send a PROXY header; any: nobody else is served */
	struct netaddr_nets forwarded; /* whose X-Forwarded-For and X-Forwarded-Proto are believed; a Unix socket's
	                                  peers are, if there is any */
};

/* -EINVAL: ret_fault says what is wrong with which option; *ret is zeroed. */
int http_listen_parse(const char *text, struct http_listen *ret, char ret_fault[LISTEN_FAULT_SIZE]);
void http_listen_fini(struct http_listen *);

#endif
