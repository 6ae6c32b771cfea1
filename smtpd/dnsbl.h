/* DNS block lists (RFC 5782): is the client listed? Asked when it connects, beside the dialogue; nobody waits for it but a RCPT that a
 * listing would refuse, and a list that does not answer within three seconds lists nobody. */
#ifndef MINUTEMAIL_DNSBL_H
#define MINUTEMAIL_DNSBL_H

#include "common/netaddr.h"
#include "smtpd/mail_auth_result.h"

struct dns;
struct dnsbl;
struct dnsbl_op;
struct loop;

/* One zone as configured: "zen.example", which counts every answer in 127.0.0.0/8 but 127.0.0.1 and 127.255.255.0/24, or
 * "zen.example=127.0.0.2-127.0.0.11/127.0.0.20", which counts only those. -EINVAL: ret_fault says what is wrong. */
#define DNSBL_FAULT_SIZE 200
int dnsbl_new(struct loop *, struct dns *, char *const *zones, struct dnsbl **ret, char ret_fault[DNSBL_FAULT_SIZE]);
struct dnsbl *dnsbl_free(struct dnsbl *);
/* Asks each zone for 127.0.0.2, which must be listed, and 127.0.0.1, which must not (RFC 5782 5), and logs those that fail. */
void dnsbl_self_test(struct dnsbl *);

/* The results are borrowed from the operation and complete when `done` runs: once, on a later turn, not after the cancel. */
typedef void dnsbl_done(void *arg);
struct dnsbl_op *dnsbl_start(struct dnsbl *, const struct netaddr *client, dnsbl_done *, void *arg);
bool dnsbl_is_done(const struct dnsbl_op *);
const struct dnsbl_results *dnsbl_results(const struct dnsbl_op *);   /* so far: what is not known is an error */
bool dnsbl_listed(const struct dnsbl_op *);
/* Ends the operation, done or not. NULL is fine; returns NULL. */
struct dnsbl_op *dnsbl_cancel(struct dnsbl_op *);

#endif
