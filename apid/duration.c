/* How long a mailbox lives, as clients write it. Knows no operator's maximum: that is the caller's. */
#include "apid/duration.h"
#include "common/clock.h"

#define LONGEST_S (INT64_C(10) * 366 * 24 * 3600)

int duration_from_int(int64_t n, int64_t *ret_us) {
	if (n < 1 || n > 3600)
		return -ERANGE;
	*ret_us = (n <= 60 ? n * 60 : n) * SECOND_US;
	return 0;
}

static int64_t unit_seconds(char unit) {
	switch (unit) {
	case 's':
		return 1;
	case 'm':
		return 60;
	case 'h':
		return 3600;
	case 'd':
		return 24 * 3600;
	default:
		return 0;
	}
}

int duration_from_text(struct slice text, int64_t *ret_us) {
	if (text.n < 2)
		return -EINVAL;
	int64_t unit = unit_seconds(text.p[text.n - 1]);
	if (unit == 0)
		return -EINVAL;
	int64_t n = 0;
	for (size_t i = 0; i < text.n - 1; i++) {
		if (text.p[i] < '0' || text.p[i] > '9')
			return -EINVAL;
		if (n <= LONGEST_S) /* saturates just above the bound; the digits are still all looked at */
			n = n * 10 + (text.p[i] - '0');
	}
	if (n == 0 || n > LONGEST_S / unit)
		return -ERANGE;
	*ret_us = n * unit * SECOND_US;
	return 0;
}
