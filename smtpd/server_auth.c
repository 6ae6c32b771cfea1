#include "smtpd/server_auth.h"

#include "common/dns.h"
#include "common/log.h"
#include "common/pg.h"
#include "common/work.h"
#include "smtpd/dnsbl.h"
#include "smtpd/mail_auth.h"
#include "smtpd/server.h"

static int refuse(int r, const char *why) {
	log_msg(LOG_LEVEL_ERROR, "cannot authenticate mail", "%s", why);
	return r;
}

static int start_dns(struct server *s, struct server_auth *a) {
	const struct dns_options options = {.servers = s->config->dns_servers, .zone_file = s->config->dns_zone_file};
	char fault[DNS_FAULT_SIZE];
	int r = dns_new(s->loop, &options, &a->dns, fault);
	return r < 0 ? refuse(r, fault) : 0;
}

static int start_dnsbl(struct server *s, struct server_auth *a) {
	char fault[DNSBL_FAULT_SIZE];
	if (!s->config->dnsbl_zones[0])
		return 0;
	int r = dnsbl_new(s->loop, a->dns, s->config->dnsbl_zones, &a->dnsbl, fault);
	if (r < 0)
		return refuse(r, fault);
	a->dnsbl_rejects = strcmp(s->config->dnsbl_action, "reject") == 0;
	dnsbl_self_test(a->dnsbl);
	return 0;
}

static int start_checks(struct server *s, struct server_auth *a) {
	const struct smtpd_config *config = s->config;
	const struct mail_auth_options options = {
		.hostname = config->name,
		.authserv_id = config->authserv_id[0] ? config->authserv_id : config->name,
		.budget_us = config->authentication_deadline,
		.checks_max = (unsigned)config->authentication_max,
		.octets_max = (size_t)config->authentication_memory_max,
		.null_mx = config->null_mx_reject,
	};
	if (!config->authentication)
		return 0;
	a->work = work_new(s->loop, 1, options.checks_max);
	if (!a->work)
		return refuse(-errno, "no descriptor for its helper");
	a->pg = server_open_pg(s, 1, SERVER_PG_RESULTS);
	a->checks = mail_auth_new(s->loop, a->dns, a->work, a->pg, s->metrics, &options);
	a->before_commit = config->spf_reject || config->dmarc_reject || config->null_mx_reject;
	return 0;
}

int server_auth_start(struct server *s) {
	struct server_auth *a = &s->auth;
	int r = s->config->authentication || s->config->dnsbl_zones[0] ? start_dns(s, a) : 0;
	if (r == 0)
		r = start_dnsbl(s, a);
	if (r == 0)
		r = start_checks(s, a);
	return r;
}

void server_auth_stop(struct server *s) {
	struct server_auth *a = &s->auth;
	a->dnsbl = dnsbl_free(a->dnsbl);
	a->work = work_free(a->work); /* before what its jobs touch */
	a->checks = mail_auth_free(a->checks);
	a->pg = pg_free(a->pg);
	a->dns = dns_free(a->dns);
}
