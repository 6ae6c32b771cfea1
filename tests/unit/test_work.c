/* work: jobs run elsewhere and end here; cancelled ones are dropped exactly once, whenever the cancel comes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/loop.h"
#include "common/work.h"

#include <pthread.h>
#include <semaphore.h>

struct job {
	sem_t gate;      /* posted: it may run on */
	sem_t begun;
	bool gated;
	pthread_t thread;
	int ran, done, dropped;
};

static void run(void *arg) {
	struct job *j = arg;
	sem_post(&j->begun);
	if (j->gated)
		sem_wait(&j->gate);
	j->thread = pthread_self();
	j->ran++;
}

static void done(void *arg) {
	struct job *j = arg;
	j->done++;
}

static void drop(void *arg) {
	struct job *j = arg;
	j->dropped++;
}

static const struct work_job JOB = {run, done, drop}, SILENT = {run, done, NULL};

static void job_init(struct job *j, bool gated) {
	*j = (struct job){.gated = gated};
	sem_init(&j->gate, 0, 0);
	sem_init(&j->begun, 0, 0);
}

static void test_done(void **state) {
	struct loop *loop = loop_new();
	struct work *w = work_new(loop, 2, 100);
	struct job jobs[50];
	assert_non_null(w);
	for (int i = 0; i < 50; i++) {
		job_init(&jobs[i], false);
		assert_non_null(work_start(w, i % 2 ? &JOB : &SILENT, &jobs[i]));
	}
	for (int i = 0; i < 50; i++)
		while (!jobs[i].done)
			loop_turn(loop);
	for (int i = 0; i < 50; i++) {
		assert_int_equal(jobs[i].ran, 1);
		assert_int_equal(jobs[i].done, 1);
		assert_int_equal(jobs[i].dropped, 0);
		assert_false(pthread_equal(jobs[i].thread, pthread_self()));
	}
	work_free(w);
	loop_free(loop);
}

static void test_bound_and_cancel(void **state) {
	struct loop *loop = loop_new();
	struct work *w = work_new(loop, 1, 2);
	struct job first, second, third, fourth;
	job_init(&first, true);
	job_init(&second, false);
	job_init(&third, false);
	job_init(&fourth, false);
	struct work_op *running = work_start(w, &JOB, &first);
	sem_wait(&first.begun);
	struct work_op *waiting = work_start(w, &JOB, &second);
	assert_non_null(work_start(w, &JOB, &third));
	assert_null(work_start(w, &JOB, &fourth)); /* one runs, two wait */
	assert_null(work_cancel(waiting));
	assert_int_equal(second.dropped, 1); /* nobody had begun it */
	assert_non_null(work_start(w, &JOB, &fourth));
	assert_null(work_cancel(running));
	assert_int_equal(first.dropped, 0); /* it runs */
	assert_null(work_cancel(NULL));
	sem_post(&first.gate);
	while (!third.done || !fourth.done)
		loop_turn(loop);
	assert_int_equal(first.ran, 1);
	assert_int_equal(first.done, 0);
	assert_int_equal(first.dropped, 1);
	assert_int_equal(second.ran, 0);
	work_free(w);
	loop_free(loop);
}

/* Freed with one that runs, one that waits and one that ended: each is dropped. */
static void test_end(void **state) {
	struct loop *loop = loop_new();
	struct work *w = work_new(loop, 1, 10);
	struct job ended, running, waiting;
	job_init(&ended, false);
	job_init(&running, true);
	job_init(&waiting, true);
	work_start(w, &JOB, &ended);
	work_start(w, &JOB, &running);
	work_start(w, &JOB, &waiting);
	sem_wait(&running.begun); /* so `ended` has */
	sem_post(&running.gate);
	sem_post(&waiting.gate); /* it may run before the helper sees the end, or not */
	assert_null(work_free(w));
	assert_int_equal(ended.dropped + running.dropped + waiting.dropped, 3);
	assert_int_equal(ended.done + running.done + waiting.done, 0);
	assert_null(work_free(NULL));
	loop_free(loop);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_done),
		cmocka_unit_test(test_bound_and_cancel),
		cmocka_unit_test(test_end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
