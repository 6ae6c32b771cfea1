/* POST …/attachments: adds a file to a mail that was injected. The mail's row is locked, its source
 * read, appended to and written again from the first chunk that changed, all in one transaction. */
#include "apid/api_common.h"
#include "apid/handlers.h"

#include "apid/api.h"
#include "apid/api_source.h"
#include "apid/compose.h"
#include "apid/mail_json.h"
#include "apid/principal.h"
#include "apid/source_write.h"
#include "apid_stmts.h"
#include "common/log.h"
#include "common/sha256.h"

struct addition {
	struct id mailbox;
	struct compose_file file;
	struct buf data;
	uint64_t size; /* of the source as stored */
	struct part_table parts;
	struct attachment_owner owner;
	struct source_writer writer;
};

static void addition_end(void *arg) {
	struct addition *a = arg;
	source_writer_fini(&a->writer);
	buf_fini(&a->data);
	part_table_fini(&a->parts);
}

/* filename, data, contentType, sizeBytes. */
static bool addition_read(struct request *r, struct addition *a) {
	struct json_in_error error;
	struct slice data = {0};
	int64_t size = 0, life;
	json_t *body = request_json(r, false);
	if (!body)
		return false;
	int sized = json_in_int(body, "sizeBytes", 0, INT64_MAX, &size, &error);
	if (sized < 0 || json_in_string(body, "filename", &a->file.name, &error) < 0 ||
	    json_in_string(body, "data", &data, &error) < 0 ||
	    json_in_string(body, "contentType", &a->file.type, &error) < 0 ||
	    json_in_duration(body, "expiresIn", &life, &error) < 0) {
		api_answer_bad_member(r, &error);
		return false;
	}
	const char *why = a->file.name.n == 0 ? "member \"filename\" is missing"
	                  : !data.p           ? "member \"data\" is missing"
	                                      : NULL;
	if (!why && transfer_base64_decode(&a->data, data.p, data.n) < 0)
		why = a->data.overflow ? NULL : "member \"data\" is not standard base64";
	if (!why && sized > 0 && !a->data.overflow && (uint64_t)size != a->data.len)
		why = "member \"sizeBytes\" is not the size of the data";
	if (why)
		respond_problem(r, PROBLEM_BAD_REQUEST, "%s", why);
	else if (a->data.overflow)
		source_answer_too_large(r);
	a->file.data = slice_of(a->data.len ? a->data.data : "", a->data.len);
	return !why && !a->data.overflow;
}

static void addition_committed(struct request *r, void *arg, const struct pg_result *result) {
	struct addition *a = arg;
	if (result->status != PG_OK) {
		api_answer_failure(r, result);
		return;
	}
	struct buf body;
	struct json_out j;
	buf_init(&body, 65536);
	json_out_init(&j, &body);
	attachment_write_open(&j, &a->writer.mail, &a->parts.parts[a->parts.count - 1], &a->owner);
	json_out_object_end(&j);
	api_answer_json(r, 201, &body);
}

static void addition_rows(struct addition *a, size_t changed) {
	struct buf table;
	uint8_t digest[SHA256_LEN];
	struct pg_params p;
	buf_init(&table, 4 << 20);
	part_table_encode(&a->parts, &table);
	assert(!table.overflow);
	sha256_of(a->writer.source.data, a->writer.source.len, digest);
	a->writer.chunk = changed / MAIL_CHUNK;
	pg_params_init(&p);
	pg_param_int2(&p, (int16_t)id_bucket(&a->writer.mail));
	pg_param_uuid(&p, &a->writer.mail);
	pg_param_bytea(&p, table.data, table.len);
	pg_param_int8(&p, (int64_t)a->writer.source.len);
	pg_param_bytea(&p, digest, sizeof digest);
	api_tx_step(a->writer.tx, &STMT_MAIL_UPDATE_SOURCE, &p, NULL, NULL);
	pg_params_reset(&p);
	pg_param_int2(&p, (int16_t)id_bucket(&a->writer.mail));
	pg_param_uuid(&p, &a->writer.mail);
	pg_param_int4(&p, a->writer.expiry_hour);
	pg_param_int4(&p, (int32_t)a->writer.chunk);
	api_tx_step(a->writer.tx, &STMT_SOURCE_CUT, &p, NULL, NULL);
	pg_params_fini(&p);
	buf_fini(&table);
}

static void addition_compose(struct request *r, struct addition *a) {
	size_t changed = 0;
	int e = compose_append(&a->writer.source, &a->parts, &a->file, &a->writer.mail, &changed);
	if (e == 0) {
		addition_rows(a, changed);
		source_writer_run(r, &a->writer);
		return;
	}
	api_tx_rollback(a->writer.tx);
	if (e == -ENOSPC)
		source_answer_too_large(r);
	else if (e == -E2BIG)
		respond_problem(r, PROBLEM_BAD_REQUEST, "the mail has had %d attachments, more it cannot have", PART_TABLE_MAX);
	else
		respond_problem(r, PROBLEM_INTERNAL, "the mail's source is damaged");
}

static void addition_chunk(struct request *r, void *arg, const struct pg_result *result);

static void addition_ask(struct addition *a) {
	struct pg_params p;
	pg_params_init(&p);
	source_chunk_params(&p, &a->writer.mail, a->writer.source.len / MAIL_CHUNK);
	api_tx_step(a->writer.tx, &STMT_SOURCE_CHUNK, &p, addition_chunk, a);
	pg_params_fini(&p);
	api_tx_flush(a->writer.tx);
}

static void addition_chunk(struct request *r, void *arg, const struct pg_result *result) {
	struct addition *a = arg;
	struct slice chunk;
	size_t left = (size_t)(a->size - a->writer.source.len);
	if (source_chunk_read(a->writer.zstd, result->rows, &chunk) < 0 || chunk.n != min_of(left, (size_t)MAIL_CHUNK) ||
	    buf_append(&a->writer.source, chunk.p, chunk.n) < 0) {
		log_msg(LOG_LEVEL_ERROR, "source damaged", "request %s", request_id_text(r));
		api_tx_rollback(a->writer.tx);
		respond_problem(r, PROBLEM_INTERNAL, "the mail's source is damaged");
		return;
	}
	if (a->writer.source.len < a->size)
		addition_ask(a);
	else
		addition_compose(r, a);
}

static void addition_locked(struct request *r, void *arg, const struct pg_result *result) {
	struct addition *a = arg;
	const struct pg_rows *rows = result->rows;
	if (pg_rows_count(rows) == 0) {
		api_tx_rollback(a->writer.tx);
		api_refuse_mail(r, &a->mailbox, &a->writer.mail);
		return;
	}
	if (!pg_bool(rows, 0, 4)) {
		api_tx_rollback(a->writer.tx);
		respond_problem(r, PROBLEM_BAD_REQUEST,
		                "this mail was received, not injected: its attachments cannot be added to");
		return;
	}
	a->owner = (struct attachment_owner){
	    .mailbox_id = a->mailbox,
	    .mail_id = a->writer.mail,
	    .expires_at = pg_time(rows, 0, 0),
	    .received_at = pg_time(rows, 0, 1),
	};
	a->size = (uint64_t)pg_int(rows, 0, 2);
	a->writer.expiry_hour = (int32_t)pg_int(rows, 0, 5);
	struct slice table = pg_text(rows, 0, 3);
	if (part_table_decode(table.p, table.n, &a->parts) < 0 || a->size > a->writer.source.ceiling) {
		api_tx_rollback(a->writer.tx);
		respond_problem(r, PROBLEM_INTERNAL, "the mail's row is damaged");
		return;
	}
	a->writer.zstd = mail_zstd_new();
	addition_ask(a);
}

void api_attachment_add(struct request *r) {
	struct addition *a = request_alloc(r, sizeof *a);
	size_t most = (size_t)request_api(r)->config->source_max;
	if (!request_param_id(r, 0, &a->mailbox) || !request_param_id(r, 1, &a->writer.mail))
		return;
	buf_init(&a->data, most);
	buf_init(&a->writer.source, most);
	request_at_end(r, addition_end, a);
	if (!addition_read(r, a))
		return;
	a->writer.user = request_principal(r)->user_id;
	a->writer.committed = addition_committed;
	a->writer.arg = a;
	a->writer.tx = api_tx_begin(r);
	struct pg_params p;
	pg_params_init(&p);
	api_param_object(&p, r, &a->mailbox);
	pg_param_uuid(&p, &a->writer.mail);
	api_tx_step(a->writer.tx, &STMT_MAIL_LOCK, &p, addition_locked, a);
	pg_params_fini(&p);
	api_tx_flush(a->writer.tx);
}
