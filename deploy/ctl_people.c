/* How people get in: links to set a password, invitations, and the sessions that they have. A link's token is printed once; the
 * database has its keyed hash only. */
#include "common/apikey.h"
#include "common/clock.h"
#include "deploy/ctl.h"

#include "common/address.h"
#include "common/token.h"

#include <sodium.h>

#define RESET_LIFETIME_US HOUR_US
#define INVITATION_LIFETIME_US (7 * 24 * HOUR_US)

struct link {
	char token[TOKEN_SIZE];
	char hash[2 + 2 * TOKEN_HASH_LEN + 1]; /* as bytea text: \x… */
	char expires[32];
};

static bool make_link(struct ctl *ctl, enum token_use use, int64_t lifetime_us, struct link *ret) {
	uint8_t secret[32], hash[TOKEN_HASH_LEN];
	if (!ctl->settings.key_secret || apikey_secret_parse(ctl->settings.key_secret, secret) < 0) {
		ctl_error(ctl, "MINUTEMAIL_KEY_SECRET (or MINUTEMAIL_KEY_SECRET_FILE) must give 64 hexadecimal digits, the "
		               "same as apid's");
		return false;
	}
	token_make(ret->token);
	token_hash(use, slice_of(ret->token, TOKEN_LEN), secret, hash);
	sodium_memzero(secret, sizeof(secret));
	memcpy(ret->hash, "\\x", 2);
	sodium_bin2hex(ret->hash + 2, sizeof(ret->hash) - 2, hash, sizeof(hash));
	ctl_time_text(ctl->now + lifetime_us, ret->expires);
	return true;
}

static int print_link(struct ctl *ctl, const struct ctl_column *columns, unsigned n, const PGresult *res, struct link *link) {
	int status = ctl_print_one(ctl, columns, n, res, "token", link->token);
	if (!ctl->json)
		ctl_note(ctl, "the link is the console's address with %s behind it; it works once", columns[n - 1].name);
	sodium_memzero(link, sizeof(*link));
	return status;
}

/* ---- passwords ---- */

static const struct ctl_column RESET_COLUMNS[] = {
    {"user", "USER", CTL_TEXT},
    {"expiresAt", "EXPIRES", CTL_TIME},
    {"path", "PATH", CTL_TEXT},
};

int ctl_user_reset(struct ctl *ctl) {
	char id[ID_TEXT_SIZE];
	struct link link;
	if (!ctl_resolve(ctl, CTL_USER, ctl->words[0], id) || !make_link(ctl, TOKEN_RESET, RESET_LIFETIME_US, &link))
		return CTL_FAILED;
	const char *params[] = {id, link.hash, link.expires, link.token};
	if (!ctl_exec(ctl, "insert into password_resets (user_id, hash, expires_at) values ($1::uuid, $2::bytea, $3::timestamptz)",
	              3, params))
		return CTL_FAILED;
	cleanup(ctl_clearp) PGresult *res =
	    ctl_query(ctl, "select email, " CTL_EPOCH("$2::timestamptz") ", '/reset#' || $3 from users where id = $1::uuid", 3,
	              (const char *const[]){id, link.expires, link.token});
	return res ? print_link(ctl, RESET_COLUMNS, array_len(RESET_COLUMNS), res, &link) : CTL_FAILED;
}

/* ---- sessions ---- */

static const struct ctl_column SESSION_COLUMNS[] = {
    {"id", "ID", CTL_TEXT},           {"user", "USER", CTL_TEXT},    {"createdAt", "CREATED", CTL_TIME},
    {"lastUsedAt", "USED", CTL_TIME}, {"endsAt", "ENDS", CTL_TIME},
};

int ctl_session_list(struct ctl *ctl) {
	char user[ID_TEXT_SIZE], now[32];
	const char *params[] = {NULL, ctl_now(ctl, now)};
	if (ctl_option(ctl, "user")) {
		if (!ctl_resolve(ctl, CTL_USER, ctl_option(ctl, "user"), user))
			return CTL_FAILED;
		params[0] = user;
	}
	cleanup(ctl_clearp) PGresult *res =
	    ctl_query(ctl,
	              "select s.id, u.email, " CTL_EPOCH("s.created_at") ", " CTL_EPOCH("s.used_at") ", " CTL_EPOCH(
	                  "s.ends_at") " from sessions s join users u on u.id = s.user_id"
	                               " where ($1::uuid is null or s.user_id = $1::uuid) and s.ends_at > $2::timestamptz order by s.id",
	              2, params);
	return res ? ctl_print_list(ctl, SESSION_COLUMNS, array_len(SESSION_COLUMNS), res) : CTL_FAILED;
}

/* One session by its id, or all of a user's: dead in every worker when this returns. */
int ctl_session_end(struct ctl *ctl) {
	const char *text = ctl->words[0];
	char user[ID_TEXT_SIZE];
	struct id id;
	struct keys_sync ks;
	bool by_id = id_parse(text, strlen(text), &id);
	if (!by_id && !ctl_resolve(ctl, CTL_USER, text, user))
		return CTL_FAILED;
	const char *of = by_id ? text : user;
	if (!ctl_change_begin(ctl, &ks))
		return CTL_FAILED;
	cleanup(ctl_clearp) PGresult *res =
	    ctl_query(ctl, "delete from sessions where id = $1::uuid or user_id = $1::uuid", 1, &of);
	if (!res)
		return CTL_FAILED;
	if (by_id && atoi(PQcmdTuples(res)) == 0) {
		ctl_rollback(ctl);
		ctl_error(ctl, "no session %s", text);
		return CTL_FAILED;
	}
	if (!ctl_change_commit(ctl, &ks, of))
		return CTL_FAILED;
	return ctl_print_done(ctl, of, "ended", "Ended %s session(s).", PQcmdTuples(res));
}

/* ---- invitations ---- */

static const struct ctl_column INVITATION_COLUMNS[] = {
    {"id", "ID", CTL_TEXT},           {"email", "EMAIL", CTL_TEXT},         {"account", "ACCOUNT", CTL_TEXT},
    {"role", "ROLE", CTL_TEXT},       {"createdAt", "CREATED", CTL_TIME},   {"expiresAt", "EXPIRES", CTL_TIME},
    {"path", "PATH", CTL_TEXT},
};
#define INVITATION_SELECT                                                                                              \
	"select i.id, i.email, a.name, i.role, " CTL_EPOCH("i.created_at") ", " CTL_EPOCH("i.expires_at")
#define INVITATION_FROM " from invitations i left join accounts a on a.id = i.account_id"

/* The limit of members is judged when the invitation is accepted. */
int ctl_invitation_create(struct ctl *ctl) {
	const char *role = ctl_option(ctl, "role"), *account = ctl_option(ctl, "account");
	char id[ID_TEXT_SIZE], account_id[ID_TEXT_SIZE], now[32], email[ADDRESS_MAX + 1];
	struct link link;
	if (role && strcmp(role, "owner") != 0 && strcmp(role, "member") != 0) {
		ctl_error(ctl, "--role is owner or member");
		return CTL_USAGE;
	}
	if (address_canonical_email(ctl->words[0], strlen(ctl->words[0]), email) < 0) {
		ctl_error(ctl, "\"%s\" is not an e-mail address", ctl->words[0]);
		return CTL_FAILED;
	}
	if ((account && !ctl_resolve(ctl, CTL_ACCOUNT, account, account_id)) ||
	    !make_link(ctl, TOKEN_INVITATION, INVITATION_LIFETIME_US, &link))
		return CTL_FAILED;
	ctl_new_id(ctl, id);
	const char *params[] = {id,        account ? account_id : NULL, email,        role ? role : account ? "member" : "owner",
	                        link.hash, ctl_now(ctl, now),           link.expires, link.token};
	if (!ctl_begin(ctl) ||
	    !ctl_exec(ctl, "delete from invitations where account_id is not distinct from $1::uuid and email = $2", 2, params + 1) ||
	    !ctl_exec(ctl,
	              "insert into invitations (id, account_id, email, role, hash, created_at, expires_at)"
	              " values ($1::uuid, $2::uuid, $3, $4, $5::bytea, $6::timestamptz, $7::timestamptz)",
	              7, params) ||
	    !ctl_commit(ctl))
		return CTL_FAILED;
	cleanup(ctl_clearp) PGresult *res =
	    ctl_query(ctl, INVITATION_SELECT ", '/invitation#' || $2" INVITATION_FROM " where i.id = $1::uuid", 2,
	              (const char *const[]){id, link.token});
	return res ? print_link(ctl, INVITATION_COLUMNS, array_len(INVITATION_COLUMNS), res, &link) : CTL_FAILED;
}

int ctl_invitation_list(struct ctl *ctl) {
	cleanup(ctl_clearp) PGresult *res = ctl_query(ctl, INVITATION_SELECT INVITATION_FROM " order by i.id", 0, NULL);
	return res ? ctl_print_list(ctl, INVITATION_COLUMNS, array_len(INVITATION_COLUMNS) - 1, res) : CTL_FAILED;
}

int ctl_invitation_delete(struct ctl *ctl) {
	const char *text = ctl->words[0];
	cleanup(ctl_clearp) PGresult *res =
	    ctl_query(ctl, "delete from invitations where id::text = lower($1) or email = lower($1)", 1, &text);
	if (!res)
		return CTL_FAILED;
	if (atoi(PQcmdTuples(res)) == 0) {
		ctl_error(ctl, "no invitation \"%s\"", text);
		return CTL_FAILED;
	}
	return ctl_print_done(ctl, text, "deleted", "Deleted %s invitation(s).", PQcmdTuples(res));
}
