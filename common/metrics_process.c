/* What the metrics process shows: the counters of all processes, which are in a shared mapping already, and the master's two
 * figures, for which there is a page here that only the master writes. */
#include "common/metrics_process.h"

#include "common/buf.h"
#include "common/listener.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/metrics.h"
#include "common/metrics_http.h"
#include "common/sandbox.h"

#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

struct board {
	_Atomic unsigned workers, deaths;
};

struct metrics_process {
	const struct process_options *options;
	struct board *board;
	int fd; /* -1: metrics_http's by now */
	struct loop *loop;
	struct metrics_http *http;
};

static int open_socket(struct metrics_process *p) {
	const char *error;
	struct log_line line;
	char name[128];
	bool taken = listener_take(p->options->metrics_listen, &p->fd, 1) == 1;
	int r = taken ? 0 : listener_open(p->options->metrics_listen, 1, &p->fd, &error);
	if (r < 0) {
		p->fd = -1;
		log_begin(&line, LOG_LEVEL_ERROR, "metrics cannot listen");
		log_str(&line, "error", error);
		log_end(&line);
		return r;
	}
	listener_name(p->fd, name, sizeof(name));
	log_begin(&line, LOG_LEVEL_INFO, "metrics listening");
	log_str(&line, "address", name);
	log_end(&line);
	return 0;
}

int metrics_process_new(const struct process_options *options, struct metrics_process **ret) {
	*ret = NULL;
	if (!options->metrics_listen || !*options->metrics_listen)
		return 0;
	struct metrics_process *p = xcalloc(1, sizeof(*p));
	p->options = options;
	p->board = mmap(NULL, sizeof(*p->board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (p->board == MAP_FAILED)
		abort();
	int r = open_socket(p);
	if (r < 0)
		metrics_process_free(p);
	else
		*ret = p;
	return r;
}

struct metrics_process *metrics_process_free(struct metrics_process *p) {
	if (!p)
		return NULL;
	assert(!p->http);
	if (p->fd >= 0)
		close(p->fd);
	munmap(p->board, sizeof(*p->board));
	free(p);
	return NULL;
}

int metrics_process_fd(const struct metrics_process *p) {
	return p->fd;
}

void metrics_process_tell(struct metrics_process *p, unsigned workers_alive, unsigned deaths) {
	if (!p)
		return;
	atomic_store(&p->board->workers, workers_alive);
	atomic_store(&p->board->deaths, deaths);
}

static void print(void *arg, struct buf *out) {
	const struct metrics_process *p = arg;
	const char *name = p->options->name;
	metrics_print(p->options->metrics, out);
	buf_printf(out,
	           "# HELP minutemail_workers Worker processes alive.\n# TYPE minutemail_workers gauge\n"
	           "minutemail_workers{daemon=\"%s\"} %u\n",
	           name, atomic_load(&p->board->workers));
	buf_printf(out,
	           "# HELP minutemail_worker_deaths_total Worker processes that ended unasked.\n"
	           "# TYPE minutemail_worker_deaths_total counter\nminutemail_worker_deaths_total{daemon=\"%s\"} %u\n",
	           name, atomic_load(&p->board->deaths));
}

static int start(void *arg, struct loop *loop, unsigned index) {
	struct metrics_process *p = arg;
	(void)index;
	p->loop = loop;
	p->http = metrics_http_new(loop, p->fd, print, p);
	p->fd = -1;
	return 0;
}

static void drain(void *arg) {
	loop_stop(((struct metrics_process *)arg)->loop);
}

static void stop(void *arg) {
	struct metrics_process *p = arg;
	p->http = metrics_http_free(p->http);
}

/* A worker's calls, and no file or address at all. */
static int confine(void *arg) {
	struct sandbox sandbox;
	(void)arg;
	sandbox_init(&sandbox, SANDBOX_WORKER);
	return sandbox_enter(&sandbox);
}

const struct process_ops METRICS_PROCESS_OPS = {.start = start, .drain = drain, .stop = stop, .confine = confine};
