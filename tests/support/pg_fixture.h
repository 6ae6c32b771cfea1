/* A private PostgreSQL for one test binary: a cluster in a temporary directory, on a Unix socket only, with sql/migrations
 * applied to the database "minutemail". Whatever goes wrong here ends the test with a message on standard error.
 *
 * As root the server runs as the user postgres, else as the caller. It ends with the test, even when that is killed. */
#ifndef MINUTEMAIL_PG_FIXTURE_H
#define MINUTEMAIL_PG_FIXTURE_H

#include "common/base.h"

#include <libpq-fe.h>

struct pg_fixture;

/* `conf`: lines for postgresql.conf; NULL: none. Takes about a second. */
struct pg_fixture *pg_fixture_new(const char *conf);
struct pg_fixture *pg_fixture_free(struct pg_fixture *);     /* stops the server, removes the directory */
/* As the superuser; `role` NULL, or a role of the migrations ("minutemail_smtpd"). Borrowed until the next call. */
const char *pg_fixture_conninfo(struct pg_fixture *, const char *role);
const char *pg_fixture_dir(const struct pg_fixture *);
int pg_fixture_version(const struct pg_fixture *);           /* the number of the last migration */

/* Runs statements as the superuser on a connection of the fixture's own. */
void pg_fixture_exec(struct pg_fixture *, const char *fmt, ...) printf_like(2, 3);
/* The first column of the first row, "" for NULL or no row; borrowed until the next call. */
const char *pg_fixture_value(struct pg_fixture *, const char *fmt, ...) printf_like(2, 3);
int64_t pg_fixture_int(struct pg_fixture *, const char *fmt, ...) printf_like(2, 3);
PGresult *pg_fixture_query(struct pg_fixture *, const char *sql); /* text format; PQclear() it */

void pg_fixture_stop(struct pg_fixture *, bool immediately); /* immediately: as after a crash */
void pg_fixture_start(struct pg_fixture *);

#endif
