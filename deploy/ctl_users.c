/* Users: the people of an account. What a user owns (keys, mailboxes) goes with the user. */
#include "deploy/ctl.h"

#include "common/address.h"
#include "common/password.h"

#include <sodium.h>
#include <termios.h>
#include <unistd.h>

static const struct ctl_column USER_COLUMNS[] = {
    {"id", "ID", CTL_TEXT},
    {"email", "EMAIL", CTL_TEXT},
    {"account", "ACCOUNT", CTL_TEXT},
    {"role", "ROLE", CTL_TEXT},
    {"state", "STATE", CTL_TEXT},
    {"keys", "KEYS", CTL_INT},
    {"accountId", "ACCOUNT ID", CTL_TEXT},
    {"createdAt", "CREATED", CTL_TIME},
};
#define USER_SELECT                                                                                                    \
	"select u.id, u.email, a.name, u.role, u.state, (select count(*) from api_keys k where k.user_id = u.id), a.id,"   \
	" " CTL_EPOCH("u.created_at") " from users u join accounts a on a.id = u.account_id"

static int print_user(struct ctl *ctl, const char *id) {
	cleanup(ctl_clearp) PGresult *res = ctl_query(ctl, USER_SELECT " where u.id = $1::uuid", 1, &id);
	return res ? ctl_print_one(ctl, USER_COLUMNS, array_len(USER_COLUMNS), res, NULL, NULL) : CTL_FAILED;
}

/* NULL: said. To be freed. */
static char *email_of(struct ctl *ctl, const char *text) {
	char email[ADDRESS_MAX + 1];
	if (address_canonical_email(text, strlen(text), email) == 0)
		return xstrdup(email);
	ctl_error(ctl, "\"%s\" is not an e-mail address", text);
	return NULL;
}

static bool check_word(struct ctl *ctl, const char *option, const char *one, const char *two) {
	const char *value = ctl_option(ctl, option);
	if (!value || strcmp(value, one) == 0 || strcmp(value, two) == 0)
		return true;
	ctl_error(ctl, "--%s is %s or %s", option, one, two);
	return false;
}

static bool insert_user(struct ctl *ctl, const char *id, const char *email, const char *account) {
	char now[32];
	unsigned missing;
	const char *params[] = {id, account, email, ctl_option(ctl, "role"), ctl_now(ctl, now)};
	if (!ctl_begin(ctl) ||
	    !ctl_exec(ctl,
	              "insert into users (id, account_id, email, role, state, created_at) values ($1::uuid, $2::uuid, $3,"
	              " coalesce($4, case when exists (select from users where account_id = $2::uuid) then 'member' else "
	              "'owner' end),"
	              " 'active', $5::timestamptz)",
	              5, params))
		return false;
	/* A domain made before there was anybody gets its postmaster now. */
	return ctl_postmasters(ctl, NULL, NULL, &missing) && ctl_commit(ctl);
}

/* The account's limit of members is the console's to enforce; an operator may exceed it. */
static int create(struct ctl *ctl, const char *email, const char *account) {
	char id[ID_TEXT_SIZE];
	cleanup(ctl_clearp) PGresult *res = ctl_query(ctl, "select id, account_id from users where email = $1", 1, &email);
	if (!res)
		return CTL_FAILED;
	if (PQntuples(res) == 0) {
		ctl_new_id(ctl, id);
		return insert_user(ctl, id, email, account) ? print_user(ctl, id) : CTL_FAILED;
	}
	if (!ctl_flag(ctl, "if-missing"))
		ctl_error(ctl, "there is a user %s already (%s)", email, PQgetvalue(res, 0, 0));
	else if (strcmp(PQgetvalue(res, 0, 1), account) != 0)
		ctl_error(ctl, "user %s belongs to another account (%s)", email, PQgetvalue(res, 0, 1));
	else
		return print_user(ctl, PQgetvalue(res, 0, 0));
	return CTL_FAILED;
}

int ctl_user_create(struct ctl *ctl) {
	char account[ID_TEXT_SIZE];
	if (!ctl_option(ctl, "account")) {
		ctl_error(ctl, "--account is missing");
		return CTL_USAGE;
	}
	if (!check_word(ctl, "role", "owner", "member"))
		return CTL_USAGE;
	cleanup(freep) char *email = email_of(ctl, ctl->words[0]);
	if (!email || !ctl_resolve(ctl, CTL_ACCOUNT, ctl_option(ctl, "account"), account))
		return CTL_FAILED;
	return create(ctl, email, account);
}

int ctl_user_list(struct ctl *ctl) {
	char account[ID_TEXT_SIZE];
	const char *param = NULL;
	if (ctl_option(ctl, "account")) {
		if (!ctl_resolve(ctl, CTL_ACCOUNT, ctl_option(ctl, "account"), account))
			return CTL_FAILED;
		param = account;
	}
	cleanup(ctl_clearp) PGresult *res =
	    ctl_query(ctl, USER_SELECT " where $1::uuid is null or u.account_id = $1::uuid order by u.id", 1, &param);
	return res ? ctl_print_list(ctl, USER_COLUMNS, array_len(USER_COLUMNS), res) : CTL_FAILED;
}

static bool email_free(struct ctl *ctl, const char *email, const char *id) {
	const char *params[] = {email, id};
	cleanup(ctl_clearp) PGresult *res =
	    ctl_query(ctl, "select id from users where email = $1 and id <> $2::uuid", 2, params);
	if (res && PQntuples(res) > 0)
		ctl_error(ctl, "there is a user %s already (%s)", email, PQgetvalue(res, 0, 0));
	return res && PQntuples(res) == 0;
}

int ctl_user_edit(struct ctl *ctl) {
	char id[ID_TEXT_SIZE];
	cleanup(freep) char *email = NULL;
	struct keys_sync ks;
	if (!check_word(ctl, "role", "owner", "member") || !check_word(ctl, "state", "active", "suspended"))
		return CTL_USAGE;
	if (!ctl_resolve(ctl, CTL_USER, ctl->words[0], id))
		return CTL_FAILED;
	if (ctl_option(ctl, "email")) {
		email = email_of(ctl, ctl_option(ctl, "email"));
		if (!email || !email_free(ctl, email, id))
			return CTL_FAILED;
	}
	const char *params[] = {id, email, ctl_option(ctl, "role"), ctl_option(ctl, "state")};
	if (!ctl_change_begin(ctl, &ks) ||
	    !ctl_exec(ctl,
	              "update users set email = coalesce($2, email), role = coalesce($3, role), state = coalesce($4, state)"
	              " where id = $1::uuid",
	              4, params) ||
	    !ctl_exec(ctl,
	              "delete from sessions s using users u where s.user_id = $1::uuid and u.id = s.user_id and u.state = 'suspended'",
	              1, params) ||
	    !ctl_change_commit(ctl, &ks, NULL))
		return CTL_FAILED;
	return print_user(ctl, id);
}

/* ---- passwords ---- */

/* One line of standard input; asked for without echo where that is a terminal. False: said. */
static bool read_password(struct ctl *ctl, char ret[PASSWORD_MOST + 2]) {
	struct termios before, silent;
	bool terminal = tcgetattr(STDIN_FILENO, &before) == 0;
	if (terminal) {
		silent = before;
		silent.c_lflag &= ~(tcflag_t)ECHO;
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
		fputs("New password: ", ctl->err);
	}
	/* Not through stdio, whose buffer would keep it. */
	size_t n = 0;
	ssize_t got = 0;
	while (n <= PASSWORD_MOST && (got = read(STDIN_FILENO, ret + n, 1)) == 1 && ret[n] != '\n')
		n++;
	ret[n] = '\0';
	if (terminal) {
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
		fputc('\n', ctl->err);
	}
	if (got < 0 || n == 0)
		ctl_error(ctl, "no password on standard input");
	return got >= 0 && n > 0;
}

static bool hash_password(struct ctl *ctl, const char *id, char ret[PASSWORD_HASH_SIZE]) {
	const struct password_cost cost = {PASSWORD_MEMORY, PASSWORD_PASSES};
	char password[PASSWORD_MOST + 2];
	cleanup(ctl_clearp) PGresult *res = ctl_query(ctl, "select email from users where id = $1::uuid", 1, &id);
	bool ok = res && PQntuples(res) == 1 && read_password(ctl, password);
	if (ok) {
		const char *fault = password_fault(slice_str(password), PQgetvalue(res, 0, 0));
		ok = !fault && password_hash(slice_str(password), &cost, ret) == 0;
		if (!ok)
			ctl_error(ctl, "%s", fault ? fault : "there is not enough memory to hash it");
	}
	sodium_memzero(password, sizeof(password));
	return ok;
}

/* Whoever is signed in with the old one is not any more. */
int ctl_user_password(struct ctl *ctl) {
	char id[ID_TEXT_SIZE], now[32], hash[PASSWORD_HASH_SIZE];
	struct keys_sync ks;
	if (!ctl_resolve(ctl, CTL_USER, ctl->words[0], id) || !hash_password(ctl, id, hash))
		return CTL_FAILED;
	const char *params[] = {id, hash, ctl_now(ctl, now)};
	if (!ctl_change_begin(ctl, &ks) ||
	    !ctl_exec(ctl, "update users set password_hash = $2, password_set_at = $3::timestamptz where id = $1::uuid", 3,
	              params) ||
	    !ctl_exec(ctl, "delete from sessions where user_id = $1::uuid", 1, params) || !ctl_change_commit(ctl, &ks, id))
		return CTL_FAILED;
	return ctl_print_done(ctl, id, "changed", "Changed the password of %s; all sessions have ended.", ctl->words[0]);
}

int ctl_user_delete(struct ctl *ctl) {
	char id[ID_TEXT_SIZE];
	const char *param = id;
	struct keys_sync ks;
	unsigned missing = 0;
	/* The lock waits for what apid is making for the user (mailbox_owner_stays), and lets nothing begin. */
	if (!ctl_resolve(ctl, CTL_USER, ctl->words[0], id) || !ctl_change_begin(ctl, &ks) ||
	    !ctl_exec(ctl, "select from users where id = $1::uuid for update", 1, &param) ||
	    !ctl_exec(ctl,
	              "delete from account_mailboxes where account_id = (select account_id from users where id = $1::uuid)"
	              " and user_id = $1::uuid",
	              1, &param) ||
	    !ctl_exec(ctl, "delete from users where id = $1::uuid", 1, &param) ||
	    !ctl_exec(ctl, "delete from mailboxes where user_id = $1::uuid", 1, &param) ||
	    !ctl_postmasters(ctl, NULL, NULL, &missing) || !ctl_change_commit(ctl, &ks, NULL))
		return CTL_FAILED;
	if (missing)
		ctl_note(ctl, "%u domain(s) have no postmaster mailbox until there is a user to own it", missing);
	return ctl_print_done(ctl, id, "deleted", "Deleted user %s.", ctl->words[0]);
}
