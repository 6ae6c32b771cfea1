#include "common/daemon.h"

#include "common/config.h"
#include "common/inherit.h"
#include "common/listener.h"
#include "common/log.h"
#include "common/sandbox.h"

#include <libgen.h>
#include <sys/resource.h>
#include <unistd.h>

#define SOCKETS_MAX 1024 /* taken at one address */

int daemon_configure(const struct daemon_configuration *d, int argc, char **argv) {
	switch (config_load(d->keys, d->config, argc, argv, d->about, NULL)) {
	case CONFIG_OK:
		return d->check(d->arg, false) && daemon_set_log_level(*d->log_level) ? -1 : 2;
	case CONFIG_CHECK:
		if (!d->check(d->arg, true))
			return 2;
		config_print(d->keys, d->config);
		return 0;
	case CONFIG_EXIT_OK:
		return 0;
	case CONFIG_BAD:
		return 2;
	}
	abort();
}

static void add(struct daemon_sockets *s, unsigned address, const int *fds, unsigned n) {
	s->v = xrealloc(s->v, (s->count + n) * sizeof(*s->v));
	for (unsigned i = 0; i < n; i++)
		s->v[s->count++] = (struct daemon_socket){fds[i], address};
}

static int open_address(struct daemon_sockets *s, unsigned index, const char *address) {
	int fds[SOCKETS_MAX];
	const char *error;
	char name[128];
	struct log_line line;
	unsigned taken = listener_take(address, fds, SOCKETS_MAX);
	unsigned n = taken ? taken : s->workers;
	if (!taken) {
		assert(n <= SOCKETS_MAX);
		int r = listener_open(address, n, fds, &error);
		if (r < 0) {
			log_msg(LOG_LEVEL_ERROR, "cannot listen", "%s", error);
			return r;
		}
	}
	add(s, index, fds, n);
	listener_name(fds[0], name, sizeof(name));
	log_begin(&line, LOG_LEVEL_INFO, "listening");
	log_str(&line, "address", name);
	if (taken)
		log_int(&line, "inherited", taken);
	log_end(&line);
	return 0;
}

int daemon_sockets_open(struct daemon_sockets *s, char *const *addresses, unsigned workers) {
	*s = (struct daemon_sockets){.workers = workers};
	int r = 0;
	inherit_init();
	for (unsigned i = 0; addresses[i] && r == 0; i++)
		r = open_address(s, i, addresses[i]);
	return r;
}

/* `nth` of the `of` sockets at an address: dealt out in turn, the sockets to the workers or the workers to the sockets. */
static bool serves(const struct daemon_sockets *s, unsigned worker, unsigned nth, unsigned of) {
	return of >= s->workers ? nth % s->workers == worker : worker % of == nth;
}

void daemon_sockets_keep(struct daemon_sockets *s, unsigned worker) {
	unsigned kept = 0;
	for (unsigned from = 0, to; from < s->count; from = to) {
		for (to = from; to < s->count && s->v[to].address == s->v[from].address; to++)
			;
		for (unsigned i = from; i < to; i++) {
			/* `kept` trails behind: nothing of this address that is still to be looked at is overwritten. */
			struct daemon_socket socket = s->v[i];
			if (serves(s, worker, i - from, to - from))
				s->v[kept++] = socket;
			else
				close(socket.fd);
		}
	}
	s->count = kept;
}

void daemon_sockets_close(struct daemon_sockets *s) {
	for (unsigned i = 0; i < s->count; i++)
		close(s->v[i].fd);
	free(s->v);
	*s = (struct daemon_sockets){0};
}

static void may_read_directory(void *arg, const char *path) {
	cleanup(freep) char *copy = xstrdup(path);
	sandbox_may_read(arg, dirname(copy));
}

int daemon_confine(const struct config_key *keys, struct sandbox *sandbox) {
	config_each_file(keys, may_read_directory, sandbox);
	config_forget(keys);
	int r = sandbox_enter(sandbox);
	if (r < 0) {
		struct log_line line;
		log_begin(&line, LOG_LEVEL_ERROR, "cannot enter the sandbox");
		log_errno(&line, r);
		log_end(&line);
	}
	return r;
}

const char *daemon_hostname(const char *configured, char room[256]) {
	if (configured && *configured)
		return configured;
	room[255] = '\0';
	if (gethostname(room, 255) < 0)
		memcpy(room, "localhost", sizeof("localhost"));
	return room;
}

bool daemon_set_log_level(const char *text) {
	enum log_level level;
	if (!log_level_parse(text, &level))
		return false;
	log_set_level(level);
	return true;
}

void daemon_reload(const struct config_key *keys, void *config, char *const *log_level) {
	if (config_reload(keys, config) == 0 && !daemon_set_log_level(*log_level))
		log_msg(LOG_LEVEL_WARNING, "ignoring log_level", "must be debug, info, warning or error");
}

void daemon_raise_descriptors(void) {
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}
