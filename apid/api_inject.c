/* Injecting: POST …/mails makes a mail as if it had been received (api.md 6), POST …/attachments adds a file to such a mail (7).
 * Both write a source in one transaction, a chunk a round trip, so that compressing 25 MB never holds the loop for long. */
#include "apid/api_common.h"
#include "apid/handlers.h"

#include "apid/api.h"
#include "apid/api_source.h"
#include "apid/compose.h"
#include "apid/duration.h"
#include "apid/mail_json.h"
#include "apid/multipart.h"
#include "apid_stmts.h"
#include "common/address.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/mail_row.h"
#include "common/sha256.h"
#include "common/text.h"

#include <stdio.h>

#define SUBJECT_MAX 16384
#define NAME_MAX_OCTETS 1024
#define BODY_COLUMN_MAX (1 << 20)        /* of body_text, as on receipt (smtp.md 2.1); the source has all of it */

/* ---- Writing a source ---- */

struct writer {
	struct api_tx *tx;
	struct id mail;
	int32_t expiry_hour;
	struct buf source;
	struct mail_zstd *zstd;
	size_t chunk;                        /* the next one */
	api_tx_done *committed;
	void *arg;
};

static void writer_fini(struct writer *w) {
	buf_fini(&w->source);
	mail_zstd_free(w->zstd);
}

static void writer_next(struct request *r, void *arg, const struct pg_result *result) {
	struct writer *w = arg;
	struct slice data;
	size_t offset = w->chunk * MAIL_CHUNK, n = min_of(w->source.len - offset, (size_t)MAIL_CHUNK);
	bool last = offset + n == w->source.len;
	if (!w->zstd)
		w->zstd = mail_zstd_new();
	enum mail_codec codec = mail_chunk_compress(w->zstd, w->source.data + offset, n, &data);
	struct pg_params p;
	pg_params_init(&p);
	source_chunk_params(&p, &w->mail, w->chunk++);
	pg_param_int4(&p, w->expiry_hour);
	pg_param_int2(&p, (int16_t)codec);
	pg_param_int4(&p, (int32_t)n);
	pg_param_bytea(&p, data.p, data.n);
	api_tx_step(w->tx, &STMT_SOURCE_INSERT, &p, last ? NULL : writer_next, w);
	pg_params_fini(&p);
	if (last)
		api_tx_commit(w->tx, w->committed, w->arg);
	else
		api_tx_flush(w->tx);
}

static void answer_too_large(struct request *r) {
	respond_problem(r, PROBLEM_PAYLOAD_TOO_LARGE, "the mail would be over %lld octets",
	                (long long)request_api(r)->config->source_max);
}

/* ---- Injecting ---- */

struct injection {
	struct id mailbox;
	int64_t received_at, expires_at;
	struct address *sender;
	struct buf sender_name, subject, text;   /* as stored; text as in body_text */
	struct slice body;                       /* as given */
	struct compose_file *files;
	struct buf *file_names;
	unsigned file_count;
	struct part_table parts;
	struct buf to;                           /* JSON */
	char *address;                           /* of the mailbox */
	uint8_t digest[SHA256_LEN];
	struct writer writer;
};

static void injection_end(void *arg) {
	struct injection *i = arg;
	writer_fini(&i->writer);
	buf_fini(&i->sender_name);
	buf_fini(&i->subject);
	buf_fini(&i->text);
	buf_fini(&i->to);
	for (unsigned k = 0; k < i->file_count; k++)
		buf_fini(&i->file_names[k]);
	part_table_fini(&i->parts);
}

static struct slice trim(struct slice s) {
	while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
		s = slice_of(s.p + 1, s.n - 1);
	while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

/* "a@b" or "Name <a@b>", the name perhaps in quotes. */
static bool read_sender(struct request *r, struct injection *i, struct slice given) {
	struct slice text = trim(given), name = {0};
	const char *open = text.n > 0 && text.p[text.n - 1] == '>' ? memrchr(text.p, '<', text.n) : NULL;
	if (open) {
		name = trim(slice_of(text.p, (size_t)(open - text.p)));
		text = slice_of(open + 1, (size_t)(text.p + text.n - 1 - (open + 1)));
		if (name.n >= 2 && name.p[0] == '"' && name.p[name.n - 1] == '"')
			name = slice_of(name.p + 1, name.n - 2);
	}
	i->sender = request_alloc(r, sizeof *i->sender);
	if (name.n > NAME_MAX_OCTETS || address_parse(text.p, text.n, true, false, i->sender) != ADDRESS_OK ||
	    (i->sender->kind != ADDRESS_DOMAIN && i->sender->kind != ADDRESS_LITERAL)) {
		respond_problem(r, PROBLEM_BAD_REQUEST, "member \"sender\" is not an e-mail address");
		return false;
	}
	text_append_line(&i->sender_name, name.p, name.n);
	return true;
}

/* Checks and keeps what form and JSON have in common. NULL slices: missing. */
static bool read_content(struct request *r, struct injection *i, struct slice sender, struct slice subject, struct slice body) {
	const char *missing = !sender.p ? "sender" : !subject.p ? "subject" : !body.p ? "body" : NULL;
	if (missing) {
		respond_problem(r, PROBLEM_BAD_REQUEST, "member \"%s\" is missing", missing);
		return false;
	}
	if (subject.n > SUBJECT_MAX) {
		respond_problem(r, PROBLEM_BAD_REQUEST, "member \"subject\" is over %d octets", SUBJECT_MAX);
		return false;
	}
	const char *bad = !text_utf8_valid(subject.p, subject.n) ? "subject" : !text_utf8_valid(body.p, body.n) ? "body" : NULL;
	if (bad) {
		respond_problem(r, PROBLEM_BAD_REQUEST, "member \"%s\" is not valid UTF-8", bad);
		return false;
	}
	if (!read_sender(r, i, sender))
		return false;
	text_append_line(&i->subject, subject.p, subject.n);
	text_append_clean(&i->text, body.p, text_cut(body.p, body.n, BODY_COLUMN_MAX), true);
	i->body = body;
	return true;
}

static bool read_json(struct request *r, struct injection *i) {
	struct json_in_error error;
	struct slice sender = {0}, subject = {0}, body = {0};
	const json_t *files;
	size_t file_count;
	int64_t life;
	json_t *json = request_json(r, false);
	if (!json)
		return false;
	if (json_in_string(json, "sender", &sender, &error) < 0 || json_in_string(json, "subject", &subject, &error) < 0 ||
	    json_in_string(json, "body", &body, &error) < 0 || json_in_duration(json, "expiresIn", &life, &error) < 0) {
		api_answer_bad_member(r, &error);
		return false;
	}
	if (json_in_strings(json, "attachments", 0, 0, &files, &file_count, &error) < 0 ||
	    json_in_strings(json, "files", 0, 0, &files, &file_count, &error) < 0) {
		respond_problem(r, PROBLEM_BAD_REQUEST, "members \"attachments\" and \"files\" need multipart/form-data");
		return false;
	}
	return read_content(r, i, sender, subject, body);
}

static bool form_duration(struct slice text) {
	int64_t us, n = 0;
	for (size_t k = 0; k < text.n; k++) {
		if (text.p[k] < '0' || text.p[k] > '9')
			return duration_from_text(text, &us) == 0;
		n = min_of(n * 10 + (text.p[k] - '0'), (int64_t)1000000);
	}
	return duration_from_int(n, &us) == 0;
}

static void add_file(struct injection *i, const struct multipart_part *part) {
	struct buf *name = &i->file_names[i->file_count];
	buf_init(name, MULTIPART_HEADER_MAX);
	multipart_filename(part, name);
	if (name->len == 0 && part->data.n == 0) { /* a browser's file field that was left empty */
		buf_fini(name);
		return;
	}
	i->files[i->file_count++] = (struct compose_file){.name = buf_slice(name), .type = part->content_type, .data = part->data};
}

static bool read_form(struct request *r, struct injection *i) {
	static const char *const names[] = {"sender", "subject", "body", "expiresIn"};
	struct slice fields[array_len(names)] = {{0}};
	struct multipart_part *parts = request_alloc(r, MULTIPART_PARTS * sizeof *parts);
	unsigned n = 0;
	const char *error = "it is malformed";
	if (multipart_parse(request_header(r, "content-type"), request_body(r), parts, MULTIPART_PARTS, &n, &error) < 0) {
		respond_problem(r, PROBLEM_BAD_REQUEST, "multipart/form-data: %s", error);
		return false;
	}
	i->files = request_alloc(r, MULTIPART_PARTS * sizeof *i->files);
	i->file_names = request_alloc(r, MULTIPART_PARTS * sizeof *i->file_names);
	for (unsigned k = 0; k < n; k++) {
		if (multipart_name_is(&parts[k], "files") || multipart_name_is(&parts[k], "attachments"))
			add_file(i, &parts[k]);
		for (unsigned f = 0; f < array_len(names); f++) {
			if (!multipart_name_is(&parts[k], names[f]))
				continue;
			if (fields[f].p) {
				respond_problem(r, PROBLEM_BAD_REQUEST, "member \"%s\" is there twice", names[f]);
				return false;
			}
			fields[f] = parts[k].data.p ? parts[k].data : slice_of("", 0);
		}
	}
	if (fields[3].n > 0 && !form_duration(fields[3])) {
		respond_problem(r, PROBLEM_BAD_REQUEST, "member \"expiresIn\" is not a duration");
		return false;
	}
	return read_content(r, i, fields[0], fields[1], fields[2]);
}

/* The mail's row, but for what belongs to the source's place. */
static void inject_view(const struct injection *i, struct mail_view *ret) {
	*ret = (struct mail_view){
		.id = i->writer.mail,
		.mailbox_id = i->mailbox,
		.received_at = i->received_at,
		.expires_at = i->expires_at,
		.size = (int64_t)i->writer.source.len,
		.mail_from = slice_str(i->sender->raw),
		.rcpt_to = slice_str(i->address),
		.helo = slice_str(""),
		.from_address = slice_str(i->sender->raw),
		.from_name = i->sender_name.len ? buf_slice(&i->sender_name) : (struct slice){0},
		.subject = i->subject.len ? buf_slice(&i->subject) : slice_str(""),
		.body_text = i->text.len ? buf_slice(&i->text) : slice_str(""),
		.to = buf_slice(&i->to),
		.cc = slice_str("[]"),
		.reply_to = slice_str("[]"),
		.warnings = slice_str(i->body.n > BODY_COLUMN_MAX ? "[\"text_cut\"]" : "[]"),
		.parts = &i->parts,
	};
}

static void inject_committed(struct request *r, void *arg, const struct pg_result *result) {
	struct injection *i = arg;
	if (result->status != PG_OK) {
		api_answer_failure(r, result);
		return;
	}
	struct mail_view view;
	struct buf body;
	struct json_out j;
	inject_view(i, &view);
	buf_init(&body, 64 << 20);
	json_out_init(&j, &body);
	mail_write(&j, &view, MAIL_ALL);
	api_answer_json(r, 201, &body);
}

static void param_slice(struct pg_params *p, struct slice s) {
	if (s.p)
		pg_param_text(p, s.p, s.n);
	else
		pg_param_null(p);
}

/* Our trace: no client, so no "from" and no "with" (RFC 5321 4.4). */
static void inject_trace(struct request *r, const struct injection *i, struct buf *out) {
	char id[ID_TEXT_SIZE], date[CLOCK_RFC5322_SIZE];
	id_format(&i->writer.mail, id);
	clock_format_rfc5322(i->received_at, date);
	buf_printf(out, "Return-Path: <%s>\r\nReceived: by %s id %s\r\n\tfor <%s>; %s\r\n", i->sender->raw,
	           request_api(r)->config->hostname, id, i->address, date);
}

static void inject_row(struct request *r, struct injection *i) {
	struct mail_view view;
	struct buf trace, table;
	struct pg_params p;
	inject_view(i, &view);
	buf_init(&trace, 4096);
	buf_init(&table, 4 << 20);
	inject_trace(r, i, &trace);
	part_table_encode(&i->parts, &table);
	assert(!trace.overflow && !table.overflow);
	sha256_of(i->writer.source.data, i->writer.source.len, i->digest);
	pg_params_init(&p);
	pg_param_int2(&p, (int16_t)id_bucket(&view.id));
	pg_param_uuid(&p, &view.id);
	pg_param_uuid(&p, &view.mailbox_id);
	pg_param_time(&p, view.received_at);
	pg_param_int4(&p, i->writer.expiry_hour);
	param_slice(&p, view.mail_from);
	param_slice(&p, view.rcpt_to);
	param_slice(&p, view.helo);
	param_slice(&p, view.tls);
	param_slice(&p, buf_slice(&trace));
	param_slice(&p, view.from_address);
	param_slice(&p, view.from_name);
	param_slice(&p, view.to);
	param_slice(&p, view.cc);
	param_slice(&p, view.reply_to);
	param_slice(&p, view.subject);
	param_slice(&p, view.body_text);
	param_slice(&p, view.body_html);
	pg_param_int8(&p, view.size);
	pg_param_bytea(&p, i->digest, sizeof i->digest);
	pg_param_bytea(&p, table.data, table.len);
	param_slice(&p, view.warnings);
	pg_param_bool(&p, true);
	api_tx_step(i->writer.tx, &STMT_MAIL_INSERT, &p, NULL, NULL);
	pg_params_fini(&p);
	buf_fini(&trace);
	buf_fini(&table);
}

static int inject_compose(struct request *r, struct injection *i) {
	struct json_out j;
	const struct compose_mail mail = {
		.from_name = buf_slice(&i->sender_name),
		.from_address = i->sender->raw,
		.to_address = i->address,
		.subject = buf_slice(&i->subject),
		.text = i->body,
		.files = i->files,
		.file_count = i->file_count,
		.id = i->writer.mail,
		.hostname = request_api(r)->config->hostname,
		.wall_us = i->received_at,
	};
	json_out_init(&j, &i->to);
	json_array(&j);
	json_cstring(&j, i->address);
	json_array_end(&j);
	return compose_source(&mail, &i->writer.source, &i->parts);
}

static void inject_mailbox(struct request *r, void *arg, const struct pg_result *result) {
	struct injection *i = arg;
	if (pg_rows_count(result->rows) == 0) {
		api_tx_rollback(i->writer.tx);
		api_refuse(r, false, &i->mailbox, NULL);
		return;
	}
	struct slice address = pg_text(result->rows, 0, 0);
	i->address = request_strndup(r, address.p, address.n);
	i->expires_at = pg_time(result->rows, 0, 1);
	i->writer.expiry_hour = mail_expiry_hour(i->expires_at);
	if (inject_compose(r, i) < 0) {
		api_tx_rollback(i->writer.tx);
		answer_too_large(r);
		return;
	}
	inject_row(r, i);
	writer_next(r, &i->writer, NULL);
}

void api_mail_inject(struct request *r) {
	struct injection *i = request_alloc(r, sizeof *i);
	if (!request_param_id(r, 0, &i->mailbox))
		return;
	buf_init(&i->sender_name, 4 * NAME_MAX_OCTETS);
	buf_init(&i->subject, 4 * SUBJECT_MAX);
	buf_init(&i->text, 4 * BODY_COLUMN_MAX);
	buf_init(&i->to, 8192);
	buf_init(&i->writer.source, (size_t)request_api(r)->config->source_max);
	request_at_end(r, injection_end, i);
	bool form = multipart_is_form_data(request_header(r, "content-type"));
	if (!(form ? read_form(r, i) : read_json(r, i)))
		return;
	i->received_at = clock_wall_us();
	id_make_in_bucket(&i->writer.mail, i->received_at, id_bucket(&i->mailbox));
	i->writer.committed = inject_committed;
	i->writer.arg = i;
	i->writer.tx = api_tx_begin(r);
	struct pg_params p;
	pg_params_init(&p);
	api_param_object(&p, r, &i->mailbox);
	api_tx_step(i->writer.tx, &STMT_MAILBOX_SHARE, &p, inject_mailbox, i);
	pg_params_fini(&p);
	api_tx_flush(i->writer.tx);
}

/* ---- Adding an attachment ---- */

struct addition {
	struct id mailbox;
	struct compose_file file;
	struct buf data;
	uint64_t size;                           /* of the source as stored */
	struct part_table parts;
	struct attachment_owner owner;
	struct writer writer;
};

static void addition_end(void *arg) {
	struct addition *a = arg;
	writer_fini(&a->writer);
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
	if (sized < 0 || json_in_string(body, "filename", &a->file.name, &error) < 0 || json_in_string(body, "data", &data, &error) < 0 ||
	    json_in_string(body, "contentType", &a->file.type, &error) < 0 || json_in_duration(body, "expiresIn", &life, &error) < 0) {
		api_answer_bad_member(r, &error);
		return false;
	}
	const char *why = a->file.name.n == 0 ? "member \"filename\" is missing" : !data.p ? "member \"data\" is missing" : NULL;
	if (!why && transfer_base64_decode(&a->data, data.p, data.n) < 0)
		why = a->data.overflow ? NULL : "member \"data\" is not standard base64";
	if (!why && sized > 0 && !a->data.overflow && (uint64_t)size != a->data.len)
		why = "member \"sizeBytes\" is not the size of the data";
	if (why)
		respond_problem(r, PROBLEM_BAD_REQUEST, "%s", why);
	else if (a->data.overflow)
		answer_too_large(r);
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
	json_object_end(&j);
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
		writer_next(r, &a->writer, NULL);
		return;
	}
	api_tx_rollback(a->writer.tx);
	if (e == -ENOSPC)
		answer_too_large(r);
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
		respond_problem(r, PROBLEM_BAD_REQUEST, "this mail was received, not injected: its attachments cannot be added to");
		return;
	}
	a->owner = (struct attachment_owner){
		.mailbox_id = a->mailbox, .mail_id = a->writer.mail, .expires_at = pg_time(rows, 0, 0), .received_at = pg_time(rows, 0, 1),
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
