/* Prints "id digest-column sha256-of-the-source state" of every stored message: what the crash bench compares with what the senders were
 * promised. The second digest is computed here from the chunks as they lie there, and the state is "whole" or "damaged"; of those whose
 * id is before SINCE, "- unread". */
#include <libpq-fe.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define CHUNK_MAX (4 * 1024 * 1024)

struct source {
	char id[64], digest[80];
	long long size, seen; /* as the message's row says, and as counted here */
	EVP_MD_CTX *sha;
	int bad, unread;
};

static void die(const char *what, const char *why) {
	fprintf(stderr, "digests: %s: %s\n", what, why);
	exit(2);
}

static void source_end(struct source *s) {
	uint8_t sum[32];
	if (!s->id[0])
		return;
	EVP_DigestFinal_ex(s->sha, sum, NULL);
	EVP_MD_CTX_free(s->sha);
	printf("%s %s ", s->id, s->digest);
	if (s->unread) {
		puts("- unread");
		return;
	}
	for (unsigned i = 0; i < sizeof(sum); i++)
		printf("%02x", sum[i]);
	printf(" %s\n", s->bad || s->seen != s->size ? "damaged" : "whole");
}

static void source_chunk(struct source *s, int codec, long size, const void *data, size_t n) {
	static uint8_t plain[CHUNK_MAX];
	if (codec == 1) {
		n = ZSTD_decompress(plain, sizeof(plain), data, n);
		if (ZSTD_isError(n)) {
			s->bad = 1;
			return;
		}
		data = plain;
	}
	if ((long)n != size)
		s->bad = 1;
	EVP_DigestUpdate(s->sha, data, n);
	s->seen += (long long)n;
}

static void read_row(const PGresult *r, struct source *s) {
	const char *id = PQgetvalue(r, 0, 0);
	if (strcmp(id, s->id) != 0) {
		source_end(s);
		memset(s, 0, sizeof(*s));
		snprintf(s->id, sizeof(s->id), "%s", id);
		snprintf(s->digest, sizeof(s->digest), "%s", PQgetvalue(r, 0, 1));
		s->size = atoll(PQgetvalue(r, 0, 2));
		s->unread = *PQgetvalue(r, 0, 6) == 't';
		s->sha = EVP_MD_CTX_new();
		if (!s->sha || !EVP_DigestInit_ex(s->sha, EVP_sha256(), NULL))
			die("a digest", "out of memory");
	}
	if (PQgetisnull(r, 0, 3))
		return; /* an empty message has no chunk; a lost one is told by its size */
	size_t n;
	unsigned char *data = PQunescapeBytea((const unsigned char *)PQgetvalue(r, 0, 5), &n);
	if (!data)
		die("a chunk", "out of memory");
	source_chunk(s, atoi(PQgetvalue(r, 0, 3)), atol(PQgetvalue(r, 0, 4)), data, n);
	PQfreemem(data);
}

int main(int argc, char **argv) {
	if (argc != 3)
		die("usage", "digests CONNINFO SINCE");
	PGconn *db = PQconnectdb(argv[1]);
	if (PQstatus(db) != CONNECTION_OK)
		die("connecting", PQerrorMessage(db));
	const char *sql =
		"select m.id, encode(m.digest, 'hex'), m.size, s.codec, s.size, s.data, m.id < $1::uuid from messages m "
		"left join message_source s on s.bucket = m.bucket and s.id = m.id and s.expiry_hour = m.expiry_hour and m.id >= $1::uuid "
		"order by m.bucket, m.id, s.chunk";
	const char *const since[] = {argv[2]};
	if (!PQsendQueryParams(db, sql, 1, NULL, since, NULL, NULL, 0) || !PQsetSingleRowMode(db))
		die("asking", PQerrorMessage(db));
	struct source source = {0};
	for (PGresult *r; (r = PQgetResult(db)) != NULL; PQclear(r)) {
		ExecStatusType status = PQresultStatus(r);
		if (status == PGRES_SINGLE_TUPLE)
			read_row(r, &source);
		else if (status != PGRES_TUPLES_OK)
			die("reading", PQresultErrorMessage(r));
	}
	source_end(&source);
	PQfinish(db);
	return fflush(stdout) == 0 ? 0 : 2;
}
