/* The octets of a message out of the octets of the wire: DATA's dot rules (RFC 5321 4.5.2) and BDAT's counting (RFC
 * 3030 2). Both can stop and go on at any octet. Pure.
 *
 * End of data is CRLF.CRLF and nothing else, also as the very first line (".CRLF"). A line starts after CRLF only,
 * so that no other arrangement of CR, LF and dot can end a message or hide a dot (SMTP smuggling). Nothing but the
 * stuffed dots is changed. */
#ifndef MINUTEMAIL_DATA_H
#define MINUTEMAIL_DATA_H

#include "common/base.h"

enum data_result {
	DATA_MORE,
	DATA_DONE,           /* the end was consumed; the CRLF before the dot belongs to the message */
};

enum data_state {
	DATA_LINE_START,     /* after CRLF, or nothing read yet */
	DATA_DOT,            /* a dot at line start: swallowed, whatever follows */
	DATA_DOT_CR,         /* and CR: held back, until it is the end or not */
	DATA_TEXT,
	DATA_TEXT_CR,        /* CR given out already */
};

struct data_decoder {
	enum data_state state;
	bool bare_newline;   /* an LF without CR before it */
	bool bare_cr;        /* a CR without LF after it */
	bool nul_start;      /* a NUL first in a line: who skips it sees a dot there */
};

/* Receives runs as long as the input allows; never n == 0. */
typedef void data_emit(void *arg, const char *p, size_t n);

/* Zeroed is ready too. */
void data_init(struct data_decoder *);
/* Reads until the end of data or of the input; *ret_used says how far. */
enum data_result data_decode(struct data_decoder *, const char *p, size_t n, size_t *ret_used, data_emit *, void *arg);

/* Notes what data_decode() notes, in octets that are counted and have no dot rules. */
void data_scan(struct data_decoder *, const char *p, size_t n);

/* The counter of one BDAT chunk. */
struct data_chunk {
	uint64_t left;
	bool last;           /* "BDAT n LAST" */
};

/* How many of n octets belong to the chunk; they are counted off. */
size_t data_chunk_take(struct data_chunk *, size_t n);

#endif
