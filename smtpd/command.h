/* One command line -> struct command. Judges form only, never sequence (that is session's). Pure; keeps nothing,
 * allocates nothing. */
#ifndef MINUTEMAIL_COMMAND_H
#define MINUTEMAIL_COMMAND_H

#include "common/base.h"

/* Octets with CRLF. RFC 5321 4.5.3.1.4 asks for 512, and more where extensions lengthen a command. */
#define COMMAND_LINE_MAX 2048

enum command_verb {
	COMMAND_UNKNOWN,
	COMMAND_EHLO,
	COMMAND_HELO,
	COMMAND_MAIL,
	COMMAND_RCPT,
	COMMAND_DATA,
	COMMAND_BDAT,
	COMMAND_RSET,
	COMMAND_NOOP,
	COMMAND_QUIT,
	COMMAND_VRFY,
	COMMAND_HELP,
	COMMAND_STARTTLS,
	COMMAND_NOT_OFFERED,        /* SMTP verbs we know and do not have: EXPN, AUTH, ETRN, … */
	COMMAND_FOREIGN_PROTOCOL,   /* HTTP */
};

enum command_fault {
	COMMAND_FINE,
	COMMAND_BAD_OCTETS,         /* NUL, CR, or 8-bit where no address can be or that is no UTF-8 */
	COMMAND_BAD_ARGUMENTS,
	COMMAND_BAD_PARAMETER,      /* a known parameter with a bad value, or given twice */
	COMMAND_UNKNOWN_PARAMETER,  /* text: which */
	COMMAND_NON_ASCII,          /* VRFY of a non-ASCII name without SMTPUTF8 */
};

enum command_body { COMMAND_BODY_NONE, COMMAND_BODY_7BIT, COMMAND_BODY_8BITMIME, COMMAND_BODY_BINARYMIME };

struct command {
	enum command_verb verb;
	enum command_fault fault;   /* what follows holds only without one */
	struct slice text;          /* borrowed from the line. EHLO, HELO: the name; MAIL, RCPT: the path in its brackets */
	bool odd;                   /* outside the grammar and let pass: blanks after the colon (count them) */
	bool smtputf8;              /* MAIL, VRFY */
	bool has_size;
	uint64_t size;              /* MAIL SIZE=, BDAT; saturates */
	enum command_body body;
	bool last;                  /* BDAT */
};

/* `line` without its CRLF. */
void command_parse(const char *line, size_t n, struct command *ret);
/* The verb as logs and metrics name it. */
const char *command_name(enum command_verb);

#endif
