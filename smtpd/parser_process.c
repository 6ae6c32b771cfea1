/* The zygote and the parser process. The zygote stays as it was when the worker forked it, warmed up (GMime,
 * charsets, SHA-256), so that a parser is one fork away and inherits nothing the worker has learnt since. The parser
 * reads requests, parses, answers; it keeps nothing from one message to the next.
 *
 * Invariants: at most one parser at a time, always a child of the zygote and reaped by it, so its id is never
 * somebody else's; descriptor 3 is the only channel of either. */
#include "smtpd/parser_process.h"

#include "common/buf.h"
#include "common/fd_pass.h"
#include "common/sandbox.h"
#include "common/text.h"
#include "smtpd/mime.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHANNEL 3
#define RUN (128 * 1024)
#define DESCRIPTORS_MAX 2 /* received and not yet used; the worker sends one per frame */

enum exit_status { EXIT_DONE, EXIT_CHANNEL, EXIT_PROTOCOL, EXIT_SANDBOX, EXIT_MEMORY };

struct input {
	struct buf buf;
	size_t used; /* octets at the front that have been dealt with */
	int fds[DESCRIPTORS_MAX];
	unsigned fd_count;
};

static bool write_all(int fd, const char *p, size_t n) {
	while (n > 0) {
		ssize_t r = send(fd, p, n, MSG_NOSIGNAL);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return false;
		p += r;
		n -= (size_t)r;
	}
	return true;
}

/* --- parser --- */

static void take_descriptor(struct input *in, struct msghdr *m) {
	int fd = fd_received(m);
	if (fd < 0)
		return;
	if (in->fd_count == DESCRIPTORS_MAX)
		_exit(EXIT_PROTOCOL);
	in->fds[in->fd_count++] = fd;
}

/* Waits for more octets; does not return at the end of the channel. */
static void receive(struct input *in) {
	union fd_room room;
	buf_consume(&in->buf, in->used);
	in->used = 0;
	char *p = buf_reserve(&in->buf, RUN);
	if (!p)
		_exit(EXIT_MEMORY);
	struct iovec iov = {p, RUN};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;
	fd_expect(&m, &room);
	do
		n = recvmsg(CHANNEL, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		_exit(n == 0 ? EXIT_DONE : EXIT_CHANNEL);
	take_descriptor(in, &m);
	buf_commit(&in->buf, (size_t)n);
}

static const char *want(struct input *in, size_t n) {
	while (in->buf.len - in->used < n)
		receive(in);
	return in->buf.data + in->used;
}

static struct message *parse_file(struct input *in, uint64_t size) {
	if (in->fd_count == 0)
		_exit(EXIT_PROTOCOL);
	int fd = in->fds[0];
	in->fds[0] = in->fds[1];
	in->fd_count--;
	off_t end = lseek(fd, 0, SEEK_END);
	if (end < 0 || (uint64_t)end < size || size > SIZE_MAX / 2)
		_exit(EXIT_PROTOCOL);
	if (size == 0) {
		close(fd);
		return mime_parse("", 0, &MIME_LIMITS);
	}
	void *p = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		_exit(EXIT_MEMORY);
	close(fd);
	struct message *msg = mime_parse(p, (size_t)size, &MIME_LIMITS);
	munmap(p, (size_t)size);
	return msg;
}

/* The record behind room for its length. A message whose record is too large (no known one is) is sent without its
 * contents. */
static void encode_result(const struct message *msg, struct buf *out) {
	static const char room[4];
	buf_reset(out);
	buf_append(out, room, sizeof room);
	if (message_encode(msg, out) < 0) {
		cleanup(message_freep) struct message *empty = message_new();
		message_warn(empty, "parse_failed");
		buf_reset(out);
		buf_append(out, room, sizeof room);
		if (message_encode(empty, out) < 0)
			_exit(EXIT_MEMORY);
	}
	uint32_t n = (uint32_t)(out->len - sizeof room);
	for (int i = 0; i < 4; i++)
		out->data[i] = (char)(n >> (24 - 8 * i));
}

static uint64_t zygote_mapped; /* octets; what a parser starts from */

__attribute__((noreturn)) static void parser_main(const struct parser_limits *limits, pid_t parent, int fd) {
	struct input in = {0};
	struct buf out;
	uint64_t begun = 0;
	prctl(PR_SET_NAME, "mime-parser");
	if (parser_sandbox_child(parent) < 0 || parser_sandbox_close_all(fd, CHANNEL) < 0 ||
	    parser_sandbox_enter(limits->memory_max, zygote_mapped) < 0)
		_exit(EXIT_SANDBOX);
	buf_init(&in.buf, sizeof(struct parser_frame) + PARSER_INLINE_MAX + 2 * RUN);
	buf_init(&out, 4 + PARSER_RESULT_MAX);
	for (;;) {
		struct parser_frame frame;
		struct message *msg;
		memcpy(&frame, want(&in, sizeof frame), sizeof frame);
		in.used += sizeof frame;
		if (frame.kind == PARSER_FILE) {
			atomic_store(&limits->progress->begun, ++begun);
			msg = parse_file(&in, frame.size);
		} else if (frame.kind == PARSER_INLINE && frame.size <= PARSER_INLINE_MAX) {
			const char *source = want(&in, (size_t)frame.size);
			atomic_store(&limits->progress->begun, ++begun);
			msg = mime_parse(source, (size_t)frame.size, &MIME_LIMITS);
			in.used += (size_t)frame.size;
		} else {
			_exit(EXIT_PROTOCOL);
		}
		encode_result(msg, &out);
		message_free(msg);
		if (!write_all(CHANNEL, out.data, out.len))
			_exit(EXIT_CHANNEL);
	}
}

/* --- zygote --- */

/* One message that touches all that is opened, registered or loaded on first use, so that no parser has to. */
static void warm_up(void) {
	static const char source[] = "From: a <a@example.org>\r\n"
								 "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
								 "Content-Type: text/html; charset=koi8-r\r\n\r\n<p>\r\n--b\r\n"
								 "Content-Type: a/b; name*0*=koi8-r''%C1; name*1=\"=?utf-8?q?a?=\"\r\n"
								 "Content-Transfer-Encoding: base64\r\n\r\nYQ==\r\n--b--\r\n";
	mime_init();
	text_charsets_load();
	message_free(mime_parse(source, sizeof source - 1, &MIME_LIMITS));
}

static void end_parser(pid_t pid) {
	if (pid <= 0)
		return;
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static bool answer(int32_t value, int fd) {
	union fd_room room;
	struct iovec iov = {&value, sizeof value};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	if (fd >= 0)
		fd_attach(&m, &room, fd);
	ssize_t n;
	do
		n = sendmsg(CHANNEL, &m, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof value;
}

/* Returns the parser's id, or -errno; either way the worker has its answer. */
static int32_t start_parser(const struct parser_limits *limits) {
	int pair[2];
	pid_t self = getpid();
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
		int r = -errno;
		return answer(r, -1) ? r : -EPIPE;
	}
	atomic_store(&limits->progress->begun, 0);
	pid_t pid = fork();
	if (pid == 0)
		parser_main(limits, self, pair[1]);
	int32_t value = pid < 0 ? -errno : (int32_t)pid;
	bool told = answer(value, pid < 0 ? -1 : pair[0]);
	close(pair[0]);
	close(pair[1]);
	if (!told)
		end_parser(pid);
	return told ? value : -EPIPE;
}

__attribute__((noreturn)) static void zygote_main(const struct parser_limits *limits, pid_t parent, int fd) {
	struct sandbox sandbox;
	pid_t parser = 0;
	prctl(PR_SET_NAME, "mime-zygote");
	if (parser_sandbox_child(parent) < 0 || parser_sandbox_silence() < 0 || parser_sandbox_close_all(fd, CHANNEL) < 0)
		_exit(EXIT_SANDBOX);
	if (limits->forget)
		limits->forget(limits->arg);
	warm_up();
	zygote_mapped = parser_sandbox_mapped();
	sandbox_init(&sandbox, SANDBOX_ZYGOTE);
	if (sandbox_enter(&sandbox) < 0)
		_exit(EXIT_SANDBOX);
	for (;;) {
		char octet;
		ssize_t n = read(CHANNEL, &octet, 1);
		if (n < 0 && errno == EINTR)
			continue;
		end_parser(parser);
		if (n != 1)
			_exit(EXIT_DONE);
		parser = start_parser(limits);
	}
}

int parser_zygote_start(const struct parser_limits *limits, int *ret_fd, pid_t *ret_pid) {
	int pair[2];
	pid_t self = getpid();
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	pid_t pid = fork();
	if (pid < 0) {
		int r = -errno;
		close(pair[0]);
		close(pair[1]);
		return r;
	}
	if (pid == 0)
		zygote_main(limits, self, pair[1]);
	close(pair[1]);
	*ret_fd = pair[0];
	*ret_pid = pid;
	return 0;
}
