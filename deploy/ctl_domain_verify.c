/* domain verify: the look at the DNS that apid's verification takes, now and from here; or the operator's word instead of it. */
#include "deploy/ctl.h"

#include "common/address.h"
#include "common/dns.h"
#include "common/domain_proof.h"
#include "common/loop.h"

struct claim {
	char id[ID_TEXT_SIZE], name[ADDRESS_DOMAIN_MAX + 1], token[DOMAIN_PROOF_TOKEN_SIZE];
	bool platform, verified;
};

/* A domain that the operator made for an account has had no token until somebody wants it proved. */
static bool read_claim(struct ctl *ctl, struct claim *c) {
	domain_proof_token(c->token);
	const char *params[] = {c->id, c->token};
	cleanup(ctl_clearp) PGresult *res =
	    ctl_query(ctl,
	              "update domains set txt_token = case when account_id is not null then coalesce(txt_token, $2) end"
	              " where id = $1::uuid returning name, txt_token, account_id is null, status = 'verified'",
	              2, params);
	if (!res)
		return false;
	if (PQntuples(res) == 0) {
		ctl_error(ctl, "no domain \"%s\"", ctl->words[0]);
		return false;
	}
	snprintf(c->name, sizeof(c->name), "%s", PQgetvalue(res, 0, 0));
	snprintf(c->token, sizeof(c->token), "%s", PQgetvalue(res, 0, 1));
	c->platform = *PQgetvalue(res, 0, 2) == 't';
	c->verified = *PQgetvalue(res, 0, 3) == 't';
	return true;
}

/* ---- the look ---- */

struct look {
	struct loop *loop;
	struct domain_proof proof;
};

static void on_look(void *arg, const struct domain_proof *proof) {
	struct look *l = arg;
	l->proof = *proof;
	loop_stop(l->loop);
}

static bool look(struct ctl *ctl, const struct claim *c, char *const *hosts, struct domain_proof *ret) {
	struct look l = {.loop = loop_new()};
	struct dns *dns = ctl_dns_open(ctl, l.loop);
	if (dns) {
		domain_proof_start(dns, c->name, c->token, hosts, CTL_DNS_WITHIN_US, on_look, &l);
		loop_run(l.loop);
		*ret = l.proof;
	}
	bool ok = dns != NULL;
	dns_free(dns);
	loop_free(l.loop);
	return ok;
}

/* ---- what follows from it ---- */

static const char *fact(enum domain_proof_fact f) {
	return f == DOMAIN_PROOF_UNKNOWN ? NULL : f == DOMAIN_PROOF_VALID ? "true" : "false";
}

/* As apid's domain_found. */
static bool note_found(struct ctl *ctl, const struct claim *c, const struct domain_proof *proof) {
	char now[32];
	const char *params[] = {c->id, fact(proof->txt), fact(proof->mx), ctl_now(ctl, now)};
	return ctl_exec(ctl,
	                "update domains set txt_valid = coalesce($2::boolean, txt_valid), mx_valid = coalesce($3::boolean, mx_valid),"
	                " mx_lost_since = case when $3::boolean or status <> 'verified' then null"
	                " when $3::boolean is null then mx_lost_since else coalesce(mx_lost_since, $4::timestamptz) end"
	                " where id = $1::uuid",
	                4, params);
}

static int prove(struct ctl *ctl, struct claim *c) {
	char problem[DOMAIN_PROOF_TEXT_SIZE];
	struct domain_proof proof;
	if (c->platform) {
		ctl_error(ctl, "%s is the platform's own: the DNS has nothing to prove; --by-word verifies it", c->name);
		return CTL_FAILED;
	}
	char **hosts = ctl_mx_hosts(ctl);
	if (!hosts)
		return CTL_FAILED;
	bool ok = look(ctl, c, hosts, &proof) && note_found(ctl, c, &proof);
	if (ok)
		domain_proof_explain(&proof, c->name, c->token, hosts[0], problem);
	free(hosts);
	if (!ok)
		return CTL_FAILED;
	bool proven = !*problem;
	if (proven && !c->verified && !ctl_domain_set_status(ctl, c->id, "verified", "domain verify"))
		return CTL_FAILED;
	int status = ctl_print_domain(ctl, c->id, proven ? NULL : problem);
	if (!proven && c->verified)
		ctl_note(ctl, "it stays verified, but: %s", problem);
	else if (!proven)
		ctl_error(ctl, "not verified: %s", problem);
	return status == CTL_OK && !proven && !c->verified ? CTL_FAILED : status;
}

int ctl_domain_verify(struct ctl *ctl) {
	struct claim c;
	if (!ctl_resolve(ctl, CTL_DOMAIN, ctl->words[0], c.id) || !read_claim(ctl, &c))
		return CTL_FAILED;
	if (!ctl_flag(ctl, "by-word"))
		return prove(ctl, &c);
	if (c.verified) {
		ctl_error(ctl, "%s is verified already", c.name);
		return CTL_FAILED;
	}
	if (!ctl_domain_set_status(ctl, c.id, "verified", "domain verify --by-word"))
		return CTL_FAILED;
	return ctl_print_domain(ctl, c.id, NULL);
}
