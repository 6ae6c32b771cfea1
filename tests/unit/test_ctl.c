/* minutemailctl, run in this process on a real PostgreSQL: the schema from nothing, every command, what it prints
 * for programs, and what it refuses with which status. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/apikey.h"
#include "common/schema.h"
#include "deploy/ctl.h"
#include "tests/support/pg_fixture.h"

#include <limits.h>
#include <unistd.h>

#define SECRET "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

static struct pg_fixture *db;
static char output[65536], errors[8192];

/* ---- running it ---- */

static void read_back(FILE *f, char *text, size_t size) {
	rewind(f);
	size_t n = fread(text, 1, size - 1, f);
	text[n] = '\0';
	fclose(f);
}

static int run_words(int argc, char **words) {
	FILE *out = tmpfile(), *err = tmpfile();
	char **argv = xcalloc((size_t)argc + 2, sizeof(char *));
	argv[0] = xstrdup("minutemailctl");
	for (int i = 0; i < argc; i++)
		argv[i + 1] = xstrdup(words[i]);
	int status = ctl_run(argc + 1, argv, out, err);
	for (int i = 0; i <= argc; i++)
		free(argv[i]);
	free(argv);
	read_back(out, output, sizeof(output));
	read_back(err, errors, sizeof(errors));
	return status;
}

/* A command line with blanks between its words; '~' stands for a blank inside one. */
static int run(const char *line) {
	char *copy = xstrdup(line), *words[24], *rest = NULL;
	int n = 0;
	for (char *w = strtok_r(copy, " ", &rest); w; w = strtok_r(NULL, " ", &rest)) {
		for (char *p = w; *p; p++)
			*p = *p == '~' ? ' ' : *p;
		words[n++] = w;
	}
	int status = run_words(n, words);
	free(copy);
	return status;
}

static void ok(const char *line) {
	if (run(line) != CTL_OK)
		fail_msg("%s: %s", line, errors);
}

static void refused(const char *line, int status, const char *why) {
	int got = run(line);
	if (got != status || !strstr(errors, why) || *output)
		fail_msg("%s: status %d, said: %s%s", line, got, errors, output);
}

/* The text of a member of what was printed as JSON; the last call's result is gone with the next. */
static const char *member(const char *name) {
	static char value[4][256];
	static unsigned turn;
	char *to = value[turn++ % 4], needle[64];
	snprintf(needle, sizeof(needle), "\"%s\":", name);
	const char *p = strstr(output, needle);
	if (!p)
		fail_msg("no %s in %s", name, output);
	p += strlen(needle);
	size_t n = 0;
	if (*p == '"')
		n = strcspn(++p, "\"");
	else if (*p == '[')
		n = strcspn(p, "]") + 1;
	else
		n = strcspn(p, ",}");
	snprintf(to, 256, "%.*s", (int)n, p);
	return to;
}

static int64_t count(const char *table) {
	return pg_fixture_int(db, "select count(*) from %s", table);
}

/* ---- migrate ---- */

static void test_migrate(void **state) {
	char *conninfo = xasprintf("%s dbname=fresh", pg_fixture_conninfo(db, NULL));
	pg_fixture_exec(db, "create database fresh");
	setenv("MINUTEMAIL_CTL_DATABASE", conninfo, 1);
	refused("account list", CTL_FAILED, "no schema yet");
	refused("status", CTL_FAILED, "no schema yet");
	ok("migrate --json");
	assert_non_null(strstr(output, "\"name\":\"0001_mail.sql\""));
	assert_non_null(strstr(output, "\"now\":true"));
	ok("migrate --json");
	assert_null(strstr(output, "\"now\":true"));
	ok("status --json");
	assert_int_equal(atoi(member("schemaVersion")), SCHEMA_VERSION);
	ok("account list");
	PGconn *pq = PQconnectdb(conninfo);
	PQclear(PQexec(pq, "insert into schema_migrations values (9999, '9999_later.sql', now())"));
	refused("migrate", CTL_FAILED, "newer");
	refused("status", CTL_FAILED, "schema version 9999");
	refused("account list", CTL_FAILED, "too old");
	PQclear(PQexec(pq, "delete from schema_migrations where version = 9999"));
	PQclear(PQexec(pq, "update schema_migrations set name = '0002_other.sql' where version = 2"));
	refused("migrate", CTL_FAILED, "0002_other.sql");
	PQfinish(pq);
	free(conninfo);
	setenv("MINUTEMAIL_CTL_DATABASE", pg_fixture_conninfo(db, NULL), 1);
}

static void test_migrate_wants_utf8(void **state) {
	char *conninfo = xasprintf("%s dbname=ascii", pg_fixture_conninfo(db, NULL));
	pg_fixture_exec(db, "create database ascii encoding SQL_ASCII template template0");
	setenv("MINUTEMAIL_CTL_DATABASE", conninfo, 1);
	refused("migrate", CTL_FAILED, "SQL_ASCII and must be UTF8: createdb --encoding=UTF8 --template=template0");
	free(conninfo);
	setenv("MINUTEMAIL_CTL_DATABASE", pg_fixture_conninfo(db, NULL), 1);
}

static void write_file(const char *dir, const char *name, const char *text) {
	char path[300];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void test_migrate_failures(void **state) {
	char dir[] = "/tmp/minutemail-ctl.XXXXXX";
	char *conninfo = xasprintf("%s dbname=broken", pg_fixture_conninfo(db, NULL)), *line;
	assert_non_null(mkdtemp(dir));
	pg_fixture_exec(db, "create database broken");
	setenv("MINUTEMAIL_CTL_DATABASE", conninfo, 1);
	line = xasprintf("migrate --migrations %s", dir);
	refused(line, CTL_FAILED, "no migrations in");
	write_file(dir, "0002_b.sql", "select 1");
	refused(line, CTL_FAILED, "migration 1 is missing");
	write_file(dir, "0001_a.sql",
	           "create table one (n int);\n-- step\r\n-- only a comment\n-- step\ncreate table one (n int)\n");
	refused(line, CTL_FAILED, "0001_a.sql, step 3");
	/* one transaction a file: nothing of it is left */
	write_file(dir, "0001_a.sql",
	           "create table one (n int);\n-- step\ncreate table two (n int) -- step inside a line\n");
	ok(line);
	write_file(dir, "0001_c.sql", "select 1");
	refused(line, CTL_FAILED, "two migrations are numbered 1");
	refused("migrate --migrations /nowhere/at/all", CTL_FAILED, "/nowhere/at/all");
	PGconn *pq = PQconnectdb(conninfo);
	PGresult *res =
	    PQexec(pq, "select (select count(*) from one) + (select count(*) from two) + (select max(version) from"
	               " schema_migrations)");
	assert_string_equal(PQgetvalue(res, 0, 0), "2");
	PQclear(res);
	PQfinish(pq);
	static const char *const names[] = {"0001_a.sql", "0001_c.sql", "0002_b.sql"};
	for (size_t i = 0; i < array_len(names); i++) {
		char path[300];
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		unlink(path);
	}
	rmdir(dir);
	free(line);
	free(conninfo);
	setenv("MINUTEMAIL_CTL_DATABASE", pg_fixture_conninfo(db, NULL), 1);
}

/* ---- the life of an account ---- */

static void test_domain_before_anybody(void **state) {
	ok("domain create Minutemail.CC --if-missing --json");
	assert_non_null(strstr(errors, "no user yet"));
	assert_string_equal(member("name"), "minutemail.cc");
	assert_string_equal(member("status"), "verified");
	assert_string_equal(member("account"), "null");
	assert_int_equal(count("mailboxes"), 0);
	char *id = xstrdup(member("id"));
	ok("domain create minutemail.cc --if-missing --json");
	assert_string_equal(member("id"), id);
	free(id);
	refused("domain create minutemail.cc", CTL_FAILED, "already");
	refused("domain create not..a~name", CTL_FAILED, "not a domain name");
}

static void test_account_and_user(void **state) {
	ok("account create Home --plan unlimited --json");
	char *id = xstrdup(member("id"));
	assert_string_equal(member("plan"), "unlimited");
	refused("account create Home", CTL_FAILED, "already");
	ok("account create Home --if-missing --json");
	assert_string_equal(member("id"), id);
	free(id);
	refused("account create Other --plan golden", CTL_FAILED, "golden");
	refused("user create me@minutemail.cc", CTL_USAGE, "--account");
	refused("user create me@minutemail.cc --account Nobody", CTL_FAILED, "no account \"Nobody\"");
	refused("user create me --account Home", CTL_FAILED, "not an e-mail address");
	ok("user create Me@MINUTEMAIL.cc --account Home --json");
	assert_string_equal(member("email"), "me@minutemail.cc");
	assert_string_equal(member("role"), "owner");
	ok("user create two@minutemail.cc --account Home --json");
	assert_string_equal(member("role"), "member");
	refused("user create me@minutemail.cc --account Home", CTL_FAILED, "already");
	ok("user create me@minutemail.cc --account Home --if-missing");
	refused("user edit two@minutemail.cc --email ME@minutemail.cc", CTL_FAILED, "already");
	ok("user edit two@minutemail.cc --role owner --state suspended --json");
	assert_string_equal(member("state"), "suspended");
	/* the domain that was there first has its postmaster now */
	assert_int_equal(
	    count("mailboxes where address = 'postmaster@minutemail.cc' and bucket = 906 and expires_at is null"), 1);
	assert_int_equal(count("mailboxes b join account_mailboxes l on l.mailbox_id = b.id and l.bucket = b.bucket and"
	                       " l.account_id = b.account_id and l.user_id = b.user_id join users u on u.id = b.user_id and"
	                       " u.email = 'me@minutemail.cc'"),
	                 1);
	/* the bucket is in the id: octets 8 and 9 are variant, bucket, 4 random bits (common/id.h) */
	assert_int_equal(pg_fixture_int(db, "select (('x' || substr(replace(id::text, '-', ''), 17, 4))::bit(16) &"
	                                    " x'3ff0')::int >> 4 from mailboxes"),
	                 906);
}

static void test_keys(void **state) {
	ok("domain create shop.example --account Home");
	ok("account create Stranger");
	ok("domain create stranger.example --account Stranger");
	refused("key create --name CI", CTL_USAGE, "--user");
	refused("key create --name CI --user nobody@x.example", CTL_FAILED, "no user");
	refused("key create --name CI --user me@minutemail.cc --domain stranger.example", CTL_FAILED, "neither");
	refused("key create --name CI --user me@minutemail.cc --expires yesterday", CTL_FAILED, "--expires");
	refused("key create --name CI --user me@minutemail.cc --scopes everything", CTL_FAILED, "no scope");
	assert_int_equal(count("api_keys"), 0);
	ok("key create --name CI --user me@minutemail.cc --json");
	char *key = xstrdup(member("key")), *id = xstrdup(member("id"));
	assert_int_equal(apikey_check(key, strlen(key), APIKEY_LIVE), APIKEY_OK);
	assert_string_equal(member("last8"), key + 56);
	assert_string_equal(member("domains"), "[\"minutemail.cc\"]");
	assert_string_equal(member("expiresAt"), "null");
	assert_string_equal(member("status"), "active");
	/* the database has what apid looks for, and the key nowhere */
	uint8_t secret[32], hash[APIKEY_HASH_LEN];
	apikey_secret_parse(SECRET, secret);
	apikey_hash(key, secret, 32, hash);
	char hex[2 * APIKEY_HASH_LEN + 1];
	for (unsigned i = 0; i < APIKEY_HASH_LEN; i++)
		snprintf(hex + 2 * i, 3, "%02x", hash[i]);
	assert_string_equal(pg_fixture_value(db, "select encode(hash, 'hex') from api_keys"), hex);
	/* shown once */
	ok("key list --json");
	assert_null(strstr(output, key));
	ok("key create --name CI --user me@minutemail.cc --if-missing --json");
	assert_string_equal(member("id"), id);
	assert_null(strstr(output, "\"key\":"));
	ok("key create --name Both --user me@minutemail.cc --domain shop.example,minutemail.cc --expires 90d --scopes "
	   "team,domains --json");
	assert_string_equal(member("domains"), "[\"minutemail.cc\",\"shop.example\"]");
	assert_string_equal(member("scopes"), "[\"domains\",\"team\"]");
	assert_string_equal(
	    pg_fixture_value(db,
	                     "select round(extract(epoch from expires_at - created_at)) from api_keys where name = 'Both'"),
	    "7776000");
	free(key);
	free(id);
}

static void test_key_changes(void **state) {
	char *hash = xstrdup(pg_fixture_value(db, "select hash from api_keys where name = 'Both'"));
	ok("key edit Both --name New~name --expires never --domain minutemail.cc --json");
	assert_string_equal(member("name"), "New name");
	assert_string_equal(member("expiresAt"), "null");
	assert_string_equal(member("domains"), "[\"minutemail.cc\"]");
	assert_string_equal(member("scopes"), "[\"domains\",\"team\"]");
	ok("key edit New~name --scopes none --expires 2090-01-31T12:00:00+02:00 --json");
	assert_string_equal(member("scopes"), "[]");
	assert_string_equal(member("expiresAt"), "2090-01-31T10:00:00.000Z");
	ok("key domains New~name --add shop.example --json");
	assert_non_null(strstr(output, "shop.example"));
	refused("key domains New~name --remove minutemail.cc --remove shop.example", CTL_FAILED, "at least one");
	refused("key domains New~name --remove other.example", CTL_FAILED, "does not cover");
	assert_int_equal(count("api_key_domains d join api_keys k on k.id = d.key_id where k.name = 'New name'"), 2);
	ok("key regenerate New~name --json");
	assert_int_equal(apikey_check(member("key"), 64, APIKEY_LIVE), APIKEY_OK);
	assert_string_not_equal(pg_fixture_value(db, "select hash from api_keys where name = 'New name'"), hash);
	ok("key revoke New~name --json");
	assert_string_equal(member("status"), "revoked");
	refused("key regenerate New~name", CTL_FAILED, "revoked");
	ok("key delete New~name --json");
	assert_string_equal(member("deleted"), "true");
	refused("key revoke New~name", CTL_FAILED, "no key");
	free(hash);
}

static void test_no_secret(void **state) {
	char path[] = "/tmp/minutemail-ctl.XXXXXX";
	unsetenv("MINUTEMAIL_KEY_SECRET");
	refused("key create --name X --user me@minutemail.cc", CTL_FAILED, "MINUTEMAIL_KEY_SECRET");
	setenv("MINUTEMAIL_KEY_SECRET_FILE", "/nowhere/at/all", 1);
	refused("key list", CTL_FAILED, "/nowhere/at/all");
	int fd = mkstemp(path);
	assert_int_equal(write(fd, SECRET "\n", 65), 65);
	close(fd);
	setenv("MINUTEMAIL_KEY_SECRET_FILE", path, 1);
	setenv("MINUTEMAIL_ENVIRONMENT", "test", 1);
	ok("key create --name X --user me@minutemail.cc --json");
	assert_int_equal(apikey_check(member("key"), 64, APIKEY_TEST), APIKEY_OK);
	assert_string_equal(member("environment"), "test");
	setenv("MINUTEMAIL_ENVIRONMENT", "prod", 1);
	refused("key list", CTL_FAILED, "prod");
	unsetenv("MINUTEMAIL_ENVIRONMENT");
	unlink(path);
	unsetenv("MINUTEMAIL_KEY_SECRET_FILE");
	setenv("MINUTEMAIL_KEY_SECRET", SECRET, 1);
}

static void test_ambiguous_name(void **state) {
	ok("key create --name Twin --user me@minutemail.cc");
	ok("key create --name Twin --user me@minutemail.cc");
	refused("key revoke Twin", CTL_FAILED, "say its id");
	assert_int_equal(count("api_keys where revoked_at is not null"), 0);
}

/* What keys' records say changes at the worker that hears it: the notice travels with the change. */
static void test_notice(void **state) {
	static const struct {
		const char *line;
		bool all;
	} rows[] = {
	    {"key edit CI --name CI", false},
	    {"key domains CI --add shop.example", false},
	    {"key regenerate CI", false},
	    {"domain edit shop.example --status verified", true},
	    {"user edit me@minutemail.cc --role owner", true},
	    {"account edit Home --state active", true},
	    {"plan edit free --members 2", true},
	    {"key revoke CI", false},
	};
	PGconn *listener = PQconnectdb(pg_fixture_conninfo(db, NULL));
	PQclear(PQexec(listener, "listen minutemail_keys"));
	char *id = xstrdup(pg_fixture_value(db, "select id from api_keys where name = 'CI'"));
	for (size_t i = 0; i < array_len(rows); i++) {
		ok(rows[i].line);
		PQclear(PQexec(listener, "select"));
		PGnotify *n = PQnotifies(listener);
		if (!n)
			fail_msg("%s: no notice", rows[i].line);
		assert_string_equal(strchr(n->extra, ' ') + 1, rows[i].all ? "*" : id);
		PQfreemem(n);
	}
	refused("key edit CI --domain nowhere.example", CTL_FAILED, "neither");
	PQclear(PQexec(listener, "select"));
	assert_null(PQnotifies(listener));
	PQfinish(listener);
	free(id);
}

static char zone_path[] = "/tmp/minutemail-ctl-zone.XXXXXX";

static void zone(const char *text) {
	FILE *f = fopen(zone_path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void test_domain_verify(void **state) {
	int fd = mkstemp(zone_path);
	assert_true(fd >= 0);
	close(fd);
	setenv("MINUTEMAIL_DNS_ZONE_FILE", zone_path, 1);
	setenv("MINUTEMAIL_MX_HOSTS", "MX.ours.example., mx2.ours.example", 1);
	pg_fixture_exec(db, "insert into domains (id, account_id, name, status, txt_token, created_at) select"
	                    " '00000000-0000-7000-8000-0000000000d1', id, 'proved.example', 'pending', 'minutemail-abcdefghijklmnop', now()"
	                    " from accounts where name = 'Home'");
	/* no record, then a wrong one of each, then both */
	assert_int_equal(run("domain verify proved.example --json"), CTL_FAILED);
	assert_non_null(strstr(errors, "has no TXT record"));
	assert_non_null(strstr(errors, "minutemail-abcdefghijklmnop"));
	assert_non_null(strstr(errors, "mx.ours.example"));
	assert_string_equal(member("status"), "pending");
	zone("proved.example. 60 IN MX 10 mx2.ours.example.\nproved.example. 60 IN MX 20 mail.elsewhere.example.\n"
	     "proved.example. 60 IN TXT \"minutemail-abcdefghijklmnop\"\n");
	assert_int_equal(run("domain verify proved.example --json"), CTL_FAILED);
	assert_non_null(strstr(errors, "mail.elsewhere.example"));
	assert_string_equal(member("txtValid"), "true");
	assert_string_equal(member("mxValid"), "false");
	zone("proved.example. 60 IN MX 10 mx2.ours.example.\nproved.example. 60 IN TXT \"minutemail-abcdefghijklmnop\"\n");
	ok("domain verify proved.example --json");
	assert_string_equal(member("status"), "verified");
	assert_string_equal(member("problem"), "null");
	assert_int_equal(count("mailboxes where address = 'postmaster@proved.example'"), 1);
	assert_int_equal(count("api_audit where route = 'domain verify' and method = 'CTL'"), 1);
	/* what it loses later is told; it stays */
	zone("");
	ok("domain verify proved.example --json");
	assert_string_equal(member("status"), "verified");
	assert_non_null(strstr(errors, "stays verified"));
	assert_int_equal(count("domains where name = 'proved.example' and mx_lost_since is not null and not mx_valid"), 1);
	refused("domain verify proved.example --mx-hosts a..b", CTL_FAILED, "a..b");
	refused("domain verify proved.example --dns-zone-file /nowhere/at/all", CTL_FAILED, "/nowhere/at/all");
	refused("domain verify minutemail.cc", CTL_FAILED, "platform's own");
	refused("domain verify nowhere.example", CTL_FAILED, "no domain \"nowhere.example\"");
	unlink(zone_path);
	unsetenv("MINUTEMAIL_DNS_ZONE_FILE");
}

/* The state of the first record of this kind at that name. */
static const char *record_state(const char *name, const char *type) {
	static char state[32];
	char head[256];
	snprintf(head, sizeof(head), "{\"name\":\"%s\",\"type\":\"%s\"", name, type);
	const char *at = strstr(output, head), *p = at ? strstr(at, "\"state\":\"") : NULL;
	if (!p)
		fail_msg("no %s in %s", head, output);
	snprintf(state, sizeof(state), "%.*s", (int)strcspn(p + 9, "\""), p + 9);
	return state;
}

static void test_domain_dns(void **state) {
	static const struct {
		const char *records, *mx, *address, *token, *sts, *reports;
		int status;
	} rows[] = {
	    {"", "missing", "missing", "missing", "missing", "missing", CTL_FAILED},
	    {"d.example. 60 IN MX 10 mx.ours.example.\nmx.ours.example. 60 IN AAAA 2001:db8::1\n"
	     "d.example. 60 IN TXT \"minutemail-abcdefghijklmnop\"\n",
	     "found", "found", "found", "missing", "missing", CTL_OK},
	    {"d.example. 60 IN MX 10 mx.ours.example.\nd.example. 60 IN MX 10 other.example.\nmx.ours.example. 60 IN A 192.0.2.1\n"
	     "d.example. 60 IN TXT \"v=spf1 -all\"\n_mta-sts.d.example. 60 IN TXT \"v=STSv1; id=a-b\"\n"
	     "_smtp._tls.d.example. 60 IN TXT \"v=TLSRPTv1; rua=ftp://d.example\"\n",
	     "wrong", "found", "wrong", "wrong", "wrong", CTL_FAILED},
	    {"d.example. 60 IN MX 0 .\n_mta-sts.d.example. 60 IN TXT \"v=STSv1; id=1;\"\n_mta-sts.d.example. 60 IN TXT \"v=STSv1; id=2;\"\n"
	     "_smtp._tls.d.example. 60 IN TXT \"v=TLSRPTv1;rua=https://d.example/\"\n",
	     "wrong", "missing", "missing", "wrong", "found", CTL_FAILED},
	    {"d.example. 60 IN MX 5 mx.ours.example.\nmx.ours.example. 60 IN A 192.0.2.1\nd.example. 60 IN TXT \"minutemail-abcdefghijklmnop\"\n"
	     "_mta-sts.d.example. 60 IN TXT \"v=STSv1; id=20260101a;\"\n_mta-sts.d.example. 60 IN TXT \"other\"\n"
	     "_smtp._tls.d.example. 60 IN TXT \"v=TLSRPTv1; rua=mailto:a@d.example\"\n",
	     "found", "found", "found", "found", "found", CTL_OK},
	};
	setenv("MINUTEMAIL_DNS_ZONE_FILE", zone_path, 1); /* the name is made by now */
	setenv("MINUTEMAIL_MX_HOSTS", "mx.ours.example", 1);
	pg_fixture_exec(db, "insert into domains (id, account_id, name, status, txt_token, created_at) select"
	                    " '00000000-0000-7000-8000-0000000000d2', id, 'd.example', 'pending', 'minutemail-abcdefghijklmnop', now()"
	                    " from accounts where name = 'Home'");
	for (size_t i = 0; i < array_len(rows); i++) {
		zone(rows[i].records);
		assert_int_equal(run("domain dns d.example --json"), rows[i].status);
		assert_string_equal(record_state("d.example", "MX"), rows[i].mx);
		assert_string_equal(record_state("mx.ours.example", "A or AAAA"), rows[i].address);
		assert_string_equal(record_state("d.example", "TXT"), rows[i].token);
		assert_string_equal(record_state("_mta-sts.d.example", "TXT"), rows[i].sts);
		assert_string_equal(record_state("_smtp._tls.d.example", "TXT"), rows[i].reports);
	}
	/* of several hosts one will do */
	zone("d.example. 60 IN MX 5 mx.ours.example.\nmx.ours.example. 60 IN A 192.0.2.1\nmx0.ours.example. 60 IN A 192.0.2.2\n"
	     "d.example. 60 IN TXT \"minutemail-abcdefghijklmnop\"\n");
	run("domain dns d.example --json --hostname vps --mx-hosts=");
	assert_non_null(strstr(errors, "\"vps\" is not a whole name"));
	ok("domain dns d.example --json --mx-hosts mx0.ours.example,mx.ours.example");
	assert_null(strstr(errors, "whole name"));
	assert_string_equal(record_state("d.example", "MX"), "missing"); /* mx0 */
	refused("domain dns d.example --certificate /dev/null", CTL_FAILED, "no certificate");
	refused("domain dns d.example --certificate /nowhere/at/all", CTL_FAILED, "cannot read /nowhere/at/all");
	refused("domain dns nowhere.example", CTL_FAILED, "no domain");
	unlink(zone_path);
	unsetenv("MINUTEMAIL_DNS_ZONE_FILE");
	pg_fixture_exec(db, "delete from domains where name = 'd.example'");
}

static void test_domain_by_word(void **state) {
	pg_fixture_exec(db, "insert into domains (id, account_id, name, status, created_at) select"
	                    " ('00000000-0000-7000-8000-0000000000e' || case name when 'Home' then '1' else '2' end)::uuid, id, 'word.example',"
	                    " 'pending', now() from accounts where name in ('Home', 'Stranger')");
	refused("domain verify word.example --by-word", CTL_FAILED, "more than one domain is named");
	ok("domain verify 00000000-0000-7000-8000-0000000000e1 --by-word --json");
	assert_string_equal(member("status"), "verified");
	assert_string_equal(member("account"), "Home");
	assert_int_equal(count("api_audit a join accounts o on o.id = a.account_id where o.name = 'Home'"
	                       " and route = 'domain verify --by-word' and user_id = '00000000-0000-0000-0000-000000000000'"),
	                 1);
	refused("domain verify word.example --by-word", CTL_FAILED, "verified already");
	refused("domain verify 00000000-0000-7000-8000-0000000000e2 --by-word", CTL_FAILED, "verified for account \"Home\"");
	refused("domain edit 00000000-0000-7000-8000-0000000000e2 --status verified", CTL_FAILED, "verified for account \"Home\"");
	/* its name means the verified one now; the other's claim is reached by its id, or by name once it is alone */
	ok("domain delete word.example");
	assert_int_equal(count("domains where name = 'word.example' and status = 'pending'"), 1);
	ok("domain verify word.example --by-word --json");
	assert_string_equal(member("account"), "Stranger");
	ok("domain delete word.example");
	assert_int_equal(count("api_audit where route = 'domain delete'"), 2);
}

static void test_platform_domain_delete(void **state) {
	ok("domain create platform.example --owner two@minutemail.cc");
	pg_fixture_exec(db, "insert into mailboxes select 1, gen_random_uuid(), u.account_id, u.id, d.id, g || '@platform.example', false, null,"
	                    " now(), null from users u, domains d, generate_series(1, 120) g"
	                    " where u.email = 'two@minutemail.cc' and d.name = 'platform.example'");
	pg_fixture_exec(db, "insert into account_mailboxes select account_id, id, user_id, bucket, domain_id, false, null from mailboxes"
	                    " where address ~ '^[0-9]+@platform.example'");
	pg_fixture_exec(db, "insert into messages (bucket, id, mailbox_id, received_at, expiry_hour, mail_from, rcpt_to, helo, trace, to_list, cc_list,"
	                    " reply_to_list, size, digest, parts, warnings, injected, user_id) select bucket, gen_random_uuid(), id, now(), 2147483647,"
	                    " '', '', '', '', '[]', '[]', '[]', 1, '', '', '[]', false, user_id from mailboxes where address = '7@platform.example'");
	pg_fixture_exec(db, "delete from domain_leftovers");
	ok("domain delete platform.example");
	assert_int_equal(count("mailboxes where address like '%%@platform.example'"), 0);
	assert_int_equal(count("account_mailboxes l where not exists (select from domains d where d.id = l.domain_id)"), 0);
	assert_int_equal(count("messages"), 0);
	assert_int_equal(count("domain_leftovers l join users u on u.account_id = l.account_id where u.email = 'two@minutemail.cc'"), 1);
}

static void test_deletions(void **state) {
	pg_fixture_exec(
	    db,
	    "insert into mailboxes select 1, gen_random_uuid(), u.account_id, u.id, d.id, 'a@shop.example', false, null,"
	    " now(), null from users u, domains d where u.email = 'two@minutemail.cc' and d.name = 'shop.example'");
	pg_fixture_exec(
	    db,
	    "insert into account_mailboxes select account_id, id, user_id, bucket, domain_id, false, null from mailboxes"
	    " where address = 'a@shop.example'");
	ok("domain delete shop.example");
	assert_int_equal(count("mailboxes where address like '%%shop.example'"), 0);
	assert_int_equal(count("account_mailboxes l where not exists (select from mailboxes b where b.id = l.mailbox_id)"),
	                 0);
	/* the postmaster goes over to who is left */
	ok("user delete me@minutemail.cc --json");
	assert_int_equal(count("api_keys"), 0);
	assert_int_equal(
	    count("mailboxes b join users u on u.id = b.user_id where b.address = 'postmaster@minutemail.cc' and"
	          " u.email = 'two@minutemail.cc'"),
	    1);
	ok("account delete Home");
	assert_non_null(strstr(errors, "no postmaster"));
	assert_int_equal(count("users"), 0);
	assert_int_equal(count("mailboxes"), 0);
	assert_int_equal(count("account_mailboxes"), 0);
	refused("account delete Home", CTL_FAILED, "no account");
}

static void test_plans(void **state) {
	ok("plan edit pro --calls-per-day 123 --custom-domains none --json");
	assert_string_equal(member("callsPerDay"), "123");
	assert_string_equal(member("customDomains"), "null");
	refused("plan edit pro --members -1", CTL_FAILED, "--members");
	refused("plan edit pro --members 9999999999", CTL_FAILED, "--members");
	refused("plan edit nothing --members 1", CTL_FAILED, "no plan");
	ok("plan list");
	assert_non_null(strstr(output, "CALLS/DAY"));
}

static void test_usage(void **state) {
	static const struct {
		const char *line, *why;
	} rows[] = {
	    {"", "which command"},
	    {"nothing", "no such command"},
	    {"key", "no such command: key"},
	    {"key nothing", "key create"},
	    {"account create", "something is missing"},
	    {"account create a b", "unexpected \"b\""},
	    {"account create a b c", "unexpected \"c\""},
	    {"account list --plan x", "does not belong"},
	    {"account create x --plan", "needs a value"},
	    {"account list --json=yes", "takes no value"},
	    {"account list --frobnicate", "unknown option --frobnicate"},
	    {"user create a@b.example --account x --role king", "--role"},
	    {"domain edit x.example", "--status"},
	};
	for (size_t i = 0; i < array_len(rows); i++)
		refused(rows[i].line, CTL_USAGE, rows[i].why);
	ok("--help");
	assert_non_null(strstr(output, "key regenerate KEY"));
	for (const char *const *line = (const char *const[]){"account create --help", "account -h", "help account", NULL}; *line; line++) {
		ok(*line);
		assert_non_null(strstr(output, "account delete ACCOUNT"));
		assert_null(strstr(output, "key regenerate KEY"));
	}
	ok("--version");
	refused("account list --database host=/nowhere/at/all", CTL_FAILED, "database:");
}

static void test_expiry(void **state) {
	const int64_t now = 1795533314000000; /* 2026-11-24T15:15:14Z */
	static const struct {
		const char *text;
		bool good;
		int64_t want;
	} rows[] = {
	    {"never", true, INT64_MAX},
	    {"1m", true, 1795533374000000},
	    {"90d", true, 1803309314000000},
	    {"2w", true, 1796742914000000},
	    {"2026-11-24T15:15:15Z", true, 1795533315000000},
	    {"2026-11-24t15:15:15z", true, 1795533315000000},
	    {"2026-11-24T17:15:15.5+02:00", true, 1795533315500000},
	    {"2028-02-29T00:00:00Z", true, 1835395200000000},
	    {"2027-02-29T00:00:00Z", false, 0},
	    {"2026-11-24T15:15:14Z", false, 0},
	    {"2026-11-24", false, 0},
	    {"2026-11-24T15:15:15", false, 0},
	    {"2026-11-24 15:15:15Z", false, 0},
	    {"2026-13-24T15:15:15Z", false, 0},
	    {"0d", false, 0},
	    {"d", false, 0},
	    {"90", false, 0},
	    {"90dd", false, 0},
	    {"-1d", false, 0},
	    {"9999999d", false, 0},
	    {"999999y", false, 0},
	    {"", false, 0},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		int64_t got = 0;
		if (ctl_parse_expiry(rows[i].text, now, &got) != rows[i].good)
			fail_msg("%s", rows[i].text);
		if (rows[i].good && got != rows[i].want)
			fail_msg("%s: %lld", rows[i].text, (long long)got);
	}
}

static int setup(void **state) {
	db = pg_fixture_new(NULL);
	char migrations[PATH_MAX];
	const char *root = getenv("MINUTEMAIL_SOURCE_ROOT");
	const char *self = strstr(__FILE__, "tests/unit/");
	snprintf(migrations, sizeof(migrations), "%.*s%ssql/migrations", root ? (int)strlen(root) : (int)(self - __FILE__),
	         root ? root : __FILE__, root ? "/" : "");
	setenv("MINUTEMAIL_MIGRATIONS", migrations, 1);
	setenv("MINUTEMAIL_KEY_SECRET", SECRET, 1);
	setenv("MINUTEMAIL_CTL_DATABASE", pg_fixture_conninfo(db, NULL), 1);
	unsetenv("MINUTEMAIL_ENVIRONMENT");
	return 0;
}

static int teardown(void **state) {
	pg_fixture_free(db);
	return 0;
}

int main(void) {
	const struct CMUnitTest tests[] = {
	    /* one after another: each goes on with what the one before left */
	    cmocka_unit_test(test_usage),
	    cmocka_unit_test(test_expiry),
	    cmocka_unit_test(test_migrate),
	    cmocka_unit_test(test_migrate_wants_utf8),
	    cmocka_unit_test(test_migrate_failures),
	    cmocka_unit_test(test_domain_before_anybody),
	    cmocka_unit_test(test_account_and_user),
	    cmocka_unit_test(test_keys),
	    cmocka_unit_test(test_key_changes),
	    cmocka_unit_test(test_no_secret),
	    cmocka_unit_test(test_ambiguous_name),
	    cmocka_unit_test(test_notice),
	    cmocka_unit_test(test_domain_verify),
	    cmocka_unit_test(test_domain_dns),
	    cmocka_unit_test(test_domain_by_word),
	    cmocka_unit_test(test_platform_domain_delete),
	    cmocka_unit_test(test_deletions),
	    cmocka_unit_test(test_plans),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
