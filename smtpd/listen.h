/* One entry of smtpd_listen: ADDRESS[;option[=value]…], as in "*:25;proxy=10.0.0.0/8+192.168.0.0/16;message_size_max=50M".
 * No I/O: text in, settings or a fault out. */
#ifndef MINUTEMAIL_SMTPD_LISTEN_H
#define MINUTEMAIL_SMTPD_LISTEN_H

#include "common/listen_entry.h"
#include "common/netaddr.h"

struct listen_settings {
	char *address;             /* as listener_open() takes it */
	int64_t message_size_max;  /* octets; 0: the daemon's message_size_max */
	bool limits;               /* per client address; default yes */
	bool tls;                  /* from the first octet */
	bool starttls;             /* offered, if there is a certificate; default yes */
	bool require_tls;          /* no MAIL in clear */
	bool bare_newline_reject;  /* a message with line ends other than CRLF: refused, default stored */
	struct netaddr_nets proxy; /* who must send a PROXY header; any: nobody else is served */
};

/* -EINVAL: ret_fault says what is wrong with which option; *ret is zeroed. The address is judged by listener_open() later. */
int listen_parse(const char *text, struct listen_settings *ret, char ret_fault[LISTEN_FAULT_SIZE]);
void listen_fini(struct listen_settings *);

#endif
