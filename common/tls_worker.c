/* A worker's end: the certificates in use, and the calls to the signer. A call blocks, as the signature itself would have; what it
 * waits for is bounded, and one that was not answered closes the door for a while, so that a signer that hangs costs the worker one
 * wait and not one for each handshake. */
#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/metrics.h"
#include "common/tls_keys_impl.h"

#include <event2/event.h>
#include <openssl/x509.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_US 2000000
#define DOOR_SHUT_US 5000000
#define LOOK_US 200000          /* how often a waiting call looks whether the signer is still there */
#define EXPIRY_LOOK_US 60000000

struct tls {
	struct tls_keys *keys;
	struct loop *loop;
	int fd;
	struct event *readable;
	struct deferred changed;
	int news;                   /* certificates that came while a call waited; -1: none */
	uint64_t seq, generation;
	struct tls_set *set;        /* NULL: none yet */
	int64_t shut_until;
	bool watches;               /* the one worker that reports the expiry */
	struct metrics *metrics;
	unsigned gauge;
	int days;                   /* the class last warned of */
	struct timer timer;
};

/* ---- the channel ---- */

static void take_news(struct tls *t, int fd) {
	if (t->news >= 0)
		close(t->news);
	t->news = fd;
}

/* One message; any descriptor is news. 1: a message; 0: nothing there; -1: signer and keeper are gone for good. */
static int receive(struct tls *t, struct tls_reply *a) {
	int fd;
	ssize_t n = tls_receive_with_fd(t->fd, a, sizeof(*a), &fd);
	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
	if (fd >= 0)
		take_news(t, fd);
	if ((size_t)n < offsetof(struct tls_reply, data) || a->len > (size_t)n - offsetof(struct tls_reply, data))
		*a = (struct tls_reply){.result = -EBADMSG};
	return 1;
}

static int await(struct tls *t, uint64_t seq, struct tls_reply *a, uint64_t serving) {
	int64_t until = clock_mono_us_now() + ANSWER_US;
	do {
		struct pollfd p = {.fd = t->fd, .events = POLLIN};
		if (poll(&p, 1, LOOK_US / 1000) < 0 && errno != EINTR)
			return -errno;
		int r;
		while ((r = receive(t, a)) > 0)
			if (a->seq == seq)
				return a->result;
		if (r < 0)
			return -EPIPE;
		if (serving && atomic_load(&t->keys->status->serving) != serving)
			return -ESTALE; /* whoever had the request is gone */
	} while (clock_mono_us_now() < until);
	t->shut_until = clock_mono_us_now() + DOOR_SHUT_US;
	log_msg(LOG_LEVEL_ERROR, "key process does not answer", "no TLS for %d s", DOOR_SHUT_US / 1000000);
	return -ETIMEDOUT;
}

static int ask(struct tls *t, struct tls_request *q, struct tls_reply *a) {
	uint64_t serving = atomic_load(&t->keys->status->serving);
	size_t n = offsetof(struct tls_request, data) + q->len;
	q->seq = ++t->seq;
	if (send(t->fd, q, n, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)n)
		return -EPIPE;
	return await(t, q->seq, a, serving);
}

/* ---- signatures ---- */

static void on_changed(void *arg);
static void on_stale(void *arg);

static int sign(const struct tls_remote *r, enum tls_op op, const void *p, size_t n, uint8_t ret[TLS_SIGN_MAX], size_t *ret_len) {
	struct tls *t = r->arg;
	struct tls_request q = {.generation = r->generation, .op = op, .pair = r->pair, .len = (uint32_t)n};
	struct tls_reply a;
	if (n > sizeof(q.data))
		return -E2BIG;
	memcpy(q.data, p, n);
	int result = ask(t, &q, &a);
	/* Not here: the handshake under way uses the set. */
	if (result == -ESTALE)
		loop_defer(t->loop, &t->changed, on_stale, t);
	else if (t->news >= 0)
		loop_defer(t->loop, &t->changed, on_changed, t);
	if (result < 0)
		return result;
	memcpy(ret, a.data, a.len);
	*ret_len = a.len;
	return 0;
}

/* ---- certificates ---- */

static void watch_expiry(void *arg) {
	struct tls *t = arg;
	const char *name;
	timer_arm(&t->timer, EXPIRY_LOOK_US);
	if (!t->set)
		return;
	int64_t left = tls_set_expires(t->set, &name) - clock_wall_us();
	int days = tls_days_class(left);
	if (t->metrics)
		metrics_set(t->metrics, t->gauge, left / 1000000);
	if (days < t->days) {
		struct log_line line;
		log_begin(&line, LOG_LEVEL_WARNING, days ? "certificate expires soon" : "certificate expired");
		log_str(&line, "name", name);
		log_int(&line, "hours_left", left / 3600000000LL);
		log_end(&line);
	}
	t->days = days;
}

static int use(struct tls *t, struct tls_pair *pairs, size_t count, uint64_t generation) {
	struct tls_set *set = NULL;
	int r = 0;
	for (size_t i = 0; i < count && r == 0; i++) {
		const struct tls_remote remote = {sign, t, generation, (uint32_t)i};
		pairs[i].key = tls_remote_key(X509_get0_pubkey(pairs[i].leaf), &remote);
		r = pairs[i].key ? 0 : -EINVAL;
	}
	if (r == 0)
		r = tls_set_new(pairs, count, t->keys->tickets, &set);
	if (r < 0)
		return r;
	tls_set_alpn(set, t->keys->options->alpn);
	tls_set_unref(t->set);
	t->set = set;
	t->generation = generation;
	t->shut_until = 0;
	if (t->watches)
		watch_expiry(t);
	return 0;
}

static void on_changed(void *arg) {
	struct tls *t = arg;
	struct tls_pair *pairs;
	uint64_t generation;
	size_t count;
	if (t->news < 0)
		return;
	int r = tls_public_read(t->news, &generation, &pairs, &count);
	close(t->news);
	t->news = -1;
	if (r == 0) {
		if (generation > t->generation)
			r = use(t, pairs, count, generation);
		for (size_t i = 0; i < count; i++)
			tls_pair_fini(&pairs[i]);
		free(pairs);
	}
	if (r < 0)
		log_msg(LOG_LEVEL_ERROR, "certificates not taken over", "%s", strerror(-r));
}

static void fetch(struct tls *t) {
	struct tls_request q = {.op = TLS_OP_CERTIFICATES};
	struct tls_reply a;
	if (atomic_load(&t->keys->status->serving))
		ask(t, &q, &a);
	on_changed(t);
}

/* Ours are older than what the signer keeps: news that came while there was no descriptor for them were lost. */
static void on_stale(void *arg) {
	fetch(arg);
}

static void on_readable(evutil_socket_t fd, short what, void *arg) {
	struct tls *t = arg;
	struct tls_reply a;
	int r;
	(void)fd;
	(void)what;
	while ((r = receive(t, &a)) > 0)
		;
	on_changed(t);
	if (r < 0) {
		log_msg(LOG_LEVEL_ERROR, "key process gone", "no TLS until the daemon is started anew");
		event_del(t->readable);
		t->set = tls_set_unref(t->set);
	}
}

/* ---- life ---- */

struct tls *tls_open(struct tls_keys *keys, struct loop *loop, unsigned worker, struct metrics *metrics, unsigned expiry_gauge) {
	struct tls *t = xcalloc(1, sizeof(*t));
	*t = (struct tls){.keys = keys, .loop = loop, .news = -1, .watches = worker == 0, .metrics = metrics, .gauge = expiry_gauge, .days = 999};
	t->fd = keys->worker_fds[worker];
	keys->worker_fds[worker] = -1;
	for (unsigned i = 0; i < keys->options->workers; i++) {
		if (keys->worker_fds[i] >= 0)
			close(keys->worker_fds[i]);
		keys->worker_fds[i] = -1;
	}
	close(keys->control);
	keys->control = -1;
	tls_tickets_keep(keys->tickets);
	/* What an earlier worker on this socket was answered has other numbers. */
	t->seq = (uint64_t)clock_mono_us_now() << 16;
	timer_init(&t->timer, loop, watch_expiry, t);
	fetch(t);
	if (t->watches)
		watch_expiry(t);
	t->readable = event_new(loop_base(loop), t->fd, EV_READ | EV_PERSIST, on_readable, t);
	if (!t->readable || event_add(t->readable, NULL) < 0)
		abort();
	return t;
}

struct tls *tls_close(struct tls *t) {
	if (!t)
		return NULL;
	event_free(t->readable);
	deferred_cancel(&t->changed);
	timer_fini(&t->timer);
	tls_set_unref(t->set);
	if (t->news >= 0)
		close(t->news);
	close(t->fd);
	free(t);
	return NULL;
}

struct tls_set *tls_usable(struct tls *t) {
	if (!t || !t->set || clock_mono_us() < t->shut_until)
		return NULL;
	return atomic_load(&t->keys->status->serving) ? t->set : NULL;
}
