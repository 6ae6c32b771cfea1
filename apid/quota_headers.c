/* What an answer says of its account's limits. The X- headers are of the day; the pair of the IETF's draft
 * (draft-ietf-httpapi-ratelimit-headers) names both limits. */
#include "apid/quota.h"

#include "common/buf.h"

static void put(struct buf *head, const char *name, int64_t value) {
	buf_append_str(head, name);
	buf_append_decimal(head, value);
}

/* One limit as "name";q=100;w=60 or "name";r=99;t=12. */
static void put_limit(struct buf *head, const char *name, int64_t calls, const char *seconds_name, int64_t seconds) {
	put(head, name, calls);
	put(head, seconds_name, seconds);
}

void quota_headers(const struct quota_state *s, struct buf *head) {
	if (s->day_limit < 0 && s->minute_limit < 0)
		return;
	if (s->day_limit >= 0) {
		put(head, "X-RateLimit-Limit: ", s->day_limit);
		put(head, "\r\nX-RateLimit-Remaining: ", s->day_left);
		put(head, "\r\nX-RateLimit-Reset: ", s->day_ends);
		buf_append_str(head, "\r\n");
	}
	const char *between = s->day_limit >= 0 && s->minute_limit >= 0 ? ", " : "";
	buf_append_str(head, "RateLimit-Policy: ");
	if (s->day_limit >= 0)
		put_limit(head, "\"day\";q=", s->day_limit, ";w=", 86400);
	buf_append_str(head, between);
	if (s->minute_limit >= 0)
		put_limit(head, "\"minute\";q=", s->minute_limit, ";w=", 60);
	buf_append_str(head, "\r\nRateLimit: ");
	if (s->day_limit >= 0)
		put_limit(head, "\"day\";r=", s->day_left, ";t=", s->day_seconds);
	buf_append_str(head, between);
	if (s->minute_limit >= 0)
		put_limit(head, "\"minute\";r=", s->minute_left, ";t=", s->minute_seconds);
	buf_append_str(head, "\r\n");
}
