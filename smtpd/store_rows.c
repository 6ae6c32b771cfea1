/* Rows of `messages` and `message_source` as statement parameters, column by column (sql/queries/smtpd.sql has the order).
 *
 * Rows of one request stand together in a batch, so each chunk of a source is compressed once for all its recipients. A source
 * that is in a file is read chunk by chunk; what is held at once is the batch's compressed form. */
#include "common/json_out.h"
#include "common/text.h"
#include "smtpd/store_private.h"

#define each_row(row, b)            \
	list_for_each(row##_l, &(b)->rows) \
		for (struct store_row *row = list_entry(row##_l, struct store_row, link), *row##_once = row; row##_once; row##_once = NULL)

/* ---- messages ---- */

static void elem_cstring(struct pg_params *p, const char *s) {
	if (s)
		pg_elem_text(p, s, strlen(s));
	else
		pg_elem_null(p);
}

/* What the client said, in the envelope. Where a message stands alone because the server refused it, that may be the reason. */
static void elem_envelope(struct store_batch *b, const struct store_row *row, const char *s) {
	struct buf *scratch = &b->store->scratch;
	if (!row->source_only || !s) {
		elem_cstring(&b->messages, s);
		return;
	}
	buf_reset(scratch);
	text_append_clean(scratch, s, strlen(s), false);
	pg_elem_text(&b->messages, scratch->data ? scratch->data : "", scratch->len);
}

static void elem_strings(struct store_batch *b, const struct message_strings *list, unsigned n) {
	struct buf *scratch = &b->store->scratch;
	struct json_out json;
	buf_reset(scratch);
	json_out_init(&json, scratch);
	json_array(&json);
	for (unsigned i = 0; i < n; i++)
		json_cstring(&json, list->v[i]);
	json_array_end(&json);
	pg_elem_text(&b->messages, scratch->data, scratch->len);
}

static void elem_list(struct store_batch *b, const struct store_row *row, const struct message_strings *list) {
	elem_strings(b, list, row->source_only ? 0 : list->n);
}

static void elem_warnings(struct store_batch *b, const struct store_row *row) {
	static char parse_failed[] = "parse_failed";
	char *word = parse_failed;
	const struct message_strings only = {&word, 1};
	const struct message_strings *list = row->source_only ? &only : &row->op->request.message->warnings;
	elem_strings(b, list, list->n);
}

static void elem_parts(struct store_batch *b, const struct store_row *row) {
	static const struct part_table none = {0};
	struct buf *scratch = &b->store->scratch;
	buf_reset(scratch);
	part_table_encode(row->source_only ? &none : &row->op->request.message->parts, scratch);
	pg_elem_bytea(&b->messages, scratch->data, scratch->len);
}

static void build_keys(struct store_batch *b) {
	struct pg_params *p = &b->messages;
	pg_param_array(p, PG_INT2, b->count);
	each_row(row, b)
		pg_elem_int(p, PG_INT2, id_bucket(&row->recipient->mailbox));
	pg_param_array(p, PG_UUID, b->count);
	each_row(row, b)
		pg_elem_uuid(p, &row->recipient->id);
	pg_param_array(p, PG_UUID, b->count);
	each_row(row, b)
		pg_elem_uuid(p, &row->recipient->mailbox);
	pg_param_array(p, PG_TIMESTAMPTZ, b->count);
	each_row(row, b)
		pg_elem_time(p, row->op->request.received_at);
	pg_param_array(p, PG_INT4, b->count);
	each_row(row, b)
		pg_elem_int(p, PG_INT4, store_expiry_hour(row->recipient->expires_at));
}

static void build_envelope(struct store_batch *b) {
	struct pg_params *p = &b->messages;
	pg_param_array(p, PG_TEXT, b->count);
	each_row(row, b)
		elem_envelope(b, row, row->op->request.mail_from);
	pg_param_array(p, PG_TEXT, b->count);
	each_row(row, b)
		elem_envelope(b, row, row->recipient->rcpt_to);
	pg_param_array(p, PG_TEXT, b->count);
	each_row(row, b)
		elem_envelope(b, row, row->op->request.helo);
	pg_param_array(p, PG_TEXT, b->count);
	each_row(row, b)
		elem_envelope(b, row, row->op->request.tls);
	pg_param_array(p, PG_TEXT, b->count);
	each_row(row, b)
		elem_envelope(b, row, row->op->request.trace ? row->op->request.trace : "");
}

/* A column of struct message that is text or NULL. */
static void build_text(struct store_batch *b, size_t offset) {
	pg_param_array(&b->messages, PG_TEXT, b->count);
	each_row(row, b) {
		const char *m = (const char *)row->op->request.message;
		elem_cstring(&b->messages, row->source_only ? NULL : *(char *const *)(const void *)(m + offset));
	}
}

static void build_list(struct store_batch *b, size_t offset) {
	pg_param_array(&b->messages, PG_TEXT, b->count);
	each_row(row, b) {
		const char *m = (const char *)row->op->request.message;
		elem_list(b, row, (const struct message_strings *)(const void *)(m + offset));
	}
}

static void build_messages(struct store_batch *b) {
	struct pg_params *p = &b->messages;
	pg_params_reset(p);
	build_keys(b);
	build_envelope(b);
	build_text(b, offsetof(struct message, from_address));
	build_text(b, offsetof(struct message, from_name));
	build_list(b, offsetof(struct message, to));
	build_list(b, offsetof(struct message, cc));
	build_list(b, offsetof(struct message, reply_to));
	build_text(b, offsetof(struct message, subject));
	build_text(b, offsetof(struct message, body_text));
	build_text(b, offsetof(struct message, body_html));
	pg_param_array(p, PG_INT8, b->count);
	each_row(row, b)
		pg_elem_int(p, PG_INT8, (int64_t)spool_size(row->op->request.spool));
	pg_param_array(p, PG_BYTEA, b->count);
	each_row(row, b)
		pg_elem_bytea(p, row->op->digest, sizeof(row->op->digest));
	pg_param_array(p, PG_BYTEA, b->count);
	each_row(row, b)
		elem_parts(b, row);
	pg_param_array(p, PG_TEXT, b->count);
	each_row(row, b)
		elem_warnings(b, row);
}

/* ---- message_source ---- */

/* Consecutive rows of one request. */
struct run {
	struct store_op *op;
	struct list *first, *end;  /* `end` is not part of it */
	unsigned chunks;
};

static bool next_run(struct store_batch *b, struct run *run) {
	struct list *l = run->end ? run->end : b->rows.next;
	if (l == &b->rows)
		return false;
	run->first = l;
	run->op = list_entry(l, struct store_row, link)->op;
	run->chunks = (unsigned)((spool_size(run->op->request.spool) + STORE_CHUNK - 1) / STORE_CHUNK);
	while (l != &b->rows && list_entry(l, struct store_row, link)->op == run->op)
		l = l->next;
	run->end = l;
	return true;
}

#define each_run(run, b) for (struct run run = {0}; next_run(b, &run);)
/* Every row of message_source, in the order of all its columns: a request's chunks, each for all recipients. */
#define each_chunk(run, chunk, row_l) \
	for (unsigned chunk = 0; chunk < (run).chunks; chunk++) \
		for (struct list *row_l = (run).first; row_l != (run).end; row_l = row_l->next)

static size_t chunk_size(const struct run *run, unsigned chunk) {
	uint64_t left = spool_size(run->op->request.spool) - (uint64_t)chunk * STORE_CHUNK;
	return (size_t)min_of(left, (uint64_t)STORE_CHUNK);
}

static int read_chunk(struct store *s, struct spool *spool, unsigned chunk, size_t n, const char **ret) {
	const char *memory = spool_memory(spool);
	uint64_t offset = (uint64_t)chunk * STORE_CHUNK;
	if (memory) {
		*ret = memory + offset;
		return 0;
	}
	if (!s->chunk)
		s->chunk = xmalloc(STORE_CHUNK);
	for (size_t got = 0; got < n;) {
		ssize_t r = spool_read(spool, offset + got, s->chunk + got, n - got);
		if (r <= 0)
			return r < 0 ? (int)r : -EIO;
		got += (size_t)r;
	}
	*ret = s->chunk;
	return 0;
}

/* The data column, and on the way each chunk's codec into store->codecs. One call a chunk: what would be spread over turns. */
static int build_chunk(struct store_batch *b, const struct run *run, unsigned chunk) {
	struct store *s = b->store;
	size_t n = chunk_size(run, chunk);
	const char *octets;
	struct slice data;
	int r = read_chunk(s, run->op->request.spool, chunk, n, &octets);
	if (r < 0)
		return r;
	enum mail_codec codec = mail_chunk_compress(s->zstd, octets, n, &data);
	buf_append_char(&s->codecs, (char)codec);
	for (struct list *l = run->first; l != run->end; l = l->next)
		pg_elem_bytea(&b->sources, data.p, data.n);
	return 0;
}

static void build_source_keys(struct store_batch *b) {
	struct pg_params *p = &b->sources;
	pg_param_array(p, PG_INT2, b->chunks);
	each_run(run, b) each_chunk(run, chunk, l)
		pg_elem_int(p, PG_INT2, id_bucket(&list_entry(l, struct store_row, link)->recipient->mailbox));
	pg_param_array(p, PG_UUID, b->chunks);
	each_run(run, b) each_chunk(run, chunk, l)
		pg_elem_uuid(p, &list_entry(l, struct store_row, link)->recipient->id);
	pg_param_array(p, PG_INT4, b->chunks);
	each_run(run, b) each_chunk(run, chunk, l)
		pg_elem_int(p, PG_INT4, chunk);
	pg_param_array(p, PG_INT4, b->chunks);
	each_run(run, b) each_chunk(run, chunk, l)
		pg_elem_int(p, PG_INT4, store_expiry_hour(list_entry(l, struct store_row, link)->recipient->expires_at));
}

static int build_sources(struct store_batch *b, struct store_op **ret_bad) {
	struct pg_params *p = &b->sources;
	struct store *s = b->store;
	unsigned at = 0;
	pg_params_reset(p);
	buf_reset(&s->codecs);
	b->chunks = 0;
	each_run(run, b) each_chunk(run, chunk, l)
		b->chunks++;
	pg_param_array(p, PG_BYTEA, b->chunks);
	each_run(run, b) {
		for (unsigned chunk = 0; chunk < run.chunks; chunk++) {
			int r = build_chunk(b, &run, chunk);
			if (r < 0) {
				*ret_bad = run.op;
				return r;
			}
		}
	}
	build_source_keys(b);
	pg_param_array(p, PG_INT2, b->chunks);
	each_run(run, b) {
		each_chunk(run, chunk, l)
			pg_elem_int(p, PG_INT2, s->codecs.data[at + chunk]);
		at += run.chunks;
	}
	pg_param_array(p, PG_INT4, b->chunks);
	each_run(run, b) each_chunk(run, chunk, l)
		pg_elem_int(p, PG_INT4, (int64_t)chunk_size(&run, chunk));
	return 0;
}

int store_build(struct store_batch *b, struct store_op **ret_bad) {
	build_messages(b);
	return build_sources(b, ret_bad);
}
