/* See the header. Refusals may come by the thousand a second: each is one close(), and few are logged. */
#include "common/arrivals.h"

#include "common/log.h"

#include <sys/socket.h>
#include <unistd.h>

struct arrival {
	struct list link;
	struct arrivals *all;
	void *listener;
	struct proxy_accept *proxy;
	struct netaddr peer;
};

void arrivals_log_refusal(const char *reason, const struct netaddr *client, unsigned code) {
	struct log_line line;
	char text[NETADDR_TEXT_SIZE];
	static struct log_limit limit = {.what = "connection refused", .per_second = 10};
	if (!log_enabled(LOG_LEVEL_INFO) || !log_limit_pass(&limit))
		return;
	log_begin(&line, LOG_LEVEL_INFO, "connection refused");
	log_str(&line, "reason", reason);
	if (client && client->family != NETADDR_NONE) {
		netaddr_format(client, text);
		log_str(&line, "client", text);
	}
	if (code)
		log_int(&line, "code", code);
	log_end(&line);
}

static void refuse(struct arrivals *all, const struct netaddr *peer, const char *fault) {
	all->ops->refused(all->arg);
	arrivals_log_refusal(fault, all->log_client ? peer : NULL, 0);
}

/* Its place is free again before whoever it was takes one of its own. */
static void end(struct arrival *a) {
	list_unlink(&a->link);
	a->all->ops->place_left(a->all->arg);
	free(a);
}

static void on_header(void *arg, int fd, const struct proxy_client *client, const char *fault) {
	const struct arrival a = *(struct arrival *)arg;
	end(arg);
	if (fault)
		refuse(a.all, &a.peer, fault);
	else
		a.all->ops->come(a.listener, fd, client);
}

static void await_header(struct arrivals *all, int fd, const struct netaddr *peer, void *listener) {
	struct arrival *a = xcalloc(1, sizeof(*a));
	a->all = all;
	a->listener = listener;
	a->peer = *peer;
	list_append(&all->waiting, &a->link);
	all->ops->place_taken(all->arg);
	a->proxy = proxy_accept_start(all->loop, fd, peer, on_header, a);
}

void arrivals_init(struct arrivals *all, struct loop *loop, const struct arrivals_ops *ops, void *arg, bool log_client) {
	*all = (struct arrivals){.loop = loop, .ops = ops, .arg = arg, .log_client = log_client};
	list_init(&all->waiting);
}

void arrivals_add(struct arrivals *all, int fd, const struct sockaddr_storage *peer, const struct netaddr_nets *proxies, void *listener) {
	struct netaddr address = netaddr_of((const struct sockaddr *)peer);
	if (!proxies->n) {
		all->ops->come(listener, fd, &(struct proxy_client){.peer = address, .address = address});
	} else if (netaddr_nets_have(proxies, &address)) {
		await_header(all, fd, &address, listener);
	} else {
		close(fd);
		refuse(all, &address, "not one of this listener's proxies");
	}
}

void arrivals_cancel(struct arrivals *all) {
	list_for_each_safe (link, &all->waiting) {
		struct arrival *a = list_entry(link, struct arrival, link);
		proxy_accept_cancel(a->proxy);
		end(a);
	}
}
