/* domain dns: what the owner of a domain publishes so that its mail comes here, and how it stands in the DNS now. Mail needs the MX
 * records and an address behind them (RFC 5321 5.1), and an account's domain its token; MTA-STS (RFC 8461), TLSRPT (RFC 8460) and DANE
 * (RFC 7672) make senders insist on TLS. SPF, DKIM and DMARC are about mail that a domain sends, which it does not do from here. */
#include "deploy/ctl.h"

#include "common/address.h"
#include "common/dns.h"
#include "common/domain_proof.h"
#include "common/json_out.h"
#include "common/loop.h"

#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sodium.h>
#include <time.h>

#define ROWS_MAX (1024 * 1024)

enum state { FOUND, MISSING, WRONG, UNKNOWN, UNCHECKED };

struct wanted {
	struct ctl *ctl;
	struct loop *loop;
	struct dns *dns;
	struct dns_answer *answer; /* to the last question */
	struct buf rows;
	struct json_out json;
	unsigned faults; /* in records that mail needs */
};

static void on_answer(void *arg, const struct dns_answer *answer) {
	struct wanted *w = arg;
	w->answer = dns_answer_copy(answer);
	loop_stop(w->loop);
}

/* Good until the next. */
static const struct dns_answer *ask(struct wanted *w, enum dns_type type, const char *name) {
	w->answer = dns_answer_free(w->answer);
	dns_start(w->dns, type, name, CTL_DNS_WITHIN_US, on_answer, w);
	loop_run(w->loop);
	return w->answer;
}

static enum state nothing(const struct dns_answer *a) {
	return a->status == DNS_TEMPORARY ? UNKNOWN : MISSING;
}

static void row(struct wanted *w, const char *name, const char *type, const char *value, bool needed, enum state state, const char *note) {
	static const char *const words[] = {
	    [FOUND] = "found", [MISSING] = "missing", [WRONG] = "wrong", [UNKNOWN] = "unknown", [UNCHECKED] = "unchecked"};
	json_out_object(&w->json);
	json_out_member_cstring(&w->json, "name", name);
	json_out_member_cstring(&w->json, "type", type);
	json_out_member_cstring(&w->json, "value", value);
	json_out_member_bool(&w->json, "needed", needed);
	json_out_member_cstring(&w->json, "state", words[state]);
	json_out_member_cstring(&w->json, "note", note);
	json_out_object_end(&w->json);
	w->faults += needed && state != FOUND;
}

/* ---- what mail needs ---- */

static bool names(const struct dns_answer *a, const char *host) {
	for (unsigned i = 0; i < a->count; i++) {
		if (strcmp(a->records[i].data, host) == 0)
			return true;
	}
	return false;
}

/* Of several hosts one will do, but none that is another's. */
static void mx_rows(struct wanted *w, const char *name, char *const *hosts) {
	char foreign[DNS_NAME_SIZE] = "", value[DNS_NAME_SIZE + 16], note[DNS_NAME_SIZE + 96] = "its mail comes to us";
	const struct dns_answer *a = ask(w, DNS_MX, name);
	enum domain_proof_fact all = domain_proof_mx(a, hosts, foreign);
	if (all == DOMAIN_PROOF_WRONG)
		snprintf(note, sizeof(note), "there is one that names \"%s\": its mail does not come to us", *foreign ? foreign : ".");
	for (unsigned i = 0; hosts[i]; i++) {
		bool there = names(a, hosts[i]);
		snprintf(value, sizeof(value), "%u %s.", 10 * (i + 1), hosts[i]);
		row(w, name, "MX", value, there || (i == 0 && all != DOMAIN_PROOF_VALID),
		    all == DOMAIN_PROOF_WRONG ? WRONG : there ? FOUND : nothing(a), note);
	}
}

static void address_row(struct wanted *w, const char *host) {
	enum state state = FOUND;
	const struct dns_answer *a = ask(w, DNS_A, host);
	if (a->status != DNS_FOUND) {
		enum state v4 = nothing(a);
		a = ask(w, DNS_AAAA, host);
		state = a->status == DNS_FOUND ? FOUND : v4 == UNKNOWN ? UNKNOWN : nothing(a);
	}
	row(w, host, "A or AAAA", "the address of smtpd", true, state, "itself, not a CNAME (RFC 5321 5.1)");
}

static void token_row(struct wanted *w, const char *name, const char *token) {
	static const enum state states[] = {
	    [DOMAIN_PROOF_VALID] = FOUND, [DOMAIN_PROOF_MISSING] = MISSING, [DOMAIN_PROOF_WRONG] = WRONG, [DOMAIN_PROOF_UNKNOWN] = UNKNOWN};
	row(w, name, "TXT", token, true, states[domain_proof_txt(ask(w, DNS_TXT, name), token)], "proves the account's claim");
}

/* ---- what makes TLS certain ---- */

/* Exactly one record of this version (RFC 8461 3.1, RFC 8460 3), which `judge` likes. */
static enum state policy_state(const struct dns_answer *a, const char *version, bool (*judge)(const char *rest)) {
	const struct dns_record *found = NULL;
	if (a->status != DNS_FOUND)
		return nothing(a);
	for (unsigned i = 0; i < a->count; i++) {
		if (strncmp(a->records[i].data, version, strlen(version)) != 0)
			continue;
		if (found)
			return WRONG;
		found = &a->records[i];
	}
	return !found ? MISSING : judge(found->data + strlen(version)) ? FOUND : WRONG;
}

/* What the field after the version says; NULL: it is another field. */
static const char *field(const char *rest, const char *name) {
	rest += strspn(rest, " \t");
	if (*rest++ != ';')
		return NULL;
	rest += strspn(rest, " \t");
	return strncmp(rest, name, strlen(name)) == 0 ? rest + strlen(name) : NULL;
}

static bool sts_id(const char *rest) {
	static const char alphanumeric[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
	const char *id = field(rest, "id=");
	size_t n = id ? strspn(id, alphanumeric) : 0;
	return n >= 1 && n <= 32 && (id[n] == '\0' || strchr("; \t", id[n]));
}

static bool report_uri(const char *rest) {
	const char *uri = field(rest, "rua=");
	return uri && (strncmp(uri, "mailto:", 7) == 0 || strncmp(uri, "https:", 6) == 0);
}

static void sts_rows(struct wanted *w, const char *name, char *const *hosts) {
	char at[DNS_NAME_SIZE + 16], id[64], url[DNS_NAME_SIZE + 64];
	time_t now = (time_t)(w->ctl->now / 1000000);
	struct tm tm;
	struct buf policy;
	buf_init(&policy, ROWS_MAX);
	strftime(id, sizeof(id), "v=STSv1; id=%Y%m%d%H%M%S", gmtime_r(&now, &tm));
	snprintf(at, sizeof(at), "_mta-sts.%s", name);
	row(w, at, "TXT", id, false, policy_state(ask(w, DNS_TXT, at), "v=STSv1", sts_id), "MTA-STS; another id with each change of the policy");
	snprintf(url, sizeof(url), "https://mta-sts.%s/.well-known/mta-sts.txt", name);
	buf_printf(&policy, "version: STSv1; mode: testing; ");
	for (; *hosts; hosts++)
		buf_printf(&policy, "mx: %s; ", *hosts);
	buf_printf(&policy, "max_age: 604800");
	row(w, url, "text/plain", policy.data, false, UNCHECKED,
	    "a line each, no redirect; mode: enforce once the certificate of every mx is from a public authority and names it");
	buf_fini(&policy);
}

static void report_row(struct wanted *w, const char *name) {
	char at[DNS_NAME_SIZE + 16], value[DNS_NAME_SIZE + 64];
	snprintf(at, sizeof(at), "_smtp._tls.%s", name);
	snprintf(value, sizeof(value), "v=TLSRPTv1; rua=mailto:postmaster@%s", name);
	row(w, at, "TXT", value, false, policy_state(ask(w, DNS_TXT, at), "v=TLSRPTv1", report_uri), "TLSRPT: where senders report failures of TLS");
}

/* SHA-256 of the public key's SubjectPublicKeyInfo, in hexadecimal: selector 1, matching type 1 (RFC 6698 2.1). */
static bool key_digest(struct ctl *ctl, const char *path, char ret[2 * crypto_hash_sha256_BYTES + 1]) {
	unsigned char *spki = NULL, digest[crypto_hash_sha256_BYTES];
	FILE *f = fopen(path, "re");
	X509 *certificate = f ? PEM_read_X509(f, NULL, NULL, NULL) : NULL;
	int n = certificate ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &spki) : -1;
	if (!f)
		ctl_error(ctl, "cannot read %s: %s", path, strerror(errno));
	else if (n <= 0)
		ctl_error(ctl, "%s: no certificate in PEM", path);
	if (f)
		fclose(f);
	if (n > 0) {
		crypto_hash_sha256(digest, spki, (unsigned long long)n);
		sodium_bin2hex(ret, 2 * sizeof(digest) + 1, digest, sizeof(digest));
	}
	OPENSSL_free(spki);
	X509_free(certificate);
	return n > 0;
}

static bool dane_rows(struct wanted *w, const char *host, char *const *certificates) {
	char at[DNS_NAME_SIZE + 16], value[2 * crypto_hash_sha256_BYTES + 16], digest[2 * crypto_hash_sha256_BYTES + 1];
	snprintf(at, sizeof(at), "_25._tcp.%s", host);
	for (; *certificates; certificates++) {
		if (!key_digest(w->ctl, *certificates, digest))
			return false;
		snprintf(value, sizeof(value), "3 1 1 %s", digest);
		row(w, at, "TLSA", value, false, UNCHECKED,
		    "DANE: only where both zones are signed; a new key's record comes before the key, by twice the TTL");
	}
	return true;
}

/* ---- */

static const struct ctl_column COLUMNS[] = {
    {"name", "NAME", CTL_TEXT},     {"type", "TYPE", CTL_TEXT},   {"value", "VALUE", CTL_TEXT},
    {"needed", "NEEDED", CTL_BOOL}, {"state", "STATE", CTL_TEXT}, {"note", "NOTE", CTL_TEXT},
};

static int print(struct wanted *w) {
	const char *params[] = {w->rows.data};
	cleanup(ctl_clearp) PGresult *res = ctl_query(w->ctl,
	                                              "select * from jsonb_to_recordset($1::jsonb)"
	                                              " r (name text, type text, value text, needed boolean, state text, note text)",
	                                              1, params);
	int status = res ? ctl_print_list(w->ctl, COLUMNS, array_len(COLUMNS), res) : CTL_FAILED;
	if (status != CTL_OK || !w->faults)
		return status;
	ctl_error(w->ctl, "mail needs %u %s not as wanted", w->faults, w->faults == 1 ? "record that is" : "records that are");
	return CTL_FAILED;
}

static int show(struct wanted *w, const char *name, const char *token, char *const *hosts, char *const *certificates) {
	json_out_init(&w->json, &w->rows);
	json_out_array(&w->json);
	mx_rows(w, name, hosts);
	for (char *const *h = hosts; *h; h++)
		address_row(w, *h);
	if (token)
		token_row(w, name, token);
	sts_rows(w, name, hosts);
	report_row(w, name);
	for (char *const *h = hosts; *h; h++) {
		if (!dane_rows(w, *h, certificates))
			return CTL_FAILED;
	}
	json_out_array_end(&w->json);
	return print(w);
}

int ctl_domain_dns(struct ctl *ctl) {
	char id[ID_TEXT_SIZE];
	const char *param = id;
	struct wanted w = {.ctl = ctl};
	if (!ctl_resolve(ctl, CTL_DOMAIN, ctl->words[0], id))
		return CTL_FAILED;
	buf_init(&w.rows, ROWS_MAX);
	cleanup(ctl_clearp) PGresult *res = ctl_query(ctl, "select name, txt_token from domains where id = $1::uuid", 1, &param);
	char **hosts = res ? ctl_mx_hosts(ctl) : NULL, **certificates = ctl_option_list(ctl, "certificate");
	int status = CTL_FAILED;
	w.loop = loop_new();
	if (hosts && (w.dns = ctl_dns_open(ctl, w.loop)))
		status = show(&w, PQgetvalue(res, 0, 0), PQgetisnull(res, 0, 1) ? NULL : PQgetvalue(res, 0, 1), hosts, certificates);
	dns_answer_free(w.answer);
	dns_free(w.dns);
	loop_free(w.loop);
	buf_fini(&w.rows);
	free(certificates);
	free(hosts);
	return status;
}
