/* Asking PostgreSQL on behalf of a request, and answering when that fails; the parameters that carry owner and
 * domains into each statement. Not the statements: those are in sql/queries/apid.sql.
 *
 * "Answers" means: the request is finished, the caller returns and does not touch it again. */
#ifndef MINUTEMAIL_API_QUERY_H
#define MINUTEMAIL_API_QUERY_H

#include "apid/request.h"
#include "common/pg.h"

/* `done` runs with PG_OK only; any other outcome is answered here (api_answer_failure). Dropped if the client
 * goes away. */
typedef void api_rows(struct request *, void *arg, const struct pg_result *);
/* Each statement, and each transaction, is on behalf of the request's principal: row-level security shows it that one's rows. */
void api_query(struct request *, const struct pg_stmt *, const struct pg_params *, api_rows *done, void *arg);
/* Answers for a result that is not PG_OK: 503, 429 for a limit of the plan, or, logged, 500. */
void api_answer_failure(struct request *, const struct pg_result *);
/* Likewise, for statements whose outcome the caller takes, whatever it is; neither tracked nor dropped with the request. */
struct pg_op *api_ask(struct request *, const struct pg_stmt *, const struct pg_params *, pg_done *done, void *arg);

/* A transaction of a request: rolled back if the client goes away before api_tx_commit(); after that it ends by
 * itself and nobody is called. A step that fails before the commit rolls back and answers; its `done` (may be
 * NULL) sees PG_OK only. */
struct api_tx;
typedef void api_tx_done(struct request *, void *arg, const struct pg_result *);
struct api_tx *api_tx_begin(struct request *);
/* The steps from here on are on behalf of somebody else, who has proved to be there by a password or a link, or for whom an owner or
 * the server itself acts. */
void api_tx_as(struct api_tx *, const struct id *account, const struct id *user);
void api_tx_step(struct api_tx *, const struct pg_stmt *, const struct pg_params *, api_rows *done, void *arg);
void api_tx_flush(struct api_tx *);
/* `done` gets whatever came; the transaction is gone when it runs. */
void api_tx_commit(struct api_tx *, api_tx_done *done, void *arg);
void api_tx_rollback(struct api_tx *);

/* $1 bucket, $2 id, $3 now, $4 user, $5 domains: how statements on mail data begin. */
void api_param_object(struct pg_params *, struct request *, const struct id *mailbox);
void api_param_object_of(struct pg_params *, struct request *, const struct id *mailbox, const struct id *user);
void api_param_domains(struct pg_params *, struct request *);

#endif
