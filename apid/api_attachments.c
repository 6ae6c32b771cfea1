/* The attachments routes. An attachment is a part of its mail's source and a row of the part table:
 * reading one decodes its range of the source, deleting one marks the table. Adding one is in
 * api_attachment_add.c. */
#include "apid/api_common.h"
#include "apid/handlers.h"

#include "apid/api_source.h"
#include "apid/mail_json.h"
#include "apid_stmts.h"
#include "common/log.h"
#include "common/sha256.h"

#include <stdio.h>

struct asking {
	struct id attachment;
	struct attachment_owner owner; /* ids from the path; times from the row */
	struct part_table parts;
	uint64_t source_size;
	struct api_ids ids; /* to delete */
	unsigned tries;
	bool many; /* unknown ids are skipped */
};

static void asking_end(void *arg) {
	struct asking *a = arg;
	part_table_fini(&a->parts);
}

/* NULL: answered. */
static struct asking *asking_new(struct request *r) {
	struct asking *a = request_alloc(r, sizeof *a);
	if (!request_param_id(r, 0, &a->owner.mailbox_id) || !request_param_id(r, 1, &a->owner.mail_id))
		return NULL;
	request_at_end(r, asking_end, a);
	return a;
}

static void asking_start(struct request *r, struct asking *a, api_rows *done) {
	struct pg_params p;
	pg_params_init(&p);
	api_param_object(&p, r, &a->owner.mailbox_id);
	pg_param_uuid(&p, &a->owner.mail_id);
	api_query(r, &STMT_MAIL_SOURCE, &p, done, a);
	pg_params_fini(&p);
}

/* Takes the row in; false: answered. */
static bool asking_row(struct request *r, struct asking *a, const struct pg_rows *rows) {
	if (pg_rows_count(rows) == 0) {
		api_refuse_mail(r, &a->owner.mailbox_id, &a->owner.mail_id);
		return false;
	}
	a->owner.expires_at = pg_time(rows, 0, 0);
	a->owner.received_at = pg_time(rows, 0, 1);
	a->source_size = (uint64_t)pg_int(rows, 0, 3);
	struct slice table = pg_text(rows, 0, 4);
	part_table_fini(&a->parts);
	a->parts = (struct part_table){0};
	if (part_table_decode(table.p, table.n, &a->parts) == 0)
		return true;
	log_msg(LOG_LEVEL_ERROR, "part table damaged", "request %s", request_id_text(r));
	respond_problem(r, PROBLEM_INTERNAL, "the mail's part table is damaged");
	return false;
}

/* NULL: no such part, or deleted. */
static struct part *find_part(struct asking *a, const struct id *id) {
	unsigned number = part_number(&a->owner.mail_id, id);
	for (unsigned i = 0; number > 0 && i < a->parts.count; i++)
		if (a->parts.parts[i].number == number)
			return a->parts.parts[i].flags & PART_DELETED ? NULL : &a->parts.parts[i];
	return NULL;
}

static void answer_no_attachment(struct request *r, const struct id *id) {
	char text[ID_TEXT_SIZE];
	id_format(id, text);
	respond_problem(r, PROBLEM_NOT_FOUND, "no attachment %s in this mail", text);
}

/* ---- List ---- */

static void list_row(struct request *r, void *arg, const struct pg_result *result) {
	struct asking *a = arg;
	struct buf body;
	struct json_out j;
	if (!asking_row(r, a, result->rows))
		return;
	api_items_begin(&j, &body, 16 << 20);
	for (unsigned i = 0; i < a->parts.count; i++) {
		if (a->parts.parts[i].flags & PART_DELETED)
			continue;
		attachment_write_open(&j, &a->owner.mail_id, &a->parts.parts[i], &a->owner);
		json_out_object_end(&j);
	}
	api_items_answer(r, &j, &body, API_LIST_WHOLE, NULL);
}

void api_attachment_list(struct request *r) {
	struct asking *a = asking_new(r);
	if (a)
		asking_start(r, a, list_row);
}

/* ---- One: as JSON with its data, or as octets ---- */

static bool wants_octets(struct request *r) {
	struct slice accept = request_header(r, "accept"), download = request_query(r, "download");
	if (download.p)
		return !(download.n == 1 && download.p[0] == '0');
	return api_accepts_octets(accept);
}

static struct source_plan part_plan(const struct asking *a, const struct part *part) {
	return (struct source_plan){
	    .mail = a->owner.mail_id,
	    .offset = part->offset,
	    .length = part->length,
	    .encoding = part->encoding,
	    .skip = part->skip,
	    .take = part->size,
	};
}

/* If-Range with another validator: the whole (RFC 9110 13.1.5). */
static bool range_applies(struct request *r, const char *etag) {
	struct slice condition = request_header(r, "if-range");
	return !condition.p || slice_eq(condition, slice_str(etag));
}

static void answer_octets(struct request *r, const struct asking *a, const struct part *part) {
	char etag[API_ETAG_SIZE], content_range[80];
	struct buf disposition;
	uint64_t first = 0, n = part->size;
	api_etag(slice_of((const char *)part->sha256, sizeof part->sha256), NULL, etag);
	if (respond_not_modified(r, etag))
		return;
	int range = range_applies(r, etag) ? api_range_parse(request_header(r, "range"), part->size, &first, &n) : 0;
	if (range < 0) {
		respond_range_problem(r, part->size);
		return;
	}
	buf_init(&disposition, 4096);
	api_disposition(&disposition, part->name);
	snprintf(content_range, sizeof content_range, "bytes %llu-%llu/%llu", (unsigned long long)first,
	         (unsigned long long)(first + n - 1), (unsigned long long)part->size);
	const struct respond_header headers[] = {
	    {"Accept-Ranges", "bytes"},
	    {"ETag", etag},
	    {"Content-Disposition", disposition.overflow ? "attachment" : disposition.data},
	    {"X-Content-Type-Options", "nosniff"},
	    {"Content-Security-Policy", "sandbox; default-src 'none'"},
	    {range > 0 ? "Content-Range" : NULL, content_range},
	    {NULL, NULL},
	};
	struct source_plan plan = part_plan(a, part);
	plan.skip += first;
	plan.take = n;
	source_stream(r, range > 0 ? 206 : 200, api_safe_type(part->type), headers, &plan);
	buf_fini(&disposition);
}

/* The validator covers the members beside the data: an expiry may change, the octets cannot. */
static void json_etag(const struct part *part, const struct buf *before, char ret[API_ETAG_SIZE]) {
	uint8_t digest[SHA256_LEN];
	struct sha256 *sha = sha256_new();
	sha256_update(sha, part->sha256, sizeof part->sha256);
	sha256_update(sha, before->data, before->len);
	sha256_final(sha, digest);
	sha256_free(sha);
	api_etag(slice_of((const char *)digest, sizeof digest), "j", ret);
}

static void answer_data(struct request *r, const struct asking *a, const struct part *part) {
	char etag[API_ETAG_SIZE];
	struct buf before;
	struct json_out j;
	buf_init(&before, 65536);
	json_out_init(&j, &before);
	attachment_write_open(&j, &a->owner.mail_id, part, &a->owner);
	json_out_key(&j, "data");
	buf_append_char(&before, '"'); /* what follows is streamed; base64 needs no escape */
	if (before.overflow) {
		buf_fini(&before);
		respond_problem(r, PROBLEM_INTERNAL, "the answer is too large");
		return;
	}
	json_etag(part, &before, etag);
	if (!respond_not_modified(r, etag)) {
		const struct respond_header headers[] = {{"ETag", etag}, {NULL, NULL}};
		struct source_plan plan = part_plan(a, part);
		plan.base64 = true;
		plan.before = buf_slice(&before);
		plan.after = slice_str("\"}");
		source_stream(r, 200, "application/json", headers, &plan);
	}
	buf_fini(&before);
}

static void get_row(struct request *r, void *arg, const struct pg_result *result) {
	struct asking *a = arg;
	if (!asking_row(r, a, result->rows))
		return;
	const struct part *part = find_part(a, &a->attachment);
	if (!part) {
		answer_no_attachment(r, &a->attachment);
	} else if (part->length > a->source_size || part->offset > a->source_size - part->length) {
		log_msg(LOG_LEVEL_ERROR, "part table damaged", "request %s", request_id_text(r));
		respond_problem(r, PROBLEM_INTERNAL, "the mail's part table is damaged");
	} else if (wants_octets(r)) {
		answer_octets(r, a, part);
	} else {
		answer_data(r, a, part);
	}
}

void api_attachment_get(struct request *r) {
	struct asking *a = asking_new(r);
	if (a && request_param_id(r, 2, &a->attachment))
		asking_start(r, a, get_row);
}

/* ---- Delete: mark in the table, which must still be the one that was read ---- */

#define SWAP_TRIES 8

static void delete_row(struct request *r, void *arg, const struct pg_result *result);

static void delete_swapped(struct request *r, void *arg, const struct pg_result *result) {
	struct asking *a = arg;
	if (result->affected > 0)
		respond_empty(r, 204);
	else if (++a->tries < SWAP_TRIES)
		asking_start(r, a, delete_row);
	else
		respond_problem(r, PROBLEM_UNAVAILABLE, "the mail's attachments keep changing; try again");
}

static void delete_swap(struct request *r, struct asking *a, struct slice old) {
	struct buf table;
	struct pg_params p;
	buf_init(&table, 16 << 20);
	part_table_encode(&a->parts, &table);
	assert(!table.overflow);
	pg_params_init(&p);
	pg_param_int2(&p, (int16_t)id_bucket(&a->owner.mail_id));
	pg_param_uuid(&p, &a->owner.mail_id);
	pg_param_bytea(&p, old.p, old.n);
	pg_param_bytea(&p, table.data, table.len);
	api_query(r, &STMT_MAIL_PARTS_SWAP, &p, delete_swapped, a);
	pg_params_fini(&p);
	buf_fini(&table);
}

static void delete_row(struct request *r, void *arg, const struct pg_result *result) {
	struct asking *a = arg;
	unsigned marked = 0;
	if (!asking_row(r, a, result->rows))
		return;
	for (unsigned i = 0; i < a->ids.n; i++) {
		struct part *part = find_part(a, &a->ids.v[i]);
		if (part) {
			part->flags |= PART_DELETED;
			marked++;
		}
	}
	if (marked > 0)
		delete_swap(r, a, pg_text(result->rows, 0, 4));
	else if (a->many)
		respond_empty(r, 204);
	else
		answer_no_attachment(r, &a->ids.v[0]);
}

void api_attachment_delete(struct request *r) {
	struct asking *a = asking_new(r);
	if (!a || !request_param_id(r, 2, &a->attachment))
		return;
	a->ids = (struct api_ids){.v = &a->attachment, .n = 1};
	asking_start(r, a, delete_row);
}

void api_attachment_delete_many(struct request *r) {
	struct asking *a = asking_new(r);
	if (!a || !api_body_ids(r, &a->ids))
		return;
	a->many = true;
	asking_start(r, a, delete_row);
}
