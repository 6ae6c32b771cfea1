/* Reading the columns of a result in PostgreSQL's binary form. A column of another type than the code expects is our bug and
 * ends the process; what a client put into a column never changes its width. */
#include "common/pg_conn.h"

#define POSTGRES_EPOCH_US ((int64_t)946684800 * 1000000)

static uint32_t read_u32(const char *p) {
	const uint8_t *b = (const uint8_t *)p;
	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static uint64_t read_u64(const char *p) {
	return (uint64_t)read_u32(p) << 32 | read_u32(p + 4);
}

static struct slice cell(const struct pg_rows *r, unsigned row, unsigned col) {
	assert((int64_t)row < PQntuples(r->res) && (int64_t)col < PQnfields(r->res));
	if (PQgetisnull(r->res, (int)row, (int)col))
		return (struct slice){NULL, 0};
	return slice_of(PQgetvalue(r->res, (int)row, (int)col), (size_t)PQgetlength(r->res, (int)row, (int)col));
}

unsigned pg_rows_count(const struct pg_rows *r) {
	return r ? (unsigned)PQntuples(r->res) : 0;
}

bool pg_null(const struct pg_rows *r, unsigned row, unsigned col) {
	return cell(r, row, col).p == NULL;
}

int64_t pg_int(const struct pg_rows *r, unsigned row, unsigned col) {
	struct slice s = cell(r, row, col);
	if (s.n == 8)
		return (int64_t)read_u64(s.p);
	if (s.n == 4)
		return (int32_t)read_u32(s.p);
	assert(s.n == 2);
	return (int16_t)(uint16_t)((uint8_t)s.p[0] << 8 | (uint8_t)s.p[1]);
}

bool pg_bool(const struct pg_rows *r, unsigned row, unsigned col) {
	struct slice s = cell(r, row, col);
	assert(s.n == 1);
	return s.p[0] != 0;
}

int64_t pg_time(const struct pg_rows *r, unsigned row, unsigned col) {
	struct slice s = cell(r, row, col);
	if (!s.p)
		return INT64_MAX;
	assert(s.n == 8);
	int64_t t = (int64_t)read_u64(s.p);
	/* 'infinity' is INT64_MAX on the wire; 'never' to us as well. '-infinity' stays the distant past. */
	if (t > INT64_MAX - POSTGRES_EPOCH_US)
		return INT64_MAX;
	return t + POSTGRES_EPOCH_US;
}

struct slice pg_text(const struct pg_rows *r, unsigned row, unsigned col) {
	return cell(r, row, col);
}

struct id pg_uuid(const struct pg_rows *r, unsigned row, unsigned col) {
	struct slice s = cell(r, row, col);
	struct id id;
	assert(s.n == sizeof(id.b));
	memcpy(id.b, s.p, sizeof(id.b));
	return id;
}

unsigned pg_array_count(const struct pg_rows *r, unsigned row, unsigned col) {
	struct slice s = cell(r, row, col);
	if (!s.p)
		return 0;
	assert(s.n >= 12);
	uint32_t dimensions = read_u32(s.p);
	if (dimensions == 0)
		return 0;
	assert(dimensions == 1 && s.n >= 20);
	return read_u32(s.p + 12);
}

struct slice pg_array_elem(const struct pg_rows *r, unsigned row, unsigned col, unsigned i) {
	struct slice s = cell(r, row, col);
	assert(s.p && i < pg_array_count(r, row, col));
	size_t at = 20;
	for (;; i--) {
		assert(s.n - at >= 4);
		int32_t n = (int32_t)read_u32(s.p + at);
		at += 4;
		assert(n < 0 || (size_t)n <= s.n - at);
		if (i == 0)
			return n < 0 ? (struct slice){NULL, 0} : slice_of(s.p + at, (size_t)n);
		at += n < 0 ? 0 : (size_t)n;
	}
}
