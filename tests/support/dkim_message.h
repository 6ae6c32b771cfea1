/* A whole message through the steps of dkim.h, with keys from a zone. */
#ifndef MINUTEMAIL_TESTS_DKIM_MESSAGE_H
#define MINUTEMAIL_TESTS_DKIM_MESSAGE_H

#include "smtpd/dkim.h"
#include "tests/support/zone_facts.h"

/* `step`: octets of the body a call. */
static inline void dkim_message(struct slice text, const struct dns_zone *zone, int64_t now, size_t step, struct dkim_set *ret) {
	struct header_block block;
	struct dns_facts facts = {0};
	header_block_parse(text, &block);
	dkim_scan(&block, ret);
	for (size_t at = block.body; at < text.n; at += step)
		dkim_feed(ret, text.p + at, min_of(step, text.n - at));
	dkim_feed_end(ret);
	while (dkim_verify(ret, &facts, now) == -EAGAIN)
		zone_tell(zone, &facts);
	dns_facts_fini(&facts);
	header_block_fini(&block);
}

#endif
