/* The command line: a const table of commands, options anywhere among the words, settings from flags and
 * environment. Not a shell of general use: one command a call. */
#include "deploy/ctl.h"

#include "common/clock.h"

#include <sodium.h>
#include <stdarg.h>

/* Both come from the build. */
#ifndef CTL_MIGRATIONS_DIR
#define CTL_MIGRATIONS_DIR "sql/migrations"
#endif
#ifndef CTL_VERSION
#define CTL_VERSION "unknown"
#endif
#define SETTING_FILE_MOST 4096

const struct ctl_command CTL_COMMANDS[] = {
    {"migrate", NULL, 0, "", "", "bring the database's schema up to date", true, ctl_migrate},
    {"status", NULL, 0, "", "", "what the database holds; fails if the schema is not current", true, ctl_status},
    {"check", NULL, 0, "", "", "the same", true, ctl_status},
    {"plan", "list", 0, "", "", "the plans and their limits", false, ctl_plan_list},
    {"plan", "edit", 1,
     "calls-per-day= requests-per-minute= active-mailboxes= archived-mailboxes= custom-domains= members=",
     "NAME [--calls-per-day N|none] [--requests-per-minute N|none] [--active-mailboxes N|none]"
     " [--archived-mailboxes N|none] [--custom-domains N|none] [--members N|none]",
     "change limits of a plan", false, ctl_plan_edit},
    {"account", "create", 1, "plan= if-missing", "NAME [--plan PLAN] [--if-missing]", "a new account; plan: free",
     false, ctl_account_create},
    {"account", "list", 0, "", "", "all accounts", false, ctl_account_list},
    {"account", "edit", 1, "name= plan= state=", "ACCOUNT [--name NAME] [--plan PLAN] [--state active|suspended]",
     "change an account", false, ctl_account_edit},
    {"account", "delete", 1, "", "ACCOUNT", "an account with its users, keys, domains and mailboxes", false,
     ctl_account_delete},
    {"user", "create", 1, "account= role= if-missing", "EMAIL --account ACCOUNT [--role owner|member] [--if-missing]",
     "a new user; role: owner for an account's first, else member", false, ctl_user_create},
    {"user", "list", 0, "account=", "[--account ACCOUNT]", "all users", false, ctl_user_list},
    {"user", "edit", 1, "email= role= state=", "USER [--email EMAIL] [--role owner|member] [--state active|suspended]",
     "change a user", false, ctl_user_edit},
    {"user", "delete", 1, "", "USER", "a user with keys and mailboxes", false, ctl_user_delete},
    {"user", "password", 1, "", "USER", "set the password for the console, read from standard input; ends all sessions", false,
     ctl_user_password},
    {"user", "reset", 1, "", "USER", "a link, shown once, with which the user sets a new password within an hour", false,
     ctl_user_reset},
    {"session", "list", 0, "user=", "[--user USER]", "who is signed in to the console", false, ctl_session_list},
    {"session", "end", 1, "", "SESSION|USER", "one session, or all of a user's: dead at once", false, ctl_session_end},
    {"invitation", "create", 1, "account= role=", "EMAIL [--account ACCOUNT] [--role owner|member]",
     "a link, shown once and good for 7 days, into an account; without --account: to an account of its own", false,
     ctl_invitation_create},
    {"invitation", "list", 0, "", "", "invitations that nobody has accepted", false, ctl_invitation_list},
    {"invitation", "delete", 1, "", "INVITATION|EMAIL", "its link works no more", false, ctl_invitation_delete},
    {"domain", "create", 1, "account= owner= if-missing", "NAME [--account ACCOUNT] [--owner EMAIL] [--if-missing]",
     "a domain that receives mail: the platform's, or an account's; with postmaster@NAME, which belongs to the owner",
     false, ctl_domain_create},
    {"domain", "list", 0, "account=", "[--account ACCOUNT]", "all domains", false, ctl_domain_list},
    {"domain", "edit", 1, "status=", "DOMAIN --status verified|pending", "accept or stop a domain", false,
     ctl_domain_edit},
    {"domain", "verify", 1, "by-word", "DOMAIN [--by-word]",
     "looks at an account's domain in the DNS as apid does: its TXT record has the token, its MX records name mx_hosts alone;"
     " with --by-word it is verified without a look",
     false, ctl_domain_verify},
    {"domain", "dns", 1, "certificate=", "DOMAIN [--certificate FILE]…",
     "what the domain's owner publishes in the DNS, and what of it is there: MX, addresses and token, which mail needs; MTA-STS, TLSRPT"
     " and, for certificates in PEM, DANE",
     false, ctl_domain_dns},
    {"domain", "delete", 1, "", "DOMAIN", "a domain with its mailboxes, mails and keys' rights", false, ctl_domain_delete},
    {"key", "create", 0, "name= user= domain= expires= scopes= if-missing",
     "--name NAME --user USER [--domain DOMAIN]… [--expires 90d|TIME|never] [--scopes A,B] [--if-missing]",
     "a new API key, shown once; domain: the platform's first", false, ctl_key_create},
    {"key", "list", 0, "user= account=", "[--user USER] [--account ACCOUNT]", "all keys", false, ctl_key_list},
    {"key", "edit", 1, "name= domain= expires= scopes=",
     "KEY [--name NAME] [--domain DOMAIN]… [--expires 90d|TIME|never] [--scopes A,B|none]", "change a key", false,
     ctl_key_edit},
    {"key", "domains", 1, "add= remove=", "KEY [--add DOMAIN]… [--remove DOMAIN]…",
     "a key's domains, after adding and removing", false, ctl_key_domains},
    {"key", "regenerate", 1, "", "KEY", "a new secret, shown once; the old one is dead at once", false,
     ctl_key_regenerate},
    {"key", "revoke", 1, "", "KEY", "dead at once and for good; the record stays", false, ctl_key_revoke},
    {"key", "delete", 1, "", "KEY", "dead at once; the record goes too", false, ctl_key_delete},
    {0},
};

/* ---- settings ---- */

static const struct setting {
	const char *option;   /* NULL: no flag, since others can read a command line */
	const char *variable; /* NAME, or NAME_FILE naming a file with the value */
	const char *fallback;
	size_t offset;
	const char *help;
} SETTINGS[] = {
    {"database", "MINUTEMAIL_CTL_DATABASE", "dbname=minutemail", offsetof(struct ctl_settings, database),
     "libpq connection string or URI, as the schema's owner"},
    {"environment", "MINUTEMAIL_ENVIRONMENT", "live", offsetof(struct ctl_settings, environment),
     "of the keys: live or test"},
    {"migrations", "MINUTEMAIL_MIGRATIONS", CTL_MIGRATIONS_DIR, offsetof(struct ctl_settings, migrations),
     "directory with the numbered files of the schema"},
    {"mx-hosts", "MINUTEMAIL_MX_HOSTS", "", offsetof(struct ctl_settings, mx_hosts),
     "as apid has it; empty: hostname"},
    {"hostname", "MINUTEMAIL_HOSTNAME", "", offsetof(struct ctl_settings, hostname), "as apid has it; empty: the host's"},
    {"dns-servers", "MINUTEMAIL_DNS_SERVERS", "", offsetof(struct ctl_settings, dns_servers),
     "as apid has it; empty: the system's"},
    {"dns-zone-file", "MINUTEMAIL_DNS_ZONE_FILE", "", offsetof(struct ctl_settings, dns_zone_file), "as apid has it"},
    {NULL, "MINUTEMAIL_KEY_SECRET", NULL, offsetof(struct ctl_settings, key_secret),
     "64 hexadecimal digits, the same as apid's; needed to make keys"},
};

static char **setting_of(struct ctl *ctl, const struct setting *s) {
	return (char **)(void *)((char *)&ctl->settings + s->offset);
}

/* The file's text without its last line end. */
static char *read_setting(struct ctl *ctl, const char *variable, const char *path) {
	char text[SETTING_FILE_MOST];
	FILE *f = fopen(path, "re");
	if (!f) {
		ctl_error(ctl, "%s_FILE: cannot read %s: %s", variable, path, strerror(errno));
		return NULL;
	}
	size_t n = fread(text, 1, sizeof(text), f);
	bool ok = !ferror(f) && n < sizeof(text);
	fclose(f);
	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r'))
		n--;
	char *value = ok ? xstrndup(text, n) : NULL;
	if (!ok)
		ctl_error(ctl, "%s_FILE: %s is too long or cannot be read", variable, path);
	sodium_memzero(text, sizeof(text));
	return value;
}

static bool load_setting(struct ctl *ctl, const struct setting *s) {
	char **at = setting_of(ctl, s), *file_variable;
	const char *value = s->option ? ctl_option(ctl, s->option) : NULL, *path;
	if (!value)
		value = getenv(s->variable);
	if (!value) {
		file_variable = xasprintf("%s_FILE", s->variable);
		path = getenv(file_variable);
		free(file_variable);
		if (path) {
			*at = read_setting(ctl, s->variable, path);
			return *at != NULL;
		}
		value = s->fallback;
	}
	*at = value ? xstrdup(value) : NULL;
	return true;
}

static bool load_settings(struct ctl *ctl) {
	for (size_t i = 0; i < array_len(SETTINGS); i++) {
		if (!load_setting(ctl, &SETTINGS[i]))
			return false;
	}
	const char *environment = ctl->settings.environment;
	if (strcmp(environment, "live") != 0 && strcmp(environment, "test") != 0) {
		ctl_error(ctl, "the environment is live or test, not \"%s\"", environment);
		return false;
	}
	return true;
}

static void free_settings(struct ctl *ctl) {
	for (size_t i = 0; i < array_len(SETTINGS); i++) {
		char **at = setting_of(ctl, &SETTINGS[i]);
		if (*at)
			sodium_memzero(*at, strlen(*at));
		free(*at);
	}
}

/* ---- messages ---- */

__attribute__((format(printf, 3, 0))) static void say(FILE *f, const char *what, const char *fmt, va_list ap) {
	fprintf(f, "minutemailctl: %s", what);
	vfprintf(f, fmt, ap);
	fputc('\n', f);
}

void ctl_error(struct ctl *ctl, const char *fmt, ...) {
	va_list ap;
	va_start(ap, fmt);
	say(ctl->err, "", fmt, ap);
	va_end(ap);
}

void ctl_note(struct ctl *ctl, const char *fmt, ...) {
	va_list ap;
	va_start(ap, fmt);
	say(ctl->err, "note: ", fmt, ap);
	va_end(ap);
}

static void print_command(FILE *f, const struct ctl_command *c) {
	fprintf(f, "  %s%s%s%s%s\n        %s\n", c->object, c->verb ? " " : "", c->verb ? c->verb : "",
	        *c->usage ? " " : "", c->usage, c->help);
}

/* All commands, or those of one object. */
static void print_help(FILE *f, const char *object) {
	fputs("usage: minutemailctl [options] COMMAND\n\nAccounts, users, domains and keys are named by id, or by name (or "
	      "e-mail "
	      "address) where that is unique.\n\nCommands:\n",
	      f);
	for (const struct ctl_command *c = CTL_COMMANDS; c->object; c++) {
		if (!object || strcmp(c->object, object) == 0)
			print_command(f, c);
	}
	fputs("\nOptions:\n  --json\n        one JSON document instead of text\n", f);
	for (size_t i = 0; i < array_len(SETTINGS); i++) {
		const struct setting *s = &SETTINGS[i];
		if (s->option)
			fprintf(f, "  --%s VALUE, or %s\n        %s", s->option, s->variable, s->help);
		else
			fprintf(f, "  %s, or %s_FILE (environment only)\n        %s", s->variable, s->variable, s->help);
		fprintf(f, "%s%s\n", s->fallback && *s->fallback ? "; default: " : "", s->fallback ? s->fallback : "");
	}
	fputs("\nExit status: 0 done, 1 failed, 2 wrong usage.\n", f);
}

/* ---- words and options ---- */

const char *ctl_option(const struct ctl *ctl, const char *name) {
	for (unsigned i = ctl->option_count; i > 0; i--) {
		if (strcmp(ctl->options[i - 1].name, name) == 0)
			return ctl->options[i - 1].value;
	}
	return NULL;
}

bool ctl_flag(const struct ctl *ctl, const char *name) {
	for (unsigned i = 0; i < ctl->option_count; i++) {
		if (strcmp(ctl->options[i].name, name) == 0)
			return true;
	}
	return false;
}

char **ctl_option_list(const struct ctl *ctl, const char *name) {
	size_t pieces = 1, octets = 0;
	for (unsigned i = 0; i < ctl->option_count; i++) {
		for (const char *p = ctl->options[i].value; p && *p; p++)
			pieces += *p == ',';
		pieces++;
		octets += ctl->options[i].value ? strlen(ctl->options[i].value) + 1 : 0;
	}
	char **list = xmalloc(pieces * sizeof(char *) + octets), *text = (char *)(list + pieces), *rest, *piece;
	size_t n = 0;
	for (unsigned i = 0; i < ctl->option_count; i++) {
		if (strcmp(ctl->options[i].name, name) != 0 || !ctl->options[i].value)
			continue;
		strcpy(text, ctl->options[i].value);
		rest = text;
		text += strlen(text) + 1;
		while ((piece = strsep(&rest, ","))) {
			if (*piece)
				list[n++] = piece;
		}
	}
	list[n] = NULL;
	return list;
}

enum option_kind { OPTION_UNKNOWN, OPTION_FLAG, OPTION_VALUE };

/* Is `name` (n octets) in "plan= if-missing"? */
static enum option_kind option_in(const char *spec, const char *name, size_t n) {
	for (const char *p = spec; *p;) {
		size_t word = strcspn(p, " ");
		if (word == n && strncmp(p, name, n) == 0)
			return OPTION_FLAG;
		if (word == n + 1 && p[n] == '=' && strncmp(p, name, n) == 0)
			return OPTION_VALUE;
		p += word;
		p += *p == ' ';
	}
	return OPTION_UNKNOWN;
}

#define GENERAL_OPTIONS "json help version database= environment= migrations= mx-hosts= hostname= dns-servers= dns-zone-file="

/* Any command's option: which ones this command takes is known only when its words are. */
static enum option_kind option_anywhere(const char *name, size_t n) {
	enum option_kind kind = option_in(GENERAL_OPTIONS, name, n);
	for (const struct ctl_command *c = CTL_COMMANDS; kind == OPTION_UNKNOWN && c->object; c++)
		kind = option_in(c->options, name, n);
	return kind;
}

/* Takes one argument, or two. False: said. */
static bool take_option(struct ctl *ctl, char **argv, int *i) {
	char *name = argv[*i] + 2, *equals = strchr(name, '=');
	size_t n = equals ? (size_t)(equals - name) : strlen(name);
	const char *value = equals ? equals + 1 : NULL;
	enum option_kind kind = option_anywhere(name, n);
	if (kind == OPTION_UNKNOWN) {
		ctl_error(ctl, "unknown option --%.*s", (int)n, name);
		return false;
	}
	if (kind == OPTION_FLAG && value) {
		ctl_error(ctl, "--%.*s takes no value", (int)n, name);
		return false;
	}
	if (kind == OPTION_VALUE && !value) {
		value = argv[*i + 1];
		if (!value) {
			ctl_error(ctl, "--%s needs a value", name);
			return false;
		}
		(*i)++;
	}
	if (equals)
		*equals = '\0';
	ctl->options[ctl->option_count++] = (struct ctl_option){name, value};
	return true;
}

static const struct ctl_command *find_command(const char *object, const char *verb) {
	for (const struct ctl_command *c = CTL_COMMANDS; c->object; c++) {
		if (strcmp(c->object, object) == 0 && (!c->verb || (verb && strcmp(c->verb, verb) == 0)))
			return c;
	}
	return NULL;
}

static const struct ctl_command *first_of(const char *object) {
	const struct ctl_command *c = CTL_COMMANDS;
	while (c->object && strcmp(c->object, object) != 0)
		c++;
	return c->object ? c : NULL;
}

static bool options_fit(struct ctl *ctl) {
	for (unsigned i = 0; i < ctl->option_count; i++) {
		const char *name = ctl->options[i].name;
		if (option_in(GENERAL_OPTIONS, name, strlen(name)) == OPTION_UNKNOWN &&
		    option_in(ctl->command->options, name, strlen(name)) == OPTION_UNKNOWN) {
			ctl_error(ctl, "--%s does not belong to this command", name);
			return false;
		}
	}
	return true;
}

static bool take_words(struct ctl *ctl, const char *const *words, unsigned n) {
	unsigned first = ctl->command->verb ? 2 : 1, wanted = first + ctl->command->words;
	if (n < wanted) {
		ctl_error(ctl, "something is missing");
		return false;
	}
	if (n > wanted) {
		ctl_error(ctl, "unexpected \"%s\"", words[wanted]);
		return false;
	}
	for (unsigned i = 0; i < ctl->command->words; i++)
		ctl->words[i] = words[first + i];
	return true;
}

static void no_command(struct ctl *ctl, const char *const *words, unsigned n) {
	if (n == 0) {
		ctl_error(ctl, "which command? --help shows them");
		return;
	}
	ctl_error(ctl, "no such command: %s%s%s", words[0], n > 1 ? " " : "", n > 1 ? words[1] : "");
	const struct ctl_command *c = first_of(words[0]);
	if (!c)
		fputs("--help shows them\n", ctl->err);
	for (; c && c->object; c++) {
		if (strcmp(c->object, words[0]) == 0)
			print_command(ctl->err, c);
	}
}

/* Sets the command, its words and options. */
static bool parse(struct ctl *ctl, int argc, char **argv) {
	const char *words[4] = {NULL};
	unsigned n = 0;
	bool only_words = false;
	for (int i = 1; i < argc; i++) {
		if (!only_words && strcmp(argv[i], "--") == 0) {
			only_words = true;
		} else if (!only_words && (strcmp(argv[i], "-h") == 0 || (n == 0 && strcmp(argv[i], "help") == 0))) {
			ctl->options[ctl->option_count++] = (struct ctl_option){"help", NULL};
		} else if (!only_words && strncmp(argv[i], "--", 2) == 0) {
			if (!take_option(ctl, argv, &i))
				return false;
		} else if (n < array_len(words)) {
			words[n++] = argv[i];
		} else {
			ctl_error(ctl, "unexpected \"%s\"", argv[i]);
			return false;
		}
	}
	if (ctl_flag(ctl, "help") || ctl_flag(ctl, "version")) {
		const struct ctl_command *known = n ? first_of(words[0]) : NULL;
		ctl->words[0] = known ? known->object : NULL;
		return true;
	}
	ctl->command = n ? find_command(words[0], words[1]) : NULL;
	if (!ctl->command) {
		no_command(ctl, words, n);
		return false;
	}
	return take_words(ctl, words, n) && options_fit(ctl);
}

static int run(struct ctl *ctl, int argc, char **argv) {
	if (!parse(ctl, argc, argv)) {
		if (ctl->command) {
			fputs("usage:\n", ctl->err);
			print_command(ctl->err, ctl->command);
		}
		return CTL_USAGE;
	}
	if (!ctl->command) {
		if (ctl_flag(ctl, "version"))
			fputs("minutemailctl " CTL_VERSION "\n", ctl->out);
		else
			print_help(ctl->out, ctl->words[0]);
		return CTL_OK;
	}
	ctl->json = ctl_flag(ctl, "json");
	if (!load_settings(ctl) || !ctl_connect(ctl))
		return CTL_FAILED;
	return ctl->command->run(ctl);
}

int ctl_run(int argc, char **argv, FILE *out, FILE *err) {
	struct ctl ctl = {.out = out, .err = err};
	if (sodium_init() < 0)
		return CTL_FAILED;
	clock_update();
	ctl.now = clock_wall_us();
	ctl.options = xcalloc((size_t)argc + 1, sizeof(*ctl.options));
	int status = run(&ctl, argc, argv);
	if (ctl.db)
		PQfinish(ctl.db);
	free_settings(&ctl);
	free(ctl.options);
	if (fflush(out) != 0 && status == CTL_OK) {
		ctl_error(&ctl, "cannot write the answer: %s", strerror(errno));
		status = CTL_FAILED;
	}
	return status;
}
