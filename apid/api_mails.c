/* The mails routes: list, one, delete. raw and headers are in api_source.c, injecting in api_inject.c. */
#include "apid/api_common.h"
#include "apid/handlers.h"
#include "apid/mail_json.h"

#include "apid_stmts.h"
#include "common/log.h"

#define LIST_DEFAULT 100
/* What one page may weigh: PostgreSQL stops a page at so many octets of stored columns, and we stop it when so
 * much has been written. A page that ends early has a nextCursor; it always has one mail at least. */
#define PAGE_OCTETS (16 << 20)
#define PAGE_WRITTEN (32 << 20)
#define ANSWER_MAX (64 << 20) /* a page and one mail more at its largest: 2 MB of bodies, 300 KB of parts, escaped */
#define COLUMN_MORE 20

struct asking {
	struct id mailbox, mail;
	unsigned fields, limit;
};

static bool read_fields(struct request *r, unsigned *ret) {
	struct slice unknown = {0};
	if (mail_fields_parse(request_query(r, "fields"), ret, &unknown))
		return true;
	respond_problem(r, PROBLEM_BAD_REQUEST, "fields: a mail has no member \"%.*s\"", (int)min_of(unknown.n, (size_t)64),
	                unknown.p);
	return false;
}

/* Writes the row's mail. A part table that does not decode shows as no attachments; the row is ours, so that is a
 * fault to log. */
static void write_row(struct request *r, struct json_out *j, const struct pg_rows *rows, unsigned row,
                      const struct asking *a) {
	struct part_table parts = {0};
	struct mail_view view;
	struct slice stored = pg_text(rows, row, MAIL_COLUMN_PARTS);
	if (part_table_decode(stored.p, stored.n, &parts) < 0)
		log_msg(LOG_LEVEL_ERROR, "part table damaged", "request %s", request_id_text(r));
	mail_view_read(rows, row, &a->mailbox, &parts, &view);
	mail_write(j, &view, a->fields);
	part_table_fini(&parts);
}

/* ---- One ---- */

static void get_row(struct request *r, void *arg, const struct pg_result *result) {
	const struct asking *a = arg;
	if (pg_rows_count(result->rows) == 0) {
		api_refuse_mail(r, &a->mailbox, &a->mail);
		return;
	}
	struct buf body;
	struct json_out j;
	buf_init(&body, ANSWER_MAX);
	json_out_init(&j, &body);
	write_row(r, &j, result->rows, 0, a);
	api_answer_json(r, 200, &body);
}

void api_mail_get(struct request *r) {
	struct asking *a = request_alloc(r, sizeof *a);
	if (!request_param_id(r, 0, &a->mailbox) || !request_param_id(r, 1, &a->mail) || !read_fields(r, &a->fields))
		return;
	struct pg_params p;
	pg_params_init(&p);
	api_param_object(&p, r, &a->mailbox);
	pg_param_uuid(&p, &a->mail);
	pg_param_bool(&p, a->fields & MAIL_BODIES);
	api_query(r, &STMT_MAIL_GET, &p, get_row, a);
	pg_params_fini(&p);
}

/* ---- List ---- */

static void list_rows(struct request *r, void *arg, const struct pg_result *result) {
	const struct asking *a = arg;
	const struct pg_rows *rows = result->rows;
	if (pg_rows_count(rows) == 0) {
		api_refuse(r, false, &a->mailbox, NULL);
		return;
	}
	unsigned n = pg_null(rows, 0, MAIL_COLUMN_ID) ? 0 : pg_rows_count(rows), written = 0;
	struct buf body;
	struct json_out j;
	struct id last = {0};
	api_items_begin(&j, &body, ANSWER_MAX);
	while (written < n && written < a->limit && (written == 0 || body.len < PAGE_WRITTEN))
		write_row(r, &j, rows, written++, a);
	bool more = written > 0 && pg_bool(rows, written - 1, COLUMN_MORE);
	if (more)
		last = pg_uuid(rows, written - 1, MAIL_COLUMN_ID);
	api_items_answer(r, &j, &body, API_LIST_MAILS, more ? &last : NULL);
}

void api_mail_list(struct request *r) {
	static const struct id above_all = {
	    {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
	struct asking *a = request_alloc(r, sizeof *a);
	struct api_page page;
	if (!request_param_id(r, 0, &a->mailbox) || !read_fields(r, &a->fields) ||
	    !api_page(r, API_LIST_MAILS, LIST_DEFAULT, &page))
		return;
	a->limit = page.limit;
	struct pg_params p;
	pg_params_init(&p);
	api_param_object(&p, r, &a->mailbox);
	pg_param_uuid(&p, page.has_cursor ? &page.cursor : &above_all);
	pg_param_bool(&p, a->fields & MAIL_BODIES);
	pg_param_int8(&p, (int64_t)page.limit + 1);
	pg_param_int8(&p, PAGE_OCTETS);
	api_query(r, &STMT_MAIL_LIST, &p, list_rows, a);
	pg_params_fini(&p);
}

/* ---- Delete ---- */

struct deletion {
	struct id mailbox;
	struct api_ids ids;
};

static bool among(const struct pg_rows *rows, const struct id *id) {
	for (unsigned i = 0; i < pg_rows_count(rows); i++) {
		struct id found = pg_uuid(rows, i, 0);
		if (id_equal(&found, id))
			return true;
	}
	return false;
}

static void delete_rows(struct request *r, void *arg, const struct pg_result *result) {
	const struct deletion *d = arg;
	if (pg_rows_count(result->rows) == d->ids.n) {
		respond_empty(r, 204);
		return;
	}
	for (unsigned i = 0; i < d->ids.n; i++) {
		if (!among(result->rows, &d->ids.v[i])) {
			api_refuse_mail(r, &d->mailbox, &d->ids.v[i]);
			return;
		}
	}
	respond_problem(r, PROBLEM_INTERNAL, "a mail was found twice");
}

static void delete_start(struct request *r, struct deletion *d) {
	struct pg_params p;
	pg_params_init(&p);
	api_param_object(&p, r, &d->mailbox);
	pg_param_array(&p, PG_UUID, d->ids.n);
	for (unsigned i = 0; i < d->ids.n; i++)
		pg_elem_uuid(&p, &d->ids.v[i]);
	pg_param_int8(&p, d->ids.n);
	api_query(r, &STMT_MAIL_DELETE, &p, delete_rows, d);
	pg_params_fini(&p);
}

void api_mail_delete(struct request *r) {
	struct deletion *d = request_alloc(r, sizeof *d);
	d->ids = (struct api_ids){.v = request_alloc(r, sizeof *d->ids.v), .n = 1};
	if (request_param_id(r, 0, &d->mailbox) && request_param_id(r, 1, d->ids.v))
		delete_start(r, d);
}

void api_mail_delete_many(struct request *r) {
	struct deletion *d = request_alloc(r, sizeof *d);
	if (request_param_id(r, 0, &d->mailbox) && api_body_ids(r, &d->ids))
		delete_start(r, d);
}
