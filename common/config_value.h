/* One configuration value between text and its member in the daemon's struct. For config.c, and for options inside a value that are
 * written the same way. Pure. */
#ifndef MINUTEMAIL_CONFIG_VALUE_H
#define MINUTEMAIL_CONFIG_VALUE_H

#include "common/buf.h"
#include "common/config.h"

#define CONFIG_FAULT_SIZE 160

/* Replaces *member. -EINVAL: it is as it was, and ret_fault says what was wanted, without the value. */
int config_value_parse(const struct config_key *, const char *text, void *member, char ret_fault[CONFIG_FAULT_SIZE]);
/* As the file has it. Secrets: "(set)" or "(not set)". */
void config_value_format(const struct config_key *, const void *member, struct buf *out);
bool config_value_equal(const struct config_key *, const void *a, const void *b);
void config_value_swap(const struct config_key *, void *a, void *b);
void config_value_free(const struct config_key *, void *member);   /* wipes secrets; leaves the member zeroed */

#endif
