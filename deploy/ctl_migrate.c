/* The schema: numbered files NNNN_what.sql, applied in order, each in one transaction with its line in
 * schema_migrations, under an advisory lock so that two operators do not collide. Files are never changed once
 * applied, so a name that differs is refused. */
#include "deploy/ctl.h"

#include "common/buf.h"
#include "common/schema.h"

#include <ctype.h>
#include <dirent.h>

#define MIGRATION_CEILING ((size_t)4 << 20)
#define MIGRATIONS_MOST 9999

struct migrations {
	char *names[MIGRATIONS_MOST + 1]; /* by version; 1 is the first */
	int last;
};

/* "0001_mail.sql" -> 1; 0: not a migration. */
static int version_of(const char *name) {
	size_t n = strlen(name);
	if (n < 10 || strspn(name, "0123456789") != 4 || name[4] != '_' || strcmp(name + n - 4, ".sql") != 0)
		return 0;
	return atoi(name);
}

static void free_migrations(struct migrations *m) {
	for (int v = 1; v <= m->last; v++)
		free(m->names[v]);
	free(m);
}
define_cleanup(struct migrations *, free_migrations)

    static bool add_file(struct ctl *ctl, struct migrations *m, const char *name) {
	int version = version_of(name);
	if (version == 0)
		return true;
	if (m->names[version]) {
		ctl_error(ctl, "two migrations are numbered %d: %s and %s", version, m->names[version], name);
		return false;
	}
	m->names[version] = xstrdup(name);
	m->last = max_of(m->last, version);
	return true;
}

static bool read_directory(struct ctl *ctl, struct migrations *m) {
	DIR *dir = opendir(ctl->settings.migrations);
	if (!dir) {
		ctl_error(ctl, "cannot read the directory of migrations %s: %s", ctl->settings.migrations, strerror(errno));
		return false;
	}
	bool ok = true;
	struct dirent *e;
	while (ok && (e = readdir(dir)))
		ok = add_file(ctl, m, e->d_name);
	closedir(dir);
	for (int v = 1; ok && v <= m->last; v++) {
		if (!m->names[v]) {
			ctl_error(ctl, "migration %d is missing in %s", v, ctl->settings.migrations);
			ok = false;
		}
	}
	if (ok && m->last == 0) {
		ctl_error(ctl, "there are no migrations in %s", ctl->settings.migrations);
		ok = false;
	}
	if (ok && m->last > SCHEMA_VERSION) {
		ctl_error(ctl, "%s has migration %d, this tool knows %d: it is too old", ctl->settings.migrations, m->last,
		          SCHEMA_VERSION);
		ok = false;
	}
	return ok;
}

/* What the database has must be what the directory says. *ret_version: the highest applied. */
static bool compare(struct ctl *ctl, const struct migrations *m, int *ret_version) {
	cleanup(ctl_clearp) PGresult *res =
	    ctl_query(ctl, "select version, name from schema_migrations order by version", 0, NULL);
	if (!res)
		return false;
	*ret_version = 0;
	for (int r = 0; r < PQntuples(res); r++) {
		int version = atoi(PQgetvalue(res, r, 0));
		const char *name = PQgetvalue(res, r, 1);
		if (version < 1 || version > m->last) {
			ctl_error(ctl, "the database has schema version %d (%s), newer than %d, the last one here", version, name,
			          m->last);
			return false;
		}
		if (strcmp(name, m->names[version]) != 0) {
			ctl_error(ctl, "migration %d of the database is %s, here it is %s", version, name, m->names[version]);
			return false;
		}
		*ret_version = version;
	}
	return true;
}

static bool read_file(struct ctl *ctl, const char *name, struct buf *text) {
	char *path = xasprintf("%s/%s", ctl->settings.migrations, name), piece[4096];
	FILE *f = fopen(path, "re");
	size_t n;
	while (f && (n = fread(piece, 1, sizeof(piece), f)) > 0)
		buf_append(text, piece, n);
	bool ok = f && !ferror(f) && !text->overflow && text->len > 0 && strlen(text->data) == text->len;
	if (!ok)
		ctl_error(ctl, "cannot read %s: %s", path, f ? "not a text file of sensible size" : strerror(errno));
	if (f)
		fclose(f);
	free(path);
	return ok;
}

/* Cuts the text at the next line that says "-- step" and returns the piece; NULL at the end. */
static char *next_step(char **rest) {
	char *step = *rest, *line = step;
	if (!step)
		return NULL;
	*rest = NULL;
	while (line && *line) {
		char *end = strchr(line, '\n');
		size_t n = end ? (size_t)(end - line) : strlen(line);
		while (n > 0 && isspace((unsigned char)line[n - 1]))
			n--;
		if (n == 7 && strncmp(line, "-- step", 7) == 0) {
			*line = '\0';
			*rest = end ? end + 1 : NULL;
			break;
		}
		line = end ? end + 1 : NULL;
	}
	return step;
}

/* PQexec, not PQexecParams: a step may be one of the statements that cannot be prepared. */
static bool run_step(struct ctl *ctl, const char *name, int number, const char *step) {
	cleanup(ctl_clearp) PGresult *res = PQexec(ctl->db, step);
	ExecStatusType status = PQresultStatus(res);
	if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_EMPTY_QUERY)
		return true;
	ctl_error(ctl, "%s, step %d: %s", name, number, PQresultErrorMessage(res));
	return false;
}

static bool apply(struct ctl *ctl, int version, const char *name) {
	struct buf text;
	char now[32], number[12], *step, *rest;
	int count = 0;
	buf_init(&text, MIGRATION_CEILING);
	bool ok = read_file(ctl, name, &text) && ctl_begin(ctl);
	rest = text.data;
	while (ok && (step = next_step(&rest)))
		ok = run_step(ctl, name, ++count, step);
	buf_fini(&text);
	snprintf(number, sizeof(number), "%d", version);
	const char *params[] = {number, name, ctl_now(ctl, now)};
	ok = ok && ctl_exec(ctl, "insert into schema_migrations values ($1::int, $2, $3::timestamptz)", 3, params);
	if (ok)
		return ctl_commit(ctl);
	ctl_rollback(ctl);
	return false;
}

/* Texts of mails are UTF-8. createdb follows the cluster's template, which a machine without a locale made SQL_ASCII. */
static bool encoding_fits(struct ctl *ctl) {
	cleanup(ctl_clearp) PGresult *res = ctl_query(ctl, "select current_setting('server_encoding')", 0, NULL);
	if (!res || strcmp(PQgetvalue(res, 0, 0), "UTF8") == 0)
		return res != NULL;
	ctl_error(ctl, "the database's encoding is %s and must be UTF8: createdb --encoding=UTF8 --template=template0", PQgetvalue(res, 0, 0));
	return false;
}

static int apply_all(struct ctl *ctl, const struct migrations *m) {
	static const struct ctl_column columns[] = {
	    {"version", "VERSION", CTL_INT},
	    {"name", "NAME", CTL_TEXT},
	    {"appliedAt", "APPLIED", CTL_TIME},
	    {"now", "NOW", CTL_BOOL},
	};
	int version;
	if (!compare(ctl, m, &version) || (version == 0 && !encoding_fits(ctl)))
		return CTL_FAILED;
	for (int v = version + 1; v <= m->last; v++) {
		if (!apply(ctl, v, m->names[v]))
			return CTL_FAILED;
	}
	char had[12];
	snprintf(had, sizeof(had), "%d", version);
	const char *params[] = {had};
	cleanup(ctl_clearp) PGresult *res = ctl_query(
	    ctl,
	    "select version, name, " CTL_EPOCH("applied_at") ", version > $1::int from schema_migrations order by version",
	    1, params);
	return res ? ctl_print_list(ctl, columns, array_len(columns), res) : CTL_FAILED;
}

int ctl_migrate(struct ctl *ctl) {
	cleanup(free_migrationsp) struct migrations *m = xcalloc(1, sizeof(*m));
	if (!read_directory(ctl, m))
		return CTL_FAILED;
	/* The session's lock: it ends with the connection, however that ends. */
	if (!ctl_exec(ctl, "select pg_advisory_lock(19789, 1)", 0, NULL) ||
	    !ctl_exec(ctl,
	              "create table if not exists schema_migrations"
	              " (version int primary key, name text not null, applied_at timestamptz not null)",
	              0, NULL))
		return CTL_FAILED;
	return apply_all(ctl, m);
}

static int print_status(struct ctl *ctl, const char *version) {
	static const struct ctl_column columns[] = {
	    {"database", "database", CTL_TEXT},
	    {"server", "PostgreSQL", CTL_TEXT},
	    {"schemaVersion", "schema version", CTL_INT},
	    {"schemaWanted", "schema wanted", CTL_INT},
	    {"accounts", "accounts", CTL_INT},
	    {"users", "users", CTL_INT},
	    {"domains", "domains", CTL_INT},
	    {"keys", "keys", CTL_INT},
	    {"mailboxes", "mailboxes, about", CTL_INT},
	    {"messages", "messages, about", CTL_INT},
	    {"partitions", "source partitions", CTL_INT},
	    {"listeners", "API workers listening", CTL_INT},
	};
	const char *params[] = {version};
	/* Statistics, not counts, where counting would read everything. */
	cleanup(ctl_clearp) PGresult *res = ctl_query(
	    ctl,
	    "select current_database(), current_setting('server_version'), $1::int, $1::int,"
	    " (select count(*) from accounts), (select count(*) from users), (select count(*) from domains),"
	    " (select count(*) from api_keys),"
	    " (select greatest(reltuples, 0)::bigint from pg_class where oid = 'mailboxes'::regclass),"
	    " (select greatest(reltuples, 0)::bigint from pg_class where oid = 'messages'::regclass),"
	    " (select count(*) from pg_inherits where inhparent = 'message_source'::regclass),"
	    " (select count(distinct pid) from pg_locks where locktype = 'advisory' and classid = 19789 and objid = 3"
	    " and objsubid = 2 and database = (select oid from pg_database where datname = current_database()))",
	    1, params);
	return res ? ctl_print_one(ctl, columns, array_len(columns), res, NULL, NULL) : CTL_FAILED;
}

int ctl_status(struct ctl *ctl) {
	cleanup(ctl_clearp) PGresult *there =
	    ctl_query(ctl, "select to_regclass('public.schema_migrations') is not null", 0, NULL);
	if (!there)
		return CTL_FAILED;
	if (*PQgetvalue(there, 0, 0) != 't') {
		ctl_error(ctl, "the database has no schema yet; run minutemailctl migrate");
		return CTL_FAILED;
	}
	cleanup(ctl_clearp) PGresult *res =
	    ctl_query(ctl, "select coalesce(max(version), 0) from schema_migrations", 0, NULL);
	if (!res)
		return CTL_FAILED;
	int version = atoi(PQgetvalue(res, 0, 0));
	if (version != SCHEMA_VERSION) {
		ctl_error(ctl, "the database has schema version %d, this tool works with %d", version, SCHEMA_VERSION);
		return CTL_FAILED;
	}
	return print_status(ctl, PQgetvalue(res, 0, 0));
}
