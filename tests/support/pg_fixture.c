/* A private PostgreSQL for one test binary (pg_fixture.h). Synchronous on purpose: it stands outside the loop under test. */
#include "pg_fixture.h"

#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct pg_fixture {
	char dir[64];
	char bin[128];
	char *conninfo;
	pid_t server;
	uid_t uid;
	gid_t gid;
	PGconn *pq;
	PGresult *last;
	int version;
};

static struct pg_fixture *current; /* for a test that gives up half-way */

static void die(const char *what, const char *detail) {
	fprintf(stderr, "pg_fixture: %s: %s\n", what, detail);
	exit(99);
}

/* ---- finding things ---- */

/* The newest installed server of version 15 or later. */
static void find_binaries(struct pg_fixture *f) {
	glob_t g;
	int best = 0;
	if (glob("/usr/lib/postgresql/*/bin/postgres", 0, NULL, &g) != 0)
		die("no PostgreSQL server", "/usr/lib/postgresql/*/bin/postgres");
	for (size_t i = 0; i < g.gl_pathc; i++) {
		int version = atoi(g.gl_pathv[i] + strlen("/usr/lib/postgresql/"));
		if (version < 15 || version <= best)
			continue;
		best = version;
		snprintf(f->bin, sizeof(f->bin), "/usr/lib/postgresql/%d/bin", version);
	}
	globfree(&g);
	if (!best)
		die("no PostgreSQL server", "15 or later is needed");
}

/* MINUTEMAIL_SOURCE_ROOT, or where this file was compiled from, or a directory above the present one. */
static void find_migrations(char *ret, size_t size) {
	const char *root = getenv("MINUTEMAIL_SOURCE_ROOT");
	const char *self = strstr(__FILE__, "tests/support/");
	snprintf(ret, size, "%s/sql/migrations", root ? root : "?");
	if (access(ret, R_OK) == 0)
		return;
	snprintf(ret, size, "%.*ssql/migrations", self ? (int)(self - __FILE__) : 0, __FILE__);
	if (access(ret, R_OK) == 0)
		return;
	for (const char *up = "../../../../"; *up; up += 3) {
		snprintf(ret, size, "%ssql/migrations", up);
		if (access(ret, R_OK) == 0)
			return;
	}
	snprintf(ret, size, "sql/migrations");
	if (access(ret, R_OK) != 0)
		die("sql/migrations not found", "set MINUTEMAIL_SOURCE_ROOT");
}

/* ---- the server ---- */

static void become(const struct pg_fixture *f) {
	if (geteuid() == 0 && (setgroups(0, NULL) < 0 || setgid(f->gid) < 0 || setuid(f->uid) < 0))
		_exit(98);
	/* After the change of user, which clears it. */
	prctl(PR_SET_PDEATHSIG, SIGQUIT);
	if (chdir(f->dir) < 0)
		_exit(97);
}

static pid_t spawn(const struct pg_fixture *f, const char *log, const char *const argv[]) {
	char path[256];
	pid_t pid;
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		die("fork", strerror(errno));
	if (pid > 0)
		return pid;
	become(f);
	int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (fd < 0)
		_exit(96);
	dup2(fd, 1);
	dup2(fd, 2);
	snprintf(path, sizeof(path), "%s/%s", f->bin, argv[0]);
	execv(path, (char *const *)(uintptr_t)argv);
	_exit(95);
}

static void run_initdb(struct pg_fixture *f) {
	const char *const argv[] = {"initdb", "-D", "data", "-U",         "postgres", "-A",
	                            "trust",  "-E", "UTF8", "--locale=C", "-N",       NULL};
	int status;
	if (waitpid(spawn(f, "initdb.log", argv), &status, 0) < 0 || status != 0)
		die("initdb failed, see initdb.log in", f->dir);
}

static void show_log(const struct pg_fixture *f) {
	char path[128], text[4096];
	snprintf(path, sizeof(path), "%s/server.log", f->dir);
	int fd = open(path, O_RDONLY);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text)) : 0;
	if (n > 0)
		fprintf(stderr, "%.*s\n", (int)n, text);
	if (fd >= 0)
		close(fd);
}

void pg_fixture_start(struct pg_fixture *f) {
	const char *const argv[] = {"postgres", "-D", "data", "-k", f->dir, "-c", "listen_addresses=", NULL};
	f->server = spawn(f, "server.log", argv);
	for (int i = 0; i < 600; i++) {
		if (PQping(pg_fixture_conninfo(f, "postgres dbname=postgres")) == PQPING_OK)
			return;
		if (waitpid(f->server, NULL, WNOHANG) == f->server)
			break;
		usleep(20000);
	}
	show_log(f);
	die("the server does not start", f->dir);
}

void pg_fixture_stop(struct pg_fixture *f, bool immediately) {
	if (!f->server)
		return;
	PQfinish(f->pq);
	f->pq = NULL;
	kill(f->server, immediately ? SIGQUIT : SIGINT);
	waitpid(f->server, NULL, 0);
	f->server = 0;
}

/* ---- statements ---- */

const char *pg_fixture_conninfo(struct pg_fixture *f, const char *role) {
	free(f->conninfo);
	/* A later dbname, as the fixture itself passes one, has the last word. */
	f->conninfo = xasprintf("host=%s dbname=minutemail user=%s", f->dir, role ? role : "postgres");
	return f->conninfo;
}

static void ignore_notice(void *arg, const char *message) {
	(void)arg;
	(void)message;
}

static PGconn *connection(struct pg_fixture *f) {
	if (f->pq && PQstatus(f->pq) == CONNECTION_OK)
		return f->pq;
	PQfinish(f->pq);
	/* The tests' own statements wait for no standby, so that a test can take it away. */
	cleanup(freep) char *conninfo = xasprintf("%s options='-c synchronous_commit=local'", pg_fixture_conninfo(f, NULL));
	f->pq = PQconnectdb(conninfo);
	if (PQstatus(f->pq) != CONNECTION_OK)
		die("connect", PQerrorMessage(f->pq));
	PQsetNoticeProcessor(f->pq, ignore_notice, NULL);
	return f->pq;
}

PGresult *pg_fixture_query(struct pg_fixture *f, const char *sql) {
	PGresult *res = PQexec(connection(f), sql);
	ExecStatusType type = PQresultStatus(res);
	if (type != PGRES_COMMAND_OK && type != PGRES_TUPLES_OK) {
		fprintf(stderr, "%s\n", sql);
		die("statement failed", PQresultErrorMessage(res));
	}
	return res;
}

static printf_like(2, 0) PGresult *query_v(struct pg_fixture *f, const char *fmt, va_list ap) {
	char *sql = NULL;
	if (vasprintf(&sql, fmt, ap) < 0)
		abort();
	PGresult *res = pg_fixture_query(f, sql);
	free(sql);
	return res;
}

void pg_fixture_exec(struct pg_fixture *f, const char *fmt, ...) {
	va_list ap;
	va_start(ap, fmt);
	PQclear(query_v(f, fmt, ap));
	va_end(ap);
}

static const char *first_cell(struct pg_fixture *f, PGresult *res) {
	PQclear(f->last);
	f->last = res;
	return PQntuples(res) > 0 ? PQgetvalue(res, 0, 0) : "";
}

const char *pg_fixture_value(struct pg_fixture *f, const char *fmt, ...) {
	va_list ap;
	va_start(ap, fmt);
	const char *s = first_cell(f, query_v(f, fmt, ap));
	va_end(ap);
	return s;
}

int64_t pg_fixture_int(struct pg_fixture *f, const char *fmt, ...) {
	va_list ap;
	va_start(ap, fmt);
	const char *s = first_cell(f, query_v(f, fmt, ap));
	va_end(ap);
	return strtoll(s, NULL, 10);
}

/* ---- migrations ---- */

static char *read_text(const char *path) {
	FILE *file = fopen(path, "re");
	if (!file)
		die(path, strerror(errno));
	char *text = NULL;
	size_t size = 0;
	ssize_t n = getdelim(&text, &size, '\0', file);
	fclose(file);
	if (n < 0)
		die(path, "empty");
	return text;
}

/* Steps are separated by lines that say "-- step". */
static void apply(struct pg_fixture *f, const char *path) {
	const char *name = strrchr(path, '/') + 1;
	char *text = read_text(path), *step = text, *end;
	f->version = atoi(name);
	pg_fixture_exec(f, "begin");
	while ((end = strstr(step, "\n-- step\n"))) {
		*end = '\0';
		PQclear(pg_fixture_query(f, step));
		step = end + strlen("\n-- step\n");
	}
	PQclear(pg_fixture_query(f, step));
	pg_fixture_exec(f, "insert into schema_migrations values (%d, '%s', now())", f->version, name);
	pg_fixture_exec(f, "commit");
	free(text);
}

static void migrate(struct pg_fixture *f) {
	char pattern[512];
	glob_t g;
	find_migrations(pattern, sizeof(pattern) - 16);
	strcat(pattern, "/[0-9]*.sql");
	if (glob(pattern, 0, NULL, &g) != 0)
		die("no migrations", pattern);
	pg_fixture_exec(f, "create table schema_migrations (version int primary key, name text, applied_at timestamptz)");
	for (size_t i = 0; i < g.gl_pathc; i++)
		apply(f, g.gl_pathv[i]);
	globfree(&g);
}

/* ---- life ---- */

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw) {
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void make_dir(struct pg_fixture *f) {
	snprintf(f->dir, sizeof(f->dir), "/tmp/minutemail-test.XXXXXX");
	if (!mkdtemp(f->dir))
		die("mkdtemp", strerror(errno));
	if (geteuid() != 0)
		return;
	struct passwd *pw = getpwnam("postgres");
	if (!pw)
		die("no user postgres", "needed to run the server as root");
	f->uid = pw->pw_uid;
	f->gid = pw->pw_gid;
	if (chown(f->dir, f->uid, f->gid) < 0)
		die("chown", strerror(errno));
}

static void write_conf(const struct pg_fixture *f, const char *conf) {
	char path[128];
	snprintf(path, sizeof(path), "%s/data/postgresql.conf", f->dir);
	FILE *file = fopen(path, "ae");
	if (!file)
		die(path, strerror(errno));
	fprintf(file, "shared_buffers = 32MB\nmax_connections = 40\nautovacuum = off\n%s\n", conf ? conf : "");
	fclose(file);
}

static void clean_up(void) {
	pg_fixture_free(current);
}

struct pg_fixture *pg_fixture_new(const char *conf) {
	struct pg_fixture *f = xcalloc(1, sizeof(*f));
	current = f;
	atexit(clean_up);
	find_binaries(f);
	make_dir(f);
	run_initdb(f);
	write_conf(f, conf);
	pg_fixture_start(f);
	PGconn *pq = PQconnectdb(pg_fixture_conninfo(f, "postgres dbname=postgres"));
	PGresult *res = PQexec(pq, "create database minutemail");
	if (PQresultStatus(res) != PGRES_COMMAND_OK)
		die("create database", PQerrorMessage(pq));
	PQclear(res);
	PQfinish(pq);
	migrate(f);
	return f;
}

struct pg_fixture *pg_fixture_free(struct pg_fixture *f) {
	if (!f)
		return NULL;
	pg_fixture_stop(f, true);
	PQclear(f->last);
	PQfinish(f->pq);
	nftw(f->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	current = NULL;
	free(f->conninfo);
	free(f);
	return NULL;
}

const char *pg_fixture_dir(const struct pg_fixture *f) {
	return f->dir;
}

int pg_fixture_version(const struct pg_fixture *f) {
	return f->version;
}
