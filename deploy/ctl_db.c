/* The tool's database: a plain synchronous libpq connection, statements with text parameters, and changes that end
 * only when every worker has let go of what it had cached (common/keys_sync.h). */
#include "deploy/ctl.h"

#include "common/clock.h"
#include "common/schema.h"

#include <ctype.h>

/* libpq's message without its line end. */
static void database_error(struct ctl *ctl, const char *message) {
	size_t n = strlen(message);
	while (n > 0 && isspace((unsigned char)message[n - 1]))
		n--;
	ctl_error(ctl, "database: %.*s", (int)n, message);
}

static void ignore_notice(void *arg, const PGresult *res) {
	(void)arg;
	(void)res;
}

static bool schema_fits(struct ctl *ctl) {
	cleanup(ctl_clearp) PGresult *there =
	    ctl_query(ctl, "select to_regclass('public.schema_migrations') is not null", 0, NULL);
	if (!there)
		return false;
	if (*PQgetvalue(there, 0, 0) != 't') {
		ctl_error(ctl, "the database has no schema yet; run minutemailctl migrate");
		return false;
	}
	cleanup(ctl_clearp) PGresult *version =
	    ctl_query(ctl, "select coalesce(max(version), 0) from schema_migrations", 0, NULL);
	if (!version)
		return false;
	int have = atoi(PQgetvalue(version, 0, 0));
	if (have < SCHEMA_VERSION)
		ctl_error(ctl, "the database has schema version %d, this tool needs %d: run minutemailctl migrate", have,
		          SCHEMA_VERSION);
	if (have > SCHEMA_VERSION)
		ctl_error(ctl, "the database has schema version %d, this tool knows %d: it is too old", have, SCHEMA_VERSION);
	return have == SCHEMA_VERSION;
}

bool ctl_connect(struct ctl *ctl) {
	const char *names[] = {"dbname", "fallback_application_name", "connect_timeout", "client_encoding", NULL};
	const char *values[] = {ctl->settings.database, "minutemailctl", "10", "UTF8", NULL};
	ctl->db = PQconnectdbParams(names, values, 1);
	if (PQstatus(ctl->db) != CONNECTION_OK) {
		database_error(ctl, PQerrorMessage(ctl->db));
		return false;
	}
	PQsetNoticeReceiver(ctl->db, ignore_notice, NULL);
	return ctl->command->any_schema || schema_fits(ctl);
}

PGresult *ctl_query(struct ctl *ctl, const char *sql, unsigned n, const char *const *params) {
	assert(n <= CTL_MOST_PARAMS);
	PGresult *res = PQexecParams(ctl->db, sql, (int)n, NULL, params, NULL, NULL, 0);
	ExecStatusType status = PQresultStatus(res);
	if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK)
		return res;
	database_error(ctl, PQresultErrorMessage(res) && *PQresultErrorMessage(res) ? PQresultErrorMessage(res)
	                                                                            : PQerrorMessage(ctl->db));
	PQclear(res);
	return NULL;
}

bool ctl_exec(struct ctl *ctl, const char *sql, unsigned n, const char *const *params) {
	cleanup(ctl_clearp) PGresult *res = ctl_query(ctl, sql, n, params);
	return res != NULL;
}

bool ctl_begin(struct ctl *ctl) {
	return ctl_exec(ctl, "begin", 0, NULL);
}

void ctl_rollback(struct ctl *ctl) {
	PQclear(PQexec(ctl->db, "rollback"));
}

/* COMMIT of a transaction that failed answers ROLLBACK; a lost link leaves it open whether it happened. */
bool ctl_commit(struct ctl *ctl) {
	cleanup(ctl_clearp) PGresult *res = PQexec(ctl->db, "commit");
	if (PQresultStatus(res) == PGRES_COMMAND_OK && strcmp(PQcmdStatus(res), "COMMIT") == 0)
		return true;
	if (PQstatus(ctl->db) != CONNECTION_OK)
		ctl_error(
		    ctl, "the connection was lost while committing: whether it was done is unknown, look before you repeat it");
	else
		ctl_error(ctl, "nothing was changed: the transaction failed");
	return false;
}

bool ctl_change_begin(struct ctl *ctl, struct keys_sync *ks) {
	if (keys_sync_start(ks, ctl->db) < 0) {
		database_error(ctl, PQerrorMessage(ctl->db));
		return false;
	}
	return ctl_begin(ctl);
}

bool ctl_change_commit(struct ctl *ctl, struct keys_sync *ks, const char *key_id) {
	struct id id;
	bool one = key_id && id_parse(key_id, strlen(key_id), &id);
	if (keys_sync_publish(ks, one ? &id : NULL) < 0) {
		database_error(ctl, PQerrorMessage(ctl->db));
		ctl_rollback(ctl);
		return false;
	}
	if (!ctl_commit(ctl))
		return false;
	if (keys_sync_wait(ks) == KEYS_SYNC_FAILED)
		ctl_note(
		    ctl,
		    "the connection was lost after the change was made; waited until no worker can use what it had cached");
	return true;
}

static const struct {
	const char *what, *sql;
} KINDS[] = {
    [CTL_ACCOUNT] = {"account", "select id from accounts where id::text = lower($1) or name = $1 limit 2"},
    [CTL_USER] = {"user", "select id from users where id::text = lower($1) or email = lower($1) limit 2"},
    /* A name can be claimed by several accounts: the verified one is meant. */
    [CTL_DOMAIN] = {"domain", "select id from domains d where id::text = lower($1) or (name = lower($1) and (status = 'verified'"
                              " or not exists (select from domains v where v.name = d.name and v.status = 'verified'))) limit 2"},
    [CTL_KEY] = {"key", "select id from api_keys where id::text = lower($1) or name = $1 limit 2"},
};

bool ctl_resolve(struct ctl *ctl, enum ctl_kind kind, const char *text, char ret_id[ID_TEXT_SIZE]) {
	cleanup(ctl_clearp) PGresult *res = ctl_query(ctl, KINDS[kind].sql, 1, &text);
	if (!res)
		return false;
	if (PQntuples(res) == 1) {
		snprintf(ret_id, ID_TEXT_SIZE, "%s", PQgetvalue(res, 0, 0));
		return true;
	}
	if (PQntuples(res) == 0)
		ctl_error(ctl, "no %s \"%s\"", KINDS[kind].what, text);
	else
		ctl_error(ctl, "more than one %s is named \"%s\": say its id", KINDS[kind].what, text);
	return false;
}

void ctl_new_id(struct ctl *ctl, char ret[ID_TEXT_SIZE]) {
	struct id id;
	id_make(&id, ctl->now);
	id_format(&id, ret);
}

void ctl_time_text(int64_t wall_us, char ret[32]) {
	clock_format_rfc3339(wall_us, ret);
}

const char *ctl_now(const struct ctl *ctl, char ret[32]) {
	ctl_time_text(ctl->now, ret);
	return ret;
}

/* RFC 3339 5.6, in any offset and in small letters too. */
static bool parse_rfc3339(const char *text, int64_t *ret) {
	char utc[48];
	int n = 0, hours = 0, minutes = 0;
	size_t len = strlen(text);
	if (len < 6 || len >= sizeof(utc) - 1)
		return false;
	for (size_t i = 0; i <= len; i++)
		utc[i] = (char)toupper((unsigned char)text[i]);
	char *offset = utc + len - 6, sign = *offset;
	if (sign == '+' || sign == '-') {
		if (sscanf(offset + 1, "%2d:%2d%n", &hours, &minutes, &n) != 2 || n != 5)
			return false;
		strcpy(offset, "Z");
	}
	if (!clock_parse_rfc3339(utc, strlen(utc), ret))
		return false;
	*ret -= (sign == '-' ? -1 : 1) * (hours * 3600 + minutes * 60) * INT64_C(1000000);
	return true;
}

#define EXPIRY_MOST_SECONDS (1000LL * 365 * 86400)

bool ctl_parse_expiry(const char *text, int64_t now, int64_t *ret) {
	static const struct {
		const char *unit;
		int64_t seconds;
	} units[] = {{"m", 60}, {"h", 3600}, {"d", 86400}, {"w", 7 * 86400}, {"y", 365 * 86400}};
	if (strcmp(text, "never") == 0) {
		*ret = INT64_MAX;
		return true;
	}
	size_t digits = strspn(text, "0123456789");
	if (digits > 0 && digits < 7 && text[digits] && !text[digits + 1]) {
		for (size_t i = 0; i < array_len(units); i++) {
			int64_t seconds = atol(text) * units[i].seconds;
			if (*units[i].unit == text[digits] && seconds > 0 && seconds < EXPIRY_MOST_SECONDS) {
				*ret = now + seconds * 1000000;
				return true;
			}
		}
		return false;
	}
	return parse_rfc3339(text, ret) && *ret > now;
}
