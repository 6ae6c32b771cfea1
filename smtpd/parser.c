/* The worker's end of the parser's channel: requests go out as the socket takes them, results come back in order,
 * one deadline guards the request at the head. Not a parser, and no trust in one: records are decoded as a
 * stranger's.
 *
 *   STARTING -channel-> RUNNING -death, deadline, nonsense-> STARTING      any -zygote gone-> LOST
 *   STARTING: fd == -1, no operation has a number. RUNNING: those with a number (sent, at least in part) stand
 *   first in `ops`, in order. LOST: `ops` is empty.
 *
 * Invariants: an operation is in exactly one of `ops` and `finished`; results are handed over from the deferred job
 * only, so no callback of the owner runs inside a call of his. */
#include "smtpd/parser.h"

#include "common/buf.h"
#include "common/fd_pass.h"
#include "common/loop.h"
#include "smtpd/parser_process.h"

#include <event2/event.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define ATTEMPTS_MAX 3 /* processes a message may see die without their having begun it */
#define IOV_MAX_USED 32
#define READ_RUN (64 * 1024)
#define READS_A_TURN 8
#define RETRY_US 100000 /* when the zygote could not fork */

enum parser_state { PARSER_STARTING, PARSER_RUNNING, PARSER_LOST };

struct parser {
	struct loop *loop;
	struct parser_options options;
	enum parser_state state;
	struct parser_progress *progress;

	int zygote_fd;
	pid_t zygote_pid;
	struct event *zygote_event;
	struct timer retry;
	bool asked; /* an answer of the zygote is owed */

	int fd;
	pid_t pid;
	struct event *read_event, *write_event;
	struct buf in;
	uint64_t numbered; /* requests this process has been sent, at least in part */
	uint64_t answered;
	bool started_once;

	struct list ops, finished;
	struct timer deadline;
	struct parser_op *watched; /* whom the deadline is for */
	struct deferred send_job, deliver_job;
};

struct parser_op {
	struct list link;
	struct parser *parser;
	struct spool *spool; /* NULL once cancelled */
	parser_done *done;
	void *arg;
	struct parser_frame frame;
	uint64_t number; /* in this process's channel, from 1; 0: nothing of it has been sent */
	uint64_t sent;   /* octets of frame and source */
	char *rest;      /* cancelled half sent: a copy of what is missing */
	unsigned attempts;
	struct message *result;
};

static void update(struct parser *p);
static void close_channel(struct parser *p);

/* --- results --- */

static struct parser_op *op_free(struct parser_op *op) {
	list_unlink(&op->link);
	if (op->parser->watched == op)
		op->parser->watched = NULL;
	message_free(op->result);
	free(op->rest);
	free(op);
	return NULL;
}

/* Those that the callbacks finish wait for the next run. */
static void deliver(void *arg) {
	struct parser *p = arg;
	size_t count = 0;
	for (struct list *e = p->finished.next; e != &p->finished; e = e->next)
		count++;
	while (count-- > 0 && !list_empty(&p->finished)) {
		struct parser_op *op = list_entry(list_first(&p->finished), struct parser_op, link);
		parser_done *done = op->done;
		void *done_arg = op->arg;
		struct message *msg = take_ptr(op->result);
		op_free(op);
		done(done_arg, msg);
	}
}

static void finish(struct parser_op *op, struct message *result) {
	struct parser *p = op->parser;
	if (!op->spool) { /* cancelled */
		message_free(result);
		op_free(op);
		return;
	}
	if (p->watched == op)
		p->watched = NULL;
	list_unlink(&op->link);
	list_append(&p->finished, &op->link);
	op->result = result;
	loop_defer(p->loop, &p->deliver_job, deliver, p);
}

static void finish_with(struct parser_op *op, const char *warning) {
	struct message *msg = message_new();
	message_warn(msg, warning);
	finish(op, msg);
}

static struct parser_op *head(struct parser *p) {
	struct list *e = list_first(&p->ops);
	return e ? list_entry(e, struct parser_op, link) : NULL;
}

/* --- zygote --- */

static void lose(struct parser *p) {
	if (p->state == PARSER_LOST)
		return;
	p->state = PARSER_LOST;
	close_channel(p);
	event_del(p->zygote_event);
	timer_disarm(&p->retry);
	for (struct parser_op *op; (op = head(p));)
		finish_with(op, "parse_failed");
	if (p->options.on_lost)
		p->options.on_lost(p->options.arg);
}

static void ask_for_process(void *arg) {
	struct parser *p = arg;
	if (p->asked || p->state != PARSER_STARTING)
		return;
	ssize_t n = send(p->zygote_fd, "n", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n == 1)
		p->asked = true;
	else
		lose(p);
}

static void on_channel(evutil_socket_t fd, short what, void *arg);
static void on_writable(evutil_socket_t fd, short what, void *arg);

static struct event *new_event(struct parser *p, int fd, short what, event_callback_fn fn) {
	struct event *e = event_new(loop_base(p->loop), fd, what, fn, p);
	if (!e)
		abort();
	return e;
}

static void process_started(struct parser *p, int fd, pid_t pid) {
	p->fd = fd;
	p->pid = pid;
	p->numbered = p->answered = 0;
	p->state = PARSER_RUNNING;
	p->read_event = new_event(p, fd, EV_READ | EV_PERSIST, on_channel);
	p->write_event = new_event(p, fd, EV_WRITE, on_writable);
	event_add(p->read_event, NULL);
	if (p->started_once && p->options.on_restart)
		p->options.on_restart(p->options.arg);
	p->started_once = true;
	update(p);
}

static void on_zygote(evutil_socket_t fd, short what, void *arg) {
	struct parser *p = arg;
	int32_t value = 0;
	union fd_room room;
	struct iovec iov = {&value, sizeof value};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	(void)what;
	fd_expect(&m, &room);
	ssize_t n = recvmsg((int)fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	int channel = n > 0 ? fd_received(&m) : -1;
	if (n != (ssize_t)sizeof value || !p->asked || p->state != PARSER_STARTING) {
		if (channel >= 0)
			close(channel);
		lose(p);
		return;
	}
	p->asked = false;
	if (value > 0 && channel >= 0)
		process_started(p, channel, value);
	else
		timer_arm(&p->retry, RETRY_US);
}

/* --- the process's death --- */

static void close_channel(struct parser *p) {
	if (p->fd < 0)
		return;
	event_free(p->read_event);
	event_free(p->write_event);
	p->read_event = p->write_event = NULL;
	close(p->fd);
	p->fd = -1;
	p->pid = 0;
	buf_reset(&p->in);
	timer_disarm(&p->deadline);
	p->watched = NULL;
}

/* Everything sent is forgotten, so that it is sent again; what was cancelled meanwhile is not. */
static void rewind_ops(struct parser *p) {
	for (struct list *e = p->ops.next, *next; e != &p->ops; e = next) {
		struct parser_op *op = list_entry(e, struct parser_op, link);
		next = e->next;
		op->number = 0;
		op->sent = 0;
		if (!op->spool)
			op_free(op);
	}
}

/* `blame`: the head's request is at fault, whatever the process says it had begun. The zygote kills what may be left
 * of it. */
static void process_failed(struct parser *p, bool blame) {
	struct parser_op *op = head(p);
	if (p->state != PARSER_RUNNING)
		return;
	bool useless = p->answered == 0 && !op;
	p->state = PARSER_STARTING;
	blame = op && op->number > 0 && (blame || atomic_load(&p->progress->begun) >= op->number);
	close_channel(p);
	if (op && (blame || ++op->attempts >= ATTEMPTS_MAX))
		finish_with(op, "parse_failed");
	rewind_ops(p);
	if (!useless) /* one that dies at once and for nobody is started when it is needed */
		ask_for_process(p);
}

/* --- receiving --- */

/* Deals with the whole records in p->in. False: the process sent nonsense. */
static bool take_records(struct parser *p) {
	size_t used = 0;
	bool good = true;
	while (good && p->in.len - used >= 4) {
		const uint8_t *at = (const uint8_t *)p->in.data + used;
		uint32_t n = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
		struct parser_op *op = head(p);
		struct message *msg;
		if (n > PARSER_RESULT_MAX || !op || op->number == 0 || op->sent < sizeof op->frame ||
		    (op->frame.kind == PARSER_INLINE && op->sent < sizeof op->frame + op->frame.size)) {
			good = false;
		} else if (p->in.len - used - 4 < n) {
			break;
		} else if (message_decode(at + 4, n, op->frame.size, &msg) < 0) {
			good = false;
		} else {
			used += 4 + (size_t)n;
			p->answered++;
			finish(op, msg);
		}
	}
	buf_consume(&p->in, used);
	return good;
}

/* Reads what is there. False: the channel has ended, or what came makes no sense (*ret_blame). */
static bool receive(struct parser *p, bool *ret_blame) {
	*ret_blame = false;
	for (int i = 0; i < READS_A_TURN; i++) {
		char *room = buf_reserve(&p->in, READ_RUN);
		if (!room) {
			*ret_blame = true;
			return false;
		}
		ssize_t n = recv(p->fd, room, READ_RUN, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return true;
		if (n <= 0)
			return false;
		buf_commit(&p->in, (size_t)n);
		if (!take_records(p)) {
			*ret_blame = true;
			return false;
		}
		if (n < READ_RUN)
			return true;
	}
	return true;
}

static void on_channel(evutil_socket_t fd, short what, void *arg) {
	struct parser *p = arg;
	bool blame;
	(void)fd;
	(void)what;
	if (!receive(p, &blame))
		process_failed(p, blame);
	update(p);
}

/* --- sending --- */

static uint64_t op_total(const struct parser_op *op) {
	return sizeof op->frame + (op->frame.kind == PARSER_INLINE ? op->frame.size : 0);
}

/* The runs of the request that are not sent yet; at most two. */
static unsigned op_iov(struct parser_op *op, struct iovec *iov) {
	unsigned n = 0;
	if (op->rest) {
		iov[n++] = (struct iovec){op->rest, (size_t)(op_total(op) - op->sent)};
		return n;
	}
	if (op->sent < sizeof op->frame)
		iov[n++] = (struct iovec){(char *)&op->frame + op->sent, sizeof op->frame - (size_t)op->sent};
	if (op->frame.kind == PARSER_INLINE && op->frame.size > 0 && op->spool) {
		size_t skip = op->sent > sizeof op->frame ? (size_t)op->sent - sizeof op->frame : 0;
		char *source = (char *)(uintptr_t)spool_memory(op->spool);
		if (skip < op->frame.size)
			iov[n++] = (struct iovec){source + skip, (size_t)op->frame.size - skip};
	}
	return n;
}

/* A file's frame travels alone, its descriptor with its first octet. */
static ssize_t send_file(struct parser *p, struct parser_op *op) {
	union fd_room room;
	struct iovec iov[2];
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = op_iov(op, iov)};
	if (op->sent == 0)
		fd_attach(&m, &room, spool_fd(op->spool));
	return sendmsg(p->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static ssize_t send_inline(struct parser *p, struct list *first) {
	struct iovec iov[IOV_MAX_USED];
	unsigned n = 0;
	for (struct list *e = first; e != &p->ops && n + 2 <= IOV_MAX_USED; e = e->next) {
		struct parser_op *op = list_entry(e, struct parser_op, link);
		if (op->frame.kind != PARSER_INLINE)
			break;
		n += op_iov(op, iov + n);
	}
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = n};
	return sendmsg(p->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Books n sent octets on the requests from `first` on. */
static void note_sent(struct parser *p, struct list *first, size_t n) {
	for (struct list *e = first, *next; e != &p->ops && n > 0; e = next) {
		struct parser_op *op = list_entry(e, struct parser_op, link);
		next = e->next;
		uint64_t missing = op_total(op) - op->sent, mine = min_of((uint64_t)n, missing);
		if (op->number == 0)
			op->number = ++p->numbered;
		if (op->rest)
			memmove(op->rest, op->rest + mine, (size_t)(missing - mine));
		op->sent += mine;
		n -= (size_t)mine;
	}
}

static struct list *first_unsent(struct parser *p) {
	struct list *e = p->ops.next;
	while (e != &p->ops) {
		const struct parser_op *op = list_entry(e, struct parser_op, link);
		if (op->sent < op_total(op))
			break;
		e = e->next;
	}
	return e;
}

static void send_requests(void *arg) {
	struct parser *p = arg;
	while (p->state == PARSER_RUNNING) {
		struct list *first = first_unsent(p);
		if (first == &p->ops)
			break;
		struct parser_op *op = list_entry(first, struct parser_op, link);
		ssize_t n = op->frame.kind == PARSER_FILE ? send_file(p, op) : send_inline(p, first);
		if (n >= 0) {
			note_sent(p, first, (size_t)n);
		} else if (errno == EAGAIN || errno == ENOBUFS || errno == ETOOMANYREFS) {
			event_add(p->write_event, NULL);
			break;
		} else if (errno != EINTR) {
			process_failed(p, false);
		}
	}
	update(p);
}

static void on_writable(evutil_socket_t fd, short what, void *arg) {
	(void)fd;
	(void)what;
	send_requests(arg);
}

/* --- deadline --- */

/* Arms the deadline for whoever has come to the head. A cancelled request keeps its place and its deadline. */
static void update(struct parser *p) {
	struct parser_op *op = head(p);
	if (p->state == PARSER_RUNNING && op && op->number == 0 && !event_pending(p->write_event, EV_WRITE, NULL))
		loop_defer(p->loop, &p->send_job, send_requests, p);
	if (p->state == PARSER_STARTING && op && !timer_armed(&p->retry))
		ask_for_process(p);
	op = head(p);
	if (p->state != PARSER_RUNNING || !op || op->number == 0) {
		timer_disarm(&p->deadline);
		p->watched = NULL;
	} else if (p->watched != op) {
		p->watched = op;
		timer_arm(&p->deadline, p->options.deadline_us);
	}
}

/* The answer may be waiting in the socket when it was us who were late. */
static void on_deadline(void *arg) {
	struct parser *p = arg;
	struct parser_op *late = p->watched;
	bool blame;
	if (!receive(p, &blame))
		process_failed(p, blame);
	else if (late && p->watched == late)
		process_failed(p, true);
	update(p);
}

/* --- owner's side --- */

struct parser *parser_new(struct loop *loop, const struct parser_options *options) {
	struct parser *p = xcalloc(1, sizeof *p);
	p->loop = loop;
	p->options = *options;
	p->fd = p->zygote_fd = -1;
	list_init(&p->ops);
	list_init(&p->finished);
	buf_init(&p->in, 4 + PARSER_RESULT_MAX + READ_RUN);
	timer_init(&p->deadline, loop, on_deadline, p);
	timer_init(&p->retry, loop, ask_for_process, p);
	p->progress = mmap(NULL, sizeof *p->progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (p->progress == MAP_FAILED) {
		p->progress = NULL;
		return parser_free(p);
	}
	const struct parser_limits limits = {options->memory_max, p->progress, options->forget, options->arg};
	if (parser_zygote_start(&limits, &p->zygote_fd, &p->zygote_pid) < 0)
		return parser_free(p);
	p->zygote_event = new_event(p, p->zygote_fd, EV_READ | EV_PERSIST, on_zygote);
	event_add(p->zygote_event, NULL);
	ask_for_process(p);
	return p;
}

static void free_ops(struct list *ops) {
	for (struct list *e; (e = list_first(ops));)
		op_free(list_entry(e, struct parser_op, link));
}

struct parser *parser_free(struct parser *p) {
	if (!p)
		return NULL;
	deferred_cancel(&p->send_job);
	deferred_cancel(&p->deliver_job);
	free_ops(&p->ops);
	free_ops(&p->finished);
	close_channel(p);
	if (p->zygote_event)
		event_free(p->zygote_event);
	if (p->zygote_fd >= 0)
		close(p->zygote_fd);
	if (p->zygote_pid > 0) { /* its channel's end ends it, and it its parser; a worker in its sandbox kills nobody */
		while (waitpid(p->zygote_pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	timer_fini(&p->deadline);
	timer_fini(&p->retry);
	buf_fini(&p->in);
	if (p->progress)
		munmap(p->progress, sizeof *p->progress);
	free(p);
	return NULL;
}

pid_t parser_pid(const struct parser *p) {
	return p->pid;
}

struct parser_op *parser_start(struct parser *p, struct spool *spool, parser_done *done, void *arg) {
	struct parser_op *op = xcalloc(1, sizeof *op);
	uint64_t size = spool_size(spool);
	op->parser = p;
	op->spool = spool;
	op->done = done;
	op->arg = arg;
	op->frame.size = size;
	op->frame.kind = size <= PARSER_INLINE_MAX && (size == 0 || spool_memory(spool)) ? PARSER_INLINE : PARSER_FILE;
	list_append(&p->ops, &op->link);
	if (size > p->options.source_max)
		finish_with(op, "not_parsed");
	else if (p->state == PARSER_LOST || (op->frame.kind == PARSER_FILE && spool_fd(spool) < 0))
		finish_with(op, "parse_failed");
	else
		loop_defer(p->loop, &p->send_job, send_requests, p);
	return op;
}

/* What the process has been sent in part must be completed, or it would take the next request for the rest. */
static void keep_rest(struct parser_op *op) {
	struct iovec iov[2];
	unsigned n = op_iov(op, iov);
	size_t len = 0;
	op->rest = xmalloc((size_t)(op_total(op) - op->sent));
	for (unsigned i = 0; i < n; i++) {
		memcpy(op->rest + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
}

struct parser_op *parser_cancel(struct parser_op *op) {
	if (!op)
		return NULL;
	if (op->result || op->number == 0)
		return op_free(op);
	if (op->sent < op_total(op))
		keep_rest(op);
	op->spool = NULL;
	return NULL;
}
