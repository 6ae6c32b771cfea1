/* HTML mail -> the text of it, for readers that want text: tags go, blocks become lines, entities characters, and a
 * link that says something else than where it leads is followed by its address. Not a sanitizer: the result is text
 * and is escaped by whoever shows it. Pure. */
#ifndef MINUTEMAIL_HTML_TEXT_H
#define MINUTEMAIL_HTML_TEXT_H

#include "common/base.h"
#include "common/buf.h"

/* `html` is clean UTF-8; so is what is appended. Over the ceiling of `out` the rest is left out: -ENOSPC. */
int html_text(struct buf *out, const char *html, size_t n);

#endif
