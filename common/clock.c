/* One "now" per loop turn. clock_update() only marks what is stored as stale and the next read refreshes it: the loop marks
 * right before it polls, so the first reader after the poll gets a time taken after the poll returned, and a turn in which
 * nobody asks costs no system call.
 *
 * Invariant: the two clocks are always read together. A test that has set the time stops the system clocks from being read. */
#include "common/clock.h"

#include <time.h>

static int64_t now_mono, now_wall;
static bool stale = true;
static bool frozen;
static int64_t shift;

static int64_t read_clock(clockid_t id) {
	struct timespec ts;
	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static inline void refresh(void) {
	if (!stale)
		return;
	stale = false;
	now_mono = read_clock(CLOCK_MONOTONIC);
	now_wall = read_clock(CLOCK_REALTIME) + shift;
}

void clock_update(void) {
	stale = !frozen;
}

void clock_shift(int64_t wall_us) {
	shift = wall_us;
	clock_update();
}

int64_t clock_mono_us(void) {
	refresh();
	return now_mono;
}

int64_t clock_wall_us(void) {
	refresh();
	return now_wall;
}

int64_t clock_mono_us_now(void) {
	return frozen ? now_mono : read_clock(CLOCK_MONOTONIC);
}

/* The first set freezes the monotonic clock where it is: a jump of years is the test's choice of a date, not elapsed time. */
void clock_set(int64_t wall_us) {
	if (frozen) {
		now_mono += wall_us - now_wall;
	} else {
		clock_update();
		refresh();
		frozen = true;
	}
	now_wall = wall_us;
}

void clock_advance(int64_t us) {
	if (!frozen) {
		clock_update();
		refresh();
		frozen = true;
	}
	now_mono += us;
	now_wall += us;
}

struct civil {
	int year, month, day; /* month 1..12 */
	int weekday;          /* 0: Sunday */
	int hour, minute, second, micro;
};

/* Proleptic Gregorian date of a time, clamped to the years 1..9999. Ours because gmtime_r() takes the time zone's lock, and
 * every JSON time comes through here. Counted from 1 March of year 0, so the leap day is the last of its year and the month
 * lengths repeat every five months (153 days). */
static struct civil civil_of(int64_t wall_us) {
	static const int64_t least = -62135596800LL * 1000000, most = 253402300800LL * 1000000 - 1;
	wall_us = max_of(least, min_of(most, wall_us));
	int64_t second = wall_us / 1000000, micro = wall_us % 1000000;
	if (micro < 0) {
		micro += 1000000;
		second--;
	}
	int64_t day = second / 86400, in_day = second % 86400;
	if (in_day < 0) {
		in_day += 86400;
		day--;
	}
	int64_t since = day + 719468; /* days from 0000-03-01 to 1970-01-01 */
	int64_t era = since / 146097, in_era = since % 146097;
	int64_t year = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
	int64_t in_year = in_era - (365 * year + year / 4 - year / 100);
	int64_t shifted = (5 * in_year + 2) / 153; /* 0: March */
	struct civil c = {
	    .day = (int)(in_year - (153 * shifted + 2) / 5 + 1),
	    .month = (int)(shifted < 10 ? shifted + 3 : shifted - 9),
	    .weekday = (int)((since + 3) % 7), /* 0000-03-01 was a Wednesday */
	    .hour = (int)(in_day / 3600),
	    .minute = (int)(in_day / 60 % 60),
	    .second = (int)(in_day % 60),
	    .micro = (int)micro,
	};
	c.year = (int)(era * 400 + year + (c.month <= 2));
	return c;
}

static char *put_digits(char *p, int v, int width) {
	for (int i = width - 1; i >= 0; i--, v /= 10)
		p[i] = (char)('0' + v % 10);
	return p + width;
}

static char *put_time(char *p, const struct civil *c) {
	p = put_digits(p, c->hour, 2);
	*p++ = ':';
	p = put_digits(p, c->minute, 2);
	*p++ = ':';
	return put_digits(p, c->second, 2);
}

size_t clock_format_rfc3339(int64_t wall_us, char ret[CLOCK_RFC3339_SIZE]) {
	struct civil c = civil_of(wall_us);
	char *p = put_digits(ret, c.year, 4);
	*p++ = '-';
	p = put_digits(p, c.month, 2);
	*p++ = '-';
	p = put_digits(p, c.day, 2);
	*p++ = 'T';
	p = put_time(p, &c);
	*p++ = '.';
	p = put_digits(p, c.micro / 1000, 3);
	*p++ = 'Z';
	*p = '\0';
	return (size_t)(p - ret);
}

static int two_digits(const char *p) {
	return (p[0] - '0') * 10 + p[1] - '0';
}

bool clock_parse_rfc3339(const char *p, size_t n, int64_t *ret_wall_us) {
	static const char form[] = "0000-00-00T00:00:00"; /* 0: a digit */
	if (n <= sizeof(form) - 1 || p[n - 1] != 'Z')
		return false;
	for (size_t i = 0; i < sizeof(form) - 1; i++) {
		if (form[i] == '0' ? p[i] < '0' || p[i] > '9' : p[i] != form[i])
			return false;
	}
	int year = two_digits(p) * 100 + two_digits(p + 2), month = two_digits(p + 5), day = two_digits(p + 8);
	struct tm tm = {
	    .tm_year = year - 1900,
	    .tm_mon = month - 1,
	    .tm_mday = day,
	    .tm_hour = two_digits(p + 11),
	    .tm_min = two_digits(p + 14),
	    .tm_sec = two_digits(p + 17),
	};
	if (year == 0 || month < 1 || month > 12 || day < 1 || tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 59)
		return false;
	int64_t us = 0, unit = 100000;
	size_t i = sizeof(form) - 1;
	if (p[i] == '.') {
		for (i++; p[i] >= '0' && p[i] <= '9'; i++, unit /= 10)
			us += (p[i] - '0') * unit;
	}
	if (i != n - 1 || p[i - 1] == '.')
		return false;
	us += (int64_t)timegm(&tm) * 1000000; /* and makes 1 March of 30 February */
	*ret_wall_us = us;
	return tm.tm_mday == day;
}

/* RFC 5322 3.3: two digits of day, always UTC. */
size_t clock_format_rfc5322(int64_t wall_us, char ret[CLOCK_RFC5322_SIZE]) {
	static const char weekdays[] = "SunMonTueWedThuFriSat";
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	struct civil c = civil_of(wall_us);
	char *p = ret;
	memcpy(p, weekdays + 3 * c.weekday, 3);
	memcpy(p + 3, ", ", 2);
	p = put_digits(p + 5, c.day, 2);
	*p++ = ' ';
	memcpy(p, months + 3 * (c.month - 1), 3);
	p[3] = ' ';
	p = put_digits(p + 4, c.year, 4);
	*p++ = ' ';
	p = put_time(p, &c);
	memcpy(p, " +0000", 7);
	return (size_t)(p + 6 - ret);
}
