/* Tag lists, "v=1; a=b; …", as DKIM signatures, DKIM keys and DMARC records have them (RFC 6376 3.2). Pure; borrows the text. */
#ifndef MINUTEMAIL_TAG_LIST_H
#define MINUTEMAIL_TAG_LIST_H

#include "common/base.h"

#define TAG_LIST_MAX 64            /* tags; more are an error, or left out when tolerant */

struct tag {
	struct slice name;             /* as written */
	struct slice value;            /* without blanks around it */
	struct slice room;             /* between '=' and ';' or the end, blanks included */
};

struct tag_list {
	struct tag v[TAG_LIST_MAX];
	unsigned count;
};

/* Strict: RFC 6376's grammar, no tag twice; false: it is not met. Tolerant, for DMARC (RFC 9989 4.7): what is no tag is skipped, of equal
 * names the first counts; always true. */
bool tag_list_parse(struct slice text, bool tolerant, struct tag_list *ret);
/* Names are case-sensitive when strict; here they are compared exactly. NULL: not there. */
const struct tag *tag_list_find(const struct tag_list *, const char *name);
/* The same, its value; {NULL,0}: not there. */
struct slice tag_list_value(const struct tag_list *, const char *name);
/* Whether `word` is one of the colon-separated words of the value (blanks around them do not count; case-blind). */
bool tag_value_has(struct slice value, const char *word);
/* Takes the next word off a colon-separated value. False: no more. */
bool tag_value_next(struct slice *rest, struct slice *ret);
/* base64 with blanks anywhere, into ret (room octets). -EINVAL. */
int tag_value_base64(struct slice value, uint8_t *ret, size_t room, size_t *ret_n);
/* Digits only; beyond UINT64_MAX that. False: not a number. */
bool tag_value_number(struct slice value, uint64_t *ret);

#endif
