/* Time. One "now" per loop turn: loop_turn() calls clock_update(); everything else reads the stored value. Tests set it. */
#ifndef MINUTEMAIL_CLOCK_H
#define MINUTEMAIL_CLOCK_H

#include "common/base.h"

#define SECOND_US INT64_C(1000000)
#define MINUTE_US (60 * SECOND_US)
#define HOUR_US (60 * MINUTE_US)
#define DAY_US (24 * HOUR_US)

void clock_update(void);          /* re-reads the system clocks unless a test has set them */
int64_t clock_mono_us(void);      /* CLOCK_MONOTONIC, microseconds, as of the last update */
int64_t clock_wall_us(void);      /* microseconds since 1970-01-01 UTC, as of the last update */
int64_t clock_mono_us_now(void);  /* reads the clock; for measuring inside one turn */
void clock_shift(int64_t wall_us); /* system tests: the wall clock is ahead by so much */
void clock_set(int64_t wall_us);  /* tests: freezes both; monotonic follows the difference */
void clock_advance(int64_t us);   /* tests: moves both */

#define CLOCK_RFC3339_SIZE 28     /* "2026-11-24T15:15:14.123456Z" with its NUL */
/* Milliseconds are printed ("…14.123Z"). Returns the length. */
size_t clock_format_rfc3339(int64_t wall_us, char ret[CLOCK_RFC3339_SIZE]);
/* RFC 3339 5.6 in UTC, as above, to the second or finer, in capitals; a day that its month has not is none. False: not that. */
bool clock_parse_rfc3339(const char *p, size_t n, int64_t *ret_wall_us);
#define CLOCK_RFC5322_SIZE 40     /* "Tue, 24 Nov 2026 15:15:14 +0000" with its NUL */
size_t clock_format_rfc5322(int64_t wall_us, char ret[CLOCK_RFC5322_SIZE]);

#endif
