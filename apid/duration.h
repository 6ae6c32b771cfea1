/* How long a mailbox lives, as clients write it (expiresIn). Pure. */
#ifndef MINUTEMAIL_DURATION_H
#define MINUTEMAIL_DURATION_H

#include "common/base.h"

/* 1-60: minutes. 61-3600: seconds. Else -ERANGE. */
int duration_from_int(int64_t n, int64_t *ret_us);
/* "900s", "20m", "1h", "1d": digits and one unit, nothing else. -EINVAL: not that; -ERANGE: zero or over ten years. */
int duration_from_text(struct slice, int64_t *ret_us);

#endif
