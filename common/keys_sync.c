/* The changer's side of the key notices (keys_sync.h) on a synchronous connection, and the payload's syntax. Not for
 * a loop: it blocks until everybody has answered, at most KEYS_LEASE_US + KEYS_MARGIN_US. */
#include "common/keys_sync.h"

#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <time.h>

#define STRING_(x) #x
#define STRING(x) STRING_(x)

static int64_t mono_us(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int run(PGconn *conn, const char *sql, const char *const *params, int count) {
	PGresult *res = PQexecParams(conn, sql, count, NULL, params, NULL, NULL, 0);
	ExecStatusType status = PQresultStatus(res);
	PQclear(res);
	return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK ? 0 : -EIO;
}

int keys_sync_start(struct keys_sync *ks, PGconn *conn) {
	uint8_t octets[(KEYS_NONCE_SIZE - 1) / 2];
	ks->conn = conn;
	randombytes_buf(octets, sizeof(octets));
	sodium_bin2hex(ks->nonce, sizeof(ks->nonce), octets, sizeof(octets));
	return run(conn, "listen " KEYS_ACK_CHANNEL, NULL, 0);
}

int keys_sync_publish(struct keys_sync *ks, const struct id *of) {
	char what[ID_TEXT_SIZE] = "*", payload[KEYS_NONCE_SIZE + ID_TEXT_SIZE];
	if (of)
		id_format(of, what);
	snprintf(payload, sizeof(payload), "%s %s", ks->nonce, what);
	const char *params[] = {KEYS_CHANNEL, payload};
	return run(ks->conn, "select pg_notify($1, $2)", params, 2);
}

#define HOLDERS                                                                                                        \
	"(select distinct pid from pg_locks where locktype = 'advisory' and granted and objsubid = 2 and classid = " STRING(   \
	    KEYS_LOCK_CLASS) " and objid = " STRING(KEYS_LOCK_KEY)                                                             \
	" and database = (select oid from pg_database where datname = current_database()))"

/* Who has to answer. */
struct listener {
	int pid;
	bool answered, gone; /* gone: before we looked, so it never will */
};

struct awaited {
	struct listener *all;
	int count, open;
	bool gone; /* any */
};

static int read_listeners(PGconn *conn, struct awaited *ret) {
	PGresult *res = PQexec(conn, "select coalesce(l.pid, k.pid), l.pid is null from " HOLDERS
	                             " l full join key_listeners k on k.pid = l.pid");
	if (PQresultStatus(res) != PGRES_TUPLES_OK) {
		PQclear(res);
		return -EIO;
	}
	ret->count = ret->open = PQntuples(res);
	ret->all = xcalloc((size_t)ret->count + 1, sizeof(*ret->all));
	for (int i = 0; i < ret->count; i++) {
		ret->all[i].pid = atoi(PQgetvalue(res, i, 0));
		ret->all[i].gone = *PQgetvalue(res, i, 1) == 't';
		ret->gone = ret->gone || ret->all[i].gone;
	}
	PQclear(res);
	return 0;
}

/* Those who were gone, once the lease on what they had cached has run out, unless the number is another's by now. */
static void forget_gone(PGconn *conn, const struct awaited *a) {
	for (int i = 0; i < a->count; i++) {
		char pid[16];
		const char *params[] = {pid};
		if (!a->all[i].gone)
			continue;
		snprintf(pid, sizeof(pid), "%d", a->all[i].pid);
		run(conn, "delete from key_listeners where pid = $1::int and pid not in (select pid from " HOLDERS " l)", params, 1);
	}
}

/* "<pid> <nonce>" of this change. */
static void note_answer(const struct keys_sync *ks, const char *payload, struct awaited *a) {
	char *end;
	long pid = strtol(payload, &end, 10);
	if (pid <= 0 || *end != ' ' || strcmp(end + 1, ks->nonce) != 0)
		return;
	for (int i = 0; i < a->count; i++) {
		if (a->all[i].pid == pid && !a->all[i].answered) {
			a->all[i].answered = true;
			a->open--;
		}
	}
}

static void take_answers(const struct keys_sync *ks, struct awaited *a) {
	PGnotify *n;
	while ((n = PQnotifies(ks->conn))) {
		if (strcmp(n->relname, KEYS_ACK_CHANNEL) == 0)
			note_answer(ks, n->extra, a);
		PQfreemem(n);
	}
}

static void sleep_until(int64_t deadline) {
	int64_t left;
	while ((left = deadline - mono_us()) > 0)
		poll(NULL, 0, (int)(left / 1000) + 1);
}

enum keys_sync_result keys_sync_wait(struct keys_sync *ks) {
	int64_t deadline = mono_us() + KEYS_LEASE_US + KEYS_MARGIN_US;
	struct awaited a = {0};
	enum keys_sync_result result = KEYS_SYNC_CONFIRMED;
	if (read_listeners(ks->conn, &a) < 0) {
		sleep_until(deadline);
		return KEYS_SYNC_FAILED;
	}
	if (a.gone)
		deadline = mono_us() + KEYS_LEASE_US + KEYS_MARGIN_US;
	for (;;) {
		take_answers(ks, &a);
		int64_t left = deadline - mono_us();
		if (a.open == 0)
			break;
		if (left <= 0) {
			result = KEYS_SYNC_LEASE;
			forget_gone(ks->conn, &a);
			break;
		}
		struct pollfd p = {.fd = PQsocket(ks->conn), .events = POLLIN};
		int r = poll(&p, 1, (int)(left / 1000) + 1);
		if ((r < 0 && errno != EINTR) || (r > 0 && PQconsumeInput(ks->conn) == 0)) {
			sleep_until(deadline);
			result = KEYS_SYNC_FAILED;
			break;
		}
	}
	free(a.all);
	return result;
}

bool keys_sync_parse(const char *payload, struct slice *ret_nonce, bool *ret_all, struct id *ret_key) {
	const char *blank = strchr(payload, ' ');
	struct id key;
	if (!blank || blank == payload || blank - payload >= KEYS_NONCE_SIZE)
		return false;
	for (const char *p = payload; p < blank; p++) {
		if ((*p < '0' || *p > '9') && (*p < 'a' || *p > 'f'))
			return false;
	}
	bool all = strcmp(blank + 1, "*") == 0;
	if (!all && !id_parse(blank + 1, strlen(blank + 1), &key))
		return false;
	*ret_nonce = slice_of(payload, (size_t)(blank - payload));
	*ret_all = all;
	if (!all)
		*ret_key = key;
	return true;
}
