/* The archived-mailboxes routes: mailboxes whose time has passed and that were recoverable. An
 * archived mailbox reserves its address; its mails are gone. Not the archiving: that is a condition on the row
 * (sql/migrations/0001_mail.sql). */
#include "apid/api_common.h"
#include "apid/handlers.h"

#include "apid/principal.h"
#include "apid_stmts.h"
#include "common/address.h"
#include "common/clock.h"

static void write_row(struct json_out *j, const struct pg_rows *rows, const char *owner) {
	struct id id = pg_uuid(rows, 0, 0);
	struct slice tag = pg_text(rows, 0, 2);
	json_out_object(j);
	json_out_member_id(j, "id", &id);
	api_address_write(j, pg_text(rows, 0, 1));
	json_out_member_string(j, "tag", tag.p, tag.n);
	json_out_member_cstring(j, "owner", owner);
	json_out_member_time(j, "createdAt", pg_time(rows, 0, 3));
	json_out_member_time(j, "archivedAt", pg_time(rows, 0, 4));
	json_out_object_end(j);
}

static const struct api_listing LISTING = {API_LIST_ARCHIVED, &STMT_ARCHIVED_IDS, &STMT_ARCHIVED_GET, write_row};

void api_archived_list(struct request *r) {
	api_listing_start(r, &LISTING);
}

static void get_row(struct request *r, void *arg, const struct pg_result *result) {
	const struct id *id = arg;
	if (pg_rows_count(result->rows) == 0) {
		api_refuse(r, true, id, NULL);
		return;
	}
	struct buf body;
	struct json_out j;
	buf_init(&body, 16384);
	json_out_init(&j, &body);
	write_row(&j, result->rows, request_principal(r)->owner);
	api_answer_json(r, 200, &body);
}

void api_archived_get(struct request *r) {
	struct id *id = request_alloc(r, sizeof *id);
	if (!request_param_id(r, 0, id))
		return;
	struct pg_params p;
	pg_params_init(&p);
	api_param_object(&p, r, id);
	api_query(r, &STMT_ARCHIVED_GET, &p, get_row, id);
	pg_params_fini(&p);
}

/* ---- Taking one out of the archive: to delete it, or to make it live again ---- */

static void take_steps(struct api_tx *tx, struct request *r, const struct id *id, api_rows *taken, void *arg) {
	struct pg_params p;
	pg_params_init(&p);
	api_param_object(&p, r, id);
	api_tx_step(tx, &STMT_ARCHIVED_TAKE, &p, taken, arg);
	pg_params_fini(&p);
}

static void forget_step(struct api_tx *tx, struct request *r, const struct id *id) {
	struct pg_params p;
	pg_params_init(&p);
	pg_param_uuid(&p, &request_principal(r)->account_id);
	pg_param_uuid(&p, id);
	api_tx_step(tx, &STMT_ACCOUNT_MAILBOX_FORGET, &p, NULL, NULL);
	pg_params_fini(&p);
}

struct taking {
	struct api_tx *tx;
	struct id id;
	int64_t expires_at;
	struct api_mailbox box; /* the new one */
};

static void delete_done(struct request *r, void *arg, const struct pg_result *result) {
	if (result->status == PG_OK)
		respond_empty(r, 204);
	else
		api_answer_failure(r, result);
}

static void delete_taken(struct request *r, void *arg, const struct pg_result *result) {
	struct taking *t = arg;
	if (pg_rows_count(result->rows) == 0) {
		api_tx_rollback(t->tx);
		api_refuse(r, true, &t->id, NULL);
		return;
	}
	forget_step(t->tx, r, &t->id);
	api_tx_commit(t->tx, delete_done, NULL);
}

static void take_start(struct request *r, struct taking *t, api_rows *taken) {
	t->tx = api_tx_begin(r);
	take_steps(t->tx, r, &t->id, taken, t);
	api_tx_flush(t->tx);
}

void api_archived_delete(struct request *r) {
	struct taking *t = request_alloc(r, sizeof *t);
	if (request_param_id(r, 0, &t->id))
		take_start(r, t, delete_taken);
}

static void delete_one_of_many(struct request *r, struct api_tx *tx, const struct id *id) {
	take_steps(tx, r, id, NULL, NULL);
	forget_step(tx, r, id);
}

void api_archived_delete_many(struct request *r) {
	static const struct api_deletion deletion = {true, &STMT_ARCHIVED_LOCK, NULL, delete_one_of_many};
	api_delete_many(r, &deletion);
}

static void reactivate_done(struct request *r, void *arg, const struct pg_result *result) {
	struct taking *t = arg;
	if (result->status == PG_OK)
		api_mailbox_answer(r, 201, &t->box);
	else
		api_answer_failure(r, result);
}

static void reactivate_taken(struct request *r, void *arg, const struct pg_result *result) {
	struct taking *t = arg;
	if (pg_rows_count(result->rows) == 0) {
		api_tx_rollback(t->tx);
		api_refuse(r, true, &t->id, NULL);
		return;
	}
	struct slice address = pg_text(result->rows, 0, 0), tag = pg_text(result->rows, 0, 1);
	struct id domain = pg_uuid(result->rows, 0, 2);
	t->box = (struct api_mailbox){
	    .address = slice_of(request_strndup(r, address.p, address.n), address.n),
	    .tag = tag.p ? slice_of(request_strndup(r, tag.p, tag.n), tag.n) : (struct slice){0},
	    .recoverable = true,
	    .created_at = clock_wall_us(),
	    .expires_at = t->expires_at,
	};
	/* A new id: whoever still holds the old one finds nothing, and the new mailbox is empty. */
	id_make_in_bucket(&t->box.id, t->box.created_at, id_bucket(&t->id));
	api_mailbox_insert_steps(t->tx, r, &t->box, &domain);
	forget_step(t->tx, r, &t->id);
	api_tx_commit(t->tx, reactivate_done, t);
}

void api_archived_reactivate(struct request *r) {
	struct taking *t = request_alloc(r, sizeof *t);
	if (!request_param_id(r, 0, &t->id))
		return;
	json_t *body = request_json(r, true);
	if (body && api_expiry(r, body, &t->expires_at) >= 0)
		take_start(r, t, reactivate_taken);
}
