#include "common/daemon.h"

#include "common/listener.h"
#include "common/log.h"

#include <unistd.h>

static void close_socket(int *fd) {
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

int daemon_sockets_open(struct daemon_sockets *s, char *const *addresses, unsigned workers) {
	*s = (struct daemon_sockets){.workers = workers};
	while (addresses[s->addresses])
		s->addresses++;
	size_t n = (size_t)s->addresses * workers;
	s->fds = xmalloc(max_of(n, (size_t)1) * sizeof(int));
	memset(s->fds, -1, n * sizeof(int));
	for (unsigned a = 0; a < s->addresses; a++) {
		const char *error;
		char name[128];
		struct log_line line;
		int r = listener_open(addresses[a], workers, &s->fds[a * workers], &error);
		if (r < 0) {
			log_msg(LOG_LEVEL_ERROR, "cannot listen", "%s", error);
			return r;
		}
		listener_name(s->fds[a * workers], name, sizeof(name));
		log_begin(&line, LOG_LEVEL_INFO, "listening");
		log_str(&line, "address", name);
		log_end(&line);
	}
	return 0;
}

void daemon_sockets_keep(struct daemon_sockets *s, unsigned worker, int *ret_fds) {
	for (unsigned i = 0; i < s->addresses * s->workers; i++) {
		if (i % s->workers == worker)
			ret_fds[i / s->workers] = s->fds[i];
		else
			close_socket(&s->fds[i]);
	}
}

void daemon_sockets_close(struct daemon_sockets *s) {
	for (unsigned i = 0; s->fds && i < s->addresses * s->workers; i++)
		close_socket(&s->fds[i]);
	free(s->fds);
	*s = (struct daemon_sockets){0};
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
