/* Any octets as one command line; what is accepted lies within the line and keeps the promises of smtpd/command.h. */
#include "smtpd/command.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void require(bool ok) {
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
	const char *line = (const char *)p;
	struct command c;
	command_parse(line, n, &c);
	require(command_name(c.verb) != NULL);
	if (c.text.p)
		require(c.text.p >= line && c.text.p + c.text.n <= line + n);
	if (c.fault == COMMAND_FINE && c.verb != COMMAND_UNKNOWN)
		require(!memchr(line, '\0', n) && !memchr(line, '\r', n));
	if (c.fault == COMMAND_FINE && (c.verb == COMMAND_MAIL || c.verb == COMMAND_RCPT))
		require(c.text.p && c.text.p[-1] == '<' && c.text.p[c.text.n] == '>');
	if (c.fault == COMMAND_FINE && (c.verb == COMMAND_EHLO || c.verb == COMMAND_HELO))
		require(c.text.n > 0);
	require(!c.last || c.verb == COMMAND_BDAT);
	/* Blanks before the line end change nothing. */
	char padded[COMMAND_LINE_MAX + 2];
	if (n <= COMMAND_LINE_MAX) {
		struct command again;
		if (n)
			memcpy(padded, line, n);
		padded[n] = ' ';
		padded[n + 1] = '\t';
		command_parse(padded, n + 2, &again);
		require(again.verb == c.verb && again.fault == c.fault && again.text.n == c.text.n);
	}
	return 0;
}
