/* Questions to the DNS. A question is one (type, name) with everybody who waits for it:
 *
 *   WAITING -room-> ASKING -answer-> DUE -told-> CACHED -asked again-> DUE;  CACHED -expired, evicted-> gone
 *   WAITING, ASKING: no answer yet.  DUE, CACHED: answer != NULL.  CACHED: no operation waits.
 *
 * Invariants: every question is in exactly one of the lists, and in the chain of its hash; nothing calls back into c-ares from
 * inside its own callbacks, because answers are told from a job of the loop. */
#include "common/dns.h"

#include "common/buf.h"
#include "common/clock.h"
#include "common/dns_wire.h"
#include "common/dns_zone.h"
#include "common/list.h"
#include "common/loop.h"
#include "common/netaddr.h"

#include <ares.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define CHAINS 512
#define TTL_MAX 300                /* seconds; a wrong answer is not believed for longer */
#define TRY_MS 2000                /* for a server, before the next one is asked; doubles at the second round */
#define TRIES 2
#define EDNS_SIZE 1232             /* fits every path without fragments */
#define ZONE_FILE_MAX (4 * 1024 * 1024)

enum state { WAITING, ASKING, DUE, CACHED, STATES };

struct question {
	struct list link, chain;
	struct dns *dns;
	enum state state;
	enum dns_type type;
	char name[DNS_NAME_SIZE];
	struct dns_answer *answer;
	int64_t expires;               /* monotonic */
	struct list ops;
};

struct dns_op {
	struct list link;
	struct question *question;
	dns_done *done;
	void *arg;
	struct timer deadline;
};

/* One socket of c-ares'. */
struct watch {
	struct list link;
	struct dns *dns;
	int fd;
	struct event *event;
};

struct dns {
	struct loop *loop;
	struct dns_options options;
	ares_channel channel;          /* NULL: a zone answers */
	struct dns_zone *zone;
	struct list lists[STATES];
	unsigned counts[STATES];
	struct list chains[CHAINS];
	struct list watches;
	struct timer retry;            /* when c-ares wants to look again */
	struct deferred deliver;
	bool dying;
};

static void pump(struct dns *);

/* ---- questions ---- */

static void move(struct question *q, enum state to) {
	struct dns *d = q->dns;
	list_unlink(&q->link);
	d->counts[q->state]--;
	q->state = to;
	d->counts[to]++;
	list_append(&d->lists[to], &q->link);
}

static struct list *chain_of(struct dns *d, enum dns_type type, const char *name) {
	uint32_t h = 2166136261U ^ (uint32_t)type;
	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * 16777619U;
	return &d->chains[h % CHAINS];
}

static struct question *question_find(struct dns *d, enum dns_type type, const char *name) {
	list_for_each (l, chain_of(d, type, name)) {
		struct question *q = list_entry(l, struct question, chain);
		if (q->type == type && strcmp(q->name, name) == 0)
			return q;
	}
	return NULL;
}

static struct question *question_new(struct dns *d, enum dns_type type, const char *name) {
	struct question *q = xcalloc(1, sizeof(*q));
	q->dns = d;
	q->type = type;
	memcpy(q->name, name, strlen(name) + 1);
	list_init(&q->ops);
	list_append(chain_of(d, type, name), &q->chain);
	q->state = WAITING;
	d->counts[WAITING]++;
	list_append(&d->lists[WAITING], &q->link);
	return q;
}

static void question_free(struct question *q) {
	struct list *l;
	while ((l = list_first(&q->ops))) {
		struct dns_op *op = list_entry(l, struct dns_op, link);
		list_unlink(l);
		timer_fini(&op->deadline);
		free(op);
	}
	list_unlink(&q->chain);
	list_unlink(&q->link);
	q->dns->counts[q->state]--;
	dns_answer_free(q->answer);
	free(q);
}

static void deliver(void *arg);

/* Until when it is believed, monotonic. A zone does not change. */
static int64_t expiry(const struct dns *d, const struct dns_answer *answer) {
	if (answer->status == DNS_TEMPORARY)
		return 0;
	return d->zone ? INT64_MAX : clock_mono_us() + (int64_t)min_of(answer->ttl, (uint32_t)TTL_MAX) * 1000000;
}

static void question_answer(struct question *q, struct dns_answer *answer) {
	q->answer = answer;
	q->expires = expiry(q->dns, answer);
	move(q, DUE);
	loop_defer(q->dns->loop, &q->dns->deliver, deliver, q->dns);
}

/* ---- c-ares on the loop ---- */

static void arm_retry(struct dns *d) {
	struct timeval tv;
	if (!ares_timeout(d->channel, NULL, &tv))
		timer_disarm(&d->retry);
	else
		timer_arm(&d->retry, (int64_t)tv.tv_sec * 1000000 + tv.tv_usec);
}

static void on_retry(void *arg) {
	struct dns *d = arg;
	ares_process_fd(d->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	arm_retry(d);
}

static void on_socket(evutil_socket_t fd, short what, void *arg) {
	struct dns *d = arg;
	ares_process_fd(d->channel, what & EV_READ ? fd : ARES_SOCKET_BAD, what & EV_WRITE ? fd : ARES_SOCKET_BAD);
	arm_retry(d);
}

static struct watch *watch_of(struct dns *d, int fd) {
	list_for_each (l, &d->watches) {
		struct watch *w = list_entry(l, struct watch, link);
		if (w->fd == fd)
			return w;
	}
	struct watch *w = xcalloc(1, sizeof(*w));
	w->dns = d;
	w->fd = fd;
	list_append(&d->watches, &w->link);
	return w;
}

/* c-ares tells what it wants of a socket; neither: it is about to be closed. */
static void on_socket_state(void *arg, ares_socket_t fd, int readable, int writable) {
	struct dns *d = arg;
	struct watch *w = watch_of(d, fd);
	short what = (short)((readable ? EV_READ : 0) | (writable ? EV_WRITE : 0));
	if (w->event)
		event_free(w->event);
	w->event = NULL;
	if (!what) {
		list_unlink(&w->link);
		free(w);
		return;
	}
	w->event = event_new(loop_base(d->loop), fd, (short)(what | EV_PERSIST), on_socket, d);
	if (!w->event || event_add(w->event, NULL) < 0)
		abort();
}

static void on_reply(void *arg, int status, int timeouts, unsigned char *reply, int n) {
	struct question *q = arg;
	(void)timeouts;
	if (q->dns->dying)
		return; /* dns_free() frees it */
	bool spoke = status == ARES_SUCCESS || status == ARES_ENODATA || status == ARES_ENOTFOUND;
	question_answer(q, spoke && reply && n > 0 ? dns_wire_read(reply, (size_t)n, q->type, q->name)
	                                           : dns_answer_new(q->type, DNS_TEMPORARY));
}

/* ---- asking ---- */

static void ask(struct question *q) {
	struct dns *d = q->dns;
	move(q, ASKING);
	if (d->zone) {
		struct dns_answer *a = dns_zone_lookup(d->zone, q->type, q->name);
		if (a)
			question_answer(q, a);
		return;
	}
	ares_query(d->channel, q->name, 1, (int)q->type, on_reply, q);
	arm_retry(d);
}

static void pump(struct dns *d) {
	struct list *l;
	while (d->counts[ASKING] < d->options.in_flight && (l = list_first(&d->lists[WAITING])))
		ask(list_entry(l, struct question, link));
}

/* To the young end of the cache. */
static void keep(struct question *q) {
	struct dns *d = q->dns;
	move(q, CACHED);
	if (d->counts[CACHED] > d->options.cached)
		question_free(list_entry(list_first(&d->lists[CACHED]), struct question, link));
}

/* After its answer was told: kept for its TTL, or gone. */
static void retire(struct question *q) {
	if (q->expires <= clock_mono_us())
		question_free(q);
	else
		keep(q);
}

static void op_finish(struct dns_op *op, const struct dns_answer *answer) {
	dns_done *done = op->done;
	void *arg = op->arg;
	list_unlink(&op->link);
	timer_fini(&op->deadline);
	free(op);
	done(arg, answer);
}

/* `done` may start and cancel what it likes, but not free the resolver. */
static void deliver(void *arg) {
	struct dns *d = arg;
	struct list *l, *o;
	while ((l = list_first(&d->lists[DUE]))) {
		struct question *q = list_entry(l, struct question, link);
		while ((o = list_first(&q->ops)))
			op_finish(list_entry(o, struct dns_op, link), q->answer);
		retire(q);
	}
	pump(d);
}

/* Nobody waits any more: a question that was not sent is not asked, and a zone's silence need not be kept. */
static void abandon(struct question *q) {
	if (list_empty(&q->ops) && (q->state == WAITING || (q->state == ASKING && q->dns->zone)))
		question_free(q);
}

static void on_deadline(void *arg) {
	struct dns_op *op = arg;
	struct question *q = op->question;
	const struct dns_answer late = {.type = q->type, .status = DNS_TEMPORARY};
	list_unlink(&op->link);
	abandon(q);
	op_finish(op, &late);
}

struct dns_op *dns_start(struct dns *d, enum dns_type type, const char *name, int64_t within_us, dns_done *done, void *arg) {
	char canonical[DNS_NAME_SIZE];
	bool bad = dns_name_canonical(name, strlen(name), canonical) < 0 || canonical[0] == '\0';
	if (bad)
		memcpy(canonical, "?", 2); /* no name: its answer is known */
	struct question *q = question_find(d, type, canonical);
	if (q && q->state == CACHED && q->expires <= clock_mono_us()) {
		question_free(q);
		q = NULL;
	}
	if (!q)
		q = question_new(d, type, canonical);
	struct dns_op *op = xcalloc(1, sizeof(*op));
	op->question = q;
	op->done = done;
	op->arg = arg;
	timer_init(&op->deadline, d->loop, on_deadline, op);
	timer_arm(&op->deadline, within_us);
	list_append(&q->ops, &op->link);
	if (q->state == CACHED) {
		move(q, DUE);
		loop_defer(d->loop, &d->deliver, deliver, d);
	} else if (q->state == WAITING && (bad || d->counts[WAITING] > d->options.waiting)) {
		question_answer(q, dns_answer_new(type, bad ? DNS_NXDOMAIN : DNS_TEMPORARY));
	} else if (q->state == WAITING) {
		loop_defer(d->loop, &d->deliver, deliver, d);
	}
	return op;
}

/* A zone's answer, put into the cache. NULL: none, or one that is better waited for. */
static struct question *zone_question(struct dns *d, enum dns_type type, const char *name) {
	struct dns_answer *answer = dns_zone_lookup(d->zone, type, name);
	if (!answer || answer->status == DNS_TEMPORARY) {
		dns_answer_free(answer);
		return NULL;
	}
	struct question *q = question_new(d, type, name);
	q->answer = answer;
	q->expires = expiry(d, answer);
	return q;
}

const struct dns_answer *dns_known(struct dns *d, enum dns_type type, const char *name) {
	char canonical[DNS_NAME_SIZE];
	if (dns_name_canonical(name, strlen(name), canonical) < 0 || canonical[0] == '\0')
		return NULL;
	struct question *q = question_find(d, type, canonical);
	if (!q && d->zone)
		q = zone_question(d, type, canonical);
	else if (!q || q->state != CACHED || q->expires <= clock_mono_us())
		return NULL;
	if (!q)
		return NULL;
	keep(q);
	return q->answer;
}

struct dns_op *dns_cancel(struct dns_op *op) {
	if (!op)
		return NULL;
	struct question *q = op->question;
	list_unlink(&op->link);
	timer_fini(&op->deadline);
	free(op);
	abandon(q);
	return NULL;
}

/* ---- birth and death ---- */

static int read_whole(const char *path, struct buf *out) {
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = 1;
	if (fd < 0)
		return -errno;
	while (n > 0) {
		char *room = buf_reserve(out, 65536);
		n = room ? read(fd, room, 65536) : -1;
		if (n > 0)
			buf_commit(out, (size_t)n);
		else if (n < 0 && !room)
			errno = EFBIG;
	}
	int r = n < 0 ? -errno : 0;
	close(fd);
	return r;
}

static int load_zone(const char *path, struct dns_zone **ret, char *ret_fault) {
	char fault[DNS_ZONE_FAULT_SIZE];
	struct buf text;
	buf_init(&text, ZONE_FILE_MAX);
	int r = read_whole(path, &text);
	if (r < 0)
		snprintf(ret_fault, DNS_FAULT_SIZE, "cannot read %s: %s", path, strerror(-r));
	else if ((r = dns_zone_parse(text.data ? text.data : "", text.len, ret, fault)) < 0)
		snprintf(ret_fault, DNS_FAULT_SIZE, "%s: %s", path, fault);
	buf_fini(&text);
	return r;
}

int dns_zone_check(const char *zone_file, char ret_fault[DNS_FAULT_SIZE]) {
	cleanup(dns_zone_freep) struct dns_zone *zone = NULL;
	return load_zone(zone_file, &zone, ret_fault);
}

/* The colon before its port; NULL: it has none. */
static const char *port_of(const char *server) {
	const char *bracket = strrchr(server, ']'), *colon = strrchr(server, ':');
	bool port = colon && (bracket ? colon == bracket + 1 : strchr(server, ':') == colon);
	return port ? colon : NULL;
}

uint16_t dns_server_port(const char *server) {
	const char *colon = port_of(server);
	return colon ? (uint16_t)strtoul(colon + 1, NULL, 10) : 53;
}

int dns_server_check(const char *server) {
	const char *colon = port_of(server);
	size_t n = colon ? (size_t)(colon - server) : strlen(server), digits = colon ? strspn(colon + 1, "0123456789") : 0;
	struct netaddr address;
	if (colon && (digits == 0 || digits > 5 || colon[1 + digits] || strtoul(colon + 1, NULL, 10) - 1 > 65534))
		return -EINVAL;
	if (n > 2 && server[0] == '[' && server[n - 1] == ']')
		return netaddr_parse(server + 1, n - 2, &address) == 0 && address.family == NETADDR_IPV6 ? 0 : -EINVAL;
	return netaddr_parse(server, n, &address);
}

static int set_servers(struct dns *d, char *const *servers, char *ret_fault) {
	struct buf csv;
	int r = ARES_SUCCESS;
	buf_init(&csv, 4096);
	for (; *servers; servers++)
		buf_printf(&csv, "%s%s", csv.len ? "," : "", *servers);
	if (csv.len)
		r = ares_set_servers_ports_csv(d->channel, csv.data);
	if (r != ARES_SUCCESS)
		snprintf(ret_fault, DNS_FAULT_SIZE, "not a list of DNS servers: %s", csv.data);
	buf_fini(&csv);
	return r == ARES_SUCCESS ? 0 : -EINVAL;
}

static int open_channel(struct dns *d, char *const *servers, char *ret_fault) {
	struct ares_options o = {
		.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES | ARES_FLAG_EDNS,
		.timeout = TRY_MS,
		.tries = TRIES,
		.ednspsz = EDNS_SIZE,
		.sock_state_cb = on_socket_state,
		.sock_state_cb_data = d,
	};
	int given = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_EDNSPSZ | ARES_OPT_SOCK_STATE_CB;
#ifdef ARES_OPT_QUERY_CACHE
	given |= ARES_OPT_QUERY_CACHE; /* none: by itself it keeps answers for an hour, behind a cache that keeps them for TTL_MAX */
#endif
	int r = ares_library_init(ARES_LIB_INIT_ALL);
	if (r == ARES_SUCCESS)
		r = ares_init_options(&d->channel, &o, given);
	if (r != ARES_SUCCESS) {
		d->channel = NULL;
		snprintf(ret_fault, DNS_FAULT_SIZE, "cannot start the resolver: %s", ares_strerror(r));
		return -EIO;
	}
	return set_servers(d, servers, ret_fault);
}

int dns_new(struct loop *loop, const struct dns_options *options, struct dns **ret, char ret_fault[DNS_FAULT_SIZE]) {
	static char *const none[] = {NULL};
	cleanup(dns_freep) struct dns *d = xcalloc(1, sizeof(*d));
	d->loop = loop;
	d->options = *options;
	d->options.in_flight = options->in_flight ? options->in_flight : 256;
	d->options.waiting = options->waiting ? options->waiting : 4096;
	d->options.cached = options->cached ? options->cached : 1024;
	for (unsigned i = 0; i < STATES; i++)
		list_init(&d->lists[i]);
	for (unsigned i = 0; i < CHAINS; i++)
		list_init(&d->chains[i]);
	list_init(&d->watches);
	timer_init(&d->retry, loop, on_retry, d);
	int r = options->zone_file && *options->zone_file ? load_zone(options->zone_file, &d->zone, ret_fault)
	                                                  : open_channel(d, options->servers ? options->servers : none, ret_fault);
	if (r < 0)
		return r;
	*ret = take_ptr(d);
	return 0;
}

struct dns *dns_free(struct dns *d) {
	struct list *l;
	if (!d)
		return NULL;
	d->dying = true;
	if (d->channel) {
		ares_destroy(d->channel);
		ares_library_cleanup();
	}
	for (unsigned i = 0; i < STATES; i++)
		while ((l = list_first(&d->lists[i])))
			question_free(list_entry(l, struct question, link));
	while ((l = list_first(&d->watches))) {
		struct watch *w = list_entry(l, struct watch, link);
		list_unlink(l);
		if (w->event)
			event_free(w->event);
		free(w);
	}
	deferred_cancel(&d->deliver);
	timer_fini(&d->retry);
	dns_zone_free(d->zone);
	free(d);
	return NULL;
}
