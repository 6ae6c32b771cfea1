/* Domains that receive mail, and their postmaster mailboxes. What is made here is verified on the operator's word; the DNS is asked
 * in ctl_domain_verify.c. What an operator does to an account's domain stands in its audit log. */
#include "deploy/ctl.h"

#include "common/address.h"

/* A list has the first of these columns, one domain all of them. The DNS proves nothing of a platform's domain. */
static const struct ctl_column DOMAIN_COLUMNS[] = {
    {"id", "ID", CTL_TEXT},
    {"name", "NAME", CTL_TEXT},
    {"status", "STATUS", CTL_TEXT},
    {"account", "ACCOUNT", CTL_TEXT},
    {"accountId", "ACCOUNT ID", CTL_TEXT},
    {"keys", "KEYS", CTL_INT},
    {"createdAt", "CREATED", CTL_TIME},
    {"txtValid", "TXT", CTL_BOOL},
    {"mxValid", "MX", CTL_BOOL},
    {"mxLostSince", "MX LOST SINCE", CTL_TIME},
    {"txtToken", "TXT TOKEN", CTL_TEXT},
    {"problem", "PROBLEM", CTL_TEXT},
};
#define LIST_COLUMNS 9
#define DOMAIN_SELECT                                                                                                  \
	"select d.id, d.name, d.status, a.name, a.id, (select count(*) from api_key_domains k where k.domain_id = d.id),"  \
	" " CTL_EPOCH("d.created_at") ", case when a.id is not null then d.txt_valid end,"                                 \
	" case when a.id is not null then d.mx_valid end, " CTL_EPOCH("d.mx_lost_since") ", d.txt_token, $1::text"         \
	" from domains d left join accounts a on a.id = d.account_id"

int ctl_print_domain(struct ctl *ctl, const char *id, const char *problem) {
	const char *params[] = {problem, id};
	cleanup(ctl_clearp) PGresult *res = ctl_query(ctl, DOMAIN_SELECT " where d.id = $2::uuid", 2, params);
	return res ? ctl_print_one(ctl, DOMAIN_COLUMNS, array_len(DOMAIN_COLUMNS), res, NULL, NULL) : CTL_FAILED;
}

/* Nobody's user: what api_audit and apid's api_audit.c know the operator by. */
#define CTL_OPERATOR "00000000-0000-0000-0000-000000000000"

/* One more entry, `what` the command, in the log of the account whose domain it is; inside the caller's transaction. The platform's
 * domains have no account that could read it. */
static bool audit(struct ctl *ctl, const char *domain_id, const char *what) {
	char id[ID_TEXT_SIZE], now[32];
	ctl_new_id(ctl, id);
	const char *params[] = {domain_id, id, ctl_now(ctl, now), what};
	return ctl_exec(ctl,
	                "insert into api_audit (account_id, id, at, user_id, method, route, status, request_id)"
	                " select account_id, $2::uuid, $3::timestamptz, '" CTL_OPERATOR "', 'CTL', $4, 200, 'minutemailctl'"
	                " from domains where id = $1::uuid and account_id is not null",
	                4, params);
}

/* ---- postmaster ---- */

/* Made in the address's bucket, permanent, and in its owner's list, as apid makes mailboxes. */
static bool insert_postmaster(struct ctl *ctl, const char *domain_id, const char *address, const char *bucket,
                              const char *user, const char *account) {
	struct id id;
	char id_text[ID_TEXT_SIZE], now[32];
	id_make_in_bucket(&id, ctl->now, (unsigned)atoi(bucket));
	id_format(&id, id_text);
	const char *box[] = {bucket, id_text, account, user, domain_id, address, ctl_now(ctl, now)};
	const char *line[] = {account, id_text, user, bucket, domain_id};
	return ctl_exec(
	           ctl,
	           "insert into mailboxes (bucket, id, account_id, user_id, domain_id, address, recoverable, created_at)"
	           " values ($1::smallint, $2::uuid, $3::uuid, $4::uuid, $5::uuid, $6, false, $7::timestamptz)",
	           7, box) &&
	       ctl_exec(ctl,
	                "insert into account_mailboxes (account_id, mailbox_id, user_id, bucket, domain_id, recoverable)"
	                " values ($1::uuid, $2::uuid, $3::uuid, $4::smallint, $5::uuid, false)",
	                5, line);
}

/* What stands at the address and has expired, or is of a domain that is gone, makes room; what is live stays. False: said. */
static bool address_free(struct ctl *ctl, const char *bucket, const char *address, const char *user, bool *ret_free) {
	char now[32];
	const char *params[] = {bucket, address, ctl_now(ctl, now), user};
	if (!ctl_exec(ctl, "select mailbox_make_room($1::smallint, $2, $3::timestamptz, $4::uuid)", 4, params))
		return false;
	cleanup(ctl_clearp) PGresult *res =
	    ctl_query(ctl, "select from mailboxes where bucket = $1::smallint and address = $2", 2, params);
	if (res)
		*ret_free = PQntuples(res) == 0;
	return res != NULL;
}

static bool one_postmaster(struct ctl *ctl, const char *domain_id, const char *name, const char *user,
                           const char *account, unsigned *missing) {
	char *address = xasprintf("postmaster@%s", name), bucket[8];
	bool is_free = false;
	snprintf(bucket, sizeof(bucket), "%u", id_bucket_of_address(address, strlen(address)));
	bool ok = address_free(ctl, bucket, address, user, &is_free);
	if (ok && is_free && user)
		ok = insert_postmaster(ctl, domain_id, address, bucket, user, account);
	else if (ok && is_free)
		++*missing;
	free(address);
	return ok;
}

bool ctl_postmasters(struct ctl *ctl, const char *domain_id, const char *owner_id, unsigned *ret_missing) {
	const char *params[] = {domain_id, owner_id};
	*ret_missing = 0;
	cleanup(ctl_clearp) PGresult *res =
	    ctl_query(ctl,
	              "select d.id, d.name, u.id, u.account_id from domains d left join lateral ("
	              " select id, account_id from users where case when $2::uuid is not null then id = $2::uuid"
	              " else d.account_id is null or account_id = d.account_id end order by id limit 1"
	              ") u on true where d.status = 'verified' and ($1::uuid is null or d.id = $1::uuid) order by d.id",
	              2, params);
	if (!res)
		return false;
	for (int r = 0; r < PQntuples(res); r++) {
		const char *user = PQgetisnull(res, r, 2) ? NULL : PQgetvalue(res, r, 2);
		if (!one_postmaster(ctl, PQgetvalue(res, r, 0), PQgetvalue(res, r, 1), user, PQgetvalue(res, r, 3),
		                    ret_missing))
			return false;
	}
	return true;
}

/* ---- commands ---- */

/* The existing domain of that name that stands in the way (verified, or the same account's). 1: *ret_id; 0: none;
 * -1: said. */
static int find_taken(struct ctl *ctl, const char *name, const char *account, char ret_id[ID_TEXT_SIZE],
                      bool *ret_same) {
	const char *params[] = {name, account};
	cleanup(ctl_clearp) PGresult *res =
	    ctl_query(ctl,
	              "select id, status = 'verified' and account_id is not distinct from $2::uuid"
	              " from domains where name = $1 and (status = 'verified' or"
	              " account_id is not distinct from $2::uuid) order by status = 'verified' desc limit 1",
	              2, params);
	if (!res)
		return -1;
	if (PQntuples(res) == 1) {
		snprintf(ret_id, ID_TEXT_SIZE, "%s", PQgetvalue(res, 0, 0));
		*ret_same = *PQgetvalue(res, 0, 1) == 't';
	}
	return PQntuples(res);
}

static bool insert_domain(struct ctl *ctl, const char *id, const char *name, const char *account) {
	char now[32];
	const char *params[] = {id, account, name, ctl_now(ctl, now)};
	return ctl_exec(ctl,
	                "insert into domains (id, account_id, name, status, created_at)"
	                " values ($1::uuid, $2::uuid, $3, 'verified', $4::timestamptz)",
	                4, params);
}

/* Inserts unless it is there and that is fine; then the postmaster. */
static int create(struct ctl *ctl, const char *name, const char *account, const char *owner) {
	struct keys_sync ks;
	char id[ID_TEXT_SIZE];
	bool same = false;
	unsigned missing;
	int taken = find_taken(ctl, name, account, id, &same);
	if (taken < 0)
		return CTL_FAILED;
	if (taken && !(same && ctl_flag(ctl, "if-missing"))) {
		ctl_error(ctl,
		          same ? "there is a domain %s already (%s)"
		               : "domain %s is there already, pending or another owner's (%s)",
		          name, id);
		return CTL_FAILED;
	}
	if (!taken)
		ctl_new_id(ctl, id);
	/* Sessions cover every domain of the platform and of their account: theirs are read again. */
	if (!ctl_change_begin(ctl, &ks) || (!taken && !insert_domain(ctl, id, name, account)) ||
	    !ctl_postmasters(ctl, id, owner, &missing) || !ctl_change_commit(ctl, &ks, account))
		return CTL_FAILED;
	if (missing)
		ctl_note(ctl, "there is no user yet to own postmaster@%s; the first one created will", name);
	return ctl_print_domain(ctl, id, NULL);
}

int ctl_domain_create(struct ctl *ctl) {
	char name[ADDRESS_DOMAIN_MAX + 1], account[ID_TEXT_SIZE], owner[ID_TEXT_SIZE];
	const char *given_account = ctl_option(ctl, "account"), *given_owner = ctl_option(ctl, "owner");
	if (address_canonical_domain(ctl->words[0], strlen(ctl->words[0]), name) < 0) {
		ctl_error(ctl, "\"%s\" is not a domain name", ctl->words[0]);
		return CTL_FAILED;
	}
	if ((given_account && !ctl_resolve(ctl, CTL_ACCOUNT, given_account, account)) ||
	    (given_owner && !ctl_resolve(ctl, CTL_USER, given_owner, owner)))
		return CTL_FAILED;
	return create(ctl, name, given_account ? account : NULL, given_owner ? owner : NULL);
}

int ctl_domain_list(struct ctl *ctl) {
	char account[ID_TEXT_SIZE];
	const char *params[] = {NULL, NULL};
	if (ctl_option(ctl, "account")) {
		if (!ctl_resolve(ctl, CTL_ACCOUNT, ctl_option(ctl, "account"), account))
			return CTL_FAILED;
		params[1] = account;
	}
	cleanup(ctl_clearp) PGresult *res = ctl_query(ctl,
	                                              DOMAIN_SELECT " where $2::uuid is null or d.account_id = $2::uuid"
	                                                            " order by d.account_id is not null, d.id",
	                                              2, params);
	return res ? ctl_print_list(ctl, DOMAIN_COLUMNS, LIST_COLUMNS, res) : CTL_FAILED;
}

/* Another domain that is verified under this one's name; *ret_free: there is none. False: said. */
static bool name_free(struct ctl *ctl, const char *id, bool *ret_free) {
	cleanup(ctl_clearp) PGresult *res = ctl_query(ctl,
	                                              "select o.name, o.id, coalesce('account \"' || a.name || '\"', 'the platform')"
	                                              " from domains d join domains o on o.name = d.name and o.id <> d.id"
	                                              " left join accounts a on a.id = o.account_id"
	                                              " where d.id = $1::uuid and o.status = 'verified'",
	                                              1, &id);
	if (!res)
		return false;
	*ret_free = PQntuples(res) == 0;
	if (!*ret_free)
		ctl_error(ctl, "%s is verified for %s already (%s)", PQgetvalue(res, 0, 0), PQgetvalue(res, 0, 2), PQgetvalue(res, 0, 1));
	return true;
}

bool ctl_domain_set_status(struct ctl *ctl, const char *id, const char *status, const char *audited_as) {
	const char *params[] = {id, status};
	struct keys_sync ks;
	unsigned missing = 0;
	bool is_free = true;
	if (strcmp(status, "verified") == 0 && (!name_free(ctl, id, &is_free) || !is_free))
		return false;
	if (!ctl_change_begin(ctl, &ks) ||
	    !ctl_exec(ctl, "update domains set status = $2, check_at = null where id = $1::uuid", 2, params) ||
	    !ctl_postmasters(ctl, id, NULL, &missing) || !audit(ctl, id, audited_as) ||
	    !ctl_change_commit(ctl, &ks, NULL))
		return false;
	if (missing)
		ctl_note(ctl, "there is no user yet to own its postmaster mailbox; the first one created will");
	return true;
}

int ctl_domain_edit(struct ctl *ctl) {
	char id[ID_TEXT_SIZE];
	const char *status = ctl_option(ctl, "status");
	if (!status || (strcmp(status, "verified") != 0 && strcmp(status, "pending") != 0)) {
		ctl_error(ctl, "--status is verified or pending");
		return CTL_USAGE;
	}
	if (!ctl_resolve(ctl, CTL_DOMAIN, ctl->words[0], id) ||
	    !ctl_domain_set_status(ctl, id, status,
	                           *status == 'v' ? "domain edit --status verified" : "domain edit --status pending"))
		return CTL_FAILED;
	return ctl_print_domain(ctl, id, NULL);
}

/* ---- giving up ---- */

/* A key whose only domain it was is left without any: it can do nothing until it is given another. */
static void note_bare_keys(struct ctl *ctl) {
	cleanup(ctl_clearp) PGresult *res = ctl_query(ctl,
	                                              "select name, last8 from api_keys k where not exists"
	                                              " (select from api_key_domains d where d.key_id = k.id) order by id",
	                                              0, NULL);
	for (int r = 0; res && r < PQntuples(res); r++)
		ctl_note(ctl, "key \"%s\" (…%s) has no domain left", PQgetvalue(res, r, 0), PQgetvalue(res, r, 1));
}

#define PURGE_AT_ONCE "50" /* mailboxes of one transaction */

/* The accounts that have mailboxes in the domain, or could be about to make one: what they have there is left over until apid's
 * domain_check has forgotten it. A session covers every domain of the platform and of its account. */
static bool note_leftovers(struct ctl *ctl, const char *id) {
	char now[32];
	const char *params[] = {id, ctl_now(ctl, now)};
	return ctl_exec(ctl,
	                "insert into domain_leftovers (domain_id, account_id, deleted_at)"
	                " select $1::uuid, account_id, $2::timestamptz from ("
	                " select account_id from account_mailboxes where domain_id = $1::uuid"
	                " union select k.account_id from api_keys k join api_key_domains d on d.key_id = k.id"
	                " where d.domain_id = $1::uuid"
	                " union select u.account_id from sessions s join users u on u.id = s.user_id, domains d"
	                " where d.id = $1::uuid and (d.account_id is null or d.account_id = u.account_id)) who",
	                2, params);
}

static bool purge_account(struct ctl *ctl, const char *account, const char *domain) {
	char after[ID_TEXT_SIZE] = "00000000-0000-0000-0000-000000000000";
	const char *params[] = {account, domain, after};
	for (;;) {
		cleanup(ctl_clearp) PGresult *res =
		    ctl_query(ctl, "select domain_purge($1::uuid, $2::uuid, $3::uuid, " PURGE_AT_ONCE ")", 3, params);
		if (!res)
			return false;
		if (PQgetisnull(res, 0, 0))
			return true;
		snprintf(after, sizeof(after), "%s", PQgetvalue(res, 0, 0));
	}
}

/* After the commit: the domain is gone already, and what is cut short here apid's domain_check finishes. */
static void purge(struct ctl *ctl, const char *id) {
	cleanup(ctl_clearp) PGresult *res =
	    ctl_query(ctl, "select account_id from domain_leftovers where domain_id = $1::uuid", 1, &id);
	bool ok = res != NULL;
	for (int r = 0; ok && r < PQntuples(res); r++)
		ok = purge_account(ctl, PQgetvalue(res, r, 0), id);
	if (!ok)
		ctl_note(ctl, "the domain is gone; apid will take away what is left of its mailboxes");
}

int ctl_domain_delete(struct ctl *ctl) {
	char id[ID_TEXT_SIZE];
	const char *param = id;
	struct keys_sync ks;
	if (!ctl_resolve(ctl, CTL_DOMAIN, ctl->words[0], id) || !ctl_change_begin(ctl, &ks) || !note_leftovers(ctl, id) ||
	    !audit(ctl, id, "domain delete") ||
	    !ctl_exec(ctl, "delete from domains where id = $1::uuid", 1, &param) || !ctl_change_commit(ctl, &ks, NULL))
		return CTL_FAILED;
	purge(ctl, id);
	note_bare_keys(ctl);
	return ctl_print_done(ctl, id, "deleted", "Deleted domain %s.", ctl->words[0]);
}
