/* Plans and accounts. An account's mail data has no foreign keys to it (it lives on other nodes in a cluster), so
 * deleting one deletes its mailboxes here; the messages in them are out of reach at once and swept by the janitor. */
#include "deploy/ctl.h"

/* ---- plans ---- */

static const struct {
	const char *option, *column;
} LIMITS[] = {
    {"calls-per-day", "calls_per_day"},       {"requests-per-minute", "requests_per_minute"},
    {"active-mailboxes", "active_mailboxes"}, {"archived-mailboxes", "archived_mailboxes"},
    {"custom-domains", "custom_domains"},     {"members", "members"},
};

static const struct ctl_column PLAN_COLUMNS[] = {
    {"name", "NAME", CTL_TEXT},
    {"callsPerDay", "CALLS/DAY", CTL_INT},
    {"requestsPerMinute", "REQUESTS/MIN", CTL_INT},
    {"activeMailboxes", "ACTIVE", CTL_INT},
    {"archivedMailboxes", "ARCHIVED", CTL_INT},
    {"customDomains", "DOMAINS", CTL_INT},
    {"members", "MEMBERS", CTL_INT},
};
#define PLAN_SELECT                                                                                                    \
	"select name, calls_per_day, requests_per_minute, active_mailboxes, archived_mailboxes, custom_domains, members "  \
	"from plans"

int ctl_plan_list(struct ctl *ctl) {
	cleanup(ctl_clearp) PGresult *res = ctl_query(ctl, PLAN_SELECT " order by calls_per_day nulls last, name", 0, NULL);
	return res ? ctl_print_list(ctl, PLAN_COLUMNS, array_len(PLAN_COLUMNS), res) : CTL_FAILED;
}

static bool edit_limit(struct ctl *ctl, const char *plan, const char *option, const char *column) {
	const char *value = ctl_option(ctl, option);
	if (!value)
		return true;
	bool none = strcmp(value, "none") == 0;
	if (!none && (!*value || strlen(value) > 9 || value[strspn(value, "0123456789")])) {
		ctl_error(ctl, "--%s is a number up to 999999999, or none for no limit", option);
		return false;
	}
	char *sql = xasprintf("update plans set %s = $2::bigint where name = $1", column);
	const char *params[] = {plan, none ? NULL : value};
	bool ok = ctl_exec(ctl, sql, 2, params);
	free(sql);
	return ok;
}

/* What keys' principals carry of their plan is cached by workers, so this is a change like any other. */
int ctl_plan_edit(struct ctl *ctl) {
	struct keys_sync ks;
	const char *plan = ctl->words[0];
	if (!ctl_change_begin(ctl, &ks))
		return CTL_FAILED;
	for (size_t i = 0; i < array_len(LIMITS); i++) {
		if (!edit_limit(ctl, plan, LIMITS[i].option, LIMITS[i].column))
			return CTL_FAILED;
	}
	cleanup(ctl_clearp) PGresult *res = ctl_query(ctl, PLAN_SELECT " where name = $1", 1, &plan);
	if (!res)
		return CTL_FAILED;
	if (PQntuples(res) == 0) {
		ctl_error(ctl, "no plan \"%s\"", plan);
		return CTL_FAILED;
	}
	if (!ctl_change_commit(ctl, &ks, NULL))
		return CTL_FAILED;
	return ctl_print_one(ctl, PLAN_COLUMNS, array_len(PLAN_COLUMNS), res, NULL, NULL);
}

/* ---- accounts ---- */

static const struct ctl_column ACCOUNT_COLUMNS[] = {
    {"id", "ID", CTL_TEXT},       {"name", "NAME", CTL_TEXT},         {"plan", "PLAN", CTL_TEXT},
    {"state", "STATE", CTL_TEXT}, {"users", "USERS", CTL_INT},        {"domains", "DOMAINS", CTL_INT},
    {"keys", "KEYS", CTL_INT},    {"createdAt", "CREATED", CTL_TIME},
};
#define ACCOUNT_SELECT                                                                                                 \
	"select a.id, a.name, a.plan, a.state, (select count(*) from users u where u.account_id = a.id),"                  \
	" (select count(*) from domains d where d.account_id = a.id), (select count(*) from api_keys k where "             \
	"k.account_id = a.id),"                                                                                            \
	" " CTL_EPOCH("a.created_at") " from accounts a"

static int print_account(struct ctl *ctl, const char *id) {
	cleanup(ctl_clearp) PGresult *res = ctl_query(ctl, ACCOUNT_SELECT " where a.id = $1::uuid", 1, &id);
	return res ? ctl_print_one(ctl, ACCOUNT_COLUMNS, array_len(ACCOUNT_COLUMNS), res, NULL, NULL) : CTL_FAILED;
}

static bool name_fits(struct ctl *ctl, const char *name) {
	if (*name && strlen(name) <= 200)
		return true;
	ctl_error(ctl, "a name has 1 to 200 octets");
	return false;
}

static bool plan_exists(struct ctl *ctl, const char *plan) {
	cleanup(ctl_clearp) PGresult *res = ctl_query(ctl, "select from plans where name = $1", 1, &plan);
	if (res && PQntuples(res) == 0)
		ctl_error(ctl, "no plan \"%s\"; minutemailctl plan list shows them", plan);
	return res && PQntuples(res) == 1;
}

/* Names are how people tell accounts apart, so a new one is not given twice. 1: taken, by *ret_id; 0: free; -1:
 * said. */
static int name_taken(struct ctl *ctl, const char *name, char ret_id[ID_TEXT_SIZE]) {
	cleanup(ctl_clearp) PGresult *res =
	    ctl_query(ctl, "select id from accounts where name = $1 order by id limit 1", 1, &name);
	if (!res)
		return -1;
	if (PQntuples(res) == 1)
		snprintf(ret_id, ID_TEXT_SIZE, "%s", PQgetvalue(res, 0, 0));
	return PQntuples(res);
}

int ctl_account_create(struct ctl *ctl) {
	const char *name = ctl->words[0], *plan = ctl_option(ctl, "plan");
	char id[ID_TEXT_SIZE], now[32];
	if (!plan)
		plan = "free";
	if (!name_fits(ctl, name) || !plan_exists(ctl, plan))
		return CTL_FAILED;
	int taken = name_taken(ctl, name, id);
	if (taken < 0)
		return CTL_FAILED;
	if (taken && ctl_flag(ctl, "if-missing"))
		return print_account(ctl, id);
	if (taken) {
		ctl_error(ctl, "there is an account \"%s\" already (%s)", name, id);
		return CTL_FAILED;
	}
	ctl_new_id(ctl, id);
	const char *params[] = {id, name, plan, ctl_now(ctl, now)};
	if (!ctl_exec(ctl,
	              "insert into accounts (id, name, plan, state, created_at) values ($1::uuid, $2, $3, 'active', "
	              "$4::timestamptz)",
	              4, params))
		return CTL_FAILED;
	return print_account(ctl, id);
}

int ctl_account_list(struct ctl *ctl) {
	cleanup(ctl_clearp) PGresult *res = ctl_query(ctl, ACCOUNT_SELECT " order by a.id", 0, NULL);
	return res ? ctl_print_list(ctl, ACCOUNT_COLUMNS, array_len(ACCOUNT_COLUMNS), res) : CTL_FAILED;
}

int ctl_account_edit(struct ctl *ctl) {
	const char *name = ctl_option(ctl, "name"), *plan = ctl_option(ctl, "plan"), *state = ctl_option(ctl, "state");
	char id[ID_TEXT_SIZE], other[ID_TEXT_SIZE];
	struct keys_sync ks;
	if (!ctl_resolve(ctl, CTL_ACCOUNT, ctl->words[0], id) || (name && !name_fits(ctl, name)) ||
	    (plan && !plan_exists(ctl, plan)))
		return CTL_FAILED;
	if (state && strcmp(state, "active") != 0 && strcmp(state, "suspended") != 0) {
		ctl_error(ctl, "--state is active or suspended");
		return CTL_USAGE;
	}
	int taken = name ? name_taken(ctl, name, other) : 0;
	if (taken > 0 && strcmp(other, id) != 0)
		ctl_error(ctl, "there is an account \"%s\" already (%s)", name, other);
	if (taken < 0 || (taken > 0 && strcmp(other, id) != 0))
		return CTL_FAILED;
	const char *params[] = {id, name, plan, state};
	if (!ctl_change_begin(ctl, &ks) ||
	    !ctl_exec(
	        ctl,
	        "update accounts set name = coalesce($2, name), plan = coalesce($3, plan), state = coalesce($4, state)"
	        " where id = $1::uuid",
	        4, params) ||
	    !ctl_change_commit(ctl, &ks, NULL))
		return CTL_FAILED;
	return print_account(ctl, id);
}

int ctl_account_delete(struct ctl *ctl) {
	char id[ID_TEXT_SIZE];
	const char *param = id;
	struct keys_sync ks;
	unsigned missing = 0;
	if (!ctl_resolve(ctl, CTL_ACCOUNT, ctl->words[0], id) || !ctl_change_begin(ctl, &ks) ||
	    !ctl_exec(ctl, "delete from accounts where id = $1::uuid", 1, &param) ||
	    !ctl_exec(ctl, "delete from account_mailboxes where account_id = $1::uuid", 1, &param) ||
	    !ctl_exec(ctl, "delete from mailboxes where account_id = $1::uuid", 1, &param) ||
	    !ctl_postmasters(ctl, NULL, NULL, &missing) || !ctl_change_commit(ctl, &ks, NULL))
		return CTL_FAILED;
	if (missing)
		ctl_note(ctl, "%u domain(s) have no postmaster mailbox until there is a user to own it", missing);
	return ctl_print_done(ctl, id, "deleted", "Deleted account %s.", ctl->words[0]);
}
