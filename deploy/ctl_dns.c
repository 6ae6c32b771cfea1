/* The DNS as apid is configured to ask it, and the names of ours that its records should have. */
#include "deploy/ctl.h"

#include "common/daemon.h"
#include "common/dns.h"

/* The pieces between commas and blanks; one allocation to free(), NULL-terminated. */
static char **split(const char *text) {
	size_t n = strlen(text), pieces = 0;
	char **list = xmalloc((n / 2 + 2) * sizeof(char *) + n + 1), *copy = (char *)(list + n / 2 + 2), *rest = NULL;
	memcpy(copy, text, n + 1);
	for (char *p = strtok_r(copy, ", ", &rest); p; p = strtok_r(NULL, ", ", &rest))
		list[pieces++] = p;
	list[pieces] = NULL;
	return list;
}

char **ctl_mx_hosts(struct ctl *ctl) {
	const struct ctl_settings *s = &ctl->settings;
	char room[256], canonical[DNS_NAME_SIZE];
	char **hosts = split(*s->mx_hosts ? s->mx_hosts : daemon_hostname(s->hostname, room));
	for (char **h = hosts; *h; h++) {
		if (dns_name_canonical(*h, strlen(*h), canonical) == 0 && strlen(canonical) <= strlen(*h)) {
			strcpy(*h, canonical);
			if (!strchr(*h, '.'))
				ctl_note(ctl, "\"%s\" is not a whole name: say --hostname or MINUTEMAIL_HOSTNAME, as apid has it", *h);
			continue;
		}
		ctl_error(ctl, "mx_hosts, or hostname in its place: \"%s\" is not a name", *h);
		free(hosts);
		return NULL;
	}
	if (!*hosts) {
		ctl_error(ctl, "mx_hosts has no name");
		free(hosts);
		return NULL;
	}
	return hosts;
}

struct dns *ctl_dns_open(struct ctl *ctl, struct loop *loop) {
	char **servers = split(ctl->settings.dns_servers), fault[DNS_FAULT_SIZE];
	const struct dns_options options = {.servers = servers, .zone_file = ctl->settings.dns_zone_file};
	struct dns *dns = NULL;
	if (dns_new(loop, &options, &dns, fault) < 0)
		ctl_error(ctl, "cannot ask the DNS: %s", fault);
	free(servers);
	return dns;
}
