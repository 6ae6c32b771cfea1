/* minutemailctl, the operator's tool: private to deploy/ctl_*.c. Synchronous: one command, one connection as the
 * schema's owner, one answer. Data goes to `out` (a table for people, one JSON document with --json), everything
 * else to `err`.
 *
 * A command returns its exit status: 0 done, 1 failed (said on err), 2 wrong usage. Functions that return bool have
 * said why on err when they return false. */
#ifndef MINUTEMAIL_CTL_H
#define MINUTEMAIL_CTL_H

#include "common/base.h"
#include "common/id.h"
#include "common/keys_sync.h"

#include <libpq-fe.h>
#include <stdio.h>

#define CTL_OK 0
#define CTL_FAILED 1
#define CTL_USAGE 2

struct ctl_settings {
	char *database, *environment, *key_secret, *migrations;
	char *hostname, *mx_hosts, *dns_servers, *dns_zone_file; /* for domain verify and domain dns */
};

struct ctl_option {
	const char *name;
	const char *value; /* NULL: a flag */
};

struct ctl {
	FILE *out, *err;
	struct ctl_settings settings;
	bool json;
	int64_t now; /* wall, of the whole command */
	PGconn *db;
	const struct ctl_command *command;
	const char *words[2]; /* positional arguments */
	struct ctl_option *options;
	unsigned option_count;
};

struct ctl_command {
	const char *object, *verb; /* verb NULL: a command of one word */
	unsigned words;            /* positional arguments, all required */
	const char *options;       /* "plan= domain= if-missing": '=' takes a value */
	const char *usage, *help;
	bool any_schema; /* works on a database of another schema version */
	int (*run)(struct ctl *);
};
extern const struct ctl_command CTL_COMMANDS[]; /* ends with a row whose object is NULL */

/* ctl_command.c. argv as main() has it. */
int ctl_run(int argc, char **argv, FILE *out, FILE *err);
const char *ctl_option(const struct ctl *, const char *name); /* NULL: not given; the last one wins */
bool ctl_flag(const struct ctl *, const char *name);
/* All values of an option, commas split; NULL-terminated, one allocation to free(); empty when not given. */
char **ctl_option_list(const struct ctl *, const char *name);
void ctl_error(struct ctl *, const char *fmt, ...) printf_like(2, 3);
void ctl_note(struct ctl *, const char *fmt, ...) printf_like(2, 3);

/* ctl_db.c */
bool ctl_connect(struct ctl *);
static inline void ctl_clearp(PGresult **res) {
	PQclear(*res);
}
#define CTL_MOST_PARAMS 12
/* Text parameters up to a NULL pointer's place: `n` of them, each may be NULL for SQL NULL. NULL result: said. */
PGresult *ctl_query(struct ctl *, const char *sql, unsigned n, const char *const *params);
bool ctl_exec(struct ctl *, const char *sql, unsigned n, const char *const *params);
bool ctl_begin(struct ctl *);
bool ctl_commit(struct ctl *);
void ctl_rollback(struct ctl *);
/* A change that keys depend on: begin, the statements, then commit, which returns when no worker uses what it had
 * cached. */
bool ctl_change_begin(struct ctl *, struct keys_sync *);
bool ctl_change_commit(struct ctl *, struct keys_sync *, const char *key_id); /* NULL: all keys */
/* By id, or by name where that is unique. */
enum ctl_kind { CTL_ACCOUNT, CTL_USER, CTL_DOMAIN, CTL_KEY };
bool ctl_resolve(struct ctl *, enum ctl_kind, const char *text, char ret_id[ID_TEXT_SIZE]);
void ctl_new_id(struct ctl *, char ret[ID_TEXT_SIZE]);
const char *ctl_now(const struct ctl *, char ret[32]); /* as timestamptz text */
void ctl_time_text(int64_t wall_us, char ret[32]);
/* 90d, 12h, 30m from now, an RFC 3339 instant, or "never" (INT64_MAX); false: neither, or past. Says nothing. */
bool ctl_parse_expiry(const char *text, int64_t now, int64_t *ret);

/* ctl_output.c */
enum ctl_cell { CTL_TEXT, CTL_INT, CTL_BOOL, CTL_TIME /* epoch microseconds */, CTL_LIST /* comma separated */ };
struct ctl_column {
	const char *name, *title; /* in JSON; in a table's head */
	enum ctl_cell type;
};
#define CTL_EPOCH(column) "(extract(epoch from " column ") * 1000000)::bigint"
/* {"items":[…]}, or a table. Columns in the order of the result's. */
int ctl_print_list(struct ctl *, const struct ctl_column *, unsigned n, const PGresult *);
/* One object, or lines "title: value". `secret_name` NULL: none; else one more member, first. */
int ctl_print_one(struct ctl *, const struct ctl_column *, unsigned n, const PGresult *, const char *secret_name,
                  const char *secret);
/* {"id":…,"NAME":true}, or the sentence. */
int ctl_print_done(struct ctl *, const char *id, const char *name, const char *fmt, ...) printf_like(4, 5);

/* ctl_dns.c */
#define CTL_DNS_WITHIN_US 10000000LL /* how long a question to the DNS may take */
struct dns;
struct loop;
/* The names that MX records must have: canonical, NULL-terminated, at least one, one allocation to free(). NULL: said. */
char **ctl_mx_hosts(struct ctl *);
/* As apid is configured. To dns_free(). NULL: said. */
struct dns *ctl_dns_open(struct ctl *, struct loop *);

/* The commands. */
int ctl_migrate(struct ctl *);
int ctl_status(struct ctl *);
int ctl_plan_list(struct ctl *);
int ctl_plan_edit(struct ctl *);
int ctl_account_create(struct ctl *);
int ctl_account_list(struct ctl *);
int ctl_account_edit(struct ctl *);
int ctl_account_delete(struct ctl *);
int ctl_user_create(struct ctl *);
int ctl_user_list(struct ctl *);
int ctl_user_edit(struct ctl *);
int ctl_user_delete(struct ctl *);
int ctl_user_password(struct ctl *);
int ctl_user_reset(struct ctl *);
int ctl_session_list(struct ctl *);
int ctl_session_end(struct ctl *);
int ctl_invitation_create(struct ctl *);
int ctl_invitation_list(struct ctl *);
int ctl_invitation_delete(struct ctl *);
int ctl_domain_create(struct ctl *);
int ctl_domain_list(struct ctl *);
int ctl_domain_edit(struct ctl *);
int ctl_domain_verify(struct ctl *);
int ctl_domain_dns(struct ctl *);
int ctl_domain_delete(struct ctl *);
int ctl_key_create(struct ctl *);
int ctl_key_list(struct ctl *);
int ctl_key_edit(struct ctl *);
int ctl_key_domains(struct ctl *);
int ctl_key_regenerate(struct ctl *);
int ctl_key_revoke(struct ctl *);
int ctl_key_delete(struct ctl *);

/* ctl_domains.c: every verified domain has its permanent mailbox postmaster@ (RFC 5321 4.5.1), owned by a user:
 * `owner_id`, or (NULL) the oldest one of the domain's account, or of all for a platform domain. Makes those that
 * are missing, inside the caller's transaction. *ret_missing: domains left without, for want of a user. */
bool ctl_postmasters(struct ctl *, const char *domain_id, const char *owner_id, unsigned *ret_missing);

/* ctl_domains.c, for ctl_domain_verify.c. `problem`: of the proof, in words, or NULL. */
int ctl_print_domain(struct ctl *, const char *id, const char *problem);
/* Status, postmaster's mailbox and the account's audit log, in one change that every worker knows of. */
bool ctl_domain_set_status(struct ctl *, const char *id, const char *status, const char *audited_as);

#endif
