/* Two questions to the DNS and what their answers prove (domain_proof.h). */
#include "common/domain_proof.h"

#include "common/dns.h"

#include <sodium.h>
#include <stdio.h>

#define TOKEN_PREFIX "minutemail-"

void domain_proof_token(char ret[DOMAIN_PROOF_TOKEN_SIZE]) {
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567";
	char *p = stpcpy(ret, TOKEN_PREFIX);
	while (p < ret + DOMAIN_PROOF_TOKEN_SIZE - 1)
		*p++ = letters[randombytes_uniform(sizeof(letters) - 1)];
	*p = '\0';
}

static bool is_token(const struct dns_record *record, const char *token) {
	const char *p = record->data, *end = p + record->n;
	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	while (end > p && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	return (size_t)(end - p) == strlen(token) && memcmp(p, token, (size_t)(end - p)) == 0;
}

static enum domain_proof_fact no_record(const struct dns_answer *answer) {
	return answer->status == DNS_TEMPORARY ? DOMAIN_PROOF_UNKNOWN : DOMAIN_PROOF_MISSING;
}

enum domain_proof_fact domain_proof_txt(const struct dns_answer *answer, const char *token) {
	if (answer->status != DNS_FOUND)
		return no_record(answer);
	for (unsigned i = 0; token && i < answer->count; i++) {
		if (is_token(&answer->records[i], token))
			return DOMAIN_PROOF_VALID;
	}
	return DOMAIN_PROOF_WRONG;
}

static bool is_ours(const char *name, char *const *hosts) {
	for (; *hosts; hosts++) {
		if (strcmp(name, *hosts) == 0)
			return true;
	}
	return false;
}

enum domain_proof_fact domain_proof_mx(const struct dns_answer *answer, char *const *hosts, char ret_foreign[DNS_NAME_SIZE]) {
	if (answer->status != DNS_FOUND)
		return no_record(answer);
	for (unsigned i = 0; i < answer->count; i++) {
		if (!is_ours(answer->records[i].data, hosts)) {
			snprintf(ret_foreign, DNS_NAME_SIZE, "%s", answer->records[i].data);
			return DOMAIN_PROOF_WRONG;
		}
	}
	return DOMAIN_PROOF_VALID;
}

static void explain_txt(const struct domain_proof *proof, const char *name, const char *token, char ret[800]) {
	static const char *const how[] = {
		[DOMAIN_PROOF_MISSING] = "has no TXT record",
		[DOMAIN_PROOF_WRONG] = "has TXT records, none of which is the token",
		[DOMAIN_PROOF_UNKNOWN] = "could not be asked for TXT records just now",
	};
	ret[0] = '\0';
	if (proof->txt == DOMAIN_PROOF_VALID)
		return;
	int n = snprintf(ret, 800, "%s %s", name, how[proof->txt]);
	if (token && proof->txt != DOMAIN_PROOF_UNKNOWN)
		snprintf(ret + n, (size_t)(800 - n), "; add \"%s\"", token);
}

void domain_proof_explain(const struct domain_proof *proof, const char *name, const char *token, const char *mx_target,
                          char ret[DOMAIN_PROOF_TEXT_SIZE]) {
	char txt[800], mx[1000] = "";
	explain_txt(proof, name, token, txt);
	switch (proof->mx) {
	case DOMAIN_PROOF_VALID:
		break;
	case DOMAIN_PROOF_MISSING:
		snprintf(mx, sizeof(mx), "%.253s has no MX record; add one that names %.253s", name, mx_target);
		break;
	case DOMAIN_PROOF_WRONG:
		snprintf(mx, sizeof(mx), "%.253s has an MX record that names \"%s\"; all of them must name us, as %.253s does", name,
		         proof->foreign_mx[0] ? proof->foreign_mx : ".", mx_target);
		break;
	case DOMAIN_PROOF_UNKNOWN:
		snprintf(mx, sizeof(mx), "%.253s could not be asked for MX records just now", name);
		break;
	}
	snprintf(ret, DOMAIN_PROOF_TEXT_SIZE, "%s%s%s", txt, *txt && *mx ? ". " : "", mx);
}

/* ---- asking ---- */

struct domain_proof_op {
	struct dns_op *txt_op, *mx_op;
	struct domain_proof proof;
	const char *token;
	char *const *hosts;
	domain_proof_done *done;
	void *arg;
};

static void settle(struct domain_proof_op *op) {
	if (op->txt_op || op->mx_op)
		return;
	struct domain_proof_op finished = *op;
	free(op);
	finished.done(finished.arg, &finished.proof);
}

static void on_txt(void *arg, const struct dns_answer *answer) {
	struct domain_proof_op *op = arg;
	op->txt_op = NULL;
	op->proof.txt = domain_proof_txt(answer, op->token);
	settle(op);
}

static void on_mx(void *arg, const struct dns_answer *answer) {
	struct domain_proof_op *op = arg;
	op->mx_op = NULL;
	op->proof.mx = domain_proof_mx(answer, op->hosts, op->proof.foreign_mx);
	settle(op);
}

struct domain_proof_op *domain_proof_start(struct dns *dns, const char *name, const char *token, char *const *hosts, int64_t within_us,
                                           domain_proof_done *done, void *arg) {
	struct domain_proof_op *op = xcalloc(1, sizeof(*op));
	op->token = token;
	op->hosts = hosts;
	op->done = done;
	op->arg = arg;
	op->txt_op = dns_start(dns, DNS_TXT, name, within_us, on_txt, op);
	op->mx_op = dns_start(dns, DNS_MX, name, within_us, on_mx, op);
	return op;
}

struct domain_proof_op *domain_proof_cancel(struct domain_proof_op *op) {
	if (!op)
		return NULL;
	dns_cancel(op->txt_op);
	dns_cancel(op->mx_op);
	free(op);
	return NULL;
}
