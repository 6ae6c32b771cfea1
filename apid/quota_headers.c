/* What an answer says of its account's limits. The X- headers are of the day; the pair of the IETF's draft
 * (draft-ietf-httpapi-ratelimit-headers) names both limits. */
#include "apid/quota.h"

#include <inttypes.h>
#include <stdio.h>

static size_t put_policy(const struct quota_state *s, char *p, size_t size) {
	int n = snprintf(p, size, "RateLimit-Policy: ");
	if (s->day_limit >= 0)
		n += snprintf(p + n, size - (size_t)n, "\"day\";q=%" PRId64 ";w=86400", s->day_limit);
	if (s->minute_limit >= 0)
		n += snprintf(p + n, size - (size_t)n, "%s\"minute\";q=%" PRId64 ";w=60", s->day_limit >= 0 ? ", " : "",
		              s->minute_limit);
	n += snprintf(p + n, size - (size_t)n, "\r\nRateLimit: ");
	if (s->day_limit >= 0)
		n += snprintf(p + n, size - (size_t)n, "\"day\";r=%" PRId64 ";t=%d", s->day_left, s->day_seconds);
	if (s->minute_limit >= 0)
		n += snprintf(p + n, size - (size_t)n, "%s\"minute\";r=%" PRId64 ";t=%d", s->day_limit >= 0 ? ", " : "",
		              s->minute_left, s->minute_seconds);
	return (size_t)(n + snprintf(p + n, size - (size_t)n, "\r\n"));
}

size_t quota_headers(const struct quota_state *s, char ret[QUOTA_HEADERS_SIZE]) {
	int n = 0;
	if (s->day_limit < 0 && s->minute_limit < 0)
		return 0;
	if (s->day_limit >= 0)
		n = snprintf(ret, QUOTA_HEADERS_SIZE,
		             "X-RateLimit-Limit: %" PRId64 "\r\nX-RateLimit-Remaining: %" PRId64
		             "\r\nX-RateLimit-Reset: %" PRId64 "\r\n",
		             s->day_limit, s->day_left, s->day_ends);
	return (size_t)n + put_policy(s, ret + n, QUOTA_HEADERS_SIZE - (size_t)n);
}
