/* Do the children still turn their loops? Each counts on a page that all share; the master looks whether the counts move. What it
 * measures in are its own looks, so that a machine that stood still as a whole condemns nobody. Private to process.c. */
#ifndef MINUTEMAIL_PROCESS_HEALTH_H
#define MINUTEMAIL_PROCESS_HEALTH_H

#include "common/base.h"

struct health;

/* In the master, before it forks. limit_us: how long a loop may stand still; 0: for ever. */
struct health *health_new(unsigned slots, int64_t limit_us);
struct health *health_free(struct health *); /* also in a child; NULL is fine; returns NULL */

/* How often to beat and to look, in microseconds; 0: not at all. Half of what the service manager's watchdog wants at the most. */
int64_t health_period_us(const struct health *);

void health_beat(struct health *, unsigned slot);
/* The master's look at a child that is alive: true once it has been silent for too long. */
bool health_look(struct health *, unsigned slot);
/* A new child starts in this slot. */
void health_reset(struct health *, unsigned slot);

/* What systemd wants to hear from us ($WATCHDOG_USEC, if it is meant for this process); 0: nothing. */
int64_t health_watchdog_us(void);

#endif
