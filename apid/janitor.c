/* The timer and the order of the janitor's pieces; what they do is in sql/migrations (0003_janitor.sql and later).
 *
 * A run goes through PIECES in order, one statement at a time; a piece is asked again as long as it has done all it
 * may in one call, so a backlog is worked off in small transactions. "Busy" (another instance, or a lock that mail
 * needs more) ends the piece, not the run; the next run takes it up again. Buckets are swept by the clock, so that
 * instances and restarts share one round: all of them within 64 minutes.
 *
 * Invariant: at most one of `op` and the armed timer. */
#include "apid/janitor.h"

#include "common/clock.h"
#include "common/id.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/pg.h"
#include "common/schema.h"
#include "janitor_stmts.h"

#define AWAY_US (5 * 1000000LL) /* until the next try when the database was not there */
#define SWEPT_BUCKETS 16
/* Hours made beyond the longest lifetime, so that a janitor that was away for a while leaves nothing to the default
 * partition. */
#define SPARE_HOURS 4
/* Many partitions make every statement on them dearer; mail that lives longer than this goes to the default
 * partition. */
#define AHEAD_MOST 192

enum piece { PIECE_MAKE, PIECE_EXPIRE, PIECE_DROP, PIECE_DAYS, PIECE_MAILBOXES, PIECE_SWEEP, PIECE_END };

static const struct {
	const struct pg_stmt *stmt;
	const char *name;
	int32_t most; /* of one call; when it did as much it is called again */
} PIECES[PIECE_END] = {
    [PIECE_MAKE] = {&STMT_JANITOR_MAKE_PARTITIONS, "make partitions", 8},
    [PIECE_EXPIRE] = {&STMT_JANITOR_EXPIRE_MESSAGES, "expire messages", 2000},
    [PIECE_DROP] = {&STMT_JANITOR_DROP_SOURCES, "drop sources", 1000},
    [PIECE_DAYS] = {&STMT_JANITOR_DAYS, "days", 1},
    [PIECE_MAILBOXES] = {&STMT_JANITOR_DELETE_MAILBOXES, "delete mailboxes", 1000},
    [PIECE_SWEEP] = {&STMT_JANITOR_SWEEP_BUCKET, "sweep bucket", 1000},
};

struct janitor {
	struct pg *pg;
	struct pg_op *op;
	struct timer timer;
	int32_t ahead;
	enum piece piece;
	unsigned swept;  /* buckets of this run */
	int32_t hour, bucket; /* how far the expiry of messages has come */
	int64_t started; /* wall, of this run: the one "now" of all its statements */
	uint64_t runs;
};

static unsigned bucket_now(const struct janitor *j) {
	uint64_t minute = (uint64_t)(j->started / MINUTE_US);
	return (unsigned)((minute * SWEPT_BUCKETS + j->swept) % ID_BUCKETS);
}

static void on_done(void *arg, const struct pg_result *result);

static void call(struct janitor *j) {
	struct pg_params params;
	pg_params_init(&params);
	pg_param_time(&params, j->started);
	if (j->piece == PIECE_MAKE)
		pg_param_int4(&params, j->ahead);
	if (j->piece == PIECE_EXPIRE) {
		pg_param_int4(&params, j->hour);
		pg_param_int4(&params, j->bucket);
	}
	if (j->piece == PIECE_SWEEP)
		pg_param_int4(&params, (int32_t)bucket_now(j));
	pg_param_int4(&params, PIECES[j->piece].most);
	j->op = pg_query(j->pg, PIECES[j->piece].stmt, &params, on_done, j);
	pg_params_fini(&params);
}

static void end_run(struct janitor *j, int64_t pause_us) {
	j->runs++;
	timer_arm(&j->timer, pause_us);
}

static void on_timer(void *arg) {
	struct janitor *j = arg;
	j->piece = PIECE_MAKE;
	j->swept = 0;
	j->started = clock_wall_us();
	call(j);
}

static void log_failure(const struct janitor *j, const struct pg_result *result) {
	struct log_line line;
	log_begin(&line, result->status == PG_ERROR ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING, "janitor failed");
	log_str(&line, "doing", PIECES[j->piece].name);
	log_str(&line, "sqlstate", *result->sqlstate ? result->sqlstate : NULL);
	log_str(&line, "error", result->status == PG_ERROR ? result->message : "database away");
	log_end(&line);
}

static void log_work(const struct janitor *j, int64_t done) {
	struct log_line line;
	if (done <= 0)
		return;
	log_begin(&line, LOG_LEVEL_DEBUG, "janitor worked");
	log_str(&line, "doing", PIECES[j->piece].name);
	log_int(&line, "count", done);
	log_end(&line);
}

/* A drop does one partition a call, or rows of the default partition. */
static bool wants_more(const struct janitor *j, int64_t done) {
	return j->piece == PIECE_DROP ? done > 0 : done >= PIECES[j->piece].most;
}

/* The next bucket of a sweep, or the next piece. */
static void advance(struct janitor *j, bool failed) {
	if (j->piece == PIECE_SWEEP && !failed && ++j->swept < SWEPT_BUCKETS)
		return;
	j->piece++;
}

static void on_done(void *arg, const struct pg_result *result) {
	struct janitor *j = arg;
	int64_t done = 0;
	j->op = NULL;
	if (result->status == PG_OK) {
		done = pg_int(result->rows, 0, 0);
		if (j->piece == PIECE_EXPIRE) {
			j->hour = (int32_t)pg_int(result->rows, 0, 1);
			j->bucket = (int32_t)pg_int(result->rows, 0, 2);
		}
		log_work(j, done);
	} else {
		log_failure(j, result);
	}
	if (result->status != PG_OK && result->status != PG_ERROR) {
		end_run(j, AWAY_US);
		return;
	}
	if (!wants_more(j, done))
		advance(j, result->status == PG_ERROR);
	if (j->piece == PIECE_END)
		end_run(j, MINUTE_US);
	else
		call(j);
}

struct janitor *janitor_new(struct loop *loop, const struct janitor_options *options) {
	struct janitor *j = xcalloc(1, sizeof(*j));
	const struct pg_options pg_options = {
	    .conninfo = options->conninfo,
	    .application_name = "apid janitor",
	    .stmts = JANITOR_STMTS,
	    .connections = 1,
	    .query_deadline_us = 5 * MINUTE_US,
	    .connect_deadline_us = 5 * 1000000,
	    .timeline = options->timeline,
	    .schema_version = SCHEMA_VERSION,
	};
	int64_t ahead = options->mailbox_lifetime_max_us / HOUR_US + 1 + SPARE_HOURS;
	j->ahead = (int32_t)min_of(ahead, (int64_t)AHEAD_MOST);
	timer_init(&j->timer, loop, on_timer, j);
	j->pg = pg_new(loop, &pg_options);
	on_timer(j);
	return j;
}

struct janitor *janitor_free(struct janitor *j) {
	if (!j)
		return NULL;
	pg_op_cancel(j->op);
	timer_fini(&j->timer);
	pg_free(j->pg);
	free(j);
	return NULL;
}

uint64_t janitor_runs(const struct janitor *j) {
	return j->runs;
}
