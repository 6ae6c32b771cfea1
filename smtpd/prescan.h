/* What is looked at before GMime looks: one pass each, no allocation per item. Decides which header values GMime may
 * have, and in which form (see mime.c). Pure. */
#ifndef MINUTEMAIL_PRESCAN_H
#define MINUTEMAIL_PRESCAN_H

#include "common/base.h"
#include "common/buf.h"

struct prescan_source {
	bool nul, bare_newline, bare_cr;
};
/* Octets that no message should have (RFC 5322 2.3). */
void prescan_source(const char *p, size_t n, struct prescan_source *ret);

/* The ':' of an address header that may open a group: those outside quoted strings, comments, <> and []. */
unsigned prescan_groups(const char *p, size_t n);

enum prescan_verdict {
	PRESCAN_OK,
	PRESCAN_BARE,            /* more parameters than `max`: only what stands before the first is left */
};

struct prescan_parameters {
	unsigned count;          /* that were written */
	bool unknown_charset;    /* an RFC 2231 value in a charset that is not ours */
	bool conflicting;        /* a section came twice */
};

/* Copies the parameters of a Content-Type or Content-Disposition value (one line of clean UTF-8,
 * text_append_unfolded(); from behind the first ';') to `out`, changed so that GMime gives back what the sender meant,
 * whatever its version: "=?" becomes PRESCAN_MASK, so that it decodes no RFC 2047 word itself; RFC 2231 sections come
 * in the order of their numbers, and the charset they name gets the name that iconv has; the '*' of a section that is
 * none becomes '_', so that it belongs to no parameter. `max`: at most PRESCAN_PARAMETERS_MAX counts. */
#define PRESCAN_PARAMETERS_MAX 64
#define PRESCAN_MASK "=\x01"
enum prescan_verdict prescan_parameters(const char *p, size_t n, unsigned max, struct buf *out,
                                         struct prescan_parameters *ret);
/* Undoes the mask, in place. */
void prescan_unmask(char *s);

#endif
