/* What this PostgreSQL can commit at all: the ceiling that the ingest bench compares smtpd with.
 *
 * A bare libpq program. It reads rows that smtpd has written, as they lie there (parsed, compressed), and writes them again under new
 * ids into the same tables, by INSERT ... SELECT FROM unnest(arrays) in batches of 64, and divided into transactions as smtpd divides
 * them:
 *   - messages and message_source: BEGIN, both and COMMIT in one pipelined round trip, flushed to disk;
 *   - message_authentication, where smtpd had the results too late for that: a statement of its own after the commit, without waiting
 *     for the disk, on a second connection, while the next batch is under way.
 * It empties the tables before it starts, so that each measurement begins alike, and so must what it is compared with.
 * Two writers by default (more commit no more). No SMTP, no parsing, no look-ups: nothing but the rows. It knows nothing of the columns: names and types
 * come from the catalogue, values travel in binary form as they were read. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COLUMNS_MAX 40

struct table {
	const char *name, *order; /* the columns that order a message's rows */
	PGresult *rows;           /* binary */
	unsigned columns, id_column;
	Oid element[COLUMNS_MAX];
	char *insert;    /* the prepared statement's text */
	unsigned *first; /* per message: its first row here ... */
	unsigned *count; /* ... and how many */
};

struct options {
	const char *conninfo;
	unsigned rows, batch, connections;
	double seconds;
};

struct array {
	char *data;
	size_t size, room;
};

/* The first has one row a message. The first two are one transaction. */
enum { MESSAGES, SOURCES, AUTHENTICATION, TABLES };
static struct table tables[TABLES] = {
	[MESSAGES] = {.name = "messages", .order = "id"},
	[SOURCES] = {.name = "message_source", .order = "id, chunk"},
	[AUTHENTICATION] = {.name = "message_authentication", .order = "id"},
};

static int64_t now_us(clockid_t clock) {
	struct timespec t;
	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void die(const char *what, const char *why) {
	fprintf(stderr, "ceiling: %s: %s\n", what, why);
	exit(2);
}

static void *allocate(size_t n) {
	void *p = calloc(1, n ? n : 1);
	if (!p)
		die("memory", strerror(errno));
	return p;
}

static PGconn *connect_db(const char *conninfo) {
	PGconn *db = PQconnectdb(conninfo);
	if (PQstatus(db) != CONNECTION_OK)
		die("connecting", PQerrorMessage(db));
	return db;
}

static PGresult *query(PGconn *db, const char *sql, int binary) {
	PGresult *r = PQexecParams(db, sql, 0, NULL, NULL, NULL, NULL, binary);
	if (PQresultStatus(r) != PGRES_TUPLES_OK && PQresultStatus(r) != PGRES_COMMAND_OK)
		die(sql, PQerrorMessage(db));
	return r;
}

/* insert into T (a, b) select * from unnest($1::x[], $2::y[]) */
static void table_describe(struct table *t, PGconn *db) {
	char sql[512];
	snprintf(sql, sizeof(sql),
	         "select quote_ident(attname), format_type(atttypid, null), atttypid::int8 from pg_attribute "
	         "where attrelid = '%s'::regclass and attnum > 0 and not attisdropped order by attnum",
	         t->name);
	PGresult *r = query(db, sql, 0);
	t->columns = (unsigned)PQntuples(r);
	if (t->columns > COLUMNS_MAX)
		die(t->name, "too many columns");
	size_t room = 256 + t->columns * 256;
	char *names = allocate(room), *arrays = allocate(room);
	for (unsigned i = 0; i < t->columns; i++) {
		const char *name = PQgetvalue(r, (int)i, 0);
		size_t n = strlen(names), a = strlen(arrays);
		snprintf(names + n, room - n, "%s%s", i ? ", " : "", name);
		snprintf(arrays + a, room - a, "%s$%u::%s[]", i ? ", " : "", i + 1, PQgetvalue(r, (int)i, 1));
		t->element[i] = (Oid)strtoul(PQgetvalue(r, (int)i, 2), NULL, 10);
		if (strcmp(name, "id") == 0)
			t->id_column = i;
	}
	t->insert = allocate(2 * room);
	snprintf(t->insert, 2 * room, "insert into %s (%s) select * from unnest(%s)", t->name, names, arrays);
	free(names);
	free(arrays);
	PQclear(r);
}

static unsigned sample_size(void) {
	return (unsigned)PQntuples(tables[MESSAGES].rows);
}

static const char *sample_id(unsigned message) {
	return PQgetvalue(tables[MESSAGES].rows, (int)message, (int)tables[MESSAGES].id_column);
}

/* The rows are ordered by message id in all tables, so those of a message lie together. */
static void table_index(struct table *t) {
	unsigned n = sample_size(), rows = (unsigned)PQntuples(t->rows), at = 0;
	t->first = allocate(n * sizeof(unsigned));
	t->count = allocate(n * sizeof(unsigned));
	for (unsigned i = 0; i < n; i++) {
		const char *id = sample_id(i);
		t->first[i] = at;
		while (at < rows && memcmp(PQgetvalue(t->rows, (int)at, (int)t->id_column), id, 16) == 0)
			at++;
		t->count[i] = at - t->first[i];
	}
	if (at != rows)
		die(t->name, "rows without their message");
}

static void capture(const struct options *o) {
	PGconn *db = connect_db(o->conninfo);
	char sql[512];
	snprintf(sql, sizeof(sql),
	         "create temporary table sample on commit preserve rows as "
	         "select bucket, id from messages order by received_at desc limit %u",
	         o->rows);
	PQclear(PQexec(db, sql));
	for (struct table *t = tables; t < tables + TABLES; t++) {
		table_describe(t, db);
		snprintf(sql, sizeof(sql), "select t.* from %s t join sample using (bucket, id) order by %s", t->name, t->order);
		t->rows = query(db, sql, 1);
		if (sample_size() == 0)
			die("messages", "there are no rows to copy");
		table_index(t);
	}
	PQclear(query(db, "truncate messages, message_source, message_authentication", 0));
	PQclear(query(db, "checkpoint", 0));
	PQfinish(db);
}

/* Binary arrays: dimensions, null flag, element type, length, lower bound; then length-prefixed elements. */

static void array_put(struct array *a, const void *p, size_t n) {
	if (a->size + n > a->room) {
		a->room = (a->size + n) * 2;
		a->data = realloc(a->data, a->room);
		if (!a->data)
			die("memory", strerror(errno));
	}
	memcpy(a->data + a->size, p, n);
	a->size += n;
}

static void array_put_int(struct array *a, int32_t v) {
	uint32_t be = htonl((uint32_t)v);
	array_put(a, &be, 4);
}

static void array_begin(struct array *a, Oid element) {
	a->size = 0;
	array_put_int(a, 1);
	array_put_int(a, 1);
	array_put_int(a, (int32_t)element);
	array_put_int(a, 0); /* patched at the end */
	array_put_int(a, 1);
}

/* A new id that keeps the bucket inside and sorts by time, as the daemon's ids do: new milliseconds, new last six octets. */
static void renew_id(const char *old, char ret[16]) {
	static uint64_t state = 0;
	if (!state)
		state = (uint64_t)now_us(CLOCK_REALTIME) ^ ((uint64_t)getpid() << 40);
	memcpy(ret, old, 16);
	uint64_t ms = (uint64_t)now_us(CLOCK_REALTIME) / 1000;
	for (int i = 0; i < 6; i++)
		ret[i] = (char)(ms >> (40 - 8 * i));
	state = state * 6364136223846793005ULL + 1442695040888963407ULL;
	for (int i = 0; i < 6; i++)
		ret[10 + i] = (char)(state >> (16 + 8 * i));
}

/* One table's rows for the messages from..from+n of the sample (taken round), under the given new ids. */
static void send_insert(PGconn *db, const struct table *t, struct array *arrays, unsigned from, unsigned n,
                        char (*ids)[16]) {
	const char *values[COLUMNS_MAX];
	int lengths[COLUMNS_MAX], formats[COLUMNS_MAX];
	unsigned sample = sample_size();
	for (unsigned c = 0; c < t->columns; c++) {
		struct array *a = &arrays[c];
		int32_t elements = 0, nulls = 0;
		array_begin(a, t->element[c]);
		for (unsigned i = 0; i < n; i++) {
			unsigned m = (from + i) % sample;
			for (unsigned row = t->first[m]; row < t->first[m] + t->count[m]; row++, elements++) {
				if (c == t->id_column) {
					array_put_int(a, 16);
					array_put(a, ids[i], 16);
				} else if (PQgetisnull(t->rows, (int)row, (int)c)) {
					array_put_int(a, -1);
					nulls = 1;
				} else {
					int size = PQgetlength(t->rows, (int)row, (int)c);
					array_put_int(a, size);
					array_put(a, PQgetvalue(t->rows, (int)row, (int)c), (size_t)size);
				}
			}
		}
		uint32_t be = htonl((uint32_t)nulls);
		memcpy(a->data + 4, &be, 4);
		be = htonl((uint32_t)elements);
		memcpy(a->data + 12, &be, 4);
		values[c] = a->data;
		lengths[c] = (int)a->size;
		formats[c] = 1;
	}
	if (!PQsendQueryPrepared(db, t->name, (int)t->columns, values, lengths, formats, 0))
		die("sending", PQerrorMessage(db));
}

static void send_plain(PGconn *db, const char *sql) {
	if (!PQsendQueryParams(db, sql, 0, NULL, NULL, NULL, NULL, 0))
		die("sending", PQerrorMessage(db));
}

/* Reads up to the pipeline's Sync; anything but success ends the program: the bench would be worth nothing. */
static void finish_round(PGconn *db) {
	for (;;) {
		PGresult *r = PQgetResult(db);
		if (!r)
			continue; /* between two statements of the pipeline */
		ExecStatusType status = PQresultStatus(r);
		if (status != PGRES_COMMAND_OK && status != PGRES_PIPELINE_SYNC)
			die("writing", PQresultErrorMessage(r));
		PQclear(r);
		if (status == PGRES_PIPELINE_SYNC)
			return;
	}
}

static PGconn *connect_writer(const struct options *o, bool flushed) {
	PGconn *db = connect_db(o->conninfo);
	if (!flushed)
		PQclear(PQexec(db, "set synchronous_commit = off"));
	for (const struct table *t = tables; t < tables + TABLES; t++)
		PQclear(PQprepare(db, t->name, t->insert, 0, NULL));
	if (!PQenterPipelineMode(db))
		die("pipeline mode", PQerrorMessage(db));
	return db;
}

/* One writer, until the time is over. Returns how many messages it committed. */
static uint64_t writer(const struct options *o, unsigned index, int64_t end_at) {
	PGconn *db = connect_writer(o, true), *later = connect_writer(o, false);
	struct array *arrays = allocate(COLUMNS_MAX * sizeof(*arrays));
	char(*ids)[16] = allocate(o->batch * 16);
	unsigned sample = sample_size(), at = index * o->batch % sample;
	bool authenticated = PQntuples(tables[AUTHENTICATION].rows) > 0;
	uint64_t written = 0;
	while (now_us(CLOCK_MONOTONIC) < end_at) {
		for (unsigned i = 0; i < o->batch; i++)
			renew_id(sample_id((at + i) % sample), ids[i]);
		send_plain(db, "begin");
		send_insert(db, &tables[MESSAGES], arrays, at, o->batch, ids);
		send_insert(db, &tables[SOURCES], arrays, at, o->batch, ids);
		send_plain(db, "commit");
		PQpipelineSync(db);
		if (authenticated && written)
			finish_round(later); /* of the batch before */
		finish_round(db);
		if (authenticated) {
			send_insert(later, &tables[AUTHENTICATION], arrays, at, o->batch, ids);
			PQpipelineSync(later);
		}
		written += o->batch;
		at = (at + o->batch * o->connections) % sample;
	}
	if (authenticated && written)
		finish_round(later);
	PQfinish(later);
	PQfinish(db);
	return written;
}

static uint64_t run(const struct options *o) {
	int64_t end_at = now_us(CLOCK_MONOTONIC) + (int64_t)(o->seconds * 1e6);
	int results[2];
	if (pipe(results) < 0)
		die("pipe", strerror(errno));
	for (unsigned i = 0; i < o->connections; i++) {
		pid_t pid = fork();
		if (pid < 0)
			die("fork", strerror(errno));
		if (pid == 0) {
			uint64_t n = writer(o, i, end_at);
			_exit(write(results[1], &n, sizeof(n)) == sizeof(n) ? 0 : 1);
		}
	}
	close(results[1]);
	uint64_t total = 0;
	for (uint64_t n; read(results[0], &n, sizeof(n)) == sizeof(n);)
		total += n;
	for (int status; wait(&status) > 0;)
		if (status != 0)
			die("a writer", "failed");
	return total;
}

static void usage(void) {
	fputs("usage: ceiling --database CONNINFO [--rows N] [--batch N] [--connections N] [--seconds S]\n", stderr);
	exit(2);
}

int main(int argc, char **argv) {
	static const struct option longs[] = {
		{"database", required_argument, NULL, 'd'}, {"rows", required_argument, NULL, 'n'},
		{"batch", required_argument, NULL, 'b'},    {"connections", required_argument, NULL, 'c'},
		{"seconds", required_argument, NULL, 's'},  {0},
	};
	struct options o = {.rows = 2000, .batch = 64, .connections = 2, .seconds = 10};
	for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
		switch (c) {
		case 'd':
			o.conninfo = optarg;
			break;
		case 'n':
			o.rows = (unsigned)atoi(optarg);
			break;
		case 'b':
			o.batch = (unsigned)atoi(optarg);
			break;
		case 'c':
			o.connections = (unsigned)atoi(optarg);
			break;
		case 's':
			o.seconds = atof(optarg);
			break;
		default:
			usage();
		}
	}
	if (!o.conninfo || !o.rows || !o.batch || !o.connections || o.seconds <= 0)
		usage();
	capture(&o);
	int64_t begin = now_us(CLOCK_MONOTONIC);
	uint64_t written = run(&o);
	double seconds = (double)(now_us(CLOCK_MONOTONIC) - begin) / 1e6;
	printf("{\"messages\":%llu,\"seconds\":%.3f,\"rate\":%.1f,\"rows\":{", (unsigned long long)written, seconds,
	       (double)written / seconds);
	for (const struct table *t = tables; t < tables + TABLES; t++)
		printf("%s\"%s\":%.2f", t > tables ? "," : "", t->name, (double)PQntuples(t->rows) / sample_size());
	puts("}}");
	return 0;
}
