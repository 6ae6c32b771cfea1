/* One key record of DKIM (RFC 6376 3.6.1, RFC 8463) and what it says of a signature. Private to dkim.c and its fuzzer. */
#ifndef MINUTEMAIL_DKIM_KEY_H
#define MINUTEMAIL_DKIM_KEY_H

#include "smtpd/dkim.h"

/* Judges with the record's text: the body hash was right already. Sets verdict, reason, key_bits and testing. */
void dkim_key_verify(struct slice record, struct dkim_signature *);

#endif
