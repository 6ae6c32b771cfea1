/* POST …/mails: makes a mail as if it had been received, from a form or from JSON. The source is
 * compose's work; here is reading what came and the mail's row. */
#include "apid/api_inject.h"

#include "apid/api_common.h"
#include "apid/handlers.h"

#include "apid/api.h"
#include "apid/principal.h"
#include "apid/compose.h"
#include "apid/duration.h"
#include "apid/mail_json.h"
#include "apid/multipart.h"
#include "apid/source_write.h"
#include "apid_stmts.h"
#include "common/address.h"
#include "common/clock.h"
#include "common/mail_row.h"
#include "common/sha256.h"
#include "common/text.h"

#define SUBJECT_MAX 16384
#define NAME_MAX_OCTETS 1024
#define BODY_COLUMN_MAX (1 << 20) /* of body_text, as on receipt; the source has all of it */

struct injection {
	struct id mailbox;
	int64_t received_at, expires_at;
	struct address *sender;
	struct buf sender_name, subject, text; /* as stored; text as in body_text */
	struct slice body;                     /* as given */
	struct compose_file *files;
	struct buf *file_names;
	unsigned file_count;
	struct part_table parts;
	struct buf to; /* JSON */
	char *address; /* of the mailbox */
	uint8_t digest[SHA256_LEN];
	struct source_writer writer;
};

static void injection_end(void *arg) {
	struct injection *i = arg;
	source_writer_fini(&i->writer);
	buf_fini(&i->sender_name);
	buf_fini(&i->subject);
	buf_fini(&i->text);
	buf_fini(&i->to);
	for (unsigned k = 0; k < i->file_count; k++)
		buf_fini(&i->file_names[k]);
	part_table_fini(&i->parts);
}

/* "a@b" or "Name <a@b>", the name perhaps in quotes. */
static bool read_sender(struct request *r, struct injection *i, struct slice given) {
	struct slice text = slice_trim(given), name = {0};
	const char *open = text.n > 0 && text.p[text.n - 1] == '>' ? memrchr(text.p, '<', text.n) : NULL;
	if (open) {
		name = slice_trim(slice_of(text.p, (size_t)(open - text.p)));
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
static bool read_content(struct request *r, struct injection *i, struct slice sender, struct slice subject,
                         struct slice body) {
	const char *missing = !sender.p ? "sender" : !subject.p ? "subject" : !body.p ? "body" : NULL;
	if (missing) {
		respond_problem(r, PROBLEM_BAD_REQUEST, "member \"%s\" is missing", missing);
		return false;
	}
	if (subject.n > SUBJECT_MAX) {
		respond_problem(r, PROBLEM_BAD_REQUEST, "member \"subject\" is over %d octets", SUBJECT_MAX);
		return false;
	}
	const char *bad = !text_utf8_valid(subject.p, subject.n) ? "subject"
	                  : !text_utf8_valid(body.p, body.n)     ? "body"
	                                                         : NULL;
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
	i->files[i->file_count++] =
	    (struct compose_file){.name = buf_slice(name), .type = part->content_type, .data = part->data};
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
	pg_param_uuid(&p, &i->writer.user);
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
	json_out_array(&j);
	json_out_cstring(&j, i->address);
	json_out_array_end(&j);
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
		source_answer_too_large(r);
		return;
	}
	inject_row(r, i);
	source_writer_run(r, &i->writer);
}

static struct injection *injection_new(struct request *r) {
	struct injection *i = request_alloc(r, sizeof *i);
	buf_init(&i->sender_name, 4 * NAME_MAX_OCTETS);
	buf_init(&i->subject, 4 * SUBJECT_MAX);
	buf_init(&i->text, 4 * BODY_COLUMN_MAX);
	buf_init(&i->to, 8192);
	buf_init(&i->writer.source, (size_t)request_api(r)->config->source_max);
	request_at_end(r, injection_end, i);
	return i;
}

void api_mail_inject(struct request *r) {
	struct id mailbox;
	if (!request_param_id(r, 0, &mailbox))
		return;
	struct injection *i = injection_new(r);
	i->mailbox = mailbox;
	i->writer.user = request_principal(r)->user_id;
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

/* ---- mails of the server's own ---- */

struct notice {
	struct injection *injection;
	api_inject_done *done;
	void *arg;
};

static void notice_committed(struct request *r, void *arg, const struct pg_result *result) {
	struct notice *n = arg;
	n->done(r, n->arg, result->status == PG_OK);
}

static void notice_mailbox(struct request *r, void *arg, const struct pg_result *result) {
	struct notice *n = arg;
	struct injection *i = n->injection;
	bool ours = pg_rows_count(result->rows) > 0;
	if (ours) {
		struct slice address = pg_text(result->rows, 0, 1);
		i->mailbox = pg_uuid(result->rows, 0, 0);
		i->address = request_strndup(r, address.p, address.n);
		i->expires_at = pg_time(result->rows, 0, 2);
		i->writer.expiry_hour = mail_expiry_hour(i->expires_at);
	}
	if (!ours || inject_compose(r, i) < 0) {
		api_tx_rollback(i->writer.tx);
		n->done(r, n->arg, false);
		return;
	}
	const struct id account = pg_uuid(result->rows, 0, 3);
	i->writer.user = pg_uuid(result->rows, 0, 4);
	api_tx_as(i->writer.tx, &account, &i->writer.user);
	inject_row(r, i);
	source_writer_run(r, &i->writer);
}

void api_inject_notice(struct request *r, const char *to, const char *subject, const char *text, api_inject_done *done,
                       void *arg) {
	struct notice *n = request_alloc(r, sizeof *n);
	struct address *address = request_alloc(r, sizeof *address);
	struct injection *i = injection_new(r);
	*n = (struct notice){i, done, arg};
	i->sender = request_alloc(r, sizeof *i->sender);
	char *sender = NULL;
	if (address_parse(to, strlen(to), false, true, address) == ADDRESS_OK && address->kind == ADDRESS_DOMAIN)
		sender = xasprintf("noreply@%s", address->domain);
	bool ok = sender && address_parse(sender, strlen(sender), false, false, i->sender) == ADDRESS_OK;
	free(sender);
	if (!ok) {
		done(r, arg, false);
		return;
	}
	unsigned bucket = id_bucket_of_address(address->canonical, strlen(address->canonical));
	buf_append_str(&i->subject, subject);
	text_append_clean(&i->text, text, strlen(text), true);
	i->body = slice_str(request_strndup(r, text, strlen(text)));
	i->received_at = clock_wall_us();
	id_make_in_bucket(&i->writer.mail, i->received_at, bucket);
	i->writer.committed = notice_committed;
	i->writer.arg = n;
	i->writer.tx = api_tx_begin(r);
	struct pg_params p;
	pg_params_init(&p);
	pg_param_int2(&p, (int16_t)bucket);
	pg_param_cstring(&p, address->canonical);
	pg_param_time(&p, i->received_at);
	api_tx_step(i->writer.tx, &STMT_MAILBOX_SHARE_ANYBODYS, &p, notice_mailbox, n);
	pg_params_fini(&p);
	api_tx_flush(i->writer.tx);
}
