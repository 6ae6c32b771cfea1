/* The other side of parser.c: the zygote, which forks parsers and does nothing else, and the parser process. Both
 * live in forked children of the worker and end with _exit(). Also the channel's frames, which both sides share. */
#ifndef MINUTEMAIL_PARSER_PROCESS_H
#define MINUTEMAIL_PARSER_PROCESS_H

#include "common/base.h"
#include "smtpd/spool.h"

#include <stdatomic.h>
#include <sys/types.h>

/* Worker -> parser: a frame, then the octets, or with the frame's first octet the descriptor of the file that has
 * them. Both sides are one binary on one host, so the frame is a struct. */
enum parser_kind { PARSER_INLINE = 0x494e4c4e, PARSER_FILE = 0x46494c45 };
struct parser_frame {
	uint32_t kind;
	uint32_t unused;
	uint64_t size;
};
#define PARSER_INLINE_MAX SPOOL_MEMORY_MAX

/* Parser -> worker: the record's length as four octets, big-endian, then the record (message.h). */
#define PARSER_RESULT_MAX (8 * 1024 * 1024)

/* A page of memory shared by all three processes: which request of its channel the parser has begun, counted from 1.
 * Written by the parser, so it is a hint (who was to blame?), never an index. */
struct parser_progress {
	_Atomic uint64_t begun;
};

struct parser_limits {
	int64_t memory_max;
	struct parser_progress *progress;
	void (*forget)(void *arg);
	void *arg;
};

/* Forks the zygote. Then each octet written to *ret_fd asks for a new parser (the old one is killed and reaped
 * first); the answer is one int32_t, the process's id with the descriptor of its channel, or -errno alone. */
int parser_zygote_start(const struct parser_limits *, int *ret_fd, pid_t *ret_pid);

/* parser_sandbox.c: nothing but what parsing needs is possible afterwards, in `memory_max` octets beyond the `mapped` ones that
 * the zygote had. -errno: the process must not go on. */
int parser_sandbox_enter(int64_t memory_max, uint64_t mapped);
/* Octets mapped now. Reads /proc. */
uint64_t parser_sandbox_mapped(void);
/* The first three descriptors lead to /dev/null. */
int parser_sandbox_silence(void);
/* The number `fd` becomes `want`, and every descriptor but it and the first three is closed. */
int parser_sandbox_close_all(int fd, int want);
/* Killed with its parent, deaf to the signals that stop a daemon (the worker still needs its parser while it
 * drains). */
int parser_sandbox_child(pid_t parent);

#endif
