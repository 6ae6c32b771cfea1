/* What the metrics process shows: the counters of all processes, which are in a shared mapping already, and the master's two
 * figures, for which there is a page here that only the master writes. */
#include "common/metrics_process.h"

#include "common/buf.h"
#include "common/clock.h"
#include "common/listener.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/metrics.h"
#include "common/metrics_http.h"
#include "common/process_figures.h"
#include "common/sandbox.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

struct board {
	_Atomic unsigned workers, deaths, hangs, upgrades_failed;
};

struct metrics_process {
	const struct process_options *options;
	struct board *board;
	struct process_figures *figures;
	int fd; /* -1: metrics_http's by now */
	int64_t started_us; /* wall */
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
	p->started_us = clock_wall_us();
	p->figures = process_figures_new(max_of(options->workers, 1u));
	p->board = xshared(sizeof(*p->board));
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
	process_figures_free(p->figures);
	free(p);
	return NULL;
}

int metrics_process_fd(const struct metrics_process *p) {
	return p->fd;
}

void metrics_process_tell(struct metrics_process *p, const struct master_figures *f) {
	if (!p)
		return;
	atomic_store(&p->board->workers, f->workers_alive);
	atomic_store(&p->board->deaths, f->deaths);
	atomic_store(&p->board->hangs, f->hangs);
	atomic_store(&p->board->upgrades_failed, f->upgrades_failed);
}

void metrics_process_measure(struct metrics_process *p, const pid_t *slots) {
	if (p)
		process_figures_look(p->figures, slots);
}

static void print_one(struct buf *out, const char *name, const char *kind, const char *help, const char *daemon, int64_t value) {
	buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s{daemon=\"%s\"} %" PRId64 "\n", name, help, name, kind, name, daemon, value);
}

static void print(void *arg, struct buf *out) {
	const struct metrics_process *p = arg;
	const char *name = p->options->name;
	metrics_print(p->options->metrics, out);
	print_one(out, "minutemail_workers", "gauge", "Worker processes alive.", name, atomic_load(&p->board->workers));
	print_one(out, "minutemail_worker_deaths_total", "counter", "Worker processes that ended unasked.", name,
	          atomic_load(&p->board->deaths));
	print_one(out, "minutemail_worker_hangs_total", "counter", "Worker processes killed because their loop stood still.", name,
	          atomic_load(&p->board->hangs));
	print_one(out, "minutemail_upgrades_failed_total", "counter", "New masters that could not take over.", name,
	          atomic_load(&p->board->upgrades_failed));
	print_one(out, "minutemail_start_time_seconds", "gauge", "When this master started; its counters start there too.", name,
	          p->started_us / 1000000);
	buf_printf(out,
	           "# HELP minutemail_build_info The version that runs.\n# TYPE minutemail_build_info gauge\n"
	           "minutemail_build_info{daemon=\"%s\",version=\"%s\"} 1\n",
	           name, MINUTEMAIL_VERSION);
	process_figures_print(p->figures, name, out);
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
