/* A count of octets that the MIME parser has looked at, each as often as it was, so that tests can tell that work grows
 * with the size of the message and no faster, without a clock. Searches count what they pass over; reading the next
 * octet does not count. Nothing else depends on it. */
#ifndef MINUTEMAIL_STEPS_H
#define MINUTEMAIL_STEPS_H

#include <stddef.h>
#include <stdint.h>

extern uint64_t steps_taken;    /* of this process; whoever measures takes a difference */

static inline void steps_add(size_t octets) {
	steps_taken += octets;
}

#endif
