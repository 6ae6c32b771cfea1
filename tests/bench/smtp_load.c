/* Load for the SMTP benches and the crash bench: many sessions on one epoll loop, each message different, each 250 remembered.
 * Messages travel by DATA, or with --bdat each in one chunk (RFC 3030), and with --starttls inside TLS, a full handshake for each
 * connection and no look at the certificate. With --pipeline the commands of a message travel together, as MTAs send them (RFC 2920):
 * up to DATA, or with --bdat together with the chunk.
 *
 * It sends a template in which every "@SEQUENCE@@@" (12 octets) is replaced by the message's number, so that every message has its
 * own digest; with --log it writes a line "number queue-id recipient sha256" for each message that got 250, after the 250 and never
 * before it. It measures the time from the final dot's last octet to the 250. It is a client for benches: it trusts the server's
 * replies to be short, and it is not a mail program. Only loopback can be the target. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MARK "@SEQUENCE@@@"
#define MARK_LEN 12
#define MARKS_MAX 16
#define REPLY_MAX 4096

enum step { STEP_IDLE, STEP_CONNECT, STEP_BANNER, STEP_EHLO, STEP_STARTTLS, STEP_HANDSHAKE, STEP_MAIL, STEP_RCPT, STEP_DATA, STEP_DOT, STEP_QUIT };

struct options {
	uint16_t port;
	in_addr_t source; /* 0: any */
	unsigned sessions, per_connection;
	uint64_t messages; /* 0: until the time is over */
	double seconds;    /* 0: until the messages are sent */
	double rate;       /* messages a second over all sessions; 0: as fast as it goes */
	bool retry;        /* go on after a lost connection or a refusal */
	bool bdat;
	bool starttls;
	bool pipeline;
	FILE *log;
	char **recipients;
	unsigned recipient_count;
};

struct template {
	char *octets; /* as it travels: dot-stuffed and ending CRLF.CRLF, or behind its BDAT command */
	size_t size;
	size_t marks[MARKS_MAX];
	unsigned mark_count;
	char *plain; /* as the server should store it, for the digest */
	size_t plain_size;
	size_t plain_marks[MARKS_MAX];
};

struct session {
	int fd;
	enum step step;
	SSL *ssl;           /* NULL in clear */
	bool want_write;
	unsigned sent_here; /* messages finished on this connection */
	uint64_t number;    /* of the message under way */
	const char *recipient;
	char command[512];
	char *body; /* private copy of the template */
	const char *out;
	size_t out_size;
	bool body_follows; /* what goes out is commands, and the body behind them without waiting */
	bool body_out;     /* what goes out is the body */
	char reply[REPLY_MAX];
	size_t reply_size;
	int64_t dot_at, wake_at;
};

struct totals {
	uint64_t started, accepted, refused, lost, connections;
	uint32_t *latencies; /* microseconds */
	size_t latency_count, latency_room;
};

static struct options options;
static struct template template;
static struct totals totals;
static SSL_CTX *tls;
static int epoll_fd;
static int64_t begin_at, end_at;
static volatile sig_atomic_t stopping;

static int64_t now_us(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void fail(const char *what) {
	fprintf(stderr, "smtp_load: %s: %s\n", what, strerror(errno));
	exit(2);
}

static void *allocate(size_t n) {
	void *p = calloc(1, n ? n : 1);
	if (!p)
		fail("out of memory");
	return p;
}

static void on_stop(int signal) {
	(void)signal;
	stopping = 1;
}

/* Template */

static unsigned find_marks(const char *text, size_t size, size_t *marks) {
	unsigned n = 0;
	for (size_t i = 0; i + MARK_LEN <= size && n < MARKS_MAX; i++)
		if (memcmp(text + i, MARK, MARK_LEN) == 0)
			marks[n++] = i;
	return n;
}

static size_t dot_stuff(char *out) {
	const char *plain = template.plain;
	size_t n = 0;
	for (size_t i = 0; i < template.plain_size; i++) {
		if (plain[i] == '.' && (i == 0 || (i >= 2 && plain[i - 1] == '\n' && plain[i - 2] == '\r')))
			out[n++] = '.';
		out[n++] = plain[i];
	}
	memcpy(out + n, ".\r\n", 3);
	return n + 3;
}

static size_t make_chunk(char *out) {
	size_t n = (size_t)sprintf(out, "BDAT %zu LAST\r\n", template.plain_size);
	memcpy(out + n, template.plain, template.plain_size);
	return n + template.plain_size;
}

/* Once the options are known. */
static void template_dress(void) {
	template.octets = allocate(template.plain_size * 2 + 64);
	template.size = options.bdat ? make_chunk(template.octets) : dot_stuff(template.octets);
	template.mark_count = find_marks(template.octets, template.size, template.marks);
	find_marks(template.plain, template.plain_size, template.plain_marks);
}

static void template_load(const char *path) {
	FILE *f = fopen(path, "rb");
	if (!f || fseek(f, 0, SEEK_END) < 0)
		fail(path);
	long size = ftell(f);
	if (size < 2)
		fail("the template is empty");
	rewind(f);
	char *text = allocate((size_t)size);
	if (fread(text, 1, (size_t)size, f) != (size_t)size)
		fail(path);
	fclose(f);
	if (memcmp(text + size - 2, "\r\n", 2) != 0) {
		fprintf(stderr, "smtp_load: %s must end with CRLF\n", path);
		exit(2);
	}
	template.plain = text;
	template.plain_size = (size_t)size;
}

static void stamp(char *text, const size_t *marks, uint64_t number) {
	char digits[MARK_LEN + 1];
	snprintf(digits, sizeof(digits), "%012llu", (unsigned long long)number % 1000000000000ULL);
	for (unsigned i = 0; i < template.mark_count; i++)
		memcpy(text + marks[i], digits, MARK_LEN);
}

/* The log */

static void log_accepted(const struct session *s, const char *reply) {
	if (!options.log)
		return;
	uint8_t digest[32];
	stamp(template.plain, template.plain_marks, s->number);
	EVP_Digest(template.plain, template.plain_size, digest, NULL, EVP_sha256(), NULL);
	char id[80] = "-";
	const char *as = strstr(reply, "queued as ");
	if (as)
		sscanf(as + strlen("queued as "), "%79s", id);
	fprintf(options.log, "%llu %s %s ", (unsigned long long)s->number, id, s->recipient);
	for (unsigned i = 0; i < sizeof(digest); i++)
		fprintf(options.log, "%02x", digest[i]);
	fputc('\n', options.log);
}

static void latency_add(int64_t us) {
	if (totals.latency_count == totals.latency_room) {
		totals.latency_room = totals.latency_room ? totals.latency_room * 2 : 65536;
		totals.latencies = realloc(totals.latencies, totals.latency_room * sizeof(uint32_t));
		if (!totals.latencies)
			fail("out of memory");
	}
	totals.latencies[totals.latency_count++] = us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

/* Sessions */

static bool may_start(void) {
	return !stopping && (!options.messages || totals.started < options.messages) && (!end_at || now_us() < end_at);
}

static void interest(struct session *s) {
	bool want = s->out_size > 0 || s->step == STEP_CONNECT;
	if (want == s->want_write)
		return;
	s->want_write = want;
	struct epoll_event event = {.events = EPOLLIN | (want ? EPOLLOUT : 0), .data.ptr = s};
	if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, s->fd, &event) < 0)
		fail("epoll_ctl");
}

static void session_close(struct session *s, int64_t pause_us) {
	SSL_free(s->ssl);
	s->ssl = NULL;
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	s->step = STEP_IDLE;
	s->out_size = s->reply_size = 0;
	s->body_follows = s->body_out = false;
	s->wake_at = now_us() + pause_us;
}

/* The connection broke, or said what it should not. A message under way counts as lost: nobody promised anything about it. */
static void session_lost(struct session *s) {
	if (s->step >= STEP_MAIL && s->step <= STEP_DOT)
		totals.lost++;
	if (!options.retry)
		stopping = 1;
	session_close(s, 20000);
}

/* Of OpenSSL's ways to say no, those that mean "later" become EAGAIN. */
static ssize_t tls_result(struct session *s, int r) {
	int error = SSL_get_error(s->ssl, r);
	ERR_clear_error();
	if (r > 0)
		return r;
	if (error == SSL_ERROR_ZERO_RETURN)
		return 0;
	errno = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? EAGAIN : EPROTO;
	return -1;
}

static ssize_t session_send(struct session *s) {
	if (!s->ssl)
		return send(s->fd, s->out, s->out_size, MSG_NOSIGNAL | (s->body_follows ? MSG_MORE : 0));
	return tls_result(s, SSL_write(s->ssl, s->out, s->out_size > INT32_MAX ? INT32_MAX : (int)s->out_size));
}

static ssize_t session_receive(struct session *s, char *p, size_t n) {
	return s->ssl ? tls_result(s, SSL_read(s->ssl, p, (int)n)) : recv(s->fd, p, n, 0);
}

static void stage_body(struct session *s) {
	s->body_follows = false;
	s->body_out = true;
	stamp(s->body, template.marks, s->number);
	s->out = s->body;
	s->out_size = template.size;
}

static void flush_output(struct session *s) {
	while (s->out_size > 0) {
		if (s->body_out)
			s->dot_at = now_us(); /* of the send that carries the last octet */
		ssize_t n = session_send(s);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			session_lost(s);
			return;
		}
		s->out += n;
		s->out_size -= (size_t)n;
		if (s->out_size == 0 && s->body_follows)
			stage_body(s);
	}
	interest(s);
}

static void session_say(struct session *s, enum step step, const char *text) {
	s->step = step;
	size_t n = strlen(text);
	memcpy(s->command, text, n + 1);
	s->body_out = false;
	s->out = s->command;
	s->out_size = n;
	flush_output(s);
}

static void session_say_recipient(struct session *s) {
	char line[400];
	snprintf(line, sizeof(line), "RCPT TO:<%s>\r\n", s->recipient);
	session_say(s, STEP_RCPT, line);
}

static void session_say_all(struct session *s) {
	char lines[sizeof(s->command)];
	snprintf(lines, sizeof(lines), "MAIL FROM:<load@example.org>\r\nRCPT TO:<%s>\r\n%s", s->recipient, options.bdat ? "" : "DATA\r\n");
	s->body_follows = options.bdat;
	session_say(s, STEP_MAIL, lines);
}

static void session_next(struct session *s) {
	if (!may_start() || (options.per_connection && s->sent_here >= options.per_connection)) {
		session_say(s, STEP_QUIT, "QUIT\r\n");
		return;
	}
	if (options.rate > 0) {
		int64_t due = begin_at + (int64_t)((double)totals.started / options.rate * 1e6);
		if (now_us() < due) {
			s->step = STEP_IDLE; /* connected and waiting: the main loop calls again */
			s->wake_at = due;
			return;
		}
	}
	s->number = ++totals.started;
	s->recipient = options.recipients[s->number % options.recipient_count];
	if (options.pipeline)
		session_say_all(s);
	else
		session_say(s, STEP_MAIL, "MAIL FROM:<load@example.org>\r\n");
}

static void session_connect(struct session *s) {
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->fd < 0)
		fail("socket");
	int one = 1;
	setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons(options.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = options.source};
	if (options.source && bind(s->fd, (struct sockaddr *)&from, sizeof(from)) < 0)
		fail("bind");
	s->step = STEP_CONNECT;
	s->sent_here = 0;
	s->want_write = true;
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = s};
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, s->fd, &event) < 0)
		fail("epoll_ctl");
	if (connect(s->fd, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS)
		session_lost(s);
}

static void session_body(struct session *s) {
	s->step = STEP_DOT;
	stage_body(s);
	flush_output(s);
}

static void session_done(struct session *s, const char *reply) {
	latency_add(now_us() - s->dot_at);
	totals.accepted++;
	s->sent_here++;
	log_accepted(s, reply);
	session_next(s);
}

static void session_shake(struct session *s) {
	int r = SSL_do_handshake(s->ssl);
	if (r == 1)
		session_say(s, STEP_EHLO, "EHLO load.example.org\r\n");
	else if (tls_result(s, r) < 0 && errno != EAGAIN)
		session_lost(s);
}

static void session_start_tls(struct session *s) {
	s->step = STEP_HANDSHAKE;
	s->ssl = SSL_new(tls);
	if (!s->ssl || SSL_set_fd(s->ssl, s->fd) != 1)
		fail("TLS");
	SSL_set_connect_state(s->ssl);
	session_shake(s);
}

/* One whole reply. Anything unexpected ends the connection; with --retry the load goes on with the next message. */
static void session_reply(struct session *s, int code, const char *text) {
	if (s->step == STEP_BANNER && code == 220) {
		totals.connections++;
		session_say(s, STEP_EHLO, "EHLO load.example.org\r\n");
	} else if (s->step == STEP_EHLO && code == 250) {
		if (options.starttls && !s->ssl)
			session_say(s, STEP_STARTTLS, "STARTTLS\r\n");
		else
			session_next(s);
	} else if (s->step == STEP_STARTTLS && code == 220) {
		session_start_tls(s);
	} else if (s->step == STEP_MAIL && code == 250) {
		if (options.pipeline)
			s->step = STEP_RCPT;
		else
			session_say_recipient(s);
	} else if (s->step == STEP_RCPT && code == 250) {
		if (options.pipeline)
			s->step = options.bdat ? STEP_DOT : STEP_DATA;
		else if (options.bdat)
			session_body(s);
		else
			session_say(s, STEP_DATA, "DATA\r\n");
	} else if (s->step == STEP_DATA && code == 354) {
		session_body(s);
	} else if (s->step == STEP_DOT && code == 250) {
		session_done(s, text);
	} else if (s->step == STEP_QUIT) {
		session_close(s, 0);
	} else {
		if (s->step >= STEP_MAIL && s->step <= STEP_DOT)
			totals.refused++;
		if (!options.retry) {
			fprintf(stderr, "smtp_load: unexpected reply: %d %s\n", code, text);
			stopping = 1;
		}
		session_close(s, 20000);
	}
}

static void session_read(struct session *s) {
	if (s->step == STEP_HANDSHAKE) {
		session_shake(s);
		return;
	}
	ssize_t n = session_receive(s, s->reply + s->reply_size, sizeof(s->reply) - 1 - s->reply_size);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		session_lost(s);
		return;
	}
	s->reply_size += (size_t)n;
	for (;;) {
		char *end = memchr(s->reply, '\n', s->reply_size);
		if (!end)
			break;
		*end = '\0';
		size_t used = (size_t)(end + 1 - s->reply);
		char line[REPLY_MAX];
		memcpy(line, s->reply, used);
		memmove(s->reply, s->reply + used, s->reply_size - used);
		s->reply_size -= used;
		if (used > 4 && line[3] != '-') {
			int fd = s->fd;
			session_reply(s, atoi(line), line + 4);
			if (s->fd != fd || s->step == STEP_IDLE)
				return;
		}
	}
	if (s->reply_size == sizeof(s->reply) - 1)
		session_lost(s);
}

static void session_event(struct session *s, uint32_t events) {
	if (s->fd < 0)
		return;
	if (s->step == STEP_CONNECT && (events & (EPOLLOUT | EPOLLERR))) {
		int error = 0;
		socklen_t size = sizeof(error);
		getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &size);
		if (error) {
			session_lost(s);
			return;
		}
		s->step = STEP_BANNER;
		interest(s);
	}
	if ((events & EPOLLOUT) && s->out_size > 0)
		flush_output(s);
	if (s->fd >= 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		session_read(s);
}

/* Wakes what waits; returns how many sessions are under way. */
static unsigned wake_sessions(struct session *sessions) {
	unsigned busy = 0;
	int64_t now = now_us();
	for (unsigned i = 0; i < options.sessions; i++) {
		struct session *s = &sessions[i];
		if (s->step == STEP_IDLE && s->fd < 0 && now >= s->wake_at && may_start())
			session_connect(s);
		else if (s->step == STEP_IDLE && s->fd >= 0 && (now >= s->wake_at || !may_start()))
			session_next(s);
		busy += s->fd >= 0;
	}
	return busy;
}

static void run(struct session *sessions) {
	begin_at = now_us();
	end_at = options.seconds > 0 ? begin_at + (int64_t)(options.seconds * 1e6) : 0;
	int64_t give_up = 0, next_wake = 0;
	for (;;) {
		struct epoll_event events[256];
		int n = epoll_wait(epoll_fd, events, 256, 2);
		for (int i = 0; i < n; i++)
			session_event(events[i].data.ptr, events[i].events);
		int64_t now = now_us();
		if (now < next_wake)
			continue;
		next_wake = now + 1000;
		unsigned busy = wake_sessions(sessions);
		if (may_start()) {
			give_up = 0;
			continue;
		}
		if (!give_up)
			give_up = now + 60000000; /* what is under way may finish */
		if (busy == 0 || now > give_up)
			return;
	}
}

static int compare(const void *a, const void *b) {
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

static void report(double seconds) {
	uint32_t p50 = 0, p99 = 0, max = 0;
	if (totals.latency_count) {
		qsort(totals.latencies, totals.latency_count, sizeof(uint32_t), compare);
		p50 = totals.latencies[totals.latency_count / 2];
		p99 = totals.latencies[totals.latency_count * 99 / 100];
		max = totals.latencies[totals.latency_count - 1];
	}
	printf("{\"accepted\":%llu,\"refused\":%llu,\"lost\":%llu,\"connections\":%llu,\"seconds\":%.3f,\"rate\":%.1f,"
	       "\"p50_us\":%u,\"p99_us\":%u,\"max_us\":%u,\"octets\":%zu}\n",
	       (unsigned long long)totals.accepted, (unsigned long long)totals.refused, (unsigned long long)totals.lost,
	       (unsigned long long)totals.connections, seconds, (double)totals.accepted / seconds, p50, p99, max,
	       template.plain_size);
}

static void usage(void) {
	fputs("usage: smtp_load --port N --template FILE [--sessions N] [--per-connection N] [--messages N] [--seconds S]\n"
	      "                 [--rate N] [--bdat] [--starttls] [--pipeline] [--retry] [--source 127.x.x.x] [--log FILE] RECIPIENT...\n",
	      stderr);
	exit(2);
}

static void parse_options(int argc, char **argv) {
	static const struct option longs[] = {
		{"port", required_argument, NULL, 'p'},     {"template", required_argument, NULL, 't'},
		{"sessions", required_argument, NULL, 's'}, {"per-connection", required_argument, NULL, 'c'},
		{"messages", required_argument, NULL, 'm'}, {"seconds", required_argument, NULL, 'S'},
		{"rate", required_argument, NULL, 'r'},     {"retry", no_argument, NULL, 'R'},
		{"log", required_argument, NULL, 'l'},      {"bdat", no_argument, NULL, 'b'},
		{"source", required_argument, NULL, 'f'},   {"starttls", no_argument, NULL, 'T'},
		{"pipeline", no_argument, NULL, 'P'},
		{0},
	};
	options.sessions = 1;
	for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
		switch (c) {
		case 'p':
			options.port = (uint16_t)atoi(optarg);
			break;
		case 't':
			template_load(optarg);
			break;
		case 's':
			options.sessions = (unsigned)atoi(optarg);
			break;
		case 'c':
			options.per_connection = (unsigned)atoi(optarg);
			break;
		case 'm':
			options.messages = strtoull(optarg, NULL, 10);
			break;
		case 'S':
			options.seconds = atof(optarg);
			break;
		case 'r':
			options.rate = atof(optarg);
			break;
		case 'b':
			options.bdat = true;
			break;
		case 'T':
			options.starttls = true;
			break;
		case 'P':
			options.pipeline = true;
			break;
		case 'R':
			options.retry = true;
			break;
		case 'f':
			options.source = inet_addr(optarg);
			break;
		case 'l':
			options.log = fopen(optarg, "w");
			if (!options.log)
				fail(optarg);
			break;
		default:
			usage();
		}
	}
	options.recipients = argv + optind;
	options.recipient_count = (unsigned)(argc - optind);
	if (!options.port || !template.plain || !options.recipient_count || !options.sessions ||
	    (!options.messages && options.seconds <= 0))
		usage();
	template_dress();
}

int main(int argc, char **argv) {
	parse_options(argc, argv);
	struct sigaction action = {.sa_handler = on_stop};
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
	tls = SSL_CTX_new(TLS_client_method());
	if (!tls)
		fail("TLS");
	SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		fail("epoll_create1");
	struct session *sessions = allocate(options.sessions * sizeof(*sessions));
	for (unsigned i = 0; i < options.sessions; i++) {
		sessions[i].fd = -1;
		sessions[i].body = allocate(template.size);
		memcpy(sessions[i].body, template.octets, template.size);
	}
	run(sessions);
	double seconds = (double)(now_us() - begin_at) / 1e6;
	for (unsigned i = 0; i < options.sessions; i++) {
		SSL_free(sessions[i].ssl);
		if (sessions[i].fd >= 0)
			close(sessions[i].fd);
		free(sessions[i].body);
	}
	free(sessions);
	if (options.log && fclose(options.log) != 0)
		fail("writing the log");
	report(seconds);
	free(totals.latencies);
	free(template.octets);
	free(template.plain);
	SSL_CTX_free(tls);
	close(epoll_fd);
	return totals.accepted == 0;
}
