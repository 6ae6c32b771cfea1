/* One logfmt line per event on standard error: time, level, process, event, then key=value pairs. Client text is quoted and
 * escaped (C0, DEL, 0x80-0xff as \xHH, CR, LF, quote, backslash). No secrets: callers never pass any. Where standard error is the
 * journal of systemd, the line begins with its priority ("<3>", sd-daemon(3)), which the journal takes off. */
#ifndef MINUTEMAIL_LOG_H
#define MINUTEMAIL_LOG_H

#include "common/base.h"

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR };

/* `process` is borrowed for ever ("smtpd master", "smtpd 1"). */
void log_init(const char *process, enum log_level least);
void log_set_process(const char *process);   /* after a fork; the level stays */
void log_set_level(enum log_level least);
bool log_level_parse(const char *s, enum log_level *ret);             /* "debug", "info", "warning", "error" */
bool log_enabled(enum log_level);
/* Tests: receives every line instead of standard error; NULL restores. */
void log_set_sink(void (*sink)(void *arg, enum log_level, const char *line, size_t n), void *arg);

/* From log_hold() to log_flush() lines below a warning may be kept and written together. The loop does so within a turn; a process
 * that is killed in the middle of one loses that turn's. Nothing may fork in between. */
void log_hold(void);
void log_flush(void);

/* A line under construction, on the caller's stack; over-long lines are cut and end in " cut=true". */
struct log_line {
	enum log_level level;
	bool cut;               /* something did not fit; the rest is left out */
	size_t len;
	char text[2048];
};

void log_begin(struct log_line *, enum log_level, const char *event); /* event: fixed words, "message stored" */
void log_str(struct log_line *, const char *key, const char *value);  /* NULL value: the pair is left out */
void log_slice(struct log_line *, const char *key, struct slice value);
void log_int(struct log_line *, const char *key, int64_t value);
void log_errno(struct log_line *, int r);                             /* r: errno or -errno; error="No such file" */
void log_end(struct log_line *);

/* Lines that a stranger can cause at will: so many a second in this process, and no more. Static, one a kind of line. The first one
 * let through after some were held back says how many ("lines left out"). */
struct log_limit {
	const char *what;       /* names the kind: the event's words */
	unsigned per_second;
	int64_t second_us;      /* when the current second began, monotonic */
	unsigned used, left_out;
};
bool log_limit_pass(struct log_limit *);

/* The short form: event and one formatted text (msg="…"). */
void log_msg(enum log_level, const char *event, const char *fmt, ...) printf_like(3, 4);

#endif
