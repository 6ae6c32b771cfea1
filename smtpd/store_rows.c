/* Rows of `messages` and `message_source` as statement parameters, column by column (sql/queries/smtpd.sql has the order).
 *
 * Rows of one request stand together in a batch, so each chunk of a source is compressed once for all its recipients. A source
 * that is in a file is read chunk by chunk; what is held at once is the batch's compressed form, or of a large batch one chunk's. */
#include "common/json_out.h"
#include "common/text.h"
#include "smtpd/store_private.h"

static const struct store_row *row_at(const struct list *l) {
	return list_entry(l, struct store_row, link);
}

/* ---- messages ---- */

/* A column puts its value for a row. `offset`: of the member it is about, where several columns share a function. */
typedef void put_column(struct store_batch *, const struct store_row *, size_t offset);

static void put_bucket(struct store_batch *b, const struct store_row *row, size_t offset) {
	pg_elem_int(&b->messages, PG_INT2, id_bucket(&row->recipient->mailbox));
}

static void put_id(struct store_batch *b, const struct store_row *row, size_t offset) {
	pg_elem_uuid(&b->messages, &row->recipient->id);
}

static void put_mailbox(struct store_batch *b, const struct store_row *row, size_t offset) {
	pg_elem_uuid(&b->messages, &row->recipient->mailbox);
}

static void put_user(struct store_batch *b, const struct store_row *row, size_t offset) {
	pg_elem_uuid(&b->messages, &row->recipient->user);
}

static void put_received_at(struct store_batch *b, const struct store_row *row, size_t offset) {
	pg_elem_time(&b->messages, row->op->request.received_at);
}

static void put_expiry_hour(struct store_batch *b, const struct store_row *row, size_t offset) {
	pg_elem_int(&b->messages, PG_INT4, store_expiry_hour(row->recipient->expires_at));
}

static void put_text(struct store_batch *b, const char *s) {
	if (s)
		pg_elem_text(&b->messages, s, strlen(s));
	else
		pg_elem_null(&b->messages);
}

/* What the client said. Where a message stands alone because the server refused it, that may be the reason. */
static void put_envelope_text(struct store_batch *b, const struct store_row *row, const char *s) {
	struct buf *scratch = &b->store->scratch;
	if (!row->source_only || !s) {
		put_text(b, s);
		return;
	}
	buf_reset(scratch);
	text_append_clean(scratch, s, strlen(s), false);
	pg_elem_text(&b->messages, scratch->data, scratch->len);
}

static void put_envelope(struct store_batch *b, const struct store_row *row, size_t offset) {
	const char *request = (const char *)&row->op->request;
	put_envelope_text(b, row, *(const char *const *)(const void *)(request + offset));
}

static void put_rcpt_to(struct store_batch *b, const struct store_row *row, size_t offset) {
	put_envelope_text(b, row, row->recipient->rcpt_to);
}

static void put_trace(struct store_batch *b, const struct store_row *row, size_t offset) {
	const char *trace = row->op->request.trace;
	put_envelope_text(b, row, trace ? trace : "");
}

static void put_field(struct store_batch *b, const struct store_row *row, size_t offset) {
	const char *message = (const char *)row->op->request.message;
	put_text(b, row->source_only ? NULL : *(char *const *)(const void *)(message + offset));
}

static void put_json(struct store_batch *b, const struct message_strings *list) {
	struct buf *scratch = &b->store->scratch;
	struct json_out json;
	buf_reset(scratch);
	json_out_init(&json, scratch);
	json_out_array(&json);
	for (unsigned i = 0; i < list->n; i++)
		json_out_cstring(&json, list->v[i]);
	json_out_array_end(&json);
	pg_elem_text(&b->messages, scratch->data, scratch->len);
}

static void put_list(struct store_batch *b, const struct store_row *row, size_t offset) {
	static const struct message_strings none = {0};
	const char *message = (const char *)row->op->request.message;
	put_json(b, row->source_only ? &none : (const struct message_strings *)(const void *)(message + offset));
}

static void put_warnings(struct store_batch *b, const struct store_row *row, size_t offset) {
	static char parse_failed[] = "parse_failed";
	char *word = parse_failed;
	const struct message_strings only = {&word, 1};
	put_json(b, row->source_only ? &only : &row->op->request.message->warnings);
}

static void put_size(struct store_batch *b, const struct store_row *row, size_t offset) {
	pg_elem_int(&b->messages, PG_INT8, (int64_t)spool_size(row->op->request.spool));
}

static void put_digest(struct store_batch *b, const struct store_row *row, size_t offset) {
	pg_elem_bytea(&b->messages, row->op->digest, sizeof(row->op->digest));
}

static void put_parts(struct store_batch *b, const struct store_row *row, size_t offset) {
	static const struct part_table none = {0};
	struct buf *scratch = &b->store->scratch;
	buf_reset(scratch);
	part_table_encode(row->source_only ? &none : &row->op->request.message->parts, scratch);
	pg_elem_bytea(&b->messages, scratch->data, scratch->len);
}

static void put_authentication(struct store_batch *b, const struct store_row *row, size_t offset) {
	put_text(b, row->source_only ? NULL : row->op->request.authentication);
}

static const struct {
	enum pg_elem type;
	put_column *put;
	size_t offset;
} columns[] = {
	{PG_INT2, put_bucket, 0},
	{PG_UUID, put_id, 0},
	{PG_UUID, put_mailbox, 0},
	{PG_TIMESTAMPTZ, put_received_at, 0},
	{PG_INT4, put_expiry_hour, 0},
	{PG_TEXT, put_envelope, offsetof(struct store_request, mail_from)},
	{PG_TEXT, put_rcpt_to, 0},
	{PG_TEXT, put_envelope, offsetof(struct store_request, helo)},
	{PG_TEXT, put_envelope, offsetof(struct store_request, tls)},
	{PG_TEXT, put_trace, 0},
	{PG_TEXT, put_field, offsetof(struct message, from_address)},
	{PG_TEXT, put_field, offsetof(struct message, from_name)},
	{PG_TEXT, put_list, offsetof(struct message, to)},
	{PG_TEXT, put_list, offsetof(struct message, cc)},
	{PG_TEXT, put_list, offsetof(struct message, reply_to)},
	{PG_TEXT, put_field, offsetof(struct message, subject)},
	{PG_TEXT, put_field, offsetof(struct message, body_text)},
	{PG_TEXT, put_field, offsetof(struct message, body_html)},
	{PG_INT8, put_size, 0},
	{PG_BYTEA, put_digest, 0},
	{PG_BYTEA, put_parts, 0},
	{PG_TEXT, put_warnings, 0},
	{PG_TEXT, put_authentication, 0},
	{PG_UUID, put_user, 0},
};

static void build_messages(struct store_batch *b) {
	pg_params_reset(&b->messages);
	for (unsigned i = 0; i < array_len(columns); i++) {
		pg_param_array(&b->messages, columns[i].type, b->count);
		list_for_each (l, &b->rows)
			columns[i].put(b, row_at(l), columns[i].offset);
	}
}

/* ---- message_source ---- */

/* A row of message_source, noted while the data column is made, for the columns after it. */
struct store_piece {
	const struct store_row *row;
	unsigned chunk;
	uint32_t size; /* raw */
	enum mail_codec codec;
};

unsigned store_chunk_count(const struct store_op *op) {
	return (unsigned)((spool_size(op->request.spool) + STORE_CHUNK - 1) / STORE_CHUNK);
}

static struct store_piece *reserve_pieces(struct store_batch *b) {
	struct store *s = b->store;
	b->chunks = 0;
	list_for_each (l, &b->rows)
		b->chunks += store_chunk_count(row_at(l)->op);
	if (b->chunks > s->pieces_cap) {
		s->pieces_cap = max_of(b->chunks, 2 * s->pieces_cap);
		s->pieces = xrealloc(s->pieces, s->pieces_cap * sizeof(*s->pieces));
	}
	return s->pieces;
}

static int read_chunk(struct store *s, struct spool *spool, uint64_t offset, size_t n, const char **ret) {
	const char *memory = spool_memory(spool);
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

/* A chunk as it is stored; *ret_n raw octets. */
static int make_chunk(struct store *s, struct store_op *op, unsigned chunk, struct slice *ret_data, enum mail_codec *ret_codec,
                      size_t *ret_n) {
	struct spool *spool = op->request.spool;
	uint64_t offset = (uint64_t)chunk * STORE_CHUNK;
	size_t n = (size_t)min_of(spool_size(spool) - offset, (uint64_t)STORE_CHUNK);
	const char *octets = NULL;
	int r = read_chunk(s, spool, offset, n, &octets);
	if (r < 0)
		return r;
	*ret_codec = mail_chunk_compress(s->zstd, octets, n, ret_data);
	*ret_n = n;
	return 0;
}

/* One chunk for the rows from `first` to `end`, all of one request. */
static int put_chunk(struct store_batch *b, struct list *first, struct list *end, unsigned chunk,
                     struct store_piece **at) {
	enum mail_codec codec;
	struct slice data;
	size_t n;
	int r = make_chunk(b->store, row_at(first)->op, chunk, &data, &codec, &n);
	if (r < 0)
		return r;
	for (struct list *l = first; l != end; l = l->next) {
		pg_elem_bytea(&b->sources, data.p, data.n);
		*(*at)++ = (struct store_piece){row_at(l), chunk, (uint32_t)n, codec};
	}
	return 0;
}

int store_build_chunk(struct store_batch *b, unsigned chunk) {
	struct pg_params *p = &b->sources;
	enum mail_codec codec;
	struct slice data;
	size_t n;
	int r = make_chunk(b->store, row_at(b->rows.next)->op, chunk, &data, &codec, &n);
	if (r < 0)
		return r;
	pg_params_reset(p);
	pg_param_bytea(p, data.p, data.n);
	pg_param_int4(p, (int32_t)chunk);
	pg_param_int2(p, (int16_t)codec);
	pg_param_int4(p, (int32_t)n);
	pg_param_array(p, PG_INT2, b->count);
	list_for_each (l, &b->rows)
		pg_elem_int(p, PG_INT2, id_bucket(&row_at(l)->recipient->mailbox));
	pg_param_array(p, PG_UUID, b->count);
	list_for_each (l, &b->rows)
		pg_elem_uuid(p, &row_at(l)->recipient->id);
	pg_param_array(p, PG_INT4, b->count);
	list_for_each (l, &b->rows)
		pg_elem_int(p, PG_INT4, store_expiry_hour(row_at(l)->recipient->expires_at));
	pg_param_array(p, PG_UUID, b->count);
	list_for_each (l, &b->rows)
		pg_elem_uuid(p, &row_at(l)->recipient->user);
	return 0;
}

static int put_data(struct store_batch *b, struct store_piece *at, struct store_op **ret_bad) {
	struct list *first = b->rows.next;
	pg_param_array(&b->sources, PG_BYTEA, b->chunks);
	while (first != &b->rows) {
		struct store_op *op = row_at(first)->op;
		struct list *end = first;
		while (end != &b->rows && row_at(end)->op == op)
			end = end->next;
		for (unsigned chunk = 0; chunk < store_chunk_count(op); chunk++) {
			int r = put_chunk(b, first, end, chunk, &at);
			if (r < 0) {
				*ret_bad = op;
				return r;
			}
		}
		first = end;
	}
	return 0;
}

static int build_sources(struct store_batch *b, struct store_op **ret_bad) {
	struct pg_params *p = &b->sources;
	const struct store_piece *pieces = reserve_pieces(b);
	unsigned n = b->chunks;
	pg_params_reset(p);
	int r = put_data(b, b->store->pieces, ret_bad);
	if (r < 0)
		return r;
	pg_param_array(p, PG_INT2, n);
	for (unsigned i = 0; i < n; i++)
		pg_elem_int(p, PG_INT2, id_bucket(&pieces[i].row->recipient->mailbox));
	pg_param_array(p, PG_UUID, n);
	for (unsigned i = 0; i < n; i++)
		pg_elem_uuid(p, &pieces[i].row->recipient->id);
	pg_param_array(p, PG_INT4, n);
	for (unsigned i = 0; i < n; i++)
		pg_elem_int(p, PG_INT4, pieces[i].chunk);
	pg_param_array(p, PG_INT4, n);
	for (unsigned i = 0; i < n; i++)
		pg_elem_int(p, PG_INT4, store_expiry_hour(pieces[i].row->recipient->expires_at));
	pg_param_array(p, PG_INT2, n);
	for (unsigned i = 0; i < n; i++)
		pg_elem_int(p, PG_INT2, pieces[i].codec);
	pg_param_array(p, PG_INT4, n);
	for (unsigned i = 0; i < n; i++)
		pg_elem_int(p, PG_INT4, pieces[i].size);
	pg_param_array(p, PG_UUID, n);
	for (unsigned i = 0; i < n; i++)
		pg_elem_uuid(p, &pieces[i].row->recipient->user);
	return 0;
}

int store_build(struct store_batch *b, struct store_op **ret_bad) {
	build_messages(b);
	return b->large ? 0 : build_sources(b, ret_bad);
}
