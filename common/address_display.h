/* Domains as people shall see them (RFC 5890 2.3.2.1). Keys, comparisons and the wire have A-labels; pure. */
#ifndef MINUTEMAIL_ADDRESS_DISPLAY_H
#define MINUTEMAIL_ADDRESS_DISPLAY_H

#include "common/buf.h"

/* Appends a domain name, or an address, whose local part stays as it is, with each label of the domain as its U-label, provided that
 * the U-label's A-label is that one again and that it is written in one script (UTS #39 5.1: Han goes with kana, with Bopomofo or
 * with Hangul): else the A-label, so that "раypal" with two Cyrillic letters does not look like what it is not. The text may have
 * U-labels already; what is no name of IDNA2008 stays as it stands. */
void address_append_display(struct buf *out, const char *p, size_t n);
/* Whether that could be anything but the text itself; cheap. */
bool address_display_differs(const char *p, size_t n);

#endif
