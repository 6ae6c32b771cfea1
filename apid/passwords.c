/* A job holds everything it works on. Its caller's end of it is cut by a cancel; it goes when the thread has done with it. */
#include "apid/passwords.h"

#include "common/log.h"
#include "common/work.h"

#include <sodium.h>

#define QUEUE_MOST 32 /* of about 0.1 s each */

struct passwords {
	struct password_cost cost;
	struct work *work;
};

struct passwords_op {
	struct work_op *work;
	passwords_done *done;
	void *arg;
	struct password_cost cost;
	bool check, known, right, failed, has_made;
	char hash[PASSWORD_HASH_SIZE], made[PASSWORD_HASH_SIZE];
	size_t n, next_n;
	bool has_next;
	char text[]; /* password, next */
};

struct passwords *passwords_new(struct loop *loop, const struct password_cost *cost) {
	struct passwords *p = xcalloc(1, sizeof(*p));
	p->cost = *cost;
	p->work = work_new(loop, 1, QUEUE_MOST);
	if (!p->work)
		abort(); /* out of descriptors before anything else was opened */
	return p;
}

struct passwords *passwords_free(struct passwords *p) {
	if (p)
		work_free(p->work);
	free(p);
	return NULL;
}

/* ---- on the thread ---- */

static void make(struct passwords_op *job, struct slice password) {
	job->has_made = password_hash(password, &job->cost, job->made) == 0;
	job->failed = !job->has_made;
}

static void run(void *arg) {
	struct passwords_op *job = arg;
	struct slice password = slice_of(job->text, job->n), next = slice_of(job->text + job->n, job->next_n);
	if (job->check) {
		job->right = password_verify(password, job->known ? job->hash : NULL, &job->cost);
		if (job->right && !job->has_next && password_hash_is_old(job->hash, &job->cost))
			make(job, password);
	}
	if (job->has_next && (!job->check || job->right))
		make(job, next);
}

/* ---- on the loop ---- */

static void drop(void *arg) {
	struct passwords_op *job = arg;
	sodium_memzero(job, sizeof(*job) + job->n + job->next_n);
	free(job);
}

static void on_done(void *arg) {
	struct passwords_op *job = arg;
	const struct passwords_result result = {.right = job->right, .made = job->has_made ? job->made : NULL};
	if (job->failed)
		log_msg(LOG_LEVEL_ERROR, "password not hashed", "%zu octets of memory were not to be had", job->cost.memory);
	job->done(job->arg, &result);
	drop(job);
}

static const struct work_job JOB = {run, on_done, drop};

static struct passwords_op *start(struct passwords *p, struct passwords_op *job, passwords_done *done, void *arg) {
	job->cost = p->cost;
	job->done = done;
	job->arg = arg;
	job->work = work_start(p->work, &JOB, job);
	if (job->work)
		return job;
	drop(job);
	return NULL;
}

static struct passwords_op *job_new(struct slice password, struct slice next) {
	struct passwords_op *job = xcalloc(1, sizeof(*job) + password.n + next.n);
	job->n = password.n;
	job->next_n = next.n;
	job->has_next = next.p != NULL;
	if (password.n > 0)
		memcpy(job->text, password.p, password.n);
	if (next.n > 0)
		memcpy(job->text + password.n, next.p, next.n);
	return job;
}

struct passwords_op *passwords_check(struct passwords *p, struct slice password, const char *hash, struct slice next,
                                     passwords_done *done, void *arg) {
	struct passwords_op *job = job_new(password, next);
	job->check = true;
	job->known = hash && strlen(hash) < sizeof(job->hash);
	if (job->known)
		strcpy(job->hash, hash);
	return start(p, job, done, arg);
}

struct passwords_op *passwords_make(struct passwords *p, struct slice next, passwords_done *done, void *arg) {
	return start(p, job_new(slice_of(NULL, 0), next), done, arg);
}

struct passwords_op *passwords_cancel(struct passwords_op *op) {
	if (op)
		work_cancel(op->work);
	return NULL;
}
