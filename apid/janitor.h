/* Clean-up in the background: makes source partitions ahead, drops them behind, removes what is dead. No answer
 * depends on it: expiry is in every query. It has a connection of its own, so that no request waits behind a long
 * statement; the work is in the functions of sql/migrations (0003_janitor.sql and later), each of which does a bounded piece in
 * one transaction and, by an advisory lock, for one caller at a time. One worker of each apid starts one; any number
 * of instances may run. */
#ifndef MINUTEMAIL_JANITOR_H
#define MINUTEMAIL_JANITOR_H

#include "common/base.h"

struct janitor;
struct loop;

struct janitor_options {
	const char *conninfo;            /* the daemon's own role */
	int64_t mailbox_lifetime_max_us; /* how far ahead partitions are made */
	_Atomic uint32_t *timeline;      /* pg_options' */
};

/* The first run starts as soon as the database is there, the next ones 60 s after the end of the last; a run never
 * overlaps the one before. */
struct janitor *janitor_new(struct loop *, const struct janitor_options *);
struct janitor *janitor_free(struct janitor *);
uint64_t janitor_runs(const struct janitor *); /* ended, whether all went well or not */

#endif
