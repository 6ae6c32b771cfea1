/* Streams sources, and the two routes that show one whole: raw and headers.
 *
 *   more -> ask for a chunk -> decompress -> cut -> decode -> skip/take -> base64 -> write -> (room again) -> more
 *
 * Invariants: one question is under way at the most; what was announced as length is what is written, or the
 * connection is cut. */
#include "apid/api_source.h"

#include "apid/api.h"
#include "apid/api_common.h"
#include "apid/auth_results.h"
#include "apid/handlers.h"
#include "apid_stmts.h"
#include "common/log.h"
#include "common/text.h"

#include <stdio.h>
#include <strings.h>

void source_chunk_params(struct pg_params *p, const struct id *mail, uint64_t chunk) {
	pg_param_int2(p, (int16_t)id_bucket(mail));
	pg_param_uuid(p, mail);
	pg_param_int4(p, (int32_t)min_of(chunk, (uint64_t)INT32_MAX));
}

int source_chunk_read(struct mail_zstd *zstd, const struct pg_rows *rows, struct slice *ret) {
	if (pg_rows_count(rows) == 0)
		return -EBADMSG;
	return mail_chunk_decompress(zstd, pg_int(rows, 0, 0), pg_int(rows, 0, 1), pg_text(rows, 0, 2), ret);
}

/* ---- Streaming ---- */

struct stream {
	struct request *request;
	struct source_plan plan;
	struct mail_zstd *zstd;
	struct transfer decoder;
	struct buf decoded, dressed;
	struct pg_op *op;    /* a chunk has been asked for */
	uint64_t at, end;    /* in the source */
	uint64_t skip, left; /* in the decoded octets */
	uint8_t carry[3];    /* base64: octets that do not make a group yet */
	unsigned carried;
	bool begun;
};

static void stream_end(void *arg) {
	struct stream *s = arg;
	mail_zstd_free(s->zstd);
	buf_fini(&s->decoded);
	buf_fini(&s->dressed);
}

static void stream_fail(struct stream *s, const char *why) {
	char id[ID_TEXT_SIZE];
	struct log_line line;
	id_format(&s->plan.mail, id);
	log_begin(&line, LOG_LEVEL_ERROR, "source cut short");
	log_str(&line, "request", request_id_text(s->request));
	log_str(&line, "mail", id);
	log_str(&line, "why", why);
	log_int(&line, "at", (int64_t)s->at);
	log_end(&line);
	respond_stream_fail(s->request);
}

/* Whole groups of three go out; what is left over waits for the next piece. Returns whether something was written. */
static bool write_base64(struct stream *s, const char *p, size_t n) {
	while (s->carried > 0 && s->carried < 3 && n > 0) {
		s->carry[s->carried++] = (uint8_t)*p++;
		n--;
	}
	buf_reset(&s->dressed);
	if (s->carried == 3) {
		transfer_base64_encode(&s->dressed, s->carry, 3);
		s->carried = 0;
	}
	size_t whole = n - n % 3;
	if (s->carried == 0) {
		transfer_base64_encode(&s->dressed, p, whole);
		memcpy(s->carry, p + whole, n - whole);
		s->carried = (unsigned)(n - whole);
	}
	if (s->dressed.len > 0)
		respond_stream_write(s->request, s->dressed.data, s->dressed.len);
	return s->dressed.len > 0;
}

/* Returns whether something was written. */
static bool give(struct stream *s, const char *p, size_t n) {
	size_t skip = (size_t)min_of(s->skip, (uint64_t)n);
	s->skip -= skip;
	size_t take = (size_t)min_of(s->left, (uint64_t)(n - skip));
	s->left -= take;
	if (take == 0)
		return false;
	if (s->plan.base64)
		return write_base64(s, p + skip, take);
	respond_stream_write(s->request, p + skip, take);
	return true;
}

static void finish(struct stream *s) {
	if (s->carried > 0) {
		buf_reset(&s->dressed);
		transfer_base64_encode(&s->dressed, s->carry, s->carried);
		respond_stream_write(s->request, s->dressed.data, s->dressed.len);
	}
	if (s->plan.after.n > 0)
		respond_stream_write(s->request, s->plan.after.p, s->plan.after.n);
	respond_stream_end(s->request);
}

/* Decodes a piece; at the end of the range also what the decoder still holds. */
static bool decode(struct stream *s, struct slice piece) {
	if (s->plan.encoding == TRANSFER_IDENTITY)
		return give(s, piece.p, piece.n);
	buf_reset(&s->decoded);
	char *out = buf_reserve(&s->decoded, transfer_bound(&s->decoder, piece.n) + sizeof s->decoder.held);
	assert(out); /* the ceiling fits a chunk, and memory for it was had for the chunk before */
	size_t n = transfer_run(&s->decoder, piece.p, piece.n, out);
	if (s->at == s->end)
		n += transfer_end(&s->decoder, out + n);
	return give(s, out, n);
}

static void ask(struct stream *s);

static void chunk_came(void *arg, const struct pg_result *result) {
	struct stream *s = arg;
	struct slice chunk;
	request_untrack(s->request, s->op);
	s->op = NULL;
	if (result->status != PG_OK) {
		stream_fail(s, result->status == PG_ERROR ? result->message : "the database is away");
		return;
	}
	size_t within = (size_t)(s->at % MAIL_CHUNK);
	size_t want = (size_t)min_of(s->end - s->at, (uint64_t)(MAIL_CHUNK - within));
	if (source_chunk_read(s->zstd, result->rows, &chunk) < 0 || chunk.n < within + want) {
		stream_fail(s, "a chunk is missing or damaged");
		return;
	}
	s->at += want;
	bool wrote = decode(s, slice_of(chunk.p + within, want));
	if (s->left == 0)
		finish(s);
	else if (s->at == s->end)
		stream_fail(s, "it decodes to fewer octets than it was received with");
	else if (!wrote)
		ask(s);
}

static void ask(struct stream *s) {
	struct pg_params p;
	pg_params_init(&p);
	source_chunk_params(&p, &s->plan.mail, s->at / MAIL_CHUNK);
	s->op = api_ask(s->request, &STMT_SOURCE_CHUNK, &p, chunk_came, s);
	request_track(s->request, s->op);
	pg_params_fini(&p);
}

static void more(void *arg) {
	struct stream *s = arg;
	if (s->op)
		return;
	if (!s->begun) {
		s->begun = true;
		if (s->plan.before.n > 0)
			respond_stream_write(s->request, s->plan.before.p, s->plan.before.n);
	}
	if (s->left == 0)
		finish(s);
	else if (s->at == s->end)
		stream_fail(s, "nothing to decode");
	else
		ask(s);
}

static struct slice keep(struct request *r, struct slice s) {
	return slice_of(request_strndup(r, s.n ? s.p : "", s.n), s.n);
}

void source_stream(struct request *r, unsigned status, const char *type, const struct respond_header *headers,
                   const struct source_plan *plan) {
	struct stream *s = request_alloc(r, sizeof *s);
	*s = (struct stream){.request = r, .plan = *plan, .skip = plan->skip, .left = plan->take};
	s->plan.before = keep(r, plan->before);
	s->plan.after = keep(r, plan->after);
	if (plan->encoding == TRANSFER_IDENTITY) { /* any octet can be found without reading those before */
		s->plan.offset += plan->skip;
		s->plan.length = plan->length - plan->skip;
		s->skip = 0;
	}
	s->at = s->plan.offset;
	s->end = s->plan.offset + s->plan.length;
	s->zstd = mail_zstd_new();
	transfer_init(&s->decoder, plan->encoding);
	buf_init(&s->decoded, 4 * MAIL_CHUNK);
	buf_init(&s->dressed, 8 * MAIL_CHUNK);
	request_at_end(r, stream_end, s);
	uint64_t body = plan->base64 ? (plan->take + 2) / 3 * 4 : plan->take;
	respond_stream_start(r, status, type, headers, plan->before.n + body + plan->after.n, more, s);
}

/* ---- raw ---- */

#define TRACE_MAX (128 * 1024)

struct reading {
	struct id mailbox, mail;
	struct slice trace;
	uint64_t size, chunk;
	struct mail_zstd *zstd;
	struct buf block; /* the source from its beginning, until the header has ended */
};

/* Asks for what source readers need; answers if the ids are none. */
static void reading_start(struct request *r, api_rows *done) {
	struct reading *reading = request_alloc(r, sizeof *reading);
	if (!request_param_id(r, 0, &reading->mailbox) || !request_param_id(r, 1, &reading->mail))
		return;
	struct pg_params p;
	pg_params_init(&p);
	api_param_object(&p, r, &reading->mailbox);
	pg_param_uuid(&p, &reading->mail);
	api_query(r, &STMT_MAIL_SOURCE, &p, done, reading);
	pg_params_fini(&p);
}

static void refuse_mail(struct request *r, const struct reading *reading) {
	api_refuse_mail(r, &reading->mailbox, &reading->mail);
}

/* Where the trace's first field ends, if that is Return-Path, which stays on top (RFC 5321 4.4). */
static size_t return_path_length(struct slice trace) {
	struct text_field field;
	struct slice rest = trace;
	bool found = text_next_field(&rest, &field) == 1 && slice_eq(field.name, slice_str("Return-Path"));
	return found ? trace.n - rest.n : 0;
}

/* Our trace, with Authentication-Results, once they are known, above Received (RFC 8601 5). The request's. */
static struct slice trace_of(struct request *r, const struct pg_rows *rows) {
	struct slice trace = pg_text(rows, 0, 2), results = pg_text(rows, 0, 7);
	struct buf all;
	size_t top = return_path_length(trace);
	buf_init(&all, TRACE_MAX);
	buf_append(&all, trace.p, top);
	if (results.p)
		auth_results_append(&all, request_api(r)->config->authserv_id, results);
	buf_append(&all, trace.p + top, trace.n - top);
	struct slice kept = keep(r, buf_slice(&all));
	buf_fini(&all);
	return kept;
}

static void raw_row(struct request *r, void *arg, const struct pg_result *result) {
	struct reading *reading = arg;
	if (pg_rows_count(result->rows) == 0) {
		refuse_mail(r, reading);
		return;
	}
	struct slice digest = pg_text(result->rows, 0, 6);
	char etag[API_ETAG_SIZE], name[ID_TEXT_SIZE], disposition[80];
	api_etag(digest, pg_null(result->rows, 0, 7) ? NULL : "-a", etag); /* results come once and stay */
	if (respond_not_modified(r, etag))
		return;
	id_format(&reading->mail, name);
	snprintf(disposition, sizeof disposition, "attachment; filename=\"%s.eml\"", name);
	const struct respond_header headers[] = {
	    {"Content-Disposition", disposition},
	    {"ETag", etag},
	    {"X-Content-Type-Options", "nosniff"},
	    {NULL, NULL},
	};
	uint64_t size = (uint64_t)pg_int(result->rows, 0, 3);
	const struct source_plan plan = {
	    .mail = reading->mail,
	    .length = size,
	    .take = size,
	    .before = trace_of(r, result->rows),
	};
	source_stream(r, 200, "message/rfc822", headers, &plan);
}

void api_mail_raw(struct request *r) {
	reading_start(r, raw_row);
}

/* ---- headers ---- */

#define HEADERS_MAX (1024 * 1024) /* octets of a header that are shown; more was never parsed either */
#define FIELDS_MAX 10000
#define HEADERS_JSON_MAX (64 << 20) /* each octet may be written twice, escaped as six */

/* Where the header ends, its empty line included; 0: not in here. */
static size_t header_end(const char *p, size_t n) {
	for (size_t line = 0; line < n;) {
		const char *end = memchr(p + line, '\n', n - line);
		if (!end)
			return 0;
		size_t next = (size_t)(end - p) + 1, length = next - line;
		if (length == 1 || (length == 2 && p[line] == '\r'))
			return next;
		line = next;
	}
	return 0;
}

/* The charset that Content-Type names: for raw octets in the fields, as smtpd has it for the subject. NULL: none of
 * ours, or a multipart's. */
static const char *declared_charset(struct slice block, char ret[64]) {
	static const char key[] = "charset=";
	struct text_field f;
	while (text_next_field(&block, &f) > 0) {
		if (f.name.n != 12 || strncasecmp(f.name.p, "content-type", 12) != 0)
			continue;
		for (size_t i = 0; i + sizeof key - 1 < f.value.n; i++) {
			if (strncasecmp(f.value.p + i, key, sizeof key - 1) != 0)
				continue;
			struct slice label = slice_of(f.value.p + i + sizeof key - 1, f.value.n - i - (sizeof key - 1));
			size_t n = 0, quote = *label.p == '"';
			while (quote + n < label.n && n < 63 && !strchr("\"; \t\r\n(", label.p[quote + n]))
				n++;
			memcpy(ret, label.p + quote, n);
			ret[n] = '\0';
			return text_charset_iconv(ret, n) ? ret : NULL;
		}
		return NULL; /* the first counts */
	}
	return NULL;
}

static void write_fields(struct json_out *j, struct slice block, const char *charset, unsigned *count,
                         struct buf *scratch) {
	struct text_field field;
	while (*count < FIELDS_MAX && text_next_field(&block, &field) > 0) {
		if (field.name.n == 0)
			continue;
		++*count;
		buf_reset(scratch);
		text_append_header(scratch, field.value.p, field.value.n, charset);
		json_out_object(j);
		json_out_member_string(j, "name", field.name.p, field.name.n);
		json_out_member_string(j, "value", scratch->len ? scratch->data : "", scratch->len);
		json_out_member_string(j, "raw", field.value.n ? field.value.p : "", field.value.n);
		json_out_object_end(j);
	}
}

static void headers_answer(struct request *r, const struct reading *reading, bool whole) {
	struct buf body, scratch;
	struct json_out j;
	unsigned count = 0;
	buf_init(&scratch, 4 * HEADERS_MAX);
	api_items_begin(&j, &body, HEADERS_JSON_MAX);
	char label[64];
	write_fields(&j, reading->trace, NULL, &count, &scratch);
	write_fields(&j, buf_slice(&reading->block), declared_charset(buf_slice(&reading->block), label), &count, &scratch);
	json_out_array_end(&j);
	json_out_member_bool(&j, "truncated", !whole || count == FIELDS_MAX);
	json_out_object_end(&j);
	buf_fini(&scratch);
	api_answer_json(r, 200, &body);
}

static void headers_end(void *arg) {
	struct reading *reading = arg;
	mail_zstd_free(reading->zstd);
	buf_fini(&reading->block);
}

static void headers_ask(struct request *r, struct reading *reading);

static void headers_chunk(struct request *r, void *arg, const struct pg_result *result) {
	struct reading *reading = arg;
	struct slice chunk;
	if (source_chunk_read(reading->zstd, result->rows, &chunk) < 0) {
		log_msg(LOG_LEVEL_ERROR, "source damaged", "request %s", request_id_text(r));
		respond_problem(r, PROBLEM_INTERNAL, "the mail's source is damaged");
		return;
	}
	buf_append(&reading->block, chunk.p, chunk.n);
	reading->chunk++;
	size_t end = header_end(reading->block.data, reading->block.len);
	bool last = reading->chunk * MAIL_CHUNK >= reading->size;
	if (end > 0) {
		reading->block.len = end;
		headers_answer(r, reading, true);
	} else if (last || reading->block.len >= HEADERS_MAX) {
		headers_answer(r, reading, last);
	} else {
		headers_ask(r, reading);
	}
}

static void headers_ask(struct request *r, struct reading *reading) {
	struct pg_params p;
	pg_params_init(&p);
	source_chunk_params(&p, &reading->mail, reading->chunk);
	api_query(r, &STMT_SOURCE_CHUNK, &p, headers_chunk, reading);
	pg_params_fini(&p);
}

static void headers_row(struct request *r, void *arg, const struct pg_result *result) {
	struct reading *reading = arg;
	if (pg_rows_count(result->rows) == 0) {
		refuse_mail(r, reading);
		return;
	}
	reading->trace = trace_of(r, result->rows);
	reading->size = (uint64_t)pg_int(result->rows, 0, 3);
	reading->zstd = mail_zstd_new();
	buf_init(&reading->block, HEADERS_MAX + MAIL_CHUNK);
	request_at_end(r, headers_end, reading);
	if (reading->size == 0)
		headers_answer(r, reading, true);
	else
		headers_ask(r, reading);
}

void api_mail_headers(struct request *r) {
	reading_start(r, headers_row);
}
