/* The Authentication-Results field (RFC 8601) that the raw view shows above our trace, made from what smtpd stored. Pure. */
#ifndef MINUTEMAIL_AUTH_RESULTS_H
#define MINUTEMAIL_AUTH_RESULTS_H

#include "common/buf.h"

/* Appends the whole field, CRLF at the end. results: the API's `authentication` object. Every value is a token or a quoted string of
 * printable ASCII, whatever is stored, so none can end the field or begin another. Results that cannot be read give no field. */
void auth_results_append(struct buf *out, const char *authserv_id, struct slice results);

#endif
