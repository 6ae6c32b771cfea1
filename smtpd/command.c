/* Verbs are const rows; each names the function that judges its arguments. See the header. */
#include "smtpd/command.h"

#include "common/address.h"

#include <strings.h>
#include <unistr.h>

static bool is_alnum(char c) {
	return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

static bool is_high(char c) {
	return (unsigned char)c >= 0x80;
}

static bool slice_is(struct slice s, const char *word) {
	return s.n == strlen(word) && strncasecmp(s.p, word, s.n) == 0;
}

static bool skip_blanks(struct slice *s) {
	size_t i = 0;
	while (i < s->n && (s->p[i] == ' ' || s->p[i] == '\t'))
		i++;
	s->p += i;
	s->n -= i;
	return i > 0;
}

/* Splits up to the next blank or the end. */
static struct slice take_word(struct slice *s) {
	size_t i = 0;
	while (i < s->n && s->p[i] != ' ' && s->p[i] != '\t')
		i++;
	struct slice word = {s->p, i};
	s->p += i;
	s->n -= i;
	return word;
}

/* ---- arguments, verb by verb ---- */

static enum command_fault no_arguments(struct slice arg, struct command *c) {
	return arg.n ? COMMAND_BAD_ARGUMENTS : COMMAND_FINE;
}

static enum command_fault any_arguments(struct slice arg, struct command *c) {
	return COMMAND_FINE;
}

/* "[192.0.2.1]", "[IPv6:…]": judged as the domain of an address. */
static bool literal_ok(struct slice name) {
	struct address a;
	char mailbox[ADDRESS_MAX] = "x@";
	if (name.n > ADDRESS_DOMAIN_MAX)
		return false;
	memcpy(mailbox + 2, name.p, name.n);
	return address_parse(mailbox, name.n + 2, false, false, &a) == ADDRESS_OK;
}

/* RFC 5321 4.1.1.1. A name that is no proper domain is no reason to refuse mail (4.1.4); a broken literal is plain
 * bad syntax. Machines with blanks in their name exist: the first word counts. */
static enum command_fault helo_arguments(struct slice arg, struct command *c) {
	for (size_t i = 0; i < arg.n; i++) {
		if ((unsigned char)arg.p[i] < 0x20 || arg.p[i] == 0x7f)
			return COMMAND_BAD_ARGUMENTS;
	}
	c->text = take_word(&arg);
	if (c->text.n == 0 || c->text.n > ADDRESS_DOMAIN_MAX || (c->text.p[0] == '[' && !literal_ok(c->text)))
		return COMMAND_BAD_ARGUMENTS;
	return COMMAND_FINE;
}

/* "FROM:<path>" or "TO:<path>": what follows '>' stays in arg. A '>' inside a quoted local part does not count. */
static enum command_fault take_path(struct slice *arg, const char *keyword, struct command *c) {
	size_t n = strlen(keyword);
	if (arg->n < n || strncasecmp(arg->p, keyword, n) != 0)
		return COMMAND_BAD_ARGUMENTS;
	*arg = slice_of(arg->p + n, arg->n - n);
	c->odd = skip_blanks(arg);
	if (arg->n == 0 || arg->p[0] != '<')
		return COMMAND_BAD_ARGUMENTS;
	bool quoted = false;
	for (size_t i = 1; i < arg->n; i++) {
		char ch = arg->p[i];
		if (ch == '"')
			quoted = !quoted;
		else if (ch == '\\' && quoted)
			i++;
		else if (ch == '>' && !quoted) {
			c->text = slice_of(arg->p + 1, i - 1);
			*arg = slice_of(arg->p + i + 1, arg->n - i - 1);
			return arg->n == 0 || skip_blanks(arg) ? COMMAND_FINE : COMMAND_BAD_ARGUMENTS;
		}
	}
	return COMMAND_BAD_ARGUMENTS;
}

/* Digits only. More than fit in 64 bits is still a number, one larger than any limit. */
static bool parse_number(struct slice s, uint64_t *ret) {
	uint64_t v = 0;
	bool over = false;
	if (s.n == 0 || s.n > 20) /* RFC 1870 5: size-value = 1*20DIGIT */
		return false;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
		over |= __builtin_mul_overflow(v, 10, &v);
		over |= __builtin_add_overflow(v, (uint64_t)(s.p[i] - '0'), &v);
	}
	*ret = over ? UINT64_MAX : v;
	return true;
}

static enum command_fault set_size(struct slice value, struct command *c) {
	if (c->has_size || !parse_number(value, &c->size))
		return COMMAND_BAD_PARAMETER;
	c->has_size = true;
	return COMMAND_FINE;
}

static enum command_fault set_body(struct slice value, struct command *c) {
	if (c->body != COMMAND_BODY_NONE)
		return COMMAND_BAD_PARAMETER;
	if (slice_is(value, "7BIT"))
		c->body = COMMAND_BODY_7BIT;
	else if (slice_is(value, "8BITMIME"))
		c->body = COMMAND_BODY_8BITMIME;
	else if (slice_is(value, "BINARYMIME"))
		c->body = COMMAND_BODY_BINARYMIME;
	else
		return COMMAND_BAD_PARAMETER;
	return COMMAND_FINE;
}

static enum command_fault set_smtputf8(struct slice value, struct command *c) {
	if (c->smtputf8 || value.p) /* RFC 6531 3.4: it has no value */
		return COMMAND_BAD_PARAMETER;
	c->smtputf8 = true;
	return COMMAND_FINE;
}

struct parameter {
	const char *keyword;
	enum command_fault (*set)(struct slice value, struct command *);   /* value.p == NULL: no '=' */
};

/* Not here: RET, ENVID, NOTIFY, ORCPT (a sender that sees them accepted expects DSNs, RFC 3461 4), AUTH, REQUIRETLS,
 * HOLDFOR, BY. */
static const struct parameter mail_parameters[] = {
	{"SIZE", set_size},
	{"BODY", set_body},
	{"SMTPUTF8", set_smtputf8},
	{NULL, NULL},
};
static const struct parameter no_parameters[] = {{NULL, NULL}};

/* esmtp-keyword (RFC 5321 4.1.2). */
static bool keyword_ok(struct slice s) {
	for (size_t i = 0; i < s.n; i++) {
		if (!is_alnum(s.p[i]) && !(s.p[i] == '-' && i > 0))
			return false;
	}
	return s.n > 0;
}

static bool value_ok(struct slice s) {
	for (size_t i = 0; i < s.n; i++) {
		if (!is_high(s.p[i]) && (s.p[i] < 33 || s.p[i] == '=' || s.p[i] > 126))
			return false;
	}
	return s.n > 0;
}

static enum command_fault parameter(struct slice word, const struct parameter *known, struct command *c) {
	const char *equals = memchr(word.p, '=', word.n);
	struct slice keyword = {word.p, equals ? (size_t)(equals - word.p) : word.n};
	struct slice value = {equals ? equals + 1 : NULL, equals ? word.n - keyword.n - 1 : 0};
	if (!keyword_ok(keyword))
		return COMMAND_BAD_ARGUMENTS;
	for (; known->keyword; known++) {
		if (!slice_is(keyword, known->keyword))
			continue;
		return value.p && !value_ok(value) ? COMMAND_BAD_PARAMETER : known->set(value, c);
	}
	c->text = keyword;
	return COMMAND_UNKNOWN_PARAMETER;
}

static enum command_fault path_and_parameters(struct slice arg, const char *keyword, const struct parameter *known,
                                              struct command *c) {
	enum command_fault fault = take_path(&arg, keyword, c);
	while (fault == COMMAND_FINE && arg.n) {
		fault = parameter(take_word(&arg), known, c);
		skip_blanks(&arg);
	}
	return fault;
}

static enum command_fault mail_arguments(struct slice arg, struct command *c) {
	return path_and_parameters(arg, "FROM:", mail_parameters, c);
}

static enum command_fault rcpt_arguments(struct slice arg, struct command *c) {
	return path_and_parameters(arg, "TO:", no_parameters, c);
}

/* "n" or "n LAST" (RFC 3030 2). */
static enum command_fault bdat_arguments(struct slice arg, struct command *c) {
	if (!parse_number(take_word(&arg), &c->size))
		return COMMAND_BAD_ARGUMENTS;
	skip_blanks(&arg);
	c->last = slice_is(arg, "LAST");
	return arg.n == 0 || c->last ? COMMAND_FINE : COMMAND_BAD_ARGUMENTS;
}

/* A name and perhaps SMTPUTF8 (RFC 6531 3.7.4.2). */
static enum command_fault vrfy_arguments(struct slice arg, struct command *c) {
	static const char word[] = " SMTPUTF8";
	size_t n = strlen(word);
	if (arg.n == 0)
		return COMMAND_BAD_ARGUMENTS;
	c->smtputf8 = arg.n > n && strncasecmp(arg.p + arg.n - n, word, n) == 0;
	for (size_t i = 0; i < arg.n; i++) {
		if (is_high(arg.p[i]) && !c->smtputf8)
			return COMMAND_NON_ASCII;
	}
	return COMMAND_FINE;
}

/* ---- the line ---- */

struct verb {
	const char *word;
	enum command_verb verb;
	bool utf8;      /* its argument can hold an address */
	enum command_fault (*arguments)(struct slice arg, struct command *);
};

static const struct verb verbs[] = {
	{"EHLO", COMMAND_EHLO, false, helo_arguments},
	{"HELO", COMMAND_HELO, false, helo_arguments},
	{"MAIL", COMMAND_MAIL, true, mail_arguments},
	{"RCPT", COMMAND_RCPT, true, rcpt_arguments},
	{"DATA", COMMAND_DATA, false, no_arguments},
	{"BDAT", COMMAND_BDAT, false, bdat_arguments},
	{"RSET", COMMAND_RSET, false, no_arguments},
	{"NOOP", COMMAND_NOOP, false, any_arguments},
	{"QUIT", COMMAND_QUIT, false, no_arguments},
	{"VRFY", COMMAND_VRFY, true, vrfy_arguments},
	{"HELP", COMMAND_HELP, false, any_arguments},
	{"STARTTLS", COMMAND_STARTTLS, false, no_arguments},
	{"EXPN", COMMAND_NOT_OFFERED, true, any_arguments},
	{"AUTH", COMMAND_NOT_OFFERED, false, any_arguments},
	{"ETRN", COMMAND_NOT_OFFERED, false, any_arguments},
	{"ATRN", COMMAND_NOT_OFFERED, false, any_arguments},
	{"BURL", COMMAND_NOT_OFFERED, false, any_arguments},
	{"TURN", COMMAND_NOT_OFFERED, false, any_arguments},
	{"SEND", COMMAND_NOT_OFFERED, true, any_arguments},
	{"SAML", COMMAND_NOT_OFFERED, true, any_arguments},
	{"SOML", COMMAND_NOT_OFFERED, true, any_arguments},
	/* A browser or a proxy made to speak to us: what follows is somebody's request body, not commands. */
	{"GET", COMMAND_FOREIGN_PROTOCOL, true, any_arguments},
	{"HEAD", COMMAND_FOREIGN_PROTOCOL, true, any_arguments},
	{"POST", COMMAND_FOREIGN_PROTOCOL, true, any_arguments},
	{"PUT", COMMAND_FOREIGN_PROTOCOL, true, any_arguments},
	{"DELETE", COMMAND_FOREIGN_PROTOCOL, true, any_arguments},
	{"OPTIONS", COMMAND_FOREIGN_PROTOCOL, true, any_arguments},
	{"CONNECT", COMMAND_FOREIGN_PROTOCOL, true, any_arguments},
};

/* NUL and CR are nowhere in SMTP's commands; 8-bit only where an address can be, and then as UTF-8 (RFC 6531 3.3). */
static bool octets_ok(struct slice line, bool utf8) {
	bool high = false;
	for (size_t i = 0; i < line.n; i++) {
		if (line.p[i] == '\0' || line.p[i] == '\r')
			return false;
		high |= is_high(line.p[i]);
	}
	return !high || (utf8 && u8_check((const uint8_t *)line.p, line.n) == NULL);
}

void command_parse(const char *line, size_t n, struct command *ret) {
	/* RFC 5321 4.1.1 asks to tolerate blanks before the line end. */
	while (n && (line[n - 1] == ' ' || line[n - 1] == '\t'))
		n--;
	struct slice arg = {line, n};
	struct slice word = take_word(&arg);
	const struct verb *verb = NULL;
	*ret = (struct command){.verb = COMMAND_UNKNOWN};
	skip_blanks(&arg);
	for (size_t i = 0; i < array_len(verbs) && !verb; i++) {
		if (slice_is(word, verbs[i].word))
			verb = &verbs[i];
	}
	if (verb)
		ret->verb = verb->verb;
	if (!octets_ok(slice_of(line, n), verb && verb->utf8))
		ret->fault = COMMAND_BAD_OCTETS;
	else if (verb)
		ret->fault = verb->arguments(arg, ret);
}

const char *command_name(enum command_verb verb) {
	for (size_t i = 0; i < array_len(verbs); i++) {
		if (verbs[i].verb == verb && verb < COMMAND_NOT_OFFERED)
			return verbs[i].word;
	}
	return "UNKNOWN";
}
