/* The audit log: every request that somebody known made, written in batches off the request's path. How often each key asked a day is
 * written with it, by the same statement (sql/queries/audit.sql).
 *
 * A crash of the worker loses what waited: AUDIT_GATHER_US of requests and those of the batch under way; the quota's ledger is another
 * matter and exact. How many those are stands in the worker's gauge APID_AUDIT_WAITING, from before an answer's first octet goes out
 * until the database has said that it is written, and the master tells it when the worker is gone. While the database is away requests
 * wait, AUDIT_MOST of them; what comes beyond that is dropped and counted (APID_AUDIT_DROPPED). At exit what waits is written first. */
#ifndef MINUTEMAIL_AUDIT_H
#define MINUTEMAIL_AUDIT_H

#include "common/base.h"

struct audit;
struct loop;
struct metrics;
struct pg;
struct principal;

#define AUDIT_GATHER_US 500000
#define AUDIT_MOST 20000
#define AUDIT_BATCH 500

struct audit *audit_new(struct loop *, struct pg *, struct metrics *);
struct audit *audit_free(struct audit *); /* in the turn that frees pg */
/* A request is about to be answered: audit_note() follows. */
void audit_promise(struct audit *);
/* Of a promised request. Takes a reference of the principal. `method` and `route` (NULL: none) are borrowed for ever; `request_id` is copied. */
void audit_note(struct audit *, struct principal *, const char *method, const char *route, unsigned status,
                const char *request_id);
/* Writes what waits; `done` runs once on a later turn. If the database is away it gives up. */
void audit_close(struct audit *, void (*done)(void *arg), void *arg);

#endif
