/* Statement parameters in PostgreSQL's binary form: one run of octets and an index into it, so that a statement's parameters
 * cost no allocation of their own once the run has grown. Not a place for checks: the server makes those.
 *
 * Invariant: data.len is the end of the last parameter. An over-long set leaves data.overflow set; pg_query() and pg_tx_step()
 * refuse it with SQLSTATE 54000. */
#include "common/pg_conn.h"

#define POSTGRES_EPOCH_US ((int64_t)946684800 * 1000000) /* 2000-01-01 in Unix microseconds */

static const uint32_t elem_oids[] = {
	[PG_INT2] = 21, [PG_INT4] = 23,  [PG_INT8] = 20,   [PG_BOOL] = 16,
	[PG_TEXT] = 25, [PG_BYTEA] = 17, [PG_UUID] = 2950, [PG_TIMESTAMPTZ] = 1184,
};

void pg_params_init(struct pg_params *p) {
	buf_init(&p->data, PG_PARAMS_CEILING);
	p->count = 0;
	p->array_start = 0;
}

void pg_params_fini(struct pg_params *p) {
	buf_fini(&p->data);
	p->count = 0;
	p->array_start = 0;
}

void pg_params_reset(struct pg_params *p) {
	buf_reset(&p->data);
	p->count = 0;
	p->array_start = 0;
}

static void open_param(struct pg_params *p, bool binary) {
	assert(p->count < array_len(p->at));
	p->at[p->count].offset = p->data.len;
	p->at[p->count].length = 0;
	p->at[p->count].binary = binary;
	p->count++;
	p->array_start = 0;
}

static void close_param(struct pg_params *p) {
	p->at[p->count - 1].length = (int32_t)(p->data.len - p->at[p->count - 1].offset);
}

void pg_param_null(struct pg_params *p) {
	open_param(p, true);
	p->at[p->count - 1].length = -1;
}

/* In text form, so that the server reads it as whatever type the statement says. libpq takes the length of a text parameter
 * from its NUL. */
void pg_param_text(struct pg_params *p, const char *s, size_t n) {
	assert(n == 0 || memchr(s, 0, n) == NULL);
	open_param(p, false);
	buf_append(&p->data, s, n);
	close_param(p);
	buf_append_char(&p->data, '\0');
}

void pg_param_cstring(struct pg_params *p, const char *s) {
	if (s)
		pg_param_text(p, s, strlen(s));
	else
		pg_param_null(p);
}

void pg_param_int2(struct pg_params *p, int16_t v) {
	open_param(p, true);
	buf_append_u16(&p->data, (uint16_t)v);
	close_param(p);
}

void pg_param_int4(struct pg_params *p, int32_t v) {
	open_param(p, true);
	buf_append_u32(&p->data, (uint32_t)v);
	close_param(p);
}

void pg_param_int8(struct pg_params *p, int64_t v) {
	open_param(p, true);
	buf_append_u64(&p->data, (uint64_t)v);
	close_param(p);
}

void pg_param_bool(struct pg_params *p, bool v) {
	open_param(p, true);
	buf_append_char(&p->data, v ? 1 : 0);
	close_param(p);
}

void pg_param_bytea(struct pg_params *p, const void *s, size_t n) {
	open_param(p, true);
	buf_append(&p->data, s, n);
	close_param(p);
}

void pg_param_uuid(struct pg_params *p, const struct id *id) {
	pg_param_bytea(p, id->b, sizeof(id->b));
}

void pg_param_time(struct pg_params *p, int64_t wall_us) {
	if (wall_us == INT64_MAX)
		pg_param_null(p);
	else
		pg_param_int8(p, wall_us - POSTGRES_EPOCH_US);
}

/* array_recv(): dimensions, "has nulls" flag, element type, then for each dimension its length and lower bound. An empty array
 * has no dimension. */
void pg_param_array(struct pg_params *p, enum pg_elem elem, unsigned n) {
	open_param(p, true);
	p->array_start = p->data.len + 1;
	buf_append_u32(&p->data, n ? 1 : 0);
	buf_append_u32(&p->data, 0);
	buf_append_u32(&p->data, elem_oids[elem]);
	if (n) {
		buf_append_u32(&p->data, n);
		buf_append_u32(&p->data, 1);
	}
	close_param(p);
}

static void open_elem(struct pg_params *p, size_t n) {
	assert(p->array_start);
	buf_append_u32(&p->data, (uint32_t)n);
}

void pg_elem_null(struct pg_params *p) {
	open_elem(p, UINT32_MAX);
	if (!p->data.overflow)
		p->data.data[p->array_start - 1 + 7] = 1;
	close_param(p);
}

void pg_elem_int(struct pg_params *p, enum pg_elem elem, int64_t v) {
	switch (elem) {
	case PG_INT2:
		open_elem(p, 2);
		buf_append_u16(&p->data, (uint16_t)v);
		break;
	case PG_INT4:
		open_elem(p, 4);
		buf_append_u32(&p->data, (uint32_t)v);
		break;
	case PG_INT8:
		open_elem(p, 8);
		buf_append_u64(&p->data, (uint64_t)v);
		break;
	case PG_BOOL:
		open_elem(p, 1);
		buf_append_char(&p->data, v ? 1 : 0);
		break;
	case PG_TEXT:
	case PG_BYTEA:
	case PG_UUID:
	case PG_TIMESTAMPTZ:
		assert(!"an integer of that type");
	}
	close_param(p);
}

void pg_elem_text(struct pg_params *p, const char *s, size_t n) {
	pg_elem_bytea(p, s, n);
}

void pg_elem_bytea(struct pg_params *p, const void *s, size_t n) {
	open_elem(p, n);
	buf_append(&p->data, s, n);
	close_param(p);
}

void pg_elem_uuid(struct pg_params *p, const struct id *id) {
	pg_elem_bytea(p, id->b, sizeof(id->b));
}

void pg_elem_time(struct pg_params *p, int64_t wall_us) {
	if (wall_us == INT64_MAX) {
		pg_elem_null(p);
		return;
	}
	open_elem(p, 8);
	buf_append_u64(&p->data, (uint64_t)(wall_us - POSTGRES_EPOCH_US));
	close_param(p);
}
