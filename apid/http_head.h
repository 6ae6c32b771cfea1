/* The judgement of a whole request head; http_parse's second half, used by nothing else. */
#ifndef MINUTEMAIL_HTTP_HEAD_H
#define MINUTEMAIL_HTTP_HEAD_H

#include "apid/http_parse.h"

#define HTTP_FOLDED "folded header lines are not allowed" /* RFC 9112 5.2 */

bool http_is_token_char(char c); /* RFC 9110 5.6.2 */
/* Cuts head.text into target and fields and checks them against each other and against what llhttp saw. False: the
 * error is set. */
bool http_head_judge(struct http_parse *);
/* Sets the error once; returns HTTP_PARSE_ERROR. */
enum http_parse_result http_parse_fail(struct http_parse *, unsigned status, const char *fmt, ...) printf_like(3, 4);

#endif
