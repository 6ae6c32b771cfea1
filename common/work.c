/* Helper threads with one queue.
 *
 *   WAITING -a helper is free-> RUNNING -> ENDED -told on the loop-> gone;  a cancelled one is dropped instead of told
 *
 * `lock` guards the three lists and every operation's state; `cancelled` belongs to the loop's thread alone. */
#include "common/work.h"

#include "common/list.h"
#include "common/loop.h"

#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum state { WAITING, RUNNING, ENDED };

struct work_op {
	struct list link;
	struct work *work;
	const struct work_job *job;
	void *arg;
	enum state state;
	bool cancelled;
};

struct work {
	struct loop *loop;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	pthread_t *threads;
	unsigned thread_count, threads_max, queue, waiting_count;
	struct list waiting, running, ended;
	bool stop;
	int fd;                        /* eventfd: something ended */
	struct event *event;
};

static void *helper(void *arg) {
	struct work *w = arg;
	pthread_mutex_lock(&w->lock);
	while (!w->stop) {
		struct list *l = list_first(&w->waiting);
		if (!l) {
			pthread_cond_wait(&w->wake, &w->lock);
			continue;
		}
		struct work_op *op = list_entry(l, struct work_op, link);
		list_unlink(l);
		w->waiting_count--;
		op->state = RUNNING;
		list_append(&w->running, &op->link);
		pthread_mutex_unlock(&w->lock);
		op->job->run(op->arg);
		pthread_mutex_lock(&w->lock);
		list_unlink(&op->link);
		op->state = ENDED;
		list_append(&w->ended, &op->link);
		eventfd_write(w->fd, 1);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static void drop(struct work_op *op) {
	if (op->job->drop)
		op->job->drop(op->arg);
	free(op);
}

static struct work_op *take(struct work *w, struct list *from) {
	pthread_mutex_lock(&w->lock);
	struct list *l = list_first(from);
	if (l)
		list_unlink(l);
	pthread_mutex_unlock(&w->lock);
	return l ? list_entry(l, struct work_op, link) : NULL;
}

static void on_ended(evutil_socket_t fd, short what, void *arg) {
	struct work *w = arg;
	struct work_op *op;
	eventfd_t n;
	(void)what;
	(void)eventfd_read(fd, &n);
	while ((op = take(w, &w->ended))) {
		if (op->cancelled) {
			drop(op);
			continue;
		}
		void (*done)(void *) = op->job->done;
		void *done_arg = op->arg;
		free(op);
		done(done_arg);
	}
}

/* With the first job, which comes after the process has entered its sandbox: a thread has the limits of its birth. The daemons' signals
 * are handled on the loop's thread. False: there is none, and none could be made. */
static bool start_threads(struct work *w) {
	sigset_t all, before;
	if (w->thread_count == w->threads_max)
		return true;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (w->thread_count < w->threads_max && pthread_create(&w->threads[w->thread_count], NULL, helper, w) == 0)
		w->thread_count++;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return w->thread_count > 0;
}

struct work_op *work_start(struct work *w, const struct work_job *job, void *arg) {
	struct work_op *op = NULL;
	if (!start_threads(w))
		return NULL;
	pthread_mutex_lock(&w->lock);
	if (w->waiting_count < w->queue) {
		op = xcalloc(1, sizeof(*op));
		op->work = w;
		op->job = job;
		op->arg = arg;
		list_append(&w->waiting, &op->link);
		w->waiting_count++;
		pthread_cond_signal(&w->wake);
	}
	pthread_mutex_unlock(&w->lock);
	return op;
}

struct work_op *work_cancel(struct work_op *op) {
	if (!op)
		return NULL;
	struct work *w = op->work;
	pthread_mutex_lock(&w->lock);
	bool waiting = op->state == WAITING;
	if (waiting) {
		list_unlink(&op->link);
		w->waiting_count--;
	}
	op->cancelled = true;
	pthread_mutex_unlock(&w->lock);
	if (waiting)
		drop(op);
	return NULL;
}

struct work *work_new(struct loop *loop, unsigned threads, unsigned queue) {
	struct work *w = xcalloc(1, sizeof(*w));
	w->loop = loop;
	w->queue = queue;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->wake, NULL);
	list_init(&w->waiting);
	list_init(&w->running);
	list_init(&w->ended);
	w->threads = xcalloc(threads, sizeof(*w->threads));
	w->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	w->threads_max = threads;
	if (w->fd < 0)
		return work_free(w);
	w->event = event_new(loop_base(loop), w->fd, EV_READ | EV_PERSIST, on_ended, w);
	if (!w->event || event_add(w->event, NULL) < 0)
		abort();
	return w;
}

struct work *work_free(struct work *w) {
	struct work_op *op;
	if (!w)
		return NULL;
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_cond_broadcast(&w->wake);
	pthread_mutex_unlock(&w->lock);
	for (unsigned i = 0; i < w->thread_count; i++)
		pthread_join(w->threads[i], NULL);
	while ((op = take(w, &w->waiting)) || (op = take(w, &w->ended)))
		drop(op);
	if (w->event)
		event_free(w->event);
	if (w->fd >= 0)
		close(w->fd);
	pthread_cond_destroy(&w->wake);
	pthread_mutex_destroy(&w->lock);
	free(w->threads);
	free(w);
	return NULL;
}
