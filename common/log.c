/* logfmt lines on standard error, whole lines a write(2) and never more octets than a pipe takes at once, so lines of several
 * processes do not mix. Not a logger of levels per module, and it keeps no files: the service manager does. Should whoever reads the log
 * stand still, lines are left out and not waited for.
 *
 * Invariants: text[len] always has room left for what ends a cut line, LOG_TAIL octets; a warning is written with all that was
 * held before it. */
#include "common/log.h"

#include "common/clock.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATIENCE_MS 1000
#define LOG_TAIL 16 /* closing quote, " cut=true", LF, and some */

static const char *process_name = "";
static enum log_level least_level = LOG_LEVEL_INFO;
static bool to_journal;
static void (*sink_fn)(void *, enum log_level, const char *, size_t);
static void *sink_arg;
static bool holding;
static char held[PIPE_BUF];
static size_t held_len;
static unsigned untaken; /* lines left out since the log was last read */

static const char *const level_names[] = {
    [LOG_LEVEL_DEBUG] = "debug",
    [LOG_LEVEL_INFO] = "info",
    [LOG_LEVEL_WARNING] = "warning",
    [LOG_LEVEL_ERROR] = "error",
};

/* In front of a line for the journal: sd-daemon(3). */
static const char *const priorities[] = {
    [LOG_LEVEL_DEBUG] = "<7>",
    [LOG_LEVEL_INFO] = "<6>",
    [LOG_LEVEL_WARNING] = "<4>",
    [LOG_LEVEL_ERROR] = "<3>",
};

/* The variable names the descriptor, since it may have come down to somebody whose output goes elsewhere (systemd.exec(5)). */
static bool is_journal(int fd) {
	const char *named = getenv("JOURNAL_STREAM");
	struct stat st;
	char text[48];
	if (!named || fstat(fd, &st) < 0)
		return false;
	snprintf(text, sizeof(text), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	return strcmp(named, text) == 0;
}

/* Else the first socket would take the place of a closed one, and lines would go to whom it leads. */
static void keep_standard_places(void) {
	int fd;
	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

void log_init(const char *process, enum log_level least) {
	keep_standard_places();
	process_name = process;
	least_level = least;
	to_journal = is_journal(STDERR_FILENO);
}

void log_set_process(const char *process) {
	process_name = process;
}

void log_set_level(enum log_level least) {
	least_level = least;
}

bool log_level_parse(const char *s, enum log_level *ret) {
	for (unsigned i = 0; i < array_len(level_names); i++) {
		if (strcmp(s, level_names[i]) == 0) {
			*ret = (enum log_level)i;
			return true;
		}
	}
	return false;
}

bool log_enabled(enum log_level level) {
	return level >= least_level;
}

void log_set_sink(void (*sink)(void *, enum log_level, const char *, size_t), void *arg) {
	sink_fn = sink;
	sink_arg = arg;
}

/* All of it or nothing; nothing more goes in once a piece did not fit. */
static bool put(struct log_line *l, const char *p, size_t n) {
	if (l->cut || n > sizeof(l->text) - LOG_TAIL - l->len) {
		l->cut = true;
		return false;
	}
	memcpy(l->text + l->len, p, n);
	l->len += n;
	return true;
}

static bool plain_octet(unsigned char c) {
	return c > 0x20 && c < 0x7f && c != '"' && c != '\\' && c != '=';
}

/* Whether each of eight octets is plain. A borrow runs upwards only out of an octet that is reported itself, so "yes" is exact; a "no"
 * is looked at octet by octet. */
static bool eight_plain(const char *p) {
	const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones << 7;
	uint64_t v;
	memcpy(&v, p, sizeof(v));
	uint64_t quote = v ^ (ones * '"'), slash = v ^ (ones * '\\'), equals = v ^ (ones * '=');
	return (((v - ones * 0x21) | (quote - ones) | (slash - ones) | (equals - ones) | v | (v + ones)) & tops) == 0;
}

static bool needs_quotes(struct slice v) {
	for (size_t i = 0; i < v.n;) {
		if (v.n - i >= 8 && eight_plain(v.p + i))
			i += 8;
		else if (!plain_octet((unsigned char)v.p[i++]))
			return true;
	}
	return v.n == 0;
}

/* One octet inside quotes: at most four octets, never split by the end of the line. */
static size_t escape_octet(unsigned char c, char ret[4]) {
	static const char hex[] = "0123456789abcdef";
	ret[0] = '\\';
	switch (c) {
	case '"':
	case '\\':
		ret[1] = (char)c;
		return 2;
	case '\n':
		ret[1] = 'n';
		return 2;
	case '\r':
		ret[1] = 'r';
		return 2;
	default:
		break;
	}
	if (c >= 0x20 && c < 0x7f) {
		ret[0] = (char)c;
		return 1;
	}
	ret[1] = 'x';
	ret[2] = hex[c >> 4];
	ret[3] = hex[c & 15];
	return 4;
}

static void put_value(struct log_line *l, struct slice v) {
	if (!needs_quotes(v)) {
		/* A long plain value is cut where the room ends, like a quoted one. */
		size_t room = sizeof(l->text) - LOG_TAIL - l->len;
		size_t n = l->cut ? 0 : min_of(v.n, room);
		put(l, v.p, n);
		l->cut = l->cut || n < v.n;
		return;
	}
	if (!put(l, "\"", 1))
		return;
	for (size_t i = 0; i < v.n; i++) {
		char text[4];
		if (!put(l, text, escape_octet((unsigned char)v.p[i], text)))
			break;
	}
	l->text[l->len++] = '"'; /* out of the tail's room */
}

void log_slice(struct log_line *l, const char *key, struct slice value) {
	if (!value.p || !log_enabled(l->level) || l->cut)
		return;
	/* The key goes in whole and with room for a value, or not at all. */
	size_t n = strlen(key);
	if (n + 3 > sizeof(l->text) - LOG_TAIL - l->len) {
		l->cut = true;
		return;
	}
	put(l, " ", 1);
	put(l, key, n);
	put(l, "=", 1);
	put_value(l, value);
}

void log_begin(struct log_line *l, enum log_level level, const char *event) {
	l->level = level;
	l->len = 0;
	l->cut = false;
	if (!log_enabled(level))
		return;
	/* Many lines are of one millisecond, all that is shown. */
	static char now[CLOCK_RFC3339_SIZE];
	static int64_t shown = -1;
	static size_t n;
	int64_t ms = clock_wall_us() / 1000;
	if (ms != shown) {
		n = clock_format_rfc3339(ms * 1000, now);
		shown = ms;
	}
	if (to_journal)
		put(l, priorities[level], 3);
	put(l, "time=", 5);
	put(l, now, n);
	log_str(l, "level", level_names[level]);
	log_str(l, "process", process_name);
	log_str(l, "event", event);
}

void log_str(struct log_line *l, const char *key, const char *value) {
	log_slice(l, key, slice_str(value));
}

void log_int(struct log_line *l, const char *key, int64_t value) {
	char text[DECIMAL_SIZE];
	log_slice(l, key, slice_of(text, decimal(value, text)));
}

void log_errno(struct log_line *l, int r) {
	if (log_enabled(l->level))
		log_str(l, "error", strerror(r < 0 ? -r : r));
}

/* Whether what a pipe takes whole will be taken at once. A reader that stands still is waited for once, and not again before it goes on. */
static bool writable(void) {
	struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
	return poll(&p, 1, untaken ? 0 : PATIENCE_MS) != 0;
}

static void count_untaken(const char *p, size_t n) {
	for (const char *end = p + n; (p = memchr(p, '\n', (size_t)(end - p))); p++)
		untaken++;
}

static void begin_left_out(struct log_line *l, const char *what, unsigned count) {
	log_begin(l, LOG_LEVEL_WARNING, "lines left out");
	log_str(l, "of", what);
	log_int(l, "count", count);
}

static void write_or_count(const char *p, size_t n) {
	if (writable()) {
		ssize_t done = write(STDERR_FILENO, p, n);
		(void)done;
	} else {
		count_untaken(p, n);
	}
}

/* Not by log_end(): what is held is being written. */
static void tell_untaken(void) {
	struct log_line l;
	if (!untaken || !writable() || !log_enabled(LOG_LEVEL_WARNING))
		return;
	begin_left_out(&l, "log", untaken);
	l.text[l.len++] = '\n';
	untaken = 0;
	write_or_count(l.text, l.len);
}

/* A log that cannot be written must not stop mail, so the result is of no use. */
static void write_out(const char *p, size_t n) {
	int saved = errno;
	tell_untaken();
	write_or_count(p, n);
	errno = saved;
}

void log_hold(void) {
	holding = true;
}

static void write_held(void) {
	if (held_len > 0)
		write_out(held, held_len);
	held_len = 0;
}

void log_flush(void) {
	holding = false;
	write_held();
}

static void emit(const struct log_line *l) {
	if (held_len + l->len > sizeof(held))
		write_held();
	if (!holding) {
		write_out(l->text, l->len);
		return;
	}
	memcpy(held + held_len, l->text, l->len);
	held_len += l->len;
	if (l->level >= LOG_LEVEL_WARNING)
		write_held();
}

void log_end(struct log_line *l) {
	if (!log_enabled(l->level))
		return;
	if (l->cut) {
		memcpy(l->text + l->len, " cut=true", 9);
		l->len += 9;
	}
	if (sink_fn) {
		sink_fn(sink_arg, l->level, l->text, l->len);
		return;
	}
	l->text[l->len++] = '\n';
	emit(l);
}

bool log_limit_pass(struct log_limit *l) {
	int64_t now = clock_mono_us();
	if (l->used == 0 || now - l->second_us >= 1000000) {
		unsigned left_out = l->left_out;
		l->second_us = now;
		l->used = l->left_out = 0;
		if (left_out) {
			struct log_line line;
			begin_left_out(&line, l->what, left_out);
			log_end(&line);
		}
	}
	bool pass = l->used < l->per_second;
	l->used += pass;
	l->left_out += !pass;
	return pass;
}

void log_msg(enum log_level level, const char *event, const char *fmt, ...) {
	if (!log_enabled(level))
		return;
	struct log_line l;
	char text[1024];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_begin(&l, level, event);
	log_str(&l, "msg", text);
	log_end(&l);
}
